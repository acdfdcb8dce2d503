"""Pictures that end a long run are written and are not blank; the report's table says what happened."""

from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest

from neon_sim.eval.plots import bar_plot, line_plot
from neon_sim.eval.self_learning import Cell, format_table, plot_results
from neon_sim.eval.statistics import wilson_interval
from neon_sim.sim.faults import ActuatorFault
from neon_sim.training.online import LifeConfig, LifeEpisode

ARMS = ("frozen", "naive", "ewc", "lr0", "ceiling")
LIFE = LifeConfig(healthy_episodes=2, faulty_episodes=3, fault=ActuatorFault("right_shoulder_pitch_joint", 0.7, 0.25))


def _ink(path: Path) -> float:
    """Share of the pixels that are not white."""
    picture = np.asarray(imageio.imread(path))[..., :3]
    assert min(picture.shape[:2]) > 200
    return float((picture < 250).any(-1).mean())


def test_lines_are_drawn_and_more_curves_give_more_ink(tmp_path: Path) -> None:
    x = [float(i) for i in range(10)]
    curves = {f"curve {i}": [i + 0.1 * value + 0.1 for value in x] for i in range(8)}
    line_plot(tmp_path / "deep" / "one.png", x, {"curve 0": curves["curve 0"]}, "epoch", "loss", log_y=True)
    line_plot(tmp_path / "many.png", x, curves, "epoch", "loss")
    assert 0.005 < _ink(tmp_path / "deep" / "one.png") < _ink(tmp_path / "many.png") < 0.5


def test_no_curve_is_dropped_when_colors_run_out(tmp_path: Path) -> None:
    """With as many labels as curves the eighth must leave its mark: alone at the top, in the first colour again."""
    x = [0.0, 1.0]
    curves = {str(i): [float(i), float(i)] for i in range(8)}
    line_plot(tmp_path / "eight.png", x, curves, "x", "y")
    picture = np.asarray(imageio.imread(tmp_path / "eight.png"))[..., :3].astype(int)
    first = (np.abs(picture - [0x1F, 0x5F, 0x8B]).max(-1) < 8).sum(1)  # pixels of the first colour in each row
    assert (first > 300).sum() >= 2 and np.ptp(np.nonzero(first > 300)[0]) > 200  # two long lines, far apart


def test_bars_are_drawn(tmp_path: Path) -> None:
    bars = {"a": [(50.0, 40.0, 60.0), (10.0, 0.0, 20.0)], "b": [(80.0, 70.0, 90.0), (70.0, 60.0, 80.0)]}
    bar_plot(tmp_path / "bars.png", ["healthy", "faulty"], bars, "success, %", "reach")
    assert 0.05 < _ink(tmp_path / "bars.png") < 0.8


def test_certain_successes_can_be_drawn(tmp_path: Path) -> None:
    """104 of 104: Wilson's upper end is one rounding below 1, which matplotlib would refuse as a negative error."""
    bars = {}
    for trials in (104, 100, 7):
        edges = [(rate, *wilson_interval(round(rate * trials), trials)) for rate in (0.0, 1.0)]
        bars[str(trials)] = [(100 * rate, 100 * low, 100 * high) for rate, low, high in edges]
    bar_plot(tmp_path / "bars.png", ["never", "always"], bars, "success, %", "reach")
    assert _ink(tmp_path / "bars.png") > 0.05


def _cells() -> dict[tuple[str, str], Cell]:
    counts = {"frozen": (80, 40), "naive": (60, 70), "ewc": (78, 62), "lr0": (80, 40), "ceiling": (82, 75)}
    return {
        (arm, robot): Cell(count, 100, 0.031, [count])
        for arm, pair in counts.items()
        for robot, count in zip(("healthy", "faulty"), pair, strict=True)
    }


def test_the_table_by_hand() -> None:
    text = format_table(_cells(), ARMS, LIFE)
    assert "right_shoulder_pitch_joint, 70 % strength, biased by 0.25 rad" in text
    assert "2 healthy episodes, then 3 faulty ones" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0] for row in rows] == [f"| {arm}" for arm in ARMS]
    assert "| 62.0 % [52.2, 70.9] (62/100) | 3.1 cm |" in rows[2]
    assert len({row.count("|") for row in rows}) == 1
    assert "- Lost to the fault: 40 points." in text
    assert "- naive: +30 points on the faulty robot (75 % of what was lost), -20 on the healthy one." in text
    assert "- ewc: +22 points on the faulty robot (55 % of what was lost), -2 on the healthy one." in text
    assert "- lr0: +0 points on the faulty robot (0 % of what was lost), +0 on the healthy one." in text


def test_a_fault_that_cost_nothing_divides_by_nothing() -> None:
    cells = {key: Cell(10, 20, 0.03, [10]) for key in _cells()}
    text = format_table(cells, ARMS, LIFE)
    assert "- Lost to the fault: 0 points." in text and "of what was lost" not in text


def test_results_are_plotted_with_their_curves(tmp_path: Path) -> None:
    curve = [LifeEpisode(i, i >= 2, False, 0.1 - 0.01 * i, 0) for i in range(5)]
    curves = {(arm, seed): curve if arm != "ceiling" else [] for arm in ARMS[1:] for seed in (0, 1)}
    plot_results(_cells(), curves, ARMS, LIFE, tmp_path / "self_learn.png")
    assert _ink(tmp_path / "self_learn.png") > 0.05 and _ink(tmp_path / "self_learn_curve.png") > 0.01


def test_rate_of_a_cell() -> None:
    assert Cell(3, 12, 0.02, [1, 2]).rate == pytest.approx(0.25)
