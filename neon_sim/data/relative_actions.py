"""End-effector motion told from the gripper's own frame, so that it does not depend on whose gripper it is.

Paper, 5.3 (after Cosmos-Predict2.5): the step from one gripper state to the next, in the frame of the former
(eq. 12-14), times 20, with the gripper's opening appended. Proposition 1: two robots that make the same motion give the
same numbers, wherever their bases stand and their coordinates begin.

A state is (x, y, z m, roll, pitch, yaw rad, gripper 0 to 1), Euler angles ZYX (eq. 15-17), quaternions wxyz.
"""

from typing import Final

import numpy as np

from neon_sim.g1.geometry import euler_to_matrix, matrix_to_euler, matrix_to_quat, quat_to_matrix

SCALER: Final = 20.0  # lambda
STATE_DIM: Final = 7


def euler2rotm(euler: np.ndarray) -> np.ndarray:
    """Roll, pitch, yaw (..., 3) rad -> rotation matrices (..., 3, 3), ZYX."""
    return euler_to_matrix(euler)


def rotm2euler(rotm: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) -> roll, pitch, yaw (..., 3) rad (eq. 15-17)."""
    return matrix_to_euler(rotm)


def rotm2quat(rotm: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) -> quat_wxyz (..., 4) with w >= 0."""
    return matrix_to_quat(rotm)


def quat2rotm(quat_wxyz: np.ndarray) -> np.ndarray:
    """quat_wxyz (..., 4), any non-zero length -> rotation matrices (..., 3, 3)."""
    return quat_to_matrix(quat_wxyz)


def states_to_relative_actions(states: np.ndarray, scaler: float = SCALER) -> np.ndarray:
    """Gripper states (T, 7) -> the T - 1 steps between them (T - 1, 7): lambda dp, lambda dtheta, gripper after it.

    Raises ValueError for fewer than two states, another width, or a scaler that is not positive.
    """
    states = _checked("states", states, scaler)
    if len(states) < 2:
        raise ValueError(f"states_to_relative_actions wants two states or more, got {len(states)}.")
    rotation = euler2rotm(states[:, 3:6])
    moved = np.einsum("tji,tj->ti", rotation[:-1], np.diff(states[:, :3], axis=0))  # eq. 12
    turned = rotm2euler(np.einsum("tji,tjk->tik", rotation[:-1], rotation[1:]))  # eq. 13, 14
    return np.concatenate([scaler * moved, scaler * turned, states[1:, 6:]], axis=1)


def relative_actions_to_states(actions: np.ndarray, initial_state: np.ndarray, scaler: float = SCALER) -> np.ndarray:
    """The way back: steps (T, 7) from a first state (7,) -> states (T + 1, 7), the first one included.

    Raises ValueError for another width or a scaler that is not positive.
    """
    actions = _checked("actions", actions, scaler)
    states = np.empty((len(actions) + 1, STATE_DIM))
    states[0] = _checked("initial_state", np.asarray(initial_state)[None], scaler)[0]
    rotation, turned = euler2rotm(states[0, 3:6]), euler2rotm(actions[:, 3:6] / scaler)
    for t, action in enumerate(actions):
        states[t + 1, :3] = states[t, :3] + rotation @ (action[:3] / scaler)
        rotation = rotation @ turned[t]
        states[t + 1, 3:6], states[t + 1, 6] = rotm2euler(rotation), action[6]
    return states


def _checked(what: str, array: np.ndarray, scaler: float) -> np.ndarray:
    array = np.asarray(array, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != STATE_DIM:
        raise ValueError(f"{what} must have {STATE_DIM} columns (position, Euler angles, gripper), got {array.shape}.")
    if not scaler > 0.0:
        raise ValueError(f"scaler must be positive, got {scaler}.")
    return array
