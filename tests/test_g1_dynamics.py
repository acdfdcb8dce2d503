"""Torch kinematics and gravity torques against the numpy ones, MuJoCo, hand numbers and their own derivatives."""

import mujoco
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neon_sim.g1 import geometry, joints, kinematics
from neon_sim.g1.links import LINKS, PALM_OFFSET
from neon_sim.model import g1_dynamics
from neon_sim.sim.model import build_model, build_spec

HAND_MASS = (1.5, 0.4)  # kg, left and right


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    """The robot of the simulator."""
    return build_model(build_spec())


@pytest.fixture(scope="module")
def loaded_model() -> mujoco.MjModel:
    """The same robot with a small weight in each palm."""
    spec = build_spec()
    for side, mass in zip(("left", "right"), HAND_MASS, strict=True):
        load = spec.body(f"{side}_wrist_yaw_link").add_body(name=f"{side}_load", pos=PALM_OFFSET)
        load.mass, load.inertia, load.explicitinertial = mass, [1e-9] * 3, True
        load.ipos = np.zeros(3)  # left out, MuJoCo 3.17 takes the body's own pos once more
    return build_model(spec)


def _postures(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(joints.LOWER, joints.UPPER, (count, joints.NUM_JOINTS))


def _orientations(count: int, seed: int) -> np.ndarray:
    return geometry.normalize_quat(np.random.default_rng(seed).normal(size=(count, 4)))


def _posed(model: mujoco.MjModel, joint_pos: np.ndarray, quat_wxyz: np.ndarray) -> mujoco.MjData:
    """At rest, the pelvis at the origin."""
    data = mujoco.MjData(model)
    data.qpos[:7] = (0, 0, 0, *quat_wxyz)
    data.qpos[7:36] = joint_pos
    mujoco.mj_forward(model, data)
    return data


def test_every_link_is_where_mujoco_has_it(model: mujoco.MjModel) -> None:
    for joint_pos in _postures(20, 0):
        data = _posed(model, joint_pos, np.array([1.0, 0.0, 0.0, 0.0]))
        poses = g1_dynamics.link_transforms(torch.from_numpy(joint_pos)).numpy()
        for link, pose in zip(LINKS, poses, strict=True):
            body = data.body(link.name if link.name == "pelvis" else f"{link.name}_link")
            np.testing.assert_allclose(pose[:3, 3], body.xpos, atol=1e-9)
            np.testing.assert_allclose(pose[:3, :3], body.xmat.reshape(3, 3), atol=1e-9)


def test_palms_and_soles_are_those_of_the_control_loop() -> None:
    postures = _postures(6, 1).reshape(2, 3, 29)
    poses = g1_dynamics.limb_poses(torch.from_numpy(postures))
    assert poses.shape == (10, 2, 3, 4, 4, 4)
    np.testing.assert_allclose(poses.numpy(), kinematics.limb_poses(postures), atol=1e-12)
    palms = g1_dynamics.palm_positions(torch.from_numpy(postures))
    np.testing.assert_allclose(palms.numpy(), kinematics.palm_poses(postures)[0], atol=1e-12)


def test_gravity_torques_are_mujocos_in_any_attitude(model: mujoco.MjModel) -> None:
    worst = 0.0
    for joint_pos, quat in zip(_postures(30, 2), _orientations(30, 3), strict=True):
        expected = _posed(model, joint_pos, quat).qfrc_bias[6:35]
        down_b = torch.from_numpy(geometry.gravity_in_body(quat))
        torque = g1_dynamics.gravity_torque(torch.from_numpy(joint_pos), 3.0 * down_b).numpy()
        worst = max(worst, np.abs(torque - expected).max())
    assert worst < 1e-6, worst


def test_gravity_torques_with_loaded_hands_are_mujocos(loaded_model: mujoco.MjModel) -> None:
    postures, quats = _postures(30, 4), _orientations(30, 5)
    down_b = torch.from_numpy(geometry.gravity_in_body(quats))
    mass = torch.tensor(HAND_MASS, dtype=torch.float64)
    torque = g1_dynamics.gravity_torque(torch.from_numpy(postures), down_b, mass).numpy()
    expected = [_posed(loaded_model, *pair).qfrc_bias[6:35] for pair in zip(postures, quats, strict=True)]
    np.testing.assert_allclose(torque, expected, atol=1e-6)


def test_a_kilogram_in_the_hand_by_hand() -> None:
    # All joints at zero: the forearm points forward. A kilogram in the palm, 0.264 m before the elbow's axis (links
    # 0.1 + 0.038 + 0.046 and palm 0.08), needs 9.81 * 0.264 N m there, with the sign that lifts: minus.
    straight = torch.zeros(29, dtype=torch.float64)
    loads = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    with_load, without = g1_dynamics.gravity_torque(straight.expand(2, 29), None, loads)
    extra = with_load - without
    assert extra[joints.JOINT_INDEX["left_elbow_joint"]].item() == pytest.approx(-9.81 * 0.264, abs=1e-4)
    assert extra[joints.GROUPS["right_arm"]].abs().max().item() == 0.0
    assert extra[joints.GROUPS["legs"]].abs().max().item() == 0.0
    # The waist's yaw axis is along gravity: no load can turn it.
    assert extra[joints.JOINT_INDEX["waist_yaw_joint"]].item() == pytest.approx(0.0, abs=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_arm_torques_equal_the_control_loops(seed: int) -> None:
    joint_pos, quat = _postures(1, seed)[0], _orientations(1, seed)[0]
    down_b = geometry.gravity_in_body(quat)
    torque = g1_dynamics.gravity_torque(torch.from_numpy(joint_pos), torch.from_numpy(down_b))
    expected = kinematics.gravity_torque(joint_pos, down_b)
    np.testing.assert_allclose(torque[joints.GROUPS["arms"]].numpy(), expected, atol=1e-9)


def test_inertias_are_the_compiled_models() -> None:
    spec = build_spec()
    spec.delete(spec.joint("floating_base_joint"))
    held = build_model(spec)
    data = mujoco.MjData(held)
    data.qpos[:] = joints.HOME
    mujoco.mj_forward(held, data)
    mass = np.zeros((29, 29))
    mujoco.mj_fullM(held, data, mass)
    np.testing.assert_allclose(g1_dynamics.INERTIA, np.diag(mass), atol=2e-4)


def test_a_servo_answers_a_jump_as_its_equation_says() -> None:
    # I q'' = kp (1 - q) - kd q', walked in steps of 10 us.
    position, speed, expected = np.zeros(29), np.zeros(29), []
    for step in range(16_001):
        torque = joints.KP * (1.0 - position) - joints.KD * speed
        if step % 2000 == 0:
            expected.append(torque)
        speed = speed + 1e-5 * torque / g1_dynamics.INERTIA
        position = position + 1e-5 * speed
    response = g1_dynamics.servo_response(9)
    np.testing.assert_allclose(response[0], joints.KP, rtol=1e-12)  # at once: kp times a radian
    np.testing.assert_allclose(response, expected, atol=0.15)


def test_palms_and_torques_have_their_derivatives() -> None:
    joint_pos = torch.from_numpy(_postures(2, 6)).requires_grad_()
    down_b = torch.tensor([0.1, -0.2, -0.97], dtype=torch.float64)
    mass = torch.tensor([[1.0, 0.0], [0.5, 2.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(g1_dynamics.palm_positions, (joint_pos,))
    assert torch.autograd.gradcheck(lambda q, m: g1_dynamics.gravity_torque(q, down_b, m), (joint_pos, mass))


def test_torque_is_the_slope_of_the_potential_energy() -> None:
    joint_pos = torch.from_numpy(_postures(1, 7)[0]).requires_grad_()
    poses = g1_dynamics.link_transforms(joint_pos)
    com = torch.tensor([[*link.com, 1.0] for link in LINKS], dtype=torch.float64)
    mass = torch.tensor([link.mass for link in LINKS], dtype=torch.float64)
    energy = (9.81 * mass * (poses @ com[..., None])[:, 2, 0]).sum()
    (slope,) = torch.autograd.grad(energy, joint_pos)
    torch.testing.assert_close(g1_dynamics.gravity_torque(joint_pos.detach()), slope, atol=1e-9, rtol=0.0)


def test_single_precision_is_enough_for_a_loss() -> None:
    postures = torch.from_numpy(_postures(50, 8))
    exact, single = g1_dynamics.gravity_torque(postures), g1_dynamics.gravity_torque(postures.float())
    assert single.dtype == torch.float32
    assert (single - exact).abs().max() < 1e-3  # N m, of up to 100


def test_the_first_call_may_be_in_inference_mode() -> None:
    g1_dynamics._tables.cache_clear()
    with torch.inference_mode():
        g1_dynamics.gravity_torque(torch.zeros(29))
    joint_pos = torch.zeros(29, requires_grad=True)
    g1_dynamics.gravity_torque(joint_pos).square().sum().backward()
    assert joint_pos.grad is not None and bool(joint_pos.grad.any())
