"""agents/play.py: keys to commands by hand, the commands as the walker hears them, chunks that blend."""

import importlib.util
import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from tiny_neon import tiny_model

import neon_sim  # noqa: F401  (registers NeonG1-v0)
from neon_sim.g1 import joints
from neon_sim.inference.teleop import QUIT, press, typed_keys
from neon_sim.inference.two_heads import RoutedPolicy
from neon_sim.walker import HEIGHT_RANGE, Walker

SCRIPT = Path(__file__).resolve().parents[1] / "agents" / "play.py"
LIMIT = np.array([0.5, 0.3, 1.0])
REST = np.array([0.0, 0.0, 0.0, 0.75])


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("agents_play", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Listener(Walker):
    """Stands, and keeps what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[np.ndarray] = []

    def step(self, state: Any, command: np.ndarray, *rest: Any, **more: Any) -> np.ndarray:
        self.commands.append(command.copy())
        return super().step(state, command * (0.0, 0.0, 0.0, 1.0), *rest, **more)


@pytest.fixture
def env() -> Iterator[Any]:
    made: Any = gymnasium.make("NeonG1-v0", task="walk", physics_dt=0.005, settle_s=0.0).unwrapped
    made.robot.walker, made.robot.max_velocity = Listener(), LIMIT
    yield made
    made.close()


def run(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr(sys, "argv", ["play.py", *flags])
    runpy.run_path(str(SCRIPT), run_name="__main__")


# Keys


@pytest.mark.parametrize(
    ("keys", "command"),
    [
        ("w", (0.1, 0.0, 0.0, 0.75)),
        ("ss", (-0.2, 0.0, 0.0, 0.75)),
        ("a", (0.0, 0.1, 0.0, 0.75)),
        ("d", (0.0, -0.1, 0.0, 0.75)),
        ("q", (0.0, 0.0, 0.2, 0.75)),
        ("e", (0.0, 0.0, -0.2, 0.75)),
        ("r", (0.0, 0.0, 0.0, 0.77)),
        ("f", (0.0, 0.0, 0.0, 0.73)),
        ("wwaqf ", (0.0, 0.0, 0.0, 0.73)),  # space stops and stays low
        ("w.?zs", (0.0, 0.0, 0.0, 0.75)),
    ],
)
def test_what_each_key_asks_for(keys: str, command: tuple[float, ...]) -> None:
    asked = REST
    for key in keys:
        asked = press(asked, key, LIMIT, HEIGHT_RANGE)
    np.testing.assert_allclose(asked, command, atol=1e-12)
    np.testing.assert_array_equal(REST, [0.0, 0.0, 0.0, 0.75])


@pytest.mark.parametrize(
    ("key", "entry", "end"),
    [
        ("w", 0, 0.5),
        ("s", 0, -0.5),
        ("a", 1, 0.3),
        ("e", 2, -1.0),
        ("r", 3, HEIGHT_RANGE[1]),
        ("f", 3, HEIGHT_RANGE[0]),
    ],
)
def test_no_key_asks_for_more_than_the_robot_can(key: str, entry: int, end: float) -> None:
    asked = REST
    for _ in range(20):
        asked = press(asked, key, LIMIT, HEIGHT_RANGE)
    assert asked[entry] == end


# Driving


def test_the_walker_hears_the_keys(
    script: ModuleType, env: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.drive(env, ["w", "wa", ".", "e", " ", "f", "x", "w"], 0, script.Film(tmp_path))
    heard = np.array(env.robot.walker.commands)
    assert len(heard) == 30  # six times 0.1 s, then x
    expected = [(0.1, 0, 0), (0.2, 0.1, 0), (0.2, 0.1, 0), (0.2, 0.1, -0.2), (0, 0, 0), (0, 0, 0)]
    np.testing.assert_allclose(heard[:, :3], np.repeat(expected, 5, axis=0), atol=1e-12)
    height = joints.HOME_HEIGHT
    np.testing.assert_allclose(heard[:, 3], np.repeat([height] * 5 + [height - 0.02], 5))
    said = capsys.readouterr().out
    assert "vx +0.2 m/s   vy +0.1 m/s   turn -0.2 rad/s" in said and "Drove for 0.6 s" in said
    assert list(tmp_path.iterdir()) == []  # nothing was rendered


def test_after_a_fall_it_stands_and_waits(
    script: ModuleType, env: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def keys() -> Iterator[str]:
        yield "w"
        env.robot.data.qpos[3:7] = np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0  # on its side
        yield "w"
        yield "."

    script.drive(env, keys(), 0, script.Film(tmp_path))
    heard = np.array(env.robot.walker.commands)[:, 0]
    np.testing.assert_allclose(heard, [0.1] * 5 + [0.2] + [0.0] * 5)
    assert "It fell; on its feet again." in capsys.readouterr().out and env.robot.position("pelvis")[2] > 0.7


def test_keys_on_the_command_line_make_a_film(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--task", "walk", "--keys", "ww.e..x", "--out", str(tmp_path / "out"))
    with imageio.get_reader(tmp_path / "out" / "play.mp4") as film:
        assert film.count_frames() == 15  # 0.6 s at 25 pictures a second
    assert imageio.imread(tmp_path / "out" / "play.png").shape == (480, 880, 3)
    assert "Drove for 0.6 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--teleop",), "stdin is none. Use ssh -t, or --keys"),
        (("--keys", "wwz"), "unknown keys 'z'. Valid: 'wsadqerf"),
    ],
)
def test_what_cannot_be_driven_is_said(
    flags: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with open(os.devnull) as no_terminal, pytest.raises(SystemExit) as caught:
        monkeypatch.setattr(sys, "stdin", no_terminal)
        run(monkeypatch, "--task", "walk", *flags, "--out", str(tmp_path / "out"))
    assert caught.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_closed_input_quits() -> None:
    read, write = os.pipe()
    os.close(write)
    assert next(typed_keys(read)) == QUIT
    os.close(read)


# Chunks that take over from each other


class Jumper:
    """Chunks (1, 16, A) that ask for one end of every joint's range, then for the other."""

    def __init__(self, env: Any) -> None:
        self.side, self.dim, self.asked = 1.0, env.action_map.dim, 0

    def reset(self, env_ids: list[int] | None = None) -> None:
        self.side, self.asked = 1.0, 0

    def observe(self, obs: Any, now_s: float) -> None:
        pass

    def act(self) -> np.ndarray:
        self.side, self.asked = -self.side, self.asked + 1
        chunk = np.zeros((1, 16, self.dim))
        chunk[..., :14] = 0.2 * self.side  # the arms; the robot stays
        return chunk


def test_blended_chunks_leave_safety_nothing_to_slow(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env: Any = gymnasium.make("NeonG1-v0", task="stand", sensors=("proprio",), physics_dt=0.005, max_steps=40)
    env, film = env.unwrapped, script.Film(tmp_path)
    plain, blended = Jumper(env), Jumper(env)
    script.play(env, plain, 0, 1, film)
    asked = script.parse_real_time("linear", None, 60.0, "expert")
    script.play(env, script.RealTimePolicy(blended, asked, env.action_map), 0, 1, film)
    env.close()
    first, second = capsys.readouterr().out.splitlines()
    assert "safety slowed 0 of 40 steps" in second
    assert int(first.split("slowed ")[1].split()[0]) > 20
    assert (plain.asked, blended.asked) == (3, 4)  # every 16 steps, every 10
    assert asked.delay == 3  # 60 ms at 50 Hz


def test_a_draft_makes_a_routed_policy(script: ModuleType, tmp_path: Path, env: Any) -> None:
    for seed, name in enumerate(("heavy", "light")):
        tiny_model(tmp_path / "backbone", seed).save_pretrained(tmp_path / name)
    player = script.build_player(str(tmp_path / "heavy"), env, None, str(tmp_path / "light"))
    weights = [next(model.action_head.parameters()) for model in (player.model, player.draft)]
    assert isinstance(player, RoutedPolicy) and not torch.equal(*weights)
    tiny_model(tmp_path / "backbone", control_mode="whole_body").save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="The draft's action space is whole_body"):
        script.build_player(str(tmp_path / "heavy"), env, None, str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--task", "nope"), "Unknown task 'nope'"),
        (("--draft", "runs/nowhere"), "expert"),
        (("--task", "nope", "--teleop", "--keys", "w."), "Unknown task 'nope'"),
        (("--policy", "runs/nowhere"), "runs/nowhere"),
        (("--real-time", "lineer"), "Unknown blend schedule 'lineer'. Did you mean 'linear'"),
        (("--latency-ms", "50"), "go with --real-time"),
        (("--real-time", "exp", "--latency-ms", "200"), "at most the chunk's 16 steps, got 20"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    flags: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, "--policy", "expert", *flags, "--out", str(tmp_path / "out"))  # the last --policy counts
    assert not (tmp_path / "out").exists()
