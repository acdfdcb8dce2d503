"""Gymnasium's and Stable-Baselines3's own checkers find nothing to say, whatever is switched on."""

import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.passive_env_checker import env_render_passive_checker
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import neon_sim  # noqa: F401  (registers NeonG1-v0)
from neon_sim.env import ALL_SENSORS, SENSORS
from neon_sim.g1.action_space import ControlMode
from neon_sim.tasks import TASKS

SUBSETS = [names for size in range(5) for names in itertools.combinations(SENSORS, size)]
MODES = [str(mode) for mode in ControlMode]
EVERYTHING = list(itertools.product(SUBSETS, MODES, TASKS))
# Each set of sensors once, modes and tasks taking turns; then the pairs of mode and task that this left out, with the
# truth beside proprioception, so that every task's fits.
TURNS = [(names, MODES[i % 3], list(TASKS)[i // 3 % len(TASKS)]) for i, names in enumerate(SUBSETS)]
PAIRS = set(itertools.product(MODES, TASKS)) - {(mode, task) for _, mode, task in TURNS}
SAMPLE = TURNS + [(("proprio", "state"), mode, task) for mode, task in sorted(PAIRS)]


@contextmanager
def no_warnings() -> Iterator[None]:
    """Every warning is an error, but for the one that says that this machine has no OpenGL."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="No OpenGL", category=RuntimeWarning)
        yield


def check(sensors: tuple[str, ...], mode: str, task: str, **options: Any) -> None:
    with no_warnings():
        env = gymnasium.make("NeonG1-v0", sensors=sensors, control_mode=mode, task=task, **options)
        # The render check would open a window for "human", which a machine without a display cannot do.
        check_env(env.unwrapped, skip_render_check=True)
        sb3_check_env(env.unwrapped, warn=True, skip_render_check=True)
        env.close()


def test_the_sample_is_fair() -> None:
    assert len(SUBSETS) == 16 and len(EVERYTHING) == 16 * 3 * len(TASKS) and set(TURNS) <= set(EVERYTHING)
    assert {(mode, task) for _, mode, task in SAMPLE} == set(itertools.product(MODES, TASKS))
    assert {names for names, _, _ in TURNS} == set(SUBSETS)


@pytest.mark.parametrize(("sensors", "mode", "task"), SAMPLE)
def test_both_checkers_are_content(sensors: tuple[str, ...], mode: str, task: str) -> None:
    check(sensors, mode, task)


@pytest.mark.slow
@pytest.mark.parametrize(("sensors", "mode", "task"), [combo for combo in EVERYTHING if combo not in TURNS])
def test_both_checkers_are_content_with_the_rest(sensors: tuple[str, ...], mode: str, task: str) -> None:
    check(sensors, mode, task)


OPT_IN = [name for name in ALL_SENSORS if name not in SENSORS]


@pytest.mark.parametrize("name", OPT_IN)
def test_both_checkers_are_content_with_each_sense_that_is_off_by_default(name: str) -> None:
    index = OPT_IN.index(name)
    check((name,), MODES[index % 3], list(TASKS)[index // 3 % len(TASKS)], physics_dt=0.005)


def test_both_checkers_are_content_with_everything_at_once() -> None:
    check(ALL_SENSORS, "upper_body", "reach", physics_dt=0.005)


def test_fast_physics_and_the_other_action_center_pass_too() -> None:
    check(("proprio",), "arms_only", "reach", physics_dt=0.005, action_center="limits")


def test_a_warning_of_gymnasium_would_be_an_error_here() -> None:
    with no_warnings(), pytest.raises(UserWarning, match="different from the unwrapped"):
        check_env(gymnasium.make("NeonG1-v0", sensors=("proprio",)))


def test_pictures_pass_the_render_check() -> None:
    with no_warnings():
        env = gymnasium.make("NeonG1-v0", sensors=(), render_mode="rgb_array").unwrapped
        env.reset(seed=0)
        env_render_passive_checker(env)
        env.close()


@pytest.mark.parametrize("name", ["PPO", "A2C", "SAC"])
def test_stable_baselines3_learns_a_step_on_the_default_observation(name: str) -> None:
    import stable_baselines3
    import torch

    settings: dict[str, dict[str, Any]] = {
        "PPO": {"n_steps": 2, "batch_size": 2, "n_epochs": 1},
        "A2C": {"n_steps": 2},
        "SAC": {"buffer_size": 8, "batch_size": 2, "learning_starts": 1},
    }
    torch.set_num_threads(1)
    env = gymnasium.make("NeonG1-v0", physics_dt=0.005)
    model = getattr(stable_baselines3, name)("MultiInputPolicy", env, seed=0, device="cpu", **settings[name])
    before = [weight.clone() for weight in model.policy.parameters()]
    model.learn(total_timesteps=3)
    changed = [not torch.equal(old, new) for old, new in zip(before, model.policy.parameters(), strict=True)]
    assert any(changed) and all(bool(weight.isfinite().all()) for weight in model.policy.parameters())
    env.close()
