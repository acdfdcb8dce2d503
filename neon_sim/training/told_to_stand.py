"""Told to stand in the scene of another task: what is said, done and counted then.

Where every scene belongs to one task, a policy that sees the scene needs no words. In some episodes of each of them the
robot is told to stand, and stands: who does what the scene suggests is wrong in those, and only the words tell which.
"""

import math
from dataclasses import replace
from typing import Any, Final

import numpy as np

from neon_sim.cells import TASKS
from neon_sim.g1.geometry import quat_to_matrix
from neon_sim.g1.joints import HOME
from neon_sim.g1.kinematics import palm_poses

STAND: Final = "stand"
STANDING_STEPS: Final = 100  # of a recorded episode: no more than a reach or two takes, so most samples are of deeds
NEAR_HOME: Final = 0.15  # m that a palm may be off where it is at home; a disturbed expert's is 0.1 off at times
SAME_HEADING: Final = 0.2  # rad; less than any turn that look_at asks for
_SEED: Final = 17  # of the draw, beside the episode's


def is_told(seed: int, share: float) -> bool:
    """Whether the episode of this seed is one of those, which are `share` of all."""
    return bool(np.random.default_rng([seed, _SEED]).random() < share)


class ToldToStand:
    """The task `stand` in an env of another one: its words, its expert, and whether it was done.

    It was done if the robot is then upright at standing height as `stand` wants it, both palms are at home and it faces
    the way that it faced at first. To judge a policy: `rollout(env, policy, seed=seed, on_chunk=told.watch,
    options={"instruction": told.words(seed)})`, then `told.done()`; the env's own success is the other task's.

    Args:
        env: simulated, unwrapped.
        wording: "train", or "test" for the paraphrases that are held out.
    """

    def __init__(self, env: Any, wording: str = "train") -> None:
        stand: Any = TASKS[STAND]
        self._env, self._stand = env, stand(replace(stand().config, wording=wording))
        self._heading: float | None = None

    def words(self, seed: int) -> str:
        """One of the wordings of `stand`, drawn by the seed; a new episode begins."""
        self._heading = None
        return str(self._stand.reset(None, None, np.random.default_rng([seed, _SEED, 1])))

    def watch(self, env: Any) -> None:
        """Remember which way the robot faces at the first call of an episode."""
        if self._heading is None:
            self._heading = _heading(env)

    def chunk(self, steps: int) -> np.ndarray:
        """What the expert of `stand` does: actions (steps, A) in [-1, 1]."""
        asked = (self._env.robot.read(), self._env.world, steps)
        return self._env.action_map.encode(self._stand.expert(*asked), self._stand.expert_velocity(*asked))

    def done(self) -> bool:
        """Whether the robot stands there now as it was told. Raises ValueError if nobody called `watch`."""
        if self._heading is None:
            raise ValueError("Nobody watched where this episode began: rollout(..., on_chunk=told.watch).")
        state = self._env.robot.read()
        self._stand.reward(state, self._env.world)
        off = np.linalg.norm(palm_poses(state.joint_pos)[0] - palm_poses(HOME)[0], axis=1)
        turned = abs(math.remainder(_heading(self._env) - self._heading, math.tau))
        return bool(self._stand.success and off.max() <= NEAR_HOME and turned <= SAME_HEADING)


def _heading(env: Any) -> float:
    """Where the pelvis faces in the horizontal plane, rad."""
    forward = quat_to_matrix(env.world.object_pose("pelvis")[1])[:, 0]
    return math.atan2(forward[1], forward[0])
