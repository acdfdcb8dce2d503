"""The stepper: what each entry of its observation holds, its mirror, clock and filters, and that rows are alone."""

from dataclasses import fields
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neon_sim.g1 import joints
from neon_sim.g1.geometry import euler_to_quat, gravity_in_body
from neon_sim.g1.kinematics import limb_poses
from neon_sim.locomotion import gait
from neon_sim.locomotion.alike import numbers, rows
from neon_sim.locomotion.odometry import leg_odometry
from neon_sim.locomotion.posture import HEIGHT_RANGE, crouch
from neon_sim.locomotion.stepper import (
    ACTION_SIZE,
    LAYOUT,
    OBSERVATION_SIZE,
    SEEN_JOINTS,
    Stepper,
    mirror_action,
    mirror_observation,
)

STEP = 0.02 / gait.PERIOD_S  # of the cycle, per control step
PACE = 15  # the action's last entry
# rad per unit of action: hip pitch, roll, yaw, knee, ankle pitch, roll; waist yaw, roll, pitch.
LEG = [0.4, 0.25, 0.25, 0.5, 0.4, 0.25]
SCALE = np.array([*LEG, *LEG, 0.35, 0.25, 0.35])


class Senses(NamedTuple):
    """What `Stepper.observe` takes, B rows each."""

    joint_pos: np.ndarray
    joint_vel: np.ndarray
    gyro: np.ndarray
    gravity_b: np.ndarray
    command: np.ndarray

    def row(self, index: int) -> "Senses":
        return Senses(*(value[index : index + 1] for value in self))


def some_senses(seed: int, count: int = 1, spread: float = 1.0) -> Senses:
    """Robots about a crouch, leaning, turning, moving and told to go somewhere."""
    rng = np.random.default_rng(seed)
    crouched = joints.HOME.copy()
    crouched[:15] = crouch(0.72)
    return Senses(
        joint_pos=crouched + rng.normal(0.0, 0.1 * spread, (count, 29)),
        joint_vel=rng.normal(0.0, spread, (count, 29)),
        gyro=rng.normal(0.0, 0.4 * spread, (count, 3)),
        gravity_b=gravity_in_body(euler_to_quat(rng.normal(0.0, 0.1 * spread, (count, 3)))),
        command=np.append(rng.uniform(-0.5, 0.5, (count, 3)), rng.uniform(0.66, 0.78, (count, 1)), axis=1),
    )


def still(command=(0.0, 0.0, 0.0), lean: float = 0.0, speed: float = 0.0, height: float = joints.HOME_HEIGHT) -> Senses:
    """One robot in the home pose; `lean` is the sine of its pitch, `speed` the pelvis' in m/s, forward or back."""
    joint_vel, gyro = np.zeros((1, 29)), np.zeros((1, 3))
    rate = speed / 0.73164  # the feet stay flat and it swings about the ankles, 0.73164 m below the pelvis
    joint_vel[0, [4, 10]], gyro[0, 1] = -rate, rate
    gravity_b = np.array([[lean, 0.0, -np.sqrt(1.0 - lean**2)]])
    return Senses(joints.HOME[None].copy(), joint_vel, gyro, gravity_b, np.array([[*command, height]]))


def stepper(count: int = 1, gains: np.ndarray = gait.START) -> Stepper:
    return Stepper(count, gains)


def some_actions(seed: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 1.0, (count, ACTION_SIZE))


def advance(robot: Stepper, senses: Senses, action: np.ndarray | None = None) -> np.ndarray:
    """One control step; the targets (B, 15)."""
    robot.observe(*senses)
    return robot.targets(np.zeros((robot.count, ACTION_SIZE)) if action is None else action)


def odometry_of(senses: Senses) -> SimpleNamespace:
    """What leg odometry reads, as arrays (B, numbers)."""
    odometry = leg_odometry(limb_poses(senses.joint_pos), senses.joint_vel, senses.gyro, senses.gravity_b)
    count, read = len(senses.gyro), odometry._asdict()
    read.pop("axes")
    return SimpleNamespace(**{name: np.array(value).reshape(-1, count).T for name, value in read.items()})


def base_targets(gains, phase, amplitude, command, posture, velocity, gyro, down) -> np.ndarray:
    """Posture (B, 15) and what the base gait adds to it."""
    arguments = (numbers(part.T) for part in (phase, amplitude, command, velocity, gyro, down))
    targets = posture.copy()
    targets[:, :12] += rows(gait.leg_offsets(gains.tolist(), *arguments), len(phase))
    return targets


# --- what the policy reads ------------------------------------------------------------------------------------------


def test_the_layout_covers_every_entry_once():
    entries = np.concatenate([np.arange(OBSERVATION_SIZE)[part] for part in LAYOUT.values()])
    np.testing.assert_array_equal(entries, np.arange(OBSERVATION_SIZE))
    assert stepper().observe(*some_senses(0)).shape == (1, OBSERVATION_SIZE)
    # 23 joints: legs, waist, and of each arm shoulder and elbow.
    names = [joints.JOINT_NAMES[index] for index in SEEN_JOINTS]
    assert len(names) == 23 and not any("wrist" in name for name in names)


def test_each_slice_holds_what_its_name_says():
    """Two robots, two steps, from the raw senses; odometry and base gait have their own tests."""
    first, second = some_senses(1, 2), some_senses(2, 2)
    robots, action = stepper(2), some_actions(3, 2).clip(-2.9, 2.9)
    robots.memory.phase[:], robots.memory.amplitude[:], robots.memory.height[:] = (0.1, 0.3), (0.5, 0.9), 0.72
    robots.observe(*first)
    robots.targets(action)
    seen = robots.observe(*second, np.array([1.0, 0.0]))

    before, now = odometry_of(first), odometry_of(second)
    filtered = 0.4 * before.velocity + 0.6 * now.velocity
    turning = [-(senses.gyro * senses.gravity_b).sum(axis=1, keepdims=True) for senses in (first, second)]
    slow = [np.append(v[:, :2], w, axis=1) for v, w in zip((before.velocity, filtered), turning, strict=True)]
    pace = np.exp(np.clip(0.3 * action[:, PACE], -0.5, 0.75)) * STEP
    phase = np.array([0.1, 0.3]) + pace
    amplitude = np.array([0.5, 0.9]) + 0.2 * (1.0 - np.array([0.5, 0.9]))
    start = np.full(2, 0.72)
    height = start + np.clip(first.command[:, 3] - start, -0.003, 0.003)
    height += np.clip(second.command[:, 3] - height, -0.003, 0.003)
    command = np.append(second.command[:, :3], height[:, None], axis=1)
    posture = crouch(height)
    base = base_targets(gait.START, phase, amplitude, command, posture, filtered[:, :2], second.gyro, second.gravity_b)
    offset = (second.joint_pos - joints.HOME)[:, SEEN_JOINTS]
    offset[:, :15] = second.joint_pos[:, :15] - posture
    expected = {
        "velocity": filtered[:, :2],
        "velocity_calm": before.velocity[:, :2] + 0.2 * (now.velocity - before.velocity)[:, :2],
        "velocity_slow": slow[0] + 0.05 * (slow[1] - slow[0]),
        "gyro": second.gyro,
        "gravity": second.gravity_b,
        "command": command,
        "joint_pos": offset,
        "joint_vel": second.joint_vel[:, SEEN_JOINTS],
        "leg_vel_before": first.joint_vel[:, :12],
        "gyro_before": first.gyro,
        "gravity_before": first.gravity_b,
        "action": action,
        "clock": np.stack([np.cos(2 * np.pi * phase), np.sin(2 * np.pi * phase), np.ones(2)], 1) * amplitude[:, None],
        "base": base[:, :12] - posture[:, :12],
        "foot_pos": now.foot_pos.reshape(2, 6),
        "foot_gap": now.gap,
        "foot_vel": now.foot_vel.reshape(2, 6),
        "com": now.com,
        "com_vel": 0.6 * (now.com - before.com) / 0.02,
        "height": now.height,
        "owns_waist": np.array([[1.0], [0.0]]),
    }
    assert list(expected) == list(LAYOUT)
    for name, value in expected.items():
        np.testing.assert_allclose(seen[:, LAYOUT[name]], value, atol=1e-12, err_msg=name)
        assert name in ("foot_gap", "owns_waist") or np.abs(value).min() > 0.0  # none is right by being empty


def test_what_was_before_is_the_last_step_and_no_other():
    robot, walk = stepper(), [some_senses(seed) for seed in (21, 22, 23, 24)]
    for senses in walk[:3]:
        advance(robot, senses)
    seen = robot.observe(*walk[3])[0]
    np.testing.assert_array_equal(seen[LAYOUT["leg_vel_before"]], walk[2].joint_vel[0, :12])
    np.testing.assert_array_equal(seen[LAYOUT["gyro_before"]], walk[2].gyro[0])
    np.testing.assert_array_equal(seen[LAYOUT["gravity_before"]], walk[2].gravity_b[0])
    com = [odometry_of(senses).com[0] for senses in walk]
    speed = [(after - before) / 0.02 for before, after in zip(com[:-1], com[1:], strict=True)]
    filtered = 0.6 * (speed[2] + 0.4 * speed[1] + 0.16 * speed[0])
    np.testing.assert_allclose(seen[LAYOUT["com_vel"]], filtered, atol=1e-12)


def test_poses_that_somebody_has_are_as_good_as_its_own():
    senses = some_senses(4, 3)
    expected = stepper(3).observe(*senses)
    np.testing.assert_array_equal(stepper(3).observe(*senses, 1.0, limb_poses(senses.joint_pos)), expected)
    np.testing.assert_array_equal(stepper(3).observe(*senses, np.ones(3)), expected)


def test_what_it_is_given_stays_as_it_was():
    senses, action = some_senses(5, 3), some_actions(5, 3) * 5.0
    kept, kept_action = [value.copy() for value in senses], action.copy()
    robots = stepper(3)
    for _ in range(3):
        robots.observe(*senses)
        robots.targets(action)
    for value, before in zip(senses, kept, strict=True):
        np.testing.assert_array_equal(value, before)
    np.testing.assert_array_equal(action, kept_action)


# --- the mirror -----------------------------------------------------------------------------------------------------


def test_a_mirror_image_of_a_mirror_image_is_the_thing_itself():
    rng = np.random.default_rng(6)
    observation, action = rng.normal(size=(4, OBSERVATION_SIZE)), rng.normal(size=(4, ACTION_SIZE))
    np.testing.assert_array_equal(mirror_observation(mirror_observation(observation)), observation)
    np.testing.assert_array_equal(mirror_action(mirror_action(action)), action)
    np.testing.assert_array_equal(mirror_observation(observation[2]), mirror_observation(observation)[2])
    assert not np.any(np.all(mirror_observation(observation) == observation, axis=1))


def test_joint_entries_are_mirrored_as_joints_are():
    values = np.random.default_rng(7).normal(size=29)
    legs = np.concatenate([values[:12], np.zeros(17)])
    observation = np.zeros(OBSERVATION_SIZE)
    for name in ("joint_pos", "joint_vel"):
        observation[LAYOUT[name]] = values[SEEN_JOINTS]
    for name in ("leg_vel_before", "base"):
        observation[LAYOUT[name]] = values[:12]
    observation[LAYOUT["action"]] = [*values[:15], 0.7]
    mirrored = mirror_observation(observation)
    for name in ("joint_pos", "joint_vel"):
        np.testing.assert_array_equal(mirrored[LAYOUT[name]], joints.mirror(values)[SEEN_JOINTS])
    for name in ("leg_vel_before", "base"):
        np.testing.assert_array_equal(mirrored[LAYOUT[name]], joints.mirror(legs)[:12])
    np.testing.assert_array_equal(
        mirrored[LAYOUT["action"]], [*joints.mirror(values)[:15], 0.7]
    )  # the pace has no side
    np.testing.assert_array_equal(mirror_action(np.array([*values[:15], 0.7])), mirrored[LAYOUT["action"]])


def test_the_rest_is_mirrored_as_vectors_turns_and_feet_are():
    observation = np.arange(1.0, OBSERVATION_SIZE + 1.0)
    signs = {
        "velocity": [1, -1],
        "velocity_calm": [1, -1],
        "velocity_slow": [1, -1, -1],
        "gyro": [-1, 1, -1],
        "gravity": [1, -1, 1],
        "command": [1, -1, -1, 1],
        "gyro_before": [-1, 1, -1],
        "gravity_before": [1, -1, 1],
        "clock": [-1, -1, 1],  # half a cycle on
        "com": [1, -1, 1],
        "com_vel": [1, -1, 1],
        "height": [1],
        "owns_waist": [1],
    }
    mirrored = mirror_observation(observation)
    for name, sign in signs.items():
        np.testing.assert_array_equal(mirrored[LAYOUT[name]], observation[LAYOUT[name]] * sign, err_msg=name)
    for name in ("foot_pos", "foot_vel"):
        left, right = observation[LAYOUT[name]].reshape(2, 3)
        np.testing.assert_array_equal(mirrored[LAYOUT[name]], [*(right * [1, -1, 1]), *(left * [1, -1, 1])])
    np.testing.assert_array_equal(mirrored[LAYOUT["foot_gap"]], observation[LAYOUT["foot_gap"]][::-1])


def image(senses: Senses) -> Senses:
    """What a mirror shows of them."""
    return Senses(
        joints.mirror(senses.joint_pos),
        joints.mirror(senses.joint_vel),
        senses.gyro * [-1.0, 1.0, -1.0],
        senses.gravity_b * [1.0, -1.0, 1.0],
        senses.command * [1.0, -1.0, -1.0, 1.0],
    )


# The legs are each other's mirror image to the digit. The trunk's centre of mass is a fraction of a millimetre off.
SIDES_DIFFER = np.full(OBSERVATION_SIZE, 1e-12)
SIDES_DIFFER[LAYOUT["com"]], SIDES_DIFFER[LAYOUT["com_vel"]] = 2e-4, 4e-3


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_half_a_cycle_on_the_mirror_image_sees_the_same_and_does_the_mirror_image(seed):
    robot, other = stepper(), stepper()
    phase = np.random.default_rng(seed).uniform(0.01, 0.09)
    robot.memory.phase[:], other.memory.phase[:] = phase, phase + 0.5
    halves = set()
    for step in range(30):
        senses = some_senses(seed + step)
        seen, seen_other = robot.observe(*senses), other.observe(*image(senses))
        assert robot.mirrored[0] != other.mirrored[0]
        halves.add(bool(robot.mirrored[0]))
        np.testing.assert_allclose((seen_other - seen)[0] / SIDES_DIFFER, 0.0, atol=1.0)
        action = some_actions(seed + step)
        targets, targets_other = robot.targets(action), other.targets(action)
        whole = np.append(targets_other, np.zeros((1, 14)), axis=1)
        np.testing.assert_allclose(joints.mirror(whole)[:, :15], targets, atol=1e-12)
    assert halves == {False, True}


def test_only_the_second_half_of_the_cycle_is_mirrored():
    phases = np.array([0.0, 0.3, 0.499, 0.5, 0.75, 0.999])
    robots, plain, senses = stepper(6), stepper(6), some_senses(8, 6)
    for each in (robots, plain):
        each.memory.phase[:], each.memory.amplitude[:] = phases, 1.0
    seen = robots.observe(*senses)
    np.testing.assert_array_equal(robots.mirrored, phases >= 0.5)
    np.testing.assert_allclose(seen[:3, LAYOUT["gyro"]], senses.gyro[:3], atol=1e-15)
    np.testing.assert_allclose(seen[3:, LAYOUT["gyro"]], senses.gyro[3:] * [-1, 1, -1], atol=1e-15)
    assert np.all(seen[1:, LAYOUT["clock"]][:, 1] > -1e-9)  # so the policy knows one half only
    action = some_actions(8, 6)
    offset = robots.targets(action) - advance(plain, senses)
    np.testing.assert_allclose(offset[:3], action[:3, :15] * SCALE, atol=1e-12)
    np.testing.assert_allclose(offset[3:], mirror_action(action)[3:, :15] * SCALE, atol=1e-12)
    # The memory keeps it as it was done, so the next observation, mirrored or not, shows it rightly.
    np.testing.assert_array_equal(robots.memory.action[3:], mirror_action(action)[3:])


# --- actions --------------------------------------------------------------------------------------------------------


def test_the_action_adds_to_the_base_gait_in_its_own_units():
    senses = some_senses(9)
    plain = advance(stepper(), senses)
    posture = crouch(HEIGHT_RANGE[1] - 0.003)
    odometry = odometry_of(senses)
    followed = senses.command.copy()
    followed[0, 3] = HEIGHT_RANGE[1] - 0.003
    arguments = (np.array([gait.REST_PHASE]), np.zeros(1), followed, posture[None], odometry.velocity[:, :2])
    np.testing.assert_allclose(plain, base_targets(gait.START, *arguments, senses.gyro, senses.gravity_b), atol=1e-12)
    for index in range(15):
        action = np.zeros((1, ACTION_SIZE))
        action[0, index] = 1.0
        moved = advance(stepper(), senses, action) - plain
        np.testing.assert_allclose(moved[0], SCALE[index] * (np.arange(15) == index), atol=1e-12)


@pytest.mark.parametrize("phase", [0.2, 0.7])
def test_actions_are_clipped_at_three(phase):
    senses, far = some_senses(10), np.linspace(-9.0, 9.0, ACTION_SIZE)[None]
    robot, twin = stepper(), stepper()
    robot.memory.phase[:] = twin.memory.phase[:] = phase
    np.testing.assert_array_equal(advance(robot, senses, far), advance(twin, senses, far.clip(-3.0, 3.0)))
    assert np.abs(robot.memory.action).max() == 3.0
    np.testing.assert_array_equal(
        robot.observe(*senses)[:, LAYOUT["action"]], far.clip(-3.0, 3.0)
    )  # in the half in which it was given


# --- the clock ------------------------------------------------------------------------------------------------------


def moved_clock(senses: Senses, phase: float = gait.REST_PHASE, pace: float = 0.0) -> float:
    """By how much of the cycle one step moves the clock of a new robot."""
    robot, action = stepper(), np.zeros((1, ACTION_SIZE))
    robot.memory.phase[:], action[0, PACE] = phase, pace
    advance(robot, senses, action)
    return float(robot.memory.phase[0] - phase)


@pytest.mark.parametrize(
    ("pace", "factor"),
    [
        (0.0, 1.0),
        (1.0, np.exp(0.3)),
        (-1.0, np.exp(-0.3)),
        (3.0, np.exp(0.75)),
        (-3.0, np.exp(-0.5)),
        (99.0, np.exp(0.75)),
    ],
)
def test_the_policy_sets_the_pace_within_limits(pace, factor):
    # 0.02 s of 0.75 s; at most 2.12 times and at least 0.61 times as much.
    assert moved_clock(still((0.3, 0.0, 0.0)), pace=pace) == pytest.approx(0.02 / 0.75 * factor)
    assert moved_clock(still((0.3, 0.0, 0.0)), REST_SECOND, pace) == pytest.approx(0.02 / 0.75 * factor)


REST_SECOND = gait.REST_PHASE + 0.5


@pytest.mark.parametrize("phase", [0.0, gait.REST_PHASE, 0.09, 0.5, REST_SECOND, 0.59])
def test_the_clock_rests_in_double_support_when_nothing_moves_it(phase):
    assert moved_clock(still(), phase) == 0.0
    assert moved_clock(still(), phase, pace=3.0) == 0.0


@pytest.mark.parametrize("phase", [0.11, 0.3, 0.49, 0.61, 0.8, 0.97])
def test_a_foot_in_the_air_is_set_down_first(phase):
    assert moved_clock(still(), phase) == pytest.approx(STEP)


@pytest.mark.parametrize(
    ("name", "little", "enough"),
    [
        ("forward", still((0.049, 0.0, 0.0)), still((0.051, 0.0, 0.0))),
        ("left", still((0.0, -0.049, 0.0)), still((0.0, -0.051, 0.0))),
        ("turn", still((0.0, 0.0, 0.049)), still((0.0, 0.0, 0.051))),
        ("speed", still(speed=0.21), still(speed=0.23)),
        ("speed back", still(speed=-0.21), still(speed=-0.23)),
        ("lean", still(lean=0.119), still(lean=0.121)),
        ("lean back", still(lean=-0.119), still(lean=-0.121)),
    ],
)
def test_what_moves_the_clock(name, little, enough):
    assert moved_clock(little) == 0.0, name
    assert moved_clock(enough) == pytest.approx(STEP), name


def test_the_height_command_does_not_move_the_clock():
    assert moved_clock(still(height=0.66)) == 0.0


def test_a_blink_of_speed_is_forgiven_and_lasting_speed_is_not():
    robot = stepper()
    advance(robot, still())
    # 0.5 m/s appears at once: the calm average over 0.1 s has 0.1, 0.18, 0.244 of it after 1, 2, 3 steps.
    seen = []
    for _ in range(3):
        before = robot.memory.phase[0]
        advance(robot, still(speed=0.5))
        seen.append(bool(robot.memory.phase[0] > before))
    assert seen == [False, False, True]


def test_it_stops_in_the_next_double_support_and_goes_on_at_once():
    robot, phases = stepper(), []
    robot.memory.phase[:], robot.memory.amplitude[:] = 0.3, 1.0
    for _ in range(12):
        advance(robot, still())
        phases.append(float(robot.memory.phase[0]))
        full = robot.memory.amplitude[0] == 1.0
        assert full == (len(phases) <= 8)  # the last step is a whole one
    # 8 steps of 0.02667 are the first to pass 0.5.
    np.testing.assert_allclose(phases[:8], 0.3 + STEP * np.arange(1, 9), atol=1e-12)
    np.testing.assert_array_equal(phases[8:], phases[7])
    assert 0.5 <= phases[7] < 0.6
    advance(robot, still((0.0, 0.2, 0.0)))
    assert robot.memory.phase[0] - phases[7] == pytest.approx(STEP)


def test_the_clock_goes_round():
    assert moved_clock(still(), 0.99) == pytest.approx(STEP - 1.0)


def test_steps_grow_while_the_clock_runs_and_fade_while_it_rests():
    robot = stepper()
    for step in range(1, 6):
        advance(robot, still((0.3, 0.0, 0.0)))
        assert robot.memory.amplitude[0] == pytest.approx(1.0 - 0.8**step)
    robot.memory.phase[:] = gait.REST_PHASE
    top = robot.memory.amplitude[0]
    for step in range(1, 6):
        advance(robot, still())
        assert robot.memory.amplitude[0] == pytest.approx(top * 0.8**step)


# --- filters and height ---------------------------------------------------------------------------------------------


def test_a_new_robot_takes_the_present_for_its_past():
    senses = some_senses(11)
    robot = stepper()
    seen = robot.observe(*senses)[0]
    odometry = odometry_of(senses)
    np.testing.assert_allclose(seen[LAYOUT["velocity"]], odometry.velocity[0, :2], atol=1e-12)
    np.testing.assert_allclose(seen[LAYOUT["velocity_calm"]], odometry.velocity[0, :2], atol=1e-12)
    turning = -senses.gyro[0] @ senses.gravity_b[0]
    np.testing.assert_allclose(seen[LAYOUT["velocity_slow"]], [*odometry.velocity[0, :2], turning], atol=1e-12)
    np.testing.assert_array_equal(seen[LAYOUT["leg_vel_before"]], senses.joint_vel[0, :12])
    np.testing.assert_array_equal(seen[LAYOUT["gyro_before"]], senses.gyro[0])
    np.testing.assert_array_equal(seen[LAYOUT["gravity_before"]], senses.gravity_b[0])
    for name in ("com_vel", "action", "clock"):
        np.testing.assert_array_equal(seen[LAYOUT[name]], 0.0, err_msg=name)
    assert np.abs(odometry.velocity[0, :2]).min() > 0.01


def test_speeds_are_followed_fast_calmly_and_slowly():
    robot = stepper()
    advance(robot, still())
    fast, calm, slow = [], [], []
    for _ in range(20):
        seen = robot.observe(*still(speed=0.5))[0] / 0.5  # forward looks the same in a mirror
        robot.targets(np.zeros((1, ACTION_SIZE)))
        fast.append(seen[LAYOUT["velocity"]][0])
        calm.append(seen[LAYOUT["velocity_calm"]][0])
        slow.append(seen[LAYOUT["velocity_slow"]][0])
    steps = np.arange(1, 21)
    np.testing.assert_allclose(fast, 1.0 - 0.4**steps, atol=1e-3)
    np.testing.assert_allclose(calm, 1.0 - 0.8**steps, atol=1e-3)
    followed, expected = 0.0, []
    for step in steps:  # the slow one follows the fast one
        followed += 0.05 * (1.0 - 0.4**step - followed)
        expected.append(followed)
    np.testing.assert_allclose(slow, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("asked", "after_ten", "in_the_end"),
    [(0.70, 0.755, 0.70), (0.50, 0.755, 0.66), (0.95, 0.785, 0.785), (0.78, 0.78, 0.78)],
)
def test_the_height_is_approached_at_15_cm_a_second_within_its_range(asked, after_ten, in_the_end):
    robot, heights = stepper(), []
    for _ in range(60):
        seen = robot.observe(*still(height=asked))[0]
        heights.append(seen[LAYOUT["command"]][3])
        targets = robot.targets(np.zeros((1, ACTION_SIZE)))
    assert heights[9] == pytest.approx(after_ten) and heights[-1] == pytest.approx(in_the_end)
    assert np.abs(np.diff([HEIGHT_RANGE[1], *heights])).max() <= 0.003 + 1e-12
    assert targets[0, 3] == pytest.approx(crouch(in_the_end)[3])  # the knee


def test_the_height_rises_as_slowly():
    robot = stepper()
    robot.memory.height[:] = 0.70
    advance(robot, still(height=0.72))
    assert robot.memory.height[0] == pytest.approx(0.703)


# --- many robots, and going back ------------------------------------------------------------------------------------


def lived(count: int, steps: int = 7, seed: int = 100) -> Stepper:
    """Robots in the middle of their walks."""
    robots = stepper(count)
    for step in range(steps):
        advance(robots, some_senses(seed + step, count), some_actions(seed + step, count))
    return robots


def test_rows_are_as_good_as_single_robots():
    count = 5
    robots, singles = stepper(count), [stepper() for _ in range(count)]
    for step in range(40):
        senses, action = some_senses(step, count, spread=0.5 + step % 3), some_actions(step, count)
        waist = np.arange(count) % 2.0
        seen, targets = robots.observe(*senses, waist), robots.targets(action)
        for row, single in enumerate(singles):
            alone = single.observe(*senses.row(row), float(waist[row]))
            np.testing.assert_allclose(seen[row], alone[0], atol=1e-12)
            np.testing.assert_allclose(targets[row], single.targets(action[row : row + 1])[0], atol=1e-12)
    assert len(set(robots.memory.phase.tolist())) == count  # each at its own pace


def test_every_robot_may_have_gains_of_its_own():
    gains = gait.START + gait.SPREAD * np.random.default_rng(12).normal(size=(3, 18))
    senses = some_senses(12, 3)
    together = advance(stepper(3, gains), senses)
    for row in range(3):
        np.testing.assert_allclose(advance(stepper(1, gains[row]), senses.row(row))[0], together[row], atol=1e-12)


@pytest.mark.parametrize("rows", [np.array([1, 3]), np.array([False, True, False, True]), slice(1, None, 2)])
def test_resetting_some_leaves_the_others_to_the_bit(rows):
    robots, twin = lived(4), lived(4)
    robots.reset(rows)
    new = stepper(2)
    for step in range(5):
        senses, action = some_senses(50 + step, 4), some_actions(50 + step, 4)
        seen, kept = robots.observe(*senses), twin.observe(*senses)
        np.testing.assert_array_equal(seen[[0, 2]], kept[[0, 2]])
        halves = Senses(*(value[[1, 3]] for value in senses))
        np.testing.assert_allclose(seen[[1, 3]], new.observe(*halves), atol=1e-12)
        if step == 0:
            assert np.abs(seen[[1, 3]] - kept[[1, 3]]).max() > 0.1
        targets, others = robots.targets(action), twin.targets(action)
        np.testing.assert_array_equal(targets[[0, 2]], others[[0, 2]])
        np.testing.assert_allclose(targets[[1, 3]], new.targets(action[[1, 3]]), atol=1e-12)


def test_resetting_all_is_a_new_stepper():
    robots = lived(3)
    robots.reset()
    senses, action = some_senses(60, 3), some_actions(60, 3)
    new = stepper(3)
    np.testing.assert_array_equal(robots.observe(*senses), new.observe(*senses))
    np.testing.assert_array_equal(robots.targets(action), new.targets(action))


def test_saved_state_continues_to_the_bit():
    robots, other = lived(3), stepper(3)
    saved = robots.get_state()
    expected = [run_on(robots, step) for step in range(30)]
    other.set_state(saved)
    for step, wanted in enumerate(expected):
        np.testing.assert_array_equal(run_on(other, step), wanted)


def test_what_was_saved_stays_as_it_was():
    robots = lived(2)
    saved = robots.get_state()
    kept = {name: value.copy() for name, value in saved.items()}
    robots.reset(slice(1))  # writes into its arrays
    run_on(robots, 0)
    robots.set_state(saved)
    robots.reset(slice(1))
    run_on(robots, 0)
    for name, value in kept.items():
        np.testing.assert_array_equal(saved[name], value, err_msg=name)


def run_on(robots: Stepper, step: int) -> np.ndarray:
    """Observation and targets side by side, of one further step."""
    senses = some_senses(200 + step, robots.count)
    return np.append(robots.observe(*senses), robots.targets(some_actions(200 + step, robots.count)), axis=1)


def test_a_robot_that_has_not_begun_can_be_saved_too():
    new, other = stepper(2), lived(2)
    other.set_state(new.get_state())
    np.testing.assert_array_equal(run_on(other, 0), run_on(new, 0))


def test_every_part_of_the_state_matters():
    saved = lived(1).get_state()
    assert set(saved) == {field.name for field in fields(stepper().memory)}
    expected = continued(saved)
    for name, value in saved.items():
        changed = ~value if value.dtype == bool else value + (-0.03 if name == "height" else 0.01)
        assert not np.array_equal(continued({**saved, name: changed}), expected), name


def continued(state: dict) -> np.ndarray:
    """What follows a state: two steps."""
    robot = stepper()
    robot.set_state(state)
    return np.append(run_on(robot, 0), run_on(robot, 1))
