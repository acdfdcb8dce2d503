"""Steps per second of NeonG1VectorEnv beside the raw `mujoco.rollout` of the same states, on one and two threads.

    python benchmarks/vector_rate.py            # 64 envs, about two minutes on an idle machine
    python benchmarks/vector_rate.py --num-envs 8 --steps 10 --rounds 1 --no-report
    python benchmarks/vector_rate.py --profile  # where the time of the env goes

Raw is what the physics alone costs: the states that the envs went through, the controls that they sent and the models
that they are stepped on (here one for all: none is randomised), given to `mujoco.rollout` for one control step each; no
limits, walker, observation or reward. It works out the model's own IMU sensors, which rollout returns; the envs, which
read the state, switch them off, and so raw is measured without them too. All take turns, step by step. Per core counts
CPU time on one thread, the gain from two threads counts time on the wall. Episodes never end here: resets are not part
of any side.

What two threads can gain depends on the machine, so a pendulum is measured besides: it stays in a core's first cache;
whatever its rollouts do not gain, the cores do not give. Two hyperthreads of one core, which a virtual machine may call
two cores, gain far less than 2 whatever the program.
"""

import argparse
import copy
import cProfile
import datetime
import math
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
STATE, HELD = int(mujoco.mjtState.mjSTATE_FULLPHYSICS), int(mujoco.mjtState.mjSTATE_INTEGRATION)
PENDULUM = '<mujoco><worldbody><body><joint axis="0 1 0"/><geom size=".1" pos="0 0 -1"/></body></worldbody></mujoco>'
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

    def __init__(self, envs: NeonG1VectorEnv, threads: int, sensors: bool = True) -> None:
        robots: Any = [env.robot for env in envs._envs]
        physics = envs._fleet.physics
        assert physics is not None, "plain robots are stepped together"
        copies = {id(model): _with_sensors(model, sensors) for model in physics.models}
        self.models = [copies[id(model)] for model in physics.models]
        self._physics = physics
        self._scratch = mujoco.MjData(self.models[0])
        self._datas = [mujoco.MjData(self.models[0]) for _ in range(threads)]
        self._rollout = rollout.Rollout(nthread=threads if threads > 1 else 0)
        model, self.substeps = self.models[0], robots[0].substeps
        self.state = np.zeros((len(robots), mujoco.mj_stateSize(model, STATE)))
        self.ctrl = np.zeros((len(robots), self.substeps, model.nu))
        self._states = np.zeros((len(robots), self.substeps, self.state.shape[1]))
        self._sensed = np.zeros((len(robots), self.substeps, model.nsensordata))

    def copy(self) -> None:
        """Where the robots are now, and what their motors were told last."""
        for row, (model, state) in enumerate(zip(self.models, self._physics.states, strict=True)):
            mujoco.mj_setState(model, self._scratch, state, HELD)
            mujoco.mj_getState(model, self._scratch, self.state[row], STATE)
            self.ctrl[row] = self._scratch.ctrl

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


def _with_sensors(model: mujoco.MjModel, sensors: bool) -> mujoco.MjModel:
    """A copy of a robot's model as it was compiled, or without MuJoCo's sensors, as the envs step it."""
    model, off = copy.copy(model), int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
    model.opt.disableflags = model.opt.disableflags & ~off | (0 if sensors else off)
    return model


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


def measure(case: str, num_envs: int, threads: int, physics_dt: float, steps: int) -> dict[str, Clock]:
    """Time of `steps` steps of all envs, and of raw rollouts of the same states, with MuJoCo's sensors and without."""
    envs, actions = start(case, num_envs, threads, physics_dt)
    raws = {"raw": Raw(envs, threads), "bare": Raw(envs, threads, sensors=False)}
    clocks = {name: Clock() for name in ("env", *raws)}
    for _ in range(steps):
        begin = now()
        envs.step(actions)
        clocks["env"].add(begin)
        for name, raw in raws.items():
            raw.copy()
            begin = now()
            raw.step()
            clocks[name].add(begin)
    envs.close()
    for raw in raws.values():
        raw.close()
    return clocks


def figures_of(case: str, num_envs: int, physics_dt: float, steps: int, rounds: int) -> dict[str, float]:
    """The best round of each: rates in control steps of one env per second."""
    total = num_envs * steps
    best: dict[str, float] = {}
    for _ in range(rounds):
        for threads in (1, 2):
            for who, clock in measure(case, num_envs, threads, physics_dt, steps).items():
                for name, seconds in (("cpu", clock.cpu_s), ("wall", clock.wall_s)):
                    key = f"{who}_{threads}_threads_per_{name}_s"
                    best[key] = max(best.get(key, 0.0), total / seconds)
    for who in ("raw", "bare"):
        best[f"of_{who}_per_core"] = best["env_1_threads_per_cpu_s"] / best[f"{who}_1_threads_per_cpu_s"]
    best["gain_from_two_threads"] = best["env_2_threads_per_wall_s"] / best["env_1_threads_per_wall_s"]
    best["raw_gain_from_two_threads"] = best["raw_2_threads_per_wall_s"] / best["raw_1_threads_per_wall_s"]
    return best


def pendulum_gain(rounds: int, repeats: int = 20) -> float:
    """What two threads gain on rollouts that stay in each core's first cache: wall s, best round of each."""
    model = mujoco.MjModel.from_xml_string(PENDULUM)
    initial = np.tile([0.0, 1.0, 0.0], (64, 1))  # time, angle, speed
    best = {1: math.inf, 2: math.inf}
    for _ in range(rounds):
        for threads in best:
            datas = [mujoco.MjData(model) for _ in range(threads)]
            with rollout.Rollout(nthread=threads if threads > 1 else 0) as pool:
                pool.rollout(model, datas, initial, nstep=50)
                begin = time.perf_counter()
                for _ in range(repeats):
                    pool.rollout(model, datas, initial, nstep=50)
                best[threads] = min(best[threads], time.perf_counter() - begin)
    return best[1] / best[2]


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
    ratios = "of_raw_per_core", "of_bare_per_core", "gain_from_two_threads", "raw_gain_from_two_threads"
    pendulum = pendulum_gain(args.rounds)
    rows = [
        [case, *(f"{found[name]:.0f}" for name in columns), *(f"{found[name]:.2f}" for name in ratios)]
        for case, found in figures.items()
    ]
    rows.append(["a pendulum", "-", "-", "-", "-", "-", f"{pendulum:.2f}"])
    header = ["task, mode", "env steps/CPU-s", "raw steps/CPU-s", "of raw, per core", "of raw without sensors"]
    header += ["1 to 2 threads", "raw 1 to 2"]
    for row in [header, *rows]:
        print("  ".join(f"{cell:>22s}" for cell in row))
    if not args.no_report:
        settings: dict[str, Any] = {"num_envs": args.num_envs, "physics_dt": args.physics_dt, "rounds": args.rounds}
        settings["pendulum_gain_from_two_threads"] = pendulum
        write_report("vector_rate", settings | figures, header, rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
