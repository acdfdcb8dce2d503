"""Let eSpeak NG say what tasks need to be said, and store it: the utterances that ship in assets/speech.

    pip install -e '.[speech]'
    python agents/make_utterances.py                     # all of it, a minute or two, into assets/speech
    python agents/make_utterances.py --preset tiny --out runs/speech

Each text is said by random speakers, with random pace and pitch; the sentences of the task `walk` are too many, so some
speakers say the phrases that they consist of. Two runs with one seed and one build of eSpeak NG write the same bytes.
"""

import argparse
import json
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tqdm import tqdm

from neon_sim.names import nearest
from neon_sim.sensors import speech_codec
from neon_sim.sensors.utterances import SAMPLE_RATE, Utterance, UtteranceLibrary, draw_voice, synthesize
from neon_sim.tasks import (
    follow_voice,
    lift_box,
    look_at,
    navigate,
    press,
    push_box,
    reach,
    stand,
    track,
    walk,
    wave,
)
from neon_sim.tasks.arms import HANDS
from neon_sim.tasks.objects import COLORS
from neon_sim.tasks.wording import Wording

TAKES = {"spoken": 6, "follow_voice": 4, "reach": 2}  # times that a text is said where hearing is the task; others once
PHRASE_SPEAKERS = 2  # who say all phrases of `walk`
# What is said with instruct="speech", and the colours that it names. In look_at and follow_voice others speak instead.
INSTRUCTIONS: tuple[tuple[Wording, Iterable[str]], ...] = (
    (stand.WORDING, COLORS),
    (walk.STILL, COLORS),
    (navigate.WORDING, COLORS),
    (lift_box.WORDING, COLORS),
    (push_box.WORDING, push_box.ZONES),
    (track.WORDING, COLORS),
    (press.WORDING, COLORS),
    (press.EITHER_HAND, COLORS),
    *((gesture.wording, COLORS) for gesture in wave.GESTURES.values()),
)
PRESETS = {"default": 1.0, "tiny": 0.05}  # share of the texts
LICENSE_NOTE = (
    "Synthetic speech that agents/make_utterances.py made with eSpeak NG for this project; no recording of a person is "
    "in it. It is under this repository's license."
)


def both_splits(wording: Wording) -> tuple[str, ...]:
    """Training and held-out templates together."""
    return wording.train + wording.test


def filled(template: str, colors: Iterable[str]) -> dict[str, None]:
    """A template with every colour and hand that it has fields for; a set that keeps its order."""
    return dict.fromkeys(template.format(color=color, hand=hand) for color in colors for hand in HANDS)


def texts() -> Iterator[tuple[str, int]]:
    """Every text and how often it is said."""
    yield from ((text, TAKES["spoken"]) for text in both_splits(look_at.SPOKEN))
    for takes, templates in (
        (TAKES["follow_voice"], both_splits(follow_voice.SPOKEN)),
        (TAKES["reach"], reach.WORDING.train),
        (1, reach.WORDING.test),
    ):
        for template in templates:
            yield from ((text, takes) for text in filled(template, COLORS))
    for wording, colors in INSTRUCTIONS:
        for template in both_splits(wording):
            yield from ((text, 1) for text in filled(template, colors))


def say_all(share: float, seed: int) -> tuple[list[Utterance], list[Utterance]]:
    """The texts, or an even share of them, each by its number of speakers; and the phrases, by those who say them."""
    rng = np.random.default_rng(seed)
    every = round(1.0 / share)
    jobs = [(text, draw_voice(rng)) for text, takes in list(texts())[::every] for _ in range(takes)]
    whole = len(jobs)
    for speaker in [draw_voice(rng) for _ in range(PHRASE_SPEAKERS)]:
        jobs += [(phrase, speaker) for phrase in walk.phrases()[::every]]
    said = [synthesize(text, *voice) for text, voice in tqdm(jobs, desc="speaking", unit="utterance")]
    return said[:whole], said[whole:]


def save(utterances: list[Utterance], phrases: list[Utterance], folder: Path, seed: int) -> None:
    """Write manifest.json and utterances.npz."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = [speech_codec.encode(each.samples) for each in (*utterances, *phrases)]
    counts = np.array([len(each) for each in frames], np.int32)
    with zipfile.ZipFile(folder / "utterances.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in (("frames", np.concatenate(frames)), ("counts", counts)):
            with archive.open(f"{name}.npy", "w") as file:  # bears the date 1980: the same bytes on every day
                np.lib.format.write_array(file, array)
    rows = [row(each) for each in utterances] + [row(each) | {"part": True} for each in phrases]
    head = {"license": LICENSE_NOTE, "sample_rate_hz": SAMPLE_RATE, "espeakng_loader": version("espeakng-loader")}
    lines = ",\n".join(json.dumps(each) for each in rows)
    manifest = f'{json.dumps(head | {"seed": seed})[:-1]},\n"rows": [\n{lines}\n]}}\n'
    (folder / "manifest.json").write_text(manifest, encoding="utf-8")


def row(each: Utterance) -> dict[str, object]:
    """Who says what, as the manifest has it."""
    return {"text": each.text, "voice": each.voice, "words_per_minute": each.words_per_minute, "pitch": each.pitch}


def main() -> None:
    """Say, store, read back and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("assets/speech"))
    parser.add_argument("--preset", default="default", help=", ".join(PRESETS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    utterances, phrases = say_all(PRESETS[args.preset], args.seed)
    save(utterances, phrases, args.out, args.seed)
    library = UtteranceLibrary(args.out)
    seconds = sum(len(each.samples) for each in (*utterances, *phrases)) / SAMPLE_RATE
    megabytes = sum(path.stat().st_size for path in args.out.iterdir()) / 1e6
    print(
        f"{len(utterances)} utterances of {len(library.texts)} texts and {len(phrases)} phrases, "
        f"{seconds:.0f} s of speech in {megabytes:.2f} MB"
    )


if __name__ == "__main__":
    main()
