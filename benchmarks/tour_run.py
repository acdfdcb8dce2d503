"""One run of the walking tour: the crane, the punches, and what is measured."""

import math
from typing import Any, Final

import mujoco
import numpy as np
from tour_record import PunchResult, RunResult, parts_of, speeds_of
from tour_task import (
    ARMS,
    CONTROL_DT,
    CONTROL_HZ,
    PUNCH_STEPS,
    SEGMENT_STEPS,
    TOUR_STEPS,
    Follower,
    Punch,
    TourConfig,
    draw_scenario,
    wrap,
)

from neon_sim.g1 import joints
from neon_sim.robot import RobotCommand
from neon_sim.sim.model import build_spec
from neon_sim.sim.noise import SensorNoise
from neon_sim.sim.randomize import set_friction
from neon_sim.sim.sim_robot import SimRobot

JUDGED_S: Final = 4.0  # a fall so soon after a punch is its work
ARMS_OWNED: Final = np.isin(np.arange(joints.NUM_JOINTS), ARMS)
ARMS_OWNED.flags.writeable = False
_NOISE_STREAM: Final = 1  # keeps the sensors' random numbers apart from the scenario's


class Crane:
    """Two soft springs with dampers at the centres of mass of pelvis and torso: the body can neither drift nor lean.

    They hold where the two were when the crane was hooked up, and go down with the height command. The feet carry the
    weight. Renewed at 50 Hz: both gains are far below what that rate can make unstable on bodies of this mass.
    """

    STIFFNESS: Final = 2000.0  # N/m
    DAMPING: Final = 150.0  # N s/m
    LOWERING: Final = 0.1  # m/s

    def __init__(self, robot: SimRobot, height: float) -> None:
        self._data = robot.data
        self._bodies = [robot.model.body(name).id for name in ("pelvis", "torso_link")]
        self._hook = self._data.xipos[self._bodies].copy()
        self._drop = max(joints.HOME_HEIGHT - height, 0.0)
        self._before = self._hook

    def pull(self, time_s: float) -> None:
        """Set the forces of the next control period; time_s since the crane was hooked up."""
        pos = self._data.xipos[self._bodies]
        goal = self._hook - (0.0, 0.0, min(self.LOWERING * time_s, self._drop))
        force = self.STIFFNESS * (goal - pos) - self.DAMPING * (pos - self._before) / CONTROL_DT
        self._before = pos
        self._data.xfrc_applied[self._bodies, :3] = force

    def release(self) -> None:
        """Let go for good."""
        self._data.xfrc_applied[self._bodies] = 0.0


class Tour:
    """One run as it happens: `advance` until `over`, then `result`. A picture may be taken after any step.

    Attributes:
        step: control steps since the crane let go.
        target: x, y m and heading rad of the present waypoint in the world.
        fell: whether the pelvis was below the limit, or the physics broke down.
    """

    def __init__(self, robot: SimRobot, run_id: int, config: TourConfig) -> None:
        self.robot, self.run_id, self.config = robot, run_id, config
        self.scenario = draw_scenario(run_id, config)
        self.steps = round(config.duration_s * CONTROL_HZ)
        self.step, self.fell = 0, False
        self._follower = Follower(config.follower)
        self._height = config.height
        self._whole_body = np.tile(joints.HOME, (TOUR_STEPS, 1))
        self._whole_body[:, ARMS] = self.scenario.arms
        self._whole_body.flags.writeable = False  # so that the robot need not copy its rows
        self._joints = [robot.model.joint(name).id for name in joints.JOINT_NAMES]
        self._punch_at = {round(p.start_s * CONTROL_HZ): p for p in self.scenario.punches}
        self._punching: tuple[Punch, int] | None = None  # and the control step at which it is over
        self._joint_vel = np.zeros((self.steps, joints.NUM_JOINTS))
        self._torque = np.zeros((self.steps, joints.NUM_JOINTS))
        self._gyro = np.zeros((self.steps, 3))
        self._position_cm: list[float] = []
        self._yaw_deg: list[float] = []
        robot.reset(np.random.default_rng((run_id, _NOISE_STREAM)))
        data = robot.data
        self._qpos, self._base_turn, self._all_vel = data.qpos[:7], data.qvel[3:6], data.qvel[6:35]
        self._all_torque = data.actuator_force[: joints.NUM_JOINTS]
        self._hang()
        self._start = self.pose()
        self.target = self._start

    @property
    def over(self) -> bool:
        """Whether there is nothing left to walk."""
        return self.fell or self.step >= self.steps

    @property
    def time_s(self) -> float:
        """Seconds since the crane let go."""
        return self.step / CONTROL_HZ

    def pose(self) -> tuple[float, float, float]:
        """True x, y m and heading rad of the pelvis."""
        x, y, _, qw, qx, qy, qz = self._qpos.tolist()
        return x, y, math.atan2(2.0 * (qw * qz + qx * qy), 1.0 - 2.0 * (qy * qy + qz * qz))

    def advance(self) -> None:
        """One control step."""
        if self.step % SEGMENT_STEPS == 0:
            self._next_target()
        self._punch()
        velocity = self._follower.command(self.target, self.pose())
        self._move(self._whole_body[self.step], velocity)
        self._joint_vel[self.step] = self._all_vel
        self._torque[self.step] = self._all_torque
        self._gyro[self.step] = self._base_turn
        # Where the physics blows up MuJoCo starts it again at time 0, with the robot on its feet: that is no recovery.
        broken = self.robot.data.time < (self.step + 1) * CONTROL_DT - 1e-6
        self.fell = broken or bool(self._qpos[2] < self.config.fall_height)
        self.step += 1
        if self.step % SEGMENT_STEPS == 0 or self.fell:
            self._score()

    def result(self) -> RunResult:
        """The figures of the run so far."""
        joint_vel = self._joint_vel[: self.step]
        power = np.abs(self._torque[: self.step] * joint_vel).sum()
        shake = np.abs(np.diff(joint_vel, n=2, axis=0)).sum() / CONTROL_DT
        parts = parts_of(self.step, [punch.start_s for punch in self._thrown()], self.fell)
        return RunResult(
            run_id=self.run_id,
            survival_s=self.time_s,
            completed=not self.fell,
            position_cm=tuple(self._position_cm),
            yaw_deg=tuple(self._yaw_deg),
            energy_kj=float(power) * CONTROL_DT * 1e-3,
            vibration=float(shake) * 1e-6,
            speeds={name: speeds_of(joint_vel[part], self._gyro[: self.step][part]) for name, part in parts.items()},
            punches=self._judge(),
        )

    def _hang(self) -> None:
        """Let the crane hold the robot for a while, arms where they begin, command zero."""
        crane = Crane(self.robot, self._height)
        for step in range(round(self.config.crane_s * CONTROL_HZ)):
            crane.pull(step / CONTROL_HZ)
            self._move(self._whole_body[0], np.zeros(3))
        crane.release()
        self.robot.data.time = 0.0

    def _move(self, whole_body: np.ndarray, velocity: np.ndarray) -> None:
        self.robot.write(RobotCommand(whole_body, ARMS_OWNED, joints.KP, joints.KD, velocity, self._height))
        self.robot.advance()

    def _next_target(self) -> None:
        x, y, heading = self.scenario.waypoints[self.step // SEGMENT_STEPS].tolist()
        x0, y0, heading0 = self._start
        cos, sin = math.cos(heading0), math.sin(heading0)
        self.target = x0 + cos * x - sin * y, y0 + sin * x + cos * y, wrap(heading0 + heading)
        self._follower.new_target()

    def _punch(self) -> None:
        """Begin, go on with or end a punch: a force at the joint, so a force and a torque at the link's centre of mass.

        It is renewed with the pose of the link at 50 Hz.
        """
        data = self.robot.data
        if self.step in self._punch_at:
            self._punching = self._punch_at[self.step], self.step + PUNCH_STEPS
        if self._punching is None:
            return
        punch, over = self._punching
        if self.step >= over:
            data.xfrc_applied[:], self._punching = 0.0, None
            return
        joint = self._joints[punch.joint]
        body = int(self.robot.model.jnt_bodyid[joint])
        lever, force_w = data.xanchor[joint] - data.xipos[body], self.force_w(punch)
        data.xfrc_applied[body] = np.concatenate([force_w, np.cross(lever, force_w)])

    def force_w(self, punch: Punch) -> np.ndarray:
        """A punch's force (3,) N as the link that gives it its direction lies now."""
        if punch.frame == "world":
            return punch.force
        model, data = self.robot.model, self.robot.data
        body = int(model.jnt_bodyid[self._joints[punch.joint]])
        body = int(model.body_parentid[body]) if punch.frame == "parent" else body
        return data.xmat[body].reshape(3, 3) @ punch.force

    def _score(self) -> None:
        """Errors at the target whose time has just run out, or that will not be reached."""
        (x, y, heading), (target_x, target_y, target_heading) = self.pose(), self.target
        self._position_cm.append(100.0 * math.hypot(target_x - x, target_y - y))
        self._yaw_deg.append(math.degrees(abs(wrap(target_heading - heading))))

    def _thrown(self) -> list[Punch]:
        """The punches so far."""
        return [punch for punch in self.scenario.punches if punch.start_s < self.time_s]

    def _judge(self) -> tuple[PunchResult, ...]:
        """Each punch thrown, and whether it felled the robot: within `JUDGED_S`, and before the next one."""
        thrown, results = self._thrown(), []
        for index, punch in enumerate(thrown):
            last = index == len(thrown) - 1
            fell: bool | None = self.fell and last and self.time_s <= punch.start_s + JUDGED_S
            if punch.start_s + JUDGED_S > self.config.duration_s:
                fell = None  # even if it fell: counting only those would make late punches look worse
            results.append(PunchResult(punch.start_s, punch.body, float(np.linalg.norm(punch.force)), fell))
        return tuple(results)


def build_tour_robot(walker: Any, config: TourConfig, spec: mujoco.MjSpec | None = None) -> SimRobot:
    """The robot with a walker, on the tour's physics: its friction, and noisy sensors.

    spec: a scene made with `build_spec`, with things to look at added; it is changed.
    """
    spec = spec or build_spec()
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC if config.elliptic else mujoco.mjtCone.mjCONE_PYRAMIDAL
    for name in joints.JOINT_NAMES:
        spec.joint(name).frictionloss = config.friction_loss
    robot = SimRobot(spec, {}, physics_dt=config.physics_dt, noise=SensorNoise())
    robot.model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_SENSOR)  # nobody reads them: 3 % of the time
    set_friction(robot.model, config.sole_friction)
    robot.walker = walker
    return robot


def run_tour(robot: SimRobot, run_id: int, config: TourConfig) -> RunResult:
    """One whole run."""
    tour = Tour(robot, run_id, config)
    while not tour.over:
        tour.advance()
    return tour.result()
