"""An episode at another rate: what is continuous is interpolated, what is not keeps its last value."""

from dataclasses import replace

import numpy as np

from neon_sim.episode import NeonEpisode

_QUATERNIONS = {"eef": (slice(3, 7), slice(10, 14))}  # wxyz entries of the observations that hold rotations
_PICTURE_NDIM = 4  # (T, H, W, C): half of one picture and half of the next is a third thing


def resample(episode: NeonEpisode, rate_hz: float = 50.0) -> NeonEpisode:
    """The same stretch of time at `rate_hz` steps per second.

    Floats of up to two axes per step are interpolated, quaternions of "eef" stay of unit length, and pictures, whole
    numbers, flags, LiDAR and audio repeat the last value before each new step, as a slow sensor does. Actions are
    targets and are interpolated too. An end, early or late, stays at the last step. The same object if the rate is met.

    Raises:
        ValueError: a rate that is not positive.
    """
    if not rate_hz > 0.0:
        raise ValueError(f"A rate must be positive, got {rate_hz} Hz.")
    if episode.rate_hz == rate_hz or len(episode) == 0:
        return episode if episode.rate_hz == rate_hz else replace(episode, rate_hz=rate_hz)
    steps = resampled_steps(len(episode), episode.rate_hz, rate_hz)
    places = np.minimum(np.arange(steps) * (episode.rate_hz / rate_hz), len(episode) - 1.0)
    before = np.floor(places + 1e-9).astype(int)
    ends = [_move_ends(flags, steps) for flags in (episode.terminated, episode.truncated)]
    return replace(
        episode,
        observations={key: _observation(key, value, places, before) for key, value in episode.observations.items()},
        actions=_interpolate(episode.actions, places, before),
        rewards=episode.rewards[before],
        terminated=ends[0],
        truncated=ends[1],
        infos={key: value[before] for key, value in episode.infos.items()},
        rate_hz=rate_hz,
    )


def resampled_steps(steps: int, rate_hz: float, new_rate_hz: float) -> int:
    """How many steps `resample` makes of an episode of `steps`."""
    return max(1, round(steps * new_rate_hz / rate_hz)) if steps else 0


def _observation(key: str, values: np.ndarray, places: np.ndarray, before: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "f" or values.ndim >= _PICTURE_NDIM or key in ("lidar", "audio"):
        return values[before]
    mixed = _interpolate(values, places, before)
    if values.ndim == 2:
        for part in _QUATERNIONS.get(key, ()):
            mixed[:, part] = _interpolate_quat(values[:, part], places, before)
    return mixed


def _interpolate(values: np.ndarray, places: np.ndarray, before: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "f":
        return values[before]
    after = np.minimum(before + 1, len(values) - 1)
    share = np.clip(places - before, 0.0, 1.0).reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
    return values[before] + share * (values[after] - values[before])


def _interpolate_quat(quat_wxyz: np.ndarray, places: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Along the shorter way, (T, 4) -> (N, 4); q and -q are one rotation."""
    after = quat_wxyz[np.minimum(before + 1, len(quat_wxyz) - 1)]
    nearer = np.where((quat_wxyz[before] * after).sum(axis=1, keepdims=True) < 0.0, -after, after)
    share = np.clip(places - before, 0.0, 1.0)[:, None].astype(quat_wxyz.dtype)
    mixed = quat_wxyz[before] + share * (nearer - quat_wxyz[before])
    length = np.linalg.norm(mixed, axis=1, keepdims=True)
    return mixed / np.where(length > 0.0, length, 1.0)


def _move_ends(flags: np.ndarray, steps: int) -> np.ndarray:
    """Each flag that is set, set at the new step of its time; the last stays the last."""
    moved = np.zeros(steps, bool)
    scale = (steps - 1) / max(1, len(flags) - 1)
    at = np.flatnonzero(flags)
    moved[np.where(at == len(flags) - 1, steps - 1, np.round(at * scale)).astype(int)] = True
    return moved
