"""The only file that imports Unitree's own Python SDK, for those who have it and want to use its clients.

`unitree_sdk2py` is not on PyPI (the package `unitree-sdk2` there lacks the G1 and does not import). With its source:
    git clone https://github.com/unitreerobotics/unitree_sdk2_python && pip install --no-deps -e unitree_sdk2_python
"""

import importlib
import importlib.util
from types import ModuleType
from typing import Any

from cyclonedds.idl import _xt_builder

from neon_sim.names import nearest
from neon_sim.real.transport import LinkConfig, LinkError

_CLIENTS = {
    "sport": ("unitree_sdk2py.g1.loco.g1_loco_client", "LocoClient"),
    "arm": ("unitree_sdk2py.g1.arm.g1_arm_action_client", "G1ArmActionClient"),
    "voice": ("unitree_sdk2py.g1.audio.g1_audio_client", "AudioClient"),
    "motion_switcher": ("unitree_sdk2py.comm.motion_switcher.motion_switcher_client", "MotionSwitcherClient"),
}


def have_sdk() -> bool:
    """True if `unitree_sdk2py` is installed."""
    return importlib.util.find_spec("unitree_sdk2py") is not None


def describe_bytes_as_0_10_does() -> None:
    """Make CycloneDDS 11 describe every `uint8` as TK_BYTE: the SDK's types declare `uint8`, and see `real/idl`.

    A process that has not done this and opens one of the SDK's topics kills 0.10.2 processes that hear of it.
    """
    _xt_builder.xt.TK_UINT8 = _xt_builder.xt.TK_BYTE


def open_sdk(config: LinkConfig) -> None:
    """Open the SDK's one channel of this process, where a `Link` of the same settings would talk.

    The SDK opens the domain itself: a process has either its clients or a `Link` on one domain.

    Raises:
        ImportError: no SDK. LinkError: not loopback and `allow_network` is False.
    """
    if not config.on_loopback and not config.allow_network:
        raise LinkError(f"Interface {config.interface!r} is not loopback. Pass allow_network=True if you mean it.")
    channel = _module("unitree_sdk2py.core.channel")
    describe_bytes_as_0_10_does()
    channel.ChannelFactoryInitialize(config.domain, config.interface)


def sdk_client(service: str, timeout_s: float = 1.0) -> Any:
    """Return the SDK's own client of a service ("sport", "arm", "voice", "motion_switcher"); `open_sdk` comes first.

    Raises:
        ValueError: no such service. ImportError: no SDK.
    """
    if service not in _CLIENTS:
        raise nearest("service", service, _CLIENTS)
    module, name = _CLIENTS[service]
    client = getattr(_module(module), name)()
    client.SetTimeout(timeout_s)
    client.Init()
    return client


def _module(name: str) -> ModuleType:
    if not have_sdk():
        raise ImportError(
            "unitree_sdk2py is not installed, and PyPI does not have it. Clone unitreerobotics/unitree_sdk2_python and "
            "`pip install --no-deps -e` it, or use the clients of neon_sim.real, which need nothing more."
        )
    return importlib.import_module(name)
