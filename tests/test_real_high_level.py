"""high_level: what goes to the robot's own controller, and the whole path against the simulated robot as a process."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bridge_process import DOMAINS, PATIENT_S, BridgeProcess, bridge_process, wait_until
from robot_processes import config_for, drive, lateness_s, phases, process_is_alive, run

from neon_sim.g1 import joints
from neon_sim.real.codec import layout, read_message
from neon_sim.real.errors import NotArmedError
from neon_sim.real.g1_robot import UnitreeRobot
from neon_sim.real.idl import unitree_go, unitree_hg
from neon_sim.real.idl.unitree_api import Request
from neon_sim.real.motion_switcher import MotionMode, serve_motion_switcher
from neon_sim.real.robot_config import RobotConfig
from neon_sim.real.robot_services import RobotServices
from neon_sim.real.rpc import RpcServer
from neon_sim.real.rpc_errors import UnknownFsmError
from neon_sim.real.safety_stop import Phase
from neon_sim.real.sport import Api, Fsm, SportClient, serve_sport
from neon_sim.real.transport import Link, LinkConfig, Reader

ELBOW = 18


def high_level(domain: int, log: Path | None = None, **stop: float) -> RobotConfig:
    """`config_for` on the path of the robot's own controller."""
    config = config_for(domain, log, **stop)
    return replace(config, control=replace(config.control, path="high_level"))


# ---- orders and questions


@pytest.fixture(scope="module")
def link() -> Iterator[Link]:
    with Link(LinkConfig(domain=next(DOMAINS))) as opened:
        yield opened


class Controller:
    """The least that the two services need of a robot: a state that goes where it is told, unless an order is lost."""

    def __init__(self) -> None:
        self.state, self.lost = int(Fsm.WALK), 0
        self.orders: list[int] = []
        self.velocities: list[list[float]] = []

    def fsm_id(self) -> int:
        return self.state

    def set_fsm_id(self, fsm_id: int) -> None:
        self.orders.append(fsm_id)
        if self.lost:
            self.lost -= 1
        else:
            self.state = fsm_id

    def set_velocity(self, velocity: list[float], duration_s: float) -> None:
        self.velocities.append(velocity)

    def check_mode(self) -> MotionMode:
        return MotionMode("0", "ai")

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith(("set_", "to_", "release_", "select_", "swing_", "stand_", "balance_", "fsm_")):
            raise AttributeError(name)
        return lambda *values: None


@contextmanager
def served(*servers: RpcServer) -> Iterator[None]:
    """Poll servers in a thread."""
    stop = threading.Event()

    def poll() -> None:
        while not stop.wait(0.002):
            for server in servers:
                server.poll()

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def asking(link: Link) -> Iterator[RobotServices]:
    services = RobotServices(link, "high_level", 1.0)
    services.start()
    try:
        yield services
    finally:
        services.close()


def test_a_service_that_hangs_delays_neither_a_velocity_nor_damping(link):
    """motion_switcher is there and never answers: each question takes its half second, and orders go on beside it."""
    controller = Controller()
    silent = serve_motion_switcher(link, controller)  # never polled
    asked = link.reader("rt/api/motion_switcher/request", Request, 64, reliable=True)
    with served(serve_sport(link, controller)), asking(link) as services:
        services.wish(np.array([0.25, 0.0, 0.0]), damp=False)
        wait_until(lambda: services.mode_error)  # the first question was given up
        asked.take()
        before = len(controller.velocities)
        wait_until(lambda: len(controller.velocities) >= before + 12)
        assert len(asked.take()) <= 8  # an order in 0.1 s, a question in 0.5 s; one behind the other they were equal
        services.wish(np.zeros(3), damp=True)
        wait_until(lambda: controller.state == Fsm.DAMP)
        assert services.mode is None
    assert controller.velocities[-1] == [0.25, 0.0, 0.0] and silent.service == "motion_switcher"


def test_damping_is_repeated_until_the_robot_says_that_it_is_damped(link):
    controller = Controller()
    controller.lost = 3
    with served(serve_sport(link, controller), serve_motion_switcher(link, controller)), asking(link) as services:
        wait_until(lambda: services.fsm == Fsm.WALK and services.mode == "ai")
        services.wish(np.zeros(3), damp=True)
        assert services.fsm is None  # what was known a moment ago does not count
        wait_until(lambda: services.fsm == Fsm.DAMP)
        assert controller.orders[:4] == [1, 1, 1, 1]
        time.sleep(0.3)  # three times the pause between orders: none is on its way any more
        controller.state = int(Fsm.WALK)  # a person stands it up by the remote control: that is not fought
        sent = len(controller.orders)
        wait_until(lambda: services.fsm == Fsm.WALK)
        assert len(controller.orders) == sent
        services.wish(np.zeros(3), damp=False)  # armed again, and the next fault
        services.wish(np.zeros(3), damp=True)
        wait_until(lambda: services.fsm == Fsm.DAMP)
        assert len(controller.orders) > sent


def test_a_robot_that_has_not_said_that_it_is_damped_is_not_known_to_walk(link):
    """All orders are lost: the state machine's 500 is one that the next DAMP ends."""
    controller = Controller()
    controller.lost = 10**6
    with served(serve_sport(link, controller), serve_motion_switcher(link, controller)), asking(link) as services:
        wait_until(lambda: services.fsm == Fsm.WALK)
        services.wish(np.zeros(3), damp=True)
        services.wish(np.zeros(3), damp=False)
        services.wish(np.zeros(3), damp=True)
        wait_until(lambda: len(controller.orders) >= 5)
        assert services.fsm is None and controller.state == Fsm.WALK


# ---- the whole path


class Witness:
    """What another computer on the robot's network sees: its body, its state machine, and who asked for what, when."""

    def __init__(self, domain: int) -> None:
        self.link = Link(LinkConfig(domain))
        self._low = self.link.reader("rt/lowstate", unitree_hg.LowState, 8)
        self._odometry = self.link.reader("rt/odommodestate", unitree_go.SportModeState)
        self._sport = self.link.reader("rt/sportmodestate", unitree_hg.SportModeState)
        self._asked = self.link.reader("rt/api/sport/request", Request, 8, reliable=True)
        self.elbow, self.pos_w, self.fsm = 0.0, np.zeros(3), -1
        self.hot_s = self.asked_s = self.damped_s = np.inf  # first seen: a winding of 130 degrees, the order, fsm 1
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def close(self) -> None:
        self._ends.set()
        self._thread.join()
        self.link.close()

    def _watch(self) -> None:
        while not self._ends.wait(0.001):
            now_s = time.monotonic()
            for state in _records(self._low, unitree_hg.LowState):
                self.elbow = float(state["motor_state"]["q"][ELBOW])
                if state["motor_state"]["temperature"].max() >= 130:
                    self.hot_s = min(self.hot_s, now_s)
            for sample in self._asked.take():
                header = read_message(Request, sample).header
                if header.identity.api_id == Api.SET_FSM_ID:
                    self.asked_s = min(self.asked_s, now_s)
            for state in _records(self._sport, unitree_hg.SportModeState):
                self.fsm = int(state["fsm_id"])
                if self.fsm == Fsm.DAMP:
                    self.damped_s = min(self.damped_s, now_s)
            for state in _records(self._odometry, unitree_go.SportModeState):
                self.pos_w = state["position"].astype(float)


def _records(reader: Reader, kind: type) -> list[np.ndarray]:
    return [layout(kind).decode(sample) for sample in reader.take()]


WALKING_ENV = """
    import sys
    from contextlib import closing
    from dataclasses import replace
    from pathlib import Path
    import numpy as np
    sys.path.insert(0, sys.argv[3])
    from neon_sim.real.errors import ControlProcessError
    from robot_processes import command, run
    from test_real_high_level import high_level
    from neon_sim.real.g1_robot import UnitreeRobot
    config = high_level(int(sys.argv[1]), Path(sys.argv[2]), silence_s=3.0, lower_after_s=0.3, lower_s=0.3)
    with closing(UnitreeRobot(config)) as robot:
        run(robot)
        print(robot._client.process.pid, flush=True)
        while True:
            robot.write(replace(command(0.4), velocity=np.array([0.3, 0.0, 0.0])))
            try:
                robot.advance()
            except ControlProcessError:  # it got no processor for half a second
                if robot._client.process.poll() is not None:
                    raise
"""


@contextmanager
def walking(bridge: BridgeProcess, seen: Witness, log: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """An env's process that walks with its left elbow up, as the witness sees; and the id of its control process."""
    arguments = [sys.executable, "-c", textwrap.dedent(WALKING_ENV), str(bridge.domain), str(log)]
    env = subprocess.Popen([*arguments, str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True)
    assert env.stdout is not None
    control = int(env.stdout.readline())
    try:
        wait_until(lambda: seen.elbow > joints.HOME[ELBOW] + 0.3)  # the arms follow
        wait_until(lambda: seen.pos_w[0] > 0.3)  # and it walks
        yield env, control
    finally:
        env.kill()
        env.wait()
        if process_is_alive(control):
            os.kill(control, signal.SIGTERM)


def assert_stands(seen: Witness) -> None:
    """Its arms given back, on its feet where it is, and nobody has asked it to damp."""
    wait_until(lambda: seen.elbow < joints.HOME[ELBOW] + 0.1)
    time.sleep(1.0)
    stopped = seen.pos_w[0]
    time.sleep(1.0)
    assert seen.fsm == Fsm.WALK and seen.pos_w[2] > 0.7 and abs(seen.pos_w[0] - stopped) < 0.1
    assert seen.asked_s == np.inf


def test_it_walks_with_its_arms_in_our_hands_and_stands_when_the_env_is_killed(tmp_path):
    with (
        bridge_process() as bridge,
        closing(Witness(bridge.domain)) as seen,
        walking(bridge, seen, tmp_path) as (env, control),
    ):
        env.kill()
        wait_until(lambda: "damping" in phases(tmp_path))  # of the control; of the robot only its arms are let go
        assert_stands(seen)
        assert process_is_alive(control)


def test_it_stands_when_the_control_is_killed(tmp_path):
    """Nobody is left to say anything: the last velocity ends by itself, and the robot takes its arms back."""
    with (
        bridge_process() as bridge,
        closing(Witness(bridge.domain)) as seen,
        walking(bridge, seen, tmp_path) as (env, control),
    ):
        os.kill(control, signal.SIGKILL)
        assert_stands(seen)
        assert env.wait(PATIENT_S) != 0  # and the env says so


@pytest.mark.parametrize("judged", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_fault_of_the_state_makes_the_robot_damp_itself_and_only_a_person_brings_it_back(tmp_path, judged):
    """It hangs in its gantry. Judged: 60 ms from the first bad state to the order on the wire, and how late we were."""
    with (
        bridge_process("--gantry") as bridge,
        closing(Witness(bridge.domain)) as seen,
        closing(UnitreeRobot(high_level(bridge.domain, tmp_path))) as robot,
    ):
        run(robot)
        bridge.tell(faults={"winding_c": 130})
        wait_until(lambda: drive(robot, 1) or robot.phase is Phase.DAMPING)
        late_s = lateness_s(robot)
        wait_until(lambda: seen.damped_s < np.inf)
        asked_s, damped_s = seen.asked_s - seen.hot_s, seen.damped_s - seen.hot_s
        print(f"first bad state to DAMP {1e3 * asked_s:.0f} ms, to fsm 1 {1e3 * damped_s:.0f} ms")
        assert asked_s < (0.06 + 2.0 * late_s if judged else PATIENT_S)
        assert robot.reasons[0].startswith("winding temperature")
        bridge.tell(faults={})
        with pytest.raises(NotArmedError, match=r"in fsm 1; wanted 500"):
            robot.arm()
        stand_up(seen)
        run(robot)  # a person has stood it up, and arms it
        assert robot.phase is Phase.RUNNING and seen.fsm == Fsm.WALK


def stand_up(seen: Witness) -> None:
    """What a person does with the remote control."""
    sport = SportClient(seen.link, PATIENT_S)
    sport.set_fsm_id(Fsm.STAND_UP)
    deadline_s = time.monotonic() + PATIENT_S
    while True:  # it takes 2 s of the robot's own time, which a busy machine makes longer
        time.sleep(0.3)
        try:
            return sport.set_fsm_id(Fsm.WALK)
        except UnknownFsmError:
            if time.monotonic() > deadline_s:
                raise
