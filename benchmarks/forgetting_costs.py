"""What a shard of the forgetting benchmark costs: measured on this machine as it is now, or in rough proportion."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from forgetting_arms import ARMS, Arm, all_seeds, learner_config, stages_of
from forgetting_calibrate import judging_seeds
from forgetting_judge import EXECUTED, TOGETHER, Judge
from forgetting_life import ShardJob, make_actor, make_learner, play
from forgetting_world import Looks, open_env

from neon_sim.training.protection import EWCReplayConfig, ReplayConfig


@dataclass(frozen=True)
class Costs:
    """Seconds of one episode."""

    acted: float  # of a life, without learning from it
    learned: float  # what learning from it adds, with a batch of new rows only
    judged: float


# An episode of the benchmark preset, roughly, as a multiple of acting in it. Only the order of the shards follows.
PROPORTIONS = Costs(1.0, 4.0, 0.5)


def measured_costs(job: ShardJob, looks: Looks) -> Costs:
    """A few real episodes on nominal; a busy machine makes them dearer, and so what is expected of it."""
    torch.set_num_threads(1)
    learner = make_learner(job, learner_config(job.preset, ARMS["naive"], job.seed), looks)
    env, seeds = open_env(job.task), all_seeds(job.regimes, job.preset)[:3]
    play(env, learner, job.regimes[0], seeds[0], job.preset.steps)
    begun = time.perf_counter()
    for seed in seeds[1:]:  # too few chunks for a batch: nothing is learned yet
        play(env, learner, job.regimes[0], seed, job.preset.steps)
    acted = (time.perf_counter() - begun) / 2
    for item in list(learner.buffer) * learner.config.batch_size:
        learner.buffer.append(item)
    begun = time.perf_counter()
    for _ in range(job.preset.steps // EXECUTED):
        learner.learn()
    learned = time.perf_counter() - begun
    env.close()
    judged = judging_seeds(job.seed, min(6, job.preset.judged))
    together = Judge(job.task, lambda: make_actor(job, learner, looks), min(TOGETHER, len(job.regimes) * len(judged)))
    begun = time.perf_counter()
    together.judge(job.regimes, judged)
    spent = time.perf_counter() - begun
    together.close()
    return Costs(acted, learned, spent / (len(job.regimes) * len(judged)))


def batches_of(arm: Arm) -> float:
    """How many batches' worth of rows an arm learns from at each step: rehearsal adds to the new ones."""
    kept = arm.protection.replay if isinstance(arm.protection, EWCReplayConfig) else arm.protection
    return arm.learns * (1.0 + (kept.share if isinstance(kept, ReplayConfig) else 0.0))


def expected_seconds(job: ShardJob, costs: Costs) -> float:
    """How long a shard takes from its beginning."""
    arm, preset = ARMS[job.arm], job.preset
    stages = stages_of(arm.plan, job.regimes, preset, job.seed)
    rows = len(stages) if arm.learns and arm.rate > 0.0 else 1  # the same weights are judged once
    episodes = sum(len(stage.regimes) for stage in stages)
    return episodes * (costs.acted + batches_of(arm) * costs.learned) + rows * len(job.regimes) * (
        preset.judged * costs.judged
    )


def expected_total(jobs: Sequence[ShardJob], costs: Costs, workers: int) -> float:
    """Seconds until the shards that are missing are there; half-lived ones count as if they were not begun.

    Workers take the shards in the given order, each when it has ended the one before.
    """
    busy = [0.0] * max(1, workers)
    for job in jobs:
        if not job.path.exists():
            busy[busy.index(min(busy))] += expected_seconds(job, costs)
    return max(busy)
