"""Many G1 at once behind Gymnasium's VectorEnv API: physics on threads, everything else on rows of arrays."""

from neon_sim.vector_env.env import LEFT_OUT, NeonG1VectorEnv

__all__ = ["LEFT_OUT", "NeonG1VectorEnv"]
