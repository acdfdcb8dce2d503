"""The ROS 2 types that the G1 publishes, as plain DDS: points, inertial unit, odometry, text."""

# mypy: disable-error-code="valid-type, type-arg"
from dataclasses import dataclass

from cyclonedds.idl import IdlStruct, annotations, types


@dataclass
@annotations.final
@annotations.autoid("sequential")
class Time(IdlStruct, typename="builtin_interfaces.msg.dds_.Time_"):
    """A time stamp."""

    sec: types.int32
    nanosec: types.uint32


@dataclass
@annotations.final
@annotations.autoid("sequential")
class Header(IdlStruct, typename="std_msgs.msg.dds_.Header_"):
    """When, and in which frame."""

    stamp: Time
    frame_id: str


@dataclass
@annotations.final
@annotations.autoid("sequential")
class String(IdlStruct, typename="std_msgs.msg.dds_.String_"):
    """Topic rt/audio_msg: what the robot understood, as JSON."""

    data: str


@dataclass
@annotations.final
@annotations.autoid("sequential")
class PointField(IdlStruct, typename="sensor_msgs.msg.dds_.PointField_"):
    """One column of a point cloud."""

    name: str
    offset: types.uint32  # bytes from the start of a point
    datatype: types.byte  # 1..8: int8, uint8, int16, uint16, int32, uint32, float32, float64
    count: types.uint32


@dataclass
@annotations.final
@annotations.autoid("sequential")
class PointCloud2(IdlStruct, typename="sensor_msgs.msg.dds_.PointCloud2_"):
    """Topic rt/utlidar/cloud_livox_mid360. real/point_cloud.py is the fast way to read and write it."""

    header: Header
    height: types.uint32
    width: types.uint32
    fields: types.sequence[PointField]
    is_bigendian: bool
    point_step: types.uint32  # bytes per point
    row_step: types.uint32  # bytes per row
    data: types.sequence[types.byte]
    is_dense: bool


@dataclass
@annotations.final
@annotations.autoid("sequential")
class Quaternion(IdlStruct, typename="geometry_msgs.msg.dds_.Quaternion_"):
    """An orientation; x first, unlike everything else in this package."""

    x: types.float64
    y: types.float64
    z: types.float64
    w: types.float64


@dataclass
@annotations.final
@annotations.autoid("sequential")
class Vector3(IdlStruct, typename="geometry_msgs.msg.dds_.Vector3_"):
    """A direction with a length."""

    x: types.float64
    y: types.float64
    z: types.float64


@dataclass
@annotations.final
@annotations.autoid("sequential")
class Point(IdlStruct, typename="geometry_msgs.msg.dds_.Point_"):
    """A place."""

    x: types.float64  # m
    y: types.float64  # m
    z: types.float64  # m


@dataclass
@annotations.final
@annotations.autoid("sequential")
class Imu(IdlStruct, typename="sensor_msgs.msg.dds_.Imu_"):
    """Topic rt/utlidar/imu_livox_mid360."""

    header: Header
    orientation: Quaternion
    orientation_covariance: types.array[types.float64, 9]
    angular_velocity: Vector3  # rad/s
    angular_velocity_covariance: types.array[types.float64, 9]
    linear_acceleration: Vector3  # m/s^2
    linear_acceleration_covariance: types.array[types.float64, 9]


@dataclass
@annotations.final
@annotations.autoid("sequential")
class Pose(IdlStruct, typename="geometry_msgs.msg.dds_.Pose_"):
    """Where something is."""

    position: Point
    orientation: Quaternion


@dataclass
@annotations.final
@annotations.autoid("sequential")
class PoseWithCovariance(IdlStruct, typename="geometry_msgs.msg.dds_.PoseWithCovariance_"):
    """Where something is, and how surely."""

    pose: Pose
    covariance: types.array[types.float64, 36]


@dataclass
@annotations.final
@annotations.autoid("sequential")
class Twist(IdlStruct, typename="geometry_msgs.msg.dds_.Twist_"):
    """How something moves."""

    linear: Vector3  # m/s
    angular: Vector3  # rad/s


@dataclass
@annotations.final
@annotations.autoid("sequential")
class TwistWithCovariance(IdlStruct, typename="geometry_msgs.msg.dds_.TwistWithCovariance_"):
    """How something moves, and how surely."""

    twist: Twist
    covariance: types.array[types.float64, 36]


@dataclass
@annotations.final
@annotations.autoid("sequential")
class Odometry(IdlStruct, typename="nav_msgs.msg.dds_.Odometry_"):
    """Topic rt/dog_odom."""

    header: Header
    child_frame_id: str
    pose: PoseWithCovariance
    twist: TwistWithCovariance
