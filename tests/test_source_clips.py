"""Motion clips: degrees and centimetres, MuJoCo qpos, and how a pelvis that walks becomes a velocity."""

from pathlib import Path

import numpy as np
import pytest
from foreign_folders import angles
from source_files import bones_folder, kimodo_folder

from neon_sim.data.motion_clips import heading_velocity, read_clip
from neon_sim.data.source import BadEpisodeError, DataSourceConfig
from neon_sim.data.sources import open_source
from neon_sim.g1 import joints
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.g1.geometry import euler_to_quat


def opened(kind: str, folder: Path, **options: object):
    return open_source(DataSourceConfig("x", kind, str(folder), options=options))


def inside(values: np.ndarray) -> np.ndarray:
    """Angles cut to the joints' ranges."""
    return np.clip(values, joints.LOWER, joints.UPPER)


def test_a_bones_clip_is_in_radians_at_50_hz_with_the_pelvis_walking(tmp_path: Path) -> None:
    source = opened("bones", bones_folder(tmp_path), control_mode="whole_body")
    episode = source.episode(0)
    assert len(episode) == source.steps(0) == 25  # 60 steps at 120 Hz
    assert episode.instruction == "walk left" and len(source.report.mapped) == 29
    target, _ = G1ActionSpace("whole_body").decode(episode.actions)
    np.testing.assert_allclose(target[::5], inside(angles(61, 29)[1::12][:5]), atol=1e-5)  # the next posture
    np.testing.assert_allclose(episode.observations["proprio"][::5, :29], angles(61, 29)[::12][:5], atol=1e-5)
    turning = episode.observations["proprio"][:, 116:119]
    np.testing.assert_allclose(turning, np.tile([0.0, 0.0, 0.5], (25, 1)), atol=1e-4)
    walking = opened("bones", tmp_path).episode(0).actions[:, 14:17]
    np.testing.assert_allclose(walking, np.tile([0.5, 0.0, 0.5], (25, 1)), atol=0.01)  # 0.25 of 0.5 m/s, 0.5 of 1 rad/s


def test_another_rate_can_be_said(tmp_path: Path) -> None:
    assert opened("bones", bones_folder(tmp_path), fps=60.0).steps(0) == 50


def test_a_kimodo_clip_has_its_prompt(tmp_path: Path) -> None:
    source = opened("kimodo", kimodo_folder(tmp_path), control_mode="whole_body")
    episode = source.episode(0)
    assert episode.instruction == "A person waves." and len(episode) == source.steps(0) == 50
    target, _ = G1ActionSpace("whole_body").decode(episode.actions)
    np.testing.assert_allclose(target[::5], inside(angles(31, 29)[1::3]), atol=1e-5)
    np.testing.assert_allclose(episode.observations["proprio"][:, 119:122], np.tile([0, 0, -1.0], (50, 1)), atol=1e-6)


def test_npz_clips_are_qpos_or_named_angles(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", qpos=np.pad(angles(11, 29), ((0, 0), (7, 0)), constant_values=1.0), fps=10)
    np.savez(tmp_path / "b.npz", joint_pos=angles(11, 2), joint_names=["left_elbow", "neck"], fps=[25.0])
    source = opened("bones", tmp_path, pattern="*.npz")
    assert [source.steps(0), source.steps(1)] == [50, 20]
    named = read_clip(tmp_path / "b.npz")
    elbow = joints.JOINT_INDEX["left_elbow_joint"]
    np.testing.assert_allclose(named.joint_pos[:, elbow], angles(11, 2)[:, 0])
    assert named.report.dropped == ("neck",) and named.rate_hz == 25.0
    assert len(source.episode(1)) == 20


def test_velocity_is_in_the_heading_frame() -> None:
    yaw = np.full(3, np.pi / 2)
    quat_wxyz = euler_to_quat(np.stack([np.full(3, 0.2), np.zeros(3), yaw], axis=1))  # leaning does not matter
    pos_w = np.array([[0.0, 0.0, 0.8], [0.0, 0.01, 0.8], [0.01, 0.02, 0.8]])
    np.testing.assert_allclose(heading_velocity(pos_w, quat_wxyz, 50.0), [[0.5, 0.0, 0.0], [0.5, -0.5, 0.0]], atol=1e-9)


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("a.csv", "Frame,x\n0,1\n1,2\n", "a.csv, episode 0: no column ends in '_dof'; .*'Frame', 'x'"),
        ("a.csv", "1,2,3\n4,5,6\n", r"a.csv, episode 0: a G1 qpos has 36 columns .*\(2, 3\)"),
        ("a.csv", "left_elbow_joint_dof\n1\n", "needs two postures or more"),
        ("a.csv", "left_elbow_joint_dof\n1\nnan\n2\n", "joint_pos is not finite at step 1"),
        ("a.csv", "left_elbow_joint_dof\n1\noops\n", "a.csv, episode 0: .*oops"),
        ("a.csv", "left_elbow_joint_dof\n", "a.csv, episode 0: .*empty"),
        ("a.npz", "no zip file", "a.npz, episode 0"),
    ],
)
def test_a_clip_that_is_laid_out_otherwise_is_named(tmp_path: Path, name: str, text: str, part: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadEpisodeError, match=part):
        opened("bones", tmp_path, pattern=f"*{Path(name).suffix}").episode(0)


def test_kimodos_own_files_have_to_be_exported(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", posed_joints=np.zeros((5, 34, 3)), local_rot_mats=np.zeros((5, 34, 3, 3)))
    with pytest.raises(BadEpisodeError, match="'qpos' or 'joint_pos', this file has .*'local_rot_mats'"):
        opened("kimodo", tmp_path, pattern="*.npz").episode(0)
