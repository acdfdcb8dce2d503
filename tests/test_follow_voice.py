"""follow_voice: only the voice names the ball; touching it succeeds, touching another fails."""

import logging
from typing import Any

import numpy as np
import pytest

from neon_sim.env import NeonG1Env, decode_instruction
from neon_sim.sensors.audio import AudioConfig
from neon_sim.tasks.follow_voice import SPOKEN, WORDING, FollowVoiceConfig, FollowVoiceTask
from neon_sim.tasks.look_at import LookAtTask
from neon_sim.tasks.objects import COLORS, ball_name
from neon_sim.tasks.reach import ReachTask
from neon_sim.tasks.speaking import SpeakingTask, say_if_deaf

FAST: dict[str, Any] = {"task": "follow_voice", "sensors": ("proprio",), "physics_dt": 0.005}


def make(**options: Any) -> NeonG1Env:
    return NeonG1Env(**{**FAST, **options})


def run_expert(env: NeonG1Env, seed: int) -> tuple[bool, float]:
    """Success of one episode and its seconds."""
    env.reset(seed=seed)
    while True:
        for action in env.expert_chunk(16):
            _, _, terminated, truncated, info = env.step(action)
            if terminated or truncated or info["success"]:
                return info["success"], info["time_s"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_voice_names_the_ball_and_the_text_does_not(split: str) -> None:
    env = make(settle_s=0.0, task_options={"wording": split})
    named = set()
    for seed in range(30):
        obs, info = env.reset(seed=seed)
        truth, text = info["privileged"], decode_instruction(obs["instruction"])
        assert text == info["instruction"] and text in WORDING.of(split)
        assert not [color for color in COLORS if color in text.split()]
        assert [color for color in COLORS if color in truth["spoken"].split()] == [truth["color"]]
        assert truth["spoken"].replace(truth["color"], "{color}") in SPOKEN.of(split)
        assert truth["color"] in truth["ball_pos_b"] and len(truth["ball_pos_b"]) == 3
        named.add(truth["color"])
    assert named == set(COLORS)


def test_the_words_are_heard_whatever_the_env_is_told_about_instructions() -> None:
    env = make(sensors=("audio",), audio=AudioConfig(self_noise_db=None, ambient_db=None, motors=None, impacts=None))
    assert isinstance(env.task, SpeakingTask) and env.config.instruct == "text"
    env.reset(seed=0)
    (source,) = env.robot.sensor("audio").sources
    loudest = max(float(np.abs(env.step(np.zeros(17))[0]["audio"]).max()) for _ in range(50))
    assert source.name == "voice" and loudest > 0.005


def test_the_same_scene_with_another_word_differs_in_the_sound_alone() -> None:
    def observations(color: str) -> list[dict[str, np.ndarray]]:
        env = make(sensors=("proprio", "lidar", "audio"))
        env.reset(seed=5)
        task = env.task
        task.set_state({**task.get_state(), "target_color": color, "words": f"touch the {color} ball"})
        env._speak()
        return [env.step(np.zeros(17))[0] for _ in range(40)]

    _, info = make(sensors=("proprio", "lidar", "audio")).reset(seed=5)
    one, other = list(info["privileged"]["ball_pos_b"])[:2]
    for a, b in zip(observations(one), observations(other), strict=True):
        differing = {key for key in a if not np.array_equal(a[key], b[key])}
        assert differing <= {"audio"}
    assert differing == {"audio"}


def test_a_palm_at_the_named_ball_succeeds_after_half_a_second_and_at_another_fails() -> None:
    env = make()
    for wrong in (False, True):
        env.reset(seed=1)
        truth = env.privileged()
        others = [color for color in truth["ball_pos_b"] if color != truth["color"]]
        ball = ball_name(others[0] if wrong else truth["color"])
        for step in range(1, 26):
            env.robot.place_object(ball, np.array(env.robot.position("left_palm")) + (0.0, 0.03, 0.0))
            _, _, terminated, _, info = env.step(np.zeros(17))
            assert (info["success"], terminated) == ((step == 25 and not wrong), (step == 25 and wrong))
        assert wrong or info["privileged"]["distance"] < 0.04


def test_the_expert_touches_the_named_ball() -> None:
    env = make()
    results = [run_expert(env, seed) for seed in range(100, 104)]
    assert all(success for success, _ in results) and max(seconds for _, seconds in results) < 3.0


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_expert_succeeds_in_20_episodes(split: str) -> None:
    env = make(physics_dt=0.002, task_options={"wording": split, "objects": split})
    assert sum(run_expert(env, seed)[0] for seed in range(100, 120)) >= 19


def test_a_saved_task_goes_on_alike() -> None:
    env = make()
    env.reset(seed=3)
    for action in env.expert_chunk(30):
        env.step(action)
    saved, chunk = env.get_state(), env.expert_chunk(40)
    first = [env.step(action)[1:] for action in chunk]
    other = make()
    other.set_state(saved)
    again = [other.step(action)[1:] for action in chunk]
    assert [row[:3] for row in again] == [row[:3] for row in first]
    assert again[-1][3]["privileged"]["spoken"] == first[-1][3]["privileged"]["spoken"]
    assert again[-1][3]["success"] == first[-1][3]["success"]


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="num_balls must be 3 to 5"):
        FollowVoiceConfig(num_balls=2)
    with pytest.raises(ValueError, match="Did you mean 'test'"):
        FollowVoiceTask(FollowVoiceConfig(wording="tests"))


def test_who_cannot_hear_the_goal_is_told_so_once(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    monkeypatch.setattr("neon_sim.tasks.speaking._told", set())
    with caplog.at_level(logging.WARNING):
        for sensors in ((), ("audio", "camera"), ("state",)):
            say_if_deaf(FollowVoiceTask(), sensors)
        say_if_deaf(ReachTask(), ("camera",))  # its words come as text
        assert not caplog.messages
        make()
        make()
        say_if_deaf(LookAtTask(), ("camera",))
    follow, look = caplog.messages
    assert follow == (
        "In task 'follow_voice' only a voice says what to do, and ('proprio',) cannot hear it."
        ' Add "audio" to the sensors.'
    )
    assert "'look_at'" in look
