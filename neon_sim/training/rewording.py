"""Words said otherwise while the heads learn: who hears a task in a few wordings only takes any other for another task.

The samples stay as they are; of some of them the words are a paraphrase, as the text side itself was taught with
(`neon_sim.training.wordings`): a word is left out, or one of near meaning stands in its place. Colours and hands stay.
"""

from collections.abc import Sequence

import numpy as np
import torch

from neon_sim.model.compact import CompactBackbone
from neon_sim.model.meanings import MeaningEncoder, padded
from neon_sim.model.video_backbone import BackboneFeatures, VideoBackbone
from neon_sim.training.backbone import COLORS
from neon_sim.training.wordings import HANDS, WordingTraining, nearest_to, paraphrase


class Rewording:
    """Features of a batch -> features of the same clips in other words.

    Args:
        backbone: that made the features; a frozen compact one whose text side has a table of words.
        share: of the samples whose words change.
        training: how far a paraphrase goes.

    Raises:
        ValueError: another backbone, or one that learns.
    """

    def __init__(self, backbone: VideoBackbone, share: float, training: WordingTraining | None = None) -> None:
        encoder = getattr(backbone, "text_encoder", None)
        if any(parameter.requires_grad for parameter in backbone.parameters()):
            raise ValueError(
                "TrainConfig.reworded wants a frozen backbone: set freeze_backbone=True, or reworded to 0."
            )
        if not (isinstance(backbone, CompactBackbone) and isinstance(encoder, MeaningEncoder)):
            raise ValueError(
                "TrainConfig.reworded wants a text side that knows other words: the compact backbone with "
                'BackboneConfig(weights="compact_words"). Take it, or set reworded to 0.'
            )
        self.backbone, self.encoder, self.share = backbone, encoder, share
        self.training = training or WordingTraining()
        self._names = np.array([encoder.rows(name)[0] for name in (*COLORS, *HANDS)])
        self._rows: dict[str, list[int]] = {}  # of the texts that were seen, in the table of words
        words = np.arange(len(encoder.vectors))
        self._near = np.tile(words[:, None], (1, self.training.near))  # filled in for the words that were seen

    @torch.no_grad()
    def __call__(self, features: BackboneFeatures, instructions: Sequence[str]) -> BackboneFeatures:
        """Features of B clips and their instructions -> the same, with the words of some of them changed.

        Which ones, and how, follows from torch's random numbers.
        """
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        chosen = np.flatnonzero(rng.random(len(instructions)) < self.share)
        if not len(chosen):
            return features
        rows = padded([self._rows_of(instructions[row]) for row in chosen.tolist()]).numpy()
        words = paraphrase(rows, np.isin(rows, self._names), self._near, self.training, rng)
        text, pooled = features.text.clone(), features.pooled.clone()
        said = self.encoder.embed(self.encoder.pool(torch.from_numpy(words).to(text.device)))
        some = torch.from_numpy(chosen).to(text.device)
        tokens = features.tokens[some]
        pooled[some] += (self.backbone.find(tokens, said) - self.backbone.find(tokens, text[some])).to(pooled.dtype)
        text[some] = said.to(text.dtype)
        return BackboneFeatures(features.tokens, pooled, text)

    def _rows_of(self, words: str) -> list[int]:
        if words not in self._rows:
            self._rows[words] = self.encoder.rows(words)
            vectors = self.encoder.vectors.cpu().numpy()
            for row in self._rows[words]:
                if row < len(vectors):
                    self._near[row] = nearest_to(vectors, row, self.training.near)
        return self._rows[words]
