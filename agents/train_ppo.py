"""Plain reinforcement learning with Stable-Baselines3: PPO or SAC on any task, from the simulation's truth.

    python agents/train_ppo.py                                       # PPO on reach, a million steps
    python agents/train_ppo.py --task stand --steps 20000            # a first look, about two minutes
    python agents/train_ppo.py --task press --algo sac --envs 4 --out runs/press_sac
    python agents/train_ppo.py --task reach --algo sac --her         # hindsight: a reward only at the goal
    python agents/play.py --policy runs/reach_ppo                    # watch it
    python -m neon_sim.eval.neonbench --policy runs/reach_ppo        # measure it, in the same world

The actor sees joints, palms, command and the task's truth (the `state` sensor), so it lives in simulation only. Stopped
with Ctrl-C, or the machine lost? The same command goes on from the last checkpoint, and a larger --steps adds to it.

Writes OUT/policy.zip (the model: stable_baselines3.PPO.load reads it), OUT/settings.json (the world it was trained in),
OUT/commands.txt, OUT/log.jsonl, OUT/reward.png, TensorBoard events, and SAC's OUT/replay_buffer.pkl.
"""

import argparse
import os
import shlex
import sys
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read once, by numpy: the cores belong to the physics threads

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.eval.plots import line_plot
from neon_sim.g1.action_space import ControlMode
from neon_sim.inference.sb3_policy import ALGORITHMS, POLICY_FILE, require_sb3
from neon_sim.names import nearest
from neon_sim.tasks import TASKS, make_task
from neon_sim.training.interrupt import deferred_interrupt
from neon_sim.training.run_folder import claim_folder

FLAT_KEYS = ("proprio", "eef", "command", "state")
GOAL_TASK = "reach"


@dataclass(frozen=True)
class RLConfig:
    """One training. The numbers of the learners are Stable-Baselines3's own unless a reason stands beside them.

    Raises:
        ValueError: a name that does not exist, with the nearest that does; settings that do not go together.
    """

    task: str = "reach"
    algo: str = "ppo"
    her: bool = False
    control_mode: str = "arms_only"
    envs: int = 8
    seed: int = 0
    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 3e-4
    gamma: float = 0.99
    log_std: float = -1.0  # PPO's first exploration: the arms span 5 rad, and a std of 1 is noise from end to end
    rollout: int = 2048  # PPO: control steps of all envs in a batch
    minibatches: int = 8  # PPO: of a batch
    target_kl: float = 0.02  # PPO: a batch is learned from no further; ten epochs without it went three times as far
    replay: int = 200_000  # SAC: steps kept; 340 MB in each checkpoint
    warm_up: int = 2_000  # SAC: random steps of all envs before it learns; an episode of each with her
    action_center: str = "home"
    physics_dt: float = 0.005  # s
    max_steps: int | None = None  # of an episode; None = the task's own
    threads: int | None = None  # of physics; None = one for each core

    def __post_init__(self) -> None:
        for kind, valid in (("task", TASKS), ("algo", ALGORITHMS), ("control_mode", list(ControlMode))):
            if getattr(self, kind) not in list(valid):
                raise nearest(kind, getattr(self, kind), valid)
        if self.envs < 1:
            raise ValueError(f"--envs must be at least 1, got {self.envs}.")
        if self.her and (self.algo, self.task) != ("sac", GOAL_TASK):
            wanted = f"--her needs --algo sac and --task {GOAL_TASK}, the task with a goal to put in hindsight"
            raise ValueError(f"{wanted}; got {self.algo} and {self.task}. Leave it out, or change these.")

    @property
    def sensors(self) -> tuple[str, ...]:
        """What the env senses. The goal view takes the truth from the env itself."""
        return ("proprio",) if self.her else ("proprio", "state")

    def settings(self) -> dict[str, Any]:
        """What a folder is claimed with, and its world rebuilt from: everything but the number of threads."""
        settings = asdict(self) | {"sensors": self.sensors, "keys": () if self.her else FLAT_KEYS}
        settings.pop("threads")
        return settings


def build_envs(config: RLConfig) -> Any:
    """The worlds, as a VecNormalize of Stable-Baselines3."""
    from neon_sim.training.sb3_envs import flat_envs, goal_envs

    names = ("task", "control_mode", "action_center", "sensors", "physics_dt", "max_steps")
    options = {name: getattr(config, name) for name in names}
    if config.her:
        return goal_envs(config.envs, options)
    return flat_envs(config.envs, FLAT_KEYS, options | {"threads": config.threads})


def new_model(config: RLConfig, envs: Any) -> Any:
    """A learner that has learned nothing."""
    sb3 = require_sb3()
    shared: dict[str, Any] = {
        "env": envs,
        "learning_rate": config.learning_rate,
        "gamma": config.gamma,
        "seed": config.seed,
        "device": "cpu",
    }
    net: dict[str, Any] = {"net_arch": list(config.hidden)}
    if config.algo == "ppo":
        each = config.minibatches * max(
            1, config.rollout // (config.envs * config.minibatches)
        )  # minibatches are equal
        return sb3.PPO(
            "MlpPolicy",
            n_steps=each,
            batch_size=each * config.envs // config.minibatches,
            target_kl=config.target_kl,
            policy_kwargs=net | {"log_std_init": config.log_std},
            **shared,
        )
    off_policy = {"buffer_size": config.replay, "gradient_steps": -1, "policy_kwargs": net, **shared}
    if not config.her:
        return sb3.SAC("MlpPolicy", learning_starts=config.warm_up, **off_policy)
    episode = config.max_steps or make_task(config.task).max_steps
    starts = max(config.warm_up, config.envs * (episode + 1))  # hindsight needs a whole episode to look back on
    return sb3.SAC("MultiInputPolicy", learning_starts=starts, replay_buffer_class=sb3.HerReplayBuffer, **off_policy)


def train(config: RLConfig, folder: Path, steps: int, save_every_s: float = 180.0) -> bool:
    """Learn until `steps` control steps of all envs together; True if they are done, False after Ctrl-C."""
    from neon_sim.training.sb3_run import learn, load_checkpoint

    with closing(build_envs(config)) as envs, deferred_interrupt() as interrupt:
        resumes = (folder / POLICY_FILE).exists()
        model = load_checkpoint(config.algo, folder, envs, config.seed) if resumes else new_model(config, envs)
        if model.num_timesteps < steps:
            learn(model, folder, steps, save_every_s, interrupt)
        return model.num_timesteps >= steps


def report(folder: Path) -> str:
    """Draw OUT/reward.png, and say how the last hundred episodes went."""
    from neon_sim.training.sb3_run import EPISODE_REWARD, SUCCESS_RATE, read_log

    lines = [line for line in read_log(folder) if EPISODE_REWARD in line]
    if not lines:
        return "No episode has ended yet: there is no curve to draw. Train for more --steps."
    curve = [line[EPISODE_REWARD] for line in lines]
    x_label = "control steps, all envs together"
    path = folder / "reward.png"
    line_plot(path, [line["steps"] for line in lines], {"last 100 episodes": curve}, x_label, "reward of an episode")
    success = f"success {100.0 * lines[-1].get(SUCCESS_RATE, 0.0):.0f} %"
    return f"Reward of an episode {curve[0]:.2f} at first, {curve[-1]:.2f} now; {success}. Wrote {path}"


def parse(arguments: list[str] | None = None) -> tuple[RLConfig, int, Path]:
    """The command line: config, steps, folder.

    Raises:
        ValueError: see `RLConfig`; less than one step.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = RLConfig()
    parser.add_argument("--task", default=default.task, help=f"one of {', '.join(TASKS)}")
    parser.add_argument("--algo", default=default.algo, help=f"one of {', '.join(ALGORITHMS)}")
    parser.add_argument("--her", action="store_true", help="hindsight experience replay, with sac on reach")
    parser.add_argument("--control-mode", default=default.control_mode, help=f"one of {', '.join(ControlMode)}")
    parser.add_argument("--steps", type=int, default=1_000_000, help="control steps of all envs together")
    parser.add_argument("--envs", type=int, default=default.envs)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--out", type=Path, help="default: runs/TASK_ALGO")
    args = parser.parse_args(arguments)
    if args.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {args.steps}.")
    config = replace(default, **{name: getattr(args, name) for name in ("task", "algo", "her", "control_mode")})
    config = replace(config, envs=args.envs, seed=args.seed)
    return config, args.steps, args.out or Path("runs") / f"{config.task}_{config.algo}{'_her' * config.her}"


def main() -> None:
    """Parse, claim the folder, train, draw."""
    try:
        config, steps, folder = parse()
        require_sb3()
        claim_folder(folder, config.settings())
    except (ValueError, ModuleNotFoundError) as error:
        raise SystemExit(str(error)) from None
    with open(folder / "commands.txt", "a", encoding="utf-8") as file:
        file.write(shlex.join(["python", *sys.argv]) + "\n")
    done = train(config, folder, steps)
    print(report(folder))
    if not done:
        raise SystemExit(f"Stopped; what was learned is in {folder}. The same command goes on.")
    print(f"Watch it: python agents/play.py --policy {folder}")


if __name__ == "__main__":
    main()
