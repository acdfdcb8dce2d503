"""No command leaves without the robot's limits, and nothing is cut in silence."""

import timeit
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neon_sim.g1 import joints
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.g1.self_distance import self_distances
from neon_sim.safety import SafetyConfig, SafetyLimits, limit

ALL = np.ones(29, dtype=bool)
ARMS = G1ActionSpace().owned_mask
STILL = np.zeros(3)
DT = 0.02
ELBOW, WAIST_YAW, KNEE = 18, 12, 3
angles = hnp.arrays(np.float64, 29, elements=st.floats(-10, 10))


def test_speeds_per_group_and_never_above_the_motors_own() -> None:
    speed = SafetyLimits().speed
    assert (speed[15:] == 2.0).all() and (speed[12:15] == 1.0).all()
    assert np.array_equal(speed[:12], joints.SPEED[:12])
    fast = SafetyLimits(SafetyConfig(arm_speed=99.0, waist_speed=2.0, leg_speed=25.0)).speed
    assert fast[15] == 37.0 and fast[20] == 22.0 and fast[12] == 2.0
    assert fast[KNEE] == 20.0 and fast[0] == 25.0


@pytest.mark.parametrize(("index", "expected"), [(ELBOW, 0.04), (WAIST_YAW, 0.02), (KNEE, 0.4)])
def test_one_step_moves_a_joint_by_speed_times_dt(index: int, expected: float) -> None:
    for sign in (1.0, -1.0):
        previous, target = np.zeros(29), np.zeros(29)
        previous[KNEE] = 1.4
        target[KNEE] = 1.4
        target[index] += 0.9 * sign
        sent, _, report = limit(target, previous, ALL, STILL, SafetyLimits(), DT)
        assert sent[index] - previous[index] == pytest.approx(expected * sign, abs=1e-12)
        assert report.speed == (joints.JOINT_NAMES[index],) and report.position == () and report.clipped


def test_a_target_out_of_range_stops_at_the_limit() -> None:
    previous = joints.HOME.copy()
    previous[ELBOW] = 2.09
    target = previous.copy()
    target[ELBOW] = 3.0
    sent, _, report = limit(target, previous, ALL, STILL, SafetyLimits(), DT)
    assert sent[ELBOW] == joints.UPPER[ELBOW] == 2.0944
    assert report.position == ("left_elbow_joint",) and report.speed == ()
    kept, _, report = limit(target, previous, ALL, STILL, SafetyLimits(SafetyConfig(position_margin=0.01)), DT)
    assert kept[ELBOW] == pytest.approx(2.0844)
    cut = {"position": ("left_elbow_joint",), "speed": (), "velocity": (), "self_distance": ()}
    assert report.as_info() == {"clipped": True, **cut}


def test_a_joint_outside_its_range_walks_back_and_never_jumps() -> None:
    previous = joints.HOME.copy()
    previous[ELBOW] = 2.5
    sent, _, report = limit(joints.HOME, previous, ALL, STILL, SafetyLimits(), DT)
    assert sent[ELBOW] == pytest.approx(2.46) and report.speed == ("left_elbow_joint",)


def test_velocity_is_cut_per_entry() -> None:
    _, sent, report = limit(joints.HOME, joints.HOME, ARMS, np.array([0.6, -0.5, -1.2]), SafetyLimits(), DT)
    assert sent.tolist() == [0.5, -0.5, -1.0]
    assert report.velocity == ("vx", "yaw_rate") and report.clipped


def test_a_command_within_limits_passes_to_the_bit() -> None:
    target = joints.HOME + 0.015
    velocity = np.array([0.1, 0.0, -0.3])
    sent, sent_velocity, report = limit(target, joints.HOME, ALL, velocity, SafetyLimits(), DT)
    assert np.array_equal(sent, target) and np.array_equal(sent_velocity, velocity)
    assert report.as_info() == {"clipped": False, "position": (), "speed": (), "velocity": (), "self_distance": ()}


def test_joints_of_the_walker_pass_untouched_and_unreported() -> None:
    target = joints.HOME.copy()
    target[:15] = 9.0
    sent, _, report = limit(target, joints.HOME, ARMS, STILL, SafetyLimits(), DT)
    assert np.array_equal(sent, target) and not report.clipped


@settings(max_examples=60, deadline=None)
@given(target=angles, start=angles, velocity=hnp.arrays(np.float64, 3, elements=st.floats(-5, 5)))
def test_whatever_is_asked_what_is_sent_is_legal(target: np.ndarray, start: np.ndarray, velocity: np.ndarray) -> None:
    limits = SafetyLimits(SafetyConfig(position_margin=0.02))
    previous = np.clip(start, limits.lower, limits.upper)
    sent, sent_velocity, report = limit(target, previous, ALL, velocity, limits, DT)
    assert (sent >= limits.lower).all() and (sent <= limits.upper).all()
    assert (np.abs(sent - previous) <= limits.speed * DT + 1e-12).all()
    assert (np.abs(sent_velocity) <= limits.velocity).all()
    assert np.array_equal(sent != target, report.position_mask | report.speed_mask)
    again, _, second = limit(sent, previous, ALL, sent_velocity, limits, DT)
    assert np.array_equal(again, sent) and not second.clipped


def test_a_batch_is_cut_as_its_rows() -> None:
    rng = np.random.default_rng(0)
    targets, previous, velocity = rng.normal(size=(4, 29)), np.tile(joints.HOME, (4, 1)), rng.normal(size=(4, 3))
    sent, sent_velocity, report = limit(targets, previous, ARMS, velocity, SafetyLimits(), DT)
    for row in range(4):
        alone = limit(targets[row], previous[row], ARMS, velocity[row], SafetyLimits(), DT)
        assert np.array_equal(sent[row], alone[0]) and np.array_equal(sent_velocity[row], alone[1])
        assert np.array_equal(report.speed_mask[row], alone[2].speed_mask)
    assert set(report.speed) <= set(joints.JOINT_NAMES[15:])


def test_an_arm_that_is_sent_into_the_trunk_stops_beside_it_and_is_named() -> None:
    """The left hand is sent through the belly for two seconds, in the first row of two; the other one rests."""
    goal = np.stack([joints.HOME, joints.HOME])
    goal[0, 15:22] = -0.3, -0.2, 0.9, 0.6, 0.0, 0.0, 0.0
    for margin, named in ((0.01, set(joints.JOINT_NAMES[15:22])), (0.0, set())):
        sent, limits, held = (
            np.stack([joints.HOME, joints.HOME]),
            SafetyLimits(SafetyConfig(self_distance=margin)),
            set(),
        )
        for _ in range(100):
            sent, _, report = limit(goal, sent, ARMS, np.zeros((2, 3)), limits, DT)
            held |= set(report.self_distance)
            assert not report.distance_mask[1].any()
        nearest = self_distances(sent).min(axis=1)
        assert held <= named and bool(held) == bool(named) and report.clipped == bool(named)
        assert report.as_info()["self_distance"] == report.self_distance
        assert nearest[0] >= 0.01 - 1e-6 if margin else nearest[0] < 0.0
        assert np.array_equal(sent[1], joints.HOME)


def test_inputs_are_not_written_to() -> None:
    target, previous, velocity = np.full(29, 5.0), joints.HOME.copy(), np.full(3, 5.0)
    sent, sent_velocity, _ = limit(target, previous, ALL, velocity, SafetyLimits(), DT)
    sent[:], sent_velocity[:] = 7.0, 7.0
    assert (target == 5.0).all() and (velocity == 5.0).all() and np.array_equal(previous, joints.HOME)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused_by_name(bad: float) -> None:
    broken = joints.HOME.copy()
    broken[ELBOW] = bad
    with pytest.raises(ValueError, match=r"target of left_elbow_joint\. Nothing was sent"):
        limit(broken, joints.HOME, ARMS, STILL, SafetyLimits(), DT)
    with pytest.raises(ValueError, match="previous target of left_elbow_joint"):
        limit(joints.HOME, broken, ARMS, STILL, SafetyLimits(), DT)
    with pytest.raises(ValueError, match="velocity of vy"):
        limit(joints.HOME, joints.HOME, ARMS, np.array([0.0, bad, 0.0]), SafetyLimits(), DT)


@pytest.mark.parametrize(
    "wrong",
    [
        {"arm_speed": 0.0},
        {"leg_speed": float("inf")},
        {"max_velocity": (0.5, -0.5, 1.0)},
        {"position_margin": 0.3},
        {"position_margin": -0.1},
        {"self_distance": 0.05},
        {"self_distance": -0.01},
    ],
)
def test_limits_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SafetyConfig(**wrong)


def test_the_home_pose_is_legal_with_the_largest_margin() -> None:
    limits = SafetyLimits(SafetyConfig(position_margin=0.26))
    assert not limit(joints.HOME, joints.HOME, ALL, STILL, limits, DT)[2].clipped


def test_limiting_one_command_fits_the_control_loop() -> None:
    limits, target = SafetyLimits(), joints.HOME + 0.5
    best = min(timeit.repeat(lambda: limit(target, joints.HOME, ARMS, STILL, limits, DT), number=1000, repeat=5)) / 1000
    assert best < 80e-6  # 11 us on a free core
