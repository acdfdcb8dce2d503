"""Utterances: the codec's error, what is shipped, who says what, and eSpeak NG for the rest."""

import hashlib
import json
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.env import NeonG1Env
from neon_sim.sensors import speech_codec
from neon_sim.sensors.utterances import (
    SPEAKERS,
    Utterance,
    UtteranceLibrary,
    draw_voice,
    plain,
    shipped_utterances,
    synthesize,
    utter,
)
from neon_sim.sensors.voice import Spoken
from neon_sim.shipped import asset_path
from neon_sim.tasks import (
    TASKS,
    follow_voice,
    lift_box,
    look_at,
    navigate,
    press,
    push_box,
    reach,
    stand,
    track,
    walk,
    wave,
)
from neon_sim.tasks.arms import HANDS
from neon_sim.tasks.objects import COLORS
from neon_sim.tasks.speaking import spoken_words
from neon_sim.tasks.wording import SPLITS

UNHEARD = "sing a song of sixpence"


@given(count=st.integers(400, 2000), seed=st.integers(0, 100))
def test_what_is_decoded_is_what_was_encoded_and_zeros(count: int, seed: int) -> None:
    samples = np.random.default_rng(seed).uniform(-0.1, 0.1, count)
    frames = speech_codec.encode(samples)
    assert frames.dtype == np.int8 and frames.shape == (-(-count // 320) + 1, 320)
    decoded = speech_codec.decode(frames)
    assert decoded.dtype == np.float32 and len(decoded) == (len(frames) - 1) * 320
    assert np.sqrt(np.mean((decoded[:count] - samples) ** 2)) < 0.02  # speech fares better: it is not flat


def test_a_tone_survives_the_codec() -> None:
    tone = 0.5 * np.sin(2.0 * np.pi * 440.0 * np.arange(16000) / 16000)
    error = speech_codec.decode(speech_codec.encode(tone))[:16000] - tone
    assert 10.0 * np.log10(np.mean(tone**2) / np.mean(error**2)) > 25.0  # dB


def test_some_hundred_utterances_are_shipped_in_less_than_5_mb() -> None:
    library = shipped_utterances()
    assert len(library) >= 300
    assert sum(path.stat().st_size for path in asset_path("speech").iterdir()) < 5e6
    lengths = []
    for number in range(len(library)):
        each = library.utterance(number)
        assert 0.9 < np.abs(each.samples).max() <= 1.0 and 0.02 < each.rms < 0.5
        assert each.voice.partition("+")[2] in SPEAKERS and 30 <= each.pitch <= 70
        lengths.append(len(each.samples) / 16000)
    assert min(lengths) > 0.1 and max(lengths) < 6.0  # s; "and" is short


def test_what_the_tasks_say_is_there_in_both_splits_by_several_voices() -> None:
    library = shipped_utterances()
    spoken = look_at.SPOKEN.train + look_at.SPOKEN.test
    spoken += tuple(t.format(color=c) for t in follow_voice.SPOKEN.train + follow_voice.SPOKEN.test for c in COLORS)
    for text in spoken:
        takes = library.takes(text)
        assert len(takes) >= 4 and len({library.utterance(n).voice for n in takes}) >= 2, text
    for template in reach.WORDING.train + reach.WORDING.test:
        for color in COLORS:
            assert library.takes(template.format(color=color, hand="left")), template


def drawn(task: str, split: str, seed: int) -> Spoken | None:
    """What is said in an episode of a task that is instructed by voice."""
    env = NeonG1Env(task=task, task_options={"wording": split}, sensors=("proprio",), physics_dt=0.005)
    _, info = env.reset(seed=seed)
    spoken = spoken_words(env.task, info["instruction"], "speech")
    env.close()
    return spoken


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("task", TASKS)
def test_whatever_a_task_says_is_said_without_espeak(task: str, split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)  # Python's own way to say that it cannot be imported
    spoken = drawn(task, split, 0)
    assert spoken is not None
    heard = [utter(spoken.text, np.random.default_rng(1)) for _ in range(2)]
    assert heard[0].text and len(heard[0].samples) > 4000
    np.testing.assert_array_equal(heard[0].samples, heard[1].samples)


def test_every_template_is_shipped_with_every_word_in_it() -> None:
    library = shipped_utterances()
    wordings = [stand.WORDING, walk.STILL, navigate.WORDING, lift_box.WORDING, track.WORDING, press.WORDING]
    wordings += [press.EITHER_HAND, reach.WORDING, *(gesture.wording for gesture in wave.GESTURES.values())]
    templates = [(t, c) for wording in wordings for t in wording.train + wording.test for c in COLORS]
    templates += [(t, c) for t in push_box.WORDING.train + push_box.WORDING.test for c in push_box.ZONES]
    texts = {template.format(color=color, hand=hand) for template, color in templates for hand in HANDS}
    assert len(texts) > 300 and [text for text in texts if not library.takes(text)] == []


def test_every_way_to_say_a_velocity_is_put_together_from_phrases_of_one_speaker() -> None:
    library, rng, config = shipped_utterances(), np.random.default_rng(0), walk.WalkConfig()
    said = {walk.describe(walk.sample_velocity(config, rng), rng, split) for split in SPLITS for _ in range(2000)}
    missing = [text for text in said if not library.takes(text) and len(library.put_together(text)) < 2]
    assert len(said) > 1000 and missing == []
    numbers = library.put_together("Walk forward at 0.3 m/s, and also turn left slowly.")[0]
    pieces = [library.utterance(number) for number in numbers]
    assert [each.text for each in pieces] == ["walk forward", "at 0.3 m/s", "and also", "turn left", "slowly"]
    assert len({(each.voice, each.words_per_minute, each.pitch) for each in pieces}) == 1
    whole = library.joined("x", numbers)
    assert len(whole.samples) == sum(len(each.samples) for each in pieces) + 4 * 960  # 60 ms between two
    np.testing.assert_array_equal(whole.samples[-len(pieces[-1].samples) :], pieces[-1].samples)
    assert library.put_together("walk forward to the moon") == () == library.takes("walk forward")


def test_a_text_is_found_whatever_its_capitals_and_full_stop() -> None:
    assert plain("  Touch the  RED ball. ") == "touch the red ball"
    library = shipped_utterances()
    assert library.takes("Touch the RED ball!") == library.takes("touch the red ball") != ()
    assert library.takes(UNHEARD) == ()


def test_the_same_rng_gives_the_same_voice_and_others_come_up() -> None:
    said = [utter("red", np.random.default_rng(seed)) for seed in (1, 1, *range(2, 12))]
    np.testing.assert_array_equal(said[0].samples, said[1].samples)
    assert len({each.voice for each in said}) > 1 and {each.text for each in said} == {"red"}
    with pytest.raises(ValueError, match="read-only"):
        said[0].samples[0] = 1.0


def test_no_words_no_voice() -> None:
    with pytest.raises(ValueError, match="needs words to say, got ' .'"):
        utter(" .", np.random.default_rng(0))


def test_without_espeak_an_unheard_text_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match=r"'sing a song of sixpence'.*neon-sim\[speech\].*instruct=\"text\""):
        utter(UNHEARD, np.random.default_rng(0))
    assert utter("touch the red ball", np.random.default_rng(0)).samples.any()


def test_draws_stay_in_their_ranges() -> None:
    drawn = [draw_voice(np.random.default_rng(seed)) for seed in range(200)]
    assert len({voice for voice, _, _ in drawn}) > 30
    assert {min(p for _, p, _ in drawn) >= 130, max(p for _, p, _ in drawn) <= 190} == {True}
    assert {min(p for _, _, p in drawn) >= 30, max(p for _, _, p in drawn) <= 70} == {True}


# With eSpeak NG


def pitch_hz(utterance: Utterance) -> float:
    """Where the autocorrelation of the loud frames of 64 ms peaks between 60 and 400 Hz, their median."""
    frames = utterance.samples[: len(utterance.samples) // 1024 * 1024].reshape(-1, 1024)
    frames = frames[np.square(frames).mean(axis=1) > 0.01]
    likeness = np.fft.irfft(np.abs(np.fft.rfft(frames, 2048)) ** 2)[:, 40:266]
    return float(np.median(16000.0 / (40 + likeness.argmax(axis=1))))


def test_espeak_says_the_rest_faster_and_higher_as_asked() -> None:
    pytest.importorskip("espeakng_loader", reason="pip install 'neon-sim[speech]'")
    slow, fast = (synthesize(UNHEARD, "en-us", pace, 50) for pace in (130, 190))
    assert 1.2 < len(slow.samples) / len(fast.samples) < 1.7
    low, high = (synthesize(UNHEARD, "en-us", 150, pitch) for pitch in (20, 80))
    assert pitch_hz(high) > 1.2 * pitch_hz(low)  # 136 and 88 Hz
    said = utter(UNHEARD, np.random.default_rng(0))
    assert said.samples.dtype == np.float32 and np.abs(said.samples).max() == 1.0 and len(said.samples) > 8000
    with pytest.raises(ValueError, match="pitch goes from 0 to 100"):
        synthesize(UNHEARD, "en-us", 150, 101)


def test_espeak_says_one_text_to_the_bit_whatever_it_said_before() -> None:
    pytest.importorskip("espeakng_loader", reason="pip install 'neon-sim[speech]'")
    first = synthesize(UNHEARD, "en-us+f3", 150, 50).samples
    synthesize("something else", "en+m4", 180, 30)
    np.testing.assert_array_equal(synthesize(UNHEARD, "en-us+f3", 150, 50).samples, first)
    code = (
        "import hashlib; from neon_sim.sensors.utterances import synthesize; "
        f"print(hashlib.sha256(synthesize({UNHEARD!r}, 'en-us+f3', 150, 50).samples).hexdigest())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert elsewhere.stdout.strip() == hashlib.sha256(first).hexdigest()


def test_what_is_shipped_is_what_espeak_says_now() -> None:
    pytest.importorskip("espeakng_loader", reason="pip install 'neon-sim[speech]'")
    made_with = json.loads((asset_path("speech") / "manifest.json").read_text())["espeakng_loader"]
    if version("espeakng-loader") != made_with:
        pytest.skip(f"the shipped sound was made with espeakng-loader {made_with}")
    library = shipped_utterances()
    for number in (0, len(library) // 2, len(library) - 1):
        each = library.utterance(number)
        again = synthesize(each.text, each.voice, each.words_per_minute, each.pitch).samples
        np.testing.assert_array_equal(speech_codec.decode(speech_codec.encode(again)), each.samples)


def test_a_library_without_its_files_is_refused(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="manifest.json"):
        UtteranceLibrary(tmp_path)
