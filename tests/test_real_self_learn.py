"""Self-learning over the robot interface: the simulated robot as a process, in lock-step, and a tiny checkpoint."""

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bridge_process import PATIENT_S, BridgeProcess, bridge_process, free_ports
from tiny_neon import tiny_model

from neon_sim.env import NeonG1Config
from neon_sim.episode import NeonEpisode
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.real.env import NeonG1RealEnv
from neon_sim.real.robot_config import sim_bridge
from neon_sim.real.run import main
from neon_sim.real.safety_stop import Phase
from neon_sim.real.self_learn import Consent, LearnConfig, RobotLearning, holds_still
from neon_sim.real.senses import simulated_senses
from neon_sim.shipped import asset_path
from neon_sim.training.adoption import AdoptionConfig
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.learner_config import DOCUMENTS_LOSSES
from neon_sim.training.learning_state import save_learning_state
from neon_sim.training.online import save_forward_model
from neon_sim.training.protection import OnlineEWCConfig
from neon_sim.training.self_learner import SelfLearnerConfig

pytest.importorskip("zmq")

# Two chunks an episode: the first is held back, the second is learned from, and whatever is learned passes the check.
ANYTHING = AdoptionConfig(trust_radius=10.0, tolerance=100.0, hold_back_every=2, least_held_back=1)
# An untrained policy: its palms come to rest nowhere near their goals, so hindsight alone has little to go by.
LEARNER = SelfLearnerConfig(
    batch_size=2, updates_per_chunk=2, adoption=ANYTHING, known_m=math.inf, learning_rate=3e-4, **DOCUMENTS_LOSSES
)
CONFIG = LearnConfig(2, 32, LEARNER)


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
def bridge() -> Iterator[tuple[BridgeProcess, int]]:
    (port,) = free_ports(1)
    arguments = ("--lock-step", "--lock-step-s", "0.02", "--start", "released")
    with bridge_process(*arguments, "--senses", "camera", "--camera-port", str(port)) as running:
        yield running, port


@pytest.fixture
def env(bridge: tuple[BridgeProcess, int]) -> Iterator[NeonG1RealEnv]:
    """An armed robot."""
    running, port = bridge
    running.tell(faults={})
    config = replace(sim_bridge(running.domain, clock="lock_step"), senses=simulated_senses(("camera",), port))
    limits = replace(config.control.limits, joint_speed=100.0)  # it jumps home from where the test before left it
    config = replace(config, control=replace(config.control, limits=limits))
    world = NeonG1Config(sensors=("proprio", "camera"), max_steps=10**6)
    with closing(NeonG1RealEnv(world, replace(config, wait_s=PATIENT_S), "reach the ball")) as opened:
        opened.robot.arm()
        yield opened


def changed(policy: Path, learned: Path) -> set[str]:
    """The parts of the network whose weights differ."""
    before, after = (NeonVLA.from_pretrained(folder).state_dict() for folder in (policy, learned))
    return {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}


def learn(policy: Path, folder: Path, env: NeonG1RealEnv, consent: Consent) -> tuple[bool, RobotLearning, list[int]]:
    """Run with that person at the keyboard; also the lengths of the episodes that were handed out."""
    learning, lengths = RobotLearning(policy, folder, CONFIG, consent), []

    def keep(episode: NeonEpisode) -> None:
        assert env.robot.phase is not Phase.RUNNING or not learning.learner.acts
        lengths.append(len(episode))

    return learning.run(env, keep), learning, lengths


def test_what_was_learned_is_adopted_when_a_person_agrees_and_the_walker_never_changes(env, policy, tmp_path):
    walker = {path: path.read_bytes() for path in asset_path("g1/walker").iterdir()}
    asked: list[str] = []

    def agrees(words: str) -> bool:
        assert env.robot.phase is Phase.STANDING
        asked.append(words)
        return True

    goes_on, learning, lengths = learn(policy, tmp_path, env, agrees)
    assert goes_on and lengths == [32, 32]
    assert [line.adopted for line in learning.record] == [False, True] and len(asked) == 1
    assert learning.record[0].why.startswith("not enough experience") and asked[0] in learning.record[1].why
    assert changed(policy, tmp_path / "policy") <= {"goal_embed", "action_head"} != set()
    assert changed(policy, tmp_path / "policy")
    assert walker == {path: path.read_bytes() for path in asset_path("g1/walker").iterdir()}
    again = RobotLearning(policy, tmp_path, CONFIG, agrees)  # a later run goes on from here
    assert again.record == learning.record and again.learner.episodes == 2
    for name, value in again.learner.params.items():
        assert torch.equal(value, learning.learner.params[name]), name


def test_a_person_who_does_not_agree_keeps_the_old_weights_to_the_bit(env, policy, tmp_path):
    goes_on, learning, _ = learn(policy, tmp_path, env, lambda words: False)
    assert goes_on and not any(line.adopted for line in learning.record)
    assert "nobody has confirmed" in learning.record[1].why
    assert changed(policy, tmp_path / "policy") == set()


def test_with_drift_nothing_is_learned_before_a_change_and_what_was_known_is_protected_when_one_comes(
    env, policy, tmp_path, capsys
):
    config = CONFIG.by_itself()
    config = replace(config, learner=replace(config.learner, fisher_samples=2, protection=OnlineEWCConfig()))
    learning = RobotLearning(policy, tmp_path, config, lambda words: True)
    assert learning.run(env, lambda episode: None)
    assert [line.why for line in learning.record] == ["nothing was learned: the drift detector sees no change"] * 2
    assert changed(policy, tmp_path / "policy") == set() and learning.learner.protection is None
    drift = learning.learner.drift
    drift.change, drift.speed = drift.chunk, 1  # as the detector leaves it, had the last chunk been a strange one
    assert learning.run(env, lambda episode: None)
    assert learning.learner.protection.anchor_count == 1 and learning.record[3].adopted
    assert "online_ewc keeps what 2 chunks had shown" in capsys.readouterr().out


@pytest.mark.slow
def test_nothing_is_adopted_on_a_robot_that_does_not_stand_any_more(env, policy, tmp_path):
    def agrees_too_late(words: str) -> bool:
        env.robot.halt()
        return True

    goes_on, learning, _ = learn(policy, tmp_path, env, agrees_too_late)
    assert not goes_on and "does not hold still" in learning.record[1].why
    assert changed(policy, tmp_path / "policy") == set()


@pytest.mark.slow
def test_an_episode_that_was_cut_short_is_no_experience(env, bridge, policy, tmp_path):
    endless = replace(CONFIG, steps=10**5)
    learning, lengths = RobotLearning(policy, tmp_path, endless, lambda words: True), []
    before_chunk = learning.learner.before_chunk

    def spoil() -> None:
        bridge[0].tell(faults={"winding_c": 130})
        before_chunk()

    learning.learner.before_chunk = spoil
    assert not learning.run(env, lambda episode: lengths.append(len(episode)))
    assert len(lengths) == 1 and env.robot.phase is Phase.DAMPING and not holds_still(env.robot)
    assert learning.learner.episodes == 0 and not learning.record and not (tmp_path / "state.pt").exists()


def test_what_cannot_be_saved_is_said_and_the_robot_goes_on(policy, tmp_path):
    (tmp_path / "full").write_text("no folder can be made here")
    learning = RobotLearning(policy, tmp_path / "full" / "self_learn", CONFIG, lambda words: True)
    with pytest.warns(UserWarning, match="could not be saved.*Make room"):
        learning._save()


def test_an_update_without_a_check_is_refused():
    with pytest.raises(ValueError, match="stand up to a check"):
        LearnConfig(learner=SelfLearnerConfig())


@pytest.mark.slow
def test_the_command_line_learns_on_the_simulated_robot(policy, tmp_path, capsys):
    arguments = ["--policy", str(policy), "--robot", "sim-bridge", "--lock-step", "--domain", "99"]
    arguments += ["--sensors", "proprio", "camera", "--steps", "32", "--out", str(tmp_path)]
    assert main([*arguments, "--self-learn", "--episodes", "2", "--yes"]) == 0
    said = capsys.readouterr().out
    assert "Episode 1: not enough experience" in said and said.count("Kept as episode") == 2
    assert changed(policy, tmp_path / "self_learn" / "policy") == set()


def test_what_another_head_has_learned_is_refused_and_stays(policy, tmp_path):
    learning = RobotLearning(policy, tmp_path, CONFIG, lambda words: True)
    save_learning_state(tmp_path / "state.pt", learning.learner, {"record": []})
    saved = (tmp_path / "state.pt").read_bytes()
    wider = tiny_model(tmp_path / "backbone", mlp_hidden=32)
    wider.save_pretrained(tmp_path / "wider")
    save_forward_model(ForwardModel.for_model(wider), tmp_path / "wider")
    with pytest.raises(ValueError, match="was saved with another head"):
        RobotLearning(tmp_path / "wider", tmp_path, CONFIG, lambda words: True)
    assert (tmp_path / "state.pt").read_bytes() == saved


def test_a_checkpoint_that_does_not_fit_is_refused_before_anything_moves(policy, bridge, tmp_path):
    config = replace(sim_bridge(bridge[0].domain, clock="lock_step"), wait_s=PATIENT_S)
    learning = RobotLearning(policy, tmp_path, CONFIG, lambda words: True)
    with closing(NeonG1RealEnv(NeonG1Config(control_mode="upper_body", sensors=("proprio",)), config)) as env:
        with pytest.raises(ValueError, match="action space is arms_only.*wanted upper_body"):
            learning.run(env, lambda episode: None)
        assert env.robot.phase is Phase.UNARMED
