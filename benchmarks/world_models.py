"""What trained world models know: the reports of agents/train_world_model.py, put into RESULTS.md.

    python benchmarks/world_models.py                                     # runs/world_model_TASK of all tasks there are
    python benchmarks/world_models.py --models runs/world_model_reach     # one; the others' rows stay as they are
    python benchmarks/world_models.py --print-only

Nothing is measured here, so it takes a second: agents/train_world_model.py measured when it had trained, and date,
commit and machine are of then. Writes benchmarks/results/world_model_TASK.json (the report as it is), the picture
docs/world_model_TASK.png and the section between RESULTS.md's markers `world_models`.
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from report import ROOT, put_section, replace_file, table

from neon_sim.world_model.command_space import COMMAND_SPACES
from neon_sim.world_model.config import SIZES
from neon_sim.world_model.expectation import VIOLATIONS

SECTION: Final = "world_models"
HEADER: Final = (
    "task", "model", "moments", "0.1 s ahead", "0.5 s ahead", "palms", "joint velocities", "tilt",
    "objects, all moments", "objects, first moment", "moved / gone / painted, x", "order of plans",
)  # fmt: skip
FELT: Final = ("palms", "joint_vel", "tilt")  # what is probed besides objects
COLUMNS: Final = (
    "Ahead: squared error per latent entry on held-out episodes, beside saying that nothing moves. Palms, joint "
    "velocities, tilt of the pelvis and objects' places by axis: R² of MLP probes of z (picture and proprioception) on "
    "held-out episodes; of objects at an episode's first moment a ridge's. Moved, gone, painted: how many times as "
    "surprising a frame is after that was done to something, and the largest p of the three. Order of plans: "
    "Spearman's rho between imagined and real cost of random plans, median and quartiles over problems."
)
Report = Mapping[str, Any]  # of one training, `make` of agents/train_world_model.py


def report_in(folder: Path) -> Report:
    """The report of a training's folder.

    Raises:
        ValueError: it has none, or no picture, or is of no task that is planned.
    """
    for name in ("report.json", "report.png"):
        if not (folder / name).exists():
            raise ValueError(
                f"{folder} has no {name}. Give the --out of agents/train_world_model.py (not the world_model in it), "
                "and let that run to its end."
            )
    report: Report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    if report.get("task") not in COMMAND_SPACES:
        raise ValueError(
            f"{folder}/report.json is of task {report.get('task')!r}. Train one of {list(COMMAND_SPACES)}."
        )
    return report


def folders_here(runs: Path) -> list[Path]:
    """Trainings under their usual names that ended. Raises ValueError without a single one."""
    found = [runs / f"world_model_{task}" for task in COMMAND_SPACES]
    ended = [folder for folder in found if (folder / "report.json").exists()]
    if not ended:
        raise ValueError(
            f"No report in {', '.join(map(str, found))}. Train one (python agents/train_world_model.py --task TASK), "
            "or name its folder: --models FOLDER."
        )
    return ended


def by_task(folders: Sequence[Path]) -> dict[str, tuple[Path, Report]]:
    """Folders and their reports. Raises ValueError for two of one task, and as `report_in`."""
    found: dict[str, tuple[Path, Report]] = {}
    for folder in folders:
        report = report_in(folder)
        task = report["task"]
        if task in found:
            raise ValueError(f"{found[task][0]} and {folder} are both of {task}. Name one of them.")
        found[task] = folder, report
    return found


def row_of(report: Report) -> list[str]:
    """A task's row. What reports of before did not have is left empty."""
    rollout, probes = report["rollout"], report["probes"]["with proprio"]["mlp"]
    ahead = [f"{rollout['model'][step]:.3f} / {rollout['no_change'][step]:.2f}" for step in (0, 4)]
    objects = {name: probes[name]["r2"] for name in probes if name not in FELT}
    first = {name.removeprefix("r2_"): r2 for name, r2 in report.get("reset_probe", {}).items()}
    return [
        report["task"],
        _model(report),
        str(report["provenance"]["data"]["moments"]),
        *ahead,
        *(_r2(probes.get(name, {}).get("r2")) for name in FELT),
        _listed(objects),
        _listed(first),
        _surprise(report["expectation"]),
        _order(report.get("ranks")),
    ]


def _model(report: Report) -> str:
    """Size, weights, and what a picture is read off."""
    training = report["run"]["training"]
    patch = training.get("patch_size") or SIZES[training["size"]].patch_size
    grid = training.get("grid", 0)
    read = f"{grid} x {grid} places" if grid else "class token"
    return f"{training['size']}, {report['parameters']['total'] / 1e6:.2f} M, {patch} px, {read}"


def _r2(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _listed(by_name: Mapping[str, float | None]) -> str:
    """ "box ahead 0.81, box left 0.78"."""
    return ", ".join(f"{name.replace('_', ' ')} {_r2(r2) or '-'}" for name, r2 in by_name.items())


def _surprise(expectation: Mapping[str, Mapping[str, Any]]) -> str:
    """The three factors, - for what could not be shown often enough, with pairs and p."""
    rows = [expectation[kind] for kind in VIOLATIONS]
    tested = [row for row in rows if row["p_value"] is not None]
    if not tested:
        return "not shown twice"
    factors = " / ".join("-" if r["p_value"] is None else f"{r['violated'] / r['normal']:.1f}" for r in rows)
    pairs = sorted({row["pairs"] for row in tested})
    counted = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    return f"{factors} (p {max(row['p_value'] for row in tested):.2g}, {counted} episodes)"


def _order(ranks: Mapping[str, Any] | None) -> str:
    """Median and quartiles, and how many problems had no order."""
    if not ranks or ranks["median"] is None:
        return "not measured"
    low, high = ranks["quartiles"]
    undefined = f", {ranks['undefined']} more undefined" if ranks.get("undefined") else ""
    problems = f"{ranks['problems']} problems{undefined}, {ranks['plans']} plans each"
    return f"{ranks['median']:.2f} [{low:.2f}, {high:.2f}], {problems}"


def source_of(report: Report) -> str:
    """Where a row is from: when, by which code, on what, with which line, how long it took."""
    told, task = report["provenance"], report["task"]
    machine, hours = told["machine"], sum(told["hours"].values())
    where = f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores, {hours:.2f} h"
    return (
        f"{task}: {told['date']}, commit {told['commit']}, {where}, seed {told['seed']}, `{told['command']}`; "
        f"`benchmarks/results/world_model_{task}.json`, [picture](docs/world_model_{task}.png)"
    )


def section_of(reports: Mapping[str, Report]) -> str:
    """What stands between the markers, tasks in their usual order."""
    ordered = [reports[task] for task in COMMAND_SPACES if task in reports]
    left_out = dict.fromkeys(report["base_pose"] for report in ordered if "base_pose" in report)
    notes = [COLUMNS, *left_out, "\n".join(f"- {source_of(report)}" for report in ordered)]
    return "\n\n".join([table(HEADER, [row_of(report) for report in ordered]), *notes])


def kept(root: Path) -> dict[str, Report]:
    """The reports that are in the results already, by task."""
    paths = {task: root / "benchmarks" / "results" / f"world_model_{task}.json" for task in COMMAND_SPACES}
    return {task: json.loads(path.read_text(encoding="utf-8")) for task, path in paths.items() if path.exists()}


def publish(given: Mapping[str, tuple[Path, Report]], section: str, root: Path = ROOT) -> None:
    """Write reports, pictures and the section; each file is replaced as a whole, RESULTS.md as the last."""
    results = root / "RESULTS.md"
    page = put_section(results.read_text(encoding="utf-8"), SECTION, section)  # before anything is written
    for folder in (root / "benchmarks" / "results", root / "docs"):
        folder.mkdir(parents=True, exist_ok=True)
    for task, (folder, _) in given.items():
        path = root / "benchmarks" / "results" / f"world_model_{task}.json"
        replace_file(path, (folder / "report.json").read_text(encoding="utf-8"))
        shutil.copyfile(folder / "report.png", root / "docs" / f"world_model_{task}.png")
    replace_file(results, page)


def main() -> None:
    """Read, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, nargs="+", metavar="FOLDER", help="--out of agents/train_world_model.py")
    parser.add_argument("--print-only", action="store_true", help="write nothing")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout that is written to")
    args = parser.parse_args()
    try:
        given = by_task(args.models or folders_here(args.root / "runs"))
        section = section_of(kept(args.root) | {task: report for task, (_, report) in given.items()})
        print(section)
        if not args.print_only:
            publish(given, section, args.root)
    except ValueError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
