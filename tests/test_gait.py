"""The base gait by hand: its clock, what each gain does, that nothing jumps, and that left and right are alike."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neon_sim.g1 import joints, kinematics
from neon_sim.locomotion import gait
from neon_sim.locomotion.alike import numbers, rows
from neon_sim.locomotion.gait import (
    DUTY,
    GAINS,
    LEG_LENGTH,
    REST_PHASE,
    START,
    foot_phases,
    leg_offsets,
    swing_progress,
)
from neon_sim.locomotion.posture import crouch

HEIGHT = 0.74
POSTURE = crouch(HEIGHT)
LEVEL = (0.0, 0.0, -1.0)
LEFT_SWINGS = 0.8  # half-way through the left foot's swing; the right one is in the middle of its stance
RIGHT_SWINGS = 0.3
LEFT, RIGHT = slice(0, 6), slice(6, 12)
# Share of a sideways move that the foot gets at this height: 0.574 m from hip roll axis to ankle instead of LEG_LENGTH,
# and that axis leans 0.51 rad, by the hip's pitch and its 10 degrees.
THIGH_LEAN = 0.51
SIDEWAYS = 0.574 / LEG_LENGTH * np.cos(THIGH_LEAN)
HIP_PITCH, HIP_ROLL, HIP_YAW, KNEE, ANKLE_PITCH, ANKLE_ROLL = range(6)


def base_targets(gains, phase, amplitude, command, posture, velocity, gyro, down) -> np.ndarray:
    """Posture (B, 15) and what the gait adds to it, from rows (B, ...)."""
    gains = gains.tolist() if gains.ndim == 1 else numbers(gains.T)
    arguments = (numbers(part.T) for part in (phase, amplitude, command, velocity, gyro, down))
    targets = posture.copy()
    targets[:, :12] += rows(leg_offsets(gains, *arguments), len(phase))
    return targets


def only(**gains: float) -> np.ndarray:
    """(18,) gains, zero but for those named."""
    return np.array([gains.get(name, 0.0) for name in GAINS])


def moves(gains, phase, amplitude=1.0, command=(0.0, 0.0, 0.0), velocity=(0.0, 0.0), gyro=(0.0, 0.0, 0.0), down=LEVEL):
    """Targets of one robot less its posture: (15,), or (N, 15) for N phases."""
    phase = np.asarray(phase, dtype=np.float64)
    count = phase.size
    given = [np.tile(row, (count, 1)) for row in ([*command, HEIGHT], POSTURE, velocity, gyro, down)]
    targets = base_targets(gains, phase.reshape(count), np.full(count, amplitude), *given)
    return (targets - POSTURE).reshape(*phase.shape, 15)


def soles(offset: np.ndarray) -> kinematics.Stance:
    """Where the feet are when the legs are `offset` (15,) from the crouch."""
    joint_pos = joints.HOME.copy()
    joint_pos[:15] = POSTURE + offset
    return kinematics.stance(joint_pos)


# --- the clock ------------------------------------------------------------------------------------------------------


def test_feet_are_half_a_cycle_apart():
    np.testing.assert_allclose(
        foot_phases(np.array([0.0, 0.25, 0.5, 0.75])), [[0.0, 0.5], [0.25, 0.75], [0.5, 0.0], [0.75, 0.25]], atol=1e-15
    )


def test_swing_progress_by_hand():
    # A foot stands for the first 0.6 of its cycle and swings through the last 0.4.
    feet = np.array([[0.0, 0.3], [0.6, 0.7], [0.8, 0.9], [0.96, 0.59]])
    np.testing.assert_allclose(swing_progress(feet), [[0.0, 0.0], [0.0, 0.25], [0.5, 0.75], [0.9, 0.0]], atol=1e-12)


def test_each_foot_stands_for_its_share_and_one_always_does():
    phase = (np.arange(1000) + 0.5) / 1000
    swinging = swing_progress(foot_phases(phase)) > 0.0
    np.testing.assert_allclose(swinging.mean(axis=0), 0.4, atol=1e-9)
    assert not np.any(swinging.all(axis=1))
    both = ~swinging.any(axis=1)
    assert both.mean() == pytest.approx(0.2)
    rest = (np.array([REST_PHASE, REST_PHASE + 0.5]) * 1000).astype(int)
    assert both[rest - 45].all() and both[rest + 45].all() and not both[rest - 55].any() and not both[rest + 55].any()


# --- what each gain does --------------------------------------------------------------------------------------------


def test_half_way_through_the_left_swing_by_hand():
    offset = moves(START, LEFT_SWINGS)
    left_out, right_out = (0.015 + 0.03) / LEG_LENGTH, (-0.015 + 0.03) / LEG_LENGTH  # width, and sway to the right
    left = [-0.45, left_out, 0.0, 0.9, -0.45, -left_out]
    # The right leg carries all: it leans by -0.03, its hip rolls inward by 0.35, and its knee straightens by 0.1.
    right = [-0.03 + 0.05, right_out - 0.35, 0.0, -0.1, 0.05, -right_out]
    np.testing.assert_allclose(offset, [*left, *right, 0.0, 0.0, 0.0], atol=1e-12)


@pytest.mark.parametrize("phase", [REST_PHASE, REST_PHASE + 0.5])
def test_standing_upright_it_is_the_posture_and_the_width(phase):
    gains = START * np.array([name != "lean" for name in GAINS])
    offset = moves(gains, phase, amplitude=0.0, command=(0.5, 0.2, 0.3), velocity=(0.5, 0.4))
    out = 0.015 / LEG_LENGTH
    leg = [0.0, out, 0.0, 0.0, 0.0, -out]
    np.testing.assert_allclose(offset, [*leg, *(-np.array(leg)), 0.0, 0.0, 0.0], atol=1e-12)
    there, home = soles(offset), soles(np.zeros(15))
    np.testing.assert_allclose(
        there.sole_pos[:, 1] - home.sole_pos[:, 1], [SIDEWAYS * 0.015, -SIDEWAYS * 0.015], atol=5e-4
    )


def test_posture_comes_through_and_is_not_written_to():
    posture = np.random.default_rng(0).normal(size=(1, 15))
    kept = posture.copy()
    arguments = (np.array([LEFT_SWINGS]), np.ones(1), np.array([[0.3, 0.1, 0.2, 0.7]]))
    rest = (np.zeros((1, 2)), np.full((1, 3), 0.1), np.array([[0.1, 0.1, -1.0]]))
    inputs = [array.copy() for array in (*arguments, *rest)]
    other = base_targets(START, *arguments, posture, *rest) - base_targets(START, *arguments, 0.0 * posture, *rest)
    np.testing.assert_allclose(other, kept, atol=1e-12)
    np.testing.assert_array_equal(posture, kept)
    for array, before in zip((*arguments, *rest), inputs, strict=True):
        np.testing.assert_array_equal(array, before)


def test_the_waist_is_left_alone():
    everything = dict(command=(0.5, 0.2, 0.4), velocity=(0.1, -0.3), gyro=(0.2, 0.3, 0.4), down=(0.1, 0.2, -0.97))
    np.testing.assert_array_equal(moves(START, np.linspace(0.0, 0.99, 50), **everything)[:, 12:], 0.0)


def test_a_stride_carries_the_body_over_the_foot_that_stands():
    """0.75 s x 0.6 of standing at 0.4 m/s is 18 cm, from 9 ahead to 9 behind."""
    touch, middle, lift = (moves(only(stride=1.0), phase, command=(0.4, 0.0, 0.0)) for phase in (0.0, 0.3, DUTY - 1e-9))
    np.testing.assert_allclose(touch[[HIP_PITCH, ANKLE_PITCH]], np.array([-0.09, 0.09]) / LEG_LENGTH, atol=1e-6)
    np.testing.assert_allclose(middle[LEFT], 0.0, atol=1e-12)
    np.testing.assert_allclose(lift[LEFT], -touch[LEFT], atol=1e-6)
    ahead, under, behind = (soles(offset).sole_pos[0] for offset in (touch, middle, lift))
    # With the knees bent it is 0.5846 m from hip to ankle, so the foot gets nine tenths of the way.
    assert ahead[0] - behind[0] == pytest.approx(2.0 * 0.5846 * np.sin(0.09 / LEG_LENGTH), abs=1e-3)
    assert ahead[0] - under[0] == pytest.approx(under[0] - behind[0], abs=1e-3)
    # A foot that stands goes back at one speed, the commanded one.
    track = moves(only(stride=1.0), np.linspace(0.0, 0.59, 60), command=(0.4, 0.0, 0.0))[:, HIP_PITCH]
    np.testing.assert_allclose(np.diff(track) * LEG_LENGTH / (0.01 * gait.PERIOD_S), 0.4, atol=1e-9)


def test_a_stride_sideways_and_a_turn():
    aside, turn = (moves(only(stride=1.0), 0.0, command=command) for command in ((0.0, 0.2, 0.0), (0.0, 0.0, 0.4)))
    np.testing.assert_allclose(aside[[HIP_ROLL, ANKLE_ROLL]], np.array([0.045, -0.045]) / LEG_LENGTH, atol=1e-12)
    moved = soles(aside).sole_pos[0, 1] - soles(np.zeros(15)).sole_pos[0, 1]
    assert moved == pytest.approx(SIDEWAYS * 0.045, abs=1e-3)
    # 0.45 s at 0.4 rad/s: the left foot lands turned out to the left by half of 0.18 rad.
    np.testing.assert_allclose(turn[HIP_YAW], 0.09, atol=1e-12)
    x_axis = soles(turn).sole_matrix[0, :, 0]
    assert np.arctan2(x_axis[1], x_axis[0]) == pytest.approx(0.09 * np.cos(THIGH_LEAN), abs=1e-3)
    assert np.count_nonzero(np.abs(turn[LEFT]) > 1e-12) == 1


def test_the_foot_lands_where_it_catches_a_body_that_is_too_fast():
    gains = only(place_x=0.2, place_y=0.5)
    landing = moves(gains, 1.0 - 1e-9, command=(0.4, 0.1, 0.0), velocity=(0.7, 0.0))
    ahead, left = 0.2 * 0.3 / LEG_LENGTH, -0.5 * 0.1 / LEG_LENGTH
    np.testing.assert_allclose(landing[LEFT], [-ahead, left, 0.0, 0.0, ahead, -left], atol=1e-7)
    # It comes in smoothly through the swing (5/32 of it after a quarter) and goes out while the foot stands.
    shares = moves(gains, [0.6, 0.7, 0.8, 0.0, 0.15, 0.3, 0.45], velocity=(0.3, 0.0))[:, HIP_PITCH] / -ahead
    np.testing.assert_allclose(shares, [0.0, 0.15625, 0.5, 1.0, 0.75, 0.5, 0.25], atol=1e-9)


@pytest.mark.parametrize(
    ("gain", "joint", "change"),
    [
        # Pitched forward gravity points ahead; rolled to the left it points left.
        ("hip_pitch", HIP_PITCH, 0.1),
        ("hip_roll", HIP_ROLL, -0.2),
        ("ankle_pitch", ANKLE_PITCH, 0.1),
        ("ankle_roll", ANKLE_ROLL, -0.2),
        ("hip_pitch_rate", HIP_PITCH, 0.4),
        ("hip_roll_rate", HIP_ROLL, 0.3),
        ("ankle_pitch_rate", ANKLE_PITCH, 0.4),
        ("ankle_roll_rate", ANKLE_ROLL, 0.3),
        ("lean", HIP_PITCH, -1.0),
        ("ankle_speed", ANKLE_PITCH, 0.5),
    ],
)
def test_the_leg_that_stands_holds_the_body_upright(gain, joint, change):
    offset = moves(only(**{gain: 2.0}), LEFT_SWINGS, velocity=(0.5, 9.0), gyro=(0.3, 0.4, 9.0), down=(0.1, 0.2, -0.97))
    expected = np.zeros(15)
    expected[6 + joint] = 2.0 * change
    np.testing.assert_allclose(offset, expected, atol=1e-12)
    both = moves(only(**{gain: 2.0}), REST_PHASE, velocity=(0.5, 9.0), gyro=(0.3, 0.4, 9.0), down=(0.1, 0.2, -0.97))
    np.testing.assert_allclose(both[LEFT], both[RIGHT], atol=1e-12)
    np.testing.assert_allclose(both[RIGHT], expected[RIGHT], atol=1e-12)


@pytest.mark.parametrize("gain", ["hip_pitch", "hip_roll", "ankle_pitch", "ankle_roll"])
@pytest.mark.parametrize("rate", ["", "_rate"])
def test_with_the_foot_on_the_floor_that_turns_the_pelvis_back(gain, rate):
    # Leaning, or falling, forward and to the left: roll is negative, pitch positive.
    roll, pitch = -0.1, 0.1
    falling = {"down": (np.sin(pitch), -np.sin(roll), -0.99)} if not rate else {"gyro": (roll, pitch, 0.0)}
    offset = moves(only(**{gain + rate: 1.0}), REST_PHASE, **falling)
    before, after = soles(np.zeros(15)).sole_matrix[0], soles(offset).sole_matrix[0]
    turned = after.T @ before  # of the pelvis, seen from the sole
    about_x, about_y = turned[2, 1], turned[0, 2]
    wanted = (0.0, -0.1) if "pitch" in gain else (0.1, 0.0)
    np.testing.assert_allclose([about_x, about_y], wanted, atol=0.015)  # the hip's roll axis leans with the thigh


def test_sway_brings_the_pelvis_over_the_foot_that_stands():
    for phase, way in ((LEFT_SWINGS, -1.0), (RIGHT_SWINGS, 1.0)):
        feet = soles(moves(only(sway=0.03), phase)).sole_pos[:, 1] - soles(np.zeros(15)).sole_pos[:, 1]
        np.testing.assert_allclose(feet, -SIDEWAYS * 0.03 * way, atol=5e-4)  # the feet go the other way
    np.testing.assert_allclose(moves(only(sway=0.03), [REST_PHASE, REST_PHASE + 0.5]), 0.0, atol=1e-12)


def test_the_swinging_foot_is_lifted():
    lifted = soles(moves(START, LEFT_SWINGS)).sole_pos[:, 2] - soles(np.zeros(15)).sole_pos[:, 2]
    assert lifted[0] - lifted[1] > 0.06
    # sin^2 through the swing
    heights = moves(only(lift=0.45), [0.6, 0.7, 0.8, 0.9])[:, KNEE]
    np.testing.assert_allclose(heights, [0.0, 0.45, 0.9, 0.45], atol=1e-12)
    np.testing.assert_allclose(moves(only(lift=0.45), 0.8, amplitude=0.5)[KNEE], 0.45, atol=1e-12)


def test_feet_stay_flat_through_stride_placement_lift_and_load():
    gains = START * np.array(
        [not name.startswith(("hip_pitch", "ankle", "hip_roll", "lean", "hip_load")) for name in GAINS]
    )
    offset = moves(gains, np.linspace(0.0, 0.99, 100), command=(0.6, 0.2, 0.0), velocity=(0.3, 0.4))
    legs = offset[:, :12].reshape(-1, 6)
    assert np.ptp(legs, axis=0)[[HIP_PITCH, HIP_ROLL, KNEE, ANKLE_PITCH, ANKLE_ROLL]].min() > 0.1
    np.testing.assert_allclose(legs[:, [HIP_PITCH, KNEE, ANKLE_PITCH]].sum(axis=1), 0.0, atol=1e-12)
    np.testing.assert_allclose(legs[:, [HIP_ROLL, ANKLE_ROLL]].sum(axis=1), 0.0, atol=1e-12)
    upright = [soles(row).sole_matrix[:, 2, 2] for row in offset[::10]]
    assert np.min(upright) > np.cos(0.1)  # roll and pitch do not quite commute


# --- no jumps, no sides ---------------------------------------------------------------------------------------------


def test_nothing_jumps_at_touch_down_lift_off_or_from_one_cycle_to_the_next():
    gains = START * np.array([name != "lean" for name in GAINS])
    step = 1e-6
    for edge in (0.0, 0.1, 0.5, DUTY, 1.0):  # both feet's touch-down and lift-off, and the wrap
        around = np.array([edge - step, edge + step]) % 1.0
        before, after = moves(gains, around, command=(0.6, 0.2, 0.5), velocity=(0.6, -0.2))
        np.testing.assert_allclose(before, after, atol=50 * step)
    fine = moves(gains, np.linspace(0.0, 1.0, 4001) % 1.0, command=(0.6, 0.2, 0.5), velocity=(0.6, -0.2))
    assert np.abs(np.diff(fine, axis=0)).max() < 10.0 / 4000  # rad per cycle
    np.testing.assert_allclose(fine[-1], fine[0], atol=1e-12)


def mirrored(offset: np.ndarray) -> np.ndarray:
    """(..., 15) of legs and waist as a mirror shows them."""
    whole = np.concatenate([offset, np.zeros((*offset.shape[:-1], 14))], axis=-1)
    return joints.mirror(whole)[..., :15]


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1))
def test_half_a_cycle_later_the_mirror_image_gets_the_mirror_image(seed):
    rng = np.random.default_rng(seed)
    gains, phase, amplitude = START + 3.0 * gait.SPREAD * rng.normal(size=18), rng.uniform(), rng.uniform()
    command, velocity = rng.normal(size=3), rng.normal(size=2)
    gyro, down = rng.normal(size=3), rng.normal(size=3)
    if min(abs(phase % 0.5 - edge) for edge in (0.0, 0.1, 0.5)) < 1e-9:
        return  # half a cycle later rounding may put it on the other side of a touch-down
    offset = moves(gains, phase, amplitude, command, velocity, gyro, down)
    other = moves(
        gains,
        (phase + 0.5) % 1.0,
        amplitude,
        command * [1.0, -1.0, -1.0],
        velocity * [1.0, -1.0],
        gyro * [-1.0, 1.0, -1.0],
        down * [1.0, -1.0, 1.0],
    )
    np.testing.assert_allclose(other, mirrored(offset), atol=1e-9)


def test_every_robot_may_have_gains_of_its_own():
    rng = np.random.default_rng(2)
    gains = START + gait.SPREAD * rng.normal(size=(6, 18))
    phase, amplitude, command = rng.uniform(size=6), rng.uniform(size=6), rng.normal(size=(6, 4))
    posture, velocity, gyro, down = (rng.normal(size=(6, size)) for size in (15, 2, 3, 3))
    given = (phase, amplitude, command, posture, velocity, gyro, down)
    together = base_targets(gains, *given)
    for row in range(6):
        alone = base_targets(gains[row], *(value[row : row + 1] for value in given))
        np.testing.assert_allclose(together[row], alone[0], atol=1e-12)


def test_every_gain_has_a_part_in_it():
    inputs = dict(command=(0.5, 0.2, 0.4), velocity=(0.1, -0.3), gyro=(0.2, 0.3, 0.4), down=(0.1, 0.2, -0.97))
    for index, name in enumerate(GAINS):
        more = START.copy()
        more[index] += 0.1
        assert np.abs(moves(more, 0.7, **inputs) - moves(START, 0.7, **inputs)).max() > 1e-3, name
