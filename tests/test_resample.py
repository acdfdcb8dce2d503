"""Episodes at another rate, with numbers that can be checked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.data.resample import resample, resampled_steps
from neon_sim.episode import NeonEpisode


def ramp(steps: int, rate_hz: float) -> NeonEpisode:
    """Step k reads k, in floats and in whole numbers."""
    count = np.arange(steps)
    return NeonEpisode(
        observations={"imu": count[:, None].astype(np.float32), "audio": count[:, None].astype(np.float32),
                      "camera": np.broadcast_to(count[:, None, None, None], (steps, 2, 2, 3)).astype(np.uint8)},
        actions=count[:, None] * np.array([[1.0, -2.0]]), rewards=count, terminated=count == steps - 1,
        infos={"count": count}, rate_hz=rate_hz,
    )  # fmt: skip


def test_twice_the_rate_puts_one_step_between_each_two() -> None:
    fast = resample(ramp(4, 25.0), 50.0)
    assert fast.rate_hz == 50.0 and len(fast) == 8
    assert fast.observations["imu"][:, 0].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.0]
    assert fast.actions[:, 1].tolist() == [0.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -6.0]
    for values in (fast.observations["audio"], fast.observations["camera"][:, 0, 0], fast.infos["count"][:, None]):
        assert values[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]  # never what was not yet sensed
    assert fast.terminated.tolist() == [False] * 7 + [True]
    assert fast.observations["camera"].dtype == np.uint8 and fast.actions.dtype == np.float64


def test_half_the_rate_takes_every_second_step() -> None:
    slow = resample(ramp(8, 100.0), 50.0)
    assert slow.observations["imu"][:, 0].tolist() == [0.0, 2.0, 4.0, 6.0] == slow.infos["count"].tolist()
    assert slow.terminated.tolist() == [False, False, False, True]


def test_the_rate_that_is_there_changes_nothing() -> None:
    episode = ramp(3, 50.0)
    assert resample(episode, 50.0) is episode
    with pytest.raises(ValueError, match="must be positive"):
        resample(episode, 0.0)


def test_rotations_go_the_shorter_way_and_stay_rotations() -> None:
    half = np.sqrt(0.5)
    turn = np.array([[1.0, 0.0, 0.0, 0.0], [-half, 0.0, 0.0, -half]])  # 90 deg about z, written with the other sign
    eef = np.zeros((2, 14))
    eef[:, 3:7] = eef[:, 10:14] = turn
    between = resample(NeonEpisode({"eef": eef}, np.zeros((2, 1)), rate_hz=25.0)).observations["eef"][1]
    # Halfway is 45 deg: cos and sin of 22.5 deg.
    assert between[3:7] == pytest.approx([0.92388, 0.0, 0.0, 0.38268], abs=1e-5)
    assert between[10:14] == pytest.approx(between[3:7])


@given(steps=st.integers(1, 60), rate=st.sampled_from([10.0, 15.0, 20.0, 30.0, 60.0, 100.0]))
def test_a_ramp_stays_a_ramp_of_the_same_length_in_time(steps: int, rate: float) -> None:
    again = resample(ramp(steps, rate), 50.0)
    assert len(again) == resampled_steps(steps, rate, 50.0) == max(1, round(steps * 50.0 / rate))
    wanted = np.minimum(np.arange(len(again)) * rate / 50.0, steps - 1)
    assert again.observations["imu"][:, 0] == pytest.approx(wanted, abs=1e-4)
    held = again.infos["count"]
    assert (held <= wanted + 1e-6).all() and (held > wanted - 1.0 - 1e-6).all()
    assert again.terminated.sum() == 1 and again.terminated[-1]
