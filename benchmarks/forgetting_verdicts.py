"""What the default way of learning was to do, decided before it was run, and whether it did. Pure.

1. It recovers at least 80 % of what the trouble took within 10,000 env steps, in all but at most one of the regimes
   that count, of which there are at least three.
2. It forgets at most 5 points on nominal (mean over the ends of the stages in regimes that count).
3. Naive learning forgets at least 20: with less the sequence is too easy.
4. It falls no more often in its lives than the frozen policy.
5. Its mean success at the end of each first visit is above that of the arm `randomised`, in the regimes that count and
   that this one was not trained on: all of the 95 % interval of the difference is.
6. Learning rate 0 recovers nothing.
7. All of it takes at most 24 CPU-hours.
8. The arm `replay_by_itself`, the default that nobody tells that a stage ends, recovers as much as 1 wants,
9. and forgets no more than 2 allows it.
"""

from collections.abc import Mapping
from typing import Any, Final

RECOVERED: Final = 0.8
STEPS: Final = 10_000
FORGOTTEN: Final = 0.05
TOO_EASY: Final = 0.2
LEAST_COUNTING: Final = 3
ALONE: Final = "replay_by_itself"
CPU_HOURS: Final = 24.0
Verdict = dict[str, Any]  # bar: what was wanted, met: True, False, or None where an arm was not run, found: in words


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    """One for each bar, from what `forgetting_merge.figures_of` gives."""
    arms = figures["arms"]
    own, name = arms.get(figures["default_arm"]), figures["default_arm"]
    naive, still, alone = arms.get("naive"), arms.get("lr0"), arms.get(ALONE)
    recovers = f"recovers at least 80 % within {STEPS:,} env steps, in all but one regime of at least three"
    forgets = "forgets at most 5 points on nominal"
    return [
        _verdict(f"{name} {recovers}", own and _recovers(own, figures)),
        _verdict(f"{name} {forgets}", own and _at_most(own, FORGOTTEN)),
        _verdict("naive forgets at least 20 points on nominal", naive and _hard_enough(naive)),
        _verdict(f"{name} falls no more often than frozen", own and _falls(own, arms["frozen"])),
        _verdict(
            f"{name} beats randomised outside its training range", own and "randomised" in arms and _beats(figures)
        ),
        _verdict("learning rate 0 recovers nothing", still and _gains_nothing(still)),
        _verdict(f"at most {CPU_HOURS:g} CPU-hours of lives and judging", _cheap_enough(figures["cpu_hours"])),
        _verdict(f"{ALONE} {recovers}", alone and _recovers(alone, figures)),
        _verdict(f"{ALONE} {forgets}", alone and _at_most(alone, FORGOTTEN)),
    ]


def verdict_lines(found: list[Verdict]) -> list[str]:
    """A line for each, as a list in Markdown."""
    words = {True: "met", False: "**missed**", None: "not run"}
    return [f"- {words[one['met']]}: {one['bar']}" + (f": {one['found']}" if one["found"] else "") for one in found]


def _verdict(bar: str, judged: Any) -> Verdict:
    met, found = judged or (None, "")
    return {"bar": bar, "met": met, "found": found}


def _recovers(own: Mapping[str, Any], figures: Mapping[str, Any]) -> tuple[bool, str]:
    recovered, steps = own["recovered"], figures["steps_of_a_first_visit"]
    good = [value is not None and value >= RECOVERED for value in recovered.values()]
    told = ", ".join(f"{name} {_percent(value)}" for name, value in recovered.items())
    met = len(good) >= LEAST_COUNTING and good.count(False) <= 1 and steps <= STEPS
    return met, f"{told or 'no regime'} after {steps:,} steps; {len(good)} regimes count"


def _at_most(own: Mapping[str, Any], most: float) -> tuple[bool | None, str]:
    lost = own["nominal_forgetting"]
    if lost is None:
        return None, "no regime counts"
    ends = own["intervals"]["nominal_forgetting"]
    return lost <= most, f"{100 * lost:.1f} points [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def _hard_enough(naive: Mapping[str, Any]) -> tuple[bool | None, str]:
    met, found = _at_most(naive, TOO_EASY - 1e-9)
    return (None if met is None else not met), found + ("; the sequence is too easy" if met else "")


def _falls(own: Mapping[str, Any], frozen: Mapping[str, Any]) -> tuple[bool, str]:
    return own["falls"] <= frozen["falls"], f"{own['falls']} and {frozen['falls']} falls"


def _beats(figures: Mapping[str, Any]) -> tuple[bool | None, str]:
    found = figures["beside_randomised"]
    if found is None:
        return None, "no regime that counts lies outside"
    ours, theirs = found["success"]
    low, high = found["difference"]
    told = f"{_percent(ours)} and {_percent(theirs)} success in {', '.join(figures['outside_training'])}"
    return low > 0.0, f"{told}, {100 * (ours - theirs):+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def _gains_nothing(still: Mapping[str, Any]) -> tuple[bool | None, str]:
    value = still["recovered_fraction"]
    return (None, "no regime counts") if value is None else (value <= 0.0, f"recovered {_percent(value)}")


def _cheap_enough(hours: float) -> tuple[bool, str]:
    return hours <= CPU_HOURS, f"{hours:.1f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
