"""Regimes: raised only as far as needed and never beyond the limit, lived in the order that was promised."""

import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from neon_sim.eval.regimes import (
    CALIBRATED,
    ENOUGH_LOSS,
    NOMINAL,
    REGIMES,
    Regime,
    life_order,
    raise_severity,
    regimes_by_name,
    regimes_of,
)
from neon_sim.sim.faults import ActuatorFault, AddedLatency, LowFriction, Payload

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
from forgetting_world import fault_of

WEAK = Regime("weak", "ActuatorFault", (("bias", 0.0),), "strength", ("left_elbow_joint",), 0.6, 0.3, -0.1, 0.6)


def test_it_is_raised_until_enough_is_lost() -> None:
    losses = {0.6: 0.0, 0.5: 0.19, 0.4: 0.2, 0.3: 0.9}
    settled = raise_severity(WEAK, lambda regime: losses[regime.chosen])
    assert settled == replace(WEAK, chosen=0.4, counts=True, losses=((0.6, 0.0), (0.5, 0.19), (0.4, 0.2)))


def test_it_is_never_raised_beyond_the_limit() -> None:
    settled = raise_severity(WEAK, lambda regime: 0.0)
    assert settled.chosen == 0.3 and [level for level, _ in settled.losses] == [0.6, 0.5, 0.4, 0.3]
    assert settled.counts is False and raise_severity(WEAK, lambda regime: 0.1).counts is True  # enough to count


def test_what_is_written_down_is_what_raising_would_find() -> None:
    """Of calibrated tasks: the last severity that was tried, the first that took enough, and whether it counts."""
    assert CALIBRATED == ("reach", "wave")
    for task in CALIBRATED:
        for regime in REGIMES[task][1:]:
            found = dict(regime.losses)
            settled = raise_severity(regime, lambda regime, found=found: found[regime.chosen])  # type: ignore[misc]
            assert settled == regime and regime.episodes >= 100, (task, regime.name)
        counting = [regime for regime in REGIMES[task] if regime.counts]
        assert len(counting) == 3 and all(regime.losses[-1][1] >= ENOUGH_LOSS for regime in counting)


def test_levels_go_from_the_mildest_to_the_worst() -> None:
    upward = Regime("late", "AddedLatency", (), "action_s", (), 0.02, 0.06, 0.02, 0.02)
    assert upward.levels == [0.02, 0.04, 0.06] and Regime(NOMINAL).levels == []
    uneven = replace(upward, worst=0.05)
    assert uneven.levels == [0.02, 0.04]  # 0.06 would be beyond


@pytest.mark.parametrize("change", [{"step": 0.1}, {"step": 0.0}, {"chosen": 0.2}, {"chosen": 0.7}])
def test_a_severity_outside_its_limits_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Regime 'weak' wants a step from mildest to worst"):
        replace(WEAK, **change)


def test_a_life_is_nominal_each_trouble_nominal_and_each_again() -> None:
    assert life_order(REGIMES["reach"]) == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]
    names = [regime.name for regime in REGIMES["reach"]]
    assert names == ["nominal", "payload", "weak_motor", "actuator_bias", "low_friction", "latency"]


@pytest.mark.parametrize("task", REGIMES)
def test_every_regime_is_a_fault_with_a_source(task: str) -> None:
    kinds = {"payload": Payload, "weak_motor": ActuatorFault, "actuator_bias": ActuatorFault}
    kinds |= {"low_friction": LowFriction, "latency": AddedLatency, "twisted_hip": ActuatorFault}
    kinds |= {"weak_legs": ActuatorFault}
    for regime in regimes_of(task)[1:]:
        found = fault_of(regime)
        assert found and all(isinstance(fault, kinds[regime.name]) for fault in found)
        assert all(getattr(fault, regime.knob) == regime.chosen for fault in found) and regime.source
        assert pickle.loads(pickle.dumps(regime)) == regime  # it goes to worker processes
    assert fault_of(regimes_of(task)[0]) is None


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="Unknown task with regimes 'reech'. Did you mean 'reach'"):
        regimes_of("reech")
    rucksack = regimes_by_name("navigate")["payload"]
    assert rucksack is regimes_by_name("walk")["payload"] and dict(rucksack.fixed) == {"body": "torso"}
    assert list(regimes_by_name("reach")) == [regime.name for regime in regimes_of("reach")]
