"""Real-time chunking for a policy that a loop asks: each answer takes over from the last one, no faster than is safe.

The loop asks again when it has carried out what it was given (`neon_sim.rollout.rollout`). Whoever asks from another
thread, and counts the steps that pass meanwhile, uses `chunking.RealTimeChunker` itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.g1.joints import NUM_JOINTS
from neon_sim.inference.chunking import ChunkingConfig, RealTimeChunker
from neon_sim.inference.policy import Policy
from neon_sim.safety import SafetyConfig, SafetyLimits, limit

CONTROL_DT: Final = 0.02  # s
_JOINT_POS, _TRACKING_ERROR = slice(0, NUM_JOINTS), slice(87, 116)  # of the proprio vector
_NEARLY: Final = 0.999  # of each speed limit: a float32 that is rounded up must not be cut by the env


@dataclass(frozen=True)
class RealTimeConfig:
    """How chunks are carried out.

    chunking: the blend, and the steps from one answer to the next. delay: steps of 20 ms that pass while a chunk is
    computed, `chunking.delay_steps` of a latency; they are carried out from the old plan. safety: the speeds that no
    joint target exceeds; None sends the blend as it is, and leaves the cutting to the env.
    Raises ValueError for a negative delay and for one that eats the whole horizon.
    """

    chunking: ChunkingConfig = field(default_factory=ChunkingConfig)
    delay: int = 0
    safety: SafetyConfig | None = field(default_factory=SafetyConfig)

    def __post_init__(self) -> None:
        horizon = self.chunking.execution_horizon
        if not 0 <= self.delay <= horizon:
            raise ValueError(f"delay wants 0 to execution_horizon = {horizon} steps, got {self.delay}.")

    def check_length(self, steps: int) -> None:
        """Raise ValueError where a chunk of `steps` runs out before the next one is there."""
        needed = self.chunking.execution_horizon + self.delay
        if needed > steps:
            raise ValueError(
                f"execution_horizon + delay wants at most the chunk's {steps} steps, got {needed}. Ask sooner."
            )


class RealTimePlan:
    """The plan of one robot: a chunk in, the actions until the next question out."""

    def __init__(self, config: RealTimeConfig, space: G1ActionSpace) -> None:
        self.config, self.space = config, space
        self.chunker = RealTimeChunker(config.chunking)
        self._limits = SafetyLimits(config.safety)

    def reset(self) -> None:
        """Forget the plan."""
        self.chunker.reset()

    def follow(self, chunk: np.ndarray, proprio: np.ndarray | None = None) -> np.ndarray:
        """Take in the chunk (1, T, A) of the observation just made; return the next (1, execution_horizon, A).

        The first chunk of an episode is waited for, standing still: nothing of it is stale. Afterwards the first
        `delay` actions are the old plan's.

        Args:
            chunk: in action units.
            proprio: (125,) of the same observation; the speed limit counts from the target that it says was sent last.

        Raises:
            ValueError: no proprioception, and a speed limit that needs it.
        """
        stale = self.config.delay if self.chunker.remaining else 0
        self.chunker.request()
        actions = [self.chunker.next_action() for _ in range(stale)]
        self.chunker.add(chunk)
        actions += [self.chunker.next_action() for _ in range(self.config.chunking.execution_horizon - stale)]
        plan = np.stack(actions, axis=1)
        if self.config.safety is None:
            return plan
        if proprio is None:
            raise ValueError(
                "A speed limit wants 'proprio' in the observation. Name it in the sensors, or safety=None."
            )
        return self._slowed(plan[0], last_target(proprio))[None].astype(plan.dtype)

    def _slowed(self, actions: np.ndarray, previous: np.ndarray) -> np.ndarray:
        """Actions (N, A) whose targets start from `previous` (29,) rad and keep the speeds of the safety limits."""
        targets, velocities = self.space.decode(actions)
        for index, velocity in enumerate(velocities):
            previous, velocities[index], _ = limit(
                targets[index], previous, self.space.owned_mask, velocity, self._limits, _NEARLY * CONTROL_DT
            )
            targets[index] = previous
        return self.space.encode(targets, velocities)

    def get_state(self) -> dict[str, Any]:
        """The plan."""
        return self.chunker.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        self.chunker.set_state(state)


class RealTimePolicy:
    """Any policy, its chunks taking over from each other by real-time chunking; `NeonPolicy` has it built in.

    Args:
        policy: the one that is asked.
        config: how its chunks are carried out.
        space: of its actions.

    `act` raises ValueError for chunks that are shorter than the config needs, and as `RealTimePlan.follow` does.
    """

    def __init__(self, policy: Policy, config: RealTimeConfig, space: G1ActionSpace) -> None:
        self.policy, self.plan = policy, RealTimePlan(config, space)
        self._proprio: np.ndarray | None = None

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Forget the plan, and what the policy knows."""
        self.plan.reset()
        self.policy.reset(env_ids)

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """Pass the observation on; the speed limit counts from the target in it."""
        self._proprio = obs.get("proprio")
        self.policy.observe(obs, now_s)

    def act(self) -> np.ndarray:
        """(1, execution_horizon, A): the policy's newest chunk, taken over from the one before."""
        chunk = self.policy.act()
        self.plan.config.check_length(chunk.shape[1])
        return self.plan.follow(chunk, self._proprio)


def last_target(proprio: np.ndarray) -> np.ndarray:
    """The joint targets (29,) rad that were sent last, out of proprio (125,): where each joint is, and how far off."""
    body = np.asarray(proprio, dtype=np.float64)
    return body[_JOINT_POS] + body[_TRACKING_ERROR]
