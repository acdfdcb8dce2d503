"""The forgetting benchmark in words: one table for the arms, one for what each regime took and was given back."""

from collections.abc import Mapping
from typing import Any

from forgetting_arms import ARMS, DEFAULT_ARM
from forgetting_merge import Shards

from neon_sim.eval.regimes import Regime
from neon_sim.eval.statistics import format_rate

HEADER = (
    "arm", "what it is", "recovered", "forgotten on nominal", "at worst", "average", "forgetting", "forward transfer",
    "steps to recover", "area lost", "worst dip", "savings", "falls",
)  # fmt: skip


_PERCENT = (
    "recovered_fraction", "nominal_forgetting", "worst_nominal_forgetting", "average_performance", "forgetting",
)  # fmt: skip


def arm_rows(figures: Mapping[str, Any]) -> list[list[str]]:
    """A row for each arm; those that were not run say so."""
    rows = []
    for arm, kind in ARMS.items():
        found = figures["arms"].get(arm)
        name = f"**{arm}** (default)" if arm == DEFAULT_ARM else arm
        rows.append([name, kind.meaning, *(_cells(found) if found else _not_run())])
    return rows


def regime_lines(figures: Mapping[str, Any], shards: Shards, regimes: tuple[Regime, ...]) -> list[str]:
    """A line for each regime: how bad it is, what the frozen policy does in it, what each arm won back."""
    rows = [stage["row"] for shard in shards["frozen"] for stage in shard["stages"][:1]]
    lines = []
    for j, regime in enumerate(regimes):
        rate = format_rate(sum(r[j]["successes"] for r in rows), sum(r[j]["episodes"] for r in rows))
        what = f"{regime.knob} {regime.chosen:g}, limit {regime.worst:g} {regime.source}" if regime.fault else ""
        won = [
            f"{arm} {100 * found['recovered'][regime.name]:+.0f} %"
            for arm, found in figures["arms"].items()
            if regime.name in found["recovered"]
        ]
        end = "; recovered: " + ", ".join(won) if regime.name in figures["counting"] else ""
        end = "; no loss, counts nowhere" if regime.name in figures["no_loss"] else end
        lines.append(f"- {regime.name} ({what}): frozen {rate}{end}".replace(" ()", ""))
    if len(figures["counting"]) < 3:
        lines.append(f"- Regimes that count: {len(figures['counting'])}; the bar asks for three. Too easy a sequence.")
    naive = figures["nominal_forgetting_naive"]
    if naive is not None and naive < 0.2:
        lines.append(f"- Naive loses {100 * naive:.0f} points on nominal, less than 20: the sequence is too easy.")
    return lines


def _cells(found: Mapping[str, Any]) -> list[str]:
    return [
        *(_percent(found.get(name)) for name in _PERCENT),
        _number(found.get("forward_transfer"), ".2f"),
        _steps(found),
        _number(found.get("area_lost"), ".0f"),
        _percent(found.get("worst_dip")),
        _number(found.get("savings"), ".2f"),
        str(found["falls"]),
    ]


def _steps(found: Mapping[str, Any]) -> str:
    reached, tried = found.get("recoveries", (0, 0))
    if not tried:
        return "-"
    median = found["steps_to_recover_median"]
    return f"never ({tried} visits)" if median is None else f"{median:.0f} ({reached} of {tried})"


def _not_run() -> list[str]:
    return ["not run"] + ["-"] * (len(HEADER) - 3)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
