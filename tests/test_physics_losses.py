"""Each rule by hand numbers and by its derivative; the actions mean what the action space says."""

import mujoco
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neon_sim.g1 import joints, kinematics
from neon_sim.g1.action_space import CENTERS, ControlMode, G1ActionSpace
from neon_sim.model.collision import Obstacle
from neon_sim.model.g1_dynamics import servo_response
from neon_sim.model.physics_losses import (
    CollisionLoss,
    CompositeLoss,
    Motion,
    PayloadLoss,
    PhysicsLoss,
    SagLoss,
    Situation,
    SmoothLoss,
    TorqueLoss,
    command_values,
    servo_torque,
)
from neon_sim.sim.model import build_model, build_spec

ARMS, UPPER = G1ActionSpace(), G1ActionSpace("upper_body")
STEPS = 16


def _held(space: G1ActionSpace, joint_pos: np.ndarray) -> Tensor:
    """A chunk (1, 16, A) that keeps one posture."""
    return torch.from_numpy(space.encode(joint_pos)).expand(1, STEPS, -1).clone()


def _value(loss: PhysicsLoss, chunk: Tensor, space: G1ActionSpace = ARMS, situation: Situation | None = None) -> float:
    value = loss(Motion(chunk, space, situation))
    assert value.shape == (len(chunk),)
    return value.sum().item()


@given(st.integers(0, 2**32 - 1), st.sampled_from(list(ControlMode)), st.sampled_from(CENTERS))
def test_actions_mean_what_the_action_space_says(seed: int, mode: str, center: str) -> None:
    space = G1ActionSpace(mode, center)
    rng = np.random.default_rng(seed)
    chunk, posture = rng.uniform(-1.2, 1.2, (2, 4, space.dim)), rng.normal(size=29)
    expected, _ = space.decode(chunk)
    motion = Motion(torch.from_numpy(chunk), space)
    np.testing.assert_allclose(motion.joint_target.numpy(), expected, atol=1e-12)
    expected[..., ~space.owned_mask] = posture[~space.owned_mask]
    told = Motion(torch.from_numpy(chunk), space, Situation(posture=torch.from_numpy(posture)))
    np.testing.assert_allclose(told.joint_target.numpy(), expected, atol=1e-12)
    if space.has_velocity:
        where = space.groups["locomotion"]
        np.testing.assert_allclose(motion.values[..., where].numpy(), space.decode(chunk)[1], atol=1e-12)
    np.testing.assert_allclose(motion.values.numpy(), space.center + chunk * motion.slope.numpy(), atol=1e-12)


def test_a_chunk_of_another_space_is_refused_with_its_name() -> None:
    with pytest.raises(ValueError, match=r"\(B, T, 17\) of arms_only .* got \(1, 16, 20\)"):
        Motion(torch.zeros(1, 16, 20), ARMS)


def _waist_jump_loss(after: int) -> float:
    """Loss of a waist yaw that jumps by 0.5 rad `after` steps before the chunk ends, from its servo's equation.

    Gravity does nothing to that joint, it stands on its end. At once the servo gives 300 * 0.5 = 150 N m of the
    0.8 * 88 = 70.4 allowed, then what is left of it 20 ms later, and so on.
    """
    index = joints.JOINT_INDEX["waist_yaw_joint"]
    torque = 0.5 * servo_response(after)[:, index]
    assert torque[0] == pytest.approx(150.0)
    return float(np.square(np.maximum(np.abs(torque) / 70.4 - 1.0, 0.0)).sum())


def test_torque_of_a_jump_of_the_waist_by_hand() -> None:
    chunk = _held(UPPER, joints.HOME)
    assert _value(TorqueLoss(), chunk, UPPER) == 0.0
    last = chunk.clone()
    last[:, 15:, UPPER.names.index("waist_yaw_joint")] = 0.5 / 2.618
    assert _value(TorqueLoss(), last, UPPER) == pytest.approx((150 / 70.4 - 1) ** 2, rel=1e-9)
    chunk[:, 3:, UPPER.names.index("waist_yaw_joint")] = 0.5 / 2.618
    assert _value(TorqueLoss(), chunk, UPPER) == pytest.approx(_waist_jump_loss(13), rel=1e-9)


def test_torque_sees_the_seam_if_it_is_told() -> None:
    chunk = _held(UPPER, joints.HOME)
    executed = torch.zeros(20, dtype=torch.float64)
    executed[UPPER.names.index("waist_yaw_joint")] = -0.5 / 2.618
    seam = Situation(executed=executed)
    assert _value(TorqueLoss(), chunk, UPPER, seam) == pytest.approx(_waist_jump_loss(16), rel=1e-9)


def test_torque_of_a_held_posture_is_gravitys() -> None:
    # Both arms straight to the side, the robot leaning.
    joint_pos = joints.HOME.copy()
    joint_pos[joints.JOINT_INDEX["left_shoulder_roll_joint"]] = 1.5
    joint_pos[joints.JOINT_INDEX["right_shoulder_roll_joint"]] = -1.5
    down_b = np.array([0.3, 0.1, -0.9])
    share = np.abs(kinematics.gravity_torque(joint_pos, down_b)) / (0.1 * joints.EFFORT[joints.GROUPS["arms"]])
    expected = STEPS * np.square(np.maximum(share - 1.0, 0.0)).sum()
    situation = Situation(gravity_b=torch.from_numpy(down_b))
    assert expected > 1.0
    assert _value(TorqueLoss(0.1), _held(ARMS, joint_pos), ARMS, situation) == pytest.approx(expected, rel=1e-6)


def test_estimated_torques_are_near_mujocos() -> None:
    """Arms that swing out from rest, pelvis held: each motor's largest torque in a chunk, estimated and simulated."""
    spec = build_spec()
    spec.delete(spec.joint("floating_base_joint"))
    held, arms = build_model(spec), joints.GROUPS["arms"]
    data = mujoco.MjData(held)
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(12):
        end = joints.HOME.copy()
        end[arms] += rng.normal(scale=rng.choice([0.05, 0.15, 0.3]), size=14)
        end[arms[1]], end[arms[8]] = max(end[arms[1]], 0.3), min(end[arms[8]], -0.3)  # away from the trunk
        targets = joints.HOME + (end - joints.HOME) * np.minimum(1.0, np.arange(1, 17) / 8)[:, None]
        mujoco.mj_resetData(held, data)
        data.qpos[:] = data.ctrl[:] = joints.HOME
        mujoco.mj_step(held, data, 500)
        simulated = []
        for target in targets:
            data.ctrl[:] = target
            mujoco.mj_step(held, data)
            simulated.append(data.actuator_force[arms].copy())
            mujoco.mj_step(held, data, 9)
        chunk, executed = torch.from_numpy(ARMS.encode(targets))[None], torch.from_numpy(ARMS.encode(joints.HOME))
        estimated = servo_torque(Motion(chunk, ARMS, Situation(executed=executed)))[0, :, arms].numpy()
        pairs.append([np.abs(estimated).max(axis=0), np.abs(simulated).max(axis=0)])
    guess, truth = np.concatenate(pairs, axis=1)
    assert np.corrcoef(guess, truth)[0, 1] > 0.95
    assert np.median(guess / truth) == pytest.approx(1.0, abs=0.1)
    assert truth.max() > 5.0  # N m


def test_payload_on_a_straight_forearm_by_hand() -> None:
    # All joints at zero, the forearm points forward. About the wrist's pitch axis lie 4 kg at 0.126 m, the hand's
    # 0.254576 kg at 0.046 + 0.0708244 m and the wrist's 0.48405 kg at 0.0229999 m, for a motor of 5 N m at 0.8.
    torque = 9.81 * (4 * 0.126 + 0.254576 * 0.1168244 + 0.48405 * 0.0229999)
    chunk = _held(ARMS, np.zeros(29))
    assert _value(PayloadLoss((4.0, 0.0)), chunk) == pytest.approx(STEPS * (torque / 4.0 - 1.0) ** 2, rel=1e-4)
    assert _value(PayloadLoss((0.0, 4.0)), chunk) == pytest.approx(STEPS * (torque / 4.0 - 1.0) ** 2, rel=1e-4)
    assert _value(PayloadLoss((1.0, 1.0)), chunk) == 0.0


def test_sag_is_the_loads_torque_over_kp() -> None:
    # The load's torque is J^T F, with the palm's Jacobian of the control loop.
    arm = joints.GROUPS["right_arm"]
    forward = np.zeros(29)  # forearms straight ahead
    lift = kinematics.palm_jacobian(forward, 1)[2] * 1.5 * 9.81 / joints.KP[arm]
    assert lift[3] == pytest.approx(-0.264 * 1.5 * 9.81 / 50, rel=1e-3)  # the elbow
    expected = STEPS * np.square(lift).sum()
    assert _value(SagLoss((0.0, 1.5)), _held(ARMS, forward)) == pytest.approx(expected, rel=1e-6)
    # A chunk that aims higher by just that comes to rest where it should.
    higher = forward.copy()
    higher[arm] += lift
    motion = Motion(_held(ARMS, higher), ARMS, reference=_held(ARMS, forward))
    assert SagLoss((0.0, 1.5))(motion).item() < 1e-9 * expected


def test_collision_with_a_ball_before_the_hand_by_hand() -> None:
    chunk = _held(ARMS, np.zeros(29))
    wrist = kinematics.link_transforms(np.zeros(29))[22]  # left_wrist_yaw
    tip = (wrist @ [0.148, -0.008, 0.004, 1.0])[:3]  # the foremost sphere of the hand, 0.042 m in radius
    x, y, z = tip + np.array([0.042 + 0.1 + 0.02, 0.0, 0.0])  # leaves 20 mm of the margin's 30
    ball = Obstacle((x, y, z), radius=0.1)
    assert _value(CollisionLoss((ball,)), chunk) == pytest.approx(STEPS * 0.01**2, rel=1e-3)
    assert _value(CollisionLoss((Obstacle((x + 0.02, y, z), radius=0.1),)), chunk) == 0.0


def test_collision_with_the_own_trunk() -> None:
    home = _held(ARMS, joints.HOME)
    assert _value(CollisionLoss(), home) == 0.0
    inward = joints.HOME.copy()
    inward[joints.JOINT_INDEX["left_shoulder_yaw_joint"]] = -1.4  # the forearm across the chest
    inward[joints.JOINT_INDEX["left_elbow_joint"]] = -0.3
    assert _value(CollisionLoss(), _held(ARMS, inward)) > 1e-3
    assert _value(CollisionLoss(own_trunk=False), _held(ARMS, inward)) == 0.0
    # The torso takes its boxes with it: a waist turned by a right angle changes nothing between it and the arms.
    turned = torch.from_numpy(joints.HOME.copy())
    turned[joints.JOINT_INDEX["waist_yaw_joint"]] = 1.57
    both = [_value(CollisionLoss(), _held(ARMS, inward), ARMS, Situation(posture=q)) for q in (None, turned)]
    assert both[0] == pytest.approx(both[1], rel=1e-9)


def test_smoothness_by_hand() -> None:
    # vx is 0.5 m/s at action 1, and the same below 0. 0, 1, 0, 0 m/s: second differences -2 and 1.
    chunk = torch.zeros(1, 4, 17, dtype=torch.float64)
    chunk[0, :, 14] = torch.tensor([0.0, 2.0, 0.0, 0.0])
    assert _value(SmoothLoss(), chunk) == 5.0
    executed = torch.zeros(17, dtype=torch.float64)
    executed[14] = 1.0  # 0.5 m/s: one more second difference, 0.5 - 2 * 0 + 1 = 1.5, and a seam of 0.5
    assert _value(SmoothLoss(seam_weight=2.0), chunk, ARMS, Situation(executed=executed)) == 5.0 + 2.25 + 2.0 * 0.25


def test_even_motion_is_smooth_whatever_the_action_numbers_look_like() -> None:
    target = joints.HOME + np.linspace(-0.3, 0.3, 16)[:, None]  # straight through the home pose, where slopes change
    chunk = torch.from_numpy(ARMS.encode(target))[None]
    assert chunk.diff(n=2, dim=1).abs().max() > 1e-3
    assert _value(SmoothLoss(), chunk) == pytest.approx(0.0, abs=1e-24)
    assert command_values(chunk, ARMS)[0, :, :14].numpy() == pytest.approx(target[:, joints.GROUPS["arms"]])


def test_a_composite_is_the_weighted_sum() -> None:
    chunk = torch.from_numpy(np.random.default_rng(2).uniform(-1, 1, (3, 5, 17)))
    motion = Motion(chunk, ARMS)
    parts = ((TorqueLoss(), 0.5), (SmoothLoss(), 2.0))
    expected = 0.5 * TorqueLoss()(motion) + 2.0 * SmoothLoss()(motion)
    torch.testing.assert_close(CompositeLoss(parts)(motion), expected)


LOSSES: dict[str, PhysicsLoss] = {
    "torque": TorqueLoss(0.2),
    "payload": PayloadLoss((3.0, 2.0), 0.4),
    "sag": SagLoss((3.0, 2.0)),
    "collision": CollisionLoss((Obstacle((0.25, 0.15, 0.1), (0.2, 0.3, 0.1), 0.03),)),
    "smooth": SmoothLoss(),
}
LOSSES["composite"] = CompositeLoss(tuple((loss, 0.5) for loss in LOSSES.values()))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("mode", ["arms_only", "whole_body"])
def test_every_loss_has_its_derivative(name: str, mode: str) -> None:
    space = G1ActionSpace(mode)
    rng = np.random.default_rng(5)
    chunk = torch.from_numpy(rng.uniform(-0.6, 0.6, (1, 2 if name != "smooth" else 4, space.dim))).requires_grad_()
    situation = Situation(
        posture=torch.from_numpy(joints.HOME + rng.normal(scale=0.1, size=29)),
        gravity_b=torch.tensor([0.1, 0.2, -0.9], dtype=torch.float64),
        executed=torch.from_numpy(rng.uniform(-0.6, 0.6, space.dim)),
    )
    reference = chunk.detach() + 0.05

    def value(given_chunk: Tensor) -> Tensor:
        return LOSSES[name](Motion(given_chunk, space, situation, reference))

    assert value(chunk).item() > 1e-5
    assert torch.autograd.gradcheck(value, (chunk,))


@pytest.mark.parametrize("name", LOSSES)
def test_rows_do_not_see_each_other(name: str) -> None:
    rng = np.random.default_rng(6)
    chunk = torch.from_numpy(rng.uniform(-1, 1, (3, 4, 17)))
    situation = Situation(
        posture=torch.from_numpy(joints.HOME + rng.normal(scale=0.1, size=(3, 29))),
        gravity_b=torch.from_numpy(rng.normal(size=(3, 3))),
        executed=torch.from_numpy(rng.uniform(-1, 1, (3, 17))),
    )
    together = LOSSES[name](Motion(chunk, ARMS, situation))
    for row in range(3):
        assert situation.posture is not None and situation.gravity_b is not None and situation.executed is not None
        own = Situation(situation.posture[row], situation.gravity_b[row], situation.executed[row])
        alone = LOSSES[name](Motion(chunk[row : row + 1], ARMS, own))
        torch.testing.assert_close(alone, together[row : row + 1], rtol=1e-9, atol=1e-12)


def test_standing_legs_are_not_judged_by_torque() -> None:
    space = G1ActionSpace("whole_body")
    chunk = torch.zeros(1, 4, space.dim, dtype=torch.float64)
    chunk[:, 2:, space.groups["legs"]] = 0.9  # a jump no motor could follow
    assert _value(TorqueLoss(), chunk, space) == 0.0


def test_settings_without_meaning_are_refused() -> None:
    with pytest.raises(ValueError, match=r"share of the motor's effort in \(0, 1\], got 0.0"):
        TorqueLoss(0.0)
    for loss in (PayloadLoss, SagLoss):
        with pytest.raises(ValueError, match="kg in the left and the right hand, 0 or more"):
            loss((1.0, -0.5))
    for parts in ((), ((SmoothLoss(), -1.0),)):
        with pytest.raises(ValueError, match="weights above 0"):
            CompositeLoss(parts)
