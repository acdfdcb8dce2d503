"""Small LeRobot folders as other people record them, and the made-up motions and pictures that are in them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from neon_sim.data.lerobot import LeRobotWriter
from neon_sim.data.video import VideoConfig
from neon_sim.episode import NeonEpisode
from neon_sim.g1 import joints

SIDE = 32  # px
G1_ARMS = [joints.JOINT_NAMES[joint] for joint in joints.GROUPS["arms"]]
UNITREE_ARMS = ["k" + "".join(part.capitalize() for part in name.split("_")[:-1]) for name in G1_ARMS]


def angles(steps: int, width: int, seed: int = 0) -> np.ndarray:
    """(steps, width) float32 rad, a slow wave of its own for each column."""
    rng = np.random.default_rng(seed)
    phase, size = rng.uniform(0.0, 6.0, width), rng.uniform(0.05, 0.2, width)
    return (size * np.sin(np.arange(steps)[:, None] / 10.0 + phase)).astype(np.float32)


def gripper_path(steps: int, seed: int = 0) -> np.ndarray:
    """(steps, 7) x, y, z m, roll, pitch, yaw rad, gripper: somewhere near another robot, a few centimetres wide."""
    rng = np.random.default_rng(seed)
    path = np.concatenate([0.3 * angles(steps, 6, seed), np.linspace(0.0, 1.0, steps)[:, None]], axis=1)
    path[:, :3] += rng.uniform(-0.5, 0.5, 3)
    return path.astype(np.float64)


def pictures(steps: int, seed: int = 0, side: int = SIDE) -> np.ndarray:
    """(steps, side, side, 3) uint8, one colour a picture."""
    colors = np.random.default_rng(seed).integers(0, 256, (steps, 1, 1, 3), dtype=np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colors, (steps, side, side, 3)))


def foreign_lerobot(
    folder: Path,
    actions: np.ndarray,
    state: np.ndarray | None = None,
    names: Mapping[str, Any] | None = None,
    rename: Mapping[str, str] | None = None,
    fps: float = 50.0,
    robot: str = "other",
    episodes: int = 1,
    **observations: np.ndarray,
) -> Path:
    """A LeRobot folder as somebody else would have recorded it, every episode the same.

    names: column -> as it stands in info.json. rename: column that our writer gives -> the one that is wanted.
    """
    seen = {"front": pictures(len(actions)), **observations}
    if state is not None:
        seen["proprio"] = state
    episode = NeonEpisode(seen, actions, instruction="pick the cup", rate_hz=fps)
    with LeRobotWriter(folder, use_videos=True, video=VideoConfig(crf=5)) as writer:
        for _ in range(episodes):
            writer.add(episode)
    (folder / "meta/neon.json").unlink()  # only our own folders have it
    info = json.loads((folder / "meta/info.json").read_text())
    info["robot_type"] = robot
    info["features"] = {(rename or {}).get(key, key): value for key, value in info["features"].items()}
    for key, feature in info["features"].items():
        feature["names"] = (names or {}).get(key, feature["names"] if key.startswith("observation.images") else None)
    (folder / "meta/info.json").write_text(json.dumps(info))
    for path in folder.glob("data/**/*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.rename_columns([(rename or {}).get(name, name) for name in table.column_names]), path)
    return folder


def modality_folder(folder: Path, robot: str = "other", episodes: int = 1) -> Path:
    """GR00T's layout: left arm 7, right arm 7, left hand 6 in one column."""
    foreign_lerobot(folder, angles(40, 20), angles(40, 20, 1), fps=20.0, robot=robot, episodes=episodes)
    groups = {"left_arm": {"start": 0, "end": 7}, "right_arm": {"start": 7, "end": 14}}
    groups["left_hand"] = {"start": 14, "end": 20}
    told = {"state": groups, "action": groups, "video": {"front": {"original_key": "observation.images.front"}}}
    (folder / "meta/modality.json").write_text(json.dumps(told))
    return folder


def agibot_folder(folder: Path) -> Path:
    """The common conversion: joint positions of two arms, grippers, no column called action."""
    return foreign_lerobot(
        folder,
        angles(30, 14),
        rename={"action": "actions.joint.position", "info.effector": "actions.effector.position"},
        fps=30.0,
        **{"states.joint.position": angles(30, 14, 1), "states.effector.position": angles(30, 2)},
    )


def teleop_folder(folder: Path, width: int = 43, fps: float = 20.0) -> Path:
    """43 joints, 14 entries of palms, and a walking command."""
    return foreign_lerobot(
        folder,
        angles(40, width),
        angles(40, width, 1),
        rename={"observation.navigate": "teleop.navigate_command"},
        fps=fps,
        eef_state=np.zeros((40, 14), np.float32),
        navigate=np.tile(np.array([0.25, 0.0, -0.5], np.float32), (40, 1)),
    )


def unitree_folder(folder: Path, names: Sequence[str] = (*UNITREE_ARMS, "kLeftGripper", "kRightGripper")) -> Path:
    """Unitree's names, a list in a list, and two grippers."""
    said = {"action": [list(names)], "observation.state": [list(names)]}
    return foreign_lerobot(folder, angles(30, 16), angles(30, 16, 1), said, fps=30.0, robot="Unitree_G1_Dex1")


def bridge_folder(folder: Path) -> Path:
    """A gripper's poses as states, and actions that are not used."""
    names = {"observation.state": {"motors": ["x", "y", "z", "roll", "pitch", "yaw", "pad", "gripper"]}}
    states = np.insert(gripper_path(20), 6, 0.0, axis=1).astype(np.float32)
    return foreign_lerobot(folder, np.zeros((20, 7), np.float32), states, names, fps=5.0, robot="widowx")
