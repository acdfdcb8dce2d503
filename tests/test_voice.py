"""A voice in the room: how loud, from where, how often; instructions as text, as speech, and as both."""

import math
import pickle
from typing import Any

import numpy as np
import pytest

from neon_sim.env import NeonG1Env, decode_instruction
from neon_sim.sensors.audio import AudioConfig, Microphone
from neon_sim.sensors.utterances import utter
from neon_sim.sensors.voice import VOICE, Spoken, VoiceConfig, give_voice
from neon_sim.sim.model import build_model, build_spec

NOISELESS = AudioConfig(self_noise_db=None, ambient_db=None, motors=None, impacts=None)
AT_ORIGIN = (np.array([0.0, 0.0, 0.79]), np.array([1.0, 0.0, 0.0, 0.0]))


def make(**options: Any) -> NeonG1Env:
    return NeonG1Env(**{"sensors": ("audio",), "physics_dt": 0.005, "audio": NOISELESS, **options})


def voices(env: NeonG1Env) -> list[Any]:
    return [source for source in env.robot.sensor("audio").sources if source.name == VOICE]


@pytest.fixture(scope="module")
def microphone() -> Microphone:
    return AudioConfig().build(build_model(build_spec()))


def test_a_voice_of_60_db_has_the_rms_of_60_db_at_1_m(microphone: Microphone) -> None:
    config = VoiceConfig(level_db=(60.0, 60.0), start_s=(0.25, 0.25), pause_s=0.5)
    give_voice(microphone, Spoken("touch the red ball", (1.0, 0.0, 1.5)), AT_ORIGIN, config, np.random.default_rng(3))
    (source,) = microphone.sources
    said = utter("touch the red ball", np.random.default_rng(3))
    np.testing.assert_array_equal(source.waveform[: len(said.samples)], said.samples)
    assert len(source.waveform) - len(said.samples) == 8000 and not source.waveform[len(said.samples) :].any()
    # 60 dB are 34 dB below full scale: a peak of 0.02 for a sine, an rms of 0.0141.
    assert source.level * said.rms == pytest.approx(0.0141, rel=1e-3)
    assert source.loop and source.start_s == 0.25 and source.position == (1.0, 0.0, 1.5)


def test_who_has_no_place_stands_in_front_of_the_robot(microphone: Microphone) -> None:
    facing_left = (np.array([1.0, 2.0, 0.79]), np.array([math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)]))
    for seed in range(40):
        give_voice(microphone, Spoken("red"), facing_left, VoiceConfig(), np.random.default_rng(seed))
        x, y, z = np.array(microphone.sources[0].position) - (1.0, 2.0, 0.0)
        assert 1.0 <= math.hypot(x, y) <= 2.5 and 1.4 <= z <= 1.7
        assert abs(math.atan2(y, x) - math.pi / 2) <= 1.0


def test_silence_takes_the_voice_away_and_only_the_voice(microphone: Microphone) -> None:
    give_voice(microphone, Spoken("red"), AT_ORIGIN, VoiceConfig(), np.random.default_rng(0))
    for _ in range(2):
        give_voice(microphone, None, AT_ORIGIN, VoiceConfig(), np.random.default_rng(0))
        assert microphone.sources == ()


def test_bad_settings_are_refused(microphone: Microphone) -> None:
    with pytest.raises(ValueError, match=r"distance is \(lowest, highest\) from 0.5 to 1000, got \(2.0, 1.0\)"):
        VoiceConfig(distance=(2.0, 1.0))
    with pytest.raises(ValueError, match=r"distance is \(lowest, highest\) from 0.5"):
        VoiceConfig(distance=(0.1, 1.0))
    slow = AudioConfig(sample_rate_hz=8000).build(build_model(build_spec()))
    with pytest.raises(ValueError, match="Voices are at 16000 Hz, the microphone at 8000"):
        give_voice(slow, Spoken("red"), AT_ORIGIN, VoiceConfig(), np.random.default_rng(0))


# Instructions


def test_text_alone_is_silent_and_speech_alone_has_no_bytes() -> None:
    heard = {}
    for instruct in ("text", "speech", "both"):
        env = make(instruct=instruct)
        obs, info = env.reset(seed=4)
        loudest = 0.0
        for _ in range(60):
            obs, *_, info = env.step(np.zeros(17))
            loudest = max(loudest, float(np.abs(obs["audio"]).max()))
        heard[instruct] = (decode_instruction(obs["instruction"]), info["instruction"], loudest)
    text, words, silence = heard["text"]
    assert text == words and "ball" in words and silence == 0.0
    assert heard["speech"][:2] == ("", words) and heard["speech"][2] > 0.01
    assert heard["both"] == (words, words, heard["speech"][2])


def test_given_words_are_the_ones_spoken_and_an_empty_one_is_not() -> None:
    env = make(instruct="speech")
    env.reset(seed=0, options={"instruction": "look at me"})
    assert len(voices(env)) == 1
    said = [utter("look at me", np.random.default_rng(seed)).samples for seed in range(40)]
    waveform = voices(env)[0].waveform
    assert any(np.array_equal(waveform[: len(samples)], samples) for samples in said)
    env.reset(seed=0, options={"instruction": ""})
    assert voices(env) == []


def test_speech_leaves_the_scene_of_a_seed_as_it_is() -> None:
    truths = [make(instruct=instruct).reset(seed=7)[1]["privileged"] for instruct in ("text", "both")]
    np.testing.assert_array_equal(truths[0]["target_pos_b"], truths[1]["target_pos_b"])


def test_speech_without_ears_and_unknown_ways_are_refused() -> None:
    with pytest.raises(ValueError, match="instruct='speech' wants \"audio\" among the sensors"):
        make(instruct="speech", sensors=("proprio",))
    with pytest.raises(ValueError, match="Unknown way to instruct 'speach'. Did you mean 'speech'"):
        make(instruct="speach")


def test_a_saved_episode_goes_on_to_the_bit_with_its_voice() -> None:
    env = make(instruct="both", audio=AudioConfig(microphones=2))
    env.reset(seed=2)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (40, 17))
    for action in actions[:20]:
        env.step(action)
    saved = pickle.loads(pickle.dumps(env.get_state()))
    first = [env.step(action)[0]["audio"] for action in actions[20:]]
    other = make(instruct="both", audio=AudioConfig(microphones=2))
    for each in (env, other):
        each.set_state(saved)
        again = [each.step(action)[0]["audio"] for action in actions[20:]]
        np.testing.assert_array_equal(np.stack(again), np.stack(first))
