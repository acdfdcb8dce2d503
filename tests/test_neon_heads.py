"""NeonVLA with every kind of head: shapes, losses, draws that repeat, checkpoints, and the policy around it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_neon import noise_frames, tiny_features, tiny_model, tiny_senses

from neon_sim.g1 import joints
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.model.neon_vla import NeonVLA

SMALL = {"dit_hidden": 24, "dit_layers": 1, "dit_heads": 2}
KINDS: dict[str, dict[str, Any]] = {
    "chunking": {},
    "held": {"head": {"use_action_chunking": False}},
    "flow": {"head": {"head_type": "flow"}},
    "flow, attending": {"head": {"head_type": "flow"}, "cross_attention": True},
    "dit": {"head": {"head_type": "dit", **SMALL}},
    "ensemble": {"head": {"head_type": "ensemble", **SMALL}, "cross_attention": True},
    "state relative": {"head": {"state_relative": True}},
    "state relative flow": {"head": {"head_type": "flow", "state_relative": True}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backbone")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_acts_learns_and_comes_back_from_its_checkpoint(folder: Path, tmp_path: Path, kind: str) -> None:
    model = tiny_model(folder, **KINDS[kind])
    features, senses = tiny_features(3), tiny_senses(3)
    with torch.no_grad():
        chunk, goal = model(features, senses, generator=seeded())
        again, _ = model(features, senses, generator=seeded())
        other, _ = model(features, senses, generator=seeded(1))
    assert chunk.shape == (3, 16, 17) and torch.equal(chunk, again)
    assert torch.equal(chunk, other) is not model.action_head.samples
    model.train()
    model.loss(features, senses, goal, torch.zeros(3, 16, 17), generator=seeded()).backward()
    silent = [n for n, p in model.action_head.named_parameters() if p.grad is None]
    assert not silent
    model.eval()
    model.save_pretrained(tmp_path / "policy")
    loaded = NeonVLA.from_pretrained(tmp_path / "policy")
    assert loaded.config == model.config
    with torch.no_grad():
        assert torch.equal(loaded(features, senses, generator=seeded())[0], chunk)


@pytest.mark.parametrize("kind", ["flow", "state relative"])
def test_every_kind_grows(folder: Path, tmp_path: Path, kind: str) -> None:
    model = tiny_model(folder, **KINDS[kind])
    model.save_pretrained(tmp_path / "policy")
    grown = NeonVLA.from_pretrained(tmp_path / "policy", control_mode="upper_body", grow=True)
    features, senses = tiny_features(2), tiny_senses(2)
    with torch.no_grad():
        chunk, before = grown(features, senses, generator=seeded())[0], model(features, senses, generator=seeded())[0]
    assert chunk.shape == (2, 16, 20) and torch.equal(chunk[..., :17], before)


def test_the_action_state_is_where_the_robot_is(folder: Path) -> None:
    model = tiny_model(folder)
    proprio = torch.zeros(2, 125)
    proprio[:, :29] = torch.tensor(joints.HOME, dtype=torch.float32)
    proprio[1, 15] = float(joints.UPPER[15])  # left shoulder pitch: the first action
    proprio[1, 122:] = torch.tensor([0.5, -0.25, 0.0])  # last commanded velocity; the limits are 0.5, 0.5, 1
    state = model.action_state({"proprio": proprio})
    assert state is not None
    expected = torch.zeros(2, 17)
    expected[1, 0], expected[1, 14], expected[1, 15] = 1.0, 1.0, -0.5
    torch.testing.assert_close(state, expected, atol=1e-6, rtol=0)
    assert model.action_state({}) is None


def test_a_state_relative_head_wants_proprioception(folder: Path) -> None:
    model = tiny_model(folder, **KINDS["state relative"])
    with pytest.raises(ValueError, match="wants `state`"):
        model(tiny_features(1), {})


def test_head_options_that_are_none_or_belong_elsewhere(folder: Path) -> None:
    with pytest.raises(ValueError, match="Unknown NeonConfig.head option 'head_tipe'. Did you mean 'head_type'"):
        tiny_model(folder, head={"head_tipe": "flow"})
    with pytest.raises(ValueError, match="Unknown NeonConfig.head option 'mlp_hidden'"):
        tiny_model(folder, head={"mlp_hidden": 24})
    with pytest.raises(ValueError, match="Unknown head type 'flw'. Did you mean 'flow'"):
        tiny_model(folder, head={"head_type": "flw"})


def observation(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "camera": noise_frames(1, 1, 128, seed)[0, 0],
        "instruction": np.frombuffer(b"touch the red ball".ljust(256, b"\0"), dtype=np.uint8),
        "proprio": rng.normal(0.0, 0.1, 125).astype(np.float32),
    }


def test_a_policy_that_samples_repeats_its_episode_and_its_saved_state(folder: Path) -> None:
    policy = NeonPolicy(tiny_model(folder, **KINDS["flow"]))
    policy.observe(observation(0), 0.0)
    first, second = policy.act(), policy.act()
    assert not np.array_equal(first, second)  # the noise goes on
    saved = policy.get_state()
    third = policy.act()
    policy.set_state(saved)
    policy.observe(observation(0), 0.0)
    np.testing.assert_array_equal(policy.act(), third)
    policy.reset()
    policy.observe(observation(0), 0.0)
    np.testing.assert_array_equal(policy.act(), first)


def test_a_guide_moves_what_is_sampled(folder: Path) -> None:
    def upward(estimate: torch.Tensor, time: float) -> torch.Tensor:
        return torch.full_like(estimate, 0.1)

    plain = NeonPolicy(tiny_model(folder, **KINDS["flow"]))
    guided = NeonPolicy(plain.model, guide=upward)
    for policy in (plain, guided):
        policy.observe(observation(0), 0.0)
    assert (guided.act() - plain.act()).mean() > 0.05
    with pytest.raises(ValueError, match="A guide steers heads that sample"):
        computed = NeonPolicy(tiny_model(folder), guide=upward)
        computed.observe(observation(0), 0.0)
        computed.act()
