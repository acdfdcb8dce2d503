"""Where walking figures go: `report.py`'s JSON file and table, and below the table whose figures they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from report import ROOT, replace_file, write_report


def write_walking(
    name: str,
    figures: Mapping[str, Any],
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    below: Sequence[str],
    date: str,
    root: Path = ROOT,
) -> None:
    """`write_report`, then the paragraphs `below` after the table's source line."""
    write_report(name, figures, header, rows, date, root)
    results, end = root / "RESULTS.md", f"<!-- {name}:end -->"
    before, after = results.read_text(encoding="utf-8").split(end)
    replace_file(results, "".join([before, *(f"\n{line}\n" for line in below), end, after]))
