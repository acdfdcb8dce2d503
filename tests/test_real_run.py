"""real/run.py: its command line, its way of asking for actions, and whole runs on the simulated robot."""

import threading
import time

import numpy as np
import pytest

from neon_sim.data.lerobot import LeRobotReader, LeRobotWriter
from neon_sim.episode import NeonEpisode
from neon_sim.real.chunks import EXECUTE, Chunks
from neon_sim.real.control_process import BOXES
from neon_sim.real.eyes import RealSenseCamera, ZmqCamera
from neon_sim.real.robot_config import sim_bridge
from neon_sim.real.run import keep, local_address, main, parse, robot_config
from neon_sim.real.safety_log import commands
from neon_sim.real.senses import STOCK, simulated_senses


class Counting:
    """Chunk k is k, k + 0.01, ...: an action says who decided it and for when. It thinks until it is let go on."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.chunks = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def reset(self, env_ids=None) -> None:
        self.seen.clear()

    def observe(self, obs, now_s) -> None:
        self.seen.append(now_s)

    def act(self) -> np.ndarray:
        self.may_answer.wait(30.0)
        self.chunks += 1
        return (self.chunks + 0.01 * np.arange(16)).reshape(1, 16, 1)


def settle(chunks: Chunks) -> None:
    """Wait until the policy's thought is over."""
    while chunks._future is not None and not chunks._future.done():
        time.sleep(0.001)


def test_actions_go_on_while_the_policy_thinks_and_late_ones_are_skipped():
    policy = Counting()
    chunks = Chunks(policy)
    chunks.begin({}, 0.0)
    first = [float(chunks.next()[0]) for _ in range(EXECUTE)]
    np.testing.assert_allclose(first, 1.0 + 0.01 * np.arange(EXECUTE))
    policy.may_answer.clear()
    thinking = [float(chunks.next()[0]) for _ in range(3)]  # the second chunk was asked for at the first of these
    np.testing.assert_allclose(thinking, 1.08 + 0.01 * np.arange(3))
    policy.may_answer.set()
    settle(chunks)
    assert float(chunks.next()[0]) == pytest.approx(2.03)  # three steps are over: its fourth action is next
    chunks.close()


def test_a_policy_that_is_too_slow_repeats_its_last_action():
    policy = Counting()
    chunks = Chunks(policy)
    chunks.begin({}, 0.0)
    for _ in range(EXECUTE):
        chunks.next()
    policy.may_answer.clear()
    rest = [float(chunks.next()[0]) for _ in range(12)]
    assert rest[-1] == rest[-2] == pytest.approx(1.15)
    policy.may_answer.set()
    chunks.close()


def test_observations_wait_for_a_policy_that_thinks():
    policy = Counting()
    chunks = Chunks(policy)
    chunks.begin({}, 0.0)
    for step in range(EXECUTE):
        chunks.next()
        chunks.observe({}, 0.02 * (step + 1))
    policy.may_answer.clear()
    chunks.next()
    chunks.observe({}, 1.0)
    assert policy.seen[-1] == pytest.approx(0.16)
    policy.may_answer.set()
    settle(chunks)
    chunks.next()
    chunks.observe({}, 2.0)
    assert policy.seen[-2:] == [1.0, 2.0]
    chunks.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--policy", "zero"], "--robot"),
        (["--policy", "zero", "--robot", "sim-bridge", "--steps", "0"], "--steps must be at least 1"),
        (["--policy", "zero", "--robot", "192.168.123.161", "--lock-step"], "time does not stand still"),
        (["--policy", "p", "--robot", "192.168.123.161", "--self-learn", "--yes"], "on a robot a person confirms"),
        (["--policy", "zero", "--robot", "sim-bridge", "--self-learn"], "wants the checkpoint"),
        (["--policy", "p", "--robot", "sim-bridge", "--self-learn", "--dry-run"], "no --dry-run"),
        (["--policy", "p", "--robot", "sim-bridge", "--episodes", "3"], "belong to --self-learn"),
        (["--policy", "p", "--robot", "sim-bridge", "--self-learn", "--episodes", "0"], "--episodes must be"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments, words, capsys):
    with pytest.raises(SystemExit):
        parse(arguments)
    assert words in capsys.readouterr().err


def test_a_simulation_stays_on_loopback_and_a_robot_is_found_by_its_route():
    sim = robot_config(parse(["--policy", "zero", "--robot", "sim-bridge", "--domain", "7"]))
    assert sim.link.on_loopback and sim.link.domain == 7 and sim.control == sim_bridge().control
    assert local_address("127.0.0.1") == "127.0.0.1"
    near = robot_config(parse(["--policy", "zero", "--robot", "127.0.0.1", "--path", "high_level"]))
    assert near.link.domain == 0 and near.control.path == "high_level" and near.control.stop.ramp_s == 3.0
    assert near.control.limits.leg_speed is None
    assert len(BOXES) == 3


def test_a_robot_has_its_own_senses_and_a_simulation_those_that_are_asked_for():
    near = ["--policy", "zero", "--robot", "127.0.0.1"]
    assert robot_config(parse(near)).senses == STOCK
    assert robot_config(parse([*near, "--camera", "realsense"])).senses.camera == RealSenseCamera()
    assert robot_config(parse([*near, "--camera", "tcp://10.0.0.1:1"])).senses.camera == ZmqCamera("tcp://10.0.0.1:1")
    sim = robot_config(parse(["--policy", "zero", "--robot", "sim-bridge", "--sensors", "proprio", "lidar", "imu"]))
    assert sim.senses == simulated_senses(("lidar", "imu"))


def test_an_episode_that_does_not_fit_into_the_data_set_is_not_lost(tmp_path):
    def episode(key: str) -> NeonEpisode:
        return NeonEpisode({key: np.ones((3, 2), np.float32)}, np.zeros((3, 17), np.float32), instruction="wave")

    with LeRobotWriter(tmp_path / "dataset", "v3.0") as writer:
        assert keep(writer, episode("imu"), tmp_path).startswith("episode 0 of")
        said = keep(writer, episode("gps"), tmp_path)
    (file,) = tmp_path.glob("episode_*.npz")
    assert said.startswith(str(file)) and "did not take it" in said
    assert NeonEpisode.load(file).observations["gps"].shape == (3, 2)


@pytest.mark.slow
def test_a_policy_runs_on_the_simulated_robot_and_its_episode_is_kept(tmp_path, capsys):
    arguments = ["--policy", "zero", "--robot", "sim-bridge", "--lock-step", "--steps", "30", "--domain", "99"]
    assert main([*arguments, "--words", "stand", "--out", str(tmp_path)]) == 0
    reader = LeRobotReader(tmp_path / "dataset")
    episode = reader.episode(0)
    assert len(reader) == 1 and reader.info.fps == 50
    assert len(episode) == 30 and episode.instruction == "stand" and episode.truncated[-1]
    assert episode.observations["proprio"].shape == (30, 125)
    assert len(commands(tmp_path / "commands.jsonl")) == 30
    said = capsys.readouterr().out
    assert said.count("ok ") == 8 and "30 steps; the robot is running" in said and "Kept as episode 0 of" in said


@pytest.mark.slow
def test_a_dry_run_prints_and_sends_nothing(tmp_path, capsys):
    arguments = ["--policy", "zero", "--robot", "sim-bridge", "--lock-step", "--steps", "4", "--domain", "98"]
    assert main([*arguments, "--dry-run", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert len(lines) == 4 and lines[0].startswith("   0  velocity [0. 0. 0.]")
    assert not list(tmp_path.glob("episode_*")) and not commands(tmp_path / "commands.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["expert", "random"])
def test_policies_that_need_the_truth_are_refused(policy, tmp_path):
    arguments = ["--robot", "sim-bridge", "--lock-step", "--domain", "97", "--out", str(tmp_path)]
    with pytest.raises(ValueError, match="for simulations"):
        main(["--policy", policy, *arguments])
