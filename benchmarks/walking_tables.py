"""From many episodes to plain figures for the JSON file, and from those to the rows that people read."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from walking_episode import Velocity
from walking_measures import Drift, Quality, Tracking, Transition

from neon_sim.eval.statistics import format_rate, wilson_interval

Cell = dict[str, Any]  # plain figures of some episodes
_PARTS: Final = ("vx", "vy", "yaw_rate")
COMMAND: Final = "vx, vy m/s, yaw rate rad/s"
SURVIVAL: Final = "survival, 95 % interval"
COMMANDS_HEADER: Final = (
    *(COMMAND, SURVIVAL, "speed error m/s", "vx m/s", "vy m/s", "yaw rate rad/s"),
    "with its sign: vx / vy / yaw rate",
)
WORLDS_HEADER: Final = ("world", SURVIVAL, "points over the first row", "speed error m/s", "yaw-rate error rad/s")
QUALITY_HEADER: Final = (
    *(COMMAND, SURVIVAL, "slip m/s", "foot force 99 % / max, weights", "legs, waist rad/s", "time over 9 rad/s"),
    *("arms rad/s", "gyro rad/s", "time over 5 rad/s", "between the legs mm", "time overlapping"),
    *("arm on trunk", "arm on leg", "steps/s"),
)
# Field of Drift or Transition, how it reads, digits, and what turns its unit into the one that is shown.
DRIFT_COLUMNS: Final = (
    ("feet", "feet cm", 2, 100.0),
    ("pelvis", "pelvis cm", 2, 100.0),
    ("yaw", "yaw deg", 1, 57.2958),
)
START_COLUMNS: Final = (
    ("start_tilt", "tilt at the start deg", 1, 57.2958),
    ("stop_tilt", "tilt at the stop deg", 1, 57.2958),
    ("stop_s", "time to stop s", 2, 1.0),
    ("stop_distance", "distance m", 2, 1.0),
)
Columns = Sequence[tuple[str, str, int, float]]


def name_of(velocity: Velocity) -> str:
    """A command as text: "0.5, 0, 0.5"."""
    return ", ".join(f"{value:g}" for value in velocity)


def show(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A figure as text, "-" if there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def survival(runs: Sequence[Any]) -> Cell:
    """How many of the episodes there were stayed up."""
    survived = sum(run.survived for run in runs)
    return {"episodes": len(runs), "survived": survived, "survival_95": list(wilson_interval(survived, len(runs)))}


def survival_text(cell: Cell) -> str:
    """ "100.0 % [92.9, 100.0] (50/50)"."""
    return format_rate(cell["survived"], cell["episodes"])


def summarize(runs: Sequence[Tracking]) -> Cell:
    """Mean tracking figures; None where nobody walked long enough to say."""
    table = np.array([[*run.error, *run.bias, run.speed_error, run.seconds] for run in runs])
    kept = table[~np.isnan(table[:, 0])]
    names = (*(f"error_{part}" for part in _PARTS), *(f"bias_{part}" for part in _PARTS), "error_speed")
    means = kept.mean(axis=0).tolist() if len(kept) else [None] * table.shape[1]
    half = 1.96 * kept[:, 6].std(ddof=1) / math.sqrt(len(kept)) if len(kept) > 1 else None
    figures = dict(zip(names, means, strict=False))
    return {**survival(runs), "seconds": float(table[:, 7].mean()), **figures, "error_speed_95": half}


def spread(runs: Sequence[Drift] | Sequence[Transition]) -> Cell:
    """Median, 95 % quantile and largest size of each figure over the episodes that stayed up; Nones without any."""
    names = runs[0]._fields[1:]
    rows = np.abs(np.array([run[1:] for run in runs if run.survived], dtype=np.float64))
    found = np.quantile(rows, [0.5, 0.95, 1.0], axis=0).T.tolist() if len(rows) else [[None] * 3 for _ in names]
    return {**survival(runs), **dict(zip(names, found, strict=True))}


def worst(runs: Sequence[Quality]) -> Cell:
    """Means of slip, shares and cadence, extremes of the rest, and which joint was the fastest."""
    fastest = max(runs, key=lambda run: run.joint_speed)
    means = {
        name: float(np.mean([getattr(run, name) for run in runs]))
        for name in ("slip", "joint_share", "gyro_share", "overlap_share", "trunk_share", "leg_share", "steps_per_s")
    }
    peaks = {name: max(getattr(run, name) for run in runs) for name in ("load_p99", "load_max", "arm_speed", "gyro")}
    gap = min(run.leg_gap for run in runs)
    return {
        **survival(runs),
        **means,
        **peaks,
        "joint_speed": fastest.joint_speed,
        "joint": fastest.joint,
        "leg_gap": gap,
    }


def command_rows(cells: Mapping[str, Cell]) -> list[list[str]]:
    """Under COMMANDS_HEADER."""
    return [
        [
            name,
            survival_text(cell),
            f"{show(cell['error_speed'])} ± {show(cell['error_speed_95'])}".removesuffix(" ± -"),
            *(show(cell[f"error_{part}"]) for part in _PARTS),
            " / ".join(show(cell[f"bias_{part}"], sign=True) for part in _PARTS),
        ]
        for name, cell in cells.items()
    ]


def world_rows(cells: Mapping[str, Cell], allowed: float | None = None) -> list[list[str]]:
    """Under WORLDS_HEADER: each world's survival beside that of the first; with `allowed`, whether it lost no more."""
    rates = {name: 100.0 * cell["survived"] / cell["episodes"] for name, cell in cells.items()}
    base = next(iter(rates.values()))
    errors = ("error_speed", "error_yaw_rate")
    rows = [
        [name, survival_text(cell), f"{rates[name] - base:+.1f}", *(show(cell[error]) for error in errors)]
        for name, cell in cells.items()
    ]
    if allowed is None:
        return rows
    verdicts = ["-", *("met" if base - rate <= allowed else "missed" for rate in list(rates.values())[1:])]
    return [[*row, verdict] for row, verdict in zip(rows, verdicts, strict=True)]


def spread_header(first: str, columns: Columns) -> tuple[str, ...]:
    """The header over `spread_rows`."""
    labels = [label for _, label, _, _ in columns]
    return first, SURVIVAL, f"{labels[0]}: median / 95 % / largest", *labels[1:]


def spread_rows(cells: Mapping[str, Cell], columns: Columns) -> list[list[str]]:
    """One row per cell of `spread`, three values to a column."""
    return [
        [
            name,
            survival_text(cell),
            *(
                " / ".join(show(None if value is None else scale * value, digits) for value in cell[key])
                for key, _, digits, scale in columns
            ),
        ]
        for name, cell in cells.items()
    ]


def quality_rows(cells: Mapping[str, Cell]) -> list[list[str]]:
    """Under QUALITY_HEADER."""
    return [
        [
            name,
            survival_text(cell),
            show(cell["slip"]),
            f"{show(cell['load_p99'], 2)} / {show(cell['load_max'], 2)}",
            f"{show(cell['joint_speed'], 1)} ({cell['joint']})",
            f"{show(100.0 * cell['joint_share'], 2)} %",
            show(cell["arm_speed"], 1),
            show(cell["gyro"], 1),
            f"{show(100.0 * cell['gyro_share'], 2)} %",
            show(1000.0 * cell["leg_gap"], 1),
            *(f"{show(100.0 * cell[key], 2)} %" for key in ("overlap_share", "trunk_share", "leg_share")),
            show(cell["steps_per_s"], 2),
        ]
        for name, cell in cells.items()
    ]
