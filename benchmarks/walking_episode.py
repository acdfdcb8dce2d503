"""One judged episode of walking: a world, a plan of commands, arms that move at random, and the truth of what happened.

The harness reads the simulator's truth; the walker sees what SimRobot's noisy sensors give it and nothing else.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import mujoco
import numpy as np
from walkers import make_walker
from walking_handicaps import Delayed, Misread
from walking_probe import Probe, Readings

from neon_sim.g1 import joints
from neon_sim.names import nearest
from neon_sim.robot import RobotCommand
from neon_sim.sim.faults import AddedLatency
from neon_sim.sim.model import build_spec
from neon_sim.sim.noise import SensorNoise
from neon_sim.sim.randomize import NOMINAL, ModelRandomization, randomize_model
from neon_sim.sim.sim_robot import SimRobot
from neon_sim.sim.terrain import add_rough, add_slope, add_steps

Velocity = tuple[float, float, float]  # m/s forward, m/s left, rad/s left
Plan = tuple[tuple[float, Velocity], ...]  # from which second on which command holds; the first from 0.0

CONTROL_DT: Final = 0.02  # s
SETTLE_S: Final = 0.4
FALL_HEIGHT: Final = 0.35  # m, pelvis above the ground
FALL_TILT: Final = 1.0  # rad
GROUNDS: Final = ("flat", "steps", "rough", "slope")

NO_SENSORS: Final = int(mujoco.mjtDisableBit.mjDSBL_SENSOR)  # MuJoCo's own, which nobody reads here: 3 % of the time

_ARMS: Final = joints.GROUPS["arms"]
_ARMS_OWNED: Final = np.isin(np.arange(joints.NUM_JOINTS), _ARMS)
_ARMS_OWNED.flags.writeable = False
_ARM_SPEED: Final = (0.5, 2.0)  # rad/s
_ARM_SHARE: Final = 0.8  # of each joint's range, about its middle
_NQ, _NV = 7 + joints.NUM_JOINTS, 6 + joints.NUM_JOINTS


@dataclass(frozen=True)
class Condition:
    """The world of an episode. `seed` draws the robot, the ground and which way each encoder is off."""

    label: str = "flat"
    physics_dt: float = 0.002  # s
    elliptic: bool = False  # friction cones; pyramids otherwise
    robot: ModelRandomization = NOMINAL
    ground: str = "flat"  # one of GROUNDS
    slope_degrees: float = 0.0
    slope_heading: float = 0.0  # rad from where the robot faces at the start to where the ground rises
    latency_steps: int = 0  # control periods by which the walker's targets come late
    sensing_s: float = 0.0  # by which all readings come late
    noise: float = 1.0  # times the deviations of `SensorNoise`, which are those of the walker's training
    encoder_offset: float = 0.0  # rad by which every encoder is off, this way or that
    seed: int = 0

    def __post_init__(self) -> None:
        if self.ground not in GROUNDS:
            raise nearest("ground", self.ground, GROUNDS)


@dataclass(frozen=True)
class Job:
    """One episode, small enough to be sent to a worker."""

    plan: Plan
    seconds: float
    episode: int  # with `seed`, all the randomness there is: joint noise at the start, sensor noise, arms
    condition: Condition = Condition()
    walker: str = "shipped"
    seed: int = 0
    arms: bool = True  # at random; at home otherwise
    height: float = joints.HOME_HEIGHT  # m, the commanded one
    probe: bool = False  # look at every physics step: contacts, peaks, legs


class Track(NamedTuple):
    """What truly happened, one row per control period, up to the fall if there was one."""

    qpos: np.ndarray  # (T, 36) pelvis position m, quaternion wxyz, joints rad
    qvel: np.ndarray  # (T, 35) pelvis velocity in the world m/s, its angular velocity in its own frame rad/s, joints
    command: np.ndarray  # (T, 3)
    fell: bool
    readings: Readings | None  # of the probe


class Course(NamedTuple):
    """A robot in its world, ready for any number of episodes."""

    robot: SimRobot
    motors: tuple[tuple[np.ndarray, np.ndarray], ...]  # arrays of the model, and what belongs in them
    start: np.ndarray | None  # (36,) qpos; None = level ground, SimRobot's own
    gradient: np.ndarray  # (2,) m of height per m along x and y


@lru_cache(maxsize=32)  # of robustness all worlds but those that every episode draws anew
def build_course(condition: Condition, walker: str) -> Course:
    """Build the world of a condition; the next episode in it finds it built."""
    return make_course(build_spec(), condition, walker)


def make_course(spec: mujoco.MjSpec, condition: Condition, walker: str) -> Course:
    """The same in a scene made with `build_spec`, perhaps with things to look at added; it is changed."""
    rng = np.random.default_rng((condition.seed, 2))
    start, gradient = None, np.zeros(2)
    if condition.ground == "steps":
        add_steps(spec, rng)
    elif condition.ground == "rough":
        add_rough(spec, rng)
    elif condition.ground == "slope":
        start = add_slope(spec, condition.slope_degrees, condition.slope_heading)
        heading = np.array([np.cos(condition.slope_heading), np.sin(condition.slope_heading)])
        gradient = np.tan(np.deg2rad(condition.slope_degrees)) * heading
    robot = SimRobot(
        spec, {}, physics_dt=condition.physics_dt, settle_s=0.0, noise=SensorNoise().scaled(condition.noise)
    )
    if condition.elliptic:
        robot.model.opt.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    randomize_model(robot.model, np.random.default_rng((condition.seed, 3)), condition.robot)
    robot.model.opt.disableflags |= NO_SENSORS
    if condition.sensing_s:
        robot.apply_fault(AddedLatency(action_s=0.0, sensing_s=condition.sensing_s))
    model, robot.walker = robot.model, handicapped(make_walker(walker), condition)
    motors = tuple((a, a.copy()) for a in (model.actuator_gainprm, model.actuator_biasprm, model.actuator_forcerange))
    return Course(robot, motors, start, gradient)


def handicapped(walker: Any, condition: Condition) -> Any:
    """A walker with what the condition puts between it and the robot."""
    if condition.encoder_offset:
        signs = np.random.default_rng((condition.seed, 4)).choice((-1.0, 1.0), joints.NUM_JOINTS)
        walker = Misread(walker, condition.encoder_offset * signs)
    return Delayed(walker, condition.latency_steps) if condition.latency_steps else walker


def arm_targets(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Targets (steps, 29) rad: every arm joint goes from home to goal after goal, each way at a speed of its own.

    Goals are uniform over the middle 80 % of the joint's range, speeds uniform from 0.5 to 2 rad/s.
    """
    targets = np.tile(joints.HOME, (steps, 1))
    now_s = CONTROL_DT * np.arange(steps)
    count = 8 + 4 * round(steps * CONTROL_DT)  # a leg of the way takes 0.8 s and more on average
    for joint in _ARMS:
        low, high = joints.LOWER[joint], joints.UPPER[joint]
        goals = 0.5 * (low + high) + 0.5 * _ARM_SHARE * (high - low) * rng.uniform(-1.0, 1.0, count)
        goals[0] = joints.HOME[joint]
        durations = np.abs(np.diff(goals)) / rng.uniform(*_ARM_SPEED, count - 1)
        targets[:, joint] = np.interp(now_s, np.append(0.0, durations.cumsum()), goals)
    return targets


def commands(plan: Plan, steps: int) -> np.ndarray:
    """The plan as one command per control period, (steps, 3)."""
    if not plan or plan[0][0] != 0.0:
        raise ValueError(f"A plan begins with a command at 0.0 s, got {plan}.")
    starts = np.array([start for start, _ in plan])
    now_s = CONTROL_DT * np.arange(steps)
    return np.array([velocity for _, velocity in plan])[np.searchsorted(starts, now_s + 1e-9, side="right") - 1]


def begin(course: Course, rng: np.random.Generator) -> None:
    """Reset the robot, put it in its place and give it its own motors back, which a reset makes nominal."""
    robot = course.robot
    robot.reset(rng)
    if course.start is not None:
        robot.data.qpos[:_NQ] = course.start
        robot.set_state(robot.get_state())  # nothing that was read in the old pose is kept
    for array, values in course.motors:
        array[:] = values


def run_episode(job: Job) -> Track:
    """Build the world if it is not there yet, settle for 0.4 s, follow the plan until its end or a fall."""
    return record(build_course(job.condition, job.walker), job)


def record(course: Course, job: Job, watch: Callable[[int], None] = lambda _: None) -> Track:
    """`run_episode` on a course that is there; `watch` is called with the number of each control period as it ends."""
    robot, steps = course.robot, round(job.seconds / CONTROL_DT)
    begin(course, np.random.default_rng((job.seed, job.episode, 0)))
    targets = np.tile(joints.HOME, (steps, 1))
    if job.arms:
        targets = arm_targets(np.random.default_rng((job.seed, job.episode, 1)), steps)
    wanted = commands(job.plan, steps)
    targets.flags.writeable = wanted.flags.writeable = False
    for _ in range(round(SETTLE_S / CONTROL_DT)):
        robot.write(_command(joints.HOME, np.zeros(3), job.height))
        robot.advance()
    probe = Probe(robot.model, steps) if job.probe else None
    substeps = robot.substeps
    qpos, qvel = np.empty((steps, _NQ)), np.empty((steps, _NV))
    data, done, fell = robot.data, 0, False
    while done < steps and not fell:
        robot.write(_command(targets[done], wanted[done], job.height))
        if probe is None:
            robot.advance()
        else:
            probe.advance(robot, done)
        qpos[done], qvel[done] = data.qpos[:_NQ], data.qvel[:_NV]
        fell = has_fallen(qpos[done], course.gradient)
        watch(done)
        done += 1
    robot.substeps = substeps
    readings = None if probe is None else probe.readings(done)
    return Track(qpos[:done], qvel[:done], wanted[:done], fell, readings)


def has_fallen(qpos: np.ndarray, gradient: np.ndarray) -> bool:
    """Whether the pelvis of `qpos` (7 or more,) is too near the ground of that gradient (2,), or tilted too far."""
    x, y, z, _, qx, qy, _ = qpos[:7].tolist()
    upright = 1.0 - 2.0 * (qx * qx + qy * qy)
    return bool(z - gradient[0] * x - gradient[1] * y < FALL_HEIGHT or upright < np.cos(FALL_TILT))


def step_times(job: Job) -> np.ndarray:
    """Milliseconds (T,) that each of the walker's steps took in one episode."""
    course, times = build_course(job.condition, job.walker), []
    walker: Any = course.robot.walker
    step = walker.step

    def timed(*arguments: Any) -> np.ndarray:
        start = time.perf_counter()
        targets = step(*arguments)
        times.append(1000.0 * (time.perf_counter() - start))
        return targets

    walker.step = timed
    try:
        record(course, job)
    finally:
        del walker.step  # back to the method of the class
    return np.array(times)


def _command(targets: np.ndarray, velocity: np.ndarray, height: float) -> RobotCommand:
    return RobotCommand(targets, _ARMS_OWNED, joints.KP, joints.KD, velocity, height)
