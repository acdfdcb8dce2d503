"""follow_voice: only the voice names the ball; touching it succeeds, touching another fails."""

import logging
import math
from typing import Any

import numpy as np
import pytest

from neon_sim.env import NeonG1Env, decode_instruction
from neon_sim.sensors.audio import AudioConfig
from neon_sim.sensors.voice import Said
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


def test_where_the_voice_is_heard_the_expert_stays_home_until_all_is_said_and_then_touches_the_ball() -> None:
    env = make(sensors=("proprio", "audio"))
    _, info = env.reset(seed=100)
    (voice,) = env.robot.sensor("audio").sources
    said_s = len(np.trim_zeros(voice.waveform, "b")) / 16000
    heard_s = voice.start_s + said_s
    assert 0.1 <= voice.start_s <= 0.5 and 0.5 < said_s < 2.4
    at_home = 0
    while not info["success"]:
        chunk, listens = env.expert_chunk(16), info["time_s"] < heard_s
        arms = float(np.abs(chunk[:, :14]).max())
        assert arms < 0.02 if listens else arms > 0.1  # 1 is a joint's limit; gravity is what it is lifted against
        at_home += listens
        if at_home == 2:  # what it waits for is part of the episode's state
            other = make(sensors=("proprio", "audio"))
            other.set_state(env.get_state())
            np.testing.assert_array_equal(other.expert_chunk(16), chunk)
        for action in chunk:
            _, _, terminated, truncated, info = env.step(action)
            assert not (terminated or truncated)
            if info["success"]:
                break
    assert at_home == math.ceil(heard_s / 0.32) and info["time_s"] < 4.0
    deaf = make()
    deaf.reset(seed=100)
    assert np.abs(deaf.expert_chunk(16)[:, :14]).max() > 0.1  # nobody speaks to who has no microphone


def test_the_hand_is_that_of_the_balls_side_and_nobodys_before_the_voice_is_over() -> None:
    env = make(sensors=("proprio", "audio"))
    hands = set()
    for seed in range(6):
        env.reset(seed=seed)
        assert env.task.expert_hand(env.robot.read(), env.world) is None
        env.task.listen(Said())
        hand, place = env.task.expert_hand(env.robot.read(), env.world), env.privileged()["target_pos_b"]
        assert hand == (0 if place[1] > 0.0 else 1)
        hands.add(hand)
    assert hands == {0, 1}


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
