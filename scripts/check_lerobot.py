"""Load a data set in the `lerobot` package and compare every frame that it gives with what this project reads.

    python scripts/check_lerobot.py runs/collect/dataset

The package needs Python 3.12 and cannot share an environment with older Pythons' neon_sim: make one with
`python3.12 -m venv .venv-lerobot && .venv-lerobot/bin/pip install lerobot -e '.[data]'`. Without it the check is
skipped, and says so; it fails only where the two disagree. --frames limits how many frames are compared. What was found
last, and with which version, stands in RESULTS.md.
"""

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np

from neon_sim.data.lerobot import LeRobotReader
from neon_sim.data.lerobot.columns import to_columns

PICTURE_TOLERANCE = 2.0 / 255.0  # two decoders round colours their own way


def why_skipped(version: tuple[int, int], installed: bool, dataset_version: str) -> str | None:
    """The reason why nothing can be compared, or None."""
    if not installed:
        need = "" if version >= (3, 12) else f" (it needs Python 3.12, this is {version[0]}.{version[1]})"
        return f"the lerobot package is not installed{need}"
    if dataset_version != "v3.0":
        return f"the data set is {dataset_version} and today's lerobot reads v3.0: merge() it into one"
    return None


def differences(ours: dict[str, np.ndarray], theirs: dict[str, Any], step: int) -> list[str]:
    """Columns that differ at one step of an episode, or that one side has and they do not."""
    wrong = sorted(ours.keys() - theirs.keys())  # what they do not see is no agreement
    for name in ours.keys() & theirs.keys():
        got = np.asarray(theirs[name])
        want = np.asarray(ours[name][step])
        if want.dtype == np.uint8 and want.ndim == got.ndim == 3:  # they give channels first, in [0, 1]
            close = np.abs(got.transpose(1, 2, 0) - want / 255.0).mean() <= PICTURE_TOLERANCE
        elif want.ndim == 2 and got.ndim == 3:  # a depth map, theirs in millimetres, int16 that wraps at 32.768 m
            close = np.allclose(np.round(got[0]).astype(np.int64) % 65536 / 1000.0, want, atol=1e-3)
        else:
            close = want.size == got.size and np.allclose(got.reshape(-1), want.reshape(-1), atol=1e-3)
        if not close:
            wrong.append(name)
    return wrong


def compare(folder: Path, frames: int) -> tuple[int, list[str]]:
    """Frames compared, and a line for each disagreement."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    theirs, ours = LeRobotDataset(f"local/{folder.name}", root=folder), LeRobotReader(folder)
    wrong, index = [], 0
    if len(theirs) != ours.info.total_frames:
        wrong.append(f"lerobot sees {len(theirs)} frames, info.json says {ours.info.total_frames}")
    for number, episode in enumerate(ours.episodes()):
        columns = to_columns(episode)
        for step in range(len(episode)):
            if index == frames:
                return index, wrong
            item = theirs[index]
            named = differences(columns, item, step)
            named += ["task"] if item["task"] != episode.instruction else []
            wrong += [f"episode {number}, step {step}: {name} differs" for name in named]
            index += 1
    return index, wrong


def main() -> int:
    """Exit status 0 when all agrees or nothing can be compared, 1 when something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--frames", type=int, default=1000)
    args = parser.parse_args()
    info = LeRobotReader(args.dataset).info
    reason = why_skipped(sys.version_info[:2], importlib.util.find_spec("lerobot") is not None, info.version)
    if reason is not None:
        print(f"SKIPPED: {reason}. Nothing was compared.")
        return 0
    count, wrong = compare(args.dataset, args.frames)
    print("\n".join(wrong[:20]) if wrong else f"lerobot and neon_sim read the same {count} frames.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
