"""The learner on every kind of head and on a foundation model: real episodes, an update, protection, resumption."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_backbones import save_qwen_vl
from tiny_neon import open_reach, tiny_model

from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.model.video_backbone import BackboneConfig
from neon_sim.rollout import rollout
from neon_sim.training.adoption import AdoptionConfig, same_noise
from neon_sim.training.experience import stack
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.learning_state import load_learning_state, save_learning_state
from neon_sim.training.protection import EWCReplayConfig, ReplayConfig
from neon_sim.training.self_learner import NeonSelfLearner, SelfLearnerConfig

DIT = {"dit_hidden": 24, "dit_layers": 1, "dit_heads": 2}
HEADS: dict[str, dict[str, Any]] = {
    "MLP": {"head": {"use_action_chunking": False}},
    "chunking": {},
    "flow": {"head": {"head_type": "flow"}},
    "DiT": {"head": {"head_type": "dit", **DIT}},
    "ensemble": {"head": {"head_type": "ensemble", **DIT}},
    "state-relative": {"head": {"state_relative": True}},
    "state-relative flow": {"head": {"head_type": "flow", "state_relative": True}},
    "flow with cross-attention": {"head": {"head_type": "flow"}, "cross_attention": True},
}
FOUNDATION = "chunking on a foundation model"
CONFIG = SelfLearnerConfig(
    learning_rate=3e-4,
    batch_size=4,
    known_m=math.inf,  # an untrained policy comes to rest nowhere near
    settled_m=math.inf,  # or not at all
    fisher_samples=2,
    protection=EWCReplayConfig(replay=ReplayConfig(budget_bytes=500_000)),
    adoption=AdoptionConfig(trust_radius=10.0, tolerance=100.0, hold_back_every=2, least_held_back=1),
)


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    """One reach scene."""
    env = open_reach()
    yield env
    env.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's backbones lie."""
    return tmp_path_factory.mktemp("backbones")


def _learner(folder: Path, name: str) -> NeonSelfLearner:
    if name == FOUNDATION:
        pytest.importorskip("transformers")
        weights = folder / "qwen"
        weights = weights if weights.exists() else save_qwen_vl(weights)
        backbone = BackboneConfig(
            str(weights), max_frames=4, image_size=56, load_in_4bit=False, dtype="float32", device="cpu"
        )
        torch.manual_seed(1)
        model = NeonVLA(NeonConfig(backbone=backbone, mlp_hidden=24, proprioception_hidden=32, goal_width=16))
        model.load_backbone()
    else:
        model = tiny_model(folder / "compact", **HEADS[name])
    torch.manual_seed(2)
    return NeonSelfLearner(model, ForwardModel.for_model(model), CONFIG)


def _everything(learner: NeonSelfLearner) -> dict[str, torch.Tensor]:
    model = learner.model
    backbone = {f"backbone.{name}": value for name, value in model.backbone.state_dict().items()}
    return {name: value.clone() for name, value in {**model.state_dict(), **backbone}.items()}


@pytest.mark.parametrize("name", [*HEADS, FOUNDATION])
def test_it_learns_what_it_did_keeps_the_rest_frozen_and_resumes_to_the_bit(
    env: Any, folder: Path, tmp_path: Path, name: str
) -> None:
    learner = _learner(folder, name)
    for seed in (0, 1):  # the first is held back
        rollout(env, learner.policy, 64 if seed else 32, seed, keep=(), on_chunk=lambda _: learner.before_chunk())
        learner.end_episode()
    assert (len(learner.held_back), len(learner.buffer)) == (2, 4)
    for item in learner.buffer:  # as if another body had carried the chunks out, so that there is something to learn
        item.executed = (item.executed + 0.4).clamp(-1.0, 1.0)
        item.weight = 1.0
    batch = stack(list(learner.buffer))

    def hindsight() -> float:
        with torch.no_grad():
            return float(learner.losses(batch)["hindsight"])

    frozen = {n: v for n, v in _everything(learner).items() if not n.startswith(("goal_embed.", "action_head."))}
    before = same_noise(hindsight)()
    torch.manual_seed(0)  # heads that sample begin with the noise that they are judged with
    assert learner.update()
    assert same_noise(hindsight)() < before
    learner.protect(*learner.known())
    assert learner.protection is not None and learner.protection.anchor_count == 1
    learner.learn()
    assert learner.last_verdict is not None and learner.last_verdict.adopted
    now = _everything(learner)
    assert len(frozen) > 10 and all(torch.equal(now[n], value) for n, value in frozen.items())

    save_learning_state(tmp_path / "state.pt", learner)
    wanted = learner.update()
    other = _learner(folder, name)
    load_learning_state(tmp_path / "state.pt", other)
    assert other.update() == wanted
    for n, value in learner.params.items():
        assert torch.equal(other.params[n], value), n


def test_a_head_that_wants_more_than_features_and_goal_is_given_what_it_saw(env: Any, folder: Path) -> None:
    learner = _learner(folder, "state-relative flow")
    rollout(env, learner.policy, 16, 0, keep=(), on_chunk=lambda _: learner.before_chunk())
    decision = learner.policy.decision
    assert decision is not None
    learner.config = replace(CONFIG, adoption=None)  # nothing is held back
    learner.end_episode()
    (item,) = learner.buffer
    wanted = learner.model.action_state(decision.senses)
    assert wanted is not None and item.state is not None and torch.equal(item.state, wanted[0])
    assert item.tokens is None
    attending = _learner(folder, "flow with cross-attention")
    rollout(env, attending.policy, 16, 0, keep=())
    assert attending.policy.decision is not None
    attending.end_episode()
    (item,) = attending.held_back
    assert item.tokens is not None and item.tokens.shape == (attending.model.backbone.num_tokens, 40)
