"""The robot's senses against what the simulated robot sends: true DDS, true multicast, true ZMQ."""

import io
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from bridge_process import DOMAINS, PATIENT_S, bridge_process, free_ports
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neon_sim.env import NeonG1Config, NeonG1Env
from neon_sim.g1 import joints
from neon_sim.g1.geometry import quat_to_matrix
from neon_sim.real.bridge import Bridge, BridgeConfig
from neon_sim.real.bridge.outlets import CameraOutlet, MicrophoneOutlet, jpeg
from neon_sim.real.bridge.senses import LIDAR_TOPIC, lidar_points
from neon_sim.real.codec import WireError
from neon_sim.real.ears import PACKET, EvenSound, MicrophoneGroup
from neon_sim.real.env import NeonG1RealEnv
from neon_sim.real.errors import SenseError
from neon_sim.real.eyes import RealSenseCamera, ZmqCamera, middle, read_jpeg
from neon_sim.real.g1_robot import UnitreeRobot
from neon_sim.real.idl.ros import PointCloud2
from neon_sim.real.idl.unitree_hg import LowCmd
from neon_sim.real.low_cmd import LowCmdWriter
from neon_sim.real.robot_config import RobotConfig, sim_bridge
from neon_sim.real.scans import MID360_POS, MID360_QUAT, ImuTopic, LidarTopic, OdometryTopic, torso_points
from neon_sim.real.sense_source import Place
from neon_sim.real.senses import STOCK, RobotSenses, SenseSources, simulated_senses
from neon_sim.real.transport import Link, wait_for
from neon_sim.sensors.audio import AudioConfig
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.gps import GpsConfig
from neon_sim.sensors.imu import ImuConfig
from neon_sim.sensors.lidar import LidarConfig
from neon_sim.sim.model import build_model, build_spec

DOMAIN = next(DOMAINS)
CAMERA_PORT, MICROPHONE_PORT, OTHER_PORT = free_ports(3)
HOME = joints.HOME
WANTED = {
    "camera": CameraConfig(width=32, height=32),
    "lidar": LidarConfig(num_points=100),
    "audio": AudioConfig(),
    "imu": ImuConfig(),
    "gps": GpsConfig(),
}


def no_link() -> Link:
    raise AssertionError("this sense needs no DDS")


NO_DDS = Place(no_link, "lo")


# ---- pictures


def bands(*colours: tuple[int, int, int], width: int = 640, height: int = 480) -> np.ndarray:
    """Upright bands of equal width."""
    picture = np.zeros((height, width, 3), np.uint8)
    for number, colour in enumerate(colours):
        picture[:, width * number // len(colours) : width * (number + 1) // len(colours)] = colour
    return picture


RED, GREEN, BLUE, WHITE = (250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 250)


def test_the_middle_of_a_picture_keeps_its_height_or_width():
    assert middle((640, 480), (0.0, 1.0), 1.0) == (80.0, 0.0, 560.0, 480.0)
    assert middle((640, 480), (0.5, 1.0), 1.0) == (320.0, 80.0, 640.0, 400.0)  # half of it is narrower than high
    assert middle((128, 128), (0.0, 1.0), 1.0) == (0.0, 0.0, 128.0, 128.0)


def test_a_wide_picture_is_cut_scaled_and_keeps_its_colours():
    """Of four bands on 640 x 480 the middle 480 columns hold half of the outer two: 80 of 160 columns each."""
    frame = read_jpeg(jpeg(bands(RED, GREEN, BLUE, WHITE)), (0.0, 1.0), 96, 96)
    assert frame.shape == (96, 96, 3) and frame.dtype == np.uint8
    for column, colour in ((5, RED), (30, GREEN), (65, BLUE), (90, WHITE)):  # bands meet at 16, 48 and 80
        assert np.abs(frame[48, column].astype(int) - colour).max() < 12
    left = read_jpeg(jpeg(bands(RED, GREEN, BLUE, WHITE)), (0.0, 0.25), 8, 8)
    assert np.abs(left[:, :7].astype(int) - RED).max() < 12  # JPEG's colours bleed over an edge, into the last column


def test_a_picture_of_the_wanted_size_is_not_touched():
    picture = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    sent = jpeg(picture)
    np.testing.assert_array_equal(read_jpeg(sent, (0.0, 1.0), 24, 32), np.asarray(Image.open(io.BytesIO(sent))))


@pytest.mark.parametrize("cut", [b"", b"no picture at all", jpeg(bands(RED))[:300]])
def test_what_is_no_picture_is_said(cut):
    with pytest.raises(WireError, match="are no picture"):
        read_jpeg(cut, (0.0, 1.0), 8, 8)


def test_the_newest_picture_comes_over_zmq():
    pytest.importorskip("zmq")
    with (
        closing(CameraOutlet("127.0.0.1", OTHER_PORT)) as outlet,
        closing(ZmqCamera(f"tcp://127.0.0.1:{OTHER_PORT}").open(WANTED["camera"], NO_DDS)) as eye,
    ):
        assert eye.look(0.0, HOME) is None

        def came() -> bool:
            outlet.send(jpeg(bands(RED)))
            return eye.look(0.0, HOME) is not None

        assert wait_for(came, PATIENT_S)  # the subscription travels by itself
        for colour in (RED, BLUE, GREEN):
            outlet.send(jpeg(bands(colour)))
        seen: list[np.ndarray] = []

        def green() -> bool:
            frame = eye.look(0.0, HOME)
            seen.extend([] if frame is None else [frame])
            return bool(seen) and np.abs(seen[-1].astype(int) - GREEN).max() < 12

        assert wait_for(green, PATIENT_S)  # who looks late sees the newest, and no old one after it
        assert eye.look(0.0, HOME) is None


def test_wishes_that_a_camera_cannot_meet_are_refused():
    with pytest.raises(ValueError, match="gives colour"):
        ZmqCamera().open(CameraConfig(kind="depth"), NO_DDS)
    with pytest.raises(SenseError, match="tcp://HOST:PORT"):
        ZmqCamera("nowhere").open(CameraConfig(), NO_DDS)
    with pytest.raises(ValueError, match="shares of the width"):
        ZmqCamera(columns=(0.5, 0.5))


def test_a_realsense_that_is_not_there_is_said():
    with pytest.raises((SenseError, ImportError), match="RealSense"):
        RealSenseCamera().open(CameraConfig(), NO_DDS)


# ---- sound


def test_packets_are_heard_evenly_a_packet_and_a_margin_late():
    """Sample n is n / 100,000. Packets end at 0.16, 0.32, ... s; each step hears the 320 samples of 0.2 s before."""
    ramp = np.arange(20 * PACKET, dtype=np.float32) / 100_000
    sound, begin = EvenSound(window=5120, margin=640), PACKET + 640  # 0.16 + 0.04 s
    sent = 0
    for step in range(150):
        if step and step % 8 == 0:
            sound.add(ramp[sent : sent + PACKET], 0.02 * step)
            sent += PACKET
        window = sound.window(0.02 * step)
        end = 320 * step - begin
        if step > 30:
            np.testing.assert_array_equal(window, ramp[end - 5120 : end])


def test_what_is_missing_is_silence_and_what_piles_up_is_skipped():
    sound = EvenSound(window=320, margin=0)
    sound.window(0.0)
    sound.add(np.full(320, 0.5, np.float32), 0.0)
    assert sound.window(0.01).tolist() == [0.0] * 160 + [0.5] * 160
    assert sound.window(0.03).tolist() == [0.5] * 160 + [0.0] * 160  # 20 ms have passed, 10 ms of sound were left
    for level in (0.1, 0.2, 0.3):
        sound.add(np.full(PACKET, level, np.float32), 0.03)
    assert sound.window(0.05).tolist() == pytest.approx([0.3] * 320)  # the reader was away: back to the newest packet


@settings(deadline=None, max_examples=40)
@given(steps=st.lists(st.floats(0.0, 0.3), min_size=1, max_size=20), size=st.integers(1, 3000))
def test_a_window_is_always_whole(steps, size):
    sound, now_s = EvenSound(window=512, margin=100), 0.0
    for step_s in steps:
        now_s += step_s
        sound.add(np.ones(size, np.float32), now_s)
        window = sound.window(now_s)
        assert window.shape == (512,) and window.dtype == np.float32 and set(window) <= {0.0, 1.0}


def test_the_microphone_is_heard_by_multicast():
    wave = (8000 * np.sin(np.arange(PACKET) / 5)).astype("<i2")
    with (
        closing(MicrophoneGroup(port=OTHER_PORT, margin_s=0.0).open(AudioConfig(), Place(no_link, "127.0.0.1"))) as ear,
        closing(MicrophoneOutlet("lo", OTHER_PORT)) as outlet,
    ):
        assert ear.look(0.0, HOME) is None  # nobody has spoken
        outlet.send(wave.tobytes())
        time.sleep(0.1)
        assert not ear.look(0.02, HOME).any()  # it has begun, and nothing of it was heard yet
        frame = ear.look(0.18, HOME)
        np.testing.assert_allclose(frame[-PACKET:], wave / 32768, atol=1e-6)
        assert ear.look(1.5, HOME) is None  # no packet for more than a second


def test_a_microphone_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="one of 16000 Hz"):
        MicrophoneGroup().open(AudioConfig(microphones=2), NO_DDS)
    with pytest.raises(OSError):
        MicrophoneGroup().open(AudioConfig(), Place(no_link, "nosuch0"))


# ---- points


def test_the_lidar_is_mounted_where_the_model_has_it():
    site = build_model(build_spec()).site("mid360")
    np.testing.assert_allclose(site.pos, MID360_POS, atol=1e-9)
    np.testing.assert_allclose(site.quat, MID360_QUAT, atol=1e-9)


AHEAD = LidarTopic(pos=(0.0, 0.0, 0.4), quat_wxyz=(0.0, 1.0, 0.0, 0.0))  # upside down: turned about x


def test_points_are_turned_thinned_and_near_and_far_ones_missed():
    """Eight returns of a sweep of 16, of which the simulation sees four: two returns and two misses."""
    wanted = LidarConfig(num_points=4, frame_points=16, min_range_m=0.5, max_range_m=10.0)
    xyz = np.array([[2.0, 1.0, 1.4]] * 4 + [[0.0, 0.0, -12.0]] * 4)
    frame = torso_points(xyz, AHEAD, wanted, HOME).reshape(4, 3)
    np.testing.assert_allclose(frame, [[2.0, -1.0, -1.0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], atol=1e-6)
    assert not torso_points(np.zeros((0, 3)), AHEAD, wanted, HOME).any()
    broken = np.array([[np.nan, 0.0, 0.0], [0.0, 0.0, 0.0], [2.0, 1.0, 1.4]])  # drivers send misses as nan or 0
    every = replace(wanted, num_points=16)
    assert np.flatnonzero(torso_points(broken, AHEAD, every, HOME)).tolist() == [0, 1, 2]


def test_the_robots_own_limbs_are_misses():
    """The left hand, held out straight ahead at shoulder height, and a wall a hand's breadth beyond its fingers."""
    pose = np.zeros(29)
    pose[joints.JOINT_INDEX["left_shoulder_pitch_joint"]] = -np.pi / 2
    source = LidarTopic(pos=(0.0, 0.0, 0.0), quat_wxyz=(1.0, 0.0, 0.0, 0.0))
    wanted = LidarConfig(num_points=4, frame_points=4)
    points = np.array([[0.2, 0.15, 0.24], [0.0, 0.0, 0.3], [0.2, -0.4, 0.24], [1.0, 0.15, 0.25]])
    seen = torso_points(points, source, wanted, pose).reshape(4, 3).any(axis=1)
    assert seen.tolist() == [False, False, True, True]  # upper arm, chest; the empty right side, the wall


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.floats(2.0, 20.0), st.floats(-20.0, 20.0), st.floats(-20.0, 20.0)), min_size=1, max_size=20)
)
def test_what_the_simulated_robot_sends_comes_back(places):
    """`lidar_points` of the bridge and `torso_points` of the reader undo each other."""
    points = np.array(places, np.float32)
    cloud = lidar_points(points, np.array(MID360_POS), quat_to_matrix(np.array(MID360_QUAT)))
    xyz = np.stack([cloud[axis] for axis in "xyz"], axis=1, dtype=np.float64)
    wanted = LidarConfig(num_points=len(points), frame_points=len(points))
    np.testing.assert_allclose(torso_points(xyz, LidarTopic(), wanted, HOME).reshape(-1, 3), points, atol=1e-4)


def test_wishes_that_the_topics_cannot_meet_are_refused():
    with pytest.raises(ValueError, match="torso_link"):
        LidarTopic().open(LidarConfig(frame_body="pelvis"), NO_DDS)
    with pytest.raises(ValueError, match="on the torso"):
        ImuTopic("lidar").open(ImuConfig(mount="pelvis"), NO_DDS)
    with pytest.raises(ValueError, match="Did you mean 'lidar'"):
        ImuTopic("lidars")
    with pytest.raises(ValueError, match="of its pelvis"):
        OdometryTopic().open(GpsConfig(body="torso_link"), NO_DDS)


# ---- with the simulated robot, in lock-step


LOCK_STEP = BridgeConfig(
    domain=DOMAIN,
    mode="lock_step",
    lock_step_s=0.02,
    settle_s=0.0,
    senses=("camera", "lidar", "audio"),
    camera=CameraConfig(width=48, height=32, backend="ray"),
    lidar=LidarConfig(num_points=2000),
    camera_port=CAMERA_PORT,
    microphone_port=MICROPHONE_PORT,
)


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    pytest.importorskip("zmq")
    with Bridge(LOCK_STEP) as running:
        yield running


def test_all_senses_of_the_simulated_robot_arrive(bridge):
    """One simulated second: same keys, shapes and types as in simulation, at its rates."""
    sources = simulated_senses(camera_port=CAMERA_PORT, microphone_port=MICROPHONE_PORT)
    lidar = replace(WANTED["lidar"], frame_points=2000)
    wanted = WANTED | {"lidar": lidar, "imu": ImuConfig("torso")}
    place = Place(lambda: bridge.link, "lo")
    command, writer = LowCmdWriter(5), bridge.link.writer("rt/arm_sdk", LowCmd, 16)
    with closing(RobotSenses(sources, wanted, place)) as senses:
        assert senses.masked == ()
        clouds = bridge.link.reader(LIDAR_TOPIC, PointCloud2)
        assert wait_for(lambda: clouds.writers() == 1 and writer.readers() == 1, PATIENT_S)

        def step() -> dict[str, np.ndarray]:
            writer.write(command.encode())
            assert wait_for(bridge.step, PATIENT_S)
            time.sleep(0.02)  # what the senses' process sends is not in step with the clock
            return senses.frames(tuple(wanted), bridge.body.time_s, bridge.body.joint_pos.copy())

        assert wait_for(lambda: step() and not senses.stale(bridge.body.time_s), PATIENT_S)  # pictures come last
        seen: dict[str, list[bytes]] = {name: [] for name in wanted}
        for _ in range(50):
            frames = step()
            for name, frame in frames.items():
                assert wanted[name].space().contains(frame)
                seen[name].append(frame.tobytes())
        assert senses.stale(bridge.body.time_s + 2.0)["lidar"] == "no new frame"
        changes = {name: 1 + sum(a != b for a, b in zip(rows, rows[1:], strict=False)) for name, rows in seen.items()}
        # Rates from above; from below what even a process that waits for its turn shows.
        assert 3 <= changes["lidar"] <= 12 and 3 <= changes["gps"] <= 12 and changes["imu"] > 40
        assert changes["audio"] > 10
        expected = np.concatenate((bridge.body.torso_gyro, bridge.body.torso_acceleration))
        np.testing.assert_allclose(frames["imu"], expected, atol=0.5)
        np.testing.assert_allclose(frames["gps"], bridge.body.data.qpos[:3], atol=0.02)
        points = frames["lidar"].reshape(-1, 3)
        hits = points[points.any(axis=1)]
        assert len(hits) > 20 and np.median(hits[:, 2]) < -0.5  # the floor, seen from the torso
        with pytest.raises(ValueError, match="Unknown sensor 'depth'"):
            senses.frames(["depth"], 1.0, HOME)


def test_both_imus_of_the_torso_agree(bridge):
    """They are the same sensor in this simulation: one comes as it is, the other turned into the LiDAR's frame."""
    place = Place(lambda: bridge.link, "lo")
    config, command = ImuConfig("torso"), LowCmdWriter(5)
    writer = bridge.link.writer("rt/arm_sdk", LowCmd, 16)
    with closing(ImuTopic().open(config, place)) as body, closing(ImuTopic("lidar").open(config, place)) as lidar:
        assert wait_for(lambda: writer.readers() == 1 and lidar._reader.writers() == 1, PATIENT_S)
        for _ in range(5):
            writer.write(command.encode())
            assert wait_for(bridge.step, PATIENT_S)
        one, other = body.look(0.0, HOME), lidar.look(0.0, HOME)
        np.testing.assert_allclose(one, other, atol=1e-4)
        assert abs(np.linalg.norm(one[3:]) - 9.81) < 3.0 and one[5] > 5.0  # it stands: gravity is felt upwards


# ---- the robot and its env


def test_a_stock_robot_has_five_senses_and_absent_ones_are_named():
    assert STOCK.absent(WANTED) == () and SenseSources().absent(WANTED) == tuple(WANTED)
    assert STOCK.absent({"camera": 1, "depth": 2, "force": 3}) == ("depth", "force")
    assert sim_bridge(senses=("lidar",)).senses == SenseSources(lidar=LidarTopic(reliable=True))
    with pytest.raises(ValueError, match="Did you mean 'lidar'"):
        sim_bridge(senses=("lidars",))
    assert RobotConfig().senses == SenseSources()


@pytest.mark.slow
def test_an_env_sees_and_hears_the_simulated_robot():
    """Real time: control process, bridge, its senses and the env, each a process of its own."""
    pytest.importorskip("zmq")
    names, ports = ("camera", "lidar", "audio"), free_ports(2)
    arguments = ["--camera-port", str(ports[0]), "--microphone-port", str(ports[1]), "--senses", *names]
    with bridge_process("--start", "released", "--gantry", *arguments) as bridge:
        config = sim_bridge(bridge.domain)
        limits = replace(config.control.limits, age_s=2.0, joint_speed=40.0)
        control = replace(config.control, limits=limits, stop=replace(config.control.stop, silence_s=10.0))
        config = replace(config, control=control, senses=simulated_senses(names, *ports), wait_s=60.0)
        with closing(NeonG1RealEnv(robot=config, sensors=("proprio", *names))) as env:
            sim = NeonG1Env(NeonG1Config(sensors=("proprio", *names)))
            assert env.observation_space == sim.observation_space
            sim.close()
            env.robot.arm(gantry=True)
            obs, info = env.reset(seed=0)
            assert env.observation_space.contains(obs) and info["safety"]["masked"] == ()
            pictures = {obs["camera"].tobytes()}
            for _ in range(100):
                obs, *_, info = env.step(np.full(17, 0.3, np.float32))
                pictures.add(obs["camera"].tobytes())
            assert env.observation_space.contains(obs)
            assert len(pictures) > 5 and obs["lidar"].any() and obs["audio"].any()
            assert info["safety"]["stale_senses"] == {}


@pytest.mark.slow
def test_a_sense_that_does_not_come_is_refused_or_masked():
    with bridge_process("--start", "released", "--gantry") as bridge:  # it has no LiDAR
        config = replace(sim_bridge(bridge.domain, senses=("lidar", "imu")), wait_s=3.0)
        wanted = {"lidar": LidarConfig(), "imu": ImuConfig()}
        with pytest.raises(SenseError, match=r"No frame in 3 s of lidar \(nothing came\)"):
            UnitreeRobot(config, wanted)
        with closing(UnitreeRobot(replace(config, absent_senses="mask"), wanted)) as robot:
            assert robot.safety()["masked"] == ("lidar",)
            frames = robot.sense(["lidar", "imu"])
            assert not frames["lidar"].any() and abs(frames["imu"][5] - 9.81) < 3.0
