"""Where a thing is, read off patches: a bright square is found, what was fitted is kept, and a bundle may lack it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neon_sim.world_model.bundle import Bundle, load_bundle, save_bundle
from neon_sim.world_model.config import lewm_config
from neon_sim.world_model.dataset import Rollouts
from neon_sim.world_model.lewm import LeWM
from neon_sim.world_model.readout import Readout
from neon_sim.world_model.rollouts import RolloutShard, save_shard
from neon_sim.world_model.sight import fit_sight


def _episode(rng: np.random.Generator) -> dict[str, Any]:
    """Nine moments of a bright square somewhere, m; the last two are after a fall."""
    places = rng.integers(0, 25, (9, 2))
    frames = rng.integers(0, 30, (9, 32, 32, 3), dtype=np.uint8)
    for frame, (x, y) in zip(frames, places, strict=True):
        frame[x : x + 8, y : y + 8] = 255
    thing = np.concatenate([places / 24.0 + [0.4, -0.49], np.ones((9, 1))], axis=1).astype(np.float32)
    frames[7:], thing[7:] = 0, 0.0
    return {"frames": frames, "thing": thing, "length": 7}


@pytest.fixture(scope="module")
def model() -> LeWM:
    torch.manual_seed(0)
    return LeWM(lewm_config("tiny", action_dim=3)).eval()


def test_a_square_is_found_where_it_is_and_padding_teaches_nothing(model: LeWM, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    save_shard(RolloutShard(str(tmp_path), 0, 0, 60), [_episode(rng) for _ in range(60)])
    sight = fit_sight(model.encoder, Rollouts(tmp_path))
    other = _episode(np.random.default_rng(1))
    with torch.no_grad():
        read = sight(model.encoder, torch.from_numpy(other["frames"][:7])).numpy()
    front = other["thing"][:7, 1] < 0.45  # farther to the left it was never fitted
    off = np.abs(read - other["thing"][:7])[front]
    assert len(off) > 3 and off[:, :2].mean() < 0.08 and off[:, 2].max() < 1e-3  # of a spread of 0.29

    for name, half in (("whole", False), ("half", True)):
        save_bundle(Bundle("push_box", model, Readout.empty(32, "push_box"), sight=sight), tmp_path / name, half)
        kept = load_bundle(tmp_path / name).sight
        assert kept is not None
        with torch.no_grad():
            again = kept(model.encoder, torch.from_numpy(other["frames"][:7])).numpy()
        assert again == pytest.approx(read, abs=1e-2 if half else 0.0)


def test_what_is_never_in_front_cannot_be_learned(model: LeWM, tmp_path: Path) -> None:
    behind = _episode(np.random.default_rng(0))
    behind["thing"][:, 0] -= 2.0
    save_shard(RolloutShard(str(tmp_path), 0, 0, 1), [behind])
    with pytest.raises(ValueError, match="In 1 episodes the thing was never in front"):
        fit_sight(model.encoder, Rollouts(tmp_path))


def test_a_bundle_may_lack_it(model: LeWM, tmp_path: Path) -> None:
    save_bundle(Bundle("push_box", model, Readout.empty(32, "push_box")), tmp_path)
    assert load_bundle(tmp_path).sight is None
