"""The compact ear: what it reads of a sound, what it is taught on, and a policy that asks pictures for what is said."""

import dataclasses
import json
import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_neon import tiny_config, tiny_features, tiny_model, tiny_senses

from neon_sim.model.audio import AudioConfig
from neon_sim.model.compact import load_compact
from neon_sim.model.ear import SILENCE, CompactEar, EarConfig, SpokenWords, load_ear, save_ear
from neon_sim.model.neon_vla import NeonConfig
from neon_sim.model.spectra import Spectra
from neon_sim.model.video_backbone import BackboneConfig
from neon_sim.sensors.overheard import Bed, Voices
from neon_sim.sensors.sound_field import peak_amplitude
from neon_sim.sensors.utterances import Utterance, shipped_utterances
from neon_sim.tasks import follow_voice
from neon_sim.training.ear import EarTraining, judge_ear, masked, spectra_of, teach_ear
from neon_sim.training.wordings import Lesson, Phrase, Said, say_all, where_it_lies

SMALL = EarConfig(dim=40, channels=16, seconds=1.0)
ROOT = Path(__file__).parents[1]


def tone(hz: float, seconds: float = 0.4) -> Utterance:
    """Somebody who whistles."""
    time_s = np.arange(round(seconds * 16000)) / 16000
    return Utterance(f"{hz} Hz", "whistle", 150, 50, np.sin(2 * np.pi * hz * time_s).astype(np.float32))


def quiet_bed(seconds: float = 3.0, before: int = 5120) -> Bed:
    noise = 1e-4 * np.random.default_rng(0).normal(size=before + round(seconds * 16000))
    return Bed(noise.astype(np.float16), before)


SAID = [Said(Phrase("told", "{color}"), name, color) for name, color in (("red", 0), ("blue", 2))]


def whistles() -> Voices:
    """Red is a low whistle, blue a high one."""
    return Voices([[tone(400.0)], [tone(1500.0)]], [quiet_bed()], 1.0)


@torch.no_grad()
def test_it_hears_the_newest_seconds_and_takes_what_is_missing_for_silence() -> None:
    ear = CompactEar(SMALL).eval()
    assert SMALL.frames == 51 and EarConfig().frames == 151
    spectra = torch.randn(3, 80, 80)
    words = ear(spectra)
    assert words.shape == (3, 40)
    assert torch.equal(words, ear(spectra[..., -51:]))
    short = spectra[..., -20:]
    padded = torch.cat([torch.full((3, 80, 31), SILENCE), short], dim=-1)
    assert torch.equal(ear(short), ear(padded))
    torch.testing.assert_close(spectra_of(SMALL)(torch.zeros(1, 16000)), torch.full((1, 80, 51), SILENCE))
    torch.nn.init.constant_(ear.sure.bias, -50.0)  # who is sure that nothing was said says nothing
    assert float(ear(spectra).abs().max()) < 1e-12


def test_an_ear_comes_back_whole_and_half_a_one_is_refused(tmp_path: Path) -> None:
    ear = CompactEar(SMALL).eval()
    save_ear(ear, tmp_path / "ear")
    again = load_ear(str(tmp_path / "ear"))
    assert again.config == SMALL and not any(p.requires_grad for p in again.parameters()) and not again.training
    spectra = torch.randn(2, 80, 51)
    torch.testing.assert_close(again(spectra), ear(spectra), atol=5e-3, rtol=5e-3)  # 16-bit floats
    path = tmp_path / "ear" / "ear.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="does not hold a whole ear .*train_ear"):
        load_ear(str(tmp_path / "ear"))
    with pytest.raises(ValueError, match="does not hold a whole ear"):
        load_ear(str(tmp_path / "nowhere"))


def test_twice_as_many_spectra_of_two_microphones_say_the_same(tmp_path: Path) -> None:
    save_ear(CompactEar(SMALL).eval(), tmp_path)
    sound = 0.1 * torch.randn(2, 16000)
    told = []
    for hop, microphones in ((320, 1), (160, 1), (160, 2)):
        spectra = Spectra(16000, 80, 400, hop, microphones)
        both = sound if microphones == 1 else torch.cat([sound, sound], dim=1)
        told.append(SpokenWords(str(tmp_path), AudioConfig(hop=hop), 40)(spectra(both)))
    torch.testing.assert_close(told[1], told[0])
    torch.testing.assert_close(told[2], told[0])
    for wrong in (AudioConfig(hop=200), AudioConfig(n_mels=40), AudioConfig(sample_rate=8000)):
        with pytest.raises(ValueError, match=r"NeonConfig\.ear wants AudioConfig"):
            SpokenWords(str(tmp_path), wrong, 40)
    with pytest.raises(ValueError, match="speaks in 40 numbers, the backbone's words have 160"):
        SpokenWords(str(tmp_path), AudioConfig(), 160)


def test_a_sound_that_is_remembered_is_not_listened_to_again(tmp_path: Path) -> None:
    save_ear(CompactEar(SMALL).eval(), tmp_path)
    spoken, fresh = (SpokenWords(str(tmp_path), AudioConfig(hop=320), 40) for _ in range(2))
    listened: list[int] = []
    spoken.load(torch.device("cpu")).register_forward_hook(lambda ear, sounds, words: listened.append(len(sounds[0])))
    spoken.remember(3)
    spectra = torch.randn(4, 80, 51).half()
    first = spoken(spectra)
    torch.testing.assert_close(first, fresh(spectra))
    assert listened == [1, 1, 1, 1]  # one at a time: neighbours are none of their business
    assert torch.equal(spoken(spectra[[2, 0, 1, 1]]), first[[2, 0, 1, 1]]) and len(listened) == 4
    assert torch.equal(spoken(spectra[3:]), first[3:]) and len(listened) == 5  # more than three are not kept
    louder = spectra[:1].clone()
    louder[0, 40, 25] += 1.0
    assert not torch.equal(spoken(louder), first[:1])


def test_a_bed_of_frames_is_what_was_heard() -> None:
    sound = np.random.default_rng(0).normal(size=5120 + 3 * 320).astype(np.float16)
    frames = np.stack([sound[row * 320 : row * 320 + 5120] for row in range(4)]).astype(np.float32)
    bed = Bed.of_frames(frames, 50.0)
    assert bed.before == 5120
    np.testing.assert_array_equal(bed.sound, sound)
    np.testing.assert_array_equal(bed.until(640, 5120), frames[2])
    early = bed.until(0, 6000)
    assert not early[:880].any()
    np.testing.assert_array_equal(early[880:], frames[0])


def test_a_sentence_is_said_when_its_last_word_is_and_again_after_a_pause() -> None:
    voices = whistles()
    sound, whole = voices.draw(np.zeros(200, int), 0.0, np.random.default_rng(0))
    loud = np.abs(sound).max(axis=1) > 0.5 * peak_amplitude(57.0) / 2.5
    assert sound.shape == (200, 16000) and 0.3 < whole.mean() < 1.0
    assert loud[whole].mean() > 0.5 and not loud.all()  # the pause may fill what is heard
    nobody, none = voices.draw(np.zeros(50, int), 1.0, np.random.default_rng(0))
    assert not none.any() and np.abs(nobody).max() < 1e-3


def test_masks_hide_a_band_and_a_while_and_no_more() -> None:
    spectra = torch.randn(20, 80, 51)
    hidden = masked(spectra, 0.1, np.random.default_rng(0)) != spectra
    bands, times = hidden.all(dim=2).sum(1), hidden.all(dim=1).sum(1)
    assert int(bands.max()) <= 8 and int(times.max()) <= 5 and int(bands.max()) > 0 and int(times.max()) > 0
    assert int(hidden.sum(dim=(1, 2)).max()) <= 8 * 51 + 5 * 80


def test_who_is_taught_tells_two_sentences_apart_and_speech_from_none() -> None:
    voices = whistles()
    target = torch.zeros(2, 40)
    target[0, 0] = target[1, 1] = 1.0
    lesson = Lesson(SAID, target, 40)
    ear = teach_ear(lesson, SAID, voices, SMALL, EarTraining(steps=80, batch=32, learning_rate=3e-3), progress=False)
    judged = judge_ear(ear, lesson, SAID, voices, 128, seed=1)
    assert judged["color"] > 0.9 and judged["said"] > 0.85 and judged["meaning"] == 1.0
    chosen = np.repeat([0, 1], 40)
    sound, whole = voices.draw(chosen, 0.0, np.random.default_rng(2))
    with torch.no_grad():
        words, _ = ear.hear(spectra_of(SMALL)(torch.from_numpy(sound)))
    nearer_blue = ((words - target[0]).norm(dim=1) > (words - target[1]).norm(dim=1)).numpy()
    assert (nearer_blue == chosen)[whole].mean() > 0.8  # it lies where the lesson says


def test_a_policy_asks_its_picture_for_what_is_said(tmp_path: Path) -> None:
    save_ear(CompactEar(SMALL).eval(), tmp_path / "ear")
    changes = {"goal_hears": True, "ear": str(tmp_path / "ear"), "use_lidar": False, "sound_memory_s": 1.0}
    model = tiny_model(tmp_path / "eyes", audio=AudioConfig(output_dim=16, hop=320), **changes).eval()
    features, senses = tiny_features(2), {"audio": 0.1 * torch.randn(2, 16000), "proprio": tiny_senses(2)["proprio"]}
    heard = model.hear(features, senses)
    assert heard is not None and heard.shape == (2, 16 + 2 * 40) == (2, model.goal_reader.heard_size)
    words = heard[:, 16:56]
    torch.testing.assert_close(heard[:, 56:], model.backbone.find(features.tokens, words))
    listened = {**senses, "audio": model.audio_encoder.spectra(senses["audio"])}
    torch.testing.assert_close(model.hear(features, listened), heard)
    assert not any("spoken" in name or "ear." in name for name in model.state_dict())
    chunk, goal = model(features, senses)
    assert chunk.shape == (2, 16, 17)
    assert not torch.allclose(model(features, {**senses, "audio": senses["audio"].flip(0)})[1], goal, atol=1e-6)
    deaf = {"proprio": senses["proprio"]}
    assert model(features, deaf)[0].shape == chunk.shape
    model.save_pretrained(tmp_path / "saved")
    assert type(model).from_pretrained(tmp_path / "saved").config.ear == str(tmp_path / "ear")


def test_an_ear_without_use_is_refused(tmp_path: Path) -> None:
    plain = tiny_config(tmp_path)
    assert "ear=" not in repr(plain)
    with pytest.raises(ValueError, match=r"NeonConfig\.ear wants goal_hears=True"):
        dataclasses.replace(plain, ear="compact_ear")
    with pytest.raises(ValueError, match="does not hold a whole ear"):
        tiny_model(tmp_path, goal_hears=True, ear=str(tmp_path / "none"))
    assert isinstance(dataclasses.replace(plain, goal_hears=True, ear="compact_ear"), NeonConfig)
    assert math.isclose(SILENCE, (math.log10(1e-10) + 4.0) / 4.0)


@torch.no_grad()
def test_the_shipped_ear_tells_the_colours_in_takes_it_was_not_taught_on() -> None:
    ear, said = load_ear("compact_ear"), say_all([Phrase("told", text) for text in follow_voice.SPOKEN.train])
    library = shipped_utterances()
    takes = [[library.utterance(number) for number in library.takes(one.text)] for one in said]
    voices = Voices(takes, [quiet_bed(7.0)], ear.config.seconds)
    chosen = np.repeat(np.arange(len(said)), 4)
    sound, whole = voices.draw(chosen, 0.0, np.random.default_rng(0))
    words, sure = ear.hear(spectra_of(ear.config)(torch.from_numpy(sound)))
    text_side = load_compact(BackboneConfig(weights="compact_words"))
    there = where_it_lies(text_side, said)
    nearest_one = torch.cdist(words, there).argmin(1)
    colors = np.array([one.color for one in said])
    right = colors[nearest_one.numpy()] == colors[chosen]
    assert right[whole].mean() > 0.9 and ((sure[:, 0] > 0).numpy() == whole).mean() > 0.9
    assert float(ear(torch.full((1, 80, 151), SILENCE)).abs().max()) < 0.1 * float(there.abs().max())


def test_the_script_refuses_no_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["train_ear.py", "--steps", "0", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="--steps wants at least 1"):
        runpy.run_path(str(ROOT / "agents" / "train_ear.py"), run_name="__main__")


def test_the_script_writes_an_ear_and_says_what_it_hears(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("espeakng_loader", reason="the extra speech makes the voices")
    flags = ["--preset", "tiny", "--steps", "3", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["train_ear.py", *flags])
    runpy.run_path(str(ROOT / "agents" / "train_ear.py"), run_name="__main__")
    report = json.loads((tmp_path / "report.json").read_text())
    for split in ("seen", "held_out"):
        assert set(report[split]) == {"said", "color", "meaning"}
        assert all(0.0 <= share <= 1.0 for share in report[split].values())
    assert json.loads(capsys.readouterr().out)["seen"] == report["seen"]
    assert load_ear(str(tmp_path / "compact_ear")).config == EarConfig()
    monkeypatch.setattr(sys, "argv", ["train_ear.py", *flags[:2], "--steps", "4", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="steps"):  # another training's folder
        runpy.run_path(str(ROOT / "agents" / "train_ear.py"), run_name="__main__")
