"""Who learns and who acts in the forgetting benchmark: an arm's policy at its beginning, and a frozen copy."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from forgetting_job import ShardJob
from forgetting_legs import residual_learner, train_legs_rival
from forgetting_randomised import HistoryHead, HistoryPolicy, load_rival, train_rival
from forgetting_reward import RewardedLearner
from forgetting_tasks import subject_of
from forgetting_world import HeldLook, Looks
from torch import Tensor

from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.online import load_forward_model
from neon_sim.training.residual_learner import ResidualLearner, ResidualLearnerConfig
from neon_sim.training.residual_policy import ResidualPolicy
from neon_sim.training.self_learner import NeonSelfLearner
from neon_sim.training.workers import parallel_map

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
    """What acts for an arm that has a NeonVLA, practising where noise_m is more than 0; heads to be taught are new."""
    if not job.kind.remembers:
        return HeldLook(model, looks, noise_m)
    taught_here = job.kind.plan == "taught"
    head = HistoryHead.for_model(job.rival, model) if taught_here else load_rival(model, job.rival, job.rival_path)
    return HistoryPolicy(model, looks, head, noise_m)


def make_actor(learner: Any, looks: Looks) -> Any:
    """What acts with a learner's present weights where nothing is practised."""
    if isinstance(learner, ResidualLearner):
        return ResidualPolicy(learner.model, learner.healthy)
    if isinstance(learner.policy, HistoryPolicy):
        return HistoryPolicy(learner.model, looks, learner.policy.head)
    return HeldLook(learner.model, looks)


def weights_of(learner: Any) -> Iterator[Tensor]:
    """All that makes one frozen copy of an arm act differently from another."""
    yield from learner.params.values()
    if isinstance(learner.policy, HistoryPolicy):
        yield from learner.policy.head.parameters()


def prepare_rivals(jobs: Sequence[ShardJob], workers: int) -> None:
    """Train the heads of the arm `randomised` that the jobs ask for, unless they are there."""
    asked = {job.rival_path: job for job in jobs if job.kind.remembers and job.kind.plan != "taught"}
    missing = [job for path, job in asked.items() if not path.exists()]
    if missing:
        list(parallel_map(train_rival_of, missing, min(workers, len(missing)), "rivals"))


def train_rival_of(job: ShardJob) -> None:
    """Train the heads of the arm `randomised` that a job's life has, unless they are there."""
    train = train_legs_rival if subject_of(job.task).legs else train_rival
    train(job.policy, job.task, job.rival, job.rival_path)
