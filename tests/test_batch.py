"""Many lean robots at once: each steps like MuJoCo's own loop, and what is done to one of them is done to that one."""

import mujoco
import numpy as np
import pytest

from neon_sim.g1 import joints
from neon_sim.g1.geometry import euler_to_quat
from neon_sim.g1.kinematics import GRAVITY, TOTAL_MASS, stance
from neon_sim.sim.batch import JOINT_BODIES, MAX_DELAY, MOVING, WELDED, BatchPhysics
from neon_sim.sim.randomize import NOMINAL, TRAINING

STATE = int(mujoco.mjtState.mjSTATE_FULLPHYSICS)
NOBODY = (np.empty(0, dtype=int), np.empty(0, dtype=int), np.empty((0, 3)))
WEIGHT = TOTAL_MASS * GRAVITY  # 327.08 N


def robots(count: int = 2, models: int = 0, threads: int = 1, slopes: float = 0.0) -> BatchPhysics:
    randomization = TRAINING if models else NOMINAL
    physics = BatchPhysics(count, models, randomization, 0.0, slopes, 8.0, np.random.default_rng(0), threads=threads)
    put(physics, joints.HOME_HEIGHT)
    return physics


def put(physics: BatchPhysics, height: float) -> None:
    """Everybody in the home pose, pelvis at `height` m."""
    count = physics.count
    everybody, upright = np.arange(count), np.tile([1.0, 0.0, 0.0, 0.0], (count, 1))
    physics.place(everybody, np.tile([0.0, 0.0, height], (count, 1)), upright, home(count))


def home(count: int) -> np.ndarray:
    return np.tile(joints.HOME, (count, 1))


def at(physics: BatchPhysics, row: int) -> mujoco.MjData:
    """MuJoCo's own view of one robot's state."""
    model = physics.models[row]
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, physics.state[row], STATE)
    mujoco.mj_forward(model, data)
    mujoco.mj_subtreeVel(model, data)
    return data


def test_the_lean_robot_weighs_the_same_and_touches_with_its_soles_only():
    physics = robots()
    model = physics.models[0]
    assert model.body_mass.sum() == pytest.approx(TOTAL_MASS, abs=1e-9)
    assert (model.ngeom, model.nu, model.nv) == (1 + 8, 29 - 6, 6 + 29 - 6)  # floor, four spheres a foot
    assert [model.joint(i).name for i in range(1, model.njnt)] == [joints.JOINT_NAMES[i] for i in MOVING]
    assert set(WELDED) == {joints.JOINT_NAMES[i] for i in (19, 20, 21, 26, 27, 28)}
    np.testing.assert_allclose(model.actuator_gainprm[:, 0], joints.KP[MOVING])
    np.testing.assert_allclose(model.actuator_biasprm[:, 2], -joints.KD[MOVING])
    assert len(JOINT_BODIES) == 29 and [model.body(i).name for i in physics.body_index] == list(JOINT_BODIES)


def test_every_robot_steps_as_mujoco_alone_would():
    physics = robots(count=3, models=3, threads=2)
    rng = np.random.default_rng(1)
    datas = [at(physics, row) for row in range(3)]
    for _ in range(20):
        targets = home(3) + rng.normal(0.0, 0.1, (3, 29))
        physics.step(targets, *NOBODY)
        for model, data, target in zip(physics.models, datas, targets, strict=True):
            data.qacc_warmstart[:] = 0.0  # as each call of mujoco.rollout begins
            data.ctrl[:] = target[MOVING]
            mujoco.mj_step(model, data, nstep=3)
    truth = physics.truth()
    for row, data in enumerate(datas):
        np.testing.assert_array_equal(physics.state[row, 1:31], data.qpos)
        np.testing.assert_array_equal(truth.gyro[row], data.qvel[3:6])
        np.testing.assert_array_equal(truth.joint_pos[row, MOVING], data.qpos[7:])
        np.testing.assert_array_equal(truth.joint_vel[row, MOVING], data.qvel[6:])
    assert not np.array_equal(physics.state[0], physics.state[1])


def test_what_is_welded_reads_home():
    physics = robots(count=1)
    physics.step(home(1) + 0.3, *NOBODY)
    truth = physics.truth()
    assert np.all(truth.joint_pos[0, [19, 20, 21, 26, 27, 28]] == joints.HOME[[19, 20, 21, 26, 27, 28]])
    assert not truth.joint_vel[0, [19, 20, 21, 26, 27, 28]].any()


def test_feet_are_where_kinematics_says_and_carry_the_weight():
    physics = robots()
    for _ in range(16):
        physics.step(home(2), *NOBODY)
    truth = physics.truth()
    expected = stance(truth.joint_pos[0]).sole_pos + (0.0, 0.0, truth.pos_w[0, 2])
    np.testing.assert_allclose(truth.foot_pos_w[0, :, 1], expected[:, 1], atol=0.003)  # the pelvis leans a little
    np.testing.assert_allclose(truth.foot_pos_w[0, :, 2], 0.0, atol=0.004)
    assert truth.foot_pos_w[0, 0, 1] > 0.1 > -0.1 > truth.foot_pos_w[0, 1, 1]  # left is first
    assert truth.foot_force[0].sum() == pytest.approx(WEIGHT, rel=0.02)
    np.testing.assert_allclose(truth.foot_up_w[0], [[0, 0, 1], [0, 0, 1]], atol=0.01)
    assert truth.torso_up_w[0, 2] > 0.99


@pytest.mark.parametrize("lifted", [0, 1])
def test_the_foot_that_is_lifted_is_the_one_without_a_load(lifted):
    physics = robots(count=1)
    posture = home(1)
    hip, knee, ankle = 6 * lifted, 6 * lifted + 3, 6 * lifted + 4
    posture[0, [hip, knee, ankle]] = -0.5, 1.0, -0.5
    upright = np.array([[1.0, 0.0, 0.0, 0.0]])
    physics.place(np.array([0]), np.array([[0.0, 0.0, joints.HOME_HEIGHT]]), upright, posture)
    physics.step(posture, *NOBODY)
    truth = physics.truth()
    assert truth.foot_force[0, lifted] == 0.0 < truth.foot_force[0, 1 - lifted]
    assert truth.foot_pos_w[0, lifted, 2] > 0.05 > truth.foot_pos_w[0, 1 - lifted, 2]


def test_feet_in_the_air_move_and_carry_nothing():
    physics = robots(count=1)
    put(physics, 2.0)
    physics.push(np.array([0]), np.array([[0.3, -0.2]]))
    physics.step(home(1), *NOBODY)
    truth = physics.truth()
    assert not truth.foot_force.any()
    np.testing.assert_allclose(truth.foot_vel_w[0, :, 0], 0.3, atol=0.02)
    np.testing.assert_allclose(truth.foot_vel_w[0, :, 2], -GRAVITY * 0.04 / 3.0, atol=0.01)  # the last step's beginning


@pytest.mark.parametrize(
    ("euler", "heading"),
    [((0.0, 0.0, 0.7), 0.7), ((0.2, -0.3, -2.5), -2.5), ((0.0, 0.4, 3.0), 3.0)],
)
def test_heading_is_yaw_whatever_the_tilt(euler, heading):
    physics = robots(count=1)
    physics.place(np.array([0]), np.zeros((1, 3)), euler_to_quat(np.array(euler))[None], home(1))
    cos, sin = physics.truth().heading
    np.testing.assert_allclose([cos[0], sin[0]], [np.cos(heading), np.sin(heading)], atol=1e-12)


@pytest.mark.parametrize("delay", range(MAX_DELAY * 3 + 1))
def test_a_target_reaches_the_motors_that_many_physics_steps_later(delay):
    physics = robots(count=1)
    physics.set_delay(np.array([0]), np.array([delay]))
    data, model = at(physics, 0), physics.models[0]
    new = home(1)
    new[0, 3] += 0.3
    for control_step in range(3):
        physics.step(new, *NOBODY)
        data.qacc_warmstart[:] = 0.0
        for substep in range(3):
            arrived = 3 * control_step + substep >= delay
            data.ctrl[:] = (new if arrived else home(1))[0, MOVING]
            mujoco.mj_step(model, data)
        np.testing.assert_array_equal(physics.state[0, 1:31], data.qpos)


def test_a_robot_that_is_placed_forgets_the_targets_on_their_way():
    physics, fresh = robots(count=1), robots(count=1)
    physics.set_delay(np.array([0]), np.array([6]))
    fresh.set_delay(np.array([0]), np.array([6]))
    for _ in range(3):
        physics.step(home(1) + 0.4, *NOBODY)
    put(physics, joints.HOME_HEIGHT)
    for _ in range(2):
        physics.step(home(1), *NOBODY)
        fresh.step(home(1), *NOBODY)
    np.testing.assert_array_equal(physics.state, fresh.state)


@pytest.mark.parametrize("body", ["torso_link", "left_hip_pitch_link", "right_knee_link"])
def test_a_punch_changes_momentum_by_force_times_time_where_it_lands(body):
    physics = robots()
    put(physics, 2.0)  # in the air, so that nothing else does
    force_w = np.array([[100.0, -50.0, 30.0]])
    index = JOINT_BODIES.index(body)
    before = at(physics, 1)
    lever = before.xipos[physics.body_index[index]] - before.subtree_com[1]
    physics.step(home(2), np.array([1]), np.array([index]), force_w)
    free, hit = at(physics, 0), at(physics, 1)
    gained = TOTAL_MASS * (hit.subtree_linvel[1] - free.subtree_linvel[1])
    np.testing.assert_allclose(gained, [2.0, -1.0, 0.6], atol=0.05)  # N s in 0.02 s
    # And angular momentum by the same with a lever: another body would have another.
    turned = hit.subtree_angmom[1] - free.subtree_angmom[1]
    np.testing.assert_allclose(turned, np.cross(lever, force_w[0]) * 0.02, atol=0.03)


def test_a_punch_acts_in_its_step_only():
    physics = robots()
    put(physics, 2.0)
    physics.step(home(2), np.array([1]), np.array([14]), np.array([[0.0, 200.0, 0.0]]))
    speed = at(physics, 1).subtree_linvel[1, 1]
    assert speed == pytest.approx(4.0 / TOTAL_MASS, rel=0.02)
    physics.step(home(2), *NOBODY)
    assert at(physics, 1).subtree_linvel[1, 1] == pytest.approx(speed, rel=0.02)
    physics.step(home(2), np.array([0]), np.array([14]), np.array([[0.0, 200.0, 0.0]]))  # now somebody else
    assert at(physics, 1).subtree_linvel[1, 1] == pytest.approx(speed, rel=0.02)
    assert at(physics, 0).subtree_linvel[1, 1] == pytest.approx(speed, rel=0.02)


def test_a_push_is_a_jump_of_one_pelvis_velocity():
    physics = robots(count=3)
    before = physics.state.copy()
    physics.push(np.array([1]), np.array([[0.25, -0.5]]))
    np.testing.assert_array_equal(physics.truth().velocity_w, [[0, 0, 0], [0.25, -0.5, 0], [0, 0, 0]])
    assert np.count_nonzero(physics.state != before) == 2


def test_models_differ_are_dealt_out_in_turn_and_the_ground_is_known():
    physics = robots(count=5, models=3, slopes=1.0)
    assert physics.models[0] is physics.models[3] and physics.models[1] is physics.models[4]
    masses = [model.body_mass.sum() for model in physics.models[:3]]
    assert len(set(masses)) == 3
    assert len(set(physics.friction[:3])) == 3 and np.all((physics.friction >= 0.4) & (physics.friction <= 1.2))
    np.testing.assert_allclose(np.linalg.norm(physics.down_w, axis=1), 1.0)
    degrees = np.rad2deg(np.arccos(-physics.down_w[:, 2]))
    assert np.all(degrees <= 8.0) and degrees[:3].max() > 1.0
    for row, model in enumerate(physics.models):
        np.testing.assert_allclose(model.opt.gravity, GRAVITY * physics.down_w[row])


def test_without_models_everybody_is_the_nominal_robot_on_level_ground():
    physics = robots(count=2, slopes=1.0)
    assert physics.models[0] is physics.models[1] and physics.friction[0] == pytest.approx(0.6)
    np.testing.assert_array_equal(physics.down_w, [[0, 0, -1], [0, 0, -1]])


def run(physics: BatchPhysics, rng: np.random.Generator, steps: int) -> np.ndarray:
    rows = []
    for _ in range(steps):
        punch = (np.array([1]), rng.integers(29, size=1), rng.normal(0.0, 100.0, (1, 3)))
        physics.step(home(3) + rng.normal(0.0, 0.2, (3, 29)), *punch)
        rows.append(np.concatenate([np.ravel(part) for part in physics.truth()]))
    return np.array(rows)


def test_a_state_that_is_set_leads_to_the_same_bits():
    physics = robots(count=3, models=2, threads=2)
    physics.set_delay(np.arange(3), np.array([0, 2, 6]))
    run(physics, np.random.default_rng(0), 5)
    state = physics.get_state()
    on = run(physics, np.random.default_rng(1), 10)
    other = robots(count=3, models=2, threads=1)
    other.set_state(state)
    np.testing.assert_array_equal(run(other, np.random.default_rng(1), 10), on)
    physics.set_state(state)  # the state is a copy: running on has not changed it
    np.testing.assert_array_equal(run(physics, np.random.default_rng(1), 10), on)
