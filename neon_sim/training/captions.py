"""Words for scenes: captions that a simulator can write because it knows where everything is."""

import numpy as np

DIRECTIONS = ("still", "left", "right", "up", "down")
MOVING_M_S = 0.02  # a ball that is slower than this is called still


def direction(velocity_b: np.ndarray) -> int:
    """Index into DIRECTIONS of a velocity (3,) m/s in the pelvis frame (x ahead, y left, z up)."""
    if np.linalg.norm(velocity_b) < MOVING_M_S:
        return 0
    if abs(velocity_b[1]) >= abs(velocity_b[2]):
        return 1 if velocity_b[1] > 0 else 2
    return 3 if velocity_b[2] > 0 else 4


def describe(color: str, pos_b: np.ndarray, moving: int | None = None) -> str:
    """One ball in centimetres, e.g. "red ball 31 cm ahead 12 cm left 8 cm up moving right"."""
    x, y, z = (round(100 * float(value)) for value in pos_b)
    side, lift = ("left" if y >= 0 else "right"), ("up" if z >= 0 else "down")
    motion = "" if moving is None else f" moving {DIRECTIONS[moving]}" if moving else " still"
    return f"{color} ball {x} cm ahead {abs(y)} cm {side} {abs(z)} cm {lift}{motion}"


def caption(colors: list[str], pos_b: np.ndarray, moving: list[int] | None, rng: np.random.Generator) -> str:
    """A whole scene in coarse words, balls in random order; pos_b (n, 3) m."""
    parts = []
    for i in rng.permutation(len(colors)):
        x, y, z = pos_b[i]
        depth = "near" if x < 0.25 else "far" if x > 0.31 else "in the middle"
        side = "left" if y > 0.04 else "right" if y < -0.04 else "centre"
        height = "low" if z < 0.12 else "high" if z > 0.2 else "chest high"
        motion = "" if moving is None else f" moving {DIRECTIONS[moving[i]]}" if moving[i] else " still"
        parts.append(f"a {colors[i]} ball {depth} {side} {height}{motion}")
    return ", ".join(parts)
