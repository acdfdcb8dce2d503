"""A life in words: every figure that is said is one that was put in, and what was not there is not said."""

import pytest

from neon_sim.eval.explain import explain, explain_judgement
from neon_sim.eval.learner_watch import LifeRecord, Movement, Protected
from neon_sim.eval.live_table import LiveLine
from neon_sim.eval.self_learning import Cell
from neon_sim.training.online import LifeEpisode


def _line(episode: int, faulty: bool, success: bool, distance: float, **changes: object) -> LiveLine:
    given = {"residual": 0.5, "learned_chunks": 2, "learning": True, "penalty": None, "losses": {}, **changes}
    curve = LifeEpisode(episode, faulty, success, distance, 1)
    return LiveLine("faulty" if faulty else "healthy", curve, **given)  # type: ignore[arg-type]


def _record(**changes: object) -> LifeRecord:
    """Ten healthy episodes that all succeed, then 40 faulty ones of which the last 30 succeed."""
    healthy = [_line(i, False, True, 0.02) for i in range(10)]
    faulty = [_line(10 + i, True, i >= 10, 0.2 if i < 20 else 0.03, residual=1.0 - i / 50) for i in range(40)]
    return LifeRecord("ewc", 3, [*healthy, *faulty], **changes)  # type: ignore[arg-type]


def test_what_was_learned_is_said_phase_by_phase() -> None:
    text = explain(_record())
    assert text.startswith("ewc, seed 3, 50 episodes\n")
    assert "Learned, healthy: success 100 % in the first 5 of 10 episodes, 100 % in the last; median" in text
    assert "Learned, faulty: success 50 % in the first 20 of 40 episodes, 100 % in the last" in text
    assert "median distance 20.0 cm and 3.0 cm" in text
    assert "median residual 0.81 and 0.41; weights were updated in 40 episodes" in text


def test_what_was_not_there_is_said_to_have_been_missing() -> None:
    text = explain(LifeRecord("lr0", 0, [_line(0, False, False, 0.1, residual=None, learning=False)]))
    assert "residual" not in text and "no update moved a weight" in text
    assert "always, as no drift detector was in force" in text
    assert "Protected: nothing; no strategy was in force" in text
    assert "nothing could be, as no check of updates was in force" in text
    assert "Left out" not in text


def test_protection_drift_and_rollback_in_figures() -> None:
    protected = Protected("healthy", "ewc", 60, 2 * 2**20, 5000, 0.012)
    refusals = ["chunks move by 0.3, the trust region is 0.1", "chunks move by 0.2, the trust region is 0.1"]
    refusals += ["the held-back loss goes from 1 to 2", "nothing has been held back yet"]
    text = explain(
        _record(
            protected=[protected],
            movement=Movement(0.0011, 0.022),
            proposals=30,
            adoptions=26,
            shortened=5,
            refusals=refusals,
            drift_log=["chunk 120: ready, usual", "chunk 200: start, residual 2"],
            unusable=4,
        )
    )
    assert "at the end of 'healthy', by ewc, what 60 chunks had shown (5000 weights, 2.0 MiB kept for it" in text
    assert "half of the Fisher lies in 1.2 % of the weights" in text
    assert "the 1 % of the weights that are held the most are 0.0011 (rms) from where they are held" in text
    assert "4 updates; 30 updates proposed, 26 adopted (5 of them shortened)" in text
    assert "beyond the trust region (2), worse on held-back experience (1), nothing has been held back yet (1)" in text
    assert "2 events" in text and "chunk 200: start, residual 2" in text
    assert "Left out: 4 chunks" in text


def test_a_detector_that_never_spoke_and_a_gate_that_refused_nothing() -> None:
    text = explain(_record(drift_log=[], proposals=3, adoptions=3))
    assert "never, as the drift detector did not yet know the usual residual" in text
    assert "Rolled back: nothing; 3 updates proposed, 3 adopted (0 of them shortened)" in text


def test_frozen_copies_are_compared() -> None:
    before, after = (Cell(9, 10, 0.02, [9]), Cell(3, 10, 0.1, [3])), (Cell(8, 10, 0.02, [8]), Cell(7, 10, 0.05, [7]))
    text = explain_judgement("ewc", before, after)
    assert "healthy robot 90.0 %" in text and "-10 points" in text and "+40 points" in text


def test_a_life_that_has_not_begun_is_refused() -> None:
    with pytest.raises(ValueError, match="'ewc', seed 0, has no episode yet"):
        explain(LifeRecord("ewc", 0))


def test_a_record_survives_its_file() -> None:
    record = _record(protected=[Protected("healthy", "ewc", 60, 1, 5000, None)], movement=Movement(0.1, 0.2))
    assert LifeRecord.from_json(record.to_json()) == record
