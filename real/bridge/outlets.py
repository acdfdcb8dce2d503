"""The two ways out of the robot that are not DDS: pictures over ZMQ, sound over UDP multicast."""

import socket
import struct
from typing import Any, Final

from neon_sim.real.transport import LinkError

MICROPHONE_GROUP: Final = "239.168.123.161"  # unitree_sdk2 example/g1/audio/g1_audio_client_example.cpp
PIP_LINE: Final = "pip install 'neon-sim[real]'"


class CameraOutlet:
    """A ZMQ publisher of JPEG pictures, one a message.

    Raises:
        ImportError: no pyzmq; the message carries the pip line. LinkError: the port is taken.
    """

    def __init__(self, interface: str, port: int) -> None:
        zmq = _zmq()
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
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _membership(group, interface))
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)

    def send(self, packet: bytes) -> None:
        """Publish one packet; nobody need be there."""
        self._socket.sendto(packet, self._to)

    def close(self) -> None:
        """Stop. Safe to call twice."""
        self._socket.close()


def hear(interface: str, port: int, group: str = MICROPHONE_GROUP) -> socket.socket:
    """A socket that receives the robot's microphone on one interface; `recv(65536)` is a packet."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    receiver.bind((group, port))  # the group's address: other multicast on this port is not heard
    receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, _membership(group, interface))
    return receiver


def _membership(group: str, interface: str) -> bytes:
    """An ip_mreqn: group, address of the interface, its number; whichever of the two the interface is given by."""
    try:
        address, number = socket.inet_aton(interface), 0
    except OSError:  # a name, not an address
        address, number = bytes(4), socket.if_nametoindex(interface)
    return struct.pack("4s4si", socket.inet_aton(group), address, number)


def _zmq() -> Any:
    try:
        import zmq
    except ImportError as error:
        raise ImportError(f"Pictures on the wire need pyzmq: {PIP_LINE}") from error
    return zmq
