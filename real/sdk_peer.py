"""The only file that imports Unitree's own Python SDK, for those who have it and want to use its clients.

`unitree_sdk2py` is not on PyPI (the package `unitree-sdk2` there lacks the G1 and does not import). With its source:
    git clone https://github.com/unitreerobotics/unitree_sdk2_python && pip install --no-deps -e unitree_sdk2_python
Its own programs, on the CycloneDDS that is installed here:
    python -m neon_sim.real.bridge --domain 0 --start released --gantry
    python -m neon_sim.real.sdk_peer unitree_sdk2_python/example/g1/low_level/g1_low_level_example.py lo
"""

import importlib
import importlib.util
import runpy
import sys
from pathlib import Path
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
# What stands in the place of the SDK's own settings. On loopback those of CycloneDDS 11 look for others by multicast
# alone, and this project has that switched off there; and they write a log to one file for all users of a machine.
_SETTINGS = (
    '<CycloneDDS><Domain Id="any"><General><Interfaces><NetworkInterface {interface}/></Interfaces></General>'
    "<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>9</MaxAutoParticipantIndex>"
    '<Peers><Peer address="127.0.0.1"/></Peers></Discovery></Domain></CycloneDDS>'
)
_INTERFACES = {
    "ChannelConfigHasInterface": 'name="$__IF_NAME__$"',
    "ChannelConfigHasIP": 'address="$__IF_IP__$"',
    "ChannelConfigAutoDetermine": 'autodetermine="true"',
}
_MISSING = (
    "unitree_sdk2py is not installed, and PyPI does not have it. Clone unitreerobotics/unitree_sdk2_python and "
    "`pip install --no-deps -e` it, or use the clients of neon_sim.real, which need nothing more."
)


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
    adapt_sdk().ChannelFactoryInitialize(config.domain, config.interface)


def adapt_sdk() -> ModuleType:
    """Make the SDK of this process find 0.10.2 and this project, and harm neither; its module of channels.

    Raises:
        ImportError: no SDK.
    """
    describe_bytes_as_0_10_does()
    channel = _module("unitree_sdk2py.core.channel")
    for name, interface in _INTERFACES.items():
        setattr(channel, name, _SETTINGS.format(interface=interface))
    return channel


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
        raise ImportError(_MISSING)
    return importlib.import_module(name)


def main() -> None:
    """Run a program of the SDK's, with its arguments, see `adapt_sdk`."""
    if len(sys.argv) < 2:
        sys.exit("python -m neon_sim.real.sdk_peer PROGRAM.py [ARGUMENTS]: say which program of the SDK to run.")
    if not have_sdk():
        sys.exit(_MISSING)
    adapt_sdk()
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))  # as Python itself does for a program
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
