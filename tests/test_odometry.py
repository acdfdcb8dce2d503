"""Leg odometry where a person can work it out, against differences of planted feet, and against MuJoCo's velocities."""

from types import SimpleNamespace

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neon_sim.g1 import joints, kinematics
from neon_sim.g1.geometry import euler_to_matrix, euler_to_quat, gravity_in_body, quat_to_matrix
from neon_sim.locomotion.alike import numbers, rows
from neon_sim.locomotion.odometry import CONTACT_GAP, Odometry, leg_odometry, level_axes
from neon_sim.sim.model import build_model, build_spec

DOWN = np.array([0.0, 0.0, -1.0])
# m, all joints at zero: the legs hang straight. Sums of the official link offsets (links.py).
HIP_Z, KNEE_Z, ANKLE_PITCH_Z, ANKLE_ROLL_Z, SOLE_Z = -0.1027, -0.43930, -0.73931, -0.75686, -0.79186
SOLE_X, SOLE_Y = 0.0350, 0.11851
THIGH, SHIN = HIP_Z - KNEE_Z, KNEE_Z - ANKLE_PITCH_Z
MODEL = build_model(build_spec())


def posture(**angles: float) -> np.ndarray:
    """(29,) rad, zero but for the joints that are named without their `_joint`."""
    joint_pos = np.zeros(joints.NUM_JOINTS)
    for name, angle in angles.items():
        joint_pos[joints.JOINT_INDEX[f"{name}_joint"]] = angle
    return joint_pos


# The right foot 0.29 m up: the left one stands alone.
RIGHT_RAISED = {"right_hip_pitch": -1.0, "right_knee": 2.0, "right_ankle_pitch": -1.0}


def in_rows(odometry: Odometry, count: int = 1) -> SimpleNamespace:
    """Its numbers as arrays (B, ...), and which feet stand."""
    shapes = {"velocity": (3,), "height": (), "gap": (2,), "foot_pos": (2, 3), "foot_vel": (2, 3), "com": (3,)}
    arrays = {"level": odometry.level, "contact": np.array(odometry.contact).reshape(2, count).T}
    for name, shape in shapes.items():
        given = getattr(odometry, name)
        flat = np.array(given, dtype=np.float64).reshape(-1, count)
        arrays[name] = flat.T.reshape(count, *shape)
    return SimpleNamespace(**arrays)


def level_frame(up_b: np.ndarray) -> np.ndarray:
    """`level_axes` of many robots as matrices (B, 3, 3)."""
    entries = [entry for axis in level_axes(tuple(numbers(up_b.T))) for entry in axis]
    return rows(entries, len(up_b)).reshape(-1, 3, 3)


def read(
    joint_pos: np.ndarray, joint_vel=None, gyro=(0.0, 0.0, 0.0), gravity_b=DOWN, raised: float = 0.0
) -> SimpleNamespace:
    """Odometry of one robot; `raised` m lifts its right sole out of the leg's end."""
    poses = kinematics.limb_poses(joint_pos[None])
    poses[-1, 0, 1, 2, 3] += raised
    joint_vel = np.zeros(29) if joint_vel is None else joint_vel
    return in_rows(leg_odometry(poses, joint_vel[None], np.array([gyro]), gravity_b[None]))


@pytest.mark.parametrize(
    ("joint", "gyro", "velocity"),
    [
        # The foot stands, so a joint that turns the foot forward turns the pelvis backward, about that joint's axis.
        ("left_ankle_pitch", (0.0, -0.5, 0.0), (0.5 * ANKLE_PITCH_Z, 0.0, 0.0)),
        ("left_knee", (0.0, -0.5, 0.0), (0.5 * KNEE_Z, 0.0, 0.0)),
        ("left_hip_pitch", (0.0, -0.5, 0.0), (0.5 * HIP_Z, 0.0, 0.0)),
        # To the right of the ankle and above it: it goes left and up.
        ("left_ankle_roll", (-0.5, 0.0, 0.0), (0.0, -0.5 * ANKLE_ROLL_Z, 0.5 * SOLE_Y)),
        # Turning left about the left foot's middle, without a joint that moves.
        (None, (0.0, 0.0, 0.5), (0.5 * SOLE_Y, -0.5 * SOLE_X, 0.0)),
        # What the foot in the air does, and arms and waist, is of no matter.
        ("right_hip_pitch", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ("waist_yaw", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ("left_shoulder_pitch", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ],
)
def test_the_pelvis_moves_about_the_planted_left_foot(joint, gyro, velocity):
    joint_vel = posture(**{joint: 0.5}) if joint else np.zeros(29)
    odometry = read(posture(**RIGHT_RAISED), joint_vel, gyro)
    np.testing.assert_allclose(odometry.velocity[0], velocity, atol=1e-4)
    np.testing.assert_allclose(odometry.foot_vel[0, 0], 0.0, atol=1e-9)
    np.testing.assert_array_equal(odometry.contact, [[True, False]])


def test_sinking_on_two_bent_legs():
    bend = {"hip_pitch": -0.5, "knee": 1.0, "ankle_pitch": -0.5}
    legs = posture(**{f"{side}_{name}": angle for side in ("left", "right") for name, angle in bend.items()})
    odometry = read(legs, legs)  # so far bent, and going on at as much a second
    # Thigh and shin lean 0.5 rad against the vertical, the one forward, the other back.
    height = -HIP_Z + (THIGH + SHIN) * np.cos(0.5) + (ANKLE_PITCH_Z - SOLE_Z)
    assert odometry.height[0] == pytest.approx(height, abs=1e-4)
    sinking, creeping = -0.5 * (THIGH + SHIN) * np.sin(0.5), -0.5 * (THIGH - SHIN) * np.cos(0.5)
    np.testing.assert_allclose(odometry.velocity[0], [creeping, 0.0, sinking], atol=1e-4)
    np.testing.assert_array_equal(odometry.contact, [[True, True]])
    np.testing.assert_allclose(odometry.foot_vel, 0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("raised", "left_share"),
    [(0.0, 1 / 2), (0.006 * np.log(3.0), 3 / 4), (-0.006 * np.log(3.0), 1 / 4), (0.006 * np.log(99.0), 0.99)],
)
def test_the_lower_foot_counts_more(raised, left_share):
    # The left leg says that the pelvis goes forward, the right one that it stays.
    odometry = read(posture(), posture(left_hip_pitch=0.5), raised=raised)
    forward = 0.5 * (HIP_Z - SOLE_Z)
    np.testing.assert_allclose(odometry.velocity[0], [left_share * forward, 0.0, 0.5 * SOLE_X * left_share], atol=1e-4)
    # So the soles slide against each other, and none of it is hidden.
    np.testing.assert_allclose(
        odometry.foot_vel[0, :, 0], [(left_share - 1.0) * forward, left_share * forward], atol=1e-4
    )


def test_height_gap_and_contact_of_a_raised_foot():
    for raised in (0.03, 0.9 * CONTACT_GAP, 1.1 * CONTACT_GAP):
        odometry = read(posture(), raised=raised)
        assert odometry.height[0] == pytest.approx(-SOLE_Z, abs=1e-4)
        np.testing.assert_allclose(odometry.gap, [[0.0, raised]], atol=1e-9)
        np.testing.assert_array_equal(odometry.contact, [[True, raised < 0.01]])
    stepping_down = read(posture(), raised=-0.03)
    assert stepping_down.height[0] == pytest.approx(-SOLE_Z + 0.03, abs=1e-4)
    np.testing.assert_allclose(stepping_down.gap, [[0.03, 0.0]], atol=1e-9)
    np.testing.assert_array_equal(stepping_down.contact, [[False, True]])
    np.testing.assert_allclose(
        stepping_down.foot_pos, [[[SOLE_X, SOLE_Y, SOLE_Z], [SOLE_X, -SOLE_Y, SOLE_Z - 0.03]]], atol=1e-4
    )


@pytest.mark.parametrize(
    ("angle", "ahead"),
    [
        (-0.2, -0.05),  # toes up: it stands on the heel, 5 cm behind the ankle
        (0.2, 0.12),  # heel up: on the front, 12 cm ahead
        (0.0, SOLE_X),  # flat: the middle counts
        (-0.02, SOLE_X - 0.0393),  # in between: tanh(0.02 / 0.04) x 8.5 cm behind the middle
    ],
)
def test_a_pitched_sole_stands_on_its_end(angle, ahead):
    above = ANKLE_PITCH_Z - SOLE_Z
    down, forward = above * np.cos(angle) + ahead * np.sin(angle), ahead * np.cos(angle) - above * np.sin(angle)
    odometry = read(posture(**RIGHT_RAISED, left_ankle_pitch=angle), gyro=(0.0, 0.0, 1.0))
    assert odometry.height[0] == pytest.approx(-ANKLE_PITCH_Z + down, abs=1e-4)
    np.testing.assert_allclose(odometry.velocity[0], [SOLE_Y, -forward, 0.0], atol=2e-4)  # it goes round that point


@pytest.mark.parametrize(("angle", "left"), [(0.2, -0.028), (-0.2, 0.028), (0.0, 0.0)])
def test_a_rolled_sole_stands_on_its_edge(angle, left):
    above = ANKLE_ROLL_Z - SOLE_Z
    down, sideways = above * np.cos(angle) - left * np.sin(angle), left * np.cos(angle) + above * np.sin(angle)
    odometry = read(posture(**RIGHT_RAISED, left_ankle_roll=angle), gyro=(0.0, 0.0, 1.0))
    assert odometry.height[0] == pytest.approx(-ANKLE_ROLL_Z + down, abs=1e-4)
    np.testing.assert_allclose(odometry.velocity[0], [SOLE_Y + sideways, -SOLE_X, 0.0], atol=2e-4)


def test_on_its_toes_it_rolls_about_them():
    # Both feet toes down by 0.3 rad, the ankles turning on: the front edge, 12 cm ahead, is what stands.
    tiptoe = {f"{side}_ankle_pitch": 0.3 for side in ("left", "right")}
    odometry = read(posture(**tiptoe), posture(**tiptoe))
    below = ANKLE_PITCH_Z - SOLE_Z
    forward, down = 0.12 * np.cos(0.3) - below * np.sin(0.3), 0.12 * np.sin(0.3) + below * np.cos(0.3)
    np.testing.assert_allclose(odometry.velocity[0], [0.3 * down, 0.0, 0.3 * forward], atol=1e-4)


def leaning(euler: np.ndarray) -> np.ndarray:
    """gravity_b of a pelvis with roll, pitch and yaw (..., 3) rad."""
    return gravity_in_body(euler_to_quat(euler))


def test_the_level_frame_is_right_handed_with_x_along_the_heading():
    rng = np.random.default_rng(0)
    euler = rng.uniform((-1.2, -1.2, -3.0), (1.2, 1.2, 3.0), (200, 3))
    level = level_frame(-leaning(euler))
    np.testing.assert_allclose(level @ level.transpose(0, 2, 1), np.tile(np.eye(3), (200, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(level), 1.0, atol=1e-12)
    # ZYX angles: what is left when yaw is taken out is the way from the pelvis to the level frame.
    np.testing.assert_allclose(level, euler_to_matrix(euler * [1.0, 1.0, 0.0]), atol=1e-12)


def test_the_level_frame_by_hand_and_where_there_is_no_heading():
    np.testing.assert_allclose(level_frame(-DOWN[None]), np.eye(3)[None], atol=1e-15)
    # Pitched forward by atan(3/4), up is 0.8 along the pelvis' z and -0.6 along its x; roll to the right likewise.
    expected = [
        [[0.8, 0.0, 0.6], [0.0, 1.0, 0.0], [-0.6, 0.0, 0.8]],
        [[1.0, 0.0, 0.0], [0.0, 0.8, -0.6], [0.0, 0.6, 0.8]],
    ]
    np.testing.assert_allclose(level_frame(np.array([[-0.6, 0.0, 0.8], [0.0, 0.6, 0.8]])), expected, atol=1e-12)
    assert np.all(np.isfinite(level_frame(np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]))))  # on its back, on its face


def planted(joint_pos: np.ndarray) -> np.ndarray:
    """Pose (4, 4) of the pelvis over a floor on which the left sole lies flat, by forward kinematics alone."""
    return np.linalg.inv(kinematics.limb_poses(joint_pos)[-1, 0])


@pytest.mark.parametrize("seed", range(6))
def test_velocity_and_height_of_a_pelvis_whose_left_sole_is_the_floor(seed):
    rng = np.random.default_rng(seed)
    joint_pos = posture(**RIGHT_RAISED) + rng.normal(0.0, 0.15, 29)
    joint_vel, step = rng.normal(0.0, 1.0, 29), 1e-6
    pose, ahead, behind = (planted(joint_pos + joint_vel * dt) for dt in (0.0, step, -step))
    moved = (ahead - behind)[:3] / (2.0 * step)
    spin = pose[:3, :3].T @ moved[:, :3]  # the skew matrix of the gyro
    odometry = read(joint_pos, joint_vel, spin[[2, 0, 1], [1, 2, 0]], pose[:3, :3].T @ DOWN)
    to_floor = pose[:3, :3] @ odometry.level[0].T
    np.testing.assert_allclose(to_floor @ odometry.velocity[0], moved[:, 3], atol=1e-7)
    assert odometry.height[0] == pytest.approx(pose[2, 3], abs=1e-9)
    np.testing.assert_allclose(odometry.foot_pos[0, 0], -to_floor.T @ pose[:3, 3], atol=1e-9)


def moving_soles(data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middles (2, 3) m and lowest points (2, 3) m of both soles, and how these move (2, 3) m/s, in the world."""
    middle, where, how = np.zeros((3, 2, 3))
    for foot, side in enumerate(("left", "right")):
        body = MODEL.body(f"{side}_ankle_roll_link").id
        matrix = data.xmat[body].reshape(3, 3)
        edge = np.tanh(matrix[2, :2] / 0.04) * (0.085, 0.028)  # row 2: how far the sole's axes point upward
        middle[foot] = data.xpos[body] + matrix @ (0.035, 0.0, -0.035)
        where[foot] = middle[foot] - matrix[:, :2] @ edge
        twist = np.zeros(6)  # turning and moving of the body's origin
        mujoco.mj_objectVelocity(MODEL, data, mujoco.mjtObj.mjOBJ_XBODY, body, twist, 0)
        how[foot] = twist[3:] + np.cross(twist[:3], where[foot] - data.xpos[body])
    return middle, where, how


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_any_posture_and_speed_against_mujoco(seed):
    """The pelvis is held in place and only turns: it would move as the lower sole's point does, the other way."""
    rng = np.random.default_rng(seed)
    joint_pos, joint_vel = rng.uniform(joints.LOWER, joints.UPPER), rng.normal(0.0, 3.0, 29)
    euler, gyro = rng.uniform((-1.0, -1.0, -3.0), (1.0, 1.0, 3.0)), rng.normal(0.0, 2.0, 3)
    data = mujoco.MjData(MODEL)
    data.qpos[:3], data.qpos[3:7], data.qpos[7:36] = 0.0, euler_to_quat(euler), joint_pos
    data.qvel[3:6], data.qvel[6:35] = gyro, joint_vel
    mujoco.mj_kinematics(MODEL, data)
    mujoco.mj_comPos(MODEL, data)
    mujoco.mj_comVel(MODEL, data)
    middle, points, moved = moving_soles(data)
    heading = euler_to_matrix(np.array([0.0, 0.0, euler[2]]))  # level frame -> world
    height = -points[:, 2].min()
    gap = points[:, 2] + height
    weight = np.exp(-gap / 0.006) / np.exp(-gap / 0.006).sum()

    odometry = read(joint_pos, joint_vel, gyro, leaning(euler))
    np.testing.assert_allclose(heading @ odometry.velocity[0], -weight @ moved, atol=1e-6)
    np.testing.assert_allclose(odometry.foot_vel[0] @ heading.T, moved - weight @ moved, atol=1e-6)
    np.testing.assert_allclose(odometry.foot_pos[0] @ heading.T, middle, atol=1e-6)
    np.testing.assert_allclose(odometry.gap[0], gap, atol=1e-6)
    assert odometry.height[0] == pytest.approx(height, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_centre_of_mass_is_that_of_kinematics_seen_from_the_level_frame(seed):
    rng = np.random.default_rng(seed)
    joint_pos, euler = rng.uniform(joints.LOWER, joints.UPPER), rng.uniform(-0.8, 0.8, 3)
    com_w = quat_to_matrix(euler_to_quat(euler * [1.0, 1.0, 0.0])) @ kinematics.center_of_mass(joint_pos)
    np.testing.assert_allclose(read(joint_pos, gravity_b=leaning(euler)).com[0], com_w, atol=1e-9)


def test_many_robots_at_once_are_each_read_alone():
    rng = np.random.default_rng(1)
    joint_pos, joint_vel = rng.uniform(joints.LOWER, joints.UPPER, (5, 29)), rng.normal(0.0, 3.0, (5, 29))
    gyro, gravity_b = rng.normal(0.0, 2.0, (5, 3)), leaning(rng.uniform(-0.8, 0.8, (5, 3)))
    poses = kinematics.limb_poses(joint_pos)
    kept = poses.copy()
    together = in_rows(leg_odometry(poses, joint_vel, gyro, gravity_b), 5)
    np.testing.assert_array_equal(poses, kept)
    for row in range(5):
        alone = read(joint_pos[row], joint_vel[row], gyro[row], gravity_b[row])
        for name, value in vars(alone).items():
            np.testing.assert_allclose(getattr(together, name)[row], value[0], atol=1e-12, err_msg=name)
