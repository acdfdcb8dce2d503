"""What the robot says about itself: every topic that it publishes by itself, filled from the simulated body."""

from math import floor
from typing import Final

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import quat_conjugate, quat_rotate
from neon_sim.real.bridge.body import Body
from neon_sim.real.bridge.config import TICK_S, BridgeConfig
from neon_sim.real.bridge.faults import StateLine, WireFaults, roll_pitch_yaw
from neon_sim.real.bridge.gamepad import Gamepad
from neon_sim.real.codec import layout
from neon_sim.real.idl import unitree_go
from neon_sim.real.idl.ros import Imu, Odometry
from neon_sim.real.idl.unitree_hg import BmsState, IMUState, LowState, SportModeState
from neon_sim.real.stamped import Stamped, StampedLayout
from neon_sim.real.transport import Link

BOOT_MS: Final = 1000  # the tick at the start: it counts from switching on, and clients wait for one that is not 0
AMBIENT_C: Final = 25  # motors and battery have no thermal model
_NUM: Final = joints.NUM_JOINTS
_SLOW_TICKS: Final = 25  # the rt/lf topics, 20 Hz
_FSM_TICKS: Final = 10
_LIDAR_IMU_HZ: Final = 200.0


class StatePublisher:
    """Publishes a body's state. `publish` belongs after every tick, or after the last one of a step."""

    def __init__(self, link: Link, body: Body, config: BridgeConfig) -> None:
        self._body = body
        self.gamepad = Gamepad()
        self._told: Gamepad | None = None  # whose bytes stand in the record
        self.line = StateLine()
        self._low = layout(LowState).zeros()
        self._low["mode_machine"] = config.mode_machine
        motors, imu = self._low["motor_state"][:_NUM], self._low["imu_state"]
        motors["mode"], imu["temperature"] = 1, AMBIENT_C
        # Views into the record, made once.
        self._motors = {name: motors[name] for name in ("q", "dq", "ddq", "tau_est", "temperature")}
        self._pelvis = {name: imu[name] for name in ("quaternion", "gyroscope", "accelerometer", "rpy")}
        self._low_writer = link.writer("rt/lowstate", LowState)
        self._slow_low_writer = link.writer("rt/lf/lowstate", LowState)
        self._imu = layout(IMUState).zeros()
        self._imu["temperature"] = AMBIENT_C
        self._imu_writer = link.writer("rt/secondary_imu", IMUState)
        self._sport = layout(SportModeState).zeros()
        self._sport_writer = link.writer("rt/sportmodestate", SportModeState)
        self._battery = layout(BmsState).zeros()
        self._battery["soc"] = self._battery["soh"] = 100
        self._battery["temperature"] = AMBIENT_C
        self._battery_writer = link.writer("rt/lf/bmsstate", BmsState)
        self._remote_writer = link.writer("rt/wirelesscontroller", unitree_go.WirelessController)
        self._odometry = OdometryPublisher(link, body)
        self._lidar_imu = LidarImuPublisher(link, body)

    def publish(self, fsm_id: int, fsm_mode: int) -> None:
        """Send everything that is due at the body's present tick and that somebody hears: to make messages for nobody
        took a quarter of a tick (measured)."""
        ticks = self._body.ticks
        self.publish_low_state()
        if self._imu_writer.readers():
            self._publish_torso_imu()
        self._odometry.publish(self._low["imu_state"], slow=ticks % _SLOW_TICKS == 0)
        self._lidar_imu.publish()
        if ticks % _FSM_TICKS == 0:
            self._sport["fsm_id"], self._sport["fsm_mode"] = fsm_id, fsm_mode
            self._sport_writer.write(layout(SportModeState).encode(self._sport))
        if ticks % _SLOW_TICKS == 0:
            self._battery_writer.write(layout(BmsState).encode(self._battery))
            self._remote_writer.send(self.gamepad.message())

    def publish_low_state(self) -> None:
        """Send rt/lowstate, with whatever faults are on."""
        body, low = self._body, self._low
        self._fill()
        for sample in self.line.pass_on(low, body.time_s):
            self._low_writer.write(sample)
            if body.ticks % _SLOW_TICKS == 0:
                self._slow_low_writer.write(sample)

    def inject(self, faults: WireFaults) -> None:
        """Let something be wrong from the next state on; `WireFaults()` heals everything."""
        self.line.faults = faults
        self._battery["soc"] = 100 if faults.soc is None else faults.soc

    def _fill(self) -> None:
        """All that faults can spoil is written each time, so that a healed one leaves nothing behind."""
        body, motors, imu = self._body, self._motors, self._pelvis
        self._low["tick"] = BOOT_MS + round(body.time_s * 1000)
        motors["q"][:], motors["dq"][:] = body.joint_pos, body.joint_vel
        motors["ddq"][:], motors["tau_est"][:] = body.joint_acceleration, body.joint_torque
        motors["temperature"][:] = AMBIENT_C
        imu["quaternion"][:], imu["gyroscope"][:] = body.pelvis_quat, body.gyro
        imu["rpy"][:], imu["accelerometer"][:] = roll_pitch_yaw(body.pelvis_quat), body.pelvis_acceleration
        if self.gamepad is not self._told:
            self._low["wireless_remote"] = np.frombuffer(self.gamepad.remote_bytes(), np.uint8)
            self._told = self.gamepad

    def _publish_torso_imu(self) -> None:
        body, imu, quat = self._body, self._imu, np.empty(4)
        body.settle_poses()
        mujoco.mju_mat2Quat(quat, body.torso_imu_matrix)
        imu["quaternion"], imu["rpy"] = quat, roll_pitch_yaw(quat)
        imu["gyroscope"], imu["accelerometer"] = body.torso_gyro, body.torso_acceleration
        self._imu_writer.write(layout(IMUState).encode(imu))


class OdometryPublisher:
    """Where the robot is, in the vendor's type and in ROS's. Both carry the simulation's truth: the robot's drifts."""

    def __init__(self, link: Link, body: Body) -> None:
        self._body = body
        self._go_layout, self._ros_layout = layout(unitree_go.SportModeState), StampedLayout(Odometry)
        self._go = self._go_layout.zeros()
        self._go_writer = link.writer("rt/odommodestate", unitree_go.SportModeState)
        self._slow_go_writer = link.writer("rt/lf/odommodestate", unitree_go.SportModeState)
        record = self._ros_layout.zeros()
        self._ros_writer = link.writer("rt/dog_odom", Odometry)
        self._ros = record
        self._pose = _doubles(record["pose"]["pose"])  # x, y, z m, then the quaternion x, y, z, w
        self._twist = _doubles(record["twist"]["twist"])

    def publish(self, imu: np.ndarray, slow: bool) -> None:
        """Send what is heard. imu: the pelvis IMU of this tick's LowState. slow: rt/lf/odommodestate is due too."""
        heard = self._go_writer.readers() > 0
        slow = slow and self._slow_go_writer.readers() > 0
        if heard or slow:
            self._publish_go(imu, heard, slow)
        if self._ros_writer.readers():
            self._publish_ros()

    def _publish_go(self, imu: np.ndarray, fast: bool, slow: bool) -> None:
        body, go = self._body, self._go
        pos, vel = body.pelvis_pos, body.pelvis_vel
        go["stamp"]["sec"], go["stamp"]["nanosec"] = divmod(round(body.time_s * 1e9), 1_000_000_000)
        go["position"], go["velocity"], go["yaw_speed"], go["body_height"] = pos, vel, body.gyro[2], pos[2]
        for name in ("quaternion", "gyroscope", "accelerometer", "rpy", "temperature"):
            go["imu_state"][name] = imu[name]
        sample = self._go_layout.encode(go)
        if fast:
            self._go_writer.write(sample)
        if slow:
            self._slow_go_writer.write(sample)

    def _publish_ros(self) -> None:
        body, quat = self._body, self._body.pelvis_quat
        self._pose[:3], self._pose[3:] = body.pelvis_pos, quat[[1, 2, 3, 0]]
        self._twist[:3] = quat_rotate(quat_conjugate(quat), body.pelvis_vel)  # nav_msgs: in the child's frame
        self._twist[3:] = body.gyro
        self._ros_writer.write(self._ros_layout.encode(Stamped(body.time_s, ("odom", "base_link"), self._ros)))


class LidarImuPublisher:
    """The Mid-360's own IMU: the torso's, turned into the LiDAR's frame; the lever between the two is left out."""

    def __init__(self, link: Link, body: Body) -> None:
        self._body, self._layout = body, StampedLayout(Imu)
        self._record = self._layout.zeros()
        self._record["orientation_covariance"][0] = -1.0  # sensor_msgs: it gives no orientation
        self._gyro = _doubles(self._record["angular_velocity"])
        self._acceleration = _doubles(self._record["linear_acceleration"])
        self._to_lidar = quat_conjugate(body.model.site("mid360").quat)
        self._writer = link.writer("rt/utlidar/imu_livox_mid360", Imu)

    def publish(self) -> None:
        """Send it, 200 times a second of simulated time."""
        body = self._body
        if floor(body.time_s * _LIDAR_IMU_HZ + 1e-6) == floor((body.time_s - TICK_S) * _LIDAR_IMU_HZ + 1e-6):
            return
        if not self._writer.readers():
            return
        self._gyro[:] = quat_rotate(self._to_lidar, body.torso_gyro)
        self._acceleration[:] = quat_rotate(self._to_lidar, body.torso_acceleration)
        self._writer.write(self._layout.encode(Stamped(body.time_s, ("livox_frame",), self._record)))


def _doubles(record: np.ndarray) -> np.ndarray:
    """A record of nothing but doubles as one row of them, in the same memory."""
    return record.reshape(1).view(np.float64)
