"""Planning in the live env: problems that can be solved, an oracle that solves one, trials counted as they went."""

import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neon_sim.world_model.amortised import AmortisedConfig, AmortisedHead
from neon_sim.world_model.bundle import Bundle, save_bundle
from neon_sim.world_model.command_space import command_space
from neon_sim.world_model.config import lewm_config
from neon_sim.world_model.controllers import (
    HeadController,
    LatentController,
    OracleController,
    PlanningConfig,
    Search,
    make_controller,
    make_planner,
)
from neon_sim.world_model.film import Memory, film_of
from neon_sim.world_model.judging import TrialJob, rank_of_plans, run_job, summary
from neon_sim.world_model.lewm import LeWM
from neon_sim.world_model.plan import Plan
from neon_sim.world_model.problems import Problem, find_problem, seen_from_base, worded
from neon_sim.world_model.readout import Readout
from neon_sim.world_model.rollouts import JUDGED_FROM, RolloutConfig
from neon_sim.world_model.trial import run_trial
from neon_sim.world_model.worlds import Moment, apart, moment, open_world, outcome

SPACE = command_space("reach")
QUICK = PlanningConfig(samples=6, iterations=2, horizon=3, hold=2, execute=2, goal_steps=12, budget_steps=4)


@pytest.fixture(scope="module")
def env() -> Any:
    made = open_world("reach", 32)
    yield made
    made.close()


@pytest.fixture(scope="module")
def problem(env: Any) -> Problem:
    return find_problem(env, SPACE, 1, 12)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    torch.manual_seed(0)
    model = LeWM(lewm_config("tiny", action_dim=6)).eval()
    for module in model.predictor.modules():
        if isinstance(module, nn.Linear):  # a fresh predictor does not listen to actions yet (adaLN-zero)
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    head = AmortisedHead(AmortisedConfig(dim=32, action_dim=6)).eval()
    return Bundle("reach", model, Readout.empty(32).eval(), cloned=head)


class Begun:
    """A planner that finds commands 0.1, 0.2, 0.3 and notes where its search was to begin."""

    def __init__(self) -> None:
        self.starts: list[list[float]] = []

    def plan(self, cost: Any, box: Any, start: torch.Tensor, generator: Any, seeds: Any = None) -> Plan:
        self.starts.append(start[0, :, 0].tolist())
        found = torch.tensor([0.1, 0.2, 0.3]).reshape(1, 3, 1)
        return Plan(found, torch.zeros(1), found[:, None], torch.zeros(1, 1))


@pytest.mark.parametrize(
    ("execute", "first"), [(1, [0.0, 0.1, 0.2, 0.1]), (2, [0.0, 0.2, 0.2, 0.2]), (3, [0.0, 0.2, 0.3, 0.2])]
)
def test_a_search_begins_at_what_is_left_of_the_last_plan(execute: int, first: list[float]) -> None:
    planner = Begun()
    search = Search(planner, 1, PlanningConfig(horizon=3, hold=2, execute=execute), 0)
    for _ in first:
        search.find(lambda actions: actions.sum((-1, -2)))
    assert [start[0] for start in planner.starts] == pytest.approx(first)


def test_a_problem_is_far_enough_the_same_again_and_left_at_its_start(env: Any, problem: Problem) -> None:
    assert apart(outcome(SPACE, problem.start), problem.wanted) >= 0.15
    again = find_problem(env, SPACE, 1, 12)
    assert np.array_equal(again.wanted, problem.wanted) and np.array_equal(again.start.frame, problem.start.frame)
    assert np.array_equal(again.goal.frame, problem.goal.frame)
    now = moment(env, again.obs)
    assert np.array_equal(outcome(SPACE, now), outcome(SPACE, again.start))
    assert not np.array_equal(find_problem(env, SPACE, 2, 12).wanted, problem.wanted)


def test_the_words_name_another_goal(env: Any, problem: Problem) -> None:
    told = worded(env, SPACE, problem)
    truth = env.privileged()
    assert told.wanted[truth["hand"]] == pytest.approx(truth["target_pos_b"], abs=1e-3)
    assert not np.array_equal(told.wanted, problem.wanted)
    assert seen_from_base(SPACE, np.ones(3), told.wanted) is told.wanted


def test_a_told_goal_is_far_from_the_start_and_no_recording_has_its_seed(env: Any) -> None:
    farther = replace(SPACE, goal_move=0.28)  # the first start of seed 1 is 0.26 m from what its words name
    told = find_problem(env, farther, 1, 12, told=True)
    assert apart(outcome(SPACE, told.start), told.wanted) >= 0.28
    assert told.wanted[env.privileged()["hand"]] == pytest.approx(env.privileged()["target_pos_b"], abs=1e-3)
    assert env.np_random_seed >= JUDGED_FROM
    with pytest.raises(ValueError, match="judging has those above"):
        RolloutConfig(episodes=2, first_seed=JUDGED_FROM - 1)


class _Still:
    """Stays where it is, and looks for 20 ms."""

    def begin(self, problem: Problem) -> None:
        pass

    def see(self, seen: Moment, command: np.ndarray | None) -> None:
        time.sleep(0.02)

    def decide(self) -> np.ndarray:
        return SPACE.from_units(np.array([0.14, 0.20, -0.02, 0.14, -0.20, -0.02]))[None]


def test_a_decision_includes_its_look_and_a_fall_is_no_success(env: Any, problem: Problem) -> None:
    there = replace(problem, wanted=outcome(SPACE, problem.start))  # solved at the start: three steps hold it
    done = run_trial(env, replace(SPACE, goal_near=1.0), there, _Still(), QUICK)
    assert done.success and done.steps == 3 and min(done.decide_ms) >= 20.0
    env.set_state(problem.state)
    most, env._max_steps = env._max_steps, env._steps + 12  # it ends within the third step
    try:
        ended = run_trial(env, replace(SPACE, goal_near=1.0), there, _Still(), QUICK)
    finally:
        env._max_steps = most
    assert ended.fell and not ended.success and ended.steps == 3


def test_a_model_that_feels_nothing_plans_by_pictures(env: Any, problem: Problem) -> None:
    torch.manual_seed(0)
    blind = Bundle("reach", LeWM(lewm_config("tiny", action_dim=6, proprio_dim=0)).eval(), Readout.empty(32).eval())
    trial = run_trial(env, SPACE, problem, LatentController(blind, QUICK), QUICK)
    assert trial.steps == 4 and len(trial.decide_ms) == 2


def test_the_script_gets_there_and_chance_does_not(env: Any, bundle: Bundle, problem: Problem) -> None:
    config = replace(QUICK, budget_steps=25)
    done = run_trial(env, SPACE, problem, make_controller("expert", env, bundle, config), config)
    assert done.success and done.final <= 0.05 and done.start_distance >= 0.15 and not done.fell
    assert len(done.decide_ms) == done.steps  # it decides at every step
    lost = run_trial(env, SPACE, problem, make_controller("random", env, bundle, config), config)
    assert not lost.success and lost.steps == 25 and lost.nearest <= lost.final


def test_the_oracle_plans_with_the_world_and_puts_it_back(env: Any, problem: Problem) -> None:
    config = PlanningConfig(samples=8, iterations=2, horizon=1, hold=8, execute=8, goal_steps=12, budget_steps=8)
    oracle = OracleController(env, SPACE, config)
    env.set_state(problem.state)
    oracle.begin(problem)
    oracle.see(problem.start, None)
    found = oracle.decide()
    assert found.shape == (8, 6) and np.abs(found).max() <= 1.0
    assert np.array_equal(outcome(SPACE, moment(env, problem.obs)), outcome(SPACE, problem.start))
    right = torch.tensor(SPACE.from_units(problem.wanted.ravel()), dtype=torch.float32).view(1, 1, 1, 6)
    wrong = -torch.ones(1, 1, 1, 6)
    costs = oracle.cost()(torch.cat([right, wrong], dim=1).repeat_interleave(8, dim=2))[0]
    assert costs[0] < 0.5 * costs[1]
    env.set_state(problem.state)


def test_a_latent_plan_is_what_the_model_imagines(env: Any, bundle: Bundle, problem: Problem) -> None:
    for goal in ("state", "image", "observation"):
        config = replace(QUICK, goal=goal)
        first, second = (LatentController(bundle, config, "cem") for _ in range(2))
        trials = [run_trial(env, SPACE, problem, c, config, film=True) for c in (first, second)]
        assert trials[0].final == trials[1].final  # the same seed, the same plan
        assert trials[0].steps == 4 and len(trials[0].decide_ms) == 2 and len(trials[0].frames) == 5
        assert trials[0].imagined[0] is None and trials[0].imagined[1] is not None
        assert first.imagined is not None and first.imagined.shape == (6, 32)  # 3 commands held for 2 steps


def test_a_head_answers_at_once_and_counts_down(env: Any, bundle: Bundle, problem: Problem) -> None:
    assert bundle.cloned is not None
    head = HeadController(bundle, bundle.cloned, QUICK)
    assert head.config.goal == "observation"
    run_trial(env, SPACE, problem, head, QUICK)
    assert head._to_go == 12 - 4
    with pytest.raises(ValueError, match="no amortised head"):
        make_controller("amortised", env, bundle, QUICK)
    with pytest.raises(ValueError, match="reads no words"):
        make_controller("cem", env, bundle, replace(QUICK, goal="instruction"))
    with pytest.raises(ValueError, match="Did you mean 'oracle'"):
        make_controller("oracel", env, bundle, QUICK)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'image'"):
        PlanningConfig(goal="imge")
    with pytest.raises(ValueError, match="execute within the plan"):
        PlanningConfig(horizon=2, hold=2, execute=5)
    with pytest.raises(ValueError, match="Unknown planner"):
        make_planner("dijkstra", 8, 2)


def test_episodes_are_kept_and_not_played_twice(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "world")
    job = TrialJob(str(tmp_path / "rows.json"), str(tmp_path / "world"), "random", QUICK, seed=3, count=2)
    rows = run_job(job)
    assert len(rows) == 2 and rows[0]["start_distance"] != rows[1]["start_distance"]
    before = (tmp_path / "rows.json").stat().st_mtime_ns
    assert run_job(job) == rows and (tmp_path / "rows.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="other settings"):
        run_job(replace(job, count=3))
    other = replace(bundle, model=deepcopy(bundle.model))
    with torch.no_grad():
        other.model.predictor.places.add_(1.0)
    save_bundle(other, tmp_path / "world")
    with pytest.raises(ValueError, match="or weights"):  # the rows are not about this model
        run_job(job)


def test_a_summary_by_hand() -> None:
    row = {
        "success": True,
        "start_distance": 0.3,
        "nearest": 0.02,
        "final": 0.04,
        "fell": False,
        "decide_ms": [1.0, 3.0],
    }
    found = summary([row, row | {"success": False, "final": 0.10, "fell": True, "decide_ms": [2.0]}])
    assert (found["episodes"], found["successes"], found["rate"], found["falls"]) == (2, 1, 0.5, 1)
    assert found["final_cm_median"] == pytest.approx(7.0) and found["decide_ms_p50"] == 2.0
    assert found["success"].startswith("50.0 % [")


def test_the_rank_of_plans_is_a_correlation(env: Any, bundle: Bundle, problem: Problem) -> None:
    rho = rank_of_plans(env, bundle, problem, replace(QUICK, goal="image"), plans=5, seed=0)
    assert -1.0 <= rho <= 1.0
    assert np.array_equal(outcome(SPACE, moment(env, problem.obs)), outcome(SPACE, problem.start))


def test_what_is_imagined_is_shown_as_the_nearest_picture(env: Any, bundle: Bundle, problem: Problem) -> None:
    dark, bright = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    memory = Memory(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), np.stack([dark, bright]))
    assert np.array_equal(memory.nearest(np.array([0.9, 0.7], np.float32)), bright)
    trial = run_trial(env, SPACE, problem, LatentController(bundle, QUICK), QUICK, film=True)
    whole = Memory(torch.zeros(1, 32), bright[None])
    film = film_of(trial, dark, whole)
    assert film.shape == (5, 256, 768, 3)
    assert np.array_equal(film[0, ::8, :256:8], trial.frames[0]) and np.array_equal(
        film[0, ::8, 256:512:8], trial.frames[0]
    )
    assert bool((film[1, :, 256:512] == 255).all()) and bool((film[:, :, 512:] == 0).all())
