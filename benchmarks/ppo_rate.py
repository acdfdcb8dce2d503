"""Control steps per second of the walker's training: physics alone, the world, our PPO and stable-baselines3's.

    python benchmarks/ppo_rate.py                 # 512 robots, all cores, a few idle minutes; writes RESULTS.md
    python benchmarks/ppo_rate.py --preset tiny   # a quick look; writes nothing

Wall clock, every robot's control step counted. What is compared takes turns, so that a busy moment hits all alike, and
each figure is the median of its rounds. All worlds have the same robots, seed and difficulty. Both learners have the
same network sizes, batch, minibatches and epochs, and both normalise observations. Differences that remain: ours learns
while it collects and its critic reads the truth; stable-baselines3 does one after the other, its critic reads the
policy's observation, and it is spared the value of what follows when time runs out. It is measured with one torch
thread, as ours is, and with all of them, since nothing else runs while it learns.
"""

import argparse
import datetime
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from mujoco import MjData, mjtState, rollout
from report import table, write_report
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from neon_sim.g1 import joints
from neon_sim.locomotion.network import load_weights
from neon_sim.locomotion.stepper import ACTION_LIMIT, ACTION_SIZE, OBSERVATION_SIZE
from neon_sim.names import nearest
from neon_sim.shipped import asset_path
from neon_sim.sim.batch import MOVING
from neon_sim.training.ppo import PPOConfig
from neon_sim.training.walker_run import WalkerRun
from neon_sim.training.workers import cpu_count
from neon_sim.walking.critic import CRITIC_SIZE
from neon_sim.walking.curriculum import WALK
from neon_sim.walking.world import WalkConfig, WalkWorld


@dataclass(frozen=True)
class Preset:
    """Size of the measurement."""

    count: int = 512  # robots
    horizon: int = 24  # control steps of each in a batch, and in a round
    rounds: int = 9
    models: int = 64


PRESETS = {"full": Preset(), "tiny": Preset(count=16, horizon=4, rounds=1, models=4)}
Round = Callable[[], int]  # one round of a run; returns the control steps that it took


class WalkVecEnv(VecEnv):
    """A WalkWorld for stable-baselines3: the policy's observation only, and a new episode right after the old one."""

    def __init__(self, world: WalkWorld) -> None:
        everything = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION_SIZE,), np.float32)
        actions = gymnasium.spaces.Box(-ACTION_LIMIT, ACTION_LIMIT, (ACTION_SIZE,), np.float32)
        self.world = world
        super().__init__(world.config.count, everything, actions)
        self._actions = np.zeros((world.config.count, ACTION_SIZE))

    def reset(self) -> np.ndarray:
        """What is seen now; worlds are never begun anew as a whole."""
        return self.world.observe()[0].astype(np.float32)

    def step_async(self, actions: np.ndarray) -> None:
        """Remember what to do."""
        self._actions = actions.astype(np.float64)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Do it."""
        outcome = self.world.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        return self.reset(), outcome.reward.astype(np.float32), outcome.fell | outcome.timed_out, infos

    def close(self) -> None:
        """Stop the physics threads."""
        self.world.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """There is one world for all: each robot's attribute is its."""
        return [getattr(self.world, attr_name, None) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Robots have no attributes of their own."""
        raise NotImplementedError(f"The robots of a WalkWorld share one configuration; {attr_name!r} cannot be set.")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Robots have no methods of their own."""
        raise NotImplementedError(f"The robots of a WalkWorld are rows of arrays; there is no {method_name!r} to call.")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Nothing is."""
        return [False for _ in self._get_indices(indices)]


def make_world(preset: Preset, threads: int) -> WalkWorld:
    """Everybody's world: walking at full speed, pushed, not punched, with the shipped walker's base gait."""
    gains = load_weights(asset_path("g1/walker/walker.npz")).gains
    world = WalkWorld(WalkConfig(count=preset.count, models=preset.models, threads=threads), gains, seed=0)
    world.difficulty = WALK
    return world


def physics_rounds(preset: Preset, threads: int) -> Round:
    """`mujoco.rollout` and nothing else: each step from a state that robots of `world_rounds` come by."""
    world = make_world(preset, threads)
    states = []
    for _ in range(preset.horizon):
        states.append(world.physics.state.copy())
        world.step(np.zeros((preset.count, ACTION_SIZE)))
    models, substeps = world.physics.models, world.physics.substeps
    pool, datas = rollout.Rollout(nthread=threads), [MjData(models[0]) for _ in range(threads)]
    control = np.tile(joints.HOME[MOVING], (preset.count, substeps, 1))
    found = np.empty((preset.count, substeps, states[0].shape[1]))
    spec = int(mjtState.mjSTATE_CTRL)

    def one_round() -> int:
        for state in states:
            pool.rollout(
                models, datas, state, control, control_spec=spec, skip_checks=True, nstep=substeps, state=found
            )
        return preset.count * preset.horizon

    return one_round


def world_rounds(preset: Preset, threads: int) -> Round:
    """The whole world under zero actions: physics, odometry, base gait, rewards, resets."""
    world, nothing = make_world(preset, threads), np.zeros((preset.count, ACTION_SIZE))

    def one_round() -> int:
        for _ in range(preset.horizon):
            world.step(nothing)
        return preset.count * preset.horizon

    return one_round


def our_rounds(preset: Preset, threads: int) -> Round:
    """An iteration of our training: learn from one batch while the next is collected."""
    sizes = (OBSERVATION_SIZE, CRITIC_SIZE, ACTION_SIZE)
    run = WalkerRun(make_world(preset, threads), sizes, PPOConfig(), preset.horizon, seed=0)

    def one_round() -> int:
        torch.set_num_threads(1)
        before = run.steps
        run.iterate()
        return run.steps - before

    return one_round


def their_rounds(preset: Preset, threads: int, torch_threads: int) -> Round:
    """An iteration of stable-baselines3's PPO: collect a batch, then learn from it."""
    config, batch = PPOConfig(), preset.count * preset.horizon
    env = VecNormalize(WalkVecEnv(make_world(preset, threads)), norm_reward=False, clip_obs=8.0)
    networks = {"pi": list(config.hidden), "vf": list(config.critic_hidden)}
    learner = PPO(
        "MlpPolicy",
        env,
        learning_rate=config.learning_rate,
        n_steps=preset.horizon,
        batch_size=batch // config.minibatches,
        n_epochs=config.epochs,
        gamma=config.gamma,
        gae_lambda=config.lam,
        clip_range=config.clip,
        ent_coef=config.entropy,
        max_grad_norm=config.max_grad_norm,
        policy_kwargs={
            "net_arch": networks,
            "activation_fn": torch.nn.ELU,
            "log_std_init": float(np.log(config.initial_std)),
        },
        seed=0,
        device="cpu",
    )

    def one_round() -> int:
        torch.set_num_threads(torch_threads)
        before = learner.num_timesteps
        learner.learn(batch, reset_num_timesteps=False)
        return learner.num_timesteps - before

    return one_round


def measure(runs: dict[str, Round], rounds: int, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Control steps per second of each run: the median of its rounds, taken in turns; one more is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, one_round in runs.items():
            began = clock()
            steps = one_round()
            rates[name] += [steps / (clock() - began)][: min(number, 1)]
    return {name: statistics.median(values) for name, values in rates.items()}


def compare(rates: dict[str, float]) -> list[list[str]]:
    """Rows of the table: name, steps/s, share of the physics, times the faster stable-baselines3."""
    theirs = max(rate for name, rate in rates.items() if name.startswith("stable-baselines3"))
    physics = rates["mujoco.rollout"]
    return [[name, f"{rate:.0f}", f"{rate / physics:.2f}", f"{rate / theirs:.2f}"] for name, rate in rates.items()]


def make_runs(preset: Preset, threads: int) -> dict[str, Round]:
    """What is compared."""
    runs = {
        "mujoco.rollout": physics_rounds(preset, threads),
        "WalkWorld.step": world_rounds(preset, threads),
        "our PPO": our_rounds(preset, threads),
        "stable-baselines3 PPO, 1 torch thread": their_rounds(preset, threads, 1),
    }
    if threads > 1:
        runs[f"stable-baselines3 PPO, {threads} torch threads"] = their_rounds(preset, threads, threads)
    return runs


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and at full size report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--threads", type=int, default=cpu_count(), help="of the physics; default: all cores")
    args = parser.parse_args(arguments)
    if args.preset not in PRESETS:
        parser.error(str(nearest("preset", args.preset, PRESETS)))
    if args.threads < 1:
        parser.error(f"--threads must be at least 1, got {args.threads}")
    preset = PRESETS[args.preset]
    rates = measure(make_runs(preset, args.threads), preset.rounds)
    header, rows = ["", "control steps/s", "of the physics", "of stable-baselines3"], compare(rates)
    print(table(header, rows))
    if args.preset == "full" and args.threads == cpu_count():
        figures = {**asdict(preset), "threads": args.threads, "steps_per_s": rates}
        write_report("ppo_rate", figures, header, rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
