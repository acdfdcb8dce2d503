"""NeonBench's cells: the worlds that a policy is judged in, each the nominal one with one thing changed, or all things.

Nominal is `NeonG1-v0` as it is made without options, on 5 ms physics: flat floor, the training set's wordings and
objects, clean senses. What is unseen comes from the "test" sets of tasks and rooms. How dark, loud and lossy the senses
get is a choice.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from neon_sim.names import nearest
from neon_sim.sensors.audio import AudioConfig
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.camera_randomization import CameraRandomization
from neon_sim.sensors.lidar import LidarConfig
from neon_sim.sim.rooms import RoomConfig
from neon_sim.sim.scene import FLAT
from neon_sim.tasks import TASKS

__all__ = ["CELLS", "LASTING", "TASKS", "WORDS", "cell_options", "first_alike"]

CELLS: Final[dict[str, tuple[str, ...]]] = {  # by name: what differs from nominal
    "nominal": (),
    "unseen_scenes": ("scene",),
    "unseen_wordings": ("wording",),
    "unseen_objects": ("objects",),
    "camera_dark": ("camera",),
    "audio_noise": ("audio",),
    "lidar_dropout": ("lidar",),
    "everything_unseen": ("scene", "wording", "objects", "camera", "audio", "lidar"),
}
WORDS: Final = "words"  # what a policy reads when it reads its instruction; the rest of what it reads are sensors
LASTING: Final = ("stand", "walk", "track")  # done only if done to the end; the other tasks end with success
PHYSICS_DT: Final = 0.005  # s
# Changes no picture, but draws from the episode's stream as the dark one does: with one seed, both see one scene.
_CLEAR: Final = CameraRandomization(exposure=(1.0, 1.0 + 1e-9), color=(1.0, 1.0), pos_m=0.0, angle_rad=0.0)
_CAMERA: Final = CameraConfig(rate_hz=12.5, randomization=_CLEAR)  # a new picture for every chunk of 16 steps
_DARK: Final = CameraRandomization(exposure=(0.02, 0.05), color=(1.0, 1.0), pos_m=0.0, angle_rad=0.0, pixel_noise=1.0)
# Left and right of the head, for a policy that was made for two microphones. A new frame of 0.32 s every 8 steps leaves
# nothing unheard, and recordings small.
TWO_EARS: Final = AudioConfig(microphones=2, rate_hz=6.25)
_LOUD_DB: Final = 60.0  # dB SPL: as loud as the voices (`VoiceConfig`), not 35
_SENSES: Final[dict[str, tuple[Any, Any]]] = {  # as they are nominally, and when their cell spoils them
    "camera": (_CAMERA, replace(_CAMERA, randomization=_DARK)),
    "audio": (AudioConfig(), AudioConfig(ambient_db=_LOUD_DB)),
    "lidar": (LidarConfig(), LidarConfig(dropout=0.5)),
}


def cell_options(cell: str, reads: Sequence[str], room: int = 0, microphones: int = 1) -> dict[str, Any]:
    """Options of `NeonG1-v0`, without the task, for a policy in a cell.

    reads: the sensors that the policy reads, and `WORDS` if it reads its instruction. What it does not read is not
    sensed, and cannot differ: cells that are alike for it have equal options. room: seed of an unseen scene.
    microphones: that it hears with, 1 or 2.

    Raises:
        ValueError: no such cell, naming the nearest.
    """
    if cell not in CELLS:
        raise nearest("cell", cell, CELLS)
    changed = CELLS[cell]
    sensors = tuple(name for name in reads if name != WORDS)
    senses = {name: pair[name in changed] for name, pair in _SENSES.items() if name in sensors}
    if microphones == 2 and "audio" in senses:
        senses["audio"] = replace(TWO_EARS, ambient_db=senses["audio"].ambient_db)
    wording = "wording" in changed and not {WORDS, "audio"}.isdisjoint(reads)
    return {
        "physics_dt": PHYSICS_DT,
        "sensors": sensors,
        "scene": RoomConfig("test", seed=room) if "scene" in changed else FLAT,
        "task_options": {
            "wording": "test" if wording else "train",
            "objects": "test" if "objects" in changed else "train",
        },
        **senses,
    }


def first_alike(cell: str, reads: Sequence[str]) -> str:
    """The first of `CELLS` that is the same world for a policy that reads this: often the cell itself.

    Raises:
        ValueError: no such cell, naming the nearest.
    """
    options = cell_options(cell, reads)
    return next(other for other in CELLS if cell_options(other, reads) == options)
