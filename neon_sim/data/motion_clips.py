"""Joint-angle clips of the G1 from CSV or NPZ files: no camera, no policy, the motion itself is what is learned.

| file | what is read |
|---|---|
| CSV with a header (BONES-SEED) | JOINT_dof degrees, root_translateX/Y/Z cm, root_rotateX/Y/Z degrees, extrinsic |
| CSV without one | 36 columns: a MuJoCo qpos of the G1, root position 3 m, quat_wxyz 4, 29 joints rad |
| NPZ | "qpos" (T, 36) as above, or "joint_pos" (T, n) rad with "joint_names" (n,) where n is not 29; "fps" where said |

Words: a text file of the same name beside the clip, otherwise the file's name.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from neon_sim.data.action_mapper import MappingReport
from neon_sim.data.mapped_episode import REST, G1Motion, make_mapper, require_finite
from neon_sim.g1 import joints
from neon_sim.g1.geometry import euler_to_quat, quat_rotate_inverse, quat_to_euler

_QPOS: Final = 7 + joints.NUM_JOINTS
_ROOT_POS: Final = tuple(f"root_translate{axis}" for axis in "XYZ")
_ROOT_TURN: Final = tuple(f"root_rotate{axis}" for axis in "XYZ")


@dataclass(frozen=True, eq=False)
class Clip:
    """T postures."""

    joint_pos: np.ndarray  # (T, 29) rad
    report: MappingReport
    rate_hz: float | None  # where the file says it
    root_pos_w: np.ndarray | None = None  # (T, 3) m
    root_quat_wxyz: np.ndarray | None = None  # (T, 4)


def read_clip(path: Path) -> Clip:
    """Read one file. Raises ValueError, naming the field, for one that is laid out otherwise."""
    return _read_npz(path) if path.suffix == ".npz" else _read_csv(path)


def count_frames(path: Path) -> tuple[int, float | None]:
    """Postures of a file and, where it says it, their rate, without turning them into numbers."""
    if path.suffix == ".npz":
        clip = _read_npz(path)
        return len(clip.joint_pos), clip.rate_hz
    with open(path, encoding="utf-8") as file:
        lines = [number for number, line in enumerate(file) if line.strip()]
    return len(lines) - (_header(path) is not None), None


def _header(path: Path) -> list[str] | None:
    """Column names, or None where the first line holds numbers."""
    with open(path, encoding="utf-8") as file:
        cells = [cell.strip().strip('"') for cell in file.readline().split(",")]
    try:
        [float(cell) for cell in cells]
    except ValueError:
        return cells
    return None


def _read_csv(path: Path) -> Clip:
    header = _header(path)
    if count_frames(path)[0] < 1:
        raise ValueError("the clip is empty: no posture stands in it")
    table = np.loadtxt(path, delimiter=",", skiprows=int(header is not None), ndmin=2)
    if header is None:
        return _from_qpos(table, None)
    if len(set(header)) != len(header) or table.shape[1] != len(header):
        raise ValueError(f"{len(header)} different columns are said, {table.shape[1]} are there")
    column = dict(zip(header, table.T, strict=True))
    moving = [name for name in header if name.endswith("_dof")]
    if not moving:
        raise ValueError(f"no column ends in '_dof'; the columns are {header}")
    mapper = make_mapper([name.removesuffix("_dof") for name in moving], where="the clip")
    joint_pos = mapper(np.radians(np.stack([column[name] for name in moving], axis=1)), REST)[:, :29]
    if not all(name in column for name in (*_ROOT_POS, *_ROOT_TURN)):
        return Clip(joint_pos, mapper.report, None)
    root_pos_w = 0.01 * np.stack([column[name] for name in _ROOT_POS], axis=1)
    euler = np.radians(np.stack([column[name] for name in _ROOT_TURN], axis=1))
    return Clip(joint_pos, mapper.report, None, root_pos_w, euler_to_quat(euler))


def _read_npz(path: Path) -> Clip:
    with np.load(path, allow_pickle=False) as stored:
        rate_hz = float(np.asarray(stored["fps"]).reshape(-1)[0]) if "fps" in stored else None
        if "qpos" in stored:
            return _from_qpos(stored["qpos"], rate_hz)
        if "joint_pos" not in stored:
            raise ValueError(f"a clip has the field 'qpos' or 'joint_pos', this file has {sorted(stored)}")
        angles = np.asarray(stored["joint_pos"], np.float64)
        names = [str(name) for name in stored["joint_names"]] if "joint_names" in stored else list(joints.JOINT_NAMES)
    mapper = make_mapper(names, where="the clip")
    return Clip(mapper(angles, REST)[:, :29], mapper.report, rate_hz)


def _from_qpos(qpos: np.ndarray, rate_hz: float | None) -> Clip:
    qpos = np.asarray(qpos, np.float64)
    if qpos.ndim != 2 or qpos.shape[1] != _QPOS:
        raise ValueError(f"a G1 qpos has {_QPOS} columns (root 7, joints 29), found the shape {qpos.shape}")
    report = make_mapper(joints.JOINT_NAMES).report
    return Clip(qpos[:, 7:], report, rate_hz, qpos[:, :3], qpos[:, 3:7])


def clip_motion(clip: Clip, rate_hz: float, instruction: str) -> G1Motion:
    """T postures as T - 1 steps: what is commanded is the next posture, and the velocity is that of the pelvis.

    Raises ValueError for fewer than two postures or numbers that are not finite.
    """
    require_finite("joint_pos", clip.joint_pos, (len(clip.joint_pos), joints.NUM_JOINTS))
    if len(clip.joint_pos) < 2:
        raise ValueError("a clip needs two postures or more, found one")
    velocity, quat = None, clip.root_quat_wxyz
    if clip.root_pos_w is not None and quat is not None:
        require_finite("root", np.concatenate([clip.root_pos_w, quat], axis=1), (len(quat), 7))
        velocity, quat = heading_velocity(clip.root_pos_w, quat, rate_hz), quat[:-1]
    return G1Motion(
        clip.joint_pos[1:], clip.joint_pos[:-1], rate_hz, velocity, root_quat_wxyz=quat, instruction=instruction
    )


def heading_velocity(pos_w: np.ndarray, quat_wxyz: np.ndarray, rate_hz: float) -> np.ndarray:
    """vx, vy m/s in the heading frame and yaw rate rad/s (T - 1, 3), from poses (T, 3) m and (T, 4) in a z-up world."""
    yaw = quat_to_euler(quat_wxyz)[:, 2]
    level = euler_to_quat(np.stack([np.zeros_like(yaw), np.zeros_like(yaw), yaw], axis=1))
    moved = quat_rotate_inverse(level[:-1], np.diff(pos_w, axis=0)) * rate_hz
    turned = np.diff(np.unwrap(yaw)) * rate_hz
    return np.stack([moved[:, 0], moved[:, 1], turned], axis=1)


def words_of(path: Path) -> str:
    """What a clip shows, in words."""
    beside = path.with_suffix(".txt")
    if beside.exists():
        return beside.read_text(encoding="utf-8").strip()
    return " ".join(part for part in path.stem.replace("-", "_").split("_") if part and not part.isdigit())
