"""Each strategy against arithmetic by hand on two weights; what it may remember, and what it must not grow by."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from neon_sim.training.learner_config import SelfLearnerConfig
from neon_sim.training.protection import (
    PROTECTIONS,
    EWCConfig,
    EWCReplayConfig,
    L2Config,
    NoneConfig,
    OnlineEWCConfig,
    Protection,
    ReplayConfig,
    Reservoir,
    finite_rows,
    make_protection,
    protection_config,
)

WITH_SPRINGS = ("l2", "ewc", "online_ewc", "ewc_replay")
ROW = 4 * (3 + 1)  # bytes of `_rows`' float32


def _theta(first: float = 0.0, second: float = 0.0) -> nn.Parameter:
    return nn.Parameter(torch.tensor([first, second]))


def _make(config: Any, theta: nn.Parameter, seed: int = 0) -> Protection:
    return make_protection(config, {"theta": theta}, np.random.default_rng(seed))


def _set(theta: nn.Parameter, first: float, second: float) -> None:
    with torch.no_grad():
        theta.copy_(torch.tensor([first, second]))


def _fisher(first: float, second: float) -> Callable[[], dict[str, Tensor]]:
    return lambda: {"theta": torch.tensor([first, second])}


def _no_fisher() -> dict[str, Tensor]:
    raise AssertionError("this strategy needs no Fisher, and measuring one costs time")


def _rows(count: int, start: int = 0) -> dict[str, Tensor]:
    number = torch.arange(start, start + count, dtype=torch.float32)
    return {"fused": number[:, None].expand(count, 3).clone(), "weight": number}


def _two_regimes(config: Any) -> tuple[Protection, nn.Parameter]:
    """Ends one regime at (0, 0) with F (1, 3) and one at (2, 2) with F (6, 2), and goes to (1, 4)."""
    theta = _theta()
    strategy = _make(config, theta)
    strategy.end_regime(_fisher(1.0, 3.0))  # normalised: (0.5, 1.5)
    _set(theta, 2.0, 2.0)
    strategy.end_regime(_fisher(6.0, 2.0))  # normalised: (1.5, 0.5); in the first one's units (3, 1)
    _set(theta, 1.0, 4.0)
    return strategy, theta


# gradient = strength * sum F (theta - theta*), strength 2, theta (1, 4)
BY_HAND = {
    "none": (NoneConfig(), (0.0, 0.0)),
    "l2": (L2Config(2.0), (2 * (1 - 2), 2 * (4 - 2))),  # only the newest anchor, F = 1
    "ewc": (EWCConfig(2.0), (2 * (0.5 * 1 + 3 * -1), 2 * (1.5 * 4 + 1 * 2))),
    "online_ewc": (OnlineEWCConfig(2.0, decay=0.5), (2 * (0.25 + 1.5) / 1.5 * -1, 2 * (0.75 + 0.5) / 1.5 * 2)),
    "replay": (ReplayConfig(), (0.0, 0.0)),
    "ewc_replay": (EWCReplayConfig(EWCConfig(2.0)), (2 * (0.5 * 1 + 3 * -1), 2 * (1.5 * 4 + 1 * 2))),
}


@pytest.mark.parametrize("name", PROTECTIONS)
def test_penalty_gradient_by_hand_is_added_in_place(name: str) -> None:
    config, expected = BY_HAND[name]
    strategy, theta = _two_regimes(config)
    theta.grad = given = torch.tensor([10.0, 20.0])
    strategy.penalty_gradient_()
    assert theta.grad is given
    assert given.tolist() == pytest.approx([10.0 + expected[0], 20.0 + expected[1]])


@pytest.mark.parametrize("name", PROTECTIONS)
def test_pull_by_hand(name: str) -> None:
    """theta* + (theta - theta*) / (1 + step * strength * F), about the minimum of the summed parabolas."""
    strategy, theta = _two_regimes(BY_HAND[name][0])
    strategy.pull_(0.5)  # step * strength = 1
    expected = {
        "none": (1.0, 4.0),
        "replay": (1.0, 4.0),
        "l2": (2 - 1 / 2, 2 + 2 / 2),
        "online_ewc": (2 - 1 / (1 + 1.75 / 1.5), 2 + 2 / (1 + 1.25 / 1.5)),
        "ewc": (12 / 7 - 5 / 7 / 4.5, 0.8 + 3.2 / 3.5),  # F sums to (3.5, 2.5); the minimum: (3 * 2 / 3.5, 1 * 2 / 2.5)
    }
    expected["ewc_replay"] = expected["ewc"]
    assert theta.tolist() == pytest.approx(expected[name])


@pytest.mark.parametrize("name", WITH_SPRINGS)
def test_nothing_is_held_before_a_regime_has_ended(name: str) -> None:
    theta = _theta(1.0, 2.0)
    strategy = _make(protection_config(name), theta)
    _set(theta, 3.0, 3.0)
    strategy.penalty_gradient_()
    strategy.pull_(1.0)
    assert strategy.springs is None and theta.grad is None and theta.tolist() == [3.0, 3.0]
    strategy.end_regime(_fisher(1.0, 1.0))
    assert strategy.springs is not None and strategy.springs.anchor_count == 1


@pytest.mark.parametrize("name", ["none", "l2", "replay"])
def test_a_fisher_that_is_not_needed_is_not_measured(name: str) -> None:
    _make(protection_config(name), _theta()).end_regime(_no_fisher)


def test_the_scale_of_a_fisher_does_not_matter() -> None:
    for scale in (1e-8, 1.0, 1e8):
        theta = _theta()
        strategy = _make(EWCConfig(3.0), theta)
        strategy.end_regime(_fisher(1.0 * scale, 3.0 * scale))
        _set(theta, 1.0, 1.0)
        strategy.penalty_gradient_()
        assert theta.grad is not None and theta.grad.tolist() == pytest.approx([1.5, 4.5])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0])
def test_a_fisher_that_says_nothing_is_refused_and_the_anchors_stay(bad: float) -> None:
    theta = _theta()
    strategy = _make(EWCConfig(1.0), theta)
    strategy.end_regime(_fisher(1.0, 3.0))
    _set(theta, 1.0, 1.0)
    with pytest.raises(ValueError, match="positive, finite mean"):
        strategy.end_regime(_fisher(bad, 0.0))
    strategy.penalty_gradient_()
    assert theta.grad is not None and theta.grad.tolist() == pytest.approx([0.5, 1.5])
    assert strategy.springs is not None and strategy.springs.anchor_count == 1


@pytest.mark.parametrize("name", ["l2", "ewc", "online_ewc"])
def test_memory_does_not_grow_with_the_number_of_regimes(name: str) -> None:
    """The whole object is measured, not what it says of itself: twenty regimes weigh what two do."""
    net = nn.Linear(30, 20)
    strategy = make_protection(protection_config(name), dict(net.named_parameters()), np.random.default_rng(0))
    sizes, told = [], []
    for regime in range(20):
        with torch.no_grad():
            net.weight.add_(0.1)
        strategy.end_regime(lambda: {name: torch.rand_like(param) for name, param in net.named_parameters()})
        sizes.append(len(pickle.dumps(strategy)))
        told.append(strategy.memory_bytes())
        assert strategy.springs is not None
        assert strategy.springs.anchor_count == (regime + 1 if name == "ewc" else 1)
    assert max(sizes[1:]) - min(sizes[1:]) < 16  # a count or an offset may take a byte more
    assert set(told) == {2 * 4 * (30 * 20 + 20)}  # an anchor and a Fisher, float32


@given(
    budget=st.integers(ROW, 40 * ROW),
    batches=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    seed=st.integers(0, 2**32 - 1),
)
def test_replay_keeps_within_its_bytes_and_gives_only_what_it_saw(budget: int, batches: list[int], seed: int) -> None:
    strategy: Any = _make(ReplayConfig(budget_bytes=budget), _theta(), seed)
    total = 0
    for count in batches:
        strategy.remember(_rows(count, total))
        total += count
    reservoir = strategy.reservoir
    assert strategy.memory_bytes() <= budget
    assert sum(value.untyped_storage().nbytes() for value in reservoir._rows.values()) <= budget
    assert len(reservoir) == min(total, budget // ROW) and reservoir.seen == total
    kept = reservoir.get_state()["rows"]["weight"].tolist()
    assert len(set(kept)) == len(kept) and set(kept) <= set(range(total))
    drawn = strategy.sample(7)
    assert drawn["fused"].shape == (7, 3)
    assert torch.equal(drawn["fused"][:, 0], drawn["weight"]) and set(drawn["weight"].tolist()) <= set(kept)


@given(budget=st.integers(ROW, 40 * ROW), rows=st.integers(1, 40), offered=st.integers(1, 60))
def test_rows_and_bytes_are_both_a_limit(budget: int, rows: int, offered: int) -> None:
    strategy: Any = _make(ReplayConfig(budget_bytes=budget, rows=rows), _theta())
    strategy.remember(_rows(offered))
    assert strategy.reservoir.capacity == min(rows, budget // ROW)
    assert len(strategy.reservoir) == min(offered, rows, budget // ROW) and strategy.memory_bytes() <= budget


def test_the_default_has_room_for_batches_of_heads_that_look_at_tokens() -> None:
    """64 x 3584 of them, of a large foundation model: 0.9 MB a chunk. Of other heads it keeps 818."""
    for tokens, capacity in ((torch.zeros(1, 64, 3584), 2**28 // (4 * (64 * 3584 + 1))), (torch.zeros(1, 3), 818)):
        strategy: Any = _make(SelfLearnerConfig().protection, _theta())
        strategy.remember({"tokens": tokens, "weight": torch.zeros(1)})
        assert strategy.reservoir.capacity == capacity > 4 * SelfLearnerConfig().batch_size


def test_every_row_has_the_same_chance_to_be_kept() -> None:
    """10 of 40 rows, 2000 times: each is kept 500 times, give or take sqrt(2000 * 1/4 * 3/4) = 19.4."""
    rng = np.random.default_rng(0)
    kept = np.zeros(40)
    for _ in range(2000):
        reservoir = Reservoir(10 * 4, rng)
        reservoir.add({"x": torch.arange(40, dtype=torch.float32)})
        kept[reservoir.get_state()["rows"]["x"].long().numpy()] += 1
    assert kept.sum() == 20_000 and np.abs(kept - 500).max() < 4.5 * 19.4


def test_rows_that_are_not_finite_are_passed_over() -> None:
    batch = _rows(4)
    batch["fused"][1, 2], batch["weight"][3] = float("nan"), float("inf")
    assert finite_rows(batch).tolist() == [True, False, True, False]
    reservoir = Reservoir(100 * ROW, np.random.default_rng(0))
    reservoir.add(batch)
    assert reservoir.seen == 2 and reservoir.get_state()["rows"]["weight"].tolist() == [0.0, 2.0]


def test_rehearsal_gives_its_share_or_nothing() -> None:
    strategy = _make(ReplayConfig(share=0.25), _theta())
    assert strategy.sample(64) is None
    strategy.remember(_rows(5))
    drawn = strategy.sample(64)
    assert drawn is not None and len(drawn["weight"]) == 16
    fewer = strategy.sample(64, 3)
    assert fewer is not None and len(fewer["weight"]) == 3 and strategy.sample(64, 0) is None
    assert _make(NoneConfig(), _theta()).sample(64) is None


@given(rows=st.integers(2, 512), share=st.floats(0.01, 100.0))
def test_new_rows_and_rehearsed_ones_make_a_batch(rows: int, share: float) -> None:
    for config in (ReplayConfig(share=share), EWCReplayConfig(replay=ReplayConfig(share=share))):
        new = _make(config, _theta()).new_rows(rows)
        assert new >= 1 and abs(new * (1.0 + share) - rows) <= max(0.5 * (1.0 + share), 1.0 + share - rows)
    assert _make(ReplayConfig(), _theta()).new_rows(64) == 32 and _make(NoneConfig(), _theta()).new_rows(64) == 64


def test_what_is_remembered_is_a_copy() -> None:
    reservoir = Reservoir(100 * ROW, np.random.default_rng(0))
    batch = _rows(1, start=7)
    reservoir.add(batch)
    batch["weight"].zero_()
    drawn = reservoir.sample(1)
    assert drawn is not None and drawn["weight"].item() == 7.0


@pytest.mark.parametrize("name", PROTECTIONS)
@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_a_restored_strategy_goes_on_to_the_bit(name: str, seed: int) -> None:
    config = protection_config(name)
    if isinstance(config, ReplayConfig):
        config = replace(config, budget_bytes=6 * ROW)
    elif isinstance(config, EWCReplayConfig):
        config = replace(config, replay=ReplayConfig(budget_bytes=6 * ROW))
    theta, other = _theta(), _theta()
    one, two = _make(config, theta, seed), _make(config, other, seed + 1)
    one.remember(_rows(9))
    one.sample(4)
    one.end_regime(_fisher(1.0, 3.0))
    two.set_state(one.get_state())
    for strategy, weights in ((one, theta), (two, other)):
        strategy.remember(_rows(5, start=100))
        _set(weights, 1.0, 2.0)
        strategy.end_regime(_fisher(2.0, 1.0))
        _set(weights, 3.0, -1.0)
        strategy.penalty_gradient_()
        strategy.pull_(1e-7)
    assert torch.equal(theta, other)
    assert (theta.grad is None) == (other.grad is None)
    assert theta.grad is None or other.grad is None or torch.equal(theta.grad, other.grad)
    first, second = one.sample(8), two.sample(8)
    assert (first is None) == (second is None)
    assert first is None or second is None or torch.equal(first["fused"], second["fused"])


def test_a_state_of_another_strategy_or_head_is_refused() -> None:
    theta = _theta()
    saved = _make(EWCConfig(), theta).get_state()
    with pytest.raises(ValueError, match="strategy 'ewc', this learner's is 'replay'"):
        _make(ReplayConfig(), theta).set_state(saved)
    with pytest.raises(ValueError, match="other parameters"):
        make_protection(EWCConfig(), {"weight": theta}, np.random.default_rng(0)).set_state(saved)
    full: Any = _make(ReplayConfig(budget_bytes=4 * ROW), theta)
    full.remember(_rows(9))
    with pytest.raises(ValueError, match="holds 4 of 9 rows.*would hold 8.*with the budget"):
        _make(ReplayConfig(budget_bytes=8 * ROW), theta).set_state(full.get_state())
    with pytest.raises(ValueError, match="Another head needs its own"):
        full.remember({"fused": torch.zeros(2, 5), "weight": torch.zeros(2)})
    assert len(full.reservoir) == 4 and full.reservoir.seen == 9


def test_requests_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="Unknown protection 'ewq'. Did you mean 'ewc'"):
        protection_config("ewq")
    with pytest.raises(ValueError, match="Unknown protection 'ewc'"):
        make_protection("ewc", {"theta": _theta()}, np.random.default_rng(0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="decay"):
        OnlineEWCConfig(decay=1.5)
    for bad in ({"budget_bytes": 0}, {"rows": 0}, {"share": 0.0}):
        with pytest.raises(ValueError, match="budget of bytes, a row or more, and a share"):
            ReplayConfig(**bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="One row takes 16 bytes, the budget is 15"):
        _make(ReplayConfig(budget_bytes=15), _theta()).remember(_rows(1))
