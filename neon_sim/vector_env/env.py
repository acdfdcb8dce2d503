"""NeonG1VectorEnv: N episodes of NeonG1-v0 in one process, equal to N single envs.

    envs = gymnasium.make_vec("NeonG1-v0", num_envs=64, task="stand", sensors=("proprio",), physics_dt=0.005)

Every env is a `NeonG1Env` that resets itself, with its own model, task and rng. Between resets physics runs on threads,
and limits, walkers, observations and rewards are worked out for all at once. Tasks and sensors that have no batched
half yet are judged and sensed env by env, in the same call and with the same numbers.

What `step` says of envs that are judged at once lacks `LEFT_OUT` of what `reset` and a single env say, since that is
put together env by env: ask for it with `full_infos=True`, or of one env with `single(i)`.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any, Final

import gymnasium
import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from neon_sim.blas import one_blas_thread
from neon_sim.env import CONTROL_DT, NeonG1Config, NeonG1Env
from neon_sim.names import nearest
from neon_sim.safety import CUT, SafetyLimits, SafetyReport, all_finite, limit
from neon_sim.sim.divergence import started_over
from neon_sim.sim.model import lacking_joints
from neon_sim.sim.sim_robot import SimRobot
from neon_sim.vector_env.arguments import rows_of_mask, seeds_of
from neon_sim.vector_env.fleet import Fleet
from neon_sim.vector_env.infos import forget, infos_of, row_of
from neon_sim.vector_env.rewards import Moment, reward_batch
from neon_sim.vector_env.senses import eef_rows, proprio_rows

_BATCHED_SENSORS = {"proprio"}
# Keys of a single env's info, with a dot before those within "safety", that are not there when all are judged at once.
LEFT_OUT: Final = ("privileged", "randomization", *(f"safety.{name}" for name in CUT))


class NeonG1VectorEnv(VectorEnv[dict[str, np.ndarray], np.ndarray, np.ndarray]):
    """N episodes side by side; env i of `reset(seed=s)` has the seed s + i, as in gymnasium's SyncVectorEnv.

    Args:
        num_envs: N.
        config: of every env, or None for the defaults.
        threads: that step physics; None = one for each core.
        autoreset_mode: what happens after an episode's end, as gymnasium defines it.
        render_mode: of every env: None or "rgb_array".
        exact: True walks each robot by its own walker. Then every number is equal to the single env's to the bit; else
            they part by rounding, which contacts amplify (whole_body, where nobody walks, is equal anyway).
        full_infos: True judges env by env, which is slower, so that each step says all that a single env's does.
        **overrides: fields of `NeonG1Config` by name.

    Attributes:
        envs: the single envs. Break one with `envs.envs[i].world.apply_fault(...)`; ask one with `single(i)`. From the
            first look at them on, each step brings the data of their robots up to date, which takes a little longer.
        batched: whether all is done in one go; False = rewards and sensors are worked out env by env.

    Raises:
        ValueError: for a number of envs or threads below 1, and what `NeonG1Env` refuses.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": round(1 / CONTROL_DT)}

    def __init__(
        self,
        num_envs: int = 1,
        config: NeonG1Config | None = None,
        threads: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        exact: bool = False,
        full_infos: bool = False,
        **overrides: Any,
    ) -> None:
        for name, count in (("num_envs", num_envs), ("threads", 1 if threads is None else threads)):
            if not isinstance(count, Integral) or count < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {count!r}.")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise nearest("render_mode", render_mode, self.metadata["render_modes"])
        threads = threads if threads is not None else min(_cores(), num_envs)
        self.num_envs, self.autoreset_mode = num_envs, AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = render_mode
        first = NeonG1Env(config, render_mode=render_mode, **overrides)
        self._robots = _twins(first, num_envs)
        self.config = first.config
        others = [NeonG1Env(self.config, robot, render_mode) for robot in self._robots[1:]]
        self._envs: tuple[NeonG1Env, ...] = (first, *others)
        self.single_observation_space, self.single_action_space = first.observation_space, first.action_space
        self.observation_space = batch_space(first.observation_space, num_envs)
        self.action_space = batch_space(first.action_space, num_envs)
        self._map, self._limits = first.action_map, SafetyLimits(self.config.safety)
        self._max_steps = self.config.max_steps or first.task.max_steps
        self._fall_cosine = float(np.cos(self.config.fall_tilt))
        self._lacking = lacking_joints(self.config.variant)
        at_once = not full_infos and set(self.config.sensors) <= _BATCHED_SENSORS
        self._rewards = reward_batch(num_envs, first.task) if at_once else None
        self.batched = self._rewards is not None
        self._fleet = Fleet(self._robots, self._map.owned_mask, threads, not self.batched, exact)
        self._velocity = np.zeros((num_envs, 3))
        self._steps = np.zeros(num_envs, dtype=np.intp)
        self._over = np.zeros(num_envs, dtype=bool)
        self._obs: dict[str, np.ndarray] = {
            name: np.zeros((num_envs, *(space.shape or ())), space.dtype)
            for name, space in first.observation_space.items()
        }
        self._words = np.full(num_envs, "", dtype=object)
        self._started = False

    @property
    def envs(self) -> tuple[NeonG1Env, ...]:
        """The single envs; see above."""
        self._fleet.watch()
        return self._envs

    @one_blas_thread()
    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin all episodes, or with `options={"reset_mask": (N,) bool}` some of them; other options go to each env.

        Raises:
            ValueError: a number of seeds that is not N, or a mask that is none.
        """
        options = dict(options or {})
        seeds = seeds_of(seed, self.num_envs)
        rows = rows_of_mask(options.pop("reset_mask", None), self.num_envs)
        infos: dict[str, Any] = {}
        for row in rows.tolist():
            infos = self._add_info(infos, self._begin(row, seeds[row], options or None), row)
        self._fleet.look()
        self._started = True
        return self._observation(), infos

    @one_blas_thread()
    def step(
        self, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control period of every episode that runs.

        Raises:
            ValueError: for a wrong shape or a number that is not finite, before anything moves.
            gymnasium.error.ResetNeeded: before the first `reset`, or for an episode that is over and must be reset.
            gymnasium.error.ClosedEnvironmentError: after `close`.
        """
        actions = self._checked(actions)
        over = np.flatnonzero(self._over)
        rows = np.flatnonzero(~self._over) if len(over) else np.arange(self.num_envs)
        reward, terminated, truncated, infos = self._advance(rows, actions)
        self._over = terminated | truncated
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            over = np.flatnonzero(self._over)
            self._keep_last(over, infos)
        for row in over.tolist():
            infos = self._add_info(infos, self._begin(row), row)
        if len(over):
            self._fleet.look()
        return self._observation(), reward, terminated, truncated, infos

    def single(self, index: int) -> NeonG1Env:
        """One of the envs, knowing all of its running episode: for its expert, its saved state, its truth.

        It is there to be looked at: stepping it leaves this env behind.
        """
        env = self._envs[index]
        robot = self._fleet.hand_back(index)
        mujoco.mj_kinematics(robot.model, robot.data)
        state = env.get_state()
        if self._rewards is not None:
            state |= {"velocity": self._velocity[index].copy(), "steps": int(self._steps[index])}
            state["task"] = self._rewards.task_state(index, state["task"])
        env.set_state(state)
        return env

    def render(self) -> tuple[Any, ...]:
        """One picture of each env."""
        self._fleet.release_all()
        for robot in self._robots:
            mujoco.mj_kinematics(robot.model, robot.data)
        return tuple(env.render() for env in self._envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Close every env and stop the threads."""
        for env in self._envs:
            env.close()
        self._fleet.close()

    def _begin(self, row: int, seed: int | None = None, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """Reset one env and return its info."""
        env = self._envs[row]
        obs, info = env.reset(seed=seed, options=options)
        for name, value in obs.items():
            self._obs[name][row] = value
        self._words[row] = info["instruction"]
        self._velocity[row], self._steps[row], self._over[row] = 0.0, 0, False
        self._fleet.begin(row)
        if self._rewards is not None and env.world is not None:
            self._rewards.begin(row, env.task, env.world)
        return info

    def _advance(
        self, rows: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Decode, limit, walk and step the envs `rows`, then judge them."""
        mask, before = self._map.owned_mask, self._fleet.target[rows]
        target, velocity = self._map.decode(actions[rows])
        target[:, self._lacking] = 0.0
        target, velocity, report = limit(target, before, mask, velocity, self._limits, CONTROL_DT)
        self._velocity[rows] = velocity
        height = np.full((len(rows), 1), self.config.height)
        before_s = self._fleet.time_s.copy()
        self._fleet.step(rows, target, np.concatenate([velocity, height], axis=1))
        self._steps[rows] += 1
        self._fleet.look()
        return self._judge(rows, report, before_s) if self.batched else self._judge_each(rows, actions)

    def _judge(
        self, rows: np.ndarray, report: SafetyReport, before_s: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Rewards, endings and infos of all in one go, and the observation; rows that did not move get zeros."""
        fleet, count = self._fleet, self.num_envs
        assert self._rewards is not None
        now = Moment(fleet.pos[:, :3], fleet.pos[:, 3:7], fleet.pos[:, 7:], fleet.sensed, fleet.true)
        reward, terms, success = self._rewards.reward(rows, now)
        fallen = (-fleet.sensed.gravity_b[:, 2] < self._fall_cosine) | (now.pos_w[:, 2] < self.config.fall_height)
        moved = np.zeros(count, dtype=bool)
        moved[rows] = True
        diverged = started_over(before_s, fleet.time_s, CONTROL_DT) & moved
        self._sense()
        clipped = np.zeros(count, dtype=bool)
        by_joint = report.position_mask | report.speed_mask | report.distance_mask
        clipped[rows] = by_joint.any(axis=1) | report.velocity_mask.any(axis=1)
        infos = {
            "success": success,
            "reward_terms": terms,
            "reward_available": np.ones(count, dtype=bool),
            "safety": {
                "clipped": clipped,
                "velocity_not_followed": (np.abs(self._velocity) > self._robots[0].max_velocity).any(axis=1),
            },
            "diverged": diverged,
            "instruction": self._words.copy(),
            "time_s": fleet.time_s.copy(),
        }
        terminated, truncated = (fallen | diverged) & moved, (self._steps >= self._max_steps) & moved
        return reward * moved, terminated, truncated, infos_of(infos, rows, count)

    def _sense(self) -> None:
        """The observation of all."""
        obs, sensed = self._obs, self._fleet.sensed
        obs["command"][:, :3], obs["command"][:, 3] = self._velocity, self.config.height
        if "proprio" in obs:
            obs["proprio"] = proprio_rows(sensed, self._velocity)
            obs["eef"] = eef_rows(sensed)

    def _judge_each(
        self, rows: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """The same from the envs themselves, one by one: their robots have moved already."""
        reward = np.zeros(self.num_envs)
        terminated, truncated = np.zeros((2, self.num_envs), dtype=bool)
        infos: dict[str, Any] = {}
        for row in rows.tolist():
            with _moved(self._robots[row]):
                obs, reward[row], terminated[row], truncated[row], info = self._envs[row].step(actions[row])
            for name, value in obs.items():
                self._obs[name][row] = value
            infos = self._add_info(infos, info, row)
        return reward, terminated, truncated, infos

    def _keep_last(self, over: np.ndarray, infos: dict[str, Any]) -> None:
        """`final_obs` and `final_info` of the episodes that are over, whose own rows become free for the next ones."""
        last = {}
        for row in over.tolist():
            obs = {name: value[row].copy() for name, value in self._obs.items()}
            last[row] = {"final_obs": obs, "final_info": row_of(infos, row)}
        forget(infos, over)
        for row, info in last.items():
            self._add_info(infos, info, row)

    def _observation(self) -> dict[str, np.ndarray]:
        return {name: value.copy() for name, value in self._obs.items()}

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        if self.closed:
            raise gymnasium.error.ClosedEnvironmentError("Cannot go on: this env was closed. Make a new one.")
        if not self._started:
            raise gymnasium.error.ResetNeeded("Nothing runs yet: call envs.reset() first.")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._over.any():
            names = np.flatnonzero(self._over).tolist()
            raise gymnasium.error.ResetNeeded(
                f'The episodes of envs {names} are over: call envs.reset(options={{"reset_mask": mask}}) first.'
            )
        actions = np.asarray(actions, dtype=np.float64)
        if actions.shape != self.action_space.shape:
            wanted = f"{self.num_envs} envs in {self.config.control_mode} take actions {self.action_space.shape}"
            raise ValueError(f"{wanted}, got {actions.shape}. Step with one action for each env.")
        if not all_finite(actions):
            bad = np.flatnonzero(~np.isfinite(actions).all(axis=1)).tolist()
            raise ValueError(
                f"Actions must be finite numbers; those of envs {bad} are not. Look at the policy's output."
            )
        return actions


def _twins(first: NeonG1Env, count: int) -> tuple[SimRobot, ...]:
    if not isinstance(first.robot, SimRobot):
        raise ValueError("Only simulated robots come in numbers; use NeonG1Env for the real one.")
    return (first.robot, *(first.robot.twin() for _ in range(count - 1)))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _moved(robot: Any) -> Iterator[None]:
    """A robot that has been written to and stepped already: its env only looks at where that led."""
    robot.write, robot.advance = _same, _nothing
    try:
        yield
    finally:
        del robot.write, robot.advance  # back to the methods of the class


def _same(command: Any) -> Any:
    return command


def _nothing() -> None:
    pass
