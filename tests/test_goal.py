"""The goal token: metres and hands in, the same metres and hands out; the loss by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_neon import tiny_features

from neon_sim.model.goal import (
    BOTH,
    GOAL_DIM,
    GOAL_SCALE_M,
    GoalReader,
    goal_loss,
    goal_position,
    goal_token,
    make_goal,
)

METRES = st.floats(-2.0, 2.0, width=32)


@given(st.lists(st.tuples(st.integers(0, 1), METRES, METRES, METRES), min_size=1, max_size=5))
def test_hand_and_place_come_back(rows: list[tuple[int, float, float, float]]) -> None:
    hand = torch.tensor([row[0] for row in rows])
    pos_b = torch.tensor([row[1:] for row in rows])
    goal = make_goal(hand, pos_b)
    assert goal.shape == (len(rows), GOAL_DIM) and goal.dtype == pos_b.dtype
    assert torch.equal(goal[:, :2].argmax(-1), hand) and bool((goal[:, :2].sum(-1) == 1).all())
    torch.testing.assert_close(goal_position(goal), pos_b, rtol=1e-6, atol=1e-7)


@given(METRES, METRES)
def test_a_token_has_probabilities_and_leaves_the_place_alone(left: float, right: float) -> None:
    raw = torch.tensor([[left, right, 0.4, -0.8, 1.2]])
    token = goal_token(raw)
    assert float(token[0, 0]) == pytest.approx(1.0 / (1.0 + math.exp(right - left)), abs=1e-6)
    assert float(token[0, :2].sum()) == pytest.approx(1.0, abs=1e-6)
    assert torch.equal(goal_position(token), goal_position(raw))
    assert goal_position(raw)[0].tolist() == pytest.approx([0.1, -0.2, 0.3])


def test_loss_by_hand() -> None:
    raw = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0]])
    # Off by 10 cm in x and 1 cm in y: 0.4 and 0.04 of the scale. Smooth L1 with its knee at 0.2 (5 cm):
    # 0.4 - 0.1 = 0.3 and 0.04^2 / 0.4 = 0.004, mean over three axes. Undecided hand: 0.1 ln 2.
    target = torch.tensor([[0.10, 0.01, 0.0]])
    expected = 0.1 * math.log(2.0) + (0.3 + 0.004) / 3
    assert goal_loss(raw, torch.tensor([1]), target).item() == pytest.approx(expected, rel=1e-5)
    sure = torch.tensor([[-50.0, 50.0, 0.1 / GOAL_SCALE_M, 0.01 / GOAL_SCALE_M, 0.0]])
    assert goal_loss(sure, torch.tensor([1]), target).item() == pytest.approx(0.0, abs=1e-7)
    assert goal_loss(sure, torch.tensor([0]), target).item() == pytest.approx(10.0, rel=1e-4)


def test_where_both_hands_are_asked_for_the_place_alone_is_learned() -> None:
    # The first sample knows its hand, wrongly read: 0.1 * 50, and its place. The second is off by 10 cm in x: 0.3 / 3.
    raw = torch.tensor([[50.0, 0.0, 0.0, 0.0, 0.0], [3.0, -7.0, 0.0, 0.0, 0.0]])
    target = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0]])
    assert goal_loss(raw, torch.tensor([1, BOTH]), target).item() == pytest.approx((5.0 + 0.1) / 2, rel=1e-5)
    raw.requires_grad_()
    goal_loss(raw, torch.tensor([BOTH, BOTH]), target).backward()
    assert raw.grad is not None and not raw.grad[:, :2].any() and raw.grad[1, 2].item() != 0.0


def test_a_reader_that_hears_asks_by_the_sound_too() -> None:
    torch.manual_seed(0)
    reader, features, heard = GoalReader(40, 64, heard_size=8), tiny_features(2), torch.randn(2, 8)
    with torch.no_grad():
        assert not torch.allclose(reader(features, heard), reader(features), atol=1e-4)
        assert torch.equal(reader(features, torch.zeros(2, 8)), reader(features))


def test_the_reader_uses_clip_words_and_place() -> None:
    torch.manual_seed(0)
    reader = GoalReader(40, 64)
    features = tiny_features(2)
    raw = reader(features)
    assert raw.shape == (2, GOAL_DIM)
    raw.square().sum().backward()
    assert all(param.grad is not None and bool(param.grad.abs().sum() > 0) for param in reader.parameters())
    with torch.no_grad():
        for name in ("tokens", "pooled", "text"):
            other = tiny_features(2)
            getattr(other, name)[0] += 1.0
            changed = reader(other)
            assert not torch.allclose(changed[0], raw[0], atol=1e-4), name
            torch.testing.assert_close(changed[1], raw[1])  # the other sample is left alone
        moved = tiny_features(2)
        moved.tokens[:] = moved.tokens.flip(1)  # the same things in other cells
        assert not torch.allclose(reader(moved), raw, atol=1e-5)


def test_the_reader_learns_a_goal_that_is_in_the_features() -> None:
    torch.manual_seed(0)
    reader, features = GoalReader(40, 64), tiny_features(32)
    hand, target = (features.text[:, 0] > 0).long(), 0.1 * features.pooled[:, :3]
    optimizer = torch.optim.Adam(reader.parameters(), 1e-3)
    losses = []
    for _ in range(60):
        loss = goal_loss(reader(features), hand, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
