"""Each arm of the forgetting benchmark does what its name says, on the smallest real robot."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_neon import tiny_model
from torch import Tensor

from neon_sim.eval.regimes import REGIMES, Regime
from neon_sim.model.neon_vla import TRACKING_ERROR, NeonVLA
from neon_sim.shipped import asset_path
from neon_sim.sim.faults import Payload
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.learner_config import DOCUMENTS_LOSSES
from neon_sim.training.online import save_forward_model
from neon_sim.training.protection import EWCReplayConfig
from neon_sim.training.self_learner import NeonSelfLearner, SelfLearnerConfig

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import forgetting
from forgetting_arms import ARMS, PRESETS, Preset, learner_config
from forgetting_inside import inside, inside_regimes, judge_inside
from forgetting_job import ShardJob
from forgetting_learners import make_learner, prepare_rivals
from forgetting_life import Life, live_shard, play
from forgetting_randomised import (
    HistoryHead,
    HistoryPolicy,
    RivalConfig,
    drawn_fault,
    drawn_trouble,
    fit,
    load_rival,
    record,
    rival_seeds,
    train_rival,
    trained_on,
)
from forgetting_reward import RewardedLearner, reward_of
from forgetting_settings import prepare
from forgetting_stages import all_seeds, stages_of
from forgetting_world import HeldLook, Looks, fault_of, look, open_env

BIAS = Regime("bias", "ActuatorFault", (("strength", 1.0),), "bias", ("left_elbow_joint",), 0.1, 0.5, 0.1, 0.4, "rad")
TWO = (Regime("nominal"), BIAS)
RIVAL = RivalConfig(episodes=2, rounds=2, steps=32, hidden=16, epochs=2, batch_size=4)
SHORT = Preset(
    seeds=(0,),
    first_visit=2,
    again=1,
    judged=1,
    steps=32,
    window=1,
    learner=SelfLearnerConfig(
        practice_noise_m=0.03, batch_size=2, updates_per_chunk=1, fisher_samples=4, known_m=math.inf, **DOCUMENTS_LOSSES
    ),
    rival=RIVAL,
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
    """Of every episode that is played here."""
    return look(NeonVLA.from_pretrained(policy), "reach", [*all_seeds(TWO, SHORT), *rival_seeds(RIVAL)])


@pytest.fixture(scope="module")
def rival_folder(policy: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the trained rival lies."""
    folder = tmp_path_factory.mktemp("rival")
    train_rival(policy, "reach", RIVAL, folder / "rival_0.pt")
    return folder


def _job(arm: str, policy: str, out: Path) -> ShardJob:
    return ShardJob(arm, 0, "reach", TWO, SHORT, policy, out)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_lives_its_first_stages_and_keeps_what_it_is_to_keep(
    arm: str, policy: str, looks: Looks, rival_folder: Path
) -> None:
    """Two episodes on nominal and two with a biased elbow: who learns, what protects it, what it is judged as."""
    life, kind = Life(_job(arm, policy, rival_folder), looks), ARMS[arm]
    assert all(name.startswith("action_head.heads.arms.") for name in life.learner.params)
    before = {name: value.detach().clone() for name, value in life.learner.params.items()}
    stages = stages_of(kind.plan, TWO, SHORT, 0)[:2]
    records = [life._stage(stage) for stage in stages]
    assert [len(record["curve"]) for record in records] == [len(stage.regimes) for stage in stages]
    judged = [[cell is not None for cell in record["row"]] for record in records]
    assert judged == ([[False, True]] if arm == "oracle" else [[True, True]] * len(stages))
    assert bool(life.learner.buffer or life.learner.held_back) == kind.by_itself  # a regime that nobody has ended
    moved = any(not torch.equal(value, before[name]) for name, value in life.learner.params.items())
    assert moved == (kind.learns and kind.rate > 0.0 and not kind.by_itself)  # which does not know yet what is usual
    held = life.learner.strategy
    springs = {"l2": 1, "ewc": 2, "online_ewc": 1, "ewc_replay": 1}
    assert (0 if held.springs is None else held.springs.anchor_count) == springs.get(arm, 0)
    rehearsed = held.sample(3)
    rehearses = "replay" in arm and not kind.by_itself  # whose first episodes are held back to judge by
    assert (None if rehearsed is None else len(rehearsed["fused"])) == (3 if rehearses else None)
    if arm in ("frozen", "lr0", "randomised"):
        assert records[0]["row"] == records[-1]["row"] and records[-1]["cost"]["judged_anew"] == 0
    life.close()


def test_who_protects_both_ways_rehearses_and_is_held() -> None:
    assert isinstance(ARMS["ewc_replay"].protection, EWCReplayConfig)
    assert {arm for arm, kind in ARMS.items() if kind.labels} == {"reward"}
    assert {arm for arm, kind in ARMS.items() if not kind.learns} == {"frozen", "randomised", "oracle"}
    assert set(PRESETS["full"].arms) == set(ARMS)


def test_rehearsal_has_the_memory_that_springs_take() -> None:
    """On the shipped heads: as many bytes, 818 rows, and as many rows in each batch."""
    shipped = str(asset_path("g1/demo_heads"))
    bytes_of, preset = {}, PRESETS["benchmark"]
    for arm in ("online_ewc", "replay", "ewc_replay"):
        learner = make_learner(_job(arm, shipped, Path()), learner_config(preset, ARMS[arm], 0), Looks())
        bytes_of[arm] = learner.strategy.memory_bytes()
        if arm == "replay":
            row = {"fused": torch.zeros(1, 189), "fused_after": torch.zeros(1, 189), "text": torch.zeros(1, 160)}
            row |= {"goal": torch.zeros(1, 5), "achieved": torch.zeros(1, 5), "executed": torch.zeros(1, 16, 17)}
            learner.strategy.remember(row | {"weight": torch.zeros(1)})
            assert learner.strategy.reservoir.capacity == 818 == learner.strategy.config.rows
            bytes_of["replay"] = learner.strategy.memory_bytes()
            new = learner.strategy.new_rows(learner.config.batch_size)
            assert new + len(learner.strategy.sample(new)["fused"]) == 2 * new == learner.config.batch_size == 64
    assert bytes_of["online_ewc"] == bytes_of["ewc_replay"]
    assert 0.99 < bytes_of["replay"] / bytes_of["online_ewc"] <= 1.0


def test_the_better_rewarded_counts_more(policy: str, looks: Looks) -> None:
    """Rewards 0.2 and 0.8 are one deviation below and above their mean: weights e^-2 and e^2 at a temperature of 1/2;
    what arrived nowhere has 0 and counts neither for the mean nor for the loss.
    """
    learner = make_learner(_job("reward", policy, Path()), SelfLearnerConfig(), looks)
    assert isinstance(learner, RewardedLearner) and reward_of(np.array([1.0] * 9 + [0.25] * 16)) == 0.25
    generator = torch.Generator().manual_seed(0)
    width = learner.model.fused_dim
    batch = {"fused": torch.randn(3, width, generator=generator), "weight": torch.tensor([0.2, 0.0, 0.8])}
    batch |= {"fused_after": batch["fused"], "text": torch.randn(3, 40, generator=generator)}
    batch |= {name: torch.randn(3, 5, generator=generator) for name in ("goal", "achieved")}
    batch["executed"] = torch.zeros(3, 16, 17)
    errors = learner.decoder(batch["fused"], batch["achieved"]).detach().square().mean(dim=(1, 2))
    low, high = np.exp([-2.0, 2.0])
    wanted = float(low * errors[0] + high * errors[2]) / (low + high)
    assert float(learner.losses(batch)["hindsight"].detach()) == pytest.approx(wanted, rel=1e-4)
    alike = learner.losses(batch | {"weight": torch.ones(3)})["hindsight"]  # nothing is better than anything
    assert float(alike.detach()) == pytest.approx(float(errors.mean()), rel=1e-4)
    nowhere = learner.losses(batch | {"weight": torch.zeros(3)})["hindsight"]
    assert float(nowhere.detach()) == 0.0


def test_a_rewarded_episode_is_an_answer_to_where_it_ended_and_weighs_its_reward(policy: str, looks: Looks) -> None:
    lives = {}
    for arm in ("reward", "naive"):
        learner, env = make_learner(_job(arm, policy, Path()), SelfLearnerConfig(settled_m=1.0), looks), None
        env = open_env("reach")
        play(env, learner, TWO[0], all_seeds(TWO, SHORT)[0], 32)
        env.close()
        lives[arm] = learner
    told, untold = lives["reward"], lives["naive"]
    assert isinstance(told, RewardedLearner) and 0.0 < told.reward < 1.0
    assert len(told.buffer) == len(untold.buffer) == 2
    for item, same in zip(told.buffer, untold.buffer, strict=True):
        torch.testing.assert_close(item.achieved, same.achieved)
        assert (item.weight, same.weight) == (told.reward, 1.0)


def test_a_new_history_head_adds_nothing_and_remembers_the_newest_errors(policy: str, looks: Looks) -> None:
    model, seed = NeonVLA.from_pretrained(policy), all_seeds(TWO, SHORT)[0]
    eyes = HistoryPolicy(model, looks, HistoryHead.for_model(RIVAL, model))
    plain, env = HeldLook(model, looks), open_env("reach")
    for one in (eyes, plain):
        one.begin(seed)
        one.reset()
    obs, info = env.reset(seed=seed)
    errors: list[Tensor] = []
    for _ in range(4):
        for one in (eyes, plain):
            one.observe(obs, info["time_s"])
        errors.append(torch.from_numpy(obs["proprio"][TRACKING_ERROR]))
        np.testing.assert_array_equal(eyes.act(), plain.act())
        obs, *_, info = env.step(env.action_space.sample())
    env.close()
    kept = [asked[3][0] for asked in eyes.asked]
    assert torch.equal(kept[0], torch.stack([torch.zeros(29), torch.zeros(29), errors[0]]))
    assert torch.equal(kept[3], torch.stack(errors[1:]))
    eyes.reset()
    assert eyes.asked == []


def test_its_faults_are_drawn_within_the_range_and_the_regimes_lie_outside() -> None:
    rng, config = np.random.default_rng(0), RivalConfig()
    faults = [drawn_fault(config, rng) for _ in range(300)]
    strengths, biases = np.array([(fault.strength, fault.bias) for fault in faults]).T
    assert 0.6 <= strengths.min() < 0.62 < 0.98 < strengths.max() <= 1.0
    assert -0.1 <= biases.min() < -0.09 and 0.09 < biases.max() <= 0.1
    joints = {fault.joint for fault in faults}
    assert len(joints) == 8 and all("shoulder" in joint or "elbow" in joint for joint in joints)
    assert not any(trained_on(regime, config) for regime in REGIMES["reach"])
    light = replace(next(regime for regime in REGIMES["reach"] if regime.name == "payload"), mildest=0.5, chosen=0.8)
    assert trained_on(light, config) and not trained_on(replace(light, fixed=(("body", "torso"),)), config)
    drawn = [drawn_trouble(config, rng) for _ in range(300)]
    loads = [trouble for trouble in drawn if isinstance(trouble, Payload)]
    assert 70 < len(loads) < 130 and 0.7 < max(load.mass for load in loads) <= 0.8
    assert {load.body for load in loads} == {"left_hand", "right_hand"}
    assert trained_on(replace(BIAS, chosen=0.1), config) and not trained_on(BIAS, config)  # 0.1 rad is its limit


def test_the_expert_teaches_it(policy: str, looks: Looks) -> None:
    model, env = NeonVLA.from_pretrained(policy), open_env("reach")
    config = replace(RIVAL, epochs=60, hidden=64)
    head = HistoryHead.for_model(config, model)

    def trouble(seed: int) -> Any:
        return drawn_trouble(config, np.random.default_rng(seed))

    rows = record(env, HistoryPolicy(model, looks, head), config.steps, rival_seeds(config)[:2], trouble)
    assert len(rows) == 4 and env.task.known_fault is None and env.world.faults == ()  # 2 chunks of 16 steps each
    before = float(torch.stack([(row[0] - row[4]).square().mean() for row in rows]).mean())
    assert fit(head, rows, config) < 0.3 * before
    env.close()
    with pytest.raises(ValueError, match="The expert of 'stand' cannot make up for a fault"):
        record(open_env("stand"), HistoryPolicy(model, looks, head), config.steps, (0,), trouble)


def test_it_is_trained_once_and_read_again(policy: str, rival_folder: Path) -> None:
    path = rival_folder / "rival_0.pt"
    when = path.stat().st_mtime_ns
    train_rival(policy, "reach", RIVAL, path)
    assert path.stat().st_mtime_ns == when
    model = NeonVLA.from_pretrained(policy)
    found: Any = load_rival(model, RIVAL, path)
    assert float(found.net[-1].weight.detach().abs().max()) > 0.0  # a new one's is zero
    assert isinstance(make_learner(_job("randomised", policy, rival_folder), SHORT.learner, Looks()), NeonSelfLearner)


def test_lives_take_the_rivals_in_turn(policy: str, rival_folder: Path, tmp_path: Path) -> None:
    """Seeds 0 and 3 have the same one, seed 1 another one, which is trained when it is asked for; frozen asks none."""
    jobs = [replace(_job("randomised", policy, tmp_path), seed=seed) for seed in (0, 1, 3)]
    assert [job.rival_path.name for job in jobs] == ["rival_0.pt", "rival_1.pt", "rival_0.pt"]
    (tmp_path / "rival_0.pt").write_bytes((rival_folder / "rival_0.pt").read_bytes())
    prepare_rivals([*jobs, _job("frozen", policy, tmp_path), _job("oracle", policy, tmp_path)], 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rival_0.pt", "rival_1.pt"]
    heads = [make_learner(job, SHORT.learner, Looks()).policy.head for job in jobs]
    assert torch.equal(heads[0].net[-1].weight, heads[2].net[-1].weight)
    assert not torch.equal(heads[0].net[-1].weight, heads[1].net[-1].weight)


def test_inside_its_range_a_trouble_is_as_mild_as_it_was_trained_on() -> None:
    config = RivalConfig()
    mild = inside_regimes(REGIMES["reach"], config)
    assert [(regime.name, regime.faults) for regime in mild] == [
        ("payload", [{"body": "right_hand", "mass": 0.8}]),
        ("weak_motor", [{"joint": "right_shoulder_pitch_joint", "bias": 0.0, "strength": 0.6}]),
        ("actuator_bias", [{"joint": "right_shoulder_pitch_joint", "strength": 1.0, "bias": 0.1}]),
    ]
    assert all(trained_on(regime, config) for regime in mild) and inside(REGIMES["reach"][0], config) is None
    # On the legs no load was trained on, and a weak motor of one leg is one of both.
    assert [regime.name for regime in inside_regimes(REGIMES["stand"], config)] == ["weak_motor", "actuator_bias"]


def test_what_never_learns_is_judged_inside_the_range_too(policy: str, looks: Looks, rival_folder: Path) -> None:
    """One episode with the elbow 0.1 rad off: the palm ends elsewhere than with the 0.4 rad of its life."""
    jobs = {arm: _job(arm, policy, rival_folder) for arm in ("frozen", "randomised")}
    found = {arm: judge_inside(job, looks)[0] for arm, job in jobs.items()}
    assert all(cell.episodes == 1 and cell.median_distance is not None for cell in found.values())
    life = Life(jobs["frozen"], looks)
    (outside,) = life.judge_on([1])[1]
    life.close()
    distances = [float(cell.median_distance or 0.0) for cell in (found["frozen"], outside, found["randomised"])]
    assert abs(distances[0] - distances[1]) > 1e-3 and abs(distances[0] - distances[2]) > 1e-6


def test_an_oracle_is_taught_each_trouble_anew_and_judged_in_it(policy: str, looks: Looks, tmp_path: Path) -> None:
    """Two rounds in which the elbow is 0.4 rad off: the heads come nearer to what the expert does about just that."""
    job = _job("oracle", policy, tmp_path)
    prepare([job])
    looks.save(tmp_path / "looks" / "0.npz")
    shard = json.loads(live_shard(job).read_text())
    (stage,) = shard["stages"]
    assert (stage["name"], stage["regime"], stage["curve"], stage["falls"]) == ("bias", 1, [], 0)
    assert stage["row"][0] is None and stage["row"][1]["episodes"] == 1 and stage["cost"]["judged_anew"] == 1
    assert stage["cost"]["life_cpu_s"] > 0.0 and "inside" not in shard
    life = Life(job, looks)
    before = [value.detach().clone() for value in life.learner.policy.head.parameters()]
    env, eyes = open_env("reach"), HistoryPolicy(life.learner.model, looks, life.learner.policy.head)
    rows = record(env, eyes, 32, rival_seeds(RIVAL)[:2], lambda _: fault_of(BIAS))
    healthy = record(env, eyes, 32, rival_seeds(RIVAL)[:2], lambda _: None)
    assert not torch.equal(rows[0][4], healthy[0][4])  # the expert was told of the fault

    def error() -> float:
        with torch.no_grad():
            return float(torch.stack([(eyes.head(*given) - label).square().mean() for *given, label in rows]).mean())

    untaught = error()
    life._teach(1)
    assert error() < untaught
    assert any(not torch.equal(a, b) for a, b in zip(before, life.learner.policy.head.parameters(), strict=True))
    assert life.env.task.known_fault is None and life.env.world.faults == ()
    env.close()
    life.close()


@pytest.mark.slow
def test_one_command_teaches_and_judges_oracle_and_rival(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = ["frozen", "online_ewc", "randomised", "oracle"]
    forgetting.main(["--preset", "tiny", "--workers", "1", "--out", str(tmp_path), "--arms", *arms])
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["arms"]["oracle"]["order"] == [1, 2, 3] and set(figures["arms"]) == set(arms)
    assert figures["beside_randomised"] is not None and figures["inside_training"]["episodes"] == 1
    assert "- inside its range (payload mass 0.8, weak_motor strength 0.6" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.glob("rival_*.pt")) == ["rival_0.pt"]
