"""The first picture of every episode, rendered once for all arms."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from forgetting_job import ShardJob
from forgetting_randomised import rival_seeds
from forgetting_stages import all_seeds
from forgetting_tasks import subject_of
from forgetting_world import Looks, look

from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.workers import parallel_map

BLOCK: Final = 60  # seeds that are looked at in one go


def look_at_block(work: tuple[str, str, Path, tuple[int, ...]]) -> None:
    """Render one block of first pictures, unless it is there."""
    policy, task, path, seeds = work
    if not path.exists():
        torch.set_num_threads(1)
        look(NeonVLA.from_pretrained(policy), task, seeds).save(path)


def look_at_all(job: ShardJob, workers: int) -> Looks:
    """The first picture of every seed, rendered once for all arms; none where only the legs act."""
    if subject_of(job.task).legs:
        return Looks()
    taught = rival_seeds(job.preset.rival) if "oracle" in job.preset.arms else []  # in each of its lives
    seeds = all_seeds(job.regimes, job.preset) + taught
    blocks = [tuple(seeds[i : i + BLOCK]) for i in range(0, len(seeds), BLOCK)]
    work = [(job.policy, job.task, job.out / "looks" / f"{_name_of(block)}.npz", block) for block in blocks]
    missing = [item for item in work if not item[2].exists()]
    if missing:
        list(parallel_map(look_at_block, missing, min(workers, len(missing)), "looking"))
    return Looks.load(path for _, _, path, _ in work)


def _name_of(seeds: Sequence[int]) -> str:
    """Of a block's file: another preset or other seeds make other blocks."""
    return hashlib.blake2b(str(seeds).encode(), digest_size=8).hexdigest()
