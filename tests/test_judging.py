"""Who judges after the world has changed: nobody until enough of the new one is held back, and then that alone."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from test_self_learner import SMALL, _made_up
from tiny_neon import tiny_model

from neon_sim.eval.explain import explain
from neon_sim.eval.learner_watch import LearnerWatch, LifeRecord
from neon_sim.training.adoption import AdoptionConfig
from neon_sim.training.drift import DriftConfig
from neon_sim.training.experience import Experience, stack
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.judging import is_held_back, telling, why_wait
from neon_sim.training.online import LifeEpisode
from neon_sim.training.protection import NoneConfig
from neon_sim.training.self_learner import NeonSelfLearner

CHECKS = AdoptionConfig(hold_back_every=8, least_held_back=10, trust_radius=0.3)
HINDSIGHT = replace(
    SMALL,
    learning_rate=3e-3,
    protection=NoneConfig(),
    adoption=CHECKS,
    drift=DriftConfig(),
    outcome_weight=0.0,
    coherence_weight=0.0,
    consistency_weight=0.0,
)
EPISODE = 5  # chunks


def _worlds() -> tuple[list[Experience], list[Experience], list[Experience]]:
    """60 chunks of a world, 30 of one whose arms go the other way, and 60 more of the latter that nobody lives."""
    ramp = torch.zeros(16, 17)
    ramp[:, :3] = 0.5 * torch.linspace(0.0, 1.0, 16)[:, None]
    made = [replace(item, weight=1.0, seen=i + 1, executed=ramp.clone()) for i, item in enumerate(_made_up(150))]
    other = [replace(item, executed=-item.executed) for item in made[60:]]
    return made[:60], other[:30], other[30:]


def _live(learner: NeonSelfLearner, items: Sequence[Experience]) -> None:
    for first in range(0, len(items), EPISODE):
        learner._keep(list(items[first : first + EPISODE]))


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], NeonSelfLearner]:
    """Makes learners that know the old world, and have lived four episodes of the new one, all to be learned from."""
    folder = tmp_path_factory.mktemp("backbone")
    old, new, _ = _worlds()

    def make() -> NeonSelfLearner:
        model = tiny_model(folder)
        torch.manual_seed(2)
        return NeonSelfLearner(model, ForwardModel.for_model(model), HINDSIGHT)

    learner = make()
    assert learner.drift is not None
    learner.drift.speed = 1
    _live(learner, old)
    assert _learn(learner, 40) > 10
    _live(learner, new[:20])
    assert [item.seen for item in learner.held_back] == [*range(1, 11), *range(41, 46)]
    state = copy.deepcopy(learner.state_dict())

    def again() -> NeonSelfLearner:
        one = make()
        one.load_state_dict(copy.deepcopy(state))
        return one

    return again


def _loss(learner: NeonSelfLearner, items: Sequence[Experience]) -> float:
    with torch.no_grad():
        return float(learner.losses(stack(items))["hindsight"])


def _learn(learner: NeonSelfLearner, times: int) -> int:
    """How many updates were adopted."""
    assert learner.gate is not None
    before = learner.gate.adoptions
    for _ in range(times):
        learner.learn()
    return learner.gate.adoptions - before


def _weights(learner: NeonSelfLearner) -> torch.Tensor:
    return torch.cat([param.detach().reshape(-1).clone() for param in learner.params.values()])


def test_what_is_right_in_the_new_world_is_adopted_though_the_old_one_would_refuse_it(
    lived: Callable[[], NeonSelfLearner],
) -> None:
    """Two that learn from the same chunks by the same dice; one of them still has the old world's among its judges."""
    _, new, fresh = _worlds()
    ended, stale = lived(), lived()
    old_judges = list(ended.held_back)
    for learner in (ended, stale):
        learner.end_regime(since=60)
        _live(learner, new[20:])
        assert [item.seen for item in learner.held_back] == [*range(81, 91)]
    stale.held_back.extend(old_judges)
    before, before_old = _loss(ended, fresh), _loss(ended, old_judges)
    assert _learn(ended, 20) > 15 > 10 > _learn(stale, 20)
    assert _loss(ended, fresh) < 0.1 * before < 0.2 * before < _loss(stale, fresh)
    assert _loss(ended, old_judges) > 2.0 * before_old
    assert stale.last_verdict is not None and "held-back loss goes from" in stale.last_verdict.why


def test_nothing_is_adopted_before_enough_of_the_new_world_is_held_back_and_that_is_said(
    lived: Callable[[], NeonSelfLearner],
) -> None:
    """Twenty chunks to learn from, and none to judge by; a good step and a bad one wait alike."""
    learner = lived()
    watch = LearnerWatch(learner, LifeRecord("ewc", 0))
    assert learner.gate is not None
    learner.end_regime(since=60)
    assert len(learner.buffer) == 20 and not learner.held_back
    before, proposals = _weights(learner), learner.gate.proposals
    for _ in range(3):
        learner.learn()
        watch.after_chunk()
    verdict = learner.last_verdict
    assert verdict is not None and verdict.waits and not verdict.adopted and learner.last_losses
    assert verdict.why == "too little is held back of this regime: 0 chunks that tell anything, 10 wanted"
    assert torch.equal(_weights(learner), before) and learner.gate.proposals == proposals
    watch.after_episode("faulty", LifeEpisode(0, True, False, 0.1, 1))
    assert watch.record.waits == 3 and not watch.record.refusals
    text = explain(watch.record)
    assert "Waited: 3 updates were dropped, as too little of the regime was held back to judge them by" in text
    assert LifeRecord.from_json(watch.record.to_json()) == watch.record


def test_what_makes_the_new_world_worse_is_refused(lived: Callable[[], NeonSelfLearner]) -> None:
    """It has begun to learn the new one, and then learns from chunks that lead anywhere but where they say."""
    _, new, fresh = _worlds()
    learner, unchecked = lived(), lived()
    generator = torch.Generator().manual_seed(0)
    for one in (learner, unchecked):
        one.end_regime(since=60)
        _live(one, new[20:])
        assert _learn(one, 10) > 5
        for item in one.buffer:
            item.executed = torch.randn(item.executed.shape, generator=generator)
    start, held = _loss(learner, fresh), list(learner.held_back)
    best, unchecked.gate = _loss(learner, held), None
    for _ in range(20):
        learner.learn()
        unchecked.learn()
        now = _loss(learner, held)
        assert now <= best * (1.0 + CHECKS.tolerance) + 1e-6
        best = min(best, now)
    assert _loss(learner, fresh) < 1.1 * start and _loss(unchecked, fresh) > 2.0 * start


def test_chunks_that_ended_nowhere_judge_nothing_where_hindsight_is_all(lived: Callable[[], NeonSelfLearner]) -> None:
    """Their loss is 0 with any weights: every update would pass."""
    learner = lived()
    learner.end_regime(since=60)
    _, new, _ = _worlds()
    nowhere = [replace(item, weight=0.0) for item in new[20:]]
    _live(learner, nowhere)  # the first as the eighth, the second is learned from: it would not help to hold it back
    assert (len(learner.held_back), len(learner.buffer)) == (EPISODE, 20 + EPISODE)
    before = _weights(learner)
    learner.learn()
    assert learner.last_verdict is not None and learner.last_verdict.waits
    assert torch.equal(_weights(learner), before)
    with_others = replace(HINDSIGHT, outcome_weight=0.1)
    assert (telling(nowhere, HINDSIGHT), telling(nowhere, with_others)) == (0, len(nowhere))


def test_which_episodes_are_held_back() -> None:
    few, enough = _worlds()[0][:9], _worlds()[0][:10]
    nowhere = [replace(item, weight=0.0) for item in few]
    for number in range(24):
        eighth = number % 8 == 0
        assert is_held_back(few, number, few, HINDSIGHT) and is_held_back(few, number, nowhere * 9, HINDSIGHT)
        assert is_held_back(few, number, enough, HINDSIGHT) == is_held_back(nowhere, number, few, HINDSIGHT) == eighth
        assert not is_held_back(few, number, few, replace(HINDSIGHT, adoption=None))
    assert why_wait(few, HINDSIGHT) and not why_wait(enough, HINDSIGHT)
    assert not why_wait([], replace(HINDSIGHT, adoption=None))
