"""The shipped weights do what RESULTS.md says, at small scale: they look, they read, and they adapt."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.cells import cell_options
from neon_sim.eval.evaluate import EVALUATION_SEED, EvaluationJob, run_job
from neon_sim.eval.neonbench_play import find_player
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.rollout import rollout
from neon_sim.sensors.camera import CameraConfig
from neon_sim.shipped import asset_path
from neon_sim.sim.faults import ActuatorFault
from neon_sim.training.online import LifeConfig, live
from neon_sim.training.self_learner import SelfLearnerConfig

ENV = {"task": "reach", "physics_dt": 0.005, "sensors": ("proprio", "camera"), "camera": CameraConfig(rate_hz=12.5)}
SEEDS = tuple(range(EVALUATION_SEED + 500_000, EVALUATION_SEED + 500_012))  # not those that are reported


def _successes(job: EvaluationJob) -> int:
    return sum(result.success for result in run_job(job))


@pytest.fixture(scope="module")
def job() -> EvaluationJob:
    """The demo heads on twelve episodes."""
    return EvaluationJob("shipped", str(asset_path("g1/demo_heads")), SEEDS, env=ENV)


def test_the_demo_heads_reach(job: EvaluationJob) -> None:
    assert _successes(job) >= 10


def test_blind_they_do_not(job: EvaluationJob) -> None:
    assert _successes(replace(job, blank_camera=True)) <= 2


def test_told_the_wrong_words_they_do_not(job: EvaluationJob) -> None:
    assert _successes(replace(job, shuffle_words=True)) <= 4


def test_a_broken_shoulder_costs_them_that_hand(job: EvaluationJob) -> None:
    assert _successes(replace(job, fault=ActuatorFault("right_shoulder_pitch_joint", 0.7, 0.25))) <= 8


def test_they_are_small_and_on_the_shipped_backbone() -> None:
    model = NeonVLA.from_pretrained(asset_path("g1/demo_heads"))
    assert model.config.backbone.weights is None
    assert model.parameter_table()["trainable"] < 7_000_000
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())


def test_the_demo_heads_see_the_same_with_the_default_camera() -> None:
    """All sensors, 30 Hz, 2 ms physics: what `gymnasium.make("NeonG1-v0")` gives."""
    env: Any = gymnasium.make("NeonG1-v0", disable_env_checker=True).unwrapped
    from neon_sim.inference.neon_policy import NeonPolicy

    policy = NeonPolicy(NeonVLA.from_pretrained(asset_path("g1/demo_heads")))
    reached = [rollout(env, policy, seed=seed, keep=(), stop_on_success=True).success for seed in SEEDS[:4]]
    env.close()
    assert sum(reached) >= 3


@pytest.mark.parametrize(("task", "least"), [("lift_box", 4), ("follow_voice", 3), ("reach", 3)])
def test_the_multitask_heads_do_what_words_or_a_voice_ask_for(task: str, least: int) -> None:
    """Six episodes in held-out wordings, heard with two microphones; by chance none to one."""
    heads = str(asset_path("g1/multitask_heads"))
    player = find_player(heads)
    world = {**cell_options("unseen_wordings", player.reads, microphones=player.microphones), "task": task}
    job = EvaluationJob("shipped", heads, SEEDS[:6], env=world)
    assert player.microphones == 2 and _successes(job) >= least


@pytest.mark.slow
def test_they_adapt_to_the_broken_shoulder_and_keep_the_healthy_one(job: EvaluationJob, tmp_path: Path) -> None:
    fault = ActuatorFault("right_shoulder_pitch_joint", 0.7, 0.25)
    env: Any = gymnasium.make("NeonG1-v0", disable_env_checker=True, **ENV).unwrapped
    life = LifeConfig(healthy_episodes=20, faulty_episodes=60, first_seed=8_000_000, fault=fault)
    live(env, asset_path("g1/demo_heads"), SelfLearnerConfig(practice_noise_m=0.04), life, tmp_path)
    env.close()
    learned = replace(job, policy=str(tmp_path / "policy"))
    assert _successes(replace(learned, fault=fault)) >= _successes(replace(job, fault=fault)) + 2
    assert _successes(learned) >= 10
