"""Other faces of the same env, for what users bring along: plain RL, HER, chunked policies, dm_env.

A stack of frames needs none of ours: `gymnasium.wrappers.FrameStackObservation` takes the env as it is.
"""

from neon_sim.wrappers.chunks import ActionChunks
from neon_sim.wrappers.dm import DmEnv
from neon_sim.wrappers.flat import FlatObservation
from neon_sim.wrappers.goal import ReachGoal

__all__ = ["ActionChunks", "DmEnv", "FlatObservation", "ReachGoal"]
