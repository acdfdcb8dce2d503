"""Teaching the compact ear: voices of synthetic speakers in the robot's own noise, and the text side's vectors of what
they say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from neon_sim.data.windows import SOUND_HZ
from neon_sim.model.ear import CompactEar, EarConfig
from neon_sim.model.spectra import Spectra
from neon_sim.training.wordings import Lesson, Said, even_chances


@dataclass(frozen=True)
class EarTraining:
    """How long, and what is heard."""

    steps: int = 4000
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    quiet: float = 0.15  # share of the samples in which nobody speaks
    masked: float = 0.1  # share of the bands, and of the time, that is hidden at most (Park et al. 2019, SpecAugment)
    closeness: float = 4.0  # weight of lying where the text side has the words, beside telling meanings apart
    seed: int = 0


class Voices(Protocol):
    """Who speaks to an ear that learns: `neon_sim.sensors.overheard.Voices`."""

    def draw(self, chosen: np.ndarray, quiet: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Sentences by number (B,) -> sound (B, S) float32, and whether each was said to its end, (B,) bool."""


def teach_ear(
    lesson: Lesson,
    said: Sequence[Said],
    voices: Voices,
    config: EarConfig,
    training: EarTraining,
    progress: bool = True,
) -> CompactEar:
    """An ear that knows sentences as the lesson's text side does.

    Args:
        lesson: of these sentences; it reads meaning, colour and hand out of a vector, and is taught along.
        said: the sentences.
        voices: who says them.
        config: of the ear.
        training: how.
        progress: show a bar.
    """
    torch.manual_seed(training.seed)
    rng = np.random.default_rng(training.seed)
    ear = CompactEar(config).train()
    spectra = spectra_of(config)
    chances = even_chances(said)
    optimizer = torch.optim.AdamW(
        [*ear.parameters(), *lesson.parameters()], training.learning_rate, weight_decay=training.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.learning_rate, training.steps, pct_start=0.05)
    with tqdm(total=training.steps, desc="ear", unit="step", disable=not progress) as bar:
        for _ in range(training.steps):
            chosen = rng.choice(len(said), training.batch, p=chances)
            sound, whole = voices.draw(chosen, training.quiet, rng)
            heard = masked(spectra(torch.from_numpy(sound)), training.masked, rng)
            words, sure = ear.hear(heard)
            done = torch.from_numpy(whole)
            loss = F.binary_cross_entropy_with_logits(sure[:, 0], done.float())
            if done.any():
                loss = loss + lesson(words[done], torch.from_numpy(chosen)[done], training.closeness)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
            bar.set_postfix(loss=f"{float(loss.detach()):.3g}", refresh=False)
    return ear.eval()


@torch.no_grad()
def judge_ear(
    ear: CompactEar, lesson: Lesson, said: Sequence[Said], voices: Voices, samples: int, seed: int
) -> dict[str, float]:
    """Shares of correct answers: colour and meaning of sentences that were said, and whether one was said at all.

    Meanings are told by what the lesson learned on its own sentences; those that it does not have are left out.
    """
    rng = np.random.default_rng(seed)
    spectra = spectra_of(ear.config)
    chosen = rng.choice(len(said), samples, p=even_chances(said))
    right: dict[str, list[bool]] = {"said": [], "color": [], "meaning": []}
    for part in np.array_split(chosen, max(1, samples // 64)):
        sound, whole = voices.draw(part, 0.15, rng)
        words, sure = ear.hear(spectra(torch.from_numpy(sound)))
        right["said"] += ((sure[:, 0] > 0.0).numpy() == whole).tolist()
        meanings, colors = (read.argmax(-1).tolist() for read in lesson.answers(words)[:2])
        for row in np.flatnonzero(whole):
            one = said[int(part[row])]
            if one.color >= 0:
                right["color"].append(colors[row] == one.color)
            if one.phrase.meaning in lesson.meanings:
                right["meaning"].append(lesson.meanings[meanings[row]] == one.phrase.meaning)
    return {name: float(np.mean(values)) for name, values in right.items() if values}


def spectra_of(config: EarConfig) -> Spectra:
    """What makes of one microphone's sound what an ear reads."""
    return Spectra(SOUND_HZ, config.n_mels, config.n_fft, config.hop, 1)


def masked(spectra: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Spectra (B, n_mels, T) with a band and a while of each hidden, up to a share of all, under the mean of all."""
    hidden = spectra.clone()
    for axis in (1, 2):
        size = spectra.shape[axis]
        for row in range(len(spectra)):
            width = int(rng.integers(round(share * size) + 1))
            start = int(rng.integers(size - width + 1))
            hidden[row].narrow(axis - 1, start, width).fill_(float(spectra[row].mean()))
    return hidden
