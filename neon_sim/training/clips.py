"""Short films of the reach scene with the truth beside them: what the compact backbone is trained on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from neon_sim.training.captions import direction

FRAME_STEPS = 12  # control steps between two frames: 0.24 s, about 4 frames per second
_DIRECTION_B = np.array([[0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=np.float64)  # left, right, up, down


@dataclass(frozen=True)
class ClipConfig:
    """How the films are made."""

    frames: int = 8
    moving_share: float = 0.6  # films in which balls drift
    max_speed: float = 0.10  # m/s
    expert_share: float = 0.5  # films in which the scripted expert reaches; in the others the arms wander
    still_share: float = 0.2  # balls that stay where they are in a film with drifting balls
    end_at_reset_places: bool = False  # a ball's last place then says nothing about the way it came


MOTION_PROBE = ClipConfig(frames=4, moving_share=1.0, expert_share=0.0, still_share=0.0, end_at_reset_places=True)


def record_film(env: gymnasium.Env, config: ClipConfig, seed: int) -> dict[str, np.ndarray]:
    """Film one episode of the reach task: frames (F, H, W, 3) u8, ball_pos_b (F, n, 3) m, colors (n,) index,
    drift (n,) index into captions.DIRECTIONS of the way each ball was moved.

    A ball's place is the one after its last move, one control step newer than its picture: 2 mm at the most.
    """
    base: Any = env.unwrapped
    rng = np.random.default_rng(seed)
    obs, _ = env.reset(seed=seed)
    names = list(base.privileged()["ball_pos_b"])
    velocity = _ball_velocities(len(names), config, rng)
    if config.end_at_reset_places:
        _move_balls(base, names, velocity, -(config.frames - 1) * FRAME_STEPS * base.robot.dt)
        obs["camera"] = base.robot.sensor("camera").capture(base.robot.data, 0.0)
    expert = rng.random() < config.expert_share
    wander = np.zeros(base.action_map.dim)
    frames, positions = [], []
    for _ in range(config.frames):
        frames.append(obs["camera"])
        positions.append(list(base.privileged()["ball_pos_b"].values()))
        wander = 0.7 * wander + rng.normal(0.0, 0.25, wander.shape)
        wander[base.action_map.groups["locomotion"]] = 0.0  # the arms wander, the robot stays
        chunk = base.expert_chunk(FRAME_STEPS) if expert else np.tile(np.clip(wander, -1, 1), (FRAME_STEPS, 1))
        for action in chunk:
            obs, *_ = env.step(action)
            _move_balls(base, names, velocity, base.robot.dt)
    return {
        "frames": np.stack(frames),
        "ball_pos_b": np.array(positions, dtype=np.float32),
        "colors": np.array([base.task.colors.index(name) for name in names], dtype=np.int64),
        "drift": np.array([direction(speed) for speed in velocity], dtype=np.int64),
    }


def _ball_velocities(count: int, config: ClipConfig, rng: np.random.Generator) -> np.ndarray:
    if rng.random() >= config.moving_share:
        return np.zeros((count, 3))
    speed = rng.uniform(0.03, config.max_speed, (count, 1)) * (rng.random((count, 1)) >= config.still_share)
    return speed * _DIRECTION_B[rng.integers(len(_DIRECTION_B), size=count)]


def _move_balls(base: Any, names: list[str], velocity: np.ndarray, span_s: float) -> None:
    for name, speed in zip(names, velocity, strict=True):
        if speed.any():
            pos_w, _ = base.world.object_pose(f"ball_{name}")
            base.world.place_object(f"ball_{name}", pos_w + speed * span_s)


def film_paths(folder: Path) -> list[Path]:
    """The finished shards in a folder, in order."""
    return sorted(folder.glob("films_*.npz"))


def save_films(films: list[dict[str, np.ndarray]], path: Path) -> None:
    """Write one shard; it appears under its name only when it is whole."""
    partial = path.with_name(f".{path.stem}.partial.npz")  # with the dot: `film_paths` must not see it
    arrays: dict[str, Any] = {key: np.stack([film[key] for film in films]) for key in films[0]}
    np.savez(partial, **arrays)
    partial.replace(path)
