"""The ablation of the paper's techniques for small heads: agents/ablate.py in full, and its table in RESULTS.md.

python benchmarks/ablation.py    # about 40 minutes on two idle cores; stop with Ctrl-C, the same line goes on
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from report import ROOT, write_report

from neon_sim.eval.ablation import HEADER, table_rows


def report(out: Path, root: Path = ROOT) -> Path:
    """Write down what agents/ablate.py left in `out`, under the day of its last trial. Returns the JSON file's path."""
    record = json.loads((out / "results.json").read_text(encoding="utf-8"))
    figures = {name: record[name] for name in ("summary", "trials", "preset")}
    return write_report("ablation", figures, HEADER, table_rows(record["summary"]), record["date"], root)


def main() -> None:
    """Run, report, and put the picture into docs/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "ablate")
    args = parser.parse_args()
    done = subprocess.run([sys.executable, str(ROOT / "agents" / "ablate.py"), "--out", str(args.out)], cwd=ROOT)
    if done.returncode != 0:
        raise SystemExit(done.returncode)
    print(f"Wrote {report(args.out)}")
    shutil.copyfile(args.out / "ablation.png", ROOT / "docs" / "ablation.png")


if __name__ == "__main__":
    main()
