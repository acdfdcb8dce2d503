"""Another arm's gripper motion as motion of one of the G1's arms: relative actions followed by inverse kinematics.

The relative actions (paper, 5.3) say nothing of where the foreign gripper was, so the G1 starts where its own arm has
room: the middle of the path is put where the palm is with the upper arm hanging and the forearm pointing forwards.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from neon_sim.data.action_mapper import G1_NAMES, MappingReport
from neon_sim.data.mapped_episode import G1Motion, require_finite
from neon_sim.data.relative_actions import (
    STATE_DIM,
    euler2rotm,
    relative_actions_to_states,
    rotm2euler,
    rotm2quat,
    states_to_relative_actions,
)
from neon_sim.data.source import SKIP_HINT
from neon_sim.g1 import joints
from neon_sim.g1.geometry import quat_conjugate, quat_multiply
from neon_sim.g1.kinematics import ARM_JOINTS, palm_jacobian, palm_poses
from neon_sim.names import nearest

HANDS: Final = ("left", "right")
# The axis of the foreign gripper that points out of it -> its rotation into the palm's frame, whose x does.
APPROACHES: Final = {
    "x": np.eye(3),
    "z": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
}
_READY: Final = np.array([0.0, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0])  # rad, left arm: forearm forwards
_SIDES: Final = np.array([np.ones(7), [1.0, -1.0, -1.0, 1.0, -1.0, 1.0, -1.0]])  # pitch keeps its sign, roll, yaw turn
_TURN_WEIGHT: Final = 0.03  # m/rad: being 3 mm beside the path counts as much as 0.1 rad of wrong orientation
_DAMPING: Final = 0.02  # m
_MAX_STEP: Final = 0.3  # rad, one joint, one iteration
_MARGIN: Final = 0.02  # rad to the joint limits
_CLOSE: Final = 1e-3  # m, weighted: near enough


@dataclass(frozen=True)
class ArmConfig:
    """Which arm follows, and how well it has to. Raises ValueError for an unknown hand or axis, or no tolerance."""

    hand: str = "right"
    approach: str = "x"  # the axis that points out of the foreign gripper
    tolerance: float = 0.05  # m, the farthest that the palm may be beside the path
    iterations: int = 12  # for one step of the path

    def __post_init__(self) -> None:
        if self.hand not in HANDS:
            raise nearest("hand", self.hand, HANDS)
        if self.approach not in APPROACHES:
            raise nearest("approach axis", self.approach, APPROACHES)
        if not self.tolerance > 0.0 or self.iterations < 1:
            raise ValueError(f"tolerance and iterations must be positive, got {self.tolerance}, {self.iterations}.")

    @property
    def report(self) -> MappingReport:
        """What a 7-column end-effector action becomes."""
        mapped = {axis: f"{self.hand} arm" for axis in ("x", "y", "z", "roll", "pitch", "yaw")}
        arm = {joints.JOINT_NAMES[joint] for joint in ARM_JOINTS[HANDS.index(self.hand)]}
        return MappingReport(mapped, tuple(name for name in G1_NAMES if name not in arm), ("gripper",))


def relative_to_arms(actions: np.ndarray, scaler: float, config: ArmConfig) -> tuple[np.ndarray, np.ndarray]:
    """Relative actions (T, 7), as `states_to_relative_actions` makes them -> joint_pos (T + 1, 29) rad, gripper (T,).

    The other joints stay at home.

    Raises:
        ValueError: another width, numbers that are not finite, or a path that the arm cannot follow.
    """
    actions = np.asarray(actions, np.float64)
    if actions.ndim == 2 and actions.shape[1] == STATE_DIM - 1:
        actions = np.pad(actions, ((0, 0), (0, 1)))  # an arm without a gripper
    require_finite("action", actions, (len(actions), STATE_DIM))
    hand = HANDS.index(config.hand)
    posture = joints.HOME.copy()
    posture[ARM_JOINTS[hand]] = _READY * _SIDES[hand]
    pos, quat_wxyz = palm_poses(posture)
    path = relative_actions_to_states(_in_palm_frame(actions, config.approach, scaler), np.zeros(STATE_DIM), scaler)
    middle = 0.5 * (path[:, :3].min(axis=0) + path[:, :3].max(axis=0))
    return _follow(posture, hand, path[:, :3] - middle + pos[hand], path[:, 3:6], config), actions[:, 6]


def _in_palm_frame(actions: np.ndarray, approach: str, scaler: float) -> np.ndarray:
    turn = APPROACHES[approach]
    rotation = turn @ euler2rotm(actions[:, 3:6] / scaler) @ turn.T
    return np.concatenate([actions[:, :3] @ turn.T, scaler * rotm2euler(rotation), actions[:, 6:]], axis=1)


def _follow(posture: np.ndarray, hand: int, pos_b: np.ndarray, euler: np.ndarray, config: ArmConfig) -> np.ndarray:
    """Postures (N, 29) rad whose palm is at pos_b (N, 3) m and turned by euler (N, 3) rad from straight ahead."""
    quats = rotm2quat(euler2rotm(euler))
    found = np.empty((len(pos_b), joints.NUM_JOINTS))
    first_try = 5  # the way to the path's start is longer than that from one step to the next
    worst, step = 0.0, 0
    for n, (pos, quat_wxyz) in enumerate(zip(pos_b, quats, strict=True)):
        posture = _reach(posture, hand, pos, quat_wxyz, config.iterations * (first_try if n == 0 else 1))
        found[n] = posture
        missed = float(np.linalg.norm(palm_poses(posture)[0][hand] - pos))
        worst, step = max((worst, step), (missed, n))
    if worst > config.tolerance:
        size = np.ptp(pos_b, axis=0)
        raise ValueError(
            f"The {HANDS[hand]} arm comes no nearer than {1000 * worst:.0f} mm to the gripper's path at step {step} "
            f"(it is {size[0]:.2f} x {size[1]:.2f} x {size[2]:.2f} m large). Check action_scaler and the option "
            f"'approach', allow a larger 'tolerance', or {SKIP_HINT}."
        )
    return found


def _reach(posture: np.ndarray, hand: int, pos_b: np.ndarray, quat_wxyz: np.ndarray, iterations: int) -> np.ndarray:
    """The posture (29,) after damped Newton steps of one arm towards a palm pose."""
    chain = ARM_JOINTS[hand]
    low, high = joints.LOWER[chain] + _MARGIN, joints.UPPER[chain] - _MARGIN
    posture = posture.copy()
    for _ in range(iterations):
        pos, quat = palm_poses(posture)
        between = quat_multiply(quat_wxyz, quat_conjugate(quat[hand]))
        turn = 2.0 * between[1:] * (1.0 if between[0] >= 0.0 else -1.0)
        error = np.concatenate([pos_b - pos[hand], _TURN_WEIGHT * turn])
        if np.abs(error).max() < _CLOSE:
            break
        jacobian = palm_jacobian(posture, hand)
        jacobian[3:] *= _TURN_WEIGHT
        step = _damped(jacobian, error, posture[chain], low, high)
        posture[chain] = np.clip(posture[chain] + step, low, high)
        if np.abs(step).max() < 1e-4:
            break
    return posture


def _damped(jacobian: np.ndarray, error: np.ndarray, arm: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Joint step (7,) rad; joints that would leave their limits are held and the others share the work."""
    free = np.ones(7)
    for _ in range(3):
        held = jacobian * free
        step = held.T @ np.linalg.solve(held @ held.T + _DAMPING**2 * np.eye(6), error)
        step *= min(1.0, _MAX_STEP / np.abs(step).max(initial=1e-9))
        out = (free > 0.0) & ((arm + step < low) | (arm + step > high))
        if not out.any():
            break
        free = free * ~out
    return step


def arm_motion(actions: np.ndarray, scaler: float, rate_hz: float, config: ArmConfig, **rest: Any) -> G1Motion:
    """T relative actions (T, 7) as a G1 motion of T steps; rest: what else `G1Motion` takes.

    The gripper is kept as infos["gripper"] (T,): the stock robot has none (D9).
    """
    joint_pos, gripper = relative_to_arms(actions, scaler, config)
    infos = {"gripper": gripper.astype(np.float32)}
    return G1Motion(joint_pos[1:], joint_pos[:-1], rate_hz, infos=infos, **rest)


def state_motion(states: np.ndarray, rate_hz: float, config: ArmConfig, **rest: Any) -> G1Motion:
    """The same from T gripper states (T, 7): x, y, z m, roll, pitch, yaw rad, gripper. T - 1 steps come out."""
    require_finite("state", np.asarray(states), (len(states), STATE_DIM))
    return arm_motion(states_to_relative_actions(states, 1.0), 1.0, rate_hz, config, **rest)
