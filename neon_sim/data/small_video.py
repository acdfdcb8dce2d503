"""Videos at the size that a policy looks at: each frame is made smaller before the next is decoded."""

import numpy as np

from neon_sim.data.mapped_episode import PICTURE_SIZE, small_pictures
from neon_sim.data.video import Path, iterate_video


def decode_small_video(
    path: Path, fps: float, first: int = 0, count: int | None = None, size: int = PICTURE_SIZE
) -> np.ndarray:
    """As `decode_video`, with the middle square of each frame, at most `size` px: (count, size, size, 3) uint8.

    Frames that are smaller already stay as they are.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be decoded, its rate is another, it has a hole, or it ends too soon.
    """
    frames: list[np.ndarray] = []
    for index, pixels in iterate_video(path, fps, first):
        if count is not None and len(frames) == count:
            break
        if index != first + len(frames):
            raise ValueError(f"{path} has frame {index} where frame {first + len(frames)} belongs.")
        frames.append(small_pictures([pixels], size)[0])
    if count is not None and len(frames) < count:
        wanted = f"{path} ends too soon: frames {first} to {first + count - 1} are wanted"
        raise ValueError(f"{wanted}, it gives {len(frames)} of them.")
    return np.stack(frames) if frames else np.empty((0, 0, 0, 3), np.uint8)
