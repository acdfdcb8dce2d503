"""Data and judging of Push-T: what is recorded replays, problems can be solved, players see what they may see."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("pymunk", reason="pip install 'neon-sim[pusht]'")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "agents"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import push_t as benchmark
import train_push_t as script

from neon_sim.world_model.dataset import Rollouts
from neon_sim.world_model.lewm import LeWM, save_world_model
from neon_sim.world_model.push_t import PushT, picture, solved
from neon_sim.world_model.push_t_data import (
    Behaviour,
    PushTData,
    PushTProblem,
    find_problem,
    find_problems,
    play_episode,
    record,
    record_episode,
)
from neon_sim.world_model.push_t_judging import (
    PushTJob,
    PushTJudging,
    latent_player,
    make_player,
    oracle_player,
    play,
    player_jobs,
    probe_correlations,
    probe_of_training,
    random_player,
    recorded_player,
    row_of,
    run_job,
    script_player,
    summary,
)

DATA = PushTData(episodes=4, steps=6, image_size=32, shard_episodes=2)
QUICK = PushTJudging(samples=16, elites=4, iterations=2, image_size=32)


@pytest.fixture(scope="module")
def model() -> LeWM:
    """Random weights that listen to actions: a fresh predictor does not yet (adaLN-zero)."""
    torch.manual_seed(0)
    made = LeWM(script.model_config("tiny")).eval()
    for module in made.predictor.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.5 * module.in_features**-0.5)
    return made


@pytest.fixture(scope="module")
def problems() -> list[PushTProblem]:
    return find_problems(DATA, range(12))


def test_what_is_recorded_replays() -> None:
    episode = record_episode(DATA, 3)
    assert episode["frames"].shape == (7, 32, 32, 3) and episode["commands"].shape == (6, 10)
    states, actions, _ = play_episode(DATA, 3, 30)
    np.testing.assert_array_equal(episode["frames"][2], picture(states[10], 32))
    np.testing.assert_array_equal(episode["commands"][1], actions[5:10].ravel().astype(np.float32))
    np.testing.assert_array_equal(episode["proprio"][1], states[5, [0, 1, 5, 6]].astype(np.float32))
    world = PushT(states[0])
    for action in actions:
        end = world.step(action)
    np.testing.assert_array_equal(end, states[-1])


def test_a_lost_shard_is_recorded_again_and_nothing_else(tmp_path: Path) -> None:
    assert record(DATA, tmp_path, 1) == 4 * 7 and record(DATA, tmp_path, 1) == 0
    before = Rollouts(tmp_path).frames(3)
    (tmp_path / "rest_00001.npz").unlink()
    assert record(DATA, tmp_path, 1) == 2 * 7
    np.testing.assert_array_equal(Rollouts(tmp_path).frames(3), before)


def test_both_behaviours_touch_the_block_often() -> None:
    for kind, share in (("wander", 1.0), ("script", 0.0)):
        config = replace(DATA, wander_share=share)
        assert Behaviour(config, np.random.default_rng(0)).kind == kind
        moved = [play_episode(config, seed, 120)[0][:, 2:5] for seed in range(4)]
        still = np.mean([(np.abs(np.diff(path, axis=0)).max(1) < 1e-3).mean() for path in moved])
        assert still < 0.9, kind
        assert all((path[:, :2] > 0.0).all() and (path[:, :2] < 512.0).all() for path in moved)


def test_problems_leave_something_to_do_and_are_always_the_same(problems: list[PushTProblem]) -> None:
    assert not any(solved(problem.start, problem.goal) for problem in problems)
    again = find_problem(DATA, 5)
    np.testing.assert_array_equal(again.start, problems[5].start)
    np.testing.assert_array_equal(again.goal, problems[5].goal)
    near = PushTProblem(0, np.zeros(7), np.array([50.0, 0, 19, 0, 0, 0, 0]), np.zeros((25, 2)))
    far = replace(near, goal=np.array([50.0, 0, 21, 0, 0, 0, 0]))
    assert not near.pushes and far.pushes


def test_recorded_actions_get_there_and_random_ones_do_not(problems: list[PushTProblem]) -> None:
    rates = {}
    for name, player in (("recorded", recorded_player), ("script", script_player), ("random", random_player(0))):
        rates[name] = np.mean([row["success"] for row in play(problems, player, 50)])
    assert rates["recorded"] > 0.7 and rates["script"] > 0.3 and rates["random"] < 0.3


def test_the_oracle_plans_nearer_to_the_goal_than_it_was(problems: list[PushTProblem]) -> None:
    some = problems[:2]
    judging = PushTJudging(samples=24, elites=4, iterations=4)
    rows = play(some, oracle_player(judging, 0), 25)
    before = [np.linalg.norm(problem.start[:4] - problem.goal[:4]) for problem in some]
    assert np.mean([row["off_px"] for row in rows]) < 0.8 * np.mean(before)


def test_the_latent_player_sees_pictures_alone(model: LeWM, problems: list[PushTProblem]) -> None:
    player = latent_player(model, QUICK, 0)
    one = problems[:1]
    states, none = one[0].start[None, None], np.empty((1, 0, 2))
    plan = player(one, states, none)
    assert plan.shape == (1, 25, 2) and np.abs(plan).max() <= 1.0
    hidden = states + np.array([0, 0, 0, 0, 0, 300.0, -300.0])  # a speed does not show
    np.testing.assert_array_equal(player(one, hidden, none), plan)
    assert not np.array_equal(player([replace(one[0], goal=problems[1].goal)], states, none), plan)
    later = player(one, np.repeat(states, 26, axis=1), np.zeros((1, 25, 2)))  # three latents, two commands
    assert later.shape == (1, 25, 2)


def test_an_episode_counts_as_soon_as_it_is_solved() -> None:
    goal = np.array([100.0, 100, 300, 300, 0, 0, 0])
    problem = PushTProblem(0, np.zeros(7), goal, np.zeros((25, 2)))
    path = np.stack([goal + 50.0, goal, goal + np.array([30.0, 40, 0, 0, np.pi / 2, 0, 0])])
    row = row_of(problem, path)
    assert row["success"] and row["steps"] == 1
    assert row["off_px"] == pytest.approx(50.0) and row["turn_deg"] == pytest.approx(90.0)
    assert row_of(problem, path[:1])["steps"] is None
    lost = row | {"success": False, "pushes": False}
    found = summary([row, lost, lost, lost])
    assert found["rate"] == 0.25 and found["success_where_the_block_moves"].startswith("100.0 %")


def test_played_episodes_are_read_back_and_other_settings_refused(model: LeWM, tmp_path: Path) -> None:
    save_world_model(model, tmp_path / "model")
    job = PushTJob("", "", "", DATA, QUICK, count=2)
    jobs = player_jobs("lewm", tmp_path / "model", tmp_path, job, (7, 8), 3)
    assert [(j.seed, j.first, j.count) for j in jobs] == [(7, 0, 2), (7, 2, 1), (8, 0, 2), (8, 2, 1)]
    rows = run_job(jobs[1])
    path = Path(jobs[1].path)
    assert len(rows) == 1 and run_job(jobs[1]) == rows
    marked = json.loads(path.read_text())
    marked["rows"][0]["off_px"] = -1.0
    path.write_text(json.dumps(marked))
    assert run_job(jobs[1])[0]["off_px"] == -1.0  # read, not played
    moved = path.rename(tmp_path / "moved.json"), (tmp_path / "model").rename(tmp_path / "weights")
    jobs[1] = replace(jobs[1], path=str(moved[0]), model=str(moved[1]))
    assert run_job(jobs[1])[0]["off_px"] == -1.0
    with pytest.raises(ValueError, match="other settings or weights"):
        run_job(replace(jobs[1], judging=replace(QUICK, samples=8)))


def test_unknown_names_are_met_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="oracle"):
        make_player("oracel", Path(), QUICK, 0)
    with pytest.raises(ValueError, match="tiny"):
        script.settings(argparse.Namespace(preset="tinny", size=None))


def test_linear_probes_read_a_latent_that_shows_everything(tmp_path: Path, model: LeWM) -> None:
    record(replace(DATA, episodes=20), tmp_path, 1)
    train, test = Rollouts(tmp_path).split(0.2)
    found = probe_correlations(model, train, test)
    assert set(found) == {"agent", "block", "angle"} and all(-1.0 <= r <= 1.0 for r in found.values())
    assert found["block"] > 0.2  # even random features of a picture say something of where the T is
    state = torch.get_rng_state()
    assert probe_of_training(model, train, test) == {f"r_{name}": r for name, r in found.items()}
    assert torch.equal(state, torch.get_rng_state())  # training goes on as if nobody had looked


def test_the_table_says_where_the_rate_lies_beside_the_published_ones() -> None:
    lost = {"success": False, "steps": None, "pushes": True, "off_px": 50.0, "turn_deg": 30.0}
    rows = [lost | {"success": i < 30} for i in range(100)]
    report = {
        "players": {"lewm": summary(rows), "random": summary(rows[30:])},
        "published_percent": script.PUBLISHED,
        "probes": {"agent": 0.9},
        "run": {"training": {"grid": 4}},
        "published_probes": script.PUBLISHED_PROBES,
        "control_steps_recorded": 240_000,
        "parameters": 1_315_776,
    }
    table = benchmark.rows_of([report])
    assert all(len(row) == len(benchmark.HEADER) for row in table)
    assert (
        table[0][0] == "LeWM, 1.3 M, pictures read off 4 x 4 places (ours), 240k control steps of our data"
        and table[0][3] == "50 px, 30 degrees"
    )
    assert len(table) == 2 + len(script.PUBLISHED) + 1 and table[-1][3] == "published 0.974"
    figures = benchmark.figures_of([report])
    assert figures["success_push_t"] == 0.3 and figures["reaches_replications_on_weak_data"]
    assert not figures["reaches_replications_on_expert_data"]
    token = report | {"players": {"lewm": summary(rows[20:])}, "run": {"training": {"grid": 0}}}
    table = benchmark.rows_of([report, token])
    assert [row[0].split(", ")[2] for row in table[:2]] == ["pictures read off 4 x 4 places (ours)", "class token"]
    assert table[1][1] == token["players"]["lewm"]["success"] and table[2][0] == "random"  # once, of the first run
    assert len(table) == 3 + len(script.PUBLISHED) + 2 and "class token" in table[-1][0]
    both = benchmark.figures_of([report, token])
    assert both["success_push_t"] == both["grids"]["4"]["success_push_t"] == 0.3
    assert both["grids"]["0"]["success_push_t"] == 0.125


def test_each_grid_has_a_folder_of_its_own() -> None:
    names = [benchmark.folder_of(Path("runs/push_t"), grid).as_posix() for grid in (4, 0, 2)]
    assert names == ["runs/push_t", "runs/push_t_token", "runs/push_t_grid2"]
    assert script.PRESETS["default"].training.grid == benchmark.OUR_GRID


@pytest.mark.slow
def test_the_script_resumes_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--preset", "tiny", "--updates", "20", "--episodes", "4", "--seeds", "100", "--workers", "1"]
    monkeypatch.setattr(sys, "argv", ["train_push_t.py", *flags, "--device", "cpu", "--out", str(tmp_path)])
    script.main()
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["players"]) == set(script.PLAYERS) and report["players"]["lewm"]["episodes"] == 4
    weights = (tmp_path / "world_model" / "world_model.safetensors").read_bytes()
    script.main()  # everything is there
    assert (tmp_path / "world_model" / "world_model.safetensors").read_bytes() == weights
    assert json.loads((tmp_path / "report.json").read_text())["players"] == report["players"]
