"""Evaluation of references and of a checkpoint on real episodes, in this process."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_neon import REACH, open_reach, tiny_model

from neon_sim.eval.evaluate import (
    EVALUATION_SEED,
    EvaluationJob,
    build_policy,
    evaluate,
    other_words,
    require_ears,
    run_job,
    split_jobs,
)
from neon_sim.inference.engines import pick_engine
from neon_sim.model.backbones.loading import pick_device
from neon_sim.sensors.audio import AudioConfig
from neon_sim.sim.faults import ActuatorFault

BODY = {"task": "reach", "physics_dt": 0.005, "sensors": ("proprio",)}
SEEDS = tuple(range(EVALUATION_SEED, EVALUATION_SEED + 4))


def test_a_policy_of_two_ears_is_not_played_with_one(tmp_path: Path) -> None:
    two, one = tiny_model(tmp_path, microphones=2), tiny_model(tmp_path)
    ears = {count: open_reach(sensors=("audio",), audio=AudioConfig(microphones=count)) for count in (1, 2)}
    require_ears(two, ears[2])
    require_ears(one, ears[1])
    require_ears(two, open_reach())  # nothing is heard there
    with pytest.raises(ValueError, match="hears with 2 microphones, the env has 1. Set audio=AudioConfig"):
        require_ears(two, ears[1])
    with pytest.raises(ValueError, match="hears with 1 microphones, the env has 2"):
        require_ears(one, ears[2])


def test_jobs_are_split_without_losing_a_seed() -> None:
    job = EvaluationJob("a", "zero", tuple(range(23)), env=BODY)
    parts = split_jobs(job)
    assert [len(part.seeds) for part in parts] == [10, 10, 3]
    assert sum((part.seeds for part in parts), ()) == job.seeds
    assert {replace(part, seeds=()).label for part in parts} == {"a"}


def test_the_expert_reaches_and_standing_still_does_not() -> None:
    jobs = [EvaluationJob(name, name, SEEDS, env=BODY) for name in ("zero", "expert")]
    results = evaluate(jobs, workers=1)
    assert list(results) == ["zero", "expert"]
    for label, rows in results.items():
        assert [row.seed for row in rows] == list(SEEDS) and {row.label for row in rows} == {label}
        assert not any(row.fell for row in rows)
    assert all(row.success and row.final_distance < 0.04 for row in results["expert"])
    assert not any(row.success for row in results["zero"])
    assert all(row.final_distance > 0.04 for row in results["zero"])


def test_results_do_not_depend_on_how_the_work_is_cut() -> None:
    job = EvaluationJob("random", "random", SEEDS[:3], env=BODY)
    together = run_job(job)
    apart = [result for part in split_jobs(job, 1) for result in run_job(part)]
    assert together == apart
    assert len({row.final_distance for row in together}) == 3


def test_a_fault_that_the_expert_is_not_told_of_beats_it() -> None:
    fault = ActuatorFault("right_shoulder_pitch_joint", strength=0.5, bias=0.5)
    env = open_reach(sensors=("proprio",))
    right = []
    for seed in range(EVALUATION_SEED, EVALUATION_SEED + 12):
        env.reset(seed=seed)
        right += [seed] if env.privileged()["hand"] == 1 else []
    env.close()
    healthy, broken = (
        EvaluationJob("h", "expert", tuple(right[:3]), env=BODY),
        EvaluationJob("b", "expert", tuple(right[:3]), fault=fault, env=BODY),
    )
    assert all(row.success for row in run_job(healthy)) and not any(row.success for row in run_job(broken))


def test_words_of_another_episode_are_words_of_the_task() -> None:
    env = open_reach(sensors=("proprio",))
    words = [other_words(env, seed) for seed in SEEDS]
    env.close()
    assert all("ball" in text and ("left" in text or "right" in text) for text in words) and len(set(words)) > 1
    shuffled = EvaluationJob("s", "expert", SEEDS[:2], shuffle_words=True, env=BODY)
    assert all(row.success for row in run_job(shuffled))  # the expert does not listen: the goal is what it was


def test_a_checkpoint_is_judged_seeing_blind_and_with_the_wrong_words(tmp_path: Path) -> None:
    tiny_model(tmp_path / "backbone").save_pretrained(tmp_path / "policy")
    seeing = EvaluationJob("p", str(tmp_path / "policy"), SEEDS[:1], env=REACH)
    jobs = (seeing, replace(seeing, blank_camera=True), replace(seeing, shuffle_words=True))
    distances = [run_job(job)[0].final_distance for job in jobs]
    assert np.isfinite(distances).all() and len(set(distances)) == 3
    assert run_job(seeing)[0].final_distance == distances[0]


def test_an_engine_is_taken_to_the_policy_and_plays_alike(tmp_path: Path) -> None:
    tiny_model(tmp_path / "backbone").save_pretrained(tmp_path / "policy")
    job = EvaluationJob("p", str(tmp_path / "policy"), SEEDS[:1], env=REACH)
    policies = [build_policy(replace(job, engine=name), None) for name in ("eager", "auto", "compile")]
    here = pick_engine("auto", pick_device("auto"))
    assert [policy.layer.engine for policy in policies] == ["eager", here, "compile"]
    assert next(policies[1].model.backbone.parameters()).device == next(policies[1].model.parameters()).device
    played = [run_job(replace(job, engine=name))[0].final_distance for name in ("eager", "auto")]
    assert played[1] == pytest.approx(played[0], abs=1e-3)
    with pytest.raises(ValueError, match="Unknown engine 'compiled'. Did you mean 'compile'"):
        build_policy(replace(job, engine="compiled"), None)


def test_a_policy_that_is_no_folder_is_refused() -> None:
    with pytest.raises(ValueError, match="exprt does not hold a whole Neon checkpoint"):
        run_job(EvaluationJob("p", "exprt", SEEDS[:1], env=BODY))
