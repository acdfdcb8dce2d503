"""What a foreign arm's recordings are worth to the G1: reach in closed loop after few episodes of its own, and none.

    python benchmarks/foreign_arm.py                # planned for 50 minutes on two idle cores
    python benchmarks/foreign_arm.py --preset tiny  # a minute: every part of it, and a figure that says nothing
    python benchmarks/foreign_arm.py --preset tiny --out runs/foreign_tiny --workers 1

An arm of ours that shares nothing with the G1 (benchmarks/foreign_arm_world.py) makes reaches, written as a foreign
LeRobot folder: relative end-effector steps (paper, eq. 12-17). Read for each of the G1's hands as any such folder is,
each episode is a reach to where it ended. Action heads are trained on 0, some and more own episodes, with and without
this source at several multipliers (its weight beside the own episodes' 1), everything else equal, and play reach: the
shipped eyes read the goal out of camera and words. Episodes of one training are alike, so the difference is of the
trainings: the mean over their seeds, with Student's interval.

The heads see what both robots know: the arms' joint angles, the palms, the goal. Nothing was tuned on the outcome.
Stop with Ctrl-C; the same line goes on. Writes OUT (episodes, runs, results), and at full size RESULTS.md and
docs/foreign_arm.png.
"""

import argparse
import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import gymnasium
import numpy as np
import torch
from foreign_arm_data import HANDS, foreign_reaches, keep, own_reaches, shared, soup
from foreign_arm_world import write_foreign_folder
from report import ROOT, replace_file, table, write_report

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.eval.evaluate import EVALUATION_SEED, EvaluationJob, build_policy
from neon_sim.eval.plots import bar_plot
from neon_sim.eval.statistics import format_rate, t_interval, wilson_interval
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.model.video_backbone import BackboneFeatures
from neon_sim.names import nearest
from neon_sim.rollout import rollout
from neon_sim.sensors.camera import CameraConfig
from neon_sim.shipped import asset_path, walker_fingerprint
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.train import NeonTrainer
from neon_sim.training.train_config import TrainConfig
from neon_sim.training.workers import cpu_count, parallel_map

ENV: Final[dict[str, Any]] = {"task": "reach", "physics_dt": 0.005, "sensors": ("proprio", "camera")}
HEADER: Final = ("own episodes", "multiplier", "without the foreign arm", "with it", "difference, points")


@dataclass(frozen=True)
class Preset:
    """How large it is. own: numbers of own episodes; shares: weights of the foreign source beside own data's 1."""

    own: tuple[int, ...] = (0, 5, 20, 80)
    foreign: int = 150
    shares: tuple[float, ...] = (0.3, 1.0, 3.0)
    steps: int = 800  # optimiser steps of each training
    batch_size: int = 64
    seeds: tuple[int, ...] = (0, 1, 2)
    episodes: int = 60  # played with each trained policy

    def cells(self) -> list[tuple[int, float, int]]:
        """(own episodes, multiplier or 0, seed) of every training: beside nothing of its own, a multiplier means 1."""
        pairs = [(own, share) for own in self.own for share in ((0.0, *self.shares) if own else (1.0,))]
        return [(own, share, seed) for seed in self.seeds for own, share in pairs]


PRESETS: Final = {
    "default": Preset(),
    "tiny": Preset(own=(0, 2), foreign=3, shares=(1.0,), steps=15, batch_size=16, seeds=(0,), episodes=1),
}


@dataclass(frozen=True)
class Cell:
    """One training and its episodes, and the folder for both."""

    own: int
    share: float  # of the foreign source; 0 = without it
    seed: int
    preset: Preset
    out: str

    @property
    def folder(self) -> Path:
        """Of this cell's run and results."""
        return Path(self.out) / "cells" / f"own{self.own}_foreign{self.share:g}_seed{self.seed}"


def no_picture(model: NeonVLA, count: int) -> BackboneFeatures:
    """Features of nothing seen, for heads on trial: the goal token says all that the eyes told."""
    nothing = torch.zeros(count, model.backbone.hidden_size)
    tokens = torch.zeros(count, model.backbone.num_tokens, model.backbone.hidden_size)
    return BackboneFeatures(tokens, nothing, nothing)


def train(cell: Cell) -> NeonVLA:
    """Train the cell's heads, or go on; a finished run is only read."""
    preset = cell.preset
    model = NeonConfig(use_lidar=False, use_audio=False, vision_dropout=0.0, tracking_noise=0.0)
    config = TrainConfig(
        model,
        soup(Path(cell.out), cell.own, cell.share),
        output_dir=str(cell.folder / "run"),
        max_steps=preset.steps,
        batch_size=preset.batch_size,
        gradient_accumulation=1,
        learning_rate=1e-3,
        optim="adamw",
        bf16=False,
        ema_decay=0.99,
        goal_weight=0.0,
        sample_cache_gb=0.0,  # episodes without pictures fit into memory
        seed=cell.seed,
        device="cpu",
    )
    trainer = NeonTrainer(config, progress=False)
    trainer.encode = lambda frames, words: no_picture(trainer.model, len(words))
    if trainer.step < trainer.total_steps:
        trainer.train()
    return NeonVLA.from_pretrained(cell.folder / "run" / "last")


class HeadsOnTrial(NeonPolicy):
    """The shipped eyes and goal reader, and other heads that are told nothing but the goal and `shared` senses."""

    def __init__(self, shipped: NeonVLA, heads: NeonVLA) -> None:
        super().__init__(shipped)
        self.heads = heads.eval()

    def decode(self, features: BackboneFeatures, senses: dict[str, torch.Tensor], goal: torch.Tensor) -> torch.Tensor:
        """The chunk (1, 16, A) of the heads on trial."""
        known = {"proprio": shared(senses["proprio"]), "eef": senses["eef"]}
        return self.heads(no_picture(self.heads, len(goal)), known, goal)[0]


def play(policy: Any, env: Any, episodes: int, path: Path, seed: int = 0) -> list[dict[str, Any]]:
    """Episodes of reach that belong to a training's seed; those that a file has already are not played again."""
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    first = EVALUATION_SEED + 10_000 * seed
    for place in range(first + len(rows), first + episodes):
        success = rollout(env, policy, seed=place, keep=(), stop_on_success=True).success
        distance = float(env.privileged()["distance"])
        rows.append({"seed": place, "success": success, "distance_m": distance})
        replace_file(path, json.dumps(rows) + "\n")
    return rows[:episodes]


def run_cell(cell: Cell) -> tuple[Cell, list[dict[str, Any]]]:
    """Train and play one cell."""
    torch.set_num_threads(1)
    path = cell.folder / "episodes.json"
    if path.exists() and len(json.loads(path.read_text(encoding="utf-8"))) >= cell.preset.episodes:
        return cell, play(None, None, cell.preset.episodes, path, cell.seed)
    heads = train(cell)
    shipped = NeonVLA.from_pretrained(asset_path("g1/demo_heads"))
    env = open_env()
    rows = play(HeadsOnTrial(shipped, heads), env, cell.preset.episodes, path, cell.seed)
    env.close()
    return cell, rows


def open_env() -> Any:
    """Where all are judged."""
    camera = CameraConfig(rate_hz=12.5)
    return gymnasium.make("NeonG1-v0", disable_env_checker=True, camera=camera, **ENV).unwrapped


def reference(name: str, policy: str, episodes: int, out: Path) -> list[dict[str, Any]]:
    """What somebody else reaches in the episodes of seed 0."""
    env = open_env()
    (out / "references").mkdir(parents=True, exist_ok=True)
    path = out / "references" / f"{name}.json"
    rows = play(build_policy(EvaluationJob("foreign_arm", policy, ()), env), env, episodes, path)
    env.close()
    return rows


def score(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Successes, episodes and the median distance at the end."""
    distance = 100.0 * float(np.median([row["distance_m"] for row in rows]))
    return {"successes": sum(row["success"] for row in rows), "episodes": len(rows), "median_distance_cm": distance}


def figures_of(
    results: Sequence[tuple[Cell, list[dict[str, Any]]]], unusable: Mapping[str, int], preset: Preset
) -> dict[str, Any]:
    """All seeds of a cell together, each by itself, what each multiplier gains, and what the foreign folder was."""
    cells: dict[str, dict[str, Any]] = {}
    for own, share in dict.fromkeys((cell.own, cell.share) for cell, _ in results):
        found = [(cell.seed, rows) for cell, rows in results if (cell.own, cell.share) == (own, share)]
        by_seed = {str(seed): score(rows) for seed, rows in found}
        cells[f"{own}_{share:g}"] = {**score([row for _, rows in found for row in rows]), "by_seed": by_seed}
    for own in filter(None, preset.own):
        for share in preset.shares:
            cells[f"{own}_{share:g}"]["gain"] = gain(cells[f"{own}_0"], cells[f"{own}_{share:g}"])
    return {"preset": asdict(preset), "unusable_foreign": dict(unusable), "cells": cells}


def gain(without: Mapping[str, Any], with_it: Mapping[str, Any]) -> dict[str, float | None]:
    """Points of success that the foreign arm is worth: the mean over training seeds, and half of its 95 % interval.

    A seed's two trainings are judged in the same episodes. A single seed has no interval.
    """
    pairs = [(without["by_seed"][seed], with_it["by_seed"][seed]) for seed in with_it["by_seed"]]
    points = [100.0 * (b["successes"] / b["episodes"] - a["successes"] / a["episodes"]) for a, b in pairs]
    mean, half = t_interval(points)
    return {"points": mean, "half": half if math.isfinite(half) else None}


def rows_of(figures: Mapping[str, Any]) -> list[list[str]]:
    """The table for people, the references below."""
    rows, cells = [], figures["cells"]
    for own in figures["preset"]["own"]:
        for share in figures["preset"]["shares"] if own else (1.0,):
            with_it, without = cells[f"{own}_{share:g}"], cells.get(f"{own}_0")
            head = [str(own), f"{share:g}" if own else "-", "-" if without is None else in_words(without)]
            rows.append([*head, in_words(with_it), in_points(with_it.get("gain"))])
    return rows + [[name, "-", in_words(one), "-", "-"] for name, one in figures.get("references", {}).items()]


def in_points(found: Mapping[str, float | None] | None) -> str:
    """ "+12.0 [-3.1, +27.1]"."""
    if found is None:
        return "-"
    points, half = found["points"], found["half"]
    assert points is not None
    return f"{points:+.1f}" + ("" if half is None else f" [{points - half:+.1f}, {points + half:+.1f}]")


def picture(figures: Mapping[str, Any], path: Path) -> None:
    """A PNG: success by own episodes, from the foreign arm alone, without it, and at each multiplier."""
    preset, cells = figures["preset"], figures["cells"]
    named = {"foreign arm alone": ["0_1" if own == 0 else "" for own in preset["own"]]}
    named["without it"] = [f"{own}_0" for own in preset["own"]]
    named |= {f"multiplier {x:g}": [f"{own}_{x:g}" if own else "" for own in preset["own"]] for x in preset["shares"]}
    bars = {
        label: [in_percent(cells[name]) if name in cells else (math.nan,) * 3 for name in names]
        for label, names in named.items()
    }
    groups = [f"{own} own" for own in preset["own"]]
    title = f"reach, {len(preset['seeds'])} trainings of {preset['episodes']} episodes each, 95 % intervals (Wilson)"
    bar_plot(path, groups, bars, "success, %", title)


def in_percent(one: Mapping[str, Any]) -> tuple[float, float, float]:
    """Success in %, and both ends of its interval over all episodes."""
    low, high = wilson_interval(one["successes"], one["episodes"])
    return 100.0 * one["successes"] / one["episodes"], 100.0 * low, 100.0 * high


def in_words(one: Mapping[str, Any]) -> str:
    """ "50.0 % [..] (1/2), 5.1 cm"."""
    return f"{format_rate(one['successes'], one['episodes'])}, {one['median_distance_cm']:.1f} cm"


def run(preset: Preset, out: Path, workers: int) -> dict[str, Any]:
    """Everything that is missing, and the figures of all of it.

    Raises ValueError for a folder that was begun with another preset or walker.
    """
    claim_folder(out, asdict(preset) | {"walker": walker_fingerprint()})
    folder = write_foreign_folder(out / "foreign", preset.foreign)
    unusable = {
        hand: keep(foreign_reaches(folder, number), preset.foreign, out / f"foreign_{hand}")
        for number, hand in enumerate(HANDS)
    }
    keep(own_reaches(max(preset.own)), max(preset.own), out / "own")
    cells = [Cell(own, share, seed, preset, str(out)) for own, share, seed in preset.cells()]
    results = list(parallel_map(run_cell, cells, min(workers, len(cells)), "trainings"))
    figures = figures_of(results, unusable, preset)
    others = {"zero": "zero", "shipped heads": str(asset_path("g1/demo_heads"))}
    found = {name: score(reference(name, policy, preset.episodes, out)) for name, policy in others.items()}
    return {**figures, "references": found}


def main() -> None:
    """Run, print the table, and write it down at full size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--out", type=Path, help="default: runs/foreign_arm, or runs/foreign_arm_PRESET")
    args = parser.parse_args()
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    full = args.preset == "default"
    out = args.out or Path("runs/foreign_arm" if full else f"runs/foreign_arm_{args.preset}")
    try:
        figures = run(PRESETS[args.preset], out, args.workers)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what was done is in {out}. The same line goes on.") from None
    replace_file(out / "figures.json", json.dumps(figures, indent=2) + "\n")
    path = (ROOT / "docs" if full else out) / "foreign_arm.png"
    picture(figures, path)
    print(table(HEADER, rows_of(figures)))
    if full:
        date = datetime.date.today().isoformat()
        print(f"Wrote {write_report('foreign_arm', figures, HEADER, rows_of(figures), date)}, RESULTS.md and {path}")
    else:
        print("Not written down: that takes the default preset.")


if __name__ == "__main__":
    main()
