"""`unitree_go`: types that the G1 shares with the quadrupeds (unitree_sdk2_python 37116c52)."""

# mypy: disable-error-code="valid-type, type-arg"
from dataclasses import dataclass

from cyclonedds.idl import IdlStruct, annotations, types


@dataclass
@annotations.final
@annotations.autoid("sequential")
class TimeSpec(IdlStruct, typename="unitree_go.msg.dds_.TimeSpec_"):
    """A time stamp."""

    sec: types.int32
    nanosec: types.uint32


@dataclass
@annotations.final
@annotations.autoid("sequential")
class IMUState(IdlStruct, typename="unitree_go.msg.dds_.IMUState_"):
    """Like `unitree_hg`'s, with an 8-bit temperature."""

    quaternion: types.array[types.float32, 4]  # wxyz
    gyroscope: types.array[types.float32, 3]  # rad/s
    accelerometer: types.array[types.float32, 3]  # m/s^2
    rpy: types.array[types.float32, 3]  # rad
    temperature: types.byte  # degrees C


@dataclass
@annotations.final
@annotations.autoid("sequential")
class PathPoint(IdlStruct, typename="unitree_go.msg.dds_.PathPoint_"):
    """One point of a planned path."""

    t_from_start: types.float32  # s
    x: types.float32  # m
    y: types.float32  # m
    yaw: types.float32  # rad
    vx: types.float32  # m/s
    vy: types.float32  # m/s
    vyaw: types.float32  # rad/s


@dataclass
@annotations.final
@annotations.autoid("sequential")
class SportModeState(IdlStruct, typename="unitree_go.msg.dds_.SportModeState_"):
    """Topics rt/odommodestate and rt/lf/odommodestate: where the robot thinks that it is."""

    stamp: TimeSpec
    error_code: types.uint32
    imu_state: IMUState
    mode: types.byte
    progress: types.float32
    gait_type: types.byte
    foot_raise_height: types.float32  # m
    position: types.array[types.float32, 3]  # m
    body_height: types.float32  # m
    velocity: types.array[types.float32, 3]  # m/s
    yaw_speed: types.float32  # rad/s
    range_obstacle: types.array[types.float32, 4]
    foot_force: types.array[types.int16, 4]
    foot_position_body: types.array[types.float32, 12]  # m
    foot_speed_body: types.array[types.float32, 12]  # m/s
    path_point: types.array[PathPoint, 10]


@dataclass
@annotations.final
@annotations.autoid("sequential")
class WirelessController(IdlStruct, typename="unitree_go.msg.dds_.WirelessController_"):
    """Topic rt/wirelesscontroller: the gamepad."""

    lx: types.float32  # -1..1
    ly: types.float32
    rx: types.float32
    ry: types.float32
    keys: types.uint16  # one bit per button


@dataclass
@annotations.final
@annotations.autoid("sequential")
class MotorCmd(IdlStruct, typename="unitree_go.msg.dds_.MotorCmd_"):
    """One motor of a hand."""

    mode: types.byte
    q: types.float32  # rad
    dq: types.float32  # rad/s
    tau: types.float32  # N m
    kp: types.float32  # N m/rad
    kd: types.float32  # N m s/rad
    reserve: types.array[types.uint32, 3]


@dataclass
@annotations.final
@annotations.autoid("sequential")
class MotorCmds(IdlStruct, typename="unitree_go.msg.dds_.MotorCmds_"):
    """Topic rt/hand_sdk; a hundred times the weight stands in cmds[0].mode."""

    cmds: types.sequence[MotorCmd]
