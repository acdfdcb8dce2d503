"""The `arm` service: the robot's own gestures. Numbers and names: unitree_sdk2_python 37116c52 g1/arm.

It moves the arms through rt/arm_sdk, so that it and a policy on that topic exclude each other (ArmsTakenError).
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final, Protocol

from neon_sim.real.rpc import Handler, Reply, RpcClient, RpcServer, number
from neon_sim.real.transport import Link

SERVICE: Final = "arm"
VERSION: Final = "1.0.0.14"


class Api(IntEnum):
    """The service's functions."""

    EXECUTE = 7106
    LIST = 7107


class Gesture(IntEnum):
    """What the arms can do by themselves. Some are held until RELEASE, or until the same is asked for again."""

    TWO_HAND_KISS = 11
    LEFT_KISS = 12
    RIGHT_KISS = 13
    HANDS_UP = 15
    CLAP = 17
    HIGH_FIVE = 18
    HUG = 19
    HEART = 20
    RIGHT_HEART = 21
    REJECT = 22
    RIGHT_HAND_UP = 23
    X_RAY = 24
    FACE_WAVE = 25
    HIGH_WAVE = 26
    SHAKE_HAND = 27
    RELEASE = 99


class ArmGestures(Protocol):
    """Gestures: `ArmGesturesClient` does them over the network, the simulated robot by itself."""

    def execute(self, gesture: int) -> None:
        """Begin a gesture. Raises UnknownGestureError, ArmsTakenError, ArmsHoldingError, NoGestureNowError."""

    def gestures(self) -> Sequence[Any]:
        """Return what can be asked for, as the robot describes it."""


class ArmGesturesClient:
    """`ArmGestures` over the network. Every method can raise an RpcError."""

    def __init__(self, link: Link, timeout_s: float = 10.0) -> None:
        """timeout_s: the robot may answer only when the gesture is over."""
        self._rpc = RpcClient(link, SERVICE, timeout_s)

    def execute(self, gesture: int) -> None:
        """See `ArmGestures`."""
        self._rpc.call(Api.EXECUTE, {"data": int(gesture)})

    def gestures(self) -> Sequence[Any]:
        """See `ArmGestures`. The shape of a real robot's list was not seen; it comes as it is."""
        return self._rpc.call(Api.LIST).data


def serve_arm_gestures(link: Link, arms: ArmGestures) -> RpcServer:
    """Offer gestures as the `arm` service; poll the server that comes back."""

    def execute(parameter: dict, binary: bytes) -> Reply:
        arms.execute(int(number(parameter, "data")))
        return Reply()

    def gestures(parameter: dict, binary: bytes) -> Reply:
        return Reply(list(arms.gestures()))

    handlers: dict[int, Handler] = {Api.EXECUTE: execute, Api.LIST: gestures}
    return RpcServer(link, SERVICE, handlers, VERSION)
