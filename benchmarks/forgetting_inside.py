"""How the arm `randomised` fares in what it was trained for: the regimes' troubles, as mild as it has met them.

Beside it stands the frozen policy, with which every arm but this one begins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from forgetting_arms import learner_config
from forgetting_calibrate import judging_seeds
from forgetting_job import ShardJob
from forgetting_judge import TOGETHER, Judge
from forgetting_learners import make_actor, make_learner
from forgetting_randomised import RivalConfig, trained_on
from forgetting_tasks import subject_of
from forgetting_world import Judged, Looks

from neon_sim.eval.regimes import Regime
from neon_sim.eval.statistics import format_rate

JUDGED: Final = ("randomised", "frozen")  # arms


def inside(regime: Regime, config: RivalConfig) -> Regime | None:
    """The same trouble at the edge of the training range, unless it lies within; None of what was not trained on."""
    ranges = {
        "mass": (0.0, config.heaviest),
        "strength": (config.weakest, 1.0),
        "bias": (-config.most_bias, config.most_bias),
    }
    if regime.knob not in ranges:
        return None
    low, high = ranges[regime.knob]
    mild = min(max(regime.chosen, low), high)
    found = replace(regime, joints=regime.joints[:1], mildest=mild, worst=mild, chosen=mild)
    return found if trained_on(found, config) else None


def inside_regimes(regimes: Sequence[Regime], config: RivalConfig) -> list[Regime]:
    """`inside` of the regimes that count, or may: each trouble once."""
    mild = [inside(regime, config) for regime in regimes if regime.counts is not False]
    return list({str(regime.faults): regime for regime in reversed(mild) if regime is not None}.values())[::-1]


def is_judged_inside(job: ShardJob) -> bool:
    """Whether its shard says how it fares there."""
    return job.arm in JUDGED and "randomised" not in subject_of(job.task).lacking


def judge_inside(job: ShardJob, looks: Looks) -> list[Judged]:
    """What the arm begins with, on each of `inside_regimes`; by as many episodes as a cell of the matrix."""
    regimes = inside_regimes(job.regimes, job.preset.rival)
    if not regimes:
        return []
    learner = make_learner(job, learner_config(job.preset, job.kind, job.seed), looks)
    together = min(TOGETHER, len(regimes) * job.preset.judged)
    judge = Judge(job.task, lambda: make_actor(learner, looks), together)
    found = judge.judge(regimes, judging_seeds(job.seed, job.preset.judged))
    judge.close()
    return found


def inside_figures(
    shards: Mapping[str, Sequence[Mapping[str, Any]]], regimes: Sequence[Regime], config: RivalConfig
) -> dict[str, Any] | None:
    """Successes of all seeds together, by arm and trouble; None where not both arms were judged so."""
    found = {arm: [shard.get("inside", []) for shard in shards.get(arm, ())] for arm in JUDGED}
    if not all(rows and all(rows) for rows in found.values()):
        return None
    return {
        "regimes": [f"{regime.name} {regime.knob} {regime.chosen:g}" for regime in inside_regimes(regimes, config)],
        "episodes": sum(cell["episodes"] for cell in next(zip(*found["frozen"], strict=True))),
        "successes": {
            arm: [sum(cell["successes"] for cell in cells) for cells in zip(*rows, strict=True)]
            for arm, rows in found.items()
        },
    }


def inside_lines(found: Mapping[str, Any] | None) -> list[str]:
    """What `inside_figures` says, as a list in Markdown; [] of None."""
    if found is None:
        return []
    episodes = found["episodes"] * len(found["regimes"])
    rates = ", ".join(f"{arm} {format_rate(sum(won), episodes)}" for arm, won in found["successes"].items())
    return [f"- inside its range ({', '.join(found['regimes'])}): {rates}"]
