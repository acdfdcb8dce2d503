"""Is the heavy head needed at every chunk? Speculative decoding and the adaptive router on real reaches.

    python benchmarks/speculation.py                  # estimated 30 minutes on two idle cores, 18 of them training
    python benchmarks/speculation.py --preset tiny    # a few minutes, leaves RESULTS.md alone
    python benchmarks/speculation.py --out runs/draft # stop with Ctrl-C, run the same line to go on

A chunking head drafts, a DiT head of four denoising steps is the heavy one; both learn the same demonstrations behind
the shipped eyes (benchmarks/heavy_heads.py, in --heads; the DiT head is guidance.py's as well). The tolerances that
are played are found first, on other seeds (benchmarks/speculation_setups.py). Every policy plays the same episodes
under real-time chunking, a question every 10 steps. Time is the CPU time of one thread for a whole answer, eyes
included: what a robot would save. A policy is called worth it where it saves at least a tenth of that and keeps the
heavy head's success: over the same episodes, the 95 % interval of the difference leaves no room for a loss of 5 points
or more. Where an interval is too wide to say, it is called undecided. A mixture that is slower than the draft alone,
and certainly wins less than 5 points more, is called dominated.
"""

import argparse
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import gymnasium
import torch
from heavy_heads import ENV, SIZES, head_settings, prepare
from report import BEGUN_AT, ROOT, table, write_report
from shards import make_or_read, plain, provenance
from speculation_report import HEADER, plot, summarise, table_rows
from speculation_setups import (
    CALIBRATION_HEADER,
    CHECK_TIMES,
    SEEDS,
    TOLERANCES,
    WANTED,
    Setup,
    calibrate,
    calibration_rows,
    calibration_text,
    settings_of,
    setups_of,
)
from timed import Timed

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.eval.evaluate import EVALUATION_SEED
from neon_sim.eval.neonbench_play import leave_interrupts_to_the_main_process
from neon_sim.inference.two_heads import SpeculativePolicy, TwoHeadPolicy
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.names import nearest
from neon_sim.rollout import rollout
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.workers import cpu_count, parallel_map

TRAINED: Final = ("draft", "dit")  # heads


@dataclass(frozen=True)
class Preset:
    """How much is played, and of which `heavy_heads.SIZES` the heads are."""

    heads: str = "full"
    episodes: int = 200  # with 5 % of them changing sides, the difference is known to about 3 points
    calibration: tuple[int, ...] = SEEDS


PRESETS: Final = {"full": Preset(), "tiny": Preset("tiny", 2, SEEDS[:1])}


@dataclass(frozen=True)
class PlayingJob:
    """Some episodes of every policy, in turns, so that what disturbs one disturbs all."""

    out: Path
    heads: Path
    setups: Mapping[str, Setup]
    seeds: tuple[int, ...]
    trained: Mapping[str, Any]  # settings of the heads
    begun_at: str = BEGUN_AT

    @property
    def result(self) -> Path:
        """Where its episodes are kept: what is there need not be played again."""
        return self.out / "played" / f"{self.seeds[0]}_{len(self.seeds)}.json"

    @property
    def settings(self) -> dict[str, Any]:
        """All that its episodes depend on."""
        return {**settings_of(self.setups), "seeds": self.seeds, "trained": self.trained}


def play(job: PlayingJob) -> dict[str, list[dict[str, Any]]]:
    """Play a job's episodes with every policy."""
    torch.set_num_threads(1)
    env: Any = gymnasium.make("NeonG1-v0", disable_env_checker=True, **ENV).unwrapped
    heavy, draft = (NeonVLA.from_pretrained(job.heads / name) for name in ("dit", "draft"))
    policies = {name: Timed(setup.build(heavy, draft)) for name, setup in job.setups.items()}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in policies}
    for seed in job.seeds:
        for name, policy in policies.items():
            found[name].append(play_episode(env, policy, seed))
    env.close()
    return found


def play_or_read(job: PlayingJob) -> dict[str, Any]:
    """A job's episodes by policy, played now unless an earlier run did; with settings, day and commit."""
    return make_or_read(job.result, job.settings, job.begun_at, lambda: play(job))


def play_episode(env: Any, timed: Timed, seed: int) -> dict[str, Any]:
    """One episode, until the ball is reached or time is up.

    Returns success, seed, steps, answers_ms, heavy (how many answers the heavy heads gave), and the histogram of the
    accepted prefixes, empty where nothing is drafted to be accepted.
    """
    policy = timed.policy
    before, drafted = _counts(policy)
    episode = rollout(env, timed, seed=seed, keep=(), stop_on_success=True)
    after, accepted = _counts(policy)
    samples = len(timed.answers_ms) if policy.model.action_head.samples else 0
    return {
        "success": episode.success,
        "seed": seed,
        "steps": len(episode),
        "answers_ms": timed.answers_ms,
        "heavy": after - before if isinstance(policy, TwoHeadPolicy) else samples,
        "histogram": [now - then for now, then in zip(accepted, drafted, strict=True)],
    }


def _counts(policy: Any) -> tuple[int, list[int]]:
    """Answers that the heavy heads gave so far, and the accepted prefixes so far; nothing for one head alone."""
    histogram = policy.statistics.histogram.tolist() if isinstance(policy, SpeculativePolicy) else []
    return policy.heavy_answers if isinstance(policy, TwoHeadPolicy) else 0, histogram


def play_all(jobs: list[PlayingJob], workers: int) -> tuple[dict[str, Any], tuple[str, str]]:
    """Play what is missing: every policy's figures over the same episodes; the newest day and the commits."""
    parts = list(parallel_map(play_or_read, jobs, workers, "playing", leave_interrupts_to_the_main_process))
    summary = {name: summarise([row for part in parts for row in part["made"][name]]) for name in jobs[0].setups}
    return summary, provenance(parts)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full", help=", ".join(PRESETS))
    parser.add_argument("--out", type=Path, help="where episodes are kept (default: runs/speculation_PRESET)")
    parser.add_argument("--heads", type=Path, help="where the heads are trained (default: runs/heavy_heads_PRESET)")
    parser.add_argument("--weak-heads", action="store_true", help="go on with heads that hardly reach, too")
    parser.add_argument("--workers", type=int, default=cpu_count())
    args = parser.parse_args()
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    return args


def run(args: argparse.Namespace, preset: Preset, out: Path, heads: Path) -> None:
    """Train, calibrate, play, print and draw into `out`; report what was played in full."""
    settings = preset_settings(preset)
    try:
        claim_folder(out, settings)
        known = prepare(heads, TRAINED, SIZES[preset.heads], args.workers, args.weak_heads)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    path, seeds = out / "calibration.json", preset.calibration
    calibrated = make_or_read(path, settings, BEGUN_AT, lambda: calibrate(heads, seeds))
    found = calibrated["made"]
    print(f"Calibration on seeds {seeds}:\n{table(CALIBRATION_HEADER, calibration_rows(found))}")
    print(calibration_text(found))
    setups = setups_of(found)
    episodes = tuple(range(EVALUATION_SEED, EVALUATION_SEED + preset.episodes))
    parts = [episodes[i : i + 10] for i in range(0, len(episodes), 10)]
    jobs = [PlayingJob(out, heads, setups, part, settings["trained"]) for part in parts]
    summary, (date, commits) = play_all(jobs, args.workers)
    rows = table_rows(summary)
    print(table(HEADER, rows))
    plot(summary, out / "speculation.png")
    print(f"Wrote {out / 'speculation.png'}")
    if args.preset == "full":
        played = plain(settings_of(setups))
        figures = {"preset": args.preset, "settings": settings | played, "heads": known, "calibration": calibrated}
        write_report("speculation", figures | {"policies": summary}, HEADER, rows, date, measured_at=commits)
        shutil.copyfile(out / "speculation.png", ROOT / "docs" / "speculation.png")


def preset_settings(preset: Preset) -> dict[str, Any]:
    """All that the whole experiment depends on; the tolerances follow from it."""
    candidates = {"tolerances": TOLERANCES, "check_times": CHECK_TIMES, "wanted": WANTED}
    trained = {head: head_settings(head, SIZES[preset.heads]) for head in TRAINED}
    return plain({**asdict(preset), **candidates, **settings_of({}), "trained": trained})


def main() -> None:
    """Train, play, print, and report."""
    args = parse()
    preset, out = PRESETS[args.preset], args.out or ROOT / "runs" / f"speculation_{args.preset}"
    heads = args.heads or ROOT / "runs" / f"heavy_heads_{preset.heads}"
    try:
        run(args, preset, out, heads)
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what is done is in {heads} and {out}. The same line goes on.") from None


if __name__ == "__main__":
    main()
