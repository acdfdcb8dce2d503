"""Sensor noise: sizes that a person can check, an IMU that agrees with itself, and nothing else touched."""

from dataclasses import replace

import numpy as np
import pytest

from neon_sim.g1 import joints, kinematics
from neon_sim.g1.geometry import gravity_in_body, normalize_quat, quat_to_euler
from neon_sim.robot import RobotState
from neon_sim.sim.noise import DRAW_SIZE, SensorNoise

NOISE = SensorNoise()


def state_at(quat_wxyz: np.ndarray) -> RobotState:
    return RobotState(
        time_s=1.5,
        joint_pos=joints.HOME.copy(),
        joint_vel=np.full(29, 0.1),
        joint_torque=np.full(29, 2.0),
        joint_target=joints.HOME + 0.1,
        quat_wxyz=quat_wxyz,
        gyro=np.array([0.1, 0.2, 0.3]),
        gravity_b=gravity_in_body(quat_wxyz),
    )


UPRIGHT = state_at(np.array([1.0, 0.0, 0.0, 0.0]))


def one(index: int) -> np.ndarray:
    draw = np.zeros(DRAW_SIZE)
    draw[index] = 1.0
    return draw


def test_one_deviation_of_each_by_hand() -> None:
    assert DRAW_SIZE == 29 + 29 + 3 + 3
    assert NOISE.add(UPRIGHT, one(3)).joint_pos[3] == joints.HOME[3] + 0.005
    assert NOISE.add(UPRIGHT, one(29 + 28)).joint_vel[28] == pytest.approx(0.4)
    np.testing.assert_allclose(NOISE.add(UPRIGHT, one(59)).gyro, [0.1, 0.25, 0.3])
    forward = NOISE.add(UPRIGHT, one(61))  # gravity moves towards +x: the nose is down, pitch is positive
    np.testing.assert_allclose(forward.gravity_b, np.array([0.01, 0.0, -1.0]) / np.sqrt(1.0001), atol=1e-15)
    np.testing.assert_allclose(quat_to_euler(forward.quat_wxyz), [0.0, np.arctan(0.01), 0.0], atol=1e-12)
    left_up = NOISE.add(UPRIGHT, one(62))
    np.testing.assert_allclose(quat_to_euler(left_up.quat_wxyz), [-np.arctan(0.01), 0.0, 0.0], atol=1e-12)


def test_the_errors_have_the_deviations_that_were_asked_for() -> None:
    rng = np.random.default_rng(0)
    seen = [NOISE.measure(UPRIGHT, rng) for _ in range(2000)]
    for name, wanted in (("joint_pos", 0.005), ("joint_vel", 0.3), ("gyro", 0.05)):
        errors = np.array([getattr(state, name) for state in seen]) - getattr(UPRIGHT, name)
        np.testing.assert_allclose(errors.std(axis=0), wanted, rtol=0.12)
        assert np.abs(errors.mean(axis=0)).max() < 0.12 * wanted
        assert np.abs(np.corrcoef(errors.T) - np.eye(errors.shape[1])).max() < 0.12  # each joint has its own
    tilt = np.array([quat_to_euler(state.quat_wxyz)[:2] for state in seen])
    np.testing.assert_allclose(tilt.std(axis=0), 0.01, rtol=0.12)


def test_orientation_and_gravity_agree_and_the_heading_is_kept() -> None:
    rng = np.random.default_rng(1)
    for quat in normalize_quat(rng.normal(size=(200, 4))):  # upright, lying, upside down
        truth = state_at(quat)
        seen = NOISE.measure(truth, rng)
        assert np.linalg.norm(seen.gravity_b) == pytest.approx(1.0, abs=1e-12)
        assert np.linalg.norm(seen.quat_wxyz) == pytest.approx(1.0, abs=1e-12)
        np.testing.assert_allclose(gravity_in_body(seen.quat_wxyz), seen.gravity_b, atol=1e-9)
        assert 1e-4 < np.linalg.norm(seen.gravity_b - truth.gravity_b) < 0.06
        turned = quat_to_euler(seen.quat_wxyz)[2] - quat_to_euler(quat)[2]
        assert np.sin(0.5 * turned) == pytest.approx(0.0, abs=1e-6)


def test_links_follow_the_noisy_encoders_and_the_rest_is_left_alone() -> None:
    before = {name: np.copy(value) for name, value in vars(UPRIGHT).items()}
    assert np.isfinite(UPRIGHT.limb_poses).all()  # worked out, and not handed on
    seen = NOISE.measure(UPRIGHT, np.random.default_rng(2))
    np.testing.assert_array_equal(seen.limb_poses, kinematics.limb_poses(seen.joint_pos))
    assert not np.array_equal(seen.limb_poses, UPRIGHT.limb_poses)
    assert seen.time_s == 1.5
    for name in ("joint_torque", "joint_target"):
        np.testing.assert_array_equal(getattr(seen, name), before[name])
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(UPRIGHT, name), value)


def test_no_noise_is_the_truth_and_a_draw_reads_the_same_twice() -> None:
    truth = state_at(normalize_quat(np.array([0.9, 0.1, -0.2, 0.3])))
    draw = NOISE.draw(np.random.default_rng(3))
    silent = SensorNoise(0.0, 0.0, 0.0, 0.0).add(truth, draw)
    for name, value in vars(truth).items():
        np.testing.assert_allclose(getattr(silent, name), value, atol=1e-12, err_msg=name)
    np.testing.assert_array_equal(NOISE.add(truth, draw).joint_pos, NOISE.add(truth, draw).joint_pos)
    np.testing.assert_array_equal(
        NOISE.measure(truth, np.random.default_rng(3)).quat_wxyz, NOISE.add(truth, draw).quat_wxyz
    )


@pytest.mark.parametrize("wrong", [{"gyro": -0.1}, {"joint_pos": np.nan}, {"gravity": np.inf}])
def test_deviations_that_are_none_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is a standard deviation"):
        replace(NOISE, **wrong)
