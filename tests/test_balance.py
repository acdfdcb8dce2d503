"""The balance controller on the real model: it stands while arms move, takes pushes, and reads only what is sensed."""

from dataclasses import dataclass, replace

import mujoco
import numpy as np
import pytest

from neon_sim.g1 import joints, kinematics
from neon_sim.g1.geometry import gravity_in_body, normalize_quat, quat_to_euler
from neon_sim.locomotion.balance import CONTROL_DT, Balance
from neon_sim.locomotion.posture import HEIGHT_RANGE, crouch
from neon_sim.robot import RobotState
from neon_sim.sim.model import build_model, build_spec

ARMS, WAIST = joints.GROUPS["arms"], joints.GROUPS["waist"]
ARMS_OWNED = np.isin(np.arange(joints.NUM_JOINTS), ARMS)
STAND = np.array([0.0, 0.0, 0.0, joints.HOME_HEIGHT])
DTS = (0.002, 0.005)
MODELS = {dt: build_model(build_spec(), dt) for dt in DTS}
for _model in MODELS.values():
    _model.actuator_gainprm[:, 0], _model.actuator_biasprm[:, 1:3] = (
        joints.KP,
        -np.stack([joints.KP, joints.KD], axis=1),
    )


def sensed(data: mujoco.MjData) -> RobotState:
    quat = data.qpos[3:7].copy()
    return RobotState(
        time_s=data.time,
        joint_pos=data.qpos[7:36].copy(),
        joint_vel=data.qvel[6:35].copy(),
        joint_torque=data.actuator_force[:29].copy(),
        joint_target=data.ctrl[:29].copy(),
        quat_wxyz=quat,
        gyro=data.qvel[3:6].copy(),
        gravity_b=gravity_in_body(quat),
    )


class RandomArms:
    """Every 1.2 s new targets over 80 % of each joint's range, each joint at its own speed of 1 to 2 rad/s."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.targets = joints.HOME.copy()

    def __call__(self, step: int) -> np.ndarray:
        if step % 60 == 0:
            low, high = joints.LOWER[ARMS], joints.UPPER[ARMS]
            self.goal = low + (high - low) * self.rng.uniform(0.1, 0.9, len(ARMS))
            self.reach = CONTROL_DT * self.rng.uniform(1.0, 2.0, len(ARMS))
        self.targets[ARMS] += np.clip(self.goal - self.targets[ARMS], -self.reach, self.reach)
        return self.targets


class Reaching:
    """Every 2 s one palm goes to a point in front of the chest at 2 rad/s, the other arm home."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.targets = joints.HOME.copy()

    def __call__(self, step: int) -> np.ndarray:
        if step % 100 == 0:
            hand = int(self.rng.integers(2))
            pos_b = self.rng.uniform((0.2, 0.0, 0.05), (0.34, 0.16, 0.28)) * (1.0, 1.0 - 2.0 * hand, 1.0)
            self.goal = joints.HOME.copy()
            self.goal[kinematics.ARM_JOINTS[hand]] = kinematics.inverse_palm(joints.HOME, hand, pos_b)
        self.targets += np.clip(self.goal - self.targets, -2.0 * CONTROL_DT, 2.0 * CONTROL_DT)
        return self.targets


@dataclass
class Track:
    """What happened, one row per control step."""

    base_pos: np.ndarray  # (T, 3) m
    base_euler: np.ndarray  # (T, 3) rad
    joint_pos: np.ndarray  # (T, 29) rad

    @property
    def fell(self) -> bool:
        return bool(self.base_pos[:, 2].min() < 0.6 or np.abs(self.base_euler[:, :2]).max() > 0.5)

    @property
    def sway(self) -> float:
        """m, RMS distance of the pelvis from its mean place over the floor, the first second left out."""
        xy = self.base_pos[50:, :2]
        return float(np.sqrt(np.square(xy - xy.mean(axis=0)).sum(axis=1).mean()))


def stand(
    seconds, dt=0.005, arms=lambda step: joints.HOME, push_w=None, mask=ARMS_OWNED, command=STAND, model=None
) -> Track:
    """Let the balance stand; `push_w` (3,) N acts on the torso for 0.1 s after the first second."""
    model = model or MODELS[dt]
    data = mujoco.MjData(model)
    data.qpos[2], data.qpos[7:36] = joints.HOME_HEIGHT, joints.HOME
    mujoco.mj_forward(model, data)
    balance, torso = Balance(), model.body("torso_link").id
    rows = []
    for step in range(round(seconds / CONTROL_DT)):
        data.ctrl[:29] = balance.step(sensed(data), command, mask, arms(step))
        data.xfrc_applied[torso, :3] = push_w if push_w is not None and 50 <= step < 55 else 0.0
        mujoco.mj_step(model, data, nstep=round(CONTROL_DT / dt))
        rows.append(np.concatenate([data.qpos[:3], quat_to_euler(data.qpos[3:7]), data.qpos[7:36]]))
        if data.qpos[2] < 0.5:
            break
    table = np.array(rows)
    return Track(table[:, :3], table[:, 3:6], table[:, 6:])


@pytest.mark.parametrize(("dt", "seconds"), [(0.005, 60.0), (0.002, 20.0)])
def test_stands_while_both_arms_move_at_random(dt, seconds):
    arms, asked = RandomArms(seed=0), []

    def remembered(step: int) -> np.ndarray:
        asked.append(arms(step).copy())
        return asked[-1]

    track = stand(seconds, dt, remembered)
    assert not track.fell and len(track.base_pos) == round(seconds / CONTROL_DT)
    span = (joints.UPPER - joints.LOWER)[ARMS]
    assert (np.ptp(asked, axis=0)[ARMS] / span).min() > 0.5
    assert (np.ptp(track.joint_pos[:, ARMS], axis=0) / span).min() > 0.3  # trunk and legs are in the way of some
    assert track.sway < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("dt", DTS)
@pytest.mark.parametrize("seed", range(1, 6))
def test_stands_a_minute_on_other_seeds(dt, seed):
    assert not stand(60.0, dt, RandomArms(seed)).fell


@pytest.mark.parametrize("dt", DTS)
@pytest.mark.parametrize("degrees", range(0, 360, 45))
def test_takes_a_push_from_any_side(dt, degrees):
    angle = np.radians(degrees)
    track = stand(4.0, dt, push_w=40.0 * np.array([np.cos(angle), np.sin(angle), 0.0]))
    before, after = track.base_pos[49, :2], track.base_pos[-1, :2]
    assert not track.fell
    assert np.linalg.norm(track.base_pos[50:, :2] - before, axis=1).max() > 0.01  # it felt the push
    assert np.linalg.norm(after - before) < 0.01  # and came back


def test_the_pelvis_stays_while_hands_reach():
    track = stand(10.0, arms=Reaching(seed=3))
    assert track.sway < 0.008
    assert np.linalg.norm(track.base_pos[-1, :2] - track.base_pos[50, :2]) < 0.02


def test_stands_still_when_nothing_moves():
    track = stand(5.0)
    assert track.sway < 0.001
    np.testing.assert_allclose(track.base_pos[-1, 2], joints.HOME_HEIGHT, atol=0.003)
    np.testing.assert_allclose(track.base_euler[-1], 0.0, atol=0.01)


def test_stands_while_someone_else_turns_the_waist():
    arms = RandomArms(seed=6)

    def turning(step: int) -> np.ndarray:
        targets = arms(step)
        targets[WAIST[0]] = 0.5 * np.sin(0.8 * step * CONTROL_DT)
        return targets

    track = stand(16.0, arms=turning, mask=ARMS_OWNED | np.isin(np.arange(29), WAIST))
    assert not track.fell
    assert np.ptp(track.joint_pos[:, WAIST[0]]) > 0.9


def test_a_weak_shoulder_does_not_bring_it_down():
    model = build_model(build_spec(), 0.005)
    model.actuator_gainprm[:], model.actuator_biasprm[:] = (
        MODELS[0.005].actuator_gainprm,
        MODELS[0.005].actuator_biasprm,
    )
    for name in ("left_shoulder_pitch_joint", "right_shoulder_roll_joint"):
        model.actuator_gainprm[joints.JOINT_INDEX[name], 0] *= 0.1
        model.actuator_biasprm[joints.JOINT_INDEX[name], 1] *= 0.1
    assert not stand(15.0, arms=RandomArms(seed=7), model=model).fell


@pytest.mark.parametrize("height", [0.70, 0.76])
def test_follows_the_height_command(height):
    track = stand(4.0, command=np.array([0.0, 0.0, 0.0, height]))
    assert not track.fell
    assert track.base_pos[-1, 2] == pytest.approx(height, abs=0.005)


@pytest.mark.parametrize("height", np.linspace(*HEIGHT_RANGE, 7))
def test_crouching_keeps_the_feet_flat_and_under_the_pelvis(height):
    home = kinematics.stance(joints.HOME)
    low = kinematics.stance(np.concatenate([crouch(height), joints.HOME[15:]]))
    np.testing.assert_allclose(low.sole_pos[:, :2], home.sole_pos[:, :2], atol=1e-3)
    np.testing.assert_allclose(home.sole_pos[:, 2] - low.sole_pos[:, 2], height - joints.HOME_HEIGHT, atol=1e-3)
    np.testing.assert_allclose(low.sole_matrix[:, 2, 2], 1.0, atol=1e-9)


def random_state(seed: int) -> RobotState:
    """A body near home, leaning, turning and moving."""
    rng = np.random.default_rng(seed)
    quat = normalize_quat(np.append(1.0, rng.normal(0, 0.03, 3)))
    return RobotState(
        time_s=1.0,
        joint_pos=joints.HOME + rng.normal(0, 0.05, 29),
        joint_vel=rng.normal(0, 0.3, 29),
        joint_torque=rng.normal(0, 5.0, 29),
        joint_target=joints.HOME.copy(),
        quat_wxyz=quat,
        gyro=rng.normal(0, 0.1, 3),
        gravity_b=gravity_in_body(quat),
    )


def act(balance: Balance, state: RobotState, command=STAND, mask=ARMS_OWNED, external=joints.HOME, residual=None):
    """One step, standing with the arms at home unless told otherwise."""
    return balance.step(state, command, mask, external, residual)


def test_reads_nothing_but_encoders_and_imu():
    full = random_state(0)
    blank = replace(full, time_s=np.nan, joint_torque=np.full(29, np.nan), joint_target=np.full(29, np.nan))
    plain = act(Balance(), full)
    assert np.all(np.isfinite(plain))
    np.testing.assert_array_equal(act(Balance(), blank), plain)


@pytest.mark.parametrize("name", ["joint_pos", "joint_vel", "gyro", "gravity_b"])
def test_each_sense_matters(name):
    full = random_state(1)
    at_rest = {
        "joint_pos": joints.HOME,
        "joint_vel": np.zeros(29),
        "gyro": np.zeros(3),
        "gravity_b": np.array([0.0, 0, -1]),
    }
    numb = replace(full, **{name: at_rest[name]})
    difference = act(Balance(), full) - act(Balance(), numb)
    assert np.abs(difference).max() > 1e-3


def test_heading_is_held_and_yaw_of_switch_on_does_not_matter():
    heading = np.array([np.cos(0.4), 0.0, 0.0, np.sin(0.4)])
    turned = replace(random_state(2), quat_wxyz=heading)
    north = replace(turned, quat_wxyz=np.array([1.0, 0, 0, 0]))
    further_left = replace(turned, quat_wxyz=normalize_quat(heading + [0, 0, 0, 0.1]))
    balance = Balance()
    first = act(balance, turned)
    np.testing.assert_array_equal(first, act(Balance(), north))
    later = [act(balance, further_left) for _ in range(20)]
    # Turned left of its heading, it turns its feet left against the pelvis: hip yaw targets rise.
    assert later[-1][2] > first[2] + 1e-3 and later[-1][8] > first[8] + 1e-3
    # Far off it, say after a fight with a table, the feet have slipped and there is nothing to go back to.
    np.testing.assert_allclose(act(balance, north), first, atol=1e-2)
    assert balance.get_state()["twist"] == 0.0


def test_the_mirror_image_gets_the_mirror_image_of_the_targets():
    state = random_state(3)
    w, x, y, z = state.quat_wxyz
    other = replace(
        state,
        joint_pos=joints.mirror(state.joint_pos),
        joint_vel=joints.mirror(state.joint_vel),
        quat_wxyz=np.array([w, -x, y, -z]),
        gyro=state.gyro * [-1, 1, -1],
        gravity_b=state.gravity_b * [1, -1, 1],
    )
    targets = act(Balance(), state)
    mirrored = act(Balance(), other)
    # The links of the two sides differ by hundredths of a millimetre.
    np.testing.assert_allclose(joints.mirror(mirrored), targets, atol=5e-3)


def test_owned_joints_pass_through_and_the_rest_is_the_walkers():
    wanted = np.linspace(-0.4, 0.4, 29)
    kept = wanted.copy()
    targets = act(Balance(), random_state(4), STAND, ARMS_OWNED, wanted)
    np.testing.assert_array_equal(targets[ARMS], wanted[ARMS])
    assert not np.any(targets[:15] == wanted[:15])
    everything = act(Balance(), random_state(4), STAND, np.ones(29, dtype=bool), wanted)
    np.testing.assert_array_equal(everything, wanted)
    everything[:] = 0.0
    np.testing.assert_array_equal(wanted, kept)


def test_residual_is_added_where_the_walker_commands():
    residual = np.full(29, 0.01)
    plain = act(Balance(), random_state(5))
    moved = act(Balance(), random_state(5), STAND, ARMS_OWNED, joints.HOME, residual)
    np.testing.assert_allclose(moved - plain, np.where(ARMS_OWNED, 0.0, 0.01), atol=1e-12)


def test_saved_state_continues_to_the_bit():
    states = [random_state(seed) for seed in range(20)]
    low = np.array([0.0, 0.0, 0.0, 0.7])
    balance, other = Balance(), Balance()
    balance.take_over(states[0].joint_pos, states[0].gravity_b, 0.72)
    for state in states[:10]:
        act(balance, state, low, ARMS_OWNED, joints.HOME)
    saved = balance.get_state()
    expected = [act(balance, state, low, ARMS_OWNED, joints.HOME) for state in states[10:]]
    other.set_state(saved)
    np.testing.assert_array_equal([act(other, state, low, ARMS_OWNED, joints.HOME) for state in states[10:]], expected)
    balance.reset()
    fresh = [act(balance, state, low, ARMS_OWNED, joints.HOME) for state in states[10:]]
    assert not np.array_equal(fresh, expected)  # so there was something to save
    other.set_state(saved)
    np.testing.assert_array_equal(act(other, states[10], low, ARMS_OWNED, joints.HOME), expected[0])


@pytest.mark.parametrize("seed", range(4))
def test_the_posture_that_it_takes_over_becomes_level_over_feet_that_stay(seed):
    rng = np.random.default_rng(seed)
    joint_pos = joints.HOME.copy()
    joint_pos[:15] = crouch(0.74)
    joint_pos[:12] += rng.uniform(-0.1, 0.1, 12)
    gravity_b = gravity_in_body(normalize_quat(np.array([1.0, *rng.uniform(-0.05, 0.05, 3)])))
    balance = Balance()
    balance.take_over(joint_pos, gravity_b, 0.74)
    state = balance.get_state()
    level_pos = joint_pos.copy()
    level_pos[:15] = crouch(0.74) + state["astride"]
    np.testing.assert_allclose(level_pos[:12] + state["bent"][:12], joint_pos[:12], atol=1e-12)
    before, after = kinematics.stance(joint_pos), kinematics.stance(level_pos)
    # Down as the IMU says and forward as the feet point make the level frame: there the feet are where they were.
    forward = before.sole_matrix[:, :, 0].sum(axis=0)
    forward -= gravity_b * (forward @ gravity_b)
    forward /= np.linalg.norm(forward)
    frame = np.stack([forward, np.cross(-gravity_b, forward), -gravity_b])
    apart = (before.sole_pos[0] - before.sole_pos[1]) @ frame.T
    np.testing.assert_allclose(after.sole_pos[0] - after.sole_pos[1], apart, atol=2e-3)
    np.testing.assert_allclose(after.sole_matrix, frame @ before.sole_matrix, atol=5e-3)
    home = kinematics.stance(joints.HOME).sole_pos.mean(axis=0)
    np.testing.assert_allclose(after.sole_pos.mean(axis=0)[:2], home[:2], atol=2e-3)


def test_targets_stay_finite_in_any_posture():
    rng = np.random.default_rng(8)
    balance = Balance()
    for _ in range(200):
        quat = normalize_quat(rng.normal(size=4))
        state = replace(
            random_state(0),
            joint_pos=rng.uniform(joints.LOWER, joints.UPPER),
            quat_wxyz=quat,
            gravity_b=gravity_in_body(quat),
        )
        targets = act(balance, state)
        offset = np.abs(targets[:15] - crouch(joints.HOME_HEIGHT)) * joints.KP[:15]
        assert np.all(offset <= joints.EFFORT[:15] + 1e-9)  # no more torque asked for than the motors have


def test_it_says_that_it_cannot_follow_a_velocity():
    np.testing.assert_array_equal(Balance.max_velocity, np.zeros(3))
    standing = act(Balance(), random_state(6))
    walking = act(Balance(), random_state(6), STAND + [0.5, 0.2, 0.3, 0.0], ARMS_OWNED, joints.HOME)
    np.testing.assert_array_equal(walking, standing)
