"""Type "cosmos_dreamgen": action-conditioned video episodes as Cosmos-Predict2.5 trains on them.

The layout read here is one JSON file an episode below annotation/ (or anywhere below the path), with
"state" (T, 6: x, y, z m, roll, pitch, yaw rad), "continuous_gripper_state" (T), "texts" and
"videos" [{"video_path": below the data set's folder}]. With `use_relative_actions`, "action" (T or T - 1, 7) holds the
relative steps, times `action_scaler`; without, they are computed from the states. The video's own rate is the
episode's, unless the option `fps` says otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from neon_sim.data.listed_episodes import ListedEpisodes, find_files, options_of, read_json, require
from neon_sim.data.mapped_episode import DEFAULT_MODE, motion_episode
from neon_sim.data.relative_to_arms import ArmConfig, arm_motion, state_motion
from neon_sim.data.small_video import decode_small_video
from neon_sim.data.source import DataSourceConfig, EpisodeSource, Keys, is_wanted
from neon_sim.data.video import video_rate
from neon_sim.episode import NeonEpisode


@dataclass(frozen=True)
class CosmosOptions:
    """camera: number of the video among an episode's; hand, approach, tolerance: see `ArmConfig`."""

    control_mode: str = DEFAULT_MODE
    camera: int = 0
    fps: float | None = None
    hand: str = "right"
    approach: str = "x"
    tolerance: float = 0.05  # m


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """Open a folder; options: see `CosmosOptions`. Raises FileNotFoundError if it has no annotation."""
    options = options_of(config, CosmosOptions)
    folder = Path(config.path)
    pattern = "annotation/**/*.json" if (folder / "annotation").is_dir() else "*.json"
    arm = ArmConfig(options.hand, options.approach, options.tolerance)
    return ListedEpisodes(
        find_files(config, pattern),
        partial(_measure, config=config, options=options),
        partial(_read, config=config, options=options, arm=arm),
        partial(getattr, arm, "report"),
    )


def _video(told: Mapping[str, Any], path: Path, config: DataSourceConfig, options: CosmosOptions) -> Path:
    videos = require(told, "videos", path)
    if not options.camera < len(videos):
        raise ValueError(f"videos has {len(videos)} entries, number {options.camera} is wanted")
    name = require(videos[options.camera], "video_path", path)
    root = Path(config.path) if Path(config.path).is_dir() else path.parent
    if not (root / name).exists():
        raise ValueError(f"the video {root / name} is missing")
    return root / name


def _steps(told: Mapping[str, Any], path: Path, config: DataSourceConfig) -> int:
    """Actions of an episode: between T states lie T - 1."""
    states = len(told["state"]) if "state" in told else None
    if config.use_relative_actions:
        actions = len(require(told, "action", path))
        return actions if states is None else min(actions, max(0, states - 1))
    return max(0, len(require(told, "state", path)) - 1)


def _measure(path: Path, config: DataSourceConfig, options: CosmosOptions) -> tuple[int, float]:
    told = read_json(path)
    return _steps(told, path, config), options.fps or video_rate(_video(told, path, config, options))


def _read(path: Path, keys: Keys, config: DataSourceConfig, options: CosmosOptions, arm: ArmConfig) -> NeonEpisode:
    told = read_json(path)
    steps, video = _steps(told, path, config), _video(told, path, config, options)
    if not steps:
        raise ValueError("the episode is empty: it needs an action or two states")
    rate_hz = options.fps or video_rate(video)
    seen = {"camera": decode_small_video(video, rate_hz, count=steps)} if is_wanted("camera", keys) else {}
    texts = told.get("texts") or [told.get("task", "")]
    rest: dict[str, Any] = {"instruction": str(texts[0]), "observations": seen}
    if config.use_relative_actions:
        actions = np.asarray(told["action"], np.float64)[:steps]
        motion = arm_motion(actions, config.action_scaler, rate_hz, arm, **rest)
    else:
        pose = np.asarray(told["state"], np.float64)
        gripper = np.asarray(require(told, "continuous_gripper_state", path), np.float64)
        if pose.ndim != 2 or pose.shape[1] < 6 or len(gripper) != len(pose):
            raise ValueError(f"state {pose.shape} and continuous_gripper_state {gripper.shape} should be (T, 6), (T,)")
        states = np.concatenate([pose[:, :6], gripper[:, None]], axis=1)
        motion = state_motion(states, rate_hz, arm, **rest)
    return motion_episode(motion, options.control_mode)
