"""What a shard of the forgetting benchmark costs: measured on this machine as it is now, or in rough proportion."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from forgetting_arms import ARMS, learner_config
from forgetting_calibrate import judging_seeds
from forgetting_job import ShardJob
from forgetting_judge import EXECUTED, TOGETHER, Judge
from forgetting_learners import make_actor, make_learner
from forgetting_life import play
from forgetting_randomised import rival_seeds
from forgetting_stages import all_seeds, stages_of
from forgetting_world import Looks, open_env


@dataclass(frozen=True)
class Costs:
    """Seconds of one episode."""

    acted: float  # of a life, without learning from it
    learned: float  # what learning from it adds
    judged: float


# An episode of the benchmark preset, roughly, as a multiple of acting in it. Only the order of the shards follows.
PROPORTIONS = Costs(1.0, 2.5, 0.3)


def measured_costs(job: ShardJob, looks: Looks) -> Costs:
    """A few real episodes on nominal; a busy machine makes them dearer, and so what is expected of it."""
    torch.set_num_threads(1)
    still, learner = (make_learner(job, learner_config(job.preset, ARMS[arm], 0), looks) for arm in ("frozen", "naive"))
    env, seeds = open_env(job.task), all_seeds(job.regimes, job.preset)[:3]
    play(env, still, job.regimes[0], seeds[0], job.preset.steps)
    begun = time.perf_counter()
    for seed in seeds[1:]:
        play(env, still, job.regimes[0], seed, job.preset.steps)
    acted = (time.perf_counter() - begun) / 2
    learner.buffer.extend(list(still.buffer) * learner.config.batch_size)
    begun = time.perf_counter()
    for _ in range(job.preset.steps // EXECUTED):
        learner.learn()
    learned = time.perf_counter() - begun
    env.close()
    judged = judging_seeds(job.seed, min(6, job.preset.judged))
    together = Judge(job.task, lambda: make_actor(learner, looks), min(TOGETHER, len(job.regimes) * len(judged)))
    begun = time.perf_counter()
    together.judge(job.regimes, judged)
    spent = time.perf_counter() - begun
    together.close()
    return Costs(acted, learned, spent / (len(job.regimes) * len(judged)))


def expected_seconds(job: ShardJob, costs: Costs) -> float:
    """How long a shard takes from its beginning."""
    arm, preset = job.kind, job.preset
    stages = stages_of(arm.plan, job.regimes, preset, job.seed)
    taught = sum(stage.taught is not None for stage in stages)
    rows = len(stages) if arm.learns and arm.rate > 0.0 else 1  # the same weights are judged once
    cells = taught or rows * len(job.regimes)
    episodes = sum(len(stage.regimes) for stage in stages) + taught * len(rival_seeds(preset.rival))
    return episodes * (costs.acted + arm.learns * costs.learned) + cells * preset.judged * costs.judged


def expected_total(jobs: Sequence[ShardJob], costs: Costs, workers: int) -> float:
    """Seconds until the shards that are missing are there; half-lived ones count as if they were not begun.

    Workers take the shards in the given order, each when it has ended the one before.
    """
    busy = [0.0] * max(1, workers)
    for job in jobs:
        if not job.path.exists():
            busy[busy.index(min(busy))] += expected_seconds(job, costs)
    return max(busy)
