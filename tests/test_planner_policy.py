"""A planner as a policy of the live env: it comes to the ball, can be recorded, and says what it lacks."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.data.lerobot import LeRobotReader
from neon_sim.inference.planner_policy import SENSES, PlannerPolicy, open_planner
from neon_sim.rollout import rollout
from neon_sim.shipped import asset_path
from neon_sim.world_model.bundle import Bundle, load_bundle
from neon_sim.world_model.controllers import PlanningConfig

ROOT = Path(__file__).resolve().parents[1]
QUICK = PlanningConfig(samples=16, iterations=3)
STEPS = 75  # control steps: 15 decisions


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(asset_path("g1/world_models/reach"))


@pytest.fixture(scope="module")
def env() -> Any:
    made = open_env()
    yield made
    made.close()


def open_env(**options: Any) -> Any:
    told = {"task": "reach", "sensors": SENSES, "physics_dt": 0.005} | options
    return gymnasium.make("NeonG1-v0", disable_env_checker=True, **told).unwrapped


@pytest.fixture(scope="module")
def collect() -> ModuleType:
    spec = importlib.util.spec_from_file_location("collect_planned", ROOT / "agents" / "collect.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def distances(env: Any, policy: PlannerPolicy, seed: int) -> tuple[float, float]:
    """m from the named palm to the named ball, before and after."""
    env.reset(seed=seed)
    before = env.privileged()["distance"]
    rollout(env, policy, STEPS, seed=seed, keep=())
    return before, env.privileged()["distance"]


def test_the_named_palm_comes_to_the_named_ball(env: Any, bundle: Bundle) -> None:
    policy = PlannerPolicy(env, bundle, config=QUICK)
    for seed in (1, 2):
        before, after = distances(env, policy, seed)
        assert after < 0.08 and after < before / 2


def test_the_same_seed_gives_the_same_bits(env: Any, bundle: Bundle) -> None:
    played = [
        rollout(env, PlannerPolicy(env, bundle, config=QUICK), 30, seed=3, keep=("proprio",)).actions for _ in range(2)
    ]
    assert np.array_equal(*played) and played[0].shape == (30, 17)


def test_a_longer_stretch_of_a_plan_is_carried_out_before_the_next(env: Any, bundle: Bundle) -> None:
    policy = PlannerPolicy(env, bundle, config=PlanningConfig(samples=16, iterations=3, execute=3))
    plans = []
    decide = policy._controller.decide
    policy._controller.decide = lambda: plans.append(1) or decide()  # type: ignore[method-assign, func-returns-value]
    rollout(env, policy, 30, seed=3, keep=())
    assert len(plans) == 2  # 6 model steps


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "track"}, "is of reach, and the task is track"),
        ({"sensors": ("proprio",)}, "add camera to the sensors"),
        ({"control_mode": "upper_body"}, "The env's action space is .*upper_body"),
    ],
)
def test_a_world_that_it_cannot_act_in_is_refused(options: dict[str, Any], message: str, bundle: Bundle) -> None:
    env = open_env(**options)
    with pytest.raises(ValueError, match=message):
        PlannerPolicy(env, bundle)
    env.close()


def test_where_nobody_plans_it_says_who_does() -> None:
    env = open_env(task="track")
    with pytest.raises(ValueError, match="No world model plans track. Planners act in navigate, reach, push_box"):
        open_planner("cem", env)
    env.close()


def test_what_it_does_is_recorded(collect: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ["collect.py", "--policy", "cem", "--sensors", *SENSES, "--seconds", "0.5", "--episodes", "1"]
    monkeypatch.setattr(sys, "argv", [*line, "--workers", "1", "--out", str(tmp_path)])
    collect.main()
    (episode,) = LeRobotReader(tmp_path / "dataset", cameras=False).episodes()
    assert episode.actions.shape == (25, 17) and len(np.unique(episode.actions[:, 0])) > 10
    monkeypatch.setattr(sys, "argv", [*line, "--workers", "1", "--out", str(tmp_path / "b"), "--task", "wave"])
    with pytest.raises(SystemExit, match="No world model plans wave"):
        collect.main()
