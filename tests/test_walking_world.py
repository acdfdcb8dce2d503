"""The training's world: what robots are told, what is done to them, and that a mirrored robot lives a mirrored life."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neon_sim.g1 import joints
from neon_sim.g1.geometry import euler_to_quat, quat_to_matrix
from neon_sim.locomotion import gait
from neon_sim.locomotion.posture import HEIGHT_RANGE
from neon_sim.locomotion.stepper import (
    ACTION_SIZE,
    LAYOUT,
    OBSERVATION_SIZE,
    OWN,
    Stepper,
    mirror_action,
    mirror_observation,
)
from neon_sim.sim.batch import JOINT_BODIES, MOVING, Truth
from neon_sim.sim.noise import SensorNoise
from neon_sim.sim.randomize import NOMINAL
from neon_sim.walking.arms import ARMS, Arms
from neon_sim.walking.blows import PUNCH_STEPS, Blows
from neon_sim.walking.critic import CRITIC_SIZE, EXTRA_SIGN, EXTRA_SWAP, mirror_privileged
from neon_sim.walking.curriculum import Difficulty
from neon_sim.walking.orders import Orders
from neon_sim.walking.world import FORGIVING_S, Tally, WalkConfig, WalkWorld

SMALL = WalkConfig(count=8, models=2, threads=1)
QUIET = replace(
    SMALL,
    models=0,
    loaded=0.0,
    noise=SensorNoise(0.0, 0.0, 0.0, 0.0),
    delay_s=(0.0, 0.0),
    long_delays=0.0,
    free_waist=1.0,
)
CALM = Difficulty(push=0.0, punch=0.0, punched=0.0)
EXTRA = slice(OBSERVATION_SIZE, CRITIC_SIZE)
# Columns of the critic's extra.
VELOCITY, PELVIS_Z, PUNCH, PLACE, TORQUE = slice(0, 3), 6, slice(12, 15), slice(15, 18), slice(18, 21)
UNTIL, STEPS_LEFT, PUSH, DOWN, DELAY = 21, 23, slice(24, 26), slice(27, 29), 29


def make(config: WalkConfig = SMALL, difficulty: Difficulty = CALM, seed: int = 3) -> WalkWorld:
    world = WalkWorld(config, gait.START, seed)
    world.difficulty = difficulty
    return world


def nothing(world: WalkWorld) -> np.ndarray:
    return np.zeros((world.config.count, ACTION_SIZE))


# --- what they are told ---------------------------------------------------------------------------------------------


def standing_at(pos: tuple[float, float], yaw: float, count: int = 4) -> Truth:
    """`count` robots in one place, with nothing else of the truth in it."""
    zeros = [np.zeros((count, 3))] * (len(Truth._fields) - 2)
    pos_w, quat = np.tile([*pos, 0.75], (count, 1)), np.tile(euler_to_quat(np.array([0.0, 0.0, yaw])), (count, 1))
    return Truth(pos_w, quat, *zeros)


SPEED = (-0.6, 1.0, 0.4, 1.1)


@pytest.mark.parametrize(
    ("waypoint", "command"),
    [
        # At (1, 2) facing +y. Straight ahead by 0.3 m: 1.2 / s of it.
        ((1.0, 2.3, np.pi / 2), (0.36, 0.0, 0.0)),
        # 2 m away at world -x, which is to the left: the speed is limited to 0.5 m/s.
        ((-1.0, 2.0, np.pi / 2), (0.0, 0.5, 0.0)),
        # 3-4-5: 0.3 ahead, 0.4 to the right (world +x).
        ((1.4, 2.3, np.pi / 2), (0.3, -0.4, 0.0)),
        # On the spot, to turn by 0.2 rad: 1.5 / s of it.
        ((1.0, 2.0, np.pi / 2 + 0.2), (0.0, 0.0, 0.3)),
        # By 3 rad to the right, at most 1 rad/s.
        ((1.0, 2.0, np.pi / 2 - 3.0), (0.0, 0.0, -1.0)),
        # By 3.5 rad is by 2.78 the other way.
        ((1.0, 2.0, np.pi / 2 + 3.5), (0.0, 0.0, -1.0)),
        # There: 4.9 cm and 0.05 rad are near enough.
        ((1.0, 2.049, np.pi / 2 + 0.05), (0.0, 0.0, 0.0)),
        # Not there: the place is right, the heading is not.
        ((1.0, 2.01, np.pi / 2 + 0.1), (0.012, 0.0, 0.15)),
    ],
)
def test_followers_of_waypoints_are_steered_towards_them(waypoint, command):
    orders = Orders(4)
    orders.until[:], orders.command[:, 3], orders.waypoint[:] = 9.0, 0.7, waypoint
    orders.advance(standing_at((1.0, 2.0), np.pi / 2), SPEED, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(orders.follows, [False, False, True, True])
    np.testing.assert_allclose(orders.command[2:], np.tile([*command, 0.7], (2, 1)), atol=1e-9)
    np.testing.assert_array_equal(orders.command[:2, :3], 0.0)  # the others hear nothing new


def test_steering_keeps_to_what_is_asked_of_the_robot_so_far():
    orders = Orders(4)
    orders.until[:], orders.waypoint[:] = 9.0, (5.0, 0.0, 2.0)
    orders.advance(standing_at((0.0, 0.0), 0.0), (-0.1, 0.2, 0.1, 0.4), 0.0, np.random.default_rng(0))
    np.testing.assert_allclose(orders.command[2, :3], [0.2, 0.0, 0.4])


def test_orders_come_every_3_to_7_s_and_within_the_range():
    orders, rng = Orders(400), np.random.default_rng(0)
    orders.follows[:] = False
    orders.command[:, 3] = 0.7
    truth = standing_at((0.0, 0.0), 0.0, 400)
    orders.advance(truth, SPEED, 0.13, rng)  # all of them at once: they begin with no time left
    command = orders.command.copy()
    assert np.all((orders.until >= 3.0) & (orders.until <= 7.0))
    assert np.all((command[:, :3] >= (-0.6, -0.4, -1.1)) & (command[:, :3] <= (1.0, 0.4, 1.1)))
    assert command[:, 0].max() > 0.8 and command[:, 0].min() < -0.5 and np.ptp(command[:, 1]) > 0.7
    stand = ~command[:, :3].any(axis=1)
    assert 0.08 < stand.mean() < 0.19  # 13 %
    single = (np.count_nonzero(command[:, :3], axis=1) == 1).mean()
    assert 0.27 < single < 0.43  # 0.4 x 0.87
    other_height = command[:, 3] != 0.7
    assert 0.4 < other_height.mean() < 0.6
    assert np.all((command[:, 3] >= HEIGHT_RANGE[0]) & (command[:, 3] <= HEIGHT_RANGE[1]))
    orders.advance(truth, SPEED, 0.13, rng)
    np.testing.assert_array_equal(orders.command, command)


def test_a_new_robot_is_told_to_stay_where_it_is():
    orders = Orders(4)
    orders.command[:] = 1.0
    orders.reset(np.array([2]), np.array([[1.0, 2.0, 0.3]]), np.array([0.7]), np.random.default_rng(0))
    orders.until[[0, 1, 3]] = 9.0
    orders.until[2] += 0.05  # no new order yet
    orders.advance(standing_at((1.0, 2.0), 0.3), SPEED, 0.0, np.random.default_rng(0))
    np.testing.assert_allclose(orders.command[2], [0.0, 0.0, 0.0, 0.7], atol=1e-9)


# --- what arms do ---------------------------------------------------------------------------------------------------


def test_arms_go_to_their_goals_no_faster_than_allowed():
    arms, rng = Arms(50), np.random.default_rng(0)
    arms.reset(np.arange(50), np.tile(joints.HOME, (50, 1)), 0.8, rng)
    before = arms.targets.copy()
    for _ in range(100):
        arms.advance(2.0, rng)
        speed = np.abs(arms.targets - before) / 0.02
        assert speed[:, ARMS].max() <= 2.0 + 1e-9 and speed[:, 12:15].max() <= 0.8 + 1e-9
        before = arms.targets.copy()
    assert np.ptp(arms.targets[:, ARMS], axis=0).min() > 1.0  # every joint uses its range
    assert np.all((arms.targets >= joints.LOWER) & (arms.targets <= joints.UPPER))
    assert np.abs(arms.targets[:, 12:15]).max() <= 0.6


def test_one_step_of_an_arm_by_hand():
    arms = Arms(1)
    arms.until[:], arms.speed[:], arms.goal[0, 15] = 9.0, 0.5, joints.HOME[15] + 0.025
    for expected in (0.01, 0.02, 0.025, 0.025):
        arms.advance(2.5, np.random.default_rng(0))
        assert arms.targets[0, 15] - joints.HOME[15] == pytest.approx(expected)


def test_a_waist_obeys_who_owns_it():
    arms = Arms(2)
    arms.owns_waist[:] = 1.0, 0.0
    arms.targets[:, 12:15], arms.targets[:, 20] = 0.2, 0.7
    whole = arms.beside(np.full((2, 15), -0.5))
    np.testing.assert_array_equal(whole[:, :12], -0.5)
    np.testing.assert_array_equal(whole[:, 12:15], [[-0.5] * 3, [0.2] * 3])
    np.testing.assert_array_equal(whole[:, 20], 0.7)
    assert arms.targets[0, 12] == 0.2  # the arms' own memory is left alone


# --- what is done to them -------------------------------------------------------------------------------------------


def test_a_punch_lasts_four_steps_and_the_next_comes_1_2_to_4_5_s_later():
    blows, rng = Blows(3), np.random.default_rng(0)
    blows.until_punch[:] = 0.03, 9.0, 0.03
    allowed = np.array([True, True, False])
    began, acting = [], []
    for _ in range(8):
        began.append(blows.punch(np.full(3, 300.0), allowed, rng))
        acting.append(np.flatnonzero(blows.steps_left > 0).tolist())
    assert began == [0, 1, 0, 0, 0, 0, 0, 0]
    assert acting == [[], *[[0]] * PUNCH_STEPS, [], [], []]
    assert blows.since_punch[0] == pytest.approx(6 * 0.02) and blows.since_punch[1] > FORGIVING_S
    assert 1.2 <= blows.until_punch[0] + 6 * 0.02 + 1e-9 <= 4.5 + 2e-9


def test_a_punch_is_drawn_when_the_last_one_is_over():
    blows, rng = Blows(1), np.random.default_rng(0)
    blows.reset(np.array([0]), rng)
    blows.until_punch[:] = 0.01
    coming, body = blows.share_w.copy(), blows.body[0]
    assert 0.4 <= np.linalg.norm(coming) <= 1.0
    for _ in range(PUNCH_STEPS):
        blows.punch(np.array([200.0]), np.array([True]), rng)
        np.testing.assert_array_equal(blows.force_w, 200.0 * coming)
        assert blows.body[0] == body and blows.steps_left[0] > 0
    blows.punch(np.array([200.0]), np.array([True]), rng)
    assert blows.steps_left[0] == 0 and not np.array_equal(blows.share_w, coming)


def test_punches_have_every_direction_and_body_and_0_4_to_1_of_the_ceiling():
    blows, rng = Blows(600), np.random.default_rng(0)
    blows.reset(np.arange(600), rng)
    blows.until_punch[:] = 0.01
    assert blows.punch(np.full(600, 300.0), np.ones(600, dtype=bool), rng) == 600
    size = np.linalg.norm(blows.force_w, axis=1)
    assert 120.0 <= size.min() < 125.0 and 295.0 < size.max() <= 300.0
    assert np.abs((blows.force_w / size[:, None]).mean(axis=0)).max() < 0.1
    assert set(blows.body) == set(range(len(JOINT_BODIES)))


def test_where_nobody_punches_no_time_runs():
    blows = Blows(2)
    blows.until_punch[:] = 0.01
    assert blows.punch(np.zeros(2), np.ones(2, dtype=bool), np.random.default_rng(0)) == 0
    np.testing.assert_array_equal(blows.until_punch, 0.01)
    assert not blows.steps_left.any()


def test_pushes_come_every_2_to_6_s():
    blows, rng = Blows(200), np.random.default_rng(0)
    blows.reset(np.arange(200), rng)
    coming = 0.4 * blows.push_w
    blows.until_push[:] = np.where(np.arange(200) < 150, 0.01, 9.0)
    rows, velocity = blows.push(0.4, rng)
    np.testing.assert_array_equal(rows, np.arange(150))
    assert velocity.shape == (150, 2) and 0.35 < np.abs(velocity).max() <= 0.4
    np.testing.assert_array_equal(velocity, coming[:150])
    assert np.all((blows.until_push[:150] >= 2.0) & (blows.until_push[:150] <= 6.0))


def test_the_world_punches_who_it_says_while_the_critic_sees_it():
    world = make(replace(QUIET, count=4), Difficulty(push=0.0, punch=200.0, punched=0.5))
    world.blows.until_punch[:] = 0.01
    twin = make(replace(QUIET, count=4), CALM)
    seen = []
    for _ in range(6):
        world.step(nothing(world))
        twin.step(nothing(twin))
        extra = world.observe()[1][:, EXTRA]
        seen.append((np.linalg.norm(extra[:, PUNCH], axis=1) * 300.0, extra[:, STEPS_LEFT], extra[:, UNTIL]))
    # Half of them, the last ones first.
    sizes, left, until = np.array(seen).transpose(1, 0, 2)
    assert not sizes[:, :2].any() and np.all((sizes[:, 2:] >= 80.0) & (sizes[:, 2:] <= 200.0))
    np.testing.assert_allclose(sizes[:4, 2], sizes[0, 2])
    assert abs(sizes[4, 2] - sizes[3, 2]) > 0.1  # the next one is known as soon as this one is over
    np.testing.assert_array_equal(left[:, 2], [4, 3, 2, 1, 0, 0])
    assert not until[:, :2].any() and np.all(until[:, 2:] > 1.0)
    np.testing.assert_array_equal(world.physics.state[:2], twin.physics.state[:2])
    assert np.all(np.abs(world.physics.state[2:] - twin.physics.state[2:]).max(axis=1) > 1e-3)
    assert world.tally.punches == 2


def test_a_load_or_a_slope_halves_the_punches():
    world = make(replace(QUIET, models=4, slopes=1.0, max_slope=8.0), Difficulty(push=0.0, punch=200.0, punched=1.0))
    steep = np.rad2deg(np.arccos(-world.physics.down_w[:, 2])) > 3.0
    assert 0 < steep.sum() < 8
    np.testing.assert_array_equal(world.physics.burdened, steep)
    size = 300.0 * np.linalg.norm(world.observe()[1][:, EXTRA][:, PUNCH], axis=1)
    np.testing.assert_allclose(size, np.where(steep, 100.0, 200.0) * np.linalg.norm(world.blows.share_w, axis=1))


def test_the_critic_knows_where_a_punch_will_land_and_how_it_will_turn_the_robot():
    world = make(QUIET, Difficulty(push=0.3, punch=200.0, punched=1.0))
    world.blows.body[:] = JOINT_BODIES.index("left_ankle_roll_link")
    extra = np.where(world.stepper.mirrored[:, None], 0.0, world.observe()[1][:, EXTRA])
    lived = np.flatnonzero(~world.stepper.mirrored)
    assert len(lived) == 8
    np.testing.assert_allclose(extra[:, PLACE.start + 1], 0.118, atol=0.06)  # the foot is to the left
    np.testing.assert_allclose(-extra[:, PLACE.stop - 1], world.orders.command[:, 3] - 0.034, atol=0.02)  # and below
    np.testing.assert_allclose(extra[:, TORQUE], 2.0 * np.cross(extra[:, PLACE], extra[:, PUNCH]), atol=1e-12)
    size = np.linalg.norm(extra[:, PUSH], axis=1)
    np.testing.assert_allclose(size, 0.3 * np.linalg.norm(world.blows.push_w, axis=1))


def test_a_push_changes_the_pelvis_velocity_at_once():
    world, twin = make(QUIET, replace(CALM, push=0.5)), make(QUIET, CALM)
    world.blows.until_push[:] = twin.blows.until_push[:] = 9.0
    world.blows.until_push[5] = twin.blows.until_push[5] = 0.01
    world.step(nothing(world))
    twin.step(nothing(twin))
    jump = world.physics.truth().velocity_w - twin.physics.truth().velocity_w
    assert not np.delete(jump, 5, axis=0).any() and jump[5, 2] == 0.0
    assert 0.0 < np.abs(jump[5, :2]).max() <= 0.5


# --- episodes -------------------------------------------------------------------------------------------------------


def tip_over(world: WalkWorld, row: int) -> None:
    """Lay one robot on its back, at rest."""
    lying = euler_to_quat(np.array([0.0, -1.5, 0.0]))
    world.physics.place(np.array([row]), np.array([[0.3, 0.2, 0.2]]), lying[None], joints.HOME[None])


def test_a_fall_begins_one_robot_anew_and_leaves_the_others_alone():
    world, twin = make(), make()
    began = world.steps.copy()
    for _ in range(3):
        world.step(nothing(world))
        twin.step(nothing(twin))
    world.physics.delay[2] = twin.physics.delay[2] = 0
    tip_over(world, 2)
    outcome, other = world.step(nothing(world)), twin.step(nothing(twin))
    np.testing.assert_array_equal(outcome.fell, np.arange(8) == 2)
    assert not outcome.timed_out.any() and not other.fell.any()
    rest = np.arange(8) != 2
    np.testing.assert_array_equal(world.physics.state[rest], twin.physics.state[rest])
    np.testing.assert_array_equal(outcome.reward[rest], other.reward[rest])
    assert outcome.reward[2] < -5.0
    truth = world.physics.truth()
    np.testing.assert_array_equal(truth.pos_w[2, :2], 0.0)
    assert HEIGHT_RANGE[0] <= truth.pos_w[2, 2] - 0.005 <= HEIGHT_RANGE[1]
    np.testing.assert_array_equal(world.orders.command[2, :3], 0.0)
    np.testing.assert_array_equal(world.steps, np.where(rest, began + 4, 0))
    assert world.stepper.memory.phase[2] == gait.REST_PHASE and not world.stepper.memory.action[2].any()
    assert (world.tally.falls, world.tally.steps, twin.tally.falls) == (1, 4, 0)


def test_a_robot_whose_physics_breaks_down_begins_anew_and_spoils_nothing():
    world, before = make(QUIET), make(QUIET)
    start = 8 + len(MOVING)
    world.physics.state[2, start + 2] = 3e4  # m/s upward
    world.physics.state[5, start + 8] = 1e3  # rad/s of a joint
    outcome, healthy = world.step(nothing(world)), before.step(nothing(before))
    assert outcome.fell.tolist() == [row in (2, 5) for row in range(8)]
    assert not healthy.fell.any() and np.abs(healthy.reward).max() < 1.0
    assert np.abs(outcome.reward).max() <= 10.0 and (outcome.reward[[2, 5]] < -5.0).all()
    others = ~outcome.fell
    assert (outcome.reward[others] == healthy.reward[others]).all()
    observation, critic = world.observe()
    assert np.abs(observation[:, :80]).max() < 50.0 and np.isfinite(critic).all()
    assert np.linalg.norm(world.velocity(), axis=1).max() < 1.0


def test_episodes_do_not_all_end_together():
    world = make()
    assert len(set(world.steps.tolist())) == world.config.count and world.steps.max() < 1000


def test_time_runs_out_without_a_fall():
    world = make(replace(QUIET, episode_s=0.2))
    outcomes = [world.step(nothing(world)) for _ in range(10)]
    assert not any(outcome.fell.any() for outcome in outcomes)
    ended = np.array([outcome.timed_out for outcome in outcomes])
    np.testing.assert_array_equal(ended.sum(axis=0), 1)  # each robot once in as many steps as an episode has
    assert world.tally.falls == 0


def test_a_fall_in_the_last_step_is_a_fall():
    world = make(replace(QUIET, episode_s=0.02))
    tip_over(world, 3)
    outcome = world.step(nothing(world))
    np.testing.assert_array_equal(outcome.fell, np.arange(8) == 3)
    np.testing.assert_array_equal(outcome.timed_out, np.arange(8) != 3)


def test_delays_are_drawn_for_each_episode():
    world = make(replace(SMALL, count=400, models=0))
    delay = world.physics.delay
    assert set(delay) == set(range(7))  # in steps of 6.7 ms: 0 to 13 ms, and 20 to 40
    assert 0.04 < (delay >= 3).mean() < 0.13  # 8 % long ones
    short = make(replace(SMALL, count=100, models=0, long_delays=0.0, delay_s=(0.007, 0.014))).physics.delay
    assert set(short) == {1, 2}
    extra = world.observe()[1][:, EXTRA]
    np.testing.assert_allclose(extra[:, DELAY], 0.2 * delay)


def test_a_delayed_robot_moves_that_many_physics_steps_later():
    """With 20 ms of delay, three physics steps, the physics lags one control step behind the undelayed one."""
    states = []
    for delay_s in (0.0, 0.02):
        world = make(replace(QUIET, delay_s=(delay_s, delay_s)))
        world.arms.until[:], world.arms.goal[:] = 9.0, world.arms.targets
        world.arms.goal[:, 18] += 0.5
        first = world.physics.truth().joint_vel[:, 18]
        moved = []
        for _ in range(2):
            world.step(nothing(world))
            moved.append(np.abs(world.physics.truth().joint_vel[:, 18] - first).min())
        states.append(moved)
    prompt, late = states
    assert prompt[0] > 5 * late[0] and late[1] > 0.5 * prompt[0]


def test_the_waist_belongs_to_most_walkers():
    world = make(replace(SMALL, count=400, models=0))
    assert 0.72 < world.arms.owns_waist.mean() < 0.88
    seen = world.observe()[0][:, LAYOUT["owns_waist"].start]
    np.testing.assert_array_equal(seen, world.arms.owns_waist)


# --- what they see --------------------------------------------------------------------------------------------------


def test_on_a_slope_down_is_where_gravity_points():
    world = make(replace(QUIET, models=4, slopes=1.0, max_slope=8.0))
    truth, down_w = world.physics.truth(), world.physics.down_w
    assert np.abs(down_w[:, :2]).max() > 0.02
    seen = world.observe()[0][:, LAYOUT["gravity"]]
    for row in range(8):
        expected = quat_to_matrix(truth.quat_wxyz[row]).T @ down_w[row]
        np.testing.assert_allclose(seen[row], expected, atol=1e-12)
    yaw = np.arctan2(*truth.heading[::-1])
    uphill = world.observe()[1][:, EXTRA][:, DOWN]
    np.testing.assert_allclose(uphill[:, 0], np.cos(yaw) * down_w[:, 0] + np.sin(yaw) * down_w[:, 1], atol=1e-12)


def test_upright_is_against_gravity_and_not_across_the_floor():
    tilts = []
    for upright in (True, False):
        world = make(replace(QUIET, count=1, models=1, slopes=1.0, max_slope=8.0))
        down_w = world.physics.down_w[0]
        pitch, roll = -np.arcsin(down_w[0]), np.arctan2(down_w[1], -down_w[2])
        quat = euler_to_quat(np.array([roll, pitch, 0.0]) * float(upright))
        np.testing.assert_allclose(quat_to_matrix(quat) @ (0, 0, -1), down_w if upright else (0, 0, -1), atol=1e-3)
        joint_pos = world.physics.truth().joint_pos
        joint_pos[:, 12:15] = 0.0  # a bent waist would tilt the torso by itself
        world.physics.place(np.array([0]), np.array([[0.0, 0.0, 1.5]]), quat[None], joint_pos)
        world.step(nothing(world))
        tilts.append(world.tally.terms["tilt"])
        assert world.tally.terms["torso_tilt"] == pytest.approx(0.0 if upright else 1.0 + down_w[2], abs=2e-3)
    slope = np.square(world.physics.down_w[0, :2]).sum()
    assert slope > 1e-3
    np.testing.assert_allclose(tilts, [0.0, slope], atol=0.25 * slope)


def test_without_noise_the_observation_is_the_truth_and_with_noise_it_is_near():
    clean, noisy = make(QUIET).observe()[0], make(replace(QUIET, noise=SensorNoise())).observe()[0]
    truth = make(QUIET).physics.truth()
    np.testing.assert_array_equal(clean[:, LAYOUT["gyro"]], truth.gyro)
    spread = (noisy - clean)[:, LAYOUT["joint_vel"]].std()
    assert spread == pytest.approx(0.3, rel=0.2)
    assert (noisy - clean)[:, LAYOUT["gyro"]].std() == pytest.approx(0.05, rel=0.5)


def test_the_critic_reads_the_policys_observation_and_the_truth():
    world = make(QUIET)
    state = world.get_state()
    state["physics"]["state"][:, 31:34] = 0.3, -0.1, 0.2
    world.set_state(state)
    observation, critic = world.observe()
    assert observation.shape == (8, OBSERVATION_SIZE) and critic.shape == (8, CRITIC_SIZE)
    np.testing.assert_array_equal(critic[:, :OBSERVATION_SIZE], observation)
    extra, truth = critic[:, EXTRA], world.physics.truth()
    for row in range(8):
        cos, sin = (part[row] for part in truth.heading)
        ahead, left = cos * 0.3 - sin * 0.1, -sin * 0.3 - cos * 0.1
        np.testing.assert_allclose(extra[row, VELOCITY], [ahead, left, 0.2], atol=1e-12)
    np.testing.assert_array_equal(extra[:, PELVIS_Z], truth.pos_w[:, 2])


def test_mirroring_twice_changes_nothing():
    rng = np.random.default_rng(0)
    extra = rng.normal(size=(5, len(EXTRA_SIGN)))
    np.testing.assert_array_equal(mirror_privileged(mirror_privileged(extra)), extra)
    assert not np.array_equal(mirror_privileged(extra), extra)
    np.testing.assert_array_equal(EXTRA_SWAP[EXTRA_SWAP], np.arange(len(EXTRA_SWAP)))
    np.testing.assert_array_equal(np.abs(EXTRA_SIGN), 1.0)
    np.testing.assert_array_equal(EXTRA_SIGN[EXTRA_SWAP], EXTRA_SIGN)
    observation = rng.normal(size=(5, OBSERVATION_SIZE))
    np.testing.assert_array_equal(mirror_observation(mirror_observation(observation)), observation)


def mirror_vectors(vectors: np.ndarray, axial: bool = False) -> np.ndarray:
    return vectors * ((-1.0, 1.0, -1.0) if axial else (1.0, -1.0, 1.0))


def mirror_bodies() -> np.ndarray:
    other = {"left": "right", "right": "left"}
    names = ["_".join(other.get(part, part) for part in name.split("_")) for name in JOINT_BODIES]
    return np.array([JOINT_BODIES.index(name) for name in names])


def mirror_state(state: np.ndarray) -> np.ndarray:
    """(S,) time, qpos and qvel of a lean robot, seen in a mirror along the world's x and z."""
    moving = len(MOVING)
    pos, vel = slice(8, 8 + moving), slice(14 + moving, 14 + 2 * moving)
    mirrored = state.copy()
    mirrored[1:4] = mirror_vectors(state[1:4])
    mirrored[4:8] = state[4:8] * (1.0, -1.0, 1.0, -1.0)
    mirrored[8 + moving : 11 + moving] = mirror_vectors(state[8 + moving : 11 + moving])
    mirrored[11 + moving : 14 + moving] = mirror_vectors(state[11 + moving : 14 + moving], axial=True)
    for part in (pos, vel):
        whole = np.zeros(29)
        whole[MOVING] = state[part]
        mirrored[part] = joints.mirror(whole)[MOVING]
    return mirrored


def mirror_into(state: dict[str, Any], row: int, image: int) -> None:
    """Make one robot of a world's state the mirror image of another, half a cycle away on its clock."""
    physics, memory = state["physics"], state["stepper"]
    arms, orders, blows = (state["parts"][part] for part in ("arms", "orders", "blows"))
    for arrays in (memory, arms, orders, blows, state["rows"]):
        for values in arrays.values():
            values[image] = values[row]
    physics["state"][image] = mirror_state(physics["state"][row])
    physics["delay"][image] = physics["delay"][row]
    sensed = physics["sensed"]
    sensed[image] = sensed[row]
    for start in (0, 6, 12):  # positions, normals and velocities of left and right foot
        feet = sensed[row, :, start : start + 6].reshape(-1, 2, 3)
        sensed[image, :, start : start + 6] = mirror_vectors(feet[:, ::-1]).reshape(-1, 6)
    sensed[image, :, 18:21] = mirror_vectors(sensed[row, :, 18:21])
    sensed[image, :, 21:] = sensed[row, :, 22:20:-1]
    for age, sent in enumerate(physics["sent"][:, row]):
        whole = np.zeros(29)
        whole[MOVING] = sent
        physics["sent"][age, image] = joints.mirror(whole)[MOVING]
    memory["phase"][image] = (memory["phase"][row] + 0.5) % 1.0
    for name, sign in (("velocity", (1, -1, 1)), ("calm", (1, -1)), ("slow", (1, -1, -1))):
        memory[name][image] = memory[name][row] * sign
    for name in ("gravity", "com"):
        memory[name][image] = mirror_vectors(memory[name][row])
    memory["com_vel"][image] = mirror_vectors(memory["com_vel"][row])
    memory["gyro"][image] = mirror_vectors(memory["gyro"][row], axial=True)
    legs = joints.mirror(np.concatenate([memory["leg_vel"][row], np.zeros(17)]))
    memory["leg_vel"][image] = legs[:12]
    memory["action"][image] = mirror_action(memory["action"][row])
    arms["targets"][image] = joints.mirror(arms["targets"][row])
    arms["goal"][image] = joints.mirror(arms["goal"][row])
    arms["speed"][image] = np.abs(joints.mirror(arms["speed"][row]))
    orders["command"][image] = orders["command"][row] * (1, -1, -1, 1)
    blows["body"][image] = mirror_bodies()[blows["body"][row]]
    blows["force_w"][image] = mirror_vectors(blows["force_w"][row])
    blows["share_w"][image] = mirror_vectors(blows["share_w"][row])
    blows["push_w"][image] = blows["push_w"][row] * (1, -1)
    blows["until_push"][image] = blows["until_push"][row]
    rows, senses = state["rows"], state["senses"]
    rows["_slow"][image] = rows["_slow"][row] * (1, -1, -1)
    rows["_action"][image] = mirror_action(rows["_action"][row])
    for name in ("joint_pos", "joint_vel"):
        senses[name][image] = joints.mirror(senses[name][row])
    senses["gyro"][image] = mirror_vectors(senses["gyro"][row], axial=True)
    senses["gravity_b"][image] = mirror_vectors(senses["gravity_b"][row])


@pytest.mark.parametrize("lived", [20, 27])
def test_a_mirrored_robot_in_the_other_half_cycle_lives_a_mirrored_life(lived):
    """It sees the same, and so does its critic; the same action is the mirrored one and earns the same."""
    sloping = replace(QUIET, count=2, models=2, randomization=NOMINAL, slopes=1.0, max_slope=4.0)
    world = make(sloping, Difficulty(push=0.0, punch=120.0, punched=1.0))
    for model in world.physics.models:  # the dual solver takes contacts in turn and stops before left equals right
        model.opt.iterations = 100
    world.physics.down_w[1] = mirror_vectors(world.physics.down_w[0])
    world.physics.models[1].opt.gravity[:] = mirror_vectors(world.physics.models[0].opt.gravity)
    assert abs(world.physics.down_w[0, 1]) > 0.005
    world.follow_none()
    world.arms.owns_waist[:] = 1.0
    rng = np.random.default_rng(1)
    world.orders.until[:], world.blows.until_punch[:] = 9.0, lived * 0.02 - 0.03  # the punch is on when we look
    world.orders.command[:, :3] = 0.3, 0.1, 0.2
    for _ in range(lived):
        world.step(rng.normal(0.0, 0.2, (2, ACTION_SIZE)))
    assert world.tally.falls == 0 and world.blows.steps_left[0] > 0 and world.stepper.memory.amplitude[0] > 0.9
    state = world.get_state()
    state["parts"]["arms"]["until"][:] = state["parts"]["blows"]["until_punch"][:] = 9.0  # nothing new is drawn
    mirror_into(state, 0, 1)
    world.set_state(state)
    assert world.stepper.mirrored[0] != world.stepper.mirrored[1]
    critic = world.observe()[1]
    tolerance = np.full(CRITIC_SIZE, 1e-5)
    tolerance[LAYOUT["com"]], tolerance[LAYOUT["com_vel"]] = 1e-3, 1e-2  # the robot's masses are not quite symmetric,
    np.testing.assert_array_less(np.abs(critic[1] - critic[0]), tolerance)
    for _ in range(12):  # so that the two slowly part
        outcome = world.step(np.tile(rng.normal(0.0, 0.2, ACTION_SIZE), (2, 1)))
        assert outcome.reward[1] == pytest.approx(outcome.reward[0], abs=1e-3)
        critic = world.observe()[1]
        if not world.blows.steps_left.any():  # each will be punched in its own way
            critic[:, OBSERVATION_SIZE + PUNCH.start : OBSERVATION_SIZE + TORQUE.stop] = 0.0
        np.testing.assert_allclose(critic[1], critic[0], atol=0.05)
    assert world.tally.falls == 0


# --- states ---------------------------------------------------------------------------------------------------------


def live(world: WalkWorld, steps: int, seed: int) -> np.ndarray:
    rng, rows = np.random.default_rng(seed), []
    for _ in range(steps):
        seen = np.concatenate([np.ravel(part) for part in world.observe()])
        outcome = world.step(rng.normal(0.0, 0.4, (world.config.count, ACTION_SIZE)))
        rows.append(np.concatenate([seen, outcome.reward, outcome.fell, outcome.timed_out]))
    return np.array(rows)


def test_a_state_that_is_set_in_another_world_leads_to_the_same_bits():
    config = replace(SMALL, slopes=0.5, episode_s=1.0)
    world = make(config, Difficulty(punch=400.0, punched=1.0))
    world.blows.until_punch[:] = np.linspace(0.0, 2.0, 8)
    live(world, 60, 0)
    state = world.get_state()
    on = live(world, 60, 1)
    assert world.tally.falls > 0 and world.tally.punches > 1
    fresh = WalkWorld(config, gait.START, 3)  # another difficulty, and nothing lived
    fresh.set_state(state)
    np.testing.assert_array_equal(live(fresh, 60, 1), on)
    world.set_state(state)  # it was a copy
    np.testing.assert_array_equal(live(world, 60, 1), on)


def test_the_same_seed_gives_the_same_life_and_another_does_not():
    difficulty = Difficulty(punch=300.0)
    first, second, other = (live(make(SMALL, difficulty, seed), 30, 0) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_the_tally_counts_until_it_is_put_away():
    world = make(QUIET)
    for _ in range(5):
        world.step(nothing(world))
    assert world.tally.steps == 5 and world.tally.terms["alive"] == 5.0
    world.tally = Tally()
    world.step(nothing(world))
    assert world.tally.steps == 1 and world.tally.terms["alive"] == 1.0


def test_stepper_and_world_share_one_idea_of_the_body():
    """The observation of a world is the stepper's, fed by hand with the truth."""
    world = make(QUIET)
    truth = world.physics.truth()
    stepper = Stepper(8, gait.START)
    stepper.memory.height[:] = world.orders.command[:, 3]
    gravity = np.array([quat_to_matrix(quat).T @ (0.0, 0.0, -1.0) for quat in truth.quat_wxyz])
    by_hand = stepper.observe(truth.joint_pos, truth.joint_vel, truth.gyro, gravity, world.orders.command)
    np.testing.assert_allclose(world.observe()[0], by_hand, atol=1e-12)
    targets = world.arms.beside(stepper.targets(nothing(world)))
    np.testing.assert_array_equal(targets[:, OWN], stepper._base)
