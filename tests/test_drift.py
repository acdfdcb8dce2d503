"""The control chart by hand, and whole stories: quiet, a fault, recovery, a fault that stays."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.training.drift import LOG_KEPT, DriftConfig, DriftDetector, residual

# With s at its floor of 1 and lambda 0.5 one sigma of the mean is sqrt(0.5 / 1.5) = 0.577.
CHART = DriftConfig(
    group=1,
    baseline=4,
    smoothing=0.5,
    start_sigmas=3.0,
    stop_sigmas=1.0,
    settled=2,
    patience=6,
    progress=0.1,
    least_spread=1.0,
)
QUIET = [1.0] * 4  # logarithm 0, spread below the floor
ONE_SIGMA = math.sqrt(0.5 / 1.5)


def _watch(detector: DriftDetector, logarithms: list[float]) -> list[str]:
    events = [detector.observe(math.exp(value)) for value in logarithms]
    return ["" if event is None else event.what for event in events]


def _ready(config: DriftConfig = CHART) -> DriftDetector:
    detector = DriftDetector(config)
    for value in QUIET:
        detector.observe(value)
    return detector


def test_the_chart_by_hand() -> None:
    detector = _ready()
    assert detector.ready and detector.log[0].what == "ready" and detector.sigmas == 0.0
    assert _watch(detector, [2.0]) == [""]  # mean 0 + 0.5 * (2 - 0) = 1
    assert detector.sigmas == pytest.approx(1.0 / ONE_SIGMA)  # 1.73
    assert _watch(detector, [2.0]) == [""]  # mean 1.5: 2.6 sigmas
    assert detector.speed == 0
    assert _watch(detector, [2.0]) == ["start"]  # mean 1.75: 3.03 sigmas
    assert detector.sigmas == pytest.approx(1.75 / ONE_SIGMA) and detector.speed == 1
    assert "3.0 sigmas, the start limit is 3" in detector.log[-1].why and "usually 1" in detector.log[-1].why


def test_it_goes_faster_the_farther_off_it_is_and_slower_again() -> None:
    detector = _ready()
    assert _watch(detector, [8.0]) == ["start"]  # mean 4: 6.9 sigmas
    assert _watch(detector, [8.0]) == ["faster"] and detector.speed == 3  # mean 6: 10.4 sigmas, three times the limit
    assert _watch(detector, [8.0, 8.0, 8.0]) == ["faster", "", ""] and detector.speed == 4  # the most there is
    assert _watch(detector, [0.0]) == ["slower"] and detector.speed == 2  # mean 3.9: 6.7 sigmas


def test_it_stops_when_the_residual_has_settled() -> None:
    detector = _ready()
    _watch(detector, [4.0])  # mean 2: 3.5 sigmas
    assert detector.speed == 1
    # means 1, 0.5, 0.25: below one sigma (0.577) from the second on
    assert _watch(detector, [0.0, 0.0, 0.0]) == ["", "", "stop"]
    assert detector.speed == 0 and "for 2 values below the stop limit of 1" in detector.log[-1].why
    assert _watch(detector, [2.0, 4.0]) == ["", "start"]  # means 1.125, 2.56: and again


def test_one_calm_chunk_is_not_calm() -> None:
    detector = _ready()
    _watch(detector, [4.0])
    assert _watch(detector, [0.0, 0.0, 4.0, 0.0, 0.0]) == [""] * 5  # means 1, .5, 2.25, 1.125, .5625
    assert _watch(detector, [0.0]) == ["stop"]


def test_a_level_that_stays_becomes_the_usual_one() -> None:
    detector = _ready()
    found = _watch(detector, [4.0] * 20)
    assert found[0] == "start" and found.count("stop") == 1
    stop = found.index("stop")
    assert "no progress" in next(event.why for event in detector.log if event.what == "stop")
    assert found[stop + 1 : stop + 5] == ["", "", "", "ready"]  # four new chunks say what is usual now
    assert detector.speed == 0 and abs(detector.sigmas) < 1e-9
    assert "start" not in found[stop:]


def test_a_change_is_dated_back_to_when_the_level_was_last_about_the_usual_one() -> None:
    detector = _ready()
    assert (
        _watch(detector, [1.0, -1.5, 2.0, 2.0]) == [""] * 4
    )  # means 0.5, -0.5, 0.75, 1.375: the sixth is the last below 0.58
    assert _watch(detector, [3.0]) == ["start"] and detector.change == 6
    detector.take_up("kept")
    assert detector.change is None and (detector.log[-1].what, detector.log[-1].why) == ("protect", "kept")
    assert _watch(detector, [8.0]) == ["faster"] and detector.change is None  # the same change goes on


def test_a_rise_above_the_lowest_that_learning_has_come_to_is_another_change() -> None:
    detector = _ready()
    _watch(detector, [8.0])  # mean 4
    detector.take_up("kept")
    # Six values (3 / lambda) for the mean to arrive, then down from 4 to 2: the lowest is after the ninth value.
    assert "change" not in _watch(detector, [4.0] * 6 + [3.0, 2.0, 1.0]) and detector.speed > 0
    lowest = detector.chunk
    assert _watch(detector, [3.2]) == [""]  # 1.875 and 2.54: more than one sigma (0.58), less than four (2.31) above it
    assert _watch(detector, [8.0]) == ["change"] and detector.change == lowest
    assert "up from" in detector.log[-1].why and detector.speed > 0


def test_the_log_keeps_the_newest_events() -> None:
    detector = _ready(replace(CHART, settled=1))
    for _ in range(LOG_KEPT):
        _watch(detector, [20.0, -20.0, -20.0])  # a start and a stop
    assert len(detector.log) == LOG_KEPT and detector.log[-1].what == "stop"
    assert detector.log[-1].chunk == 4 + 3 * LOG_KEPT - 1  # the second of the last three


def test_progress_keeps_it_learning() -> None:
    detector = _ready()
    falling = [8.0 - 0.2 * i for i in range(25)]
    assert "stop" not in _watch(detector, falling)  # each block of six is 1.2 below the one before
    assert _watch(detector, [3.2] * 17).count("stop") == 1  # the block of 3.2 after one that ended at 3.2


def test_better_than_usual_is_no_drift() -> None:
    detector = _ready()
    assert _watch(detector, [-8.0] * 50) == [""] * 50 and detector.sigmas < -10.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_residual_that_is_not_finite_is_left_out(bad: float) -> None:
    detector, other = _ready(), _ready()
    _watch(detector, [1.0])
    _watch(other, [1.0])
    assert detector.observe(bad) is None and detector.ignored == 1
    assert detector.sigmas == other.sigmas and detector.chunk == other.chunk


def test_a_value_is_the_mean_logarithm_of_a_group() -> None:
    detector = _ready(replace(CHART, group=1))
    grouped = DriftDetector(replace(CHART, group=3))
    _watch(grouped, [0.0] * 12)
    for value in (1.0, -2.0, 3.0):
        grouped.observe(float("nan"))
        _watch(detector, [value])
        _watch(grouped, [value - 1.0, value, value + 1.0])
        assert grouped.sigmas == pytest.approx(detector.sigmas)
    assert grouped.chunk == 21 and grouped.ignored == 3


def test_what_robots_do_side_by_side_is_one_chunk_with_the_mean_of_their_logarithms() -> None:
    alone, together = _ready(), DriftDetector(CHART)
    for value in QUIET:
        together.observe(value, value)
    _watch(alone, [2.0])
    assert together.observe(math.exp(1.0), math.nan, math.exp(3.0)) is None
    assert (together.chunk, together.ignored) == (5, 1) and together.sigmas == pytest.approx(alone.sigmas)
    assert together.observe(math.nan, math.inf) is None and (together.chunk, together.ignored) == (5, 3)


def _life(rng: np.random.Generator, level: float, movements: int) -> list[float]:
    """Logarithms of six chunks for each movement, alike within it, as those that were measured."""
    return list((rng.normal(level, 0.5, (movements, 1)) + rng.normal(0.0, 0.3, (movements, 6))).ravel())


def test_quiet_residuals_of_any_level_raise_no_alarm_and_a_fault_does() -> None:
    """20 lives of 300 movements with the default limits; then the residual is four times as large."""
    delays = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        detector = DriftDetector()
        level = rng.uniform(-8.0, 3.0)
        assert set(_watch(detector, _life(rng, level, 300))) == {"", "ready"}
        found = _watch(detector, _life(rng, level + math.log(4.0), 50))
        assert "start" in found
        delays.append(found.index("start") // 6)
    # log 4 is 2.7 spreads of 0.51; one sigma of the mean is sqrt(0.3 / 1.7) = 0.42 of a spread, so the mean goes to 6.4
    # sigmas, and passes 5 when 1 - 0.7^n > 5 / 6.4: after n = 4.3 movements.
    assert 2 <= np.median(delays) <= 7


def test_a_second_change_is_noticed_while_learning_and_a_level_that_stays_is_hardly_ever_taken_for_one() -> None:
    """60 lives: four times the residual for 100 movements without any progress, then four times that."""
    false, delays = 0, []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        detector = DriftDetector(replace(DriftConfig(), patience=1000))
        _watch(detector, _life(rng, 0.0, 40))
        false += _watch(detector, _life(rng, math.log(4.0), 100)).count("change")
        found = _watch(detector, _life(rng, math.log(16.0), 50))
        delays += [found.index("change") // 6] if "change" in found else []
    assert false <= 6 and len(delays) >= 57 and np.median(delays) <= 5


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=60), st.integers(0, 59))
def test_a_restored_detector_goes_on_alike(values: list[float], cut: int) -> None:
    one, other = DriftDetector(CHART), DriftDetector(CHART)
    for value in values[:cut]:
        one.observe(value)
    other.set_state(json.loads(json.dumps(one.get_state())))
    for value in values[cut:]:
        assert one.observe(value) == other.observe(value)
    assert one.get_state() == other.get_state()
    assert 0 <= one.speed <= CHART.max_speed


def test_residual_by_hand() -> None:
    after = torch.tensor([1.0, 2.0])
    assert residual(after, after) == 0.0
    assert residual(torch.tensor([2.0, 4.0]), after) == pytest.approx((1.0 + 4.0) / 2)
    assert math.isnan(residual(torch.tensor([float("nan"), 0.0]), after))


def test_settings_that_make_no_sense_are_refused() -> None:
    for bad in ({"smoothing": 0.0}, {"smoothing": 1.5}, {"stop_sigmas": 6.0}, {"stop_sigmas": 0.0}):
        with pytest.raises(ValueError, match="0 < stop_sigmas < start_sigmas"):
            DriftConfig(**bad)
    for bad in ({"group": 0}, {"baseline": 0}, {"settled": 0}, {"patience": 0}, {"least_spread": 0.0}):
        with pytest.raises(ValueError, match="counts of 1 or more"):
            DriftConfig(**bad)  # type: ignore[arg-type]
