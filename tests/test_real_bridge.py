"""The simulated robot on the wire, core: states out, commands in, motors, watchdog, lock-step; over real DDS."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from bridge_process import DOMAINS, PATIENT_S
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.g1 import joints
from neon_sim.g1.geometry import euler_to_quat, quat_to_euler
from neon_sim.real import crc
from neon_sim.real.bridge import Bridge, BridgeConfig, Gamepad
from neon_sim.real.bridge.control import Owner
from neon_sim.real.bridge.faults import roll_pitch_yaw
from neon_sim.real.bridge.motors import DAMPING, LIMP, Motors, blended, commanded, holding, numbers, ordered
from neon_sim.real.bridge.pace import Pace
from neon_sim.real.codec import layout
from neon_sim.real.idl.unitree_go import SportModeState as OdometryState
from neon_sim.real.idl.unitree_go import WirelessController
from neon_sim.real.idl.unitree_hg import BmsState, IMUState, LowCmd, LowState, SportModeState
from neon_sim.real.low_cmd import LowCmdWriter
from neon_sim.real.transport import LinkError, wait_for
from neon_sim.robot import RobotCommand
from neon_sim.sim.model import build_spec
from neon_sim.sim.sim_robot import SimRobot

DOMAIN = next(DOMAINS)
LOCK_STEP = BridgeConfig(domain=DOMAIN, mode="lock_step", start="released", settle_s=0.0)
REAL_TIME = replace(LOCK_STEP, mode="real_time")


class Client:
    """A low-level program as the SDK's users write it, on our own message types: rt/lowstate in, rt/lowcmd out."""

    def __init__(self, bridge: Bridge, topic: str = "rt/lowcmd", mode_machine: int = 5) -> None:
        self.bridge = bridge
        self.reader = bridge.link.reader("rt/lowstate", LowState, 64, reliable=True)
        self.writer = bridge.link.writer(topic, LowCmd, 16)
        self.command = LowCmdWriter(mode_machine)
        self.command.kp[:], self.command.kd[:] = joints.KP, joints.KD
        assert wait_for(lambda: self.reader.writers() == 1 and self.writer.readers() >= 1, PATIENT_S)

    def send(self) -> None:
        self.writer.write(self.command.encode())

    def states(self) -> list[np.ndarray]:
        states = [layout(LowState).decode(sample) for sample in self.reader.take()]
        for state in states:
            crc.check(state)
        return states

    def step(self, target: np.ndarray) -> np.ndarray:
        """Send a target (29,), let its time pass, return the state at its end."""
        self.states()
        self.command.q[:] = target
        self.send()
        assert wait_for(self.bridge.step, PATIENT_S)
        assert self.reader.wait(PATIENT_S)
        return self.states()[-1]


@contextmanager
def running(config: BridgeConfig) -> Iterator[tuple[Bridge, Client]]:
    with Bridge(config) as bridge:
        yield bridge, Client(bridge)


def targets(steps: int) -> np.ndarray:
    """(steps, 29) rad: slow swings of all joints about the home pose, the same each time."""
    rng = np.random.default_rng(3)
    phase, size = rng.uniform(0.0, 6.28, 29), rng.uniform(0.02, 0.2, 29)
    return joints.HOME + size * np.sin(0.15 * np.arange(steps)[:, None] + phase)


def angles(state: np.ndarray) -> np.ndarray:
    return state["motor_state"]["q"][: joints.NUM_JOINTS]


# ---- parts


@given(st.tuples(*[st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1)]))
def test_roll_pitch_yaw_is_the_geometry_modules(euler):
    quat = euler_to_quat(np.array(euler))
    np.testing.assert_allclose(roll_pitch_yaw(quat), quat_to_euler(quat), atol=1e-9)


@given(st.floats(0.0, 1.0))
def test_blending_mixes_and_its_ends_are_exact(weight):
    own, other = holding(joints.HOME), holding(joints.HOME + 0.3, joints.KP * 0.7, joints.KD * 0.1)
    mixed = blended(own, other, np.full(29, weight))
    for field, mine, theirs in zip(mixed, own, other, strict=True):
        np.testing.assert_allclose(field, mine + weight * (theirs - mine), atol=1e-9)
    for end, order in ((0.0, own), (1.0, other)):
        for field, wanted in zip(blended(own, other, np.full(29, end)), order, strict=True):
            np.testing.assert_array_equal(field, wanted)


def test_a_motor_in_mode_0_is_off():
    command = LowCmdWriter(5)
    command.kp[:], command.kd[:], command.tau[:] = 10.0, 1.0, 2.0
    command.mode[3] = 0
    order = commanded(command.record)
    assert order.kp[3] == order.kd[3] == order.tau[3] == 0.0
    assert order.kp[4] == 10.0 and order.kd[4] == 1.0 and order.tau[4] == 2.0


def test_gamepad_bytes_are_where_clients_look():
    pad = Gamepad(lx=0.25, ly=-1.0, rx=0.5, ry=0.75, buttons=("R1", "start", "left", "A"))
    raw = pad.remote_bytes()
    assert len(raw) == 40
    assert int.from_bytes(raw[2:4], "little") == 1 << 0 | 1 << 2 | 1 << 8 | 1 << 15
    floats = np.frombuffer(raw, "<f4")
    assert (floats[1], floats[2], floats[3], floats[5]) == (0.25, 0.5, 0.75, -1.0)
    with pytest.raises(ValueError, match="Did you mean 'start'"):
        Gamepad(buttons=("strat",))


def test_deadlines_are_absolute_and_a_long_stall_is_given_up_for_lost():
    pace = Pace(0.002, now_s=10.0)
    for now_s in (10.003, 10.0041, 10.006):  # due at 10.002, 10.004, 10.006: a late one does not move the next
        pace.met(now_s)
    lateness = pace.lateness()
    assert lateness.max_us == pytest.approx(1000.0, abs=1e-3)
    assert lateness.p50_us == pytest.approx(100.0, abs=1e-3) and lateness.lost_s == 0.0 and lateness.slow == 0
    pace.met(11.008)  # due at 10.008
    pace.met(11.010)
    assert pace.lateness().slow == 1  # by more than 20 ms
    assert pace.lateness().lost_s == pytest.approx(1.0) and pace.lateness().p50_us == pytest.approx(100.0, abs=1e-3)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"mode": "realtime"}, "Did you mean 'real_time'"),
        ({"start": "walk"}, "Did you mean 'walking'"),
        ({"senses": ("cam",)}, "Valid: camera, lidar, audio"),
        ({"physics_dt": 0.005}, "must divide the tick"),
        ({"lock_step_s": 0.003}, "must be a multiple"),
        ({"watchdog_s": 0.0}, "must be positive"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, why):
    with pytest.raises(ValueError, match=why):
        BridgeConfig(**wrong)


def test_no_other_network_than_loopback_without_the_flag():
    bridge = Bridge(replace(LOCK_STEP, interface="eth0"))
    with pytest.raises(LinkError, match="allow_network=True"):
        bridge.start()
    with pytest.raises(LinkError, match="does not run"):
        bridge.step()


# ---- lock-step


def test_the_robot_follows_as_sim_robot_does():
    """The same 60 targets for all joints, 20 ms each: equal to what float32 on the wire leaves of it."""
    robot = SimRobot(build_spec(), {}, settle_s=0.0)
    robot.reset(np.random.default_rng(LOCK_STEP.seed))
    everything, still = np.ones(29, dtype=bool), np.zeros(3)
    with running(replace(LOCK_STEP, lock_step_s=0.02)) as (bridge, client):
        for number, target in enumerate(targets(60).astype(np.float32).astype(np.float64), 1):
            state = client.step(target)
            robot.write(RobotCommand(target, everything, joints.KP, joints.KD, still, joints.HOME_HEIGHT))
            robot.advance()
            expected = robot.read()
            assert state["tick"] == 1000 + 20 * number
            np.testing.assert_array_equal(angles(state), expected.joint_pos.astype(np.float32))
            motors, imu = state["motor_state"][:29], state["imu_state"]
            np.testing.assert_array_equal(motors["dq"], expected.joint_vel.astype(np.float32))
            np.testing.assert_array_equal(motors["tau_est"], expected.joint_torque.astype(np.float32))
            np.testing.assert_array_equal(imu["quaternion"], expected.quat_wxyz.astype(np.float32))
            np.testing.assert_array_equal(imu["gyroscope"], expected.gyro.astype(np.float32))
        np.testing.assert_array_equal(bridge.body.data.qpos, robot.data.qpos)
    robot.close()


def test_torque_is_what_the_message_says():
    """kp (q - q_now) + kd (dq - dq_now) + tau, with each term alone and all together, at the motor that is asked."""
    with running(replace(LOCK_STEP, gantry=True)) as (bridge, client):
        elbow = joints.JOINT_INDEX["left_elbow_joint"]
        for kp, kd, q, dq, tau in ((0, 0, 0, 0, 1.5), (20, 0, 1.4, 0, 0), (0, 2, 0, 0.5, 0), (10, 1, 1.2, -0.3, 0.7)):
            now_q, now_dq = float(bridge.body.joint_pos[elbow]), float(bridge.body.joint_vel[elbow])
            command = client.command
            command.kp[elbow], command.kd[elbow], command.dq[elbow], command.tau[elbow] = kp, kd, dq, tau
            target = joints.HOME.copy()
            target[elbow] = q
            state = client.step(target)
            wanted = kp * (np.float32(q) - now_q) + kd * (np.float32(dq) - now_dq) + np.float32(tau)
            assert state["motor_state"]["tau_est"][elbow] == pytest.approx(wanted, abs=1e-4)
            assert state["tick"] == 1000 + 2 * bridge.body.ticks


def test_time_passes_with_commands_only_and_the_state_is_repeated_for_latecomers():
    with running(LOCK_STEP) as (bridge, client):
        client.states()
        for _ in range(3):
            assert bridge.step() is False
        ticks = [int(state["tick"]) for state in client.states()]
        assert ticks == [1000] * 3 and bridge.body.ticks == 0
        for _ in range(5):
            client.send()
        assert wait_for(lambda: bridge.control.wait(0.0), PATIENT_S)
        time.sleep(0.05)
        assert sum(bridge.step() for _ in range(6)) == 5  # each in its turn, none skipped
        assert [int(state["tick"]) for state in client.states()] == [1002, 1004, 1006, 1008, 1010, 1010]


@pytest.mark.parametrize("seed", [0, 1])
def test_same_seed_same_bits(seed):
    ends = []
    for _ in range(2):
        with running(replace(LOCK_STEP, seed=seed)) as (bridge, client):
            for target in targets(10):
                client.step(target)
            ends.append(bridge.body.data.qpos.copy())
    np.testing.assert_array_equal(*ends)


def test_commands_that_the_robot_would_ignore_are_ignored_and_counted():
    with running(LOCK_STEP) as (bridge, client):
        good = client.command.encode()
        torn = bytearray(good)
        torn[40] ^= 1
        for sample in (bytes(torn), LowCmdWriter(4).encode()):
            client.writer.write(sample)
        client.command.q[7] = np.nan
        client.send()
        client.command.q[7], client.command.record["mode_pr"] = 0.0, 2
        client.send()
        reader = bridge.control.readers[Owner.LOW_CMD]
        wait_for(lambda: bridge.step() or sum(reader.refused.values()) >= 4, PATIENT_S)
        assert reader.accepted == 0 and bridge.body.ticks == 0
        assert reader.refused == {"crc": 1, "mode_machine": 1, "not_finite": 1, "mode_pr": 1}
        named = {event.details["reason"] for event in bridge.events if event.name == "refuses"}
        assert named == set(reader.refused)


def test_commands_for_motors_a_and_b_are_taken_as_pitch_and_roll_and_that_is_told_once():
    """As the vendor's low-level example goes on after six seconds: the elbow still follows, and nothing is damped."""
    with running(replace(LOCK_STEP, gantry=True)) as (bridge, client):
        elbow = joints.JOINT_INDEX["left_elbow_joint"]
        target = joints.HOME.copy()
        target[elbow] -= 0.3
        client.step(joints.HOME)
        client.command.record["mode_pr"] = 1
        for _ in range(3):
            client.step(target)
        reader = bridge.control.reader
        assert reader.accepted == 4 and reader.a_b == 3 and not reader.refused
        assert bridge.body.data.ctrl[elbow] == np.float32(target[elbow]) and not bridge.control.damped
        (told,) = [event for event in bridge.events if event.name == "a_b_taken_as_pitch_roll"]
        assert told.details == {"topic": "rt/lowcmd", "motors": ("ankles", "waist")}


def test_numbers_are_the_fields_of_every_motor():
    """Motor 3's kp is 33, and so on; a record of the wire is read as one of a writer."""
    record = LowCmdWriter(5).record
    motors = record["motor_cmd"]
    for place, name in enumerate(("q", "dq", "tau", "kp", "kd")):
        motors[name] = 10.0 * np.arange(35) + place
    motors["mode"], motors["reserve"] = 1, 2**32 - 1
    crc.seal(record)
    for command in (record, layout(LowCmd).decode(layout(LowCmd).encode(record))):
        assert numbers(command).tolist() == [[10.0 * i + k for k in range(5)] for i in range(35)]
        order = ordered(command)
        for name in Motors._fields:
            np.testing.assert_array_equal(getattr(order, name), motors[name][:29])


def test_low_commands_do_nothing_while_the_robots_own_program_runs():
    with running(replace(LOCK_STEP, start="walking")) as (bridge, client):
        for _ in range(3):
            client.send()
        reader = bridge.control.readers[Owner.LOW_CMD]
        assert wait_for(lambda: bridge.step() or reader.refused["not_in_control"] == 3, PATIENT_S)
        assert bridge.body.ticks == 0
        bridge.press(Gamepad(buttons=("L2", "R2")))
        assert bridge.events[-1].details == {"owner": "low_cmd"}
        assert client.step(joints.HOME)["tick"] == 1002


# ---- real time


def test_states_come_out_at_every_tick_with_all_that_a_client_looks_for():
    with running(REAL_TIME) as (bridge, client):
        bridge.press(Gamepad(ly=1.0, buttons=("A",)))
        client.states()
        states = []
        for _ in range(60):
            assert bridge.step()
            states += client.states()
        assert wait_for(lambda: states.extend(client.states()) or len(states) >= 60, PATIENT_S)
        np.testing.assert_array_equal(np.diff([int(state["tick"]) for state in states]), 2)
        last = states[-1]
        assert last["tick"] == 1000 + 2 * bridge.body.ticks and last["mode_machine"] == 5 and last["mode_pr"] == 0
        np.testing.assert_array_equal(angles(last), bridge.body.joint_pos.astype(np.float32))
        assert last["wireless_remote"].tobytes() == bridge.states.gamepad.remote_bytes()
        np.testing.assert_allclose(last["imu_state"]["rpy"], quat_to_euler(bridge.body.pelvis_quat), atol=1e-6)
        assert not last["motor_state"]["mode"][29:].any() and last["motor_state"]["mode"][:29].all()
        assert (last["motor_state"]["temperature"][:29] == 25).all()
        assert bridge.lateness().max_us >= bridge.lateness().p50_us


def test_the_other_topics_carry_the_same_body():
    with Bridge(replace(REAL_TIME, gantry=True, start="walking")) as bridge:
        types = {
            "rt/secondary_imu": IMUState,
            "rt/odommodestate": OdometryState,
            "rt/sportmodestate": SportModeState,
            "rt/lf/bmsstate": BmsState,
            "rt/lf/lowstate": LowState,
            "rt/lf/odommodestate": OdometryState,
            "rt/wirelesscontroller": WirelessController,
        }
        readers = {topic: bridge.link.reader(topic, kind, reliable=True) for topic, kind in types.items()}
        assert wait_for(lambda: all(reader.writers() for reader in readers.values()), PATIENT_S)
        for _ in range(50):
            bridge.step()
        assert all(reader.wait(PATIENT_S) for reader in readers.values())
        got = {topic: layout(kind).decode(readers[topic].newest()) for topic, kind in types.items()}
        odometry = got["rt/odommodestate"]
        np.testing.assert_allclose(odometry["position"], bridge.body.data.qpos[:3], atol=1e-6)
        assert odometry["stamp"]["nanosec"] == 100_000_000 and odometry["body_height"] == pytest.approx(0.793, abs=2e-3)
        torso = got["rt/secondary_imu"]  # hanging still: gravity is all that it feels
        assert np.linalg.norm(torso["accelerometer"]) == pytest.approx(9.81, abs=0.3)
        assert got["rt/sportmodestate"]["fsm_id"] == 500 and got["rt/lf/bmsstate"]["soc"] == 100
        assert got["rt/lf/lowstate"]["tick"] == 1100


def test_silence_damps_the_robot_and_commands_bring_it_back():
    """On the watchdog's own clock, told from outside: 0.1 s of silence are borne, more are not."""
    with running(REAL_TIME) as (bridge, client):
        control = bridge.control
        assert control.motors(5.0) is DAMPING  # nobody has commanded anything yet
        client.send()
        assert wait_for(lambda: control.wait(0.0), PATIENT_S)
        control.poll(10.0)
        assert control.use_newest()
        assert control.motors(10.099).kp[0] == 100.0 and not control.damped
        assert control.motors(10.101) is DAMPING and control.damped
        assert control.motors(12.0) is DAMPING
        (event,) = [event for event in bridge.events if event.name == "watchdog"]
        assert event.details["silence_s"] == pytest.approx(0.101)
        client.send()
        assert wait_for(lambda: control.wait(0.0), PATIENT_S)
        control.poll(13.0)
        assert control.use_newest() and control.motors(13.0).kp[0] == 100.0 and not control.damped


def test_a_client_that_stops_is_damped_and_not_before():
    """Its last command is older than the watchdog's 0.1 s then; how much later is judged where time is (slow tests)."""
    with running(replace(REAL_TIME, gantry=True)) as (bridge, client):
        control = bridge.control
        for _ in range(20):
            client.send()
            bridge.step()
        assert wait_for(lambda: bridge.step() and control.reader.accepted == 20, PATIENT_S)
        assert wait_for(lambda: bridge.step() and control.damped, PATIENT_S)
        (event,) = [event for event in bridge.events if event.name == "watchdog"][-1:]
        assert 0.1 < event.details["silence_s"] < PATIENT_S
        assert (bridge.body.model.actuator_gainprm[:29, 0] == 0.0).all()
        np.testing.assert_array_equal(bridge.body.model.actuator_biasprm[:29, 2], -8.0)


def test_a_topic_is_filled_from_the_moment_on_at_which_somebody_hears_it():
    """And for nobody nothing is made: the record of a topic without readers stays as it was."""
    with Bridge(replace(REAL_TIME, gantry=True)) as bridge:
        for _ in range(5):
            bridge.step()
        assert not bridge.states._imu["quaternion"].any()
        reader = bridge.link.reader("rt/secondary_imu", IMUState, 64, reliable=True)
        assert wait_for(lambda: reader.writers() and bridge.states._imu_writer.readers(), PATIENT_S)
        for _ in range(5):
            bridge.step()
        time.sleep(0.1)
        samples = [layout(IMUState).decode(sample) for sample in reader.take()]
        assert len(samples) == 5 and all(sample["temperature"] == 25 for sample in samples)
        assert np.linalg.norm(samples[0]["quaternion"]) == pytest.approx(1.0, abs=1e-6)
        reader.close()
        assert wait_for(lambda: not bridge.states._imu_writer.readers(), PATIENT_S)


def test_the_gantry_holds_until_it_lets_down():
    with running(replace(REAL_TIME, gantry=True)) as (bridge, _):
        for _ in range(100):
            bridge.step()
        assert bridge.body.hangs and bridge.body.data.qpos[2] == pytest.approx(0.793, abs=2e-3)
        bridge.hang(False)
        for _ in range(300):
            bridge.body.tick()
        assert not bridge.body.hangs and bridge.body.data.qpos[2] < 0.75  # damped motors do not hold it up
    with Bridge(LOCK_STEP) as bridge, pytest.raises(ValueError, match="no gantry"):
        bridge.hang(False)


def test_orders_for_motors_are_plain():
    assert isinstance(LIMP, Motors) and not any(field.any() for field in LIMP)
    assert (DAMPING.kd == 8.0).all() and not (DAMPING.kp.any() or DAMPING.tau.any())
