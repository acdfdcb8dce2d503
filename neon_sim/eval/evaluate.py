"""Success of a policy on a fixed set of seeds, in parallel processes."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from neon_sim.rollout import rollout
from neon_sim.shipped import walker_fingerprint
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.workers import parallel_map

EVALUATION_SEED = 10_000_000  # seeds from here on are never trained on


@dataclass(frozen=True)
class EvaluationJob:
    """One policy on some seeds."""

    label: str
    policy: str  # folder of a checkpoint or of agents/train_ppo.py, or "expert", "random", "zero", or a planner's name
    seeds: tuple[int, ...]
    fault: Any = None
    blank_camera: bool = False
    shuffle_words: bool = False
    engine: str = "eager"  # of a checkpoint, see neon_sim.inference.engines; by another its best device is taken too
    env: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EpisodeResult:
    """One episode: success, and the closest that the named palm was to the named ball (m)."""

    label: str
    seed: int
    success: bool
    final_distance: float
    fell: bool


def split_jobs(job: EvaluationJob, size: int = 10) -> list[EvaluationJob]:
    """The same job in parts of `size` seeds, so that workers share it evenly."""
    from dataclasses import replace

    return [replace(job, seeds=job.seeds[i : i + size]) for i in range(0, len(job.seeds), size)]


def run_job(job: EvaluationJob) -> list[EpisodeResult]:
    """Play the job's seeds one after the other."""
    env: Any = gymnasium.make("NeonG1-v0", disable_env_checker=True, **job.env).unwrapped
    env.world.apply_fault(job.fault)
    policy = build_policy(job, env)
    results = []
    for seed in job.seeds:
        options = {"instruction": other_words(env, seed)} if job.shuffle_words else None
        episode = rollout(env, policy, seed=seed, keep=(), stop_on_success=True, options=options)
        distance = float(env.privileged().get("distance", np.nan))
        results.append(EpisodeResult(job.label, seed, episode.success, distance, bool(episode.terminated[-1])))
    env.close()
    return results


def other_words(env: Any, seed: int) -> str:
    """The instruction of another seed's episode: right words for the wrong scene."""
    _, info = env.reset(seed=seed + 7_777_777)
    return str(info["instruction"])


def build_policy(job: EvaluationJob, env: Any) -> Any:
    """A checkpoint's policy, a run's of agents/train_ppo.py, or by name one of the references or a planner."""
    from neon_sim.inference.references import REFERENCES
    from neon_sim.inference.sb3_policy import Sb3Policy, find_run

    if job.policy in REFERENCES:
        return REFERENCES[job.policy](env)
    run = find_run(Path(job.policy))
    if run is not None:
        return Sb3Policy(run, env)
    import torch

    from neon_sim.inference.blind_policy import BlindPolicy
    from neon_sim.inference.neon_policy import NeonPolicy
    from neon_sim.inference.planner_policy import open_planner
    from neon_sim.model.neon_vla import NeonVLA
    from neon_sim.world_model.controllers import PLANNERS

    torch.set_num_threads(1)
    if job.policy in PLANNERS:
        return open_planner(job.policy, env)
    model = NeonVLA.from_pretrained(Path(job.policy), device=None if job.engine == "eager" else "auto")
    require_ears(model, env)
    return (BlindPolicy if "state" in model.senses else NeonPolicy)(model, job.blank_camera, engine=job.engine)


def require_ears(model: Any, env: Any) -> None:
    """Raise ValueError if a policy that hears was made for another number of microphones than the env has."""
    if env is None or "audio" not in env.config.sensors or "audio" not in model.senses:
        return
    has, wants = env.config.audio.microphones, model.config.microphones
    if has != wants:
        raise ValueError(f"This policy hears with {wants} microphones, the env has {has}. Set audio=AudioConfig("
                         f"microphones={wants}).")  # fmt: skip


def evaluate(
    jobs: list[EvaluationJob], workers: int, label: str = "evaluating", folder: Path | None = None
) -> dict[str, list[EpisodeResult]]:
    """Run all jobs; results by label, in the order of their seeds.

    folder: of these very policies, where episodes are kept, ten in a file; what is there is not played again.
    """
    parts = [part for job in jobs for part in split_jobs(job)]
    paths = {i: folder / f"{_mark(part)}.json" for i, part in enumerate(parts)} if folder is not None else {}
    kept = {i: _read_results(path) for i, path in paths.items() if path.exists()}
    missing = [i for i in range(len(parts)) if i not in kept]
    work = [parts[i] for i in missing]
    for i, batch in zip(missing, parallel_map(run_job, work, min(workers, len(work)), label), strict=True):
        kept[i] = batch
        if folder is not None:
            replace_bytes(paths[i], json.dumps([asdict(result) for result in batch]).encode())
    results: dict[str, list[EpisodeResult]] = {job.label: [] for job in jobs}
    for i, part in enumerate(parts):
        results[part.label] += kept[i]
    return results


def _mark(part: EvaluationJob) -> str:
    """Equal for two parts that play the same episodes on the same walker."""
    return hashlib.sha256(f"{walker_fingerprint()} {part!r}".encode()).hexdigest()[:16]


def _read_results(path: Path) -> list[EpisodeResult]:
    return [EpisodeResult(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
