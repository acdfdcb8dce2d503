"""The walking tour: the task by hand numbers, its crane and punches on the real model, and how runs are counted."""

import hashlib
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import mujoco
import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import tour_figures
import tour_pictures
import walking_tour
from tour_record import PunchResult, RunResult, Speeds, parts_of, speeds_of
from tour_run import Tour, build_tour_robot, run_tour
from tour_task import ARMS, HARSH, PUBLISHED, Follower, FollowerConfig, Punch, draw_scenario, force_ceiling, wrap

from neon_sim.g1 import joints
from neon_sim.g1.kinematics import palm_poses
from neon_sim.locomotion.balance import Balance
from neon_sim.locomotion.network import load_weights, save_weights
from neon_sim.robot import RobotState
from neon_sim.shipped import WALKER, asset_path

CONFIG = HARSH
GENTLE = replace(CONFIG, punch_max=0.0)
IDS = range(30)


class Stiff(Balance):
    """Holds the home pose by its servos alone, which does not stand."""

    def step(self, state: RobotState, *arguments: Any, **named: Any) -> np.ndarray:
        return joints.HOME.copy()


@pytest.fixture(scope="module")
def robot() -> Any:
    return build_tour_robot(Balance(), CONFIG)


def test_a_run_id_is_a_scenario() -> None:
    first, again, other = draw_scenario(7, CONFIG), draw_scenario(7, CONFIG), draw_scenario(8, CONFIG)
    assert np.array_equal(first.waypoints, again.waypoints) and np.array_equal(first.arms, again.arms)
    for a, b in zip(first.punches, again.punches, strict=True):
        assert (a.start_s, a.joint, a.frame) == (b.start_s, b.joint, b.frame) and np.array_equal(a.force, b.force)
    assert not np.array_equal(first.waypoints, other.waypoints) and not np.array_equal(first.arms, other.arms)
    short = draw_scenario(7, replace(CONFIG, duration_s=15.0))  # a short run is the beginning of the long one
    assert np.array_equal(short.arms, first.arms) and len(short.punches) == 18


def test_waypoints_fill_their_circle() -> None:
    points = np.concatenate([draw_scenario(run_id, CONFIG).waypoints for run_id in IDS])
    assert points.shape == (30 * 18, 3)
    radius = np.hypot(points[:, 0] - 0.3, points[:, 1])
    assert 0.98 < radius.max() <= 1.0
    assert np.mean(radius < 0.5) == pytest.approx(0.25, abs=0.06)  # even over the area: 0.5^2 of it
    assert np.abs(points[:, 2]).max() <= np.pi and np.ptp(points[:, 2]) > 6.0


def test_punches_keep_to_their_segments_forces_and_directions() -> None:
    everything = [draw_scenario(run_id, CONFIG).punches for run_id in IDS]
    for punches in everything:
        assert len(punches) == 18
        for segment, punch in enumerate(punches):
            assert 5.0 * segment <= punch.start_s <= 5.0 * segment + 4.92 + 1e-9  # 0.08 s long, so inside
            share = np.linalg.norm(punch.force) / force_ceiling(punch.start_s, CONFIG)
            assert 0.5 <= share <= 1.0 and punch.frame == "world"
    flat = [punch for punches in everything for punch in punches]
    assert {punch.joint for punch in flat} == set(range(29))
    unit = np.array([punch.force / np.linalg.norm(punch.force) for punch in flat])
    assert np.abs(unit.mean(axis=0)).max() < 0.1
    assert np.square(unit).mean(axis=0) == pytest.approx([1 / 3] * 3, abs=0.05)
    assert np.std([punch.start_s % 5.0 for punch in flat]) == pytest.approx(4.92 / math.sqrt(12), rel=0.1)


def test_published_punches_begin_with_their_segments_and_turn_with_a_link() -> None:
    flat = []
    for run_id in IDS:
        for segment, punch in enumerate(draw_scenario(run_id, PUBLISHED).punches):
            assert punch.start_s == pytest.approx(5.0 * segment + 0.1)
            ceiling = 500.0 / 3.0 * (1.0 + 2.0 * min(segment / 12.0, 1.0))
            assert 0.5 * ceiling <= np.linalg.norm(punch.force) <= ceiling
            flat.append(punch.frame)
    assert set(flat) == {"link", "parent"} and flat.count("link") == pytest.approx(270, abs=45)


def test_published_arms_wander_alike_before_the_chest() -> None:
    left, right = joints.GROUPS["left_arm"], joints.GROUPS["right_arm"]
    start = np.array([0.2, 0.2, 0.0, 0.6, 0.0, 0.0, 0.0])
    for run_id in (0, 1):
        arms = draw_scenario(run_id, PUBLISHED).arms
        whole = np.zeros((4500, 29))
        whole[:, ARMS] = arms
        np.testing.assert_allclose(whole[:, right], joints.mirror(whole)[:, right], atol=1e-12)
        steps = np.diff(whole[:, left], axis=0, prepend=start[None])
        assert np.abs(steps).max() <= 0.06 and 0.15 < np.std(steps) / 0.02 < 0.45  # rad/s, a walk of 25 draws in 0.5 s
        goals = palm_poses(whole[24::25])[0][:, 0]
        begin = np.zeros(29)
        begin[left] = start
        assert goals[:, 0].min() >= palm_poses(begin)[0][0, 0] - 1e-9 and goals[:, 2].max() <= 0.30 + 1e-9
        assert np.ptp(whole[:, left], axis=0).min() > 0.3
        assert (arms >= joints.LOWER[ARMS]).all() and (arms <= joints.UPPER[ARMS]).all()


def test_force_ceiling_by_hand() -> None:
    forces = [force_ceiling(time_s, CONFIG) for time_s in (0.0, 30.0, 60.0, 90.0)]
    assert forces == pytest.approx([500 / 3, 1000 / 3, 500.0, 500.0])


def test_arms_use_their_ranges_at_the_envs_speed() -> None:
    for run_id in (0, 1):
        arms = draw_scenario(run_id, CONFIG).arms
        assert arms.shape == (4500, 14)
        steps = np.abs(np.diff(arms, axis=0, prepend=joints.HOME[None, ARMS]))
        assert 1.9 * 0.02 < steps.max() <= 2.0 * 0.02 + 1e-12
        reach = joints.UPPER[ARMS] - joints.LOWER[ARMS]
        assert (np.ptp(arms, axis=0) >= 0.5 * reach).all()
        assert (arms >= joints.LOWER[ARMS]).all() and (arms <= joints.UPPER[ARMS]).all()


@pytest.mark.parametrize(
    ("pose", "target", "command"),
    [
        # Facing +y at (1, 2): ahead is +y, left is -x. Gain 1.5.
        ((1.0, 2.0, math.pi / 2), (1.0, 2.2, math.pi / 2), (0.3, 0.0, 0.0)),
        ((1.0, 2.0, math.pi / 2), (0.8, 2.0, math.pi / 2), (0.0, 0.3, 0.0)),
        ((0.0, 0.0, 0.0), (0.0, -0.2, 0.0), (0.0, -0.3, 0.0)),  # to the right
        ((0.0, 0.0, math.pi), (3.0, 4.0, math.pi), (-0.3, -0.4, 0.0)),  # 5 m away, seen turned round: 0.5 m/s
        ((0.0, 0.0, 0.2), (0.0, 0.0, 0.6), (0.0, 0.0, 0.6)),  # on the spot, turn left
        ((0.0, 0.0, 0.0), (0.0, 0.0, -2.0), (0.0, 0.0, -1.0)),  # no faster than 1 rad/s
        ((0.0, 0.0, 3.1), (0.0, 0.0, -3.1), (0.0, 0.0, 1.5 * (2 * math.pi - 6.2))),  # the short way round
        ((0.0, 0.0, 0.0), (0.06, 0.06, 0.04), (0.0, 0.0, 0.0)),  # 8.5 cm and 0.04 rad: there
    ],
)
def test_commands_by_hand(pose: Any, target: Any, command: Any) -> None:
    assert Follower(FollowerConfig()).command(target, pose) == pytest.approx(np.array(command), abs=1e-12)


def test_the_dead_band_lets_go_late() -> None:
    follower, still = Follower(FollowerConfig()), (0.0, 0.0, 0.0)
    speeds = [float(follower.command((x, 0.0, 0.0), still)[0]) for x in (0.15, 0.09, 0.15, 0.21, 0.15)]
    assert speeds == pytest.approx([0.225, 0.0, 0.0, 0.315, 0.225])
    follower.new_target()
    rates = [float(follower.command((0.0, 0.0, a), still)[2]) for a in (0.1, 0.04, 0.1, 0.13, 0.1)]
    assert rates == pytest.approx([0.15, 0.0, 0.0, 0.195, 0.15])
    follower.command((0.0, 0.0, 0.0), still)
    follower.new_target()
    assert follower.command((0.15, 0.0, 0.0), still)[0] == pytest.approx(0.225)


def test_a_point_that_obeys_at_once_ends_at_the_edge_of_the_dead_band() -> None:
    errors = []
    for run_id in range(3):
        follower, (x, y, heading) = Follower(FollowerConfig()), (0.0, 0.0, 0.0)
        for target in draw_scenario(run_id, CONFIG).waypoints.tolist():
            follower.new_target()
            for _ in range(250):
                vx, vy, rate = follower.command(target, (x, y, heading)).tolist()
                x += 0.02 * (vx * math.cos(heading) - vy * math.sin(heading))
                y += 0.02 * (vx * math.sin(heading) + vy * math.cos(heading))
                heading += 0.02 * rate
            errors.append((math.hypot(target[0] - x, target[1] - y), abs(wrap(target[2] - heading))))
    assert np.mean(errors, axis=0) == pytest.approx([0.098, math.radians(2.8)], rel=0.1)
    assert np.max(errors, axis=0) == pytest.approx([0.1, 0.05], rel=0.02)


def test_the_crane_holds_a_body_that_cannot_stand_and_then_lets_go() -> None:
    """On its servos alone the home pose falls in 1.3 s (measured on the official model); the crane takes 3 s."""
    upright = replace(GENTLE, height=joints.HOME_HEIGHT, arm_share=0.0, duration_s=5.0)
    tour = Tour(build_tour_robot(Stiff(), upright), 0, upright)
    x, y, heading = tour.pose()
    assert math.hypot(x, y) < 0.05 and abs(heading) < 0.2 and tour.robot.data.qpos[2] > 0.75
    assert tour.robot.data.time == 0.0 and not tour.robot.data.xfrc_applied.any()
    while not tour.over:
        tour.advance()
    assert tour.fell and tour.time_s < 4.0


def test_the_crane_goes_down_with_the_walker(robot: Any) -> None:
    tour = Tour(robot, 0, GENTLE)
    assert robot.data.qpos[2] == pytest.approx(0.68, abs=0.01)
    speed = np.abs(robot.data.qvel[:6]).max()
    tour.advance()
    assert speed < 0.3 and np.abs(robot.data.qvel[:6]).max() < 0.3  # letting go is no jolt


def test_a_punch_is_a_force_at_a_joint_for_four_steps(robot: Any) -> None:
    run_id = min(IDS, key=lambda i: draw_scenario(i, CONFIG).punches[0].start_s)
    tour = Tour(robot, run_id, CONFIG)
    punch = tour.scenario.punches[0]
    body = robot.model.body(f"{punch.body}_link").id
    steps = []
    for step in range(round(punch.start_s * 50) + 8):
        arm = robot.data.xanchor[robot.model.joint(f"{punch.body}_joint").id] - robot.data.xipos[body]
        tour.advance()
        wrench = robot.data.xfrc_applied
        if wrench.any():
            steps.append(step)
        if len(steps) == 1 and wrench.any():
            assert wrench[body, :3] == pytest.approx(punch.force)
            assert wrench[body, 3:] == pytest.approx(np.cross(arm, punch.force))
            assert np.count_nonzero(wrench.any(axis=1)) == 1
    first = round(punch.start_s * 50)
    assert steps == [first, first + 1, first + 2, first + 3]


def test_a_punch_turns_with_its_link(robot: Any) -> None:
    tour = Tour(robot, 0, GENTLE)
    data, knee = robot.data, joints.JOINT_NAMES.index("left_knee_joint")
    for frame, body in (("link", "left_knee_link"), ("parent", "left_hip_yaw_link")):
        punch = Punch(0.0, knee, np.array([0.0, 0.0, 100.0]), frame)
        np.testing.assert_allclose(tour.force_w(punch), 100.0 * data.body(body).xmat.reshape(3, 3)[:, 2])
    assert (
        np.ptp([tour.force_w(Punch(0.0, knee, np.array([0.0, 0.0, 100.0]), f))[0] for f in ("link", "parent")]) > 10.0
    )
    tour._punch_at, before = {0: Punch(0.0, knee, np.array([100.0, 0.0, 0.0]), "link")}, []
    for _ in range(4):
        tour.advance()
        before.append(robot.data.xfrc_applied[robot.model.body("left_knee_link").id, :3].copy())
    np.testing.assert_allclose(np.linalg.norm(before, axis=1), 100.0)
    assert np.abs(np.diff(before, axis=0)).max() > 0.1  # the knee gives way, and the force goes along
    tour.advance()
    assert not robot.data.xfrc_applied.any()


def test_a_run_of_the_standing_controller_by_hand(robot: Any) -> None:
    """Left alone it stands where the crane put it, so its errors are the waypoint's place and heading."""
    config = replace(GENTLE, arm_share=0.0, duration_s=6.0)
    result = run_tour(robot, 1, config)
    x, y, heading = draw_scenario(1, config).waypoints[0]
    assert result.completed and result.survival_s == 6.0
    assert result.position_cm == pytest.approx([100 * math.hypot(x, y)], abs=3.0)  # one segment of 5 s is finished
    assert result.yaw_deg == pytest.approx([abs(math.degrees(heading))], abs=3.0)
    assert {name: part.seconds for name, part in result.speeds.items()} == pytest.approx(lengths(result, 6.0))
    assert all(part.own > 0.0 and part.gyro > 0.0 for part in result.speeds.values())
    assert 0.0 < result.energy_kj < 6.0 * 0.2  # a stance takes less than 200 W
    assert [p.fell for p in result.punches] == [False if p.start_s <= 2.0 else None for p in result.punches]


def lengths(result: RunResult, duration_s: float) -> dict[str, float]:
    """How long each part of a run is that nobody fell in: a punch and 1.2 s, 0.1 s of each segment, the rest."""
    pushed = np.zeros(round(50 * duration_s), dtype=bool)
    for punch in result.punches:
        begin = round(50 * punch.start_s)
        pushed[begin : begin + 64] = True
    told = ~pushed & (np.arange(len(pushed)) % 250 < 5)
    return {"pushed": pushed.sum() / 50, "told": told.sum() / 50, "calm": (~pushed & ~told).sum() / 50}


def test_a_hard_punch_fells_and_is_written_down(robot: Any) -> None:
    hard = replace(CONFIG, punch_max=3000.0, duration_s=20.0)
    result = run_tour(robot, 2, hard)
    scenario = draw_scenario(2, hard)
    last = result.punches[-1]
    assert not result.completed and result.survival_s < 20.0
    assert last.fell is True and last.start_s < result.survival_s <= last.start_s + 4.0
    assert [p.fell for p in result.punches[:-1]] == [False] * (len(result.punches) - 1)
    thrown = scenario.punches[len(result.punches) - 1]
    assert last.body == thrown.body and last.force == pytest.approx(np.linalg.norm(thrown.force))
    assert len(result.position_cm) == len(result.yaw_deg) == int(result.survival_s // 5.0) + 1  # with the fall's
    assert result.speeds["pushed"].gyro > max(result.speeds["calm"].gyro, result.speeds["told"].gyro)
    assert result == run_tour(robot, 2, hard)  # the same run again, on a robot that has lain on the floor


@pytest.mark.parametrize(
    ("config", "cone", "friction", "loss"), [(PUBLISHED, "PYRAMIDAL", 1.0, 0.01), (HARSH, "ELLIPTIC", 0.6, 0.1)]
)
def test_the_physics_is_what_the_task_says(config: Any, cone: str, friction: float, loss: float) -> None:
    robot = build_tour_robot(Balance(), config)
    assert int(robot.model.opt.cone) == int(getattr(mujoco.mjtCone, f"mjCONE_{cone}"))
    assert robot.model.opt.timestep == 0.002
    assert robot.model.dof_frictionloss.tolist() == [0.0] * 6 + [loss] * 29
    assert set(robot.model.geom_friction[robot.model.geom_priority > 0, 0]) == {friction}
    sensed = robot.reset(np.random.default_rng(0)).joint_vel - robot.data.qvel[6:35]
    assert np.std(sensed) == pytest.approx(0.3, abs=0.12)  # rad/s of noise on 29 encoders


def test_waypoints_lie_where_the_crane_let_go(robot: Any) -> None:
    tour = Tour(robot, 4, GENTLE)
    x, y, heading = tour.scenario.waypoints[0]
    tour._start = (1.0, 2.0, math.pi / 2)  # facing +y: ahead is +y, left is -x
    tour.advance()
    assert tour.target == pytest.approx((1.0 - y, 2.0 + x, math.remainder(heading + math.pi / 2, 2 * math.pi)))


def test_which_punch_is_to_blame(robot: Any) -> None:
    """A schedule with its first two punches close together, and falls put at times of our choice."""
    config = replace(GENTLE, crane_s=0.0, duration_s=20.0)
    schedules = {i: [punch.start_s for punch in draw_scenario(i, config).punches] for i in range(100)}
    run_id = next(i for i, s in schedules.items() if s[1] - s[0] < 2.0 and s[2] - s[1] > 5.0 and s[3] > 16.0)
    starts, tour = schedules[run_id], Tour(robot, run_id, config)

    def judged(time_s: float, fell: bool) -> list[bool | None]:
        tour.step, tour.fell = round(50 * time_s), fell
        return [punch.fell for punch in tour.result().punches]

    assert judged(starts[1] + 0.5, True) == [False, True]  # the first is cleared: the second came before the fall
    assert judged(starts[1] + 0.5, False) == [False, False]
    assert judged(starts[1] + 4.2, True) == [False, False]  # too long after it
    assert judged(starts[3] + 0.5, True)[-1] is None  # fewer than 4 s are left to see it fall


def test_energy_shaking_and_calm_by_hand(robot: Any) -> None:
    tour = Tour(robot, 0, replace(GENTLE, crane_s=0.0, duration_s=20.0))
    start = round(50 * tour.scenario.punches[0].start_s)
    tour.step = start + 70  # 1.4 s after it: 1.28 s of it are the punch's
    tour._joint_vel[:4, 0] = [0.0, 1.0, 3.0, 3.0]
    tour._joint_vel[4 : tour.step, 0] = 3.0
    tour._torque[1, 0], tour._torque[2, 0] = 10.0, -20.0
    tour._joint_vel[start + 40, 5] = -9.0  # ankle roll, in its wake
    tour._joint_vel[start + 66, 5] = 7.0  # and when it is left alone again
    result = tour.result()
    # Accelerations 50, 100, 0: changes 50 and 100. The two spikes: 450 + 900 + 450 and 350 + 700 + 350.
    assert result.vibration == pytest.approx(1e-6 * (50 + 100 + 1800 + 1400))
    assert result.energy_kj == pytest.approx(1e-3 * 0.02 * (10 * 1 + 20 * 3))
    assert (result.speeds["pushed"].own, result.speeds["calm"].own) == (9.0, 7.0)
    tour.fell = True
    assert tour.result().speeds["calm"].own == 3.0  # nothing after the punch that felled it


def test_a_run_is_divided_by_what_goes_on() -> None:
    """6 s with punches at 0.1 and 5.02 s: pushed for 1.28 s each, or from the second on where it felled the robot."""
    parts = parts_of(300, [0.1, 5.02], fell=False)
    assert [np.flatnonzero(part).tolist() for part in (parts["pushed"], parts["told"])] == [
        [*range(5, 69), *range(251, 300)],
        [*range(5), 250],
    ]
    assert sum(part.sum() for part in parts.values()) == 300  # none counts twice, none is lost
    assert parts_of(300, [0.1], fell=True)["calm"].sum() == 0
    assert parts_of(300, [], fell=True)["calm"].sum() == 300 - 10


def test_speeds_by_hand() -> None:
    joint_vel, gyro = np.zeros((50, 29)), np.zeros((50, 3))
    joint_vel[:3, 14], joint_vel[7, 15], joint_vel[8, 2] = -11.0, 12.5, 10.0  # waist pitch, an arm, a hip at the limit
    gyro[4:6] = 4.0, 4.0, 3.0  # 6.4 rad/s in all
    found = speeds_of(joint_vel, gyro)
    assert (found.own, found.arms, found.gyro) == pytest.approx((11.0, 12.5, math.sqrt(41.0)))
    assert (found.own_over_s, found.arms_over_s, found.gyro_over_s) == pytest.approx((0.06, 0.02, 0.04))
    assert speeds_of(joint_vel[:0], gyro[:0]) == Speeds(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_things_to_look_at_change_nothing(robot: Any) -> None:
    short = replace(CONFIG, duration_s=2.0)
    seen = build_tour_robot(Balance(), short, tour_pictures.scene())
    assert run_tour(seen, 3, short) == run_tour(robot, 3, short)


def test_physics_that_blows_up_is_a_fall(robot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its log here
    tour = Tour(robot, 0, GENTLE)
    for _ in range(5):
        tour.advance()
    robot.data.qvel[:] = 1e12
    tour.advance()
    assert robot.data.qpos[2] > 0.6  # MuJoCo has put it back on its feet
    assert tour.fell and tour.result().survival_s == pytest.approx(0.12)


def run_of(run_id: int, survival_s: float, position_cm: tuple[float, ...], *punches: PunchResult) -> RunResult:
    done = survival_s == 90.0
    calm = Speeds(8.0, 5.0 + 3.0 * run_id, 1.0, 2.0, 0.02 if run_id == 2 else 0.0, 0.0, 0.0)  # 11 rad/s in run 2
    speeds = {"pushed": Speeds(1.0, 12.0, 20.0, 7.0, 0.5, 0.3, 0.0), "told": replace(calm, seconds=1.0), "calm": calm}
    return RunResult(run_id, survival_s, done, position_cm, position_cm, 0.1 * survival_s, 1.0, speeds, punches)


HIT = PunchResult(1.0, "left_knee", 100.0, False)
FELLED = PunchResult(6.0, "left_knee", 149.9, True)
RUNS = [run_of(0, 10.0, (10.0, 20.0), HIT, FELLED), run_of(1, 20.0, (60.0,)), run_of(2, 90.0, ())]


def test_figures_by_hand() -> None:
    figures = tour_figures.summarise(RUNS)
    assert figures["survival_s"] == pytest.approx([40.0, math.sqrt(1900.0 / 3.0)])  # deviations 30, 20, 50
    assert figures["completed"] == 1 and figures["targets"] == 3
    assert figures["position_cm"] == pytest.approx([37.5, 22.5])  # run means 15 and 60
    assert figures["energy_kj"] == [9.0, 0.0] and figures["power_w"][0] == pytest.approx(100.0)
    assert figures["speeds"]["calm"] == {
        "seconds": 24.0,
        "own_rad_s": 11.0,
        "arms_rad_s": 1.0,
        "gyro_rad_s": 2.0,
        "own_share": pytest.approx(0.02 / 24.0),
        "arms_share": 0.0,
        "gyro_share": 0.0,
        "runs_stopped": 1,
        "runs_arms": 0,
    }
    assert figures["speeds"]["pushed"]["runs_stopped"] == figures["speeds"]["pushed"]["runs_arms"] == 3
    assert figures["falls_long_after_a_punch"] == 1 and figures["survival_of_each_run_s"] == "10 20 90"
    assert figures["falls_of_punches"]["knee"]["100-150"] == "1/2"
    assert figures["falls_of_punches"]["hip"]["100-150"] == "0/0"
    many_falls = tour_figures.summarise([*RUNS, *(run_of(i, 1.0, ()) for i in range(3, 6))])
    assert many_falls["energy_kj"] is None and many_falls["vibration"] is None  # 1 of 6 is under a fifth


def test_the_vendors_check_has_a_row_for_each_part_of_the_time() -> None:
    named = {"walker": "ours", "task": "published", **tour_figures.summarise(RUNS)}
    rows = tour_figures.speed_rows({"ours, published": named, "old": named | {"speeds": {"joint_rad_s": 70.5}}})
    assert all(len(row) == len(tour_figures.SPEED_HEADER) for row in rows)
    assert [row[1] for row in rows] == ["left alone", "0.1 s after a new waypoint", "punch and 1.2 s after it, falls"]
    assert rows[0][2:] == ["80.0 %", "1 of 3", "0 of 3", "11.0 (0.083 %)", "2.0 (0.000 %)", "1.0"]
    assert rows[2][2:] == ["10.0 %", "3 of 3", "3 of 3", "12.0 (50.000 %)", "7.0 (0.000 %)", "20.0"]


def test_punches_nobody_can_judge_are_not_counted() -> None:
    late = replace(FELLED, fell=None)
    assert tour_figures.punch_table([run_of(0, 89.0, (), late)])["knee"]["100-150"] == "0/0"


def test_every_body_has_its_group() -> None:
    groups = [tour_figures.group_of(name.removesuffix("_joint")) for name in joints.JOINT_NAMES]
    assert {group: groups.count(group) for group in tour_figures.BODY_GROUPS} == {
        "hip": 6,
        "knee": 2,
        "ankle": 4,
        "waist and torso": 3,
        "shoulder and elbow": 8,
        "wrist": 6,
    }


def test_the_table_puts_ours_before_theirs() -> None:
    def named(walker: str, task: str, runs: Any) -> dict[str, Any]:
        return {"walker": walker, "task": task, **tour_figures.summarise(runs)}

    worse, better = named("worse", "published", RUNS), named("better", "published", RUNS[1:])
    rows = tour_figures.rows({"a": named("better", "harsh", RUNS[1:]), "b": worse, "c": better})
    assert all(len(row) == len(tour_figures.HEADER) for row in rows)
    assert [row[0] for row in rows[:3]] == ["ours: better", "ours: worse", "GR00T-WBC, height 0.66"]
    assert rows[1][1:6] == ["published", "3", "40.0 ± 25.2", "33.3 % [6.1, 79.2] (1/3)", "37.5 ± 22.5"]
    assert rows[2][1:] == ["published", "5120", "84.9", "80 %", "16", "7", "7.3", "0.9"]
    assert rows[-1][:2] == ["ours: better", "harsh"]  # another task, so not among them


def test_runs_are_kept_and_only_missing_ones_are_run(tmp_path: Path) -> None:
    config, kept = replace(CONFIG, duration_s=0.4, crane_s=0.2), tmp_path / "runs.jsonl"
    kept.write_text(walking_tour.as_line(replace(RUNS[0], survival_s=77.0)) + '{"run_id": 1, "surv')  # cut short
    results = walking_tour.measure("standing", range(3), config, 1, kept)
    assert [r.survival_s for r in results] == [77.0, 0.4, 0.4] and [r.run_id for r in results] == [0, 1, 2]
    assert walking_tour.read_results(kept) == results
    before = kept.read_text()
    assert walking_tour.measure("standing", range(3), config, 1, kept) == results and kept.read_text() == before


def test_kept_runs_belong_to_one_task(tmp_path: Path) -> None:
    kept = walking_tour.keep_file("standing", CONFIG, tmp_path, resume=False)
    kept.write_text(walking_tour.as_line(RUNS[0]))
    assert walking_tour.keep_file("standing", CONFIG, tmp_path, resume=True).exists()
    with pytest.raises(ValueError, match="other settings"):
        walking_tour.keep_file("standing", replace(CONFIG, height=0.7), tmp_path, resume=True)
    settings = json.loads((kept.parent / "settings.json").read_text())
    assert settings["weights"] == "none" and "speeds" in settings["kept"]  # other weights or figures: another run
    assert not walking_tour.keep_file("standing", replace(CONFIG, height=0.7), tmp_path, resume=False).exists()


def test_a_report_keeps_the_other_walkers(tmp_path: Path) -> None:
    (tmp_path / "RESULTS.md").write_text("# Results\n")
    worse, better = tour_figures.summarise(RUNS), tour_figures.summarise(RUNS[1:])
    walking_tour.report("base_gait", "published", PUBLISHED, better, walking_tour.weights_of("base_gait"), tmp_path)
    walking_tour.report("standing", "published", PUBLISHED, worse, None, tmp_path)
    walking_tour.report("standing", "published", PUBLISHED, worse, None, tmp_path)  # in place of it
    figures = json.loads((tmp_path / "benchmarks" / "results" / "walking_tour.json").read_text())["figures"]
    assert {name: row["runs"] for name, row in figures["walkers"].items()} == {
        "base_gait, published": 2,
        "standing, published": 3,
    }
    assert figures["published"]["HOMIE"]["survival_s"] == 78.3
    weights = figures["walkers"]["base_gait, published"]["weights"]
    assert weights["sha256"] == hashlib.sha256(asset_path(WALKER).read_bytes()).hexdigest()[:12]
    assert weights["note"] == load_weights(asset_path(WALKER)).note
    assert figures["walkers"]["standing, published"]["weights"] is None
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.count("| ours: ") == 2 and text.index("ours: base_gait") < text.index("ours: standing")
    assert text.count("| standing, published | left alone | 80.0 % | 1 of 3 |") == 1
    assert text.count(f"Weights {weights['sha256']}: {weights['note']}. Rows: base_gait, published (") == 1
    assert text.count("No weights, or not recorded. Rows: standing, published (") == 1
    assert (tmp_path / "docs" / "walking_tour_survival.png").exists()


def test_only_the_whole_task_of_a_named_walker_is_reported() -> None:
    whole = range(512)
    assert walking_tour.unreported("shipped", "published", PUBLISHED, whole) == []
    assert walking_tour.unreported("standing", "harsh", HARSH, whole) == []
    for walker, task, config, runs, why in (
        ("runs/mine/walker.npz", "published", PUBLISHED, whole, "--walker is none of shipped"),
        ("shipped", "published", replace(PUBLISHED, height=0.7), whole, "not those of task published"),
        ("shipped", "published", replace(PUBLISHED, physics_dt=0.005), whole, "not those of task published"),
        ("shipped", "harsh", PUBLISHED, whole, "not those of task harsh"),
        ("shipped", "published", PUBLISHED, range(16), "not 0 to 511"),
        ("shipped", "published", PUBLISHED, range(1, 513), "not 0 to 511"),
    ):
        (reason,) = walking_tour.unreported(walker, task, config, runs)
        assert why in reason


def test_a_trial_prints_and_leaves_the_report_alone(monkeypatch: Any, capsys: Any, tmp_path: Path) -> None:
    def reported(*_: object) -> None:
        raise AssertionError("a trial is not reported")

    monkeypatch.setattr(walking_tour, "report", reported)
    monkeypatch.setattr(walking_tour, "ROOT", tmp_path)
    monkeypatch.setitem(walking_tour.PRESETS, "tiny", walking_tour.Preset(1, 0.4))
    monkeypatch.setattr(sys, "argv", ["walking_tour.py", "--walker", "standing", "--preset", "tiny", "--workers", "1"])
    walking_tour.main()
    printed = capsys.readouterr().out
    assert "Printed only: the settings are not those of task published; the runs are not 0 to 511." in printed
    assert (tmp_path / "runs" / "walking_tour" / "tiny" / "published" / "standing" / "runs.jsonl").exists()


def test_files_of_weights_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "walker.npz"
    save_weights(path, replace(load_weights(asset_path(WALKER)), note="of a test"))
    assert walking_tour.label_of(str(path)) == "mine-walker" and walking_tour.label_of("standing") == "standing"
    found = walking_tour.weights_of(str(path))
    assert found.note == "of a test" and found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert walking_tour.weights_of("shipped") == walking_tour.weights_of("stepping") != found
    assert walking_tour.weights_of("standing") is None


def test_names_that_are_none() -> None:
    with pytest.raises(ValueError, match="Did you mean 'standing'"):
        walking_tour.make_walker("standng")
    with pytest.raises(SystemExit, match="Unknown preset 'tinny'. Did you mean 'tiny'"):
        walking_tour.arguments(["--preset", "tinny"])
    with pytest.raises(SystemExit, match="Unknown task 'hash'. Did you mean 'harsh'"):
        walking_tour.arguments(["--task", "hash"])
    args = walking_tour.arguments(["--preset", "tiny", "--runs", "2"])
    assert (args.runs, walking_tour.arguments([]).runs, args.walker) == (2, 512, "shipped")


def test_the_hardest_survived_punch() -> None:
    punches = (HIT, replace(HIT, force=90.0), FELLED, replace(HIT, force=400.0, fell=None))
    assert tour_pictures.hardest_survived(run_of(0, 10.0, (), *punches)) == HIT
    assert tour_pictures.hardest_survived(run_of(0, 10.0, (), FELLED)) is None


def test_a_picture_shows_waypoint_and_punch() -> None:
    robot = build_tour_robot(Balance(), CONFIG, tour_pictures.scene())
    run_id = min(IDS, key=lambda i: draw_scenario(i, CONFIG).punches[0].start_s)
    tour, view = Tour(robot, run_id, CONFIG), tour_pictures.TourView(robot, (180, 240))
    red = []
    first = round(tour.scenario.punches[0].start_s * 50)
    for step in range(first + 3):
        tour.advance()
        if step in (first - 1, first + 2):
            picture = view.picture(tour, "").astype(int)
            red.append(int(((picture[..., 0] > 130) & (picture[..., 1:].max(axis=-1) < 70)).sum()))
    assert picture.shape == (180, 240, 3) and red[0] == 0 and red[1] > 20
    view.close()


def test_the_arrow_points_where_the_force_does() -> None:
    turned = np.zeros(3)
    mujoco.mju_rotVecQuat(turned, np.array([0.0, 0.0, 1.0]), tour_pictures._turn_z_to(np.array([0.0, -30.0, 40.0])))
    assert turned == pytest.approx([0.0, -0.6, 0.8])


def test_curves_are_drawn(tmp_path: Path) -> None:
    seconds, alive = tour_pictures._alive_by_time("10 20 90")
    assert len(seconds) == 91 and [alive[t] for t in (0, 10, 19, 20, 90)] == [(3, 3), (2, 3), (2, 3), (1, 3), (1, 3)]
    hits = [replace(HIT, force=80.0 + 40.0 * i, fell=i > 6) for i in range(11)] * 10
    figures = tour_figures.summarise([run_of(0, 10.0, (), *hits), RUNS[2]])
    forces, counts = tour_pictures._falls_by_force(figures["falls_of_punches"])
    assert forces[0] == 75.0 and counts[0] == (0, 10) and counts[-1] == (10, 10)
    path = tmp_path / "deep" / "curves.png"
    tour_pictures.plot_survival({"one": figures, "two": tour_figures.summarise(RUNS)}, path)
    picture = np.asarray(imageio.imread(path))[..., :3]
    assert 0.02 < (picture < 250).any(-1).mean() < 0.6
