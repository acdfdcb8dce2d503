"""Plan inside a world model, live: look, imagine, act, at 10 Hz.

    python agents/plan.py --task reach                                     # goals are states, CEM, ten episodes
    python agents/plan.py --task navigate --goal image --planner icem
    python agents/plan.py --task push_box --goal instruction
    python agents/plan.py --task reach --planner oracle --episodes 2       # MuJoCo itself as the model, slow
    python agents/plan.py --task reach --regime actuator_bias --adapt ewc  # a broken arm; the world model learns on
    python agents/plan.py --task reach --model runs/tiny_world/world_model --preset tiny

Goals lie 2.5 s of behaviour away that comes to rest there; the start does not solve them. state: where palms, robot or
box should be, seen from the start; where the robot is since then it has to know by itself; state_true_pose: the same,
and the simulator tells the robot's pose at every replan; image: a picture; observation: a picture and the
proprioception there; instruction: the episode's own words, which name another target than the recorded behaviour went
to. There is who is near the goal and stands for 0.3 s (neon_sim/world_model/trial.py says it exactly).
Planners: cem, icem, mppi, gradient; amortised and cloned answer at once; oracle, expert and random are references.
--adapt takes a gradient step on the newest transitions before each plan, held by the named springs, and tells what the
model learned about this world and what it forgot about the one that it was trained in.

Writes OUT/plan.json and, with --film, OUT/film.mp4: seen, imagined for that moment, imagined for the end of the plan,
goal. A LeWM has no decoder, so what it imagines is shown as the nearest recorded picture (from --data).
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from neon_sim.eval.regimes import REGIMES
from neon_sim.names import nearest
from neon_sim.sim import faults
from neon_sim.world_model.adapting import SPRINGS, Life, LifeConfig
from neon_sim.world_model.bundle import Bundle, load_bundle
from neon_sim.world_model.command_space import COMMAND_SPACES
from neon_sim.world_model.controllers import PLANNERS, Controller, LatentController, PlanningConfig
from neon_sim.world_model.dataset import Rollouts
from neon_sim.world_model.film import Memory, film_of, write_film
from neon_sim.world_model.judging import model_folder, problem_of, summary_of_trials
from neon_sim.world_model.problems import GOALS, Problem
from neon_sim.world_model.references import CONTROLLERS, make_controller
from neon_sim.world_model.trial import Trial, run_trial
from neon_sim.world_model.worlds import WORLDS, open_world

TROUBLES = {regime.name: regime for regime in REGIMES["reach"]}
PRESETS = {
    "default": (PlanningConfig(), 10),
    "tiny": (PlanningConfig(samples=16, iterations=2, budget_steps=20, execute=2), 2),
}


def settings(args: argparse.Namespace) -> tuple[PlanningConfig, int]:
    """The preset with the given flags put in.

    Raises:
        ValueError: a name that does not exist, with the nearest that does, or a number that makes no sense.
    """
    for kind, value, valid in (
        ("preset", args.preset, PRESETS),
        ("task", args.task, COMMAND_SPACES),
        ("world", args.world, WORLDS),
        ("regime", args.regime, TROUBLES),
        ("planner", args.planner, PLANNERS if args.adapt else CONTROLLERS),
    ):
        if value not in valid:
            raise nearest(kind, value, valid)
    config, episodes = PRESETS[args.preset]
    given = {name: value for name, value in vars(args).items() if name in asdict(config) and value is not None}
    episodes = episodes if args.episodes is None else args.episodes
    if episodes < 1:
        raise ValueError(f"--episodes must be at least 1, got {episodes}.")
    return replace(config, **given), episodes


def pictures_of(args: argparse.Namespace) -> Rollouts | None:
    """The recorded pictures that a film needs, before anything is played; None without a film.

    Raises:
        ValueError: there are none.
    """
    if not args.film:
        return None
    folder = args.data or Path("runs") / f"world_model_{args.task}" / "data"
    try:
        return Rollouts(folder)
    except ValueError as error:
        raise ValueError(
            f"A film shows recorded pictures for what is imagined: {error}. Or give --data, or leave out --film."
        ) from None


def save_film(bundle: Bundle, problem: Problem, trial: Trial, recorded: Rollouts, path: Path) -> None:
    """Write the trial beside what was imagined of it."""
    memory = Memory.of(bundle.model, recorded)
    write_film(film_of(trial, problem.goal.frame, memory), path)
    print(f"Wrote {path}")


def main() -> None:
    """Play, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--task", default="reach", help=f"one of {', '.join(COMMAND_SPACES)}")
    parser.add_argument("--goal", help=f"one of {', '.join(GOALS)}")
    parser.add_argument("--planner", default="cem", help=f"one of {', '.join(CONTROLLERS)}")
    parser.add_argument("--world", default="nominal", help=f"one of {', '.join(WORLDS)}")
    parser.add_argument("--regime", default="nominal", help=f"what is broken: one of {', '.join(TROUBLES)}")
    parser.add_argument("--adapt", metavar="SPRINGS", help=f"learn while planning, held by {', '.join(SPRINGS)}")
    parser.add_argument("--strength", type=float, help="of the springs")
    parser.add_argument("--model", type=Path, help="a world model's folder")
    for name in ("samples", "iterations", "horizon", "hold", "execute"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--prefix", action="store_true", default=None, help="imagine in one pass, if the model can")
    parser.add_argument("--goal-steps", type=int, help="of 0.1 s from start to goal; 25, or 50 for the far ones")
    parser.add_argument("--budget-steps", type=int, help="of 0.1 s in which it has to be reached")
    parser.add_argument("--episodes", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--film", action="store_true", help="film the first episode")
    parser.add_argument("--data", type=Path, help="recorded rollouts for the film; runs/world_model_TASK/data")
    parser.add_argument("--out", type=Path, default=Path("runs/plan"))
    args = parser.parse_args()
    try:
        config, episodes = settings(args)
        play(config, episodes, args)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from None


def ready(env: Any, bundle: Bundle, config: PlanningConfig, args: argparse.Namespace) -> tuple[Controller, Life | None]:
    """The controller, and its life if it adapts; what the regime breaks is broken when this returns."""
    controller, life = make_controller(args.planner, env, bundle, config, args.seed), None
    if args.adapt:
        episodes = LifeConfig.episodes if args.preset == "default" else 1
        home = open_world(args.task, bundle.model.config.image_size)
        life = Life(home, bundle, LifeConfig(args.adapt, args.strength, episodes=episodes))
        home.close()
    regime = TROUBLES[args.regime]
    env.world.apply_fault([getattr(faults, regime.fault)(**fields) for fields in regime.faults] or None)
    if life is not None:
        life.arrive(env)
        controller = life.controller(config, args.planner, args.seed)
    return controller, life


def play(config: PlanningConfig, episodes: int, args: argparse.Namespace) -> None:
    """All episodes, then the numbers."""
    bundle = load_bundle(model_folder(args.task, args.model))
    if bundle.task != args.task:
        raise ValueError(f"This world model is of {bundle.task}, wanted {args.task}. Give --model or --task.")
    recorded = pictures_of(args)
    env = open_world(args.task, bundle.model.config.image_size, args.world, room=args.seed)
    trials: list[Trial] = []
    try:
        controller, life = ready(env, bundle, config, args)
        for i in tqdm(range(episodes), desc=f"{args.planner}, {config.goal}"):
            problem = problem_of(env, bundle, config, args.seed, i)
            film = recorded is not None and i == 0
            trials.append(run_trial(env, bundle.space, problem, controller, config, film))
            if recorded is not None and film:
                save_film(bundle, problem, trials[0], recorded, args.out / "film.mp4")
    except KeyboardInterrupt:
        print("\nStopped; what was played is counted.")
    finally:
        env.close()
    if not trials:
        return
    made = {"task": args.task, "planner": args.planner, "world": args.world, "config": asdict(config)}
    found = made | summary_of_trials(trials) | {"regime": args.regime}
    if life is not None and isinstance(controller, LatentController):
        learned = life.learned(controller)
        found |= {"adapted": asdict(life.config), "learned": learned.as_figures()}
        print(f"{learned.updates} updates: error {100 * learned.gain:.1f} % smaller here, "
              f"{100 * learned.forgetting:+.1f} % at home")  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "plan.json").write_text(json.dumps(found, indent=2) + "\n")
    print(f"{args.task}: {found['success']}, {found['final_cm_median']:.1f} cm from the goal at the end (median), "
          f"{found['decide_ms_p50']:.0f} ms a decision")  # fmt: skip


if __name__ == "__main__":
    main()
