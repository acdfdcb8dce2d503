"""The `motion_switcher` service: which of the robot's own programs moves it, and how to make it let go.

Before rt/lowcmd does anything the running mode has to be released (or the robot put into debug mode by its remote
control). After that `sport` is gone until a mode is selected again. Numbers and JSON: unitree_sdk2_python 37116c52
comm/motion_switcher. The vendor's "silent" calls (1004, 1005) are not offered: their JSON was not seen.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from neon_sim.real.rpc import Handler, Reply, RpcClient, RpcServer, string
from neon_sim.real.rpc_errors import WrongReplyError
from neon_sim.real.transport import Link

SERVICE: Final = "motion_switcher"
VERSION: Final = "1.0.0.1"


class Api(IntEnum):
    """The service's functions."""

    CHECK_MODE = 1001
    SELECT_MODE = 1002
    RELEASE_MODE = 1003


@dataclass(frozen=True)
class MotionMode:
    """What moves the robot now."""

    form: str
    name: str  # "" when nothing does: then rt/lowcmd is free


class MotionSwitcher(Protocol):
    """The switch: `MotionSwitcherClient` is one over the network, the simulated robot is another."""

    def check_mode(self) -> MotionMode:
        """Return what moves the robot now."""

    def select_mode(self, name: str) -> None:
        """Start a program by its name or alias."""

    def release_mode(self) -> None:
        """Stop the running program; the robot loses its balance unless it hangs or somebody else holds it up."""


class MotionSwitcherClient:
    """`MotionSwitcher` over the network. Every method can raise an RpcError."""

    def __init__(self, link: Link, timeout_s: float = 1.0) -> None:
        self._rpc = RpcClient(link, SERVICE, timeout_s)

    def check_mode(self) -> MotionMode:
        """See `MotionSwitcher`."""
        data = self._rpc.call(Api.CHECK_MODE).data
        if not isinstance(data, dict) or not isinstance(data.get("name"), str):
            raise WrongReplyError(f'{SERVICE}/{Api.CHECK_MODE} wanted {{"form", "name"}}, got {data!r}')
        return MotionMode(str(data.get("form", "")), data["name"])

    def select_mode(self, name: str) -> None:
        """See `MotionSwitcher`."""
        self._rpc.call(Api.SELECT_MODE, {"name": name})

    def release_mode(self) -> None:
        """See `MotionSwitcher`."""
        self._rpc.call(Api.RELEASE_MODE)


def serve_motion_switcher(link: Link, switcher: MotionSwitcher) -> RpcServer:
    """Offer a switch as the `motion_switcher` service; poll the server that comes back."""

    def check(parameter: dict, binary: bytes) -> Reply:
        mode = switcher.check_mode()
        return Reply({"form": mode.form, "name": mode.name})

    def select(parameter: dict, binary: bytes) -> Reply:
        switcher.select_mode(string(parameter, "name"))
        return Reply()

    def release(parameter: dict, binary: bytes) -> Reply:
        switcher.release_mode()
        return Reply()

    handlers: dict[int, Handler] = {Api.CHECK_MODE: check, Api.SELECT_MODE: select, Api.RELEASE_MODE: release}
    return RpcServer(link, SERVICE, handlers, VERSION)
