"""One online life of a self-learner with its figures: healthy episodes, then a fault, saved after each episode.

The life is that of `neon_sim.training.online.live`, to the bit. What is new is that somebody looks on.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from neon_sim.eval.learner_watch import LearnerWatch, LifeRecord
from neon_sim.eval.live_table import LiveLine
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.rollout import ActsInChunks, rollout
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.learning_state import load_learning_state, save_learning_state
from neon_sim.training.online import LifeConfig, line_of, load_forward_model
from neon_sim.training.self_learner import NeonSelfLearner, SelfLearnerConfig

HEALTHY, FAULTY = PHASES = ("healthy", "faulty")


def open_life(
    policy_folder: Path, config: SelfLearnerConfig, folder: Path, arm: str
) -> tuple[NeonSelfLearner, LearnerWatch]:
    """A learner at the beginning of its life, or where the life in `folder` stopped, and who watches it.

    Raises:
        ValueError: `folder` holds the state of another head or of other settings, or a damaged one.
    """
    model = NeonVLA.from_pretrained(policy_folder)
    learner = NeonSelfLearner(model, load_forward_model(model, policy_folder), config)
    state, record = folder / "state.pt", LifeRecord(arm, config.seed)
    if state.exists():
        record = LifeRecord.from_json(load_learning_state(state, learner)["record"])
    return learner, LearnerWatch(learner, record)


def live_watched(
    env: Any,
    watch: LearnerWatch,
    life: LifeConfig,
    folder: Path,
    policy: ActsInChunks | None = None,
    on_episode: Callable[[list[LiveLine]], None] | None = None,
) -> LifeRecord:
    """Live (or go on with) one life; leaves `policy/`, `state.pt` and `life.json` in `folder`.

    Args:
        env: an unwrapped NeonG1Env of the reach task with camera and proprioception.
        watch: of the learner, as `open_life` gives it.
        life: episodes, seeds, fault.
        folder: where everything is kept.
        policy: what acts, if it is not the learner's policy itself: one that passes all calls on to it.
        on_episode: called after each episode with all lines so far.
    """
    learner, record = watch.learner, watch.record

    def before_chunk(_: Any) -> None:
        learner.before_chunk()
        watch.after_chunk()

    for episode in range(len(record.lines), life.healthy_episodes + life.faulty_episodes):
        faulty = episode >= life.healthy_episodes
        if episode == life.healthy_episodes and not learner.ends_regimes:
            protected = learner.end_regime()
            if protected and learner.strategy.kind != "none":
                watch.after_protection(HEALTHY, protected)
        env.world.apply_fault(life.fault if faulty else None)
        seed = life.first_seed + 10_000 * learner.config.seed + episode
        rollout(env, policy or learner.policy, life.steps, seed, keep=(), on_chunk=before_chunk)
        learner.end_episode()
        watch.after_episode(PHASES[faulty], line_of(env, learner, episode, faulty))
        save_learning_state(folder / "state.pt", learner, {"record": record.to_json()})
        if on_episode is not None:
            on_episode(record.lines)
    learner.model.save_pretrained(folder / "policy")
    replace_bytes(folder / "life.json", record.to_json().encode())
    return record
