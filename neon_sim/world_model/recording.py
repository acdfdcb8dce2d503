"""Recordings as a folder of whole shards: made by several processes, gone on with, and lent to other trainings."""

import json
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing import parent_process
from pathlib import Path

from neon_sim.shipped import walker_fingerprint
from neon_sim.training.run_folder import MARKER
from neon_sim.training.workers import parallel_map
from neon_sim.world_model.rollouts import RolloutConfig, missing, open_worker, record_shard, shards_of


def start_worker(config: RolloutConfig) -> None:
    """Prepare a worker; Ctrl-C is for the main process to act on."""
    if parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    open_worker(config)


def collect(
    config: RolloutConfig,
    folder: Path,
    workers: int,
    minutes: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Record what is missing, for so many minutes at most, and say how fast."""
    work, begun, moments = missing(shards_of(config, folder)), clock(), 0
    if not work:
        return
    for count in parallel_map(record_shard, work, min(workers, len(work)), "recording", start_worker, (config,)):
        moments += count
        if minutes is not None and clock() - begun > 60.0 * minutes:
            break  # the loop's end ends the workers; what they had finished lies there
    spent = clock() - begun
    print(f"{moments} new moments in {spent:.0f} s: {moments / spent:.0f} a second, {workers} workers")


def check_recorded(folder: Path, config: RolloutConfig) -> None:
    """Raise ValueError unless another run's folder has all rollouts, of this walker, recorded as `config` says.

    All: but where its recording was to stop by the clock.
    """
    marker, wanted = folder / MARKER, {"rollouts": asdict(config), "walker": walker_fingerprint()}
    told = json.loads(marker.read_text(encoding="utf-8")) if marker.exists() else {}
    found = {name: told.get(name) for name in wanted}
    if found != wanted:
        raise ValueError(f"--data {folder} was recorded as {found}, and wanted is {wanted}. Record anew.")
    left = missing(shards_of(config, folder / "data"))
    if left and told.get("record_minutes") is None:
        raise ValueError(
            f"--data {folder} lacks {len(left)} parts of its recording. Finish it: --collect --out {folder}"
        )
