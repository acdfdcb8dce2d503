"""Judging frozen copies side by side: one vector env whose robots each have the regime of the episode they play.

A robot whose episode is over takes the next one that waits, of whatever regime, so none stands idle before the end. The
episodes are those of `forgetting_world.judge`; robots side by side are walked and answered in one go, which rounds
differently. A robot is settled once for each seed and regime: the next time it begins where it had begun.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
from forgetting_tasks import subject_of
from forgetting_world import HeldLook, Judged, act_together, fault_of, judged_of, world_of

from neon_sim.eval.regimes import Regime
from neon_sim.vector_env import NeonG1VectorEnv

TOGETHER: Final = 16
EXECUTED: Final = 16  # steps of a chunk, as in `rollout`


class Judge:
    """Robots of a task, and who acts for each.

    Args:
        task: of the env.
        make_policy: called once for each robot; all may share one network.
        together: how many robots, at most as many as there are episodes to judge: all must have one to begin with.
        exact: True walks and answers each by itself: slower, and equal to `forgetting_world.judge` to the bit. A task
            of the legs is always judged so: a residual sits on each robot's own walker.
        remembers: False settles every robot anew: slower, and the same to the bit.
    """

    def __init__(
        self,
        task: str,
        make_policy: Callable[[], Any],
        together: int = TOGETHER,
        exact: bool = False,
        remembers: bool = True,
    ) -> None:
        subject = subject_of(task)
        self.envs = NeonG1VectorEnv(together, threads=1, exact=exact or subject.legs, **world_of(task))
        self._lasts, self._legs = subject.lasts, subject.legs
        self.policies = [make_policy() for _ in range(together)]
        for policy, env in zip(self.policies, self.envs.envs, strict=True):
            policy.join(env)
        # Who remembers its episode, or draws what it does, is asked by itself.
        plain = [type(policy) is HeldLook and not policy.model.action_head.samples for policy in self.policies]
        self._at_once = all(plain) and not exact
        begun: dict[Any, Any] = {}
        for env in self.envs.envs if remembers else ():
            _remember_beginnings(env, begun)
        actions = self.envs.action_space.shape
        assert actions is not None
        self._rest = np.zeros(actions)
        self._chunks = np.zeros((together, EXECUTED, actions[1]))
        self._steps = np.zeros(together, dtype=np.intp)

    def judge(self, regimes: Sequence[Regime], seeds: Iterable[int]) -> list[Judged]:
        """Play every seed in every regime, to success, or to the end where it must last; a record for each regime."""
        seeds = list(seeds)
        waiting = deque((number, seed) for number in range(len(regimes)) for seed in seeds)
        ended: dict[tuple[int, int], tuple[bool, bool, float | None]] = {}
        playing = dict.fromkeys(range(min(len(self.policies), len(waiting))), (0, 0))  # robot -> its regime and seed
        obs = self._begin(list(playing), playing, waiting, regimes)
        while playing:
            obs, _, terminated, truncated, infos = self.envs.step(self._actions(obs, playing))
            self._steps += 1
            done = np.zeros_like(terminated) if self._lasts else infos["success"]
            over = [row for row in playing if done[row] or terminated[row] or truncated[row]]
            for row in over:
                distance = None if self._legs else self.envs.single(row).privileged().get("distance")
                ended[playing.pop(row)] = bool(infos["success"][row]), bool(terminated[row]), distance
            if over and waiting:
                obs = self._begin(over[: len(waiting)], playing, waiting, regimes)
        return [judged_of(ended[number, seed] for seed in seeds) for number in range(len(regimes))]

    def close(self) -> None:
        """Close the envs."""
        self.envs.close()

    def _begin(
        self,
        rows: list[int],
        playing: dict[int, tuple[int, int]],
        waiting: deque[tuple[int, int]],
        regimes: Sequence[Regime],
    ) -> dict[str, np.ndarray]:
        """Let some robots begin what waits; returns the observation of all."""
        seeds: list[int | None] = [None] * len(self.policies)
        for row in rows:
            number, seed = playing[row] = waiting.popleft()
            world: Any = self.envs.envs[row].world
            world.apply_fault(fault_of(regimes[number]))
            self.policies[row].begin(seed)
            self.policies[row].reset()
            seeds[row], self._steps[row] = seed, 0
        mask = np.isin(np.arange(len(seeds)), rows)
        return self.envs.reset(seed=seeds, options={"reset_mask": mask})[0]

    def _actions(self, obs: dict[str, np.ndarray], playing: Iterable[int]) -> np.ndarray:
        """What each robot does now, (N, A); those that have nothing left to play hold their home pose."""
        actions = self._rest.copy()
        asked = [row for row in playing if self._steps[row] % EXECUTED == 0]
        for row in asked:
            self.policies[row].observe({name: value[row] for name, value in obs.items()}, 0.0)
        asked_of = [self.policies[row] for row in asked]
        if asked and self._at_once:
            self._chunks[asked] = act_together(asked_of)[:, :EXECUTED]
        elif asked:
            self._chunks[asked] = [policy.act()[0, :EXECUTED] for policy in asked_of]
        rows = list(playing)
        actions[rows] = self._chunks[rows, self._steps[rows] % EXECUTED]
        return actions


def _remember_beginnings(env: Any, begun: dict[Any, Any]) -> None:
    """Let an env's `reset` go back to where an episode of the same seed and faults began in any env of `begun`."""
    settle = env.reset

    def reset(seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        key = seed, env.world.faults
        if key in begun:
            env.set_state(begun[key][0])
        else:
            obs, info = settle(seed=seed, options=options)
            begun[key] = env.get_state(), obs, info
        return begun[key][1], begun[key][2]

    env.reset = reset
