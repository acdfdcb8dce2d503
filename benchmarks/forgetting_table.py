"""The forgetting benchmark in words: one table for the arms, a line for each bar and for each regime."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from forgetting_arms import ARMS, DEFAULT_ARM

from neon_sim.eval.statistics import format_rate

HEADER = (
    "arm", "what it is", "recovered", "recovered again", "forgotten on nominal", "at worst", "at the end", "average",
    "forgetting", "forward transfer", "steps to recover", "at second visits", "area lost", "worst dip", "savings",
    "falls",
)  # fmt: skip
_PERCENT: Final = (
    "recovered_fraction", "recovered_again_fraction", "nominal_forgetting", "worst_nominal_forgetting",
    "nominal_forgetting_at_end", "average_performance", "forgetting",
)  # fmt: skip


def arm_rows(figures: Mapping[str, Any]) -> list[list[str]]:
    """A row for each arm; those that were not run say so."""
    rows = []
    for arm, kind in ARMS.items():
        found = figures["arms"].get(arm)
        name = f"**{arm}** (default)" if arm == DEFAULT_ARM else arm
        rows.append([name, kind.meaning, *(_cells(found) if found else _not_run())])
    return rows


def regime_lines(figures: Mapping[str, Any]) -> list[str]:
    """A line for each regime: how bad it is, what the frozen policy does in it, what each arm won back."""
    lines = []
    for j, name in enumerate(figures["regimes"]):
        rate = format_rate(figures["frozen_successes"][j], figures["judged_per_cell"])
        won = [
            f"{arm} {_percent(found['recovered'][name])} %{_again(found['recovered_again'].get(name))}"
            for arm, found in figures["arms"].items()
            if name in found["recovered"]
        ]
        end = "; recovered: " + ", ".join(won) if name in figures["counting"] else ""
        end = "; no loss, counts nowhere" if name in figures["no_loss"] else end
        what = f" ({_severity(figures['severities'][j - 1])})" if j else ""
        lines.append(f"- {name}{what}: frozen {rate}{end}")
    return lines


def _again(value: float | None) -> str:
    return "" if value is None else f" (at the second visit {_percent(value)} %)"


def _severity(one: Mapping[str, Any]) -> str:
    mildest, worst = one["limits"]
    found = f"{one['knob']} {one['chosen']:g}, limits {mildest:g} to {worst:g} {one['source']}"
    if not one["losses"]:
        return f"{found}; not calibrated"
    found += f"; took {round(100 * one['losses'][-1][1])} points in {one['episodes']} episodes of other seeds"
    known = one["attainable"]
    return found if known is None else f"{found}; an expert that knows of it has {100 * known:.0f} %"


def _cells(found: Mapping[str, Any]) -> list[str]:
    return [
        *(_percent(found.get(name), found["intervals"].get(name)) for name in _PERCENT),
        _number(found.get("forward_transfer"), ".2f"),
        _steps(found),
        "{} of {}".format(*found["recoveries_again"]) if "recoveries_again" in found else "-",
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
    if not reached:
        return f"never ({tried} visits)"
    return f"most never ({reached} of {tried} did)" if median is None else f"{median:.0f} ({reached} of {tried})"


def _not_run() -> list[str]:
    return ["not run"] + ["-"] * (len(HEADER) - 3)


def _percent(value: float | None, ends: Sequence[float] | None = None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}" + ("" if ends is None else f" [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]")


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
