"""Small true files of each of the fifteen kinds of data, by the formats' own libraries where there are any."""

import io
import json
import struct
import wave
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from foreign_folders import (
    G1_ARMS,
    agibot_folder,
    angles,
    bridge_folder,
    gripper_path,
    modality_folder,
    pictures,
    teleop_folder,
    unitree_folder,
)
from mcap.writer import Writer
from PIL import Image
from tiny_data import write_episodes

from neon_sim.data.relative_actions import states_to_relative_actions
from neon_sim.data.source import DataSourceConfig
from neon_sim.data.tfrecord import frame_record
from neon_sim.data.video import VideoConfig, encode_video
from neon_sim.g1 import joints
from neon_sim.g1.geometry import euler_to_quat


def act_file(path: Path, steps: int = 40, names: Sequence[str] | None = G1_ARMS, compress: bool = False) -> Path:
    """ACT's layout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["action"] = angles(steps, 14)
        file["observations/qpos"] = angles(steps, 14, 1)
        stored = pictures(steps)
        file["observations/images/top"] = padded_pngs(stored) if compress else stored
        if names is not None:
            file.attrs["joint_names"] = list(names)
        file.attrs["instruction"] = "open the jar"
    return path


def padded_pngs(stored: np.ndarray) -> np.ndarray:
    """(T, bytes) uint8, zeros behind each picture."""
    encoded = [png(picture) for picture in stored]
    longest = max(len(one) for one in encoded)
    return np.stack([np.frombuffer(one.ljust(longest, b"\0"), np.uint8) for one in encoded])


def png(picture: np.ndarray) -> bytes:
    """One picture as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def robomimic_file(path: Path, steps: int = 30) -> Path:
    """robomimic's layout with two demonstrations; quaternions are xyzw."""
    with h5py.File(path, "w") as file:
        for number in range(2):
            states = gripper_path(steps, number)
            group = file.create_group(f"data/demo_{number}")
            group["actions"] = np.concatenate([np.zeros((steps, 6)), 1.0 - 2.0 * states[:, 6:]], axis=1)
            group["obs/robot0_eef_pos"] = states[:, :3]
            group["obs/robot0_eef_quat"] = np.roll(euler_to_quat(states[:, 3:6]), -1, axis=1)
            group["obs/agentview_image"] = pictures(steps, number)
        file["data"].attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": {"control_freq": 20}})
    return path


def cdr(*parts: tuple[str, Any]) -> bytes:
    """A little-endian CDR message: ("d" | "i" | "I" | "B", number), ("s", text), ("*d", array), ("*s", texts)."""
    body = b""

    def put(kind: str, value: Any) -> None:
        nonlocal body
        if kind == "s":
            put("I", len(value.encode()) + 1)
            body += value.encode() + b"\0"
        else:
            size = struct.calcsize(kind)
            body += b"\0" * (-len(body) % size) + struct.pack("<" + kind, value)

    for kind, value in parts:
        if not kind.startswith("*"):
            put(kind, value)
            continue
        put("I", len(value))
        for one in value:
            put(kind[1:], one)
    return b"\0\1\0\0" + body


def joint_state(names: Sequence[str], position: np.ndarray) -> bytes:
    """sensor_msgs/msg/JointState."""
    head = (("i", 1), ("I", 2), ("s", "base"))
    return cdr(*head, ("*s", names), ("*d", position.tolist()), ("*d", []), ("*d", [0.5] * len(names)))


def bag_file(path: Path, messages: int = 41, rate_hz: float = 100.0, drop: Sequence[str] = ()) -> Path:
    """A bag: state and command of both arms, a walking command, a camera at a tenth of the rate, one instruction."""
    schemas = {
        "/joint_states": "sensor_msgs/msg/JointState",
        "/joint_command": "sensor_msgs/msg/JointState",
        "/cmd_vel": "geometry_msgs/msg/Twist",
        "/head/compressed": "sensor_msgs/msg/CompressedImage",
        "/task": "std_msgs/msg/String",
    }
    state, command = angles(messages, 14, 1).astype(float), angles(messages, 14).astype(float)
    with open(path, "wb") as stream:
        writer = Writer(stream)
        writer.start("ros2", library="test")
        kinds = {kind: writer.register_schema(kind, "ros2msg", b"") for kind in set(schemas.values())}
        channel = {topic: writer.register_channel(topic, "cdr", kinds[kind]) for topic, kind in schemas.items()}

        def put(topic: str, n: int, data: bytes) -> None:
            if topic not in drop:
                time = int(1e9 + n * 1e9 / rate_hz)
                writer.add_message(channel[topic], log_time=time, publish_time=time, data=data)

        put("/task", 0, cdr(("s", "stack the plates")))
        for n in range(messages):
            put("/joint_states", n, joint_state(G1_ARMS, state[n]))
            put("/joint_command", n, joint_state(G1_ARMS, command[n]))
            put("/cmd_vel", n, cdr(("d", 0.25), ("d", 0.0), ("d", 0.0), ("d", 0.0), ("d", 0.0), ("d", -0.5)))
            if n % 10 == 0:
                image = png(pictures(messages)[n])
                head = (("i", 1), ("I", 2), ("s", "head"))
                put("/head/compressed", n, cdr(*head, ("s", "png"), ("*B", image)))
        writer.finish()
    return path


def varint(number: int) -> bytes:
    """Protobuf's base-128 number."""
    number &= 0xFFFFFFFFFFFFFFFF
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def nested(field: int, data: bytes) -> bytes:
    """A field that holds bytes."""
    return varint(field << 3 | 2) + varint(len(data)) + data


def feature(values: Any, packed: bool = True) -> bytes:
    """tf.train.Feature of bytes, float32 or int64."""
    if isinstance(values, list):
        return nested(1, b"".join(nested(1, value) for value in values))
    if values.dtype.kind == "f":
        parts = [struct.pack("<f", value) for value in values]
        listed = nested(1, b"".join(parts)) if packed else b"".join(b"\x0d" + part for part in parts)
        return nested(2, listed)
    numbers = [varint(int(value)) for value in values]
    return nested(3, nested(1, b"".join(numbers)) if packed else b"".join(b"\x08" + number for number in numbers))


def example(features: Mapping[str, Any], packed: bool = True) -> bytes:
    """tf.train.Example."""
    entries = [nested(1, name.encode()) + nested(2, feature(value, packed)) for name, value in features.items()]
    return nested(1, b"".join(nested(1, entry) for entry in entries))


def rlds_features(steps: int = 20, seed: int = 0) -> dict[str, Any]:
    """One episode as TFDS flattens it."""
    first = np.zeros(steps, np.int64)
    first[0] = 1
    return {
        "steps/is_first": first,
        "steps/action": np.zeros(steps * 7, np.float32),
        "steps/observation/state": gripper_path(steps, seed).astype(np.float32).reshape(-1),
        "steps/observation/image_0": [png(picture) for picture in pictures(steps, seed)],
        "steps/language_instruction": [b"put the spoon in the pot"] * steps,
    }


def rlds_folder(folder: Path, episodes: int = 2) -> Path:
    """One shard."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [frame_record(example(rlds_features(seed=seed))) for seed in range(episodes)]
    (folder / "bridge-train.tfrecord-00000-of-00001").write_bytes(b"".join(records))
    return folder


def cosmos_folder(folder: Path, steps: int = 21, scaler: float = 20.0) -> Path:
    """One annotation and its video; "action" is what `state` gives, scaled."""
    (folder / "annotation/train").mkdir(parents=True)
    (folder / "videos/train/0").mkdir(parents=True)
    states = gripper_path(steps)
    told = {
        "texts": ["close the drawer"],
        "videos": [{"video_path": "videos/train/0/rgb.mp4"}],
        "state": states[:, :6].tolist(),
        "continuous_gripper_state": states[:, 6].tolist(),
        "action": states_to_relative_actions(states, scaler).tolist(),
    }
    (folder / "annotation/train/0.json").write_text(json.dumps(told))
    encode_video(folder / "videos/train/0/rgb.mp4", pictures(steps), 10, VideoConfig())
    return folder


def voice_folder(folder: Path, seconds: float = 1.0, rate: int = 16000, told: Mapping[str, Any] | None = None) -> Path:
    """A 440 Hz tone of half the full scale, and what it is said to mean."""
    folder.mkdir(parents=True, exist_ok=True)
    tone = 0.5 * np.sin(2.0 * np.pi * 440.0 * np.arange(round(seconds * rate)) / rate)
    with wave.open(str(folder / "go.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((tone * 32767).astype("<i2").tobytes())
    said = {"text": "walk forward", "command": [0.25, 0.0, -0.5]} if told is None else told
    (folder / "go.json").write_text(json.dumps(said))
    return folder


def stereo_folder(folder: Path, steps: int = 21, fps: int = 25) -> Path:
    """A camera that goes ahead at 0.25 m/s and turns left at 0.5 rad/s; x right, y down, z ahead."""
    folder.mkdir(parents=True, exist_ok=True)
    poses = np.tile(np.eye(4), (steps, 1, 1))
    for n in range(1, steps):
        turn = -0.5 / fps  # about y, which points down: left is negative
        step = np.eye(4)
        step[0, 0], step[0, 2], step[2, 0], step[2, 2] = np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn)
        step[2, 3] = 0.25 / fps
        poses[n] = poses[n - 1] @ step
    np.savez(folder / "clip_1.npz", camera2world=poses[:, :3], timestamps=np.arange(steps))
    for seed, side in enumerate(("left", "right")):
        encode_video(folder / f"clip_1-{side}_rectified.mp4", pictures(steps, seed), fps, VideoConfig())
    return folder


def bones_folder(folder: Path, frames: int = 61) -> Path:
    """Degrees and centimetres at 120 Hz: 0.25 m/s along the world's y, which is ahead, turning left at 0.5 rad/s."""
    folder.mkdir(parents=True, exist_ok=True)
    time_s = np.arange(frames) / 120.0
    yaw = np.pi / 2 + 0.5 * time_s
    ahead = np.cumsum(np.stack([np.cos(yaw), np.sin(yaw)], axis=1) * 25.0 / 120.0, axis=0)
    header = ["Frame", *(f"root_{kind}{axis}" for kind in ("translate", "rotate") for axis in "XYZ")]
    header += [f"{name}_dof" for name in joints.JOINT_NAMES]
    root = np.stack([*ahead.T, np.full(frames, 78.0), np.zeros(frames), np.zeros(frames), np.degrees(yaw)], axis=1)
    table = np.concatenate([np.arange(frames)[:, None], root, np.degrees(angles(frames, 29))], axis=1)
    np.savetxt(folder / "walk_left_001.csv", table, delimiter=",", header=",".join(header), comments="", fmt="%.9g")
    return folder


def kimodo_folder(folder: Path, frames: int = 31) -> Path:
    """MuJoCo qpos at 30 Hz and the prompt."""
    folder.mkdir(parents=True, exist_ok=True)
    root = np.tile([0.0, 0.0, 0.78, 1.0, 0.0, 0.0, 0.0], (frames, 1))
    np.savetxt(folder / "motion_00.csv", np.concatenate([root, angles(frames, 29)], axis=1), delimiter=",")
    (folder / "motion_00.txt").write_text("A person waves.\n")
    return folder


def own_folder(folder: Path) -> Path:
    """Two of our own episodes."""
    return write_episodes(folder, 2)


# type -> how a small data set of it is written, and the options that it needs
ALL: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "lerobot": (bridge_folder, {}),
    "agibot": (agibot_folder, {}),
    "dreamgen": (lambda folder: modality_folder(folder, robot="GR1ArmsOnly"), {}),
    "cosmos_dreamgen": (cosmos_folder, {}),
    "oxe": (rlds_folder, {"fps": 5.0}),
    "voice_commands": (voice_folder, {}),
    "stereo4d": (stereo_folder, {}),
    "gr00t": (modality_folder, {}),
    "bones": (bones_folder, {}),
    "kimodo": (kimodo_folder, {}),
    "neon_sim": (own_folder, {}),
    "unitree": (unitree_folder, {}),
    "rosbag": (lambda folder: bag_file(_made(folder) / "a.mcap").parent, {}),
    "hdf5": (lambda folder: act_file(folder / "episode_0.hdf5").parent, {}),
    "teleop": (teleop_folder, {}),
}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def source_config(kind: str, folder: Path, **changes: Any) -> DataSourceConfig:
    """Write a small data set of a type, and say how to open it."""
    write, options = ALL[kind]
    given = {"name": kind, "type": kind, "path": str(write(folder)), "options": options, **changes}
    return DataSourceConfig(**given)
