"""The walking tour in figures: one walker's runs summed up, and the table beside the published one."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from tour_record import TIMES, VENDOR_GYRO, VENDOR_JOINT_SPEED, RunResult, Speeds

from neon_sim.eval.statistics import format_rate, wilson_interval


class Published(NamedTuple):
    """A row of another benchmark's table."""

    runs: int
    survival_s: float
    completed_percent: float
    position_cm: float
    yaw_deg: float
    energy_kj: float | None
    vibration: float | None


# rhoyn/teleop-walking-benchmark, README of 2026-09-15, its MuJoCo figures. It names no unit for vibration; what its
# source adds up gives numbers of this size in 10^6 rad/s^2.
PUBLISHED: Final[dict[str, Published]] = {
    "GR00T-WBC, height 0.66": Published(5120, 84.9, 80, 16, 7, 7.3, 0.9),
    "Decoupled-WBC, height 0.66": Published(5120, 83.9, 74, 10, 7, 5.9, 1.2),
    "GR00T-WBC, height 0.70": Published(5120, 83.3, 73, 14, 5, 7.3, 0.9),
    "HOMIE": Published(5120, 78.3, 55, 17, 32, 10.4, 1.6),
    "AMO": Published(5120, 75.7, 53, 24, 18, 10.0, 1.4),
    "WBC-AGILE": Published(512, 70.9, 33, 23, 8, 7.7, 1.3),
    "SONIC": Published(512, 68.5, 36, 30, 9, 11.5, 1.5),
    "unitree_rl_lab": Published(512, 25.4, 0, 57, 73, None, None),
    "unitree_rl_gym": Published(512, 19.7, 0, 120, 28, None, None),
    "unitree_rl_mjlab": Published(512, 5.6, 0, 243, 62, None, None),
}
HEADER: Final = (
    "walker",
    "task",
    "runs",
    "survival, s of 90",
    "completed, 95 % interval",
    "position error, cm",
    "yaw error, deg",
    "energy, kJ",
    "vibration, 10^6 rad/s²",
)
FORCE_BINS: Final = tuple(range(50, 501, 50))  # N, edges
BODY_GROUPS: Final = {
    "hip": ("hip",),
    "knee": ("knee",),
    "ankle": ("ankle",),
    "waist and torso": ("waist",),
    "shoulder and elbow": ("shoulder", "elbow"),
    "wrist": ("wrist",),
}


def summarise(results: Sequence[RunResult]) -> dict[str, Any]:
    """The figures of one walker, plain numbers; [mean, standard error] where there are two.

    Errors are means of the runs' means, the segment of a fall included; energy and vibration are means over completed
    runs, None where those are fewer than a fifth, as in the published table.
    """
    finished = [r for r in results if r.completed]
    told = finished if 5 * len(finished) >= len(results) else []
    return {
        "runs": len(results),
        "survival_s": mean_error([r.survival_s for r in results]),
        "completed": len(finished),
        "completed_interval": list(wilson_interval(len(finished), len(results))),
        "targets": sum(len(r.position_cm) for r in results),
        "position_cm": target_error([r.position_cm for r in results]),
        "yaw_deg": target_error([r.yaw_deg for r in results]),
        "energy_kj": mean_error([r.energy_kj for r in told]),
        "vibration": mean_error([r.vibration for r in told]),
        "power_w": mean_error([1000.0 * r.energy_kj / r.survival_s for r in results]),
        "speeds": {name: pooled_speeds([r.speeds[name] for r in results]) for name in TIMES},
        "falls_long_after_a_punch": sum(not (r.completed or felled_by_punch(r)) for r in results),
        "falls_of_punches": punch_table(results),
        "survival_of_each_run_s": " ".join(f"{r.survival_s:g}" for r in results),
    }


def pooled_speeds(parts: Sequence[Speeds]) -> dict[str, float]:
    """The same part of all runs: largest speeds, shares of the time, and how many runs the vendor's check would stop.

    The check looks at every joint; `runs_stopped` leaves out the arms, which the task moves, and `runs_arms` has them.
    """
    total = sum(part.seconds for part in parts)
    over = {name: sum(getattr(part, f"{name}_over_s") for part in parts) for name in ("own", "arms", "gyro")}
    return {
        "seconds": total,
        **{f"{name}_rad_s": max(getattr(part, name) for part in parts) for name in over},
        **{f"{name}_share": seconds / total if total else 0.0 for name, seconds in over.items()},
        "runs_stopped": sum(part.own_over_s > 0.0 or part.gyro_over_s > 0.0 for part in parts),
        "runs_arms": sum(part.arms_over_s > 0.0 for part in parts),
    }


def felled_by_punch(result: RunResult) -> bool:
    """Whether the last punch brought the robot down, or may have: too late in the tour to be judged."""
    return bool(result.punches) and result.punches[-1].fell is not False


def mean_error(values: Sequence[float]) -> list[float] | None:
    """Mean and its standard error (0 for a single value); None for no values."""
    if not values:
        return None
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return [float(np.mean(values)), error]


def target_error(runs: Sequence[Sequence[float]]) -> list[float] | None:
    """Mean of the runs' means, as published, with its standard error: targets of one run are not independent."""
    return mean_error([float(np.mean(run)) for run in runs if run])


def punch_table(results: Iterable[RunResult]) -> dict[str, dict[str, str]]:
    """Body group -> force bin ("50-100", N) -> "falls/punches", of the punches whose outcome is known."""
    labels = [f"{low}-{high}" for low, high in zip(FORCE_BINS, FORCE_BINS[1:], strict=False)]
    counts = {group: np.zeros((len(labels), 2), dtype=int) for group in BODY_GROUPS}
    for punch in (punch for result in results for punch in result.punches if punch.fell is not None):
        index = int(np.searchsorted(FORCE_BINS, punch.force, side="right")) - 1
        counts[group_of(punch.body)][min(max(index, 0), len(labels) - 1)] += punch.fell, 1
    return {
        group: {label: f"{falls}/{punches}" for label, (falls, punches) in zip(labels, table, strict=True)}
        for group, table in counts.items()
    }


def group_of(body: str) -> str:
    """The row of the punch table that a body belongs to."""
    return next(group for group, parts in BODY_GROUPS.items() if any(part in body for part in parts))


def rows(walkers: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The table: our walkers, the longest-lived first, then the published ones."""
    ranked = sorted(walkers.items(), key=lambda item: (item[1]["task"] != "published", -item[1]["survival_s"][0]))
    ours = [_our_row(figures) for _, figures in ranked]
    same = sum(figures["task"] == "published" for figures in walkers.values())
    return ours[:same] + [_their_row(name) for name in PUBLISHED] + ours[same:]


def _our_row(figures: Mapping[str, Any]) -> list[str]:
    completed = format_rate(figures["completed"], figures["runs"])
    after = (_plus_minus(figures[key]) for key in ("position_cm", "yaw_deg", "energy_kj", "vibration"))
    first = [f"ours: {figures['walker']}", figures["task"], str(figures["runs"])]
    return [*first, _plus_minus(figures["survival_s"]), completed, *after]


def _their_row(name: str) -> list[str]:
    row = PUBLISHED[name]
    after = ("-" if value is None else f"{value:g}" for value in row[3:])
    return [name, "published", str(row.runs), f"{row.survival_s:g}", f"{row.completed_percent:g} %", *after]


def _plus_minus(mean: Sequence[float] | None) -> str:
    return "-" if mean is None else f"{mean[0]:.1f} ± {mean[1]:.1f}"


_WHEN: Final = {
    "calm": "left alone",
    "told": "0.1 s after a new waypoint",
    "pushed": "punch and 1.2 s after it, falls",
}
SPEED_HEADER: Final = (
    "walker, task",
    "part of the time",
    "share",
    "runs stopped",
    "by the arms",
    f"legs and waist rad/s (time over {VENDOR_JOINT_SPEED:g})",
    f"gyro rad/s (time over {VENDOR_GYRO:g})",
    "arms rad/s",
)


def speed_rows(walkers: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Under SPEED_HEADER: largest speeds by what goes on, and how many runs the vendor's own check would stop then."""
    found = []
    for label, row in walkers.items():
        parts = row["speeds"]
        if set(parts) != set(TIMES):  # measured before speeds were divided
            continue
        seconds = sum(part["seconds"] for part in parts.values())
        found += [[label, when, *_speed_cells(parts[name], row["runs"], seconds)] for name, when in _WHEN.items()]
    return found


def _speed_cells(part: Mapping[str, float], runs: int, seconds: float) -> list[str]:
    own, gyro = (f"{part[f'{key}_rad_s']:.1f} ({100.0 * part[f'{key}_share']:.3f} %)" for key in ("own", "gyro"))
    share = f"{100.0 * part['seconds'] / seconds:.1f} %"
    stopped = f"{part['runs_stopped']} of {runs}"
    return [share, stopped, f"{part['runs_arms']} of {runs}", own, gyro, f"{part['arms_rad_s']:.1f}"]
