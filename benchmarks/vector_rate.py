"""Steps per second of NeonG1VectorEnv beside the raw `mujoco.rollout` of the same states, on one and two threads.

    python benchmarks/vector_rate.py            # 64 envs, about two minutes on an idle machine
    python benchmarks/vector_rate.py --num-envs 8 --steps 10 --rounds 1 --no-report
    python benchmarks/vector_rate.py --profile  # where the time of the env goes

Raw is what the physics alone costs: the states that the envs went through, the controls that they sent and their own
models, given to `mujoco.rollout` for one control step each; no limits, walker, observation or reward. Both take turns,
step by step. Per core counts CPU time on one thread, the gain from two threads counts time on the wall.
Episodes never end here: resets are not part of either side.
"""

import argparse
import cProfile
import datetime
import pstats
import time
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from mujoco import rollout
from report import write_report

from neon_sim.vector_env import NeonG1VectorEnv

CASES: dict[str, dict[str, Any]] = {
    "stand, arms_only": {"task": "stand", "control_mode": "arms_only"},
    "reach, whole_body": {"task": "reach", "control_mode": "whole_body"},
    "walk, arms_only": {"task": "walk", "control_mode": "arms_only"},
}
NEVER_ENDS: dict[str, Any] = {"fall_height": -10.0, "fall_tilt": 3.2, "max_steps": 10**9}
STATE = int(mujoco.mjtState.mjSTATE_FULLPHYSICS)
SIZE = 0.2  # of the actions
WARM = 30  # steps before the clock


@dataclass
class Clock:
    """CPU and wall seconds, added up."""

    cpu_s: float = 0.0
    wall_s: float = 0.0

    def add(self, start: tuple[float, float]) -> None:
        """Since `start`, of `now`."""
        cpu_s, wall_s = now()
        self.cpu_s, self.wall_s = self.cpu_s + cpu_s - start[0], self.wall_s + wall_s - start[1]


def now() -> tuple[float, float]:
    """CPU s of this process and all its threads, and wall s."""
    return time.process_time(), time.perf_counter()


class Raw:
    """`mujoco.rollout` over what the envs' robots hold."""

    def __init__(self, envs: NeonG1VectorEnv, threads: int) -> None:
        robots: Any = [env.robot for env in envs.envs]
        self.models, self._robots = [robot.model for robot in robots], robots
        self._datas = [mujoco.MjData(self.models[0]) for _ in range(threads)]
        self._rollout = rollout.Rollout(nthread=threads if threads > 1 else 0)
        model, self.substeps = self.models[0], robots[0].substeps
        self.state = np.zeros((len(robots), mujoco.mj_stateSize(model, STATE)))
        self.ctrl = np.zeros((len(robots), self.substeps, model.nu))
        self._states = np.zeros((len(robots), self.substeps, self.state.shape[1]))
        self._sensed = np.zeros((len(robots), self.substeps, model.nsensordata))

    def copy(self) -> None:
        """Where the robots are now, and what their motors were told last."""
        for row, robot in enumerate(self._robots):
            mujoco.mj_getState(robot.model, robot.data, self.state[row], STATE)
            self.ctrl[row] = robot.data.ctrl

    def step(self) -> None:
        """One control step."""
        self._rollout.rollout(
            self.models,
            self._datas,
            self.state,
            self.ctrl,
            skip_checks=True,
            nstep=self.substeps,
            state=self._states,
            sensordata=self._sensed,
        )

    def close(self) -> None:
        """Stop the threads."""
        self._rollout.close()


def start(case: str, num_envs: int, threads: int, physics_dt: float) -> tuple[NeonG1VectorEnv, np.ndarray]:
    """Envs in the middle of their episodes, and an action for each."""
    envs = NeonG1VectorEnv(
        num_envs, threads=threads, sensors=("proprio",), physics_dt=physics_dt, **NEVER_ENDS, **CASES[case]
    )
    envs.reset(seed=0)
    shape = envs.action_space.shape
    assert shape is not None
    actions = np.random.default_rng(0).uniform(-SIZE, SIZE, shape)
    for _ in range(WARM):
        envs.step(actions)
    return envs, actions


def measure(case: str, num_envs: int, threads: int, physics_dt: float, steps: int) -> tuple[Clock, Clock]:
    """Time of `steps` steps of all envs, and of the raw rollout of the same states."""
    envs, actions = start(case, num_envs, threads, physics_dt)
    raw, ours, theirs = Raw(envs, threads), Clock(), Clock()
    for _ in range(steps):
        begin = now()
        envs.step(actions)
        ours.add(begin)
        raw.copy()
        begin = now()
        raw.step()
        theirs.add(begin)
    envs.close()
    raw.close()
    return ours, theirs


def figures_of(case: str, num_envs: int, physics_dt: float, steps: int, rounds: int) -> dict[str, float]:
    """The best round of each: rates in control steps of one env per second."""
    total = num_envs * steps
    best: dict[str, float] = {}
    for _ in range(rounds):
        for threads in (1, 2):
            for who, clock in zip(("env", "raw"), measure(case, num_envs, threads, physics_dt, steps), strict=True):
                for name, seconds in (("cpu", clock.cpu_s), ("wall", clock.wall_s)):
                    key = f"{who}_{threads}_threads_per_{name}_s"
                    best[key] = max(best.get(key, 0.0), total / seconds)
    best["of_raw_per_core"] = best["env_1_threads_per_cpu_s"] / best["raw_1_threads_per_cpu_s"]
    best["gain_from_two_threads"] = best["env_2_threads_per_wall_s"] / best["env_1_threads_per_wall_s"]
    best["raw_gain_from_two_threads"] = best["raw_2_threads_per_wall_s"] / best["raw_1_threads_per_wall_s"]
    return best


def profile(case: str, num_envs: int, physics_dt: float, steps: int) -> None:
    """Print where a step's time goes, on one thread."""
    envs, actions = start(case, num_envs, 1, physics_dt)
    profiler = cProfile.Profile(time.process_time)
    profiler.enable()
    for _ in range(steps):
        envs.step(actions)
    profiler.disable()
    envs.close()
    print(case)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(18)


def main() -> None:
    """Measure, print and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50, help="of every env, in each round")
    parser.add_argument("--rounds", type=int, default=5, help="each figure counts at its best of these")
    parser.add_argument("--physics-dt", type=float, default=0.005)
    parser.add_argument("--profile", action="store_true", help="print a profile instead of measuring")
    parser.add_argument("--no-report", action="store_true", help="print only: a trial, not a measurement")
    args = parser.parse_args()
    if min(args.num_envs, args.steps, args.rounds) < 1:
        parser.error("--num-envs, --steps and --rounds must be at least 1")
    if args.profile:
        for case in CASES:
            profile(case, args.num_envs, args.physics_dt, args.steps)
        return
    figures = {case: figures_of(case, args.num_envs, args.physics_dt, args.steps, args.rounds) for case in CASES}
    columns = "env_1_threads_per_cpu_s", "raw_1_threads_per_cpu_s"
    ratios = "of_raw_per_core", "gain_from_two_threads", "raw_gain_from_two_threads"
    rows = [
        [case, *(f"{found[name]:.0f}" for name in columns), *(f"{found[name]:.2f}" for name in ratios)]
        for case, found in figures.items()
    ]
    header = ["task, mode", "env steps/CPU-s", "raw steps/CPU-s", "of raw, per core", "1 to 2 threads", "raw 1 to 2"]
    for row in [header, *rows]:
        print("  ".join(f"{cell:>17s}" for cell in row))
    if not args.no_report:
        settings = {"num_envs": args.num_envs, "physics_dt": args.physics_dt, "rounds": args.rounds}
        write_report("vector_rate", settings | figures, header, rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
