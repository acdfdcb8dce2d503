"""The work of a recording, cut into shards: what is missing, and who does it, processes or a Ray cluster.

An episode depends on its seed alone, so neither how the work is cut nor who does it changes what is recorded.
"""

import multiprocessing
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from neon_sim.data.lerobot.episodes import EPISODES_V2
from neon_sim.data.lerobot.shards import recorded_counts
from neon_sim.data.lerobot.whole_file import whole_lines
from neon_sim.eval.evaluate import EVALUATION_SEED
from neon_sim.training.recording import Collecting, Recorder, Shard

FIRST_SEED: Final = 4_000_000  # below what policies are judged on; other trainings have some of them too
SEED_STEP: Final = 100_000  # between the first seeds of two --seed
SHARD: Final = 4  # episodes; how finely work is shared out, and never what is recorded
_WORKER: dict[str, Any] = {}


def open_worker(config: Collecting) -> None:
    """Prepare this process; Ctrl-C is for the main process to act on."""
    if multiprocessing.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _WORKER["recorder"] = Recorder(config)


def record_shard(shard: Shard) -> int:
    """`Recorder.record` in a worker process."""
    return _WORKER["recorder"].record(shard)


def shards_of(config: Collecting, episodes: int, folder: Path) -> list[Shard]:
    """The work, the same for any number of workers."""
    first = FIRST_SEED + SEED_STEP * config.seed
    starts = range(0, episodes, SHARD)
    return [Shard(str(folder / f"shard_{i:07d}"), first + i, min(SHARD, episodes - i)) for i in starts]


def check_seeds(seed: int, episodes: int) -> None:
    """Raise ValueError where episodes would have seeds that policies are judged on, or that others record on."""
    last = (EVALUATION_SEED - FIRST_SEED) // SEED_STEP - 1
    if not 0 <= seed <= last or FIRST_SEED + SEED_STEP * seed + episodes > EVALUATION_SEED:
        raise ValueError(
            f"--seed wants 0 to {last}, and seeds from {EVALUATION_SEED} on are for judging: got --seed {seed} and "
            f"{episodes} episodes."
        )


def check_recorded(shards: list[Shard], folder: Path) -> None:
    """Raise ValueError if more was recorded in a folder than is asked for: nothing that is there is thrown away."""
    wanted = {shard.folder: shard.count for shard in shards}
    counts = recorded_counts(folder)
    if any(count > wanted.get(path, 0) for path, count in counts.items()):
        there, asked = sum(counts.values()), sum(wanted.values())
        raise ValueError(f"{folder.parent} holds {there} episodes, --episodes asks for {asked}. Choose another --out.")


def missing(shards: list[Shard]) -> list[Shard]:
    """Shards with episodes still to be recorded, told by their metadata."""
    return [s for s in shards if len(whole_lines(Path(s.folder) / EPISODES_V2)) < s.count]


def ray_map(config: Collecting, shards: list[Shard], address: str, workers: int) -> Iterator[int]:
    """The same workers as actors on a Ray cluster, one per CPU; yields like `parallel_map`.

    address: of a cluster that is there, and all its CPUs are used; "local" starts one of `workers` CPUs.

    Raises:
        SystemExit: ray is not installed.
    """
    try:
        import ray
        from ray.util import ActorPool
    except ImportError:
        raise SystemExit("--ray needs Ray. Install it: pip install 'neon-sim[cluster]'") from None
    from tqdm import tqdm

    local = address == "local"
    ray.init(
        address=None if local else address,
        num_cpus=workers if local else None,
        include_dashboard=False if local else None,
        log_to_driver=False,
    )
    try:
        cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        worker = ray.remote(num_cpus=1)(Recorder)
        pool = ActorPool([worker.remote(config) for _ in range(min(cpus, max(1, len(shards))))])
        results = pool.map(lambda actor, shard: actor.record.remote(shard), shards)
        yield from tqdm(results, total=len(shards), desc="shards")
    finally:
        ray.shutdown()
