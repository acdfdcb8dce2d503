"""The robot's microphone on the network: UDP multicast, on one interface only."""

import socket
import struct
from typing import Final

MICROPHONE_GROUP: Final = "239.168.123.161"  # unitree_sdk2 example/g1/audio/g1_audio_client_example.cpp
MICROPHONE_PORT: Final = 5555  # the same example; UDP, so that a camera's TCP port of that number is no clash


def hear(interface: str, port: int, group: str = MICROPHONE_GROUP) -> socket.socket:
    """A socket that receives the robot's microphone on one interface; `recv(65536)` is a packet.

    Raises:
        OSError: no such interface.
    """
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        receiver.bind((group, port))  # the group's address: other multicast on this port is not heard
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership(group, interface))
    except OSError:
        receiver.close()
        raise
    return receiver


def membership(group: str, interface: str) -> bytes:
    """An ip_mreqn: group, address of the interface, its number; whichever of the two the interface is given by."""
    try:
        address, number = socket.inet_aton(interface), 0
    except OSError:  # a name, not an address
        address, number = bytes(4), socket.if_nametoindex(interface)
    return struct.pack("4s4si", socket.inet_aton(group), address, number)
