"""The G1 action space under the documents' name; it lives in `neon_sim.g1.action_space`."""

from neon_sim.g1.action_space import ControlMode, G1ActionSpace

__all__ = ["ControlMode", "G1ActionSpace"]
