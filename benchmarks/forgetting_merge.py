"""Shards into figures: retention matrices, what was lost and won, how fast. Pure functions of what the shards say.

Averages over regimes are over nominal and those that count: the others can neither be lost nor won back.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from forgetting_arms import ARMS, DEFAULT_ARM, Preset
from forgetting_inside import inside_figures
from forgetting_intervals import intervals, lead, outcomes_of
from forgetting_randomised import trained_on

from neon_sim.eval.regimes import LEAST_LOSS, Regime
from neon_sim.eval.retention import (
    area_lost,
    average_performance,
    forgetting,
    forward_transfer,
    recovered_fraction,
    savings,
    time_to_recover,
    worst_dip,
)

Shard = Mapping[str, Any]
Shards = Mapping[str, Sequence[Shard]]  # by arm, one for each seed
_ANY_LOSS: Final = 1e-6  # of a regime whose counting is settled


def matrix_of(shards: Sequence[Shard]) -> np.ndarray:
    """Retention matrix (stages, regimes) of one arm, all its seeds' episodes together; NaN where nothing was judged."""
    matrix: np.ndarray = outcomes_of(shards).mean(axis=(0, 3))
    return matrix


def order_of(shards: Sequence[Shard]) -> list[int | None]:
    """The regime of each stage; None where all were mixed."""
    return [stage["regime"] for stage in shards[0]["stages"]]


def regimes_that_count(frozen: np.ndarray, regimes: Sequence[Regime]) -> list[int]:
    """Numbers of the troubles that count: those that calibration says, else those that take ten points from the frozen
    policy here; frozen (regimes,) success, nominal first.
    """
    lost = frozen[0] - frozen
    seen = [regime.counts for regime in regimes]
    return [j for j in range(1, len(seen)) if (lost[j] >= LEAST_LOSS - 1e-9 if seen[j] is None else seen[j])]


def curve_of(shard: Shard, regime: int, visit: int = 0) -> list[float] | None:
    """Success of each episode of a visit to a regime; None if there was no such visit."""
    visits = [stage["curve"] for stage in shard["stages"] if stage["regime"] == regime]
    return visits[visit] if len(visits) > visit else None


def first_visits(order: Sequence[int | None]) -> dict[int, int]:
    """Regime -> the stage at which it was met first."""
    return {regime: order.index(regime) for regime in order if regime is not None}


def second_visits(order: Sequence[int | None]) -> dict[int, int]:
    """Regime -> the stage at which it was met for the second time, of those that were."""
    found: dict[int, list[int]] = {}
    for stage, regime in enumerate(order):
        if regime is not None:
            found.setdefault(regime, []).append(stage)
    return {regime: stages[1] for regime, stages in found.items() if len(stages) > 1}


def judged_figures(
    frozen: np.ndarray, matrix: np.ndarray, order: Sequence[int | None], counts: Sequence[int], plan: str
) -> dict[str, float | None]:
    """What frozen copies say of an arm; what it does not have, or nothing can be said about, is left out or None.

    nominal_forgetting: frozen success on nominal less the arm's, at the ends of all stages in troubles that count:
    their mean; worst_: the worst of them; _at_end: at the end of the life, after the troubles that take nothing and are
    practice like on nominal. recovered REGIME: of what the regime took, at the end of its first stage; recovered_again:
    at the end of its second one, which is later in life.

    Args:
        frozen: (regimes,) success of the frozen policy, nominal first.
        matrix: (stages, regimes) success.
        order: regime of each stage; None where all were mixed.
        counts: numbers of the regimes that count.
        plan: of the arm.
    """
    firsts, kept = first_visits(order), [0, *counts]
    won = {j: recovered_fraction(frozen[0], frozen[j], matrix[firsts.get(j, -1), j], _ANY_LOSS) for j in counts}
    found = {f"recovered {j}": value for j, value in won.items()} | {"recovered_fraction": _mean(won.values())}
    if plan in ("fresh", "taught"):
        return found
    seconds = second_visits(order)
    if plan != "joint":
        later = {j: (frozen[j], matrix[seconds[j], j]) for j in counts if j in seconds}
        again = {j: recovered_fraction(frozen[0], *ends, _ANY_LOSS) for j, ends in later.items()}
        found |= {f"recovered_again {j}": value for j, value in again.items()}
        found["recovered_again_fraction"] = _mean(again.values())
    troubled = [i for i, j in enumerate(order) if j is None or j in counts]
    lost = (frozen[0] - matrix[troubled, 0]).tolist()
    found |= {
        "average_performance": average_performance(matrix[:, kept]),
        "nominal_forgetting": _mean(lost),
        "worst_nominal_forgetting": max(lost, default=None),
        "nominal_forgetting_at_end": float(frozen[0] - matrix[-1, 0]),
    }
    if plan != "joint":
        found["forgetting"] = float(forgetting(matrix, [int(j) for j in order if j is not None])[kept].mean())
    return found


def summary(arm: str, shards: Shards, counts: Sequence[int], preset: Preset) -> dict[str, Any]:
    """All figures of one arm, see `judged_figures`; `intervals` has the 95 % intervals of those.

    falls: episodes of the lives that ended with one.

    Args:
        arm: one of `shards`, which must hold "frozen" too.
        shards: of every arm.
        counts: numbers of the regimes that count.
        preset: of the lives.
    """
    own, plan, names = shards[arm], ARMS[arm].plan, shards[arm][0]["regimes"]
    frozen, matrix, order = matrix_of(shards["frozen"])[0], matrix_of(own), order_of(own)
    say = partial(judged_figures, order=order, counts=counts, plan=plan)
    judged, unsure = say(frozen, matrix), intervals(shards["frozen"], own, say)
    unsure.pop("worst_nominal_forgetting", None)  # the worst of several is worse in nearly every draw
    found: dict[str, Any] = {
        "matrix": [[None if math.isnan(value) else value for value in row] for row in matrix.tolist()],
        "order": order,
        "recovered": {names[j]: judged.pop(f"recovered {j}") for j in counts},
        "recovered_intervals": {names[j]: unsure.pop(f"recovered {j}", None) for j in counts},
        "recovered_again": {names[j]: judged.pop(f"recovered_again {j}", None) for j in counts},
        "recovered_again_intervals": {names[j]: unsure.pop(f"recovered_again {j}", None) for j in counts},
        "intervals": unsure,
        "falls": sum(stage["falls"] for shard in own for stage in shard["stages"]),
        "protection_bytes": max(stage["protection_bytes"] for shard in own for stage in shard["stages"]),
        **judged,
    }
    if plan in ("fresh", "taught", "joint"):
        return found
    return found | _course(arm, shards, counts, preset.steps, preset.window)


def _whole(curve: list[float] | None) -> list[float]:
    assert curve is not None  # `life_order` visits each trouble twice, and a merge takes whole lives only
    return curve


def _course(arm: str, shards: Shards, counts: Sequence[int], steps: int, window: int) -> dict[str, Any]:
    """What the learning curves say: means over seeds and over the regimes that count.

    steps_to_recover_median: over first visits, one that never recovered counting as infinite; None where most did not.
    worst_dip: of each first visit, their mean.
    savings: of the area lost in as many episodes of both visits, all seeds and regimes together. forward_transfer: of
    each regime's mean success over all seeds, since near 1 a single seed's ratio says nothing.
    """
    times: list[int | None] = []
    times_again: list[int | None] = []
    areas, compared, dips = [], [], []
    transfers: dict[int, list[tuple[float, float]]] = {regime: [] for regime in counts}  # success here, and as a first
    fresh = {shard["seed"]: shard for shard in shards.get("fresh", ())}
    nominal = {shard["seed"]: float(np.mean(_whole(curve_of(shard, 0)))) for shard in shards["frozen"]}
    for shard in shards[arm]:
        level = nominal[shard["seed"]]
        for regime in counts:
            first, again = _whole(curve_of(shard, regime)), _whole(curve_of(shard, regime, 1))
            times.append(time_to_recover(first, level, window, steps_per_episode=steps))
            times_again.append(time_to_recover(again, level, window, steps_per_episode=steps))
            both = min(len(first), len(again))
            compared.append([area_lost(curve[:both], level, steps) for curve in (first, again)])
            areas.append(area_lost(first, level, steps))
            dips.append(worst_dip(first, level, window))
            if shard["seed"] in fresh:
                reference = _whole(curve_of(fresh[shard["seed"]], regime))
                transfers[regime].append((float(np.mean(first)), float(np.mean(reference))))
    reached = [took for took in times if took is not None]
    median = float(np.median([math.inf if took is None else took for took in times])) if times else math.inf
    pooled = np.array([np.mean(pairs, axis=0) for pairs in transfers.values() if pairs]).reshape(-1, 2)
    return {
        "steps_to_recover_median": median if math.isfinite(median) else None,
        "recoveries": [len(reached), len(times)],
        "recoveries_again": [sum(took is not None for took in times_again), len(times_again)],
        "area_lost": _mean(areas),
        "worst_dip": _mean(dips),
        "savings": savings(*np.sum(compared, axis=0)) if compared else None,
        "forward_transfer": _mean(value for value in forward_transfer(*pooled.T) if np.isfinite(value)),
    }


def figures_of(shards: Shards, regimes: Sequence[Regime], preset: Preset) -> dict[str, Any]:
    """What `benchmarks/results/forgetting.json` carries."""
    outcomes = outcomes_of(shards["frozen"])[:, 0]  # (seeds, regimes, episodes)
    frozen, names = outcomes.mean(axis=(0, 2)), [regime.name for regime in regimes]
    counts = regimes_that_count(frozen, regimes)
    arms = {arm: summary(arm, shards, counts, preset) for arm in shards}
    default, naive = arms.get(DEFAULT_ARM, {}), arms.get("naive", {})
    outside = [j for j in counts if not trained_on(regimes[j], preset.rival)]
    return {
        "recovered_fraction": default.get("recovered_fraction"),
        "nominal_forgetting_default": default.get("nominal_forgetting"),
        "nominal_forgetting_naive": naive.get("nominal_forgetting"),
        "seeds": len(shards["frozen"]),
        "default_arm": DEFAULT_ARM,
        "regimes": names,
        "severities": [severity_of(regime) for regime in regimes[1:]],
        "frozen": frozen.tolist(),
        "frozen_successes": outcomes.sum(axis=(0, 2)).astype(int).tolist(),
        "judged_per_cell": outcomes.shape[0] * outcomes.shape[2],
        "counting": [names[j] for j in counts],
        "no_loss": [names[j] for j in range(1, len(names)) if j not in counts],
        "outside_training": [names[j] for j in outside],
        "beside_randomised": beside_randomised(shards, outside),
        "inside_training": inside_figures(shards, regimes, preset.rival),
        "least_loss": LEAST_LOSS,
        "steps_of_a_first_visit": preset.first_visit * preset.steps,
        "arms": arms,
        "cpu_s_per_episode": costs(shards),
        "cpu_hours": cpu_hours(shards),
    }


def beside_randomised(shards: Shards, outside: Sequence[int]) -> dict[str, list[float]] | None:
    """`lead` of the default arm, after each first visit to the regimes that `randomised` was not trained on.

    None where one of both was not run, or nothing lies outside.
    """
    if not outside or not {DEFAULT_ARM, "randomised"} <= shards.keys():
        return None
    firsts = first_visits(order_of(shards[DEFAULT_ARM]))
    return lead(shards[DEFAULT_ARM], shards["randomised"], [(firsts[j], j) for j in outside])


def severity_of(regime: Regime) -> dict[str, Any]:
    """How bad a trouble is, how bad it may be, and how that was settled."""
    return {
        "regime": regime.name,
        "knob": regime.knob,
        "chosen": regime.chosen,
        "limits": [regime.mildest, regime.worst],
        "source": regime.source,
        "counts": regime.counts,
        "losses": [list(tried) for tried in regime.losses],
        "episodes": regime.episodes,
        "attainable": regime.attainable,
    }


def costs(shards: Shards) -> dict[str, dict[str, float | None]]:
    """CPU seconds of an episode that was lived and of one that was judged, by arm; None where there was none.

    The same weights are judged once.
    """
    found: dict[str, dict[str, float | None]] = {}
    for arm, own in shards.items():
        stages = [stage for shard in own for stage in shard["stages"]]
        lived = sum(len(stage["curve"]) for stage in stages)
        played = [stage["cost"] for stage in stages if stage["cost"]["judged_anew"]]
        judged = sum(cost["judged_anew"] for cost in played)
        found[arm] = {
            "life": sum(stage["cost"]["life_cpu_s"] for stage in stages) / lived if lived else None,
            "judge": sum(cost["judge_cpu_s"] for cost in played) / judged if judged else None,
        }
    return found


def cpu_hours(shards: Shards) -> float:
    """Of all lives, what an expert taught in them included, and of their judging.

    Looks, the rivals' training and `forgetting_inside` come on top.
    """
    spent = [stage["cost"] for own in shards.values() for shard in own for stage in shard["stages"]]
    return sum(cost["life_cpu_s"] + cost["judge_cpu_s"] for cost in spent) / 3600.0


def _mean(values: Any) -> float | None:
    found = [float(value) for value in values if value is not None]
    return float(np.mean(found)) if found else None
