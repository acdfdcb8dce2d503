"""look_at: people all around, one of them speaks; turning to that one succeeds, by the expert and by ear."""

import math
from typing import Any

import numpy as np
import pytest

from neon_sim.env import NeonG1Env
from neon_sim.sensors.audio import AudioConfig
from neon_sim.tasks.look_at import SPOKEN, WORDING, LookAtConfig, bearing_of, heading, sample_bearings

FAST: dict[str, Any] = {"task": "look_at", "sensors": ("proprio",), "physics_dt": 0.005}
TWO_EARS = AudioConfig(microphones=2)


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


def earlier_left(frame: np.ndarray) -> int:
    """By how many samples sound reaches the left ear before the right one, -8 to 8, by cross-correlation."""
    left, right = frame.reshape(2, -1)
    likeness = [float(left[8 - lag : -8 - lag or None] @ right[8:-8]) for lag in range(-8, 9)]
    return int(np.argmax(likeness)) - 8


def turn_by_hand(env: NeonG1Env, yaw: float) -> None:
    """Put the pelvis at a heading, rad."""
    env.robot.data.qpos[3:7] = (math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2))


@pytest.mark.parametrize("split", ["train", "test"])
def test_people_stand_apart_and_the_speaker_is_not_in_front(split: str) -> None:
    env = make(settle_s=0.0, task_options={"wording": split, "objects": split})
    bearings = []
    for seed in range(30):
        _, info = env.reset(seed=seed)
        truth = info["privileged"]
        assert 1.1 <= truth["distance"] <= 3.1 and truth["spoken"] in SPOKEN.of(split)
        assert info["instruction"] in WORDING.of(split)
        people = [name for name in (f"person_{i}" for i in range(4)) if env.robot.position(name)[2] > 0.0]
        assert len(people) == 3
        angles = sorted(bearing_of(env.robot, name, "pelvis") for name in people)
        gaps = np.diff([*angles, angles[0] + math.tau])
        assert gaps.min() >= math.radians(39.9) and abs(truth["bearing"]) > math.radians(20.0)
        assert any(truth["bearing"] == pytest.approx(angle, abs=0.05) for angle in angles)
        bearings.append(truth["bearing"])
    assert min(bearings) < -2.0 and max(bearings) > 2.0


def test_bearings_keep_their_distance() -> None:
    for seed in range(50):
        first, *others = sample_bearings(LookAtConfig(people=4), np.random.default_rng(seed))
        assert abs(first) >= math.radians(25.0) and len(others) == 3


def test_angles_are_counted_to_the_left() -> None:
    assert heading(np.array([math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)])) == pytest.approx(math.pi / 2)
    env = make(settle_s=0.0)
    env.reset(seed=0)
    env.robot.place_object("person_0", np.array([0.0, 2.0, 1.5]))
    assert bearing_of(env.robot, "person_0", "pelvis") == pytest.approx(math.pi / 2, abs=0.02)


def test_facing_within_10_degrees_for_half_a_second_is_success() -> None:
    env = make(control_mode="whole_body", fall_height=0.0, fall_tilt=3.14)
    env.reset(seed=0)
    person = env.task.spoken().place
    for degrees, faces in ((12.0, False), (8.0, True)):
        for step in range(1, 27):
            x, y, yaw = *env.robot.position("torso_link")[:2], heading(env.robot.object_pose("torso_link")[1])
            angle = yaw + math.radians(degrees)
            env.robot.place_object(person, np.array([x + 2.0 * math.cos(angle), y + 2.0 * math.sin(angle), 1.5]))
            success, terms = (info := env.step(np.zeros(29))[4])["success"], info["reward_terms"]
            assert success == (faces and step >= 25)
        assert (terms["facing"] == 1.0) == faces


@pytest.mark.parametrize("mode", ["arms_only", "upper_body"])
def test_the_expert_turns_to_the_speaker(mode: str) -> None:
    env = make(control_mode=mode)
    results = [run_expert(env, seed) for seed in (100, 101)]
    assert all(success for success, _ in results) and max(seconds for _, seconds in results) < 6.0


def test_where_the_voice_is_heard_the_expert_waits_for_it() -> None:
    env = make(sensors=("proprio", "audio"), audio=TWO_EARS)
    _, info = env.reset(seed=101)
    known_s = env.robot.sensor("audio").sources[0].start_s + 0.3
    waited = 0
    while not info["success"]:
        chunk, early = env.expert_chunk(16), info["time_s"] < known_s
        assert (np.abs(chunk[:, 16]).max() < 1e-6) if early else (info["time_s"] > 2.0 or chunk[0, 16] != 0.0)
        waited += early
        for action in chunk:
            _, _, terminated, truncated, info = env.step(action)
            assert not (terminated or truncated)
            if info["success"]:
                break
    assert waited == math.ceil(known_s / 0.32) and info["time_s"] < 7.0


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["arms_only", "upper_body"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_expert_succeeds_in_20_episodes(mode: str, split: str) -> None:
    env = make(control_mode=mode, physics_dt=0.002, task_options={"wording": split, "objects": split})
    assert sum(run_expert(env, seed)[0] for seed in range(100, 120)) >= 19


def test_the_speaker_is_heard_on_the_side_where_it_stands() -> None:
    env = make(sensors=("audio",), audio=TWO_EARS)
    sides = 0
    for seed in range(8):
        env.reset(seed=seed)
        frames = [env.step(np.zeros(17))[0]["audio"] for _ in range(50)]
        loudest = max(frames, key=lambda frame: float(frame.std()))
        across = math.sin(env.privileged()["bearing"])
        if abs(across) > 0.3:
            assert np.sign(earlier_left(loudest)) == np.sign(across)
            sides += 1
    assert sides >= 5


class Listener:
    """Stands and listens, turns by what it heard, stands and listens again: its own steps drown the voice."""

    def __init__(self) -> None:
        self.turning, self.rate, self.still = 0, 0.0, 0  # steps left, rad/s, steps since the last turn
        self.lags: list[int] = []

    def yaw_rate(self, frame: np.ndarray) -> float:
        """What to do next, rad/s, from two ears and from nothing else."""
        if self.turning > 0:
            self.turning, self.still = self.turning - 1, 0
            return self.rate
        self.still += 1
        if self.still > 50 and frame.std() > 2e-3:
            self.lags.append(earlier_left(frame))
        if len(self.lags) == 15:
            across = float(np.median(self.lags)) / 7.1
            # Nobody to either side, and not done yet: then it comes from behind.
            angle = 2.0 if abs(across) < 0.1 else math.asin(min(max(across, -1.0), 1.0))
            self.turning, self.rate, self.lags = round(abs(angle) / 0.7 * 50), math.copysign(0.8, angle), []
        return 0.0


def turn_by_ear(env: NeonG1Env, seed: int) -> bool:
    """One episode of the listener."""
    obs, _ = env.reset(seed=seed)
    listener = Listener()
    while True:
        action = np.zeros(17)
        action[16] = listener.yaw_rate(obs["audio"])  # of 1 rad/s
        obs, _, terminated, truncated, info = env.step(action)
        if terminated or truncated or info["success"]:
            return bool(info["success"])


@pytest.mark.slow
def test_a_listener_without_eyes_finds_most_speakers() -> None:
    env = make(sensors=("audio",), audio=TWO_EARS)
    found = [turn_by_ear(env, seed) for seed in range(100, 110)]
    assert sum(found) >= 5


def test_bad_settings_are_refused() -> None:
    for wrong, match in (
        ({"people": 0}, "people must be 1 to 4, got 0"),
        ({"separation": 2.0}, "do not fit 2.00 rad apart"),
        ({"objects": "tset"}, "Did you mean 'test'"),
    ):
        with pytest.raises(ValueError, match=match):
            LookAtConfig(**wrong)
