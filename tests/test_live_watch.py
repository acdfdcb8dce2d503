"""Somebody who looks on changes nothing, and what is said afterwards are the learner's own figures."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_self_learner import _made_up
from tiny_neon import open_reach, tiny_learning, tiny_model

from neon_sim.eval.learner_watch import LearnerWatch, LifeRecord, movement
from neon_sim.eval.watched_life import live_watched, open_life
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.sim.faults import ActuatorFault
from neon_sim.training.adoption import AdoptionConfig
from neon_sim.training.drift import DriftConfig
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.online import LifeConfig, LifeEpisode, live, save_forward_model
from neon_sim.training.self_learner import NeonSelfLearner

LEARNER = tiny_learning(batch_size=3)
FAULT = ActuatorFault("right_shoulder_pitch_joint", strength=0.7, bias=0.3)
LIFE = LifeConfig(healthy_episodes=2, faulty_episodes=2, steps=48, fault=FAULT)
CURVE = LifeEpisode(0, False, True, 0.02, 1)


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    """One reach scene."""
    env = open_reach()
    yield env
    env.close()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random policy with its forward model."""
    folder = tmp_path_factory.mktemp("pretrained")
    model = tiny_model(folder / "backbone")
    model.save_pretrained(folder / "policy")
    torch.manual_seed(3)
    save_forward_model(ForwardModel.for_model(model), folder / "policy")
    return folder / "policy"


def _learner(folder: Path, **changes: Any) -> NeonSelfLearner:
    model = tiny_model(folder)
    torch.manual_seed(2)
    return NeonSelfLearner(model, ForwardModel.for_model(model), replace(LEARNER, **changes))


def test_a_watched_life_is_the_same_life_and_goes_on_where_it_stopped(env: Any, policy: Path, tmp_path: Path) -> None:
    curve = live(env, policy, LEARNER, LIFE, tmp_path / "alone")

    def stop(lines: list[Any]) -> None:
        if len(lines) == 3:
            raise KeyboardInterrupt

    folder = tmp_path / "watched"
    with pytest.raises(KeyboardInterrupt):
        live_watched(env, open_life(policy, LEARNER, folder, "ewc")[1], LIFE, folder, on_episode=stop)
    lived: list[int] = []
    _, watch = open_life(policy, LEARNER, folder, "ewc")
    record = live_watched(env, watch, LIFE, folder, on_episode=lambda lines: lived.append(len(lines)))
    assert lived == [4] and [line.curve for line in record.lines] == curve
    one, other = (NeonVLA.from_pretrained(tmp_path / name / "policy").state_dict() for name in ("alone", "watched"))
    assert all(torch.equal(other[name], value) for name, value in one.items())
    assert LifeRecord.from_json((folder / "life.json").read_text()) == record
    assert [line.phase for line in record.lines] == ["healthy", "healthy", "faulty", "faulty"]
    # 48 steps are 3 chunks, of which 2 have a chunk before them; a batch of 3 is there once one episode is over.
    assert [line.learned_chunks for line in record.lines] == [0, 2, 0, 2]
    assert [line.penalty is None for line in record.lines] == [True, True, False, False]
    assert all(line.residual is not None and line.residual > 0.0 for line in record.lines)
    (protected,) = record.protected
    assert (protected.phase, protected.strategy, protected.chunks) == ("healthy", "ewc", 6)
    assert record.movement is not None and record.movement.others > 0.0


def test_the_residual_of_an_episode_is_the_forward_models_error_on_its_chunks(tmp_path: Path) -> None:
    learner = _learner(tmp_path, adoption=AdoptionConfig(hold_back_every=2, least_held_back=1))
    watch = LearnerWatch(learner, LifeRecord("ewc", 1))
    items = _made_up(6)
    for part in (items[:3], items[3:]):  # the first episode is held back, the second is not
        learner._keep(part)
        found = watch.after_episode("healthy", CURVE).residual
        with torch.no_grad():
            errors = [learner.forward_model(i.fused[None], i.executed[None])[0] - i.fused_after for i in part]
        assert found == pytest.approx(sum(float(error.square().mean()) for error in errors) / 3)
    assert len(learner.held_back) == len(learner.buffer) == 3
    assert watch.after_episode("healthy", CURVE).residual is None  # nothing came in


def test_what_is_refused_shortened_and_left_out_is_counted(tmp_path: Path) -> None:
    checks = AdoptionConfig(halvings=0, least_held_back=6)
    learner = _learner(tmp_path, adoption=checks, drift=DriftConfig(), learning_rate=1.0)
    watch = LearnerWatch(learner, LifeRecord("ewc", 1))
    assert learner.drift is not None
    learner.drift.speed = 1
    broken = _made_up(21)
    broken[0].fused[0] = float("nan")
    learner._keep(_made_up(8))
    learner._keep(broken)
    for _ in range(2):
        learner.learn()
        watch.after_chunk()
    line = watch.after_episode("healthy", CURVE)
    record = watch.record
    assert line.learning and line.learned_chunks == 2 and set(line.losses) == set(learner.last_losses)
    assert (record.proposals, record.adoptions, record.shortened, record.unusable) == (2, 0, 0, 1)
    assert len(record.refusals) == 2 and all("trust region" in why or "held-back" in why for why in record.refusals)
    assert record.drift_log == []
    assert watch.after_episode("healthy", CURVE).learning is False


def test_rate_zero_is_no_learning(tmp_path: Path) -> None:
    learner = _learner(tmp_path, learning_rate=0.0)
    learner.buffer.extend(_made_up(8))
    watch = LearnerWatch(learner, LifeRecord("lr0", 1))
    learner.learn()
    watch.after_chunk()
    line = watch.after_episode("healthy", CURVE)
    assert line.learned_chunks == 1 and not line.learning


def test_movement_by_hand() -> None:
    """Of 200 weights the two with the largest Fisher moved by 3 and 4, the others by 1."""
    fisher = torch.ones(200)
    fisher[[10, 20]] = 5.0
    gap = torch.ones(200)
    gap[[10, 20]] = torch.tensor([3.0, 4.0])
    found = movement({"w": gap + 0.5}, {"w": torch.full((200,), 0.5)}, {"w": fisher})
    assert found is not None
    assert found.stiff == pytest.approx((25 / 2) ** 0.5) and found.others == pytest.approx(1.0)
    assert movement({"w": torch.ones(1)}, {"w": torch.zeros(1)}, {"w": torch.ones(1)}) is None


def test_half_of_the_fisher(tmp_path: Path) -> None:
    learner = _learner(tmp_path)
    watch = LearnerWatch(learner, LifeRecord("ewc", 1))
    weights = sum(param.numel() for param in learner.params.values())
    name = next(iter(learner.params))
    fisher = {key: torch.zeros_like(param) for key, param in learner.params.items()}
    fisher[name].view(-1)[:4] = torch.tensor([3.0, 1.0, 1.0, 1.0])
    learner.strategy.end_regime(lambda: fisher)
    watch.after_protection("healthy", 12)
    (entry,) = watch.record.protected
    assert entry.weights == weights and entry.half_share == pytest.approx(1 / weights) and entry.chunks == 12
