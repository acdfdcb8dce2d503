"""agents/collect.py --policy teleop: keys typed into a real terminal become episodes on the disk."""

import importlib.util
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.data.lerobot import LeRobotReader
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.inference.teleop import (
    NOTHING,
    TeleopPolicy,
    gamepad,
    key_by_key,
    keyboard,
    plain_keys,
    press,
    stick_command,
    typed_keys,
)
from neon_sim.training.recording import Collecting, Recorder
from neon_sim.walker import HEIGHT_RANGE

SCRIPT = Path(__file__).resolve().parents[1] / "agents" / "collect.py"
LIMIT = np.array([0.5, 0.3, 1.0])
HEIGHTS = (0.6, 0.76)
REST = np.array([0.0, 0.0, 0.0, 0.75])
DRIVE = ("--policy", "teleop", "--task", "walk", "--seconds", "3", "--episodes", "1")


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The keyboard's end and the program's end of a terminal."""
    pty = pytest.importorskip("pty")
    ends = pty.openpty()
    yield ends
    for fd in ends:
        os.close(fd)


def start(terminal: tuple[int, int], out: Path, *flags: str) -> subprocess.Popen[bytes]:
    """The script with that terminal as its keyboard."""
    command = [sys.executable, str(SCRIPT), *DRIVE, *flags, "--out", str(out)]
    return subprocess.Popen(command, stdin=terminal[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(running: subprocess.Popen[bytes], words: bytes) -> bytes:
    """Its output up to some words."""
    said, deadline = b"", time.monotonic() + 120.0
    assert running.stdout is not None
    while words not in said:
        assert time.monotonic() < deadline and running.poll() is None, said
        if select.select([running.stdout], [], [], 0.1)[0]:
            said += os.read(running.stdout.fileno(), 4096)
    return said


def test_typed_keys_become_an_episode_and_x_keeps_what_is_whole(terminal: tuple[int, int], tmp_path: Path) -> None:
    out = tmp_path / "out"
    driven = start(terminal, out)
    wait_for(driven, b"vx +0.0 m/s")  # it drives, and has heard nothing yet
    os.write(terminal[0], b"ww\x1b[Dr")  # twice faster, the left arrow, taller than it can be
    said, errors = driven.communicate(timeout=120)
    assert driven.returncode == 0, errors.decode()
    assert b"vx +0.2 m/s   vy +0.0 m/s   turn +0.2 rad/s" in said and b"1 new episodes" in said
    reader = LeRobotReader(out / "dataset")
    episode = reader.episode(0)
    assert len(reader) == 1 and len(episode) == 150  # 3 s
    velocity = G1ActionSpace("arms_only").decode(episode.actions)[1]
    np.testing.assert_allclose(velocity[:5], 0.0, atol=1e-6)  # the first look at the keys found none
    np.testing.assert_allclose(velocity[-1], (0.2, 0.0, 0.2), atol=1e-6)
    assert {tuple(row) for row in np.round(velocity, 3).tolist()} == {(0.0, 0.0, 0.0), (0.2, 0.0, 0.2)}
    heard = episode.observations["command"][-1]
    np.testing.assert_allclose(heard, (0.2, 0.0, 0.2, HEIGHT_RANGE[1]), atol=1e-6)

    more = start(terminal, out, "--episodes", "2")
    wait_for(more, b"vx +0.0 m/s")
    os.write(terminal[0], b"x")
    _, errors = more.communicate(timeout=120)
    assert more.returncode == 1 and b"Stopped; what was recorded is in" in errors
    shard = next((out / "shards").iterdir())
    assert len(LeRobotReader(shard)) == 1 and not list(out.rglob("*.unfinished"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "stdin is none. Use ssh -t, or --gamepad"),
        (("--control-mode", "whole_body"), "by velocities: leave out --ray, and use arms_only"),
        (("--policy", "random", "--window"), "go with --policy teleop, not with random"),
    ],
)
def test_what_cannot_be_driven_is_said_before_anything_is_written(
    flags: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    command = [sys.executable, str(SCRIPT), *DRIVE, *flags, "--out", str(tmp_path / "out")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and message in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_person_cannot_be_made_up() -> None:
    with pytest.raises(ValueError, match="'teleop' is a person"):
        Recorder(Collecting(policy="teleop"))


# Commands


@pytest.mark.parametrize(
    ("keys", "command"),
    [
        ("www", (0.3, 0.0, 0.0, 0.75)),
        ("ssssssss", (-0.5, 0.0, 0.0, 0.75)),
        ("aaaae", (0.0, 0.3, -0.2, 0.75)),
        ("rr", (0.0, 0.0, 0.0, 0.76)),
        ("wf ", (0.0, 0.0, 0.0, 0.73)),  # space stops and stays low
        ("w?.", (0.1, 0.0, 0.0, 0.75)),
    ],
)
def test_what_keys_ask_for(keys: str, command: tuple[float, ...]) -> None:
    asked = keyboard([keys], LIMIT, HEIGHTS)(REST)
    np.testing.assert_allclose(asked, command, atol=1e-12)


def test_quitting_and_the_end_of_the_keys_are_the_same() -> None:
    control = keyboard(["w", "wx"], LIMIT, HEIGHTS)
    np.testing.assert_allclose(control(REST), press(REST, "w", LIMIT, HEIGHTS))
    assert control(REST) is None and control(REST) is None
    assert plain_keys("\x1b[A\x1b[B\x1b[D\x1b[C\x1bOAW x") == "wsqeww x"


@pytest.mark.parametrize(
    ("sticks", "command"),
    [
        ((0.0, -1.0, 0.0, 0.0), (0.5, 0.0, 0.0, 0.75)),  # up is forward
        ((1.0, 0.0, 1.0, 0.0), (0.0, -0.3, -1.0, 0.75)),  # right is right
        ((0.1, -0.1, 0.14, 0.05), (0.0, 0.0, 0.0, 0.75)),  # let go
        ((0.0, 0.575, 0.0, 0.575), (-0.25, 0.0, 0.0, 0.74)),  # half of the way beyond the dead zone
        ((0.0, 0.0, 0.0, -1.0), (0.0, 0.0, 0.0, 0.76)),  # no taller than it can be
    ],
)
def test_what_sticks_ask_for(sticks: tuple[float, ...], command: tuple[float, ...]) -> None:
    asked = stick_command(np.array(sticks), np.array([0.4, 0.1, 0.2, 0.75]), LIMIT, HEIGHTS)
    np.testing.assert_allclose(asked, command, atol=1e-12)
    assert not np.signbit(asked[asked == 0.0]).any()


@pytest.mark.skipif(importlib.util.find_spec("pygame") is not None, reason="pygame is installed")
def test_a_gamepad_without_pygame_is_asked_for() -> None:
    with pytest.raises(ImportError, match="pip install pygame"):
        gamepad(LIMIT, HEIGHTS)


@pytest.mark.skipif(importlib.util.find_spec("pygame") is None, reason="needs pygame")
def test_a_gamepad_that_is_not_there_is_said() -> None:
    try:
        gamepad(LIMIT, HEIGHTS)
    except ValueError as error:
        assert "No gamepad is connected" in str(error)
    else:
        pytest.skip("a gamepad is connected")


# Policy and terminal


def test_the_height_is_back_at_the_start_of_an_episode(capsys: pytest.CaptureFixture[str]) -> None:
    env: Any = gymnasium.make("NeonG1-v0", task="walk", sensors=("proprio",), physics_dt=0.005).unwrapped
    height = env.config.height
    policy = TeleopPolicy(env, keyboard(["f", NOTHING, "x"], LIMIT, HEIGHT_RANGE))
    policy.reset()
    env.reset(seed=0)
    chunk = policy.act()
    policy.act()
    assert chunk.shape == (1, 5, 17) and env.config.height == pytest.approx(height - 0.02)
    assert capsys.readouterr().out.count("height 0.") == 1  # said once, and nothing new to say
    with pytest.raises(KeyboardInterrupt):
        policy.act()
    policy.reset()
    assert env.config.height == height
    env.close()


def test_keys_come_one_by_one_and_the_terminal_is_left_as_it_was(terminal: tuple[int, int]) -> None:
    import termios

    before = termios.tcgetattr(terminal[1])
    with pytest.raises(RuntimeError, match="in the middle"), key_by_key(terminal[1]):
        assert termios.tcgetattr(terminal[1]) != before
        keys = typed_keys(terminal[1])
        assert next(keys) == NOTHING
        os.write(terminal[0], b"w\x1b[C")
        assert next(keys) == "we"
        raise RuntimeError("in the middle")
    assert termios.tcgetattr(terminal[1]) == before
