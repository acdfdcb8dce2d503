"""Videos at the size that a policy looks at: each frame is made smaller before the next is decoded."""

import numpy as np

from neon_sim.data.mapped_episode import PICTURE_SIZE, small_pictures
from neon_sim.data.video import Path, decode_video


def decode_small_video(
    path: Path, fps: float, first: int = 0, count: int | None = None, size: int = PICTURE_SIZE
) -> np.ndarray:
    """As `decode_video`, with the middle square of each frame, at most `size` px: (count, size, size, 3) uint8.

    Frames that are smaller already stay as they are. Raises what `decode_video` raises.
    """
    return decode_video(path, fps, first, count, lambda pixels: small_pictures([pixels], size)[0])
