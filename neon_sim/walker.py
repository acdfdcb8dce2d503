"""The walker: the controller of legs and waist that stands, walks on command and catches itself, on sensed inputs only.

Two controllers share the work. `Balance` stands: it holds the feet where they are and the pelvis still to a millimetre.
`Stepper` with the trained network walks, and takes over as soon as there is somewhere to go or something to catch; when
all is quiet again and both feet stand, `Balance` has the robot back.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.locomotion.alike import Number, numbers
from neon_sim.locomotion.balance import CONTROL_DT, Balance
from neon_sim.locomotion.network import WalkerWeights, load_weights
from neon_sim.locomotion.posture import HEIGHT_RANGE, crouch
from neon_sim.locomotion.residual import own_part
from neon_sim.locomotion.stepper import ACTION_SIZE, OWN, Stepper
from neon_sim.robot import RobotState
from neon_sim.shipped import WALKER, asset_path

__all__ = ["CONTROL_DT", "HEIGHT_RANGE", "Walker", "crouch"]

# Who has the robot. It steps when one of these is exceeded, and stands again as soon as all of the second set hold.
STEP_COMMAND: Final = 0.05  # m/s, rad/s; less is nobody's wish to go anywhere
STEP_SPEED: Final = 0.25  # m/s
STEP_LEAN: Final = 0.15  # sine of the tilt
SPEED_SHARE: Final = 0.25  # of a new speed in the filtered one: noisy encoders alone make 0.15 m/s
REST_AMPLITUDE: Final = 0.3  # of the clock, which comes to rest when nothing is to be caught
REST_STEPS: Final = round(0.04 / CONTROL_DT)  # how long all must be quiet
REST_SPEED: Final = 0.2
REST_LEAN: Final = 0.14
REST_STRIDE: Final = 0.15  # m that one foot may be ahead of the other
REST_WIDTH: Final = 0.15  # m between the feet at least
REST_OFFSET: Final = 0.075  # m, how far from between the feet the body may come to rest if nothing is done
FALLING_S: Final = 0.28  # s, sqrt(height of the centre of mass / gravity): how far ahead that looks
_BEYOND: Final = 1.3  # rad that a target may lie outside the joint's range, to press against a load
# A command that jumps makes the walker jump, and a punch that comes then fells it: it goes there at 1 m/s^2 and
# 2 rad/s^2, here per step. On runs 1016 to 1103 of the walking tour a ramp 0.6 times as steep and one that turns twice
# as fast were not told apart from it in survival (85 to 87 s), and the latter broke the vendor's limits twice as often.
RAMP: Final = (1.0 * CONTROL_DT, 1.0 * CONTROL_DT, 2.0 * CONTROL_DT)
FADE: Final = 0.85  # per step: how the jump from one controller's targets to the other's wears off
LOWEST, HIGHEST = joints.LOWER[OWN] - _BEYOND, joints.UPPER[OWN] + _BEYOND


class Walker:
    """Legs and waist of one robot.

    Args:
        weights: trained weights or the file that holds them; the shipped ones by default.
        policy: False leaves the base gait alone, without the network: a baseline.
        stands: False never hands over to `Balance`: what the network does by itself.

    Attributes:
        max_velocity: (3,) m/s, m/s, rad/s that a command may ask for and get.
    """

    max_velocity = np.array([1.0, 0.4, 1.0])

    def __init__(self, weights: WalkerWeights | Path | None = None, policy: bool = True, stands: bool = True) -> None:
        if weights is None:
            weights = asset_path(WALKER)
        self.weights = weights if isinstance(weights, WalkerWeights) else load_weights(weights)
        self._policy, self._stands = policy, stands
        self._balance, self._stepper = Balance(), Stepper(1, self.weights.gains)
        self._wanted, self._answer = [0.0, 0.0, 0.0], self.weights.ask(np.zeros(3)).tolist()
        self.reset()

    def reset(self) -> None:
        """Forget the past; the robot is taken to stand."""
        self._balance.reset()
        self._stepper.reset()
        self._stepping = not self._stands
        self._was_stepping = self._stepping
        self._quiet = 0  # steps since something last moved
        self._command = [0.0, 0.0, 0.0]  # m/s, m/s, rad/s, on its way to what is asked for
        self._speed = np.zeros(2)  # m/s, filtered, while standing
        self._targets: np.ndarray | None = None  # (15,) of the step before
        self._offset = np.zeros(15)  # rad, what is left of the last jump

    def get_state(self) -> dict[str, Any]:
        """Everything that the next step depends on, in plain copies."""
        return {
            "balance": self._balance.get_state(),
            "stepper": self._stepper.get_state(),
            "stepping": (self._stepping, self._was_stepping),
            "quiet": self._quiet,
            "command": list(self._command),
            "speed": self._speed.copy(),
            "targets": self._targets,
            "offset": self._offset.copy(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to what `get_state` returned; the steps that follow are equal to the bit."""
        self._balance.set_state(state["balance"])
        self._stepper.set_state(state["stepper"])
        (self._stepping, self._was_stepping), self._quiet = state["stepping"], state["quiet"]
        self._command = list(state["command"])
        self._speed, self._targets, self._offset = state["speed"].copy(), state["targets"], state["offset"].copy()

    def step(
        self,
        state: RobotState,
        command: np.ndarray,
        owned_mask: np.ndarray,
        external_targets: np.ndarray,
        residual: np.ndarray | None = None,
    ) -> np.ndarray:
        """Joint targets (29,) rad for the next control period.

        Args:
            state: what the robot senses; joint_pos, joint_vel, quat_wxyz, gyro and gravity_b are read.
            command: (4,) vx, vy m/s, yaw rate rad/s, pelvis height m; limited to what it reaches, gone to at `RAMP`.
            owned_mask: (29,) bool; True = the caller commands the joint, its external target passes through.
            external_targets: (29,) rad.
            residual: (29,) rad, added to the targets of the joints that the walker owns, `residual.LIMIT` at most.
        """
        targets, free = np.array(external_targets, dtype=np.float64), ~owned_mask[OWN]
        if not np.count_nonzero(free):
            return targets
        command = np.array(command, dtype=np.float64)
        command[:3] = self._ramped(command[:3])
        before = self._stepping
        if self._stepping:
            own = self._walk(state, command, owned_mask)
        else:
            own = self._balance.own_targets(state, float(command[3]))
        if self._stands:
            self._choose(state, command)
        own = self._faded(own, before)
        if residual is not None:
            own = own + own_part(residual)
        np.copyto(targets[OWN], own.clip(LOWEST, HIGHEST), where=free)
        return targets

    def _ramped(self, velocity: np.ndarray) -> list[float]:
        """What to command (3,) now for a velocity (3,) to be reached in the end; what is no number changes nothing."""
        wanted = velocity.tolist()
        if wanted != self._wanted:  # most steps want what the one before wanted
            self._wanted, self._answer = wanted, self.weights.ask(velocity).tolist()
        gap = [to - now for to, now in zip(self._answer, self._command, strict=True)]
        self._command = [
            now + min(max(far, -most), most) if far == far else now
            for now, far, most in zip(self._command, gap, RAMP, strict=True)
        ]
        return self._command

    def _walk(self, state: RobotState, command: np.ndarray, owned_mask: np.ndarray) -> np.ndarray:
        """Targets (15,) of the stepper and its network."""
        observation = self._stepper.observe(
            state.joint_pos[None],
            state.joint_vel[None],
            state.gyro[None],
            state.gravity_b[None],
            command[None],
            0.0 if owned_mask[12] else 1.0,
            state.limb_poses[:, None],
        )
        action = self.weights.act(observation) if self._policy else np.zeros((1, ACTION_SIZE))
        return self._stepper.targets(action)[0]

    def _choose(self, state: RobotState, command: np.ndarray) -> None:
        """Who has the robot in the next step."""
        wanted = max(map(abs, command[:3].tolist())) > STEP_COMMAND
        lean = math.hypot(*state.gravity_b[:2].tolist())
        if not self._stepping:
            self._speed += SPEED_SHARE * (self._balance.velocity - self._speed)
            if wanted or math.hypot(*self._speed.tolist()) > STEP_SPEED or lean > STEP_LEAN:
                self._stepping, self._quiet = True, 0
                self._speed[:] = 0.0
                self._stepper.reset()
                self._stepper.memory.height[:] = self._balance.height
            return
        memory = self._stepper.memory
        quiet = (
            not wanted
            and lean < REST_LEAN
            and memory.amplitude[0] < REST_AMPLITUDE
            and math.hypot(*memory.slow[0, :2].tolist()) < REST_SPEED
            and astride(self._stepper)
        )
        self._quiet = self._quiet + 1 if quiet else 0
        if self._quiet >= REST_STEPS:
            self._stepping = False
            self._balance.take_over(state.joint_pos, state.gravity_b, float(memory.height[0]))

    def _faded(self, own: np.ndarray, stepping: bool) -> np.ndarray:
        """The targets (15,), without a jump where one controller follows the other."""
        if self._targets is not None and stepping != self._was_stepping:
            self._offset = self._targets - own
        self._was_stepping = stepping
        self._offset = self._offset * FADE
        self._targets = own + self._offset
        return self._targets


def astride(stepper: Stepper) -> Number:
    """Whether both feet stand, far enough apart to stand on, and the capture point (Pratt 2006) is between them."""
    odometry, calm = stepper.odometry, numbers(stepper.memory.calm.T)
    (left_x, left_y, _), (right_x, right_y, _) = odometry.foot_pos
    ahead = odometry.com[0] - 0.5 * (left_x + right_x) + FALLING_S * calm[0]
    aside = odometry.com[1] - 0.5 * (left_y + right_y) + FALLING_S * calm[1]
    apart = (abs(left_x - right_x) < REST_STRIDE) & (left_y - right_y > REST_WIDTH)
    both = odometry.contact[0] & odometry.contact[1]
    return both & apart & (abs(ahead) < REST_OFFSET) & (abs(aside) < REST_OFFSET)
