# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = ["neon-sim[train,vla,data]"]
#
# [tool.uv.sources]
# neon-sim = { path = "..", editable = true }
# ///
"""Measure a policy on recorded episodes with the documents' command line.

    python scripts/eval_neon.py --model YOUR_USERNAME/neon-g1-v1 --dataset lerobot/xvla-agibot-world --trajs 10
    python scripts/eval_neon.py --model runs/compact_reach/best --dataset runs/data/reach/dataset \\
        --dataset-type neon_sim --trajs 500 --baselines --plot

Prints the total and each joint group's mean squared error, with --baselines beside a zero and a random action, and
writes OUT/offline.json (and OUT/trajectory_*.png with --plot). A data set that is no folder here comes
from the hub. A job of `hf jobs uv run` gets this file alone: docs/training.md says what its header must name there.
"""

import argparse
import json
from pathlib import Path

from neon_sim.data.soup_file import add_relative_flag, read_options
from neon_sim.eval.offline import OfflineResult, evaluate_offline, open_dataset, plot_trajectory
from neon_sim.model.hub import dataset_folder
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.flags import skipped_line

DATASET = "lerobot/xvla-agibot-world"  # what two of the documents' three lines name, and the third leaves out
PLOTTED = 3  # episodes


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The documents' flags, and --dataset-type, --seed, --out besides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a checkpoint, or OWNER/NAME on the hub")
    parser.add_argument("--dataset", default=DATASET, help="folder, or OWNER/NAME on the hub (default: %(default)s)")
    parser.add_argument("--dataset-type", default="lerobot", help="its format, see neon_sim.data.sources")
    parser.add_argument("--source-options", metavar="JSON", default="{}", help="what its format asks for")
    add_relative_flag(parser)
    parser.add_argument("--skip-bad", action="store_true", help="leave out and count episodes that cannot be read")
    parser.add_argument("--trajs", type=int, default=10, help="episodes")
    parser.add_argument("--baselines", action="store_true", help="a zero and a random action beside it")
    parser.add_argument("--plot", action="store_true", help=f"draw the first {PLOTTED} episodes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/eval"))
    return parser.parse_args(argv)


def table(result: OfflineResult, baselines: bool) -> str:
    """Markdown: one row a joint group."""
    head = ["group", "MSE"] + (["zero", "random", "improvement over zero"] if baselines else [])
    rows = [head, ["---"] * len(head)]
    for name, value in result.mse.items():
        row = [name, f"{value:.5f}"]
        if baselines:
            gain = f"{100 * result.improvement(name):.1f} %" if result.zero[name] else "-"  # nothing to improve on
            row += [f"{result.zero[name]:.5f}", f"{result.random[name]:.5f}", gain]
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main(argv: list[str] | None = None) -> None:
    """Evaluate, print, write."""
    args = parse(argv)
    if args.trajs < 1:
        raise SystemExit(f"--trajs wants at least 1, got {args.trajs}.")
    try:
        model = NeonVLA.from_pretrained(args.model)
        folder, options = dataset_folder(args.dataset), read_options(args.source_options)
        soup = open_dataset(folder, args.dataset_type, model, options, args.skip_bad, args.relative_actions, args.trajs)
        result = evaluate_offline(model, soup, args.trajs, args.seed)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(str(error)) from None
    print(table(result, args.baselines))
    print(f"{result.trajectories} episodes, {result.chunks} chunks")
    print(skipped_line(soup.skipped), end="\n" if soup.skipped else "")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "offline.json").write_text(json.dumps(result.as_dict(), indent=2) + "\n")
    drawn = [index for index in soup.episodes["dataset"] if ("dataset", index) not in soup.bad]
    for index in drawn[: min(PLOTTED, result.trajectories) if args.plot else 0]:
        plot_trajectory(model, soup, index, args.out / f"trajectory_{index}.png")


if __name__ == "__main__":
    main()
