"""The residual on the walker: nothing of it changes nothing, more is limited in size and speed, means are means."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.g1.joints import HOME, HOME_HEIGHT
from neon_sim.locomotion.residual import OUTCOME, ResidualConfig, ResidualWalker
from neon_sim.walker import Walker

STAND = np.array([0.0, 0.0, 0.0, HOME_HEIGHT])
ARMS = np.arange(29) >= 15


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    options: dict[str, Any] = {"task": "walk", "physics_dt": 0.005, "sensors": ("proprio",)}
    env: Any = gymnasium.make("NeonG1-v0", disable_env_checker=True, **options).unwrapped
    env.robot.walker = ResidualWalker(env.robot.walker)
    yield env
    env.close()


def _walk(env: Any, seed: int, steps: int) -> np.ndarray:
    env.reset(seed=seed)
    return np.array([env.step(env.expert_action())[0]["proprio"] for _ in range(steps)])


def test_no_residual_is_the_walker_alone_to_the_bit(env: Any) -> None:
    alone: Any = gymnasium.make("NeonG1-v0", disable_env_checker=True, **_options(env)).unwrapped
    np.testing.assert_array_equal(_walk(env, 3, 60), _walk(alone, 3, 60))
    alone.close()


def _options(env: Any) -> dict[str, Any]:
    return {"task": "walk", "physics_dt": env.config.physics_dt, "sensors": env.config.sensors}


def test_a_residual_goes_to_its_limit_and_no_faster_than_allowed(env: Any) -> None:
    """0.5 rad/s are 0.01 rad in 20 ms; 1 rad is cut to 0.2 rad, which takes 20 steps; arms are left alone."""
    env.reset(seed=0)
    state, plain = env.robot.read(), Walker()
    walker = ResidualWalker(Walker())
    walker.wanted = np.array([1.0, -0.025] + [0.0] * 13)
    for step in range(1, 26):
        moved = walker.step(state, STAND, ARMS, HOME) - plain.step(state, STAND, ARMS, HOME)
        wanted = np.zeros(29)
        wanted[0], wanted[1] = min(0.01 * step, 0.2), -min(0.01 * step, 0.025)
        np.testing.assert_allclose(moved, wanted, atol=1e-12)


def test_another_residual_comes_on_top(env: Any) -> None:
    env.reset(seed=0)
    state, walker, plain = env.robot.read(), ResidualWalker(Walker()), Walker()
    walker.wanted = np.full(15, 0.01)
    moved = walker.step(state, STAND, ARMS, HOME, np.full(29, 0.02)) - plain.step(state, STAND, ARMS, HOME)
    np.testing.assert_allclose(moved, np.where(ARMS, 0.0, 0.03), atol=1e-12)


def test_a_window_is_the_mean_since_the_last_one(env: Any) -> None:
    env.reset(seed=5)
    walker = env.robot.walker
    walker.take()
    states = [env.robot.read()]
    walker.wanted = np.full(15, 0.015)
    for _ in range(3):
        env.step(env.action_map.encode(HOME, np.array([0.3, 0.0, 0.0])))
        states.append(env.robot.read())
    window = walker.take()
    errors = [(state.joint_target - state.joint_pos)[:15] for state in states[:3]]  # what each step began with
    np.testing.assert_allclose(window.error, np.mean(errors, axis=0))
    np.testing.assert_allclose(window.residual, np.mean([0.01, 0.015, 0.015]))
    told = dict(zip(OUTCOME, window.outcome, strict=True))
    assert told["height"] == pytest.approx(env.world.position("pelvis")[2], abs=0.02)
    assert told["lean_x"] == pytest.approx(np.mean([state.gravity_b[0] for state in states[:3]]))
    assert 0.0 < window.command[0] <= 0.3
    with pytest.raises(ValueError, match="Nothing was sensed since the last window"):
        walker.take()


def test_its_state_goes_on_to_the_bit(env: Any) -> None:
    env.reset(seed=6)
    env.robot.walker.wanted = np.full(15, 0.05)
    for _ in range(5):
        env.step(env.expert_action())
    saved = env.get_state()
    first = [env.step(env.expert_action())[0]["proprio"] for _ in range(8)]
    window = env.robot.walker.take()
    env.set_state(saved)
    np.testing.assert_array_equal([env.step(env.expert_action())[0]["proprio"] for _ in range(8)], first)
    np.testing.assert_array_equal(np.concatenate(env.robot.walker.take()), np.concatenate(window))
    env.reset(seed=6)
    assert not env.robot.walker.wanted.any() and not env.robot.walker.residual.any()


@pytest.mark.parametrize("change", [{"limit": 0.0}, {"speed": -1.0}])
def test_limits_are_positive(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive limit"):
        ResidualConfig(**change)
