"""What an ear makes of sound before it learns anything: worked out once a sample, and not at each visit."""

import copy
from typing import Final

import numpy as np
import torch

from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.spectra import Spectra

_SOUNDS: Final = 200_000  # whose words are remembered: 300 MB, and more than recordings of eight tasks have


class Listener:
    """Sound (S,) of a sample -> its spectra (bands, T) float16: less memory, and no Fourier transform in a step.

    Args:
        spectra: of the ear; a copy on the CPU is kept, so that processes that read data have one as well.
    """

    def __init__(self, spectra: Spectra) -> None:
        self.spectra = copy.deepcopy(spectra).cpu()

    @torch.no_grad()
    def __call__(self, sound: np.ndarray) -> np.ndarray:
        """One sample at a time, so that its bits do not depend on its neighbours."""
        found: np.ndarray = self.spectra(torch.from_numpy(sound)[None])[0].half().numpy()
        return found


def build_listener(model: NeonVLA, teacher: NeonVLA | None) -> Listener | None:
    """Of a model that listens with an ear of its own; None where somebody wants the sound itself.

    A teacher may have another ear, and a backbone that hears and a frozen ear take the sound.
    """
    if teacher is not None or model.backbone.hears or "audio" not in model.senses:
        return None
    spectra = getattr(model.audio_encoder, "spectra", None)
    return None if spectra is None else Listener(spectra)


def remember_words(model: NeonVLA) -> None:
    """Have a model with a frozen ear ask it once about each sound. Of one that hears otherwise nothing changes."""
    if model._spoken is not None:
        model._spoken.remember(_SOUNDS)
