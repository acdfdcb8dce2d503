"""The two ways out of the robot that are not DDS: pictures over ZMQ, sound over UDP multicast."""

import io
import socket
from typing import Any, Final

import numpy as np
from PIL import Image

from neon_sim.real.eyes import need_zmq
from neon_sim.real.multicast import MICROPHONE_GROUP, membership
from neon_sim.real.transport import LinkError

_JPEG_QUALITY: Final = 85


class CameraOutlet:
    """A ZMQ publisher of JPEG pictures, one a message.

    Raises:
        ImportError: no pyzmq; the message carries the pip line. LinkError: the port is taken.
    """

    def __init__(self, interface: str, port: int) -> None:
        zmq = need_zmq()
        self._context: Any = zmq.Context()
        self._socket: Any = self._context.socket(zmq.PUB)
        self._socket.set_hwm(2)  # who is slow misses pictures
        try:
            self._socket.bind(f"tcp://{interface}:{port}")
        except zmq.ZMQError as error:
            self.close()
            raise LinkError(
                f"TCP port {port} on {interface} cannot be opened ({error}). Choose camera_port."
            ) from error

    def send(self, picture: bytes) -> None:
        """Publish one picture; nobody need be there."""
        self._socket.send(picture)

    def close(self) -> None:
        """Stop. Safe to call twice."""
        self._socket.close(linger=0)
        self._context.term()


class MicrophoneOutlet:
    """A UDP multicast sender of 16 kHz mono s16 packets, on one interface only."""

    def __init__(self, interface: str, port: int, group: str = MICROPHONE_GROUP) -> None:
        self._to = (group, port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, membership(group, interface))
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)

    def send(self, packet: bytes) -> None:
        """Publish one packet; nobody need be there."""
        self._socket.sendto(packet, self._to)

    def close(self) -> None:
        """Stop. Safe to call twice."""
        self._socket.close()


def jpeg(picture: np.ndarray) -> bytes:
    """A picture (H, W, 3) uint8 as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def pcm_of(sound: np.ndarray) -> bytes:
    """Sound (N,) in [-1, 1] as signed 16-bit little-endian samples."""
    return np.round(np.clip(sound, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()
