"""Services over real DDS on loopback: calls, answers, every way to fail, and the four services of the robot."""

import json
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from bridge_process import DOMAINS, PATIENT_S
from cyclonedds.idl import IdlStruct

from neon_sim.real import crc
from neon_sim.real import rpc_errors as errors
from neon_sim.real.arm_gestures import ArmGesturesClient, Gesture, serve_arm_gestures
from neon_sim.real.codec import layout
from neon_sim.real.idl.unitree_api import (
    Request,
    RequestHeader,
    RequestIdentity,
    RequestLease,
    RequestPolicy,
    Response,
    ResponseHeader,
    ResponseStatus,
)
from neon_sim.real.idl.unitree_go import WirelessController
from neon_sim.real.idl.unitree_hg import LowCmd, LowState
from neon_sim.real.low_cmd import LowCmdWriter
from neon_sim.real.motion_switcher import MotionMode, MotionSwitcherClient, serve_motion_switcher
from neon_sim.real.robot_services import RobotServices
from neon_sim.real.rpc import QUEUE, Reply, RpcClient, RpcServer
from neon_sim.real.sport import Fsm, SportClient, serve_sport
from neon_sim.real.transport import Link, LinkConfig, LinkError, wait_for
from neon_sim.real.voice import CHUNK_BYTES, VoiceClient, chunks, serve_voice

DOMAIN, OTHER_DOMAIN = next(DOMAINS), next(DOMAINS)


@pytest.fixture(scope="module")
def link() -> Iterator[Link]:
    with Link(LinkConfig(domain=DOMAIN)) as opened:
        yield opened


@contextmanager
def served(server: RpcServer) -> Iterator[list[BaseException]]:
    """Poll a server in a thread, as a bridge would between two steps; yields what its handlers raised."""
    stop, raised = threading.Event(), []

    def run() -> None:
        while not stop.is_set():
            try:
                if server.wait(0.02):
                    server.poll()
            except KeyError as error:
                raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        stop.set()
        thread.join()


# ---- the link


@pytest.mark.parametrize("interface", ["eth0", "192.168.123.161", "0.0.0.0", "::1", "wlan0", "lo1", ""])
def test_no_other_network_than_loopback_without_the_flag(interface):
    with pytest.raises(LinkError, match="allow_network=True"):
        Link(LinkConfig(interface=interface))


def test_an_interface_that_is_not_there_is_named():
    with pytest.raises(LinkError, match=r"'nosuch0'.*ip addr"):
        Link(LinkConfig(domain=OTHER_DOMAIN, interface="nosuch0", allow_network=True))


@pytest.mark.parametrize("domain", [-1, 233])
def test_domains_without_ports_are_refused(domain):
    with pytest.raises(ValueError, match=r"0\.\.232"):
        LinkConfig(domain=domain)


def test_a_second_link_on_a_domain_is_refused_and_a_closed_one_leaves_no_trace(link):
    with pytest.raises(LinkError, match="already open"):
        Link(LinkConfig(domain=DOMAIN))
    for _ in range(2):
        other = Link(LinkConfig(domain=OTHER_DOMAIN, interface="127.0.0.1"))
        writer, reader = other.writer("rt/lowcmd", LowCmd), other.reader("rt/lowcmd", LowCmd)
        assert wait_for(lambda w=writer, r=reader: w.readers() == 1 and r.writers() == 1, PATIENT_S)
        other.close()
        other.close()
        assert writer.readers() == reader.writers() == 0
        for use in (lambda w=writer: w.write(bytes(8)), reader.take, lambda o=other: o.reader("rt/lowcmd", LowCmd)):
            with pytest.raises(LinkError, match="closed"):
                use()


def test_samples_arrive_whole_and_in_order_and_the_newest_is_the_newest(link):
    writer, reader = link.writer("rt/lowstate", LowState, 8), link.reader("rt/lowstate", LowState, 8, reliable=True)
    assert wait_for(lambda: writer.readers() == 1 and reader.writers() == 1, PATIENT_S)
    assert not reader.wait(0.0)
    record = layout(LowState).zeros()
    for tick in range(20):
        record["tick"] = tick
        writer.write(layout(LowState).encode(record))
    assert reader.wait(PATIENT_S)
    ticks = [int(layout(LowState).decode(sample)["tick"]) for sample in reader.take()]
    assert ticks == list(range(12, 20))  # eight are kept, the oldest made room
    record["tick"] = 77
    writer.write(layout(LowState).encode(record))
    assert reader.wait(PATIENT_S)
    assert layout(LowState).decode(reader.newest())["tick"] == 77
    assert reader.newest() is None


def test_a_second_writer_is_seen(link):
    reader, first = link.reader("rt/lowcmd", LowCmd), link.writer("rt/lowcmd", LowCmd)
    assert wait_for(lambda: reader.writers() == 1, PATIENT_S)
    second = link.writer("rt/lowcmd", LowCmd)
    assert wait_for(lambda: reader.writers() == 2, PATIENT_S)
    second.close()
    assert wait_for(lambda: reader.writers() == 1, PATIENT_S)
    first.close()


def test_a_dataclass_that_fills_no_whole_word_arrives(link):
    writer, reader = (
        link.writer("rt/wirelesscontroller", WirelessController),
        link.reader("rt/wirelesscontroller", WirelessController),
    )
    assert wait_for(lambda: writer.readers() == 1, PATIENT_S)
    writer.send(WirelessController(0.5, -0.5, 0.0, 1.0, 0x8001))
    assert reader.wait(PATIENT_S)
    assert layout(WirelessController).decode(reader.newest())["keys"] == 0x8001


OTHER_PROCESS = """
    import sys, time
    from neon_sim.real.idl.unitree_hg import LowCmd
    from neon_sim.real.low_cmd import LowCmdWriter
    from neon_sim.real.transport import Link, LinkConfig
    with Link(LinkConfig(domain=int(sys.argv[1]))) as link:
        writer, command = link.writer("rt/arm_sdk", LowCmd, 100), LowCmdWriter(5)
        assert link.reader("rt/go", LowCmd).wait(60.0)
        while not writer.readers():
            time.sleep(0.002)
        for step in range(100):
            command.q[:] = step
            writer.write(command.encode())
            time.sleep(0.002)
        sys.stdin.read()  # what got lost on a busy machine is asked for again: stay until all was heard
"""


def test_another_process_is_heard(link):
    reader = link.reader("rt/arm_sdk", LowCmd, 100, reliable=True)
    go = link.writer("rt/go", LowCmd)
    line = [sys.executable, "-c", textwrap.dedent(OTHER_PROCESS), str(DOMAIN)]
    heard: list[bytes] = []
    with subprocess.Popen(line, stdin=subprocess.PIPE) as other:
        assert wait_for(reader.writers, PATIENT_S)  # it could be heard from here on: what is written earlier is lost
        while other.poll() is None and not heard:
            go.write(LowCmdWriter(5).encode())
            time.sleep(0.01)
            heard.extend(reader.take())
        all_heard = wait_for(lambda: heard.extend(reader.take()) or len(heard) >= 100, PATIENT_S)
    assert other.returncode == 0
    assert all_heard, f"{len(heard)} of 100 were heard"
    commands = [layout(LowCmd).decode(sample) for sample in heard]
    np.testing.assert_array_equal([c["motor_cmd"]["q"][28] for c in commands], np.arange(100))


# ---- calls


def reverse(parameter: dict, binary: bytes) -> Reply:
    return Reply({"data": parameter}, binary[::-1])


def breaks(parameter: dict, binary: bytes) -> Reply:
    raise KeyError("a bug")


def refuses(parameter: dict, binary: bytes) -> Reply:
    raise errors.UnknownFsmError("no")


def refuses_oddly(parameter: dict, binary: bytes) -> Reply:
    raise errors.RpcError("no", 9876)


def waits(parameter: dict, binary: bytes) -> Reply:
    time.sleep(0.3)
    return Reply({"late": True})


HANDLERS = {7001: reverse, 7002: breaks, 7003: refuses, 7004: refuses_oddly, 7005: waits}


def test_json_and_bytes_go_there_and_back(link):
    with served(RpcServer(link, "echo", HANDLERS, "1.2.3.4")):
        client = RpcClient(link, "echo", PATIENT_S)
        sent = {"text": "Grüße", "numbers": [1, 2.5, None], "deep": {"yes": True}}
        reply = client.call(7001, sent, b"\x00\x01\xff")
        assert reply == Reply({"data": sent}, b"\xff\x01\x00")
        big = bytes(range(256)) * 375
        assert client.call(7001, {}, big).binary == big[::-1]
        assert client.version() == "1.2.3.4"


@pytest.mark.parametrize(
    ("api_id", "error", "code"),
    [
        (7002, errors.ServerFailedError, 3202),
        (7003, errors.UnknownFsmError, 7302),
        (7004, errors.RpcError, 9876),
        (7999, errors.UnknownApiError, 3203),
    ],
)
def test_what_the_server_says_comes_as_an_exception(link, api_id, error, code):
    with served(RpcServer(link, "errors", HANDLERS, "1")) as raised:
        client = RpcClient(link, "errors", PATIENT_S)
        with pytest.raises(error, match=rf"errors/{api_id}: .*\(status {code}\)") as caught:
            client.call(api_id)
        assert type(caught.value) is error and caught.value.code == code
        assert client.call(7001).data == {"data": {}}  # the server goes on
    assert [type(item) for item in raised] == ([KeyError] if api_id == 7002 else [])  # and its owner saw the bug


def test_nobody_there_and_nobody_answering_are_told_apart(link):
    with pytest.raises(errors.NoServerError, match="domain and interface"):
        RpcClient(link, "nowhere", timeout_s=0.1).call(7001)
    server, client = RpcServer(link, "deaf", HANDLERS, "1"), RpcClient(link, "deaf", timeout_s=0.2)
    assert wait_for(lambda: client._requests.readers() and client._responses.writers(), PATIENT_S)
    start = time.monotonic()
    with pytest.raises(errors.RpcTimeoutError, match=r"deaf/7001 after 0\.2 s"):
        client.call(7001)
    assert 0.2 <= time.monotonic() - start < PATIENT_S
    assert server.poll() == 1


def test_a_late_answer_is_not_taken_for_the_next_one(link):
    with served(RpcServer(link, "slow", HANDLERS, "1")):
        client = RpcClient(link, "slow", PATIENT_S)
        client.call(7001)  # they have found each other: what is late from here on is the answer
        client.timeout_s = 0.05
        with pytest.raises(errors.RpcTimeoutError):
            client.call(7005)
        client.timeout_s = PATIENT_S
        assert client.call(7001, {"n": 2}).data == {"data": {"n": 2}}


def test_two_clients_each_get_their_own_answer(link):
    with served(RpcServer(link, "both", HANDLERS, "1")):
        clients = [RpcClient(link, "both", PATIENT_S) for _ in range(2)]
        got: list[list[int]] = [[], []]

        def ask(which: int) -> None:
            for n in range(40):
                got[which].append(clients[which].call(7001, {"n": 1000 * which + n}).data["data"]["n"])

        threads = [threading.Thread(target=ask, args=(which,)) for which in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert got == [list(range(40)), list(range(1000, 1040))]


def test_a_call_without_an_answer_is_carried_out(link):
    seen = []
    server = RpcServer(link, "quiet", {7001: lambda p, b: seen.append(p) or Reply()}, "1")
    listener = link.reader("rt/api/quiet/response", Response, 8, reliable=True)
    RpcClient(link, "quiet", PATIENT_S).tell(7001, {"n": 3})
    assert wait_for(server.poll, PATIENT_S)
    assert seen == [{"n": 3}]
    assert not listener.wait(0.1)


def test_a_flood_is_bounded(link):
    seen = []
    server = RpcServer(link, "flood", {7001: lambda p, b: seen.append(p["n"]) or Reply()}, "1")
    client = RpcClient(link, "flood", PATIENT_S)
    for n in range(3 * QUEUE):
        client.tell(7001, {"n": n})
    assert server.wait(PATIENT_S)
    assert server.poll() <= QUEUE
    assert seen[-1] == 3 * QUEUE - 1  # the newest is kept


def raw_request(parameter: str) -> IdlStruct:
    return Request(RequestHeader(RequestIdentity(5, 7001), RequestLease(0), RequestPolicy(0, False)), parameter, [])


@pytest.mark.parametrize(
    ("parameter", "code"),
    [
        ("", 0), ("{}", 0), ("{", 3204), ("[1]", 3204), ("7", 3204), ('{"a": NaN', 3204), ("[" * 99_999, 3204),
        ('{"a": ' + "9" * 5000 + "}", 3204),  # beyond what Python reads as an integer
    ],
)  # fmt: skip
def test_parameters_that_are_no_object_are_refused(link, parameter, code):
    server = RpcServer(link, "raw", HANDLERS, "1")
    writer, reader = link.writer("rt/api/raw/request", Request), link.reader("rt/api/raw/response", Response, 8, True)
    assert wait_for(lambda: writer.readers() == 1 and reader.writers() == 1, PATIENT_S)
    writer.send(raw_request(parameter))
    assert wait_for(server.poll, PATIENT_S) and reader.wait(PATIENT_S)
    response = Response.deserialize(reader.newest())
    assert (response.header.identity.id, response.header.status.code) == (5, code)


def test_a_torn_sample_does_not_leave(link):
    writer = link.writer("rt/api/torn/request", Request)
    with pytest.raises(LinkError, match="refused the sample"):
        writer.write(raw_request("{}").serialize()[:24])


def test_a_request_that_cannot_be_read_is_dropped_and_the_next_is_served(link, caplog):
    server = RpcServer(link, "torn", HANDLERS, "1")
    writer = link.writer("rt/api/torn/request", Request, 4)
    reader = link.reader("rt/api/torn/response", Response, 8, True)
    assert wait_for(lambda: writer.readers() == 1 and reader.writers() == 1, PATIENT_S)
    whole = raw_request("{}").serialize()
    whole += bytes(-len(whole) % 4)
    writer.write(whole.replace(b"{}", b"\xff\xfe"))  # no UTF-8
    writer.write(whole)
    assert wait_for(lambda: server.poll() and reader.wait(0.1), PATIENT_S)
    assert Response.deserialize(reader.newest()).header.status.code == 0
    assert "dropped a request" in caplog.text


def test_every_status_has_one_class():
    classes = errors.RpcError.__subclasses__()
    codes = [error.code for error in classes]
    assert len(set(codes)) == len(codes) >= 14
    for error in classes:
        assert type(errors.error_for(error.code, "x")) is error
    assert type(errors.error_for(4242, "x")) is errors.RpcError
    assert type(errors.error_for(3206, "x")) is errors.LeaseDeniedError


def test_a_control_goes_on_asking_after_an_answer_that_cannot_be_read(link):
    """A thread that died of it would never ask a robot on high_level to damp."""
    services = RobotServices(link, "low_level", 1.0)
    writer = link.writer("rt/api/motion_switcher/response", Response, 4)
    requests = link.reader("rt/api/motion_switcher/request", Request, 8, reliable=True)
    services.start()
    try:
        assert requests.wait(PATIENT_S) and requests.take()
        header = ResponseHeader(RequestIdentity(1, 1001), ResponseStatus(0))
        torn = Response(header, "{}", []).serialize()
        torn += bytes(-len(torn) % 4)
        writer.write(torn.replace(b"{}", b"\xff\xfe"))  # no UTF-8
        assert requests.wait(PATIENT_S) and services.mode is None  # it asks again
        assert services._threads[0].is_alive()
    finally:
        services.close()


# ---- the robot's services


class Standing:
    """A locomotion that remembers what it was told: the least that `Sport` asks for."""

    def __init__(self) -> None:
        self.told: list[tuple] = []
        self.state = int(Fsm.WALK)

    def fsm_id(self):
        return self.state

    def fsm_mode(self):
        return 3

    def balance_mode(self):
        return 1

    def swing_height(self):
        return 0.08

    def stand_height(self):
        return 0.75

    def set_fsm_id(self, fsm_id):
        if fsm_id not in set(Fsm):
            raise errors.UnknownFsmError(str(fsm_id))
        self.state = fsm_id

    def __getattr__(self, name):
        if not name.startswith(("set_", "to_")):
            raise AttributeError(name)
        return lambda *values: self.told.append((name, *values))


def test_sport(link):
    sport = Standing()
    with served(serve_sport(link, sport)):
        client = SportClient(link, PATIENT_S)
        assert client.fsm_id() == 500 and client.fsm_mode() == 3 and client.balance_mode() == 1
        assert client.swing_height() == 0.08 and client.stand_height() == 0.75
        client.set_fsm_id(Fsm.DAMP)
        assert client.fsm_id() == 1
        with pytest.raises(errors.UnknownFsmError):
            client.set_fsm_id(12345)
        client.set_velocity(np.array([0.25, -0.5, 0.125]), 0.5)
        client.set_balance_mode(0)
        client.set_swing_height(0.1)
        client.set_stand_height(0.5)
        client.set_arm_task(2)
        client.set_speed_mode(1)
        client.to_user_control()
        client.to_internal_control(1)
        assert sport.told == [
            ("set_velocity", [0.25, -0.5, 0.125], 0.5),
            ("set_balance_mode", 0),
            ("set_swing_height", 0.1),
            ("set_stand_height", 0.5),
            ("set_arm_task", 2),
            ("set_speed_mode", 1),
            ("to_user_control",),
            ("to_internal_control", 1),
        ]


@pytest.mark.parametrize("duration_s", [0.0, -1.0, 1.01, 864000.0, float("nan")])
def test_a_velocity_that_outlives_its_program_is_refused(link, duration_s):
    with pytest.raises(ValueError, match="repeat the call"):
        SportClient(link, PATIENT_S).set_velocity((0.1, 0.0, 0.0), duration_s)


@pytest.mark.parametrize(
    "parameter",
    [{}, {"velocity": [1, 2], "duration": 1}, {"velocity": [1, 2, "3"], "duration": 1}, {"velocity": [0, 0, 0]}],
)
def test_a_velocity_that_is_none_is_refused_by_the_server(link, parameter):
    sport = Standing()
    with served(serve_sport(link, sport)), pytest.raises(errors.BadParameterError):
        RpcClient(link, "sport", PATIENT_S).call(7105, parameter)
    assert sport.told == []


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**400, True, "1", None])
def test_what_does_not_fit_into_a_float_is_no_number_and_the_service_goes_on(link, value):
    sport = Standing()
    with served(serve_sport(link, sport)) as raised:
        client = RpcClient(link, "sport", PATIENT_S)
        with pytest.raises(errors.BadParameterError):
            client.call(7105, {"velocity": [value, 0, 0], "duration": 1})
        with pytest.raises(errors.BadParameterError):
            client.call(7101, {"data": value})
        assert sport.told == [] and client.call(7001).data == {"data": 500} and raised == []


@pytest.mark.parametrize("value", [float("nan"), 10**400, True, "500"])
def test_an_answer_that_is_no_number_is_a_wrong_reply(link, value):
    server = RpcServer(link, "sport", {7001: lambda p, b: Reply({"data": value})}, "1")
    with served(server), pytest.raises(errors.WrongReplyError, match=r'wanted \{"data": number\}'):
        SportClient(link, PATIENT_S).fsm_id()


def test_a_posted_order_waits_for_nobody(link):
    """Not for a server, and not for the answer of one that thinks; no later call takes that answer for its own."""
    sport, client = Standing(), SportClient(link, PATIENT_S)
    with pytest.raises(errors.NoServerError):
        client.post_fsm_id(Fsm.DAMP)
    server = serve_sport(link, sport)
    assert wait_for(client._rpc._met, PATIENT_S)
    start_s = time.monotonic()
    client.post_velocity((0.25, 0.0, 0.0), 0.5)
    client.post_fsm_id(Fsm.DAMP)
    assert time.monotonic() - start_s < 10.0  # a call that nobody answers would have waited for a minute
    with pytest.raises(ValueError, match="repeat the call"):
        client.post_velocity((0.25, 0.0, 0.0), 1.5)
    with served(server):
        assert client.fsm_id() == Fsm.DAMP and sport.told == [("set_velocity", [0.25, 0.0, 0.0], 0.5)]


class Switch:
    """A motion switcher with one program."""

    def __init__(self) -> None:
        self.name = "ai"

    def check_mode(self) -> MotionMode:
        return MotionMode("0", self.name)

    def select_mode(self, name: str) -> None:
        self.name = name

    def release_mode(self) -> None:
        self.name = ""


def test_motion_switcher(link):
    with served(serve_motion_switcher(link, Switch())):
        client = MotionSwitcherClient(link, PATIENT_S)
        assert client.check_mode() == MotionMode("0", "ai")
        client.release_mode()
        assert client.check_mode().name == ""
        client.select_mode("normal")
        assert client.check_mode().name == "normal"
        with pytest.raises(errors.BadParameterError, match="status 3204"):
            RpcClient(link, "motion_switcher", PATIENT_S).call(1002, {"name": 7})
        raw = RpcClient(link, "motion_switcher", PATIENT_S).call(1001)
        assert raw.data == {"form": "0", "name": "normal"}  # what Unitree's example reads: result["name"]


class Arms:
    """Arms that hold what they were told until released."""

    def __init__(self) -> None:
        self.held = 99

    def execute(self, gesture: int) -> None:
        if gesture not in set(Gesture):
            raise errors.UnknownGestureError(str(gesture))
        if self.held not in (99, gesture) and gesture != 99:
            raise errors.ArmsHoldingError(str(self.held))
        self.held = gesture

    def gestures(self):
        return [{"id": int(gesture), "name": gesture.name.lower()} for gesture in Gesture]


def test_arm(link):
    with served(serve_arm_gestures(link, Arms())):
        client = ArmGesturesClient(link, PATIENT_S)
        client.execute(Gesture.HUG)
        with pytest.raises(errors.ArmsHoldingError, match="Release it"):
            client.execute(Gesture.CLAP)
        client.execute(Gesture.RELEASE)
        with pytest.raises(errors.UnknownGestureError):
            client.execute(14)
        assert {"id": 17, "name": "clap"} in client.gestures()


class Mouth:
    """A voice that keeps what it was to say."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.sound = b""
        self.loudness, self.light = 50, (0, 0, 0)

    def speak(self, text: str, speaker_id: int = 0) -> None:
        self.said.append(text)

    def play(self, app: str, stream: str, pcm: bytes) -> None:
        self.sound += pcm

    def stop(self, app: str) -> None:
        self.sound = b""

    def volume(self) -> int:
        return self.loudness

    def set_volume(self, volume: int) -> None:
        self.loudness = volume

    def set_light(self, red: int, green: int, blue: int) -> None:
        self.light = (red, green, blue)


def test_voice(link):
    mouth = Mouth()
    pcm = np.arange(70_000, dtype="<i2").tobytes()
    with served(serve_voice(link, mouth)):
        client = VoiceClient(link, PATIENT_S)
        client.speak("Guten Tag, 世界")
        for part in chunks(pcm):
            client.play("neon", "1", part)
        assert mouth.said == ["Guten Tag, 世界"] and mouth.sound == pcm
        client.stop("neon")
        client.set_volume(80)
        client.set_light(255, 128, 0)
        assert mouth.sound == b"" and client.volume() == 80 and mouth.light == (255, 128, 0)
        for parameter in ({"volume": 101}, {"volume": "loud"}, {}):
            with pytest.raises(errors.BadParameterError):
                RpcClient(link, "voice", PATIENT_S).call(1006, parameter)
    with pytest.raises(ValueError, match="chunks"):
        client.play("neon", "1", bytes(CHUNK_BYTES + 2))


def test_the_answers_on_the_wire_are_what_unitrees_clients_read(link):
    """They parse the text as JSON and take its "data"; a call that only does something has no text at all."""
    responses = link.reader("rt/api/sport/response", Response, 8, reliable=True)
    with served(serve_sport(link, Standing())):
        client = SportClient(link, PATIENT_S)
        client.fsm_id()
        client.set_balance_mode(1)
        assert RpcClient(link, "sport", PATIENT_S).version() == "1.0.0.0"
        texts = [Response.deserialize(sample).data for sample in responses.take()]
    assert json.loads(texts[0]) == {"data": 500}
    assert texts[1:] == ["", "1.0.0.0"]


def test_a_command_crosses_a_real_topic_and_keeps_its_seal(link):
    writer, reader = link.writer("rt/user_lowcmd", LowCmd), link.reader("rt/user_lowcmd", LowCmd)
    assert wait_for(lambda: writer.readers() == 1, PATIENT_S)
    command = LowCmdWriter(5)
    command.q[:] = np.linspace(-1, 1, 29)
    writer.write(command.encode())
    assert reader.wait(PATIENT_S)
    received = layout(LowCmd).decode(reader.newest())
    crc.check(received)
    np.testing.assert_array_equal(received["motor_cmd"]["q"][:29], np.linspace(-1, 1, 29).astype(np.float32))
