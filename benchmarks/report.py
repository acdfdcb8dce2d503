"""Where figures go: `benchmarks/results/<name>.json`, and the table between this name's markers in RESULTS.md."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("gymnasium", "mujoco", "numpy", "torch")


def write_report(
    name: str,
    figures: Mapping[str, Any],
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    date: str,
    root: Path = ROOT,
    notes: str = "",
    measured_at: str | None = None,
) -> Path:
    """Write one benchmark's JSON file, then its table in RESULTS.md; both are replaced in one move or not at all.

    Args:
        name: file name without suffix, and the name of the markers.
        figures: plain numbers, strings, lists and dicts; NaN is refused.
        header, rows: the table for people, as text.
        date: ISO date of the measurement.
        root: checkout that holds RESULTS.md.
        notes: Markdown below the table.
        measured_at: the commit that measured; None: the one that this process began at.

    Returns:
        The path of the JSON file.
    """
    measured = measured_at or (BEGUN_AT if root == ROOT else commit(root))
    report = {"name": name, "date": date, "commit": measured, "machine": machine(), "figures": dict(figures)}
    path = root / "benchmarks" / "results" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(report, indent=2, allow_nan=False) + "\n")
    results = root / "RESULTS.md"
    source = f"{date}, commit {report['commit']}, {machine()['cpu']}, `benchmarks/results/{name}.json`"
    body = "\n\n".join(part for part in (table(header, rows), notes, source) if part)
    replace_file(results, put_section(results.read_text(encoding="utf-8"), name, body))
    return path


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; each row has as many cells as the header."""
    lines = [header, ["---"] * len(header), *rows]
    for row in lines:
        if len(row) != len(header):
            raise ValueError(f"A row needs {len(header)} cells like the header {list(header)}, got {list(row)}.")
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def put_section(text: str, name: str, body: str) -> str:
    """Replace what stands between `<!-- name:begin -->` and `<!-- name:end -->`; without them, add them at the end."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if begin not in text and end not in text:
        text = f"{text.rstrip()}\n\n## {name.replace('_', ' ').capitalize()}\n{begin}\n{end}\n"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise ValueError(f"RESULTS.md must hold {begin} and then {end}, once each: put that right and run again.")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{body}\n{end}{rest.split(end)[1]}"


def replace_file(path: Path, text: str) -> None:
    """Write a file so that a reader, or an interrupted run, sees the old text or the new one, never half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def commit(root: Path) -> str:
    """Short hash of the checkout, with "-dirty" when more than earlier results differs; "uncommitted" without one."""
    hashed = git(root, "rev-parse", "--short", "HEAD")
    if hashed.returncode != 0:
        return "uncommitted"
    outputs = (":!RESULTS.md", ":!benchmarks/results", ":!docs/*.png", ":!docs/*.mp4")  # what benchmarks write
    same = git(root, "diff", "--quiet", "HEAD", "--", ".", *outputs).returncode == 0
    return hashed.stdout.strip() + ("" if same else "-dirty")


def git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One git command in the checkout; the caller looks at the exit status, 127 where there is no git."""
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", "")


def machine() -> dict[str, Any]:
    """Processor, cores, system and the versions that move the figures."""
    installed = {dist.metadata["Name"].lower() for dist in metadata.distributions()}
    return {
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES if name in installed},
    }


def processor() -> str:
    """The processor's marketing name where the system tells it, else its architecture."""
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


BEGUN_AT = commit(ROOT)  # when the benchmark began: what is committed while it runs is not what it measures
