"""Sensor encoders, their fusion (eq. 2, 4) and the audio encoder (eq. 21)."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from neon_sim.model.audio import AudioConfig, AudioEncoder
from neon_sim.model.encoders import EefEncoder, FeatureFusion, LidarEncoder, ProprioEncoder, VectorEncoder
from neon_sim.model.spectra import hz_to_mel, mel_edges, mel_filterbank, mel_to_hz

DIMS = {"vision": 3, "proprio": 2, "eef": 1}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _assert_gradients_everywhere(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def _gelu(x: float) -> float:
    return 0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0)))


def test_proprio_encoder_is_equation_2() -> None:
    encoder = ProprioEncoder(input_dim=1, output_dim=1)
    with torch.no_grad():
        for parameter, value in zip(encoder.parameters(), (2.0, 0.5, -1.5, 1.0), strict=True):
            parameter.fill_(value)  # W1, b1, W2, b2
    expected = _gelu(-1.5 * _gelu(2.0 * 0.25 + 0.5) + 1.0)
    assert encoder(torch.tensor([[0.25]])).item() == pytest.approx(expected, rel=1e-5)


def test_proprio_and_eef_shapes_and_sizes() -> None:
    proprio, eef = ProprioEncoder(125), EefEncoder()
    assert proprio(torch.zeros(3, 125)).shape == (3, 256) and eef(torch.zeros(3, 14)).shape == (3, 64)
    assert sum(p.numel() for p in proprio.parameters()) == 125 * 256 + 256 + 256 * 256 + 256
    for encoder, width in ((proprio, 125), (eef, 14)):
        encoder(torch.randn(32, width)).square().sum().backward()
        _assert_gradients_everywhere(encoder)


def test_statistics_standardise_the_input_and_travel_with_the_weights() -> None:
    encoder = VectorEncoder(2, 8)
    raw, standard = torch.tensor([[7.0, 3.0]]), torch.tensor([[1.0, -2.0]])
    before = encoder(standard)
    encoder.set_statistics(torch.tensor([5.0, 5.0]), torch.tensor([2.0, 1.0]))  # (7-5)/2, (3-5)/1
    torch.testing.assert_close(encoder(raw), before)
    other = VectorEncoder(2, 8)
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other(raw), encoder(raw))
    assert not any(name in ("mean", "std") for name, _ in encoder.named_parameters())


def test_a_channel_that_never_moved_is_only_centred() -> None:
    encoder = VectorEncoder(2, 4)
    encoder.set_statistics(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert encoder.std.tolist() == [1.0, 1.0]
    assert bool(encoder(torch.tensor([[1.0, 0.0]])).isfinite().all())


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [([0.0], [1.0], "shape"), ([0.0, math.nan], [1.0, 1.0], "finite"), ([0.0, 0.0], [1.0, -1.0], "0 or more")],
)
def test_statistics_are_checked(mean: list[float], std: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VectorEncoder(2, 4).set_statistics(torch.tensor(mean), torch.tensor(std))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 24), st.integers(0, 2**31 - 1))
def test_lidar_does_not_care_for_the_order_of_points_or_for_misses(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    encoder = LidarEncoder(output_dim=8, hidden_dim=8).eval()
    cloud = 5.0 * torch.randn(2, count, 3, generator=generator)
    code = encoder(cloud)
    shuffled = cloud[:, torch.randperm(count, generator=generator)]
    torch.testing.assert_close(encoder(shuffled), code)
    with_misses = torch.cat([torch.zeros(2, 7, 3), shuffled, torch.zeros(2, 3, 3)], dim=1)
    torch.testing.assert_close(encoder(with_misses), code)
    torch.testing.assert_close(encoder(cloud.flatten(1)), code)


def test_a_point_on_an_axis_is_not_a_miss() -> None:
    encoder = LidarEncoder(output_dim=8).eval()
    one = torch.tensor([[[2.0, 0.0, 0.0]]])
    assert not torch.allclose(encoder(one), encoder(torch.zeros(1, 1, 3)))


def test_a_cloud_without_a_hit_is_finite_forward_and_backward() -> None:
    encoder = LidarEncoder(output_dim=8)
    empty, full = torch.zeros(1, 5, 3), torch.randn(1, 5, 3)
    out = encoder(torch.cat([empty, full]))
    torch.testing.assert_close(out[:1], encoder.proj(torch.zeros(1, 128)))
    out.sum().backward()
    for parameter in encoder.parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all())


def test_lidar_gradients_reach_every_weight() -> None:
    encoder = LidarEncoder(output_dim=16)
    encoder(torch.randn(16, 64, 3)).square().sum().backward()
    _assert_gradients_everywhere(encoder)


@pytest.mark.parametrize("shape", [(2, 10), (2, 3, 4), (6,), (1, 2, 3, 3)])
def test_lidar_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="LidarEncoder wants"):
        LidarEncoder()(torch.zeros(shape))


def test_fusion_is_equation_4_in_the_order_of_dims() -> None:
    fusion = FeatureFusion(DIMS, 4).eval()
    parts = {name: torch.randn(2, width) for name, width in DIMS.items()}
    joined = torch.cat([parts["vision"], parts["proprio"], parts["eef"]], dim=-1)
    expected = F.gelu(joined @ fusion.proj.weight.T + fusion.proj.bias)
    torch.testing.assert_close(fusion(parts), expected)
    torch.testing.assert_close(fusion(dict(reversed(parts.items()))), expected)


def test_a_missing_modality_is_zeros() -> None:
    fusion = FeatureFusion(DIMS, 4).eval()
    vision = torch.randn(2, 3)
    zeros = {"vision": vision, "proprio": torch.zeros(2, 2), "eef": torch.zeros(2, 1)}
    assert torch.equal(fusion({"vision": vision}), fusion(zeros))


def test_modality_dropout_loses_whole_modalities_of_single_samples() -> None:
    fusion = FeatureFusion(DIMS, 6, dropout=0.0, modality_dropout={"proprio": 0.3})
    with torch.no_grad():
        fusion.proj.weight.copy_(torch.eye(6))
        fusion.proj.bias.zero_()
    parts = {name: torch.full((4000, width), 2.0) for name, width in DIMS.items()}
    out = fusion(parts)
    kept = out[:, 3:5] > 0
    assert torch.equal(kept[:, 0], kept[:, 1])  # both of its channels go together
    lost = 1.0 - kept[:, 0].float().mean().item()
    assert abs(lost - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 4000)
    torch.testing.assert_close(out[kept[:, 0], 3], F.gelu(torch.full((int(kept[:, 0].sum()),), 2.0)))  # not rescaled
    assert bool((out[:, :3] > 0).all()) and bool((out[:, 5:] > 0).all())  # the others are untouched
    fusion.eval()
    assert bool((fusion(parts) > 0).all())


def test_modality_dropout_of_one_is_the_missing_modality() -> None:
    fusion = FeatureFusion(DIMS, 4, dropout=0.0, modality_dropout={"eef": 1.0})
    parts = {name: torch.randn(3, width) for name, width in DIMS.items()}
    without = {name: value for name, value in parts.items() if name != "eef"}
    assert torch.equal(fusion(parts), fusion(without))


def test_fusion_gradients_reach_every_weight_and_input() -> None:
    fusion = FeatureFusion(DIMS, 4, dropout=0.0)
    parts = {name: torch.randn(8, width, requires_grad=True) for name, width in DIMS.items()}
    fusion(parts).square().sum().backward()
    _assert_gradients_everywhere(fusion)
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in parts.values())


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({}, "at least one of"),
        ({"propio": torch.zeros(1, 2)}, "Did you mean 'proprio'"),
        ({"proprio": torch.zeros(1, 3)}, r"proprio as \(B, 2\)"),
    ],
)
def test_fusion_names_what_it_cannot_use(features: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureFusion(DIMS, 4)(features)


@pytest.mark.parametrize(("given", "message"), [({"visoin": 0.1}, "Did you mean 'vision'"), (1.5, r"\[0, 1\]")])
def test_modality_dropout_is_checked(given: float | dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureFusion(DIMS, 4, modality_dropout=given)


def test_mel_scale_by_hand() -> None:
    hz = torch.tensor([0.0, 500.0, 1000.0, 6400.0], dtype=torch.float64)
    mel = torch.tensor([0.0, 7.5, 15.0, 42.0], dtype=torch.float64)  # 200/3 Hz a mel, then 27 mels per factor 6.4
    torch.testing.assert_close(hz_to_mel(hz), mel)
    torch.testing.assert_close(mel_to_hz(mel), hz)


def test_mel_bands_are_triangles_of_equal_area() -> None:
    bank = mel_filterbank(80, 4096, 16000).double()
    edges = mel_edges(80, 16000)
    assert bank.shape == (80, 2049) and bank.min() == 0.0
    assert edges[0] == 0.0 and edges[-1].item() == pytest.approx(8000.0)
    torch.testing.assert_close(bank.sum(dim=1) * 16000 / 4096, torch.ones(80, dtype=torch.float64), rtol=0.02, atol=0.0)
    bins = torch.arange(2049) * 16000 / 4096
    band = 40
    inside = bank[band] > 0
    assert bool((bins[inside] > edges[band]).all()) and bool((bins[inside] < edges[band + 2]).all())
    assert abs(bins[bank[band].argmax()].item() - edges[band + 1].item()) < 16000 / 4096


def test_too_many_bands_are_refused() -> None:
    with pytest.raises(ValueError, match="Take fewer bands"):
        mel_filterbank(200, 400, 16000)


@pytest.mark.parametrize("hz", [440.0, 1000.0, 3000.0])
def test_a_tone_peaks_in_its_band(hz: float) -> None:
    encoder = AudioEncoder()
    time_s = torch.arange(16000) / 16000
    mel = encoder.spectra.log_mel(0.5 * torch.sin(2 * math.pi * hz * time_s).unsqueeze(0))
    assert mel.shape == (1, 80, 101)
    peak = int(mel[0, :, 2:-2].mean(dim=1).argmax())
    edges = mel_edges(80, 16000)
    assert edges[peak] < hz < edges[peak + 2]


def test_twice_the_amplitude_is_four_times_the_power() -> None:
    encoder = AudioEncoder()
    wave = torch.randn(1, 5120) * 0.1
    gain = encoder.spectra.log_mel(2 * wave) - encoder.spectra.log_mel(wave)
    torch.testing.assert_close(gain, torch.full((1, 80, 33), math.log10(4.0)))


def test_silence_is_the_floor_and_encodes_finite() -> None:
    encoder = AudioEncoder()
    silence = torch.zeros(2, 5120)
    torch.testing.assert_close(encoder.spectra.log_mel(silence), torch.full((2, 80, 33), -10.0))
    assert bool(encoder(silence).isfinite().all())


def test_audio_encoder_hears_the_difference_and_takes_any_length() -> None:
    encoder = AudioEncoder(AudioConfig(output_dim=32)).eval()
    time_s = torch.arange(48000) / 16000
    low, high = (torch.sin(2 * math.pi * hz * time_s).unsqueeze(0) for hz in (300.0, 2000.0))
    assert encoder(low).shape == (1, 32) and encoder(low[:, :5120]).shape == (1, 32)
    apart = (encoder(low) - encoder(high)).norm()
    assert apart > 5 * (encoder(low) - encoder(low[:, :5120])).norm()


def test_audio_gradients_reach_every_weight_and_buffers_stay_out_of_checkpoints() -> None:
    encoder = AudioEncoder()
    encoder(torch.randn(4, 5120)).square().sum().backward()
    _assert_gradients_everywhere(encoder)
    assert {name.split(".")[0] for name in encoder.state_dict()} == {"conv", "proj"}


def test_audio_encoder_in_bfloat16() -> None:
    encoder = AudioEncoder().to(torch.bfloat16)
    out = encoder(torch.randn(1, 5120))
    assert out.dtype == torch.bfloat16 and bool(out.isfinite().all())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_type": "mel_spectogram"}, "Did you mean 'mel_spectrogram'"),
        ({"encoder_type": "whisper", "context_s": 31.0}, "context_s wants 0.1 to 30 s, got 31.0"),
        ({"encoder_type": "omni", "sample_rate": 48000}, "hears at 16000 Hz only, got 48000"),
    ],
)
def test_what_no_audio_encoder_can_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AudioConfig(**changes)


@pytest.mark.parametrize("shape", [(5120,), (1, 200)])
def test_audio_encoder_refuses_what_it_cannot_window(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="AudioEncoder wants"):
        AudioEncoder()(torch.zeros(shape))


def two_ears(late: int, gain: float) -> torch.Tensor:
    """One second of 500 Hz, (1, 2 * 16000): at the right ear `late` samples later and `gain` times as loud."""
    time_s = (torch.arange(16000 + 100) - 50) / 16000
    tone = 0.3 * torch.sin(2 * torch.pi * 500.0 * time_s)
    return torch.cat([tone[50:-50], gain * tone[50 - late : len(tone) - 50 - late]])[None]


def test_two_ears_hear_where_a_tone_comes_from_by_level_and_by_phase():
    encoder = AudioEncoder(AudioConfig(output_dim=32), microphones=2).eval()
    found = encoder.spectra.between_ears(two_ears(late=4, gain=0.5))
    loud, level, ahead = found[0, :, 20:80].unflatten(0, (3, 80)).mean(dim=-1)
    band = int(loud.argmax())
    # Half the amplitude is a quarter of the power; 4 samples of 16000 a second are an eighth of a period of 500 Hz.
    assert level[band].item() == pytest.approx(math.log10(4.0), abs=0.01)
    assert ahead[band].item() == pytest.approx(math.sin(math.pi / 4), abs=0.01)
    mirrored = encoder.spectra.between_ears(two_ears(late=-4, gain=2.0))[0, :, 20:80].unflatten(0, (3, 80)).mean(dim=-1)
    assert mirrored[1, band].item() == pytest.approx(-level[band].item(), abs=0.01)
    assert mirrored[2, band].item() == pytest.approx(-ahead[band].item(), abs=0.01)
    mono = AudioEncoder(AudioConfig(output_dim=32)).eval()
    power = 10.0 ** mono.spectra.log_mel(torch.cat(two_ears(0, 1.0).chunk(2, dim=1)))
    both = 0.5 * power.sum(0, keepdim=True)
    torch.testing.assert_close(encoder.spectra.between_ears(two_ears(0, 1.0))[:, :80], (both.log10() + 4.0) / 4.0)
    with torch.no_grad():
        left, right = encoder(two_ears(4, 0.5)), encoder(two_ears(-4, 2.0))
        assert left.shape == (1, 32) and not torch.allclose(left, right, atol=1e-3)
        word = torch.cat([two_ears(4, 0.5).view(2, -1)[:, :3200], torch.zeros(2, 12800)], dim=1)  # 0.2 s of a second
        said, nothing = encoder(word.reshape(1, -1)), encoder(torch.zeros(1, 2 * 16000))
        assert not torch.allclose(said, nothing, atol=1e-2)  # long ago, and still there
        silent = torch.zeros(1, 2 * 16000)
        assert bool(encoder(silent).isfinite().all()) and not encoder.spectra.between_ears(silent)[:, 80:].any()


def test_one_ear_has_the_weights_that_it_had_and_a_frozen_one_has_no_sides():
    shapes = {name: tuple(value.shape) for name, value in AudioEncoder().state_dict().items()}
    assert shapes["conv.0.weight"] == (128, 80, 3) and shapes["proj.weight"] == (256, 128)
    with pytest.raises(ValueError, match=r"give \(B, 2 \* samples\)"):
        AudioEncoder(microphones=2)(torch.zeros(1, 16001))
    for microphones, kind in ((3, "mel_spectrogram"), (2, "whisper")):
        with pytest.raises(ValueError, match="wants 1 microphone, or 2 for mel_spectrogram"):
            AudioEncoder(AudioConfig(kind), microphones=microphones)
