"""What a policy would have seen at one step of an episode, and what was done from there: one training sample."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from neon_sim.data.source import SKIP_HINT, BadEpisodeError
from neon_sim.episode import NeonEpisode
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.names import nearest

SENSES: Final[tuple[str, ...]] = (
    "proprio",
    "eef",
    "lidar",
    "audio",
    "depth",
    "segmentation",
    "imu",
    "force",
    "tactile",
    "gps",
    "state",
)
KEYS: Final = ("camera", *SENSES)  # observations that samples can be cut from
EXPERT: Final = "expert_action"  # info of an episode that a disturbed expert played: what it would have done itself
GOAL: Final[tuple[str, ...]] = (
    "goal_hand",
    "goal_pos_b",
)  # infos of an episode that say what the words meant, where that is known


SOUND_HZ: Final = 16_000  # samples a second of "audio"


@dataclass(frozen=True)
class WindowConfig:
    """How samples are cut, and from which observations: the others are not even read.

    Raises ValueError for a number that is not positive, or an observation that no sample has.
    """

    num_action_steps: int = 16
    stride: int = 16  # steps between two places where a sample may begin
    fps: float = 4.0  # of the clip
    frames: int = 4  # in the clip
    image_size: int = 128  # px, square
    sound_memory_s: float = 0.0  # s of sound in a sample; 0 = what the episode has at that step
    microphones: int = 1  # whose sound lies one after the other in a frame
    keys: tuple[str, ...] = KEYS  # those of `KEYS` that the policy looks at

    def __post_init__(self) -> None:
        may_be_zero = ("sound_memory_s",)
        numbers = {name: value for name, value in vars(self).items() if name != "keys"}
        wrong = {k: value for k, value in numbers.items() if not (value > 0 or (value == 0 and k in may_be_zero))}
        if wrong:
            raise ValueError(f"WindowConfig wants positive numbers, got {wrong}.")
        for key in self.keys:
            if key not in KEYS:
                raise nearest("observation of a sample", key, KEYS)

    def count(self, steps: int) -> int:
        """Samples that an episode of so many steps has."""
        return -(-steps // self.stride)


@dataclass(frozen=True)
class Window:
    """One sample; arrays are its own."""

    source: str
    frames: np.ndarray | None  # (T, S, S, 3) uint8, oldest first; None where the episode has no camera, or nobody looks
    instruction: str
    senses: dict[str, np.ndarray]  # name -> float32; sound that was listened to float16, see DataSoup.listen
    chunk: np.ndarray  # (steps, A) float32 in [-1, 1]
    mask: np.ndarray  # (steps,) float32: 0 beyond the end of the episode
    hand: int  # 0 left, 1 right, 2 both, -1 where nobody said what the words meant
    target_pos_b: np.ndarray  # (3,) float32 m, pelvis frame


def cut_window(episode: NeonEpisode, step: int, config: WindowConfig, columns: np.ndarray, source: str = "") -> Window:
    """The sample of an episode that begins at a step.

    Where an expert was disturbed, its own wish is learned: what led astray is seen and not copied. It made its wish
    every 16 steps, so samples that begin there (`WindowConfig.stride`) have one that fits what was seen.

    columns: of the episode's action that the policy has, see `action_columns`.
    """
    chunk = np.zeros((config.num_action_steps, len(columns)), np.float32)
    done = episode.infos.get(EXPERT, episode.actions)
    taken = done[step : step + config.num_action_steps, columns]
    chunk[: len(taken)] = taken
    mask = (np.arange(config.num_action_steps) < len(taken)).astype(np.float32)
    seen = episode.observations
    senses = {name: np.asarray(seen[name][step], np.float32) for name in SENSES if name in config.keys and name in seen}
    if config.sound_memory_s and "audio" in senses:
        senses["audio"] = cut_sound(seen["audio"], step, episode.rate_hz, config.sound_memory_s, config.microphones)
    hand, target = -1, np.zeros(3, np.float32)
    if all(name in episode.infos for name in GOAL):
        hand, target = int(episode.infos["goal_hand"][step]), episode.infos["goal_pos_b"][step].astype(np.float32)
    return Window(source, cut_clip(episode, step, config), episode.instruction, senses, chunk, mask, hand, target)


def cut_clip(episode: NeonEpisode, step: int, config: WindowConfig) -> np.ndarray | None:
    """The clip (T, S, S, 3) that ends at a step; the oldest frame is repeated where the past is shorter."""
    pictures = episode.observations.get("camera")
    if pictures is None or "camera" not in config.keys:
        return None
    ages = np.arange(config.frames - 1, -1, -1) * episode.rate_hz / config.fps
    rows = np.maximum(np.rint(step - ages).astype(int), 0)
    return np.stack([fit_picture(pictures[row], config.image_size) for row in rows])


def cut_sound(
    frames: Sequence[np.ndarray] | np.ndarray, step: int, rate_hz: float, seconds: float, microphones: int = 1
) -> np.ndarray:
    """The last `seconds` of sound up to a step, (microphones * seconds * SOUND_HZ,) float32, out of frames
    (steps, microphones * S) that overlap.

    As a policy's `SoundBuffer` remembers it: a frame that is still the one before is nothing new, and where no frame
    reaches, before the episode too, it is silent.
    """
    length = round(seconds * SOUND_HZ)
    sound = np.zeros((microphones, length), np.float32)

    def fresh(row: int) -> bool:
        return row == 0 or not np.array_equal(frames[row], frames[row - 1])

    newest = next(row for row in range(step, -1, -1) if fresh(row))
    for row in filter(fresh, range(max(0, newest - math.ceil(seconds * rate_hz)), newest + 1)):
        frame = np.asarray(frames[row], np.float32).reshape(microphones, -1)
        end = length - round((newest - row) / rate_hz * SOUND_HZ)
        if end > 0:
            heard = frame[:, -end:]
            sound[:, end - heard.shape[1] : end] = heard
    return sound.ravel()


def fit_picture(picture: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a picture (H, W, 3) uint8, as (size, size, 3)."""
    height, width = picture.shape[:2]
    if height == width == size:
        return picture
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(picture[top : top + side, left : left + side])
    return np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))


def action_columns(wanted: G1ActionSpace, control_mode: str, where: str = "") -> np.ndarray:
    """Columns (A,) of an action in `control_mode`'s layout that make an action of `wanted`.

    where: what the error calls the episode. Raises ValueError when it does not say what some entry should be.
    """
    has = list(G1ActionSpace(control_mode).names)
    missing = [name for name in wanted.names if name not in has]
    if missing:
        raise ValueError(
            f"{where}{where and ': '}A {wanted.control_mode} policy wants {', '.join(missing)}, which {control_mode} "
            f"episodes do not say. Record some with that control mode, or train a {control_mode} policy."
        )
    return np.array([has.index(name) for name in wanted.names])


def check_episode(episode: NeonEpisode, where: str) -> NeonEpisode:
    """The episode itself, if it can be learned from.

    Raises BadEpisodeError for an empty one, or for numbers that are not finite.
    """
    if not len(episode):
        raise BadEpisodeError(f"{where} is empty. Remove it, or {SKIP_HINT}.")
    taught = {name: episode.infos[name] for name in (EXPERT, *GOAL) if name in episode.infos}
    arrays: Mapping[str, np.ndarray] = {"action": episode.actions, **episode.observations, **taught}
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0])
            raise BadEpisodeError(f"{where}: {name} is not finite at step {row}. Repair it, or {SKIP_HINT}.")
    return episode
