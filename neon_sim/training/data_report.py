"""What a run says about its data: what was mixed, what became of other robots' columns, and what was left out."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from neon_sim.data.action_mapper import MappingReport
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.distributed import Team

DATA_FILE: Final = "data.json"


def all_bad(team: Team, bad: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
    """(source, episode) of everything that any process has left out: each reads other samples. All must ask for it."""
    if team.size == 1:
        return set(bad)
    import torch.distributed as dist

    found: list[Any] = [None] * team.size
    dist.all_gather_object(found, sorted(bad))
    return {(name, index) for part in found for name, index in part}


def by_source(bad: Iterable[tuple[str, int]]) -> dict[str, int]:
    """How many episodes of each source were left out; sources that lost none are missing."""
    return dict(Counter(name for name, _ in bad))


def write_data(
    folder: Path,
    counts: Mapping[str, Mapping[str, float]],
    reports: Mapping[str, MappingReport],
    skipped: Mapping[str, int],
) -> None:
    """Write data.json, for each source: `DataSoup.counts`, "skipped" (episodes), and "mapping" where there is one."""
    told: dict[str, dict[str, Any]] = {}
    for name, figures in counts.items():
        told[name] = {**figures, "skipped": skipped.get(name, 0)}
        if name in reports:
            told[name]["mapping"] = asdict(reports[name])
    replace_bytes(folder / DATA_FILE, (json.dumps(told, indent=2) + "\n").encode())


def dropped_lines(reports: Mapping[str, MappingReport]) -> str:
    """For a person: the columns of each source that the G1 has no place for; empty where everything has one."""
    return "\n".join(
        f"Not learned from {name!r}, because the G1 has no place for it: {', '.join(report.dropped)}."
        for name, report in reports.items()
        if report.dropped
    )
