"""A person as a policy: keys of a terminal, or the sticks of a gamepad, become velocity and height commands.

Keys: w s or up down = faster forward, backward; a d = left, right; q e or left right = turn; r f = taller, lower;
space = stop; x or Ctrl-C = quit. Speeds stay until changed. The arms stay at home.

Gamepad: the left stick is forward and sideways, the right one turns and changes the height; START quits. Letting go
stops. Needs pygame: pip install pygame.
"""

import os
import select
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any, Final

import numpy as np

from neon_sim.g1 import joints

KEY_STEPS: Final = 5  # control steps per look at the keys: 0.1 s
QUIT: Final = "x"
STOP: Final = " "
NOTHING: Final = "."
# What a key changes: an entry of the command vx, vy, yaw rate, height, and by how much (m/s, m/s, rad/s, m).
KEYS: Final[dict[str, tuple[int, float]]] = {
    "w": (0, 0.1),
    "s": (0, -0.1),
    "a": (1, 0.1),
    "d": (1, -0.1),
    "q": (2, 0.2),
    "e": (2, -0.2),
    "r": (3, 0.02),
    "f": (3, -0.02),
}
ARROWS: Final = {"A": "w", "B": "s", "C": "e", "D": "q"}  # up, down, right, left: the end of what a terminal sends
DEAD_ZONE: Final = 0.15  # of a stick's way: a stick that is let go seldom says exactly zero
HEIGHT_RATE: Final = 0.02  # m per look, right stick all the way

# From the command (4,) vx, vy m/s, yaw rate rad/s, height m to the next one, 0.1 s later; None = the person has enough.
Control = Callable[[np.ndarray], np.ndarray | None]


def press(command: np.ndarray, key: str, limit: np.ndarray, heights: tuple[float, float]) -> np.ndarray:
    """The command (4,) after a key; velocities stay within +-`limit` (3,), the height (m) within `heights`."""
    if key == STOP:
        return np.array((0.0, 0.0, 0.0, command[3]))
    if key not in KEYS:
        return command
    entry, change = KEYS[key]
    command = command.copy()
    command[entry] = round(command[entry] + change, 3)  # so that three times 0.1 is 0.3
    return within(command, limit, heights)


def within(command: np.ndarray, limit: np.ndarray, heights: tuple[float, float]) -> np.ndarray:
    """The nearest command (4,) that the robot can follow."""
    return np.clip(command, np.append(-limit, heights[0]), np.append(limit, heights[1]))


def plain_keys(typed: str) -> str:
    """Letters of KEYS out of what a terminal sends: arrows are three characters, and capitals count as small."""
    for arrow, key in ARROWS.items():
        typed = typed.replace(f"\x1b[{arrow}", key).replace(f"\x1bO{arrow}", key)
    return typed.lower()


@contextmanager
def key_by_key(fd: int) -> Iterator[None]:
    """Let the terminal hand over each key at once and unseen; whatever happens, leave it as it was."""
    import termios  # not on Windows
    import tty

    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def looks() -> Iterator[None]:
    """One look at the person every 0.1 s by the clock on the wall; a slow machine does not catch up."""
    due_s = time.monotonic()
    while True:
        yield
        due_s = max(due_s + KEY_STEPS / 50, time.monotonic() - KEY_STEPS / 50)
        time.sleep(max(due_s - time.monotonic(), 0.0))


def typed_keys(fd: int) -> Iterator[str]:
    """What was typed since the last look; a closed terminal quits."""
    for _ in looks():
        ready, _, _ = select.select([fd], [], [], 0.0)
        raw = os.read(fd, 256) if ready else NOTHING.encode()
        yield plain_keys(raw.decode(errors="ignore")) if raw else QUIT


def keyboard(keys: Iterable[str], limit: np.ndarray, heights: tuple[float, float]) -> Control:
    """Commands by keys; the end of `keys` quits."""
    stream = iter(keys)

    def control(command: np.ndarray) -> np.ndarray | None:
        pressed = next(stream, QUIT)
        if QUIT in pressed:
            return None
        for key in pressed:
            command = press(command, key, limit, heights)
        return command

    return control


def stick_command(
    sticks: np.ndarray, command: np.ndarray, limit: np.ndarray, heights: tuple[float, float]
) -> np.ndarray:
    """The command (4,) that two sticks ask for.

    sticks: (4,) left x, left y, right x, right y in [-1, 1], right and down positive. Beyond the dead zone a stick's
    way is stretched over the whole of it.
    """
    size = np.abs(sticks)
    pushed = np.sign(sticks) * np.clip((size - DEAD_ZONE) / (1.0 - DEAD_ZONE), 0.0, 1.0)
    left_x, left_y, right_x, right_y = pushed
    height = command[3] - HEIGHT_RATE * right_y
    asked = np.array([-left_y * limit[0], -left_x * limit[1], -right_x * limit[2], height])
    return within(asked + 0.0, limit, heights)  # + 0.0: no minus zero


def gamepad(limit: np.ndarray, heights: tuple[float, float]) -> Control:
    """Commands by the first gamepad that is connected.

    Raises:
        ImportError: pygame is not installed.
        ValueError: no gamepad is connected.
    """
    try:
        pygame, controller = import_module("pygame"), import_module("pygame._sdl2.controller")
    except ImportError:
        raise ImportError("A gamepad needs pygame. Install it: pip install pygame") from None
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # events come without a window, over ssh too
    pygame.display.init()
    controller.init()
    found = [number for number in range(controller.get_count()) if controller.is_controller(number)]
    if not found:
        raise ValueError("No gamepad is connected. Plug one in, or drive by keyboard.")
    pad = controller.Controller(found[0])
    axes = [getattr(pygame, f"CONTROLLER_AXIS_{name}") for name in ("LEFTX", "LEFTY", "RIGHTX", "RIGHTY")]
    pace = looks()

    def control(command: np.ndarray) -> np.ndarray | None:
        next(pace)
        pygame.event.pump()
        if pad.get_button(pygame.CONTROLLER_BUTTON_START):
            return None
        sticks = np.array([pad.get_axis(axis) for axis in axes]) / 32767.0
        return stick_command(np.clip(sticks, -1.0, 1.0), command, limit, heights)

    return control


class TeleopPolicy:
    """Follows a person: arms at home, velocity and height as commanded; each chunk is one look at the person.

    Args:
        env: the NeonG1Env that is driven, unwrapped, in a control mode with velocities.
        control: what the person wants next.

    Raises KeyboardInterrupt from `act` when the person quits, as Ctrl-C does.
    """

    def __init__(self, env: Any, control: Control) -> None:
        self.env, self._control = env, control
        self._rest = np.array((0.0, 0.0, 0.0, env.config.height))
        self._command = self._rest
        self._said = ""

    @property
    def words(self) -> str:
        """What the person wants now, as `command_in_words`."""
        return command_in_words(self._command)

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Stand at the height that the env was made with."""
        self._command = self._rest
        self.env.config = replace(self.env.config, height=float(self._rest[3]))

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """The person looks."""

    def act(self) -> np.ndarray:
        """(1, 5, A): 0.1 s of what the person wants; said when it changes."""
        command = self._control(self._command)
        if command is None:
            raise KeyboardInterrupt
        self._command = command
        self.env.config = replace(self.env.config, height=float(command[3]))
        if self.words != self._said:
            print(self.words, flush=True)
            self._said = self.words
        return np.tile(self.env.action_map.encode(joints.HOME, command[:3]), (1, KEY_STEPS, 1))


def velocity_limit(env: Any) -> np.ndarray:
    """(3,) m/s, m/s, rad/s that both the walker and the action of an unwrapped NeonG1Env can say."""
    limit: np.ndarray = np.minimum(env.robot.max_velocity, env.action_map.max_velocity)
    return limit


def command_in_words(command: np.ndarray) -> str:
    """ "vx +0.1 m/s   vy +0.0 m/s   turn +0.0 rad/s   height 0.75 m"."""
    return "vx {:+.1f} m/s   vy {:+.1f} m/s   turn {:+.1f} rad/s   height {:.2f} m".format(*command)
