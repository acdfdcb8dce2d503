"""The shipped demo heads on reach: 200 episodes, then blind, then with another episode's words, beside the references.

python benchmarks/reach.py                  # about 8 minutes on two cores
python benchmarks/reach.py --episodes 40 --print-only
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from report import ROOT, write_report


def main() -> None:
    """Run agents/evaluate.py and put its table into RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--print-only", action="store_true", help="leave RESULTS.md and the JSON file as they are")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "agents" / "evaluate.py"), "--episodes", str(args.episodes)]
        subprocess.run([*command, "--out", folder], check=True)
        figures = json.loads((Path(folder) / "evaluation.json").read_text())
    rows = [
        [label, row["success"], f"{row['final_distance_cm_median']:.1f} cm", str(row["falls"])]
        for label, row in figures.items()
    ]
    header = ["policy", "success, 95 % interval", "median distance at the end", "falls"]
    if not args.print_only:
        write_report("reach", figures, header, rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
