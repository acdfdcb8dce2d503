"""The env's side of a robot's control: over shared memory to the control process, or in this process in lock-step."""

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from typing import Any, Final, Protocol

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.action_space import VELOCITY_NAMES
from neon_sim.real.command_paths import Outgoing
from neon_sim.real.control_config import lock_step
from neon_sim.real.control_core import ControlCore
from neon_sim.real.control_process import BOXES
from neon_sim.real.control_records import COMMAND, ORDER, Order
from neon_sim.real.errors import ControlProcessError
from neon_sim.real.robot_config import RobotConfig
from neon_sim.real.robot_port import RobotPort
from neon_sim.real.shared_memory import SharedMemory
from neon_sim.real.transport import Link
from neon_sim.robot import RobotCommand

CUTS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "position": ("position_mask", tuple(joints.JOINT_NAMES)),
    "speed": ("speed_mask", tuple(joints.JOINT_NAMES)),
    "velocity": ("velocity_mask", tuple(VELOCITY_NAMES)),
    "self_distance": ("distance_mask", tuple(joints.JOINT_NAMES)),
}
_START_S: Final = 60.0  # importing takes a second, on a busy machine many
_ANSWER_S: Final = 5.0
_POLL_S: Final = 0.0005
_STEP_S: Final = 0.5  # ten control steps and more without one: the process hangs
_LOCK_STEP_S: Final = 10.0  # s of the wall clock for one step of a simulation


class ControlClient(Protocol):
    """What `UnitreeRobot` needs of a control."""

    def now_s(self) -> float:
        """The clock that commands are stamped with."""

    def send(self, command: np.ndarray) -> None:
        """Hand over a record of `COMMAND`."""

    def wait_step(self) -> None:
        """Let one control period pass."""

    def order(self, order: Order, gantry: bool = False) -> bool:
        """Have an order carried out; False if it was refused."""

    def status(self) -> np.ndarray:
        """The newest record of `STATUS`."""

    def words(self) -> dict[str, Any]:
        """reasons of the last stop and findings of the last preflight; no older than any status that was read."""

    def link(self) -> Link | None:
        """The network, if the control has joined it in this process: CycloneDDS lets nobody else join there."""

    def close(self) -> None:
        """Take the robot down and let go of it. Safe to call twice."""


def command_record(command: RobotCommand, now_s: float, pauses: bool = False) -> np.ndarray:
    """A command as a record of `COMMAND`."""
    record = np.zeros((), COMMAND)
    for name in ("joint_target", "owned_mask", "kp", "kd", "velocity", "height"):
        record[name] = getattr(command, name)
    record["time_s"], record["pauses"] = now_s, pauses
    return record


def cut_off(status: np.ndarray) -> dict[str, tuple[str, ...]]:
    """What the control cut off the last command, as names of joints and velocities: the keys of `CUTS`."""
    hits = {key: status[mask].tolist() for key, (mask, _) in CUTS.items()}
    return {
        key: tuple(name for name, hit in zip(names, hits[key], strict=True) if hit) for key, (_, names) in CUTS.items()
    }


class ProcessClient:
    """Starts the control process and talks with it.

    Raises:
        ControlProcessError: it did not start; its own words are in the message.
    """

    def __init__(self, config: RobotConfig) -> None:
        self._memory = SharedMemory(BOXES)
        self._commands, self._orders, self._status, self._words = self._memory.boxes
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the process
        self._ends_s = config.control.stop.lower_s + 5.0
        self._number = 0
        self._steps = 0
        arguments = [sys.executable, "-m", "neon_sim.real.control_process", str(self._memory.fd), str(os.getpid())]
        self.process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stderr=self._said,
            pass_fds=(self._memory.fd,),
            start_new_session=True,  # the terminal's Ctrl-C is not for it
        )
        assert self.process.stdin is not None
        with self.process.stdin as pipe:
            pickle.dump(config, pipe)
        with ExitStack() as undo:
            undo.callback(self._abandon)
            self._wait(lambda: self._status.count > 0, _START_S, "start")
            undo.pop_all()

    def now_s(self) -> float:
        """See `ControlClient`; all processes of one machine share this clock."""
        return time.monotonic()

    def send(self, command: np.ndarray) -> None:
        """See `ControlClient`."""
        self._commands.write(command)

    def wait_step(self) -> None:
        """See `ControlClient`. Raises ControlProcessError when no step comes."""
        before = self._steps
        self._wait(lambda: int(self.status()["steps"]) != before, _STEP_S, "go on")
        self._steps = int(self.status()["steps"])

    def order(self, order: Order, gantry: bool = False) -> bool:
        """See `ControlClient`. Raises ControlProcessError when no answer comes."""
        self._number += 1
        record = np.zeros((), ORDER)
        record["number"], record["order"], record["gantry"] = self._number, order, gantry
        self._orders.write(record)
        self._wait(lambda: int(self.status()["answered"]) == self._number, _ANSWER_S, f"answer to {order.name}")
        return not bool(self.status()["refused"])

    def status(self) -> np.ndarray:
        """See `ControlClient`."""
        status = self._status.read()
        if status is None:
            raise ControlProcessError(f"The control process says nothing that can be read. {self._tail()}")
        return status

    def words(self) -> dict[str, Any]:
        """See `ControlClient`."""
        record = self._words.read()
        if record is None:
            raise ControlProcessError(f"The control process says nothing that can be read. {self._tail()}")
        return json.loads(record["text"].item())

    def link(self) -> Link | None:
        """See `ControlClient`."""
        return None

    def close(self) -> None:
        """See `ControlClient`."""
        if self._memory.fd < 0:
            return
        if self.process.poll() is None:
            try:
                self.order(Order.QUIT)
                self.process.wait(self._ends_s)
            except (ControlProcessError, subprocess.TimeoutExpired):
                self._terminate()
        self._memory.close()
        self._said.close()

    def _abandon(self) -> None:
        """End a process that did not start; its robot was never armed."""
        self._terminate()
        self._memory.close()
        self._said.close()

    def _terminate(self) -> None:
        """It damps on that signal. One that does not even hear it sends nothing any more: it is ended."""
        self.process.terminate()
        try:
            self.process.wait(self._ends_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _wait(self, done: Any, timeout_s: float, what: str) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not done():
            if self.process.poll() is not None:
                raise ControlProcessError(f"The control process ended ({self.process.returncode}). {self._tail()}")
            if time.monotonic() > deadline_s:
                raise ControlProcessError(f"The control process did not {what} in {timeout_s:g} s. {self._tail()}")
            time.sleep(_POLL_S)

    def _tail(self) -> str:
        self._said.seek(0)
        said = self._said.read()[-2000:].decode(errors="replace").strip()
        return f"It said: {said}" if said else "It said nothing. Look at the robot: its own firmware has it now."


class LockStepClient:
    """Controls in this process: a simulation's time passes with each message, and with nothing else.

    Raises:
        ControlProcessError: no state comes in time.
    """

    def __init__(self, config: RobotConfig) -> None:
        self._core = ControlCore(lock_step(config.control))
        self._port = RobotPort(config)
        self._outgoing: Outgoing | None = None
        self._closed = False
        self._wait_state(config.wait_s)

    def now_s(self) -> float:
        """See `ControlClient`: the robot's own clock."""
        return self._core.monitor.clock.tick_s

    def send(self, command: np.ndarray) -> None:
        """See `ControlClient`."""
        self._core.obey(command)
        if not command["pauses"]:
            self._outgoing = self._tick()

    def wait_step(self) -> None:
        """See `ControlClient`. Without a message (unarmed) no time passes."""
        outgoing = self._outgoing or self._tick()
        self._outgoing = None
        self._port.send(outgoing)
        if outgoing.low_cmd is not None:
            self._wait_state(_LOCK_STEP_S)

    def order(self, order: Order, gantry: bool = False) -> bool:
        """See `ControlClient`."""
        return self._port.carry_out(order, self._core, self.now_s(), gantry)

    def status(self) -> np.ndarray:
        """See `ControlClient`."""
        return self._core.status(self.now_s()).copy()

    def words(self) -> dict[str, Any]:
        """See `ControlClient`."""
        return json.loads(self._core.words())

    def link(self) -> Link | None:
        """See `ControlClient`."""
        return self._port.link

    def close(self) -> None:
        """See `ControlClient`: a simulation is simply left."""
        if not self._closed:
            self._closed = True
            self._port.close()

    def _tick(self) -> Outgoing:
        return self._core.tick(self.now_s(), self._port.writers(), charge=self._port.services.charge)

    def _wait_state(self, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not self._port.take_states(self._core, self.now_s()) and not self._core.monitor.troubled:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0.0:
                raise ControlProcessError(f"No state in {timeout_s:g} s. Does the simulation run, in lock-step?")
            self._port.wait(left_s)


def open_client(config: RobotConfig) -> ControlClient:
    """The client for the config's clock."""
    return LockStepClient(config) if config.clock == "lock_step" else ProcessClient(config)
