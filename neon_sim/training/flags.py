"""Flags of everything that trains with `NeonTrainer`, so that each command line says the same in the same words."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from neon_sim.data.data_soup import DataSoupConfig
from neon_sim.data.soup_file import add_relative_flag, read_options, read_soup
from neon_sim.data.source import DataSourceConfig
from neon_sim.model.hub import dataset_folder
from neon_sim.training.train_config import TrainConfig


def add_data_flags(parser: argparse.ArgumentParser, dataset: bool = True) -> None:
    """Add what is learned from and how it is read; unless `dataset` is False, also --dataset and what goes with it."""
    parser.add_argument("--soup", metavar="FILE", help="JSON of several sources: neon_sim.data.soup_file")
    parser.add_argument("--skip-bad", action="store_true", help="leave out and count episodes that cannot be read")
    parser.add_argument("--successes-only", action="store_true", help="leave out and count episodes without success")
    parser.add_argument("--num-workers", type=int, help="processes that read data (default: the preset's)")
    if dataset:
        parser.add_argument("--dataset", help="one source, a folder or hub id, in place of the preset's mixture")
        parser.add_argument("--dataset-type", default="lerobot", help="its format, see neon_sim.data.sources")
        parser.add_argument("--source-options", metavar="JSON", help="""what its format asks for: '{"fps": 5.0}'""")
        add_relative_flag(parser)


def add_teacher_flags(parser: argparse.ArgumentParser) -> None:
    """Add --teacher and --teacher-weight: distillation."""
    parser.add_argument("--teacher", help="folder of a checkpoint whose chunks are learned beside the data's")
    parser.add_argument("--teacher-weight", type=float, help="share of the loss that its chunks make, in [0, 1)")


def soup_from(args: argparse.Namespace, soup: DataSoupConfig | None) -> DataSoupConfig | None:
    """What the flags of `add_data_flags` say is learned from; `soup`, the preset's, where they say nothing.

    Raises ValueError for flags that exclude each other or a soup that makes no sense, FileNotFoundError without a file.
    """
    dataset, options = getattr(args, "dataset", None), getattr(args, "source_options", None)
    if args.soup and dataset:
        raise ValueError("--soup names its sources itself: leave out --dataset, or put it into the file.")
    relative = getattr(args, "relative_actions", False)
    if options and not dataset:
        raise ValueError("--source-options belong to a --dataset; in a --soup they stand beside each source.")
    if relative and not dataset:
        raise ValueError('--relative-actions belong to a --dataset; in a --soup say "use_relative_actions": true.')
    if args.soup:
        soup = read_soup(args.soup)
    elif dataset:
        told = read_options(options) if options else {}
        source = DataSourceConfig("dataset", args.dataset_type, dataset, use_relative_actions=relative, options=told)
        soup = DataSoupConfig([source])
    if soup is not None and args.successes_only:
        soup = replace(soup, sources=[replace(source, successes_only=True) for source in soup.sources])
    return replace(soup, skip_bad=True) if soup is not None and args.skip_bad else soup


def put_in(config: TrainConfig, args: argparse.Namespace) -> None:
    """Set what the flags of `add_data_flags` and `add_teacher_flags` say. Raises as `soup_from` does."""
    config.data = soup_from(args, config.data)
    config.teacher = args.teacher or config.teacher
    if args.num_workers is not None:
        config.num_workers = args.num_workers
    if args.teacher_weight is not None:
        config.teacher_weight = args.teacher_weight


def with_data(config: TrainConfig) -> TrainConfig:
    """The config with the folders of its data sets; those that are not here come from the hub, each once.

    Raises FileNotFoundError for one that cannot be fetched.
    """
    if config.data is not None:
        sources = [replace(source, path=dataset_folder(source.path)) for source in config.data.sources]
        config.data = replace(config.data, sources=sources)
    return config


def told_lines(stats: Mapping[str, Any], best: Path) -> str:
    """What came of `NeonTrainer.train`, for a person: what was left out, the loss, the steps and the time."""
    left_out = {name: told.get("failures_left_out", 0) for name, told in stats["sources"].items()}
    failures = ", ".join(f"{count} of {name!r}" for name, count in left_out.items() if count)
    lines = [f"Left out, because they did not succeed: {failures}."] if failures else []
    lines += [skipped_line(stats["skipped"])] if stats["skipped"] else []
    steps = f"{stats['steps']} steps in {stats['seconds'] / 60.0:.1f} minutes"
    return "\n".join([*lines, f"Best loss: {stats['best_loss']:.4f} after {steps}. Wrote {best}"])


def skipped_line(skipped: dict[str, int]) -> str:
    """What was left out, for a person; empty if nothing was."""
    counts = ", ".join(f"{count} of {name!r}" for name, count in sorted(skipped.items()))
    return f"Left out, because they could not be read (the warnings say why): {counts}." if counts else ""
