"""Type "stereo4d": stereo videos with the path of the camera, as walking seen from a head.

The layout read here is Stereo4D's: ID.npz with "camera2world" (T, 3, 4 or 4, 4; x right, y down, z into the picture, m)
and, from its rectification step, ID-left_rectified.mp4 and ID-right_rectified.mp4, all anywhere below the path. The
video's own rate is the episode's. What the camera did is what the robot is told to do: forwards, sideways and turning
velocity, cut to the action space's limits; the arms are at home. "camera" is the left picture, "stereo" both.
Words: ID.txt where there is one, or the option `instruction`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from neon_sim.data.listed_episodes import ListedEpisodes, find_files, options_of, require
from neon_sim.data.mapped_episode import DEFAULT_MODE, G1Motion, motion_episode, require_finite
from neon_sim.data.small_video import decode_small_video
from neon_sim.data.source import DataSourceConfig, EpisodeSource, Keys, is_wanted
from neon_sim.data.video import video_rate
from neon_sim.episode import NeonEpisode
from neon_sim.g1 import joints

_SIDES: Final = ("left_rectified.mp4", "right_rectified.mp4")


@dataclass(frozen=True)
class StereoOptions:
    """instruction: for clips without words."""

    control_mode: str = DEFAULT_MODE
    instruction: str = ""


@dataclass(frozen=True)
class StereoClip:
    """Where one clip's three files lie."""

    poses: Path
    left: Path
    right: Path

    def __str__(self) -> str:
        return str(self.poses)


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """Open a folder; options: see `StereoOptions`.

    Raises FileNotFoundError if there is no clip.
    """
    options = options_of(config, StereoOptions)
    folder = Path(config.path)
    videos: dict[str, Path] = {}
    for path in sorted(folder.glob("**/*_rectified.mp4")):
        videos.setdefault(path.name, path)
    clips = [_clip(poses, videos) for poses in find_files(config, "*.npz")]
    return ListedEpisodes(clips, _measure, partial(_read, options=options))


def _clip(poses: Path, videos: Mapping[str, Path]) -> StereoClip:
    names = [f"{poses.stem}-{side}" for side in _SIDES]
    left, right = (videos.get(name, poses.with_name(name)) for name in names)
    return StereoClip(poses, left, right)


def _poses(clip: StereoClip) -> np.ndarray:
    with np.load(clip.poses, allow_pickle=False) as stored:
        poses = np.asarray(require(stored, "camera2world", clip.poses), np.float64)
    if poses.ndim != 3 or poses.shape[1] not in (3, 4) or poses.shape[2] != 4:
        raise ValueError(f"camera2world should be (T, 3, 4) or (T, 4, 4), found {poses.shape}")
    return poses[:, :3]


def _measure(clip: StereoClip) -> tuple[int, float]:
    return max(0, len(_poses(clip)) - 1), video_rate(clip.left)


def _read(clip: StereoClip, keys: Keys, options: StereoOptions) -> NeonEpisode:
    poses, rate_hz = _poses(clip), video_rate(clip.left)
    require_finite("camera2world", poses, (len(poses), 3, 4))
    steps = len(poses) - 1
    if steps < 1:
        raise ValueError("a clip needs two camera poses or more, found one")
    seen = _pictures(clip, keys, rate_hz, steps)
    at_home = np.tile(joints.HOME, (steps, 1))
    words = clip.poses.with_suffix(".txt")
    text = words.read_text(encoding="utf-8").strip() if words.exists() else options.instruction
    velocity = camera_velocity(poses, rate_hz)
    motion = G1Motion(at_home, at_home, rate_hz, velocity, instruction=text, observations=seen)
    return motion_episode(motion, options.control_mode)


def _pictures(clip: StereoClip, keys: Keys, rate_hz: float, steps: int) -> dict[str, np.ndarray]:
    both = is_wanted("stereo", keys)
    if not (both or is_wanted("camera", keys)):
        return {}
    left = decode_small_video(clip.left, rate_hz, count=steps)
    if not both:
        return {"camera": left}
    right = decode_small_video(clip.right, rate_hz, count=steps)
    return {"camera": left, "stereo": np.concatenate([left, right], axis=2)}


def camera_velocity(poses: np.ndarray, rate_hz: float) -> np.ndarray:
    """vx forwards, vy left m/s and yaw rate left rad/s (T - 1, 3) of a camera, from camera2world (T, 3, 4)."""
    rotation, pos_w = poses[:, :, :3], poses[:, :, 3]
    moved = np.einsum("tji,tj->ti", rotation[:-1], np.diff(pos_w, axis=0)) * rate_hz
    between = np.einsum("tji,tjk->tik", rotation[:-1], rotation[1:])
    # The new forward axis as the old camera sees it: x to the right, z ahead. Left is positive.
    turned = np.arctan2(-between[:, 0, 2], between[:, 2, 2]) * rate_hz
    return np.stack([moved[:, 2], -moved[:, 0], turned], axis=1)
