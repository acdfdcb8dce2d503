"""Teaching the compact backbone's text side to know a wording by its meaning.

It learns from training wordings alone, said in other words: a word is left out, or another one of near meaning stands
in its place. It learns where the hashed text side has the wordings of that meaning, colour and hand on average, so that
what a phrase finds in a picture stays; and to tell meanings, colours and hands apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from neon_sim.model.compact import CompactBackbone
from neon_sim.model.meanings import MeaningEncoder, padded, write_forms
from neon_sim.training.backbone import COLORS
from neon_sim.training.wordnet import WordVectors

HANDS: Final = ("left", "right")


@dataclass(frozen=True)
class WordingTraining:
    """How long, and how far a paraphrase goes from its wording."""

    steps: int = 400
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    left_out: float = 0.15  # chance of each word
    replaced: float = 0.3  # chance of each word, by one of the
    near: int = 8  # words whose vectors are nearest
    closeness: float = 4.0  # weight of lying where the hashed text side has it, beside telling things apart
    seed: int = 0


@dataclass(frozen=True)
class Phrase:
    """A template of one meaning, such as "reach" or "wave/salute": the task stands before the slash."""

    meaning: str
    template: str

    @property
    def task(self) -> str:
        """The task whose meaning it is."""
        return self.meaning.partition("/")[0]


@dataclass(frozen=True)
class Said:
    """A phrase with its fields filled in; colour and hand are indices, -1 where it names none."""

    phrase: Phrase
    text: str
    color: int = -1
    hand: int = -1


class Templates(Protocol):
    """Ways to say one thing: `neon_sim.tasks.wording.Wording`."""

    def of(self, split: str) -> tuple[str, ...]:
        """All templates of a split."""


def phrases_of(wordings: Mapping[str, Templates], split: str) -> list[Phrase]:
    """All templates of a split, "train" or "test", of wordings by meaning."""
    return [Phrase(meaning, template) for meaning, wording in wordings.items() for template in wording.of(split)]


def say_all(phrases: Sequence[Phrase]) -> list[Said]:
    """Every phrase with every colour and hand that it has fields for."""
    said = []
    for phrase in phrases:
        colors = range(len(COLORS)) if "{color}" in phrase.template else (-1,)
        hands = range(len(HANDS)) if "{hand}" in phrase.template else (-1,)
        for color, hand in product(colors, hands):
            text = phrase.template.format(color=COLORS[color], hand=HANDS[hand])
            said.append(Said(phrase, text, color, hand))
    return said


def with_meanings(backbone: CompactBackbone, vectors: WordVectors) -> CompactBackbone:
    """The same eyes to the bit, with an untaught text side that has a table of words."""
    sizes = {"words": len(vectors.forms), "word_dim": vectors.vectors.shape[1]}
    config = replace(backbone.config, text="meanings", form_bytes=len(write_forms(vectors.forms)), **sizes)
    new = CompactBackbone(config)
    eyes = {name: value for name, value in backbone.state_dict().items() if not name.startswith("text_encoder.")}
    new.load_state_dict(eyes, strict=False)
    encoder = new.text_encoder
    assert isinstance(encoder, MeaningEncoder)
    encoder.set_table(vectors.forms, vectors.vectors)
    return new.eval()


def teach_wordings(
    backbone: CompactBackbone,
    vectors: WordVectors,
    phrases: Sequence[Phrase],
    training: WordingTraining | None = None,
    progress: bool = True,
) -> CompactBackbone:
    """A backbone with `backbone`'s eyes whose text side knows the phrases by their meaning.

    Args:
        backbone: one with a hashed text side, which says where things shall lie.
        vectors: the table of words.
        phrases: wordings to learn from.
        training: how.
        progress: show a bar.
    """
    training = training or WordingTraining()
    torch.manual_seed(training.seed)
    rng = np.random.default_rng(training.seed)
    new = with_meanings(backbone, vectors)
    encoder = new.text_encoder
    assert isinstance(encoder, MeaningEncoder)
    said = say_all(phrases)
    lesson = Lesson(said, where_it_lies(backbone, said), new.hidden_size)
    rows, fixed = _rows_of(encoder, said)
    near = _nearest_rows(encoder, rows, training.near)
    chances = even_chances(said)
    params = [*encoder.parameters(), *lesson.parameters()]
    optimizer = torch.optim.AdamW(params, training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    for _ in tqdm(range(training.steps), desc="wordings", disable=not progress):
        chosen = rng.choice(len(said), training.batch, p=chances)
        words = torch.from_numpy(paraphrase(rows[chosen], fixed[chosen], near, training, rng))
        loss = lesson(encoder.embed(encoder.pool(words)), torch.from_numpy(chosen), training.closeness)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return new.eval()


class Lesson(nn.Module):
    """What a vector of words must say: where it lies, and, read out of it, its meaning, colour and hand.

    Args:
        said: the texts.
        target: (N, D) where each of them lies.
        dim: D.
    """

    def __init__(self, said: Sequence[Said], target: Tensor, dim: int) -> None:
        super().__init__()
        self.meanings = sorted({each.phrase.meaning for each in said})
        self.meaning = torch.tensor([self.meanings.index(each.phrase.meaning) for each in said])
        self.color = torch.tensor([each.color for each in said])
        self.hand = torch.tensor([each.hand for each in said])
        self.target = target
        sizes = (len(self.meanings), len(COLORS), len(HANDS))
        self.read = nn.ModuleList(nn.Linear(dim, size) for size in sizes)

    def answers(self, vectors: Tensor) -> list[Tensor]:
        """Vectors (B, D) -> logits of the meaning, the colour and the hand."""
        return [read(vectors) for read in self.read]

    def forward(self, vectors: Tensor, chosen: Tensor, closeness: float) -> Tensor:
        """Vectors (B, D) of the texts numbered `chosen` (B,), said in any way -> scalar loss."""
        truths = (self.meaning[chosen], self.color[chosen], self.hand[chosen])
        loss = closeness * F.mse_loss(vectors, self.target[chosen])
        for logits, truth in zip(self.answers(vectors), truths, strict=True):
            if (truth >= 0).any():
                loss = loss + F.cross_entropy(logits, truth, ignore_index=-1)
        return loss


@torch.no_grad()
def where_it_lies(backbone: CompactBackbone, said: Sequence[Said]) -> Tensor:
    """(N, D): mean of the backbone's text vectors over all texts of the same meaning, colour and hand."""
    vectors = backbone.eval().text_encoder([each.text for each in said])
    keys = [(each.phrase.meaning, each.color, each.hand) for each in said]
    group = torch.tensor([sorted(set(keys)).index(key) for key in keys])
    same = (group[:, None] == group[None]).float()
    return (same @ vectors) / same.sum(1, keepdim=True)


def paraphrase(
    rows: np.ndarray, fixed: np.ndarray, near: np.ndarray, training: WordingTraining, rng: np.random.Generator
) -> np.ndarray:
    """The same in other words: rows (B, L) of the table, -1 for none; `fixed` (B, L) words stay. near (words, k)."""
    loose = (rows >= 0) & ~fixed
    dice = rng.random(rows.shape)
    other = near[np.clip(rows, 0, len(near) - 1), rng.integers(near.shape[1], size=rows.shape)]
    swapped = loose & (rows < len(near)) & (dice < training.replaced)
    words = np.where(swapped, other, rows)
    return np.where(loose & (dice > 1.0 - training.left_out), -1, words)


def _rows_of(encoder: MeaningEncoder, said: Sequence[Said]) -> tuple[np.ndarray, np.ndarray]:
    """Rows (N, L) of all texts, and which of them are the colour and the hand."""
    rows = padded([encoder.rows(each.text) for each in said]).numpy()
    names = [[COLORS[each.color]] * (each.color >= 0) + [HANDS[each.hand]] * (each.hand >= 0) for each in said]
    fixed = [np.isin(row, [encoder.rows(name)[0] for name in named]) for row, named in zip(rows, names, strict=True)]
    return rows, np.stack(fixed)


def _nearest_rows(encoder: MeaningEncoder, used: np.ndarray, count: int) -> np.ndarray:
    """(words, count): for the words that are used the nearest other ones, for the others themselves."""
    vectors = encoder.vectors.cpu().numpy()
    near = np.tile(np.arange(len(vectors))[:, None], (1, count))
    for row in np.unique(used[(used >= 0) & (used < len(vectors))]):
        near[row] = nearest_to(vectors, row, count)
    return near


def nearest_to(vectors: np.ndarray, row: int, count: int) -> np.ndarray:
    """Rows (count,) of the other words whose unit vectors (words, D) are nearest to that of a word."""
    return np.argsort(-(vectors @ vectors[row]), kind="stable")[1 : count + 1]


def even_chances(said: Sequence[Said]) -> np.ndarray:
    """(N,) chance of each text: equal for all tasks, meanings of a task, templates of a meaning, fillings."""
    phrases = {each.phrase for each in said}
    meanings = {phrase.meaning: phrase.task for phrase in phrases}
    weights = []
    for each in said:
        meaning, task = each.phrase.meaning, each.phrase.task
        of_task = sum(other == task for other in meanings.values())
        of_meaning = sum(phrase.meaning == meaning for phrase in phrases)
        weights.append(1.0 / (of_task * of_meaning * sum(other.phrase == each.phrase for other in said)))
    return np.array(weights) / sum(weights)
