"""The label-free learner: which loss reaches which weight, what hindsight remembers, what protection means."""

import copy
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_neon import open_reach, tiny_model
from torch import Tensor

from neon_sim.inference.neon_policy import Decision
from neon_sim.model.goal import goal_position, goal_token, make_goal
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.rollout import rollout
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.learner_config import DOCUMENTS_LOSSES
from neon_sim.training.lived_chunk import LivedChunk
from neon_sim.training.protection import EWCConfig, NoneConfig, ProtectionConfig, ReplayConfig
from neon_sim.training.self_learner import (
    Experience,
    NeonSelfLearner,
    PractisingPolicy,
    SelfLearnerConfig,
)

FUSED = 40 + 29  # the tiny backbone's width, and the tracking error of 29 joints
LOSSES = ("hindsight", "outcome", "coherence", "consistency")
PALMS = (slice(0, 3), slice(7, 10))  # left pos 3, quat 4, right pos 3, quat 4
SMALL = SelfLearnerConfig(batch_size=16, updates_per_chunk=1, fisher_samples=32, known_m=math.inf, **DOCUMENTS_LOSSES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's one tiny backbone lies."""
    return tmp_path_factory.mktemp("backbone")


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    """One reach scene."""
    env = open_reach()
    yield env
    env.close()


def _springs(strength: float) -> ProtectionConfig:
    return EWCConfig(strength) if strength else NoneConfig()


def _learner(folder: Path, config: SelfLearnerConfig = SMALL, experience: int = 40) -> NeonSelfLearner:
    model = tiny_model(folder)
    torch.manual_seed(2)
    learner = NeonSelfLearner(model, ForwardModel.for_model(model), config)
    learner.buffer.extend(_made_up(experience))
    return learner


def _made_up(count: int) -> list[Experience]:
    """Chunks that follow from the goal that they achieved."""
    generator = torch.Generator().manual_seed(3)
    made = []
    for i in range(count):
        fused = torch.randn(FUSED, generator=generator)
        place = 0.3 + 0.1 * torch.randn(1, 3, generator=generator)
        achieved = make_goal(torch.tensor([i % 2]), place)[0]
        executed = torch.zeros(16, 17)
        executed[:, :3] = torch.linspace(0.0, 1.0, 16)[:, None] * (achieved[2:] - 1.2)
        asked = make_goal(torch.tensor([i % 2]), place + 0.05)[0]
        text, after = torch.randn(40, generator=generator), fused + 0.3 * torch.randn(FUSED, generator=generator)
        made.append(Experience(fused, after, text, asked, executed, achieved, float(i % 4 != 3)))
    return made


def _batch(items: list[Experience]) -> dict[str, Tensor]:
    names = ("fused", "fused_after", "text", "goal", "executed", "achieved")
    batch = {name: torch.stack([getattr(item, name) for item in items]) for name in names}
    return batch | {"weight": torch.tensor([item.weight for item in items])}


def _weights(learner: NeonSelfLearner) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in learner.params.items()}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_alone_is_the_one_among_all_and_the_rest_is_not_worked_out(folder: Path, name: str) -> None:
    learner = _learner(folder)
    batch = _batch(list(learner.buffer))
    among_all = learner.losses(batch)
    off = {f"{other}_weight": 0.0 for other in LOSSES if other != name}
    learner.config = replace(SMALL, **off)
    alone = learner.losses(batch)
    assert set(among_all) == set(LOSSES) and set(alone) == {name}
    torch.testing.assert_close(alone[name], among_all[name])
    with pytest.raises(ValueError, match="at least one loss"):
        replace(SMALL, **off, **{f"{name}_weight": 0.0})


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_reaches_the_heads_and_nothing_that_is_frozen(folder: Path, name: str) -> None:
    """D17: f_after carries no gradient, so outcome and coherence must reach the heads through the forward model."""
    learner = _learner(folder)
    batch = _batch(list(learner.buffer))
    for value in batch.values():
        value.requires_grad_()
    learner.losses(batch)[name].backward()
    head = {part: param.grad for part, param in learner.params.items()}
    assert all(grad is not None and bool(grad.isfinite().all()) for grad in head.values())
    for part in ("goal_embed", "action_head"):
        reached = sum(
            float(grad.abs().sum()) for name, grad in head.items() if name.startswith(part) and grad is not None
        )
        assert reached > 0.0, part
    online = {id(param) for param in learner.params.values()}
    frozen = [param for param in learner.model.parameters() if id(param) not in online]
    assert len(frozen) > 20 and all(param.grad is None for param in frozen)
    assert all(param.grad is None for param in learner.model.backbone.parameters())
    assert all(param.grad is None for param in learner.forward_model.text_projection.parameters())
    assert all(batch[what].grad is None for what in ("fused_after", "executed", "text"))


def test_losses_stay_finite_and_reach_the_heads_in_an_update(folder: Path) -> None:
    learner = _learner(folder)
    before = _weights(learner)
    losses = learner.update()
    assert set(losses) == set(LOSSES) and all(np.isfinite(value) for value in losses.values())
    after = _weights(learner)
    assert any(not torch.equal(after[name], before[name]) for name in before)


def test_it_waits_for_a_whole_batch_or_for_as_little_as_it_is_told(folder: Path) -> None:
    assert _learner(folder, SMALL, 15).update() == {} and set(_learner(folder, SMALL, 16).update()) == set(LOSSES)
    early = replace(SMALL, least_chunks=6)
    assert _learner(folder, early, 5).update() == {} and set(_learner(folder, early, 6).update()) == set(LOSSES)
    assert _learner(folder, replace(SMALL, least_chunks=0), 0).update() == {}


def test_what_requires_no_gradient_neither_learns_nor_is_protected(folder: Path) -> None:
    model = tiny_model(folder)
    model.goal_embed.requires_grad_(False)
    model.action_head.heads["locomotion"].requires_grad_(False)
    learner = NeonSelfLearner(model, ForwardModel.for_model(model), replace(SMALL, protection=EWCConfig(1.0)))
    learner.buffer.extend(_made_up(40))
    before = {name: value.clone() for name, value in learner.decoder.state_dict().items()}
    learner.protect(*learner.known())
    assert learner.update() and all(name.startswith("action_head.heads.arms.") for name in learner.params)
    moved = {name for name, value in learner.decoder.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and moved <= set(learner.params)


def test_a_step_learns_from_as_many_rows_whether_some_are_rehearsed_or_not(folder: Path) -> None:
    cases = ((NoneConfig(), 16, 16), (ReplayConfig(share=3.0), 16, 4), (ReplayConfig(share=100.0), 16, 1))
    for protection, size, new in (*cases, (ReplayConfig(), 3, 2), (ReplayConfig(), 1, 1)):
        learner = _learner(folder, replace(SMALL, protection=protection, batch_size=size))
        learner._keep(_made_up(20))
        assert learner.strategy.new_rows(learner.config.batch_size) == new
        rows, losses = [], learner.losses
        learner.losses = lambda batch, losses=losses, rows=rows: rows.append(len(batch["goal"])) or losses(batch)  # type: ignore[method-assign]
        assert learner.update() and rows == [size]


def test_updates_lower_the_hindsight_loss_and_the_forward_models_error(folder: Path) -> None:
    learner = _learner(folder, replace(SMALL, learning_rate=3e-3))
    batch = _batch(list(learner.buffer))

    def measure() -> tuple[float, float]:
        with torch.no_grad():
            predicted = learner.forward_model(batch["fused"], batch["executed"])
            return float(learner.losses(batch)["hindsight"]), float((predicted - batch["fused_after"]).square().mean())

    first = measure()
    for _ in range(60):
        learner.update()
    last = measure()
    assert last[0] < 0.3 * first[0] and last[1] < 0.8 * first[1]


def test_only_the_heads_and_the_forward_net_change(folder: Path) -> None:
    learner = _learner(folder)
    model = {name: value.clone() for name, value in learner.model.state_dict().items()}
    backbone = {name: value.clone() for name, value in learner.model.backbone.state_dict().items()}
    projection = learner.forward_model.text_projection.weight.detach().clone()
    for _ in range(3):
        learner.update()
    changed = {name for name, value in learner.model.state_dict().items() if not torch.equal(value, model[name])}
    assert {name.split(".")[0] for name in changed} == {"goal_embed", "action_head"}
    assert all(torch.equal(value, backbone[name]) for name, value in learner.model.backbone.state_dict().items())
    assert torch.equal(learner.forward_model.text_projection.weight, projection)


@pytest.mark.parametrize("strength", [0.0, 30.0])
def test_learning_rate_zero_changes_no_weight_to_the_bit(folder: Path, strength: float) -> None:
    learner = _learner(folder, replace(SMALL, learning_rate=0.0, protection=_springs(strength)))
    learner.protect(*learner.known())
    before, forward = _weights(learner), copy.deepcopy(learner.forward_model.state_dict())
    for _ in range(3):
        assert learner.update()  # the whole cycle runs
    assert all(torch.equal(value, before[name]) for name, value in _weights(learner).items())
    assert all(torch.equal(value, forward[name]) for name, value in learner.forward_model.state_dict().items())


def _drift(folder: Path, strength: float) -> float:
    learner = _learner(folder, replace(SMALL, protection=_springs(strength), learning_rate=3e-3))
    learner.protect(*learner.known())
    before = _weights(learner)
    for _ in range(20):
        learner.update()
    after = _weights(learner)
    return float(sum((after[name] - before[name]).square().sum() for name in before).sqrt())


def test_protection_holds_and_a_huge_one_holds_still(folder: Path) -> None:
    free, held, still = _drift(folder, 0.0), _drift(folder, 100.0), _drift(folder, 1e12)
    assert held < 0.9 * free
    assert still < 0.2 * free  # weights that no sample moves have no Fisher, and nothing to protect


def test_weights_that_matter_stay_to_the_last_digits_under_a_huge_spring(folder: Path) -> None:
    learner = _learner(folder, replace(SMALL, protection=EWCConfig(1e12), learning_rate=3e-3))
    learner.protect(*learner.known())
    assert learner.protection is not None and learner.protection.anchor_count == 1
    fisher = learner.protection.state_dict()["fisher"]
    assert sum(float(value.sum()) for value in fisher.values()) == pytest.approx(
        sum(value.numel() for value in fisher.values()), rel=1e-3
    )
    before = _weights(learner)
    for _ in range(5):
        learner.update()
    for name, value in _weights(learner).items():
        matters = fisher[name] > 1e-4
        torch.testing.assert_close(value[matters], before[name][matters], rtol=0, atol=1e-6)


def test_without_a_strategy_nothing_is_protected(folder: Path) -> None:
    learner = _learner(folder, replace(SMALL, protection=NoneConfig()))
    learner.protect(*learner.known())
    assert learner.protection is None


def test_what_is_known_is_all_experience_with_the_goals_that_were_asked(folder: Path) -> None:
    learner = _learner(folder, experience=10)
    fused, goals = learner.known()
    assert fused.shape == (10, FUSED) and goals.shape == (10, 5)
    assert torch.equal(goals[3], learner.buffer[3].goal) and torch.equal(fused[9], learner.buffer[9].fused)


def test_only_what_went_well_is_protected(folder: Path) -> None:
    """Palms that came to rest 4 and 6 cm from where they were asked to, and one on its place that did not rest."""
    learner = _learner(folder, replace(SMALL, known_m=0.05, protection=EWCConfig(1.0)), experience=3)
    place = torch.tensor([[0.3, 0.1, 0.2]])
    for item, (miss_m, weight) in zip(learner.buffer, ((0.04, 1.0), (0.06, 1.0), (0.0, 0.0)), strict=True):
        item.goal = make_goal(torch.tensor([1]), place)[0]
        item.achieved = make_goal(torch.tensor([1]), place + torch.tensor([[0.0, miss_m, 0.0]]))[0]
        item.weight = weight
    good, *rest = learner.buffer
    fused, goals = learner.known()
    assert torch.equal(fused, good.fused[None]) and torch.equal(goals, good.goal[None])
    learner.buffer.clear()
    learner.buffer.extend(rest)
    with pytest.raises(ValueError, match="no experience to protect yet"):
        learner.known()
    with pytest.warns(UserWarning, match="Nothing is protected: in 2 chunks no palm came to rest within 0.05 m"):
        assert learner.end_regime() == 0
    assert learner.protection is None and not learner.buffer
    learner.buffer.extend([good, *rest])
    assert learner.end_regime() == 1 and learner.protection is not None


def test_too_little_experience_teaches_nothing(folder: Path) -> None:
    learner = _learner(folder, experience=15)
    before = _weights(learner)
    assert learner.update() == {}
    assert all(torch.equal(value, before[name]) for name, value in _weights(learner).items())


def test_the_oldest_experience_is_forgotten_first(folder: Path) -> None:
    learner = _learner(folder, replace(SMALL, buffer_size=12), experience=0)
    made = _made_up(20)
    learner.buffer.extend(made)
    assert len(learner.buffer) == 12 and learner.buffer[0] is made[8]


@pytest.mark.parametrize("strength", [0.0, 30.0])
def test_a_restored_learner_goes_on_to_the_bit(folder: Path, tmp_path: Path, strength: float) -> None:
    config = replace(SMALL, protection=_springs(strength))
    learner = _learner(folder, config)
    for step in range(4):
        if step == 2:
            learner.protect(*learner.known())
        learner.update()
    torch.save(learner.state_dict(), tmp_path / "state.pt")
    other = _learner(folder, config, experience=3)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert len(other.buffer) == 40 and (other.protection is None) == (strength == 0.0)
    for _ in range(3):
        assert learner.update() == other.update()
    for name, value in learner.params.items():
        assert torch.equal(other.params[name], value), name
    for name, tensor in learner.forward_model.state_dict().items():
        assert torch.equal(other.forward_model.state_dict()[name], tensor), name
    assert learner.policy.rng.random() == other.policy.rng.random()  # the practice goes on where it was, too


def _decision(goal: Tensor, palms: Tensor, value: float) -> Decision:
    features: Any = type("Features", (), {"text": torch.full((1, 40), value)})()
    return Decision(features, {"eef": palms[None]}, goal, torch.full((1, 16, 17), value))


@pytest.mark.parametrize("hand", [0, 1])
@pytest.mark.parametrize(("last_move_m", "weight"), [(0.0, 1.0), (0.015, 1.0), (0.025, 0.0)])
def test_hindsight_puts_in_the_place_where_the_named_hand_came_to_rest(
    folder: Path, hand: int, last_move_m: float, weight: float
) -> None:
    learner = _learner(folder, experience=0)
    asked = goal_token(torch.tensor([[0.0, 0.0, 1.0, 1.0, 1.0]]))
    asked[0, hand] += 0.2  # the likelier hand
    palms = [torch.zeros(14) for _ in range(3)]
    palms[1][PALMS[hand]] = torch.tensor([0.30, 0.1, 0.2])
    palms[2][PALMS[hand]] = torch.tensor([0.30, 0.1, 0.2 + last_move_m])
    fused = [torch.full((40,), float(i)) for i in range(3)]
    for i in range(2):
        learner._episode.append(LivedChunk(_decision(asked, palms[i], float(i)), fused[i], palms[i]))
    learner._remember(fused[2], palms[2], 2)
    assert len(learner.buffer) == 2
    for i, item in enumerate(learner.buffer):
        assert torch.equal(item.fused, fused[i]) and torch.equal(item.fused_after, fused[i + 1])
        assert torch.equal(item.executed, torch.full((16, 17), float(i))) and float(item.text[0]) == i
        assert torch.equal(item.goal, asked[0])
        assert item.achieved[:2].tolist() == [1.0 - hand, float(hand)]
        assert goal_position(item.achieved[None])[0].tolist() == pytest.approx([0.30, 0.1, 0.2 + last_move_m])
        assert item.weight == weight


def test_a_chunk_that_was_cut_short_is_no_example_and_rest_is_judged_over_a_whole_one(env: Any, folder: Path) -> None:
    """36 steps are two chunks and four steps: too few to tell a palm at rest from one on its way."""
    short, long = (_learner(folder, SMALL, experience=0) for _ in range(2))
    for learner, steps in ((short, 36), (long, 48)):
        rollout(env, learner.policy, steps, seed=1, keep=(), on_chunk=lambda _, one=learner: one.before_chunk())
        learner.end_episode()
    assert len(short.buffer) == 2 and len(long.buffer) == 3
    for one, other in zip(short.buffer, long.buffer, strict=False):
        assert torch.equal(one.fused, other.fused) and torch.equal(one.executed, other.executed)
    assert torch.equal(short.buffer[1].fused_after, long.buffer[2].fused)  # of where the chunk ended, not the episode
    rollout(env, short.policy, 4, seed=1, keep=(), on_chunk=lambda _: short.before_chunk())
    short.end_episode()
    assert len(short.buffer) == 2 and short.episodes == 1


def test_chunks_of_which_only_a_part_is_carried_out_are_refused(env: Any, folder: Path) -> None:
    learner = _learner(folder, experience=0)
    with pytest.raises(ValueError, match="8 of 16 steps were carried out"):
        rollout(env, learner.policy, 48, seed=1, execute=8, keep=(), on_chunk=lambda _: learner.before_chunk())


@pytest.mark.parametrize("told", [True, False])
def test_an_episode_that_is_broken_off_leaks_into_no_other(env: Any, folder: Path, told: bool) -> None:
    learner = _learner(folder, experience=0)

    def three_times(_: Any) -> None:
        learner.before_chunk()
        if len(learner._episode) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rollout(env, learner.policy, 96, seed=1, keep=(), on_chunk=three_times)
    if told:
        learner.abandon_episode()
    rollout(env, learner.policy, 32, seed=2, keep=(), on_chunk=lambda _: learner.before_chunk())
    learner.end_episode()
    assert len(learner.buffer) == 2


def test_the_default_protects_as_the_benchmarks_default_arm_does() -> None:
    sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
    from forgetting_arms import ARMS, DEFAULT_ARM

    assert SelfLearnerConfig().protection == ARMS[DEFAULT_ARM].protection != NoneConfig()


def test_a_real_episode_becomes_experience(env: Any, folder: Path) -> None:
    learner = _learner(folder, replace(SMALL, practice_noise_m=0.05), experience=0)
    rollout(env, learner.policy, 48, seed=1, keep=(), on_chunk=lambda _: learner.before_chunk())
    palms = env._observe(env._state)["eef"]
    learner.end_episode()
    assert len(learner.buffer) == 3 and learner._episode == [] and learner.policy.decision is None
    items = list(learner.buffer)
    assert all(torch.equal(a.fused_after, b.fused) for a, b in zip(items[:-1], items[1:], strict=True))
    assert not torch.equal(items[-1].fused_after, items[-1].fused)
    assert all(
        torch.equal(item.text, items[0].text) and torch.equal(item.achieved, items[0].achieved) for item in items
    )
    hand = int(items[-1].goal[:2].argmax())
    np.testing.assert_allclose(goal_position(items[0].achieved[None])[0], palms[PALMS[hand]], atol=1e-6)
    again = len(learner.buffer)
    learner.end_episode()
    assert len(learner.buffer) == again  # nothing twice
    before = _weights(learner)
    learner.buffer.extend(_made_up(16))
    rollout(env, learner.policy, 32, seed=2, keep=(), on_chunk=lambda _: learner.before_chunk())
    assert set(learner.last_losses) == set(LOSSES)
    assert any(not torch.equal(value, before[name]) for name, value in _weights(learner).items())


def test_practice_moves_the_place_of_a_whole_episode_and_not_the_hand(folder: Path) -> None:
    policy = PractisingPolicy(tiny_model(folder), 0.05, np.random.default_rng(0))
    goal = make_goal(torch.tensor([1]), torch.tensor([[0.3, -0.1, 0.2]]))
    offsets = []
    for _ in range(400):
        policy.reset()
        moved = policy.choose_goal(goal)
        assert torch.equal(moved, policy.choose_goal(goal)) and torch.equal(moved[:, :2], goal[:, :2])
        offsets.append((goal_position(moved) - goal_position(goal))[0].numpy())
    assert np.std(offsets, axis=0) == pytest.approx(0.05, rel=0.15) and np.abs(np.mean(offsets, axis=0)).max() < 0.01


def test_without_practice_the_goal_is_the_one_that_was_read(env: Any, folder: Path) -> None:
    policy = PractisingPolicy(tiny_model(folder), 0.0, np.random.default_rng(0))
    rollout(env, policy, 16, seed=0, keep=())
    assert policy.decision is not None
    expected = goal_token(policy.model.goal_reader(policy.decision.features))
    assert torch.equal(policy.decision.goal, expected)


def test_a_learner_teaches_the_model_that_it_was_given(folder: Path) -> None:
    model: NeonVLA = tiny_model(folder)
    learner = NeonSelfLearner(model, ForwardModel.for_model(model))
    assert learner.config == SelfLearnerConfig() and learner.model is model
    online = {id(param) for part in (model.goal_embed, model.action_head) for param in part.parameters()}
    assert {id(param) for param in learner.params.values()} == online
