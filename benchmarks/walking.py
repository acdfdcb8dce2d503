"""The judged figures of walking: commands, transfer, robustness, drift, quality of motion, the map of tracking errors.

    python benchmarks/walking.py --preset tiny                    # all sections, within two minutes
    python benchmarks/walking.py                                  # at full size: some 40 minutes on two idle cores
    python benchmarks/walking.py --sections commands --episodes 20
    python benchmarks/walking.py --sections drift,start --episodes drift=100 start=4 --walker standing
    python benchmarks/walking.py --film                           # 10 s of plain walking: docs/walking.mp4

Flat ground, physics of 2 ms, sensor noise, arms moving at random at up to 2 rad/s, unless a section says otherwise. The
shipped walker at full size, seed 0 and its own height writes benchmarks/results/walking_<section>.json, its rows of
RESULTS.md and docs/walking_tracking.png; any other run leaves its figures and its picture under runs/walking/.
"""

import argparse
import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from report import ROOT, table
from walkers import WALKERS, Weights, label_of, make_walker, weights_of
from walking_episode import CONTROL_DT, Job
from walking_pictures import film
from walking_report import write_walking
from walking_sections import PRESETS, SECTIONS, Preset, Section, Settings
from walking_worlds import noise_text

from neon_sim.g1 import joints
from neon_sim.names import nearest
from neon_sim.training.workers import cpu_count

REPORTED_SEED = 0


def chosen_sections(text: str) -> list[str]:
    """The sections of a comma-separated list."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in SECTIONS:
            raise nearest("section", name, SECTIONS)
    return names


def with_episodes(preset: Preset, wanted: Sequence[str]) -> Preset:
    """The preset with other numbers of episodes: "20" for all sections, "drift=100" for one."""
    episodes = dict(preset.episodes)
    for text in wanted:
        section, _, number = text.rpartition("=")
        if not number.isdecimal() or int(number) < 1 or section not in ("", *SECTIONS):
            raise ValueError(f"--episodes wants numbers of at least 1 such as 20 or drift=100, got {text!r}.")
        episodes |= {name: int(number) for name in ([section] if section else SECTIONS)}
    return replace(preset, episodes=episodes)


def report(name: str, section: Section, settings: Settings, weights: Weights | None, out: Path | None) -> None:
    """Print the table and write the figures: into the repository, or under `out`."""
    print(f"\n{name}\n{table(section.header, section.rows)}")
    preset = asdict(settings.preset) | {"episodes": settings.preset.episodes[name]}
    pattern = {"walker": settings.pattern.walker, "seed": settings.pattern.seed, "height": settings.pattern.height}
    digest = None if weights is None else weights._asdict()
    figures = {**pattern, "weights": digest, "preset": preset, **section.figures}
    if out is None:
        below = [noise_text(), *([] if weights is None else [f"{weights.line}."])]
        today = datetime.date.today().isoformat()
        write_walking(f"walking_{name}", figures, section.header, section.rows, below, today)
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="full")
    parser.add_argument("--sections", type=str, default=",".join(SECTIONS), help="comma-separated, in this order")
    parser.add_argument("--episodes", nargs="+", default=[], help="20 for every section, or drift=100 for one")
    parser.add_argument("--walker", default="shipped", help=f"{', '.join(WALKERS)} or PATH.npz")
    parser.add_argument("--seed", type=int, default=REPORTED_SEED, help="choose settings on 100-104, report on 0")
    parser.add_argument("--height", type=float, default=joints.HOME_HEIGHT, help="m, the commanded one")
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--film", action="store_true", help="film a walk and measure nothing")
    args = parser.parse_args(arguments)
    try:
        args.chosen = chosen_sections(args.sections)
        args.amount = with_episodes(PRESETS[args.preset], args.episodes)
        make_walker(args.walker)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    return args


def judged(args: argparse.Namespace) -> bool:
    """Whether these are the figures that RESULTS.md is about."""
    full = args.amount == PRESETS["full"] and args.seed == REPORTED_SEED
    return full and args.walker == "shipped" and args.height == joints.HOME_HEIGHT


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sections; each is written when it is done, so an interrupted run keeps what it has."""
    args = parse(arguments)
    out = None if judged(args) else ROOT / "runs" / "walking" / f"{label_of(args.walker)}-{args.preset}"
    pictures = ROOT / "docs" if out is None else out
    weights = weights_of(args.walker)  # as they are now: a training may replace the file meanwhile
    pattern = Job(plan=(), seconds=0.0, episode=0, walker=args.walker, seed=args.seed, height=args.height)
    if args.film:
        track = film(pictures / "walking.mp4", pattern)
        print(
            f"{'Fell after' if track.fell else 'Up for'} {len(track.qpos) * CONTROL_DT:g} s: {pictures / 'walking.mp4'}"
        )
        return
    settings = Settings(args.amount, pattern, args.workers, pictures / "walking_tracking.png")
    for name in args.chosen:
        report(name, SECTIONS[name](settings), settings, weights, out)
    print(f"\nwritten: {'RESULTS.md and benchmarks/results' if out is None else out}")


if __name__ == "__main__":
    main()
