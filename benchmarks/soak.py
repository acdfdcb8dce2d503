"""A million steps of random and adversarial actions under faults, in every task and control mode: what came of it.

    python benchmarks/soak.py                               # goes on with the same line after Ctrl-C
    python benchmarks/soak.py --steps 660 --out runs/trial  # a trial

Runs the worlds of `tests/test_soak.py`, which check each step: numbers finite, observations within their space, the
resident set within 5 % of what it was after a quarter of a world's steps. pytest prints each world as it is done. A
folder of results belongs to one version of the code. RESULTS.md is written when every world has passed with its share
of a million steps, and by nothing smaller.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from report import BEGUN_AT, ROOT, table, write_report

from neon_sim.cells import TASKS
from neon_sim.g1.action_space import ControlMode
from neon_sim.training.workers import cpu_count

FULL: Final = 1_000_000  # steps of all worlds together
HEADER: Final = ("task", "steps", "episodes", "physics that diverged", "memory after warm-up and at the end, MB")
_TEST: Final = "tests/test_soak.py::test_a_world_stands_everything"


def soak(steps: int, folder: Path, workers: int) -> int:
    """Run the worlds that are not done yet; pytest's exit status."""
    kept = {"NEON_SOAK_STEPS": str(steps), "NEON_SOAK_OUT": str(folder.resolve()), "NEON_SOAK_COMMIT": BEGUN_AT}
    spread = ["-n", str(workers)] if workers > 1 else []
    command = [sys.executable, "-m", "pytest", "-v", "-m", "soak", *spread, _TEST]
    return subprocess.run(command, cwd=ROOT, env=os.environ | kept, check=False).returncode


def read(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What each world that passed has left, by task and control mode."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return {(record["task"], record["mode"]): record for record in records}


def lacking(records: Mapping[tuple[str, str], Any]) -> list[str]:
    """The worlds that have left nothing: not run yet, or not passed."""
    return [f"{task} in {mode}" for task in TASKS for mode in ControlMode if (task, str(mode)) not in records]


def rows_of(records: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[list[str]]:
    """A row for each task, over its control modes, and one for all."""
    by_task = {task: [record for key, record in records.items() if key[0] == task] for task in TASKS}
    rows = [_row(task, found) for task, found in by_task.items() if found]
    return [*rows, _row("all", list(records.values()))]


def _row(name: str, records: Sequence[Mapping[str, Any]]) -> list[str]:
    steps, episodes, diverged = (sum(record[key] for record in records) for key in ("steps", "episodes", "diverged"))
    grown = max(records, key=lambda record: record["end_mb"] / record["warm_mb"])
    return [name, str(steps), str(episodes), str(diverged), f"{grown['warm_mb']:.0f} to {grown['end_mb']:.0f} at worst"]


def main() -> None:
    """Soak, print and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=FULL, help="of all worlds together")
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--out", type=Path, default=Path("runs/soak"))
    args = parser.parse_args()
    if args.steps < 1 or args.workers < 1:
        parser.error(f"--steps and --workers must be at least 1, got {args.steps} and {args.workers}")
    status = soak(args.steps, args.out, args.workers)
    records = read(args.out)
    if not records:
        raise SystemExit("No world is done: see what pytest says above.")
    rows = rows_of(records)
    print(table(HEADER, rows))
    missing = lacking(records)
    if status != 0 or missing:
        raise SystemExit(f"Not done or not passed: {', '.join(missing) or 'see above'}. The same line goes on.")
    if sum(record["steps"] for record in records.values()) < FULL:
        print(f"RESULTS.md is written for {FULL} steps, not for this trial.")
        return
    commits = sorted({record["commit"] for record in records.values()})
    if commits != [BEGUN_AT]:
        raise SystemExit(f"{args.out} has worlds of {', '.join(commits)}, this is {BEGUN_AT}. Choose another --out.")
    figures = {"worlds": list(records.values()), "steps": sum(record["steps"] for record in records.values())}
    write_report("soak", figures, HEADER, rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
