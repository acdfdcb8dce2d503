"""Physics guidance on reach: one head with the guide off and on, in worlds that the head was not trained for.

    python benchmarks/guidance.py                  # 15 minutes on two idle AVX-512 cores, 10 of them training
    python benchmarks/guidance.py --preset tiny    # a few minutes, leaves RESULTS.md alone
    python benchmarks/guidance.py --out runs/guide # stop with Ctrl-C, run the same line to go on

A flow head and a diffusion transformer, each with eight guides where they matter: a ball-shaped obstacle half way
(collision; composite: with torque and smoothness together), something heavy in both hands (payload: the torque margin,
once tighter than the load allows and once feasible; sag: lift what sags), motors that may use 25 % of their effort
(torque), motors that have 35 % of it (weak motors), and nothing special (smooth). The obstacle is in the guide's map
and not in the scene, fixed to the pelvis: an arm that crosses it shows as negative clearance, and nothing stops it, so
the figure that counts is how many balls were reached without contact. Off and on play the same episodes. Intervals are
95 %: Wilson's for success, of the mean for the rest; differences are those of paired episodes.

The heads are those of benchmarks/heavy_heads.py, in --heads; the transformer is speculation.py's as well.
"""

import argparse
import itertools
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import gymnasium
import torch
from guidance_cases import (
    CASES,
    RADIUS_M,
    Case,
    case_settings,
    effort_share,
    load_hands,
    measures,
    obstacle_on_the_way,
    weaken_arms,
)
from guidance_report import HEADER, Cells, plot, table_rows
from heavy_heads import ENV, SIZES, head_settings, prepare
from report import BEGUN_AT, ROOT, table, write_report
from shards import make_or_read, plain, provenance
from timed import Timed

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.eval.evaluate import EVALUATION_SEED
from neon_sim.eval.neonbench_play import leave_interrupts_to_the_main_process
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.model.collision import Obstacle
from neon_sim.model.guidance import PhysicsGuide
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.names import nearest
from neon_sim.rollout import rollout
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.workers import cpu_count, parallel_map

PLAYED: Final = ("flow", "dit")  # heads


@dataclass(frozen=True)
class Preset:
    """How much is played, and of which `heavy_heads.SIZES` the heads are."""

    heads: str = "full"
    episodes: int = 60
    cases: tuple[str, ...] = tuple(CASES)


PRESETS: Final = {"full": Preset(), "tiny": Preset("tiny", 2, ("collision", "weak motors"))}


@dataclass(frozen=True)
class Job:
    """Episodes of one head in one case, with the guide or without. out: folder of all episodes; heads: of all heads."""

    head: str
    case: str
    guided: bool
    out: Path
    heads: Path
    seeds: tuple[int, ...]
    trained: Mapping[str, Any]  # settings of the head
    begun_at: str = BEGUN_AT

    @property
    def result(self) -> Path:
        """Where its episodes are kept: what is there need not be played again."""
        what = f"{self.head}_{self.case.replace(', ', '_').replace(' ', '_')}_{'on' if self.guided else 'off'}"
        return self.out / "played" / f"{what}_{self.seeds[0]}_{len(self.seeds)}.json"

    @property
    def settings(self) -> dict[str, Any]:
        """All that its episodes depend on."""
        case = case_settings(CASES[self.case]) | {"guided": self.guided, "radius_m": RADIUS_M}
        return {"case": case, "env": ENV, "seeds": self.seeds, "trained": self.trained}


def play_or_read(job: Job) -> dict[str, Any]:
    """The figures of each episode of a job, played now unless an earlier run did; with settings, day and commit."""
    return make_or_read(job.result, job.settings, job.begun_at, lambda: play(job))


def play(job: Job) -> list[dict[str, Any]]:
    """Play a job's episodes one after the other."""
    torch.set_num_threads(1)
    case = CASES[job.case]
    env: Any = gymnasium.make("NeonG1-v0", disable_env_checker=True, **ENV).unwrapped
    load_hands(env, case)
    policy = NeonPolicy(NeonVLA.from_pretrained(job.heads / job.head))
    played = [play_episode(env, policy, case, job.guided, seed) for seed in job.seeds]
    env.close()
    return played


def play_episode(env: Any, policy: NeonPolicy, case: Case, guided: bool, seed: int) -> dict[str, Any]:
    """One episode; its obstacle is known as soon as the ball is."""
    placed: list[Obstacle] = []
    timed = Timed(policy)

    def before_a_chunk(env: Any) -> None:
        if not placed:
            weaken_arms(env, case)
            truth = env.privileged()
            placed.append(obstacle_on_the_way(truth["hand"], truth["target_pos_b"]))
            guide = PhysicsGuide(policy.model.action_space, case.loss(placed[0]), case.config)
            policy.guide = guide if guided else None

    episode = rollout(env, timed, seed=seed, stop_on_success=True, on_chunk=before_a_chunk)
    found = measures(episode, env.privileged()["distance"], placed[0], effort_share(case))
    return {**found, "seed": seed, "answers_ms": timed.answers_ms}


def jobs_of(preset: Preset, out: Path, heads: Path, size: int = 10) -> list[Job]:
    """Every case of every head off and on, in parts of `size` seeds."""
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + preset.episodes)
    parts = [tuple(seeds[i : i + size]) for i in range(0, len(seeds), size)]
    worlds = itertools.product(PLAYED, preset.cases, (False, True))
    trained = {head: head_settings(head, SIZES[preset.heads]) for head in PLAYED}
    return [Job(head, case, guided, out, heads, part, trained[head]) for head, case, guided in worlds for part in parts]


def play_all(jobs: list[Job], workers: int) -> tuple[Cells, tuple[str, str]]:
    """Play what is missing: episodes by head, case, and whether they were guided; the newest day and the commits."""
    played = parallel_map(play_or_read, jobs, workers, "playing", leave_interrupts_to_the_main_process)
    found: Cells = {}
    parts = []
    for job, part in zip(jobs, played, strict=True):
        found.setdefault((job.head, job.case, job.guided), []).extend(part["made"])
        parts.append({"date": part["date"], "commit": part["commit"]})
    return found, provenance(parts)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full", help=", ".join(PRESETS))
    parser.add_argument("--out", type=Path, help="where episodes are kept (default: runs/guidance_PRESET)")
    parser.add_argument("--heads", type=Path, help="where the heads are trained (default: runs/heavy_heads_PRESET)")
    parser.add_argument("--weak-heads", action="store_true", help="go on with heads that hardly reach, too")
    parser.add_argument("--workers", type=int, default=cpu_count())
    args = parser.parse_args()
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    return args


def run(args: argparse.Namespace, preset: Preset, out: Path, heads: Path) -> None:
    """Play, print and draw into `out`; report what was played in full."""
    settings = settings_of(preset)
    try:
        claim_folder(out, settings)
        known = prepare(heads, PLAYED, SIZES[preset.heads], args.workers, args.weak_heads)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    found, (date, commits) = play_all(jobs_of(preset, out, heads), args.workers)
    rows = table_rows(found)
    print(table(HEADER, rows))
    plot(found, out / "guidance.png")
    print(f"Wrote {out / 'guidance.png'}")
    if args.preset == "full":
        figures: dict[str, Any] = {"preset": args.preset, "settings": settings, "heads": known}
        figures["episodes"] = {
            f"{head} {case} {'on' if on else 'off'}": cell for (head, case, on), cell in found.items()
        }
        write_report("guidance", figures, HEADER, rows, date, measured_at=commits)
        shutil.copyfile(out / "guidance.png", ROOT / "docs" / "guidance.png")


def settings_of(preset: Preset) -> dict[str, Any]:
    """All that the whole experiment depends on."""
    cases = {name: case_settings(CASES[name]) for name in preset.cases}
    trained = {head: head_settings(head, SIZES[preset.heads]) for head in PLAYED}
    return plain({**asdict(preset), "cases": cases, "env": ENV, "radius_m": RADIUS_M, "trained": trained})


def main() -> None:
    """Train, play, print, and report."""
    args = parse()
    preset, out = PRESETS[args.preset], args.out or ROOT / "runs" / f"guidance_{args.preset}"
    heads = args.heads or ROOT / "runs" / f"heavy_heads_{preset.heads}"
    try:
        run(args, preset, out, heads)
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what is done is in {heads} and {out}. The same line goes on.") from None


if __name__ == "__main__":
    main()
