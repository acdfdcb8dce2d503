"""`unitree_hg`: what the humanoid's own topics carry (unitree_sdk2_python 37116c52, unitree_sdk2 21d0a3b2)."""

# mypy: disable-error-code="valid-type, type-arg"
from dataclasses import dataclass

from cyclonedds.idl import IdlStruct, annotations, types

NUM_MOTORS = 35  # slots in a message; the G1's joints are 0..28, and slot 29 of rt/arm_sdk carries the weight


@dataclass
@annotations.final
@annotations.autoid("sequential")
class MotorCmd(IdlStruct, typename="unitree_hg.msg.dds_.MotorCmd_"):
    """One motor: torque = kp (q - q_now) + kd (dq - dq_now) + tau."""

    mode: types.byte  # 1 enabled, 0 disabled
    q: types.float32  # rad
    dq: types.float32  # rad/s
    tau: types.float32  # N m
    kp: types.float32  # N m/rad
    kd: types.float32  # N m s/rad
    reserve: types.uint32


@dataclass
@annotations.final
@annotations.autoid("sequential")
class LowCmd(IdlStruct, typename="unitree_hg.msg.dds_.LowCmd_"):
    """Topics rt/lowcmd, rt/arm_sdk and rt/user_lowcmd."""

    mode_pr: types.byte  # 0: ankles and waist as pitch and roll; 1: as the motors A and B
    mode_machine: types.byte  # what LowState.mode_machine said; the robot ignores anything else
    motor_cmd: types.array[MotorCmd, NUM_MOTORS]
    reserve: types.array[types.uint32, 4]
    crc: types.uint32  # real/crc.py


@dataclass
@annotations.final
@annotations.autoid("sequential")
class IMUState(IdlStruct, typename="unitree_hg.msg.dds_.IMUState_"):
    """Part of LowState (pelvis), and topic rt/secondary_imu (torso)."""

    quaternion: types.array[types.float32, 4]  # wxyz
    gyroscope: types.array[types.float32, 3]  # rad/s
    accelerometer: types.array[types.float32, 3]  # m/s^2
    rpy: types.array[types.float32, 3]  # rad
    temperature: types.int16  # degrees C


@dataclass
@annotations.final
@annotations.autoid("sequential")
class MotorState(IdlStruct, typename="unitree_hg.msg.dds_.MotorState_"):
    """What one motor reports."""

    mode: types.byte
    q: types.float32  # rad
    dq: types.float32  # rad/s
    ddq: types.float32  # rad/s^2
    tau_est: types.float32  # N m
    temperature: types.array[types.int16, 2]  # degrees C: casing, winding
    vol: types.float32  # V
    sensor: types.array[types.uint32, 2]
    motorstate: types.uint32
    reserve: types.array[types.uint32, 4]


@dataclass
@annotations.final
@annotations.autoid("sequential")
class LowState(IdlStruct, typename="unitree_hg.msg.dds_.LowState_"):
    """Topics rt/lowstate and rt/lf/lowstate."""

    version: types.array[types.uint32, 2]
    mode_pr: types.byte
    mode_machine: types.byte  # 5 on a 29-dof G1, other numbers on newer boards
    tick: types.uint32  # ms
    imu_state: IMUState
    motor_state: types.array[MotorState, NUM_MOTORS]
    wireless_remote: types.array[types.byte, 40]
    reserve: types.array[types.uint32, 4]
    crc: types.uint32


@dataclass
@annotations.final
@annotations.autoid("sequential")
class BmsState(IdlStruct, typename="unitree_hg.msg.dds_.BmsState_"):
    """Topic rt/lf/bmsstate: the battery."""

    version_high: types.byte
    version_low: types.byte
    fn: types.byte
    cell_vol: types.array[types.uint16, 40]  # mV
    bmsvoltage: types.array[types.uint32, 3]
    current: types.int32
    soc: types.byte  # per cent
    soh: types.byte  # per cent
    temperature: types.array[types.int16, 12]  # degrees C
    cycle: types.uint16
    manufacturer_date: types.uint16
    bmsstate: types.array[types.uint32, 5]
    reserve: types.array[types.uint32, 3]


@dataclass
@annotations.final
@annotations.autoid("sequential")
class SportModeState(IdlStruct, typename="unitree_hg.msg.dds_.SportModeState_"):
    """Topic rt/sportmodestate on the robot. unitree_mujoco publishes `unitree_go`'s type under the same name."""

    fsm_id: types.uint32
    fsm_mode: types.uint32
    task_id: types.uint32
    task_time: types.float32  # s
