"""meta/info.json: which version, how many, how fast, and where everything lies."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neon_sim.data.lerobot.columns import NeonMeta
from neon_sim.data.lerobot.features import Feature
from neon_sim.data.lerobot.whole_file import write_text
from neon_sim.names import nearest

VERSIONS = ("v2.1", "v3.0")
READABLE = ("v2.0", *VERSIONS)  # v2.0 differs from v2.1 in its statistics alone
FILES_PER_CHUNK = 1000  # of LeRobot, as the megabytes below
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200
ROBOT = "unitree_g1"
INFO = "meta/info.json"
NEON = "meta/neon.json"
DATA_PATH = {
    "v2.1": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    "v3.0": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
}
VIDEO_PATH = {
    "v2.1": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    "v3.0": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
}


@dataclass(frozen=True)
class DatasetInfo:
    """What info.json says, and neon.json where the data set is ours."""

    version: str
    fps: float  # frames/s
    features: Mapping[str, Feature]
    data_path: str
    video_path: str | None
    chunks_size: int = FILES_PER_CHUNK
    robot_type: str | None = ROBOT
    total_episodes: int = 0
    total_frames: int = 0
    total_tasks: int = 0
    neon: NeonMeta | None = None

    @property
    def is_v3(self) -> bool:
        """Files of several episodes, and metadata in parquet."""
        return self.version.startswith("v3")

    @property
    def video_keys(self) -> tuple[str, ...]:
        """Features that lie in mp4 files."""
        return tuple(name for name, feature in self.features.items() if feature.dtype == "video")

    @property
    def column_names(self) -> tuple[str, ...]:
        """Features that lie in parquet files."""
        return tuple(name for name, feature in self.features.items() if feature.dtype != "video")

    def to_json(self) -> dict[str, Any]:
        """Everything that the version's own writer would put there."""
        videos, episodes = len(self.video_keys), self.total_episodes
        written: dict[str, Any] = {
            "codebase_version": self.version,
            "robot_type": self.robot_type,
            "total_episodes": episodes,
            "total_frames": self.total_frames,
            "total_tasks": self.total_tasks,
        }
        if self.is_v3:
            written |= {"chunks_size": self.chunks_size}
            written |= {"data_files_size_in_mb": DATA_FILE_MB, "video_files_size_in_mb": VIDEO_FILE_MB}
        else:
            written |= {"total_videos": videos * episodes, "total_chunks": -(-episodes // self.chunks_size)}
            written |= {"chunks_size": self.chunks_size}
        return written | {
            "fps": int(self.fps) if self.fps == int(self.fps) else self.fps,
            "splits": {"train": f"0:{episodes}"},
            "data_path": self.data_path,
            "video_path": self.video_path,
            "features": {name: feature.to_json() for name, feature in self.features.items()},
        }


def new_info(version: str, fps: int, features: Mapping[str, Feature], neon: NeonMeta) -> DatasetInfo:
    """The info of a data set that is about to be recorded.

    Raises:
        ValueError: a version that this project does not write.
    """
    if version not in VERSIONS:
        raise nearest("LeRobot version to write", version, VERSIONS)
    has_video = any(feature.dtype == "video" for feature in features.values())
    return DatasetInfo(
        version, fps, features, DATA_PATH[version], VIDEO_PATH[version] if has_video else None, neon=neon
    )


def read_info(folder: Path) -> DatasetInfo:
    """Read info.json.

    Raises:
        FileNotFoundError: the folder holds no data set.
        ValueError: not JSON, a field missing, or a version that this project does not read.
    """
    path = folder / INFO
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no LeRobot data set: there is no {INFO}.")
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        version = str(given["codebase_version"])
        if version not in READABLE:
            raise nearest("LeRobot version", version, READABLE)
        return _info_from_json(given, version, _read_neon(folder))
    except KeyError as error:
        raise ValueError(f"{path} has no field {error}. It is not what LeRobot writes.") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _info_from_json(given: Mapping[str, Any], version: str, neon: NeonMeta | None) -> DatasetInfo:
    fps = float(given["fps"])
    if not fps > 0.0:
        raise ValueError(f"fps must be positive, got {fps}.")
    return DatasetInfo(
        version=version,
        fps=fps,
        features={name: Feature.from_json(feature) for name, feature in given["features"].items()},
        data_path=str(given["data_path"]),
        video_path=given.get("video_path"),
        chunks_size=int(given.get("chunks_size", FILES_PER_CHUNK)),
        robot_type=given.get("robot_type"),
        total_episodes=int(given["total_episodes"]),
        total_frames=int(given["total_frames"]),
        total_tasks=int(given.get("total_tasks", 0)),
        neon=neon,
    )


def _read_neon(folder: Path) -> NeonMeta | None:
    path = folder / NEON
    return NeonMeta.from_json(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def write_info(folder: Path, info: DatasetInfo) -> None:
    """Replace info.json, after neon.json where there is none yet."""
    if info.neon is not None and not (folder / NEON).exists():
        write_text(folder / NEON, json.dumps(info.neon.to_json(), indent=4) + "\n")
    write_text(folder / INFO, json.dumps(info.to_json(), indent=4, ensure_ascii=False) + "\n")
