"""One shard of the forgetting benchmark: an arm's whole life with one seed, judged after each stage.

After each stage the learner's state is saved, so a life that was stopped goes on at its last stage; a shard that is
written is never lived again. The learner is told when a stage ends (all arms alike, but for `by_itself`): it protects
what it knows then, and begins a new buffer, since rehearsing what was before would be a protection, too.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from forgetting_arms import Stage, learner_config, life_seed, stages_of
from forgetting_calibrate import judging_seeds
from forgetting_job import ShardJob
from forgetting_judge import TOGETHER, Judge
from forgetting_legs import live_episode, residual_learner, train_legs_rival
from forgetting_randomised import HistoryPolicy, load_rival, train_rival
from forgetting_reward import RewardedLearner, reward_of
from forgetting_settings import judging_of
from forgetting_tasks import subject_of
from forgetting_world import HeldLook, Judged, Looks, arrived, fault_of, open_env
from report import BEGUN_AT
from tqdm import tqdm

from neon_sim.eval.regimes import Regime
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.rollout import rollout
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.learning_state import load_learning_state, save_learning_state
from neon_sim.training.online import load_forward_model
from neon_sim.training.residual_learner import ResidualLearner, ResidualLearnerConfig
from neon_sim.training.residual_policy import ResidualPolicy
from neon_sim.training.self_learner import NeonSelfLearner

ARM_HEAD: Final = "arms"


def make_learner(job: ShardJob, config: Any, looks: Looks) -> Any:
    """The checkpoint's policy about to learn: a `NeonSelfLearner` on held looks, on the legs a `ResidualLearner`."""
    if isinstance(config, ResidualLearnerConfig):
        rival = job.rival_path if job.kind.remembers else None
        return residual_learner(job.policy, config, job.kind.labels, rival)
    model = NeonVLA.from_pretrained(job.policy)
    freeze_idle(model)
    kind = RewardedLearner if job.kind.labels else NeonSelfLearner
    learner = kind(model, load_forward_model(model, Path(job.policy)), config)
    learner.policy = make_policy(job, model, looks, config.practice_noise_m)
    return learner


def freeze_idle(model: NeonVLA) -> None:
    """Let the arms' head learn alone, where it is one of its own: two thirds of an update's time.

    In these tasks nobody says where to walk, so the other head would be taught its own answers. The goal's embedding
    stays, too: that head reads it, and would answer otherwise.
    """
    heads = model.action_head.heads
    if ARM_HEAD in heads:
        model.goal_embed.requires_grad_(False)
        heads.requires_grad_(False)
        heads[ARM_HEAD].requires_grad_(True)


def make_policy(job: ShardJob, model: NeonVLA, looks: Looks, noise_m: float = 0.0) -> HeldLook:
    """What acts for an arm that has a NeonVLA, practising where noise_m is more than 0."""
    if job.kind.remembers:
        return HistoryPolicy(model, looks, load_rival(model, job.preset.rival, job.rival_path), noise_m)
    return HeldLook(model, looks, noise_m)


def make_actor(job: ShardJob, learner: Any, looks: Looks) -> Any:
    """What acts with a learner's present weights where nothing is practised."""
    if isinstance(learner, ResidualLearner):
        return ResidualPolicy(learner.model, learner.healthy)
    return make_policy(job, learner.model, looks)


def prepare_rival(job: ShardJob) -> None:
    """Train the heads of the arm `randomised`, unless they are there."""
    train = train_legs_rival if subject_of(job.task).legs else train_rival
    train(job.policy, job.task, job.preset.rival, job.rival_path)


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
        self._judging = json.dumps(judging_of(job), default=str).encode()

    def go_on(self, stages: Sequence[Stage]) -> list[dict[str, Any]]:
        """Live through what has not been lived through yet; returns a record for each stage."""
        path = self.job.state_path
        if path.exists():
            self.records = json.loads(load_learning_state(path, self.learner)["records"])
        for stage in stages[len(self.records) :]:
            self.records.append(self._stage(stage))
            save_learning_state(path, self.learner, {"records": json.dumps(self.records)})
            self._tell(len(stages))
        self.close()
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
        for i, regime in enumerate(stage.regimes):
            seed = life_seed(self.job.seed, stage.first_episode + i)
            good, fell = play(self.env, self.learner, self.job.regimes[regime], seed, self.job.preset.steps)
            curve.append(int(good))
            falls += fell
        lived = time.process_time()
        weights, row, played = self.judge_all()
        anew = played * len(self.job.regimes) * self.job.preset.judged
        judged = time.process_time()
        if self.learner.buffer and not getattr(self.learner, "ends_regimes", False):
            self.learner.end_regime()
        return {
            "name": stage.name,
            "regime": stage.regimes[0] if len(set(stage.regimes)) == 1 else None,
            "curve": curve,
            "falls": falls,
            "row": [asdict(cell) for cell in row],
            "weights": weights,
            "protection_bytes": self.learner.strategy.memory_bytes(),
            "cost": {"life_cpu_s": lived - begun, "judge_cpu_s": judged - lived, "judged_anew": anew},
        }

    def judge_all(self) -> tuple[str, list[Judged], bool]:
        """Digest of the weights, a frozen copy on every regime, and whether that was played now.

        The same weights fare the same: arms that begin alike, and one that learns at rate 0, are judged once for all.
        """
        digest = hashlib.blake2b(self._judging, digest_size=16)
        for value in self.learner.params.values():
            digest.update(value.detach().numpy().tobytes())
        weights, folder = digest.hexdigest(), self.job.out / "judged"
        known = sorted(folder.glob(f"{weights}_*.json"))
        if not known:
            seeds = judging_seeds(self.job.seed, self.job.preset.judged)
            found = [asdict(judged) for judged in self.judge.judge(self.job.regimes, seeds)]
            replace_bytes(folder / f"{weights}_{self.job.arm}.json", (json.dumps(found) + "\n").encode())
            return weights, [Judged(**cell) for cell in found], True
        return weights, [Judged(**cell) for cell in json.loads(known[0].read_text())], False

    def _make_judge(self) -> Judge:
        together = min(TOGETHER, len(self.job.regimes) * self.job.preset.judged)
        return Judge(self.job.task, lambda: make_actor(self.job, self.learner, self.looks), together)

    def _tell(self, total: int) -> None:
        record = self.records[-1]
        row = " ".join(f"{100 * cell['successes'] / cell['episodes']:3.0f}" for cell in record["row"])
        lived = 100 * sum(record["curve"]) / len(record["curve"])
        where = f"{self.job.arm} seed {self.job.seed}, stage {len(self.records)}/{total} {record['name']}"
        tqdm.write(f"{where}: {lived:.0f} % of {len(record['curve'])} episodes; frozen copy on all regimes: {row} %")


def live_shard(job: ShardJob) -> Path:
    """Live (or go on with) one shard and write it; a finished one is left alone. Returns its path."""
    if job.path.exists():
        return job.path
    torch.set_num_threads(1)
    life = Life(job, Looks.load(sorted((job.out / "looks").glob("*.npz"))))
    records = life.go_on(stages_of(job.kind.plan, job.regimes, job.preset, job.seed))
    shard = {
        "arm": job.arm,
        "seed": job.seed,
        "commit": BEGUN_AT,
        "regimes": [regime.name for regime in job.regimes],
        "stages": records,
    }
    replace_bytes(job.path, (json.dumps(shard) + "\n").encode())
    job.state_path.unlink(missing_ok=True)
    return job.path
