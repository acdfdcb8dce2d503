"""Shards into figures: retention matrices, what was lost and won, how fast. Pure functions of what the shards say."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from forgetting_arms import ARMS, DEFAULT_ARM

from neon_sim.eval.regimes import LEAST_LOSS
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


def matrix_of(shards: Sequence[Shard]) -> np.ndarray:
    """Retention matrix (stages, regimes) of one arm, all its seeds' episodes together."""
    cells = [[[(c["successes"], c["episodes"]) for c in stage["row"]] for stage in s["stages"]] for s in shards]
    total = np.array(cells).sum(0)  # (stages, regimes, 2)
    return total[..., 0] / total[..., 1]


def order_of(shards: Sequence[Shard]) -> list[int | None]:
    """The regime of each stage; None where all were mixed."""
    return [stage["regime"] for stage in shards[0]["stages"]]


def regimes_that_count(frozen: np.ndarray) -> list[int]:
    """Troubles that take at least ten points from the frozen policy; frozen (regimes,) success, nominal first."""
    return [j for j in range(1, len(frozen)) if recovered_fraction(frozen[0], frozen[j], frozen[j]) is not None]


def curve_of(shard: Shard, regime: int, visit: int = 0) -> list[float] | None:
    """Success of each episode of a visit to a regime; None if there was no such visit."""
    visits = [stage["curve"] for stage in shard["stages"] if stage["regime"] == regime]
    return visits[visit] if len(visits) > visit else None


def first_visits(order: Sequence[int | None]) -> dict[int, int]:
    """Regime -> the stage at which it was met first."""
    return {regime: order.index(regime) for regime in order if regime is not None}


def summary(arm: str, shards: Shards, steps: int, window: int) -> dict[str, Any]:
    """All figures of one arm; what it does not have, or nothing can be said about, is None.

    Args:
        arm: one of `shards`, which must hold "frozen" too.
        shards: of every arm.
        steps: env steps of an episode of the life.
        window: episodes that a recovery is judged on.
    """
    own, frozen = shards[arm], matrix_of(shards["frozen"])[0]
    matrix, order = matrix_of(own), order_of(own)
    counts, firsts = regimes_that_count(frozen), first_visits(order_of(own))
    recovered = {j: recovered_fraction(frozen[0], frozen[j], matrix[firsts[j], j]) for j in counts if j in firsts}
    found: dict[str, Any] = {
        "matrix": matrix.tolist(),
        "order": order,
        "recovered": {own[0]["regimes"][j]: value for j, value in recovered.items()},
        "recovered_fraction": _mean(recovered.values()),
        "falls": sum(stage["falls"] for shard in own for stage in shard["stages"]),
        "protection_bytes": max(stage["protection_bytes"] for shard in own for stage in shard["stages"]),
    }
    if ARMS[arm].plan == "fresh":
        return found
    found |= {
        "average_performance": average_performance(matrix),
        "nominal_forgetting": float(frozen[0] - matrix[-1, 0]),
        "worst_nominal_forgetting": float(frozen[0] - matrix[:, 0].min()),
    }
    if ARMS[arm].plan == "joint":
        found["recovered_fraction"] = _mean(recovered_fraction(frozen[0], frozen[j], matrix[-1, j]) for j in counts)
        return found
    found |= {"forgetting": float(np.nanmean(forgetting(matrix, [int(j) for j in order if j is not None])))}
    return found | _course(arm, shards, counts, steps, window)


def _whole(curve: list[float] | None) -> list[float]:
    assert curve is not None  # `life_order` visits each trouble twice, and a merge takes whole lives only
    return curve


def _course(arm: str, shards: Shards, counts: Sequence[int], steps: int, window: int) -> dict[str, Any]:
    """What the learning curves say: means over seeds and over the regimes that count."""
    times: list[int | None] = []
    saved, areas, dips, transfers = [], [], [], []
    fresh = {shard["seed"]: shard for shard in shards.get("fresh", ())}
    nominal = {shard["seed"]: float(np.mean(_whole(curve_of(shard, 0)))) for shard in shards["frozen"]}
    for shard in shards[arm]:
        level = nominal[shard["seed"]]
        for regime in counts:
            first, again = _whole(curve_of(shard, regime)), _whole(curve_of(shard, regime, 1))
            took = [time_to_recover(curve, level, window, steps_per_episode=steps) for curve in (first, again)]
            times.append(took[0])
            saved.append(savings(*took))
            areas.append(area_lost(first, level, steps))
            dips.append(worst_dip(first, level, window))
            if shard["seed"] in fresh:
                reference = _whole(curve_of(fresh[shard["seed"]], regime))
                transfers.append(forward_transfer(np.array([np.mean(first)]), np.array([np.mean(reference)]))[0])
    reached = [took for took in times if took is not None]
    return {
        "steps_to_recover_median": float(np.median(reached)) if reached else None,
        "recoveries": [len(reached), len(times)],
        "area_lost": _mean(areas),
        "worst_dip": max(dips, default=None),
        "savings": _mean(value for value in saved if value is not None and np.isfinite(value)),
        "savings_undefined": sum(value is None or not np.isfinite(value) for value in saved),
        "forward_transfer": _mean(value for value in transfers if np.isfinite(value)),
    }


def figures_of(shards: Shards, steps: int, window: int) -> dict[str, Any]:
    """What `benchmarks/results/forgetting.json` carries."""
    frozen = matrix_of(shards["frozen"])[0]
    names = shards["frozen"][0]["regimes"]
    counts = regimes_that_count(frozen)
    arms = {arm: summary(arm, shards, steps, window) for arm in shards}
    default, naive = arms.get(DEFAULT_ARM, {}), arms.get("naive", {})
    return {
        "recovered_fraction": default.get("recovered_fraction"),
        "nominal_forgetting_default": default.get("nominal_forgetting"),
        "nominal_forgetting_naive": naive.get("nominal_forgetting"),
        "seeds": len(shards["frozen"]),
        "default_arm": DEFAULT_ARM,
        "regimes": names,
        "frozen": frozen.tolist(),
        "counting": [names[j] for j in counts],
        "no_loss": [names[j] for j in range(1, len(names)) if j not in counts],
        "least_loss": LEAST_LOSS,
        "arms": arms,
        "cpu_s_per_episode": costs(shards),
    }


def costs(shards: Shards) -> dict[str, dict[str, float | None]]:
    """CPU seconds of an episode that was lived and of one that was judged, by arm; the same weights are judged once."""
    found: dict[str, dict[str, float | None]] = {}
    for arm, own in shards.items():
        stages = [stage for shard in own for stage in shard["stages"]]
        lived = sum(len(stage["curve"]) for stage in stages)
        played = [stage["cost"] for stage in stages if stage["cost"]["judged_anew"]]
        judged = sum(cost["judged_anew"] for cost in played)
        found[arm] = {
            "life": sum(stage["cost"]["life_cpu_s"] for stage in stages) / lived,
            "judge": sum(cost["judge_cpu_s"] for cost in played) / judged if judged else None,
        }
    return found


def _mean(values: Any) -> float | None:
    found = [float(value) for value in values if value is not None]
    return float(np.mean(found)) if found else None
