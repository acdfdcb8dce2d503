"""How long a user waits: importing neon_sim, and a cold Python up to the first step.

    python benchmarks/startup.py            # 9 runs each, about half a minute
    python benchmarks/startup.py --runs 3 --print-only   # a quick look

Every run is a fresh interpreter; what is compared takes turns, so that a busy moment hits both sides.
"""

import argparse
import datetime
import statistics
import subprocess
import sys
import time

from report import write_report

IMPORTS = {
    "gymnasium + mujoco": "import gymnasium, mujoco",
    "neon_sim": "import gymnasium, mujoco, neon_sim",
}
FIRST_STEPS = {
    "Humanoid-v5": "env = gymnasium.make('Humanoid-v5')",
    "NeonG1-v0": "env = gymnasium.make('neon_sim:NeonG1-v0', sensors=('proprio',))",
}
STEP_ONCE = "import gymnasium, os; {make}; env.reset(seed=0); env.step(env.action_space.sample()); os._exit(0)"


def wall_s(code: str) -> float:
    """Seconds from starting an interpreter to the end of `code`."""
    start_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start_s


def import_s(code: str) -> float:
    """Seconds that the import statement itself takes in a fresh interpreter."""
    timed = f"import time; start = time.perf_counter(); {code}; print(time.perf_counter() - start)"
    return float(subprocess.run([sys.executable, "-c", timed], check=True, capture_output=True, text=True).stdout)


def measure(runs: int) -> dict[str, dict[str, float]]:
    """Median seconds of each import and of each first step, the two sides of a comparison in turns."""
    imports: dict[str, list[float]] = {name: [] for name in IMPORTS}
    steps: dict[str, list[float]] = {name: [] for name in FIRST_STEPS}
    for run in range(runs + 1):  # the first one warms the disk and is not counted
        for name, code in IMPORTS.items():
            imports[name] += [import_s(code)][: min(run, 1)]
        for name, make in FIRST_STEPS.items():
            steps[name] += [wall_s(STEP_ONCE.format(make=make))][: min(run, 1)]
    return {
        "import_s": {name: statistics.median(values) for name, values in imports.items()},
        "first_step_s": {name: statistics.median(values) for name, values in steps.items()},
    }


def main() -> None:
    """Measure, print and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9, help="fresh interpreters per figure")
    parser.add_argument("--print-only", action="store_true", help="leave RESULTS.md and the JSON file as they are")
    args = parser.parse_args()
    runs = args.runs
    if runs < 1:
        parser.error(f"--runs must be at least 1, got {runs}")
    seconds = measure(runs)
    import_ratio = seconds["import_s"]["neon_sim"] / seconds["import_s"]["gymnasium + mujoco"]
    step_ratio = seconds["first_step_s"]["NeonG1-v0"] / seconds["first_step_s"]["Humanoid-v5"]
    rows = [
        row("import", seconds["import_s"], import_ratio),
        row("cold Python to first step", seconds["first_step_s"], step_ratio),
    ]
    for label, base, ours, ratio in rows:
        print(f"{label:26s} {ours} against {base}: {ratio} x")
    figures = {"runs": runs, **seconds, "import_ratio": import_ratio, "first_step_ratio": step_ratio}
    header = ["median of fresh interpreters", "gymnasium + mujoco, Humanoid-v5", "neon_sim, NeonG1-v0", "ratio"]
    if not args.print_only:
        write_report("startup", figures, header, rows, datetime.date.today().isoformat())


def row(label: str, seconds: dict[str, float], ratio: float) -> list[str]:
    """One line of the table: what, the peer's seconds, ours, ours over the peer's."""
    return [label, *(f"{value:.2f} s" for value in seconds.values()), f"{ratio:.2f}"]


if __name__ == "__main__":
    main()
