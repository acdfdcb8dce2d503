"""Accepted prefixes by hand; exactness and bounds with real heads; what the heavy head is spared."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from neon_sim.model.action_heads import ActionChunkingHead, FlowMatchingHead
from neon_sim.model.speculative import (
    AcceptanceStatistics,
    Speculation,
    SpeculativeConfig,
    accepted_prefix,
    one_step_opinion,
    speculate,
    splice,
)

STEPS, ACTIONS, FEATURES = 16, 5, 12


def _light() -> ActionChunkingHead:
    return ActionChunkingHead(FEATURES, ACTIONS, STEPS, hidden_dim=16, num_layers=2).eval()


def _heavy() -> ActionChunkingHead:
    return ActionChunkingHead(FEATURES, ACTIONS, STEPS, hidden_dim=64, num_layers=4).eval()


class _Counted(nn.Module):
    """A real head that remembers how many rows it was asked for."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head, self.rows = head, 0

    def forward(self, features: Tensor) -> Tensor:
        self.rows += len(features)
        return self.head(features)


def test_the_prefix_ends_at_the_first_step_that_disagrees() -> None:
    verified = torch.zeros(4, 4, 2)
    draft = torch.zeros(4, 4, 2)
    draft[0, 2, 1] = 0.2  # step 2 is off in one entry; step 3 agrees again and does not count
    draft[1, 0, 0] = -0.11
    draft[2, :, :] = 0.1  # just within
    assert accepted_prefix(draft, verified, 0.1).tolist() == [2, 0, 4, 4]
    assert accepted_prefix(draft, verified, 0.0).tolist() == [2, 0, 0, 4]
    draft[3, 1, 1] = torch.nan
    assert accepted_prefix(draft, verified, 9.0).tolist() == [4, 4, 4, 1]  # what is not a number agrees with nothing


def test_a_splice_by_hand() -> None:
    draft, rest = torch.full((3, 4, 1), 1.0), torch.full((3, 4, 1), 2.0)
    spliced = splice(draft, rest, torch.tensor([0, 3, 4]))
    assert spliced[..., 0].tolist() == [[2, 2, 2, 2], [1, 1, 1, 2], [1, 1, 1, 1]]


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.0, 1.5))
def test_without_a_cheap_check_the_result_is_within_tolerance_of_the_heavy_head(seed: int, tolerance: float) -> None:
    torch.manual_seed(seed)
    light, heavy, features = _light(), _heavy(), torch.randn(5, FEATURES)
    with torch.no_grad():
        answer, wanted = speculate(features, light, heavy, SpeculativeConfig(tolerance)), heavy(features)
    assert (answer.chunk - wanted).abs().max() <= tolerance
    assert bool(answer.heavy.all())
    for row, accepted in enumerate(answer.accepted.tolist()):
        assert torch.equal(answer.chunk[row, accepted:], wanted[row, accepted:])


@pytest.mark.parametrize("with_check", [False, True])
def test_tolerance_zero_gives_the_heavy_heads_chunk_to_the_bit(with_check: bool) -> None:
    torch.manual_seed(0)
    light, heavy = _light(), FlowMatchingHead(FEATURES, ACTIONS, STEPS, hidden_dim=32).eval()
    features = torch.randn(6, FEATURES)

    def sample(rows: Tensor) -> Tensor:
        return heavy.sample(rows, generator=torch.Generator().manual_seed(3))

    def agree(rows: Tensor, draft: Tensor) -> Tensor:
        return draft  # a check that would wave everything through

    check = agree if with_check else None
    with torch.no_grad():
        answer = speculate(features, light, sample, SpeculativeConfig(tolerance=0.0), check)
        assert torch.equal(answer.chunk, sample(features))
    assert answer.accepted.tolist() == [0] * 6


def test_a_draft_equal_to_the_heavy_head_is_accepted_whole_at_tolerance_zero() -> None:
    torch.manual_seed(0)
    heavy, features = _heavy(), torch.randn(3, FEATURES)
    with torch.no_grad():
        answer = speculate(features, heavy, heavy, SpeculativeConfig(tolerance=0.0))
    assert answer.accepted.tolist() == [STEPS] * 3


def test_rows_that_pass_the_check_spare_the_heavy_head() -> None:
    torch.manual_seed(0)
    light, heavy, features = _light(), _Counted(_heavy()), torch.randn(4, FEATURES)

    def check(rows: Tensor, draft: Tensor) -> Tensor:
        opinion = draft.clone()
        opinion[1, 3:] += 1.0  # three steps agree: too few
        opinion[2, 12:] += 1.0  # twelve: enough for ten that will be executed
        return opinion

    with torch.no_grad():
        answer = speculate(features, light, heavy, SpeculativeConfig(0.05, min_accepted=10), check)
        draft, own = light(features), heavy.head(features[1:2])
    assert answer.heavy.tolist() == [False, True, False, False] and heavy.rows == 1
    assert answer.accepted.tolist()[2:] == [12, 16]
    assert torch.equal(answer.chunk[0], draft[0]) and torch.equal(answer.chunk[3], draft[3])
    torch.testing.assert_close(answer.chunk[2, 12:], draft[2, 12:] + 1.0)  # after the prefix, the opinion's steps
    assert torch.equal(answer.chunk[1:2], splice(draft[1:2], own, answer.accepted[1:2]))
    assert (answer.chunk[1:2] - own).abs().max() <= 0.05


def test_the_opinion_of_a_flow_head_is_one_step_of_its_own() -> None:
    torch.manual_seed(0)
    head = FlowMatchingHead(FEATURES, ACTIONS, STEPS, hidden_dim=32).eval()
    features, noise = torch.randn(3, FEATURES), torch.randn(3, STEPS, ACTIONS)
    with torch.no_grad():
        condition = head.condition(features)
        draft = head.sample(features, generator=torch.Generator().manual_seed(1))
        # At time 0 the draft is not seen: the opinion is a sample in a single step from that noise.
        blind = one_step_opinion(lambda noisy, time: head.estimate(noisy, time, condition), draft, noise, time=0.0)
        assert torch.equal(blind, head.estimate(noise, torch.zeros(3), condition))
        half = one_step_opinion(lambda noisy, time: head.estimate(noisy, time, condition), draft, noise, time=0.5)
        expected = head.estimate(0.5 * noise + 0.5 * draft, torch.full((3,), 0.5), condition)
    torch.testing.assert_close(half, expected)
    with pytest.raises(ValueError, match="time in .0, 1., got 1.0"):
        one_step_opinion(lambda noisy, time: noisy, draft, noise, time=1.0)


def test_a_good_draft_passes_a_trained_flow_heads_opinion_and_a_bad_one_does_not() -> None:
    """A flow head trained on one chunk per input: its opinion tells that chunk from its negative."""
    torch.manual_seed(0)
    head = FlowMatchingHead(2, 1, 4, hidden_dim=32, num_layers=3, dropout=0.0)
    features = torch.eye(2)
    truth = torch.tensor([0.5, -0.5]).view(2, 1, 1).expand(2, 4, 1)
    optimizer = torch.optim.Adam(head.parameters(), lr=5e-3)
    for _ in range(150):
        loss = head.compute_loss(features.repeat(16, 1), truth.repeat(16, 1, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    head.eval()

    def check(rows: Tensor, draft: Tensor) -> Tensor:
        condition = head.condition(rows)
        return one_step_opinion(
            lambda noisy, time: head.estimate(noisy, time, condition), draft, torch.randn_like(draft)
        )

    config = SpeculativeConfig(tolerance=0.1, min_accepted=4)
    with torch.no_grad():
        good = speculate(features, lambda rows: truth.clone(), head.sample, config, check)
        bad = speculate(features, lambda rows: -truth, head.sample, config, check)
    assert good.accepted.tolist() == [4, 4] and not bool(good.heavy.any())
    assert bad.accepted.tolist() == [0, 0] and bool(bad.heavy.all())
    torch.testing.assert_close(bad.chunk, truth, atol=0.1, rtol=0.0)


def test_statistics_by_hand() -> None:
    statistics = AcceptanceStatistics(num_steps=4)
    assert statistics.rows == 0 and statistics.mean_accepted == 0.0 and statistics.heavy_share == 0.0
    chunk = torch.zeros(3, 4, 1)
    statistics.add(Speculation(chunk, torch.tensor([0, 4, 4]), torch.tensor([True, False, False])))
    statistics.add(Speculation(chunk[:1], torch.tensor([2]), torch.tensor([True])))
    assert statistics.histogram.tolist() == [1, 0, 1, 0, 2]
    assert statistics.rows == 4 and statistics.mean_accepted == 2.5 and statistics.heavy_share == 0.5
    with pytest.raises(ValueError, match="chunks of 4 steps, got 16"):
        statistics.add(Speculation(torch.zeros(1, 16, 1), torch.tensor([3]), torch.tensor([True])))


def test_chunks_of_different_heads_must_fit() -> None:
    with pytest.raises(ValueError, match=r"its own shape, got \(1, 16, 5\) and \(1, 8, 5\)"):
        accepted_prefix(torch.zeros(1, 16, 5), torch.zeros(1, 8, 5), 0.1)
    for bad in ({"tolerance": -0.1}, {"tolerance": float("nan")}, {"min_accepted": 0}):
        with pytest.raises(ValueError, match="tolerance >= 0 and min_accepted >= 1"):
            SpeculativeConfig(**bad)
