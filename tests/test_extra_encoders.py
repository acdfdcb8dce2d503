"""Encoders of senses that a robot may lack: shapes, scale, classes, and how they join a NeonVLA."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from tiny_neon import tiny_features, tiny_model, tiny_senses

from neon_sim.model.extra_encoders import EXTRA_ENCODERS, DepthEncoder, SegmentationEncoder, build_extra_encoder
from neon_sim.model.neon_vla import NeonConfig, NeonVLA

SIZES = {"imu": 6, "force": 24, "tactile": 10, "gps": 3, "depth": 255, "segmentation": 5, "state": 64}


def reading(name: str, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(name))
    if name in ("depth", "segmentation"):
        return torch.randint(0, SIZES[name], (batch, 40, 48), generator=generator)
    return torch.randn(batch, SIZES[name], generator=generator)


@pytest.mark.parametrize("name", EXTRA_ENCODERS)
def test_every_encoder_gives_a_vector_and_all_of_it_learns(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_extra_encoder(name, SIZES[name])
    found = encoder(reading(name))
    assert found.shape == (2, encoder.output_dim) and bool(found.isfinite().all())
    found.square().sum().backward()
    for parameter in encoder.parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0.0
    assert not torch.equal(found[0], found[1])


def test_depth_is_read_in_units_of_its_range() -> None:
    torch.manual_seed(0)
    fine, coarse = DepthEncoder(levels=1000), DepthEncoder(levels=10)
    coarse.load_state_dict(fine.state_dict())
    picture = torch.rand(1, 32, 32)
    torch.testing.assert_close(fine(1000.0 * picture), coarse(10.0 * picture))
    with pytest.raises(ValueError, match=r"wants \(B, H, W\) or \(B, H, W, 1\), got \(1, 32, 32, 3\)"):
        fine(picture.unsqueeze(-1).expand(-1, -1, -1, 3))


def test_a_class_that_is_none_is_refused() -> None:
    encoder = SegmentationEncoder(3)
    encoder(torch.full((1, 16, 16), 2))
    for wrong in (3, -1):
        with pytest.raises(ValueError, match="knows classes 0 to 2, got"):
            encoder(torch.full((1, 16, 16), wrong))


def test_names_and_sizes_that_are_none() -> None:
    with pytest.raises(ValueError, match="Unknown extra sense 'tactil'. Did you mean 'tactile'"):
        build_extra_encoder("tactil", 3)
    with pytest.raises(ValueError, match="size of at least 1 for 'imu', got 0"):
        build_extra_encoder("imu", 0)


@torch.no_grad()
def test_extra_senses_reach_the_heads_may_be_missing_and_travel_with_the_checkpoint(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "backbone", extra_senses=SIZES)
    features, plain = tiny_features(2), tiny_senses(2)
    without = model.fuse(features.pooled, plain)
    for name in SIZES:
        assert not torch.allclose(model.fuse(features.pooled, {**plain, name: reading(name)}), without)
    assert set(model.senses) == {"proprio", "eef", "lidar", "audio", *SIZES}
    model.save_pretrained(tmp_path / "policy")
    again = NeonVLA.from_pretrained(tmp_path / "policy")
    assert again.config == model.config and NeonConfig.from_dict(asdict(model.config)) == model.config
    everything = {**plain, **{name: reading(name) for name in SIZES}}
    assert torch.equal(again(features, everything)[0], model(features, everything)[0])


def test_a_model_without_them_leaves_them_out(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    assert model.senses == ("proprio", "eef", "lidar", "audio")
    features, plain = tiny_features(2), tiny_senses(2)
    torch.testing.assert_close(
        model.fuse(features.pooled, {**plain, "imu": reading("imu")}), model.fuse(features.pooled, plain)
    )
    with pytest.raises(ValueError, match="Did you mean 'imu'"):
        model.fuse(features.pooled, {"imuu": reading("imu")})


def test_the_envs_one_channel_pictures_are_taken_as_they_are():
    generator = torch.Generator().manual_seed(0)
    depth = torch.randint(0, 256, (2, 32, 32), generator=generator)
    encoder = DepthEncoder().eval()
    assert torch.equal(encoder(depth), encoder(depth[..., None]))
    classes = torch.randint(0, 5, (2, 32, 32), generator=generator)
    segmentation = SegmentationEncoder(5).eval()
    assert torch.equal(segmentation(classes), segmentation(classes[..., None]))
    with pytest.raises(ValueError, match="DepthEncoder wants"):
        encoder(depth[..., None].expand(-1, -1, -1, 3))


def test_cells_of_the_palms_are_one_row_to_the_encoder():
    encoder = build_extra_encoder("tactile", 32).eval()
    cells = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(encoder(cells), encoder(cells.reshape(3, 32)))
