"""What a policy is asked with, as tensors: a picture or clip, and the senses."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def as_question(
    image: np.ndarray, proprioception: np.ndarray | None, senses: Mapping[str, np.ndarray], device: torch.device
) -> tuple[Tensor, dict[str, Tensor]]:
    """What `predict` is given as a batch of one: clip (1, T, H, W, 3), senses by name.

    Raises ValueError for a sense with numbers that are not finite.
    """
    image = np.array(image)  # a copy: pictures of other libraries may not be writable
    clip = torch.as_tensor(image if image.ndim == 4 else image[None], device=device)[None]
    given = dict(senses) if proprioception is None else {"proprio": proprioception, **senses}
    for name, value in given.items():
        if not np.isfinite(value).all():
            raise ValueError(f"What the sense {name!r} gives is not finite. Leave it out: any may be missing.")
    return clip, {name: torch.as_tensor(v, dtype=torch.float32, device=device)[None] for name, v in given.items()}


def to_one_ear(audio: Tensor) -> Tensor:
    """The mean (B, S) of two microphones' sound (B, 2 * S), one after the other."""
    return audio.unflatten(1, (2, -1)).mean(dim=1)
