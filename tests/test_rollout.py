"""The one interaction loop: what it asks of a policy, what it keeps, when it stops."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neon_sim.env import NeonG1Env
from neon_sim.rollout import FrameLog, rollout

FAST: dict[str, Any] = {"sensors": ("proprio",), "physics_dt": 0.005}
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (32, 17))  # the first two chunks of a Recorder


class Recorder:
    """A policy that answers with numbered chunks and writes down what it is asked."""

    def __init__(self, width: int = 17, steps: int = 16, seed: int = 0) -> None:
        self.width, self.steps, self.seed = width, steps, seed
        self.calls: list[str] = []
        self.times_s: list[float] = []

    def reset(self, env_ids: list[int] | None = None) -> None:
        self.calls.append("reset")
        self._rng = np.random.default_rng(self.seed)

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        self.calls.append("observe")
        self.times_s.append(now_s)

    def act(self) -> np.ndarray:
        self.calls.append("act")
        return self._rng.uniform(-1, 1, (1, self.steps, self.width))


class Expert(Recorder):
    """The scripted solution of the env that it is given."""

    def __init__(self, env: NeonG1Env) -> None:
        super().__init__()
        self.env = env

    def act(self) -> np.ndarray:
        return self.env.expert_chunk(16)[None]


@pytest.fixture
def env() -> NeonG1Env:
    return NeonG1Env(**FAST)


def test_the_same_seed_gives_the_same_episode_to_the_bit(env: NeonG1Env) -> None:
    first = rollout(env, Recorder(), steps=40, seed=3, keep=("proprio", "command"))
    rollout(env, Recorder(seed=9), steps=11, seed=1)
    again = rollout(env, Recorder(), steps=40, seed=3, keep=("proprio", "command"))
    elsewhere = rollout(NeonG1Env(**FAST), Recorder(), steps=40, seed=3, keep=("proprio", "command"))
    for other in (again, elsewhere):
        for key, value in first.observations.items():
            np.testing.assert_array_equal(other.observations[key], value)
        np.testing.assert_array_equal(other.actions, first.actions)
        np.testing.assert_array_equal(other.rewards, first.rewards)
        assert other.instruction == first.instruction
    different = rollout(env, Recorder(), steps=40, seed=4)
    assert not np.array_equal(different.observations["proprio"], first.observations["proprio"])


def test_rows_belong_together(env: NeonG1Env) -> None:
    episode = rollout(env, Recorder(), steps=20, seed=3)
    obs, info = env.reset(seed=3)
    for t in range(20):
        np.testing.assert_array_equal(episode.observations["proprio"][t], obs["proprio"])
        obs, reward, *_ = env.step(ACTIONS[t])
        assert episode.rewards[t] == np.float32(reward)
    np.testing.assert_allclose(episode.actions, ACTIONS[:20].astype(np.float32))
    assert episode.instruction == info["instruction"] and episode.control_mode == "arms_only"


@pytest.mark.parametrize(("execute", "acts"), [(16, 3), (5, 7), (1, 33), (99, 3)])
def test_a_chunk_is_carried_out_as_far_as_asked(env: NeonG1Env, execute: int, acts: int) -> None:
    policy = Recorder()
    rollout(env, policy, steps=33, seed=0, execute=execute)
    assert policy.calls.count("act") == acts
    assert policy.calls[:3] == ["reset", "observe", "act"] and policy.calls.count("reset") == 1
    assert policy.calls.count("observe") == 34  # the last one too: memory is complete
    np.testing.assert_allclose(policy.times_s, 0.02 * np.arange(34), atol=1e-9)


def test_it_runs_to_the_end_of_the_episode_or_to_the_limit(env: NeonG1Env) -> None:
    whole = rollout(env, Recorder(), seed=0)
    assert len(whole) == 150 and whole.truncated[-1] and not whole.truncated[:-1].any() and not whole.terminated.any()
    part = rollout(env, Recorder(), steps=7, seed=0)
    assert len(part) == 7 and not part.truncated.any()


def test_a_fall_ends_it() -> None:
    episode = rollout(NeonG1Env(control_mode="whole_body", **FAST), Recorder(width=29), seed=0)
    assert len(episode) < 150 and episode.terminated[-1] and not episode.terminated[:-1].any()
    assert episode.control_mode == "whole_body" and episode.actions.shape == (len(episode), 29)


def test_it_can_stop_at_the_first_success(env: NeonG1Env) -> None:
    stopped = rollout(env, Expert(env), seed=0, stop_on_success=True)
    assert stopped.success and 25 <= len(stopped) < 150 and not stopped.truncated.any()
    whole = rollout(env, Expert(env), seed=0)
    assert len(whole) == 150 and whole.success
    np.testing.assert_array_equal(whole.actions[: len(stopped)], stopped.actions)


def test_only_what_is_kept_is_kept(env: NeonG1Env) -> None:
    assert rollout(env, Recorder(), steps=3, seed=0, keep=()).observations == {}
    kept = rollout(env, Recorder(), steps=3, seed=0, keep=("eef", "instruction")).observations
    assert {key: value.shape for key, value in kept.items()} == {"eef": (3, 14), "instruction": (3, 256)}


def test_a_log_of_frames_gives_them_back_in_their_order_and_begins_anew() -> None:
    log = FrameLog(np.float32)
    for count in (1, 16, 17, 40):
        for t in range(count):
            log.append(np.full((2, 3), t, np.float32))
        assert len(log) == count
        whole = log.array()
        assert whole.shape == (count, 2, 3) and whole.dtype == np.float32 and len(log) == 0
        np.testing.assert_array_equal(whole[:, 1, 2], np.arange(count))
    for t in range(5):
        log.append(np.array([t], np.float32))
    assert log.array(3).tolist() == [[0.0], [1.0], [2.0]]
    log.append(np.zeros(2))
    with pytest.raises(ValueError, match=r"have one shape, \(2,\), got \(1,\)"):
        log.append(np.zeros(1))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's count of a process's memory")
def test_pictures_are_never_held_twice() -> None:
    code = """
import numpy as np
from pathlib import Path
from neon_sim.rollout import FrameLog

def peak_kib():
    return int(next(row for row in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in row).split()[1])

before, log = peak_kib(), FrameLog(np.uint8)
for t in range(100):
    log.append(np.full((480, 1280, 3), t, np.uint8))
print((peak_kib() - before) * 1024 / log.array().nbytes)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.9 < float(said.stdout) < 1.4  # a list that is stacked: 2.0


def test_on_chunk_is_called_before_each_decision(env: NeonG1Env) -> None:
    policy = Recorder()

    def before(seen: NeonG1Env) -> None:
        assert seen is env
        policy.calls.append("before")

    rollout(env, policy, steps=33, seed=0, on_chunk=before)
    calls = [call for call in policy.calls if call in ("before", "act")]
    assert calls == ["before", "act"] * 3


def test_options_reach_the_reset(env: NeonG1Env) -> None:
    assert rollout(env, Recorder(), steps=2, seed=0, options={"instruction": "wave"}).instruction == "wave"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"execute": 0}, "execute must be at least 1, got 0"),
        ({"keep": ("propio",)}, "Unknown observation to keep 'propio'. Did you mean 'proprio'"),
        ({"keep": ("camera",)}, "Unknown observation to keep 'camera'"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(
    env: NeonG1Env, arguments: dict[str, Any], message: str
) -> None:
    policy = Recorder()
    with pytest.raises(ValueError, match=message):
        rollout(env, policy, seed=0, **arguments)
    assert policy.calls == []
