"""The judged self-learning table: three seeds, 100 episodes a cell, five arms, healthy and faulty robot.

python benchmarks/self_learning.py            # about half an hour on two cores; --resume goes on
"""

import argparse
import datetime
import json
import shutil
import subprocess
import sys

from report import ROOT, write_report

from neon_sim.eval.statistics import format_rate

OUT = ROOT / "runs" / "self_learn_full"


def main() -> None:
    """Run agents/self_learn.py --preset full, put its table into RESULTS.md and its pictures into docs/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    command = [sys.executable, str(ROOT / "agents" / "self_learn.py"), "--preset", "full", "--out", str(OUT)]
    subprocess.run([*command, *(["--resume"] if args.resume else [])], check=True, cwd=ROOT)
    record = json.loads((OUT / "results.json").read_text())
    rows = [
        [
            name,
            format_rate(cell["successes"], cell["episodes"]),
            f"{100 * cell['median_distance']:.1f} cm",
            ", ".join(map(str, cell["per_seed"])),
        ]
        for name, cell in record["cells"].items()
    ]
    header = ["arm, robot", "success, 95 % interval", "median distance at the end", "successes of each seed"]
    figures = {"cells": record["cells"], "preset": record["preset"]}
    write_report("self_learning", figures, header, rows, datetime.date.today().isoformat())
    for name in ("self_learn.png", "self_learn_curve.png"):
        shutil.copyfile(OUT / name, ROOT / "docs" / name)


if __name__ == "__main__":
    main()
