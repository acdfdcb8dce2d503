"""What a client sends to the inference server, checked before any of it reaches the network."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from neon_sim.model.extra_encoders import EXTRA_ENCODERS
from neon_sim.model.neon_vla import PROPRIO_DIM, SENSES, NeonVLA
from neon_sim.model.video_backbone import COMPACT
from neon_sim.names import nearest

KNOWN_SENSES: Final = (*SENSES[1:], *EXTRA_ENCODERS)  # proprioception has an argument of its own
PICTURE_SENSES: Final = ("depth", "segmentation")
_LONGEST_INSTRUCTION: Final = 1000  # characters
_MOST_FRAMES, _MOST_PIXELS = 64, 4_000_000  # of a clip, of a picture
_FEWEST_SAMPLES, _MOST_SAMPLES = 1600, 480_000  # 0.1 and 30 s at 16 kHz
_MOST_POINTS = 65_536


class Observation(NamedTuple):
    """Frames oldest first (T, H, W, 3) uint8, words, proprioception (125,) or None, and the other senses."""

    frames: np.ndarray
    instruction: str
    proprioception: np.ndarray | None
    senses: dict[str, np.ndarray]


def check_observation(
    model: NeonVLA, image: Any, instruction: Any, proprioception: Any, senses: Mapping[str, Any]
) -> Observation:
    """Arrays, lists or numbers in, an observation that `model` can take out.

    Raises ValueError, saying what was wanted and what came, for anything else: a wrong shape, a value that is not
    finite, a sense that does not exist, too much of anything.
    """
    if not isinstance(instruction, str) or not 0 < len(instruction.strip()) <= _LONGEST_INSTRUCTION:
        raise ValueError(f"instruction wants 1 to {_LONGEST_INSTRUCTION} characters of text, got {_told(instruction)}.")
    body = None if proprioception is None else _numbers("proprioception", proprioception)
    if body is not None and body.shape != (PROPRIO_DIM,):
        raise ValueError(f"proprioception wants ({PROPRIO_DIM},) numbers, got {body.shape}. See the env's 'proprio'.")
    sizes = {"eef": 14, **model.config.extra_senses}
    known = {name: _sense(name, value, sizes) for name, value in senses.items() if value is not None}
    return Observation(_frames(model, image), instruction, body, known)


def _frames(model: NeonVLA, image: Any) -> np.ndarray:
    pictures = np.asarray(image)
    pictures = pictures[None] if pictures.ndim == 3 else pictures
    wanted = "image wants a picture (H, W, 3) or a clip (T, H, W, 3) of whole numbers 0 to 255"
    if pictures.ndim != 4 or pictures.shape[3] != 3 or not pictures.size or pictures.dtype.kind not in "iu":
        raise ValueError(f"{wanted}, got {np.shape(image)} {pictures.dtype}.")
    length, height, width = pictures.shape[:3]
    if length > _MOST_FRAMES or height * width > _MOST_PIXELS:
        raise ValueError(f"{wanted}, at most {_MOST_FRAMES} frames of {_MOST_PIXELS} pixels, got {pictures.shape}.")
    if pictures.dtype != np.uint8 and not 0 <= int(pictures.min()) <= int(pictures.max()) <= 255:
        raise ValueError(f"{wanted}, got {pictures.min()} to {pictures.max()}.")
    side = model.config.backbone.image_size
    if model.config.backbone.model_id == COMPACT and (height, width) != (side, side):
        raise ValueError(f"This backbone sees {side} x {side} px, got {height} x {width}. Crop and resize first.")
    return pictures.astype(np.uint8)


def _sense(name: str, value: Any, sizes: Mapping[str, int]) -> np.ndarray:
    if name not in KNOWN_SENSES:
        raise nearest("sense", name, ("proprioception", *KNOWN_SENSES))
    numbers = _numbers(name, value)
    if name in PICTURE_SENSES:
        numbers = numbers[..., 0] if numbers.ndim == 3 and numbers.shape[2] == 1 else numbers
        if numbers.ndim != 2 or not 0 < numbers.size <= _MOST_PIXELS:
            raise ValueError(f"{name} wants (H, W), at most {_MOST_PIXELS} pixels, got {numbers.shape}.")
        return numbers
    numbers = numbers.ravel() if name == "tactile" else numbers  # the env has it as palms of rows of cells
    if numbers.ndim != 1:
        raise ValueError(f"{name} wants one row of numbers, got {numbers.shape}.")
    if name == "lidar" and (len(numbers) % 3 or not 0 < len(numbers) <= 3 * _MOST_POINTS):
        raise ValueError(f"lidar wants x, y, z of 1 to {_MOST_POINTS} points in m, got {len(numbers)} numbers.")
    if name == "audio" and not _FEWEST_SAMPLES <= len(numbers) <= _MOST_SAMPLES:
        raise ValueError(f"audio wants 0.1 to 30 s at 16 kHz, got {len(numbers) / 16000:.3g} s. Pad it with zeros.")
    if name in sizes and len(numbers) != sizes[name]:
        raise ValueError(f"{name} wants {sizes[name]} numbers, got {len(numbers)}.")
    return numbers


def _numbers(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise ValueError(f"{name} wants finite numbers, got {_told(value)}.")
    return array.astype(np.float32)


def _told(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
