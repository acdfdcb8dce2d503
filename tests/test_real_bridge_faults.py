"""What can be wrong on the wire of the simulated robot, as a client sees it."""

from collections.abc import Iterator

import numpy as np
import pytest
from bridge_process import DOMAINS, PATIENT_S

from neon_sim.g1 import joints
from neon_sim.real import crc
from neon_sim.real.bridge import Bridge, BridgeConfig, WireFaults
from neon_sim.real.bridge.faults import StateLine
from neon_sim.real.codec import layout
from neon_sim.real.idl.unitree_hg import BmsState, LowState
from neon_sim.real.transport import Reader, wait_for

DOMAIN = next(DOMAINS)
KNEE = joints.JOINT_INDEX["left_knee_joint"]


class Wire:
    """A bridge in real time and one reader of its states."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.reader: Reader = bridge.link.reader("rt/lowstate", LowState, 64, reliable=True)
        assert wait_for(self.reader.writers, PATIENT_S)

    def states(self, ticks: int, faults: WireFaults) -> list[np.ndarray]:
        """The states of so many ticks with faults, which are healed afterwards."""
        self.reader.take()
        self.bridge.inject(faults)
        for _ in range(ticks):
            self.bridge.step()
        self.bridge.inject(WireFaults())
        self.reader.wait(0.5)
        return [layout(LowState).decode(sample) for sample in self.reader.take()]


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Bridge(BridgeConfig(domain=DOMAIN, gantry=True)) as bridge:
        yield Wire(bridge)


def sealed(state: np.ndarray) -> bool:
    try:
        crc.check(state)
    except crc.CrcError:
        return False
    return True


def test_a_healthy_wire_has_one_good_state_a_tick(wire):
    states = wire.states(5, WireFaults())
    assert len(states) == 5 and all(map(sealed, states))
    np.testing.assert_array_equal(np.diff([int(state["tick"]) for state in states]), 2)


def test_silence(wire):
    assert wire.states(5, WireFaults(silent=True)) == []
    assert len(wire.states(3, WireFaults())) == 3


def test_a_frozen_state_keeps_its_tick(wire):
    before = int(wire.states(1, WireFaults())[-1]["tick"])
    assert [int(state["tick"]) for state in wire.states(4, WireFaults(frozen=True))] == [before] * 4
    assert int(wire.states(1, WireFaults())[0]["tick"]) == before + 10


def test_a_late_state_is_late_by_what_was_asked(wire):
    states = wire.states(20, WireFaults(delay_s=0.02))
    now = 1000 + 2 * wire.bridge.body.ticks
    assert int(states[-1]["tick"]) == now - 20 and len(states) == 10
    assert int(wire.states(1, WireFaults())[-1]["tick"]) == now + 2


def test_a_bad_crc_is_bad_and_the_rest_is_true(wire):
    states = wire.states(3, WireFaults(bad_crc=True))
    assert len(states) == 3 and not any(map(sealed, states))
    np.testing.assert_array_equal(states[-1]["motor_state"]["q"][:29], wire.bridge.body.joint_pos.astype(np.float32))


def test_every_second_tick_runs_backwards(wire):
    ticks = [int(state["tick"]) for state in wire.states(6, WireFaults(tick_back_ms=50))]
    assert sorted(set(np.diff(ticks))) == [-48, 52]


@pytest.mark.parametrize(
    ("faults", "field", "value"),
    [
        (WireFaults(nan=True), "q", np.nan),
        (WireFaults(joint_pos=3.5), "q", 3.5),
        (WireFaults(joint_vel=12.0), "dq", 12.0),
        (WireFaults(casing_c=90), "temperature", [90, 25]),
        (WireFaults(winding_c=130), "temperature", [25, 130]),
    ],
)
def test_a_joint_reads_wrong_and_only_that_and_only_as_long(wire, faults, field, value):
    (state,) = wire.states(1, faults)
    assert sealed(state)
    np.testing.assert_array_equal(state["motor_state"][field][KNEE], np.asarray(value, np.float32))
    (healthy,) = wire.states(1, WireFaults())
    others = np.arange(29) != KNEE
    assert np.isfinite(state["motor_state"]["q"]).sum() >= 34
    np.testing.assert_allclose(
        state["motor_state"]["q"][:29][others], healthy["motor_state"]["q"][:29][others], atol=0.05
    )
    assert (healthy["motor_state"]["temperature"][:29] == 25).all() and abs(healthy["motor_state"]["dq"][KNEE]) < 5.0


def test_the_imu_believes_to_lean_while_the_body_does_not(wire):
    (state,) = wire.states(1, WireFaults(tilt_rad=1.1, gyro_rad_s=7.0))
    assert state["imu_state"]["rpy"][0] == pytest.approx(1.1, abs=0.02)
    assert state["imu_state"]["quaternion"][0] == pytest.approx(np.cos(0.55), abs=0.01)
    assert state["imu_state"]["gyroscope"][0] == 7.0
    assert wire.bridge.body.state().gravity_b[2] < -0.99


def test_the_battery_is_low(wire):
    reader = wire.bridge.link.reader("rt/lf/bmsstate", BmsState, reliable=True)
    assert wait_for(reader.writers, PATIENT_S)
    wire.bridge.inject(WireFaults(soc=15))
    assert wait_for(lambda: wire.bridge.step() and reader.wait(0.0), PATIENT_S)
    assert layout(BmsState).decode(reader.newest())["soc"] == 15
    wire.bridge.inject(WireFaults())


def test_a_second_writer_comes_and_goes(wire):
    commands = wire.bridge.control.readers
    counts = []
    for faults in (WireFaults(second_writer=True), WireFaults()):
        wire.bridge.inject(faults)
        wanted = 1 if faults.second_writer else 0
        counts.append(wait_for(lambda n=wanted: [r.writers() for r in commands.values()].count(1) == n, PATIENT_S))
    assert counts == [True, True]


def test_faults_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="Did you mean 'left_knee_joint'"):
        WireFaults(joint="left_kne_joint")
    with pytest.raises(ValueError, match="delay_s"):
        WireFaults(delay_s=-0.1)


def test_a_line_that_was_late_and_is_healed_does_not_replay_the_past():
    line = StateLine()
    line.faults = WireFaults(delay_s=0.006)
    record = layout(LowState).zeros()
    sent = []
    for tick in range(6):
        if tick == 4:
            line.faults = WireFaults()
        record["tick"] = tick
        samples = line.pass_on(record, 0.002 * tick)
        sent.append([int(layout(LowState).decode(sample)["tick"]) for sample in samples])
    assert sent == [[], [], [], [0], [4], [5]]
