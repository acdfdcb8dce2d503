"""What the shipped compact backbone knows: probes on films that it was not trained on.

python benchmarks/backbone.py                # about 10 minutes on two cores; films are kept in runs/
"""

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path

from report import ROOT, write_report

TARGETS = {
    "position_cm_median": "3 cm",
    "color_accuracy": "0.95",
    "direction_clip_accuracy": "0.95",
    "direction_frame_accuracy": "near chance",
}


def main() -> None:
    """Run agents/train_backbone.py --probe-only on the shipped weights and put its figures into RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path, default=ROOT / "runs" / "backbone")
    args = parser.parse_args()
    command = [sys.executable, str(ROOT / "agents" / "train_backbone.py"), "--probe-only", "--out", str(args.films)]
    subprocess.run(command, check=True, cwd=ROOT)
    report = json.loads((args.films / "probes.json").read_text())
    figures = report["figures"]
    rows = [[name, f"{value:.3f}", TARGETS.get(name, "")] for name, value in figures.items()]
    write_report("backbone", report, ["probe", "measured", "target"], rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
