"""Finished lives in the repository: what took hours is not lived again where code and settings are still the same."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from forgetting_job import ShardJob
from forgetting_settings import settings_of
from forgetting_shards import read_shard, settings_digest
from report import ROOT

from neon_sim.training.atomic_file import replace_bytes

LIVES: Final = ROOT / "benchmarks" / "results" / "forgetting_lives"


def take_shipped(jobs: Sequence[ShardJob], lives: Path = LIVES) -> int:
    """Copy what is there of the missing shards, of the same settings and code only; returns how many there were."""
    digests: dict[str, str] = {}  # by arm
    taken = 0
    for job in jobs:
        path = _path(job, lives)
        if job.path.exists() or not path.exists():
            continue
        if job.arm not in digests:
            digests[job.arm] = settings_digest(settings_of(job))
        if json.loads(path.read_text()).get("settings") == digests[job.arm]:
            replace_bytes(job.path, path.read_bytes())
            taken += 1
    return taken


def ship(jobs: Sequence[ShardJob], lives: Path = LIVES) -> int:
    """Put finished shards into the repository; returns how many.

    Raises:
        ValueError: one does not belong to the settings of its folder; those before it are copied.
    """
    finished = [job for job in jobs if job.path.exists()]
    for job in finished:
        replace_bytes(_path(job, lives), (json.dumps(read_shard(job), separators=(",", ":")) + "\n").encode())
    return len(finished)


def _path(job: ShardJob, lives: Path) -> Path:
    return lives / job.task / f"{job.arm}_{job.seed}.json"
