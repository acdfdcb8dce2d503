"""Kinematics against the official model's numbers (golden file), MuJoCo, differences and points that one can reach."""

import time
from pathlib import Path

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neon_sim.g1 import geometry, joints, kinematics
from neon_sim.g1.links import LINKS
from neon_sim.sim.model import build_model, build_spec

GOLDEN = np.load(Path(__file__).parent / "data" / "g1_golden.npz")
QUAT_W, JOINT_POS = GOLDEN["qpos"][:, 3:7], GOLDEN["qpos"][:, 7:]
NUDGE = 1e-6 * np.eye(joints.NUM_JOINTS)


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return build_model(build_spec())


def to_world(pos_b: np.ndarray) -> np.ndarray:
    """(N, ..., 3) in the pelvis frames of the golden samples -> world."""
    matrix = geometry.quat_to_matrix(QUAT_W)
    return np.einsum("nij,n...j->n...i", matrix, pos_b) + GOLDEN["qpos"][:, :3].reshape(-1, *[1] * (pos_b.ndim - 2), 3)


def random_postures(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(joints.LOWER, joints.UPPER, (count, joints.NUM_JOINTS))


def test_links_are_the_golden_bodies_in_hardware_order():
    assert [f"{link.name}_link" for link in LINKS[1:]] == list(GOLDEN["body_names"][1:])
    assert [f"{link.name}_joint".replace("torso", "waist_pitch") for link in LINKS[1:]] == list(joints.JOINT_NAMES)
    assert pytest.approx(33.341142, abs=1e-6) == kinematics.TOTAL_MASS


def test_every_link_is_where_the_official_model_has_it():
    poses = kinematics.link_transforms(JOINT_POS)
    np.testing.assert_allclose(to_world(poses[..., :3, 3]), GOLDEN["xpos"], atol=1e-9)
    quat_w = geometry.quat_multiply(QUAT_W[:, None], geometry.matrix_to_quat(poses[..., :3, :3]))
    np.testing.assert_allclose(np.abs(np.sum(quat_w * GOLDEN["xquat"], axis=-1)), 1.0, atol=1e-9)


def test_center_of_mass_is_the_official_one():
    np.testing.assert_allclose(to_world(kinematics.center_of_mass(JOINT_POS)), GOLDEN["com"], atol=1e-9)
    # By hand: facts say (0.02033, 0.00008, 0.70433) with the pelvis at 0.793 and all joints at zero.
    np.testing.assert_allclose(kinematics.center_of_mass(np.zeros(29)), [0.02033, 0.00008, -0.08867], atol=1e-5)


def test_palms_are_the_sites_of_the_model(model):
    data = mujoco.MjData(model)
    for joint_pos in random_postures(20, 1):
        data.qpos[:7] = (0, 0, 0, 1, 0, 0, 0)
        data.qpos[7:36] = joint_pos
        mujoco.mj_kinematics(model, data)
        pos, quat = kinematics.palm_poses(joint_pos)
        for hand, name in enumerate(("left_palm", "right_palm")):
            np.testing.assert_allclose(pos[hand], data.site(name).xpos, atol=1e-9)
            np.testing.assert_allclose(
                geometry.quat_to_matrix(quat[hand]), data.site(name).xmat.reshape(3, 3), atol=1e-9
            )


def test_palms_of_many_postures_at_once():
    postures = random_postures(6, 2).reshape(2, 3, 29)
    pos, quat = kinematics.palm_poses(postures)
    assert pos.shape == (2, 3, 2, 3) and quat.shape == (2, 3, 2, 4)
    one_pos, one_quat = kinematics.palm_poses(postures[1, 2])
    np.testing.assert_allclose(pos[1, 2], one_pos, atol=1e-12)
    np.testing.assert_allclose(quat[1, 2], one_quat, atol=1e-12)


def test_soles_touch_the_floor_in_the_home_pose():
    sole_pos = kinematics.stance(joints.HOME).sole_pos
    # The home keyframe puts the pelvis at 0.785 m; the soles' undersides are there within 2 mm, 0.237 m apart.
    np.testing.assert_allclose(sole_pos[:, 2], -joints.HOME_HEIGHT, atol=2e-3)
    assert sole_pos[0, 1] - sole_pos[1, 1] == pytest.approx(0.237, abs=1e-3)


def test_sole_centers_are_the_middle_of_the_contact_spheres(model):
    data = mujoco.MjData(model)
    data.qpos[:7] = (0, 0, 0, 1, 0, 0, 0)
    data.qpos[7:36] = joints.HOME
    mujoco.mj_kinematics(model, data)
    spheres = np.mean([data.geom(f"left_foot_{i}").xpos for i in range(4)], axis=0)
    radius = model.geom("left_foot_0").size[0]
    np.testing.assert_allclose(
        kinematics.stance(joints.HOME).sole_pos[0], spheres - [0, 0, radius], atol=1e-4
    )  # the ankle sums to zero in the home pose, so "under" is along z


@pytest.mark.parametrize("seed", range(3))
def test_stance_jacobians_are_derivatives(seed):
    joint_pos = random_postures(1, seed)[0]
    now = kinematics.stance(joint_pos)
    there, back = (kinematics.center_of_mass(joint_pos + sign * NUDGE) for sign in (1, -1))
    np.testing.assert_allclose(now.com, kinematics.center_of_mass(joint_pos), atol=1e-12)
    np.testing.assert_allclose(now.com_jacobian, (there - back).T / 2e-6, atol=1e-8)
    for foot, group in enumerate(("left_leg", "right_leg")):
        for column, joint in enumerate(joints.GROUPS[group]):
            ahead, behind = (kinematics.stance(joint_pos + sign * NUDGE[joint]) for sign in (1, -1))
            slope = (ahead.sole_pos[foot] - behind.sole_pos[foot]) / 2e-6
            np.testing.assert_allclose(now.sole_jacobian[foot, :3, column], slope, atol=1e-8)
            spin = (ahead.sole_matrix[foot] - behind.sole_matrix[foot]) / 2e-6 @ now.sole_matrix[foot].T
            np.testing.assert_allclose(now.sole_jacobian[foot, 3:, column], spin[[2, 0, 1], [1, 2, 0]], atol=1e-8)


@pytest.mark.parametrize("hand", [0, 1])
def test_palm_jacobian_is_a_derivative(hand):
    joint_pos = random_postures(1, 10 + hand)[0]
    jacobian = kinematics.palm_jacobian(joint_pos, hand)
    matrix = geometry.quat_to_matrix(kinematics.palm_poses(joint_pos)[1][hand])
    for column, joint in enumerate(kinematics.ARM_JOINTS[hand]):
        ahead, behind = (kinematics.palm_poses(joint_pos + sign * NUDGE[joint]) for sign in (1, -1))
        np.testing.assert_allclose(jacobian[:3, column], (ahead[0][hand] - behind[0][hand]) / 2e-6, atol=1e-8)
        spin = (geometry.quat_to_matrix(ahead[1][hand]) - geometry.quat_to_matrix(behind[1][hand])) / 2e-6 @ matrix.T
        np.testing.assert_allclose(jacobian[3:, column], spin[[2, 0, 1], [1, 2, 0]], atol=1e-8)


def test_gravity_torque_is_mujocos_bias_force(model):
    data = mujoco.MjData(model)
    rng = np.random.default_rng(4)
    for joint_pos in random_postures(10, 5):
        quat = geometry.normalize_quat(rng.normal(size=4))
        data.qpos[3:7], data.qpos[7:36], data.qvel[:] = quat, joint_pos, 0.0
        mujoco.mj_forward(model, data)
        torque = kinematics.gravity_torque(joint_pos, geometry.gravity_in_body(quat))
        np.testing.assert_allclose(torque, data.qfrc_bias[6:][joints.GROUPS["arms"]], atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1]))
def test_inverse_palm_finds_every_point_that_a_posture_reaches(seed, hand):
    rng = np.random.default_rng(seed)
    chain = kinematics.ARM_JOINTS[hand]
    inside = joints.LOWER[chain] + (joints.UPPER[chain] - joints.LOWER[chain]) * rng.uniform(0.06, 0.94, 7)
    joint_pos = joints.HOME.copy()
    joint_pos[joints.GROUPS["waist"]] = rng.uniform(-0.3, 0.3, 3)
    reaching = joint_pos.copy()
    reaching[chain] = inside
    pos_b = kinematics.palm_poses(reaching)[0][hand]
    reaching[chain] = kinematics.inverse_palm(joint_pos, hand, pos_b)
    assert np.linalg.norm(kinematics.palm_poses(reaching)[0][hand] - pos_b) < 0.002
    assert np.all(reaching[chain] >= joints.LOWER[chain] + 0.0499)
    assert np.all(reaching[chain] <= joints.UPPER[chain] - 0.0499)


def test_inverse_palm_says_so_when_a_point_is_out_of_reach():
    start = joints.HOME.copy()
    with pytest.raises(kinematics.UnreachableError, match=r"left palm .* came no nearer than \d{3} mm"):
        kinematics.inverse_palm(start, 0, np.array([1.0, 0.0, 0.0]))
    np.testing.assert_array_equal(start, joints.HOME)  # the caller's array is his own


def test_inverse_palm_keeps_near_the_posture_it_is_given():
    pos_b = np.array([0.3, 0.1, 0.1])
    high_elbow = joints.HOME[kinematics.ARM_JOINTS[0]] + [0.0, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0]
    low = kinematics.inverse_palm(joints.HOME, 0, pos_b)
    high = kinematics.inverse_palm(joints.HOME, 0, pos_b, posture=high_elbow)
    assert np.linalg.norm(high - high_elbow) < np.linalg.norm(low - high_elbow)


def test_there_are_two_hands():
    with pytest.raises(ValueError, match="0 .left. or 1 .right."):
        kinematics.palm_jacobian(joints.HOME, 2)


def test_palm_poses_are_quick():
    took = []
    for _ in range(200):
        start = time.perf_counter()
        kinematics.palm_poses(joints.HOME)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.5e-3  # 30 us on a free core; ten times that means an accident
