"""Push-T: is our LeWM the field's? The rates of agents/train_push_t.py beside the published ones, in RESULTS.md.

    python benchmarks/push_t.py            # about an hour on two idle cores; the same line goes on where it was stopped
    python benchmarks/push_t.py --grid 4 0   # and with the published class token in place of our grid: two hours
    python benchmarks/push_t.py --grid 4 0 --preset gpu   # more data and updates; episodes are played on the CPU

The table has a row of LeWM for each --grid; who plans without it is from the first one's run.
"""

import argparse
import datetime
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from report import ROOT, write_report

from neon_sim.world_model.training_config import OUR_GRID

HEADER = ("who, on what data", "success, 95 % interval", "where the block moves", "at the end, median")
# Percent that others reached with LeWM on data of a weak policy, and anew on the expert data: train_push_t.PUBLISHED.
WEAK_DATA, ANEW = (30.0, 40.0), (56.0, 60.0)
OTHERS: Final = {
    "oracle": "same planner, physics as the model",
    "script": "script that knows the truth",
    "recorded": "the recorded actions again",
    "random": "random",
}
Report = Mapping[str, Any]  # of one run of agents/train_push_t.py


def how_read(report: Report) -> str:
    """What the encoder reads a picture off, for people."""
    grid = report["run"]["training"]["grid"]
    return f"pictures read off {grid} x {grid} places (ours)" if grid else "class token, as published"


def rows_of(reports: Sequence[Report]) -> list[list[str]]:
    """Ours, one for each report, then who plays without a model, what is published, and the probes."""
    rows = []
    for report in reports:
        size, steps = f"{report['parameters'] / 1e6:.1f} M", f"{report['control_steps_recorded'] / 1e3:.0f}k"
        label = f"LeWM, {size}, {how_read(report)}, {steps} control steps of our data"
        rows.append([label, *_played(report["players"]["lewm"])])
    first = reports[0]
    rows += [[label, *_played(first["players"][name])] for name, label in OTHERS.items() if name in first["players"]]
    rows += [[f"published: {name}", f"{rate} %", "", ""] for name, rate in first["published_percent"].items()]
    for report in reports:
        of = f" ({how_read(report)})" if len(reports) > 1 else ""
        for name, found in report["probes"].items():
            published = f"published {report['published_probes'][name]}"
            rows.append([f"linear probe of the {name}, r{of}", f"{found:.3f}", "", published])
    return rows


def _played(row: Mapping[str, Any]) -> list[str]:
    end = f"{row['off_px_median']:.0f} px, {row['turn_deg_median']:.0f} degrees"
    return [row["success"], row["success_where_the_block_moves"], end]


def figures_of(reports: Sequence[Report]) -> dict[str, Any]:
    """Plain numbers: the first report with where its rate lies beside the published ones that had no more than our
    data's quality, and under `grids` the same of every report, by its grid.
    """
    return _with_verdicts(reports[0]) | {
        "grids": {str(report["run"]["training"]["grid"]): _with_verdicts(report) for report in reports}
    }


def _with_verdicts(report: Report) -> dict[str, Any]:
    rate = report["players"]["lewm"]["rate"]
    return {
        **report,
        "success_push_t": rate,
        "reaches_replications_on_weak_data": 100.0 * rate >= WEAK_DATA[0],
        "reaches_replications_on_expert_data": 100.0 * rate >= ANEW[0],
    }


def folder_of(out: Path, grid: int) -> Path:
    """Where the run with a grid is kept: `out` itself for the preset's, beside it for others."""
    if grid == OUR_GRID:
        return out
    return out.with_name(out.name + ("_token" if grid == 0 else f"_grid{grid}"))


def train(out: Path, grid: int, preset: str) -> Report:
    """The report of one run of the script, which goes on with what lies in `out`.

    Raises SystemExit where the script ends with an error, which it has told, or is stopped.
    """
    command = [sys.executable, str(ROOT / "agents" / "train_push_t.py"), "--out", str(out), "--preset", preset]
    command += [] if grid == OUR_GRID else ["--grid", str(grid)]
    try:
        status = subprocess.run(command, check=False, cwd=ROOT).returncode
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what there is is in {out}. The same line goes on.") from None
    if status:
        raise SystemExit(status)
    return dict(json.loads((out / "report.json").read_text(encoding="utf-8")))


def main() -> None:
    """Run the script, put its table into RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--grid", type=int, nargs="+", default=[OUR_GRID],
        help=f"places that pictures are read off, n x n ({OUR_GRID}), a run for each; 0: the class token, as published",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=ROOT / "runs" / "push_t", help="of the first kind; others beside it"
    )
    parser.add_argument("--preset", default="default", help="of agents/train_push_t.py")
    args = parser.parse_args()
    reports = [train(folder_of(args.out, grid), grid, args.preset) for grid in dict.fromkeys(args.grid)]
    write_report("push_t", figures_of(reports), HEADER, rows_of(reports), datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
