"""One token a frame against many: a causal patch-token model, one that plans like a LeWM, budgets by hand, resuming."""

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("benchmarks", "agents"))

import planning_equal_flops as flops
import train_world_model as training_script
from planning_patch_tokens import PatchTokenConfig, PatchTokenPredictor, PatchWorld

from neon_sim.world_model.bundle import Bundle, load_bundle, save_bundle
from neon_sim.world_model.command_space import COMMAND_SPACES
from neon_sim.world_model.config import lewm_config
from neon_sim.world_model.controllers import PlanningConfig, make_planner
from neon_sim.world_model.dataset import Rollouts
from neon_sim.world_model.lewm import LeWM
from neon_sim.world_model.plan import Box
from neon_sim.world_model.readout import Readout

SMALL = PatchTokenConfig(patches=4, dim=8, layers=2, heads=2, head_dim=4, mlp=16, action_dim=3)


def test_patch_tokens_see_no_future_and_roll_out_as_they_predict() -> None:
    torch.manual_seed(0)
    model = PatchTokenPredictor(SMALL).eval()
    frames, actions = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 3)
    with torch.no_grad():
        plans = torch.randn(1, 5, 4, 3)
        rolled = model.rollout(frames[:1, :1], torch.zeros(1, 0, 3), plans)
        assert rolled.shape == (1, 5, 4, 4, 8)
        seen = frames[:1, 0].expand(5, -1, -1)[:, None]
        for step in range(4):  # the window holds three frames
            begin = max(0, step - 2)
            seen = torch.cat([seen, model(seen[:, begin:], plans[0, :, begin : step + 1])[:, None]], dim=1)
        torch.testing.assert_close(rolled[0], seen[:, 1:])
        later = model.rollout(seen[:1, :3], plans[:, 0, :2], plans[:, :, 2:])  # two of the steps are known
        torch.testing.assert_close(later[0, 0], seen[0, 3:])
        torch.testing.assert_close(model.following(frames, actions)[:, 1], model(frames[:, :2], actions[:, :2]))
        changed = actions.clone()
        changed[:, -1] += 1.0
        assert not torch.allclose(model(frames, actions), model(frames, changed))  # the newest action counts


def test_a_patch_world_has_a_token_for_every_patch_and_one_for_what_is_felt() -> None:
    torch.manual_seed(0)
    world = PatchWorld(LeWM(lewm_config("tiny", action_dim=6)).eval()).eval()
    frames, felt = torch.randint(0, 256, (1, 2, 32, 32, 3), dtype=torch.uint8), torch.randn(1, 2, 125)
    latents = world.encode(frames, felt)
    tokens = world.split(latents)
    assert latents.shape == (1, 2, 544) and tokens.shape == (1, 2, 17, 32)  # 4 x 4 patches of 8 px, and one more
    assert float(tokens.mean(-1).abs().max()) < 1e-5 and tokens.var(-1, correction=0) == pytest.approx(1.0, abs=0.02)
    other = world.split(world.encode(frames, felt + 1.0))
    assert torch.equal(other[:, :, :16], tokens[:, :, :16]) and not torch.allclose(other[:, :, 16], tokens[:, :, 16])
    with torch.no_grad():
        assert world.predictor.rollout(latents, torch.zeros(1, 1, 6), torch.zeros(1, 3, 4, 6)).shape == (1, 3, 4, 544)
    with pytest.raises(ValueError, match="two layers"):
        PatchWorld(LeWM(lewm_config("tiny", encoder_layers=1)))


@pytest.mark.parametrize(("ratio", "samples"), [(20.0, 13), (40.0, 5), (1000.0, 2)])
def test_equal_flops_by_hand(ratio: float, samples: int) -> None:  # 320 candidates over the ratio, three are not drawn
    found = flops.equal_budget(PlanningConfig(samples=64, iterations=5), ratio)
    assert (found.samples, found.iterations) == (samples, 1)
    asked = []
    planner, box = make_planner("icem", found, warm=True), Box.unit(2)
    start = box.center(1, found.horizon)
    planner.plan(
        lambda c: asked.append(c.shape[1]) or c.square().sum((-1, -2)),  # type: ignore[func-returns-value]
        box,
        start,
        torch.Generator().manual_seed(0),
        start[:, None].expand(-1, max(2, samples // 8), -1, -1)[:, :4],
    )
    assert sum(asked) == samples + 3


@pytest.mark.parametrize("task", sorted(COMMAND_SPACES))
def test_both_learn_from_recordings_of_the_same_mix(task: str) -> None:
    given = argparse.Namespace(
        preset="default", task=task, size=None, episodes=300, record_minutes=None, ranks=None,
        **dict.fromkeys(name for name in training_script.TRAINING_FLAGS if name != "size"),
    )  # fmt: skip
    assert flops.recording(task, flops.PatchTraining(episodes=300)) == training_script.settings(given).rollouts


def test_other_eyes_or_trainings_have_a_folder_of_their_own(tmp_path: Path) -> None:
    folders = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        world = tmp_path / f"world{seed}"
        save_bundle(Bundle("reach", LeWM(lewm_config("tiny", action_dim=6)), Readout.empty(32)), world)
        folders |= {flops.folder_of(tmp_path, "reach", flops.PatchTraining(episodes=count), world) for count in (2, 3)}
    assert len(folders) == 4


class _Killed(Exception):
    pass


def test_one_token_against_many_is_trained_and_played_once(tmp_path: Path) -> None:
    torch.set_num_threads(1)  # sums of other numbers of threads round otherwise
    world = tmp_path / "world"
    torch.manual_seed(0)
    save_bundle(Bundle("reach", LeWM(lewm_config("tiny", action_dim=6)), Readout.empty(32)), world)
    training = flops.PatchTraining(episodes=2, updates=5, batch=2, readout_epochs=1, checkpoint_every=2)
    folder = flops.folder_of(tmp_path / "runs", "reach", training, world)
    quick = PlanningConfig(samples=32, iterations=2, horizon=2, execute=2, goal_steps=12, budget_steps=2)
    arguments: Any = ({"reach": world}, tmp_path / "runs", quick, (100,), 1, 1, training)
    figures, rows = flops.measure_equal_flops(*arguments)
    found = figures["success_at_equal_flops"]["reach"]
    assert found["recorded_as"]["task"] == "reach" and found["recorded_as"]["episodes"] == 2
    assert found["flop_ratio_of_a_candidate"] > 17.0 and found["one token"]["episodes"] == 1
    assert len(rows) == 2 and {len(row) for row in rows} == {5} and "5 candidates" in rows[1][2]
    made = (folder / "patch_world.pt").stat().st_mtime_ns
    assert flops.measure_equal_flops(*arguments) == (figures, rows)
    assert (folder / "patch_world.pt").stat().st_mtime_ns == made
    with pytest.raises(ValueError, match="another training"):
        flops.prepare(world, flops.replace(training, updates=6), folder, 1)
    _assert_resumed(world, training, folder, tmp_path / "killed")


def _assert_resumed(world: Path, training: Any, folder: Path, killed: Path) -> None:
    """A training that is killed after three updates and goes on has the weights of the one in `folder`."""
    rollouts = Rollouts(folder / "data")
    lewm = load_bundle(world).model
    torch.manual_seed(training.seed)
    fresh = PatchWorld(lewm)
    latents, draw, calls = flops.encoded(fresh, rollouts), rollouts.draw, []

    def breaks(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 4:
            raise _Killed
        return draw(*given)

    rollouts.draw = breaks  # type: ignore[method-assign]
    with pytest.raises(_Killed):
        flops.train(fresh, latents, rollouts, training, killed)
    again = PatchWorld(lewm)  # other weights to begin with
    flops.train(again, latents, rollouts, training, killed)
    assert len(calls) == 4 + 3  # updates 2, 3 and 4: the newest checkpoint has two
    whole = flops.patch_bundle(world, training, folder).model.tokens.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in again.tokens.state_dict().items())
