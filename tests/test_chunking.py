"""Real-time chunking by hand numbers and by what must always hold; a plan that runs for seconds under latency."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.inference.chunking import (
    BLEND_SCHEDULES,
    ChunkingConfig,
    RealTimeChunker,
    blend_weights,
    delay_steps,
    merge_chunk,
)


def _chunk(*values: float) -> np.ndarray:
    """One robot, one action entry: (1, T, 1)."""
    return np.array(values, dtype=np.float64)[None, :, None]


def _values(array: np.ndarray) -> list[float]:
    return array[0, :, 0].tolist()


@pytest.mark.parametrize(
    ("latency_s", "control_hz", "steps"),
    [(0.05, 50.0, 3), (0.0, 50.0, 0), (0.02, 50.0, 1), (0.021, 50.0, 2), (0.14, 50.0, 7), (0.3, 10.0, 3)],
)
def test_delay_is_the_latency_in_whole_steps(latency_s: float, control_hz: float, steps: int) -> None:
    assert delay_steps(latency_s, control_hz) == steps


@pytest.mark.parametrize(("latency_s", "control_hz"), [(-0.1, 50.0), (math.nan, 50.0), (math.inf, 50.0), (0.1, 0.0)])
def test_a_delay_that_cannot_be_is_refused(latency_s: float, control_hz: float) -> None:
    with pytest.raises(ValueError, match="latency_s >= 0 and control_hz > 0"):
        delay_steps(latency_s, control_hz)


def test_weights_by_hand() -> None:
    assert blend_weights("linear", 3).tolist() == [0.25, 0.5, 0.75]
    assert blend_weights("ema", 3).tolist() == [0.7, 0.7, 0.7]
    assert blend_weights("ema", 2, ema_alpha=0.25).tolist() == [0.25, 0.25]
    assert blend_weights("latest", 3).tolist() == [1.0, 1.0, 1.0]
    # The old chunk has c (e^c - 1) / (e - 1) at c = 1/2: 0.5 * 0.648721 / 1.718282 = 0.188770.
    assert blend_weights("exp", 1).tolist() == pytest.approx([1.0 - 0.188770], abs=1e-6)
    for schedule in BLEND_SCHEDULES:
        assert blend_weights(schedule, 0).shape == (0,)


@given(st.sampled_from(BLEND_SCHEDULES), st.integers(0, 40))
def test_weights_are_shares_that_never_fall(schedule: str, overlap: int) -> None:
    weight = blend_weights(schedule, overlap)
    assert weight.shape == (overlap,) and np.all((weight >= 0.0) & (weight <= 1.0))
    assert np.all(np.diff(weight) >= 0.0)
    assert np.all(blend_weights("exp", overlap) >= blend_weights("linear", overlap))  # it hands over sooner


def test_a_new_chunk_takes_over_by_hand() -> None:
    # Three steps of the old chunk are left, all 0; the new one is 4 from end to end and one step late.
    plan, new = _chunk(0, 0, 0), _chunk(9, 4, 4, 4, 4)
    merged = {name: _values(merge_chunk(plan, new, 1, ChunkingConfig(name))) for name in BLEND_SCHEDULES}
    assert merged["linear"] == [1.0, 2.0, 3.0, 4.0]
    assert merged["ema"] == pytest.approx([2.8, 2.8, 2.8, 4.0])
    assert merged["latest"] == [4.0, 4.0, 4.0, 4.0]
    # c = 3/4, 2/4, 1/4 -> the old share c (e^c - 1) / (e - 1) = 0.487551, 0.188770, 0.041324
    assert merged["exp"] == pytest.approx([4 - 4 * 0.487551, 4 - 4 * 0.188770, 4 - 4 * 0.041324, 4.0], abs=1e-5)


def test_stale_steps_are_skipped_and_a_longer_plan_is_cut_off() -> None:
    assert _values(merge_chunk(None, _chunk(1, 2, 3, 4, 5), 3, ChunkingConfig())) == [4.0, 5.0]
    assert _values(merge_chunk(_chunk(), _chunk(1, 2, 3), 1, ChunkingConfig())) == [2.0, 3.0]
    assert _values(merge_chunk(_chunk(0, 0, 0, 0), _chunk(1, 2, 3), 1, ChunkingConfig("latest"))) == [2.0, 3.0]


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(BLEND_SCHEDULES),
    st.integers(0, 15),
    st.integers(0, 20),
    st.integers(1, 4),
)
def test_a_blend_lies_between_its_parts(seed: int, schedule: str, stale: int, left: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    plan, new = rng.uniform(-1, 1, (rows, left, 3)), rng.uniform(-1, 1, (rows, 16, 3))
    before = plan.copy(), new.copy()
    merged = merge_chunk(plan, new, stale, ChunkingConfig(schedule))
    shared, fresh = min(left, 16 - stale), new[:, stale:]
    assert merged.shape == fresh.shape
    low, high = (side(plan[:, :shared], fresh[:, :shared]) for side in (np.minimum, np.maximum))
    assert np.all(merged[:, :shared] >= low - 1e-12) and np.all(merged[:, :shared] <= high + 1e-12)
    np.testing.assert_array_equal(merged[:, shared:], fresh[:, shared:])
    if schedule == "latest":
        np.testing.assert_array_equal(merged, fresh)
    for row in range(rows):  # each robot as if it were alone
        alone = merge_chunk(plan[row : row + 1], new[row : row + 1], stale, ChunkingConfig(schedule))
        np.testing.assert_array_equal(alone[0], merged[row])
    assert np.array_equal(plan, before[0]) and np.array_equal(new, before[1])  # the caller's arrays are his own


@pytest.mark.parametrize(("schedule", "largest"), [("linear", 0.26), ("exp", 0.52), ("latest", 1.0), ("ema", 0.7)])
def test_linear_and_exp_change_over_without_a_jump(schedule: str, largest: float) -> None:
    # Old and new are level, one apart: the largest step of the plan is then the largest change of the weights.
    plan = np.concatenate(
        [np.zeros((1, 1, 1)), merge_chunk(np.zeros((1, 3, 1)), np.ones((1, 8, 1)), 2, ChunkingConfig(schedule))], 1
    )
    assert np.abs(np.diff(plan, axis=1)).max() == pytest.approx(largest, abs=0.012)


def test_what_does_not_fit_is_refused() -> None:
    config = ChunkingConfig()
    with pytest.raises(ValueError, match="0 <= stale < T, got .1, 3, 1. and stale 3"):
        merge_chunk(None, _chunk(1, 2, 3), 3, config)
    with pytest.raises(ValueError, match="differ in robots or in action width"):
        merge_chunk(np.zeros((2, 3, 1)), _chunk(1, 2, 3), 0, config)
    with pytest.raises(ValueError, match="Unknown blend schedule 'linaer'. Did you mean 'linear'"):
        ChunkingConfig("linaer")
    with pytest.raises(ValueError, match="execution_horizon wants at least 1"):
        ChunkingConfig(execution_horizon=0)
    with pytest.raises(ValueError, match="ema_alpha wants a weight"):
        ChunkingConfig(ema_alpha=0.0)


def _ramp(step: int, length: int = 16) -> np.ndarray:
    """A chunk whose action at each step is that step's own number: what a perfect policy of time would say."""
    return np.arange(step, step + length, dtype=np.float64)[None, :, None]


@pytest.mark.parametrize("schedule", BLEND_SCHEDULES)
@pytest.mark.parametrize("delay", [0, 1, 3, 6])
def test_latency_does_not_shift_the_actions(schedule: str, delay: int) -> None:
    """Chunks that agree about the future come out as that future, however late they are."""
    chunker = RealTimeChunker(ChunkingConfig(schedule, execution_horizon=10))
    chunker.request()
    assert chunker.add(_ramp(0)) == 0
    sent, open_since, requests = [], None, 0
    for step in range(100):
        if chunker.due:
            chunker.request()
            open_since, requests = step, requests + 1
        if open_since is not None and step - open_since == delay:
            assert chunker.add(_ramp(open_since)) == delay
            open_since = None
        sent.append(float(chunker.next_action()[0, 0]))
    np.testing.assert_allclose(sent, np.arange(100), atol=1e-9)
    assert chunker.starved_steps == chunker.dropped_chunks == 0
    assert requests == 9  # at steps 10, 20, ..., 90: every execution_horizon


def test_ema_is_eq_20_over_consecutive_chunks() -> None:
    # a_t = 0.7 new + 0.3 previous, where the previous is already smoothed: 0, then 0.7 * 1, then 0.7 * 2 + 0.3 * 0.7.
    chunker = RealTimeChunker(ChunkingConfig("ema", execution_horizon=1))
    seen = []
    for value in (0.0, 1.0, 2.0):
        chunker.request()
        chunker.add(np.full((1, 16, 1), value))
        seen.append(float(chunker.next_action()[0, 0]))
    assert seen == pytest.approx([0.0, 0.7, 1.61])


def test_a_plan_that_runs_out_holds_the_last_action_and_says_so() -> None:
    chunker = RealTimeChunker()
    chunker.request()
    chunker.add(_chunk(1.0, 2.0))
    assert [float(chunker.next_action()[0, 0]) for _ in range(4)] == [1.0, 2.0, 2.0, 2.0]
    assert chunker.starved_steps == 2 and chunker.due


def test_a_chunk_that_is_all_past_is_dropped_and_asked_for_again() -> None:
    chunker = RealTimeChunker()
    chunker.request()
    chunker.add(_ramp(0))
    chunker.request()
    for _ in range(16):
        chunker.next_action()
    assert not chunker.due  # one is on its way
    assert chunker.add(_ramp(0)) == 16
    assert chunker.dropped_chunks == 1 and chunker.due and chunker.remaining == 0
    assert float(chunker.next_action()[0, 0]) == 15.0


def test_the_order_of_calls_is_kept() -> None:
    chunker = RealTimeChunker()
    assert chunker.due
    with pytest.raises(ValueError, match="no chunk yet"):
        chunker.next_action()
    with pytest.raises(RuntimeError, match="answers no request"):
        chunker.add(_ramp(0))
    chunker.request()
    assert not chunker.due
    with pytest.raises(RuntimeError, match="on its way already"):
        chunker.request()
    with pytest.raises(ValueError, match="wants a chunk .B, T, A."):
        chunker.add(np.zeros((16, 1)))
    chunker.reset()
    assert chunker.due


def test_state_is_a_copy_and_comes_back() -> None:
    rng = np.random.default_rng(0)
    chunker, other = RealTimeChunker(), RealTimeChunker()
    other.set_state(chunker.get_state())
    chunks = rng.uniform(-1, 1, (2, 2, 16, 3))
    chunker.request()
    chunker.add(chunks[0])
    for _ in range(11):
        chunker.next_action()
    chunker.request()
    chunker.next_action()
    state = chunker.get_state()
    other.set_state(state)
    state["plan"][:] = 7.0
    for one in (chunker, other):
        assert one.add(chunks[1]) == 1
    for _ in range(20):
        np.testing.assert_array_equal(chunker.next_action(), other.next_action())
    assert chunker.starved_steps == other.starved_steps > 0


def test_an_action_handed_out_is_the_callers_own() -> None:
    chunker = RealTimeChunker()
    chunker.request()
    chunker.add(_chunk(1.0))
    chunker.next_action()[:] = 9.0
    assert float(chunker.next_action()[0, 0]) == 1.0
