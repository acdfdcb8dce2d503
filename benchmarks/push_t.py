"""Push-T: is our LeWM the field's? The rates of agents/train_push_t.py beside the published ones, in RESULTS.md.

python benchmarks/push_t.py            # about an hour on two idle cores; the same line goes on where it was stopped
"""

import argparse
import datetime
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from report import ROOT, write_report

HEADER = ("who, on what data", "success, 95 % interval", "where the block moves", "at the end, median")
# Percent that others reached with LeWM on data of a weak policy, and anew on the expert data: train_push_t.PUBLISHED.
WEAK_DATA, ANEW = (30.0, 40.0), (56.0, 60.0)


def rows_of(report: Mapping[str, Any]) -> list[list[str]]:
    """Ours, then what is published, then the probes."""
    steps = report["control_steps_recorded"]
    grid = report["run"]["training"]["grid"]
    read = f"pictures read off {grid} x {grid} places (ours)" if grid else "class token, as published"
    labels = {"lewm": f"LeWM, {report['parameters'] / 1e6:.1f} M, {read}, {steps / 1e3:.0f}k control steps of our data"}
    labels |= {"oracle": "same planner, physics as the model", "script": "script that knows the truth"}
    labels |= {"recorded": "the recorded actions again", "random": "random"}
    rows = []
    for player, row in report["players"].items():
        end = f"{row['off_px_median']:.0f} px, {row['turn_deg_median']:.0f} degrees"
        rows.append([labels[player], row["success"], row["success_where_the_block_moves"], end])
    rows += [[f"published: {name}", f"{rate} %", "", ""] for name, rate in report["published_percent"].items()]
    for name, found in report["probes"].items():
        rows.append(
            [f"linear probe of the {name}, r", f"{found:.3f}", "", f"published {report['published_probes'][name]}"]
        )
    return rows


def figures_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """Plain numbers, with where the rate lies beside the published ones that had no more than our data's quality."""
    rate = report["players"]["lewm"]["rate"]
    return {
        **report,
        "success_push_t": rate,
        "reaches_replications_on_weak_data": 100.0 * rate >= WEAK_DATA[0],
        "reaches_replications_on_expert_data": 100.0 * rate >= ANEW[0],
    }


def main() -> None:
    """Run the script, put its table into RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "push_t")
    args = parser.parse_args()
    command = [sys.executable, str(ROOT / "agents" / "train_push_t.py"), "--out", str(args.out)]
    try:
        status = subprocess.run(command, check=False, cwd=ROOT).returncode
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what there is is in {args.out}. The same line goes on.") from None
    if status:
        raise SystemExit(status)  # the script has said why
    report = json.loads((args.out / "report.json").read_text())
    write_report("push_t", figures_of(report), HEADER, rows_of(report), datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
