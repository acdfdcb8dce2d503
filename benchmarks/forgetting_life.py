"""One shard of the forgetting benchmark: an arm's whole life with one seed, judged after each stage.

After each stage the learner's state is saved, so a life that was stopped goes on at its last stage; a shard that is
written is never lived again. The learner is told when a stage ends (all arms alike, but for `by_itself`): it protects
what it knows then, and begins a new buffer, since rehearsing what was before would be a protection, too.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from forgetting_arms import learner_config
from forgetting_calibrate import judging_seeds
from forgetting_inside import is_judged_inside, judge_inside
from forgetting_job import ShardJob
from forgetting_judge import TOGETHER, Judge
from forgetting_learners import make_actor, make_learner, weights_of
from forgetting_legs import live_episode
from forgetting_randomised import teach
from forgetting_reward import RewardedLearner, reward_of
from forgetting_settings import judging_of, settings_of
from forgetting_shards import settings_digest
from forgetting_stages import Stage, life_seed, stages_of
from forgetting_world import HeldLook, Judged, Looks, arrived, fault_of, open_env
from report import BEGUN_AT
from tqdm import tqdm

from neon_sim.eval.regimes import Regime
from neon_sim.rollout import rollout
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.learning_state import load_learning_state, save_learning_state
from neon_sim.training.residual_learner import ResidualLearner


def play(env: Any, learner: Any, regime: Regime, seed: int, steps: int) -> tuple[bool, bool]:
    """One episode of a life; returns whether it ended where it was meant to, and whether the robot fell."""
    env.world.apply_fault(fault_of(regime))
    if isinstance(learner, ResidualLearner):
        return live_episode(env, learner, seed, steps)
    policy = learner.policy
    assert isinstance(policy, HeldLook)  # `make_learner` has put it there
    policy.begin(seed)
    played = rollout(env, policy, steps, seed, keep=(), on_chunk=lambda _: learner.before_chunk())
    if isinstance(learner, RewardedLearner):
        learner.reward = reward_of(played.rewards)
    learner.end_episode()
    return arrived(env, policy.offset_m), bool(played.terminated[-1])


class Life:
    """A learner and its world, stage after stage.

    Args:
        job: which.
        looks: what every seed's episode looks like.
    """

    def __init__(self, job: ShardJob, looks: Looks) -> None:
        self.job, self.looks = job, looks
        self.config = learner_config(job.preset, job.kind, job.seed)
        self.learner = make_learner(job, self.config, looks)
        self.env = open_env(job.task)
        self.records: list[dict[str, Any]] = []
        self.judge = self._make_judge()
        self.settings = settings_digest(settings_of(job))
        self._judging = json.dumps(judging_of(job), default=str).encode()

    def go_on(self, stages: Sequence[Stage]) -> list[dict[str, Any]]:
        """Live through what has not been lived through yet; returns a record for each stage.

        Raises:
            ValueError: the saved state is damaged, or of a life with other settings or code.
        """
        path = self.job.state_path
        if path.exists():
            saved = load_learning_state(path, self.learner)
            if saved.get("settings") != self.settings:
                raise ValueError(f"{path} is of a life with other settings or code: delete it to begin that one anew.")
            self.records = json.loads(saved["records"])
        for stage in stages[len(self.records) :]:
            self.records.append(self._stage(stage))
            kept = {"records": json.dumps(self.records), "settings": self.settings}
            save_learning_state(path, self.learner, kept)
            self._tell(len(stages))
        return self.records

    def close(self) -> None:
        """Close all envs."""
        self.env.close()
        self.judge.close()

    def _stage(self, stage: Stage) -> dict[str, Any]:
        if stage.anew:
            self.learner = make_learner(self.job, self.config, self.looks)
            self.judge.close()
            self.judge = self._make_judge()
        begun = time.process_time()
        curve, falls = [], 0
        if stage.taught is not None:
            self._teach(stage.taught)
        for i, regime in enumerate(stage.regimes):
            seed = life_seed(self.job.seed, stage.first_episode + i)
            good, fell = play(self.env, self.learner, self.job.regimes[regime], seed, self.job.preset.steps)
            curve.append(int(good))
            falls += fell
        lived = time.process_time()
        numbers = range(len(self.job.regimes)) if stage.taught is None else [stage.taught]
        weights, cells, played = self.judge_on(numbers)
        row: list[dict[str, Any] | None] = [None] * len(self.job.regimes)  # None where nothing was judged
        for number, cell in zip(numbers, cells, strict=True):
            row[number] = asdict(cell)
        anew = played * len(numbers) * self.job.preset.judged
        judged = time.process_time()
        if self.learner.buffer and not getattr(self.learner, "ends_regimes", False):
            self.learner.end_regime()
        return {
            "name": stage.name,
            "regime": stage.regime,
            "curve": curve,
            "falls": falls,
            "row": row,
            "weights": weights,
            "protection_bytes": self.learner.strategy.memory_bytes(),
            "cost": {"life_cpu_s": lived - begun, "judge_cpu_s": judged - lived, "judged_anew": anew},
        }

    def _teach(self, regime: int) -> None:
        """Let an expert that knows the trouble teach the heads, which have seen no other."""
        fault = fault_of(self.job.regimes[regime])
        teach(self.env, make_actor(self.learner, self.looks), self.job.rival, lambda _: fault)

    def judge_on(self, numbers: Sequence[int]) -> tuple[str, list[Judged], bool]:
        """Digest of the weights, a frozen copy on some regimes, and whether that was played now.

        The same weights fare the same: arms that begin alike, and one that learns at rate 0, are judged once for all.
        """
        digest = hashlib.blake2b(self._judging + bytes(numbers), digest_size=16)
        for value in weights_of(self.learner):
            digest.update(value.detach().numpy().tobytes())
        weights, folder = digest.hexdigest(), self.job.out / "judged"
        known = sorted(folder.glob(f"{weights}_*.json"))
        if not known:
            seeds = judging_seeds(self.job.seed, self.job.preset.judged)
            regimes = [self.job.regimes[number] for number in numbers]
            found = [asdict(judged) for judged in self.judge.judge(regimes, seeds)]
            replace_bytes(folder / f"{weights}_{self.job.arm}.json", (json.dumps(found) + "\n").encode())
            return weights, [Judged(**cell) for cell in found], True
        return weights, [Judged(**cell) for cell in json.loads(known[0].read_text())], False

    def _make_judge(self) -> Judge:
        regimes = 1 if self.job.kind.plan == "taught" else len(self.job.regimes)  # judged at once
        together = min(TOGETHER, regimes * self.job.preset.judged)
        return Judge(self.job.task, lambda: make_actor(self.learner, self.looks), together)

    def _tell(self, total: int) -> None:
        record = self.records[-1]
        judged = [cell for cell in record["row"] if cell is not None]
        row = " ".join(f"{100 * cell['successes'] / cell['episodes']:3.0f}" for cell in judged)
        curve, where = record["curve"], "all regimes" if len(judged) == len(record["row"]) else record["name"]
        lived = f"{100 * sum(curve) / len(curve):.0f} % of {len(curve)} episodes" if curve else "taught"
        stage = f"{self.job.arm} seed {self.job.seed}, stage {len(self.records)}/{total} {record['name']}"
        tqdm.write(f"{stage}: {lived}; frozen copy on {where}: {row} %")


def live_shard(job: ShardJob) -> Path:
    """Live (or go on with) one shard and write it; a finished one is left alone. Returns its path.

    Raises:
        ValueError: see `Life.go_on`.
    """
    if job.path.exists():
        return job.path
    torch.set_num_threads(1)
    looks = Looks.load(sorted((job.out / "looks").glob("*.npz")))
    with closing(Life(job, looks)) as life:
        records = life.go_on(stages_of(job.kind.plan, job.regimes, job.preset, job.seed))
    shard = {
        "arm": job.arm,
        "seed": job.seed,
        "commit": BEGUN_AT,
        "settings": life.settings,
        "regimes": [regime.name for regime in job.regimes],
        "stages": records,
    }
    if is_judged_inside(job):
        shard["inside"] = [asdict(cell) for cell in judge_inside(job, looks)]
    replace_bytes(job.path, (json.dumps(shard) + "\n").encode())
    job.state_path.unlink(missing_ok=True)
    return job.path
