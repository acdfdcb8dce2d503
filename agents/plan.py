"""Plan inside a world model, live: look, imagine, act, at 10 Hz (and it says how often that took longer).

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
Planners: cem, icem, mppi, gradient; amortised and cloned answer at once, and take pictures for goals (observation, if
something else is asked for); oracle, expert and random are references.
--adapt takes a gradient step on the newest transitions before each plan, held by the named springs, and tells what the
model learned about this world and what it forgot about the one that it was trained in.

Writes OUT/plan.json (the figures, what they were made with, and how many episodes had no problem to pose) and, with
--film, OUT/film.mp4: seen, imagined for that moment, imagined for the end of the plan, goal. A LeWM has no decoder, so
what it imagines is shown as the nearest recorded picture (from --data).
"""

import argparse
import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from neon_sim.eval.regimes import regimes_by_name
from neon_sim.names import nearest
from neon_sim.sim import faults
from neon_sim.world_model.adapting import SPRINGS, Life, LifeConfig
from neon_sim.world_model.bundle import Bundle, load_bundle
from neon_sim.world_model.command_space import COMMAND_SPACES, STEP_S
from neon_sim.world_model.controllers import PLANNERS, Controller, LatentController, PlanningConfig
from neon_sim.world_model.dataset import Rollouts
from neon_sim.world_model.film import Memory, film_of, write_film
from neon_sim.world_model.judging import NO_PROBLEM, each_problem, model_folder, row_of, summary
from neon_sim.world_model.played import fingerprint
from neon_sim.world_model.problems import GOALS, Problem
from neon_sim.world_model.references import CONTROLLERS, make_controller
from neon_sim.world_model.report import commit
from neon_sim.world_model.trial import Trial, run_trial
from neon_sim.world_model.worlds import WORLDS, open_world

LEAST = {"samples": 2} | dict.fromkeys(("iterations", "horizon", "hold", "execute", "goal_steps", "budget_steps"), 1)
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
        ("planner", args.planner, PLANNERS if args.adapt else CONTROLLERS),
    ):
        if value not in valid:
            raise nearest(kind, value, valid)
    if args.regime not in regimes_by_name(args.task):
        raise nearest(f"regime of {args.task}", args.regime, regimes_by_name(args.task))
    config, episodes = PRESETS[args.preset]
    given = {name: value for name, value in vars(args).items() if name in asdict(config) and value is not None}
    if args.goal_steps is not None and args.budget_steps is None:
        given["budget_steps"] = 2 * args.goal_steps  # as the benchmark's rows have it
    check_numbers(asdict(config) | given)
    episodes = episodes if args.episodes is None else args.episodes
    if episodes < 1:
        raise ValueError(f"--episodes must be at least 1, got {episodes}.")
    return replace(config, **given), episodes


def check_numbers(given: dict[str, Any]) -> None:
    """Raise ValueError for a number of `PlanningConfig`'s that makes no sense, by the name of its flag."""
    for name, least in LEAST.items():
        if given[name] < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {given[name]}.")
    steps = given["horizon"] * given["hold"]
    if given["execute"] > steps:
        raise ValueError(
            f"--execute must be at most the plan's {steps} model steps (--horizon x --hold), got {given['execute']}."
        )


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
    parser.add_argument("--regime", default="nominal", help="what is broken, of neon_sim/eval/regimes.py: payload ...")
    parser.add_argument("--adapt", metavar="SPRINGS", help=f"learn while planning, held by {', '.join(SPRINGS)}")
    parser.add_argument("--strength", type=float, help="of the springs")
    parser.add_argument("--model", type=Path, help="a world model's folder")
    for name in ("samples", "iterations", "horizon", "hold", "execute"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--prefix", action="store_true", default=None, help="imagine in one pass, if the model can")
    parser.add_argument("--goal-steps", type=int, help="of 0.1 s from start to goal; 25, or 50 for the far ones")
    parser.add_argument("--budget-steps", type=int, help="of 0.1 s in which it has to be reached; twice --goal-steps")
    parser.add_argument("--episodes", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--film", action="store_true", help="film the first episode that has a problem")
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
    regime = regimes_by_name(args.task)[args.regime]
    env.world.apply_fault([getattr(faults, regime.fault)(**fields) for fields in regime.faults] or None)
    if life is not None:
        life.arrive(env)
        controller = life.controller(config, args.planner, args.seed)
    return controller, life


def play(config: PlanningConfig, episodes: int, args: argparse.Namespace) -> None:
    """All episodes, then the numbers."""
    folder = model_folder(args.task, args.model)
    bundle = load_bundle(folder)
    if bundle.task != args.task:
        raise ValueError(f"This world model is of {bundle.task}, wanted {args.task}. Give --model or --task.")
    recorded, made = pictures_of(args), made_with(folder, args)
    env = open_world(args.task, bundle.model.config.image_size, args.world, room=args.seed)
    rows: list[dict[str, Any]] = []
    try:
        controller, life = ready(env, bundle, config, args)
        config = own_config(controller, config)

        def tried(problem: Problem) -> dict[str, Any]:
            film = recorded is not None and all(NO_PROBLEM in row for row in rows)
            trial = run_trial(env, bundle.space, problem, controller, config, film)
            if recorded is not None and film:
                save_film(bundle, problem, trial, recorded, args.out / "film.mp4")
            return row_of(trial)

        for i in tqdm(range(episodes), desc=f"{args.planner}, {config.goal}"):
            rows += each_problem(env, bundle, config, args.seed, range(i, i + 1), tried)
    except KeyboardInterrupt:
        print("\nStopped; what was played is counted.")
    finally:
        env.close()
    if rows:
        figures = summary(rows) | punctuality(rows, config)
        tell(made | {"config": asdict(config)} | figures | learned_by(life, controller), args)


def punctuality(rows: Sequence[Mapping[str, Any]], config: PlanningConfig) -> dict[str, float]:
    """How many decisions were there, how many took longer than what they decide on lasts, and how many ms that is. The
    simulated world waits for a late one, a robot would not.
    """
    lasts_ms = 1e3 * STEP_S * config.execute
    decisions = [ms for row in rows for ms in row.get("decide_ms", ())]
    return {"decisions": len(decisions), "late_decisions": sum(ms > lasts_ms for ms in decisions), "due_ms": lasts_ms}


def own_config(controller: Controller, config: PlanningConfig) -> PlanningConfig:
    """What the controller plans by: a head takes pictures for goals, whatever was asked for."""
    own: PlanningConfig = getattr(controller, "config", config)
    if own.goal != config.goal:
        print(f"This planner takes a picture for a goal: the goal is {own.goal} in place of {config.goal}.")
    return own


def made_with(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What the figures follow from besides the planning's config, and when and at which commit they were made."""
    asked = {name: getattr(args, name) for name in ("task", "planner", "world", "regime", "seed")}
    day, code = datetime.date.today().isoformat(), commit(Path(__file__).resolve().parent)
    return asked | {"model": str(folder), "weights": fingerprint(folder), "date": day, "commit": code}


def learned_by(life: Life | None, controller: Controller) -> dict[str, Any]:
    """What the model of one that adapts learned, said and as plain numbers; nothing of another."""
    if life is None or not isinstance(controller, LatentController):
        return {}
    learned = life.learned(controller)
    print(f"{learned.updates} updates: error {100 * learned.gain:.1f} % smaller here, "
          f"{100 * learned.forgetting:+.1f} % at home")  # fmt: skip
    return {"adapted": asdict(life.config), "learned": learned.as_figures()}


def tell(found: dict[str, Any], args: argparse.Namespace) -> None:
    """Write the figures, and say the main ones."""
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "plan.json").write_text(json.dumps(found, indent=2) + "\n")
    without = f", {found['without_a_problem']} more without a problem" if found["without_a_problem"] else ""
    print(f"{args.task}: {found['success']}{without}, {found['final_cm_median']:.1f} cm from the goal at the end "
          f"(median), {found['decide_ms_p50']:.0f} ms a decision, {found['late_decisions']} of {found['decisions']} "
          f"took more than {found['due_ms']:.0f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
