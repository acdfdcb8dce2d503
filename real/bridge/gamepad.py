"""The remote control in the operator's hands: sticks and buttons, as bytes of LowState and as a topic of its own."""

import struct
from dataclasses import dataclass
from typing import Final

from neon_sim.names import nearest
from neon_sim.real.idl.unitree_go import WirelessController

# One bit each, from bit 0 up: unitree_rl_gym 276801e4 deploy_real/common/remote_controller.py.
BUTTONS: Final = (
    *("R1", "L1", "start", "select", "R2", "L2", "F1", "F2"),
    *("A", "B", "X", "Y", "up", "right", "down", "left"),
)
_REMOTE_BYTES: Final = 40


@dataclass(frozen=True)
class Gamepad:
    """Sticks -1..1 (left and right, x to the right and y away from the operator) and the buttons that are held.

    Raises ValueError for a button that is not there.
    """

    lx: float = 0.0
    ly: float = 0.0
    rx: float = 0.0
    ry: float = 0.0
    buttons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.buttons:
            if name not in BUTTONS:
                raise nearest("button", name, BUTTONS)

    @property
    def keys(self) -> int:
        """The buttons as bits."""
        return sum(1 << BUTTONS.index(name) for name in set(self.buttons))

    def remote_bytes(self) -> bytes:
        """LowState.wireless_remote, 40 bytes: keys at 2, then lx, rx, ry, a gap, ly as floats from 4 on."""
        packed = struct.pack("<2xHfff4xf", self.keys, self.lx, self.rx, self.ry, self.ly)
        return packed.ljust(_REMOTE_BYTES, b"\0")

    def message(self) -> WirelessController:
        """The sample for rt/wirelesscontroller."""
        return WirelessController(self.lx, self.ly, self.rx, self.ry, self.keys)
