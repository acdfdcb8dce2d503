"""EWC's strength and L2's, chosen on lives through the regimes that count, with seeds that are not reported.

A life is nominal, each regime that counts, and all of it again. The score, fixed before any of them was lived: mean
success of frozen copies at the ends of the stages in trouble, half of it on nominal, half in the stage's own regime.
The best is chosen, of equal ones the strongest. What was chosen is written into `OnlineEWCConfig` and
`forgetting_arms.py` by hand.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from forgetting_arms import STRENGTHS, preset_of
from forgetting_choose import live_all
from forgetting_job import ShardJob
from forgetting_merge import matrix_of
from forgetting_tasks import subject_of
from report import table, write_report

from neon_sim.eval.regimes import NOMINAL, life_order, regimes_of
from neon_sim.training.protection import L2Config, OnlineEWCConfig

SEEDS: Final = (100, 101, 102)
KINDS: Final[dict[str, type]] = {"online EWC": OnlineEWCConfig, "L2": L2Config}
Shards = Mapping[str, Sequence[Mapping[str, Any]]]  # by candidate, one for each seed


def choose_strength(task: str, policy: Path, own: bool, out: Path, workers: int, name: str) -> dict[str, Any]:
    """Live what is missing, and print the table and what is chosen; the preset `benchmark` goes into RESULTS.md.

    Args: those of `forgetting_choose.choose`.

    Raises:
        ValueError: a task of the legs, whose springs have a strength of their own, or one that was not calibrated.
    """
    regimes = tuple(one for one in regimes_of(task) if one.name == NOMINAL or one.counts)
    if subject_of(task).legs or len(regimes) < 2:
        raise ValueError(f"--choose strength is for arms of calibrated regimes, not for '{task}': take reach or wave.")
    preset = replace(preset_of(name, task), arms=tuple(STRENGTHS), seeds=SEEDS, written=False)
    figures = figures_of(live_all(ShardJob("", 0, task, regimes, preset, str(policy), out), workers))
    header, rows = header_of(figures["regimes"]), rows_of(figures)
    notes = "Chosen: " + ", ".join(f"{name} {value:g}" for name, value in figures["chosen"].items() if value) + "."
    print(f"\n{table(header, rows)}\n\n{notes}")
    if own and task == "reach" and name == "benchmark":
        figures |= {"seeds": len(SEEDS), "judged_per_cell": preset.judged * len(SEEDS)}
        write_report("forgetting_strength", figures, header, rows, datetime.date.today().isoformat(), notes=notes)
    return figures


def figures_of(shards: Shards) -> dict[str, Any]:
    """Cells after each stage in trouble, scores, and the strengths that are chosen; pure."""
    names = next(iter(shards.values()))[0]["regimes"]
    order = life_order(names)
    cells = {
        arm: [[row[0], row[regime]] for row, regime in zip(matrix_of(own).tolist(), order, strict=True) if regime]
        for arm, own in shards.items()
    }
    scores = {arm: float(np.mean(pairs)) for arm, pairs in cells.items()}
    chosen = {name: _best(kind, scores) for name, kind in KINDS.items()}
    return {"regimes": names, "cells": cells, "scores": scores, "chosen": chosen}


def header_of(regimes: Sequence[str]) -> tuple[str, ...]:
    """Two columns for each stage in trouble: nominal and the trouble itself, when the stage has ended."""
    visits = [name + again for again in ("", " again") for name in regimes[1:]]
    ends = [(f"nominal after {name}", f"{name} after it") for name in visits]
    return ("candidate", "score", *(column for pair in ends for column in pair))


def rows_of(figures: Mapping[str, Any]) -> list[list[str]]:
    """A row for each candidate, in %."""
    return [
        [arm.replace("_", " "), *(f"{100 * value:.1f}" for value in (score, *np.ravel(figures["cells"][arm])))]
        for arm, score in figures["scores"].items()
    ]


def _best(kind: type, scores: Mapping[str, float]) -> float | None:
    """Of the candidates of a kind; None without any."""
    springs = {arm: STRENGTHS[arm].protection for arm in scores}
    strengths = {arm: own.strength for arm, own in springs.items() if isinstance(own, OnlineEWCConfig | L2Config)}
    tried = [arm for arm in strengths if isinstance(springs[arm], kind)]
    return strengths[max(tried, key=lambda arm: (scores[arm], strengths[arm]))] if tried else None
