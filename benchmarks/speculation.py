"""Is the heavy head needed at every chunk? Speculative decoding and the adaptive router on real reaches.

    python benchmarks/speculation.py                  # estimated 28 minutes on two idle cores, 12 of them training
    python benchmarks/speculation.py --preset tiny    # a few minutes, leaves RESULTS.md alone
    python benchmarks/speculation.py --out runs/draft # stop with Ctrl-C, run the same line to go on

A chunking head drafts, a DiT head of four denoising steps is the heavy one; both learn the same demonstrations behind
the shipped eyes. Every policy plays the same episodes under real-time chunking, a question every 10 steps. Time is the
CPU time of one thread for a whole answer, eyes included: what a robot would save. A policy is called worth it where it
saves at least a tenth of that and keeps the heavy head's success: over the same episodes, the 95 % interval of the
difference leaves no room for a loss of 5 points or more.
"""

import argparse
import datetime
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import gymnasium
import numpy as np
import torch
from report import ROOT, replace_file, table, write_report

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.eval.evaluate import EVALUATION_SEED
from neon_sim.eval.neonbench_play import leave_interrupts_to_the_main_process
from neon_sim.eval.statistics import format_rate, paired_difference
from neon_sim.eval.trials import TrialTraining, record_demos, train_trial, trial_model
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.inference.real_time import RealTimeConfig
from neon_sim.inference.two_heads import RoutedPolicy, SpeculativePolicy, TwoHeadPolicy
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.names import nearest
from neon_sim.rollout import rollout
from neon_sim.sensors.camera import CameraConfig
from neon_sim.shipped import asset_path
from neon_sim.training.demos import Demos
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.workers import cpu_count, parallel_map

ENV: Final[dict[str, Any]] = {
    "task": "reach", "physics_dt": 0.005, "sensors": ("proprio", "camera"), "camera": CameraConfig(rate_hz=12.5),
}  # fmt: skip
REAL_TIME: Final = RealTimeConfig()
WORTH: Final = 0.1  # share of an answer's time that must be saved
MARGIN: Final = 0.05  # of the success rate; a policy that may lose as much is not as good
HEADS: Final[dict[str, dict[str, Any]]] = {
    "draft": {},
    "heavy": {"head_type": "dit", "dit_hidden": 256, "dit_layers": 4, "dit_heads": 4},
}
POLICIES: Final[dict[str, Callable[[NeonVLA, NeonVLA], NeonPolicy]]] = {
    "heavy": lambda heavy, draft: NeonPolicy(heavy, real_time=REAL_TIME),
    "draft": lambda heavy, draft: NeonPolicy(draft, real_time=REAL_TIME),
    "speculative": lambda heavy, draft: SpeculativePolicy(heavy, draft, real_time=REAL_TIME),
    "routed": lambda heavy, draft: RoutedPolicy(heavy, draft, real_time=REAL_TIME),
}
HEADER: Final = ("policy", "success, 95 % interval", "steps", "answer, CPU ms", "heavy heads ran", "worth it")


@dataclass(frozen=True)
class Preset:
    """How much is trained and played; updates are those of the draft and of the heavy head."""

    demos: int = 400
    updates: tuple[int, int] = (3000, 1500)
    episodes: int = 200  # with 5 % of them changing sides, the difference is known to about 3 points
    policies: tuple[str, ...] = tuple(POLICIES)


PRESETS: Final = {"full": Preset(), "tiny": Preset(4, (10, 4), 2)}


@dataclass(frozen=True)
class TrainingJob:
    """One of the two heads."""

    head: str
    updates: int
    demos: tuple[Path, ...]
    policy: Path


@dataclass(frozen=True)
class PlayingJob:
    """Some episodes of every policy, in turns, so that what disturbs one disturbs all."""

    folder: Path
    policies: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def result(self) -> Path:
        """Where its episodes are kept: what is there need not be played again."""
        return self.folder / "played" / f"{self.seeds[0]}_{len(self.seeds)}.json"


@dataclass(frozen=True)
class Played:
    """One episode: control steps it took, CPU ms of each answer, and how many answers the heavy heads gave."""

    success: bool
    steps: int
    answers_ms: tuple[float, ...]
    heavy: int


class Timed:
    """A policy whose answers are timed, in CPU time of this process."""

    def __init__(self, policy: NeonPolicy) -> None:
        self.policy = policy
        self.answers_ms: list[float] = []

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Pass on, and begin a new list."""
        self.policy.reset(env_ids)
        self.answers_ms = []

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """Pass on."""
        self.policy.observe(obs, now_s)

    def act(self) -> np.ndarray:
        """Pass on, with a watch."""
        began = time.process_time()
        chunk = self.policy.act()
        self.answers_ms.append(1e3 * (time.process_time() - began))
        return chunk


def train_head(job: TrainingJob) -> None:
    """Train one head unless it is there."""
    if (job.policy / "config.json").exists():
        return
    torch.set_num_threads(1)
    config = NeonConfig(use_lidar=False, use_audio=False, head=HEADS[job.head])
    model = trial_model(NeonVLA.from_pretrained(asset_path("g1/demo_heads")), config, seed=0)
    print(job.head, train_trial(model, Demos.load(list(job.demos)), TrialTraining(updates=job.updates)))
    model.save_pretrained(job.policy)


def play(job: PlayingJob) -> dict[str, list[Played]]:
    """Play a job's episodes with every policy."""
    torch.set_num_threads(1)
    env: Any = gymnasium.make("NeonG1-v0", disable_env_checker=True, **ENV).unwrapped
    heavy, draft = (NeonVLA.from_pretrained(job.folder / name) for name in ("heavy", "draft"))
    policies = {name: Timed(POLICIES[name](heavy, draft)) for name in job.policies}
    found: dict[str, list[Played]] = {name: [] for name in policies}
    for seed in job.seeds:
        for name, policy in policies.items():
            found[name].append(play_episode(env, policy, seed))
    env.close()
    return found


def play_or_read(job: PlayingJob) -> dict[str, list[Played]]:
    """A job's episodes, played now unless an earlier run did."""
    if not job.result.exists():
        found = {name: [asdict(episode) for episode in episodes] for name, episodes in play(job).items()}
        job.result.parent.mkdir(parents=True, exist_ok=True)
        replace_file(job.result, json.dumps(found) + "\n")
    stored = json.loads(job.result.read_text(encoding="utf-8"))
    return {
        name: [Played(**{**row, "answers_ms": tuple(row["answers_ms"])}) for row in stored[name]]
        for name in job.policies
    }


def play_episode(env: Any, timed: Timed, seed: int) -> Played:
    """One episode, until the ball is reached or time is up."""
    policy = timed.policy
    before = policy.heavy_answers if isinstance(policy, TwoHeadPolicy) else 0
    episode = rollout(env, timed, seed=seed, keep=(), stop_on_success=True)
    samples = len(timed.answers_ms) if policy.model.action_head.samples else 0
    heavy = policy.heavy_answers - before if isinstance(policy, TwoHeadPolicy) else samples
    return Played(episode.success, len(episode), tuple(timed.answers_ms), heavy)


def summarise(played: Sequence[Played]) -> dict[str, Any]:
    """One policy's figures over its episodes."""
    answers = [ms for episode in played for ms in episode.answers_ms]
    return {
        "won": [episode.success for episode in played],
        "successes": sum(episode.success for episode in played),
        "episodes": len(played),
        "median_steps": float(np.median([episode.steps for episode in played])),
        "answers": len(answers),
        "mean_ms": float(np.mean(answers)),
        "p50_ms": float(np.median(answers)),
        "p99_ms": float(np.quantile(answers, 0.99)),
        "heavy_share": sum(episode.heavy for episode in played) / len(answers),
    }


def verdict(heavy: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Whether a policy is worth having in place of the heavy head, and why; success in percentage points."""
    saved = 1.0 - other["mean_ms"] / heavy["mean_ms"]
    change, low, high = (100.0 * value for value in paired_difference(heavy["won"], other["won"]))
    worth = saved >= WORTH and low > -100.0 * MARGIN
    told = f"{100 * saved:.0f} % of the time saved, success {change:+.1f} points [{low:+.1f}, {high:+.1f}]"
    return f"{'yes' if worth else 'no'}: {told}"


def table_rows(summary: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The table; every policy is held against the heavy head."""
    rows = []
    for name, cell in summary.items():
        rows.append(
            [
                name,
                format_rate(cell["successes"], cell["episodes"]),
                f"{cell['median_steps']:.0f}",
                f"{cell['mean_ms']:.1f} (p50 {cell['p50_ms']:.1f}, p99 {cell['p99_ms']:.1f})",
                f"{100 * cell['heavy_share']:.0f} %",
                "-" if name == "heavy" else verdict(summary["heavy"], cell),
            ]
        )
    return rows


def train_both(folder: Path, preset: Preset, workers: int) -> None:
    """Both heads into `folder`, side by side."""
    demos = tuple(record_demos(folder / "demos", preset.demos, ENV, workers))
    jobs = [
        TrainingJob(name, updates, demos, folder / name) for name, updates in zip(HEADS, preset.updates, strict=True)
    ]
    list(parallel_map(train_head, jobs, workers, "training", leave_interrupts_to_the_main_process))


def play_all(folder: Path, preset: Preset, workers: int) -> dict[str, list[Played]]:
    """Train and play what is missing in `folder`; the same episodes, in the same order, for each policy."""
    train_both(folder, preset, workers)
    seeds = tuple(range(EVALUATION_SEED, EVALUATION_SEED + preset.episodes))
    jobs = [PlayingJob(folder, preset.policies, seeds[i : i + 10]) for i in range(0, len(seeds), 10)]
    found: dict[str, list[Played]] = {name: [] for name in preset.policies}
    for part in parallel_map(play_or_read, jobs, workers, "playing", leave_interrupts_to_the_main_process):
        for name, played in part.items():
            found[name] += played
    return found


def main() -> None:
    """Train, play, print, and report what was played in full."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full", help=", ".join(PRESETS))
    parser.add_argument("--out", type=Path, help="where the heads are trained (default: runs/speculation_PRESET)")
    parser.add_argument("--workers", type=int, default=cpu_count())
    args = parser.parse_args()
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    preset, out = PRESETS[args.preset], args.out or ROOT / "runs" / f"speculation_{args.preset}"
    try:
        claim_folder(out, asdict(preset) | {"heads": HEADS})
    except ValueError as error:
        raise SystemExit(str(error)) from None
    try:
        found = play_all(out, preset, args.workers)
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what is done is in {out}. The same line goes on.") from None
    summary = {name: summarise(played) for name, played in found.items()}
    rows = table_rows(summary)
    print(table(HEADER, rows))
    if args.preset == "full":
        write_report("speculation", {"policies": summary}, HEADER, rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
