"""Tasks in which somebody speaks, and how an instruction reaches the robot: as text, as speech, or as both."""

from collections.abc import Collection
from typing import Final, Protocol, runtime_checkable

from neon_sim.names import nearest
from neon_sim.sensors.voice import Spoken
from neon_sim.tasks.task import Task

INSTRUCT: Final = ("text", "speech", "both")


@runtime_checkable
class SpeakingTask(Protocol):
    """A task that has words of its own for the microphone, whatever the env's `instruct` says."""

    def spoken(self) -> Spoken:
        """What is said in the running episode, and where."""


def spoken_words(task: Task, instruction: str, instruct: str) -> Spoken | None:
    """What a voice says in this episode: a speaking task's own words, else the instruction if it is to be heard.

    None means that nobody speaks. An empty instruction is not spoken.
    """
    if isinstance(task, SpeakingTask):
        return task.spoken()
    return Spoken(instruction) if instruct != "text" and instruction.strip() else None


def check_instruct(instruct: str, sensors: Collection[str]) -> None:
    """Refuse an unknown way to instruct, and speech without ears.

    Raises:
        ValueError: naming the nearest way, or the sensor that is missing.
    """
    if instruct not in INSTRUCT:
        raise nearest("way to instruct", instruct, INSTRUCT)
    if instruct != "text" and "audio" not in sensors:
        raise ValueError(f'instruct={instruct!r} wants "audio" among the sensors, got {tuple(sensors)}. Add it.')
