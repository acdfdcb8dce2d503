"""Many arms in one go answer as each of them alone."""

import numpy as np
import pytest

from neon_sim.g1 import joints
from neon_sim.g1.arm_rows import gravity_torque_rows, inverse_palm_rows
from neon_sim.g1.kinematics import ARM_JOINTS, UnreachableError, gravity_torque, inverse_palm


def test_gravity_pulls_at_each_as_at_one() -> None:
    rng = np.random.default_rng(0)
    poses = rng.uniform(joints.LOWER, joints.UPPER, (5, 29))
    down = rng.normal(size=(5, 3)) - [0.0, 0.0, 3.0]
    alone = [gravity_torque(pose, gravity) for pose, gravity in zip(poses, down, strict=True)]
    assert gravity_torque_rows(poses, down) == pytest.approx(np.array(alone), abs=1e-12)


@pytest.mark.parametrize("hand", [0, 1])
def test_each_palm_comes_to_its_point_as_one_does(hand: int) -> None:
    chain, side = ARM_JOINTS[hand], (1.0, -1.0)[hand]
    points = np.random.default_rng(hand).uniform([0.14, 0.0, -0.02], [0.34, 0.24, 0.28], (6, 3)) * [1.0, side, 1.0]
    points[3] = 5.0  # nobody's arm is that long
    limits = joints.LOWER[chain] + 0.05, joints.UPPER[chain] - 0.05
    found = inverse_palm_rows(hand, points, joints.HOME[chain], limits)
    for point, arm in zip(points, found, strict=True):
        if np.isnan(arm).any():
            with pytest.raises(UnreachableError):
                inverse_palm(joints.HOME, hand, point)
        else:
            assert arm == pytest.approx(inverse_palm(joints.HOME, hand, point), abs=1e-9)
    assert np.isnan(found).any(axis=1).tolist() == [row == 3 for row in range(6)]
