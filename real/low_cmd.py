"""A LowCmd that is filled in place and sealed on its way out: what the control process sends 500 times a second."""

import numpy as np

from neon_sim.g1.joints import NUM_JOINTS
from neon_sim.real import crc
from neon_sim.real.codec import layout
from neon_sim.real.idl.unitree_hg import LowCmd

DAMPING_KD = 8.0  # N m s/rad, every joint: unitree_rl_gym deploy_real create_damping_cmd


class LowCmdWriter:
    """One command, kept. The arrays are views into it; joints stand in hardware order, slots 29..34 stay zero."""

    def __init__(self, mode_machine: int) -> None:
        """mode_machine: what the robot's LowState says; it ignores commands that say anything else."""
        self._layout = layout(LowCmd)
        self.record = self._layout.zeros()
        self.record["mode_machine"] = mode_machine
        motors = self.record["motor_cmd"][:NUM_JOINTS]
        self.mode: np.ndarray = motors["mode"]  # (29,) 1 enabled, 0 disabled
        self.q: np.ndarray = motors["q"]  # (29,) rad
        self.dq: np.ndarray = motors["dq"]  # (29,) rad/s
        self.tau: np.ndarray = motors["tau"]  # (29,) N m
        self.kp: np.ndarray = motors["kp"]  # (29,) N m/rad
        self.kd: np.ndarray = motors["kd"]  # (29,) N m s/rad
        self.mode[:] = 1

    def damp(self) -> None:
        """Make it the command that only brakes: no stiffness, no target, no torque."""
        for array in (self.q, self.dq, self.tau, self.kp):
            array[:] = 0.0
        self.kd[:] = DAMPING_KD
        self.mode[:] = 1

    def release(self) -> None:
        """Make it zero torque: a standing robot falls."""
        self.damp()
        self.kd[:] = 0.0

    def encode(self) -> bytes:
        """Return the sample for `transport.Writer.write`, sealed; the record itself is not."""
        content = self.record.tobytes()[:-4]
        return self._layout.sample(content + crc.checksum(content).to_bytes(4, "little"))
