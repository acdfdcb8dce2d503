"""agents/view.py draws what an episode holds."""

import runpy
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from foreign_folders import UNITREE_ARMS, angles, foreign_lerobot, gripper_path
from lerobot_episodes import full_episode
from PIL import Image
from source_files import voice_folder

from neon_sim.data.lerobot import LeRobotWriter
from neon_sim.data.relative_actions import states_to_relative_actions
from neon_sim.episode import NeonEpisode

SCRIPT = Path(__file__).resolve().parents[1] / "agents" / "view.py"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    with LeRobotWriter(tmp_path / "set") as writer:
        writer.add(full_episode(12))
        writer.add(full_episode(8, 1, "other words"))
    return tmp_path / "set"


def run(monkeypatch: pytest.MonkeyPatch, *flags: str) -> dict[str, object]:
    monkeypatch.setattr(sys, "argv", ["view.py", *flags])
    return runpy.run_path(str(SCRIPT), run_name="__main__")


def test_pictures_are_drawn_and_described(
    monkeypatch: pytest.MonkeyPatch, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, str(dataset), "--episodes", "0", "1", "--out", str(tmp_path / "out"))
    printed = capsys.readouterr().out
    assert "episode 1: 'other words', 0.2 s, success" in printed and "lidar" in printed
    for number in (0, 1):
        picture = np.asarray(Image.open(tmp_path / "out" / f"episode_00000{number}.png").convert("RGB"))
        assert picture.shape[0] > 900 and picture.std() > 5.0  # four panels with something in them


def test_anybodys_cameras_and_our_files_are_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    films = {name: full_episode(5, seed).observations["camera"] for seed, name in enumerate(("top", "wrist"))}
    (tmp_path / "own").mkdir()
    NeonEpisode(films, np.zeros((5, 17), np.float32), instruction="look").save(tmp_path / "own" / "a.npz")
    run(monkeypatch, str(tmp_path / "own"), "--out", str(tmp_path / "out"))
    assert "episode 0: 'look', 0.1 s, no success; top, wrist" in capsys.readouterr().out
    drawn = np.asarray(Image.open(tmp_path / "out" / "episode_000000.png").convert("RGB")).reshape(-1, 3)
    for film in films.values():  # the first frame of each, in its one colour
        assert (np.abs(drawn.astype(int) - film[0, 0, 0]).max(axis=1) <= 2).sum() > 1000
    go = voice_folder(tmp_path / "voice")
    run(monkeypatch, str(go), "--type", "voice_commands", "--out", str(tmp_path / "out"))
    assert "'walk forward', 1.0 s" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="Unknown option of data source type 'voice_commands' 'fps'"):
        run(monkeypatch, str(go), "--type", "voice_commands", "--source-options", '{"fps": 5}', "--out", str(tmp_path))
    for flags in (("--source-options", "{}"), ("--relative-actions",)):
        with pytest.raises(SystemExit, match="belong to a --type"):
            run(monkeypatch, str(go), *flags, "--out", str(tmp_path))


def test_what_became_of_columns_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [*UNITREE_ARMS, "kLeftGripper"]
    arm = foreign_lerobot(tmp_path / "arm", angles(20, 15), names={"action": names})
    run(monkeypatch, str(arm), "--type", "lerobot", "--out", str(tmp_path / "out"))
    printed = capsys.readouterr().out
    assert "14 columns mapped, 18 of the G1's padded; dropped: kLeftGripper" in printed
    assert "  kLeftElbow -> left_elbow_joint\n" in printed
    run(monkeypatch, str(arm), "--out", str(tmp_path / "out"))  # as it was recorded: nothing is mapped
    assert "mapped" not in capsys.readouterr().out


def test_relative_steps_are_shown_as_what_an_arm_makes_of_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = states_to_relative_actions(gripper_path(12), 20.0).astype(np.float32)
    arm = foreign_lerobot(tmp_path / "arm", steps, fps=5.0)
    run(monkeypatch, str(arm), "--type", "lerobot", "--relative-actions", "--out", str(tmp_path / "out"))
    assert "dropped: gripper" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="None of the columns of 'action'"):
        run(monkeypatch, str(arm), "--type", "lerobot", "--out", str(tmp_path / "out"))


@pytest.mark.parametrize(("width", "label"), [(125, "arm joints (rad)"), (43, "action"), (29, "action")])
def test_only_our_own_layout_has_arm_joints(width: int, label: str) -> None:
    axes = plt.figure().add_subplot()
    seen = {"proprio": np.zeros((5, width), np.float32)}
    runpy.run_path(str(SCRIPT))["draw_arms"](axes, NeonEpisode(seen, np.zeros((5, 17), np.float32)))
    assert axes.get_ylabel() == label and len(axes.lines) == (14 if width == 125 else 17)
    plt.close(axes.figure)


def test_the_film_strip_shows_first_and_last_frame() -> None:
    film_strip = runpy.run_path(str(SCRIPT))["film_strip"]
    episode = full_episode(12)
    strip = film_strip(episode)
    assert strip.shape == (32, 6 * 48, 3)
    assert np.array_equal(strip[:, :48], episode.observations["camera"][0])
    assert np.array_equal(strip[:, -48:], episode.observations["camera"][11])


def test_what_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has 2 episodes, number 5"):
        run(monkeypatch, str(dataset), "--episodes", "5", "--out", str(tmp_path / "out"))
    with pytest.raises(SystemExit, match="holds no LeRobot data set"):
        run(monkeypatch, str(tmp_path / "nothing"), "--out", str(tmp_path / "out"))
