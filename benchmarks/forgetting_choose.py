"""Settings chosen on short lives, with seeds that are not reported.

L2's strength, EWC's decay, how much is rehearsed, how much experience is waited for, the learning rate, Adam's eps, the
losses. A short life is nominal -> actuator bias -> nominal. Its score, fixed before any of them is lived: mean success
of frozen copies on nominal and in the bias, after the stage in the bias and after the last one. A knob's best score is
chosen, of equal ones the default. A loss helps if the default scores higher with it than without, and the 95 % interval
of the difference is above zero. What was chosen is written into `forgetting_arms.py` and `SelfLearnerConfig` by hand.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from forgetting_arms import AS_IT_IS, BEFORE_CHOOSING, CANDIDATES, preset_of
from forgetting_failures import live_all as live_missing
from forgetting_intervals import interval_of_mean, outcomes_of
from forgetting_job import ShardJob
from forgetting_looks import look_at_all
from forgetting_merge import matrix_of
from forgetting_settings import prepare
from forgetting_shards import read_shard
from forgetting_tasks import subject_of
from report import table, write_report

from neon_sim.eval.regimes import regimes_of

SEEDS: Final = (100, 101)
KNOBS: Final = ("l2", "decay", "share", "least", "rate", "eps")  # candidates are named KNOB_VALUE
_OF_THE_DEFAULT: Final = ("decay", "least", "rate", "eps")  # what the default has now is among their values
HEADER: Final = (
    "candidate", "score", "nominal after the bias", "bias after the bias", "nominal at the end", "bias at the end",
)  # fmt: skip


def choose(task: str, policy: Path, own: bool, out: Path, workers: int, name: str) -> dict[str, Any]:
    """Live what is missing, print the table and what it says; what counts of them goes into RESULTS.md.

    Args:
        task: one of the arms.
        policy: what each candidate begins with.
        own: whether that is the task's own: only then is anything but `out` written.
        out: folder of the shards.
        workers: processes.
        name: of the preset that says how long the stages are.

    Raises:
        ValueError: a task of the legs: its residual has other losses.
    """
    if subject_of(task).legs:
        raise ValueError(f"--choose is for what learns with a NeonVLA's heads, not for '{task}': take reach or wave.")
    regimes = tuple(one for one in regimes_of(task) if one.name in ("nominal", "actuator_bias"))
    preset = preset_of(name, task)
    changes: dict[str, Any] = {"learner": replace(preset.learner, **BEFORE_CHOOSING)}
    preset = replace(preset, arms=tuple(CANDIDATES), seeds=SEEDS, written=False, **changes)
    figures = figures_of(live_all(ShardJob("", 0, task, regimes, preset, str(policy), out), workers))
    rows = rows_of(figures)
    print(f"\n{table(HEADER, rows)}\n\n" + "\n".join(figures["said"]))
    if own and task == "reach" and name == "benchmark":
        figures |= {"seeds": len(SEEDS), "judged_per_cell": preset.judged * len(SEEDS)}
        notes = "\n".join(f"- {line}" for line in figures["said"])
        write_report("forgetting_choice", figures, HEADER, rows, datetime.date.today().isoformat(), notes=notes)
    return figures


def live_all(job: ShardJob, workers: int) -> dict[str, list[dict[str, Any]]]:
    """The shards of a job like this one for each arm and seed of its preset, by arm; what is missing is lived now."""
    lives = [(arm, seed) for seed in job.preset.seeds for arm in job.preset.arms]
    jobs = [replace(job, arm=arm, seed=seed) for arm, seed in lives]
    prepare(jobs)
    if not all(one.path.exists() for one in jobs):
        look_at_all(jobs[0], workers)
    live_missing(jobs, workers)
    shards = [read_shard(one) for one in jobs]
    return {arm: [shard for shard in shards if shard["arm"] == arm] for arm in job.preset.arms}


def figures_of(shards: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Scores, what is chosen of each knob, and which losses help; pure."""
    after = {arm: matrix_of(own)[1:] for arm, own in shards.items()}
    scores = {arm: float(matrix.mean()) for arm, matrix in after.items()}
    chosen = {knob: _best(knob, scores) for knob in KNOBS}
    said = [f"{knob}: {'as it is' if name == AS_IT_IS else name}." for knob, name in chosen.items()]
    for arm in shards:
        if CANDIDATES[arm].without:
            low, high = (100 * end for end in _won(shards[AS_IT_IS], shards[arm]))
            said.append(
                f"{' and '.join(CANDIDATES[arm].without)}: {100 * (scores[AS_IT_IS] - scores[arm]):+.1f} points"
                f" [{low:+.1f}, {high:+.1f}]: {'helps' if low > 0.0 else 'hurts' if high < 0.0 else 'no help seen'}."
            )
    cells = {arm: matrix.tolist() for arm, matrix in after.items()}
    return {"scores": scores, "after": cells, "chosen": chosen, "said": said}


def rows_of(figures: Mapping[str, Any]) -> list[list[str]]:
    """A row for each candidate, in the order of the table's header."""
    rows = []
    for arm, score in figures["scores"].items():
        cells = [score, *(value for row in figures["after"][arm] for value in row)]
        rows.append([arm.replace("_", " "), *(f"{100 * value:.1f}" for value in cells)])
    return rows


def _won(base: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> list[float]:
    """The ends of the 95 % interval of one score less another; episodes are drawn in pairs."""
    gap = (outcomes_of(base) - outcomes_of(other))[:, 1:].mean(axis=(1, 2))  # (seeds, episodes)
    return interval_of_mean(gap)


def _best(knob: str, scores: Mapping[str, float]) -> str:
    values = [name for name in scores if name.startswith(f"{knob}_")]
    return max([AS_IT_IS] * (knob in _OF_THE_DEFAULT) + values, key=scores.__getitem__)
