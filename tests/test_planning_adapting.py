"""A planner whose world model learns in the loop: steps between plans, a bundle left alone, gain and forgetting."""

import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import planning_adaptation as benchmark

from neon_sim.sim.faults import ActuatorFault
from neon_sim.world_model.adapt import AdaptConfig, adapted_parameters
from neon_sim.world_model.adapting import AdaptingController, Learned, Life, LifeConfig, record_windows, window_error
from neon_sim.world_model.bundle import Bundle, save_bundle
from neon_sim.world_model.command_space import command_space
from neon_sim.world_model.config import lewm_config
from neon_sim.world_model.controllers import LatentController, PlanningConfig
from neon_sim.world_model.lewm import LeWM
from neon_sim.world_model.problems import find_problem
from neon_sim.world_model.ranking import RankJob, run_rank_job
from neon_sim.world_model.readout import Readout
from neon_sim.world_model.trial import run_trial
from neon_sim.world_model.worlds import open_world

SPACE = command_space("reach")
QUICK = PlanningConfig(samples=6, iterations=1, horizon=2, hold=2, execute=1, goal_steps=12, budget_steps=5)
SHORT = LifeConfig("none", adapt=AdaptConfig(learning_rate=1e-3), episodes=1, steps=11)
BROKEN = ActuatorFault("right_shoulder_pitch_joint", strength=1.0, bias=0.3)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    torch.manual_seed(0)
    model = LeWM(lewm_config("tiny", action_dim=6)).eval()
    for module in model.predictor.modules():
        if isinstance(module, nn.Linear):  # a fresh predictor does not listen to actions yet (adaLN-zero)
            nn.init.normal_(module.weight, std=0.5 * module.in_features**-0.5)
    return Bundle("reach", model, Readout.empty(32).eval())


@pytest.fixture(scope="module")
def env() -> Any:
    made = open_world("reach", 32)
    yield made
    made.close()


@pytest.fixture(scope="module")
def windows(env: Any, bundle: Bundle) -> dict[str, Tensor]:
    env.world.apply_fault(None)
    return record_windows(env, bundle, SHORT, 0)


def test_windows_follow_each_other(windows: dict[str, Tensor]) -> None:
    assert windows["frames"].shape == (2, 6, 32, 32, 3) and windows["actions"].shape == (2, 5, 6)
    assert torch.equal(windows["proprio"][0, 5], windows["proprio"][1, 0])  # the last moment begins the next window


def test_the_error_of_a_window_by_hand(bundle: Bundle, windows: dict[str, Tensor]) -> None:
    with torch.no_grad():
        z = bundle.model.encode(windows["frames"], windows["proprio"])
        off = bundle.model.predictor(z[:, :-1], windows["actions"]) - z[:, 1:]
    assert window_error(bundle.model, windows) == pytest.approx(float(off.square().mean()), rel=1e-5)


def test_a_step_before_each_plan_and_the_bundle_stays(env: Any, bundle: Bundle, windows: dict[str, Tensor]) -> None:
    env.world.apply_fault(BROKEN)
    problem = find_problem(env, SPACE, 1, 12)
    before = deepcopy(bundle.model.state_dict())
    adapting = AdaptingController(bundle, QUICK, SHORT, windows)
    frozen = LatentController(bundle, QUICK)
    first, plain = (run_trial(env, SPACE, problem, controller, QUICK) for controller in (adapting, frozen))
    env.world.apply_fault(None)
    assert first.steps == plain.steps == 5 and adapting.updates == 4  # none before the first plan: nothing has happened
    assert all(torch.equal(value, before[name]) for name, value in bundle.model.state_dict().items())
    moved = {name for name, value in adapting.bundle.model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("predictor.") for name in moved)


def test_springs_keep_what_mattered_at_home(bundle: Bundle, windows: dict[str, Tensor]) -> None:
    home = window_error(bundle.model, windows)
    after = {}
    for name, strength in (("none", None), ("ewc", 1e9), ("l2", 1e9)):
        controller = AdaptingController(bundle, QUICK, replace(SHORT, protection=name, strength=strength), windows)
        other = {key: value.flip(0) for key, value in windows.items()}
        frames, felt = other["frames"][0].roll(1, dims=1), other["proprio"][0]
        adapter = controller._adapter
        for step in range(5):
            adapter.see(frames[step], felt[step])
            adapter.step()
            adapter.did(-other["actions"][0, step])
        after[name] = abs(window_error(controller.bundle.model, windows) / home - 1.0)
        assert adapter.transitions == 4
    assert after["none"] > 1e-3 and after["ewc"] < 0.1 * after["none"] and after["l2"] < 1e-4


def test_a_life_is_judged_at_home_and_where_it_was(env: Any, bundle: Bundle) -> None:
    env.world.apply_fault(None)
    life = Life(env, bundle, SHORT)
    env.world.apply_fault(BROKEN)
    life.arrive(env)
    env.world.apply_fault(None)
    still = life.learned(LatentController(bundle, QUICK))
    assert still.gain == still.forgetting == 0.0 and still.updates == 0
    assert still.home_before != still.here_before
    worse = life.controller(QUICK)
    with torch.no_grad():
        for value in adapted_parameters(worse.bundle.model).values():
            value.add_(0.2 * torch.randn(value.shape, generator=torch.Generator().manual_seed(0)))
    spoiled = life.learned(worse)
    assert spoiled.home_before == still.home_before and spoiled.forgetting > 0.0


def test_gain_and_forgetting_by_hand() -> None:
    learned = Learned(home_before=2.0, home_after=3.0, here_before=4.0, here_after=1.0, updates=7)
    assert learned.forgetting == 0.5 and learned.gain == 0.75
    assert learned.as_figures()["forgetting"] == 0.5 and learned.as_figures()["updates"] == 7


def test_lives_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="Unknown protection of a world model 'ewcc'. Did you mean 'ewc'"):
        LifeConfig("ewcc")
    with pytest.raises(ValueError, match="only layers 'predictor' can move"):
        LifeConfig(adapt=AdaptConfig(layers="last"))
    with pytest.raises(ValueError, match="at least 5 steps"):
        LifeConfig(steps=3)


def test_lives_and_ranks_are_kept(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "world")
    job = benchmark.LifeJob(
        str(tmp_path / "life.json"), str(tmp_path / "world"), "ewc", "actuator_bias", QUICK, SHORT, episodes=1, home=1
    )
    (row,) = benchmark.run_life(job)
    assert [trial["episode"] for trial in row["home"]] == [benchmark.HOME_FROM]
    assert len(row["trials"]) == 1 and row["learned"]["updates"] == row["trials"][0]["steps"] - 1
    assert np.isfinite(list(row["learned"].values())).all()
    assert benchmark.run_life(job) == [row]
    ranks = RankJob(str(tmp_path / "ranks.json"), str(tmp_path / "world"), QUICK, plans=4, count=1)
    (rank,) = run_rank_job(ranks)
    assert -1.0 <= rank["rho"] <= 1.0 and run_rank_job(ranks) == [rank]
    with pytest.raises(ValueError, match="other settings"):
        run_rank_job(replace(ranks, plans=5))
