"""Steps per CPU-second of one core: NeonG1-v0 beside its floor, beside Humanoid-v5, and with all senses on.

    python benchmarks/step_rate.py            # 10 rounds, about a minute
    python benchmarks/step_rate.py --rounds 2 --episodes 1 --print-only

The floor is what the physics alone costs: the same compiled model with its native actuators, the same commands, the
same walker call and one `mj_step(nstep)` per control step; no limits, no observation, no reward. It replays what the
env sent, and must end in the same joint angles, so both sides step the same contacts. Resets are off the clock.
"""

import argparse
import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import mujoco
import numpy as np
from report import write_report

import neon_sim  # noqa: F401  (registers NeonG1-v0)
from neon_sim.g1.geometry import gravity_in_body
from neon_sim.robot import RobotCommand, RobotState
from neon_sim.sim.sim_robot import SimRobot

STEPS = 500  # of Humanoid-v5 per episode, and the most of NeonG1-v0, whose task may end sooner


@dataclass(frozen=True)
class Timing:
    """Steps taken, the CPU time they took, and the joint angles they ended in."""

    steps: int
    cpu_s: float
    end: np.ndarray  # (29,) rad; empty for Humanoid-v5


Run = Callable[[int], Timing]  # seed -> one episode


def random_actions(env: gymnasium.Env, seed: int) -> np.ndarray:
    """(STEPS, A) uniform actions, the same for the same seed."""
    space = env.action_space
    assert isinstance(space, gymnasium.spaces.Box)
    return np.random.default_rng(seed).uniform(space.low, space.high, (STEPS, *space.shape)).astype(np.float32)


def run_env(env: gymnasium.Env, seed: int) -> Timing:
    """One episode of NeonG1-v0 under random actions, until it ends."""
    actions = random_actions(env, seed)
    env.reset(seed=seed)
    steps, over = 0, False
    start_s = time.process_time()
    while not over and steps < STEPS:
        _, _, terminated, truncated, _ = env.step(actions[steps])
        over = terminated or truncated
        steps += 1
    cpu_s = time.process_time() - start_s
    return Timing(steps, cpu_s, env.unwrapped.robot.read().joint_pos)  # type: ignore[attr-defined]


def run_humanoid(env: gymnasium.Env, seed: int) -> Timing:
    """STEPS steps of Humanoid-v5 under random actions; it falls every 20 steps or so, and resets are off the clock."""
    cpu_s, over = 0.0, True
    for index, action in enumerate(random_actions(env, seed)):
        if over:
            env.reset(seed=seed + index)
        start_s = time.process_time()
        _, _, terminated, truncated, _ = env.step(action)
        cpu_s += time.process_time() - start_s
        over = terminated or truncated
    return Timing(STEPS, cpu_s, np.empty(0))


def record_commands(env: gymnasium.Env, seed: int) -> list[RobotCommand]:
    """What the env hands to its robot in the episode of `run_env`."""
    robot: Any = env.unwrapped.robot  # type: ignore[attr-defined]
    actions, write = random_actions(env, seed), robot.write
    commands: list[RobotCommand] = []
    env.reset(seed=seed)

    def record(command: RobotCommand) -> RobotCommand:
        commands.append(command)
        return write(command)

    robot.write = record
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
    del robot.write  # back to the method of the class
    return commands


def run_floor(env: gymnasium.Env, commands: list[RobotCommand], seed: int) -> Timing:
    """The same episode with nothing but the walker and the physics."""
    robot: SimRobot = env.unwrapped.robot  # type: ignore[attr-defined]
    env.reset(seed=seed)
    model, data, walker, substeps = robot.model, robot.data, robot.walker, robot.substeps
    start_s = time.process_time()
    target = commands[0].joint_target
    for command in commands:
        state = encoder_views(data, target)
        walk = np.array((*command.velocity, command.height))
        target = walker.step(state, walk, command.owned_mask, command.joint_target)
        data.ctrl[:29] = target
        mujoco.mj_step(model, data, nstep=substeps)
    cpu_s = time.process_time() - start_s
    return Timing(len(commands), cpu_s, data.qpos[7:36].copy())


def encoder_views(data: mujoco.MjData, target: np.ndarray) -> RobotState:
    """What the walker reads, without a copy: the cheapest state there is."""
    quat = data.qpos[3:7]
    return RobotState(
        time_s=data.time,
        joint_pos=data.qpos[7:36],
        joint_vel=data.qvel[6:35],
        joint_torque=data.actuator_force[:29],
        joint_target=target,
        quat_wxyz=quat,
        gyro=data.qvel[3:6],
        gravity_b=gravity_in_body(quat),
    )


def floor_pair(physics_dt: float, seeds: range) -> dict[str, Run]:
    """The env with proprioception only and its floor, checked to step the same physics."""
    env = gymnasium.make("NeonG1-v0", sensors=("proprio",), physics_dt=physics_dt)
    commands = {seed: record_commands(env, seed) for seed in seeds}
    for seed in seeds:
        ours, floor = run_env(env, seed).end, run_floor(env, commands[seed], seed).end
        if not np.array_equal(ours, floor):
            raise RuntimeError(f"The floor left the env's path by {np.abs(ours - floor).max():.1e} rad at seed {seed}.")
    label = f"{physics_dt * 1000:g} ms"
    return {
        f"NeonG1-v0 proprio, {label}": lambda seed: run_env(env, seed),
        f"floor, {label}": lambda seed: run_floor(env, commands[seed], seed),
    }


def measure(runs: dict[str, Run], rounds: int, seeds: range) -> dict[str, float]:
    """Steps per CPU-second of each run over all seeds, each episode at its best of all rounds.

    The runs take turns episode by episode, so that a busy moment hits what is compared alike.
    """
    best: dict[str, dict[int, Timing]] = {name: {} for name in runs}
    for _ in range(rounds):
        for seed in seeds:
            for name, run in runs.items():
                timing = run(seed)
                if seed not in best[name] or timing.cpu_s < best[name][seed].cpu_s:
                    best[name][seed] = timing
    return {
        name: sum(t.steps for t in episodes.values()) / sum(t.cpu_s for t in episodes.values())
        for name, episodes in best.items()
    }


def main() -> None:
    """Measure, print and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="each episode counts at its best of these")
    parser.add_argument("--episodes", type=int, default=5, help="per run and round")
    parser.add_argument("--print-only", action="store_true", help="leave RESULTS.md and the JSON file as they are")
    args = parser.parse_args()
    if args.rounds < 1 or args.episodes < 1:
        parser.error(f"--rounds and --episodes must be at least 1, got {args.rounds} and {args.episodes}")
    seeds = range(args.episodes)
    everything = gymnasium.make("NeonG1-v0", physics_dt=0.005)
    humanoid = gymnasium.make("Humanoid-v5")
    runs = floor_pair(0.002, seeds) | floor_pair(0.005, seeds)
    runs["NeonG1-v0 all sensors, 5 ms"] = lambda seed: run_env(everything, seed)
    runs["Humanoid-v5"] = lambda seed: run_humanoid(humanoid, seed)
    rates = measure(runs, args.rounds, seeds)
    rows = [[name, f"{rate:.0f}", *ratios(name, rates)] for name, rate in rates.items()]
    for name, rate, floor, peer in rows:
        print(f"{name:30s} {rate:>6s} steps/CPU-s   floor {floor:>4s}   Humanoid-v5 {peer:>4s}")
    figures = {"rounds": args.rounds, "episodes": args.episodes, "steps_per_cpu_s": rates}
    header = ["env, physics step", "steps/CPU-s", "of its floor", "of Humanoid-v5"]
    if not args.print_only:
        write_report("step_rate", figures, header, rows, datetime.date.today().isoformat())


def ratios(name: str, rates: dict[str, float]) -> tuple[str, str]:
    """A run's rate beside the floor of the same physics step, and beside Humanoid-v5; "-" where there is none."""
    floor = rates.get(f"floor, {name.rpartition(', ')[2]}")
    return (f"{rates[name] / floor:.2f}" if floor else "-", f"{rates[name] / rates['Humanoid-v5']:.2f}")


if __name__ == "__main__":
    main()
