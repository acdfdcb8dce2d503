"""Everything that a self-learner goes on with when it is resumed, as `state_dict` gives it; older ones are read."""

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from neon_sim.training.experience import Experience, stack, unstack

if TYPE_CHECKING:
    from neon_sim.training.self_learner import NeonSelfLearner


def learner_state(learner: "NeonSelfLearner") -> dict[str, Any]:
    """Weights, optimisers, protection, buffers with their dates, drift, adoption, counts and random generators."""
    return {
        "decoder": learner.decoder.state_dict(),
        "forward_model": learner.forward_model.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "forward_optimizer": learner.forward_optimizer.state_dict(),
        "protection": learner.strategy.get_state(),
        "buffer": stack(list(learner.buffer)) if learner.buffer else None,
        "seen": [item.seen for item in learner.buffer],
        "held_back": stack(list(learner.held_back)) if learner.held_back else None,
        "held_back_seen": [item.seen for item in learner.held_back],
        "drift": None if learner.drift is None else learner.drift.get_state(),
        "gate": None if learner.gate is None else learner.gate.get_state(),
        "counts": [learner.episodes, learner.unusable],
        "rng": learner.rng.bit_generator.state,
        "practice_rng": learner.policy.rng.bit_generator.state,
    }


def restore_learner(learner: "NeonSelfLearner", state: Mapping[str, Any]) -> None:
    """Make a learner what it was, also from a state of before there were strategies, drift, adoption and dates.

    Raises:
        ValueError, RuntimeError, KeyError: the state does not fit; the learner may be half restored then.
    """
    learner.decoder.load_state_dict(state["decoder"])
    learner.forward_model.load_state_dict(state["forward_model"])
    learner.optimizer.load_state_dict(state["optimizer"])
    for group in learner.optimizer.param_groups:  # a state of before settings were compared may be of others
        group.update(lr=learner.config.learning_rate, eps=learner.config.adam_eps)
    learner.forward_optimizer.load_state_dict(state["forward_optimizer"])
    if state["protection"] is not None:
        learner.strategy.set_state(state["protection"])
    _refill(learner.buffer, state["buffer"], state.get("seen", ()))
    _refill(learner.held_back, state.get("held_back"), state.get("held_back_seen", ()))
    if learner.drift is not None and state.get("drift") is not None:
        learner.drift.set_state(state["drift"])
    if learner.gate is not None:
        learner.gate.restart() if state.get("gate") is None else learner.gate.set_state(state["gate"])
    learner.episodes, learner.unusable = state.get("counts", (0, 0))
    learner.rng.bit_generator.state = state["rng"]
    learner.policy.rng.bit_generator.state = state.get("practice_rng", state["rng"])


def _refill(kept: deque[Experience], rows: dict[str, Any] | None, dates: Any) -> None:
    """`dates` may be missing: such chunks are of before changes were dated."""
    kept.clear()
    kept.extend([] if rows is None else unstack(rows))
    for item, seen in zip(kept, dates, strict=False):
        item.seen = seen
