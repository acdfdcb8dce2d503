"""neon_sim: a Unitree G1 in MuJoCo that sees, hears and keeps learning. Importing it registers its environments."""

import gymnasium

__version__ = "0.1.0"

gymnasium.register(
    id="NeonG1-v0",
    entry_point="neon_sim.env:NeonG1Env",
    vector_entry_point="neon_sim.vector_env:NeonG1VectorEnv",
)
gymnasium.register(
    id="NeonG1Real-v0",
    entry_point="neon_sim.real.env:NeonG1RealEnv",
    vector_entry_point="neon_sim.real.env:refuse_vector",
)
