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

from neon_sim.world_model import judging, problems
from neon_sim.world_model.amortised import AmortisedConfig, AmortisedHead
from neon_sim.world_model.bundle import Bundle, save_bundle
from neon_sim.world_model.command_space import command_space
from neon_sim.world_model.config import lewm_config
from neon_sim.world_model.controllers import (
    HeadController,
    LatentController,
    PlanningConfig,
    Search,
    encode_moment,
    make_planner,
    make_planners,
)
from neon_sim.world_model.film import Memory, film_of
from neon_sim.world_model.judging import TrialJob, each_problem, run_job, summary
from neon_sim.world_model.lewm import LeWM
from neon_sim.world_model.plan import Box, Plan
from neon_sim.world_model.played import seconds_of
from neon_sim.world_model.problems import TRUE_POSE, Problem, find_problem, seen_from_base, worded
from neon_sim.world_model.ranking import asked_plans, rank_of_plans
from neon_sim.world_model.readout import GoalReader, ReaderConfig, Readout, embed_words
from neon_sim.world_model.references import OracleController, make_controller
from neon_sim.world_model.rollouts import JUDGED_FROM, RolloutConfig
from neon_sim.world_model.sight import Sight
from neon_sim.world_model.trial import Way, run_trial
from neon_sim.world_model.worlds import Moment, apart, moment, open_world, outcome, step_world, without_pictures

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


def _listening(**fields: Any) -> LeWM:
    """A tiny model of reach, random, whose predictor listens to actions: a fresh one does not (adaLN-zero)."""
    torch.manual_seed(0)
    model = LeWM(lewm_config("tiny", action_dim=6, **fields)).eval()
    for module in model.predictor.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    return model


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    model = _listening()
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
    search = Search((planner, planner), 1, PlanningConfig(horizon=3, hold=2, execute=execute), 0)
    for _ in first:
        search.find(lambda actions: actions.sum((-1, -2)))
    assert [start[0] for start in planner.starts] == pytest.approx(first)


@pytest.mark.parametrize(("execute", "fresh"), [(2, 1), (6, 3)])  # 6 steps: all of 3 commands held for 2
def test_a_search_with_nothing_left_of_its_plan_looks_far(execute: int, fresh: int) -> None:
    first, warm = Begun(), Begun()
    search = Search((first, warm), 1, PlanningConfig(horizon=3, hold=2, execute=execute), 0)
    for _ in range(3):
        search.find(lambda actions: actions.sum((-1, -2)))
    assert (len(first.starts), len(warm.starts)) == (fresh, 3 - fresh)
    config = PlanningConfig(sigma=0.6, warm_sigma=0.2, noise_beta=1.0)
    for name in ("cem", "icem", "mppi", "gradient"):
        assert [make_planner(name, config, told).sigma for told in (False, True)] == [0.6, 0.2]  # type: ignore[attr-defined]
    assert make_planner("cem", config).noise_beta == 1.0  # type: ignore[attr-defined]


def test_what_makes_no_difference_stays_as_it_is() -> None:
    def last(actions: torch.Tensor) -> torch.Tensor:  # a hand that has forgotten the first command at the end
        return 0.02 * (actions[:, :, -1] - 0.4).square().sum(-1)

    moved = {}
    for change in (0.0, PlanningConfig.change):
        config = PlanningConfig(execute=2, change=change)
        search = Search(make_planners("cem", config), 6, config, 0)
        told = torch.stack([search.find(last)[0, 0] for _ in range(30)])[10:]
        moved[change] = float(told.diff(dim=0).square().mean().sqrt())
        assert float((told.mean(0) - 0.4).abs().max()) < 0.2 or not change
    assert moved[PlanningConfig.change] < 0.6 * moved[0.0], moved


def test_a_readout_that_errs_now_is_taken_to_err_as_much_later(bundle: Bundle, env: Any, problem: Problem) -> None:
    readout = Readout.empty(32).requires_grad_(False)
    readout.place.output_std.zero_()
    readout.place.output_mean[:6] = 0.7  # m: it says so whatever it sees
    controller = LatentController(replace(bundle, readout=readout.eval()), QUICK)
    controller.begin(problem)
    controller.see(problem.start, None)
    off = float(np.square(problem.start.palms - problem.wanted.ravel()).sum())
    with torch.no_grad():
        found = float(controller.cost()(torch.zeros(1, 1, 2, 6)))
    assert found == pytest.approx(off * (1.0 + QUICK.running), rel=1e-4)


def test_a_box_that_the_latent_misplaces_is_where_the_patches_say() -> None:
    start = _seen([0.0, 0.0, 0.0])
    problem = Problem(0, {}, {}, start, start, np.array([[1.5, 0.2]]), "")
    bundle, costs = _walker("push_box"), []  # its latents say nothing of the box: 0, 0
    for place in (None, [1.2, 0.2, 0.0], [1.2, 0.8, 0.0]):
        sight = None if place is None else Sight.empty(32)
        if sight is not None:
            sight.probe.output_std.zero_()
            sight.probe.output_mean.copy_(torch.tensor(place))
        controller = LatentController(replace(bundle, sight=sight), replace(QUICK, horizon=1, running=0.0))
        controller.begin(problem)
        controller.see(start, None)
        with torch.no_grad():
            costs.append(float(controller.cost()(torch.zeros(1, 1, 1, 3))))
    # One imagined step pushes the box by 0.1 m: from (0, 0), and from (1.2, 0.2) with 0.3 m to go.
    # A box that is said to be far to the left was guessed: the latent is believed.
    assert costs == pytest.approx([1.4**2 + 0.2**2, 0.2**2, 1.4**2 + 0.2**2], rel=1e-4)


def test_a_plan_is_imagined_in_one_pass_by_a_model_that_learned_to(env: Any, bundle: Bundle, problem: Problem) -> None:
    model = _listening(prefix=True)
    config = replace(QUICK, prefix=True, execute=6)  # the whole plan: 3 commands, held for 2 steps
    controller = LatentController(Bundle("reach", model, Readout.empty(32).eval()), config)
    controller.begin(problem)
    controller.see(problem.start, None)
    plan = torch.from_numpy(controller.decide()).float()[None, None]
    seen = encode_moment(controller.bundle, problem.start)[:, None], torch.zeros(1, 0, 6)
    assert plan.shape == (1, 1, 6, 6) and controller.imagined is not None
    with torch.no_grad():
        torch.testing.assert_close(controller.imagined, model.predictor.rollout(*seen, plan, prefix=True)[0, 0])
        step_by_step = model.predictor.rollout(*seen, plan)[0, 0]
    assert not torch.allclose(controller.imagined[1:], step_by_step[1:], atol=1e-3)
    with pytest.raises(ValueError, match=r"did not learn prefixes.*train_world_model.py --task TASK --prefix"):
        LatentController(bundle, config)


@pytest.mark.parametrize("goal", ["state", "observation"])
def test_weights_of_16_bits_plan_as_well(problem: Problem, goal: str) -> None:
    model = _listening().to(torch.bfloat16)
    controller = LatentController(Bundle("reach", model, Readout.empty(32).eval()), replace(QUICK, goal=goal))
    controller.begin(problem)
    controller.see(problem.start, None)
    for command in controller.decide():
        controller.see(problem.start, command)
    assert controller.decide().shape == (2, 6) and controller.imagined is not None
    assert controller.imagined.dtype == torch.float32 and bool(controller.imagined.isfinite().all())


def test_what_the_words_name_is_planned_for(bundle: Bundle, problem: Problem) -> None:
    torch.manual_seed(0)
    reader = GoalReader(ReaderConfig(dim=32, text_dim=embed_words([problem.instruction]).shape[1])).eval()
    last = reader.net[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.3, 0.0, 0.2, -5.0]))  # whatever is said: the left palm to (0.3, 0.0, 0.2)
    readout = Readout.empty(32).requires_grad_(False)
    readout.place.output_std.zero_()  # it says the same of every latent, so only the correction by what is felt counts
    told = replace(bundle, reader=reader.requires_grad_(False), readout=readout.eval())
    controller = LatentController(told, replace(QUICK, goal="instruction"))
    controller.begin(problem)
    controller.see(problem.start, None)
    with torch.no_grad():
        cost = float(controller.cost()(torch.zeros(1, 1, 2, 6)))
    wanted = np.array([0.3, 0.0, 0.2, 0.14, -0.20, -0.02])  # the right palm waits where `goal` lets it
    assert cost == pytest.approx(np.square(problem.start.palms - wanted).sum() * (1.0 + QUICK.running), rel=1e-4)
    plan = controller.decide()
    assert plan.shape == (2, 6) and np.abs(plan).max() <= 1.0


def test_a_problem_is_far_enough_the_same_again_and_left_at_its_start(env: Any, problem: Problem) -> None:
    assert apart(outcome(SPACE, problem.start), problem.wanted) >= 0.15
    again = find_problem(env, SPACE, 1, 12)
    assert np.array_equal(again.wanted, problem.wanted) and np.array_equal(again.start.frame, problem.start.frame)
    assert np.array_equal(again.goal.frame, problem.goal.frame)
    now = moment(env, again.obs)
    assert np.array_equal(outcome(SPACE, now), outcome(SPACE, again.start))
    assert not np.array_equal(find_problem(env, SPACE, 2, 12).wanted, problem.wanted)


@pytest.mark.parametrize("task", ["navigate", "reach"])
def test_a_goal_is_where_somebody_came_to_rest(task: str) -> None:
    world, space = open_world(task, 32), command_space(task)
    found = find_problem(world, space, 2, 25)
    world.close()
    velocity, joint_vel = slice(122, 125), slice(29 + 15, 58)  # of proprio: the last command, and the arms
    assert found.goal.proprio[velocity].tolist() == [0.0] * 3
    if task == "navigate":
        assert np.abs(found.start.proprio[velocity]).max() > 0.1
    else:
        assert np.abs(found.goal.proprio[joint_vel]).max() < 0.2


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


def _seen(base: list[float], seed: int = 0) -> Moment:
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (32, 32, 3), np.uint8)
    place = np.array([0.5, 0.1, -0.6])
    return Moment(frame, rng.normal(size=125).astype(np.float32), np.array(base), np.zeros(6), place, place)


def _walker(task: str) -> Bundle:
    """A world model that reads of every step that it is 0.1 m ahead, box and all, and a quarter turn to the left."""
    torch.manual_seed(0)
    readout = Readout.empty(32, task).requires_grad_(False)
    readout.step.output_std.zero_()
    readout.place.output_std.zero_()
    readout.step.output_mean.copy_(torch.tensor([0.1, 0.0, np.pi / 2]))
    if readout.push is not None:
        readout.push.output_std.zero_()
        readout.push.output_mean.copy_(torch.tensor([0.1, 0.0]))
    return Bundle(task, LeWM(lewm_config("tiny", action_dim=3)).eval(), readout.eval())


@pytest.mark.parametrize("task", ["navigate", "push_box"])
def test_a_state_is_carried_on_by_what_the_latents_say_of_the_way(task: str) -> None:
    start = _seen([3.0, 1.0, np.pi])
    problem = Problem(0, {}, {}, start, start, np.array([[2.0, 1.0]]), "")  # a metre ahead of who looks back along x
    controller = LatentController(_walker(task), replace(QUICK, horizon=1))
    controller.begin(problem)
    controller.see(start, None)
    assert controller.walked.tolist() == [0.0, 0.0, 0.0]
    for step in (1, 2):
        controller.see(_seen([9.0 * step, -9.0, 0.3], step), np.zeros(3))
    assert controller.walked == pytest.approx([0.1, 0.1, np.pi])
    # It stands at (0.1, 0.1) of the start's frame and looks back: the goal at (1, 0) is 0.9 m behind, 0.1 to the left.
    # One more step ahead and a quarter turn, imagined: 1.0 m and 0.1 m off; the box is read where the robot is.
    with torch.no_grad():
        found = float(controller.cost()(torch.zeros(1, 1, 1, 3)))
    assert found == pytest.approx((1.0**2 + 0.1**2) * (1.0 + QUICK.running), rel=1e-4)


def test_what_the_simulator_says_of_the_pose_counts_only_where_the_goal_says_so() -> None:
    start = _seen([0.0, 0.0, 0.0])
    problem, bundle = Problem(0, {}, {}, start, start, np.array([[1.0, 0.0]]), ""), _walker("navigate")
    found = {}
    for goal in ("state", TRUE_POSE):
        for base in ([0.2, 0.0, 0.0], [0.7, 0.4, 1.0]):
            controller = LatentController(bundle, replace(QUICK, goal=goal))
            controller.begin(problem)
            controller.see(start, None)
            controller.see(_seen(base, 1), np.zeros(3))
            with torch.no_grad():
                found[goal, base[0]] = float(controller.cost()(torch.zeros(1, 1, 3, 3)))
    assert found["state", 0.2] == found["state", 0.7]
    assert found[TRUE_POSE, 0.2] != found[TRUE_POSE, 0.7]


def _walks(speed: float, metres: float = 2.0) -> Way:
    """A way past a goal 1 m ahead, at a constant speed (m/s), until it has arrived."""
    start = _seen([0.0, 0.0, 0.0])
    way = Way(command_space("navigate"), Problem(0, {}, {}, start, start, np.array([[1.0, 0.0]]), ""))
    while not way.arrived and way.steps * 0.1 * speed < metres:
        way.go(_seen([0.1 * speed * (way.steps + 1), 0.0, 0.0]), False)
    return way


def test_who_passes_through_has_not_arrived() -> None:
    walked = _walks(0.4)  # 0.4 m of it within 0.2 m of the goal: a whole second
    assert walked.as_fields()["passed"] and not walked.arrived and walked.as_fields()["nearest"] < 1e-9
    assert not _walks(0.16).arrived
    slow = _walks(0.14)  # at 0.8 m after 58 steps: near at the 58th, 59th and 60th
    assert slow.arrived and slow.steps == 60 and slow.as_fields()["success"]
    assert slow.as_fields()["final"] == pytest.approx(0.16)
    fallen = _walks(0.14, 0.8)
    fallen.go(_seen([1.0, 0.0, 0.0]), True)
    assert fallen.fell and not fallen.arrived


def test_a_rollout_without_pictures_has_the_same_outcome(env: Any, problem: Problem) -> None:
    env.set_state(problem.state)
    whole = env.get_state()
    ways = []
    for state in (whole, without_pictures(whole)):
        env.set_state(state)
        obs, way = dict(problem.obs), []
        for _ in range(3):
            obs, _ = step_world(env, SPACE, 0.5 * np.ones(6), obs)
            way.append((outcome(SPACE, moment(env, obs)), obs["proprio"], obs["camera"]))
        ways.append(way)
    for seen, unseen in zip(*ways, strict=True):
        assert np.array_equal(seen[0], unseen[0]) and np.array_equal(seen[1], unseen[1])
        assert np.array_equal(unseen[2], problem.obs["camera"])
    assert not np.array_equal(ways[0][-1][2], problem.obs["camera"])
    assert whole["robot"]["frames"]["next_capture_s"]["camera"] < 1e6  # the state itself is as it was
    env.set_state(problem.state)


@pytest.mark.parametrize("name", ["cem", "icem", "mppi", "gradient"])
@pytest.mark.parametrize(("samples", "iterations"), [(64, 5), (32, 3)])
def test_every_planner_has_the_same_budget(name: str, samples: int, iterations: int) -> None:
    asked: list[int] = []

    def cost(candidates: torch.Tensor) -> torch.Tensor:
        asked.append(candidates.shape[1])
        return candidates.square().sum((-1, -2))

    box = Box.unit(3)
    planner = make_planner(name, PlanningConfig(samples=samples, iterations=iterations))
    planner.plan(cost, box, box.center(1, 5), torch.Generator().manual_seed(0))
    counted = sum(asked) if name != "gradient" else 3 * sum(asked[:-1]) + asked[-1]  # no gradient of the last ones
    assert counted == pytest.approx(samples * iterations, rel=0.1)


def test_an_episode_without_a_problem_is_a_row(env: Any, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "_ATTEMPTS", 1)
    soon = replace(QUICK, goal_steps=1)  # in 0.1 s hardly any palm moves 15 cm
    rows = each_problem(env, bundle, soon, 0, range(7, 8), lambda problem: {"success": True})
    assert rows[0]["episode"] == 7 and "0.15 m off" in rows[0]["no_problem"] and "success" not in rows[0]


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
    done = run_trial(env, replace(SPACE, goal_near=1.0), there, _Still(), replace(QUICK, budget_steps=20))
    assert done.success and done.passed and min(done.decide_ms) >= 20.0
    assert done.steps > 3  # near from the start, but the palms are still on their way down
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


@pytest.mark.parametrize("task", ["navigate", "reach", "push_box"])
def test_plans_tried_side_by_side_cost_what_they_cost_alone(task: str) -> None:
    world, space = open_world(task, 32), command_space(task)
    start = find_problem(world, space, 1, 25)
    oracle = OracleController(world, space, QUICK)
    oracle.begin(start)
    oracle.see(start.start, None)
    plans = np.random.default_rng(0).uniform(-1.0, 1.0, (3, 4, space.dim)).astype(np.float32)
    together = oracle.cost()(torch.from_numpy(plans)[None])[0].numpy()
    state = without_pictures(world.get_state())
    alone = [oracle.tried(plan.astype(np.float64), state) for plan in plans]
    assert together == pytest.approx(alone, abs=1e-4) and len(set(alone)) == 3
    if task == "push_box":
        world.set_state(start.state)
        name = world.task.box.name
        world.world.place_object(name, np.array([5.0, 0.0, 0.3]), np.array([0.5**0.5, 0.5**0.5, 0.0, 0.0]))
        assert oracle.cost()(torch.from_numpy(plans)[None])[0].tolist() == [100.0] * 3
        assert oracle.tried(plans[0].astype(np.float64), without_pictures(world.get_state())) == 100.0
    world.close()


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
    for wrong in ({"warm_sigma": 0.0}, {"change": -1e-3}):
        with pytest.raises(ValueError, match="sigmas above 0"):
            PlanningConfig(**wrong)
    with pytest.raises(ValueError, match="Unknown planner"):
        make_planner("dijkstra", QUICK)


def test_episodes_are_kept_and_not_played_twice(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "world")
    job = TrialJob(str(tmp_path / "rows.json"), str(tmp_path / "world"), "random", QUICK, seed=3, count=2)
    rows = run_job(job)
    assert len(rows) == 2 and rows[0]["start_distance"] != rows[1]["start_distance"]
    assert [(row["seed"], row["episode"]) for row in rows] == [(3, 0), (3, 1)]
    before = (tmp_path / "rows.json").stat().st_mtime_ns
    assert run_job(job) == rows and (tmp_path / "rows.json").stat().st_mtime_ns == before
    assert seconds_of(Path(job.path)) is not None and seconds_of(tmp_path / "none.json") is None
    (tmp_path / "world").rename(tmp_path / "moved")  # what was played is of these weights, wherever they and it lie
    (tmp_path / "rows.json").rename(tmp_path / "elsewhere.json")
    moved = replace(job, path=str(tmp_path / "elsewhere.json"), model=str(tmp_path / "moved"))
    assert run_job(moved) == rows
    job = replace(moved, model=str(tmp_path / "world"))
    save_bundle(bundle, tmp_path / "world")
    with pytest.raises(ValueError, match="other settings"):
        run_job(replace(job, count=3))
    other = replace(bundle, model=deepcopy(bundle.model))
    with torch.no_grad():
        other.model.predictor.places.add_(1.0)
    save_bundle(other, tmp_path / "world")
    with pytest.raises(ValueError, match="or weights"):  # the rows are not about this model
        run_job(job)


def test_controllers_meet_the_problem_that_was_found_for_the_first(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "world")
    rows = {}
    judging._FOUND.clear()
    for name in ("random", "expert", "again"):
        controller = "random" if name == "again" else name
        if name == "again":
            judging._FOUND.clear()
        job = TrialJob(str(tmp_path / f"{name}.json"), str(tmp_path / "world"), controller, QUICK, seed=3, count=2)
        known = len(judging._FOUND)
        rows[name] = [{key: value for key, value in row.items() if key != "decide_ms"} for row in run_job(job)]
        assert (len(judging._FOUND) == known) == (name == "expert")
    assert rows["random"] == rows["again"]  # what was kept is what would be found
    starts = [[row["start_distance"] for row in rows[name]] for name in ("random", "expert")]
    assert starts[0] == starts[1]


def test_a_summary_by_hand() -> None:
    row = {
        "success": True,
        "passed": True,
        "start_distance": 0.3,
        "nearest": 0.02,
        "final": 0.04,
        "fell": False,
        "decide_ms": [1.0, 3.0],
    }
    found = summary([row, row | {"success": False, "final": 0.10, "fell": True, "decide_ms": [2.0]}])
    assert (found["episodes"], found["successes"], found["rate"], found["falls"]) == (2, 1, 0.5, 1)
    assert found["final_cm_median"] == pytest.approx(7.0) and found["decide_ms_p50"] == 2.0
    assert found["success"].startswith("50.0 % [") and found["passed"] == 2
    gone = {"seed": 0, "episode": 3, "no_problem": "nothing moved"}
    more = summary([row, gone])
    assert (more["episodes"], more["without_a_problem"], more["rate"]) == (1, 1, 1.0)
    with pytest.raises(ValueError, match="Of 1 episodes none had a problem"):
        summary([gone])


def test_the_rank_of_plans_is_a_correlation(env: Any, bundle: Bundle, problem: Problem) -> None:
    for drawn_by in ("random", "cem"):
        rho = rank_of_plans(env, bundle, problem, replace(QUICK, goal="image"), plans=5, seed=0, drawn_by=drawn_by)
        assert -1.0 <= rho <= 1.0
    with pytest.raises(ValueError, match="Unknown source of plans 'cme'. Did you mean 'cem'"):
        rank_of_plans(env, bundle, problem, QUICK, plans=5, seed=0, drawn_by="cme")
    assert np.array_equal(outcome(SPACE, moment(env, problem.obs)), outcome(SPACE, problem.start))


def test_the_plans_that_cem_asks_about_close_in(bundle: Bundle, problem: Problem) -> None:
    config = replace(QUICK, samples=32, iterations=6, change=0.0)
    latent = LatentController(bundle, replace(config, goal="observation"))
    latent.begin(problem)
    latent.see(problem.start, None)
    found = asked_plans(latent, config, 64, 0)
    assert found.shape == (1, 64, 3, 6) and float(found.abs().max()) <= 1.0
    assert float(found[0, :16].std(0).mean()) > 2.0 * float(found[0, -16:].std(0).mean())


def test_what_is_imagined_is_shown_as_the_nearest_picture(env: Any, bundle: Bundle, problem: Problem) -> None:
    dark, bright = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    memory = Memory(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), np.stack([dark, bright]))
    assert np.array_equal(memory.nearest(np.array([0.9, 0.7], np.float32)), bright)
    trial = run_trial(env, SPACE, problem, LatentController(bundle, QUICK), QUICK, film=True)
    whole = Memory(torch.zeros(1, 32), bright[None])
    film = film_of(trial, dark, whole)
    assert film.shape == (5, 256, 1024, 3)
    assert np.array_equal(film[0, ::8, :256:8], trial.frames[0]) and np.array_equal(
        film[0, ::8, 256:512:8], trial.frames[0]
    )
    assert bool((film[1, :, 256:768] == 255).all()) and bool((film[:, :, 768:] == 0).all())
    assert trial.foreseen[1] is not None and trial.imagined[2] is not None
    assert np.array_equal(trial.foreseen[1], trial.foreseen[2])  # one plan: two moments, one end
    assert not np.array_equal(trial.foreseen[1], trial.foreseen[3])
    assert not np.array_equal(trial.imagined[1], trial.imagined[2])
