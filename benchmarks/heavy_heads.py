"""The heads that speculation.py and guidance.py play: trained once, into one folder that both find, and looked at.

Every head learns the same demonstrations behind the shipped eyes. Before anything is played with a head it plays
nominal reaches on its own: what is measured with a head that cannot reach says nothing about what is added to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from report import BEGUN_AT
from shards import make_or_read, plain

from neon_sim.eval.evaluate import EvaluationJob, evaluate
from neon_sim.eval.neonbench_play import leave_interrupts_to_the_main_process
from neon_sim.eval.statistics import format_rate
from neon_sim.eval.trials import TrialTraining, record_demos, train_trial, trial_model
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.sensors.camera import CameraConfig
from neon_sim.shipped import asset_path, walker_fingerprint
from neon_sim.training.demos import Demos
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.workers import parallel_map

ENV: Final[dict[str, Any]] = {
    "task": "reach", "physics_dt": 0.005, "sensors": ("proprio", "camera"), "camera": CameraConfig(rate_hz=12.5),
}  # fmt: skip
HEADS: Final[dict[str, dict[str, Any]]] = {
    "draft": {},
    "flow": {"head_type": "flow"},
    "dit": {"head_type": "dit", "dit_hidden": 256, "dit_layers": 4, "dit_heads": 4},
}
FIRST_SEED: Final = 100  # of the nominal episodes


@dataclass(frozen=True)
class Sizes:
    """How much is trained. judged, least: nominal episodes that a head plays, and the share that it has to reach."""

    demos: int = 400
    updates: Mapping[str, int] = field(default_factory=lambda: {"draft": 3000, "flow": 4000, "dit": 1500})
    judged: int = 20
    least: float = 0.8


SIZES: Final = {"full": Sizes(), "tiny": Sizes(4, {"draft": 10, "flow": 10, "dit": 4}, 2, 0.0)}


@dataclass(frozen=True)
class TrainingJob:
    """One head and where it goes."""

    head: str
    sizes: Sizes
    demos: tuple[Path, ...]
    folder: Path  # of all heads
    row: int  # of its progress bar
    begun_at: str = BEGUN_AT


def head_settings(head: str, sizes: Sizes) -> dict[str, Any]:
    """All that a head's weights depend on."""
    training = TrialTraining(updates=sizes.updates[head])
    return plain({"head": HEADS[head], "training": asdict(training), **demos_settings(sizes)})


def demos_settings(sizes: Sizes) -> dict[str, Any]:
    """All that the demonstrations depend on; the walker stands under the arms."""
    return {"demos": sizes.demos, "env": ENV, "walker": walker_fingerprint()}


def train_head(job: TrainingJob) -> dict[str, Any]:
    """Train one head unless it is there; its losses, with settings, day and commit."""

    def train() -> dict[str, float]:
        torch.set_num_threads(1)
        config = NeonConfig(use_lidar=False, use_audio=False, head=HEADS[job.head])
        model = trial_model(NeonVLA.from_pretrained(asset_path("g1/demo_heads")), config, seed=0)
        training = TrialTraining(updates=job.sizes.updates[job.head])
        bar = {"desc": f"training {job.head}", "unit": "update", "position": job.row, "mininterval": 1.0}
        losses = train_trial(model, Demos.load(list(job.demos)), training, bar)
        model.save_pretrained(job.folder / job.head)
        return losses

    # Written last: a folder without it is trained anew.
    record = job.folder / job.head / "training.json"
    return make_or_read(record, head_settings(job.head, job.sizes), job.begun_at, train)


def prepare(folder: Path, names: Sequence[str], sizes: Sizes, workers: int, go_on: bool) -> dict[str, dict[str, Any]]:
    """Train what is missing, let every head play nominal episodes, and return what is known of each head.

    Args:
        folder: of all heads and their demonstrations.
        names: of `HEADS`.
        sizes: how much is trained.
        workers: processes.
        go_on: with heads that do not reach, too.

    Raises:
        ValueError: the folder, or a head in it, was made with other settings; or a head reaches too rarely.
    """
    claim_folder(folder, demos_settings(sizes))
    demos = tuple(record_demos(folder / "demos", sizes.demos, ENV, workers))
    jobs = [TrainingJob(name, sizes, demos, folder, row + 1) for row, name in enumerate(names)]
    trained = parallel_map(train_head, jobs, workers, "heads", leave_interrupts_to_the_main_process)
    records = dict(zip(names, trained, strict=True))
    found = {}
    for name, record in records.items():
        print(f"{name}: held-back MSE {record['made']['held_back_mse']:.2g}, trained {record['date']}")
        judged = judge(folder, name, sizes, workers)
        found[name] = {**record, "nominal": judged}
    weak = [name for name, record in found.items() if sum(record["nominal"]["made"]) < sizes.least * sizes.judged]
    if weak and not go_on:
        raise ValueError(
            f"{', '.join(weak)} reached less than {100 * sizes.least:.0f} % of the nominal episodes: what would be "
            "measured is a bad head. Train it longer (updates in benchmarks/heavy_heads.py, into another --heads), or "
            "go on all the same with --weak-heads."
        )
    return found


def judge(folder: Path, name: str, sizes: Sizes, workers: int) -> dict[str, Any]:
    """Successes of a head's nominal episodes, played unless they are kept; printed."""
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + sizes.judged))
    job = EvaluationJob(name, str(folder / name), seeds, env=ENV)

    def play() -> list[bool]:
        return [result.success for result in evaluate([job], workers, f"{name}, nominal")[name]]

    settings = {"seeds": seeds, "trained": head_settings(name, sizes)}
    kept = make_or_read(folder / name / "nominal.json", settings, BEGUN_AT, play)
    print(f"{name}: nominal episodes reached {format_rate(sum(kept['made']), len(seeds))}")
    return kept
