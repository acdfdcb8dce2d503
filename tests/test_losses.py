"""The self-supervised losses by hand numbers, and which side of each carries a gradient."""

import math

import pytest
import torch
from torch import Tensor

from neon_sim.training.losses import coherence_loss, consistency_loss, hindsight_loss, outcome_loss


def _leaf(*rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).requires_grad_()


def test_outcome_is_the_mean_square_and_the_world_does_not_learn() -> None:
    predicted, after = _leaf([1.0, 2.0], [0.0, 0.0]), _leaf([1.0, 0.0], [3.0, 0.0])
    loss = outcome_loss(predicted, after)
    assert loss.item() == pytest.approx((4.0 + 9.0) / 4)
    loss.backward()
    assert after.grad is None
    assert predicted.grad is not None and predicted.grad.tolist() == [[0.0, 1.0], [-1.5, 0.0]]  # 2 (p - a) / 4


def test_coherence_is_one_minus_the_cosine_of_the_change() -> None:
    before = _leaf([1.0, 1.0], [0.0, 0.0], [5.0, 0.0])
    predicted = _leaf([3.0, 1.0], [0.0, 2.0], [4.0, 0.0])  # changes (2, 0), (0, 2), (-1, 0)
    wanted = torch.tensor([[7.0, 0.0], [1.0, 1.0], [1.0, 0.0]])  # along, 45 degrees off, against
    loss = coherence_loss(predicted, before, wanted)
    assert loss.item() == pytest.approx((0.0 + (1.0 - math.sqrt(0.5)) + 2.0) / 3, rel=1e-5)
    loss.backward()
    assert before.grad is None and predicted.grad is not None and bool(predicted.grad.any())


def test_coherence_of_no_change_at_all_is_finite() -> None:
    before = torch.ones(2, 3)
    predicted = before.clone().requires_grad_()
    loss = coherence_loss(predicted, before, torch.ones(2, 3))
    assert loss.item() == pytest.approx(1.0)
    loss.backward()
    assert predicted.grad is not None and bool(predicted.grad.isfinite().all())


def test_consistency_is_smooth_l1_with_a_knee_at_a_tenth() -> None:
    chunk, executed = _leaf([[0.0, 0.5]], [[0.0, 0.0]]), _leaf([[0.05, 0.0]], [[0.0, 0.0]])
    # 0.05 is under the knee: 0.5 * 0.05^2 / 0.1 = 0.0125; 0.5 is over it: 0.5 - 0.05 = 0.45
    loss = consistency_loss(chunk, executed)
    assert loss.item() == pytest.approx((0.0125 + 0.45) / 4, rel=1e-5)
    loss.backward()
    assert executed.grad is None and chunk.grad is not None and bool(chunk.grad.any())


def test_hindsight_weighs_samples_and_ignores_what_ended_nowhere() -> None:
    chunk = _leaf([[1.0, 1.0]], [[0.0, 2.0]], [[9.0, 9.0]])
    executed = torch.zeros(3, 1, 2)
    # per sample 1, 2, 81
    loss = hindsight_loss(chunk, executed, torch.tensor([1.0, 0.5, 0.0]))
    assert loss.item() == pytest.approx((1.0 * 1.0 + 2.0 * 0.5) / 1.5)
    loss.backward()
    assert chunk.grad is not None and bool(chunk.grad[1].any()) and not bool(chunk.grad[2].any())


def test_hindsight_of_nothing_that_counts_is_zero_with_a_finite_gradient() -> None:
    chunk = _leaf([[1.0, 1.0]])
    loss = hindsight_loss(chunk, torch.zeros(1, 1, 2), torch.zeros(1))
    assert loss.item() == 0.0
    loss.backward()
    assert chunk.grad is not None and not bool(chunk.grad.any())


def test_a_batch_that_counts_for_nothing_has_no_gradient():
    """However large the loss is weighed: a robot that walked all the time has nothing to look back at."""
    chunk = torch.ones(2, 3, 4, requires_grad=True)
    (1e3 * hindsight_loss(chunk, torch.zeros(2, 3, 4), torch.zeros(2))).backward()
    assert torch.equal(chunk.grad, torch.zeros(2, 3, 4))
