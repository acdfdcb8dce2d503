"""The ablation of the paper's techniques for small heads: agents/ablate.py in full, and its table in RESULTS.md.

python benchmarks/ablation.py            # estimated half an hour on two idle cores; after Ctrl-C the same line goes on
python benchmarks/ablation.py --go-on    # where "all" and "none" leave the others no room, too
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from report import BEGUN_AT, ROOT, write_report

from neon_sim.eval.ablation import HEADER, table_rows


def report(out: Path, root: Path = ROOT) -> Path:
    """Write down what agents/ablate.py left in `out`, under its own day and commits. Returns the JSON file's path."""
    record = json.loads((out / "results.json").read_text(encoding="utf-8"))
    figures = {name: record[name] for name in record if name not in ("date", "commit")}
    rows = table_rows(record["summary"])
    return write_report("ablation", figures, HEADER, rows, record["date"], root, measured_at=record["commit"])


def main() -> None:
    """Run, report, and put the picture into docs/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "ablate")
    parser.add_argument("--go-on", action="store_true", help="train the others where all and none leave no room too")
    args = parser.parse_args()
    command = [sys.executable, str(ROOT / "agents" / "ablate.py"), "--out", str(args.out), "--commit", BEGUN_AT]
    done = subprocess.run([*command, *["--go-on"] * args.go_on], cwd=ROOT)
    if done.returncode != 0:
        raise SystemExit(done.returncode)
    print(f"Wrote {report(args.out)}")
    shutil.copyfile(args.out / "ablation.png", ROOT / "docs" / "ablation.png")


if __name__ == "__main__":
    main()
