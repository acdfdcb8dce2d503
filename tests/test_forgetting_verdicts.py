"""Bars and intervals of the forgetting benchmark, with numbers small enough for a pencil."""

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
from forgetting_intervals import drawn_counts, interval_of_mean, intervals, lead, outcomes_of
from forgetting_verdicts import verdict_lines, verdicts
from report import write_report

REGIMES = ["nominal", "payload", "weak", "bias", "ice"]


def _arm(recovered: float, forgotten: float, falls: int, success: float) -> dict[str, Any]:
    return {
        "recovered": {"payload": recovered, "weak": recovered, "bias": 0.2},
        "recovered_fraction": recovered,
        "nominal_forgetting": forgotten,
        "intervals": {"nominal_forgetting": [forgotten - 0.02, forgotten + 0.02]},
        "falls": falls,
        "order": [0, 1, 2, 3, 4],
        "matrix": [[1.0] + [success] * 4] * 5,
    }


FIGURES: dict[str, Any] = {
    "default_arm": "online_ewc",
    "regimes": REGIMES,
    "outside_training": ["payload", "bias"],
    "steps_of_a_first_visit": 9600,
    "beside_randomised": {"success": [0.9, 0.6], "difference": [0.001, 0.4]},
    "cpu_hours": 24.0,
    "arms": {
        "frozen": _arm(0.0, 0.0, 1, 0.5),
        "online_ewc": _arm(0.8, 0.05, 1, 0.9),
        "naive": _arm(0.9, 0.2, 3, 0.9),
        "randomised": _arm(0.3, 0.0, 0, 0.6),
        "lr0": _arm(0.0, 0.0, 1, 0.5),
        "replay_by_itself": _arm(0.8, 0.05, 4, 0.9),
    },
}


def test_every_bar_is_met_at_its_edge() -> None:
    found = verdicts(FIGURES)
    assert [one["met"] for one in found] == [True] * 9
    lines = verdict_lines(found)
    assert "payload 80 %, weak 80 %, bias 20 % after 9,600 steps" in lines[0] and "5.0 points [3.0, 7.0]" in lines[1]
    assert lines[4].endswith("90 % and 60 % success in payload, bias, +30.0 points [+0.1, +40.0]")
    assert "replay_by_itself recovers at least 80 % within 10,000 env steps" in lines[7] and "payload 80 %" in lines[7]
    assert lines[8] == "- met: replay_by_itself forgets at most 5 points on nominal: 5.0 points [3.0, 7.0]"


@pytest.mark.parametrize(
    ("number", "arm", "change"),
    [
        (0, "online_ewc", {"recovered": {"payload": 0.9, "weak": 0.79, "bias": 0.2}}),  # two are missed
        (0, "online_ewc", {"recovered": {"payload": 0.9, "weak": 0.9}}),  # two count
        (1, "online_ewc", {"nominal_forgetting": 0.051}),
        (2, "naive", {"nominal_forgetting": 0.19}),
        (3, "online_ewc", {"falls": 2}),
        (5, "lr0", {"recovered_fraction": 0.01}),
        (7, "replay_by_itself", {"recovered": {"payload": 0.9, "weak": 0.79, "bias": 0.2}}),
        (8, "replay_by_itself", {"nominal_forgetting": 0.051}),
    ],
)
def test_each_bar_is_missed_by_itself(number: int, arm: str, change: dict[str, Any]) -> None:
    figures = copy.deepcopy(FIGURES)
    figures["arms"][arm] |= change
    found = verdicts(figures)
    assert [i for i, one in enumerate(found) if not one["met"]] == [number]
    assert verdict_lines(found)[number].startswith("- **missed**")
    assert number != 2 or "too easy" in found[2]["found"]


def test_too_long_a_visit_misses_the_bar_and_what_was_not_run_is_not_judged() -> None:
    assert verdicts(FIGURES | {"steps_of_a_first_visit": 10_001})[0]["met"] is False
    few = verdicts(FIGURES | {"arms": {name: FIGURES["arms"][name] for name in ("frozen", "naive")}})
    assert [one["met"] for one in few] == [None, None, True, None, None, None, True, None, None]
    assert verdicts(FIGURES | {"cpu_hours": 24.1})[6]["met"] is False
    assert verdict_lines(few)[4] == "- not run: online_ewc beats randomised outside its training range"


def test_a_rival_is_beaten_only_where_all_of_the_interval_is_above_zero() -> None:
    unsure = {"success": [0.9, 0.6], "difference": [0.0, 0.6]}
    (beaten,) = [one for one in verdicts(FIGURES | {"beside_randomised": unsure}) if "beats randomised" in one["bar"]]
    assert beaten["met"] is False and beaten["found"].endswith("+30.0 points [+0.0, +60.0]")
    (nowhere,) = [one for one in verdicts(FIGURES | {"beside_randomised": None}) if "beats randomised" in one["bar"]]
    assert nowhere["met"] is None and nowhere["found"] == "no regime that counts lies outside"


def test_the_lines_come_between_table_and_source(tmp_path: Path) -> None:
    (tmp_path / "RESULTS.md").write_text("# Results\n")
    write_report("bars", {}, ("a",), [("1",)], "2026-01-01", tmp_path, "\n".join(verdict_lines(verdicts(FIGURES))))
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.index("| 1 |") < text.index("\n\n- met: online_ewc recovers") < text.index("\n\n2026-01-01, commit")


def _shard(seed: int, outcomes: str) -> dict[str, Any]:
    return {"seed": seed, "stages": [{"row": [{"outcomes": outcomes}]}]}


def _rate(frozen: np.ndarray, matrix: np.ndarray) -> dict[str, float]:
    return {"rate": float(matrix[0, 0]), "gain": float(matrix[0, 0] - frozen[0])}


def test_the_interval_of_a_rate_is_that_of_as_many_coins() -> None:
    """50 of 100: a standard deviation of 0.05. Against itself an arm gains nothing, in every draw."""
    shard = [_shard(0, "01" * 50)]
    found = intervals(shard, shard, _rate)
    assert found["rate"] == pytest.approx([0.402, 0.598], abs=0.015) and found["gain"] == [0.0, 0.0]


def test_seeds_are_drawn_as_wholes_and_kept_in_order() -> None:
    """Of a lucky and an unlucky seed nobody knows; the two arms' files may come in any order."""
    lucky, unlucky = _shard(0, "1" * 50), _shard(1, "0" * 50)
    found = intervals([unlucky, lucky], [lucky, unlucky], _rate)
    assert found == {"rate": [0.0, 1.0], "gain": [0.0, 0.0]}
    drawn = drawn_counts(3, 10, np.random.default_rng(1), draws=50)
    assert (drawn.sum(axis=(1, 2)) == 30).all() and set(drawn.sum(axis=2).ravel()) == {0.0, 10.0, 20.0, 30.0}


def _two_regimes(seed: int, rows: list[list[str | None]]) -> dict[str, Any]:
    cells = [[outcomes and {"outcomes": outcomes} for outcomes in row] for row in rows]
    return {"seed": seed, "stages": [{"row": row} for row in cells]}


def test_a_lead_is_that_of_the_same_episodes() -> None:
    """10 of 10 and 5 of 10 beside 5 of 10 and 5 of 10: a quarter; the cell in which both fare alike adds no doubt."""
    half, all_of_them = "01" * 5, "1" * 10
    ours = [_two_regimes(seed, [[half, half], [None, all_of_them]]) for seed in (0, 1)]
    theirs = [_two_regimes(seed, [[half, half], [half, half]]) for seed in (1, 0)]
    found = lead(ours, theirs, [(1, 1), (0, 1)])
    assert found["success"] == [0.75, 0.5]
    low, high = found["difference"]
    assert 0.1 < low < 0.25 < high < 0.4
    assert lead(ours, ours, [(1, 1), (0, 1)]) == {"success": [0.75, 0.75], "difference": [0.0, 0.0]}
    assert lead(ours, theirs, [(0, 0)]) == {"success": [0.5, 0.5], "difference": [0.0, 0.0]}
    assert np.isnan(outcomes_of(ours)[:, 1, 0]).all() and outcomes_of(ours).shape == (2, 2, 2, 10)


def test_the_interval_of_a_mean_over_seeds_that_differ_reaches_from_one_to_the_other() -> None:
    assert interval_of_mean(np.array([[0.0] * 5, [1.0] * 5])) == [0.0, 1.0]
    assert interval_of_mean(np.full((3, 4), 0.25)) == [0.25, 0.25]
