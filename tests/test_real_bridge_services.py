"""The simulated robot's services and rt/arm_sdk, asked by our own clients over real DDS."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from bridge_process import DOMAINS, PATIENT_S

from neon_sim.g1 import joints
from neon_sim.real import rpc_errors as errors
from neon_sim.real.arm_gestures import ArmGesturesClient, Gesture
from neon_sim.real.bridge import Bridge, BridgeConfig
from neon_sim.real.bridge.arm_sdk import RELEASE_S, ArmOverlay
from neon_sim.real.bridge.control import Owner
from neon_sim.real.bridge.gestures import MOTIONS, SPEED, Arms
from neon_sim.real.bridge.locomotion import STAND_UP_S, Locomotion
from neon_sim.real.bridge.motors import DAMPING, LIMP, holding
from neon_sim.real.idl.unitree_hg import LowCmd
from neon_sim.real.low_cmd import LowCmdWriter
from neon_sim.real.motion_switcher import MotionSwitcherClient
from neon_sim.real.sport import Fsm, SportClient
from neon_sim.real.transport import wait_for
from neon_sim.real.voice import VoiceClient
from neon_sim.robot import RobotCommand
from neon_sim.sim.model import build_spec
from neon_sim.sim.sim_robot import SimRobot
from neon_sim.walker import Walker

DOMAIN = next(DOMAINS)
WALKING = BridgeConfig(domain=DOMAIN, mode="lock_step", lock_step_s=0.02)
ELBOW = joints.JOINT_INDEX["left_elbow_joint"]
WAIST = joints.JOINT_INDEX["waist_yaw_joint"]


class ArmClient:
    """A program on rt/arm_sdk, as the vendor's example: gains and targets of arms, weight in slot 29, modes at 0."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.writer = bridge.link.writer("rt/arm_sdk", LowCmd, 16)
        self.command = LowCmdWriter(5)
        self.command.mode[:] = 0
        arms = joints.GROUPS["arms"]
        self.command.q[:] = joints.HOME
        self.command.kp[arms], self.command.kd[arms] = joints.KP[arms], joints.KD[arms]
        assert wait_for(lambda: self.writer.readers() == 1, PATIENT_S)

    def step(self, weight: float, count: int = 1) -> None:
        self.command.record["motor_cmd"]["q"][29] = weight
        for _ in range(count):
            self.writer.write(self.command.encode())
            assert wait_for(self.bridge.step, PATIENT_S)


@contextmanager
def walking() -> Iterator[tuple[Bridge, ArmClient]]:
    with Bridge(WALKING) as bridge:
        yield bridge, ArmClient(bridge)


# ---- parts


def command(weight: float, **gains: float) -> np.ndarray:
    writer = LowCmdWriter(5)
    writer.q[:] = 0.5
    for name, value in gains.items():
        joint = joints.JOINT_INDEX[f"{name}_joint"]
        writer.kp[joint] = value
    writer.record["motor_cmd"]["q"][29] = weight
    return writer.record


def test_the_overlay_takes_joints_with_gains_and_never_the_legs():
    overlay = ArmOverlay()
    own = holding(joints.HOME)
    assert overlay.over(own) is own
    overlay.take(command(0.25, left_elbow=40.0, left_knee=100.0))
    assert overlay.owned.nonzero()[0].tolist() == [ELBOW]
    mixed = overlay.over(own)
    assert mixed.kp[ELBOW] == 0.75 * joints.KP[ELBOW] + 0.25 * 40.0
    assert mixed.q[ELBOW] == pytest.approx(0.75 * joints.HOME[ELBOW] + 0.25 * 0.5)
    others = np.arange(29) != ELBOW
    np.testing.assert_array_equal(mixed.kp[others], joints.KP[others])
    overlay.take(command(7.0, waist_yaw=60.0))
    assert overlay.weight == 1.0 and overlay.over(own).q[WAIST] == 0.5


def test_a_silent_clients_weight_is_gone_within_a_second():
    overlay = ArmOverlay()
    overlay.take(command(1.0, left_elbow=40.0))
    for _ in range(250):
        overlay.fade(0.002)
    assert overlay.weight == pytest.approx(1.0 - 0.5 / RELEASE_S)
    for _ in range(251):
        overlay.fade(0.002)
    assert overlay.weight == 0.0 and not overlay.owned.any()


@pytest.mark.parametrize("gesture", MOTIONS)
def test_gestures_stay_within_the_joints_and_within_speed(gesture):
    arms = Arms()
    arms.execute(gesture)
    lower, upper = joints.LOWER[joints.GROUPS["arms"]], joints.UPPER[joints.GROUPS["arms"]]
    before = arms.target
    for step in range(300):
        target = arms.think(0.02 * step, 0.02)
        assert (np.abs(target - before) <= SPEED * 0.02 + 1e-12).all()
        assert (lower <= target).all() and (target <= upper).all()
        before = target
    held = MOTIONS[gesture].hold_s is None
    assert (arms.gesture is gesture) == held
    if held:
        with pytest.raises(errors.ArmsHoldingError):
            arms.execute(Gesture.HIGH_WAVE)
        arms.execute(gesture)  # the same again ends it
    for step in range(300, 600):
        arms.think(0.02 * step, 0.02)
    np.testing.assert_allclose(arms.target, joints.HOME[joints.GROUPS["arms"]], atol=1e-9)


def test_unknown_gestures_are_refused_with_those_that_are_there():
    with pytest.raises(errors.UnknownGestureError, match="15"):
        Arms().execute(Gesture.HEART)


@pytest.fixture(scope="module")
def standing() -> SimRobot:
    robot = SimRobot(build_spec(), {}, settle_s=0.0)
    robot.reset(np.random.default_rng(0))
    return robot


def test_the_state_machine_knows_its_ways(standing):
    state, nobody = standing.read(), np.zeros(29, dtype=bool)
    locomotion = Locomotion(Walker(), Arms())
    locomotion.go_to(Fsm.DAMP, state)
    locomotion.think(state, nobody, joints.HOME)
    assert locomotion.motors is DAMPING
    for unknown in (Fsm.SIT, Fsm.LIE_TO_STAND, 9999):
        with pytest.raises(errors.UnknownFsmError):
            locomotion.go_to(unknown, state)
    with pytest.raises(errors.UnknownFsmError, match="from DAMP to WALK"):
        locomotion.go_to(Fsm.WALK, state)
    locomotion.go_to(Fsm.ZERO_TORQUE, state)
    locomotion.think(state, nobody, joints.HOME)
    assert locomotion.motors is LIMP
    locomotion.go_to(Fsm.STAND_UP, state)
    with pytest.raises(errors.UnknownFsmError, match="still standing up"):
        locomotion.go_to(Fsm.WALK, state)
    locomotion.think(replace(state, time_s=state.time_s + STAND_UP_S / 2), nobody, joints.HOME)
    np.testing.assert_allclose(locomotion.motors.q, (state.joint_pos + joints.HOME) / 2, atol=1e-9)
    locomotion.think(replace(state, time_s=state.time_s + STAND_UP_S), nobody, joints.HOME)
    locomotion.go_to(Fsm.WALK, state)
    locomotion.go_to(Fsm.SQUAT_TO_STAND_AND_BACK, state)
    assert locomotion.fsm is Fsm.SQUAT
    with pytest.raises(errors.SportUnavailableError, match="SQUAT"):
        locomotion.order_velocity((0.1, 0.0, 0.0), 1.0)
    locomotion.go_to(Fsm.SQUAT_TO_STAND_AND_BACK, state)
    assert locomotion.fsm is Fsm.STAND_UP


@pytest.mark.parametrize("down", [Fsm.DAMP, Fsm.ZERO_TORQUE])
def test_standing_up_from_a_squat_is_standing_up_from_limp_motors_too(standing, down):
    """The vendor's example damps and then asks for 706: the way to the home pose takes its two seconds."""
    state, nobody = standing.read(), np.zeros(29, dtype=bool)
    bent = replace(state, joint_pos=state.joint_pos + 0.2)
    locomotion = Locomotion(Walker(), Arms())
    locomotion.go_to(down, bent)
    locomotion.go_to(Fsm.SQUAT_TO_STAND_AND_BACK, bent)
    assert locomotion.fsm is Fsm.STAND_UP
    for share in (0.0, 0.5, 1.0):
        locomotion.think(replace(bent, time_s=bent.time_s + share * STAND_UP_S), nobody, joints.HOME)
        wanted = (1.0 - share) * bent.joint_pos + share * joints.HOME
        np.testing.assert_allclose(locomotion.motors.q, wanted, atol=1e-9)


def test_a_robot_that_lies_does_not_stand_up_and_one_that_falls_is_damped(standing):
    state, nobody = standing.read(), np.zeros(29, dtype=bool)
    lying = replace(state, gravity_b=np.array([1.0, 0.0, 0.0]))
    locomotion = Locomotion(Walker(), Arms())
    locomotion.think(lying, nobody, joints.HOME)
    assert locomotion.fsm is Fsm.DAMP and locomotion.motors is DAMPING
    with pytest.raises(errors.UnknownFsmError, match="not upright"):
        locomotion.go_to(Fsm.STAND_UP, lying)


# ---- on the wire


def test_arm_sdk_moves_the_arms_while_the_walker_stands_as_sim_robot_does():
    """Weight 1 on both arms is `SimRobot` with the arms owned: the same walker, the same physics, to the bit."""
    robot = SimRobot(build_spec(), {})
    robot.reset(np.random.default_rng(WALKING.seed))
    mask = np.zeros(29, dtype=bool)
    mask[joints.GROUPS["arms"]] = True
    with walking() as (bridge, client):
        for number in range(50):
            target = joints.HOME.copy()
            target[ELBOW] -= 0.02 * number
            client.command.q[:] = target
            client.step(1.0)
            rounded = client.command.q.astype(np.float64)
            robot.write(
                RobotCommand(rounded, mask, joints.KP, joints.KD, np.zeros(3), joints.HOME_HEIGHT),
            )
            robot.advance()
        np.testing.assert_array_equal(bridge.body.data.qpos, robot.data.qpos)
        assert bridge.body.joint_pos[ELBOW] == pytest.approx(joints.HOME[ELBOW] - 0.98, abs=0.1)
        assert bridge.body.data.qpos[2] == pytest.approx(joints.HOME_HEIGHT, abs=0.01)
    robot.close()


def test_sport_walks_and_stops_by_itself_when_the_client_says_no_more():
    with walking() as (bridge, client):
        sport = SportClient(bridge.link, PATIENT_S)
        assert sport.fsm_id() == Fsm.WALK and sport.fsm_mode() == 0
        sport.set_velocity((0.4, 0.0, 0.0), 1.0)
        assert sport.fsm_mode() == 1
        client.step(0.0, 49)
        assert bridge.locomotion.moving
        client.step(0.0, 3)
        assert not bridge.locomotion.moving
        walked = bridge.body.data.qpos[0]
        assert 0.1 < walked < 0.5
        client.step(0.0, 100)
        still = bridge.body.data.qpos[0]
        client.step(0.0, 25)
        assert abs(bridge.body.data.qpos[0] - still) < 0.02 and bridge.body.data.qpos[2] > 0.7
        assert bridge.locomotion.fsm is Fsm.WALK


def test_sport_says_what_it_cannot():
    with walking() as (bridge, _):
        sport = SportClient(bridge.link, PATIENT_S)
        for call, error in (
            (lambda: sport.set_fsm_id(Fsm.LIE_TO_STAND), errors.UnknownFsmError),
            (lambda: sport.set_balance_mode(1), errors.UnknownApiError),
            (lambda: sport.set_swing_height(0.1), errors.UnknownApiError),
            (lambda: sport.swing_height(), errors.UnknownApiError),
            (lambda: sport.set_speed_mode(1), errors.UnknownApiError),
            (lambda: sport.set_arm_task(4), errors.UnknownTaskError),
            (lambda: sport.to_internal_control(7), errors.BadParameterError),
        ):
            with pytest.raises(error):
                call()
        sport.set_balance_mode(0)
        assert sport.balance_mode() == 0
        sport.set_stand_height(0.0)
        assert sport.stand_height() == pytest.approx(0.66)
        sport.set_stand_height(2.0**32 - 1)
        assert sport.stand_height() == pytest.approx(joints.HOME_HEIGHT)


def test_releasing_the_mode_takes_sport_away_and_selecting_brings_it_back_damped():
    with walking() as (bridge, _):
        sport, switcher = SportClient(bridge.link, PATIENT_S), MotionSwitcherClient(bridge.link, PATIENT_S)
        assert switcher.check_mode().name == "ai" and sport.fsm_id() == Fsm.WALK
        switcher.release_mode()
        assert switcher.check_mode().name == "" and bridge.control.owner is Owner.LOW_CMD
        assert wait_for(lambda: sport._rpc._requests.readers() == 0, PATIENT_S)
        sport._rpc.timeout_s = 0.2
        with pytest.raises(errors.NoServerError):
            sport.fsm_id()
        with pytest.raises(errors.BadParameterError, match="parameters"):
            switcher.select_mode("advanced")
        switcher.select_mode("ai")
        assert wait_for(lambda: sport._rpc._requests.readers() == 1, PATIENT_S)
        assert SportClient(bridge.link, PATIENT_S).fsm_id() == Fsm.DAMP


def test_user_control_lends_the_motors_and_takes_them_back():
    with walking() as (bridge, client):
        sport = SportClient(bridge.link, PATIENT_S)
        sport.to_user_control()
        assert bridge.control.owner is Owner.USER_CMD
        with pytest.raises(errors.SportUnavailableError):
            sport.set_velocity((0.1, 0.0, 0.0))
        sport.to_internal_control(2)
        assert bridge.control.owner is Owner.INTERNAL and sport.fsm_id() == Fsm.WALK
        client.step(0.0, 5)
        assert bridge.body.data.qpos[2] > 0.75


def test_gestures_need_free_arms_and_a_standing_robot():
    with walking() as (bridge, client):
        gestures = ArmGesturesClient(bridge.link, PATIENT_S)
        assert {"id": 15, "name": "hands_up"} in gestures.gestures()
        client.step(0.5)
        with pytest.raises(errors.ArmsTakenError):
            gestures.execute(Gesture.HANDS_UP)
        client.step(0.0)
        gestures.execute(Gesture.HANDS_UP)
        client.step(0.0, 100)
        left = joints.JOINT_INDEX["left_shoulder_pitch_joint"]
        assert bridge.body.joint_pos[left] < -2.0 and bridge.body.data.qpos[2] > 0.75
        with pytest.raises(errors.ArmsHoldingError):
            SportClient(bridge.link, PATIENT_S).set_arm_task(2)
        SportClient(bridge.link, PATIENT_S).set_fsm_id(Fsm.DAMP)
        with pytest.raises(errors.NoGestureNowError):
            gestures.execute(Gesture.RELEASE)


def test_the_examples_way_from_damping_to_walking_works_and_each_state_is_told():
    """Damp, half a second, 706; then 500. In the gantry, as one does it the first time."""
    with Bridge(replace(WALKING, gantry=True)) as bridge:
        sport, client = SportClient(bridge.link, PATIENT_S), ArmClient(bridge)
        sport.set_fsm_id(Fsm.DAMP)
        sport.set_fsm_id(Fsm.DAMP)  # once more: nothing new
        client.step(0.0, 25)
        sport.set_fsm_id(Fsm.SQUAT_TO_STAND_AND_BACK)
        client.step(0.0, round(STAND_UP_S / 0.02) + 1)
        legs = joints.GROUPS["legs"]
        np.testing.assert_allclose(bridge.body.joint_pos[legs], joints.HOME[legs], atol=0.1)
        sport.set_fsm_id(Fsm.WALK)
        told = [event.details["fsm"] for event in bridge.events if event.name == "fsm"]
        assert told == ["damp", "stand_up", "walk"]


def test_a_text_that_cannot_be_said_is_refused():
    with walking() as (bridge, _):
        voice = VoiceClient(bridge.link, PATIENT_S)
        for text in ("good\0morning", "half a \ud83d"):
            with pytest.raises(errors.BadParameterError):
                voice.speak(text)
        voice.speak("good morning, grüß Gott")
        assert [event.name for event in bridge.events] == ["says"]


def test_the_voice_tells_what_it_says():
    with walking() as (bridge, _):
        voice = VoiceClient(bridge.link, PATIENT_S)
        voice.set_volume(40)
        voice.speak("good morning")
        voice.play("app", "1", bytes(3200))
        voice.stop("app")
        assert voice.volume() == 40
        told = [(event.name, event.details) for event in bridge.events]
        assert told == [("says", {"text": "good morning"}), ("plays", {"app": "app", "samples": 1600})]


def test_closing_ends_the_thread_of_the_services():
    with walking() as (bridge, _):
        assert any(thread.name == "services" for thread in threading.enumerate())
    bridge.close()
    assert not any(thread.name == "services" for thread in threading.enumerate())
