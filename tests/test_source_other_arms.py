"""Episodes shaped like a Franka's and like an SO-100's become chunks of the G1's arm: their grippers make the path."""

from pathlib import Path

import numpy as np
import pytest
from foreign_folders import foreign_lerobot

from neon_sim.data.data_soup import DataSoup, DataSoupConfig
from neon_sim.data.relative_actions import states_to_relative_actions
from neon_sim.data.relative_to_arms import APPROACHES
from neon_sim.data.source import DataSourceConfig
from neon_sim.data.sources import open_source
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.g1.geometry import matrix_to_euler, quat_to_matrix
from neon_sim.g1.kinematics import palm_poses

# Franka's data sheet, Denavit-Hartenberg parameters after Craig, joints 1 to 7 and the flange: a, d in m, alpha in rad.
FRANKA = np.array(
    [
        [0.0, 0.333, 0.0],
        [0.0, 0.0, -np.pi / 2],
        [0.0, 0.316, np.pi / 2],
        [0.0825, 0.0, np.pi / 2],
        [-0.0825, 0.384, -np.pi / 2],
        [0.0, 0.0, np.pi / 2],
        [0.088, 0.0, np.pi / 2],
        [0.0, 0.107, 0.0],
    ]
)
READY = np.array([0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4])  # rad, the pose that it starts from
SO100 = (0.116, 0.135, 0.1)  # m: upper arm and forearm as it is printed, and about as far to where the fingers close


def turn(axis: str, angle: float) -> np.ndarray:
    """(4, 4) about x, y or z."""
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    pose = np.eye(4)
    pose[i, i] = pose[j, j] = np.cos(angle)
    pose[j, i], pose[i, j] = np.sin(angle), -np.sin(angle)
    return pose


def move(x: float = 0.0, z: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3], pose[2, 3] = x, z
    return pose


def franka_flange(angles: np.ndarray) -> np.ndarray:
    """(4, 4) of seven joint angles; z points out of it."""
    pose = np.eye(4)
    for (a, d, alpha), angle in zip(FRANKA, [*angles, 0.0], strict=True):
        pose = pose @ turn("x", alpha) @ move(x=a) @ turn("z", angle) @ move(z=d)
    return pose


def so100_jaw(angles: np.ndarray) -> np.ndarray:
    """(4, 4) of five joint angles: pan, shoulder, elbow, wrist, roll; x points out of it, at zero straight ahead."""
    pan, shoulder, elbow, wrist, roll = angles
    upper, fore, jaw = (move(x=length) for length in SO100)
    return (
        turn("z", pan)
        @ turn("y", shoulder)
        @ upper
        @ turn("y", elbow)
        @ fore
        @ turn("y", wrist)
        @ jaw
        @ turn("x", roll)
    )


def gripper_states(poses: np.ndarray) -> np.ndarray:
    """(T, 7) from poses (T, 4, 4), the gripper closing."""
    euler = matrix_to_euler(poses[:, :3, :3])
    return np.concatenate([poses[:, :3, 3], euler, np.linspace(1.0, 0.0, len(poses))[:, None]], axis=1)


def waves(middle: np.ndarray, steps: int, size: float) -> np.ndarray:
    """(steps, n) rad: every joint swings about its place, each at its own pace."""
    time = np.arange(steps)[:, None] / steps
    return middle + size * np.sin(2.0 * np.pi * time * (1.0 + 0.2 * np.arange(len(middle))))


def test_the_arms_are_as_long_as_theirs() -> None:
    np.testing.assert_allclose(franka_flange(np.zeros(7))[:3, 3], [0.088, 0.0, 0.926], atol=1e-9)  # 333+316+384-107 mm
    np.testing.assert_allclose(so100_jaw(np.zeros(5))[:3, 3], [0.351, 0.0, 0.0], atol=1e-9)


@pytest.mark.parametrize(
    ("robot", "fps", "approach", "poses"),
    [
        ("franka", 10.0, "z", [franka_flange(q) for q in waves(READY, 25, 0.08)]),
        ("so100", 25.0, "x", [so100_jaw(q) for q in waves(np.array([0.0, -1.0, 1.6, -0.4, 0.0]), 50, 0.15)]),
    ],
)
def test_the_palm_makes_the_grippers_way(
    tmp_path: Path, robot: str, fps: float, approach: str, poses: list[np.ndarray]
) -> None:
    path = np.stack(poses)
    actions = states_to_relative_actions(gripper_states(path)).astype(np.float32)  # eq. 12-14, scale 20
    folder = foreign_lerobot(tmp_path / robot, actions, fps=fps, robot=robot)
    config = DataSourceConfig(robot, "lerobot", str(folder), use_relative_actions=True, options={"approach": approach})
    episode = open_source(config).episode(0)
    times = round(50.0 / fps)
    assert episode.rate_hz == 50.0 and len(episode) >= (len(actions) - 1) * times

    target, _ = G1ActionSpace(episode.control_mode).decode(episode.actions[::times][: len(actions)])
    pos, quat_wxyz = (
        values[:, 1] for values in palm_poses(target)
    )  # the right hand; target k is reached at pose k + 1
    went = (pos - pos[0]) @ quat_to_matrix(quat_wxyz[0])
    theirs = (path[1:, :3, 3] - path[1, :3, 3]) @ path[1, :3, :3] @ APPROACHES[approach].T
    assert np.ptp(theirs, axis=0).max() > 0.04  # it is a way
    np.testing.assert_allclose(went, theirs, atol=0.006)

    soup = DataSoup(DataSoupConfig([config], validation_share=0.0))
    chunks = np.concatenate([soup.window(*place).chunk[:, 7:14] for place in soup.each()])
    assert chunks.shape[0] == 16 * len(soup.each()) and np.abs(np.diff(chunks[: len(episode)], axis=0)).max() < 0.2
    assert not np.abs(soup[0].chunk[:, :7]).max() > 1e-6  # the left arm rests
