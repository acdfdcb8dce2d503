"""The planning benchmark's parts: FLOPs by hand, a causal patch-token model, cells and shards, figures by name."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import planning_adaptation as adaptation
import planning_speed as speed
import planning_success as success
from planning_patch_tokens import PatchTokenConfig, PatchTokenPredictor

from neon_sim.world_model.bundle import Bundle, save_bundle
from neon_sim.world_model.config import lewm_config
from neon_sim.world_model.judging import played_once
from neon_sim.world_model.lewm import LeWM
from neon_sim.world_model.readout import Readout

SMALL = PatchTokenConfig(patches=4, dim=8, layers=2, heads=2, head_dim=4, mlp=16, action_dim=3)


def test_flops_of_a_product_by_hand() -> None:
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    assert speed.flops_of(lambda: a @ b) == 2 * 3 * 5 * 7


def test_patch_tokens_see_no_future_and_roll_out_as_they_predict() -> None:
    torch.manual_seed(0)
    model = PatchTokenPredictor(SMALL).eval()
    frames, actions = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 3)
    with torch.no_grad():
        plans = torch.randn(1, 5, 4, 3)
        rolled = model.rollout(frames[:1, 0], plans)
        assert rolled.shape == (1, 5, 4, 8)
        seen = frames[:1, 0].expand(5, -1, -1)[:, None]
        for step in range(4):  # the window holds three frames
            begin = max(0, step - 2)
            seen = torch.cat([seen, model(seen[:, begin:], plans[0, :, begin : step + 1])[:, None]], dim=1)
        torch.testing.assert_close(rolled[0], seen[:, -1])
        changed = actions.clone()
        changed[:, -1] += 1.0
        assert not torch.allclose(model(frames, actions), model(frames, changed))  # the newest action counts


def test_the_exact_path_is_the_eager_one() -> None:
    found = speed.exact_against_eager(speed.SPEED_PRESETS["tiny"], "tiny")
    assert found["max_difference"] < 1e-4 and found["speed_up_fp32"] > 0.0
    if not speed.has_bf16():
        assert found["speed_up_bf16"] == "not measured"


def test_random_weights_do_listen_to_actions() -> None:
    config = speed.lewm_config("tiny")
    model = speed.untrained(config)
    z, past = torch.randn(1, 1, config.dim), torch.zeros(1, 0, config.action_dim)
    out = model.predictor.rollout(z, past, speed.candidates(4, 3, config.action_dim))
    assert float(out[0, :, -1].std(0).mean()) > 1e-4


def test_bf16_is_read_from_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("flags : avx2 avx512_bf16\n")
    assert speed.has_bf16(path)
    path.write_text("flags : avx2 avx512f\n")
    assert not speed.has_bf16(path) and not speed.has_bf16(tmp_path / "none")


def test_speed_rows_name_the_figures() -> None:
    figures, rows = speed.measure_speed(speed.SPEED_PRESETS["tiny"], 1)
    assert figures["ratio_patch_token_over_lewm"] == figures["patch_token_ms"] / figures["lewm_ms"]
    assert figures["share_of_flop_ratio"] == pytest.approx(
        figures["ratio_patch_token_over_lewm"] / figures["flop_ratio"]
    )
    assert figures["replan_xs_p50_ms"] > figures["amortised_p50_ms"] > 0.0
    assert {len(row) for row in rows} == {3}


def test_a_cells_episodes_are_shared_out_over_the_seeds() -> None:
    plan = success.Plan(episodes=20, oracle_episodes=4, extra_episodes=6)
    cell = success.Cell("reach")
    jobs = success.jobs_of(cell, plan, Path("m"), Path("f"), (0, 1))
    assert [(j.seed, j.first, j.count) for j in jobs] == [(0, 0, 5), (0, 5, 5), (1, 0, 5), (1, 5, 5)]
    assert len({job.path for job in jobs}) == 4 and jobs[0].config.budget_steps == 50
    far = success.jobs_of(success.Cell("reach", goal_steps=50), plan, Path("m"), Path("f"), (0,))
    assert sum(job.count for job in far) == 6 and far[0].config.goal_steps == 50
    oracle = success.jobs_of(success.Cell("reach", "oracle"), plan, Path("m"), Path("f"), (0,))
    assert sum(job.count for job in oracle) == 4 and oracle[0].config.samples == plan.planning.samples
    names = [c.name for c in success.cells(("reach", "navigate"))]
    assert len(set(names)) == len(names)


def test_ranks_by_hand() -> None:
    found = success.rank_figures([{"rho": rho} for rho in (0.2, 0.4, 0.6, None)])
    assert found == {"problems": 4, "undefined": 1, "median": 0.4, "quartiles": [0.3, 0.5]}
    assert success.rank_figures([{"rho": None}])["median"] is None


def test_lives_taken_together_by_hand() -> None:
    row = {"success": True, "start_distance": 0.3, "nearest": 0.02, "final": 0.04, "fell": False, "decide_ms": [1.0]}
    lives = [
        {"trials": [row], "learned": {"gain": 0.5, "forgetting": 0.1, "updates": 3}},
        {"trials": [row | {"success": False}], "learned": {"gain": 0.3, "forgetting": 0.3, "updates": 4}},
    ]
    found = adaptation.arm_figures(lives)
    assert (found["episodes"], found["rate"], found["lives"], found["updates"]) == (2, 0.5, 2, 7)
    assert found["gain"] == pytest.approx(0.4) and found["forgetting"] == pytest.approx(0.2)
    assert found["forgetting_worst"] == 0.3


def test_rows_of_lives_that_were_lived(tmp_path: Path) -> None:
    world, runs = tmp_path / "world", tmp_path / "runs"
    save_bundle(Bundle("reach", LeWM(lewm_config("tiny", action_dim=6)), Readout.empty(32)), world)
    row = {"success": True, "start_distance": 0.3, "nearest": 0.02, "final": 0.04, "fell": False, "decide_ms": [20.0]}
    for job in adaptation.lives("reach", world, runs, (100,), 1):
        learned = {"gain": 0.25, "forgetting": 0.5, "updates": 3}
        played_once(job, lambda bundle, learned=learned: [{"trials": [row], "learned": learned}])
    figures, rows = adaptation.measure_adaptation({"reach": world}, runs, (100,), 1, 1)
    assert list(figures["adaptation"]) == [f"reach-{arm}" for arm in adaptation.ARMS]
    assert rows[0][0] == "reach, cem in actuator_bias, world model frozen" and len(rows) == 4
    assert rows[3][2:] == ["error here -25.0 %, at home +50.0 %", "30 to 4.0 cm", "20 ms"]


def test_every_arm_lives_with_every_seed() -> None:
    jobs = adaptation.lives("reach", Path("m"), Path("f"), (0, 1), 7)
    assert [(job.arm, job.seed) for job in jobs] == [(arm, seed) for arm in adaptation.ARMS for seed in (0, 1)]
    assert len({job.path for job in jobs}) == 8 and {job.episodes for job in jobs} == {7}
    assert {job.arm: job.life.protection for job in jobs} == {
        "frozen": "none",
        "none": "none",
        "l2": "l2",
        "ewc": "ewc",
    }


def test_figures_have_the_names_that_others_look_for() -> None:
    row = {"rate": 0.8, "successes": 8, "episodes": 10, "success": "80 %", "start_cm_median": 30.0,
           "final_cm_median": 4.0, "decide_ms_p50": 20.0}  # fmt: skip
    found = {success.Cell("reach"): row | {"rate": 0.4, "successes": 4}, success.Cell("reach", "oracle"): row}
    figures = success.success_figures(found)
    assert figures["success_reach"] == 0.4 and figures["oracle_reach"] == 0.8 and figures["episodes"] == 10
    assert success.table_rows(found)[0][2] == "0.50"
