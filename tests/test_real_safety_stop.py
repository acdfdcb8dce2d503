"""When a robot stops: the state machine by itself, and every fault that a state can have."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.g1 import joints
from neon_sim.g1.geometry import euler_to_quat
from neon_sim.real import crc
from neon_sim.real.codec import layout
from neon_sim.real.errors import NotArmedError
from neon_sim.real.idl.unitree_hg import LowState
from neon_sim.real.preflight import LOWEST_CHARGE
from neon_sim.real.safety_log import SafetyLog, commands, main, read_events
from neon_sim.real.safety_stop import STOPPED, Phase, Stop, StopConfig, advance, arm, disarm, halt
from neon_sim.real.state_faults import StateLimits, StateMonitor, TickClock
from neon_sim.robot import RobotCommand

CONFIG = StopConfig()
LAYOUT = layout(LowState)


# ---- the machine


def running(at_s: float = 0.0) -> Stop:
    """A robot that follows an env."""
    armed = advance(arm(Stop(), at_s - CONFIG.ramp_s, ()), CONFIG, at_s, (), None)
    return advance(armed, CONFIG, at_s, (), 0.0)


def test_from_arming_to_running():
    stop = arm(Stop(), 10.0, ())
    assert stop.phase is Phase.RAMPING and stop.armed
    assert advance(stop, CONFIG, 12.999, (), None).phase is Phase.RAMPING
    standing = advance(stop, CONFIG, 13.0, (), None)
    assert standing == Stop(Phase.STANDING, 13.0)
    assert advance(standing, CONFIG, 999.0, (), None) is standing  # a pause has no end
    assert advance(standing, CONFIG, 999.0, (), 0.01) == Stop(Phase.RUNNING, 999.0)
    assert advance(running(), CONFIG, 5.0, (), None).phase is Phase.STANDING  # the env pauses again


def test_nobody_arms_over_an_objection():
    with pytest.raises(NotArmedError, match="battery: 3 %.*robot.arm"):
        arm(Stop(), 0.0, ("battery: 3 %",))


@pytest.mark.parametrize("phase", [p for p in Phase if p not in (Phase.UNARMED, Phase.DAMPING)])
def test_a_fault_of_the_state_damps_from_everywhere_at_once(phase):
    stop = advance(Stop(phase, 0.0, ("before",)), CONFIG, 0.001, ("tilt: 1.2 rad", "joint speed: 11"), 0.0)
    assert stop == Stop(Phase.DAMPING, 0.001, ("tilt: 1.2 rad", "joint speed: 11"))


def test_an_unarmed_robot_is_not_damped_either():
    assert advance(Stop(), CONFIG, 1.0, ("tilt",), math.inf) == Stop()
    assert halt(Stop(), 1.0) == disarm(Stop(), 1.0) == Stop()


def test_silence_is_held_then_lowered_then_damped():
    stop = running(0.0)
    assert advance(stop, CONFIG, 0.2, (), 0.2).phase is Phase.RUNNING
    held = advance(stop, CONFIG, 0.201, (), 0.201)
    assert held.phase is Phase.HOLDING and held.reasons == ("stale action: the newest is 201 ms old",)
    assert advance(held, CONFIG, 1.2, (), 1.2) is held
    lowered = advance(held, CONFIG, 1.202, (), 1.202)
    assert lowered == Stop(Phase.LOWERING, 1.202, held.reasons)
    assert advance(lowered, CONFIG, 3.2, (), 3.2) is lowered
    assert advance(lowered, CONFIG, 3.203, (), 3.203) == Stop(Phase.DAMPING, 3.203, held.reasons)


def test_an_env_that_comes_back_is_not_followed_but_the_robot_stays_up():
    held = advance(running(0.0), CONFIG, 0.3, (), 0.3)
    for now_s in np.arange(0.3, 20.0, 0.002):
        held = advance(held, CONFIG, float(now_s), (), 0.01)
    assert held.phase is Phase.HOLDING
    assert advance(held, CONFIG, 20.0, (), 1.1) is held  # another stall, and again shorter than it may be
    assert arm(held, 20.0, ()) == Stop(Phase.STANDING, 20.0)  # it stands already: no ramp from zero stiffness
    assert advance(held, CONFIG, 20.0, (), math.nan).phase is Phase.LOWERING  # an age that is no number is silence


def test_an_env_that_died_while_it_paused_is_noticed():
    standing = Stop(Phase.STANDING, 0.0)
    held = advance(standing, CONFIG, 1.0, (), math.inf)
    assert held.phase is Phase.HOLDING and "gone" in held.reasons[0]


def test_infinite_patience_never_lowers():
    config = StopConfig(lower_after_s=math.inf)
    held = advance(running(0.0), config, 0.3, (), 0.3)
    assert advance(held, config, 1e6, (), 1e6) is held


def test_disarming_lowers_and_halting_drops():
    assert disarm(running(), 5.0) == Stop(Phase.LOWERING, 5.0, ("disarmed",))
    assert disarm(running(), 5.0, "low battery: 19 %").reasons == ("low battery: 19 %",)
    assert disarm(Stop(Phase.RAMPING, 4.0), 5.0) == Stop(Phase.DAMPING, 5.0, ("disarmed",))
    assert halt(running(), 5.0).phase is Phase.DAMPING


@pytest.mark.parametrize(
    "values", [{"silence_s": 0.0}, {"silence_s": math.inf}, {"ramp_s": -1.0}, {"lower_s": math.nan}]
)
def test_times_that_make_no_sense_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        StopConfig(**values)


EVENTS = st.lists(
    st.tuples(
        st.floats(0.0, 0.5),  # s that pass
        st.sampled_from([(), (), (), ("tilt",)]),
        st.one_of(st.none(), st.floats(0.0, 3.0), st.just(math.inf)),
        st.sampled_from(["", "", "", "disarm", "halt"]),
    ),
    max_size=60,
)


@given(EVENTS)
def test_nothing_but_a_person_leaves_a_stop(events):
    """From any stop, whatever happens: only on towards damping, never back to moving."""
    stop, now_s, stopped = running(), 0.0, False
    for passes_s, faults, silence_s, order in events:
        now_s += passes_s
        before = stop
        stop = advance(stop, CONFIG, now_s, faults, silence_s)
        stop = disarm(stop, now_s) if order == "disarm" else halt(stop, now_s) if order == "halt" else stop
        assert not (before.phase is Phase.DAMPING and stop is not before)  # latched, reasons and all
        stopped = stopped or before.phase in STOPPED
        if stopped:
            assert stop.phase in STOPPED and stop.phase >= before.phase and stop.reasons
        if faults and before.phase is not Phase.DAMPING:
            assert stop.phase is Phase.DAMPING


# ---- the states


def sample(tick: int, **changes: float) -> bytes:
    """A healthy LowState but for the changes: joint_pos, joint_vel, casing, winding (left knee), roll, gyro, keys."""
    record = LAYOUT.zeros()
    record["tick"], record["mode_machine"] = tick, 5
    motors = record["motor_state"][: joints.NUM_JOINTS]
    motors["q"], motors["temperature"] = joints.HOME, 25
    motors["q"][3] = changes.get("joint_pos", joints.HOME[3])
    motors["dq"][3] = changes.get("joint_vel", 0.0)
    motors["dq"][18] = changes.get("elbow_vel", 0.0)
    motors["temperature"][3] = changes.get("casing", 25), changes.get("winding", 25)
    record["imu_state"]["quaternion"] = euler_to_quat(np.array([changes.get("roll", 0.0), 0.0, 0.0]))
    record["imu_state"]["quaternion"] *= changes.get("stretch", 1.0)
    record["imu_state"]["gyroscope"][2] = changes.get("gyro", 0.0)
    record["wireless_remote"][2] = changes.get("keys", 0)
    crc.seal(record)
    return LAYOUT.encode(record)


def faults_of(limits: StateLimits | None = None, **changes: float) -> tuple[str, ...]:
    monitor = StateMonitor(limits or StateLimits())
    monitor.take(sample(1000, **changes), 0.0)
    return monitor.faults(0.0)


@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        ({"joint_vel": 10.0}, {"joint_vel": -10.1}, "joint speed: left_knee_joint 10.10 rad/s, the limit is 10"),
        ({"roll": 0.99}, {"roll": -1.01}, "tilt: 1.01 rad, the limit is 1.00 rad"),
        ({"gyro": 6.0}, {"gyro": -6.1}, "turning: 6.1 rad/s, the limit is 6.0 rad/s"),
        ({"casing": 85}, {"casing": 86}, "casing temperature: left_knee_joint 86.00 degrees C, the limit is 85"),
        ({"winding": 120}, {"winding": 121}, "winding temperature: left_knee_joint 121.00 degrees C, the limit is 120"),
        ({"joint_pos": -0.18}, {"joint_pos": -0.19}, "joint range: left_knee_joint 0.10 rad outside, the limit is 0.1"),
        ({"joint_pos": 2.97}, {"joint_pos": 2.99}, "joint range: left_knee_joint 0.11 rad outside, the limit is 0.1"),
        ({"joint_vel": 9.0}, {"joint_vel": math.nan}, "not a number: the state has an entry that is not finite"),
        ({"keys": 0b11110111}, {"keys": 0b1000}, "remote control: the operator pressed select"),
        ({"stretch": 1.01}, {"stretch": 0.0}, "orientation: the IMU's quaternion"),
    ],
)
def test_each_limit_holds_on_both_sides(good, bad, words):
    assert faults_of(**good) == ()
    (said,) = faults_of(**bad)
    assert said.startswith(words)


def test_a_looser_limit_for_legs_leaves_the_arms_alone():
    loose = StateLimits(leg_speed=40.0)
    assert faults_of(loose, joint_vel=39.0) == ()
    assert len(faults_of(loose, joint_vel=41.0)) == len(faults_of(loose, elbow_vel=10.5)) == 1


def test_a_fault_that_heals_before_anybody_looks_was_there():
    """A control at 500 Hz reads two states of a robot that speaks at 1 kHz: the first of them is bad."""
    monitor = StateMonitor(StateLimits())
    monitor.take(sample(1000, joint_vel=math.nan), 0.0)
    monitor.take(sample(1001, gyro=9.0), 0.001)
    monitor.take(sample(1002), 0.002)
    assert [fault[:7] for fault in monitor.visible(0.002)] == ["not a n", "turning"]
    assert monitor.faults(0.002) == (
        "not a number: the state has an entry that is not finite",
        "turning: 9.0 rad/s, the limit is 6.0 rad/s",
    )
    assert monitor.faults(0.002) == ()


def test_a_fault_is_there_as_long_as_its_state_is_the_newest_and_no_longer():
    monitor = StateMonitor(StateLimits())
    monitor.take(sample(1000, gyro=9.0), 0.0)
    assert len(monitor.faults(0.0)) == len(monitor.faults(0.002)) == 1
    monitor.take(sample(1004), 0.004)
    assert monitor.faults(0.004) == ()


NEAR = {
    "joint_pos": st.floats(-0.25, -0.1) | st.floats(2.9, 3.1),  # the knee's range is -0.087 to 2.880 rad
    "joint_vel": st.floats(9.99, 10.01) | st.floats(-10.01, -9.99),
    "elbow_vel": st.floats(9.99, 10.01),
    "roll": st.floats(0.99, 1.01),
    "gyro": st.floats(-6.01, -5.99) | st.just(math.nan),
    "stretch": st.floats(0.95, 1.05),
    "casing": st.integers(84, 87),
    "winding": st.integers(84, 122),
    "keys": st.sampled_from([0, 8, 247]),
}


@given(st.sets(st.sampled_from(sorted(NEAR))).flatmap(lambda names: st.fixed_dictionaries({n: NEAR[n] for n in names})))
def test_the_quick_look_at_a_state_passes_nothing_that_a_close_look_finds(changes):
    monitor = StateMonitor(StateLimits())
    record = LAYOUT.decode(sample(1000, **changes))
    assert monitor.take(sample(1000, **changes), 0.0) and monitor.numbers is not None
    assert not (monitor._sound(monitor.numbers) and tuple(monitor._body_faults(record)))
    assert monitor.take(sample(1002), 0.002) and monitor._sound(monitor.numbers)  # most states need no more


def test_the_battery_is_watched_as_the_preflight_watches_it():
    assert StateLimits().charge == LOWEST_CHARGE == 20
    with pytest.raises(ValueError, match="charge must be in"):
        StateLimits(charge=101.0)


def test_bad_bytes_are_told_apart_and_said_once():
    monitor = StateMonitor(StateLimits())
    torn = bytearray(sample(1002))
    torn[300] ^= 1
    assert monitor.take(sample(1000), 0.0)
    assert not monitor.take(bytes(torn), 0.002)
    assert [fault[:7] for fault in monitor.faults(0.002)] == ["bad CRC"]
    assert monitor.faults(0.002) == ()
    assert not monitor.take(sample(1004)[:-8], 0.004)
    assert [fault[:9] for fault in monitor.faults(0.004)] == ["bad state"]


def test_a_tick_that_goes_back_is_a_fault_and_its_state_is_not_used():
    monitor = StateMonitor(StateLimits())
    monitor.take(sample(1000), 0.0)
    assert not monitor.take(sample(998, joint_pos=1.0), 0.002)
    assert monitor.faults(0.002) == ("out-of-order tick: 998 ms came after a newer one",)
    assert monitor.record["motor_state"]["q"][3] == np.float32(joints.HOME[3])
    assert monitor.take(sample(1004), 0.004) and monitor.faults(0.004) == ()


@pytest.mark.parametrize("last_ms", [0, 2**31 - 1, 2**32 - 2])
def test_a_tick_that_wraps_round_goes_on(last_ms):
    clock = TickClock(0.0)
    assert clock.take(last_ms, 0.0) and clock.take((last_ms + 4) % 2**32, 0.004)
    assert clock.tick_s == pytest.approx(0.004) and clock.age_s(0.004) == pytest.approx(0.0)


def test_a_robot_that_booted_again_is_a_fault_and_then_a_robot():
    monitor = StateMonitor(StateLimits())
    monitor.take(sample(500_000), 0.0)
    assert monitor.take(sample(1000), 1.0)
    assert monitor.faults(1.0)[0].startswith("out-of-order tick")
    assert monitor.take(sample(1002), 1.002) and monitor.faults(1.002) == ()


def test_lost_frozen_and_late_states_are_all_old():
    lost = StateMonitor(StateLimits())
    assert "no state has come yet" in lost.faults(0.0)[0]
    lost.take(sample(1000), 0.0)
    assert lost.faults(0.050) == () and lost.faults(0.051) == (
        "state age: the newest is 51 ms old, the limit is 50 ms",
    )
    frozen = StateMonitor(StateLimits())
    for step in range(30):
        frozen.take(sample(1000), 0.002 * step)
    assert frozen.faults(0.058)[0].startswith("state age")
    late = StateMonitor(StateLimits())
    for step in range(500):  # from 0.5 s on each comes 60 ms after it was made
        late.take(sample(1000 + 2 * step), 0.002 * step + (0.06 if step >= 250 else 0.0))
    (said,) = late.faults(0.002 * 499 + 0.06)  # 60 ms, but for what the clocks may have drifted in half a second
    assert said.startswith("state age: the newest is 59 ms old")


def test_a_clock_that_drifts_is_no_delay():
    clock = TickClock(1e-3)
    for step in range(100_000):  # 200 s; the robot's clock is 100 ppm slow: 20 ms in all
        clock.take(2 * step, 0.002 * step * 1.0001)
    assert clock.age_s(0.002 * 99_999 * 1.0001) < 1e-3


@given(st.integers(0, 2091), st.integers(1, 255))
def test_whichever_byte_is_changed_the_state_is_not_believed(place, change):
    whole = bytearray(sample(1000))
    whole[place] ^= change
    monitor = StateMonitor(StateLimits())
    if monitor.take(bytes(whole), 0.0):  # the padding and the header's options carry nothing
        assert monitor.record.tobytes() == LAYOUT.decode(sample(1000)).tobytes()
    else:
        assert monitor.faults(0.0)


# ---- the log


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_ends_the_log_and_not_the_robot(tmp_path):
    (tmp_path / "stops.jsonl").symlink_to("/dev/full")
    log = SafetyLog(tmp_path / "stops.jsonl")
    log.write("phase", 1.0, phase="damping")
    assert log.error.startswith(f"the log {tmp_path / 'stops.jsonl'} ends here") and "space" in log.error
    log.write("phase", 2.0)
    log.close()
    whole = SafetyLog(tmp_path / "commands.jsonl")
    whole.write("halt", 0.5, mask=np.array([True, False]))
    whole.close()
    assert whole.error == "" and list(read_events(tmp_path / "commands.jsonl")) == [
        {"event": "halt", "time_s": 0.5, "mask": [True, False]}
    ]


def asked(number: int) -> RobotCommand:
    """A command that carries its number in the height."""
    mask = np.isin(np.arange(29), joints.GROUPS["arms"])
    return RobotCommand(joints.HOME, mask, joints.KP, joints.KD, np.zeros(3), 0.7 + 0.001 * number)


def test_what_is_replayed_is_the_last_run_up_to_its_stop(tmp_path, capsys):
    path = tmp_path / "commands.jsonl"
    log = SafetyLog(path)
    for number, event in enumerate(
        ["arm", "command", "halt", "command", "arm", "command", "command", "stop", "command"]
    ):
        if event == "command":
            log.command(float(number), asked(number))
        elif event == "stop":
            log.write("safety", float(number), phase="holding", reasons=["stale action"])
        else:
            log.write(event, float(number))
    log.close()
    assert [round(1000 * (command.height - 0.7)) for command in commands(path)] == [5, 6]
    main([str(path)])
    said = capsys.readouterr().out
    assert "stale action" in said and "2 commands of the last run, 2 times armed" in said


def test_a_log_that_is_not_there_is_said_in_words(tmp_path, capsys):
    for arguments, words in (([], "required: log"), ([str(tmp_path / "none.jsonl")], "is no file. real/run.py writes")):
        with pytest.raises(SystemExit):
            main(arguments)
        assert words in capsys.readouterr().err
