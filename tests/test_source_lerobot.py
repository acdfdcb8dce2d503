"""Other people's LeRobot folders: joints by name, slices by modality.json, a gripper's poses by inverse kinematics."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from foreign_folders import (
    G1_ARMS,
    agibot_folder,
    angles,
    bridge_folder,
    foreign_lerobot,
    gripper_path,
    modality_folder,
    pictures,
    teleop_folder,
    unitree_folder,
)

from neon_sim.data.data_soup import DataSoup, DataSoupConfig
from neon_sim.data.lerobot import LeRobotWriter
from neon_sim.data.mapped_episode import small_pictures
from neon_sim.data.relative_actions import states_to_relative_actions
from neon_sim.data.small_video import decode_small_video
from neon_sim.data.source import BadEpisodeError, DataSourceConfig
from neon_sim.data.sources import open_source
from neon_sim.data.sources.teleop import stream_names
from neon_sim.data.video import VideoConfig, decode_video, encode_video
from neon_sim.episode import NeonEpisode
from neon_sim.g1 import joints
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.g1.kinematics import palm_poses


def opened(kind: str, folder: Path, **options: object):
    return open_source(DataSourceConfig("x", kind, str(folder), options=options))


def targets(episode: NeonEpisode) -> np.ndarray:
    """(T, 29) rad and what of it the episode does not own at home."""
    return G1ActionSpace(episode.control_mode).decode(episode.actions)[0]


def places(names: list[str]) -> list[int]:
    return [joints.JOINT_INDEX[name] for name in names]


def test_unitrees_names_are_the_g1s_joints_and_grippers_are_dropped(tmp_path: Path) -> None:
    source = opened("unitree", unitree_folder(tmp_path / "u"))
    assert source.report.dropped == ("kLeftGripper", "kRightGripper")
    assert source.report.mapped["kLeftShoulderPitch"] == "left_shoulder_pitch_joint"
    episode = source.episode(0)
    assert len(episode) == 50 and episode.instruction == "pick the cup"  # 30 steps at 30 Hz are 50 at 50 Hz
    arms = targets(episode)[:, places(G1_ARMS)]
    recorded = angles(30, 16)[:, :14]
    np.testing.assert_allclose(arms[::5], recorded[::3], atol=1e-5)  # every 0.1 s
    np.testing.assert_allclose(arms[1], recorded[0] + 0.6 * (recorded[1] - recorded[0]), atol=1e-5)  # at 20 of 33 ms
    felt = episode.observations["proprio"][:, places(G1_ARMS)]
    np.testing.assert_allclose(felt[::5], angles(30, 16, 1)[::3, :14], atol=1e-5)
    assert episode.observations["camera"].shape == (50, 32, 32, 3)


def test_a_folder_without_unitrees_names_is_not_a_unitree_one(tmp_path: Path) -> None:
    folder = unitree_folder(tmp_path / "u", [*G1_ARMS, "left_gripper", "right_gripper"])
    with pytest.raises(ValueError, match="named like kLeftShoulderPitch, found"):
        opened("unitree", folder)
    assert len(opened("lerobot", folder).report.mapped) == 14


def test_columns_without_names_need_some(tmp_path: Path) -> None:
    folder = foreign_lerobot(tmp_path / "f", angles(20, 14), angles(20, 14, 1))
    with pytest.raises(ValueError, match="None of the columns of 'action' of .* is a joint of the G1"):
        opened("lerobot", folder)
    with pytest.raises(ValueError, match="'action' has 14 entries, but 2 names are said"):
        opened("lerobot", folder, names=["a", "b"])
    episode = opened("lerobot", folder, names=G1_ARMS).episode(0)
    np.testing.assert_allclose(targets(episode)[:, places(G1_ARMS)], angles(20, 14), atol=1e-5)
    np.testing.assert_array_equal(episode.observations["proprio"][:, places(G1_ARMS)], angles(20, 14, 1))
    renamed = opened("lerobot", folder, names=[f"m{n}" for n in range(14)], rename={"m3": "left_elbow_joint"})
    assert renamed.report.mapped == {"m3": "left_elbow_joint"} and len(renamed.report.dropped) == 13


def test_a_gripper_in_the_state_is_followed_by_an_arm(tmp_path: Path) -> None:
    source = opened("lerobot", bridge_folder(tmp_path / "b"), hand="left")
    episode = source.episode(0)
    assert source.report.dropped == ("gripper",) and "left_elbow_joint" not in source.report.padded
    assert len(episode) == source.steps(0) == 190  # 19 steps between 20 poses, each as long as ten of ours
    went = np.linalg.norm(np.diff(gripper_path(20)[:, :3], axis=0), axis=1)
    palm = palm_poses(targets(episode))[0][:, 0]
    np.testing.assert_allclose(np.linalg.norm(palm[10::10][:17] - palm[:-10:10][:17], axis=1), went[1:18], atol=0.004)
    np.testing.assert_allclose(episode.infos["gripper"][::10], np.linspace(0, 1, 20)[1:], atol=1e-6)


def test_relative_actions_become_the_same_chunks_as_the_poses_they_came_from(tmp_path: Path) -> None:
    actions = states_to_relative_actions(gripper_path(20), 20.0).astype(np.float32)
    folder = foreign_lerobot(tmp_path / "r", actions, fps=5.0)
    config = DataSourceConfig("x", "lerobot", str(folder), use_relative_actions=True, action_scaler=20.0)
    relative = open_source(config).episode(0)
    poses = opened("lerobot", bridge_folder(tmp_path / "b")).episode(0)
    np.testing.assert_allclose(relative.actions, poses.actions, atol=1e-4)
    half = open_source(replace(config, action_scaler=40.0)).episode(0)
    size = [np.ptp(palm_poses(targets(one))[0][:, 1], axis=0) for one in (relative, half)]
    np.testing.assert_allclose(size[1], 0.5 * size[0], atol=0.004)


def test_agibots_arms_go_joint_by_joint(tmp_path: Path) -> None:
    source = opened("agibot", agibot_folder(tmp_path / "a"))
    assert len(source.report.mapped) == 14 and source.report.mapped["right_arm_joint4"] == "right_elbow_joint"
    episode = source.episode(0)
    np.testing.assert_allclose(targets(episode)[::5][:, places(G1_ARMS)], angles(30, 14)[::3], atol=1e-5)
    felt = episode.observations["proprio"][::5, places(G1_ARMS)]
    np.testing.assert_allclose(felt, angles(30, 14, 1)[::3], atol=1e-5)
    assert len(opened("agibot", unitree_folder(tmp_path / "u")).report.mapped) == 14  # one column with names


def test_slices_are_joints_in_the_order_of_their_robot(tmp_path: Path) -> None:
    g1 = opened("gr00t", modality_folder(tmp_path / "g1"))
    gr1 = opened("gr00t", modality_folder(tmp_path / "gr1", robot="GR1ArmsOnly"))
    assert [name for name in g1.report.dropped] == [f"left_hand.{n}" for n in range(6)]
    wrists = ["left_wrist_roll_joint", "left_wrist_pitch_joint", "left_wrist_yaw_joint"]
    recorded = angles(40, 20)[::2]  # every 0.1 s
    np.testing.assert_allclose(targets(g1.episode(0))[::5][:, places(wrists)], recorded[:, 4:7], atol=1e-5)
    np.testing.assert_allclose(targets(gr1.episode(0))[::5][:, places(wrists)], recorded[:, [5, 6, 4]], atol=1e-5)


@pytest.mark.parametrize(("end", "part"), [(99, "'left_arm' is 0 to 99, 'action' has 20"), (0, "'left_arm' is 0 to 0")])
def test_a_slice_beyond_its_column_is_named(tmp_path: Path, end: int, part: str) -> None:
    folder = modality_folder(tmp_path / "m")
    told = json.loads((folder / "meta/modality.json").read_text())
    told["action"]["left_arm"]["end"] = end
    (folder / "meta/modality.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match=rf"modality\.json: action {part}"):
        opened("gr00t", folder)


def test_dreams_are_all_folders_below_and_their_states_are_not_believed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        modality_folder(tmp_path / "dreams" / name, episodes=2)
    source = opened("dreamgen", tmp_path / "dreams")
    assert len(source) == 4 and source.steps(3) == 100
    episode = source.episode(3)
    felt = episode.observations["proprio"][5::5][:, places(G1_ARMS)]  # every second step at 20 Hz, from the third on
    np.testing.assert_allclose(felt, angles(40, 20)[1:-1:2, :14], atol=1e-5)  # where the step before it was to go
    with pytest.raises(FileNotFoundError, match="Open it with type='lerobot'"):
        opened("gr00t", unitree_folder(tmp_path / "u"))


def test_the_teleop_stream_has_43_joints_in_its_own_order_and_a_walking_command(tmp_path: Path) -> None:
    names = stream_names()
    assert len(names) == 43 and names[22:25] == ["left_hand_thumb_0", "left_hand_thumb_1", "left_hand_thumb_2"]
    assert names[15] == "left_shoulder_pitch_joint" and names[29] == "right_shoulder_pitch_joint"
    source = opened("teleop", teleop_folder(tmp_path / "t"), control_mode="whole_body")
    assert len(source.report.mapped) == 32 and len(source.report.dropped) == 14
    episode = source.episode(0)
    body = [number for number, name in enumerate(names) if "hand" not in name]
    low, high = joints.LOWER, joints.UPPER
    wanted = np.clip(angles(40, 43)[:, body], low, high)  # ankles have small ranges
    np.testing.assert_allclose(targets(episode)[::5], wanted[::2], atol=1e-5)
    arms = opened("teleop", tmp_path / "t").episode(0)
    np.testing.assert_allclose(arms.actions[:, 14:17], np.tile([0.5, 0.0, -0.5], (100, 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "part"),
    [({"fps": 30.0}, "has 20 Hz, found fps 30"), ({"width": 29}, "'action' of a teleop stream has 43 .*29")],
)
def test_another_stream_is_no_teleop_stream(tmp_path: Path, change: dict, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        opened("teleop", teleop_folder(tmp_path / "t", **change))


def test_our_own_folder_comes_back_as_it_was_recorded(tmp_path: Path) -> None:
    episode = NeonEpisode({"proprio": angles(20, 125)}, np.tanh(angles(20, 17)), instruction="reach")
    with LeRobotWriter(tmp_path / "own") as writer:
        writer.add(episode)
    for kind in ("neon_sim", "lerobot"):
        read = opened(kind, tmp_path / "own").episode(0)
        np.testing.assert_array_equal(read.actions, episode.actions)
        assert read.control_mode == "arms_only" and read.instruction == "reach"


def test_our_own_files_at_another_rate_are_brought_to_50_hz(tmp_path: Path) -> None:
    NeonEpisode({"proprio": angles(20, 125)}, np.tanh(angles(20, 17)), rate_hz=10.0).save(tmp_path / "a.npz")
    source = opened("neon_sim", tmp_path)
    assert source.steps(0) == len(source.episode(0)) == 100


def test_the_camera_can_be_chosen(tmp_path: Path) -> None:
    wrist = pictures(20, 5)
    folder = foreign_lerobot(tmp_path / "f", angles(20, 14), names={"action": G1_ARMS}, wrist=wrist)
    default, chosen = opened("lerobot", folder).episode(0), opened("lerobot", folder, camera="wrist").episode(0)
    shown = [episode.observations["camera"].astype(int) for episode in (default, chosen)]
    assert np.abs(shown[0] - pictures(20)).max() <= 8 and np.abs(shown[1] - wrist).max() <= 8
    with pytest.raises(ValueError, match="Unknown camera 'wirst'. Did you mean 'wrist'"):
        opened("lerobot", folder, camera="wirst")


def test_large_pictures_are_made_small_frame_by_frame(tmp_path: Path) -> None:
    big = np.random.default_rng(0).integers(0, 256, (8, 12, 16, 3), dtype=np.uint8).repeat(20, 1).repeat(20, 2)
    encode_video(tmp_path / "big.mp4", big, 30, VideoConfig())
    small = decode_small_video(tmp_path / "big.mp4", 30, first=2, count=5, size=60)
    assert small.shape == (5, 60, 60, 3)
    np.testing.assert_array_equal(small, small_pictures(decode_video(tmp_path / "big.mp4", 30, 2, 5), 60))
    for first, count, part in ((0, 9, "frames 0 to 8 are wanted, it gives 8"), (6, 3, "frames 6 to 8")):
        with pytest.raises(ValueError, match=part):
            decode_small_video(tmp_path / "big.mp4", 30, first, count)


def break_action(folder: Path) -> None:
    (path,) = folder.glob("data/**/*000001.parquet")
    table = pq.read_table(path)
    values = np.stack(table["action"].to_pylist()).astype(np.float32)
    values[3, 0] = np.nan
    flat = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    pq.write_table(table.set_column(table.column_names.index("action"), "action", flat), path)


def shorten_video(folder: Path) -> None:
    (path,) = folder.glob("videos/**/*000001.mp4")
    encode_video(path, pictures(12), 30, VideoConfig())


def lose_video(folder: Path) -> None:
    next(iter(folder.glob("videos/**/*000001.mp4"))).unlink()


def lose_rows(folder: Path) -> None:
    (path,) = folder.glob("data/**/*000001.parquet")
    pq.write_table(pq.read_table(path).slice(0, 0), path)


def slow_down(folder: Path) -> None:
    (path,) = folder.glob("videos/**/*000001.mp4")
    encode_video(path, pictures(30), 15, VideoConfig())


@pytest.mark.parametrize(
    ("flaw", "part"),
    [
        (break_action, "episode 1: NaN in action: at step 3"),
        (shorten_video, "episode_000001.mp4, episode 1: bad video: .* ends too soon"),
        (lose_video, "episode_000001.mp4, episode 1: missing file"),
        (lose_rows, "episode_000001.parquet, episode 1: unreadable data: .* ends too soon"),
        (slow_down, "episode 1: bad video: .* runs at 15 frames/s, but 30 are said"),
    ],
)
def test_a_flaw_is_named_or_counted(tmp_path: Path, flaw, part: str) -> None:
    names = {"action": G1_ARMS, "observation.state": G1_ARMS}
    folder = foreign_lerobot(tmp_path / "f", angles(30, 14), angles(30, 14), names, fps=30.0, episodes=2)
    flaw(folder)
    with pytest.raises(BadEpisodeError, match=part):
        opened("lerobot", folder).episode(1)
    config = DataSourceConfig("x", "lerobot", str(folder))
    soup = DataSoup(DataSoupConfig([config], validation_share=0.0, skip_bad=True))
    with pytest.warns(UserWarning, match=f"{part}.*Left out: 1 of 'x'"):
        assert {soup[k].source for k in range(30)} == {"x"}
    assert soup.skipped == {"x": 1}
