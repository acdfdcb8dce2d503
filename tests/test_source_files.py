"""HDF5, MCAP, RLDS, Cosmos, voice and stereo files: written as the formats are, read back, refused when broken."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from foreign_folders import G1_ARMS, angles, gripper_path, pictures
from source_files import (
    act_file,
    bag_file,
    cosmos_folder,
    example,
    rlds_features,
    rlds_folder,
    robomimic_file,
    stereo_folder,
    voice_folder,
)

from neon_sim.data.data_soup import DataSoup, DataSoupConfig
from neon_sim.data.ros_messages import decode
from neon_sim.data.source import BadEpisodeError, DataSourceConfig
from neon_sim.data.sources import open_source
from neon_sim.data.tfrecord import frame_record
from neon_sim.data.video import VideoConfig, encode_video
from neon_sim.episode import NeonEpisode
from neon_sim.g1 import joints
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.g1.kinematics import palm_poses

ARMS = joints.GROUPS["arms"]


def opened(kind: str, path: Path, relative: bool = False, **options: object):
    return open_source(DataSourceConfig("x", kind, str(path), use_relative_actions=relative, options=options))


def targets(episode: NeonEpisode) -> np.ndarray:
    return G1ActionSpace(episode.control_mode).decode(episode.actions)[0]


def moved(episode: NeonEpisode) -> np.ndarray:
    """How far the right palm's targets lie apart, first to last, by axis: m."""
    return np.ptp(palm_poses(targets(episode))[0][:, 1], axis=0)


@pytest.mark.parametrize("compress", [False, True])
def test_an_act_file_is_arms_by_name(tmp_path: Path, compress: bool) -> None:
    source = opened("hdf5", act_file(tmp_path / "a.hdf5", compress=compress))
    episode = source.episode(0)
    assert episode.instruction == "open the jar" and len(source.report.mapped) == 14
    np.testing.assert_allclose(targets(episode)[:, ARMS], angles(40, 14), atol=1e-5)
    np.testing.assert_allclose(episode.observations["proprio"][:, ARMS], angles(40, 14, 1), atol=1e-6)
    np.testing.assert_array_equal(episode.observations["camera"], pictures(40))


def test_an_act_file_without_names_needs_them(tmp_path: Path) -> None:
    path = act_file(tmp_path / "a.hdf5", names=None)
    with pytest.raises(BadEpisodeError, match="a.hdf5:/, episode 0: .* does not say what the 14 columns"):
        opened("hdf5", path).episode(0)
    assert len(opened("hdf5", path, names=G1_ARMS, fps=25).episode(0)) == 80


def test_robomimics_arm_is_followed(tmp_path: Path) -> None:
    source = opened("hdf5", robomimic_file(tmp_path / "low_dim.hdf5"), approach="x", instruction="lift the cube")
    assert len(source) == 2
    episode = source.episode(1)
    assert len(episode) == source.steps(1) == 72 and episode.instruction == "lift the cube"  # 29 steps at 20 Hz
    np.testing.assert_allclose(episode.infos["gripper"][[0, -1]], [1 / 29, 1.0], atol=1e-6)
    went = np.linalg.norm(np.ptp(gripper_path(30, 1)[:, :3], axis=0))
    assert 0.3 * went < np.linalg.norm(moved(episode)) < 1.8 * went


def test_a_camera_shorter_than_its_actions_is_named(tmp_path: Path) -> None:
    path = act_file(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        del file["observations/images/top"]
        file["observations/images/top"] = pictures(12)
    with pytest.raises(BadEpisodeError, match="a.hdf5:/, episode 0: 'top' has 12 pictures for 40 actions"):
        opened("hdf5", path).episode(0)


def test_hdf5_of_another_layout_says_what_is_there(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["poses"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"a.hdf5 has the groups \['poses'\]"):
        opened("hdf5", tmp_path)


def test_a_bag_is_on_a_50_hz_grid(tmp_path: Path) -> None:
    source = opened("rosbag", bag_file(tmp_path / "a.mcap"))
    episode = source.episode(0)
    assert len(episode) == source.steps(0) == 21 and episode.instruction == "stack the plates"  # 0.4 s and both ends
    np.testing.assert_allclose(targets(episode)[:, ARMS], angles(41, 14)[::2], atol=1e-5)
    np.testing.assert_allclose(episode.observations["proprio"][:, ARMS], angles(41, 14, 1)[::2], atol=1e-6)
    np.testing.assert_allclose(episode.actions[:, 14:17], np.tile([0.5, 0.0, -0.5], (21, 1)), atol=1e-6)
    shown = pictures(41)[np.arange(21) * 2 // 10 * 10]  # the last of every tenth message
    np.testing.assert_array_equal(episode.observations["camera"], shown)


def test_a_bag_without_commands_takes_the_next_posture(tmp_path: Path) -> None:
    bag = bag_file(tmp_path / "a.mcap", drop=("/joint_command", "/cmd_vel", "/head/compressed", "/task"))
    episode = opened("rosbag", bag, instruction="wait").episode(0)
    np.testing.assert_allclose(targets(episode)[:-1, ARMS], angles(41, 14, 1)[2::2], atol=1e-5)
    assert episode.instruction == "wait" and not episode.actions[:, 14:].any() and "camera" not in episode.observations
    with pytest.raises(BadEpisodeError, match="Unknown topic '/joint_state'. Did you mean '/joint_states'"):
        opened("rosbag", bag, state="/joint_state").episode(0)


def test_a_bag_that_was_cut_off_is_named(tmp_path: Path) -> None:
    bag = bag_file(tmp_path / "a.mcap")
    bag.write_bytes(bag.read_bytes()[:-200])
    with pytest.raises(BadEpisodeError, match="a.mcap, episode 0"):
        opened("rosbag", bag).steps(0)


def test_a_bag_with_a_wrong_byte_is_read_or_named(tmp_path: Path) -> None:
    whole = bag_file(tmp_path / "a.mcap").read_bytes()
    named = 0
    for place in range(40, len(whole), len(whole) // 60):
        (tmp_path / "a.mcap").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        source = opened("rosbag", tmp_path / "a.mcap")
        try:
            source.steps(0)
            source.episode(0)
        except BadEpisodeError as error:  # anything else escapes --skip-bad
            named += "a.mcap, episode 0" in str(error)
    assert named > 20


def test_an_odd_file_among_good_ones_is_one_bad_episode(tmp_path: Path) -> None:
    act_file(tmp_path / "b.hdf5")
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["poses"] = np.zeros(3)
    source = opened("hdf5", tmp_path)
    assert len(source) == 2 and source.report is not None and source.steps(1) > 0
    with pytest.raises(BadEpisodeError, match="a.hdf5:/, episode 0: .*has no field 'action'"):
        source.steps(0)


def test_a_message_is_read_in_either_byte_order_and_not_beyond_its_end() -> None:
    little = b"\0\1\0\0" + b"\3\0\0\0hi\0"
    big = b"\0\0\0\0" + b"\0\0\0\3hi\0"
    assert decode("std_msgs/msg/String", little) == decode("std_msgs/msg/String", big) == "hi"
    with pytest.raises(ValueError, match="ends before byte"):
        decode("std_msgs/msg/String", little[:-1])
    with pytest.raises(ValueError, match="begins with 00 00 or 00 01, this message with 00 07"):
        decode("std_msgs/msg/String", b"\0\7\0\0")


def test_rlds_is_read_without_tensorflow(tmp_path: Path) -> None:
    source = opened("oxe", rlds_folder(tmp_path), fps=5.0)
    assert len(source) == 2 and source.steps(0) == 190
    episode = source.episode(1)
    assert episode.instruction == "put the spoon in the pot" and len(episode) == 190
    np.testing.assert_array_equal(episode.observations["camera"][::10], pictures(20, 1)[:19])
    np.testing.assert_allclose(episode.infos["gripper"][::10], np.linspace(0, 1, 20)[1:], atol=1e-6)
    with pytest.raises(ValueError, match="do not say their rate"):
        opened("oxe", tmp_path)


def test_rlds_joint_targets_and_relative_steps(tmp_path: Path) -> None:
    features = rlds_features()
    features["steps/action"] = angles(20, 14).reshape(-1)
    (tmp_path / "a.tfrecord").write_bytes(frame_record(example(features)))
    episode = opened("oxe", tmp_path, fps=50.0, names=G1_ARMS).episode(0)
    np.testing.assert_allclose(targets(episode)[:, ARMS], angles(20, 14), atol=1e-5)
    with pytest.raises(BadEpisodeError, match="record 0, episode 0: action should have the shape"):
        opened("oxe", tmp_path, relative=True, fps=5.0).episode(0)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"steps/is_first": None}, "record 0 has no field 'steps/is_first'; it has .*steps/action"),
        ({"steps/observation/state": np.zeros(33, np.float32)}, "steps/observation/state holds 33 values for 20 steps"),
        ({"steps/observation/state": np.zeros(100, np.float32)}, "has 5 entries, a pose as 'euler' has 6"),
        ({"steps/observation/image_0": [b"no picture"] * 20}, "cannot identify image file"),
        ({"steps/observation/image_0": [b""] * 3}, "holds 3 pictures for 20 steps"),
        ({"steps/observation/state": np.full(140, np.nan, np.float32)}, "state is not finite at step 0"),
    ],
)
def test_rlds_of_another_shape_is_named(tmp_path: Path, change: dict, part: str) -> None:
    features = {name: value for name, value in (rlds_features() | change).items() if value is not None}
    (tmp_path / "a.tfrecord").write_bytes(frame_record(example(features)))
    with pytest.raises(BadEpisodeError, match=f"a.tfrecord, record 0.*{part}"):
        opened("oxe", tmp_path, fps=5.0).episode(0)


def test_a_shard_that_is_cut_off_costs_one_episode(tmp_path: Path) -> None:
    (path,) = rlds_folder(tmp_path).glob("*.tfrecord*")
    path.write_bytes(path.read_bytes()[:-10])
    config = DataSourceConfig("x", "oxe", str(tmp_path), options={"fps": 5.0})
    assert len(open_source(config)) == 2
    with pytest.raises(BadEpisodeError, match="record 1, episode 1: .* ends within record 1"):
        open_source(config).episode(1)
    soup = DataSoup(DataSoupConfig([config], validation_share=0.0, skip_bad=True))
    with pytest.warns(UserWarning, match="Left out: 1 of 'x'"):
        assert {soup[k].instruction for k in range(30)} == {"put the spoon in the pot"}


def test_cosmos_steps_are_those_of_its_states(tmp_path: Path) -> None:
    folder = cosmos_folder(tmp_path)
    states, steps = opened("cosmos_dreamgen", folder), opened("cosmos_dreamgen", folder, relative=True)
    assert states.steps(0) == steps.steps(0) == 100  # 20 steps at the video's 10 Hz
    one, other = states.episode(0), steps.episode(0)
    np.testing.assert_allclose(other.actions, one.actions, atol=1e-5)
    assert one.instruction == "close the drawer" and one.observations["camera"].shape == (100, 32, 32, 3)
    assert opened("cosmos_dreamgen", folder, fps=10.0).steps(0) == 100
    with pytest.raises(BadEpisodeError, match="runs at 10 frames/s, but 20 are said"):
        opened("cosmos_dreamgen", folder, fps=20.0).episode(0)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"state": None}, "has no field 'state'; it has"),
        ({"videos": []}, "videos has 0 entries"),
        ({"videos": [{"video_path": "gone.mp4"}]}, "the video .*gone.mp4 is missing"),
        ({"state": [], "continuous_gripper_state": []}, "the episode is empty"),
        ({"continuous_gripper_state": [0.0]}, r"should be \(T, 6\), \(T,\)"),
    ],
)
def test_cosmos_of_another_shape_is_named(tmp_path: Path, change: dict, part: str) -> None:
    path = cosmos_folder(tmp_path) / "annotation/train/0.json"
    told = json.loads(path.read_text()) | change
    path.write_text(json.dumps({name: value for name, value in told.items() if value is not None}))
    with pytest.raises(BadEpisodeError, match=f"0.json.*{part}"):
        opened("cosmos_dreamgen", tmp_path).episode(0)


def test_a_video_shorter_than_its_annotation_is_named(tmp_path: Path) -> None:
    encode_video(cosmos_folder(tmp_path) / "videos/train/0/rgb.mp4", pictures(7), 10, VideoConfig())
    with pytest.raises(BadEpisodeError, match="0.json, episode 0: .*rgb.mp4 ends too soon"):
        opened("cosmos_dreamgen", tmp_path).episode(0)


@pytest.mark.parametrize("rate", [16000, 8000, 44100])
def test_a_voice_command_is_heard_and_obeyed(tmp_path: Path, rate: int) -> None:
    source = opened("voice_commands", voice_folder(tmp_path, rate=rate))
    episode = source.episode(0)
    assert len(episode) == source.steps(0) == 50 and episode.instruction == "walk forward"
    np.testing.assert_allclose(episode.actions[:, 14:17], np.tile([0.5, 0.0, -0.5], (50, 1)), atol=1e-6)
    assert not episode.actions[:, :14].any()  # the arms are at home
    heard = episode.observations["audio"]
    assert heard.shape == (50, 5120) and not heard[0, :-320].any()  # at the first step, 20 ms of the tone
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(heard[30], tone[31 * 320 - 5120 : 31 * 320], atol=2e-3)
    spectrum = np.abs(np.fft.rfft(heard[40]))
    assert abs(spectrum.argmax() * 16000 / 5120 - 440) < 4


def test_words_that_nobody_explains_are_refused(tmp_path: Path) -> None:
    voice_folder(tmp_path, told={"text": "Stop!"})
    with pytest.raises(BadEpisodeError, match="go.wav, episode 0: nobody says what 'Stop!' asks for"):
        opened("voice_commands", tmp_path).episode(0)
    episode = opened("voice_commands", tmp_path, commands={"stop!": (0.0, 0.1, 0.0)}).episode(0)
    np.testing.assert_allclose(episode.actions[0, 14:17], [0.0, 0.2, 0.0], atol=1e-6)
    voice_folder(tmp_path, told={"words": "go"})
    with pytest.raises(BadEpisodeError, match=r"go.json has none of .*; it has \['words'\]"):
        opened("voice_commands", tmp_path).episode(0)
    (tmp_path / "go.json").unlink()
    with pytest.raises(BadEpisodeError, match="go.wav, episode 0: .*go.json"):
        opened("voice_commands", tmp_path).episode(0)


def test_a_stereo_cameras_path_is_a_walk(tmp_path: Path) -> None:
    source = opened("stereo4d", stereo_folder(tmp_path), instruction="look around")
    episode = source.episode(0)
    assert len(episode) == source.steps(0) == 40 and episode.instruction == "look around"  # 20 steps at 25 Hz
    np.testing.assert_allclose(episode.actions[:, 14:17], np.tile([0.5, 0.0, 0.5], (40, 1)), atol=1e-5)
    both = episode.observations["stereo"]
    assert both.shape == (40, 32, 64, 3)
    assert np.abs(both[::2, :, 32:].astype(int) - pictures(21, 1)[:20]).max() <= 8  # the right eye's colours


def test_a_clip_without_its_right_eye_is_named(tmp_path: Path) -> None:
    (stereo_folder(tmp_path) / "clip_1-right_rectified.mp4").unlink()
    with pytest.raises(BadEpisodeError, match="clip_1.npz, episode 0: No video .*clip_1-right_rectified.mp4"):
        opened("stereo4d", tmp_path).episode(0)
    np.savez(tmp_path / "clip_1.npz", poses=np.zeros(3))
    with pytest.raises(BadEpisodeError, match=r"has no field 'camera2world'; it has \['poses'\]"):
        opened("stereo4d", tmp_path).episode(0)
