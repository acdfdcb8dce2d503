"""Two weights whose loss and chunks a person can work out: what is adopted, what is cut short, what is taken back."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_self_learner import SMALL, _made_up
from tiny_neon import open_reach, tiny_model
from torch import Tensor, nn

from neon_sim.rollout import rollout
from neon_sim.training.adoption import AdoptionConfig, AdoptionGate, Verdict, same_noise
from neon_sim.training.drift import DriftConfig
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.protection import NoneConfig, ReplayConfig
from neon_sim.training.self_learner import NeonSelfLearner

CONFIG = AdoptionConfig(trust_radius=1.0, tolerance=0.1, halvings=2, history=2)
NAN = float("nan")


class Toy:
    """theta (2,); the chunk is theta itself, and the held-back loss |theta - (1, 1)|^2."""

    def __init__(self, config: AdoptionConfig = CONFIG) -> None:
        self.theta = nn.Parameter(torch.zeros(2))
        self.optimizer = torch.optim.Adam([self.theta], lr=0.1)
        self.gate = AdoptionGate({"theta": self.theta}, self.optimizer, config)

    def move(self, first: float, second: float) -> None:
        with torch.no_grad():
            self.theta.copy_(torch.tensor([first, second]))

    def step(self, slope: float) -> None:
        self.theta.grad = torch.full((2,), slope)
        self.optimizer.step()

    def loss(self) -> float:
        return float((self.theta - 1.0).square().sum().detach())

    def chunks(self) -> Tensor:
        return self.theta.detach().reshape(1, 1, 2)

    def propose(self, objection: str | None = None) -> Verdict:
        return self.gate.propose(self.loss, self.chunks, objection)


def test_a_better_step_within_the_trust_region_is_adopted_whole() -> None:
    toy = Toy()
    toy.move(1.0, 0.5)
    verdict = toy.propose()
    assert verdict.adopted and verdict.share == 1.0 and toy.theta.tolist() == [1.0, 0.5]
    assert (verdict.loss_before, verdict.loss_after) == (2.0, 0.25)
    assert verdict.shift == pytest.approx(((1.0 + 0.25) / 2) ** 0.5)
    assert "from 2 to 0.25" in verdict.why and toy.gate.adoptions == toy.gate.proposals == 1


def test_a_step_that_is_too_long_is_halved_until_it_fits() -> None:
    toy = Toy()
    toy.move(3.0, 3.0)  # moves by 3; by 1.5; by 0.75: the first one within 1
    verdict = toy.propose()
    assert verdict.adopted and verdict.share == 0.25 and toy.theta.tolist() == [0.75, 0.75]
    assert verdict.shift == pytest.approx(0.75) and verdict.loss_after == pytest.approx(2 * 0.25**2)


def test_a_step_that_overshoots_is_halved_until_the_loss_falls() -> None:
    toy = Toy(replace(CONFIG, trust_radius=100.0))
    toy.move(2.5, 2.5)  # loss 4.5; half of it: 2 * 0.25^2
    verdict = toy.propose()
    assert verdict.share == 0.5 and verdict.loss_after == pytest.approx(0.125)


def test_what_makes_things_worse_is_taken_back_with_the_optimisers_moments() -> None:
    toy = Toy()
    toy.step(-1.0)
    assert toy.propose().adopted
    kept, moments = toy.theta.detach().clone(), copy.deepcopy(toy.optimizer.state_dict())
    for _ in range(5):
        toy.step(3.0)
    assert not torch.equal(toy.theta, kept)
    verdict = toy.propose()
    assert not verdict.adopted and verdict.share == 0.0 and torch.equal(toy.theta, kept)
    assert "held-back loss goes from" in verdict.why and "halved 2 times" in verdict.why
    found = toy.optimizer.state_dict()["state"][0]
    assert all(torch.equal(found[name], value) for name, value in moments["state"][0].items())
    toy.step(-1.0)  # and it goes on as if nothing had been
    other = Toy()
    other.step(-1.0)
    other.step(-1.0)
    assert torch.equal(toy.theta, other.theta)


def test_a_little_worse_is_tolerated() -> None:
    toy = Toy(replace(CONFIG, halvings=0))
    toy.move(-0.04, 0.0)  # 1.04^2 + 1 = 2.0816: 4.1 % worse
    assert toy.propose().adopted
    toy.move(-0.04 - 0.2, 0.0)  # 1.24^2 + 1 = 2.5376: 21.9 % worse
    assert not toy.propose().adopted


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_never_adopted(bad: float) -> None:
    toy = Toy()
    toy.move(0.5, bad)
    verdict = toy.propose()
    assert not verdict.adopted and verdict.why == "a weight is not finite" and toy.theta.tolist() == [0.0, 0.0]


def test_held_back_experience_that_is_bad_adopts_nothing() -> None:
    toy = Toy()
    for loss, chunks in (
        (lambda: NAN, toy.chunks),
        (toy.loss, lambda: torch.tensor([NAN])),
    ):
        toy.move(0.5, 0.5)
        verdict = toy.gate.propose(loss, chunks)
        assert not verdict.adopted and "held-back" in verdict.why and toy.theta.tolist() == [0.0, 0.0]


def test_a_loss_that_breaks_at_the_proposed_weights_adopts_nothing() -> None:
    toy = Toy()
    toy.move(0.5, 0.5)
    verdict = toy.gate.propose(lambda: 1.0 if toy.theta[0] == 0.0 else NAN, toy.chunks)
    assert not verdict.adopted and toy.theta.tolist() == [0.0, 0.0]


def test_an_objection_from_outside_takes_back_what_is_good() -> None:
    toy = Toy()
    toy.move(1.0, 1.0)
    verdict = toy.propose("the robot moves")
    assert not verdict.adopted and verdict.why == "the robot moves" and toy.theta.tolist() == [0.0, 0.0]


def test_rollback_goes_back_adoption_by_adoption() -> None:
    toy = Toy()
    for place in (0.2, 0.4, 0.6):
        toy.step(-1.0)
        toy.move(place, place)
        assert toy.propose().adopted
    assert "the hand trembles" in toy.gate.rollback("the hand trembles")
    assert toy.theta.tolist() == pytest.approx([0.4, 0.4]) and not toy.optimizer.state
    toy.gate.rollback("still")
    assert toy.theta.tolist() == pytest.approx([0.2, 0.2])
    with pytest.raises(ValueError, match="no earlier weights"):  # history=2
        toy.gate.rollback("still")
    toy.move(9.0, NAN)
    toy.propose()
    assert toy.theta.tolist() == pytest.approx([0.2, 0.2])


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=12))
def test_no_row_of_proposals_ever_raises_the_loss_beyond_the_tolerance(moves: list[tuple[float, float]]) -> None:
    toy = Toy()
    best = toy.loss()
    for move in moves:
        where = toy.theta.detach().clone()
        toy.move(*move)
        verdict = toy.propose()
        assert toy.loss() <= best * 1.1 + 1e-6
        best = min(best, toy.loss())
        assert float((toy.theta.detach() - where).square().mean().sqrt()) <= 1.0 + 1e-6
        assert verdict.adopted or torch.equal(toy.theta, where)


def test_many_small_rises_are_refused_like_a_large_one() -> None:
    """The loss is 2 (1 + u)^2 at theta = (-u, -u): a tenth more is allowed, in one step or in ten."""
    toy = Toy()
    for step in range(1, 11):
        toy.move(-0.01 * step, -0.01 * step)
        toy.propose()
    assert 2.0 < toy.loss() <= 2.2 and toy.theta[0] > -0.05
    adopted = toy.theta.tolist()
    resumed = Toy()
    resumed.gate.set_state(toy.gate.get_state())
    resumed.move(-0.06, -0.06)
    verdict = resumed.propose()
    assert not verdict.adopted and "the best adopted weights have 2" in verdict.why
    assert resumed.theta.tolist() == adopted
    resumed.gate.forget_best()  # what was held back is of another world now
    resumed.move(-0.06, -0.06)
    assert resumed.propose().adopted


def test_a_restored_gate_goes_on_alike_and_belongs_to_its_head() -> None:
    toy, other = Toy(), Toy()
    for place in (0.2, 0.4):
        toy.move(place, place)
        toy.propose()
    other.gate.set_state(toy.gate.get_state())
    other.move(NAN, 0.0)
    other.propose()
    assert torch.equal(other.theta, toy.theta) and other.gate.proposals == 3
    other.gate.rollback("so")
    assert other.theta.tolist() == pytest.approx([0.2, 0.2])
    weight = nn.Parameter(torch.zeros(3))
    foreign = AdoptionGate({"theta": weight}, torch.optim.Adam([weight]))
    with pytest.raises(ValueError, match="another head; these parameters differ: \\['theta'\\]"):
        foreign.set_state(toy.gate.get_state())


def test_heads_that_sample_are_compared_on_the_same_noise() -> None:
    torch.manual_seed(5)
    ask: Callable[[], Tensor] = same_noise(lambda: torch.randn(3))
    first = ask()
    torch.randn(7)
    assert torch.equal(ask(), first)
    torch.manual_seed(5)
    expected = torch.randn(2)
    torch.manual_seed(5)
    ask()
    assert torch.equal(torch.randn(2), expected)  # the world's own noise is left as it was


def test_settings_that_make_no_sense_are_refused() -> None:
    for bad in ({"trust_radius": 0.0}, {"trust_radius": NAN}, {"tolerance": -0.1}):
        with pytest.raises(ValueError, match="trust_radius > 0"):
            AdoptionConfig(**bad)  # type: ignore[arg-type]
    for bad in ({"least_held_back": 0}, {"least_held_back": 20, "held_back_chunks": 19}):
        with pytest.raises(ValueError, match="least_held_back from 1 to held_back_chunks"):
            AdoptionConfig(**bad)
    for bad in ({"halvings": -1}, {"hold_back_every": 1}, {"history": 0}):
        with pytest.raises(ValueError, match="hold_back_every >= 2"):
            AdoptionConfig(**bad)


# The learner with all of it.


def _learner(folder: Path, **changes: object) -> NeonSelfLearner:
    model = tiny_model(folder)
    torch.manual_seed(2)
    return NeonSelfLearner(model, ForwardModel.for_model(model), replace(SMALL, **changes))  # type: ignore[arg-type]


def _weights(learner: NeonSelfLearner) -> list[Tensor]:
    return [param.detach().clone() for param in learner.params.values()]


def test_a_learner_adopts_what_helps_on_experience_that_it_did_not_learn_from(tmp_path: Path) -> None:
    learner = _learner(tmp_path, adoption=AdoptionConfig(hold_back_every=3, least_held_back=1), learning_rate=3e-3)
    made = _made_up(60)
    for first in range(0, 60, 5):
        learner._keep(made[first : first + 5])
    assert len(learner.held_back) == 20 and len(learner.buffer) == 40 and learner.episodes == 12
    assert learner.held_back[5] is made[15]  # whole episodes: the chunks of one are much alike
    verdicts = []
    for _ in range(15):
        learner.learn()
        verdicts.append(learner.last_verdict)
    assert all(verdict is not None and (verdict.adopted or verdict.share == 0.0) for verdict in verdicts)
    adopted = [verdict for verdict in verdicts if verdict is not None and verdict.adopted]
    assert len(adopted) > 3 and adopted[-1].loss_after < 0.8 * adopted[0].loss_before
    assert all(verdict.shift <= 0.1 for verdict in adopted)


def test_a_learner_takes_back_what_a_wild_rate_does(tmp_path: Path) -> None:
    learner = _learner(tmp_path, adoption=AdoptionConfig(halvings=0, least_held_back=1), learning_rate=1.0)
    learner._keep(_made_up(8))
    learner._keep(_made_up(40))
    before = _weights(learner)
    learner.learn()
    assert learner.last_verdict is not None and not learner.last_verdict.adopted
    assert all(torch.equal(one, other) for one, other in zip(before, _weights(learner), strict=True))


def test_when_a_regime_ends_only_what_was_held_back_since_judges_on(tmp_path: Path) -> None:
    checks = AdoptionConfig(hold_back_every=4, least_held_back=5)
    learner = _learner(tmp_path, adoption=checks, drift=DriftConfig())
    for first in range(0, 60, 5):
        items = _made_up(60)[first : first + 5]
        for date, item in enumerate(items, first + 1):
            item.seen = date
        learner._keep(items)
    assert [item.seen for item in learner.held_back] == [*range(1, 6), *range(21, 26), *range(41, 46)]
    again = _learner(tmp_path, adoption=checks, drift=DriftConfig())
    again.load_state_dict(learner.state_dict())
    for one in (learner, again):
        one.end_regime(since=30)  # 10 before those that were held back, 15 behind them
        assert [item.seen for item in one.buffer] == [*range(31, 41), *range(46, 61)]
        assert [item.seen for item in one.held_back] == [*range(41, 46)]
        one.end_regime(since=45)
        assert [item.seen for item in one.buffer] == [*range(46, 61)] and not one.held_back
        one.end_regime()
        assert not one.buffer and not one.held_back


@pytest.mark.parametrize("field", ["fused", "fused_after", "executed", "achieved"])
def test_a_chunk_with_nan_is_neither_learned_nor_remembered_nor_held_back(tmp_path: Path, field: str) -> None:
    learner = _learner(tmp_path, protection=ReplayConfig(), adoption=AdoptionConfig(hold_back_every=2))
    for _ in range(2):  # one episode held back, one not
        items = _made_up(20)
        getattr(items[3], field).view(-1)[0] = NAN
        learner._keep(items)
    assert learner.unusable == 2 and len(learner.buffer) == len(learner.held_back) == 19
    assert all(bool(item.fused.isfinite().all()) for item in (*learner.buffer, *learner.held_back))
    drawn = learner.strategy.sample(200)
    assert drawn is not None and all(bool(value.isfinite().all()) for value in drawn.values())
    for _ in range(3):
        learner.learn()
    assert all(bool(weight.isfinite().all()) for weight in _weights(learner))
    assert learner.last_losses


def test_a_gradient_that_is_not_finite_changes_no_weight(tmp_path: Path) -> None:
    learner = _learner(tmp_path)
    learner.buffer.extend(_made_up(20))
    for item in learner.buffer:
        item.executed[0, 0] = 3e38  # its square is more than a float holds
        item.weight = 1.0
    before = _weights(learner)
    assert learner.update() == {}
    assert all(torch.equal(one, other) for one, other in zip(before, _weights(learner), strict=True))


def test_the_drift_says_how_many_steps_are_taken(tmp_path: Path) -> None:
    learner = _learner(tmp_path, drift=DriftConfig())
    learner.buffer.extend(_made_up(40))
    before = _weights(learner)
    learner.learn()
    assert not learner.last_losses
    assert all(torch.equal(one, other) for one, other in zip(before, _weights(learner), strict=True))
    assert learner.drift is not None
    learner.drift.speed = 3
    learner.learn()
    steps = {int(entry["step"]) for entry in learner.optimizer.state.values()}
    assert steps == {3} and learner.last_losses


def test_what_is_rehearsed_is_learned_from(tmp_path: Path) -> None:
    """New chunks that ended nowhere teach nothing by hindsight; remembered ones that arrived do."""
    for protection, learns in ((NoneConfig(), False), (ReplayConfig(), True)):
        learner = _learner(tmp_path, protection=protection)
        learner._keep(_made_up(40))
        learner.buffer.clear()
        learner.buffer.extend(replace(item, weight=0.0) for item in _made_up(40))
        assert (learner.update()["hindsight"] > 0.0) == learns


def test_a_real_life_is_watched_held_back_learned_from_and_checked(tmp_path: Path) -> None:
    """Four episodes of three chunks: each chunk is foreseen and judged, whole episodes are held back."""
    env = open_reach()
    drift = DriftConfig(group=3, baseline=2, start_sigmas=1e-6, stop_sigmas=1e-7)  # nearly all is a change
    adoption, protection = AdoptionConfig(hold_back_every=2, least_held_back=1), ReplayConfig()
    watched = {"drift": drift, "drift_ends_regimes": False}
    learner = _learner(tmp_path, batch_size=4, adoption=adoption, protection=protection, **watched)
    for seed in range(4):
        rollout(env, learner.policy, 48, seed=seed, keep=(), on_chunk=lambda _: learner.before_chunk())
        learner.end_episode()
    env.close()
    assert learner.drift is not None and learner.drift.chunk == 12 and learner.drift.ignored == 0
    assert learner.drift.log[0].what == "ready" and learner.drift.log[0].chunk == 6  # after two episodes
    assert len(learner.held_back) == len(learner.buffer) == 6 and learner.unusable == 0
    assert learner.strategy.memory_bytes() > 0
    learner.drift.speed = 1
    learner.learn()
    assert learner.last_losses and learner.last_verdict is not None
    assert learner.last_verdict.why.startswith(("the held-back loss", "chunks move"))
