"""A whole small life in a real env: healthy, then broken; stopped and resumed it is the same life."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_neon import open_reach, tiny_model

from neon_sim.model.neon_vla import NeonVLA
from neon_sim.sim.faults import ActuatorFault
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.online import (
    LifeConfig,
    LifeEpisode,
    live,
    load_forward_model,
    save_forward_model,
)
from neon_sim.training.protection import EWCConfig, NoneConfig
from neon_sim.training.self_learner import SelfLearnerConfig

FAULT = ActuatorFault("right_shoulder_pitch_joint", strength=0.5, bias=0.4)
LIFE = LifeConfig(healthy_episodes=3, faulty_episodes=3, steps=32, fault=FAULT)
LEARNER = SelfLearnerConfig(
    batch_size=4, updates_per_chunk=1, protection=EWCConfig(30.0), fisher_samples=8, practice_noise_m=0.03, seed=1
)


@pytest.fixture(scope="module")
def env():
    """One reach scene."""
    env = open_reach()
    yield env
    env.close()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random policy with its forward model, as agents/pretrain.py leaves one."""
    folder = tmp_path_factory.mktemp("pretrained")
    model = tiny_model(folder / "backbone")
    model.save_pretrained(folder / "policy")
    torch.manual_seed(3)
    save_forward_model(ForwardModel.for_model(model), folder / "policy")
    return folder / "policy"


@pytest.fixture(scope="module")
def whole(env: Any, policy: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[LifeEpisode], Path]:
    """An uninterrupted life."""
    folder = tmp_path_factory.mktemp("whole")
    return live(env, policy, LEARNER, LIFE, folder), folder


def test_a_life_is_healthy_then_faulty_and_leaves_a_policy(whole: tuple[list[LifeEpisode], Path], policy: Path) -> None:
    curve, folder = whole
    assert [line.episode for line in curve] == list(range(6))
    assert [line.faulty for line in curve] == [False] * 3 + [True] * 3
    assert all(0.0 < line.final_distance < 1.5 and line.hand in (0, 1) for line in curve)
    before, after = NeonVLA.from_pretrained(policy), NeonVLA.from_pretrained(folder / "policy")
    changed = {
        name.split(".")[0]
        for name, value in after.state_dict().items()
        if not torch.equal(value, before.state_dict()[name])
    }
    assert changed == {"goal_embed", "action_head"}


def _stopped_at(env: Any, policy: Path, folder: Path, episode: int) -> list[int]:
    """Live until Ctrl-C in `episode`, then resume; returns the episodes that the second run played."""

    def stop(line: LifeEpisode, losses: dict[str, float]) -> None:
        if line.episode == episode:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        live(env, policy, LEARNER, LIFE, folder, stop)
    played: list[int] = []
    live(env, policy, LEARNER, LIFE, folder, lambda line, losses: played.append(line.episode))
    return played


@pytest.mark.parametrize(("stop_in", "goes_on_with"), [(2, 3), (4, 5)])
def test_a_stopped_life_goes_on_as_if_it_had_not_been(
    env: Any, policy: Path, whole: tuple[list[LifeEpisode], Path], tmp_path: Path, stop_in: int, goes_on_with: int
) -> None:
    played = _stopped_at(env, policy, tmp_path, stop_in)
    assert played == list(range(goes_on_with, 6))
    curve, folder = whole
    assert live(env, policy, LEARNER, LIFE, tmp_path) == curve  # the finished life is read, not played
    one, other = (NeonVLA.from_pretrained(path / "policy").state_dict() for path in (folder, tmp_path))
    for name, value in one.items():
        assert torch.equal(other[name], value), name


def test_a_finished_life_is_not_lived_again(env: Any, policy: Path, whole: tuple[list[LifeEpisode], Path]) -> None:
    curve, folder = whole
    played: list[int] = []
    assert live(env, policy, LEARNER, LIFE, folder, lambda line, losses: played.append(line.episode)) == curve
    assert played == []


def test_rate_zero_lives_through_it_all_and_stays_as_it_was(env: Any, policy: Path, tmp_path: Path) -> None:
    config = replace(LEARNER, learning_rate=0.0, protection=NoneConfig())
    losses: list[dict[str, float]] = []
    live(env, policy, config, LIFE, tmp_path, lambda line, last: losses.append(last))
    assert losses[-1]  # it did compute them
    before, after = (NeonVLA.from_pretrained(path).state_dict() for path in (policy, tmp_path / "policy"))
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_seed_chooses_the_episodes_and_the_arm_does_not(env: Any, policy: Path, tmp_path: Path) -> None:
    life = replace(LIFE, healthy_episodes=2, faulty_episodes=1)
    config = replace(LEARNER, practice_noise_m=0.0, protection=NoneConfig())
    lr0 = live(env, policy, replace(config, learning_rate=0.0), life, tmp_path / "a")
    naive = live(env, policy, config, life, tmp_path / "b")
    other = live(env, policy, replace(config, learning_rate=0.0, seed=2), life, tmp_path / "c")
    assert lr0[0] == naive[0]  # nothing is learned before there is a batch
    assert not {line.final_distance for line in lr0} & {line.final_distance for line in other}


def test_the_fault_comes_when_it_is_due(env: Any, policy: Path, tmp_path: Path) -> None:
    config = replace(LEARNER, learning_rate=0.0, protection=NoneConfig())
    broken = live(env, policy, config, LIFE, tmp_path / "a")
    spared = live(env, policy, config, replace(LIFE, fault=None), tmp_path / "b")
    assert broken[:3] == spared[:3]
    right = [(one, two) for one, two in zip(broken[3:], spared[3:], strict=True) if one.hand == 1]
    assert right and all(one.final_distance != two.final_distance for one, two in right)


def test_the_forward_model_comes_back_or_is_refused(policy: Path, tmp_path: Path) -> None:
    model = NeonVLA.from_pretrained(policy)
    saved = torch.load(policy / "forward_model.pt", weights_only=True)
    loaded = load_forward_model(model, policy).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in saved.items())
    with pytest.raises(ValueError, match="has no fitting forward_model.pt.*agents/pretrain.py"):
        load_forward_model(model, tmp_path)
    whole_file = (policy / "forward_model.pt").read_bytes()
    for content in (b"", b"nonsense", whole_file[:-500], whole_file[: len(whole_file) // 2]):
        (tmp_path / "forward_model.pt").write_bytes(content)
        with pytest.raises(ValueError, match="has no fitting forward_model.pt"):
            load_forward_model(model, tmp_path)
    for foreign in ([1, 2], {"net.0.weight": torch.zeros(1)}, ForwardModel(41, 16, 17, 40).state_dict()):
        torch.save(foreign, tmp_path / "forward_model.pt")
        with pytest.raises(ValueError, match="has no fitting forward_model.pt"):
            load_forward_model(model, tmp_path)
