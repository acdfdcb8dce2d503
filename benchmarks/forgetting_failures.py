"""A life that fails does not end the others: what went wrong is written down, and told when all of them are through."""

import traceback
from collections.abc import Sequence

from forgetting_job import ShardJob
from forgetting_life import live_shard
from tqdm import tqdm

from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.workers import parallel_map


def live_all(jobs: Sequence[ShardJob], workers: int) -> None:
    """Live what is missing of some shards, in the given order.

    Raises:
        SystemExit: lives failed; the others are written.
        ChildProcessError: a worker was killed.
    """
    missing = [job for job in jobs if not job.path.exists()]
    if not missing:
        return
    causes = list(parallel_map(live_or_tell, missing, min(workers, len(missing)), "lives"))
    failed = [f"{job.failure_path}: {cause}" for job, cause in zip(missing, causes, strict=True) if cause]
    if failed:
        told = "\n".join(failed)
        raise SystemExit(
            f"{len(failed)} of {len(missing)} lives failed, and nothing is merged without them:\n{told}\nPut right"
            " what these files say, and run the same command again: it lives these alone, each from its last stage."
        )


def live_or_tell(job: ShardJob) -> str:
    """Live a shard; what went wrong in a line, "" if nothing did. The whole of it is in the job's `failure_path`."""
    try:
        live_shard(job)
    except Exception as error:  # whatever it is, the other lives go on, and `live_all` raises when they are through
        replace_bytes(job.failure_path, traceback.format_exc().encode())
        cause = f"{type(error).__name__}: {error}"
        tqdm.write(f"{job.arm} seed {job.seed} FAILED, the others go on: {cause}")
        return cause
    job.failure_path.unlink(missing_ok=True)
    return ""
