"""The parts of planning.json: what is measured again takes the place of its own part, and of no better one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

PRESETS: Final = ("tiny", "brief", "main", "full")  # a part gives way to one of its own preset or of a later one
NAMES: Final = ("speed", "success", "ranks", "equal_flops", "adaptation")  # in the order of the table
QUIET: Final = 0.9  # share of the processor that a measurement of time should have got


@dataclass(frozen=True)
class Part:
    """Some figures and the table's rows of them, with how they came about."""

    preset: str
    tasks: tuple[str, ...]  # () for those that are of no task
    date: str
    commit: str
    figures: dict[str, Any]
    rows: list[list[str]]
    notes: dict[str, Any] = field(default_factory=dict)
    got_cpu: float = 1.0  # share of the processor's time that it got

    def heading(self, name: str) -> list[str]:
        """A row that says what the rows below it are."""
        busy = "" if self.got_cpu >= QUIET else f", on a busy machine ({100 * self.got_cpu:.0f} % of the processor)"
        return [f"**{name}**, {self.preset}, {self.date}, commit {self.commit}{busy}", "", "", "", ""]


def parts_of(figures: Mapping[str, Any]) -> dict[str, Part]:
    """The parts in a report's figures; one that was written before there were parts has none."""
    found = {}
    for name, kept in figures.get("parts", {}).items():
        own = {key: figures[key] for key in kept["keys"]}
        described = {key: kept[key] for key in ("preset", "date", "commit", "notes", "got_cpu", "rows")}
        found[name] = Part(tasks=tuple(kept["tasks"]), figures=own, **described)
    return found


def why_not(new: Part, old: Part | None) -> str | None:
    """Why a part may not take the place of what the report has; None if it may."""
    if old is None:
        return None
    if PRESETS.index(new.preset) < PRESETS.index(old.preset):
        return f"the report has a {old.preset} one, this one is {new.preset}"
    missing = [task for task in old.tasks if task not in new.tasks]
    if missing:
        return f"the report has {', '.join(missing)} as well"
    if new.got_cpu < QUIET <= old.got_cpu:
        return f"this machine was busy: it got {100 * new.got_cpu:.0f} % of the processor"
    return None


def together(parts: Mapping[str, Part]) -> tuple[dict[str, Any], list[list[str]]]:
    """Figures, those of each part and `parts`, which says where they are from; and all rows under their headings."""
    figures: dict[str, Any] = {"parts": {}}
    rows = []
    for name in (name for name in NAMES if name in parts):
        part = parts[name]
        figures |= part.figures
        figures["parts"][name] = {
            "keys": sorted(part.figures),
            "tasks": list(part.tasks),
            **{key: getattr(part, key) for key in ("preset", "date", "commit", "notes", "got_cpu", "rows")},
        }
        rows += [part.heading(name), *part.rows]
    return figures, rows
