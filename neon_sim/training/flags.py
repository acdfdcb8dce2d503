"""Flags of everything that trains with `NeonTrainer`, so that each command line says the same in the same words."""

import argparse
from dataclasses import replace

from neon_sim.data.data_soup import DataSoupConfig
from neon_sim.data.soup_file import read_options, read_soup
from neon_sim.data.source import DataSourceConfig
from neon_sim.training.train_config import TrainConfig


def add_data_flags(parser: argparse.ArgumentParser, dataset: bool = True) -> None:
    """Add --soup and --skip-bad, and, unless `dataset` is False, --dataset, --dataset-type and --source-options."""
    parser.add_argument("--soup", metavar="FILE", help="JSON of several sources: neon_sim.data.soup_file")
    parser.add_argument("--skip-bad", action="store_true", help="leave out and count episodes that cannot be read")
    if dataset:
        parser.add_argument("--dataset", help="one source, a folder or hub id, in place of the preset's mixture")
        parser.add_argument("--dataset-type", default="lerobot", help="its format, see neon_sim.data.sources")
        parser.add_argument("--source-options", metavar="JSON", help="""what its format asks for: '{"fps": 5.0}'""")


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
    if options and not dataset:
        raise ValueError("--source-options belong to a --dataset; in a --soup they stand beside each source.")
    if args.soup:
        soup = read_soup(args.soup)
    elif dataset:
        told = read_options(options) if options else {}
        soup = DataSoupConfig([DataSourceConfig("dataset", args.dataset_type, dataset, options=told)])
    return replace(soup, skip_bad=True) if soup is not None and args.skip_bad else soup


def put_in(config: TrainConfig, args: argparse.Namespace) -> None:
    """Set what the flags of `add_data_flags` and `add_teacher_flags` say. Raises as `soup_from` does."""
    config.data = soup_from(args, config.data)
    config.teacher = args.teacher or config.teacher
    if args.teacher_weight is not None:
        config.teacher_weight = args.teacher_weight


def skipped_line(skipped: dict[str, int]) -> str:
    """What was left out, for a person; empty if nothing was."""
    counts = ", ".join(f"{count} of {name!r}" for name, count in sorted(skipped.items()))
    return f"Left out, because they could not be read (the warnings say why): {counts}." if counts else ""
