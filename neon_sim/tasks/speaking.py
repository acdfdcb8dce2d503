"""Tasks in which somebody speaks, and how an instruction reaches the robot: as text, as speech, or as both."""

import logging
from collections.abc import Collection
from typing import Final, Protocol, runtime_checkable

from neon_sim.names import nearest
from neon_sim.sensors.voice import Said, Spoken
from neon_sim.tasks.task import Task

INSTRUCT: Final = ("text", "speech", "both")


_HEAR: Final = frozenset({"audio", "state"})  # sensors that know what a voice says
_told: set[str] = set()  # tasks of which this process has said that nobody hears


@runtime_checkable
class SpeakingTask(Protocol):
    """A task that has words of its own for the microphone, whatever the env's `instruct` says."""

    def spoken(self) -> Spoken:
        """What is said in the running episode, and where."""

    def listen(self, said: Said) -> None:
        """Told after each `reset` of an env with a microphone: the expert must not know before it could have heard."""


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


def say_if_deaf(task: Task, sensors: Collection[str]) -> None:
    """Log one line, once per process and task, if a voice gives the goal away and none of the sensors can hear it.

    Without any sensor nothing is said: who senses nothing, such as an expert that knows the truth, did not mean to.
    """
    if isinstance(task, SpeakingTask) and sensors and not _HEAR & set(sensors) and task.name not in _told:
        _told.add(task.name)
        logging.getLogger(__name__).warning(
            'In task %r only a voice says what to do, and %s cannot hear it. Add "audio" to the sensors.',
            task.name,
            tuple(sensors),
        )
