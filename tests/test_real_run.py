"""real/run.py: its command line, its way of asking for actions, and whole runs on the simulated robot."""

import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bridge_process import PATIENT_S, bridge_process
from tiny_neon import tiny_model

from neon_sim.data.lerobot import LeRobotReader, LeRobotWriter
from neon_sim.env import NeonG1Config
from neon_sim.episode import NeonEpisode
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.real.chunks import EXECUTE, STAND, Chunks
from neon_sim.real.control_process import BOXES
from neon_sim.real.env import NeonG1RealEnv
from neon_sim.real.eyes import RealSenseCamera, ZmqCamera
from neon_sim.real.loops import play
from neon_sim.real.policies import build_policy, check_fit, senses_of, world_config
from neon_sim.real.robot_config import sim_bridge
from neon_sim.real.run import keep, local_address, main, parse, robot_config
from neon_sim.real.safety_log import commands
from neon_sim.real.safety_stop import Phase
from neon_sim.real.senses import STOCK, simulated_senses

SPACE = G1ActionSpace("arms_only")
VX = SPACE.names.index("vx")


class Counting:
    """Chunk k is k, k + 0.01, ... for every joint: an action says who decided it and for when. It walks at 0.3 m/s.

    It thinks until it is let go on.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
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
        chunk = np.tile((self.scale * self.chunks + 0.01 * np.arange(16))[None, :, None], (1, 1, SPACE.dim))
        chunk[..., SPACE.groups["locomotion"]] = 0.6, 0.0, 0.0  # of 0.5 m/s
        return chunk


def settle(chunks: Chunks) -> None:
    """Wait until the policy's thought is over."""
    if chunks._thought is not None:
        chunks._thought.wait(PATIENT_S)


def test_actions_go_on_while_the_policy_thinks_and_late_ones_are_skipped():
    policy = Counting()
    chunks = Chunks(policy, SPACE)
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


def test_a_policy_that_is_too_slow_lets_the_robot_stand_and_then_falls_silent():
    """Sixteen actions, the last again for 0.2 s with no velocity, and from then on nothing that may be sent."""
    policy = Counting()
    chunks = Chunks(policy, SPACE)
    chunks.begin({}, 0.0)
    steps = []
    for step in range(16 + STAND + 5):
        if step == EXECUTE:
            policy.may_answer.clear()
        steps.append((chunks.next(), chunks.silent))
    assert [silent for _, silent in steps] == [False] * (16 + STAND) + [True] * 5
    np.testing.assert_allclose([action[0] for action, _ in steps[:16]], 1.0 + 0.01 * np.arange(16))
    np.testing.assert_allclose([action[0] for action, _ in steps[16:]], 1.15)
    assert [float(action[VX]) for action, _ in steps] == [0.6] * 16 + [0.0] * (STAND + 5)
    policy.may_answer.set()
    settle(chunks)
    late = chunks.next()  # all sixteen actions of the second chunk were for steps that are over
    assert late[0] == pytest.approx(2.15) and late[VX] == 0.0 and not chunks.silent  # it lives
    chunks.close()


def test_where_time_stands_still_each_chunk_is_waited_for():
    policy = Counting()
    chunks = Chunks(policy, SPACE, waits=True)
    chunks.begin({}, 0.0)
    decided = [float(chunks.next()[0]) for _ in range(3 * EXECUTE)]
    np.testing.assert_allclose(decided, np.repeat([1, 2, 3], EXECUTE) + np.tile(0.01 * np.arange(EXECUTE), 3))
    chunks.close()


def test_what_breaks_a_policy_is_raised_where_its_action_is_asked_for():
    class Breaks(Counting):
        def act(self) -> np.ndarray:
            if self.chunks:
                raise KeyError("a bug")
            return super().act()

    chunks = Chunks(Breaks(), SPACE, waits=True)
    chunks.begin({}, 0.0)
    for _ in range(EXECUTE):
        chunks.next()
    with pytest.raises(KeyError, match="a bug"):
        chunks.next()
    chunks.close()


def test_a_policy_that_hangs_while_the_robot_walks_ends_in_the_hold(capsys):
    """In lock-step, so in simulated time: the velocity ends with the chunk, and 0.2 s + 0.2 s later comes the hold."""
    policy = Counting(scale=0.0)
    with bridge_process("--lock-step", "--lock-step-s", "0.02", "--start", "released") as bridge:
        config = replace(sim_bridge(bridge.domain, clock="lock_step"), wait_s=PATIENT_S)
        with closing(NeonG1RealEnv(NeonG1Config(sensors=("proprio",), max_steps=500), config)) as env:
            env.robot.arm()
            chunks = Chunks(policy, SPACE)
            begin = chunks.begin

            def begin_and_hang(*given) -> None:
                begin(*given)
                policy.may_answer.clear()

            chunks.begin = begin_and_hang
            episode = play(env, chunks, 200)
            assert env.robot.phase is Phase.HOLDING and env.robot.reasons[0].startswith("stale action")
            assert 16 + STAND + 10 <= len(episode) <= 16 + STAND + 12 and episode.truncated[-1]
            walks = episode.observations["proprio"][:, -3]  # the velocity that was commanded last
            assert walks[16] == pytest.approx(0.3) and not walks[18:].any()
            assert env.robot.read().gravity_b[2] < -0.97  # it stands
            policy.may_answer.set()
            chunks.close()
    assert "did not answer in time" in capsys.readouterr().out


def test_observations_wait_for_a_policy_that_thinks():
    policy = Counting()
    chunks = Chunks(policy, SPACE)
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
        (["--policy", "p", "--robot", "sim-bridge", "--self-learn", "--engine", "auto"], "--engine is not for"),
        (["--policy", "p", "--robot", "sim-bridge", "--engine", "cudagraf"], "invalid choice: 'cudagraf'"),
        (["--policy", "p", "--robot", "sim-bridge", "--episodes", "3"], "belong to --self-learn"),
        (["--policy", "p", "--robot", "sim-bridge", "--drift"], "belong to --self-learn"),
        (["--policy", "p", "--robot", "sim-bridge", "--self-learn", "--episodes", "0"], "--episodes must be"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments, words, capsys):
    with pytest.raises(SystemExit):
        parse(arguments)
    assert words in capsys.readouterr().err


def test_a_simulation_stays_on_loopback_and_a_robot_is_found_by_its_route():
    sim = robot_config(parse(["--policy", "zero", "--robot", "sim-bridge", "--domain", "7"]), ("proprio",))
    assert sim.link.on_loopback and sim.link.domain == 7 and sim.control.limits == sim_bridge().control.limits
    assert local_address("127.0.0.1") == "127.0.0.1"
    near = robot_config(parse(["--policy", "zero", "--robot", "127.0.0.1", "--path", "high_level"]), ())
    assert near.link.domain == 0 and near.control.path == "high_level" and near.control.stop.ramp_s == 3.0
    assert near.control.limits.leg_speed is None
    assert len(BOXES) == 4


def test_a_simulated_robot_that_hangs_limp_ramps_up_and_one_that_stands_does_not():
    given = ["--policy", "zero", "--robot", "sim-bridge"]
    for more, ramp_s in (([], 2.0), (["--lock-step"], 0.0), (["--no-start"], 0.0), (["--path", "high_level"], 0.0)):
        assert robot_config(parse([*given, *more]), ()).control.stop.ramp_s == ramp_s


def test_a_robot_without_a_route_is_said_in_words(tmp_path, capsys):
    assert main(["--policy", "zero", "--robot", "nowhere.invalid", "--out", str(tmp_path)]) == 1
    assert "--robot nowhere.invalid" in (said := capsys.readouterr().err) and "sim-bridge" in said


def test_a_robot_has_its_own_senses_and_a_simulation_those_that_are_asked_for():
    near = ["--policy", "zero", "--robot", "127.0.0.1"]
    for camera, source in (
        (None, STOCK.camera), ("realsense", RealSenseCamera()), ("tcp://10.0.0.1:1", ZmqCamera("tcp://10.0.0.1:1")),
    ):  # fmt: skip
        given = near if camera is None else [*near, "--camera", camera]
        assert robot_config(parse(given), ()).senses == replace(STOCK, camera=source)
    sim = robot_config(parse(["--policy", "zero", "--robot", "sim-bridge"]), ("proprio", "lidar", "imu"))
    assert sim.senses == simulated_senses(("lidar", "imu"))


# ---- what fits


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> NeonVLA:
    return tiny_model(tmp_path_factory.mktemp("backbone"), use_audio=False)


def test_what_the_command_line_leaves_open_is_the_checkpoints_own(model):
    assert senses_of(model) == ("proprio", "camera", "lidar")
    own = world_config(model, None, None, 7)
    assert (own.sensors, own.control_mode, own.action_center) == (senses_of(model), "arms_only", "home")
    assert own.max_steps == 7
    assert world_config(model, "arms_only", ("camera", "proprio"), 7).sensors == ("camera", "proprio")
    assert world_config(None, None, None, 7).sensors == ("proprio",)
    assert world_config(None, "upper_body", None, 7).control_mode == "upper_body"


def test_a_checkpoint_that_does_not_fit_is_refused_before_there_is_a_robot(model):
    with pytest.raises(ValueError, match="needs the sensor 'camera', got.*trained with.*'lidar'"):
        world_config(model, None, ("proprio",), 7)
    with pytest.raises(ValueError, match="action space is arms_only.*wanted upper_body"):
        world_config(model, "upper_body", None, 7)


def test_a_checkpoint_that_decodes_differently_is_refused(model, tmp_path):
    """The same shape, and other joint angles: centred on the middle of each joint's range."""
    limits = tiny_model(tmp_path, action_center="limits")
    with pytest.raises(ValueError, match="centered on limits.*wanted.*centered on home"):
        check_fit(limits, SPACE, ("proprio", "camera"))
    assert world_config(limits, None, None, 7).action_center == "limits"
    check_fit(model, SPACE, ("proprio", "camera"))
    two_ears = tiny_model(tmp_path, microphones=2)
    with pytest.raises(ValueError, match="hears with 2 microphones, the robot has one"):
        check_fit(two_ears, SPACE, ("proprio", "camera", "audio"))
    check_fit(two_ears, SPACE, ("proprio", "camera"))


def test_a_policy_is_not_built_for_an_env_that_it_does_not_fit(model):
    with (
        bridge_process("--lock-step", "--lock-step-s", "0.02", "--start", "released") as bridge,
        closing(NeonG1RealEnv(NeonG1Config(sensors=("proprio",)), sim_bridge(bridge.domain, clock="lock_step"))) as env,
        pytest.raises(ValueError, match="'camera'"),
    ):
        build_policy(model, env)


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
def test_in_real_time_it_comes_out_of_the_gantry_and_stands(tmp_path, capsys):
    """Limp in the gantry until it is armed; a jump to its pose from there would stop it for joint speed."""
    arguments = ["--policy", "zero", "--robot", "sim-bridge", "--steps", "50", "--domain", "95"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    assert "50 steps; the robot is running" in capsys.readouterr().out


@pytest.mark.slow
def test_a_dry_run_prints_and_sends_nothing(tmp_path, capsys):
    arguments = ["--policy", "zero", "--robot", "sim-bridge", "--lock-step", "--steps", "4", "--domain", "98"]
    assert main([*arguments, "--dry-run", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert len(lines) == 4 and lines[0].startswith("   0  velocity [0. 0. 0.]")
    assert not list(tmp_path.glob("episode_*")) and not commands(tmp_path / "commands.jsonl")


@pytest.mark.parametrize(
    ("policy", "words"),
    [("expert", "for simulations"), ("random", "for simulations"), ("nowhere", "whole Neon checkpoint")],
)
def test_a_policy_that_cannot_run_on_a_robot_is_refused_in_words(policy, words, tmp_path, capsys):
    """Before there is a simulated robot, and without a traceback."""
    assert main(["--policy", policy, "--robot", "sim-bridge", "--domain", "97", "--out", str(tmp_path)]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_a_robot_that_is_not_there_is_said_in_words(tmp_path, capsys):
    arguments = ["--policy", "zero", "--robot", "sim-bridge", "--no-start", "--domain", "96", "--out", str(tmp_path)]
    assert main([*arguments, "--dry-run"]) == 1
    assert "No state has come in 10 s" in capsys.readouterr().err


def test_a_refused_arming_is_said_in_words(tmp_path, capsys):
    """The robot's own program has the motors."""
    with bridge_process("--lock-step", "--lock-step-s", "0.02") as bridge:
        given = ["--policy", "zero", "--robot", "sim-bridge", "--no-start", "--lock-step"]
        given += ["--domain", str(bridge.domain)]
        assert main([*given, "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "NO  motion service" in said.out and said.err.startswith("Cannot arm") and "two masters" in said.err


@pytest.mark.slow
def test_the_shipped_policy_runs_as_the_guide_says(tmp_path, capsys):
    """No --sensors: they are the checkpoint's own."""
    policy = str(Path(__file__).parents[1] / "assets" / "g1" / "demo_heads")
    arguments = ["--policy", policy, "--robot", "sim-bridge", "--lock-step", "--steps", "20", "--domain", "96"]
    assert main([*arguments, "--words", "reach", "--out", str(tmp_path)]) == 0
    keys = LeRobotReader(tmp_path / "dataset").episode(0).observations
    assert {"proprio", "camera", "lidar", "audio"} <= set(keys) and len(keys["camera"]) == 20
    assert "Kept as episode 0 of" in capsys.readouterr().out
