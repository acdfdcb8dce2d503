"""Randomised robots, read back from the compiled model and from what its physics does."""

import copy
from dataclasses import fields, replace

import mujoco
import numpy as np
import pytest

from neon_sim.g1 import joints
from neon_sim.g1.geometry import quat_to_matrix
from neon_sim.sim.model import build_model, build_spec
from neon_sim.sim.randomize import (
    NOMINAL,
    TRAINING,
    UNSEEN,
    ModelRandomization,
    add_mass,
    randomize_model,
    slope,
)

PLAIN = build_model(build_spec())


def other(seed: int = 0, model: mujoco.MjModel = PLAIN, **ranges: tuple[float, float]) -> mujoco.MjModel:
    """A copy of the model with only the named ranges drawn from."""
    edited = copy.copy(model)
    randomize_model(edited, np.random.default_rng(seed), replace(NOMINAL, **ranges))
    return edited


def arrays_that_differ(a: mujoco.MjModel, b: mujoco.MjModel) -> set[str]:
    names = [name for name in dir(a) if isinstance(getattr(a, name, None), np.ndarray)]
    return {name for name in names if not np.array_equal(getattr(a, name), getattr(b, name))}


def inertia_about(model: mujoco.MjModel, body: str, point: np.ndarray) -> np.ndarray:
    """Inertia tensor (3, 3) of one body about a point of its frame: Steiner's theorem."""
    index = model.body(body).id
    axes, lever = quat_to_matrix(model.body_iquat[index]), model.body_ipos[index] - point
    shift = model.body_mass[index] * (lever @ lever * np.eye(3) - np.outer(lever, lever))
    return axes @ np.diag(model.body_inertia[index]) @ axes.T + shift


def test_the_nominal_robot_is_the_compiled_one() -> None:
    assert arrays_that_differ(other(), PLAIN) == set()


def test_same_seed_same_robot_and_each_seed_another() -> None:
    robots = [copy.copy(PLAIN) for _ in range(3)]
    for robot, seed in zip(robots, (1, 1, 2), strict=True):
        randomize_model(robot, np.random.default_rng(seed), UNSEEN)
    assert arrays_that_differ(robots[0], robots[1]) == set()
    assert {"body_mass", "actuator_gainprm", "geom_friction"} < arrays_that_differ(robots[0], robots[2])


def test_torso_payload_is_added_where_the_torso_weighs() -> None:
    torso = PLAIN.body("torso_link").id
    heavy = other(torso_payload=(8.0, 8.0))
    assert heavy.body_mass.sum() == pytest.approx(33.341142 + 8.0)
    assert heavy.body_mass[torso] == pytest.approx(7.818 + 8.0)
    np.testing.assert_array_equal(heavy.body_ipos, PLAIN.body_ipos)
    np.testing.assert_array_equal(heavy.body_inertia, PLAIN.body_inertia)
    assert other(torso_payload=(-1.0, -1.0)).body_mass[torso] == pytest.approx(6.818)
    # What the solver derives follows: the root's subtree is the whole robot.
    assert heavy.body_subtreemass[1] == pytest.approx(41.341142)


def test_hand_payload_hangs_at_each_palm() -> None:
    loaded = other(seed=3, hand_payload=(0.2, 0.9))
    extra = [
        loaded.body(f"{side}_wrist_yaw_link").mass[0] - PLAIN.body(f"{side}_wrist_yaw_link").mass[0]
        for side in ("left", "right")
    ]
    assert min(extra) >= 0.2 and max(extra) <= 0.9 and abs(extra[0] - extra[1]) > 0.01  # drawn for each hand
    three = other(hand_payload=(3.0, 3.0))
    wrist = three.body("left_wrist_yaw_link")
    # 0.254576 kg at x = 0.0708244 and 3 kg at the palm, x = 0.08: (0.018030 + 0.24) / 3.254576
    assert wrist.ipos[0] == pytest.approx(0.0792822, abs=1e-6)
    np.testing.assert_allclose(
        inertia_about(three, "left_wrist_yaw_link", np.array([0.08, 0.0, 0.0])),
        inertia_about(PLAIN, "left_wrist_yaw_link", np.array([0.08, 0.0, 0.0])),  # a point adds nothing about itself
        atol=1e-12,
    )
    data = mujoco.MjData(three)
    mujoco.mj_forward(three, data)
    # Where the masses are is where a straight pair of arms balances: by hand from the nominal centre of mass.
    nominal = mujoco.MjData(PLAIN)
    mujoco.mj_forward(PLAIN, nominal)
    palms = np.array([nominal.site(f"{side}_palm").xpos for side in ("left", "right")])
    expected = (33.341142 * nominal.subtree_com[0] + 3.0 * palms.sum(axis=0)) / 39.341142
    np.testing.assert_allclose(data.subtree_com[0], expected, atol=1e-9)


def test_a_taken_mass_can_be_put_back() -> None:
    model, pos = copy.copy(PLAIN), np.array([0.02, -0.03, 0.3])
    add_mass(model, "torso_link", 2.0, pos)
    assert model.body("torso_link").mass[0] == pytest.approx(9.818)
    add_mass(model, "torso_link", -2.0, pos)
    torso = PLAIN.body("torso_link")
    np.testing.assert_allclose(model.body("torso_link").ipos, torso.ipos, atol=1e-12)
    np.testing.assert_allclose(
        inertia_about(model, "torso_link", torso.ipos), inertia_about(PLAIN, "torso_link", torso.ipos), atol=1e-12
    )


def test_what_is_not_there_cannot_be_taken() -> None:
    with pytest.raises(ValueError, match=r"weighs 7\.818 kg; 8\.000 kg"):
        add_mass(copy.copy(PLAIN), "torso_link", -8.0, np.zeros(3))
    with pytest.raises(ValueError, match="Go nearer its centre"):
        add_mass(copy.copy(PLAIN), "torso_link", -7.0, np.array([0.0, 0.0, 0.6]))


def test_torso_centre_of_mass_moves() -> None:
    moved = other(torso_com=(0.03, 0.03))
    np.testing.assert_allclose(moved.body("torso_link").ipos - PLAIN.body("torso_link").ipos, [0.03, 0.03, 0.03])
    plain, data = mujoco.MjData(PLAIN), mujoco.MjData(moved)
    mujoco.mj_forward(PLAIN, plain)
    mujoco.mj_forward(moved, data)
    # 0.03 m of 7.818 kg in 33.341142 kg
    np.testing.assert_allclose(data.subtree_com[0] - plain.subtree_com[0], 0.03 * 7.818 / 33.341142, atol=1e-9)


def test_each_link_gets_its_own_scale_and_inertia_goes_with_mass() -> None:
    scaled = other(link_mass_scale=(0.9, 1.1))
    ratio = scaled.body_mass[1:31] / PLAIN.body_mass[1:31]
    assert len(np.unique(ratio.round(9))) == 30 and ratio.min() >= 0.9 and ratio.max() <= 1.1
    np.testing.assert_allclose(scaled.body_inertia[1:31] / PLAIN.body_inertia[1:31], ratio[:, None].repeat(3, 1))


def test_friction_is_what_the_contact_uses() -> None:
    for friction in (0.3, 1.2):  # below the floor's 1 and above it
        model = other(friction=(friction, friction))
        data = mujoco.MjData(model)
        data.qpos[2], data.qpos[7:36] = joints.HOME_HEIGHT - 0.005, joints.HOME
        mujoco.mj_forward(model, data)
        assert data.ncon >= 4
        assert {round(data.contact.friction[i, 0], 9) for i in range(data.ncon)} == {friction}


def torque_of(model: mujoco.MjModel, joint: str, offset: float, speed: float = 0.0) -> float:
    """N m of the motor whose target is `offset` rad ahead of its joint."""
    data = mujoco.MjData(model)
    data.qvel[model.joint(joint).dofadr[0]] = speed
    data.ctrl[model.actuator(joint.removesuffix("_joint")).id] = offset
    mujoco.mj_forward(model, data)
    return float(data.qfrc_actuator[model.joint(joint).dofadr[0]])


def test_motors_follow_the_pd_law_with_scaled_gains_and_limits() -> None:
    knee = "left_knee_joint"  # kp 150 N m/rad, kd 4 N m s/rad, 139 N m
    assert torque_of(PLAIN, knee, 0.1) == pytest.approx(15.0)
    stiff = other(kp_scale=(1.1, 1.1), kd_scale=(0.8, 0.8))
    assert torque_of(stiff, knee, 0.1) == pytest.approx(16.5)
    assert torque_of(stiff, knee, 0.1, speed=2.0) == pytest.approx(16.5 - 2.0 * 3.2)
    weak = other(motor_strength=(0.9, 0.9))
    assert torque_of(weak, knee, 0.1, speed=2.0) == pytest.approx(0.9 * (15.0 - 8.0))
    assert torque_of(weak, knee, 2.0) == pytest.approx(0.9 * 139.0)
    weak.actuator_forcerange[:] = PLAIN.actuator_forcerange  # as SimRobot.reset does
    assert torque_of(weak, knee, 2.0) == pytest.approx(0.9 * 139.0)  # the joint's own limit still holds


def test_joints_get_friction_loss_damping_and_armature() -> None:
    model = other(friction_loss=(0.3, 0.3), damping=(0.05, 0.05), armature_scale=(0.5, 0.5))
    np.testing.assert_allclose(model.dof_frictionloss[6:35], 0.3)
    np.testing.assert_allclose(model.dof_damping[6:35], 0.05)
    np.testing.assert_allclose(model.dof_armature[6:35], 0.5 * joints.ARMATURE)
    assert not model.dof_frictionloss[:6].any() and not model.dof_damping[:6].any()  # the free joint has none


def test_a_model_without_some_joints_gets_the_same_numbers_for_the_others() -> None:
    full, short = copy.copy(PLAIN), build_model(build_spec("23dof"))
    for model in (full, short):
        randomize_model(model, np.random.default_rng(5), UNSEEN)
    assert short.nu == 23
    for name in ("left_knee", "right_wrist_roll"):  # before and behind the gap that the waist leaves
        np.testing.assert_array_equal(short.actuator(name).gainprm, full.actuator(name).gainprm)
        np.testing.assert_array_equal(short.joint(f"{name}_joint").armature, full.joint(f"{name}_joint").armature)
    np.testing.assert_array_equal(short.body("left_hip_yaw_link").mass, full.body("left_hip_yaw_link").mass)


def test_tilted_gravity_makes_a_slope() -> None:
    model = copy.copy(PLAIN)
    slope(model, 10.0, 0.0)
    # 9.81 sin 10 degrees pulls back towards -x, 9.81 cos 10 degrees presses on the floor.
    np.testing.assert_allclose(model.opt.gravity, [-1.703489, 0.0, -9.660964], atol=1e-6)
    slope(model, 10.0, np.pi / 2)
    np.testing.assert_allclose(model.opt.gravity, [0.0, -1.703489, -9.660964], atol=1e-6)
    slope(model, 0.0, 1.0)
    np.testing.assert_allclose(model.opt.gravity, [0.0, 0.0, -9.81], atol=1e-12)


def test_unseen_reaches_beyond_training_on_both_sides() -> None:
    for field in fields(ModelRandomization):
        (low, high), (inner_low, inner_high) = getattr(UNSEEN, field.name), getattr(TRAINING, field.name)
        assert low <= inner_low and inner_high <= high, field.name
        assert high - low > inner_high - inner_low, field.name


@pytest.mark.parametrize("wrong", [{"friction": (1.0, 0.5)}, {"kp_scale": (-0.1, 1.0)}, {"damping": (0.0, np.inf)}])
def test_ranges_are_checked(wrong) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))} is \(lowest, highest\) from"):
        replace(NOMINAL, **wrong)
    assert replace(NOMINAL, torso_payload=(-1.0, 0.0)).torso_payload == (-1.0, 0.0)
