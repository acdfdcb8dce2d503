"""The sections of benchmarks/walking.py: which episodes each one runs, and what it makes of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from walking_episode import Condition, Job, Velocity, step_times
from walking_measures import DRIFT_EPISODE_S, Tracking, drifted, looked_at, started_and_stopped, tracked
from walking_pictures import HeatMap, heat_maps
from walking_tables import (
    COMMAND,
    COMMANDS_HEADER,
    DRIFT_COLUMNS,
    QUALITY_HEADER,
    START_COLUMNS,
    SURVIVAL,
    WORLDS_HEADER,
    Cell,
    command_rows,
    name_of,
    quality_rows,
    show,
    spread,
    spread_header,
    spread_rows,
    summarize,
    survival_text,
    world_rows,
    worst,
)
from walking_worlds import UNSEEN_ROBOTS, hard_worlds, other_physics, unseen_robots

from neon_sim.training.workers import parallel_map

STAND: Final[Velocity] = (0.0, 0.0, 0.0)
COMMANDS: Final[tuple[Velocity, ...]] = (
    STAND,
    (0.3, 0.0, 0.0),
    (0.6, 0.0, 0.0),
    (0.9, 0.0, 0.0),
    (-0.3, 0.0, 0.0),
    (-0.5, 0.0, 0.0),
    (0.0, 0.3, 0.0),
    (0.0, -0.3, 0.0),
    (0.0, 0.0, 0.5),
    (0.0, 0.0, 1.0),
    (0.0, 0.0, -1.0),
    (0.5, 0.0, 0.5),
    (0.4, 0.2, -0.5),
)
FEW_COMMANDS: Final[tuple[Velocity, ...]] = (STAND, (0.5, 0.0, 0.0), (-0.3, 0.0, 0.0), (0.0, 0.3, 0.0), (0.0, 0.0, 0.5))
START_COMMANDS: Final[tuple[Velocity, ...]] = ((0.6, 0.0, 0.0), (-0.3, 0.0, 0.0), (0.0, 0.3, 0.0), (0.0, 0.0, 1.0))
START_S, STOP_S, END_S = 2.0, 6.0, 11.0  # of "start"
POINTS_ALLOWED: Final = 2.0  # of survival that transfer may cost
GRID_AHEAD, GRID_LEFT, GRID_TURN = (-0.6, 1.0), (-0.4, 0.4), (-1.0, 1.0)  # m/s, m/s, rad/s
WORST_ERROR: Final = 0.2  # m/s and rad/s, where the colours of the map end


@dataclass(frozen=True)
class Preset:
    """How much of everything."""

    episodes: Mapping[str, int]  # section -> for each command of each row
    seconds: float = 20.0
    robustness_seconds: float = 12.0
    grid_seconds: float = 8.0
    grid_cells: int = 9  # along each axis
    commands: tuple[Velocity, ...] = COMMANDS  # of transfer and quality; the section "commands" always has all


@dataclass(frozen=True)
class Settings:
    """What the sections share."""

    preset: Preset
    pattern: Job  # with the walker, the seed and the height; the sections change the rest
    workers: int
    picture: Path  # of the grid

    def episodes(self, section: str) -> range:
        """The numbers of a section's episodes."""
        return range(self.preset.episodes[section])

    def held(self, velocity: Velocity, seconds: float, episode: int, condition: Condition | None = None) -> Job:
        """An episode of one command."""
        world = condition or self.pattern.condition
        return replace(self.pattern, plan=((0.0, velocity),), seconds=seconds, episode=episode, condition=world)

    def run(self, work: Callable[[Job], Any], jobs: Iterable[tuple[Any, Job]], label: str) -> dict[Any, list[Any]]:
        """Do the work of every (key, job) on all workers: key -> results in order."""
        keyed = list(jobs)
        found: dict[Any, list[Any]] = {key: [] for key, _ in keyed}
        results = parallel_map(work, [job for _, job in keyed], self.workers, label)
        for (key, _), result in zip(keyed, results, strict=True):
            found[key].append(result)
        return found


@dataclass(frozen=True)
class Section:
    """Figures for the JSON file and a table for people."""

    figures: dict[str, Any]
    header: Sequence[str]
    rows: list[list[str]]


def pooled(runs: Mapping[Any, Sequence[Tracking]]) -> Cell:
    """All episodes as one cell."""
    return summarize([run for results in runs.values() for run in results])


def commands(settings: Settings) -> Section:
    """The thirteen commands on flat ground."""
    jobs = (
        (velocity, settings.held(velocity, settings.preset.seconds, episode))
        for velocity in COMMANDS
        for episode in settings.episodes("commands")
    )
    runs = settings.run(tracked, jobs, "commands")
    cells = {name_of(velocity): summarize(results) for velocity, results in runs.items()} | {"all": pooled(runs)}
    return Section({"cells": cells}, COMMANDS_HEADER, command_rows(cells))


def transfer(settings: Settings) -> Section:
    """The same commands in other physics, and on robots out of wider ranges than those of training."""
    episodes = settings.episodes("transfer")
    few = episodes[: max(1, len(episodes) // 4)]  # the unseen robots together have four times those of another row
    worlds = [(condition, episodes) for condition in other_physics()]
    worlds += [(condition, few) for condition in unseen_robots()]
    jobs = (
        (condition.label, settings.held(velocity, settings.preset.seconds, episode, condition))
        for condition, numbers in worlds
        for velocity in settings.preset.commands
        for episode in numbers
    )
    runs = settings.run(tracked, jobs, "transfer")
    unseen = {label: results for label, results in runs.items() if label.startswith("unseen robot ")}
    cells = {label: summarize(results) for label, results in runs.items() if label not in unseen}
    cells[f"{UNSEEN_ROBOTS} unseen robots"] = pooled(unseen)
    each = {label: summarize(results) for label, results in unseen.items()}
    figures = {"cells": cells, "each_robot": each, "points_allowed": POINTS_ALLOWED}
    header = (*WORLDS_HEADER, f"at most {POINTS_ALLOWED:g} points lost")
    return Section(figures, header, world_rows(cells, POINTS_ALLOWED))


def robustness(settings: Settings) -> Section:
    """Other ground, friction, load, motors and senses, and delays. A new field of steps in every episode."""
    jobs = (
        ((condition.label, velocity), settings.held(velocity, settings.preset.robustness_seconds, episode, condition))
        for episode in settings.episodes("robustness")
        for condition in hard_worlds(episode)
        for velocity in FEW_COMMANDS
    )
    runs = settings.run(tracked, jobs, "robustness")
    labels = [condition.label for condition in hard_worlds(0)]
    cells = {label: pooled({key: results for key, results in runs.items() if key[0] == label}) for label in labels}
    each = {f"{label}: {name_of(velocity)}": summarize(results) for (label, velocity), results in runs.items()}
    return Section({"cells": cells, "each_command": each}, WORLDS_HEADER, world_rows(cells))


def drift(settings: Settings) -> Section:
    """Told to stand for 10 s."""
    jobs = (
        (name, replace(settings.held(STAND, DRIFT_EPISODE_S, episode), arms=arms))
        for name, arms in (("arms at home", False), ("arms at random", True))
        for episode in settings.episodes("drift")
    )
    cells = {name: spread(results) for name, results in settings.run(drifted, jobs, "drift").items()}
    return Section({"cells": cells}, spread_header("10 s", DRIFT_COLUMNS), spread_rows(cells, DRIFT_COLUMNS))


def quality(settings: Settings) -> Section:
    """Slip, impact, speeds and clearance of every command, then of all of them, then with the arms at home."""
    jobs = (
        ((arms, velocity), replace(settings.held(velocity, settings.preset.seconds, episode), arms=arms, probe=True))
        for arms in (True, False)
        for velocity in settings.preset.commands
        for episode in settings.episodes("quality")
    )
    runs = settings.run(looked_at, jobs, "quality")
    cells = {name_of(velocity): worst(results) for (arms, velocity), results in runs.items() if arms}
    for label, wanted in (("all, arms at random", True), ("all, arms at home", False)):
        cells[label] = worst([run for (arms, _), results in runs.items() if arms is wanted for run in results])
    return Section({"cells": cells}, QUALITY_HEADER, quality_rows(cells))


def start(settings: Settings) -> Section:
    """From standing to walking and back to standing, the arms at home: their swing would hide when it has stopped."""
    jobs = (
        (
            name_of(velocity),
            replace(
                settings.held(velocity, END_S, episode),
                plan=((0.0, STAND), (START_S, velocity), (STOP_S, STAND)),
                arms=False,
            ),
        )
        for velocity in START_COMMANDS
        for episode in settings.episodes("start")
    )
    cells = {name: spread(results) for name, results in settings.run(started_and_stopped, jobs, "start").items()}
    return Section({"cells": cells}, spread_header(COMMAND, START_COLUMNS), spread_rows(cells, START_COLUMNS))


class Plane(NamedTuple):
    """A grid of commands: rows along `y`, forward speed along each row."""

    label: str  # of y
    x: list[float]
    y: list[float]
    rows: list[list[Velocity]]


def grid_planes(cells: int) -> dict[str, Plane]:
    """Side steps against forward speed, and turns against it."""
    limits = (GRID_AHEAD, GRID_LEFT, GRID_TURN)
    ahead, left, turn = (np.linspace(low, high, cells).round(6).tolist() for low, high in limits)
    return {
        "side": Plane("vy m/s", ahead, left, [[(x, y, 0.0) for x in ahead] for y in left]),
        "turn": Plane("yaw rate rad/s", ahead, turn, [[(x, 0.0, w) for x in ahead] for w in turn]),
    }


def grid_maps(plane: Plane, cells: Mapping[Velocity, Cell]) -> list[HeatMap]:
    """The two pictures of one plane: what is off in speed, and in yaw rate."""
    here = [[cells[velocity] for velocity in row] for row in plane.rows]
    fell = np.array([[1.0 - cell["survived"] / cell["episodes"] for cell in row] for row in here])
    return [
        HeatMap(
            title,
            "vx m/s",
            plane.x,
            plane.label,
            plane.y,
            np.array([[cell[key] for cell in row] for row in here], dtype=np.float64),  # None becomes NaN
            fell,
        )
        for key, title in (("error_speed", "speed error m/s"), ("error_yaw_rate", "yaw-rate error rad/s"))
    ]


def grid(settings: Settings) -> Section:
    """The whole range of commands as heat maps."""
    planes = grid_planes(settings.preset.grid_cells)
    jobs = (
        ((name, velocity), settings.held(velocity, settings.preset.grid_seconds, episode))
        for name, plane in planes.items()
        for row in plane.rows
        for velocity in row
        for episode in settings.episodes("grid")
    )
    runs = settings.run(tracked, jobs, "grid")
    cells = {name: {v: summarize(runs[of, v]) for of, v in runs if of == name} for name in planes}
    maps = [one for name, plane in planes.items() for one in grid_maps(plane, cells[name])]
    title = f"{settings.pattern.walker}: mean distance of the stride-averaged velocity from the command"
    heat_maps(settings.picture, maps, WORST_ERROR, f"{title}; ✕ = share that fell")
    whole = pooled(runs)
    speed, turn = (float(np.nan_to_num([one.values for one in maps[index::2]]).max()) for index in (0, 1))
    errors = (whole["error_speed"], speed, whole["error_yaw_rate"], turn)
    row = [f"{len(runs)} over the range", survival_text(whole), *map(show, errors)]
    header = ("commands", SURVIVAL, "speed error m/s", "its largest", "yaw-rate error rad/s", "its largest")
    named = {name: {name_of(v): cell for v, cell in found.items()} for name, found in cells.items()}
    return Section({"cells": named, "all": whole}, header, [row])


def timing(settings: Settings) -> Section:
    """What one step of the walker costs, standing and walking, in this process."""
    jobs = [
        settings.held(velocity, settings.preset.seconds, episode)
        for velocity in (STAND, COMMANDS[2])
        for episode in settings.episodes("timing")
    ]
    times = np.concatenate([step_times(job) for job in jobs])
    median, tail = np.quantile(times, [0.5, 0.99]).tolist()
    row = ["walker.step", f"{median:.3f} ms", f"{tail:.3f} ms", str(len(times))]
    figures = {"median_ms": median, "p99_ms": tail, "steps": len(times)}
    return Section(figures, ("call", "median", "99 %", "calls"), [row])


SECTIONS: Final[dict[str, Callable[[Settings], Section]]] = {
    "commands": commands,
    "transfer": transfer,
    "robustness": robustness,
    "drift": drift,
    "quality": quality,
    "start": start,
    "grid": grid,
    "timing": timing,
}
FULL: Final = Preset(
    {"commands": 50, "transfer": 16, "robustness": 16, "drift": 50, "quality": 8, "start": 10, "grid": 2, "timing": 2}
)
TINY: Final = Preset(dict.fromkeys(SECTIONS, 1), 5.0, 5.0, 4.5, 3, COMMANDS[::6])
PRESETS: Final = {"full": FULL, "tiny": TINY}
