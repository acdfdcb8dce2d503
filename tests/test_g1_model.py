"""The G1 model against the official robot's numbers, and what touches and sees what."""

from pathlib import Path

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neon_sim.g1 import joints
from neon_sim.shipped import asset_path
from neon_sim.sim.model import (
    DROPPED_JOINTS,
    FLOOR,
    FREE_JOINT,
    NECK_HOME,
    NECK_JOINTS,
    VARIANTS,
    build_model,
    build_spec,
)

GOLDEN = Path(__file__).parent / "data" / "g1_golden.npz"
OFFICIAL_MASS = 33.341142  # kg, sum of the official link masses


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return build_model(build_spec())


@pytest.fixture(scope="module")
def bare_model() -> mujoco.MjModel:
    """As the official file is: no rotor inertia, plain motors, no contacts and no constraints."""
    bare = build_model(build_spec())
    bare.dof_armature[:] = 0.0
    bare.actuator_gainprm[:, 0] = 1.0
    bare.actuator_biasprm[:] = 0.0
    bare.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT) | int(mujoco.mjtDisableBit.mjDSBL_CONSTRAINT)
    return bare


def home_data(model: mujoco.MjModel, height: float = joints.HOME_HEIGHT, **angles: float) -> mujoco.MjData:
    """The home pose, with joints named in `angles` (without `_joint`) elsewhere."""
    data = mujoco.MjData(model)
    data.qpos[2] = height
    for name, angle in zip(joints.JOINT_NAMES, joints.HOME, strict=True):
        if mujoco.mj_name2id(model, int(mujoco.mjtObj.mjOBJ_JOINT), name) >= 0:
            data.joint(name).qpos[0] = angle
    for name, angle in angles.items():
        data.joint(f"{name}_joint").qpos[0] = angle
    mujoco.mj_forward(model, data)
    return data


def contact_bodies(model: mujoco.MjModel, data: mujoco.MjData) -> set[frozenset[str]]:
    return {frozenset(model.body(model.geom_bodyid[geom]).name for geom in pair) for pair in data.contact.geom}


def states(model: mujoco.MjModel, golden: dict[str, np.ndarray]):
    data = mujoco.MjData(model)
    for k in range(len(golden["qpos"])):
        data.qpos[:], data.qvel[:], data.ctrl[:] = golden["qpos"][k], golden["qvel"][k], golden["ctrl_torque"][k]
        mujoco.mj_forward(model, data)
        yield k, data


# The official numbers


def test_golden_rows_are_in_our_order(model, golden):
    assert tuple(golden["joint_names"]) == joints.JOINT_NAMES
    assert [model.body(k).name for k in range(1, model.nbody)] == list(golden["body_names"])
    assert len(golden["qpos"]) == 16


def test_kinematics_equal_the_official_model(bare_model, golden):
    sites = [bare_model.site(str(name)).id for name in golden["site_names"]]
    for k, data in states(bare_model, golden):
        np.testing.assert_allclose(data.xpos[1:], golden["xpos"][k], rtol=0, atol=1e-9)
        np.testing.assert_allclose(data.xipos[1:], golden["xipos"][k], rtol=0, atol=1e-9)
        sign = np.sign(np.sum(data.xquat[1:] * golden["xquat"][k], axis=1, keepdims=True))
        np.testing.assert_allclose(sign * data.xquat[1:], golden["xquat"][k], rtol=0, atol=1e-9)
        np.testing.assert_allclose(data.site_xpos[sites], golden["site_xpos"][k], rtol=0, atol=1e-9)
        np.testing.assert_allclose(data.site_xmat[sites], golden["site_xmat"][k], rtol=0, atol=1e-9)
        np.testing.assert_allclose(data.subtree_com[1], golden["com"][k], rtol=0, atol=1e-9)


def test_dynamics_equal_the_official_model(bare_model, golden):
    mass_matrix = np.zeros((bare_model.nv, bare_model.nv))
    for k, data in states(bare_model, golden):
        mujoco.mj_fullM(bare_model, data, mass_matrix)
        np.testing.assert_allclose(mass_matrix[np.triu_indices(35)], golden["M_triu"][k], rtol=0, atol=1e-9)
        np.testing.assert_allclose(data.qfrc_bias, golden["qfrc_bias"][k], rtol=0, atol=1e-9)
        error = np.abs(data.qacc - golden["qacc"][k]).max() / np.abs(golden["qacc"][k]).max()
        assert error < 1e-8


def test_imus_equal_the_official_model(bare_model, golden):
    order = [
        f"imu-{body}-{kind}" for body in ("torso", "pelvis") for kind in ("angular-velocity", "linear-acceleration")
    ]
    for k, data in states(bare_model, golden):
        measured = np.concatenate([data.sensor(name).data for name in order])
        np.testing.assert_allclose(measured, golden["sensordata"][k], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(np.abs(data.sensor("imu-pelvis-orientation").data @ data.qpos[3:7]), 1.0, atol=1e-12)


def test_one_gram_is_noticed(bare_model, golden):
    data = mujoco.MjData(bare_model)
    heavier = build_model(build_spec())
    heavier.body_mass[heavier.body("torso_link").id] += 1e-3
    other = mujoco.MjData(heavier)
    for each, which in ((data, bare_model), (other, heavier)):
        each.qpos[:], each.qvel[:] = golden["qpos"][1], golden["qvel"][1]
        mujoco.mj_forward(which, each)
    assert np.abs(data.qfrc_bias - other.qfrc_bias).max() > 1e-3


def test_compiled_joints_equal_the_tables(model):
    hinges = [model.joint(name).id for name in joints.JOINT_NAMES]
    dofs = model.jnt_dofadr[hinges]
    assert model.joint(0).name == FREE_JOINT
    np.testing.assert_array_equal(dofs, np.arange(6, 35))
    np.testing.assert_array_equal(model.jnt_range[hinges], np.stack([joints.LOWER, joints.UPPER], axis=1))
    np.testing.assert_allclose(model.dof_armature[dofs], joints.ARMATURE, rtol=1e-15)
    np.testing.assert_array_equal(model.jnt_actfrcrange[hinges], np.stack([-joints.EFFORT, joints.EFFORT], axis=1))
    assert model.jnt_limited[hinges].all() and model.jnt_actfrclimited[hinges].all()
    assert not model.dof_damping.any() and not model.dof_frictionloss.any()


def test_compiled_servos_equal_the_tables(model):
    assert [model.actuator(k).name for k in range(model.nu)] == [n.removesuffix("_joint") for n in joints.JOINT_NAMES]
    np.testing.assert_array_equal(model.actuator_trnid[:, 0], [model.joint(name).id for name in joints.JOINT_NAMES])
    np.testing.assert_array_equal(model.actuator_gainprm[:, 0], joints.KP)
    expected = np.stack([np.zeros(29), -joints.KP, -joints.KD], axis=1)
    np.testing.assert_array_equal(model.actuator_biasprm[:, :3], expected)
    np.testing.assert_array_equal(model.actuator_forcerange, np.stack([-joints.EFFORT, joints.EFFORT], axis=1))
    assert not model.actuator_ctrllimited.any()


def test_servo_torque_is_the_pd_law_with_the_effort_limit(model):
    data = home_data(model)
    data.ctrl[:] = joints.HOME
    data.ctrl[18] += 0.1  # left elbow, kp 50, kd 2
    data.joint("left_elbow_joint").qvel[0] = 0.5
    data.ctrl[20] += 1.0  # left wrist pitch, kp 20, at most 5 N m
    mujoco.mj_forward(model, data)
    expected = np.zeros(29)
    expected[18], expected[20] = 50 * 0.1 - 2 * 0.5, 5.0
    np.testing.assert_allclose(data.actuator_force, expected, atol=1e-12)


def test_masses_come_from_the_inertials_alone(model):
    assert model.body_mass.sum() == pytest.approx(OFFICIAL_MASS, abs=1e-9)
    assert model.body("torso_link").mass[0] == 7.818


def test_options(model):
    assert model.opt.timestep == 0.002
    assert model.opt.integrator == int(mujoco.mjtIntegrator.mjINT_IMPLICITFAST)
    assert model.opt.solver == int(mujoco.mjtSolver.mjSOL_NEWTON)
    assert model.opt.cone == int(mujoco.mjtCone.mjCONE_PYRAMIDAL)
    assert (model.opt.iterations, model.opt.ls_iterations) == (10, 20)
    assert model.vis.quality.offsamples == 0 and not model.light_castshadow.any()


# What touches what


def test_home_pose_stands_on_its_soles_and_touches_nothing_else(model):
    lowest = home_data(model).geom_xpos[[model.geom(f"left_foot_{k}").id for k in range(4)], 2].min() - 0.005
    data = home_data(model, height=joints.HOME_HEIGHT - lowest - 1e-4)
    assert contact_bodies(model, data) == {
        frozenset({"world", f"{side}_ankle_roll_link"}) for side in ("left", "right")
    }
    assert data.ncon == 8
    sole = data.contact[0]
    assert sole.dim == 3 and sole.friction[0] == 0.6


def test_every_body_can_meet_the_floor(model):
    floor = model.geom(FLOOR)
    for body in range(1, model.nbody):
        geoms = np.flatnonzero(model.geom_bodyid == body)
        meets = (model.geom_contype[geoms] & floor.conaffinity) | (model.geom_conaffinity[geoms] & floor.contype)
        assert meets.any(), model.body(body).name


@pytest.mark.parametrize("quat_wxyz", [(1, 0, 0, 0), (0.7, 0, 0.7, 0), (0.7, 0, -0.7, 0), (0.7, 0.7, 0, 0)])
def test_a_fallen_robot_lies_on_the_floor(model, quat_wxyz):
    data = home_data(model, height=0.9)
    data.qpos[3:7] = quat_wxyz
    data.ctrl[:] = joints.HOME
    mujoco.mj_step(model, data, 1500)
    assert data.xpos[1:, 2].min() > -0.01
    assert np.isfinite(data.qacc).all() and not any(warning.number for warning in data.warning)


def fold_left_forearm(model: mujoco.MjModel) -> mujoco.MjData:
    """Swing the left forearm from straight ahead to across the belly in 2 s, hung up by the pelvis."""
    data = home_data(model, height=1.5, left_elbow=0.2)
    assert data.ncon == 0
    data.ctrl[:] = joints.HOME
    data.ctrl[17], data.ctrl[18] = -1.8, 0.2  # shoulder yaw, elbow
    for _ in range(200):
        mujoco.mj_step(model, data, 5)
        data.qpos[:7], data.qvel[:6] = (0, 0, 1.5, 1, 0, 0, 0), 0
    mujoco.mj_forward(model, data)
    return data


def test_a_hand_driven_into_the_trunk_stops_there(model):
    data = fold_left_forearm(model)
    touching = {name for pair in contact_bodies(model, data) if "torso_link" in pair for name in pair} - {"torso_link"}
    assert touching and all(name.startswith("left_") for name in touching)
    assert min(contact.dist for contact in data.contact) > -0.005
    ghost = build_model(build_spec())
    ghost.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
    through = fold_left_forearm(ghost).joint("left_shoulder_yaw_joint").qpos[0]
    assert data.joint("left_shoulder_yaw_joint").qpos[0] > through + 0.25


def test_hands_meet_each_other_and_the_thighs(model):
    together = {"shoulder_pitch": -0.6, "elbow": 0.6}
    angles = {f"{side}_{name}": value for side in ("left", "right") for name, value in together.items()}
    clasped = home_data(model, 1.5, left_shoulder_yaw=-0.75, right_shoulder_yaw=0.75, **angles)
    sides = [{name.split("_")[0] for name in pair} for pair in contact_bodies(model, clasped)]
    assert {"left", "right"} in sides
    on_thigh = home_data(model, 1.5, left_shoulder_roll=0.0, left_shoulder_pitch=0.0)
    assert any(any("hip" in name for name in pair) for pair in contact_bodies(model, on_thigh))


def test_legs_pass_through_each_other(model):
    data = home_data(model, 1.5, left_hip_roll=-0.4, right_hip_roll=0.4)
    assert data.ncon == 0


def arm_pose(left_arm: tuple[float, ...]) -> dict[str, float]:
    """Both arms alike: (7,) rad of the left arm and its mirror image, by name."""
    left = np.zeros(29)
    left[15:22] = left_arm
    both = left + joints.mirror(left)
    return {joints.JOINT_NAMES[k].removesuffix("_joint"): both[k] for k in joints.GROUPS["arms"]}


# rad: shoulder pitch, roll (outwards), yaw, elbow, wrist roll, pitch, yaw
AWAY = ((-1.2, 0.3), (0.3, 1.6), (-0.2, 0.3), (-0.3, 1.4), (-1.9, 1.9), (-0.4, 0.4), (-0.4, 0.4))


@settings(max_examples=60, deadline=None)
@given(st.tuples(*(st.floats(*limits) for limits in AWAY)))
def test_arms_away_from_the_body_touch_nothing(model, left_arm):
    assert contact_bodies(model, home_data(model, 1.5, **arm_pose(left_arm))) == set()


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.floats(-2.4, 2.2), st.floats(0.1, 2.2), st.floats(-2.6, 2.6), st.floats(-1.0, 2.0)))
def test_shoulders_turn_without_rubbing_on_the_chest(model, left_arm):
    data = home_data(model, 1.5, **arm_pose((*left_arm, 0.0, 0.0, 0.0)))
    chest = [set(pair) for pair in contact_bodies(model, data) if "torso_link" in pair]
    assert not any("shoulder" in name for pair in chest for name in pair)


# What the cameras see


def first_hit(model: mujoco.MjModel, data: mujoco.MjData, camera: str, right: float, up: float) -> str | None:
    """Name of the geom's body that a camera's ray meets; `right` and `up` in [-1, 1] of half the image height."""
    half = np.tan(np.deg2rad(model.camera(camera).fovy[0]) / 2)
    direction = data.camera(camera).xmat.reshape(3, 3) @ np.array([right * half, up * half, -1.0])
    hit = np.full(1, -1, dtype=np.int32)
    mujoco.mj_ray(model, data, data.camera(camera).xpos, direction / np.linalg.norm(direction), None, 1, -1, hit)
    return model.body(model.geom_bodyid[hit[0]]).name if hit[0] >= 0 else None


def image_point(model: mujoco.MjModel, data: mujoco.MjData, camera: str, point_w: np.ndarray) -> np.ndarray:
    """Right and up (2,) of a world point in half image heights; inside a square image when both are below 1."""
    x, y, z = data.camera(camera).xmat.reshape(3, 3).T @ (point_w - data.camera(camera).xpos)
    assert z < 0
    return np.array([x, y]) / -z / np.tan(np.deg2rad(model.camera(camera).fovy[0]) / 2)


def neck_at_home(variant: str) -> dict[str, float]:
    names = [name.removesuffix("_joint") for name in NECK_JOINTS]
    return dict(zip(names, NECK_HOME, strict=True)) if variant == "neck" else {}


@pytest.mark.parametrize("variant", VARIANTS)
def test_task_camera_sees_floor_and_horizon_and_none_of_the_robot_at_rest(variant):
    model = build_model(build_spec(variant))
    data = home_data(model, **neck_at_home(variant))
    grid = np.linspace(-1, 1, 9)
    seen = [first_hit(model, data, "task", right, up) for right in grid for up in grid]
    assert set(seen) == {"world", None}
    assert first_hit(model, data, "task", 0.0, -1.0) == "world" and first_hit(model, data, "task", 0.0, 1.0) is None
    forward = -data.camera("task").xmat.reshape(3, 3)[:, 2]
    assert np.rad2deg(np.arcsin(-forward[2])) == pytest.approx(35.0, abs=2.5)


def test_task_camera_sees_the_workspace(model):
    data = home_data(model)
    ahead, aside = [(0.2, 0.0, 0.0), (0.35, 0.0, 0.25), (0.5, 0.0, 0.45)], [(0.35, 0.3, 0.1), (0.35, -0.3, 0.25)]
    for offset in ahead + aside:
        point = np.array([0.0, 0.0, joints.HOME_HEIGHT]) + offset
        assert np.abs(image_point(model, data, "task", point)).max() < 1.0, offset


def test_stock_camera_looks_where_the_d435_is_mounted(model):
    data = home_data(model)
    forward = -data.camera("d435").xmat.reshape(3, 3)[:, 2]
    np.testing.assert_allclose(forward, [0.6743251, 0.0, -0.7384346], atol=1e-6)
    assert {first_hit(model, data, "d435", right, up) for right in (-1, 0, 1) for up in (-1, 0, 1)} == {"world"}


def test_lidar_is_mounted_upside_down(model):
    data = home_data(model)
    up = data.site("mid360").xmat.reshape(3, 3)[:, 2]
    assert up[2] == pytest.approx(-np.cos(0.05112069), abs=1e-6)


# Variants


@pytest.mark.parametrize(
    ("variant", "nu", "mass"),
    [("29dof", 29, 0.0), ("29dof_lock_waist", 27, 0.0), ("23dof", 23, 0.0), ("neck", 29, 0.69096)],
)
def test_variants(variant, nu, mass):
    model = build_model(build_spec(variant))
    assert (model.nu, model.nv, model.nq) == (nu, nu + 6, nu + 7)
    assert model.body_mass.sum() == pytest.approx(OFFICIAL_MASS + mass, abs=1e-9)
    kept = [name for name in joints.JOINT_NAMES if name not in DROPPED_JOINTS[variant]]
    names = [model.joint(k).name for k in range(1, model.njnt)]
    assert names == kept + list(NECK_JOINTS if variant == "neck" else ())
    np.testing.assert_array_equal(model.actuator_trnid[:, 0], np.arange(1, nu + 1))


def test_the_masses_of_the_neck_are_in_its_parts():
    model = build_model(build_spec("neck"))
    for part in ("xl330_link", "d455_link"):
        np.testing.assert_array_equal(model.body(part).ipos, 0.0)


def test_neck_turns_the_camera():
    model = build_model(build_spec("neck"))
    data = home_data(model, xl330=0.5, d455=0.6)
    forward = -data.camera("task").xmat.reshape(3, 3)[:, 2]
    assert np.arctan2(forward[1], forward[0]) == pytest.approx(0.5, abs=0.03)
    assert -np.arcsin(forward[2]) == pytest.approx(0.6 + 0.039968, abs=0.03)


def test_neck_servos_hold_their_target():
    model = build_model(build_spec("neck"))
    model.opt.gravity[:] = 0
    data = home_data(model, 1.5)
    data.ctrl[:27], data.ctrl[27:] = data.qpos[7:34], (0.4, 0.7)
    mujoco.mj_step(model, data, 500)
    np.testing.assert_allclose([data.joint(name).qpos[0] for name in NECK_JOINTS], [0.4, 0.7], atol=0.01)


def test_unknown_variant_names_the_nearest():
    with pytest.raises(ValueError, match="'29dof_lock_wast'. Did you mean '29dof_lock_waist'"):
        build_spec("29dof_lock_wast")


def test_physics_step_is_the_model_s_own():
    spec = build_spec()
    assert build_model(spec, 0.005).opt.timestep == 0.005
    assert spec.option.timestep == 0.002
    with pytest.raises(ValueError, match="positive"):
        build_model(spec, 0.0)


def test_assets_are_found_in_a_checkout_and_in_a_wheel(tmp_path):
    assert asset_path("g1/g1.xml").is_file()
    package = tmp_path / "neon_sim"
    inside = package / "assets" / "g1" / "g1.xml"
    inside.parent.mkdir(parents=True)
    inside.touch()
    assert asset_path("g1/g1.xml", package) == inside
    with pytest.raises(FileNotFoundError, match="(?s)assets/nothing.*checkout.*neon_sim/assets/nothing.*wheel"):
        asset_path("nothing", package)
