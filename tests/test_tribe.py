"""The TRIBEv2-style backbone: the time line, the smoothing and the dropout by hand numbers, then the whole."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_backbones import HIDDEN, save_tribe_encoders, tiny_clips, tone

from neon_sim.model.backbones.tribe import TribeBackbone, load_tribe, save_tribe
from neon_sim.model.backbones.tribe_fusion import (
    TemporalSmoothing,
    TribeConfig,
    TribeFusion,
    drop_modalities,
    on_time_line,
    step_waves,
)
from neon_sim.model.video_backbone import BackboneConfig, VideoBackbone

WORDS = ["touch the red ball", "press"]
DIMS = {"video": 6, "audio": 5, "text": 7}
pytestmark = pytest.mark.filterwarnings("ignore:The cross-modal transformer of this TRIBEv2 is untrained")


def _config(folder: Path, **changes) -> BackboneConfig:
    options = {"max_frames": 4, "load_in_4bit": False, "dtype": "float32", "device": "cpu", **changes}
    return BackboneConfig("TRIBEv2", str(folder), **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_tribe_encoders(tmp_path_factory.mktemp("tribe"))


@pytest.fixture(scope="module")
def backbone(folder: Path) -> VideoBackbone:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return VideoBackbone.from_config(_config(folder)).load()


def test_smoothing_is_a_moving_average_over_nine_steps_whose_ends_repeat():
    smoothing = TemporalSmoothing(2)
    pulse = torch.zeros(1, 11, 2)
    pulse[0, 5, 0] = 9.0
    out = smoothing(pulse).detach()
    torch.testing.assert_close(out[0, :, 0], torch.tensor([0.0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]))
    assert float(out[..., 1].abs().max()) == 0.0  # depthwise: the other channel hears nothing
    torch.testing.assert_close(smoothing(torch.full((1, 3, 2), 4.0)).detach(), torch.full((1, 3, 2), 4.0))
    ramp = torch.arange(3.0).view(1, 3, 1).expand(-1, -1, 2)
    # Nine steps around the middle of 0 1 2: 0 0 0 0 1 2 2 2 2 = 9 / 9; around the first: 0 0 0 0 0 1 2 2 2 = 7 / 9.
    torch.testing.assert_close(smoothing(ramp).detach()[0, :, 0], torch.tensor([7.0, 9.0, 11.0]) / 9.0)


def test_one_sense_is_taken_from_three_samples_in_ten():
    generator = torch.Generator().manual_seed(0)
    present = torch.ones(20000, 3, dtype=torch.bool)
    kept = drop_modalities(present, 0.3, generator)
    lost = ~kept
    assert set(lost.sum(1).tolist()) == {0, 1}
    assert abs(float(lost.any(1).float().mean()) - 0.3) < 0.01
    torch.testing.assert_close(lost.float().mean(0), torch.full((3,), 0.1), rtol=0, atol=0.01)


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=20), st.integers(0, 1000))
def test_the_last_sense_is_never_taken_and_none_comes_back(rows, seed):
    present = torch.tensor(rows)
    kept = drop_modalities(present, 1.0, torch.Generator().manual_seed(seed))
    assert not bool((kept & ~present).any())
    expected = torch.where(present.sum(1) > 1, present.sum(1) - 1, present.sum(1))
    assert kept.sum(1).tolist() == expected.tolist()
    assert torch.equal(drop_modalities(present, 0.0, torch.Generator().manual_seed(seed)), present)


def test_sound_ends_with_the_clip():
    states = torch.arange(1.0, 7.0).view(1, 6, 1)
    assert on_time_line(states, 2.0, 3).flatten().tolist() == [1.5, 3.5, 5.5]
    assert on_time_line(states, 2.0, 5).flatten().tolist() == [0.0, 0.0, 1.5, 3.5, 5.5]  # began after the clip
    assert on_time_line(states, 2.0, 2).flatten().tolist() == [3.5, 5.5]  # began before the clip
    assert on_time_line(states[:, :1], 2.0, 3).flatten().tolist() == [0.0, 0.0, 1.0]


def test_steps_are_numbered_by_waves():
    waves = step_waves(3, 4)
    assert waves.shape == (3, 4)
    torch.testing.assert_close(waves[0], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    # Steps of 1 and of 1 / sqrt(10000) = 0.01 radians.
    torch.testing.assert_close(waves[2], torch.tensor([0.909297, -0.416147, 0.019999, 0.999800]), rtol=0, atol=1e-5)


def test_an_untrained_fusion_is_the_mean_of_the_senses():
    fusion = TribeFusion(TribeConfig(dim=8, heads=2, layers=1, kernel=1), DIMS).eval()
    torch.nn.init.zeros_(fusion.marks)
    video, audio, text = torch.randn(2, 3, 8), torch.randn(2, 3, 8), torch.randn(2, 8)
    out = fusion(video, audio, text, torch.ones(2, 3, dtype=torch.bool))
    torch.testing.assert_close(out, (video + audio + text[:, None]) / 3 + step_waves(3, 8))
    deaf = fusion(video, audio, text, torch.tensor([[True, False, True]]).repeat(2, 1))
    torch.testing.assert_close(deaf, (video + text[:, None]) / 3 + step_waves(3, 8))


def test_a_lost_sense_says_nothing_but_that_it_is_lost():
    fusion = TribeFusion(TribeConfig(dim=8, heads=2, layers=1), DIMS).eval()
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # trained weights, so to speak
    keep = torch.tensor([[True, False, True]])
    video, text = torch.randn(1, 3, 8), torch.randn(1, 8)
    one, other = (fusion(video, torch.randn(1, 3, 8), text, keep) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.allclose(one, fusion(video, torch.randn(1, 3, 8), text, keep | True))


@pytest.mark.parametrize("wrong", [{"dim": 10, "heads": 4}, {"kernel": 8}])
def test_sizes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match="TribeConfig wants an even dim that the heads divide and an odd kernel"):
        TribeConfig(**wrong)


def test_the_whole_gives_features_of_the_fusions_width(backbone):
    assert backbone.hidden_size == HIDDEN and backbone.hears
    assert backbone.num_tokens == 4  # crop 32, patch 16, newest slice
    features = backbone(tiny_clips(), WORDS)
    assert features.tokens.shape == (2, 4, HIDDEN) and features.pooled.shape == features.text.shape == (2, HIDDEN)
    assert all(bool(value.isfinite().all()) for value in vars(features).values())


def test_every_sense_counts(backbone):
    clips, sound = tiny_clips(), tone()
    base = backbone(clips, WORDS, sound)
    for changed in (
        backbone(tiny_clips(seed=1), WORDS, sound),
        backbone(clips, WORDS, tone(hz=2000.0)),
        backbone(clips, WORDS, None),
        backbone(clips, ["blue", "green"], sound),
    ):
        assert float((changed.pooled - base.pooled).abs().max()) > 1e-3
    assert torch.equal(backbone(clips, WORDS, sound).pooled, base.pooled)


def test_samples_do_not_touch_each_other(backbone):
    clips, sound = tiny_clips(), tone()
    together = backbone(clips, WORDS, sound)
    for i in range(2):
        alone = backbone(clips[i : i + 1], WORDS[i : i + 1], sound[i : i + 1])
        for name in ("tokens", "pooled", "text"):
            torch.testing.assert_close(getattr(alone, name)[0], getattr(together, name)[i], rtol=1e-4, atol=1e-4)


def test_an_empty_instruction_and_a_short_clip_are_legal(backbone):
    features = backbone(tiny_clips(1, 1), [""])
    still = backbone(tiny_clips(1, 1).expand(-1, 4, -1, -1, -1), [""])
    assert bool(features.text.isfinite().all())
    torch.testing.assert_close(features.tokens, still.tokens)


def test_frozen_means_no_gradient_and_no_dropout(backbone):
    backbone.train()
    assert not any(part.training for part in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    features = backbone(tiny_clips(), WORDS, tone())
    assert not any(value.requires_grad for value in vars(features).values())
    assert torch.equal(features.pooled, backbone(tiny_clips(), WORDS, tone()).pooled)


def test_only_the_fusion_learns_when_it_may(folder):
    free = VideoBackbone.from_config(_config(folder, freeze_backbone=False)).load().train()
    assert free.fusion.training and not any(part.training for part in free.encoders.modules())
    assert not any(parameter.requires_grad for parameter in free.encoders.parameters())
    features = free(tiny_clips(), WORDS, tone())
    (features.tokens.sum() + features.pooled.square().sum() + features.text.sum()).backward()
    untouched = [name for name, parameter in free.fusion.named_parameters() if parameter.grad is None]
    assert untouched == []


def test_only_the_language_model_is_quantised(folder):
    from bitsandbytes.nn import Linear4bit

    small = VideoBackbone.from_config(_config(folder, load_in_4bit=True, dtype="bfloat16")).load()
    kinds = {
        name: any(isinstance(part, Linear4bit) for part in encoder.modules())
        for name, encoder in small.encoders.items()
    }
    assert kinds == {"video": False, "audio": False, "text": True}
    assert bool(small(tiny_clips(), WORDS, tone()).pooled.isfinite().all())


def test_what_is_saved_comes_back_and_may_be_moved(folder, tmp_path):
    home, away = tmp_path / "home", tmp_path / "away"
    shutil.copytree(folder, home)
    trained = load_tribe(_config(home, freeze_backbone=False))
    for parameter in trained.fusion.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_tribe(trained, home)
    shutil.move(home, away)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is untrained any more
        again = VideoBackbone.from_config(_config(away))
    assert isinstance(again, TribeBackbone)
    for name, value in trained.fusion.state_dict().items():
        assert torch.equal(again.fusion.state_dict()[name], value), name
    assert bool(again(tiny_clips(), WORDS).pooled.isfinite().all())


def test_an_untrained_fusion_says_so_and_is_the_same_everywhere(folder):
    torch.manual_seed(123)
    with pytest.warns(UserWarning, match="untrained"):
        one = VideoBackbone.from_config(_config(folder))
    before = torch.rand(1)
    with pytest.warns(UserWarning, match="untrained"):
        other = VideoBackbone.from_config(_config(folder))
    torch.manual_seed(123)
    assert torch.equal(before, torch.rand(1))  # the caller's random numbers are not touched
    assert one.fingerprint() == other.fingerprint()
    with torch.no_grad():
        other.fusion.marks.add_(1.0)
    assert one.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("damage", ["{", "[1]", json.dumps({"model_type": "neon_tribe", "colour": 1})])
def test_a_damaged_config_is_refused(folder, tmp_path, damage):
    (tmp_path / "config.json").write_text(damage)
    with pytest.raises(ValueError, match="does not hold a whole backbone"):
        VideoBackbone.from_config(_config(tmp_path))


def test_damaged_fusion_weights_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "fusion.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="does not hold a whole backbone"):
        VideoBackbone.from_config(_config(tmp_path / "copy"))


def test_an_adapter_is_refused(folder):
    with pytest.raises(ValueError, match="no LoRA adapter"):
        VideoBackbone.from_config(_config(folder, adapter="somewhere"))


def test_a_revision_of_three_repositories_is_refused(folder):
    with pytest.raises(ValueError, match="three repositories: revision 'abc' can be of one only"):
        VideoBackbone.from_config(_config(folder, revision="abc"))
