"""Played episodes in the repository: what took hours is not played again where settings, weights and code are the same.

One file for each task, lines of JSON that gzip has packed: a shard's place below --runs, and what its file holds.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from report import ROOT

from neon_sim.training.atomic_file import replace_bytes
from neon_sim.world_model.judging import TrialJob
from neon_sim.world_model.played import description_of

EPISODES: Final = ROOT / "benchmarks" / "results" / "planning_episodes"


def take_shipped(jobs: Sequence[TrialJob], folder: Path, episodes: Path = EPISODES) -> int:
    """Put what is there of the missing shards into their places below `folder`; returns how many there were."""
    kept: dict[str, Any] = {}
    for path in sorted(episodes.glob("*.jsonl.gz")):
        kept |= _read(path)
    taken = 0
    for job in jobs:
        shard = kept.get(_place(job, folder))
        if shard is None or Path(job.path).exists() or shard["job"] != description_of(job):
            continue
        Path(job.path).parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(Path(job.path), (json.dumps(shard) + "\n").encode())
        taken += 1
    return taken


def ship(jobs: Mapping[str, Sequence[TrialJob]], folder: Path, episodes: Path = EPISODES) -> int:
    """Put finished shards into the repository, beside those that are there and of the same weights and code.

    jobs: by task.

    Returns:
        How many there are then.

    Raises:
        ValueError: one was played with other settings, weights or code; of its task nothing is written.
    """
    count = 0
    for task, asked in jobs.items():
        path = episodes / f"{task}.jsonl.gz"
        today = _digests(description_of(asked[0]))
        there = _read(path) if path.exists() else {}
        found = {place: shard for place, shard in there.items() if _digests(shard["job"]) == today}
        for job in asked:
            if Path(job.path).exists():
                shard = json.loads(Path(job.path).read_text(encoding="utf-8"))
                if shard["job"] != description_of(job):
                    raise ValueError(f"{job.path} was played with other settings, weights or code: it is not shipped.")
                found[_place(job, folder)] = shard
        if found:
            _write(path, found)
        count += len(found)
    return count


def _digests(described: Mapping[str, Any]) -> list[Any]:
    return [described.get(name) for name in ("weights", "walker", "code")]


def _place(job: TrialJob, folder: Path) -> str:
    return Path(job.path).relative_to(folder).as_posix()


def _read(path: Path) -> dict[str, Any]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return {line["path"]: line["shard"] for line in map(json.loads, lines)}


def _write(path: Path, shards: Mapping[str, Any]) -> None:
    lines = (json.dumps({"path": place, "shard": shards[place]}, separators=(",", ":")) for place in sorted(shards))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_bytes(path, gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))
