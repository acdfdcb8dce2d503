"""Futures tried side by side: they move as the env would, which does not notice."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.sim.noise import SensorNoise


def opened(**options: Any) -> Any:
    told = {"task": "push_box", "sensors": ("proprio",), "physics_dt": 0.005} | options
    env = gymnasium.make("NeonG1-v0", disable_env_checker=True, **told).unwrapped
    env.reset(seed=3)
    return env


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    made = opened()
    yield made
    made.close()


def test_a_fork_moves_as_the_env_and_the_env_stays(env: Any) -> None:
    ahead, turning = np.zeros((2, 17))
    ahead[14], turning[16] = 0.8, 0.8
    for _ in range(10):  # on the way, so that the walker has a past
        obs = env.step(ahead)[0]
    before, box = env.get_state(), env.task.box.name
    forks = env.forks(3)
    assert forks.proprio()[1] == pytest.approx(obs["proprio"], abs=1e-6)
    for _ in range(20):
        forks.step(np.stack([ahead, turning, ahead]))
    after = env.get_state()
    assert np.array_equal(before["robot"]["physics"], after["robot"]["physics"])
    assert before["robot"]["walker"]["command"] == after["robot"]["walker"]["command"]
    for row, action in ((0, ahead), (1, turning)):
        env.set_state(before)
        for _ in range(20):
            obs = env.step(action)[0]
        for body in ("pelvis", box):
            place, quat = forks.pose(body)
            alone = env.world.object_pose(body)
            assert place[row] == pytest.approx(alone[0], abs=1e-4)
            assert quat[row] == pytest.approx(alone[1], abs=1e-3)
        assert forks.proprio()[row, :29] == pytest.approx(obs["proprio"][:29], abs=1e-3)
        assert forks.eef()[row] == pytest.approx(obs["eef"], abs=1e-3)
    assert np.array_equal(forks.proprio()[0], forks.proprio()[2]) and not forks.fallen.any()
    assert np.linalg.norm(forks.pose("pelvis")[0][0] - forks.pose("pelvis")[0][1]) > 0.01


def test_a_fall_is_told_as_the_env_tells_it() -> None:
    low = opened(fall_height=2.0)
    forks = low.forks(2)
    assert not forks.fallen.any()
    forks.step(np.zeros((2, 17)))
    assert forks.fallen.all() and low.step(np.zeros(17))[2]
    low.close()


def test_who_is_more_than_model_and_state_has_no_forks() -> None:
    noisy = opened(noise=SensorNoise())
    assert noisy.forks(2) is None
    noisy.close()
