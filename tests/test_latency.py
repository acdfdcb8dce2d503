"""Delay lines counted by hand: which target the motors follow in each physics step, and which reading arrives."""

import numpy as np
import pytest

from neon_sim.sim.latency import Latency, Reading


def target(value: float) -> np.ndarray:
    return np.full(29, value)


def reading(value: float) -> Reading:
    return Reading(np.full(4, value), target(value), target(value), target(value), np.full(3, value))


def followed(latency: Latency) -> list[float]:
    """The target of each physics step of the next control period."""
    return [leg.target[0] for leg in latency.plan() for _ in range(leg.steps)]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (0, [[1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]]),
        (1, [[0, 1, 1, 1], [1, 2, 2, 2], [2, 3, 3, 3]]),
        (4, [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2]]),
        (6, [[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 2, 2]]),
    ],
)
def test_a_target_arrives_after_its_delay_to_the_step(action: int, expected: list[list[float]]) -> None:
    latency = Latency(4, action, 0, target(0.0))
    for sent, steps in zip((1.0, 2.0, 3.0), expected, strict=True):
        latency.send(target(sent))
        assert followed(latency) == steps


@pytest.mark.parametrize("sensing", range(13))
def test_a_reading_arrives_as_old_as_the_delay(sensing: int) -> None:
    latency, step = Latency(4, 3, sensing, target(0.0)), 0
    for period in range(8):
        latency.send(target(0.0))
        for leg in latency.plan():
            step += leg.steps
            if leg.look:
                latency.see(reading(step))
        seen = latency.newest()
        assert step == 4 * (period + 1) and seen is not None
        if step - sensing >= 4 - sensing % 4:  # from when on there is a reading so old
            assert seen.gyro[0] == step - sensing


def test_a_long_delay_is_as_long_as_it_says() -> None:
    latency = Latency(4, 80, 82, target(0.0))  # 20 periods of 4 steps, and 20.5
    for sent in range(1, 31):
        latency.send(target(sent))
        steps = followed(latency)
        latency.see(reading(sent))
    assert steps == [10, 10, 10, 10]  # the 30th period follows the target of the 10th
    newest = latency.newest()
    assert newest is not None and newest.gyro[0] == 10.0


def test_before_the_first_reading_there_is_none() -> None:
    assert Latency(4, 0, 8, target(0.0)).newest() is None


def test_a_saved_line_goes_on_alike() -> None:
    latency, other = Latency(4, 5, 6, target(0.0)), Latency(4, 0, 0, target(9.0))
    for value in (1.0, 2.0, 3.0):
        latency.send(target(value))
        latency.see(reading(value))
    other.set_state(latency.get_state())
    latency.send(target(4.0))  # what the other one holds is its own
    other.send(target(5.0))
    assert followed(latency) == [2, 3, 3, 3] and followed(other) == [2, 3, 3, 3]
    assert other.newest() is not None and other.newest().gyro[0] == latency.newest().gyro[0] == 2.0


def test_the_callers_array_is_his_own() -> None:
    latency, mine = Latency(4, 0, 0, target(0.0)), target(1.0)
    latency.send(mine)
    mine[:] = 7.0
    assert followed(latency) == [1, 1, 1, 1]
