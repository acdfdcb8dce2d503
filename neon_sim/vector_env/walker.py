"""The walkers of many robots in one go: one pass of the network for all that step, one of `BalanceBatch` for the rest.

The rules are those of `neon_sim.walker.Walker`; a test holds this to it.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from neon_sim import walker as single
from neon_sim.locomotion.network import WalkerWeights
from neon_sim.locomotion.stepper import OWN, Stepper
from neon_sim.vector_env.balance import BalanceBatch
from neon_sim.vector_env.network import NetworkRows

_WAIST_YAW: Final = 12


class SensedRows(NamedTuple):
    """What R robots sense about themselves; the fields are those of `RobotState`."""

    joint_pos: np.ndarray  # (R, 29) rad
    joint_vel: np.ndarray  # (R, 29) rad/s
    joint_torque: np.ndarray  # (R, 29) N m
    joint_target: np.ndarray  # (R, 29) rad
    quat_wxyz: np.ndarray  # (R, 4)
    gyro: np.ndarray  # (R, 3) rad/s
    gravity_b: np.ndarray  # (R, 3)
    limb_poses: np.ndarray  # (10, R, 4, 4, 4), or (10, R, 2, 4, 4) of the arms alone where nobody walks

    def of(self, rows: np.ndarray) -> "SensedRows":
        """Those of some robots."""
        if len(rows) == len(self.gyro):  # rows are in order, so these are all
            return self
        return SensedRows._make([*(part[rows] for part in self[:-1]), self.limb_poses[:, rows]])


class WalkerBatch:
    """Legs and waist of N robots.

    Args:
        count: N.
        weights: of the network.
        owned_mask: (29,) bool; True = the caller commands the joint, in all robots.
    """

    def __init__(self, count: int, weights: WalkerWeights, owned_mask: np.ndarray) -> None:
        self.weights, self._owned = weights, owned_mask[OWN]
        self._owns_waist = 0.0 if owned_mask[_WAIST_YAW] else 1.0
        self._balance, self._network = BalanceBatch(count), NetworkRows(weights)
        self._memory = Stepper(count, weights.gains).get_state()
        # Those that stepped last, and what they carry, which is newer than `_memory` until `_put_back`.
        self._stepper, self._walking = Stepper(0, weights.gains), np.empty(0, dtype=np.intp)
        self._stepping = np.zeros(count, dtype=bool)
        self._was_stepping = np.zeros(count, dtype=bool)
        self._quiet = np.zeros(count, dtype=np.intp)
        self._command = np.zeros((count, 3))  # m/s, m/s, rad/s, on its way to what is asked for
        self._speed = np.zeros((count, 2))  # m/s
        self._targets = np.full((count, 15), np.nan)  # rad, of the step before; NaN where there was none
        self._offset = np.zeros((count, 15))  # rad

    def load(self, row: int | slice, state: Mapping[str, Any]) -> None:
        """Take over what one `Walker.get_state` says, for one robot or for some."""
        self._put_back()
        self._balance.load(row, state["balance"])
        for name, value in state["stepper"].items():
            self._memory[name][row] = value[0]
        (self._stepping[row], self._was_stepping[row]), self._quiet[row] = state["stepping"], state["quiet"]
        self._command[row], self._speed[row], self._offset[row] = state["command"], state["speed"], state["offset"]
        self._targets[row] = np.nan if state["targets"] is None else state["targets"]

    def state_of(self, row: int) -> dict[str, Any]:
        """One row as `Walker.set_state` takes it."""
        self._put_back()
        return {
            "balance": self._balance.state_of(row),
            "stepper": {name: value[row : row + 1].copy() for name, value in self._memory.items()},
            "stepping": (bool(self._stepping[row]), bool(self._was_stepping[row])),
            "quiet": int(self._quiet[row]),
            "command": self._command[row].tolist(),
            "speed": self._speed[row].copy(),
            "targets": None if np.isnan(self._targets[row, 0]) else self._targets[row].copy(),
            "offset": self._offset[row].copy(),
        }

    def step(self, rows: np.ndarray, sensed: SensedRows, command: np.ndarray, external: np.ndarray) -> np.ndarray:
        """Joint targets (R, 29) rad for the next control period.

        Args:
            rows: (R,) which robots, rising.
            sensed: what they sense.
            command: (R, 4) vx, vy m/s, yaw rate rad/s, pelvis height m.
            external: (R, 29) rad, passed on where the caller commands the joint.
        """
        targets = external.copy()
        if self._owned.all() or len(rows) == 0:
            return targets
        command = command.copy()
        command[:, :3] = self._ramped(rows, command[:, :3])
        before = self._stepping[rows]
        own = np.empty((len(rows), 15))
        walks, stands = np.flatnonzero(before), np.flatnonzero(~before)
        if len(stands):
            own[stands] = self._stand(rows[stands], sensed.of(stands), command[stands])
        if len(walks):
            own[walks] = self._walk(rows[walks], sensed.of(walks), command[walks])
        own = self._faded(rows, own, before)
        targets[:, OWN] = np.where(self._owned, targets[:, OWN], own.clip(single.LOWEST, single.HIGHEST))
        return targets

    def _ramped(self, rows: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """What to command (R, 3) now, as `Walker._ramped`."""
        asked = [np.interp(velocity[:, i], self.weights.reached[i], self.weights.asked[i]) for i in range(3)]
        now, most = self._command[rows], np.array(single.RAMP)
        gap = np.stack(asked, axis=1) - now
        now += np.where(np.isnan(gap), 0.0, gap.clip(-most, most))
        self._command[rows] = now
        return now

    def _stand(self, rows: np.ndarray, sensed: SensedRows, command: np.ndarray) -> np.ndarray:
        """Targets (R, 15) of those that stand, and who of them begins to step."""
        own = self._balance.step(
            rows,
            sensed.limb_poses,
            sensed.joint_vel,
            sensed.quat_wxyz,
            sensed.gyro,
            sensed.gravity_b,
            command[:, 3],
        )
        speed = self._speed[rows]
        speed += single.SPEED_SHARE * (self._balance.velocity[rows] - speed)
        self._speed[rows] = speed
        fast = np.hypot(speed[:, 0], speed[:, 1]) > single.STEP_SPEED
        begin = rows[_wanted(command) | fast | (_lean(sensed) > single.STEP_LEAN)]
        if len(begin):
            self._put_back()
            self._stepping[begin], self._quiet[begin], self._speed[begin] = True, 0, 0.0
            fresh = Stepper(len(begin), self.weights.gains)
            fresh.reset()
            fresh.memory.height[:] = self._balance.height[begin]
            for name, value in vars(fresh.memory).items():
                self._memory[name][begin] = value
        return own

    def _walk(self, rows: np.ndarray, sensed: SensedRows, command: np.ndarray) -> np.ndarray:
        """Targets (R, 15) of those that step, and who of them comes to stand."""
        if not np.array_equal(rows, self._walking):
            self._put_back()
            self._stepper, self._walking = Stepper(len(rows), self.weights.gains), rows
            self._stepper.set_state({name: value[rows] for name, value in self._memory.items()})
        stepper = self._stepper
        observation = stepper.observe(
            sensed.joint_pos,
            sensed.joint_vel,
            sensed.gyro,
            sensed.gravity_b,
            command,
            self._owns_waist,
            sensed.limb_poses,
        )
        own = stepper.targets(self._network.act(observation))
        memory = stepper.memory
        speed = np.hypot(memory.slow[:, 0], memory.slow[:, 1])
        quiet = ~_wanted(command) & (memory.amplitude < single.REST_AMPLITUDE) & (speed < single.REST_SPEED)
        quiet &= (_lean(sensed) < single.REST_LEAN) & single.astride(stepper)
        self._quiet[rows] = counted = np.where(quiet, self._quiet[rows] + 1, 0)
        rest = np.flatnonzero(counted >= single.REST_STEPS)
        if len(rest):
            self._stepping[rows[rest]] = False
            self._balance.take_over(rows[rest], sensed.joint_pos[rest], sensed.gravity_b[rest], memory.height[rest])
        return own

    def _put_back(self) -> None:
        """Bring `_memory` up to date and forget who stepped last."""
        for name, value in vars(self._stepper.memory).items():
            self._memory[name][self._walking] = value
        self._stepper, self._walking = Stepper(0, self.weights.gains), np.empty(0, dtype=np.intp)

    def _faded(self, rows: np.ndarray, own: np.ndarray, stepping: np.ndarray) -> np.ndarray:
        """The targets (R, 15), without a jump where one controller follows the other."""
        last, offset = self._targets[rows], self._offset[rows]
        changed = (stepping != self._was_stepping[rows]) & ~np.isnan(last[:, 0])
        offset = np.where(changed[:, None], last - own, offset) * single.FADE
        own = own + offset
        self._was_stepping[rows], self._offset[rows], self._targets[rows] = stepping, offset, own
        return own


def _wanted(command: np.ndarray) -> np.ndarray:
    return np.abs(command[:, :3]).max(axis=1) > single.STEP_COMMAND


def _lean(sensed: SensedRows) -> np.ndarray:
    return np.hypot(sensed.gravity_b[:, 0], sensed.gravity_b[:, 1])
