"""The walking benchmark measures what it says, on robots that are moved by hand and on readings made by hand."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import imageio.v2 as imageio
import mujoco
import numpy as np
import pytest

from neon_sim.g1 import joints
from neon_sim.g1.geometry import euler_to_quat
from neon_sim.g1.kinematics import GRAVITY, TOTAL_MASS, stance
from neon_sim.locomotion.balance import Balance
from neon_sim.shipped import WALKER, asset_path
from neon_sim.sim.model import build_model, build_spec
from neon_sim.sim.randomize import NOMINAL, UNSEEN
from neon_sim.sim.sim_robot import SimRobot

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package

import walking
import walking_episode as episode
import walking_handicaps as handicaps
import walking_measures as measures
import walking_pictures as pictures
import walking_sections as sections
import walking_tables as tables
import walking_worlds as worlds_of
from walking_episode import Condition, Course, Job, Track
from walking_probe import GAP_SEEN, Probe, Readings
from walking_report import write_walking

WEIGHT = TOTAL_MASS * GRAVITY  # 327.08 N
MODEL = build_model(build_spec())
STANDING = Job(plan=((0.0, (0.0, 0.0, 0.0)),), seconds=1.0, episode=0, walker="standing")


class Dragged(SimRobot):
    """Moved by hand: turning at a steady rate, gliding ahead and to the left with a sway that a stride averages out."""

    def __init__(self, ahead: float, left: float, turn: float, fall_s: float = np.inf) -> None:
        super().__init__(build_spec(), {}, physics_dt=0.005, settle_s=0.0)
        self.velocity, self.fall_s = (ahead, left, turn), fall_s

    def advance(self) -> None:
        super().advance()
        ahead, left, turn = self.velocity
        now = self.data.time - episode.SETTLE_S
        left += 0.2 * np.sin(2 * np.pi * now / 0.76)  # the stride's window is 38 steps
        yaw = turn * now
        vel_w = (np.cos(yaw) * ahead - np.sin(yaw) * left, np.sin(yaw) * ahead + np.cos(yaw) * left, 0.0)
        # Leaning 0.1 rad ahead, as people do: the heading and the yaw rate must not mind.
        quat = euler_to_quat(np.array([0.0, 0.1, yaw]))
        self.data.qpos[:7] = (0.0, 0.0, 0.75 if now < self.fall_s else 0.3, *quat)
        self.data.qvel[:3] = vel_w
        self.data.qvel[3:6] = turn * np.array([-np.sin(0.1), 0.0, np.cos(0.1)])


def drag(robot: SimRobot, command: tuple[float, float, float], seconds: float = 8.0) -> Track:
    course = Course(robot, (), None, np.zeros(2))
    return episode.record(course, replace(STANDING, plan=((0.0, command),), seconds=seconds, arms=False))


def test_a_robot_that_is_dragged_has_the_error_it_was_dragged_with() -> None:
    track = drag(Dragged(ahead=0.47, left=0.04, turn=0.55), command=(0.5, 0.0, 0.5))
    found = measures.tracking(track)
    assert found.survived and found.seconds == pytest.approx(8.0)
    np.testing.assert_allclose(found.bias, [-0.03, 0.04, 0.05], atol=1e-3)
    np.testing.assert_allclose(found.error, [0.03, 0.04, 0.05], atol=1e-3)
    assert found.speed_error == pytest.approx(0.05, abs=1e-3)  # a 3-4-5 triangle


def test_the_first_three_seconds_do_not_count() -> None:
    track = drag(Dragged(0.5, 0.0, 0.0), (0.5, 0.0, 0.0), seconds=6.0)
    track.qvel[:150, 0] = 5.0
    assert measures.tracking(track).speed_error == pytest.approx(0.0, abs=1e-3)
    track.qvel[150, 0] += 38.0  # and what comes later does: 1 m/s in each of the 38 windows that hold it
    assert measures.tracking(track).error[0] == pytest.approx(1 / 113, abs=1e-3)  # the first of 150 - 37 windows


def test_a_fall_ends_the_episode() -> None:
    track = drag(Dragged(0.5, 0.0, 0.0, fall_s=2.0), (0.5, 0.0, 0.0))
    found = measures.tracking(track)
    assert not found.survived and found.seconds == pytest.approx(2.0, abs=0.021)
    assert np.isnan(found.speed_error)  # too short to say
    cell = tables.summarize([found, measures.tracking(drag(Dragged(0.4, 0.0, 0.0), (0.5, 0.0, 0.0)))])
    assert (cell["survived"], cell["episodes"]) == (1, 2)
    assert cell["error_speed"] == pytest.approx(0.1, abs=1e-3) and cell["error_speed_95"] is None
    assert tables.summarize([found])["error_vx"] is None


@pytest.mark.parametrize(
    ("height", "pitch", "gradient", "fallen"),
    [
        (0.36, 0.0, 0.0, False),
        (0.34, 0.0, 0.0, True),
        (0.7, 0.99, 0.0, False),
        (0.7, 1.01, 0.0, True),
        (0.36, 0.0, 0.01, True),  # 2 m up a slope of 1 in 100 the ground is 2 cm higher
        (0.34, 0.0, -0.01, False),
    ],
)
def test_what_a_fall_is(height, pitch, gradient, fallen) -> None:
    qpos = np.array([2.0, 5.0, height, *euler_to_quat(np.array([0.0, pitch, 2.0]))])
    assert episode.has_fallen(qpos, np.array([gradient, 0.0])) is fallen


def test_plans_become_commands() -> None:
    rows = episode.commands(((0.0, (0.0, 0.0, 0.0)), (0.04, (0.5, 0.1, -0.2))), 4)
    np.testing.assert_array_equal(rows, [[0, 0, 0], [0, 0, 0], [0.5, 0.1, -0.2], [0.5, 0.1, -0.2]])
    with pytest.raises(ValueError, match="begins with a command at 0"):
        episode.commands(((1.0, (0.0, 0.0, 0.0)),), 4)


def test_arms_roam_over_most_of_their_range_at_up_to_two_radians_per_second() -> None:
    rng = np.random.default_rng(0)
    targets = episode.arm_targets(rng, 1000)
    arms, middle = joints.GROUPS["arms"], 0.5 * (joints.LOWER + joints.UPPER)
    reach = joints.UPPER - joints.LOWER
    np.testing.assert_array_equal(targets[0], joints.HOME)
    np.testing.assert_array_equal(targets[:, :15], np.tile(joints.HOME[:15], (1000, 1)))
    speed = np.abs(np.diff(targets[:, arms], axis=0)) / 0.02
    assert speed.max() <= 2.0 + 1e-9 and speed.max() > 1.9
    assert np.all(np.ptp(targets[:, arms], axis=0) >= 0.5 * reach[arms])
    assert np.all(np.abs(targets - middle)[:, arms] <= 0.4 * reach[arms] + 1e-9)
    assert np.all((speed > 0.3).mean(axis=0) > 0.9)  # none of them comes to rest


def test_late_targets_come_two_steps_late() -> None:
    """The stance of a crouch that goes down a little with every step, so that no two targets are alike."""
    state = Course(SimRobot(build_spec(), {}), (), None, np.zeros(2)).robot.read()
    low = np.array([0.0, 0.0, 0.0, 0.7])
    plain, late = Balance(), handicaps.Delayed(Balance(), 2)
    arms = np.isin(np.arange(29), joints.GROUPS["arms"])
    now = [plain.step(state, low, arms, joints.HOME) for _ in range(6)]
    then = [late.step(state, low, arms, joints.HOME) for _ in range(6)]
    np.testing.assert_array_equal(then, [now[0], now[0], now[0], now[1], now[2], now[3]])
    assert not np.array_equal(now[1], now[0])
    saved = late.get_state()
    expected = [late.step(state, low, arms, joints.HOME) for _ in range(3)]
    late.reset()
    late.set_state(saved)
    np.testing.assert_array_equal([late.step(state, low, arms, joints.HOME) for _ in range(3)], expected)


def test_encoders_that_are_off_mislead_walker_and_motors_alike() -> None:
    state = Course(SimRobot(build_spec(), {}), (), None, np.zeros(2)).robot.read()
    home, arms = np.array([0.0, 0.0, 0.0, joints.HOME_HEIGHT]), np.isin(np.arange(29), joints.GROUPS["arms"])
    offset = np.linspace(-0.1, 0.1, 29)
    true = replace(state, joint_pos=state.joint_pos - offset)  # of a body whose encoders read as `state` does
    plain = Balance().step(state, home, arms, joints.HOME)
    misread = handicaps.Misread(Balance(), offset).step(true, home, arms, joints.HOME)
    np.testing.assert_allclose(misread + offset, plain, atol=1e-9)
    off = episode.handicapped(Balance(), Condition(encoder_offset=0.015, latency_steps=1, seed=2)).walker.offset
    assert np.abs(off).tolist() == [0.015] * 29 and 5 < np.count_nonzero(off > 0.0) < 24
    other = episode.handicapped(Balance(), Condition(encoder_offset=0.015, seed=3)).offset
    assert not np.array_equal(off, other) and isinstance(episode.handicapped(Balance(), Condition()), Balance)


@pytest.mark.parametrize(("factor", "deviation"), [(0.0, 0.0), (1.0, 0.3), (3.0, 0.9)])
def test_sensor_noise_is_a_factor_of_the_world(factor: float, deviation: float) -> None:
    robot = episode.build_course(Condition(noise=factor), "standing").robot
    rng, errors = np.random.default_rng(0), []
    for _ in range(8):
        errors.append(robot.reset(rng).joint_vel - robot.data.qvel[6:35])
    assert np.std(errors) == pytest.approx(deviation, rel=0.15)  # of 232 draws: 5 % is one deviation


def test_late_readings_are_as_old_as_the_world_says() -> None:
    robot = episode.build_course(Condition(noise=0.0, sensing_s=0.02), "standing").robot
    robot.reset(np.random.default_rng(0))
    angles = []
    for _ in range(5):
        robot.advance()
        angles.append(robot.data.qpos[7:36].copy())
    read = robot.read().joint_pos
    np.testing.assert_allclose(read, angles[-2], atol=1e-12)
    assert np.abs(read - angles[-1]).max() > 1e-5
    assert robot.reset(np.random.default_rng(0)) and robot.faults  # a reset heals nothing


def test_episodes_repeat_to_the_bit_and_the_probe_only_looks() -> None:
    first = episode.run_episode(STANDING)
    other = episode.run_episode(replace(STANDING, episode=1))
    again = episode.run_episode(STANDING)
    probed = episode.run_episode(replace(STANDING, probe=True))
    np.testing.assert_array_equal(first.qpos, again.qpos)
    np.testing.assert_array_equal(first.qpos, probed.qpos)
    assert not np.array_equal(first.qpos, other.qpos)
    assert first.readings is None and probed.readings is not None
    # Two feet carry a robot that stands still: 327 N in all, N s in 0.02 s.
    assert np.mean(probed.readings.pressed[10:]) / 0.02 == pytest.approx(WEIGHT, rel=0.05)


def test_sensors_that_nobody_reads_change_nothing() -> None:
    without, option = episode.run_episode(STANDING), episode.build_course(Condition(), "standing").robot.model.opt
    assert option.disableflags & episode.NO_SENSORS
    option.disableflags &= ~episode.NO_SENSORS
    np.testing.assert_array_equal(episode.run_episode(STANDING).qpos, without.qpos)
    option.disableflags |= episode.NO_SENSORS


def test_a_film_shows_the_episode_as_it_was(tmp_path: Path) -> None:
    seen = pictures.film(tmp_path / "deep" / "walk.mp4", STANDING, seconds=0.4)
    job = replace(STANDING, plan=pictures.FILM_PLAN, seconds=0.4, arms=False)
    np.testing.assert_array_equal(seen.qpos, episode.run_episode(job).qpos)
    frames = imageio.mimread(tmp_path / "deep" / "walk.mp4")
    assert len(frames) == 10 and frames[0].shape == (360, 480, 3)  # 25 a second
    assert np.std(frames[0][20:]) > 5.0  # there is something to see
    told = [velocity for _, velocity in pictures.FILM_PLAN]
    assert told[0] == told[-1] == (0.0, 0.0, 0.0) and told[1][0] > 0.0 and told[2][2] > 0.0
    assert pictures.FILM_PLAN[-1][0] < pictures.FILM_S - 1.0  # it is seen to stand again


def test_an_unseen_robot_keeps_its_motors_through_a_reset() -> None:
    condition = Condition("unseen", robot=UNSEEN, seed=3)
    job = replace(STANDING, condition=condition, seconds=0.1)
    course = episode.build_course(condition, "standing")
    for _ in range(2):
        episode.run_episode(job)
        ratio = course.robot.model.actuator_gainprm[:29, 0] / joints.KP
        assert ratio.std() > 0.03 and 0.7 < ratio.min() < ratio.max() < 1.16
    assert episode.build_course(condition, "standing") is course


def test_a_slope_begins_in_a_pose_that_fits_it() -> None:
    up = Condition("up", ground="slope", slope_degrees=10.0)
    job = replace(STANDING, condition=up, seconds=0.5, arms=False)
    course = episode.build_course(up, "standing")
    episode.begin(course, np.random.default_rng(0))
    np.testing.assert_allclose(course.robot.read().joint_pos, course.start[7:], atol=0.03)  # through its noisy encoders
    assert course.gradient.tolist() == pytest.approx([0.17632698, 0.0])
    track = episode.run_episode(job)
    assert not track.fell
    assert np.abs(track.qvel[:, :3]).max() < 0.6  # nothing throws it off
    level = episode.run_episode(replace(job, condition=Condition()))
    ankles = [7 + 4, 7 + 10]
    # The toes are 10 degrees higher: the shins are less upright by most of that, the body leans for the rest.
    assert np.all(track.qpos[0, ankles] < level.qpos[0, ankles] - 0.1)


def posed(qvel: dict[int, float], joint_pos: np.ndarray = joints.HOME, depth: float = 0.002) -> mujoco.MjData:
    """A robot pressed a little into the floor, with some velocities."""
    data = mujoco.MjData(MODEL)
    data.qpos[2], data.qpos[7:36] = joints.HOME_HEIGHT - depth, joint_pos
    for index, value in qvel.items():
        data.qvel[index] = value
    mujoco.mj_forward(MODEL, data)
    return data


def normal_forces(data: mujoco.MjData) -> list[float]:
    """N of every contact."""
    wrenches = np.empty((data.ncon, 6))
    for index, wrench in enumerate(wrenches):
        mujoco.mj_contactForce(MODEL, data, index, wrench)
    return wrenches[:, 0].tolist()


def test_slip_is_the_speed_of_the_soles_over_the_floor() -> None:
    probe = Probe(MODEL, 3)
    probe.look(posed({0: 0.3, 1: 0.4}), 0)
    turning = posed({5: 2.0})
    probe.look(turning, 1)
    probe.look(posed({}), 2)
    slip = probe.readings(3).slip
    assert slip[0] == pytest.approx(0.5, abs=1e-9)
    # Turning on the spot at 2 rad/s each sole point slips at 2 rad/s times its distance from the axis.
    distance = np.hypot(*turning.contact.pos[:, :2].T)
    assert slip[1] == pytest.approx(2.0 * np.average(distance, weights=normal_forces(turning)), abs=1e-6)
    assert 0.2 < slip[1] < 0.35  # the points are 10 to 17 cm from it
    assert slip[2] == 0.0


def test_peaks_are_kept_and_the_load_is_each_foots() -> None:
    probe = Probe(MODEL, 1)
    probe.look(posed({3: 3.0, 4: 4.0, 6 + 3: -8.0}), 0)  # gyro 3, 4, 0; left knee
    for data in (posed({}), posed({}, depth=-0.2)):  # on the floor; in the air
        probe.look(data, 0)
    found = probe.readings(1)
    assert found.gyro[0] == pytest.approx(5.0)
    assert found.joint_speed[0, 3] == pytest.approx(8.0) and found.joint_speed[0, 9] == 0.0
    data, expected = posed({}), np.zeros(2)
    alone = Probe(MODEL, 1)
    alone.look(data, 0)
    for force, (_, y, _) in zip(normal_forces(data), data.contact.pos, strict=True):
        expected[0 if y > 0 else 1] += force
    assert expected.min() > 10.0
    np.testing.assert_allclose(alone.readings(1).load[0], expected)


def test_the_gap_between_the_legs() -> None:
    probe = Probe(MODEL, 1)
    assert probe.gap_between_legs(posed({})) == GAP_SEEN  # apart
    crossed = joints.HOME.copy()
    crossed[[1, 7]] = -0.2, 0.2  # both legs inwards
    assert probe.gap_between_legs(posed({}, crossed)) < 0.0
    near = [probe.gap_between_legs(posed({}, joints.HOME + lean * np.eye(29)[1])) for lean in -np.arange(0, 0.25, 0.02)]
    between = [gap for gap in near if 0.0 < gap < GAP_SEEN]
    assert between and near == sorted(near, reverse=True)


@pytest.mark.parametrize(
    ("moved", "on_trunk", "on_leg"),
    [
        ({}, False, False),
        ({15: -0.6, 16: -0.15}, True, False),  # arm ahead, its upper half against the chest
        ({1: 0.6}, False, True),  # thigh spread until it meets the hand
        ({16: -0.2}, True, True),  # arm pressed against all of that side
    ],
)
def test_arms_on_trunk_and_legs(moved: dict[int, float], on_trunk: bool, on_leg: bool) -> None:
    probe, pose = Probe(MODEL, 2), joints.HOME.copy()
    pose[list(moved)] = list(moved.values())
    probe.look(posed({}, pose), 0)
    probe.look(posed({}, pose, depth=-0.2), 1)  # in the air, where nothing else touches
    found = probe.readings(2)
    assert (found.arm_on_trunk.tolist(), found.arm_on_leg.tolist()) == ([on_trunk] * 2, [on_leg] * 2)


def walked(load: np.ndarray, **changes: np.ndarray) -> Track:
    """A track with made-up readings."""
    count = len(load)
    readings = Readings(
        load=load,
        slip=np.zeros(count),
        pressed=np.ones(count),
        joint_speed=np.zeros((count, 29)),
        gyro=np.zeros(count),
        leg_gap=np.full(count, GAP_SEEN),
        arm_on_trunk=np.zeros(count, dtype=bool),
        arm_on_leg=np.zeros(count, dtype=bool),
    )._replace(**changes)
    return Track(np.zeros((count, 36)), np.zeros((count, 35)), np.zeros((count, 3)), False, readings)


def test_quality_of_readings_by_hand() -> None:
    load = np.full((200, 2), WEIGHT / 2)  # 4 s
    load[50:70, 0] = load[90:110, 1] = load[150:160, 0] = 0.0  # three steps
    load[70, 0] = 1.7 * WEIGHT
    load[108:110, 1] = 0.1 * WEIGHT  # set down softly
    load[120:130, 1] = 0.1 * WEIGHT  # lighter, but not lifted
    speed, gyro, gap = np.zeros((200, 29)), np.zeros(200), np.full(200, GAP_SEEN)
    speed[10:20, 10], speed[30, 20] = 9.5, 12.0  # the right ankle; an arm
    gyro[10:14], gap[60] = 5.5, -0.003
    slip, pressed = np.array([0.1] * 100 + [0.4] * 100), np.array([3.0] * 100 + [1.0] * 100)
    on_trunk, on_leg = np.arange(200) < 30, np.arange(200) < 8
    touches = {"arm_on_trunk": on_trunk, "arm_on_leg": on_leg}
    track = walked(load, joint_speed=speed, gyro=gyro, leg_gap=gap, slip=slip, pressed=pressed, **touches)
    found = measures.quality(track)
    assert found.steps_per_s == pytest.approx(3 / 4)
    assert found.load_max == pytest.approx(1.7)
    assert found.slip == pytest.approx((0.1 * 3 + 0.4 * 1) / 4)
    assert (found.joint_speed, found.joint, found.arm_speed) == (9.5, "right_ankle_pitch", 12.0)
    assert found.joint_share == pytest.approx(10 / 200) and found.gyro_share == pytest.approx(4 / 200)
    assert found.leg_gap == -0.003 and found.overlap_share == pytest.approx(1 / 200)
    assert (found.trunk_share, found.leg_share) == pytest.approx((30 / 200, 8 / 200))
    with pytest.raises(ValueError, match="probe=True"):
        measures.quality(track._replace(readings=None))
    cell = tables.worst([found, found._replace(joint_speed=10.0, joint="left_knee", slip=0.0)])
    assert (cell["joint"], cell["joint_speed"], cell["slip"]) == ("left_knee", 10.0, found.slip / 2)


def test_drift_is_between_the_first_second_and_the_one_ten_seconds_later() -> None:
    count = round(measures.DRIFT_EPISODE_S * 50)
    qpos = np.tile(np.concatenate([[0.0, 0.0, joints.HOME_HEIGHT, 1.0, 0, 0, 0], joints.HOME]), (count, 1))
    qpos[500:, 0], qpos[500:, 1] = 0.012, -0.016
    sway = 0.02 * np.sin(2 * np.pi * np.arange(count) / 50)  # of 1 s: it comes back
    qpos[:, 0] += sway
    track = Track(qpos, np.zeros((count, 35)), np.zeros((count, 3)), False, None)
    found = measures.drift(track)
    assert found.survived and found.pelvis == pytest.approx(0.02) and found.feet == pytest.approx(0.02)
    # Turned by -0.2 rad about the pelvis, across pi: the soles' middle, a little beside it, goes along a chord.
    qpos[500:, :2] = 0.0
    qpos[500::2, 3:7] = euler_to_quat(np.array([0.0, 0.0, np.pi - 0.02]))
    qpos[501::2, 3:7] = euler_to_quat(np.array([0.0, 0.0, -np.pi + 0.02]))
    qpos[:500, 3:7] = euler_to_quat(np.array([0.0, 0.0, -np.pi + 0.2]))
    turned = measures.drift(track)
    assert turned.yaw == pytest.approx(-0.2) and turned.pelvis == pytest.approx(0.0, abs=1e-9)
    lever = np.linalg.norm(stance(joints.HOME).sole_pos.mean(axis=0)[:2])
    assert turned.feet == pytest.approx(2 * np.sin(0.1) * lever, rel=1e-3) and lever > 0.005
    assert not measures.drift(track._replace(qpos=qpos[:500])).survived


def test_starts_and_stops_by_hand() -> None:
    count, qvel = 400, np.zeros((400, 35))  # 8 s: stands 2 s, walks 3 s, stands
    qpos = np.tile(np.concatenate([[0.0, 0.0, joints.HOME_HEIGHT, 1.0, 0, 0, 0], joints.HOME]), (count, 1))
    qvel[100:270, 0] = 0.5  # it goes on for 0.4 s after it was told to stop
    qpos[:, 0] = np.cumsum(qvel[:, 0]) * 0.02
    qpos[110, 3:7] = euler_to_quat(np.array([0.0, 0.15, 0.3]))
    qpos[260, 3:7] = euler_to_quat(np.array([0.2, 0.0, 0.0]))
    track = Track(qpos, qvel, np.zeros((count, 3)), False, None)
    found = measures.transition(track, 2.0, 5.0)
    assert found.start_tilt == pytest.approx(0.15) and found.stop_tilt == pytest.approx(0.2)
    # The 0.3 s mean falls below 0.1 m/s when at most 2 of its 15 samples still move: 0.4 s + 13 samples later.
    assert found.stop_s == pytest.approx(0.66, abs=0.021)
    assert found.stop_distance == pytest.approx(0.19, abs=0.011)
    assert not measures.transition(track._replace(fell=True), 2.0, 5.0).survived
    cell = tables.spread([found, found._replace(stop_s=1.0), measures.Transition(False, *[np.nan] * 4)])
    assert cell["survived"] == 2 and cell["stop_s"][2] == 1.0


def test_worlds_of_the_judges() -> None:
    assert len(sections.COMMANDS) == 13
    physics = worlds_of.other_physics()
    assert len({(c.physics_dt, c.elliptic, c.robot.friction_loss) for c in physics}) == 8
    assert physics[0] == replace(Condition(), label=physics[0].label)  # the first row is the nominal world
    worlds = {condition.label: condition for condition in worlds_of.hard_worlds(5)}
    assert worlds["3 kg in each hand"].robot == replace(NOMINAL, hand_payload=(3.0, 3.0))
    assert worlds["targets 40 ms late"].latency_steps * episode.CONTROL_DT == pytest.approx(0.04)
    assert worlds["sensor noise x 3"] == Condition("sensor noise x 3", noise=3.0)
    assert worlds["encoders 0.015 rad off"].seed == 5 and worlds["readings 20 ms late"].sensing_s == 0.02
    assert len({condition.seed for condition in worlds_of.unseen_robots()}) == 16
    course = episode.build_course(worlds["8 kg on the torso"], "standing")
    assert course.robot.model.body_mass.sum() == pytest.approx(TOTAL_MASS + 8.0)
    elliptic = episode.build_course(physics[3], "standing").robot.model
    assert elliptic.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC and elliptic.dof_frictionloss[10] == 0.3
    with pytest.raises(ValueError, match="Did you mean 'slope'"):
        Condition(ground="slopes")
    with pytest.raises(ValueError, match="Did you mean 'standing'"):
        episode.make_walker("standin")


def test_transfer_says_whether_it_lost_more_than_it_may() -> None:
    def cell(survived: int) -> dict[str, object]:
        return {"survived": survived, "episodes": 100, "error_speed": 0.05, "error_yaw_rate": None}

    cells = {"nominal": cell(99), "a": cell(97), "b": cell(96)}
    assert [row[-1] for row in tables.world_rows(cells, 2.0)] == ["-", "met", "missed"]
    assert [row[2] for row in tables.world_rows(cells)] == ["+0.0", "-2.0", "-3.0"]


def test_only_the_judged_settings_are_reported() -> None:
    assert walking.judged(walking.parse([]))
    trials = (["--height", "0.7"], ["--seed", "100"], ["--preset", "tiny"], ["--episodes", "drift=3"])
    for trial in (*trials, ["--walker", "standing"], ["--walker", str(asset_path(WALKER))]):
        assert not walking.judged(walking.parse(trial))


def test_a_report_says_which_weights_and_which_noise(tmp_path: Path) -> None:
    (tmp_path / "RESULTS.md").write_text("# Results\n\n## Other\n<!-- b:begin -->\n<!-- b:end -->\n")
    for below in (["first"], ["Noise.", "Weights."]):
        write_walking("b", {"x": 1}, ["h"], [["c"]], below, "2026-01-01", tmp_path)
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.endswith("`benchmarks/results/b.json`\n\nNoise.\n\nWeights.\n<!-- b:end -->\n") and "first" not in text
    assert "joint_pos 0.005, joint_vel 0.3, gyro 0.05, gravity 0.01" in worlds_of.noise_text()


@pytest.mark.parametrize("name", ["walking_tour", "ppo_rate", *(f"walking_{name}" for name in sections.SECTIONS)])
def test_each_section_has_its_place_and_its_prose_in_results(name: str) -> None:
    text = (walking.ROOT / "RESULTS.md").read_text()
    before, table = text.split(f"<!-- {name}:begin -->")
    prose = before.rpartition("\n## ")[2]
    assert table.count(f"<!-- {name}:end -->") == 1
    assert prose.startswith("Walking: ") and "`python benchmarks/" in prose


def test_the_command_line() -> None:
    preset = walking.with_episodes(sections.FULL, ["20", "drift=100"])
    assert preset.episodes["commands"] == 20 and preset.episodes["drift"] == 100
    assert sections.FULL.episodes["commands"] == 50
    assert walking.parse(["--sections", "drift,start"]).chosen == ["drift", "start"]
    for wrong in (["--sections", "drif"], ["--episodes", "drif=3"], ["--episodes", "0"], ["--walker", "nobody"]):
        with pytest.raises(SystemExit):
            walking.parse(wrong)


LONG = [pytest.param(name, marks=pytest.mark.slow) for name in ("transfer", "robustness", "drift", "grid")]


@pytest.mark.parametrize("name", ["commands", "quality", "start", "timing", *LONG])
def test_each_section_fills_its_table(name, tmp_path) -> None:
    short = sections.Preset(dict.fromkeys(sections.SECTIONS, 1), 0.1, 0.1, 0.1, 2, sections.COMMANDS[:2])
    settings = sections.Settings(short, STANDING, workers=1, picture=tmp_path / "map.png")
    section = sections.SECTIONS[name](settings)
    assert section.rows and all(len(row) == len(section.header) for row in section.rows)
    assert all(isinstance(cell, str) for row in section.rows for cell in row)
    walking.report(name, section, settings, None, tmp_path)
    written = json.loads((tmp_path / f"{name}.json").read_text())
    assert written["walker"] == "standing" and written["weights"] is None and written["preset"]["episodes"] == 1
    assert (tmp_path / "map.png").exists() == (name == "grid")
