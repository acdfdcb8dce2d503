"""Told to stand in another task's scene: which episodes, what is done in them, and who is judged to have done it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_neon import tiny_model

from neon_sim.data.lerobot import LeRobotReader
from neon_sim.env import NeonG1Env
from neon_sim.inference.references import REFERENCES
from neon_sim.rollout import rollout
from neon_sim.tasks.stand import WORDING
from neon_sim.training.recording import Collecting, Recorder, Shard
from neon_sim.training.told_to_stand import ToldToStand, is_told


def played(env: Any, policy: str, seed: int, wording: str = "train") -> tuple[bool, str, Any]:
    """Whether a reference stood there as it was told to, what it was told, and the episode."""
    told = ToldToStand(env, wording)
    words = told.words(seed)
    episode = rollout(env, REFERENCES[policy](env), seed=seed, on_chunk=told.watch, options={"instruction": words})
    return told.done(), words, episode


def test_an_eighth_of_the_seeds_is_told_and_always_the_same() -> None:
    told = [seed for seed in range(4_000_000, 4_002_000) if is_told(seed, 0.125)]
    assert 200 <= len(told) <= 300 and told == [s for s in range(4_000_000, 4_002_000) if is_told(s, 0.125)]
    assert set(told) <= {seed for seed in range(4_000_000, 4_002_000) if is_told(seed, 0.25)}
    assert not any(is_told(seed, 0.0) for seed in range(100))


@pytest.mark.parametrize("task", ["reach", "wave", "look_at"])
def test_who_stands_has_done_it_and_who_does_what_the_scene_suggests_has_not(task: str) -> None:
    env = NeonG1Env(task=task, sensors=("proprio",), physics_dt=0.005, max_steps=150)
    for wording in ("train", "test"):
        stood, words, episode = played(env, "zero", 5, wording)
        assert stood and words in WORDING.of(wording) and episode.instruction == words and not episode.success
    acted, _, _ = played(env, "expert", 5)
    assert not acted  # a palm is at a ball, an arm is up, or the robot has turned
    with pytest.raises(ValueError, match="on_chunk=told.watch"):
        ToldToStand(env).done()


def test_a_robot_that_lies_on_the_floor_does_not_stand() -> None:
    env = NeonG1Env(task="reach", sensors=("proprio",), physics_dt=0.005, fall_height=0.0, fall_tilt=3.2)
    told = ToldToStand(env)
    env.reset(seed=0, options={"instruction": told.words(0)})
    told.watch(env)
    assert told.done()
    env.robot.data.qpos[3:7] = (0.5**0.5, 0.0, 0.5**0.5, 0.0)
    env.step(np.zeros(17))
    assert not told.done()


def test_a_share_of_every_scene_is_recorded_so_whoever_records_it(tmp_path: Path) -> None:
    config = Collecting("reach", "noisy_expert", 3.0, ("state", "proprio"), stop_on_success=True, stand_share=0.5)
    recorder = Recorder(config)
    seeds = range(4_000_000, 4_000_008)
    told = [seed for seed in seeds if is_told(seed, 0.5)]
    recorder.record(Shard(str(tmp_path / "all"), seeds[0], len(seeds)))
    reader = LeRobotReader(tmp_path / "all")
    episodes = dict(zip(seeds, reader.episodes(), strict=True))
    assert 2 <= len(told) <= 6
    for seed, episode in episodes.items():
        stands = seed in told
        assert episode.success and (episode.instruction in WORDING.train) == stands
        assert (set(episode.infos["goal_hand"].tolist()) == {-1}) == stands
        if stands:
            assert len(episode) == 100 and not episode.infos["expert_action"].any()  # all home, 0 from the first step
            assert np.abs(episode.actions).max() > 0.02  # and pushed off it, as every noisy expert is
            state = episode.observations["state"][0]
    scene = Recorder(Collecting("reach", "noisy_expert", 3.0, ("state", "proprio")))
    alone = scene.episode(told[-1])
    np.testing.assert_array_equal(alone.observations["state"][0], state)  # the scene is that of the seed
    assert alone.instruction not in WORDING.train
    again = Recorder(config).episode(told[0])  # not depending on what was recorded before
    np.testing.assert_array_equal(again.actions, episodes[told[0]].actions)


def test_only_a_noisy_expert_can_be_told_and_two_ears_are_sensed(tmp_path: Path) -> None:
    tiny_model(tmp_path / "backbone").save_pretrained(tmp_path / "policy")
    for policy in ("expert", str(tmp_path / "policy")):
        with pytest.raises(ValueError, match="stand_share wants 0 to less than 1, and above 0 the noisy_expert"):
            Recorder(Collecting(policy=policy, stand_share=0.1))
    with pytest.raises(ValueError, match="stand_share wants 0 to less than 1"):
        Recorder(Collecting(policy="noisy_expert", stand_share=1.0))
    with pytest.raises(ValueError, match='microphones wants 1, or 2 with "audio" among the sensors'):
        Recorder(Collecting(microphones=2))
