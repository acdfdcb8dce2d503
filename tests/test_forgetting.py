"""The forgetting benchmark on the smallest real robot: its looks, its lives, its shards, its one command."""

import json
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_neon import open_reach, tiny_model

from neon_sim.eval.regimes import REGIMES, Regime
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.online import save_forward_model
from neon_sim.training.residual_learner import ResidualLearnerConfig
from neon_sim.training.self_learner import SelfLearnerConfig

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import forgetting
import forgetting_arms
import forgetting_settings
from forgetting_arms import ARMS, CANDIDATES, PRESETS, Preset, learner_config
from forgetting_calibrate import CHOOSING_SEEDS, calibrate, judging_seeds
from forgetting_costs import Costs, expected_seconds, expected_total
from forgetting_job import ShardJob
from forgetting_judge import Judge
from forgetting_life import Life, live_shard
from forgetting_settings import prepare
from forgetting_stages import LIFE_SEED, all_seeds, episodes_of_life, life_seed, stages_of
from forgetting_world import HeldLook, Looks, act_together, arrived, fault_of, judge, look, open_env

BIAS = Regime("bias", "ActuatorFault", (("strength", 1.0),), "bias", ("left_elbow_joint",), 0.1, 0.5, 0.1, 0.4, "rad")
TWO = (Regime("nominal"), BIAS)
SHORT = Preset(
    arms=("frozen", "naive", "lr0"),
    seeds=(0,),
    first_visit=2,
    again=1,
    judged=1,
    steps=32,
    window=1,
    learner=SelfLearnerConfig(practice_noise_m=0.03, batch_size=2, updates_per_chunk=1, fisher_samples=4),
    written=False,
)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random policy with its forward model."""
    folder = tmp_path_factory.mktemp("pretrained")
    model = tiny_model(folder / "backbone")
    model.save_pretrained(folder / "policy")
    torch.manual_seed(3)
    save_forward_model(ForwardModel.for_model(model), folder / "policy")
    return str(folder / "policy")


@pytest.fixture(scope="module")
def looks(policy: str) -> Looks:
    """Of every episode that the short preset plays."""
    return look(NeonVLA.from_pretrained(policy), "reach", all_seeds(TWO, SHORT))


def _job(arm: str, policy: str, out: Path, preset: Preset = SHORT) -> ShardJob:
    return ShardJob(arm, 0, "reach", TWO, preset, policy, out)


def test_a_held_look_is_the_first_one(policy: str, looks: Looks, tmp_path: Path) -> None:
    """Goal and pooled features are those of a policy with open eyes at its first chunk, and survive the disk."""
    seed = life_seed(0, 1)
    eyes = NeonPolicy(NeonVLA.from_pretrained(policy))
    env = open_reach()
    obs, info = env.reset(seed=seed)
    eyes.observe(obs, info["time_s"])
    eyes.act()
    env.close()
    assert eyes.decision is not None
    looks.save(tmp_path / "0.npz")
    pooled, text, goal = Looks.load([tmp_path / "0.npz", tmp_path / "missing.npz"]).of(seed)
    assert torch.equal(goal, eyes.decision.goal) and torch.equal(pooled, eyes.decision.features.pooled)
    assert torch.equal(text, eyes.decision.features.text) and seed in looks and seed - 1 - len(looks) not in looks


def test_an_episode_without_a_camera_is_the_same_episode() -> None:
    with_eyes, without = open_env("reach", eyes=True), open_env("reach")
    for seed in (5, 6):
        infos = [env.reset(seed=seed)[1] for env in (with_eyes, without)]
        assert infos[0]["instruction"] == infos[1]["instruction"]
        one, other = (info["privileged"]["target_pos_b"] for info in infos)
        np.testing.assert_array_equal(one, other)
    with_eyes.close()
    without.close()


def test_what_is_practised_follows_from_the_episode_alone(policy: str, looks: Looks) -> None:
    policies = [HeldLook(NeonVLA.from_pretrained(policy), looks, 0.03) for _ in range(2)]
    offsets = []
    for eyes, first in zip(policies, (0, 1), strict=True):
        for episode in (first, 2):
            eyes.begin(life_seed(0, episode))
            eyes.reset()
            offsets.append(eyes.offset_m)
    np.testing.assert_array_equal(offsets[1], offsets[3])
    assert np.abs(offsets[0] - offsets[2]).max() > 1e-3 and np.linalg.norm(offsets, axis=1).max() < 0.2
    with pytest.raises(ValueError, match="Nothing was looked at yet"):
        HeldLook(policies[0].model, looks).perceive()


def test_arrival_is_measured_from_the_practised_place() -> None:
    env = open_env("reach")
    env.reset(seed=3)
    truth = env.privileged()
    palm_b = env._observe(env._state)["eef"][7 * truth["hand"] :][:3]
    there = palm_b - truth["target_pos_b"]  # the offset that would make the palm's present place the goal
    assert arrived(env, there) and arrived(env, there + [0.03, 0.0, 0.0]) and not arrived(env, there + [0.05, 0.0, 0.0])
    env.close()


def test_a_life_is_every_regime_twice_and_no_episode_twice() -> None:
    stages = stages_of("sequence", REGIMES["reach"], PRESETS["benchmark"], 0)
    assert [stage.name for stage in stages][5:8] == ["latency", "nominal again", "payload again"]
    assert [len(stage.regimes) for stage in stages] == [100] * 6 + [48] * 6
    assert [stage.first_episode for stage in stages][:8] == [0, 100, 200, 300, 400, 500, 600, 648]
    assert episodes_of_life(REGIMES["reach"], PRESETS["benchmark"]) == 888
    short = stages_of("short", REGIMES["reach"][:2], PRESETS["benchmark"], 0)
    assert [stage.name for stage in short] == ["nominal", "payload", "nominal again"]


def test_other_plans_are_made_of_the_same_episodes() -> None:
    preset = PRESETS["benchmark"]
    life = stages_of("sequence", REGIMES["reach"], preset, 0)
    (mixed,) = stages_of("joint", REGIMES["reach"], preset, 0)
    assert sorted(mixed.regimes) == sorted(regime for stage in life for regime in stage.regimes)
    assert len(set(mixed.regimes[:40])) == 6 and mixed != stages_of("joint", REGIMES["reach"], preset, 1)[0]
    fresh = stages_of("fresh", REGIMES["reach"], preset, 0)
    assert [replace(stage, anew=False) for stage in fresh] == life[1:6] and all(stage.anew for stage in fresh)
    assert [stage.regime for stage in (*life[:3], *fresh[:2], mixed)] == [0, 1, 2, 1, 2, None]


def test_an_expert_teaches_what_may_count_and_lives_nothing() -> None:
    """Of reach's five troubles two take nothing; what was not calibrated may count."""
    stages = stages_of("taught", REGIMES["reach"], PRESETS["benchmark"], 0)
    assert [(stage.name, stage.taught, stage.regime) for stage in stages] == [
        ("payload", 1, 1), ("weak_motor", 2, 2), ("actuator_bias", 3, 3),
    ]  # fmt: skip
    assert all(stage.anew and not stage.regimes for stage in stages)
    assert [stage.taught for stage in stages_of("taught", TWO, SHORT, 0)] == [1]


@pytest.mark.parametrize("name", PRESETS)
def test_no_episode_is_judged_that_was_lived_and_none_is_chosen_on(name: str) -> None:
    preset = PRESETS[name]
    lived = {life_seed(s, e) for s in preset.seeds for e in range(episodes_of_life(REGIMES["reach"], preset))}
    judged = {number for seed in preset.seeds for number in judging_seeds(seed, preset.judged)}
    chosen = {number for seed in CHOOSING_SEEDS for number in judging_seeds(seed, 20)}
    assert lived.isdisjoint(judged) and judged.isdisjoint(chosen) and min(lived) == LIFE_SEED
    assert sorted(all_seeds(REGIMES["reach"], preset)) == sorted(lived | judged)
    assert preset.judged * len(preset.seeds) >= 100 or not preset.written
    assert preset.first_visit * preset.steps <= 10_000  # env steps in which the bar wants a recovery


def test_arms_differ_in_what_their_names_say() -> None:
    preset = PRESETS["full"]
    naive = learner_config(preset, ARMS["naive"], 3)
    assert naive == replace(preset.learner, seed=3, protection=ARMS["naive"].protection, least_chunks=64)
    assert learner_config(preset, ARMS["lr0"], 3) == replace(naive, learning_rate=0.0)
    assert learner_config(preset, ARMS["frozen"], 3).updates_per_chunk == 0
    for arm in ("l2", "ewc", "online_ewc", "replay", "ewc_replay"):
        assert learner_config(preset, ARMS[arm], 3) == replace(naive, protection=ARMS[arm].protection)
    alone = replace(naive, outcome_weight=0.0, coherence_weight=0.0, consistency_weight=0.0)
    assert learner_config(preset, CANDIDATES["hindsight_only"], 3) == replace(
        alone, protection=CANDIDATES["hindsight_only"].protection
    )
    careful = learner_config(preset, CANDIDATES["eps_1e-05"], 3)
    assert careful == replace(naive, protection=ARMS["online_ewc"].protection, adam_eps=1e-5)
    kinds = {type(ARMS[arm].protection) for arm in ("naive", "l2", "ewc", "online_ewc", "replay", "ewc_replay")}
    assert len(kinds) == 6


def test_lives_are_lived_judged_and_written_once(policy: str, looks: Looks, tmp_path: Path) -> None:
    looks.save(tmp_path / "looks" / "0000.npz")
    jobs = {arm: _job(arm, policy, tmp_path) for arm in ("frozen", "lr0", "naive")}
    prepare(list(jobs.values()))
    shards = {arm: json.loads(live_shard(job).read_text()) for arm, job in jobs.items()}
    for shard in shards.values():
        assert [stage["regime"] for stage in shard["stages"]] == [0, 1, 0, 1]
        assert [len(stage["curve"]) for stage in shard["stages"]] == [2, 2, 1, 1]
        cells = [cell for stage in shard["stages"] for cell in stage["row"]]
        assert all(cell["episodes"] == 1 and cell["outcomes"] == str(cell["successes"]) for cell in cells)

    def distances(arm: str) -> list[list[float]]:
        return [[cell["median_distance"] for cell in stage["row"]] for stage in shards[arm]["stages"]]

    assert distances("frozen") == distances("lr0") and distances("frozen")[0] == distances("frozen")[-1]
    assert distances("naive")[-1] != distances("frozen")[-1]  # it learned something, good or bad
    anew = [[stage["cost"]["judged_anew"] for stage in shards[arm]["stages"]] for arm in ("lr0", "naive")]
    assert anew == [[0, 0, 0, 0], [2, 2, 0, 0]]  # weights that were judged are not judged again, whoever had them
    weights = {arm: [stage["weights"] for stage in shards[arm]["stages"]] for arm in shards}
    assert weights["lr0"] == weights["frozen"] != weights["naive"] and len(set(weights["lr0"])) == 1
    assert not list((tmp_path / "states").glob("*"))
    text = jobs["naive"].path.read_bytes()
    when = jobs["naive"].path.stat().st_mtime_ns
    assert live_shard(jobs["naive"]).stat().st_mtime_ns == when and jobs["naive"].path.read_bytes() == text
    with pytest.raises(FileNotFoundError):
        forgetting.report([*jobs.values(), _job("replay", policy, tmp_path)], "short")
    assert not (tmp_path / "figures.json").exists()
    table = forgetting.report(list(jobs.values()), "short")
    assert "not run" in table and (tmp_path / "table.md").read_text() == table
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["seeds"] == 1 and figures["recovered_fraction"] is None  # the default arm was not run
    assert len(list(tmp_path.glob("forgetting_*.png"))) == 3
    shutil.rmtree(tmp_path / "looks")
    forgetting.run(list(jobs.values()), "short", 1)  # nothing is missing, so nothing is looked at
    assert not (tmp_path / "looks").exists() and (tmp_path / "table.md").read_text() == table


def test_a_life_that_was_stopped_goes_on_at_its_last_stage(
    policy: str, looks: Looks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = stages_of("sequence", TWO, SHORT, 0)
    job = _job("naive", policy, tmp_path)
    whole = Life(replace(job, out=tmp_path / "whole"), looks)
    records = whole.go_on(stages)

    def stop_after_two(life: Life, total: int) -> None:
        if len(life.records) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Life, "_tell", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            Life(job, looks).go_on(stages)
    resumed = Life(job, looks)
    resumed.settings, own = "other", resumed.settings
    with pytest.raises(ValueError, match="naive_0.pt is of a life with other settings or code: delete it"):
        resumed.go_on(stages)
    resumed.settings = own
    again = resumed.go_on(stages)

    def told(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: value for name, value in record.items() if name != "cost"} for record in found]

    assert told(again) == told(records)
    assert again[0]["cost"] != records[0]["cost"]  # another run
    for name, value in whole.learner.params.items():
        assert torch.equal(resumed.learner.params[name], value), name
    whole.close()
    resumed.close()


def test_judging_leaves_the_policy_alone_and_names_falls(policy: str, looks: Looks) -> None:
    env, eyes = open_env("reach"), HeldLook(NeonVLA.from_pretrained(policy), looks)
    seeds = judging_seeds(0, 1)
    one, other = judge(env, eyes, TWO[0], seeds), judge(env, eyes, TWO[0], seeds)
    assert one == other and (one.episodes, one.falls) == (1, 0)
    assert env.world.faults == () and fault_of(BIAS)[0].bias == 0.4
    env.close()


def test_robots_side_by_side_fare_as_they_do_alone(policy: str, looks: Looks) -> None:
    """Five episodes of two regimes on three robots, each walked by itself: those of a robot alone, to the bit."""
    model, env, seeds = NeonVLA.from_pretrained(policy), open_env("reach"), judging_seeds(0, 1)
    regimes = (TWO[0], BIAS, TWO[0], replace(BIAS, chosen=0.5), BIAS)
    together = Judge("reach", lambda: HeldLook(model, looks), together=3, exact=True)
    found = together.judge(regimes, seeds)
    alone = [judge(env, HeldLook(model, looks), regime, seeds) for regime in regimes]
    assert found == alone and all(one.episodes == 1 for one in found)
    assert found[0] == found[2] and abs(found[0].median_distance - found[1].median_distance) > 1e-3
    assert together.judge(regimes[:1], seeds) == found[:1]  # nothing is left of what was played before
    together.close()
    env.close()


def test_calibration_writes_down_all_that_it_tried(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random policy has nothing to lose: the bias is raised to its limit, and counts nowhere. The expert is told."""
    monkeypatch.setitem(REGIMES, "reach", TWO)
    (settled,) = calibrate("reach", Path(policy), 5)
    nothing = tuple((level, 0.0) for level in (0.1, 0.2, 0.3, 0.4, 0.5))
    assert settled == replace(BIAS, chosen=0.5, counts=False, losses=nothing, episodes=5, attainable=1.0)


def test_what_makes_judging_quick_changes_nothing(policy: str, looks: Looks) -> None:
    """Robots that begin where the same episode began before, and answers in one pass."""
    model, seeds = NeonVLA.from_pretrained(policy), judging_seeds(0, 1)
    judges = [Judge("reach", lambda: HeldLook(model, looks), together=2, remembers=kept) for kept in (False, True)]
    settled, first, again = (one.judge((*TWO, TWO[1]), seeds) for one in (*judges, judges[1]))
    assert settled == first == again and first[0] != first[1]
    policies = [HeldLook(model, looks) for _ in range(3)]
    env = open_env("reach")
    for seed, eyes in enumerate(policies):
        eyes.begin(life_seed(0, seed))
        eyes.reset()
        eyes.observe(env.reset(seed=seed)[0], 0.0)
    alone = np.concatenate([eyes.act() for eyes in policies])
    np.testing.assert_allclose(act_together(policies), alone, atol=1e-5)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    env.close()
    for one in judges:
        one.close()


def test_expected_time_by_hand(policy: str, tmp_path: Path) -> None:
    costs = Costs(2.0, 3.0, 10.0)
    jobs = [_job(arm, policy, tmp_path) for arm in ("replay", "naive", "lr0", "frozen")]
    # 6 episodes lived; 4 stages x 2 regimes judged, or once where the weights stay.
    by_hand = [6 * (2 + 3) + 80, 6 * (2 + 3) + 80, 6 * (2 + 3) + 20, 6 * 2 + 20]
    assert [expected_seconds(job, costs) for job in jobs] == pytest.approx(by_hand)
    # An oracle is taught one trouble in 2 x 150 episodes that it acts in, and is judged in that alone.
    assert expected_seconds(_job("oracle", policy, tmp_path), costs) == pytest.approx(300 * 2 + 10)
    assert expected_total(jobs, costs, 1) == pytest.approx(sum(by_hand))
    assert expected_total(jobs, costs, 2) == pytest.approx(by_hand[0] + by_hand[2])  # 110 + 50 beside 110 + 32
    jobs[0].path.parent.mkdir()
    jobs[0].path.write_text("{}")
    assert expected_total(jobs, costs, 1) == pytest.approx(sum(by_hand[1:]))


def test_the_longest_shards_are_lived_first(tmp_path: Path) -> None:
    jobs = forgetting.make_jobs(PRESETS["benchmark"], "reach", tmp_path, tmp_path)
    arms = ["naive", "online_ewc", "replay"] * 3 + ["lr0"] * 3 + ["frozen"] * 3
    assert [job.arm for job in jobs] == arms
    assert [job.seed for job in jobs][:4] == [0, 0, 0, 1] and len({(job.arm, job.seed) for job in jobs}) == 15


def test_a_folder_of_other_settings_is_refused(policy: str, tmp_path: Path) -> None:
    prepare([_job("naive", policy, tmp_path), _job("replay", policy, tmp_path)])
    prepare([_job("frozen", policy, tmp_path, replace(SHORT, seeds=(0, 1)))])  # more of the same
    quick = replace(SHORT, learner=replace(SHORT.learner, learning_rate=1.0))
    for jobs, odd in (
        ([_job("naive", policy, tmp_path, quick)], "'naive': learner"),
        ([_job("lr0", policy, tmp_path, replace(SHORT, steps=48))], "'frozen': life"),  # all are compared with it
        ([replace(_job("replay", policy, tmp_path), regimes=TWO[:1])], "'frozen': regimes"),
    ):
        with pytest.raises(SystemExit, match=f"begun with other settings for the arm {odd}"):
            prepare(jobs)
    assert not (tmp_path / "settings" / "lr0.json").exists()
    prepare([_job("reward", policy, tmp_path, quick)])  # the others' stay what they were


def test_settings_that_no_config_holds_are_guarded(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare([_job("reward", policy, tmp_path), _job("naive", policy, tmp_path)])
    monkeypatch.setattr(forgetting_settings, "benchmark_code", lambda name: f"another {name}")
    prepare([_job("naive", policy, tmp_path)])
    with pytest.raises(SystemExit, match="'reward': labels"):
        prepare([_job("reward", policy, tmp_path)])
    legs = replace(_job("online_ewc", policy, tmp_path), preset=replace(SHORT, learner=ResidualLearnerConfig()))
    monkeypatch.setattr(forgetting_arms, "LEG_STRENGTH", 7.0)
    assert "strength=7.0" in forgetting_settings.settings_of(legs)["learner"]


def test_a_report_of_more_seeds_or_arms_stays() -> None:
    there = {"judged_per_cell": 102, "seeds": 3, "arms": {"frozen": {}, "naive": {}}}
    more = {"judged_per_cell": 100, "seeds": 5, "arms": {"frozen": {}, "naive": {}, "l2": {}}}
    assert forgetting.why_not(more, there) is None and forgetting.why_not(there, None) is None
    assert forgetting.why_not(there, more) == "the report has 5 seeds"
    assert (
        forgetting.why_not(more, there | {"arms": {"frozen": {}, "replay": {}, "lr0": {}}})
        == "the report has lr0, replay"
    )
    assert forgetting.why_not(more | {"judged_per_cell": 80}, None) == "80 episodes a cell are fewer than 100"


def test_some_seeds_and_arms_are_part_of_a_preset_and_nothing_else_is() -> None:
    whole = PRESETS["full"]
    assert forgetting.is_part_of(replace(whole, seeds=(0, 1), arms=("frozen", "naive")), whole)
    for odd in (replace(whole, seeds=(100,)), replace(whole, judged=1), PRESETS["benchmark"]):
        assert not forgetting.is_part_of(odd, whole)


def test_the_agent_starts_the_same_thing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`agents/self_learn.py --preset benchmark` hands its flags on; a fault of its own is refused."""
    commands: list[list[str]] = []

    def note(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", note)
    script = str(Path(__file__).resolve().parents[1] / "agents" / "self_learn.py")
    flags = ["--preset", "benchmark", "--workers", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [script, *flags])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(script, run_name="__main__")
    assert ended.value.code == 0 and Path(commands[0][1]).samefile(forgetting.__file__)
    asked = forgetting.parse(commands[0][2:])
    assert (asked.preset, asked.workers, asked.out, asked.task) == ("benchmark", 1, tmp_path, "reach")
    assert asked.policy is None  # the task's own: what comes of it goes into RESULTS.md
    monkeypatch.setattr(sys, "argv", [script, *flags, "--policy", str(tmp_path), "--adoption"])
    with pytest.raises(SystemExit, match="leave --adoption out"):
        runpy.run_path(script, run_name="__main__")
    monkeypatch.setattr(sys, "argv", [script, *flags, "--policy", str(tmp_path)])
    with pytest.raises(SystemExit):
        runpy.run_path(script, run_name="__main__")
    assert forgetting.parse(commands[1][2:]).policy == tmp_path
    monkeypatch.setattr(sys, "argv", [script, *flags, "--fault-bias", "0.1"])
    with pytest.raises(SystemExit, match="leave --fault-"):
        runpy.run_path(script, run_name="__main__")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--preset", "tinny"), "Unknown preset 'tinny'. Did you mean 'tiny'"),
        (("--task", "wawe"), "Did you mean 'wave'"),
        (("--arms", "naiv"), "Unknown arm 'naiv'. Did you mean 'naive'"),
        (("--arms", "naive"), "relative to the arm 'frozen'"),
        (("--task", "walk", "--arms", "frozen", "oracle"), "There is no arm 'oracle' for 'walk'"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_written(
    flags: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=words):
        forgetting.main([*flags, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
