"""The robot's own program: a state machine over our walker, which has the motors until somebody releases them."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.real.bridge.config import TICK_S, WALKER_TICKS
from neon_sim.real.bridge.gestures import Arms
from neon_sim.real.bridge.motors import DAMPING, LIMP, Motors, holding
from neon_sim.real.rpc_errors import SportUnavailableError, UnknownFsmError
from neon_sim.real.sport import Fsm
from neon_sim.robot import RobotState
from neon_sim.walker import HEIGHT_RANGE, Walker

STAND_UP_S: Final = 2.0  # from wherever the joints are to the home pose: unitree_rl_gym's move to its default pose
_FALLEN: Final = float(np.cos(1.0))  # upright component of gravity at the vendor's bad_orientation, 1.0 rad
_TOO_TILTED: Final = float(np.cos(0.3))  # the walker does not get up from the floor
_DT: Final = TICK_S * WALKER_TICKS
_ARMS: Final = joints.GROUPS["arms"]
_ON_FEET: Final = (Fsm.STAND_UP, Fsm.WALK, Fsm.SQUAT)

# Where one can go from a state; everywhere to ZERO_TORQUE and DAMP. SIT and LIE_TO_STAND are beyond our walker.
_WAYS: Final[dict[Fsm, tuple[Fsm, ...]]] = {
    Fsm.ZERO_TORQUE: (Fsm.STAND_UP,),
    Fsm.DAMP: (Fsm.STAND_UP,),
    Fsm.STAND_UP: (Fsm.STAND_UP, Fsm.WALK, Fsm.SQUAT),
    Fsm.WALK: (Fsm.STAND_UP, Fsm.WALK, Fsm.SQUAT),
    Fsm.SQUAT: (Fsm.STAND_UP, Fsm.WALK, Fsm.SQUAT),
}


class Locomotion:
    """Which state the robot is in, and what its own program tells the motors."""

    def __init__(self, walker: Walker, arms: Arms) -> None:
        """walker: one that already holds the robot up."""
        self.fsm = Fsm.WALK
        self.height = joints.HOME_HEIGHT  # m, commanded
        self.motors: Motors = holding(joints.HOME)
        self._walker, self._arms = walker, arms
        self._velocity, self._until_s = np.zeros(3), 0.0
        self._rise: tuple[float, np.ndarray] | None = None  # since when, and from which angles

    @property
    def moving(self) -> bool:
        """True while a velocity is commanded."""
        return bool(self._velocity.any())

    def go_to(self, fsm_id: int, state: RobotState) -> None:
        """Change the state.

        Raises:
            UnknownFsmError: no such state, no way to it from here, or the robot is not upright.
        """
        wanted = self._wanted(fsm_id)
        if wanted not in (Fsm.ZERO_TORQUE, Fsm.DAMP):
            if wanted not in _WAYS[self.fsm]:
                raise UnknownFsmError(f"from {self.fsm.name} to {wanted.name}")
            if -state.gravity_b[2] < _TOO_TILTED:
                raise UnknownFsmError("the robot is not upright and cannot get up by itself")
            if wanted == Fsm.WALK and self._rise is not None:
                raise UnknownFsmError(f"still standing up; that takes {STAND_UP_S:g} s")
        if wanted == Fsm.STAND_UP and self.fsm not in _ON_FEET:
            self._rise = state.time_s, state.joint_pos
        elif wanted not in _ON_FEET:
            self._rise = None
        self.fsm = wanted
        self.order_velocity((0.0, 0.0, 0.0), 0.0)

    def resume(self, fsm_id: int, state: RobotState) -> None:
        """Take the motors back from a client: as `go_to`, and the walker forgets what it did before."""
        self.go_to(fsm_id, state)
        self._walker.reset()

    def order_velocity(self, velocity: Sequence[float], until_s: float) -> None:
        """Walk at (m/s, m/s, rad/s) until a simulated time.

        Raises:
            SportUnavailableError: only WALK walks.
        """
        asked = np.array(velocity, dtype=np.float64)
        if asked.any() and self.fsm != Fsm.WALK:
            raise SportUnavailableError(f"in {self.fsm.name}; set fsm {int(Fsm.WALK)} first")
        self._velocity, self._until_s = asked, until_s

    def order_height(self, height: float) -> None:
        """Stand so high, m, as far as the walker can: so 0 is the lowest, and everything above 1 the highest."""
        self.height = float(np.clip(height, *HEIGHT_RANGE))

    def think(self, state: RobotState, owned: np.ndarray, external: np.ndarray) -> None:
        """Work out the motors' order for the next 20 ms.

        Args:
            state: what the robot senses.
            owned: (29,) bool, joints that a client has a hand on.
            external: (29,) rad, where that client wants them.
        """
        if self.fsm in _ON_FEET and -state.gravity_b[2] < _FALLEN:
            self.go_to(Fsm.DAMP, state)
        if state.time_s >= self._until_s - 1e-9:
            self._velocity = np.zeros(3)
        targets = joints.HOME.copy()
        targets[_ARMS] = self._arms.think(state.time_s, _DT)
        if self.fsm in (Fsm.ZERO_TORQUE, Fsm.DAMP):
            self.motors = LIMP if self.fsm == Fsm.ZERO_TORQUE else DAMPING
        elif self._rise is not None:
            self.motors = holding(self._rising(state.time_s, targets))
        else:
            self.motors = holding(self._walk(state, owned, np.where(owned, external, targets)))

    def _walk(self, state: RobotState, owned: np.ndarray, targets: np.ndarray) -> np.ndarray:
        mask = owned.copy()
        mask[_ARMS] = True
        height = HEIGHT_RANGE[0] if self.fsm == Fsm.SQUAT else self.height
        return self._walker.step(state, np.array([*self._velocity, height]), mask, targets)

    def _rising(self, time_s: float, targets: np.ndarray) -> np.ndarray:
        assert self._rise is not None
        since_s, start = self._rise
        share = min((time_s - since_s) / STAND_UP_S, 1.0)
        if share >= 1.0:
            self._rise = None
            self._walker.reset()
        return start + share * (targets - start)

    def _wanted(self, fsm_id: int) -> Fsm:
        if fsm_id == Fsm.SQUAT_TO_STAND_AND_BACK:  # up from wherever it is down: the vendor's example asks it in DAMP
            return Fsm.SQUAT if self.fsm in (Fsm.STAND_UP, Fsm.WALK) else Fsm.STAND_UP
        if fsm_id not in list(_WAYS):
            raise UnknownFsmError(f"{fsm_id}; there are {[int(known) for known in _WAYS]}")
        return Fsm(fsm_id)
