"""Another arm's gripper path on the G1's arm, and joint angles as an episode: by hand-computable motions."""

import numpy as np
import pytest
from foreign_folders import angles, gripper_path
from hypothesis import given, settings
from hypothesis import strategies as st

from neon_sim.data.mapped_episode import G1Motion, make_mapper, mapped_motion, motion_episode
from neon_sim.data.relative_actions import SCALER, states_to_relative_actions
from neon_sim.data.relative_to_arms import ArmConfig, relative_to_arms, state_motion
from neon_sim.g1 import joints
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.g1.geometry import euler_to_matrix, matrix_to_euler, quat_to_matrix, rotation_angle
from neon_sim.g1.kinematics import palm_poses


def straight(steps: int = 11, axis: int = 0, length: float = 0.1) -> np.ndarray:
    """Gripper states along one axis, never turning, the gripper closing."""
    states = np.zeros((steps, 7))
    states[:, axis] = np.linspace(0.0, length, steps)
    states[:, 6] = np.linspace(1.0, 0.0, steps)
    return states


@pytest.mark.parametrize("hand", ["left", "right"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_ten_centimetres_of_the_gripper_are_ten_of_the_palm(hand: str, axis: int) -> None:
    joint_pos, gripper = relative_to_arms(states_to_relative_actions(straight(axis=axis)), SCALER, ArmConfig(hand))
    pos, quat_wxyz = palm_poses(joint_pos)
    which = ("left", "right").index(hand)
    wanted = np.zeros(3)
    wanted[axis] = 0.1
    np.testing.assert_allclose(pos[-1, which] - pos[0, which], wanted, atol=0.004)
    assert rotation_angle(quat_wxyz[:, which], np.array([1.0, 0.0, 0.0, 0.0])).max() < 0.1
    others = np.setdiff1d(np.arange(29), joints.GROUPS[f"{hand}_arm"])
    np.testing.assert_array_equal(joint_pos[:, others], np.tile(joints.HOME[others], (11, 1)))
    np.testing.assert_allclose(gripper, np.linspace(1.0, 0.0, 11)[1:])


def test_a_gripper_whose_z_points_out_of_it_goes_ahead_when_it_moves_along_z() -> None:
    actions = states_to_relative_actions(straight(axis=2))
    pos = palm_poses(relative_to_arms(actions, SCALER, ArmConfig(approach="z"))[0])[0][:, 1]
    np.testing.assert_allclose(pos[-1] - pos[0], [0.1, 0.0, 0.0], atol=0.004)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000))
def test_two_robots_that_make_one_motion_move_the_arm_alike(seed: int) -> None:
    """Proposition 1, up to inverse kinematics: another base and origin change nothing."""
    rng = np.random.default_rng(seed)
    states = gripper_path(12, seed)
    base = euler_to_matrix(rng.uniform(-1.0, 1.0, 3))
    moved = states.copy()
    moved[:, :3] = states[:, :3] @ base.T + rng.uniform(-2.0, 2.0, 3)
    moved[:, 3:6] = matrix_to_euler(base @ euler_to_matrix(states[:, 3:6]))
    one, other = (state_motion(given, 10.0, ArmConfig()) for given in (states, moved))
    np.testing.assert_allclose(other.joint_pos, one.joint_pos, atol=1e-6)
    np.testing.assert_allclose(other.infos["gripper"], one.infos["gripper"])


def test_turning_the_gripper_turns_the_palm() -> None:
    states = straight(length=0.0)
    states[:, 3] = np.linspace(0.0, 0.5, 11)  # roll about the direction that it points in
    quat_wxyz = palm_poses(state_motion(states, 10.0, ArmConfig()).joint_target)[1][:, 1]
    turned = matrix_to_euler(quat_to_matrix(quat_wxyz[0]).T @ quat_to_matrix(quat_wxyz[-1]))
    np.testing.assert_allclose(turned, [0.45, 0.0, 0.0], atol=0.03)


def test_a_path_that_no_arm_of_the_g1_can_follow_is_refused() -> None:
    with pytest.raises(ValueError, match="right arm comes no nearer than .* mm .* 1.50 x 0.00 x 0.00 m large"):
        state_motion(straight(length=1.5), 10.0, ArmConfig())
    bad = states_to_relative_actions(straight())
    bad[4, 2] = np.nan
    with pytest.raises(ValueError, match="action is not finite at step 4"):
        relative_to_arms(bad, SCALER, ArmConfig())
    with pytest.raises(ValueError, match="action should have the shape .*7.*8"):
        relative_to_arms(np.zeros((5, 8)), SCALER, ArmConfig())
    with pytest.raises(ValueError, match="Unknown hand 'rigth'. Did you mean 'right'"):
        ArmConfig("rigth")


def test_an_action_is_the_target_in_the_modes_layout() -> None:
    target = np.tile(joints.HOME, (6, 1)) + angles(6, 29)
    motion = G1Motion(target, target, 50.0, np.tile([0.25, 0.0, -0.5], (6, 1)))
    arms, whole = motion_episode(motion, "arms_only"), motion_episode(motion, "whole_body")
    assert arms.actions.shape == (6, 17) and whole.actions.shape == (6, 29)
    np.testing.assert_allclose(arms.actions[:, 14:], np.tile([0.5, 0.0, -0.5], (6, 1)), atol=1e-7)
    decoded, _ = G1ActionSpace("whole_body").decode(whole.actions)
    np.testing.assert_allclose(decoded, target, atol=1e-6)


def test_proprioception_is_what_the_robot_would_have_felt() -> None:
    joint_pos = np.tile(joints.HOME, (5, 1))
    joint_pos[:, 15] += 0.01 * np.arange(5)  # 0.01 rad a step of 20 ms
    target = joint_pos + 0.03
    quat_wxyz = np.tile([1.0, 0.0, 0.0, 0.0], (5, 1))
    quat_wxyz[:, 0], quat_wxyz[:, 3] = np.cos(0.005 * np.arange(5)), np.sin(0.005 * np.arange(5))  # 0.01 rad of yaw
    proprio = motion_episode(G1Motion(target, joint_pos, 50.0, root_quat_wxyz=quat_wxyz)).observations["proprio"]
    np.testing.assert_allclose(proprio[:, :29], joint_pos, atol=1e-6)
    np.testing.assert_allclose(proprio[:, 29 + 15], 0.5, atol=1e-4)
    np.testing.assert_allclose(proprio[1:, 87 + 14], 0.03, atol=1e-6)  # the last target minus where it is
    np.testing.assert_allclose(proprio[1:, 87 + 15], 0.02, atol=1e-6)
    np.testing.assert_allclose(proprio[:, 116:122], np.tile([0, 0, 0.5, 0, 0, -1], (5, 1)), atol=1e-5)


def test_a_missing_column_is_at_home_and_a_missing_state_follows_the_targets() -> None:
    mapper = make_mapper(["left_elbow", "left_hand_0"])
    target, joint_pos, velocity = mapped_motion(np.array([[0.1, 9.0], [0.2, 9.0], [0.3, 9.0]]), mapper, None, None)
    np.testing.assert_allclose(target[:, joints.JOINT_INDEX["left_elbow_joint"]], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(joint_pos[:, joints.JOINT_INDEX["left_elbow_joint"]], [0.1, 0.1, 0.2])
    np.testing.assert_array_equal(target[:, 0], np.full(3, joints.HOME[0]))
    assert not velocity.any() and mapper.report.dropped == ("left_hand_0",)
    with pytest.raises(ValueError, match=r"None of the columns of a file is a joint of the G1: \['motor_0'\]"):
        make_mapper(["motor_0"], where="a file")


@pytest.mark.parametrize(("steps", "part"), [(0, "action is empty"), (3, "state should have the shape")])
def test_what_is_no_motion_is_refused(steps: int, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        motion_episode(G1Motion(np.zeros((steps, 29)), np.zeros((2, 29)), 50.0))
