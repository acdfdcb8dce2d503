"""What a policy makes of a wording that it was not taught: a choice among places, beside a layer that learns to choose.

    python benchmarks/word_choice.py            # a quarter of an hour on one core
    python benchmarks/word_choice.py --tiny     # seconds, writes nothing

The wordings of the eight tasks without walking, as the heads of `multitask` hear them: text side, choice, and a small
network that says which of the meanings is meant and with which hand, taught on wordings and their paraphrases as the
heads are. Left out in turn are all first, second, ... training wordings of a meaning, and the text side is taught
without them as well. Settings were chosen by those alone; the held-out wordings are for the last rows.
"""

import argparse
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from report import table, write_report
from torch import Tensor, nn

from neon_sim.model.compact import CompactBackbone, load_compact
from neon_sim.model.meanings import MeaningEncoder
from neon_sim.model.video_backbone import BackboneConfig
from neon_sim.model.word_choice import WordChoice
from neon_sim.tasks.said import WRITTEN
from neon_sim.training.config import WORD_PLACES
from neon_sim.training.multitask import STANDING
from neon_sim.training.rewording import Rewording
from neon_sim.training.wordings import HANDS, Phrase, Said, even_chances, phrases_of, say_all, teach_wordings
from neon_sim.training.wordnet import WordVectors

NAMES: Final = (Phrase("name", "{color}"), Phrase("name", "the {color} ball"))  # as agents/train_backbone.py teaches
SEEDS: Final = (0, 1, 2)
LEARNED: Final = 24  # outputs of the layer that learns: a few more than meanings and hands
BATCH, RATE, REWORDED = 128, 1e-3, 0.5
HEADER: Final = ("wordings", "meanings of", f"{WORD_PLACES} places", "a layer that learns")


class LearnedChoice(nn.Module):
    """What WordChoice is compared with: the same choice out of a linear layer that learns with what reads it."""

    def __init__(self, dim: int, choices: int, noise: float = 2.0) -> None:
        super().__init__()
        self.logits, self.noise = nn.Linear(dim, choices), noise

    def forward(self, words: Tensor) -> Tensor:
        """Words (B, dim) -> (B, choices)."""
        logits = self.logits(words)
        return (logits + self.noise * torch.randn_like(logits) * self.training).softmax(dim=-1)


@dataclass(frozen=True)
class Split:
    """Wordings to learn from, and those that are asked afterwards."""

    name: str
    known: tuple[Phrase, ...]
    asked: tuple[Phrase, ...]


def splits() -> list[Split]:
    """Training wordings left out in turn, where a meaning has more than one, and the held-out ones."""
    train = phrases_of(WRITTEN, "train")
    by_meaning = {meaning: [p for p in train if p.meaning == meaning] for meaning in WRITTEN}
    found = []
    for turn in range(max(len(said) for said in by_meaning.values())):
        out = {said[turn] for said in by_meaning.values() if len(said) > max(1, turn)}
        found.append(Split("left out", tuple(p for p in train if p not in out), _standing(tuple(out))))
    return [*found, Split("held out", tuple(train), _standing(phrases_of(WRITTEN, "test")))]


def _standing(phrases: Sequence[Phrase]) -> tuple[Phrase, ...]:
    return tuple(sorted((p for p in phrases if p.task in STANDING), key=lambda p: (p.meaning, p.template)))


def answers(eyes: CompactBackbone, split: Split, choice: nn.Module, steps: int, seed: int) -> dict[Phrase, float]:
    """Share of the ways to say each asked phrase whose meaning and hand are told, by what was taught on the known."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    known = say_all(_standing(split.known))
    meanings = sorted({said.phrase.meaning for said in known})
    width = choice(torch.zeros(1, eyes.hidden_size)).shape[1]
    reader = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, len(meanings) + len(HANDS)))
    optimizer = torch.optim.AdamW([*choice.parameters(), *reader.parameters()], RATE)
    black = torch.zeros(1, eyes.config.num_frames, *[eyes.config.image_size] * 2, 3, dtype=torch.uint8)
    reword, chances = Rewording(eyes, REWORDED), even_chances(known)
    with torch.no_grad():
        seen = eyes(black, [known[0].text])
        text = eyes.text_encoder([said.text for said in known])
    meaning = torch.tensor([meanings.index(said.phrase.meaning) for said in known])
    hand = torch.tensor([said.hand for said in known])
    for _ in range(steps):
        some = rng.choice(len(known), BATCH, p=chances)
        told = type(seen)(seen.tokens.expand(BATCH, -1, -1), seen.pooled.expand(BATCH, -1), text[some])
        said = reading(reader(choice(reword(told, [known[row].text for row in some]).text)))
        loss = F.cross_entropy(said[0], meaning[some]) + F.cross_entropy(said[1], hand[some], ignore_index=-1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    choice.eval()
    return judged(lambda texts: reading(reader(choice(eyes.text_encoder(texts)))), say_all(split.asked), meanings)


def reading(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the meanings, and of the hands."""
    return logits[:, : -len(HANDS)], logits[:, -len(HANDS) :]


@torch.no_grad()
def judged(
    read: Callable[[list[str]], tuple[Tensor, Tensor]], asked: Sequence[Said], meanings: Sequence[str]
) -> dict[Phrase, float]:
    """By phrase: the share of its fillings whose meaning, and hand where one is named, is told."""
    meaning, hand = (logits.argmax(1).tolist() for logits in read([said.text for said in asked]))
    right: dict[Phrase, list[bool]] = {}
    for said, told, with_hand in zip(asked, meaning, hand, strict=True):
        right.setdefault(said.phrase, []).append(meanings[told] == said.phrase.meaning and said.hand in (-1, with_hand))
    return {phrase: float(np.mean(found)) for phrase, found in right.items()}


def taught(split: Split) -> CompactBackbone:
    """The shipped eyes and table of words, with a text side that was taught what is known."""
    shipped = load_compact(BackboneConfig(weights="compact_words")).eval()
    encoder = shipped.text_encoder
    assert isinstance(encoder, MeaningEncoder)
    forms = tuple(tuple(line.split()) for line in bytes(encoder.forms.numpy()).decode("ascii").split("\n"))
    vectors = WordVectors(forms, encoder.vectors.numpy())
    hashed = load_compact(BackboneConfig()).eval()
    return teach_wordings(hashed, vectors, [*split.known, *NAMES], progress=False).requires_grad_(False)


def run(seeds: Sequence[int], steps: int) -> dict[str, dict[str, dict[str, float]]]:
    """By kind of wordings, way and kind of meaning: mean over meanings of the share that is told."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for split in splits():
        eyes = taught(split)
        assert isinstance(eyes.text_encoder, MeaningEncoder)
        for seed in seeds:
            torch.manual_seed(seed)
            places = WordChoice(eyes.hidden_size, WORD_PLACES)
            with torch.no_grad():
                places.set_places(eyes.text_encoder([said.text for said in say_all(_standing(split.known))]))
            for way, choice in (("places", places), ("learned", LearnedChoice(eyes.hidden_size, LEARNED))):
                for phrase, share in answers(eyes, split, choice, steps, seed).items():
                    found.setdefault(split.name, {}).setdefault(way, {}).setdefault(phrase.meaning, []).append(share)
        print(f"{split.name}: {len(split.asked)} wordings asked", flush=True)
    return {name: {way: _means(shares) for way, shares in ways.items()} for name, ways in found.items()}


def _means(shares: Mapping[str, Sequence[float]]) -> dict[str, float]:
    gesture = {meaning: float(np.mean(found)) for meaning, found in shares.items() if meaning.startswith("wave/")}
    other = {meaning: float(np.mean(found)) for meaning, found in shares.items() if meaning not in gesture}
    return {"gestures": float(np.mean(list(gesture.values()))), "other tasks": float(np.mean(list(other.values())))}


def main() -> None:
    """Teach, ask, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = run(SEEDS[:1] if args.tiny else SEEDS, 30 if args.tiny else 1500)
    kinds: tuple[str, ...] = ("gestures", "other tasks")
    rows = [
        [f"{name} of training" if name == "left out" else name, kind]
        + [f"{ways[way][kind]:.0%}".replace("%", " %") for way in ("places", "learned")]
        for name, ways in found.items()
        for kind in kinds
    ]
    print(table(HEADER, rows))
    if not args.tiny:
        figures: dict[str, Any] = {"told": found, "seeds": list(SEEDS), "places": WORD_PLACES, "learned": LEARNED}
        write_report("word_choice", figures, HEADER, rows, str(datetime.date.today()))


if __name__ == "__main__":
    main()
