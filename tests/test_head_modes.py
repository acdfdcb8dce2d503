"""G1ActionHead with every kind of head: one call, one loss, group weights, growth, context, guidance, state."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.model.action_heads import (
    HEAD_TYPES,
    ActionChunkingHead,
    ActionHeadConfig,
    DiTActionHead,
    EnsembleHead,
    FlowMatchingHead,
    G1ActionHead,
    MLPDecoder,
    masked_mse,
)
from neon_sim.model.action_heads import build as build_module
from neon_sim.model.action_heads.context import ContextTokens
from neon_sim.model.guidance import PhysicsGuide
from neon_sim.model.physics_losses import SmoothLoss

SMALL = ActionHeadConfig(
    hidden_size=12, mlp_hidden=16, flow_layers=3, dit_hidden=16, dit_layers=1, dit_heads=2, dropout=0.0
)
SAMPLED = ("flow", "dit", "ensemble")
CLASSES = {"chunking": ActionChunkingHead, "flow": FlowMatchingHead, "dit": DiTActionHead, "ensemble": EnsembleHead}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _head(head_type: str, mode: str = "arms_only", **changes: Any) -> G1ActionHead:
    head = G1ActionHead(replace(SMALL, head_type=head_type, **changes), G1ActionSpace(mode))
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if "modulation" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))  # past the start, where DiT sees no features
    return head


def test_the_kinds_of_head_are_four() -> None:
    assert HEAD_TYPES == tuple(CLASSES) == tuple(build_module._CHUNK_HEADS)
    assert ActionHeadConfig().head_type == "chunking"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_type": "flwo"}, "Unknown head type 'flwo'. Did you mean 'flow'"),
        ({"head_type": "flow", "use_action_chunking": False}, "flow head always predicts a chunk"),
        ({"token_dim": 8}, "wants a head that attends"),
        ({"head_type": "dit", "goal_dim": 5}, "set token_dim as well"),
        ({"head_type": "dit", "token_dim": -1}, "token_dim wants 0 or more"),
        ({"num_denoise_steps": 0}, "num_denoise_steps wants at least 1"),
        ({"noise_beta_alpha": -0.5}, "noise_beta_alpha wants 0 or more"),
    ],
)
def test_config_refuses_what_cannot_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


def test_config_survives_json() -> None:
    config = replace(SMALL, head_type="dit", token_dim=8, goal_dim=5, state_relative=True)
    assert ActionHeadConfig(**json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize("head_type", HEAD_TYPES)
@pytest.mark.parametrize("mode", ["arms_only", "upper_body", "whole_body"])
def test_every_kind_gives_a_chunk_in_every_mode(head_type: str, mode: str) -> None:
    space, head = G1ActionSpace(mode), _head(head_type, mode).eval()
    chunk = head(torch.randn(2, 12), generator=_generator())
    assert chunk.shape == (2, 16, space.dim) and chunk.abs().max() < 1.0
    assert list(head.heads) == list(space.groups)
    for name, part in head.heads.items():
        chunked = name in ("arms", "locomotion")
        assert isinstance(part, CLASSES[head_type] if chunked else MLPDecoder)
        if not chunked:  # D15: one action, held
            held = chunk[..., space.groups[name]]
            assert torch.equal(held, held[:, :1].expand_as(held))
    everywhere = _head(head_type, mode, chunk_all_groups=True)
    assert all(isinstance(part, CLASSES[head_type]) for part in everywhere.heads.values())


@pytest.mark.parametrize("head_type", HEAD_TYPES)
def test_loss_is_one_call_for_every_kind(head_type: str) -> None:
    head = _head(head_type, "upper_body", group_weights={"arms": 2.0})
    features, target, mask = torch.randn(5, 12), torch.rand(5, 16, 20) - 0.5, torch.rand(5, 16) < 0.7
    loss = head.loss(features, None, target, mask, _generator(3))
    assert loss.dim() == 0 and loss.dtype == torch.float32
    assert torch.equal(loss, head.loss(features, None, target, mask, _generator(3)))
    generator, parts = _generator(3), []
    for name, part in head.heads.items():
        own = target[..., head.groups[name]]
        if name == "torso_head":
            parts.append(masked_mse(part(features).unsqueeze(1).expand_as(own), own, mask))
        elif head_type == "chunking":
            parts.append(part.compute_loss(features, own, mask))  # type: ignore[operator]
        else:
            parts.append(part.compute_loss(features, own, mask, generator=generator))  # type: ignore[operator]
    torch.testing.assert_close(loss, (2.0 * parts[0] + parts[1] + parts[2]) / 4.0)
    losses = head.head_losses(features, None, target, mask, _generator(3))
    assert list(losses) == ["arms", "locomotion", "torso_head"]
    torch.testing.assert_close(torch.stack(list(losses.values())), torch.stack(parts))
    torch.manual_seed(3)
    documented = head.compute_loss(features, target, mask)
    torch.manual_seed(3)
    assert torch.equal(documented, head.loss(features, None, target, mask))


@pytest.mark.parametrize("head_type", HEAD_TYPES)
def test_padding_has_no_effect_in_any_kind(head_type: str) -> None:
    head = _head(head_type, "upper_body", state_relative=True)
    features, state = torch.randn(4, 12), torch.rand(4, 20) - 0.5
    target, mask = torch.rand(4, 16, 20) - 0.5, torch.rand(4, 16) < 0.5
    losses = [
        head.loss(features, None, torch.where(mask.unsqueeze(-1), target, filling), mask, _generator(), state=state)
        for filling in (0.0, 7.0, torch.nan)
    ]
    assert torch.equal(losses[0], losses[1]) and torch.equal(losses[0], losses[2])


@pytest.mark.parametrize("head_type", HEAD_TYPES)
def test_gradients_reach_every_weight_of_every_group(head_type: str) -> None:
    tokens = {} if head_type == "chunking" else {"token_dim": 6, "goal_dim": 5}
    head = _head(head_type, "whole_body", mlp_hidden=32, chunk_all_groups=True, **tokens)
    given = {"tokens": torch.randn(48, 3, 6)} if tokens else {}
    head.loss(torch.randn(48, 12), torch.randn(48, 5), torch.rand(48, 16, 29) - 0.5, **given).backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


@pytest.mark.parametrize("head_type", ["flow", "dit"])
def test_one_head_for_all_weighs_dimensions_as_groups_would(head_type: str) -> None:
    head = _head(head_type, use_separate_heads=False, group_weights={"arms": 3.0})
    assert list(head.heads) == ["all"] and head(torch.randn(2, 12)).shape == (2, 16, 17)
    features, target, mask = torch.randn(5, 12), torch.rand(5, 16, 17) - 0.5, torch.rand(5, 16) < 0.7
    loss = head.loss(features, None, target, mask, _generator())
    only, generator = head.heads["all"], _generator()
    if isinstance(only, FlowMatchingHead):
        time, noise = only.draw_times(features, generator), only.draw_noise(features, generator)
        predicted, wanted = only.velocities(features, target, noise, time, mask)
    else:
        assert isinstance(only, DiTActionHead)
        time, noise = torch.rand(5, generator=generator), only.draw_noise(features, generator)
        shown = torch.where(mask.unsqueeze(-1), target, 0.0)
        predicted, wanted = only.estimate(only.disturb(shown, noise, time), time, features), target
    torch.testing.assert_close(loss, head.weighted_loss(predicted, wanted, mask))  # (3 arms + 1 locomotion) / 4
    assert set(head.head_losses(features, None, target)) == {"all"}


@pytest.mark.parametrize("head_type", HEAD_TYPES)
def test_another_mode_adds_heads_and_keeps_the_old_ones_to_the_bit(head_type: str) -> None:
    arms = _head(head_type).eval()
    for changes in ({}, {"chunk_all_groups": True}):
        upper = _head(head_type, "upper_body", **changes).eval()
        missing, unexpected = upper.load_state_dict(arms.state_dict(), strict=False)
        assert unexpected == [] and {name.split(".")[1] for name in missing} == {"torso_head"}
        features = torch.randn(2, 12)
        grown = upper(features, generator=_generator(4))
        assert torch.equal(grown[..., :17], arms(features, generator=_generator(4)))  # the draw is the same as well


@pytest.mark.parametrize("head_type", SAMPLED)
def test_backbone_tokens_and_the_goal_token_are_attended_to(head_type: str) -> None:
    head = _head(head_type, token_dim=6, goal_dim=5).eval()
    features, tokens, goal = torch.randn(2, 12), torch.randn(2, 3, 6), torch.randn(2, 5)

    def answer(tokens: Tensor, goal: Tensor) -> Tensor:
        return head(features, tokens=tokens, goal=goal, generator=_generator())

    seen = answer(tokens, goal)
    assert (answer(tokens + 1.0 * torch.randn(2, 3, 6), goal) - seen).abs().max() > 1e-5
    assert (answer(tokens, -goal) - seen).abs().max() > 1e-5
    target = torch.zeros(2, 16, 17)
    assert not torch.equal(
        head.loss(features, goal, target, None, _generator(), tokens=tokens),
        head.loss(features, -goal, target, None, _generator(), tokens=tokens),
    )
    with pytest.raises(ValueError, match=r"backbone tokens \(B, N, 6\), got None"):
        head(features, goal=goal)
    with pytest.raises(ValueError, match=r"goal token \(2, 5\), got None"):
        head(features, tokens=tokens)


def test_context_tokens_by_hand() -> None:
    context = ContextTokens(3, 2)
    assert context.goal_proj is not None
    tokens, goal = torch.randn(2, 4, 3), torch.randn(2, 2)
    joined = context(tokens, goal)
    assert joined.shape == (2, 5, 3) and torch.equal(joined[:, :4], tokens)
    torch.testing.assert_close(joined[:, 4], goal @ context.goal_proj.weight.T + context.goal_proj.bias)
    assert ContextTokens(3)(tokens) is tokens


@pytest.mark.parametrize("head_type", SAMPLED)
def test_a_guide_sees_the_whole_action_and_moves_the_sampled_groups(head_type: str) -> None:
    head = _head(head_type, "upper_body").eval()
    features, seen = torch.randn(2, 12), []

    def guide(chunk: Tensor, time: float) -> Tensor:
        seen.append(chunk.detach().clone())
        return torch.full_like(chunk, 0.1 if time == 0.75 else 0.0)

    with torch.inference_mode():
        plain = head(features, generator=_generator())
        guided = head(features, generator=_generator(), guide=guide)
    assert len(seen) == 4 and all(chunk.shape == (2, 16, 20) for chunk in seen)
    torch.testing.assert_close(seen[-1], plain)
    assert torch.equal(guided[..., 17:], plain[..., 17:])  # torso_head is computed and held
    moved = guided[..., :17] - plain[..., :17]
    if head_type == "ensemble":
        assert moved.min() > 0.0 and moved.max() < 0.1
    else:
        torch.testing.assert_close(moved, torch.full_like(moved, 0.1))


def test_a_physics_guide_fits_the_hook() -> None:
    space, head = G1ActionSpace("arms_only"), _head("flow").eval()
    features = torch.randn(2, 12)
    with torch.inference_mode():
        plain = head(features, generator=_generator())
        guided = head(features, generator=_generator(), guide=PhysicsGuide(space, SmoothLoss()))

    def roughness(chunk: Tensor) -> float:
        return chunk.diff(n=2, dim=1)[..., :14].square().sum().item()

    assert roughness(guided) < 0.9 * roughness(plain)


def test_a_head_that_computes_takes_no_guide() -> None:
    with pytest.raises(ValueError, match="head_type 'chunking'. Use flow or dit"):
        _head("chunking")(torch.randn(1, 12), guide=lambda chunk, time: chunk)


@pytest.mark.parametrize("head_type", HEAD_TYPES)
def test_state_relative_groups_each_add_their_own_state(head_type: str) -> None:
    head = _head(head_type, "upper_body", state_relative=True).eval()
    features, state = torch.randn(2, 12), torch.rand(2, 20) - 0.5
    chunk = head(features, state=state, generator=_generator())
    at_zero = head(features, state=torch.zeros(2, 20), generator=_generator())
    assert chunk.shape == (2, 16, 20)
    torch.testing.assert_close(chunk - at_zero, state[:, None].expand(2, 16, 20))
    with pytest.raises(ValueError, match="wants `state`"):
        head(features)
    with pytest.raises(ValueError, match=r"wants a state \(B, 20\), got \(2, 17\)"):
        head(features, state=torch.zeros(2, 17))
    with pytest.raises(ValueError, match="wants `state`"):
        head.loss(features, None, torch.zeros(2, 16, 20))


@pytest.mark.parametrize("head_type", SAMPLED)
def test_one_generator_gives_the_same_bits(head_type: str) -> None:
    head, features = _head(head_type).eval(), torch.randn(2, 12)
    first = head(features, generator=_generator(1))
    assert torch.equal(head(features, generator=_generator(1)), first)
    assert not torch.equal(head(features, generator=_generator(2)), first)
    assert head(features, generator=_generator(1), num_denoise_steps=2).shape == first.shape
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        head(features, num_denoise_steps=0)


@pytest.mark.parametrize("head_type", HEAD_TYPES)
def test_a_target_of_another_space_is_refused(head_type: str) -> None:
    with pytest.raises(ValueError, match="one shape"):
        _head(head_type).loss(torch.zeros(1, 12), None, torch.zeros(1, 16, 20))


@pytest.mark.parametrize("head_type", HEAD_TYPES)
def test_vanilla_switches_reach_every_kind(head_type: str) -> None:
    off = dict.fromkeys(("use_relu_squared", "use_rmsnorm", "use_residual_scale", "use_skip_connections"), False)
    head = _head(head_type, "whole_body", soft_cap_value=0.0, **off)
    names = [name for name, _ in head.named_parameters()]
    assert not any("alpha" in name or "norm" in name for name in names)
    assert head.loss(torch.randn(2, 12), None, torch.zeros(2, 16, 29)).isfinite()
