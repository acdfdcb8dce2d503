"""Distances within the robot against the simulator's contacts, and targets that keep its arms off the rest of it."""

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neon_sim.g1 import joints
from neon_sim.g1.self_distance import keep_apart, self_distances
from neon_sim.sim.model import build_model, build_spec

MARGIN = 0.01
ARMS = np.isin(np.arange(29), joints.GROUPS["arms"])
COVERED = ("shoulder_yaw", "elbow", "wrist_roll", "wrist_pitch", "wrist_yaw")
BODIES = ("pelvis", "torso_link", *(f"{s}_{n}_link" for s in ("left", "right") for n in ("hip_roll", "hip_yaw")))
STEP = 0.04  # rad, what an arm at 2 rad/s does in 0.02 s


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    """The robot of the simulator."""
    return build_model(build_spec())


def touching(model: mujoco.MjModel, data: mujoco.MjData, joint_pos: np.ndarray) -> bool:
    """Whether the simulator finds an arm in contact with trunk, hips or thighs, or the arms with each other."""
    data.qpos[:7] = (0, 0, 5, 1, 0, 0, 0)
    data.qpos[7:36] = joint_pos
    mujoco.mj_forward(model, data)
    arms = {f"{side}_{link}_link": side for side in ("left", "right") for link in COVERED}
    for first, second in data.contact.geom[data.contact.dist < 0.0]:
        names = [model.body(model.geom_bodyid[geom]).name for geom in (first, second)]
        sides = [arms[name] for name in names if name in arms]
        if len(set(sides)) == 2 or (len(sides) == 1 and any(name in BODIES for name in names)):
            return True
    return False


def postures(count: int, seed: int) -> np.ndarray:
    """Random arms on a robot whose legs and waist are at home, (count, 29) rad."""
    rng = np.random.default_rng(seed)
    return np.where(ARMS, rng.uniform(joints.LOWER, joints.UPPER, (count, 29)), joints.HOME)


def test_a_distance_by_hand() -> None:
    """Arms straight out to the side: the hands' middle spheres are 2 y apart, less twice their radius of 42 mm."""
    pose = np.zeros(29)
    pose[joints.JOINT_INDEX["left_shoulder_roll_joint"]] = 1.5
    pose[joints.JOINT_INDEX["right_shoulder_roll_joint"]] = -1.5
    between = self_distances(pose)[280:].reshape(14, 14)
    assert between.shape == (14, 14) and between.min() == pytest.approx(between[0, 0])  # the upper arms are nearest
    np.testing.assert_allclose(between, between.T, atol=2e-4)  # the shoulders are 0.01 mm off being mirror images
    batch = self_distances(np.stack((pose, joints.HOME)))
    np.testing.assert_array_equal(batch[0], self_distances(pose))


def test_the_home_pose_is_free_and_stays_as_it_is() -> None:
    assert self_distances(joints.HOME).min() == pytest.approx(0.0329, abs=1e-4)
    target, held = keep_apart(joints.HOME, joints.HOME, ARMS, 0.03)
    assert target is joints.HOME and not held.any()


def test_every_touch_is_foreseen_and_few_others_are_feared(model: mujoco.MjModel) -> None:
    data, touches, alarms = mujoco.MjData(model), 0, 0
    for posture in postures(300, seed=1):
        near = self_distances(posture).min() < MARGIN
        if touching(model, data, posture):
            touches += 1
            assert near
        else:
            alarms += near
    assert touches > 100
    assert alarms < 0.15 * 300  # spheres around boxes, 9 mm too fat, and 1 cm of margin


@settings(max_examples=6)
@given(st.integers(0, 2**32 - 1))
def test_an_arm_that_is_sent_anywhere_never_gets_nearer_than_the_margin(seed: int) -> None:
    """Three random goals, 40 steps each, from home: every step keeps the margin and the speed."""
    sent = joints.HOME
    for goal in postures(3, seed):
        for _ in range(40):
            asked = sent + np.clip(goal - sent, -STEP, STEP)
            before, (sent, held) = sent, keep_apart(asked, sent, ARMS, MARGIN)
            assert self_distances(sent).min() >= MARGIN - 1e-8
            assert (np.abs(sent - before) <= STEP + 1e-12).all() and not held[~ARMS].any()
            np.testing.assert_array_equal(sent[~held], asked[~held])


def test_one_that_is_too_near_already_may_only_part() -> None:
    near = np.zeros(29)  # arms straight down: 12.5 mm from the hips
    away, into = near.copy(), near.copy()
    away[joints.JOINT_INDEX["left_shoulder_roll_joint"]] += STEP
    into[joints.JOINT_INDEX["left_shoulder_roll_joint"]] -= STEP
    np.testing.assert_array_equal(keep_apart(away, near, ARMS, 0.02)[0], away)
    target, held = keep_apart(into, near, ARMS, 0.02)
    np.testing.assert_array_equal(target, near)
    assert np.flatnonzero(held).tolist() == [joints.JOINT_INDEX["left_shoulder_roll_joint"]]


def test_the_other_arm_goes_on_and_what_is_not_owned_passes() -> None:
    near, asked = np.zeros(29), np.zeros(29)
    left, right = joints.JOINT_INDEX["left_shoulder_roll_joint"], joints.JOINT_INDEX["right_shoulder_roll_joint"]
    asked[left], asked[right], asked[3] = -STEP, -STEP, 0.5  # in, out, and a knee of the walker's
    target, held = keep_apart(asked, near, ARMS, 0.02)
    assert target[left] == 0.0 and target[right] == -STEP and target[3] == 0.5
    assert np.flatnonzero(held).tolist() == [left]
