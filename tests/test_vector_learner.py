"""Learning from several robots of a vector env: the same rollout, the same experience, the same learning."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_neon import REACH, open_reach, tiny_model
from torch import Tensor

from neon_sim.inference.neon_policies import NeonPolicies
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.inference.two_heads import RoutedPolicy
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.rollout import rollout
from neon_sim.shipped import asset_path
from neon_sim.sim.faults import ActuatorFault
from neon_sim.training.adoption import AdoptionConfig
from neon_sim.training.drift import DriftConfig
from neon_sim.training.experience import stack
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.online import load_forward_model
from neon_sim.training.practice import PractisingPolicies
from neon_sim.training.protection import OnlineEWCConfig
from neon_sim.training.self_learner import NeonSelfLearner, SelfLearnerConfig
from neon_sim.training.vector_learner import VectorLearner
from neon_sim.vector_env import NeonG1VectorEnv

ROBOTS = 4
STEPS = 48  # three chunks
FAULT = ActuatorFault("right_shoulder_pitch_joint", strength=0.7, bias=0.25)
CONFIG = SelfLearnerConfig(batch_size=8, updates_per_chunk=1, learning_rate=1e-3, practice_noise_m=0.04, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's one tiny backbone lies."""
    return tmp_path_factory.mktemp("backbone")


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    """One reach scene with the toy fault."""
    env = open_reach()
    env.world.apply_fault(FAULT)
    yield env
    env.close()


@pytest.fixture(scope="module")
def envs() -> Iterator[NeonG1VectorEnv]:
    """Four of them side by side."""
    envs = NeonG1VectorEnv(ROBOTS, threads=1, exact=True, **REACH)
    for single in envs.envs:
        single.world.apply_fault(FAULT)
    yield envs
    envs.close()


def _learner(folder: Path, config: SelfLearnerConfig, robots: int | None = None) -> Any:
    model = tiny_model(folder)
    torch.manual_seed(2)
    forward_model = ForwardModel.for_model(model)
    if robots is None:
        return NeonSelfLearner(model, forward_model, config)
    return VectorLearner(model, forward_model, config, robots)


def _play(env: Any, learner: NeonSelfLearner, seed: int, steps: int = STEPS) -> Any:
    played = rollout(env, learner.policy, steps, seed, keep=(), on_chunk=lambda _: learner.before_chunk())
    learner.end_episode()
    return played


def test_four_robots_live_the_four_episodes_that_one_robot_lives(env: Any, envs: NeonG1VectorEnv, folder: Path) -> None:
    still = replace(CONFIG, updates_per_chunk=0, practice_noise_m=0.0)
    alone, together = _learner(folder, still), _learner(folder, still, ROBOTS)
    episodes = [_play(env, alone, seed) for seed in range(ROBOTS)]
    side_by_side = _play(envs, together, 0)
    for one, other in zip(episodes, side_by_side, strict=True):
        assert (one.instruction, one.success, len(one)) == (other.instruction, other.success, len(other))
        np.testing.assert_allclose(other.actions, one.actions, atol=1e-4)  # a batch of four rounds differently
    wanted, found = stack(list(alone.buffer)), stack(list(together.buffer))
    assert together.episodes == ROBOTS and len(together.buffer) == 3 * ROBOTS
    for name in ("fused", "goal", "achieved", "text", "executed"):
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=2e-3, msg=name)
    assert torch.equal(found["weight"], wanted["weight"])
    assert _play(envs, together, 4) and len(together.buffer) == 6 * ROBOTS  # and again, nothing twice
    together.end_episode()
    assert len(together.buffer) == 6 * ROBOTS


def _held_back(env: Any, learner: NeonSelfLearner, episodes: int, steps: int) -> dict[str, Tensor]:
    """What the faulty robot does in episodes that nobody learns from."""
    for seed in range(90, 90 + episodes):
        _play(env, learner, seed, steps)
    return stack(list(learner.buffer))


def test_four_robots_teach_what_the_faulty_body_does_as_well_as_one(
    env: Any, envs: NeonG1VectorEnv, folder: Path
) -> None:
    """As many episodes and as many updates in all; judged by the forward model on other episodes."""
    held = _held_back(env, _learner(folder, replace(CONFIG, updates_per_chunk=0)), 3, STEPS)
    alone = _learner(folder, CONFIG)
    together = _learner(folder, replace(CONFIG, updates_per_chunk=ROBOTS), ROBOTS)

    def error(learner: NeonSelfLearner) -> float:
        with torch.no_grad():
            foreseen = learner.forward_model(held["fused"], held["executed"])
        return float((foreseen - held["fused_after"]).square().mean())

    before = error(alone)
    assert error(together) == before
    for seed in range(2 * ROBOTS):
        _play(env, alone, seed)
    for seed in (0, ROBOTS):
        _play(envs, together, seed)
    assert len(together.buffer) == len(alone.buffer) == 6 * ROBOTS
    assert error(alone) < 0.7 * before and error(together) < 1.2 * error(alone)


@pytest.mark.slow
def test_four_robots_teach_the_shipped_heads_the_toy_fault_as_well_as_one(env: Any, envs: NeonG1VectorEnv) -> None:
    """Judged by hindsight on other episodes: the chunk that brought the hand where it came to rest, for that place."""
    policy, steps = asset_path("g1/demo_heads"), 96
    config = replace(CONFIG, learning_rate=1e-4, batch_size=32)

    def learner(robots: int | None, updates: int) -> Any:
        model = NeonVLA.from_pretrained(policy)
        given = (model, load_forward_model(model, policy), replace(config, updates_per_chunk=updates))
        return NeonSelfLearner(*given) if robots is None else VectorLearner(*given, robots)

    held = _held_back(env, learner(None, 0), 8, steps)

    def hindsight(of: NeonSelfLearner) -> float:
        with torch.no_grad():
            return float(of.losses(held)["hindsight"])

    alone, together = learner(None, 2), learner(ROBOTS, 2 * ROBOTS)
    before = hindsight(alone)
    for seed in range(4 * ROBOTS):
        _play(env, alone, seed, steps)
    for seed in range(0, 4 * ROBOTS, ROBOTS):
        _play(envs, together, seed, steps)
    assert hindsight(alone) < 0.5 * before and hindsight(together) < 1.2 * hindsight(alone)


def test_a_robot_whose_episode_is_over_is_asked_no_more(envs: NeonG1VectorEnv, folder: Path) -> None:
    learner = _learner(folder, replace(CONFIG, updates_per_chunk=0), ROBOTS)
    rows_asked: list[list[int]] = []
    policy = learner.policy

    class Watched:
        """The policy, noting who is asked; robot 2 falls over after one chunk."""

        def reset(self, env_ids: list[int] | None = None) -> None:
            policy.reset(env_ids)

        def observe(self, obs: Any, now_s: float, rows: Any) -> None:
            policy.observe(obs, now_s, rows)

        def act(self, rows: Any) -> np.ndarray:
            rows_asked.append(list(rows))
            if len(rows_asked) == 2:
                robot = envs.envs[2].world.data
                robot.qpos[2] = 0.1  # m: the pelvis near the floor ends the episode
            chunk: np.ndarray = policy.act(rows)
            return chunk

    played = rollout(envs, Watched(), STEPS, 0, on_chunk=lambda _: learner.before_chunk())
    learner.end_episode()
    assert rows_asked[0] == rows_asked[1] == [0, 1, 2, 3] and rows_asked[2] == [0, 1, 3]
    assert [len(episode) for episode in played] == [STEPS, STEPS, 17, STEPS]
    assert played[2].terminated[-1] and not played[0].terminated.any()
    assert played[2].observations["proprio"].shape == (17, 125)
    assert len(learner.buffer) == 3 + 3 + 1 + 3  # the fallen robot's second chunk was cut short


BROKEN = tuple(ActuatorFault(f"{side}_shoulder_pitch_joint", 0.3, 1.0) for side in ("left", "right"))
BY_ITSELF = replace(
    CONFIG,
    drift=DriftConfig(group=3, baseline=5, start_sigmas=4.0),
    adoption=AdoptionConfig(hold_back_every=4, least_held_back=3),
    fisher_samples=8,
    known_m=math.inf,  # an untrained policy comes to rest nowhere near
    settled_m=math.inf,  # or not at all
    protection=OnlineEWCConfig(),
)


def _breaks(worlds: Sequence[Any], learner: NeonSelfLearner, env: Any, first: int, episodes: int) -> list[list[int]]:
    """Live, healthy up to one chunk into the episode `first`, then broken; the dates that each episode adds."""
    dates, chunks = [], 0

    def before_chunk(_: Any) -> None:
        nonlocal chunks
        if chunks == first * STEPS // 16 + 1:
            for world in worlds:
                world.apply_fault(BROKEN)
        chunks += 1
        learner.before_chunk()

    for world in worlds:
        world.apply_fault(None)
    for episode in range(episodes):
        before = [*learner.buffer, *learner.held_back]  # kept alive, so that no other gets the id of one that is gone
        rollout(env, learner.policy, STEPS, 100 + episode, keep=(), on_chunk=before_chunk)
        learner.end_episode()
        ids = {id(item) for item in before}
        dates.append([item.seen for item in (*learner.buffer, *learner.held_back) if id(item) not in ids])
    for world in worlds:
        world.apply_fault(FAULT)
    return dates


def test_a_vector_of_one_dates_its_life_as_a_robot_alone_does(env: Any, folder: Path) -> None:
    one = NeonG1VectorEnv(1, threads=1, exact=True, **REACH)
    alone, lane = _learner(folder, BY_ITSELF), _learner(folder, BY_ITSELF, 1)
    found = [
        _breaks([world], learner, envs, 7, 11)
        for world, learner, envs in ((env.world, alone, env), (one.envs[0].world, lane, one))
    ]
    one.close()
    assert found[0] == found[1] and found[0][:2] == [[1, 2, 3], [4, 5, 6]]
    assert alone.last_end is not None and alone.last_end == lane.last_end
    assert [(e.chunk, e.what) for e in alone.drift.log] == [(e.chunk, e.what) for e in lane.drift.log]
    assert [item.seen for item in alone.buffer] == [item.seen for item in lane.buffer]
    assert [item.seen for item in alone.held_back] == [item.seen for item in lane.held_back]


def test_four_robots_notice_a_fault_that_comes_in_mid_episode_and_learn_from_then_on(
    envs: NeonG1VectorEnv, folder: Path
) -> None:
    learner = _learner(folder, BY_ITSELF, ROBOTS)
    before = {name: value.detach().clone() for name, value in learner.params.items()}
    dates = _breaks([single.world for single in envs.envs], learner, envs, 7, 11)
    assert sorted(dates[2]) == sorted([7, 8, 9] * ROBOTS)  # one date for what they carry out together
    assert [event.what for event in learner.drift.log][:3] == ["ready", "start", "protect"]
    broke = 7 * 3 + 1
    assert broke < learner.drift.log[1].chunk <= broke + 6  # within two episodes
    began, protected = learner.last_end
    assert began <= broke + 2 and 0 < protected <= ROBOTS * began and learner.protection.anchor_count == 1
    centre = learner.protection.state_dict()["centre"]
    assert all(torch.equal(centre[name], value) for name, value in before.items())  # nothing was learned until then
    assert min(item.seen for item in (*learner.buffer, *learner.held_back)) > began
    assert learner.gate.proposals > 0 and learner.last_losses
    assert any(not torch.equal(value, before[name]) for name, value in learner.params.items())


def test_a_robot_that_falls_at_a_chunks_end_is_dated_as_those_that_go_on(envs: NeonG1VectorEnv, folder: Path) -> None:
    learner = _learner(folder, replace(BY_ITSELF, adoption=None, updates_per_chunk=0), ROBOTS)

    class Trips(PractisingPolicies):
        """Robot 2 falls over in the last step of its first chunk."""

        steps = 0

        def observe(self, obs: Any, now_s: float, rows: Any) -> None:
            super().observe(obs, now_s, rows)
            self.steps += 1
            if self.steps == 16:  # the reset's, and those of 15 steps
                envs.envs[2].world.data.qpos[2] = 0.1  # m: the pelvis near the floor ends the episode

    learner.policy = Trips(learner.model, 0.0, learner.policy.rng, ROBOTS)
    played = _play(envs, learner, 0)
    assert [len(episode) for episode in played] == [STEPS, STEPS, 16, STEPS]
    assert [item.seen for item in learner.buffer] == [1, 2, 3, 1, 2, 3, 1, 1, 2, 3]
    assert learner.drift.chunk == 3


def test_chunks_of_which_only_a_part_is_carried_out_are_refused(envs: NeonG1VectorEnv, folder: Path) -> None:
    learner = _learner(folder, CONFIG, ROBOTS)
    with pytest.raises(ValueError, match="8 of 16 steps were carried out"):
        rollout(envs, learner.policy, 32, 0, execute=8, on_chunk=lambda _: learner.before_chunk())


def test_what_does_not_go_together_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="on the same network"):
        NeonPolicies([NeonPolicy(tiny_model(folder)), NeonPolicy(tiny_model(folder))])
    with pytest.raises(ValueError, match="one policy or more"):
        _learner(folder, CONFIG, 0)
    with pytest.raises(ValueError, match="no guide"):
        NeonPolicies([NeonPolicy(tiny_model(folder), guide=lambda chunk, *rest: chunk)])
    model = tiny_model(folder)
    with pytest.raises(ValueError, match="routes or plans by itself"):
        NeonPolicies([RoutedPolicy(model, model)])
    at_once = NeonG1VectorEnv(1, **REACH, autoreset_mode="SameStep")
    with pytest.raises(ValueError, match="autoreset_mode NextStep, got SameStep"):
        rollout(at_once, NeonPolicies([NeonPolicy(model)]), 2, 0)
    at_once.close()
