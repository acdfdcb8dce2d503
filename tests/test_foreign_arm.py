"""The cross-embodiment experiment: the foreign arm, its folder, what the G1 makes of it, and the figures."""

import json
import runpy
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neon_sim.data.lerobot import LeRobotReader
from neon_sim.data.relative_actions import euler2rotm, relative_actions_to_states
from neon_sim.data.sources import open_source
from neon_sim.episode import NeonEpisode
from neon_sim.g1 import joints
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.g1.kinematics import palm_poses

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # its files import each other by name

import foreign_arm  # noqa: E402
import foreign_arm_data  # noqa: E402
import foreign_arm_world as world  # noqa: E402


@pytest.fixture(scope="module")
def arm() -> world.ForeignArm:
    return world.ForeignArm()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two foreign episodes."""
    return world.write_foreign_folder(tmp_path_factory.mktemp("foreign") / "set", 2, seed=4)


# The arm


def test_upright_its_gripper_is_as_high_as_its_links_are_long(arm: world.ForeignArm) -> None:
    arm.settle(np.zeros(7))
    assert arm.model.nv == arm.model.nu == 7
    np.testing.assert_allclose(arm.pose[:3], (0.0, 0.0, 0.3 + 0.14 + 0.16 + 0.12 + 0.14 + 0.05 + 0.07), atol=1e-12)
    np.testing.assert_allclose(euler2rotm(arm.pose[3:6]), np.eye(3), atol=1e-12)


def test_it_carries_its_own_weight(arm: world.ForeignArm) -> None:
    arm.settle(world.HOME)
    before = arm.pose
    mujoco.mj_step(arm.model, arm.data, nstep=500)  # 1 s
    np.testing.assert_allclose(arm.pose[:3], before[:3], atol=1e-4)
    assert np.abs(arm.data.qfrc_gravcomp).max() > 1.0  # N m: there was something to carry


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_every_reach_is_a_straight_smooth_way_from_point_to_point(seed: int) -> None:
    arm, config = world.ForeignArm(), world.ForeignReach()
    poses = arm.reach(config, np.random.default_rng(seed))
    start, end = poses[0, :3], poses[-1, :3]
    way = np.linalg.norm(end - start)
    assert 0.098 < way < 0.282  # m, near to far
    assert len(poses) == pytest.approx(1 + (way / 0.3 + 0.4) * 20, abs=1.5)  # at 20 Hz, then 0.4 s at rest
    along = (end - start) / way
    beside = (poses[:, :3] - start) - np.outer((poses[:, :3] - start) @ along, along)
    assert np.linalg.norm(beside, axis=1).max() < 0.02
    speed = np.linalg.norm(np.diff(poses[:, :3], axis=0), axis=1) * 20
    assert speed.max() == pytest.approx(1.875 * 0.3, rel=0.15) and speed[-1] < 0.01  # minimum jerk: 15/8 of the mean
    down = euler2rotm(poses[:, 3:6])[:, 2, 2]
    assert down.max() < np.cos(np.pi - 0.2)  # the gripper keeps looking down
    assert np.array_equal(poses, world.ForeignArm().reach(config, np.random.default_rng(seed)))


# The folder and what the G1 makes of it


def test_the_folder_is_a_foreign_one_and_its_actions_are_its_states(folder: Path) -> None:
    assert not (folder / "meta" / "neon.json").exists()
    info = json.loads((folder / "meta" / "info.json").read_text())
    assert info["robot_type"] == "foreign_arm" and info["fps"] == 20 and info["total_episodes"] == 2
    assert info["features"]["action"]["names"] == list(world.POSE_NAMES)
    raw = LeRobotReader(folder).episode(1)
    poses = raw.observations["proprio"]
    again = relative_actions_to_states(raw.actions[:-1], poses[0])
    np.testing.assert_allclose(again[:, :3], poses[:, :3], atol=1e-5)
    assert world.write_foreign_folder(folder, 2) == folder  # as it is
    with pytest.raises(ValueError, match="holds 2 episodes, 3 are wanted"):
        world.write_foreign_folder(folder, 3)


@pytest.mark.parametrize("hand", [0, 1])
def test_a_palm_goes_the_way_that_the_foreign_gripper_went(folder: Path, hand: int) -> None:
    poses = LeRobotReader(folder).episode(0).observations["proprio"]
    turn = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # the gripper points along z, the palm along x
    wanted = turn @ euler2rotm(poses[0, 3:6]).T @ (poses[-1, :3] - poses[0, :3])  # in the first gripper's own frame
    episodes = list(foreign_arm_data.foreign_reaches(folder, hand))
    assert len(episodes) == 2 and episodes[0] is not None
    targets = G1ActionSpace(episodes[0].control_mode).decode(episodes[0].actions)[0]
    palm = palm_poses(targets)[0][:, hand]
    np.testing.assert_allclose(palm[-1] - palm[0], wanted, atol=0.005)
    assert set(episodes[0].infos["goal_hand"]) == {hand}
    np.testing.assert_allclose(episodes[0].infos["goal_pos_b"], np.tile(palm[-1], (len(palm), 1)), atol=1e-6)
    assert ("left", "right")[hand] in episodes[0].instruction


def test_a_path_that_a_hand_cannot_follow_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near = foreign_arm_data.foreign_source(folder, "left")
    far = open_source(replace(near, action_scaler=2.0))  # as if its steps were ten times as long
    monkeypatch.setattr(foreign_arm_data, "open_source", lambda config: far)
    assert list(foreign_arm_data.foreign_reaches(folder, 0)) == [None, None]


def test_heads_see_what_both_robots_know() -> None:
    proprio = np.arange(1.0, 126.0, dtype=np.float32)
    seen = foreign_arm_data.shared(proprio)
    np.testing.assert_array_equal(np.flatnonzero(seen), joints.GROUPS["arms"])
    np.testing.assert_array_equal(seen[15:29], proprio[15:29])
    torch.testing.assert_close(foreign_arm_data.shared(torch.from_numpy(proprio)), torch.from_numpy(seen))


def test_what_cannot_be_used_is_counted_and_nothing_is_made_twice(tmp_path: Path) -> None:
    steps = 4
    seen = {"proprio": np.ones((steps, 125), np.float32), "eef": np.ones((steps, 14), np.float32)}
    episode = NeonEpisode({**seen, "camera": np.zeros((steps, 8, 8, 3), np.uint8)}, np.zeros((steps, 17), np.float32))
    assert foreign_arm_data.keep(iter([episode, None, episode]), 3, tmp_path / "kept") == 1

    def nobody() -> Iterator[NeonEpisode | None]:
        raise AssertionError("asked again")
        yield

    assert foreign_arm_data.keep(nobody(), 3, tmp_path / "kept") == 1
    paths = sorted((tmp_path / "kept").glob("*.npz"))
    assert [path.name for path in paths] == ["episode_00000.npz", "episode_00002.npz"]
    read = NeonEpisode.load(paths[1])
    assert set(read.observations) == {"proprio", "eef"} and read.observations["proprio"].sum() == 14 * steps


# The experiment


def test_with_nothing_to_learn_from_there_is_no_training() -> None:
    cells = foreign_arm.Preset(own=(0, 5), shares=(1.0, 3.0), seeds=(0, 1)).cells()
    assert cells == [(own, share, seed) for seed in (0, 1) for own, share in ((0, 1), (5, 0), (5, 1), (5, 3))]
    foreign_only = foreign_arm_data.soup(Path("out"), 0, 1.0)
    assert [(s.name, s.weight) for s in foreign_only.sources] == [("foreign_left", 0.5), ("foreign_right", 0.5)]
    both = foreign_arm_data.soup(Path("out"), 5, 2.0)
    assert [(s.name, s.weight, s.max_episodes) for s in both.sources] == [
        ("own", 1.0, 5), ("foreign_left", 1.0, None), ("foreign_right", 1.0, None)
    ]  # fmt: skip


def test_figures_by_hand(tmp_path: Path) -> None:
    preset = foreign_arm.Preset(own=(0, 5), shares=(1.0, 3.0), seeds=(0, 1), episodes=2)

    def cell(own: int, share: float, seed: int, *wins: bool) -> tuple[Any, list[dict[str, Any]]]:
        rows = [{"seed": i, "success": win, "distance_m": 0.02 if win else 0.1} for i, win in enumerate(wins)]
        return foreign_arm.Cell(own, share, seed, preset, "out"), rows

    results = [cell(0, 1.0, 0, False, False), cell(5, 0.0, 0, True, False), cell(5, 1.0, 0, True, True)]
    results += [cell(0, 1.0, 1, True, False), cell(5, 0.0, 1, False, False), cell(5, 1.0, 1, True, False)]
    results += [cell(5, 3.0, 0, True, False), cell(5, 3.0, 1, True, True)]
    figures = foreign_arm.figures_of(results, {"left": 0, "right": 3}, preset)
    assert "0_0" not in figures["cells"] and figures["unusable_foreign"]["right"] == 3
    found = {name: (one["successes"], one["episodes"]) for name, one in figures["cells"].items()}
    assert found == {"0_1": (1, 4), "5_0": (1, 4), "5_1": (3, 4), "5_3": (3, 4)}
    assert figures["cells"]["5_1"]["by_seed"]["1"]["successes"] == 1
    assert figures["cells"]["5_1"]["median_distance_cm"] == pytest.approx(2.0)
    assert figures["cells"]["5_1"]["gain"] == {"points": 50.0, "half": 0.0}  # both seeds gained one of two
    # 0 and 100 points: mean 50, and 12.706 (t of one degree) standard errors of 50.
    assert figures["cells"]["5_3"]["gain"] == {"points": 50.0, "half": pytest.approx(635.3, abs=0.05)}
    rows = foreign_arm.rows_of(figures)
    assert rows[0][:3] == ["0", "-", "-"] and rows[0][4] == "-" and "25.0 %" in rows[0][3]
    assert rows[1][4] == "+50.0 [+50.0, +50.0]" and rows[2][1] == "3" and "75.0 %" in rows[2][3]
    assert foreign_arm.in_points({"points": 12.0, "half": None}) == "+12.0"
    json.dumps(figures, allow_nan=False)
    foreign_arm.picture(figures, tmp_path / "foreign_arm.png")
    with Image.open(tmp_path / "foreign_arm.png") as drawn:
        assert min(drawn.size) > 200


def run_script(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    """The benchmark in this process."""
    monkeypatch.setattr(sys, "argv", ["foreign_arm.py", *flags])
    runpy.run_path(str(BENCHMARKS / "foreign_arm.py"), run_name="__main__")


def test_an_unknown_preset_names_the_nearest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="Did you mean 'tiny'"):
        run_script(monkeypatch, "--preset", "tinny", "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_it_trains_on_the_foreign_arm_alone_plays_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    preset = foreign_arm.Preset(own=(0,), foreign=2, shares=(1.0,), steps=2, batch_size=4, seeds=(0,), episodes=1)
    data = tmp_path / "cells"
    for hand in (0, 1):
        source = world.write_foreign_folder(tmp_path / "set", 2)
        foreign_arm_data.keep(
            foreign_arm_data.foreign_reaches(source, hand), 2, tmp_path / f"foreign_{foreign_arm_data.HANDS[hand]}"
        )
    cell = foreign_arm.Cell(0, 1.0, 0, preset, str(tmp_path))
    _, rows = foreign_arm.run_cell(cell)
    assert len(rows) == 1 and 0.0 < rows[0]["distance_m"] < 1.0 and rows[0]["seed"] == 10_000_000
    stamps = {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()}
    assert any(path.name == "neon_weights.safetensors" for path in stamps)
    assert foreign_arm.run_cell(cell)[1] == rows
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


@pytest.mark.slow
def test_the_tiny_preset_ends_with_a_table_and_writes_no_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = (BENCHMARKS.parent / "RESULTS.md").read_bytes()
    run_script(monkeypatch, "--preset", "tiny", "--workers", "1", "--out", str(tmp_path / "out"))
    said = capsys.readouterr().out
    assert "| own episodes | multiplier | without the foreign arm |" in said and "Not written down" in said
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert figures["cells"].keys() == {"0_1", "2_0", "2_1"} and (tmp_path / "out" / "foreign_arm.png").exists()
    assert figures["references"]["zero"]["successes"] == 0
    assert (BENCHMARKS.parent / "RESULTS.md").read_bytes() == results
