"""A planner as teacher: its chunk is what its commands would send, the heads learn it, a stopped course goes on."""

import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_neon import open_reach, tiny_model
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import teaching as benchmark

from neon_sim.eval.evaluate import EpisodeResult
from neon_sim.g1 import joints
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.model.goal import make_goal
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.rollout import rollout
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.online import LifeEpisode, save_forward_model
from neon_sim.training.protection import EWCConfig, NoneConfig, OnlineEWCConfig
from neon_sim.training.self_learner import NeonSelfLearner, SelfLearnerConfig
from neon_sim.training.teaching import PlanningTeacher, TeachingConfig, commanded_chunk, palms_wanted, teach
from neon_sim.world_model.bundle import Bundle, load_bundle, save_bundle
from neon_sim.world_model.command_space import carry_out, command_space
from neon_sim.world_model.config import lewm_config
from neon_sim.world_model.controllers import PlanningConfig
from neon_sim.world_model.dataset import Rollouts
from neon_sim.world_model.parts import PartsConfig, fit_parts
from neon_sim.world_model.rollouts import RolloutConfig, open_worker, record_shard, shards_of
from neon_sim.world_model.training import WorldModelTrainer
from neon_sim.world_model.training_config import WorldModelTraining

SPACE = command_space("reach")
COURSE = TeachingConfig(
    own_episodes=2, taught_episodes=2, steps=32, planning=PlanningConfig(samples=8, iterations=1, horizon=2)
)
LEARNER = SelfLearnerConfig(
    batch_size=2, updates_per_chunk=1, protection=EWCConfig(30.0), fisher_samples=4, practice_noise_m=0.02, seed=1
)


@pytest.fixture(scope="module")
def env() -> Any:
    made = open_reach()
    yield made
    made.close()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A world model of reach, recorded, trained and fitted in seconds; saved and loaded, as the benchmark has it."""
    folder = tmp_path_factory.mktemp("world")
    config = RolloutConfig("reach", episodes=4, steps=12, image_size=32, shard_episodes=4)
    open_worker(config)
    for shard in shards_of(config, folder):
        record_shard(shard)
    training = WorldModelTraining(size="tiny", updates=8, batch=4, held_out=0.25)
    trainer = WorldModelTrainer(lewm_config("tiny", action_dim=SPACE.dim), training, Rollouts(folder), folder / "run")
    assert trainer.run()
    parts = PartsConfig(episodes=3, readout_epochs=2, reader_updates=2, head_updates=2, distil_plans=0)
    save_bundle(fit_parts("reach", trainer.model, trainer.train_set, parts), folder / "model")
    return load_bundle(folder / "model")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    model = tiny_model(folder / "backbone")
    model.save_pretrained(folder / "policy")
    torch.manual_seed(3)
    save_forward_model(ForwardModel.for_model(model), folder / "policy")
    return folder / "policy"


@pytest.fixture(scope="module")
def whole(env: Any, policy: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    lines = teach(env, policy, bundle, LEARNER, COURSE, folder)
    assert [line.faulty for line in lines] == [False, False, True, True]
    return folder


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return NeonVLA.from_pretrained(folder).state_dict()


def test_a_chunk_goes_on_from_the_targets_that_the_command_before_it_ended_with() -> None:
    proprio = np.zeros(125)
    proprio[:29] = joints.HOME
    proprio[121] = -1.0  # gravity points down
    commands = np.random.default_rng(0).uniform(-1, 1, (4, 6))
    chunk = commanded_chunk(SPACE, commands, proprio)
    assert chunk.shape == (16, 17)
    np.testing.assert_array_equal(chunk[:5], carry_out(SPACE, commands[0], proprio))
    arms = joints.GROUPS["arms"]
    targets = np.vstack([joints.HOME, G1ActionSpace("arms_only").decode(chunk)[0]])[:, arms]
    assert np.abs(np.diff(targets, axis=0)).max() <= 0.036 + 1e-9  # rad a tick, over the seams as well
    assert np.abs(targets[-1] - targets[5]).max() > 0.05
    with pytest.raises(ValueError, match="16 ticks want 4 commands of 5, got 3"):
        commanded_chunk(SPACE, commands[:3], proprio)


def test_the_palm_of_the_goal_is_wanted_there_and_the_other_waits() -> None:
    wanted = palms_wanted(SPACE, 1, np.array([0.3, -0.1, 0.2]))
    np.testing.assert_allclose(wanted[1], [0.3, -0.1, 0.2])
    np.testing.assert_allclose(wanted[0], [0.14, 0.20, -0.02])


def test_the_teacher_acts_and_its_chunk_is_remembered(env: Any, policy: Path, bundle: Bundle) -> None:
    model = NeonVLA.from_pretrained(policy)
    teacher = PlanningTeacher(model, bundle, COURSE, 0.0, np.random.default_rng(0))
    episode = rollout(env, teacher, 16, seed=5, keep=())
    assert teacher.decision is not None
    np.testing.assert_array_equal(episode.actions, teacher.decision.chunk[0].numpy())
    with torch.no_grad():
        heads, _ = model(teacher.decision.features, teacher.decision.senses, teacher.decision.goal)
    assert float((heads - teacher.decision.chunk).abs().max()) > 0.01
    again = rollout(env, PlanningTeacher(model, bundle, COURSE, 0.0, np.random.default_rng(0)), 16, seed=5, keep=())
    np.testing.assert_array_equal(again.actions, episode.actions)


def test_the_planner_searches_for_the_goal_that_the_policy_read(env: Any, policy: Path, bundle: Bundle) -> None:
    listening = deepcopy(bundle)  # after eight updates a predictor hardly listens to actions yet (adaLN-zero)
    for module in listening.model.predictor.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.5 * module.in_features**-0.5)
    course = replace(COURSE, planning=PlanningConfig(samples=32, iterations=2, horizon=2))
    teacher = PlanningTeacher(NeonVLA.from_pretrained(policy), listening, course, 0.0, np.random.default_rng(0))
    rollout(env, teacher, 1, seed=5, keep=())
    assert teacher.decision is not None
    decision, chunks = teacher.decision, []
    for hand, point in ((0, [0.36, 0.24, 0.3]), (1, [0.16, -0.1, 0.3])):
        teacher.rng = np.random.default_rng(0)
        goal = make_goal(torch.tensor([hand]), torch.tensor([point]))
        chunks.append(teacher.decode(decision.features, decision.senses, goal))
    assert not torch.equal(*chunks)


def test_what_a_chunk_missed_is_taken_off_the_next_goal(env: Any, policy: Path, bundle: Bundle) -> None:
    teacher = PlanningTeacher(NeonVLA.from_pretrained(policy), bundle, COURSE, 0.0, np.random.default_rng(0))
    rollout(env, teacher, 32, seed=5, keep=())
    aimed = teacher._controller._problem
    assert teacher.decision is not None
    goal = teacher.decision.goal[0]
    wanted = palms_wanted(SPACE, int(goal[:2].argmax()), 0.25 * goal[2:].double().numpy())
    np.testing.assert_allclose(aimed.wanted, wanted - teacher._missed, atol=1e-9)
    assert np.abs(teacher._missed).max() > 1e-3  # an untrained model is wrong
    believed = PlanningTeacher(
        NeonVLA.from_pretrained(policy), bundle, replace(COURSE, offset_gain=0.0), 0.0, np.random.default_rng(0)
    )
    rollout(env, believed, 32, seed=5, keep=())
    assert not believed._missed.any()
    teacher.reset()
    assert not teacher._missed.any()


def test_the_heads_come_nearer_to_the_planners_chunks(env: Any, policy: Path, bundle: Bundle) -> None:
    model = NeonVLA.from_pretrained(policy)
    config = replace(LEARNER, protection=NoneConfig(), updates_per_chunk=40, learning_rate=3e-3)
    learner = NeonSelfLearner(model, ForwardModel.for_model(model), config)
    learner.policy = PlanningTeacher(model, bundle, COURSE, 0.0, learner.rng)
    rollout(env, learner.policy, 48, seed=5, keep=(), on_chunk=lambda _: learner.before_chunk())
    learner.end_episode()
    taught = list(learner.buffer)
    assert len(taught) == 3 and not torch.equal(taught[0].executed, taught[1].executed)

    def error() -> float:
        with torch.no_grad():
            told = learner.decoder(
                torch.stack([item.fused for item in taught]), torch.stack([item.achieved for item in taught])
            )
        return float((told - torch.stack([item.executed for item in taught])).square().mean())

    before = error()
    for item in taught:
        item.weight = 1.0  # whether the palm had come to rest is not the question here
    learner.learn()
    assert error() < 0.7 * before


def test_a_course_changes_the_heads_and_nothing_else(whole: Path, policy: Path) -> None:
    before, after = _weights(policy), _weights(whole / "policy")
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed and changed <= {"goal_embed", "action_head"}


def test_a_stopped_course_ends_as_the_whole_one(
    env: Any, policy: Path, bundle: Bundle, whole: Path, tmp_path: Path
) -> None:
    def stop(line: LifeEpisode, losses: dict[str, float]) -> None:
        if line.episode == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach(env, policy, bundle, LEARNER, COURSE, tmp_path, stop)
    played: list[int] = []
    teach(env, policy, bundle, LEARNER, COURSE, tmp_path, lambda line, losses: played.append(line.episode))
    assert played == [3]
    whole_weights, resumed = _weights(whole / "policy"), _weights(tmp_path / "policy")
    assert all(torch.equal(whole_weights[name], resumed[name]) for name in resumed)


def test_what_cannot_teach_is_refused(policy: Path, bundle: Bundle) -> None:
    model = NeonVLA.from_pretrained(policy)
    with pytest.raises(ValueError, match="world model of reach, got one of navigate"):
        PlanningTeacher(model, replace(bundle, task="navigate"), COURSE, 0.0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="icem"):
        replace(COURSE, planner="icm")
    with pytest.raises(ValueError, match="one or more"):
        replace(COURSE, own_episodes=0)
    with pytest.raises(ValueError, match="wanted 0 to 1, got 1.5"):
        replace(COURSE, offset_gain=1.5)


def test_arms_differ_in_what_their_names_say() -> None:
    preset = benchmark.PRESETS["full"]
    arms = {arm: benchmark.Course(arm, 2, preset, "", "", "", 0) for arm in benchmark.ARMS}
    learners = {arm: benchmark.learner_of(course) for arm, course in arms.items()}
    assert learners["taught_ewc"] == learners["own_ewc"] and learners["taught_ewc"].protection == OnlineEWCConfig()
    assert learners["taught_naive"].protection == NoneConfig() and learners["taught_naive"].learning_rate > 0.0
    assert learners["taught_lr0"].learning_rate == 0.0 and learners["taught_lr0"].seed == 2


def test_courses_belong_to_weights_and_not_to_places(bundle: Bundle, tmp_path: Path) -> None:
    heads, preset = tmp_path / "heads", benchmark.PRESETS["tiny"]
    heads.mkdir()
    (heads / "neon_weights.safetensors").write_bytes(b"heads")
    save_bundle(bundle, tmp_path / "world")
    settings = benchmark.settings_of(preset, heads, tmp_path / "world")
    for name in ("heads", "world"):
        (tmp_path / name).rename(tmp_path / f"moved_{name}")
    moved = tmp_path / "moved_heads", tmp_path / "moved_world"
    assert benchmark.settings_of(preset, *moved) == settings
    (moved[0] / "forward_model.pt").write_bytes(b"trained anew")
    assert benchmark.settings_of(preset, *moved)["policy"] != settings["policy"]
    other = deepcopy(bundle)
    with torch.no_grad():
        other.model.predictor.places.add_(1.0)
    save_bundle(other, moved[1])
    assert benchmark.settings_of(preset, *moved)["model"] != settings["model"]


def test_the_time_counts_what_is_left(tmp_path: Path) -> None:
    preset = benchmark.PRESETS["full"]  # courses of 100 episodes, 200 judged of each arm and robot
    courses = [benchmark.Course("own_ewc", seed, preset, "", "", str(tmp_path / f"{seed}"), 1) for seed in (0, 1)]
    told = benchmark.time_to_go(courses, ["own_ewc"], preset, tmp_path, 2)
    assert told.startswith("1000 of 1000 episodes")
    (tmp_path / "0" / "policy").mkdir(parents=True)
    (tmp_path / "judged_before.json").write_text("{}")
    minutes = (100 * benchmark.TAUGHT_S + 400 * benchmark.JUDGED_S) / 2 / 60
    told = benchmark.time_to_go(courses, ["own_ewc"], preset, tmp_path, 2)
    assert told.startswith(f"500 of 1000 episodes are to be played: roughly {minutes:.0f} min with 2")


def test_figures_by_hand() -> None:
    results = [EpisodeResult("", i, i < 3, 0.01 * i, False) for i in range(4)]
    lines = [
        LifeEpisode(0, False, True, 0.0, 0),
        LifeEpisode(1, True, True, 0.0, 0),
        LifeEpisode(2, True, False, 0.1, 0),
    ]
    figures, rows = benchmark.figures_of(
        {"before, healthy": results, "taught_ewc, healthy": results}, {"taught_ewc": lines}
    )
    assert figures["cells"]["before, healthy"] == {"successes": 3, "episodes": 4, "final_m_median": 0.015}
    assert figures["while_taught"]["taught_ewc"] == {"successes": 1, "episodes": 2}
    assert rows[0][3] == "" and rows[1][3].startswith("50.0 %") and rows[1][1].endswith("(3/4)")
