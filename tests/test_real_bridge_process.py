"""The bridge as a process of its own, with its senses: command line, orders, watchdog against a killed client."""

import io
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bridge_process import DOMAINS, PATIENT_S, bridge_process, free_ports
from PIL import Image

from neon_sim.real.bridge import Bridge, BridgeConfig, Gamepad, WireFaults
from neon_sim.real.bridge.__main__ import obey, parse
from neon_sim.real.bridge.outlets import CameraOutlet, MicrophoneOutlet, jpeg, pcm_of
from neon_sim.real.bridge.senses import LIDAR_TOPIC, POINT, Due, lidar_points
from neon_sim.real.idl.ros import PointCloud2
from neon_sim.real.idl.unitree_hg import LowCmd, LowState
from neon_sim.real.low_cmd import LowCmdWriter
from neon_sim.real.multicast import hear
from neon_sim.real.point_cloud import decode_point_cloud
from neon_sim.real.rpc_errors import ServerFailedError
from neon_sim.real.sport import Fsm, SportClient
from neon_sim.real.transport import Link, LinkConfig, LinkError, wait_for
from neon_sim.real.voice import VoiceClient
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.lidar import LidarConfig

DOMAIN = next(DOMAINS)
CAMERA_PORT, MICROPHONE_PORT, OTHER_PORT = free_ports(3)
LOCK_STEP = BridgeConfig(
    domain=DOMAIN,
    mode="lock_step",
    lock_step_s=0.02,
    settle_s=0.0,
    camera=CameraConfig(width=32, height=24, backend="ray"),
    lidar=LidarConfig(num_points=500),
    camera_port=CAMERA_PORT,
    microphone_port=MICROPHONE_PORT,
)


# ---- parts


def test_the_command_line_is_the_config():
    given = ["--domain", "3", "--lock-step", "--lock-step-s", "0.02", "--start", "released", "--senses", "audio"]
    config = parse(given)
    told = {"domain": 3, "mode": "lock_step", "lock_step_s": 0.02, "start": "released", "senses": ("audio",)}
    assert {name: getattr(config, name) for name in told} == told
    assert config.lidar == BridgeConfig().lidar
    assert parse([]).mode == "real_time" and parse([]).interface == "lo" and not parse([]).allow_network


def test_orders_are_obeyed_and_wrong_ones_named():
    with Bridge(LOCK_STEP) as bridge:
        obey(bridge, '{"faults": {"bad_crc": true}}')
        assert bridge.states.line.faults == WireFaults(bad_crc=True)
        obey(bridge, '{"press": {"ly": 0.5, "buttons": ["A"]}}')
        assert bridge.states.gamepad == Gamepad(ly=0.5, buttons=("A",))
        for line, why in (
            ('{"fault": {}}', "Did you mean 'faults'"),
            ("[1]", "JSON object"),
            ('{"hang": true}', "gantry"),
        ):
            with pytest.raises(ValueError, match=why):
                obey(bridge, line)


def test_a_rate_is_kept_on_average():
    due = Due(30.0)
    assert sum(due.now(0.02 * step) for step in range(100)) == 60
    late = Due(10.0)
    # After a gap it is one frame behind at most: what was missed is not made up for.
    assert [late.now(time_s) for time_s in (0.0, 0.05, 0.35, 0.36, 0.40)] == [True, False, True, True, False]


def test_points_in_the_lidars_own_frame():
    """A sensor 1 m up and upside down (turned about x) sees the floor below it at z = +1 of its own frame."""
    upside_down = np.diag([1.0, -1.0, -1.0])
    points = np.array([[0.5, 0.25, 0.0], [0.0, 0.0, 0.0]], np.float32)  # the second is a miss
    cloud = lidar_points(points, np.array([0.0, 0.0, 1.0]), upside_down)
    assert cloud.dtype == POINT and POINT.itemsize == 22
    assert cloud.tolist() == [(0.5, -0.25, 1.0, 0.0, 0, 0.0)]


def test_sound_is_sixteen_bit_and_clipped():
    assert np.frombuffer(pcm_of(np.array([0.0, 0.5, 1.0, -2.0])), "<i2").tolist() == [0, 16384, 32767, -32767]


def test_multicast_reaches_a_listener_on_loopback():
    with hear("lo", OTHER_PORT) as listener:
        listener.settimeout(PATIENT_S)
        outlet = MicrophoneOutlet("127.0.0.1", OTHER_PORT)
        outlet.send(b"sound")
        assert listener.recv(100) == b"sound"
        outlet.close()


def test_a_taken_port_is_named():
    pytest.importorskip("zmq")
    first = CameraOutlet("lo", OTHER_PORT)
    with pytest.raises(LinkError, match=str(OTHER_PORT)):
        CameraOutlet("lo", OTHER_PORT)
    first.close()


# ---- processes


@pytest.fixture
def pictures() -> Iterator[Any]:
    """A subscriber of the camera."""
    zmq = pytest.importorskip("zmq")
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.connect(f"tcp://127.0.0.1:{CAMERA_PORT}")
        subscriber.subscribe(b"")
        yield subscriber


def loudness(packet: bytes) -> int:
    return int(np.abs(np.frombuffer(packet, "<i2")).max())


def test_the_senses_reach_their_clients(pictures):
    """Lock-step, one simulated second: 10 clouds, 6 packets of 160 ms with the robot's own voice in them, pictures."""
    pytest.importorskip("espeakng_loader")
    config = replace(LOCK_STEP, senses=("camera", "lidar", "audio"), settle_s=0.4)
    with Bridge(config) as bridge, hear("lo", MICROPHONE_PORT) as sound:
        sound.settimeout(PATIENT_S)
        clouds = bridge.link.reader(LIDAR_TOPIC, PointCloud2, 64, reliable=True)
        command, writer = LowCmdWriter(5), bridge.link.writer("rt/arm_sdk", LowCmd, 16)
        assert wait_for(lambda: clouds.writers() == 1 and writer.readers() == 1, PATIENT_S)

        def step(count: int) -> list[bytes]:
            frames = []
            for _ in range(count):
                writer.write(command.encode())
                assert wait_for(bridge.step, PATIENT_S)
                while pictures.poll(0):
                    frames.append(pictures.recv())
            return frames

        assert wait_for(lambda: step(1), PATIENT_S)  # the subscription to the pictures travels by itself
        step(9)
        before_s = bridge.body.time_s
        quiet = [sound.recv(65536) for _ in range(int((before_s - 0.02) / 0.16))][-1]
        assert clouds.wait(PATIENT_S) and clouds.take()
        VoiceClient(bridge.link, PATIENT_S).speak("hello there")
        frames = step(50)
        assert wait_for(lambda: frames.extend(step(1)) or len(frames) >= 5, PATIENT_S)  # who is slow misses some
        assert Image.open(io.BytesIO(frames[-1])).size == (32, 24)
        assert clouds.wait(PATIENT_S)
        got = [decode_point_cloud(sample) for sample in clouds.take()]
        lasted_s = bridge.body.time_s - before_s
        assert abs(len(got) - 10 * lasted_s) <= 2 and got[-1].frame == "livox_frame"
        height = got[-1].points["z"]
        assert len(height) > 50 and np.median(height) > 0.5  # upside down: the floor is above it
        packets = [sound.recv(65536) for _ in range(6)]
        assert {len(packet) for packet in packets} == {5120}
        assert max(map(loudness, packets[1:])) > 10 * loudness(quiet)


def test_a_picture_is_a_jpeg():
    assert jpeg(np.zeros((4, 6, 3), np.uint8))[:2] == b"\xff\xd8"


def test_senses_that_die_end_neither_the_robot_nor_its_services(caplog):
    """kill -9 of their process: time goes on, sport answers, the voice says that it failed; each is told once."""
    with Bridge(replace(LOCK_STEP, senses=("audio",), settle_s=0.4)) as bridge:
        voice, sport = VoiceClient(bridge.link, PATIENT_S), SportClient(bridge.link, PATIENT_S)
        voice.play("app", "1", b"")  # no sound, and no harm
        voice.play("app", "1", bytes(3200))
        assert bridge._senses is not None
        bridge._senses._process.kill()
        bridge._senses._process.join()
        for _ in range(3):
            with pytest.raises(ServerFailedError):
                voice.play("app", "1", bytes(3200))
        assert sport.fsm_id() == Fsm.WALK and voice.volume() == 100
        command, writer = LowCmdWriter(5), bridge.link.writer("rt/arm_sdk", LowCmd, 16)
        assert wait_for(lambda: writer.readers() == 1, PATIENT_S)
        for _ in range(4):
            writer.write(command.encode())
            assert wait_for(bridge.step, PATIENT_S)
        assert bridge.body.ticks == 40 and sport.fsm_id() == Fsm.WALK
        told = [event.name for event in bridge.events]
        assert told.count("service_failed") == 1 and told.count("senses_ended") == 1
        assert "The service voice failed, and goes on" in caplog.text


CLIENT = """
    import sys, time
    from neon_sim.real.idl.unitree_hg import LowCmd
    from neon_sim.real.low_cmd import LowCmdWriter
    from neon_sim.real.transport import Link, LinkConfig
    link = Link(LinkConfig(domain=int(sys.argv[1])))
    writer, command = link.writer("rt/lowcmd", LowCmd), LowCmdWriter(5)
    while True:
        begun_s = time.monotonic()  # before it is heard: what follows is not shorter than the watchdog's time
        writer.write(command.encode())
        print(begun_s, flush=True)
        time.sleep(0.01)
"""


@contextmanager
def commanded(domain: int) -> Iterator["subprocess.Popen[str]"]:
    """A client that commands a hundred times a second and says when."""
    arguments = [sys.executable, "-c", textwrap.dedent(CLIENT), str(domain)]
    client = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        yield client
    finally:
        client.kill()
        client.wait()


@pytest.mark.parametrize("judged", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_killed_client_is_followed_by_damping(judged):
    """Two processes beside this one. Judged: the watchdog's 100 ms, ten ticks, and how late the bridge itself was."""
    with bridge_process("--start", "released", "--gantry") as bridge, commanded(bridge.domain) as client:
        assert client.stdout is not None
        for _ in range(50):
            last_s = float(client.stdout.readline())
        client.kill()
        for line in client.stdout:
            last_s = float(line)
        event = bridge.event("watchdog", after_s=last_s)  # earlier ones: the machine let the client wait
        bridge.tell(lateness=True)
        late_s = bridge.event("lateness")["max_us"] * 1e-6
        took_s = event["at_s"] - last_s
        print(f"last command to damping {1e3 * took_s:.0f} ms, the bridge was up to {1e3 * late_s:.0f} ms late")
        assert 0.1 < took_s < (0.12 + late_s if judged else PATIENT_S)
        assert bridge.stop() == 0


def test_faults_and_lock_step_work_from_outside():
    with (
        bridge_process("--lock-step", "--start", "released", "--gantry") as bridge,
        Link(LinkConfig(bridge.domain)) as link,
    ):
        assert bridge.ready["mode"] == "lock_step" and bridge.ready["domain"] == bridge.domain
        states, writer = link.reader("rt/lowstate", LowState, 8), link.writer("rt/lowcmd", LowCmd)
        assert states.wait(PATIENT_S) and wait_for(lambda: writer.readers() == 1, PATIENT_S)
        bridge.tell(faults={"silent": True})
        bridge.tell(nonsense=1)
        assert "nonsense" in bridge.event("not_understood")["why"]  # orders are obeyed in their turn
        assert wait_for(lambda: not states.take() and not states.wait(0.5), PATIENT_S)  # those on their way have come
        bridge.tell(faults={})
        assert states.wait(PATIENT_S)
        assert bridge.stop() == 0
