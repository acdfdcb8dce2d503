"""Shards into figures, with numbers small enough for a pencil."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
from forgetting_arms import ARMS, Preset
from forgetting_inside import inside_lines
from forgetting_merge import (
    costs,
    cpu_hours,
    curve_of,
    figures_of,
    first_visits,
    matrix_of,
    regimes_that_count,
    summary,
)
from forgetting_plots import free_heights, plot_all
from forgetting_table import HEADER, arm_rows, regime_lines

from neon_sim.eval.regimes import Regime

NAMES = ["nominal", "bias", "ice"]
BIAS = Regime("bias", "ActuatorFault", (("strength", 1.0),), "bias", ("left_elbow_joint",), 0.1, 0.3, 0.1, 0.2, "rad")
ICE = Regime("ice", "LowFriction", (), "friction", (), 0.3, 0.1, -0.1, 0.1, "sliding", False, ((0.3, 0.0),), 300)
REGIMES = (Regime("nominal"), BIAS, ICE)
PRESET = Preset(seeds=(0, 1), steps=96, window=2)
FROZEN = [10, 4, 10]  # of ten judged episodes: the bias takes 60 points, the ice nothing
ORDER = [0, 1, 2, 0, 1, 2]
# Judged successes after each stage of a learner that recovers 5 of 6 and forgets 2 of 10 on the way.
LEARNED = [[10, 4, 10], [8, 9, 10], [8, 9, 10], [10, 8, 10], [9, 10, 10], [9, 9, 10]]
FIRST, AGAIN = [0, 0, 1, 1, 1, 1], [0, 1, 1, 1]


def _shard(
    arm: str, seed: int, rows: Sequence[Sequence[int | None]], curves: list[list[int]], order: list[Any]
) -> dict[str, Any]:
    stages = [
        {
            "name": "mixed" if regime is None else NAMES[regime],
            "regime": regime,
            "curve": curve,
            "falls": 1 if regime == 2 else 0,
            "row": [None if successes is None else _cell(successes) for successes in row],
            "protection_bytes": 8,
            "cost": {"life_cpu_s": 0.5 * len(curve), "judge_cpu_s": 6.0, "judged_anew": 30},
        }
        for regime, row, curve in zip(order, rows, curves, strict=True)
    ]
    return {"arm": arm, "seed": seed, "regimes": NAMES, "stages": stages}


def _cell(successes: int) -> dict[str, Any]:
    outcomes = "1" * successes + "0" * (10 - successes)
    return {"successes": successes, "falls": 0, "episodes": 10, "median_distance": 0.01, "outcomes": outcomes}


def _shards() -> dict[str, list[dict[str, Any]]]:
    healthy = [1, 1, 1, 1]
    still = [healthy, [0] * 6, healthy, healthy, [0] * 4, healthy]
    moved = [healthy, FIRST, healthy, healthy, AGAIN, healthy]
    alone = [[0, 0, 0, 0, 0, 1], healthy]
    return {
        "frozen": [_shard("frozen", seed, [FROZEN] * 6, still, ORDER) for seed in (0, 1)],
        "naive": [_shard("naive", seed, [[4, 9, 8]] * 6, moved, ORDER) for seed in (0, 1)],
        "replay": [_shard("replay", seed, LEARNED, moved, ORDER) for seed in (0, 1)],
        "fresh": [_shard("fresh", seed, [[7, 10, 10], [10, 4, 10]], alone, [1, 2]) for seed in (0, 1)],
        "joint": [_shard("joint", seed, [[10, 9, 10]], [healthy], [None]) for seed in (0, 1)],
    }


def test_a_matrix_pools_the_seeds() -> None:
    shards = _shards()["replay"]
    shards[1]["stages"][0]["row"][1] = _cell(2)
    assert matrix_of(shards)[0].tolist() == pytest.approx([1.0, 0.3, 1.0])
    assert matrix_of(shards).shape == (6, 3)


def test_what_takes_nothing_counts_nowhere() -> None:
    unknown = (REGIMES[0], BIAS, replace(ICE, counts=None))
    assert regimes_that_count(np.array([1.0, 0.4, 1.0]), unknown) == [1]
    assert regimes_that_count(np.array([0.95, 0.85, 0.86]), unknown) == [1]
    settled = (REGIMES[0], replace(BIAS, counts=True), ICE)  # what is judged here does not decide it again
    assert regimes_that_count(np.array([0.95, 0.9, 0.2]), settled) == [1]
    assert first_visits([0, 1, None, 1]) == {0: 0, 1: 1}


def test_an_arms_figures_by_hand() -> None:
    found = summary("replay", _shards(), [1], PRESET)
    assert found["recovered"] == {"bias": pytest.approx(5 / 6)} and found["recovered_fraction"] == pytest.approx(5 / 6)
    # at the end of its second stage, the fifth, everything: 10 of 10, where frozen has 4
    assert found["recovered_again"] == {"bias": 1.0} and found["recovered_again_fraction"] == 1.0
    # nominal has 8 and 9 of 10 after the two stages with a bias, and 9 at the end; what happens on ice counts nowhere
    assert found["nominal_forgetting"] == pytest.approx(0.15)
    assert found["worst_nominal_forgetting"] == pytest.approx(0.2)
    assert found["nominal_forgetting_at_end"] == pytest.approx(0.1)
    assert found["average_performance"] == pytest.approx((0.9 + 0.9) / 2)
    # nominal 1.0 -> 0.9 since its last stage, bias 1.0 -> 0.9
    assert found["forgetting"] == pytest.approx(0.1)
    # the first two successes in a row end with the fourth episode; at the second visit with the third
    assert found["steps_to_recover_median"] == 4 * 96 and found["recoveries"] == [2, 2]
    assert found["recoveries_again"] == [2, 2]
    assert found["savings"] == pytest.approx((2 - 1) / 2)  # of four episodes two were lost, then one
    assert found["area_lost"] == pytest.approx(2 * 96) and found["worst_dip"] == pytest.approx(1.0)
    assert found["forward_transfer"] == pytest.approx((4 / 6 - 1 / 6) / (1 - 1 / 6))
    assert found["falls"] == 4  # one in each of two stages on ice, of both seeds


def test_a_lucky_visit_of_many_is_no_median() -> None:
    shards = _shards()
    shards["replay"] = [_shard("replay", seed, LEARNED, _curves(seed == 0), ORDER) for seed in range(3)]
    shards["frozen"] = [{**shards["frozen"][0], "seed": seed} for seed in range(3)]
    shards["fresh"] = [{**shards["fresh"][0], "seed": seed} for seed in range(3)]
    found = summary("replay", shards, [1], PRESET)
    assert found["recoveries"] == [1, 3] and found["steps_to_recover_median"] is None
    # of all seeds together: 4 / 18 of the first visits went well, 1 / 6 of those that were first of all
    assert found["forward_transfer"] == pytest.approx((4 / 18 - 1 / 6) / (1 - 1 / 6))


def _curves(learned: bool) -> list[list[int]]:
    healthy = [1, 1, 1, 1]
    return [healthy, FIRST if learned else [0] * 6, healthy, healthy, AGAIN, healthy]


def test_who_never_recovers_is_no_number() -> None:
    found = summary("frozen", _shards(), [1], PRESET)
    assert found["recovered_fraction"] == 0.0 and found["nominal_forgetting"] == 0.0
    assert found["steps_to_recover_median"] is None and found["recoveries"] == [0, 2]
    assert found["savings"] == 0.0 and found["recoveries_again"] == [0, 2]


def test_oracle_and_ceiling_have_what_they_can_have() -> None:
    fresh, joint = (summary(arm, _shards(), [1], PRESET) for arm in ("fresh", "joint"))
    assert fresh["recovered_fraction"] == pytest.approx(1.0) and "nominal_forgetting" not in fresh
    assert joint["recovered_fraction"] == pytest.approx(5 / 6) and joint["nominal_forgetting"] == 0.0


def _oracle() -> list[dict[str, Any]]:
    """Taught in the bias alone, in 9 CPU-seconds, and judged there: 9 of 10, then 8 of 10."""
    found = [_shard("oracle", seed, [[None, 9 - seed, None]], [[]], [1]) for seed in (0, 1)]
    for shard in found:
        shard["stages"][0]["cost"] = {"life_cpu_s": 9.0, "judge_cpu_s": 2.0, "judged_anew": 10}
    return found


def test_who_lives_no_episode_has_what_it_recovers_and_what_it_costs(tmp_path: Path) -> None:
    """Of the 6 of 10 that the bias takes it has 5 and 4 back."""
    shards = _shards() | {"oracle": _oracle()}
    figures = figures_of(shards, REGIMES, PRESET)
    found = figures["arms"]["oracle"]
    assert found["recovered"] == {"bias": pytest.approx(4.5 / 6)} and "nominal_forgetting" not in found
    assert found["matrix"] == [[None, pytest.approx(0.85), None]] and found["order"] == [1] and found["falls"] == 0
    low, high = found["recovered_intervals"]["bias"]
    assert low < 4.5 / 6 < high and found["recovered_again"] == {"bias": None}
    assert costs(shards)["oracle"] == {"life": None, "judge": pytest.approx(4.0 / 20)}
    assert cpu_hours({"oracle": shards["oracle"]}) == pytest.approx(22.0 / 3600.0)
    cells = {row[0]: row for row in arm_rows(figures)}["oracle"]
    assert cells[2].startswith("75.0 [") and set(cells[3:-1]) == {"-"} and cells[-1] == "0"
    assert "oracle 75.0 %" in regime_lines(figures)[1]
    json.dumps(figures, allow_nan=False)
    assert all(path.exists() for path in plot_all(figures, shards, 2, tmp_path))


def test_the_rival_stands_beside_the_default_and_is_judged_inside_its_range() -> None:
    """After the first visit to the bias the default has 9 of 10 there, the rival 5; inside its range 8 and 6."""
    shards = _shards()
    still = shards["frozen"][0]["stages"]
    rows = [[10, 5, 10]] * 6
    curves = [stage["curve"] for stage in still]
    shards["randomised"] = [_shard("randomised", seed, rows, curves, ORDER) for seed in (0, 1)]
    assert figures_of(shards, REGIMES, PRESET)["inside_training"] is None  # nobody was judged there
    for arm, successes in (("randomised", 8), ("frozen", 6)):
        for shard in shards[arm]:
            shard["inside"] = [_cell(successes)]
    figures = figures_of(shards, REGIMES, PRESET)
    beside = figures["beside_randomised"]
    assert beside["success"] == [0.9, 0.5] and 0.0 < beside["difference"][0] < 0.4 < beside["difference"][1]
    inside = {"regimes": ["bias bias 0.1"], "episodes": 20, "successes": {"randomised": [16], "frozen": [12]}}
    assert figures["inside_training"] == inside
    (line,) = inside_lines(inside)
    assert line.startswith("- inside its range (bias bias 0.1): randomised 80.0 % [") and "frozen 60.0 % [" in line
    assert inside_lines(None) == [] and figures_of(_shards(), REGIMES, PRESET)["beside_randomised"] is None


def test_the_figures_that_are_judged() -> None:
    figures = figures_of(_shards(), REGIMES, PRESET)
    assert figures["recovered_fraction"] == pytest.approx(5 / 6) and figures["seeds"] == 2
    assert figures["nominal_forgetting_default"] == pytest.approx(0.15)
    assert figures["nominal_forgetting_naive"] == pytest.approx(0.6)
    assert figures["counting"] == ["bias"] and figures["no_loss"] == ["ice"]
    assert figures["severities"][1]["losses"] == [[0.3, 0.0]] and figures["severities"][0]["source"] == "rad"
    assert figures["outside_training"] == ["bias"] and figures["steps_of_a_first_visit"] == 9600
    json.dumps(figures, allow_nan=False)


def test_intervals_come_with_the_figures() -> None:
    """All of ten episodes tell the same of recovery in 5 of 6; of two seeds and ten episodes they are wide."""
    found = summary("replay", _shards(), [1], PRESET)["intervals"]
    for name in ("recovered_fraction", "nominal_forgetting", "nominal_forgetting_at_end"):
        value = summary("replay", _shards(), [1], PRESET)[name]
        low, high = found[name]
        assert low < value < high and high - low > 0.1, name
    assert summary("frozen", _shards(), [1], PRESET)["intervals"]["nominal_forgetting"] == [0.0, 0.0]


def test_costs_leave_out_what_was_not_played() -> None:
    shards = _shards()
    for stage in shards["frozen"][0]["stages"][1:] + shards["frozen"][1]["stages"]:
        stage["cost"] |= {"judge_cpu_s": 0.1, "judged_anew": 0}
    assert costs(shards)["frozen"] == {"life": pytest.approx(0.5), "judge": pytest.approx(6.0 / 30)}
    # 26 episodes of half a second, and six judgements of six seconds
    assert cpu_hours({"naive": shards["naive"][:1]}) == pytest.approx((13.0 + 36.0) / 3600.0)
    assert costs(shards)["naive"]["judge"] == pytest.approx(6.0 / 30)


def test_a_visit_that_was_not_made_is_none() -> None:
    shard = _shards()["fresh"][0]
    assert curve_of(shard, 1) == [0, 0, 0, 0, 0, 1] and curve_of(shard, 1, 1) is None and curve_of(shard, 0) is None


def test_the_table_says_what_was_not_run_and_what_is_too_easy() -> None:
    shards = _shards()
    figures = figures_of(shards, REGIMES, PRESET)
    rows = arm_rows(figures)
    assert len(rows) == len(ARMS) and all(len(row) == len(HEADER) for row in rows)
    by_arm = {row[0]: row for row in rows}
    cells = by_arm["**replay** (default)"]
    assert [cell.split(" [")[0] for cell in cells[2:7]] == ["83.3", "100.0", "15.0", "20.0", "10.0"]
    assert all("[" in cells[i] for i in (2, 3, 4)) and "[" not in cells[5]
    assert by_arm["online_ewc"][2] == "not run" and by_arm["reward"][2] == "not run"
    assert by_arm["frozen"][10:12] == ["never (2 visits)", "0 of 2"]
    assert by_arm["naive"][10:12] == ["384 (2 of 2)", "2 of 2"]
    lines = regime_lines(figures)
    assert "frozen 40.0 %" in lines[1] and "replay 83.3 %" in lines[1] and len(lines) == 3
    assert "bias 0.2, limits 0.1 to 0.3 rad; not calibrated" in lines[1]
    assert "took 0 points in 300 episodes" in lines[2] and lines[2].endswith("no loss, counts nowhere")


def test_the_pictures_are_drawn(tmp_path: Path) -> None:
    import imageio.v2 as imageio

    shards = _shards()
    for path in plot_all(figures_of(shards, REGIMES, PRESET), shards, 2, tmp_path):
        picture = np.asarray(imageio.imread(path))[..., :3]
        assert min(picture.shape[:2]) > 200 and 0.005 < (picture < 250).any(-1).mean() < 0.98


def test_labels_of_near_points_do_not_cover_each_other() -> None:
    """Two points at one place but for a hair, one far away: the second label moves down a line, the third stays."""
    from matplotlib.figure import Figure

    axes = Figure(figsize=(6.0, 4.4), dpi=100).subplots()
    axes.set(xlim=(0.0, 30.0), ylim=(0.0, 100.0))
    assert free_heights(axes, [["l2"], ["reward"], ["ewc"]], [(20.0, 50.0), (20.1, 49.9), (5.0, 50.0)]) == [4, -5, 4]
