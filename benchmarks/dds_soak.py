"""Two hours of the robot's control on loopback at 500 Hz: every fault latched, nothing leaked.

    python benchmarks/dds_soak.py                              # two hours
    python benchmarks/dds_soak.py --minutes 10 --print-only
    nohup setsid python benchmarks/dds_soak.py > soak.txt &    # goes on when the terminal or the session ends

Two control processes run side by side. One moves a simulated robot that hangs in its gantry, without a break. The other
hears a robot that only talks: every ten seconds a fault of its state, in turn, and it must be damped, say nothing but
damping, and refuse to begin an episode until it is armed again. Exits with 1 if a latch was missed, if a process has
grown, if the loop was slower than 495 Hz, or if it ended early.

All processes ask for real-time priority (SCHED_FIFO), because beside other work a state or a command is late without it
and a robot that hears a late one stops; what each of them has got is in the result. A stop that nobody asked for is
kept with its time, its reason, and how late the control and its robot had just been: that tells who was to blame.
Run no other real-time processes beside it: where they fill a core together, Linux by default takes it from them all for
50 ms of each second (sched(7)), and that is the limit on a state's age.

Every minute a line is printed, and all that is known so far is written to PARTIAL (runs/dds_soak.json), in one move: a
soak that is killed leaves what it has. Ctrl-C or SIGTERM end it early; then PARTIAL says so and nothing is reported.
"""

# mypy: disable-error-code="import-not-found"
# (real/ is neon_sim.real only when installed, and mypy looks in neon_sim/)
import argparse
import datetime
import json
import os
import signal
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from dds_loop import QUANTILES
from dds_sides import Count, Side, both, late_ticks, one_fault
from dds_stops import AGE_S, GANTRY, config_for
from dds_wire import FAULTS, SimulatedRobot, TalkingRobot
from report import replace_file, write_report

from neon_sim.real.errors import RobotError
from neon_sim.real.g1_robot import UnitreeRobot
from neon_sim.real.lateness import late_quantile_us
from neon_sim.real.safety_stop import Phase

MINUTES = 120.0
FAULT_EVERY_S = 10.0
MINUTE_S = 60.0
PARTIAL = Path("runs/dds_soak.json")
PRIORITY = 10  # of SCHED_FIFO; the control processes have one more
WARM_UP = 0.1  # of the time; what a process holds then is what it is compared with
MOST_GROWN_MB = 16.0  # of resident memory, per process
LEAST_HZ = 495.0
_GONE = (RobotError, OSError, EOFError)  # one of the processes is


def take_priority(priority: int) -> int | None:
    """Give this process, and what it starts from now on, a real-time priority; None where it may not, or for 0."""
    if not priority or not hasattr(os, "sched_setscheduler"):
        return None
    try:
        for tried in (priority + 1, priority):  # the control processes will ask for the higher one
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(tried))
    except PermissionError:
        return None
    return priority


def held_by(pid: int) -> dict[str, float]:
    """Resident memory in MB, open files and threads of a process (Linux). OSError: it has ended."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    values = dict(line.split(":", 1) for line in status if ":" in line)
    if "VmRSS" not in values:
        raise ProcessLookupError(f"Process {pid} has ended.")
    return {
        "memory_mb": int(values["VmRSS"].split()[0]) / 1024.0,
        "files": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(values["Threads"]),
    }


def grown(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """What a process holds more of than is allowed, in words."""
    words = []
    if after["memory_mb"] - before["memory_mb"] > MOST_GROWN_MB:
        words.append(f"memory from {before['memory_mb']:.0f} to {after['memory_mb']:.0f} MB")
    words += [
        f"{name} from {before[name]:.0f} to {after[name]:.0f}"
        for name in ("files", "threads")
        if after[name] > before[name]
    ]
    return words


class Soak:
    """One soak: its processes, what has happened so far, and what each process held minute by minute."""

    def __init__(self, seconds: float, domain: int, age_s: float, priority: int | None, stack: ExitStack) -> None:
        """Start everything; `stack` ends it. priority: what this process has, see `take_priority`."""
        self._seconds, self._age_s = seconds, age_s
        higher = None if priority is None else priority + 1
        configs = [replace(config_for(number, age_s), priority=higher) for number in (domain, domain + 1)]
        self._simulated = stack.enter_context(closing(SimulatedRobot(domain, *GANTRY)))
        self._talker = stack.enter_context(closing(TalkingRobot(domain + 1, age_s)))
        steady, faulted = (stack.enter_context(closing(UnitreeRobot(config))) for config in configs)
        self._steady = Side("control", steady, self._simulated)
        self._faulted = Side("faulted control", faulted, self._talker)
        self.count = Count()
        for side in self._sides:
            side.arm(self.count)
        self._pids = {side.name: side.control._client.process.pid for side in self._sides}
        self._pids |= {"env": os.getpid(), "robot": self._simulated.process.pid}
        self._start_s = time.monotonic()
        self._counts = {side.name: side.control.late_counts for side in self._sides}
        self._slow = self._slow_now()
        self._before: dict[str, dict[str, float]] = {}
        self.series: list[dict[str, Any]] = []

    @property
    def _sides(self) -> tuple[Side, Side]:
        return self._steady, self._faulted

    @property
    def passed_s(self) -> float:
        """Since everything ran."""
        return time.monotonic() - self._start_s

    def run(self, partial: Path) -> None:
        """Until the time is over."""
        number = minute = 0
        while (passed_s := self.passed_s) < self._seconds:
            if not self._before and passed_s >= WARM_UP * self._seconds:
                self._before = self._held()
            if passed_s >= FAULT_EVERY_S * (number + 1):
                one_fault(self._talker, self._faulted, self._steady, FAULTS[number % len(FAULTS)], self.count)
                number += 1
            if passed_s >= MINUTE_S * (minute + 1):
                minute += 1
                self.note()
                keep(partial, self.figures("running"))
            if self._faulted.control.phase is not Phase.RUNNING:
                self._faulted.again(self.count)
            both(self._faulted, self._steady, 1, self.count)

    def note(self) -> None:
        """Add what the processes hold now to the series, and print a line."""
        memory = {name: held["memory_mb"] for name, held in self._held().items()}
        count = self.count
        self.series.append({"minutes": self.passed_s / 60.0, "memory_mb": memory, "faults": count.faults})
        held = ", ".join(f"{name} {value:.0f}" for name, value in memory.items())
        print(
            f"{self.passed_s / 60.0:6.1f} min  {count.faults} faults, missed {count.missed or 'none'}, "
            f"{len(count.false_stops)} false stops, {count.stalls} stalls; MB: {held}",
            flush=True,
        )

    def figures(self, ended: str) -> dict[str, Any]:
        """All that is known so far. ended: "as planned", or how it goes on or ended."""
        wall_s, count = self.passed_s, self.count
        ticks = {side.name: side.control.late_counts - self._counts[side.name] for side in self._sides}
        counts = ticks[self._steady.name]
        after = self._held()
        before = self._before or after
        return {
            "ended": ended,
            "minutes": wall_s / 60.0,
            "age_limit_s": self._age_s,
            "loop_hz": float(counts.sum() / wall_s),
            **{f"late_{name}_us": late_quantile_us(counts, share) for name, share in QUANTILES.items()},
            "faults": count.faults,
            "latched": count.latched,
            "missed_latches": count.missed,
            "stop_worst_ms": count.worst_ms,
            "false_stops": len(count.false_stops),
            "false_stops_told": count.false_stops,
            "ticks_late_by_20_ms": {name: late_ticks(counts) for name, counts in ticks.items()}
            | {name: slow - self._slow[name] for name, slow in self._slow_now().items()},
            "priorities": {name: os.sched_getparam(pid).sched_priority for name, pid in self._pids.items()},
            "stalls": count.stalls,
            "held_after_warm_up": before,
            "held_at_the_end": after,
            "grown": {name: words for name in self._pids if (words := grown(before[name], after[name]))},
            "series": self.series,
        }

    def _slow_now(self) -> dict[str, int]:
        """Of the robots' own ticks, since they began; one that lost 90 ms is late for as long as it catches up."""
        robots: dict[str, SimulatedRobot | TalkingRobot] = {"robot": self._simulated, "talking robot": self._talker}
        return {name: int(robot.lateness()["slow"]) for name, robot in robots.items()}

    def _held(self) -> dict[str, dict[str, float]]:
        return {name: held_by(pid) for name, pid in self._pids.items()}


def soak(minutes: float, domain: int, age_s: float, priority: int | None, partial: Path) -> dict[str, Any]:
    """Run for so long, with such a limit on a state's age. Returns the figures, also of one that ended early."""
    ended, found = "as planned", {}
    with ExitStack() as stack:
        running = Soak(60.0 * minutes, domain, age_s, priority, stack)
        try:
            running.run(partial)
        except KeyboardInterrupt:
            ended = "stopped by hand"
        except _GONE as error:  # a process is gone: what is known until then is kept
            ended = f"{type(error).__name__}: {error}"
        try:
            found = running.figures(ended)
        except _GONE:
            found = json.loads(partial.read_text(encoding="utf-8")) if running.series else {}
            found["ended"] = ended
    keep(partial, found)
    return found


def keep(partial: Path, found: dict[str, Any]) -> None:
    """Write what is known so far: the old file or the new one, never half of it."""
    partial.parent.mkdir(parents=True, exist_ok=True)
    replace_file(partial, json.dumps(found, indent=2) + "\n")


def rows_of(found: dict[str, Any]) -> list[list[str]]:
    """The table: what, measured, target."""
    memory = ", ".join(
        f"{name} {held['memory_mb']:.0f} to {found['held_at_the_end'][name]['memory_mb']:.0f}"
        for name, held in found["held_after_warm_up"].items()
    )
    late = " / ".join(f"{found[f'late_{name}_us']:.0f}" for name in QUANTILES)
    return [
        ["time", f"{found['minutes']:.1f} min", "120 min"],
        ["control loop", f"{found['loop_hz']:.1f} Hz; late p50 / p99 / max {late} us", f"at least {LEAST_HZ:g} Hz"],
        ["ticks later than 20 ms", ", ".join(f"{n} {c}" for n, c in found["ticks_late_by_20_ms"].items()), "-"],
        ["real-time priority", ", ".join(f"{n} {c}" for n, c in found["priorities"].items()), "0: none"],
        ["faults, missed latches", f"{found['faults']}, {len(found['missed_latches'])}", "0 missed"],
        ["worst fault to damping", f"{found['stop_worst_ms']:.1f} ms", "-"],
        ["stops nobody asked for, stalls of 0.5 s", f"{found['false_stops']}, {found['stalls']}", "-"],
        ["memory after warm-up and at the end, MB", memory, f"at most {MOST_GROWN_MB:g} MB more"],
        ["leaks", str(found["grown"] or "none"), "none"],
    ]


def main() -> int:
    """Soak, print and report; 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--age-s", type=float, default=AGE_S, help="limit on a state's age; more on a busy machine")
    parser.add_argument("--priority", type=int, default=PRIORITY, help="SCHED_FIFO of all processes, 0 = the system's")
    parser.add_argument("--partial", type=Path, default=PARTIAL, help="written every minute")
    parser.add_argument("--domain", type=int, default=66, help="first of two DDS domains that nobody else uses")
    parser.add_argument("--print-only", action="store_true", help="leave RESULTS.md and the JSON file as they are")
    args = parser.parse_args()
    if args.minutes <= 0.0 or not 0 <= args.priority <= 90:
        parser.error(f"--minutes must be positive and --priority 0..90, got {args.minutes} and {args.priority}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: end, and keep what there is
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal may go
    priority = take_priority(args.priority)
    print("Real-time priority:", "none" if priority is None else f"{priority}, control {priority + 1}", flush=True)
    found = soak(args.minutes, args.domain, args.age_s, priority, args.partial)
    print(f"Ended {found['ended']}; all figures are in {args.partial}")
    if found["ended"] != "as planned":
        return 1
    rows = rows_of(found)
    for what, measured, target in rows:
        print(f"{what:42s} {measured:70s} {target}")
    if args.minutes < MINUTES or args.age_s != AGE_S:
        print(f"Not reported: that wants {MINUTES:g} minutes and a robot's own limit of {AGE_S} s on a state's age.")
    elif not args.print_only:
        header = ["soak on loopback", "measured", "target"]
        write_report("dds_soak", found, header, rows, datetime.date.today().isoformat())
    return 1 if found["missed_latches"] or found["grown"] or found["loop_hz"] < LEAST_HZ else 0


if __name__ == "__main__":
    raise SystemExit(main())
