"""StateRelativeHead: state plus difference over every kind of head, with no weights of its own."""

import pytest
import torch
from torch import Tensor, nn

from neon_sim.model.action_heads import (
    ActionChunkingHead,
    DiTActionHead,
    EnsembleHead,
    FlowMatchingHead,
    MLPDecoder,
    StateRelativeHead,
    masked_mse,
)
from neon_sim.model.action_heads.denoising import DenoisingHead


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _inner(kind: str) -> nn.Module:
    if kind == "mlp":
        return MLPDecoder(5, 2, 16, dropout=0.0)
    if kind == "chunking":
        return ActionChunkingHead(5, 2, 4, 16, dropout=0.0)
    if kind == "flow":
        return FlowMatchingHead(5, 2, 4, 16, 3, dropout=0.0)
    if kind == "dit":
        return DiTActionHead(5, 2, 4, 16, 1, 2, dropout=0.0)
    return EnsembleHead(5, 2, 4, 16, 16, 16, 1, 2, 3, dropout=0.0)


KINDS = ("mlp", "chunking", "flow", "dit", "ensemble")


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_the_state_plus_the_inner_answer(kind: str) -> None:
    inner = _inner(kind)
    head = StateRelativeHead(inner_head=inner, action_dim=2, num_steps=4).eval()
    features, state = torch.randn(3, 5), torch.rand(3, 2) - 0.5
    chunk = head(features, current_state=state, generator=_generator())
    sampled = isinstance(inner, DenoisingHead)
    difference = inner(features, generator=_generator()) if sampled else inner(features)
    if kind == "mlp":
        difference = difference.unsqueeze(1).expand(3, 4, 2)
    assert chunk.shape == (3, 4, 2)
    torch.testing.assert_close(chunk, difference + state[:, None])
    torch.testing.assert_close(head(features, state + 0.25, generator=_generator()), chunk + 0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_no_weights_of_its_own(kind: str) -> None:
    inner = _inner(kind)
    head = StateRelativeHead(inner, 2, 4)
    assert {id(p) for p in head.parameters()} == {id(p) for p in inner.parameters()}
    assert list(head.buffers()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_the_difference_by_the_inner_loss(kind: str) -> None:
    inner = _inner(kind)
    head = StateRelativeHead(inner, 2, 4)
    features, state = torch.randn(6, 5), torch.rand(6, 2) - 0.5
    target, mask = torch.rand(6, 4, 2) - 0.5, torch.rand(6, 4) < 0.7
    loss = head.compute_loss(features, target, state, mask, generator=_generator())
    difference = target - state[:, None]
    if isinstance(inner, DenoisingHead):
        expected = inner.compute_loss(features, difference, mask, generator=_generator())
    else:
        expected = masked_mse(inner(features).reshape(6, -1, 2).expand(6, 4, 2), difference, mask)
        torch.testing.assert_close(loss, masked_mse(head(features, state), target, mask))
    assert torch.equal(loss, expected)
    spoiled = torch.where(mask.unsqueeze(-1), target, torch.nan)
    assert torch.equal(head.compute_loss(features, spoiled, state, mask, generator=_generator()), loss)


def test_with_a_head_that_says_nothing_the_robot_stays() -> None:
    inner = ActionChunkingHead(5, 2, 4, 16)
    with torch.no_grad():
        inner.decoder.output.weight.zero_()
        inner.decoder.output.bias.zero_()
    state = torch.tensor([[0.3, -0.9]])
    assert torch.equal(StateRelativeHead(inner, 2, 4)(torch.randn(1, 5), state), state.expand(4, 2)[None])


def test_a_guide_sees_absolute_actions() -> None:
    head = StateRelativeHead(_inner("flow"), 2, 4).eval()
    features, state = torch.randn(2, 5), torch.tensor([[0.5, -0.5], [0.1, 0.2]])
    seen: list[Tensor] = []

    def to_target(chunk: Tensor, time: float) -> Tensor:
        seen.append(chunk.detach().clone())
        return 0.3 - chunk.detach() if time == 0.75 else torch.zeros_like(chunk)

    plain = head(features, state, generator=_generator())
    guided = head(features, state, generator=_generator(), guide=to_target)
    torch.testing.assert_close(guided, torch.full((2, 4, 2), 0.3))
    torch.testing.assert_close(seen[-1], plain)


def test_gradients_reach_the_inner_head_and_the_documents_signature_holds() -> None:
    inner = ActionChunkingHead(input_dim=2048, action_dim=17, num_steps=16)
    head = StateRelativeHead(inner_head=inner, action_dim=17, num_steps=16)
    joint_positions = torch.zeros(2, 17)
    actions = head(torch.randn(2, 2048), current_state=joint_positions)
    assert actions.shape == (2, 16, 17)
    actions.square().sum().backward()
    assert all(p.grad is not None for p in head.parameters())


def test_wrong_inputs_are_refused() -> None:
    head, features = StateRelativeHead(_inner("chunking"), 2, 4), torch.zeros(3, 5)
    for wrong in (torch.zeros(3, 3), torch.zeros(1, 2), torch.zeros(3, 4, 2)):
        with pytest.raises(ValueError, match=r"current state as \(3, 2\) in normalised actions, got"):
            head(features, wrong)
    with pytest.raises(ValueError, match="A guide steers heads that sample"):
        head(features, torch.zeros(3, 2), guide=lambda chunk, time: chunk)
    with pytest.raises(ValueError, match="given num_steps 16, its inner head has 4"):
        StateRelativeHead(_inner("flow"), 2, 16)
    with pytest.raises(ValueError, match="given action_dim 3, its inner head has 2"):
        StateRelativeHead(_inner("dit"), 3, 4)
    with pytest.raises(ValueError, match="of one shape"):
        head.compute_loss(features, torch.zeros(3, 5, 2), torch.zeros(3, 2))
