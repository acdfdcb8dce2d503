"""The bridge as a process of its own, with its senses: command line, orders, watchdog against a killed client."""

import io
import json
import os
import queue
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neon_sim.real.bridge import Bridge, BridgeConfig, Gamepad, WireFaults
from neon_sim.real.bridge.__main__ import obey, parse
from neon_sim.real.bridge.outlets import CameraOutlet, MicrophoneOutlet
from neon_sim.real.bridge.senses import LIDAR_TOPIC, POINT, Due, jpeg, lidar_points, pcm_of
from neon_sim.real.idl.ros import PointCloud2
from neon_sim.real.idl.unitree_hg import LowCmd, LowState
from neon_sim.real.low_cmd import LowCmdWriter
from neon_sim.real.multicast import hear
from neon_sim.real.point_cloud import decode_point_cloud
from neon_sim.real.transport import Link, LinkConfig, LinkError, wait_for
from neon_sim.real.voice import VoiceClient
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.lidar import LidarConfig

DOMAIN = 100 + os.getpid() % 120
PORT = 20_000 + os.getpid() % 20_000
LOCK_STEP = BridgeConfig(
    domain=DOMAIN,
    mode="lock_step",
    lock_step_s=0.02,
    settle_s=0.0,
    camera=CameraConfig(width=32, height=24, backend="ray"),
    lidar=LidarConfig(num_points=500),
    camera_port=PORT,
    microphone_port=PORT + 1,
)


class BridgeProcess:
    """`python -m neon_sim.real.bridge`, its events as they come."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "neon_sim.real.bridge", "--domain", str(DOMAIN), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def event(self, name: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """The next event of that name; others are passed over."""
        while True:
            event = self.lines.get(timeout=timeout_s)
            if event["event"] == name:
                return event

    def order(self, **orders: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(orders) + "\n")
        self.process.stdin.flush()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(10.0)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(json.loads(line))


@pytest.fixture
def link() -> Iterator[Link]:
    with Link(LinkConfig(domain=DOMAIN)) as opened:
        yield opened


# ---- parts


def test_the_command_line_is_the_config():
    given = ["--domain", "3", "--lock-step", "--lock-step-s", "0.02", "--start", "released", "--senses", "audio"]
    config = parse(given)
    assert (
        config
        == replace(BridgeConfig(), domain=3, mode="lock_step", lock_step_s=0.02, start="released", senses=("audio",))
        or config.lidar == BridgeConfig().lidar
    )
    assert (config.domain, config.mode, config.lock_step_s, config.start) == (3, "lock_step", 0.02, "released")
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
    with hear("lo", PORT + 2) as listener:
        listener.settimeout(5.0)
        outlet = MicrophoneOutlet("127.0.0.1", PORT + 2)
        outlet.send(b"sound")
        assert listener.recv(100) == b"sound"
        outlet.close()


def test_a_taken_port_is_named():
    pytest.importorskip("zmq")
    first = CameraOutlet("lo", PORT + 3)
    with pytest.raises(LinkError, match=str(PORT + 3)):
        CameraOutlet("lo", PORT + 3)
    first.close()


# ---- processes


@pytest.fixture
def pictures() -> Iterator[Any]:
    """A subscriber of the camera."""
    zmq = pytest.importorskip("zmq")
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.connect(f"tcp://127.0.0.1:{PORT}")
        subscriber.subscribe(b"")
        yield subscriber


def test_the_senses_reach_their_clients(pictures):
    """Lock-step, one simulated second: 10 clouds, 30 pictures, 6 packets of 160 ms, the robot's own voice in them."""
    pytest.importorskip("espeakng_loader")
    config = replace(LOCK_STEP, senses=("camera", "lidar", "audio"), settle_s=0.4)
    with Bridge(config) as bridge, hear("lo", PORT + 1) as sound:
        sound.settimeout(5.0)
        clouds = bridge.link.reader(LIDAR_TOPIC, PointCloud2, 64, reliable=True)
        command, writer = LowCmdWriter(5), bridge.link.writer("rt/arm_sdk", LowCmd, 16)
        assert wait_for(lambda: clouds.writers() == 1 and writer.readers() == 1, 10.0)
        time.sleep(0.2)  # the subscription to the pictures travels by itself
        for step in range(50):
            if step == 15:
                VoiceClient(bridge.link).speak("hello there")
            writer.write(command.encode())
            assert wait_for(bridge.step, 10.0)
        assert clouds.wait(1.0)
        got = [decode_point_cloud(sample) for sample in clouds.take()]
        assert len(got) in (10, 11) and got[-1].frame == "livox_frame"
        height = got[-1].points["z"]
        assert len(height) > 50 and np.median(height) > 0.5  # upside down: the floor is above it
        frames = []
        while pictures.poll(500):
            frames.append(pictures.recv())
        assert len(frames) >= 25
        assert Image.open(io.BytesIO(frames[-1])).size == (32, 24)
        packets = [sound.recv(65536) for _ in range(6)]
        assert {len(packet) for packet in packets} == {5120}
        loudness = [int(np.abs(np.frombuffer(packet, "<i2")).max()) for packet in packets]
        assert max(loudness[2:]) > 10 * loudness[1]  # packets end at 0, 0.16, 0.32 s and so on; it speaks from 0.3 s


def test_a_picture_is_a_jpeg():
    assert jpeg(np.zeros((4, 6, 3), np.uint8))[:2] == b"\xff\xd8"


CLIENT = """
    import sys, time
    from neon_sim.real.idl.unitree_hg import LowCmd
    from neon_sim.real.low_cmd import LowCmdWriter
    from neon_sim.real.transport import Link, LinkConfig
    link = Link(LinkConfig(domain=int(sys.argv[1])))
    writer, command = link.writer("rt/lowcmd", LowCmd), LowCmdWriter(5)
    while True:
        writer.write(command.encode())
        print(time.monotonic(), flush=True)
        time.sleep(0.01)
"""


def test_a_killed_client_is_followed_by_damping(link):
    """Two processes beside this one. The bound is the watchdog's 100 ms, a tick, and how late the bridge itself was."""
    bridge = BridgeProcess("--start", "released", "--gantry")
    client = None
    try:
        bridge.event("ready")
        client = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CLIENT), str(DOMAIN)], stdout=subprocess.PIPE, text=True
        )
        assert client.stdout is not None
        for _ in range(50):
            last_s = float(client.stdout.readline())
        client.kill()
        for line in client.stdout:
            last_s = float(line)
        event = bridge.event("watchdog")
        while event["at_s"] < last_s:  # the machine let the client wait before
            event = bridge.event("watchdog")
        bridge.order(lateness=True)
        late_s = bridge.event("lateness")["max_us"] * 1e-6
        assert 0.095 < event["at_s"] - last_s < 0.12 + late_s
        assert bridge.stop() == 0
    finally:
        bridge.process.kill()
        if client is not None:
            client.kill()


def test_faults_and_lock_step_work_from_outside(link):
    bridge = BridgeProcess("--lock-step", "--start", "released", "--gantry")
    try:
        ready = bridge.event("ready")
        assert ready["mode"] == "lock_step" and ready["domain"] == DOMAIN
        states, writer = link.reader("rt/lowstate", LowState, 8), link.writer("rt/lowcmd", LowCmd)
        assert states.wait(10.0) and wait_for(lambda: writer.readers() == 1, 10.0)
        bridge.order(faults={"silent": True})
        bridge.order(nonsense=1)
        assert "nonsense" in bridge.event("not_understood")["why"]
        time.sleep(0.1)
        states.take()
        assert not states.wait(0.3)
        bridge.order(faults={})
        assert states.wait(5.0)
        assert bridge.stop() == 0
    finally:
        bridge.process.kill()
