"""The planning benchmark's parts: FLOPs by hand, cells and shards, figures by name."""

import json
import sys
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import planning as benchmark
import planning_adaptation as adaptation
import planning_against as against
import planning_cells as rows_of
import planning_costs as costs
import planning_pairs as compare
import planning_parts as report_parts
import planning_ranks as ranks
import planning_shipped as episodes_shipped
import planning_speed as speed
import planning_success as success
import planning_turns as turns

from neon_sim.world_model.bundle import Bundle, save_bundle
from neon_sim.world_model.config import lewm_config
from neon_sim.world_model.lewm import LeWM
from neon_sim.world_model.played import played_once
from neon_sim.world_model.predictor import rollout_plain
from neon_sim.world_model.readout import Readout

ROW = {"success": True, "passed": True, "start_distance": 0.3, "nearest": 0.02, "final": 0.04, "fell": False,
       "decide_ms": [20.0]}  # fmt: skip


def test_flops_of_a_product_by_hand() -> None:
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    assert turns.flops_of(lambda: a @ b) == 2 * 3 * 5 * 7


def test_the_exact_path_is_the_eager_one() -> None:
    found = against.exact_against_eager(turns.SPEED_PRESETS["tiny"], turns.untrained(lewm_config("tiny")))
    assert found["max_difference"] < 1e-4
    assert found["speed_up_fp32"] == found["window_ms"] / found["exact_ms"]
    assert found["token_passes"] == {"plain": 15, "window": 12, "exact": 5}
    if not against.has_bf16():
        assert found["speed_up_bf16"] == "not measured"


def test_a_window_that_holds_all_is_the_plain_rollout() -> None:
    model = turns.untrained(lewm_config("tiny"))
    z, past, plans = torch.randn(1, 2, 32), torch.randn(1, 1, 10), turns.candidates(3, 4, 10)
    with torch.no_grad():
        whole = rollout_plain(model.predictor, z, past, plans)
        torch.testing.assert_close(against.rollout_window(model.predictor, z, past, plans, window=6), whole)
        short = against.rollout_window(model.predictor, z, past, plans)
    torch.testing.assert_close(short[:, :, :2], whole[:, :, :2])  # the third step is the first without the oldest
    assert not torch.allclose(short[:, :, 2], whole[:, :, 2], atol=1e-3)


def test_half_precision_is_asked_at_recorded_moments() -> None:
    model = turns.untrained(lewm_config("tiny", action_dim=6))
    latents, past = against.recorded_latents(Bundle("reach", model, Readout.empty(32)), 4)
    assert latents.shape == (4, 3, 32) and past.shape == (4, 2, 6)
    assert torch.equal(latents, against.recorded_latents(Bundle("reach", model, Readout.empty(32)), 4)[0])
    plans = turns.candidates(16, 3, 6)
    same = against.kept_order(model, deepcopy(model).to(torch.bfloat16), plans, latents, past)
    assert same.shape == (4,) and 0.9 < same.min() < 1.0


def test_random_weights_do_listen_to_actions() -> None:
    config = lewm_config("tiny")
    model = turns.untrained(config)
    z, past = torch.randn(1, 1, config.dim), torch.zeros(1, 0, config.action_dim)
    out = model.predictor.rollout(z, past, turns.candidates(4, 3, config.action_dim))
    assert float(out[0, :, -1].std(0).mean()) > 1e-4


def test_bf16_is_read_from_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("flags : avx2 avx512_bf16\n")
    assert against.has_bf16(path)
    path.write_text("flags : avx2 avx512f\n")
    assert not against.has_bf16(path) and not against.has_bf16(tmp_path / "none")


def test_speed_rows_name_the_figures() -> None:
    figures, rows = speed.measure_speed(turns.SPEED_PRESETS["tiny"], 1)
    for mark in ("", "_grid"):  # the class token, and our grid
        ratio = figures["patch_token_ms"] / figures[f"lewm{mark}_ms"]
        assert figures[f"ratio_patch_token_over_lewm{mark}"] == ratio
        assert figures[f"share_of_flop_ratio{mark}"] == pytest.approx(ratio / figures[f"flop_ratio{mark}"])
    assert figures["flop_ratio_grid"] < figures["flop_ratio"]  # its last layer serves every patch
    times = ("replan_xs_p50_ms", "replan_xs_token_p50_ms", "amortised_p50_ms", "amortised_seen_p50_ms")
    assert all(figures[name] > 0.0 for name in times) and len({figures[name] for name in times}) == 4
    assert figures["replan_xs_live_p50_ms"] > 0.0 and figures["replan_xs_live_cpu_ms"] > 0.0
    assert {len(row) for row in rows} == {3} and figures["exact"]["tiny"]["weights"] == "random"
    assert [figures["timed"][way]["grid"] for way in speed.WAYS] == [4, 0]
    for label in ("0.09 M parameters, patches of 8 px, grid 4", "0.07 M parameters, patches of 8 px, class token"):
        assert any(row[0].startswith(f"replan tiny ({label}), 5") for row in rows)
    barred = [row[0] for row in rows if row[0].startswith("replan") and row[2]]
    assert len(barred) == 2 and all("grid 4" in label for label in barred)  # what is shipped is held to the bars
    assert 0.0 < speed.cpu_share(1, 0.05) < 1.2


def test_a_planner_costs_memory_and_processor() -> None:
    preset = turns.SPEED_PRESETS["tiny"]
    found = costs.alone(costs.planner_costs, preset, speed.ours("tiny"), 1)
    assert 50.0 < found["memory_mb"] <= found["memory_peak_mb"] < 5000.0  # a process with torch in it
    assert 0.0 < found["memory_above_mb"] < found["memory_mb"]
    assert 0.0 < found["cores"] < 1.5 and 0.0 <= found["late"] < 1.0


def test_calls_at_a_rate_by_the_clock() -> None:
    calls: list[float] = []
    began = time.perf_counter()
    cores, late = costs.paced(lambda: calls.append(time.perf_counter() - began), 3, rate_hz=20.0)
    assert time.perf_counter() - began >= 0.15 and calls[1] >= 0.05 and calls[2] >= 0.1  # the last has its period too
    assert 0.0 <= cores < 0.5 and late in (0.0, 1 / 3, 2 / 3)
    assert costs.paced(lambda: time.sleep(0.02), 3, rate_hz=100.0)[1] == pytest.approx(2 / 3)  # the first never is
    spins = costs.paced(lambda: sum(range(10**6)), 2, rate_hz=1000.0)[0]
    assert 0.0 < spins < 1.1


def test_a_row_for_the_readme_by_hand() -> None:
    figures = {
        "timed": {"grid": {"label": "xs (1.71 M parameters, patches of 16 px, grid 4)"}}, "threads": 2,
        "replan_xs_live_p50_ms": 61.4, "replan_xs_live_p99_ms": 80.6, "planner_memory_mb": 410.2,
        "planner_memory_above_mb": 55.1, "planner_cores_at_10_hz": 0.834,
    }  # fmt: skip
    assert costs.readme_row(figures, "2026-01-02") == (
        "| a planner in the world model xs (1.71 M parameters, patches of 16 px, grid 4), replanning at 10 Hz with "
        "2 threads (2026-01-02): a decision; processor; memory of its process | 61 ms, p99 81 ms; 0.83 cores; "
        "410 MB, 55 of them the planner's |"
    )


def test_times_are_of_the_model_that_they_name() -> None:
    told = speed.described(lewm_config("xs", patch_size=16, grid=4, action_dim=6), "xs")
    label = "xs (1.71 M parameters, patches of 16 px, grid 4)"
    size = {"size": "xs", "parameters": 1_711_680, "patch_size": 16, "grid": 4, "image_size": 64}
    assert told == size | {"label": label}
    ours = speed.ours("xs")
    assert (ours.patch_size, ours.grid, ours.action_dim) == (16, 4, 3)  # as agents/train_world_model.py trains
    assert speed.ways_of("xs", None) == {"grid": ours, "token": speed.replace(ours, grid=0)}
    with torch.device("meta"):
        fine, token, small = (
            LeWM(lewm_config(name, action_dim=6, grid=grid)) for name, grid in (("xs", 4), ("xs", 0), ("s", 0))
        )
    trained = speed.ways_of("xs", Bundle("reach", fine, Readout.empty(128)))
    assert trained == {"grid": lewm_config("xs", action_dim=3, grid=4), "token": speed.replace(ours, grid=0)}
    trained = speed.ways_of("xs", Bundle("reach", token, Readout.empty(128)))
    assert trained == {"grid": ours, "token": lewm_config("xs", action_dim=3)}
    with pytest.raises(ValueError, match="the world model of reach is of size s. Give --models"):
        speed.ways_of("xs", Bundle("reach", small, Readout.empty(192)))
    assert speed.size_of(lewm_config("xs", dim=64)) is None


def test_a_cells_episodes_are_shared_out_over_the_seeds() -> None:
    plan = rows_of.Plan(episodes=12, far_oracle_episodes=4, extra_episodes=6)
    cell = rows_of.Cell("reach")
    jobs = rows_of.jobs_of(cell, plan, Path("m"), Path("f"), (0, 1))
    assert [(j.seed, j.first, j.count) for j in jobs] == [(s, f, 2) for s in (0, 1) for f in (0, 2, 4)]
    assert len({job.path for job in jobs}) == 6 and jobs[0].planning.budget_steps == 50
    oracle, equal = rows_of.Cell("reach", "oracle", every=4), rows_of.Cell("reach", every=4)
    for other, episodes in (
        (rows_of.Cell("reach", goal_steps=50), 12),
        (rows_of.Cell("reach", world="unseen_objects"), 6),
        (oracle, 12),
        (replace(oracle, goal_steps=50), 4),
        (replace(equal, goal_steps=50), 4),
    ):
        mine = rows_of.jobs_of(other, plan, Path("m"), Path("f"), (0,))
        assert sum(job.count for job in mine) == episodes and mine[0].planning.goal_steps == other.goal_steps
    names = [c.name for c in rows_of.cells(("reach", "navigate"), plan)]
    assert len(set(names)) == len(names) and not any("reach" in name and "true" in name for name in names)


def test_the_oracle_has_an_equal() -> None:
    plan = rows_of.PLANS["full"]
    rows = rows_of.cells(rows_of.TASKS, plan)
    for oracle in (cell for cell in rows if cell.controller == "oracle"):
        equal = replace(oracle, controller="cem")
        assert equal in rows and rows_of.planning_of(equal, plan) == rows_of.planning_of(oracle, plan)
        assert rows_of.count_of(equal, plan) == rows_of.count_of(oracle, plan)
        assert success.oracle_of(equal, dict.fromkeys(rows, ())) == oracle
        assert success.oracle_of(replace(equal, every=1), dict.fromkeys(rows, ())) is None
    assert rows_of.planning_of(rows_of.Cell("push_box"), replace(plan, hold=3)).hold == 3
    assert "a plan each 0.4 s" in success.budgets(plan)[1][0]
    told = success.budgets(plan)[2][0]
    for part in ("200 in the nominal world", "of these 60 for the oracle", "200 in all other rows"):
        assert part in told
    assert {rows_of.count_of(cell, plan) for cell in rows} == {200, 60}
    assert success.budgets(rows_of.PLANS["brief"])[2][0] == "episodes: 60 in every row"
    assert success.budgets(plan, ["push_box"])[3][0].startswith("push_box: where the box is now is read off patch")
    paced = replace(rows_of.PLANS["brief"], planning=rows_of.PlanningConfig(execute=4))
    assert [c.controller for c in rows_of.cells(("reach",), paced)].count("cem") == 2  # the main row is the equal


def test_a_full_run_goes_on_with_the_shards_of_a_brief_one() -> None:
    brief, full = (
        {job.path: job for job in rows_of.jobs_of(oracle, plan, Path("m"), Path("f"), (0, 1))}
        for plan in (rows_of.PLANS["brief"], rows_of.PLANS["full"])
        for oracle in [rows_of.Cell("reach", "oracle", every=4)]
    )
    assert set(brief) < set(full) and all(full[path] == job for path, job in brief.items())
    main = rows_of.cells(("reach",), rows_of.PLANS["brief"])
    assert main == rows_of.cells(("reach",), rows_of.PLANS["full"])[: len(main)]
    assert {cell.controller for cell in main} == {"cem", "oracle", "cloned", "amortised", "random", "expert"}


def test_all_cells_and_tasks_of_some_problems_come_before_the_next_ones() -> None:
    plan = rows_of.PLANS["brief"]
    wanted = rows_of.cells(("reach", "navigate"), plan)
    jobs = {cell: rows_of.jobs_of(cell, plan, Path("m"), Path("f"), (0, 1)) for cell in wanted}
    ordered = success.in_order(jobs)
    assert len(ordered) == sum(len(part) for part in jobs.values())
    first = [cell for cell, job in ordered[: len(wanted)] if (job.first, job.seed) == (0, 0)]
    assert set(first) == set(wanted) and first[0].task == "navigate"
    assert [job.first for _, job in ordered] == sorted(job.first for _, job in ordered)


def test_a_run_that_is_stopped_shows_pairs_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_bundle(Bundle("reach", LeWM(lewm_config("tiny", action_dim=6)), Readout.empty(32)), tmp_path / "world")
    wanted = [rows_of.Cell("reach", name) for name in ("random", "expert")]
    plan = replace(rows_of.PLANS["tiny"], episodes=4)
    runs, shipped = tmp_path / "runs", tmp_path / "shipped"
    jobs = {cell: rows_of.jobs_of(cell, plan, tmp_path / "world", runs, (100,)) for cell in wanted}
    every = [job for part in jobs.values() for job in part]
    shown: list[dict[Any, Any]] = []
    run_job = success.run_job

    def stops(job: Any) -> Any:
        if job.first == 2 and job.controller == "expert":
            raise KeyboardInterrupt
        return run_job(job)

    monkeypatch.setattr(success, "run_job", stops)
    with pytest.raises(KeyboardInterrupt):
        success.play(jobs, 1, lambda played: shown.append({cell: list(rows) for cell, rows in played.items()}))
    assert [len(rows) for rows in shown[0].values()] == [2, 2]  # after the first block
    assert [len(rows) for rows in shown[1].values()] == [4, 2]  # when it was stopped
    monkeypatch.undo()
    played, stamps = success.play(jobs, 1)
    assert {cell: rows[:2] for cell, rows in played.items()} == shown[0]
    assert len(stamps) == 1 and "commit" in stamps[0]

    assert episodes_shipped.ship({"reach": every[:3]}, runs, shipped) == 3
    assert episodes_shipped.ship({"reach": every[2:]}, runs, shipped) == 4  # beside those that are there
    kept = {job.path: Path(job.path).read_bytes() for job in every}
    for path in [*kept][1:]:
        Path(path).unlink()
    assert episodes_shipped.take_shipped(every, runs, shipped) == 3  # the missing ones
    assert {path: Path(path).read_bytes() for path in kept} == kept and success.play(jobs, 1)[0] == played

    longer = [replace(job, planning=replace(job.planning, samples=5)) for job in every]
    with pytest.raises(ValueError, match="played with other settings, weights or code: it is not shipped"):
        episodes_shipped.ship({"reach": longer}, runs, shipped)
    for path in kept:
        Path(path).unlink()
    assert episodes_shipped.take_shipped(longer, runs, shipped) == 0
    save_bundle(Bundle("reach", LeWM(lewm_config("tiny", action_dim=6)), Readout.empty(32)), tmp_path / "world")
    assert episodes_shipped.take_shipped(every, runs, shipped) == 0  # other weights
    assert episodes_shipped.ship({"reach": every}, runs, shipped) == 0


def test_the_time_is_estimated_by_what_was_played(tmp_path: Path) -> None:
    cell, plan = rows_of.Cell("reach"), rows_of.Plan(episodes=4)
    jobs = {cell: rows_of.jobs_of(cell, plan, Path("m"), tmp_path, (0,))}
    guessed = 4 * (0.4 + 0.75 * 50 * (0.02 + 0.16)) / 60.0
    assert success.estimate(jobs, 1).startswith(f"4 of 4 episodes are to be played: roughly {guessed:.0f} min with 1")
    path = Path(jobs[cell][0].path)
    path.parent.mkdir(parents=True)
    path.write_text('{"job": {}, "seconds": 7200.0, "rows": []}')  # two episodes of an hour each
    assert success.estimate(jobs, 2).startswith("2 of 4 episodes are to be played: roughly 1.0 h with 2")


def _rows(successes: list[int]) -> list[dict[str, Any]]:
    return [ROW | {"seed": 0, "episode": i, "success": bool(value)} for i, value in enumerate(successes)]


def test_two_rows_are_compared_on_the_problems_that_both_played() -> None:
    one, other = _rows([1, 1, 0, 0, 1]), _rows([1, 0, 1, 1])
    assert compare.pairs(one, other).tolist() == [[1, 1], [1, 0], [0, 1], [0, 1]]
    share, gap = compare.ratio(one, other), compare.difference(one, other)
    assert share is not None and share.value == pytest.approx(2 / 3) and share.episodes == 4
    assert gap is not None and gap.value == pytest.approx(-0.25)
    assert compare.ratio(one, _rows([0, 0])) is None and compare.difference(one, []) is None
    assert compare.ratio(one, [{"seed": 0, "episode": 0, "no_problem": "none"}]) is None


@given(st.lists(st.sampled_from([(0, 0), (0, 1), (1, 0), (1, 1)]), min_size=1, max_size=60))
@settings(max_examples=30, deadline=None)
def test_an_interval_holds_its_value_and_turns_with_its_rows(both: list[tuple[int, int]]) -> None:
    one, other = (_rows([pair[i] for pair in both]) for i in (0, 1))
    gap, turned = compare.difference(one, other), compare.difference(other, one)
    assert gap is not None and turned is not None
    assert gap.low - 1e-9 <= gap.value <= gap.high + 1e-9 and gap.value == pytest.approx(-turned.value)
    share = compare.ratio(one, one)
    assert share is None or (share.value, share.low, share.high) == (1.0, 1.0, 1.0)


def test_an_interval_is_as_wide_as_theory_says() -> None:
    gap = compare.difference(_rows([1] * 50 + [0] * 50), _rows([0] * 100))
    assert gap is not None and gap.high - gap.low == pytest.approx(2 * 1.96 * (0.25 / 100) ** 0.5, abs=0.02)
    assert compare.worth(gap, 100.0, "+.1f").startswith("+50.0 [+4")


def _part(preset: str = "full", tasks: tuple[str, ...] = ("reach",), got: float = 1.0, value: int = 1) -> Any:
    return report_parts.Part(preset, tasks, "2026-01-02", "abc", {"a": value}, [["row", "", "", "", ""]], {}, got)


def test_a_part_gives_way_to_no_worse_one() -> None:
    why_not = report_parts.why_not
    assert why_not(_part("brief"), None) is None and why_not(_part(), _part("brief")) is None
    assert why_not(_part("brief"), _part()) == "the report has a full one, this one is brief"
    assert why_not(_part(), _part(tasks=("reach", "navigate"))) == "the report has navigate as well"
    assert "60 % of the processor" in str(why_not(_part(got=0.6), _part())) and why_not(_part(), _part(got=0.6)) is None


def test_a_report_keeps_the_parts_that_were_not_measured(tmp_path: Path) -> None:
    (tmp_path / "RESULTS.md").write_text("# Results\n")
    other = report_parts.Part("brief", ("reach",), "2026-01-01", "def", {"b": 2}, [["that", "", "", "", ""]])
    benchmark.report({"speed": _part()}, tmp_path)
    benchmark.report({"success": other}, tmp_path)
    benchmark.report({"speed": _part(got=0.5, value=9)}, tmp_path)
    figures = json.loads((tmp_path / "benchmarks/results/planning.json").read_text())["figures"]
    assert figures["a"] == 1 and figures["b"] == 2 and list(figures["parts"]) == ["speed", "success"]
    text = (tmp_path / "RESULTS.md").read_text()
    assert "**speed**, full, 2026-01-02, commit abc" in text and "| that |" in text
    benchmark.report({"speed": _part(value=3)}, tmp_path)
    assert json.loads((tmp_path / "benchmarks/results/planning.json").read_text())["figures"]["a"] == 3


def test_more_problems_go_on_with_the_files_of_fewer() -> None:
    brief, full = (
        {job.path: job for job in ranks.rank_jobs("reach", "cem", Path("m"), Path("f"), (0, 1), problems)}
        for problems in (4, 10)
    )
    assert set(brief) < set(full) and all(full[path] == job for path, job in brief.items())
    assert sorted((job.seed, job.first, job.count) for job in full.values()) == [
        (seed, first, count) for seed in (0, 1) for first, count in ((0, 2), (2, 2), (4, 1))
    ]


def test_ranks_by_hand() -> None:
    found = ranks.rank_figures([{"rho": rho} for rho in (0.2, 0.4, 0.6, None)])
    assert found == {"problems": 4, "undefined": 1, "median": 0.4, "quartiles": [0.3, 0.5]}
    assert ranks.rank_figures([{"rho": None}, {"no_problem": ""}]) == {
        "problems": 1,
        "undefined": 1,
        "median": None,
        "quartiles": [None, None],
    }


def test_lives_taken_together_by_hand() -> None:
    lives = [
        {"trials": [ROW], "home": [ROW, ROW], "learned": {"gain": 0.5, "forgetting": 0.1, "updates": 3}},
        {
            "trials": [ROW | {"success": False}],
            "home": [ROW, ROW | {"success": False}],
            "learned": {"gain": 0.3, "forgetting": 0.3, "updates": 4},
        },
        {"no_problem": "it falls"},
    ]
    found = adaptation.arm_figures(lives)
    assert (found["episodes"], found["rate"], found["lives"], found["updates"]) == (2, 0.5, 2, 7)
    assert found["gain"] == pytest.approx(0.4) and found["forgetting"] == pytest.approx(0.2)
    assert found["forgetting_worst"] == 0.3 and found["home"]["rate"] == 0.75 and found["without_a_life"] == 1


def test_rows_of_lives_that_were_lived(tmp_path: Path) -> None:
    world, runs = tmp_path / "world", tmp_path / "runs"
    save_bundle(Bundle("reach", LeWM(lewm_config("tiny", action_dim=6)), Readout.empty(32)), world)
    strengths = {"ewc": 1e4}
    for job in adaptation.lives("reach", world, runs, (100,), 1, strengths):
        assert job.life.strength == (1e4 if job.arm == "ewc" else None)
        row = {"trials": [ROW], "home": [ROW], "learned": {"gain": 0.25, "forgetting": 0.5, "updates": 3}}
        row = {"no_problem": "it falls"} if job.arm == "none" else row
        played_once(job, lambda bundle, row=row: [row], adaptation.LEARNED_BY)
    figures, rows = adaptation.measure_adaptation({"reach": world}, runs, (100,), 1, 1, strengths)
    assert list(figures["adaptation"]) == [f"reach-{arm}" for arm in adaptation.ARMS if arm != "none"]
    assert figures["adaptation"]["reach-ewc"]["strength"] == 1e4
    assert rows[0][0] == "reach, cem in actuator_bias, world model frozen"
    assert rows[2][1] == "no life: it falls at once" and len(rows) == 7
    assert rows[3][0].endswith("adapts, l2, strength not tuned") and rows[5][0].endswith("ewc, strength 10000")
    assert rows[5][2:] == ["error here -25.0 %, at home +50.0 %", "30 to 4.0 cm", "20 ms"]
    assert rows[6][0].endswith("at home after that") and rows[6][1].endswith("(1/1)")


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
    at_oracles_pace = rows_of.Cell("reach", every=4)
    played = {
        rows_of.Cell("reach"): _rows([1, 1, 0, 1]),
        at_oracles_pace: _rows([1, 0, 0, 1, 1]),
        replace(at_oracles_pace, controller="oracle"): _rows([1, 1, 1, 1, 0]),
        rows_of.Cell("reach", "cem", "instruction"): _rows([1, 1]),
        rows_of.Cell("reach", "cem", "observation"): _rows([1, 1, 0, 1]),
        rows_of.Cell("reach", "cloned", "observation"): [row | {"passed": False} for row in _rows([0, 1, 0, 0])],
        rows_of.Cell("reach", "random"): [{"seed": 0, "episode": 0, "no_problem": "nothing moved"}],
    }
    far = {
        replace(rows_of.Cell("reach", name, "observation"), goal_steps=50): _rows(rows)
        for name, rows in (("cem", [1, 0, 1, 1]), ("cloned", [1, 1, 1, 1]))
    }
    figures = success.success_figures(played | far)
    assert figures["cem_over_cloned_reach_far"]["value"] == -0.25
    assert figures["cem_over_cloned_passed_reach_far"]["value"] == 0.0
    labels = [row[0] for row in success.table_rows(played | far)]
    assert sum("cem less cloned" in label and "5.0 s away" in label for label in labels) == 2
    assert success.success_figures(played)["cem_over_cloned_reach_far"] is None
    assert figures["success_reach"] == 0.75 and figures["oracle_reach"] == 0.8
    assert figures["episodes"] == 4 and figures["episodes_oracle_reach"] == 5
    assert figures["share_of_oracle_reach"]["value"] == 0.75 and figures["share_of_oracle_reach"]["episodes"] == 5
    assert figures["cem_over_cloned_reach"]["value"] == 0.5 and figures["cem_over_cloned_passed_reach"]["value"] == 1.0
    rows = success.table_rows(played)
    assert rows[1][2].startswith("0.75 [") and rows[1][2].endswith("on 5")
    assert rows[0][2] == rows[2][2] == rows[3][2] == ""  # another pace, the oracle itself, and goals it was not given
    assert rows[0][0].startswith("reach, cem at 10 Hz, goal state 2.5 s") and "at 2.5 Hz" in rows[1][0]
    assert rows[0][1].endswith("(3/4), passed 4")
    assert rows[6][1] == "no problem found in 1 tries"
    assert rows[7][0].startswith("reach, cem less cloned") and rows[7][1].startswith("+50.0 [")
    assert rows[8][0].endswith("passed, standing or not") and rows[8][1].startswith("+100.0 [")
