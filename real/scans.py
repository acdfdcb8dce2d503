"""What the robot tells of its surroundings and its motion over DDS: LiDAR, IMUs and odometry."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from neon_sim.g1.geometry import quat_rotate, quat_to_matrix
from neon_sim.g1.kinematics import link_transforms
from neon_sim.g1.links import LINKS, PALM_OFFSET
from neon_sim.names import nearest
from neon_sim.real import crc
from neon_sim.real.codec import WireError, layout
from neon_sim.real.idl import unitree_go, unitree_hg
from neon_sim.real.idl.ros import Imu, PointCloud2
from neon_sim.real.point_cloud import decode_point_cloud
from neon_sim.real.sense_source import Place
from neon_sim.real.stamped import StampedLayout

if TYPE_CHECKING:
    from neon_sim.sensors.gps import GpsConfig
    from neon_sim.sensors.imu import ImuConfig
    from neon_sim.sensors.lidar import LidarConfig

Quat = tuple[float, float, float, float]
MID360_POS: Final = (0.0002835, 0.00003, 0.428434)  # m in the torso's frame: unitree_ros d6f13aad, g1_29dof_rev_1_0
MID360_QUAT: Final[Quat] = (0.0, 0.9996733521179809, 0.0, -0.025557563757120788)  # wxyz: upside down, 2.93 degrees
IMUS: Final = ("body", "lidar")
_NAMES: Final = tuple(link.name for link in LINKS)
_TORSO: Final = _NAMES.index("torso")
# The robot as rods, each from one link's origin to the next one's in its chain.
_CHAINS: Final = (
    ("pelvis", "torso"),
    *(
        tuple(f"{side}_{part}" for part in ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_yaw"))
        for side in ("left", "right")
    ),
    *(tuple(f"{side}_{part}" for part in ("hip_pitch", "hip_yaw", "knee", "ankle_roll")) for side in ("left", "right")),
)
_RODS: Final = np.array([[_NAMES.index(name) for name in rod] for chain in _CHAINS for rod in pairwise(chain)])
_WRISTS: Final = np.array([_NAMES.index("left_wrist_yaw"), _NAMES.index("right_wrist_yaw")])
_FINGERTIPS: Final = np.array([2.0 * PALM_OFFSET[0], 0.0, 0.0, 1.0])  # in the wrist's frame: as far again as the palm
_HEAD: Final = np.array([0.0, 0.0, 0.43, 1.0])  # in the torso's frame


@dataclass(frozen=True)
class LidarTopic:
    """The Mid-360's points as PointCloud2.

    pos, quat_wxyz: of the sensor in the torso's frame. own_m: points so near to the robot's own limbs are the robot and
    become misses, as they are in simulation; what it holds in its hands goes with them. reliable: ask for lost pieces
    again; a publisher that does not offer that is then not heard at all.
    """

    topic: str = "rt/utlidar/cloud_livox_mid360"
    pos: tuple[float, float, float] = MID360_POS
    quat_wxyz: Quat = MID360_QUAT
    own_m: float = 0.1
    reliable: bool = False

    def open(self, wanted: "LidarConfig", place: Place) -> "Scans":
        """Subscribe.

        Raises:
            ValueError: points of another frame than the torso's.
        """
        if wanted.frame_body != "torso_link":
            raise ValueError(f"The robot's points are given in torso_link, got a wish for {wanted.frame_body!r}.")
        reader = place.link().reader(self.topic, PointCloud2, reliable=self.reliable)
        return Scans(self, wanted, reader)


class Scans:
    """Receives sweeps. Made by `LidarTopic.open`."""

    def __init__(self, source: LidarTopic, wanted: "LidarConfig", reader: Any) -> None:
        self._source, self._wanted, self._reader = source, wanted, reader

    def look(self, now_s: float, joint_pos: np.ndarray) -> np.ndarray | None:
        """See `Receiver`: (num_points * 3,) float32 m in the torso's frame, misses 0."""
        sample = self._reader.newest()
        if sample is None:
            return None
        points = decode_point_cloud(sample).points
        if not {"x", "y", "z"} <= set(points.dtype.names or ()):
            raise WireError(f"{self._source.topic}: wanted columns x, y and z, got {points.dtype.names}.")
        xyz = np.stack([points[axis] for axis in "xyz"], axis=1, dtype=np.float64)
        return torso_points(xyz, self._source, self._wanted, joint_pos)

    def close(self) -> None:
        """See `Receiver`."""
        self._reader.close()


def torso_points(xyz: np.ndarray, source: LidarTopic, wanted: "LidarConfig", joint_pos: np.ndarray) -> np.ndarray:
    """Returns of one sweep (M, 3) m in the sensor's frame as the simulation gives them: (num_points * 3,) float32.

    The simulation looks along `num_points` of the `frame_points` rays of a sweep, and what hits nothing is 0, 0, 0. The
    sensor reports hits only: so the same share of them is taken, evenly over the sweep, and the rest are misses.
    """
    xyz = xyz[np.isfinite(xyz).all(axis=1) & xyz.any(axis=1)]
    count = min(wanted.num_points, round(len(xyz) * wanted.num_points / wanted.frame_points))
    xyz = xyz[np.arange(count) * len(xyz) // max(count, 1)]
    distance = np.linalg.norm(xyz, axis=1)
    places = xyz @ quat_to_matrix(np.array(source.quat_wxyz)).T + source.pos
    keep = (distance >= wanted.min_range_m) & (distance <= wanted.max_range_m)
    keep &= (np.abs(places) <= wanted.max_range_m).all(axis=1) & ~of_the_robot(places, joint_pos, source.own_m)
    frame = np.zeros((wanted.num_points, 3), np.float32)
    frame[:count][keep] = places[keep]
    return frame.reshape(-1)


def of_the_robot(places: np.ndarray, joint_pos: np.ndarray, within_m: float) -> np.ndarray:
    """Which places (N, 3) m of the torso's frame are within so much of the robot's own limbs and trunk: (N,) bool."""
    links = link_transforms(joint_pos)
    to_torso = np.linalg.inv(links[_TORSO])
    origins = (to_torso @ links)[:, :3, 3]
    tips = (to_torso @ links[_WRISTS] @ _FINGERTIPS)[:, :3]
    begins = np.concatenate((origins[_RODS[:, 0]], origins[_WRISTS], origins[[_TORSO]]))
    ends = np.concatenate((origins[_RODS[:, 1]], tips, _HEAD[None, :3]))
    way = ends - begins
    length = np.maximum((way * way).sum(axis=1), 1e-12)
    from_begin = places[:, None] - begins  # (N, rods, 3)
    share = np.clip((from_begin * way).sum(axis=2) / length, 0.0, 1.0)
    apart = from_begin - share[..., None] * way
    return ((apart * apart).sum(axis=2) < within_m**2).any(axis=1)


@dataclass(frozen=True)
class ImuTopic:
    """The IMU of the wanted mount: the pelvis's from rt/lowstate, the torso's from rt/secondary_imu.

    of: "body", or "lidar": the Mid-360's own IMU instead, turned into the torso's frame; the lever between the two is
    left out, as in the simulated robot. acceleration_scale: m/s^2 per unit of the LiDAR's IMU; 9.81 if its driver
    speaks in g, which was not tried.
    """

    of: str = "body"
    topic: str = "rt/utlidar/imu_livox_mid360"  # of the LiDAR's
    quat_wxyz: Quat = MID360_QUAT
    acceleration_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.of not in IMUS:
            raise nearest("IMU", self.of, IMUS)

    def open(self, wanted: "ImuConfig", place: Place) -> "LidarImu | BodyImu":
        """Subscribe.

        Raises:
            ValueError: the LiDAR's IMU is to be the pelvis's.
        """
        limit = wanted.space().high
        if self.of == "body":
            return BodyImu(wanted.mount, limit, place)
        if wanted.mount != "torso":
            raise ValueError(f'The LiDAR is on the torso, got a wish for {wanted.mount!r}. Use ImuTopic("body").')
        return LidarImu(self, limit, place)


class BodyImu:
    """Receives gyro and acceleration of pelvis or torso. Made by `ImuTopic.open`."""

    def __init__(self, mount: str, limit: np.ndarray, place: Place) -> None:
        """limit: (6,) of the space."""
        self._pelvis, self._limit = mount == "pelvis", limit
        kind = unitree_hg.LowState if self._pelvis else unitree_hg.IMUState
        self._layout = layout(kind)
        self._reader = place.link().reader("rt/lowstate" if self._pelvis else "rt/secondary_imu", kind)

    def look(self, now_s: float, joint_pos: np.ndarray) -> np.ndarray | None:
        """See `Receiver`: (6,) float32, rad/s and m/s^2 in the mount's frame."""
        sample = self._reader.newest()
        if sample is None:
            return None
        record = self._layout.decode(sample)
        if self._pelvis:
            crc.check(record)
            record = record["imu_state"]
        return within(np.concatenate((record["gyroscope"], record["accelerometer"])), self._limit)

    def close(self) -> None:
        """See `Receiver`."""
        self._reader.close()


class LidarImu:
    """Receives the LiDAR's IMU. Made by `ImuTopic.open`."""

    def __init__(self, source: ImuTopic, limit: np.ndarray, place: Place) -> None:
        """limit: (6,) of the space."""
        self._source, self._limit, self._layout = source, limit, StampedLayout(Imu)
        self._turn = np.array(source.quat_wxyz)
        self._reader = place.link().reader(source.topic, Imu)

    def look(self, now_s: float, joint_pos: np.ndarray) -> np.ndarray | None:
        """See `Receiver`: (6,) float32, rad/s and m/s^2 in the torso's frame."""
        sample = self._reader.newest()
        if sample is None:
            return None
        record = self._layout.decode(sample).record
        gyro = np.array(record["angular_velocity"].tolist())
        acceleration = self._source.acceleration_scale * np.array(record["linear_acceleration"].tolist())
        turned = quat_rotate(self._turn, gyro), quat_rotate(self._turn, acceleration)
        return within(np.concatenate(turned), self._limit)

    def close(self) -> None:
        """See `Receiver`."""
        self._reader.close()


@dataclass(frozen=True)
class OdometryTopic:
    """Where the robot believes its pelvis to be since it was switched on: the observation `gps`, which drifts too."""

    topic: str = "rt/odommodestate"

    def open(self, wanted: "GpsConfig", place: Place) -> "Odometer":
        """Subscribe.

        Raises:
            ValueError: the position of another body than the pelvis.
        """
        if wanted.body != "pelvis":
            raise ValueError(f"The robot's odometry tells of its pelvis, got a wish for {wanted.body!r}.")
        return Odometer(self, wanted.space().high, place)


class Odometer:
    """Receives positions. Made by `OdometryTopic.open`."""

    def __init__(self, source: OdometryTopic, limit: np.ndarray, place: Place) -> None:
        """limit: (3,) of the space."""
        self._limit, self._layout = limit, layout(unitree_go.SportModeState)
        self._reader = place.link().reader(source.topic, unitree_go.SportModeState)

    def look(self, now_s: float, joint_pos: np.ndarray) -> np.ndarray | None:
        """See `Receiver`: (3,) float32 m."""
        sample = self._reader.newest()
        return None if sample is None else within(self._layout.decode(sample)["position"], self._limit)

    def close(self) -> None:
        """See `Receiver`."""
        self._reader.close()


def within(values: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Numbers as float32 between -limit and limit.

    Raises:
        WireError: one is not finite.
    """
    if not np.isfinite(values).all():
        raise WireError(f"Wanted finite numbers, got {values}.")
    return np.clip(values, -limit, limit).astype(np.float32)
