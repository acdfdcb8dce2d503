"""neon_sim: a Unitree G1 in MuJoCo that sees, hears and keeps learning. Importing it registers `NeonG1-v0`."""

import gymnasium

__version__ = "0.1.0"

gymnasium.register(id="NeonG1-v0", entry_point="neon_sim.env:NeonG1Env")
