"""Each term of the walking reward where a person can work it out, and how punched robots and novices are spared."""

from dataclasses import fields, replace

import numpy as np
import pytest

from neon_sim.g1 import joints
from neon_sim.g1.geometry import euler_to_quat
from neon_sim.g1.kinematics import GRAVITY, TOTAL_MASS
from neon_sim.locomotion.posture import crouch
from neon_sim.sim.batch import Truth
from neon_sim.walking.rewards import FORGIVEN, GENTLE, STRICT, RewardWeights, Step, reward_terms, total_reward

WEIGHT = TOTAL_MASS * GRAVITY
HEIGHT = 0.75
STANDING = crouch(HEIGHT)


def still_truth() -> Truth:
    """One robot that stands 0.75 m high, feet 0.24 m apart, half the weight on each."""
    joint_pos = joints.HOME.copy()[None]
    joint_pos[0, :15] = STANDING
    return Truth(
        pos_w=np.array([[0.0, 0.0, HEIGHT]]),
        quat_wxyz=np.array([[1.0, 0.0, 0.0, 0.0]]),
        velocity_w=np.zeros((1, 3)),
        gyro=np.zeros((1, 3)),
        joint_pos=joint_pos,
        joint_vel=np.zeros((1, 29)),
        foot_pos_w=np.array([[[0.0, 0.12, 0.0], [0.0, -0.12, 0.0]]]),
        foot_up_w=np.array([[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]]),
        foot_vel_w=np.zeros((1, 2, 3)),
        torso_up_w=np.array([[0.0, 0.0, 1.0]]),
        foot_force=np.full((1, 2), WEIGHT / 2),
    )


STILL = Step(
    truth=still_truth(),
    velocity=np.zeros((1, 3)),
    slow=np.zeros((1, 3)),
    command=np.array([[0.0, 0.0, 0.0, HEIGHT]]),
    gravity_b=np.array([[0.0, 0.0, -1.0]]),
    torso_lean=np.zeros(1),
    phase=np.array([0.05]),
    amplitude=np.zeros(1),
    action_change=np.zeros((1, 16)),
    posture=STANDING[None],
    owns_waist=np.ones(1),
)


def term(name: str, step: Step) -> float:
    (value,) = reward_terms(step)[name]
    return float(value)


def truly(**parts: list) -> Step:
    """The standing robot with other truths, one row each."""
    return STILL._replace(truth=STILL.truth._replace(**{name: np.array([part]) for name, part in parts.items()}))


def test_a_robot_that_stands_as_told_gets_all_rewards_and_no_penalty():
    terms = {name: float(value[0]) for name, value in reward_terms(STILL).items()}
    best = {"alive", "track", "track_now", "turn", "turn_now", "height", "foot_height", "contact", "still"}
    assert terms == {name: (1.0 if name in best else 0.0) for name in terms}
    # 0.1 x (0.5 + 1.5 + 0.25 + 1.0 + 0.4 + 0.4 + 1.5 + 0.6 + 1.0)
    (reward,) = total_reward(reward_terms(STILL), RewardWeights(), np.zeros(1), np.array([False]))
    assert reward == pytest.approx(0.715)


def test_every_weight_has_its_term_and_every_term_its_weight():
    weights = {field.name for field in fields(RewardWeights)}
    assert weights - set(reward_terms(STILL)) == {"scale", "fall"}
    assert set(reward_terms(STILL)) <= weights and set(FORGIVEN) <= weights and weights >= GENTLE


def test_velocity_is_tracked_slowly_and_now():
    step = STILL._replace(
        command=np.array([[0.5, 0.1, 0.4, HEIGHT]]),
        slow=np.array([[0.2, 0.5, 0.1]]),  # errors 0.3, -0.4, 0.3
        velocity=np.array([[0.5, 0.6, 0.9]]),  # errors 0, -0.5, -0.5
    )
    assert term("track", step) == pytest.approx(np.exp(-0.25 / 0.08))
    assert term("track_linear", step) == pytest.approx(0.5)
    assert term("track_now", step) == pytest.approx(np.exp(-1.0))
    assert term("turn", step) == pytest.approx(np.exp(-0.09 / 0.12))
    assert term("turn_linear", step) == pytest.approx(0.3)
    assert term("turn_now", step) == pytest.approx(np.exp(-0.5))


def test_height_is_that_of_the_pelvis_over_the_lower_foot():
    feet = [[0.0, 0.12, 0.10], [0.0, -0.12, 0.02]]
    assert term("height", truly(foot_pos_w=feet)) == pytest.approx(np.exp(-(0.02**2) / 0.0025))
    assert term("height", truly(pos_w=[0.0, 0.0, HEIGHT + 0.05])) == pytest.approx(np.exp(-1.0))


def test_a_foot_is_lifted_7_cm_in_the_middle_of_its_swing():
    # Half-way through the left foot's swing (0.6 to 1 of its cycle) the right one, half a cycle on, stands.
    swinging = STILL._replace(phase=np.array([0.8]), amplitude=np.ones(1))
    feet = np.array([[[0.0, 0.12, 0.07], [0.0, -0.12, 0.0]]])
    lifted = swinging._replace(truth=swinging.truth._replace(foot_pos_w=feet))
    assert term("foot_height", lifted) == pytest.approx(1.0)
    assert term("contact", lifted) == 1.0
    assert term("foot_height", swinging) == pytest.approx((np.exp(-(0.07**2) / 0.004) + 1.0) / 2)
    assert term("contact", swinging) == 0.5  # the left foot drags
    wrong = swinging._replace(truth=lifted.truth, phase=np.array([0.3]))
    assert term("contact", wrong) == 0.0
    half = lifted._replace(amplitude=np.array([0.5]))  # 3.5 cm are wanted
    assert term("foot_height", half) == pytest.approx((np.exp(-(0.035**2) / 0.004) + 1.0) / 2)


def test_who_stands_keeps_both_feet_down_whatever_the_clock_says():
    assert term("contact", STILL._replace(phase=np.array([0.8]))) == 1.0
    assert term("contact", STILL._replace(phase=np.array([0.8]), amplitude=np.array([0.2]))) == 0.5


def test_tilt_of_pelvis_and_torso():
    assert term("tilt", STILL._replace(gravity_b=np.array([[0.3, -0.4, -0.866]]))) == pytest.approx(0.25)
    assert term("torso_tilt", STILL._replace(torso_lean=np.array([0.07]))) == 0.07


@pytest.mark.parametrize(
    ("name", "truth", "value"),
    [
        ("roll_rate", {"gyro": [0.3, -0.4, 9.0]}, 0.5),
        ("bounce", {"velocity_w": [5.0, 5.0, -0.2]}, 0.04),
        ("flat_foot", {"foot_up_w": [[0.0, 0.6, 0.8], [0.0, 0.0, 0.9]]}, 0.3),
        ("gyro", {"gyro": [3.5, -5.0, 2.0]}, 0.25 + 4.0),
        ("gyro", {"gyro": [50.0, 0.0, 0.0]}, 100.0),
        ("landing", {"foot_force": [1.5 * WEIGHT, 1.4 * WEIGHT]}, 0.3),
        ("landing", {"foot_force": [50.0 * WEIGHT, 0.0]}, 6.0),
        ("foot_gap", {"foot_pos_w": [[0.0, 0.05, 0.0], [0.3, -0.05, 0.0]]}, 0.07),
        ("foot_gap", {"foot_pos_w": [[0.0, 0.3, 0.0], [0.0, -0.3, 0.0]]}, 0.0),
    ],
)
def test_penalty_of_a_moving_body(name, truth, value):
    assert term(name, truly(**truth)) == pytest.approx(value)


def test_the_gap_between_feet_is_measured_across_the_heading():
    quat = euler_to_quat(np.array([0.0, 0.0, np.pi / 4])).tolist()
    ahead, left = np.array([1.0, 1.0, 0.0]) / np.sqrt(2.0), np.array([-1.0, 1.0, 0.0]) / np.sqrt(2.0)
    across = [(0.05 * left + 2.0 * ahead).tolist(), (-0.05 * left).tolist()]  # 0.1 m sideways, 2 m along
    assert term("foot_gap", truly(quat_wxyz=quat, foot_pos_w=across)) == pytest.approx(0.07)


def test_a_foot_slips_as_far_as_it_is_loaded():
    moving = {"foot_vel_w": [[0.3, 0.4, 1.0], [0.0, 0.2, 0.0]]}
    assert term("slip", truly(**moving)) == pytest.approx(0.5 + 0.2)
    light = truly(**moving, foot_force=[0.1 * WEIGHT, 0.0])
    assert term("slip", light) == pytest.approx(0.4 * 0.5)


def test_joint_speed_counts_beyond_six_and_a_half_rad_per_s_in_legs_and_waist():
    joint_vel = np.zeros(29)
    joint_vel[[3, 14, 20]] = 7.0, -8.5, 30.0  # an arm does what it likes
    assert term("joint_speed", truly(joint_vel=joint_vel.tolist())) == pytest.approx(0.25 + 4.0)
    joint_vel[3] = 1000.0
    assert term("joint_speed", truly(joint_vel=joint_vel.tolist())) == 200.0


def test_postures_that_cost():
    joint_pos = STILL.truth.joint_pos[0].copy()
    joint_pos[[1, 8]] += 0.1, -0.2  # left hip roll, right hip yaw
    joint_pos[12:15] = 0.1, 0.2, 0.2
    step = truly(joint_pos=joint_pos.tolist())
    assert term("hip_spread", step) == pytest.approx(0.01 + 0.04)
    assert term("waist", step) == pytest.approx(0.09)
    assert term("waist", step._replace(owns_waist=np.zeros(1))) == 0.0
    assert term("stand_pose", step) == pytest.approx(0.05 + 0.09)
    assert term("stand_pose", step._replace(amplitude=np.array([0.75]))) == pytest.approx(0.14 / 4)


def test_standing_still_and_smooth_actions():
    drifting = STILL._replace(velocity=np.array([[0.06, -0.08, 5.0]]))
    assert term("stand_drift", drifting) == pytest.approx(0.1)
    assert term("stand_drift", drifting._replace(amplitude=np.ones(1))) == 0.0
    change = np.zeros((1, 16))
    change[0, [0, 15]] = 0.3, -0.4
    assert term("action_rate", STILL._replace(action_change=change)) == pytest.approx(0.25)


def test_stillness_is_for_those_who_are_told_to_stand():
    assert term("still", STILL._replace(command=np.array([[0.0, 0.0, -0.06, HEIGHT]]))) == 0.0
    assert term("still", STILL._replace(amplitude=np.array([0.25]))) == pytest.approx(0.75)
    swaying = STILL._replace(velocity=np.array([[0.06, -0.08, 5.0]]))
    assert term("still", swaying) == pytest.approx((2.0 + np.exp(-1.0)) / 3.0)
    leaning = STILL._replace(gravity_b=np.array([[0.03, 0.04, -0.99875]]))
    assert term("still", leaning) == pytest.approx((2.0 + np.exp(-0.5)) / 3.0)
    feet = STILL.truth.foot_pos_w[0].copy()
    feet[0, 1] = feet[1, 1] + 0.42  # 10 cm wider than at ease
    assert term("still", truly(foot_pos_w=feet.tolist())) == pytest.approx((2.0 + np.exp(-1.0)) / 3.0)


def reward(
    terms: dict[str, float], forgiving: float = 0.0, fell: bool = False, gentle: float = 1.0, strict: float = 1.0
) -> float:
    arrays = {name: np.array([value]) for name, value in terms.items()}
    (total,) = total_reward(arrays, RewardWeights(), np.array([forgiving]), np.array([fell]), gentle, strict)
    return float(total)


def test_a_fall_costs_six():
    assert reward({}, fell=True) == pytest.approx(-6.0)
    assert reward({"alive": 1.0}, fell=True) == pytest.approx(-6.0 + 0.05)
    assert reward({}, forgiving=1.0, fell=True) == pytest.approx(-6.0)  # that is never forgiven


def test_a_shortfall_is_refunded_after_a_punch():
    # Tracking at 0.2 of 1: 40 % of the missing 0.8 comes back, so 0.52 counts; times 1.5 x 0.1.
    assert reward({"track": 0.2}) == pytest.approx(0.03)
    assert reward({"track": 0.2}, forgiving=1.0) == pytest.approx(0.078)
    assert reward({"track": 1.0}, forgiving=1.0) == pytest.approx(0.15)  # no more than the best
    assert reward({"contact": 0.5}, forgiving=1.0) == pytest.approx(0.85 * 0.06)
    # A penalty shrinks to what is not forgiven.
    assert reward({"slip": 2.0}) == pytest.approx(-0.03)
    assert reward({"slip": 2.0}, forgiving=1.0) == pytest.approx(-0.009)
    assert reward({"tilt": 0.1}, forgiving=1.0) == pytest.approx(-0.03 * 0.65)
    assert reward({"track_linear": 0.5}, forgiving=1.0) == pytest.approx(-0.15 * 0.6)
    for untouched in ("alive", "height", "bounce", "foot_gap"):
        assert reward({untouched: 0.5}, forgiving=1.0) == reward({untouched: 0.5})


@pytest.mark.parametrize("name", sorted(GENTLE))
def test_gentleness_scales_what_is_gentle(name):
    assert reward({name: 1.0}, gentle=0.25) == pytest.approx(reward({name: 1.0}) / 4)
    assert reward({name: 1.0}, gentle=0.0) == 0.0


@pytest.mark.parametrize("name", sorted(STRICT))
def test_strictness_scales_what_is_strict(name):
    assert reward({name: 1.0}, strict=0.4) == pytest.approx(0.4 * reward({name: 1.0}))
    rest = dict.fromkeys(set(reward_terms(STILL)) - STRICT, 0.3)
    assert reward(rest, strict=0.0) == reward(rest)


def test_gentleness_leaves_the_rest():
    rest = dict.fromkeys(set(reward_terms(STILL)) - GENTLE, 0.3)
    assert reward(rest, gentle=0.0) == reward(rest)


def test_robots_do_not_mix():
    """Two rows together give what each gives alone."""
    other = truly(gyro=[4.0, 1.0, -1.0], foot_force=[500.0, 10.0], foot_vel_w=[[0.1, 0.0, 0.0], [0.0, 0.0, 0.3]])
    other = other._replace(phase=np.array([0.8]), amplitude=np.array([0.7]), slow=np.array([[0.1, 0.2, 0.3]]))
    truth = Truth(*(np.concatenate(pair) for pair in zip(STILL.truth, other.truth, strict=True)))
    rows = zip(STILL[1:], other[1:], strict=True)
    both = reward_terms(Step(truth, *(np.concatenate(pair) for pair in rows)))
    for name, values in both.items():
        assert values.shape == (2,)
        np.testing.assert_allclose(values, [term(name, STILL), term(name, other)], rtol=1e-12)


def test_weights_can_be_changed():
    weights = replace(RewardWeights(), scale=1.0, alive=2.0)
    np.testing.assert_allclose(total_reward({"alive": np.ones(3)}, weights, np.zeros(3), np.zeros(3, bool)), 2.0)
