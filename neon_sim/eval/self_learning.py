"""The report of a self-learning run: a table anyone can read, a picture, a short video."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from neon_sim.eval.evaluate import EpisodeResult
from neon_sim.eval.plots import COLORS, bar_plot, line_plot
from neon_sim.eval.statistics import format_rate, wilson_interval
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.instruction import decode_instruction
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.rollout import rollout

ROBOTS = ("healthy", "faulty")
SMOOTHING = 20  # episodes in the learning curve's running mean
_MEANING = {
    "frozen": "never learns",
    "naive": "learns online, unprotected",
    "ewc": "learns online, protected by EWC",
    "lr0": "the same cycle, learning rate 0",
    "ceiling": "trained with labels on both robots",
}


@dataclass(frozen=True)
class Cell:
    """One arm on one robot, all seeds together."""

    successes: int
    episodes: int
    median_distance: float  # m at the episode's end
    per_seed: list[int]  # successes of each seed

    @property
    def rate(self) -> float:
        """Share of successes."""
        return self.successes / self.episodes


def pool_cells(
    results: Mapping[str, Sequence[EpisodeResult]], arms: Sequence[str], seeds: Sequence[int]
) -> dict[tuple[str, str], Cell]:
    """All seeds' episodes together, (arm, robot) -> counts and distances; results: by "ARM/SEED/ROBOT"."""
    cells: dict[tuple[str, str], Cell] = {}
    for arm in arms:
        for robot in ROBOTS:
            episodes = [r for seed in seeds for r in results[f"{arm}/{seed}/{robot}"]]
            distances = [r.final_distance for r in episodes]
            per_seed = [sum(r.success for r in results[f"{arm}/{seed}/{robot}"]) for seed in seeds]
            cells[arm, robot] = Cell(sum(per_seed), len(episodes), float(np.median(distances)), per_seed)
    return cells


def format_table(cells: Mapping[tuple[str, str], Cell], arms: Sequence[str], life: Any) -> str:
    """Markdown: success with 95 % intervals and median distance, before and after, on both robots."""
    lines = [
        f"Fault: {life.fault.joint}, {100 * life.fault.strength:.0f} % strength, biased by {life.fault.bias:g} rad at"
        f" the motor. {life.healthy_episodes} healthy episodes, then {life.faulty_episodes} faulty ones. Every arm"
        " begins as `frozen`, so the row `frozen` is every arm's *before*.",
        "",
        "| arm | what it is | healthy robot, success | distance | faulty robot, success | distance |",
        "|---|---|---|---|---|---|",
    ]
    for arm in arms:
        parts = [
            f"{format_rate(c.successes, c.episodes)} | {100 * c.median_distance:.1f} cm" for c in _pair(cells, arm)
        ]
        lines.append(f"| {arm} | {_MEANING[arm]} | {' | '.join(parts)} |")
    return "\n".join([*lines, "", *_verdict(cells), ""])


def _pair(cells: Mapping[tuple[str, str], Cell], arm: str) -> tuple[Cell, Cell]:
    return cells[arm, "healthy"], cells[arm, "faulty"]


def _verdict(cells: Mapping[tuple[str, str], Cell]) -> list[str]:
    """What was lost to the fault, how much of it each arm won back, what it cost on the healthy robot."""
    before, broken = _pair(cells, "frozen")
    lost = before.rate - broken.rate
    lines = [f"Lost to the fault: {100 * lost:.0f} points."]
    for arm in ("naive", "ewc", "lr0"):
        healthy, faulty = _pair(cells, arm)
        won = faulty.rate - broken.rate
        share = f" ({100 * won / lost:.0f} % of what was lost)" if lost > 0 else ""
        kept = 100 * (healthy.rate - before.rate)
        lines.append(f"{arm}: {100 * won:+.0f} points on the faulty robot{share}, {kept:+.0f} on the healthy one.")
    return ["- " + line for line in lines]


def write_report(
    out: Path,
    cells: Mapping[tuple[str, str], Cell],
    curves: Mapping[tuple[str, int], Sequence[Any]],
    arms: Sequence[str],
    preset: Any,
) -> str:
    """Write table.md, results.json, self_learn.png and self_learn_curve.png into `out`; returns the table.

    curves: learning curves (dataclasses) by arm and seed; preset: a dataclass of the run's settings with a `life`.
    """
    table = format_table(cells, arms, preset.life)
    (out / "table.md").write_text(table)
    record = {
        "cells": {f"{arm} {robot}": asdict(cell) for (arm, robot), cell in cells.items()},
        "curves": {f"{arm} {seed}": [asdict(line) for line in curve] for (arm, seed), curve in curves.items()},
        "preset": asdict(preset),
    }
    (out / "results.json").write_text(json.dumps(record, indent=2, default=str) + "\n")
    plot_results(cells, curves, arms, preset.life, out / "self_learn.png")
    return table


def plot_results(
    cells: Mapping[tuple[str, str], Cell],
    curves: Mapping[tuple[str, int], Sequence[Any]],
    arms: Sequence[str],
    life: Any,
    path: Path,
) -> None:
    """Bars of success per arm to `path`, learning curves beside it as `<name>_curve.png`."""
    bars = {}
    for arm in arms:
        values = []
        for robot in ROBOTS:
            cell = cells[arm, robot]
            low, high = wilson_interval(cell.successes, cell.episodes)
            values.append((100 * cell.rate, 100 * low, 100 * high))
        bars[arm] = values
    bar_plot(path, ["healthy robot", "faulty robot"], bars, "success, %", "Reach, with 95 % intervals")
    lines = {}
    for arm in arms:
        runs = [[100 * line.final_distance for line in curve] for (a, _), curve in curves.items() if a == arm and curve]
        if runs:
            lines[arm] = _running_mean(np.mean(runs, axis=0))
    episodes = list(range(1, 1 + life.healthy_episodes + life.faulty_episodes))
    label = f"episode (the shoulder breaks after {life.healthy_episodes})"
    colors = dict(zip(arms, COLORS, strict=False))  # as in the bars
    curve_path = path.with_name(path.stem + "_curve.png")
    line_plot(curve_path, episodes, lines, label, "palm to where it was sent, cm", colors=colors)


def _running_mean(values: np.ndarray) -> list[float]:
    return [float(values[max(0, i + 1 - SMOOTHING) : i + 1].mean()) for i in range(len(values))]


def record_video(
    policies: tuple[str, str], fault: Any, env_options: Mapping[str, Any], path: Path, episodes: int = 3, every: int = 2
) -> None:
    """The faulty robot before and after learning, side by side, in the same episodes (25 pictures a second)."""
    import imageio.v2 as imageio

    films = []
    for folder, title in zip(policies, ("faulty, before learning", "faulty, after learning"), strict=True):
        options = {**env_options, "render_mode": "rgb_array", "disable_env_checker": True}
        env: Any = gymnasium.make("NeonG1-v0", **options).unwrapped
        env.world.apply_fault(fault)
        policy = NeonPolicy(NeonVLA.from_pretrained(folder))
        films.append([_film(env, policy, 20_000_000 + i, every, title) for i in range(episodes)])
        env.close()
    writer: Any = imageio.get_writer(path, fps=50 // every, macro_block_size=16)
    with writer:
        for left, right in zip(*films, strict=True):
            for a, b in zip(left, right, strict=True):
                writer.append_data(np.concatenate([a, b], axis=1))


class _Filming:
    """A policy that takes a picture with every few observations."""

    def __init__(self, env: Any, policy: Any, every: int, title: str) -> None:
        self.env, self.policy, self.every, self.title = env, policy, every, title
        self.pictures: list[np.ndarray] = []
        self._steps = 0

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Pass on."""
        self.policy.reset(env_ids)

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """Pass on, and film."""
        self.policy.observe(obs, now_s)
        if self._steps % self.every == 0:
            self.pictures.append(
                _titled(self.env.render(), f'{self.title}: "{decode_instruction(obs["instruction"])}"')
            )
        self._steps += 1

    def act(self) -> np.ndarray:
        """Pass on."""
        return self.policy.act()


def _titled(picture: np.ndarray, title: str) -> np.ndarray:
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, image.width, 24), fill=(16, 20, 26))
    draw.text((8, 6), title, fill=(255, 255, 255))
    return np.asarray(image)


def _film(env: Any, policy: Any, seed: int, every: int, title: str) -> list[np.ndarray]:
    filming = _Filming(env, policy, every, title)
    rollout(env, filming, steps=100, seed=seed, keep=())
    return filming.pictures
