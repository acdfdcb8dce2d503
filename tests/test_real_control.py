"""The control core without a network or a clock: what it sends in each phase, on both command paths."""

import json
from dataclasses import replace

import numpy as np
import pytest

from neon_sim.g1 import joints
from neon_sim.g1.self_distance import self_distances
from neon_sim.real import crc
from neon_sim.real.codec import layout
from neon_sim.real.command_paths import WEIGHT_SLOT, Outgoing, make_path
from neon_sim.real.control_client import command_record
from neon_sim.real.control_config import ControlConfig, lock_step
from neon_sim.real.control_core import ControlCore
from neon_sim.real.control_records import TEXT_BYTES, text_of
from neon_sim.real.errors import NotArmedError
from neon_sim.real.idl.unitree_hg import LowCmd, LowState
from neon_sim.real.safety_stop import Phase, StopConfig
from neon_sim.robot import RobotCommand
from neon_sim.safety import SafetyConfig

TICK = 0.002
ARMS = joints.GROUPS["arms"]
ARMS_ONLY = np.isin(np.arange(29), ARMS)
ELBOW = 18


class Standing:
    """A G1 that is where it was put: states every tick, and the messages that came, decoded."""

    def __init__(self, config: ControlConfig, joint_pos: np.ndarray = joints.HOME, mode_machine: int = 5) -> None:
        self.core = ControlCore(config)
        self.now_s, self.joint_pos = 0.0, joint_pos
        self.record = layout(LowState).zeros()
        self.record["mode_machine"], self.record["imu_state"]["quaternion"][0] = mode_machine, 1.0
        self.silent = False

    def tick(self, count: int = 1, **changes: int | bool) -> Outgoing:
        """Let ticks pass; the last one's message."""
        for _ in range(count):
            self.now_s += TICK
            self.record["tick"] += 2
            self.record["motor_state"]["q"][:29] = self.joint_pos
            crc.seal(self.record)
            if not self.silent:
                self.core.take(layout(LowState).encode(self.record), self.now_s)
            outgoing = self.core.tick(self.now_s, **changes)
        return outgoing

    def ask(self, target: np.ndarray, velocity=(0.0, 0.0, 0.0), mask=ARMS_ONLY, pauses=False) -> None:
        """One command of the env."""
        command = RobotCommand(target, mask, joints.KP, joints.KD, np.array(velocity), joints.HOME_HEIGHT)
        self.core.obey(command_record(command, self.now_s, pauses))

    def arm(self) -> None:
        self.tick()
        self.core.arm(self.now_s, ())


def decoded(outgoing: Outgoing) -> np.ndarray:
    """The LowCmd record, its checksum checked."""
    record = layout(LowCmd).decode(outgoing.low_cmd)
    crc.check(record)
    return record


def no_ramp(path: str = "low_level", **values) -> ControlConfig:
    return ControlConfig(path=path, stop=StopConfig(ramp_s=0.0), **values)


def moved(joint: int, angle: float) -> np.ndarray:
    target = joints.HOME.copy()
    target[joint] = angle
    return target


def assert_damping(outgoing: Outgoing) -> None:
    motors = decoded(outgoing)["motor_cmd"][:29]
    assert (motors["mode"] == 1).all() and (motors["kd"] == 8.0).all()
    assert not any(motors[name].any() for name in ("q", "dq", "tau", "kp"))


def test_an_unarmed_robot_gets_nothing_whatever_the_env_says():
    robot = Standing(no_ramp())
    for _ in range(100):
        robot.ask(moved(ELBOW, 0.0))
        assert robot.tick() == Outgoing(None)
    robot.core.halt(robot.now_s)
    robot.core.disarm(robot.now_s)
    assert robot.tick() == Outgoing(None)


@pytest.mark.parametrize("mode_machine", [4, 5, 16])
def test_the_ramp_starts_where_the_robot_is_and_the_machine_is_echoed(mode_machine):
    start = joints.HOME + 0.3
    robot = Standing(ControlConfig(stop=StopConfig(ramp_s=2.0)), start, mode_machine)
    robot.arm()
    first = decoded(robot.tick())
    assert first["mode_machine"] == mode_machine
    motors = first["motor_cmd"][:29]
    np.testing.assert_allclose(motors["q"], start, atol=1e-3)
    np.testing.assert_allclose(motors["kp"], 0.001 * joints.KP, rtol=1e-5)
    half = decoded(robot.tick(499))["motor_cmd"][:29]
    np.testing.assert_allclose(half["q"], joints.HOME + 0.15, atol=1e-6)
    np.testing.assert_allclose(half["kp"], 0.5 * joints.KP, rtol=1e-5)
    np.testing.assert_allclose(half["kd"], 0.5 * 8.0 + 0.5 * joints.KD, rtol=1e-5)
    assert robot.core.stop.phase is Phase.RAMPING
    robot.joint_pos = joints.HOME
    robot.tick(501)
    assert robot.core.stop.phase is Phase.STANDING


def test_fifty_hertz_targets_become_five_hundred_hertz_lines():
    robot = Standing(no_ramp())
    robot.arm()
    robot.tick(10)
    robot.ask(moved(ELBOW, joints.HOME[ELBOW] + 0.02))
    angles = [decoded(robot.tick())["motor_cmd"]["q"][ELBOW] for _ in range(10)]
    np.testing.assert_allclose(np.array(angles) - joints.HOME[ELBOW], 0.002 * np.arange(1, 11), atol=1e-6)


def test_without_interpolation_a_target_is_held():
    robot = Standing(no_ramp(interpolate="none"))
    robot.arm()
    robot.tick(10)
    robot.ask(moved(ELBOW, joints.HOME[ELBOW] + 0.02))
    angles = [decoded(robot.tick())["motor_cmd"]["q"][ELBOW] for _ in range(10)]
    np.testing.assert_allclose(np.array(angles) - joints.HOME[ELBOW], 0.02, atol=1e-6)


def test_an_env_that_asks_too_much_is_cut_and_told():
    robot = Standing(no_ramp())
    robot.arm()
    robot.tick(10)
    robot.ask(moved(ELBOW, 9.0), velocity=(5.0, 0.0, 0.0))
    sent = decoded(robot.tick(10))["motor_cmd"]["q"][ELBOW]
    assert sent - joints.HOME[ELBOW] == pytest.approx(2.0 * 0.02, abs=1e-6)  # 2 rad/s for one step
    status = robot.core.status(robot.now_s)
    assert np.flatnonzero(status["position_mask"]).tolist() == [ELBOW]
    assert np.flatnonzero(status["speed_mask"]).tolist() == [ELBOW]
    assert status["velocity_mask"].tolist() == [True, False, False]


def test_a_command_that_is_not_finite_never_came():
    robot = Standing(no_ramp())
    robot.arm()
    robot.ask(joints.HOME)
    robot.tick(10)
    assert robot.core.stop.phase is Phase.RUNNING
    for _ in range(12):  # 240 ms of rubbish are 240 ms of silence
        robot.ask(moved(ELBOW, np.nan))
        message = robot.tick(10)
        assert np.isfinite(decoded(message)["motor_cmd"]["q"]).all()
    assert robot.core.stop.phase is Phase.HOLDING


@pytest.mark.parametrize("path", ["low_level", "high_level"])
def test_silence_holds_the_arms_and_stops_the_walk(path):
    robot = Standing(no_ramp(path))
    robot.arm()
    for _ in range(20):
        robot.ask(moved(ELBOW, 1.0), velocity=(0.3, 0.0, 0.0))
        before = robot.tick(10)
    where = decoded(before)["motor_cmd"]["q"][ELBOW]
    ticks = 0
    while robot.core.stop.phase is not Phase.HOLDING:
        after = robot.tick()
        ticks += 1
    assert 90 <= ticks <= 91  # 0.2 s after the command, which was 20 ms old then
    motors = decoded(robot.tick(20))["motor_cmd"]
    assert motors["q"][ELBOW] == pytest.approx(where, abs=1e-6) and motors["kp"][ELBOW] == joints.KP[ELBOW]
    if path == "high_level":
        assert after.velocity.tolist() == [0.0, 0.0, 0.0] and not after.damp
    else:
        assert (motors["kp"][:12] == joints.KP[:12]).all()  # the walker keeps it up


def test_lasting_silence_lowers_the_pelvis_then_damps_for_good():
    robot = Standing(no_ramp())
    robot.arm()
    robot.ask(joints.HOME)
    robot.tick(10)
    robot.tick(620)
    assert robot.core.stop.phase is Phase.LOWERING
    knee = decoded(robot.tick(900))["motor_cmd"]["q"][3]
    assert knee > joints.HOME[3] + 0.5  # it crouches
    robot.tick(100)
    assert robot.core.stop.phase is Phase.DAMPING
    for _ in range(20):
        robot.ask(joints.HOME)
        assert_damping(robot.tick(10))


@pytest.mark.parametrize("phase", ["RAMPING", "STANDING", "RUNNING", "HOLDING", "LOWERING"])
def test_after_a_fault_nothing_but_damping_is_sent(phase):
    robot = Standing(ControlConfig() if phase == "RAMPING" else no_ramp())
    robot.arm()
    if phase in ("RUNNING", "HOLDING", "LOWERING"):
        robot.ask(joints.HOME)
    robot.tick({"HOLDING": 200, "LOWERING": 700}.get(phase, 5))
    assert robot.core.stop.phase is Phase[phase]
    robot.record["imu_state"]["gyroscope"][0] = 7.0
    assert_damping(robot.tick())  # in the very tick in which it is seen
    robot.record["imu_state"]["gyroscope"][0] = 0.0
    for _ in range(50):  # all is well again, and the env asks for things
        robot.ask(moved(ELBOW, 0.5), velocity=(0.3, 0.0, 0.0))
        assert_damping(robot.tick(10))
    assert robot.core.stop.reasons == ("turning: 7.0 rad/s, the limit is 6.0 rad/s",)


def test_lost_states_and_a_second_writer_damp():
    robot = Standing(no_ramp())
    robot.arm()
    robot.tick(10)
    robot.silent = True
    assert decoded(robot.tick(24))["motor_cmd"]["kp"].any()  # 48 ms without a state are allowed
    assert_damping(robot.tick(2))
    other = Standing(no_ramp())
    other.arm()
    other.tick(10)
    assert_damping(other.tick(writers=2))
    assert other.core.stop.reasons == ("second writer: 1 more on rt/lowcmd",)


def test_a_person_arms_again_and_only_then_it_moves():
    robot = Standing(ControlConfig(stop=StopConfig(ramp_s=0.5)))
    robot.arm()
    robot.core.halt(robot.now_s)
    assert_damping(robot.tick())
    robot.joint_pos = joints.HOME - 0.1
    robot.arm()
    motors = decoded(robot.tick())["motor_cmd"][:29]
    np.testing.assert_allclose(motors["q"], joints.HOME - 0.1, atol=1e-3)
    robot.tick(251)
    assert robot.core.stop.phase is Phase.STANDING


def test_a_pause_is_no_silence_and_an_orphan_is():
    robot = Standing(no_ramp())
    robot.arm()
    robot.ask(joints.HOME)
    robot.tick(10)
    robot.ask(joints.HOME, pauses=True)
    robot.tick(2000)
    assert robot.core.stop.phase is Phase.STANDING
    robot.tick(orphaned=True)
    assert robot.core.stop.phase is Phase.HOLDING


def test_the_walker_takes_over_from_a_policy_that_owned_the_legs():
    robot = Standing(no_ramp())
    robot.arm()
    everything = np.ones(29, dtype=bool)
    target = joints.HOME.copy()
    target[3] += 0.1
    for _ in range(10):
        robot.ask(target, mask=everything)
        robot.tick(10)
    assert decoded(robot.tick())["motor_cmd"]["q"][3] == pytest.approx(target[3], abs=1e-6)
    robot.tick(300)
    assert robot.core.stop.phase is Phase.HOLDING
    # The robot stands straight at home: the walker's knee goes there, not to where the policy left it.
    assert decoded(robot.tick())["motor_cmd"]["q"][3] != pytest.approx(target[3], abs=1e-3)


def test_the_env_is_told_when_to_decide_before_each_control_step():
    robot = Standing(no_ramp(lead_s=0.008))
    robot.arm()
    steps = []
    for _ in range(40):
        robot.tick()
        steps.append(robot.core.steps)
    rises = np.flatnonzero(np.diff([0, *steps])) % 10
    assert rises.tolist() == [6, 6, 6, 6]  # four ticks of 2 ms before the next control step, every 20 ms


def test_a_control_that_was_kept_from_its_ticks_damps_instead_of_going_on():
    robot = Standing(no_ramp())
    robot.arm()
    robot.tick(10)
    robot.now_s += 0.09
    robot.record["tick"] += 90
    assert decoded(robot.tick())["motor_cmd"]["kp"].any()  # 92 ms are borne
    robot.now_s += 0.1
    robot.record["tick"] += 100
    assert_damping(robot.tick())
    assert robot.core.stop.reasons == ("stalled control: no processor for 102 ms, nothing was sent meanwhile",)


def test_a_look_at_the_robot_does_not_hide_a_fault_from_what_stops_it():
    """A torn state, and in the same tick somebody asks for the preflight and for arming."""
    robot = Standing(no_ramp())
    robot.arm()
    robot.tick(10)
    torn = bytearray(layout(LowState).encode(robot.record))
    torn[300] ^= 1
    robot.core.take(bytes(torn), robot.now_s)
    assert robot.core.monitor.visible(robot.now_s)[0].startswith("bad CRC")
    with pytest.raises(NotArmedError, match="bad CRC"):
        robot.core.arm(robot.now_s, ())
    assert_damping(robot.core.tick(robot.now_s + TICK))


def test_two_states_in_one_tick_and_the_first_is_bad():
    robot = Standing(no_ramp())
    robot.arm()
    robot.tick(10)
    robot.record["tick"] += 1
    robot.record["motor_state"]["dq"][3] = np.nan
    crc.seal(robot.record)
    robot.core.take(layout(LowState).encode(robot.record), robot.now_s)
    robot.record["motor_state"]["dq"][3] = 0.0
    assert_damping(robot.tick())
    assert robot.core.stop.reasons == ("not a number: the state has an entry that is not finite",)


@pytest.mark.parametrize("path", ["low_level", "high_level"])
def test_a_battery_that_runs_low_is_no_reason_to_drop_the_robot(path):
    robot = Standing(no_ramp(path))
    robot.arm()
    robot.ask(joints.HOME)
    robot.tick(10, charge=20)
    robot.tick(1, charge=None)
    assert robot.core.stop.phase is Phase.RUNNING
    robot.tick(1, charge=19)
    assert robot.core.stop.phase is Phase.LOWERING
    assert robot.core.stop.reasons == ("low battery: 19 %, the limit is 20 %",)
    robot.ask(moved(ELBOW, 0.5))
    message = robot.tick(1001, charge=100)  # two seconds; charged again, and nobody has armed it
    assert robot.core.stop.phase is Phase.DAMPING and not message.damp  # its own controller keeps it up, if it has one
    if path == "low_level":
        assert_damping(message)


def test_a_battery_that_runs_low_ends_a_ramp_at_once():
    robot = Standing(ControlConfig())
    robot.arm()
    robot.tick(10)
    assert_damping(robot.tick(charge=5))
    never_armed = Standing(ControlConfig())
    assert never_armed.tick(charge=5) == Outgoing(None)


@pytest.mark.parametrize(("joint", "speed"), [(12, 1.0), (3, 10.0)])
def test_a_joint_that_the_walker_takes_over_does_not_leap(joint, speed):
    """The waist yaw, then the left knee: at most as fast as the env may turn it, or a joint may turn at all, rad/s."""
    robot = Standing(no_ramp())
    robot.arm()
    robot.tick(10)
    everything = np.ones(29, dtype=bool)
    for _ in range(60):
        robot.ask(moved(joint, joints.HOME[joint] + 0.6), mask=everything)
        before = decoded(robot.tick(10))["motor_cmd"]["q"][joint]
    assert before == pytest.approx(joints.HOME[joint] + 0.6, abs=1e-6)
    angles = [float(before)]
    for _ in range(100):
        robot.ask(joints.HOME)
        angles += [float(decoded(robot.tick())["motor_cmd"]["q"][joint]) for _ in range(10)]
    assert np.abs(np.diff(angles)).max() <= speed * TICK + 1e-6
    assert abs(angles[-1] - joints.HOME[joint]) < 0.2  # and in the end it is where the walker wants it


def test_words_are_written_anew_only_when_they_change():
    robot = Standing(no_ramp())
    first = robot.core.words()
    robot.arm()
    robot.tick(5)
    assert robot.core.words() == first
    same = robot.core.words()
    robot.tick(5)
    assert robot.core.words() is same
    robot.core.halt(robot.now_s)
    assert json.loads(robot.core.words()) == {"reasons": ["stopped by hand"], "findings": []}


def test_reasons_and_findings_always_fit_into_the_status_as_json():
    long = ["x" * 900] * 40
    findings = [{"name": f"finding {n}", "good": False, "words": "y" * 2000} for n in range(9)]
    text = text_of(long, findings)
    said = json.loads(text)
    assert len(text) <= TEXT_BYTES and len(said["reasons"]) == 16 and len(said["findings"]) == 9
    assert said["findings"][8]["name"] == "finding 8" and said["reasons"][0].startswith("xxx")
    assert json.loads(text_of(["tilt"], [])) == {"reasons": ["tilt"], "findings": []}


@pytest.mark.parametrize("path", ["low_level", "high_level"])
def test_an_arm_that_is_sent_into_the_trunk_stops_beside_it_and_is_named(path):
    """The left hand is sent through the belly for two seconds, at full speed."""
    goal = joints.HOME.copy()
    goal[15:22] = -0.3, -0.2, 0.9, 0.6, 0.0, 0.0, 0.0
    nearest = {}
    for margin in (0.01, 0.0):
        robot = Standing(no_ramp(path, safety=SafetyConfig(self_distance=margin)))
        robot.arm()
        distance, named = [], set()
        for _ in range(100):
            robot.ask(goal)
            sent = decoded(robot.tick(10))["motor_cmd"]["q"][:29].astype(np.float64)
            distance.append(self_distances(np.where(ARMS_ONLY, sent, joints.HOME)).min())
            named |= set(np.flatnonzero(robot.core.status(robot.now_s)["distance_mask"]).tolist())
        nearest[margin] = min(distance)
        assert named <= set(range(15, 22)) and bool(named) == (margin > 0.0)
    assert nearest[0.01] >= 0.01 - 1e-6 and nearest[0.0] < 0.0


# ---- high level


def weight(outgoing: Outgoing) -> float:
    return float(decoded(outgoing)["motor_cmd"]["q"][WEIGHT_SLOT])


def test_the_arms_are_blended_in_and_given_back():
    robot = Standing(ControlConfig(path="high_level", stop=StopConfig(ramp_s=2.0)))
    robot.arm()
    assert weight(robot.tick()) == pytest.approx(0.001, abs=1e-6)
    assert weight(robot.tick(499)) == pytest.approx(0.5, abs=1e-3)
    message = robot.tick(510)
    assert weight(message) == 1.0 and message.velocity.tolist() == [0.0, 0.0, 0.0]
    record = decoded(message)["motor_cmd"]
    assert not record["kp"][:12].any() and not record["mode"][:12].any()  # the legs are the robot's own
    robot.ask(joints.HOME, velocity=(0.3, 0.1, -0.2))
    message = robot.tick(10)
    assert message.velocity.tolist() == [0.3, 0.1, -0.2]
    robot.tick(100)
    assert robot.core.stop.phase is Phase.HOLDING
    assert weight(robot.tick(250)) == pytest.approx(0.5, abs=0.05)  # one second from 1 to 0
    message = robot.tick(2000)
    assert weight(message) == 0.0 and not message.damp  # its own controller keeps it up


def test_a_fault_on_high_level_asks_the_robot_itself_to_damp():
    robot = Standing(no_ramp("high_level"))
    robot.arm()
    robot.tick(10)
    robot.record["motor_state"]["temperature"][2, 1] = 130
    message = robot.tick()
    assert message.damp and message.velocity.tolist() == [0.0, 0.0, 0.0]
    robot.record["motor_state"]["temperature"][2, 1] = 30
    assert all(robot.tick().damp for _ in range(600))  # wished in every message, until a person arms it
    assert weight(robot.tick()) == 0.0
    robot.arm()
    assert not robot.tick().damp


def test_a_slow_control_does_not_make_a_robot_fall_that_stands_by_itself():
    stalled = Standing(no_ramp("high_level"))
    stalled.arm()
    stalled.tick(10)
    stalled.now_s += 0.2  # and the states of that time are still to be read
    message = stalled.tick()
    assert stalled.core.stop.phase is Phase.DAMPING and "stalled control" in stalled.core.stop.reasons[0]
    assert not message.damp and message.velocity.tolist() == [0.0, 0.0, 0.0]
    assert weight(stalled.tick(510)) == 0.0
    ended = Standing(no_ramp("high_level"))
    ended.arm()
    ended.tick(10)
    ended.core.halt(ended.now_s, "the control process ends")
    assert not ended.tick().damp
    tilted = Standing(no_ramp("high_level"))
    tilted.arm()
    tilted.tick(10)
    tilted.now_s += 0.2
    tilted.record["imu_state"]["gyroscope"][0] = 7.0  # something is wrong with the robot as well
    assert tilted.tick().damp


# ---- configs


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"path": "low-level"}, "low_level"),
        ({"interpolate": "own"}, "owned"),
        ({"tick_s": 0.003}, "divide 0.02"),
        ({"tick_s": 0.0}, "divide 0.02"),
        ({"lead_s": 0.02}, "lead_s"),
        ({"stall_s": 0.01}, "stall_s"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        ControlConfig(**values)


def test_an_unknown_path_is_named():
    with pytest.raises(ValueError, match="Did you mean 'high_level'"):
        make_path("highlevel", 5, 1.0)


def test_lock_step_is_one_held_message_per_step():
    config = lock_step(no_ramp())
    assert (config.ticks, config.interpolate, config.lead_s) == (1, "none", 0.0)
    assert config == replace(no_ramp(), tick_s=0.02, interpolate="none", lead_s=0.0)
