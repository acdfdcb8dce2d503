"""A training is a function of its seed: two runs are equal to the bit, and so is one that was stopped in between."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from neon_sim.locomotion import gait
from neon_sim.locomotion.network import load_weights, save_weights
from neon_sim.locomotion.stepper import ACTION_SIZE, OBSERVATION_SIZE
from neon_sim.training.ppo import ActorCritic, PPOConfig
from neon_sim.training.walker_run import WalkerRun, walker_weights
from neon_sim.walking.critic import CRITIC_SIZE
from neon_sim.walking.curriculum import Difficulty
from neon_sim.walking.world import WalkConfig, WalkWorld

SIZES = (OBSERVATION_SIZE, CRITIC_SIZE, ACTION_SIZE)
NETWORK = PPOConfig(hidden=(16,), critic_hidden=(16,), epochs=2, minibatches=2)
ROBOTS = WalkConfig(count=8, models=2, threads=1, episode_s=0.5)  # time runs out within the test
BLOWS = Difficulty(punch=300.0, punched=1.0)


def walk(seed: int = 0, network: PPOConfig = NETWORK) -> WalkerRun:
    world = WalkWorld(ROBOTS, gait.START, seed)
    world.difficulty, world.blows.until_punch[:] = BLOWS, 0.3
    return WalkerRun(world, SIZES, network, horizon=4, seed=seed)


def weights(run: WalkerRun) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def assert_equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    runs = [walk(seed) for seed in (0, 0, 1)]
    logs = [[run.iterate() for _ in range(3)] for run in runs]
    assert logs[0] == logs[1] and logs[0] != logs[2]
    assert_equal(weights(runs[0]), weights(runs[1]))
    assert [run.steps for run in runs] == [3 * 8 * 4] * 3


@pytest.mark.parametrize("before", [0, 3])
def test_a_run_that_is_stopped_and_taken_up_again_is_the_uninterrupted_one(tmp_path: Path, before: int):
    run = walk()
    for _ in range(before):
        run.iterate()
    run.save(tmp_path / "checkpoint.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]  # nothing half-written stays
    on = [run.iterate() for _ in range(4)]
    fresh = walk()
    fresh.load(tmp_path / "checkpoint.pt")
    assert fresh.steps == before * 8 * 4
    assert [fresh.iterate() for _ in range(4)] == on
    assert_equal(weights(fresh), weights(run))
    for left, right in zip(fresh.world.observe(), run.world.observe(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert run.world.steps.max() < 25 < run.world.tally.steps and run.world.tally.punches > 0  # there was life in it


def test_the_exported_walker_acts_as_the_average_of_the_trained_ones(tmp_path: Path):
    run = walk(network=replace(NETWORK, hidden=(24, 12), learning_rate=1e-3))
    for _ in range(3):
        run.iterate()
    save_weights(tmp_path / "walker.npz", run.export(gait.START, "by hand"))
    exported = load_weights(tmp_path / "walker.npz")
    assert exported.note == "by hand" and len(exported.layers) == 3
    np.testing.assert_array_equal(exported.gains, gait.START)
    rows = run.world.observe()[0]
    rows = np.concatenate([rows, 30.0 * rows])  # some beyond eight standard deviations
    with torch.no_grad():
        wanted = run.average.module.act(torch.from_numpy(rows.astype(np.float32)), None)[1]
    np.testing.assert_allclose(exported.act(rows), wanted.numpy(), atol=1e-5)
    assert wanted.abs().max() > 1e-3


def test_the_average_keeps_99_of_100_parts_of_itself():
    run = walk()
    run.iterate()
    first = run.model.actor[0].weight.detach().clone()
    torch.testing.assert_close(run.average.module.actor[0].weight, first)  # it begins with the first
    run.iterate()
    second = run.model.actor[0].weight.detach()
    torch.testing.assert_close(run.average.module.actor[0].weight, 0.99 * first + 0.01 * second)
    assert not torch.equal(first, second)


def test_exported_weights_do_not_learn_on():
    run = walk()
    run.iterate()
    exported = walker_weights(run.model, gait.START, "")
    before = [part.copy() for layer in exported.layers for part in layer]
    mean = exported.mean.copy()
    run.iterate()
    np.testing.assert_array_equal(exported.mean, mean)
    for part, old in zip((part for layer in exported.layers for part in layer), before, strict=True):
        np.testing.assert_array_equal(part, old)


# --- a world that counts --------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    reward: np.ndarray
    fell: np.ndarray
    timed_out: np.ndarray


@dataclass
class Counting:
    """Two robots. They see the step's number; the first falls at every third step, the second's time is up then."""

    step_number: int = 0
    fails_at: int = 10**9

    def observe(self) -> tuple[np.ndarray, np.ndarray]:
        return np.full((2, 1), float(self.step_number)), np.full((2, 2), float(self.step_number))

    def step(self, action: np.ndarray) -> Outcome:
        self.step_number += 1
        if self.step_number == self.fails_at:
            raise RuntimeError("the floor gave way")
        over = self.step_number % 3 == 0
        return Outcome(np.array([1.0, 2.0]), np.array([over, False]), np.array([False, over]))

    def get_state(self) -> dict[str, Any]:
        return vars(self).copy()

    def set_state(self, state: Any) -> None:
        vars(self).update(state)


def count(fails_at: int = 10**9) -> WalkerRun:
    return WalkerRun(Counting(fails_at=fails_at), (1, 2, 1), NETWORK, horizon=3, seed=0)


def test_each_iteration_learns_from_what_the_policy_before_it_collected():
    run = count()
    run.iterate()
    waiting = run._waiting
    assert waiting is not None
    # Four batches to look around, one that was learned from; the sixth was collected meanwhile: steps 15, 16, 17.
    np.testing.assert_array_equal(waiting.observation[:, 0, 0], [15.0, 16.0, 17.0])
    assert run.steps == 6
    old = ActorCritic(1, 2, 1, NETWORK)
    old.load_state_dict(run._behaviour.state_dict())
    mean, std = old.act(waiting.observation[:, 0], None)[0], old.log_std.exp()
    torch.testing.assert_close(mean, waiting.mean[:, 0])
    spread = (waiting.action[:, 0] - mean) / std
    torch.testing.assert_close(waiting.log_prob[:, 0], -(0.5 * spread**2 + old.log_std).sum(dim=1))
    assert not torch.equal(old.log_std, run.model.log_std)  # which has learned meanwhile


def test_a_fall_is_worth_nothing_more_and_time_that_ran_out_what_was_to_come():
    run = count()
    run.iterate()
    waiting = run._waiting
    assert waiting is not None
    np.testing.assert_array_equal(waiting.done, [[0, 0], [0, 0], [1, 1]])
    np.testing.assert_allclose(waiting.reward[:, 0], [1.0, 1.0, 1.0])
    to_come = NETWORK.gamma * waiting.value[2, 1].item()
    np.testing.assert_allclose(waiting.reward[:, 1], [2.0, 2.0, 2.0 + to_come], rtol=1e-6)
    assert abs(to_come) > 1e-4


def test_inputs_are_known_before_anything_is_learned():
    run = count()
    run.iterate()
    # Steps 0 to 11 while looking around, then the batch 12 to 14.
    assert run.model.see.mean.item() == pytest.approx(np.mean(np.arange(15)), rel=1e-3)
    assert run._behaviour.see.mean.item() == pytest.approx(np.mean(np.arange(12)), rel=1e-3)


def test_what_breaks_in_the_world_is_heard():
    run = count(fails_at=17)
    with pytest.raises(RuntimeError, match="the floor gave way"):
        run.iterate()
