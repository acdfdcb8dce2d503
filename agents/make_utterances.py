"""Let eSpeak NG say what tasks need to be said, and store it: the utterances that ship in assets/speech.

    pip install -e '.[speech]'
    python agents/make_utterances.py                     # all of it, a minute or two, into assets/speech
    python agents/make_utterances.py --preset tiny --out runs/speech

Each text is said by several random speakers, with random pace and pitch. eSpeak NG's own noise makes two runs with one
seed differ in the last digits of the sound, not in who says what.
"""

import argparse
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from neon_sim.names import nearest
from neon_sim.sensors import speech_codec
from neon_sim.sensors.utterances import SAMPLE_RATE, Utterance, UtteranceLibrary, draw_voice, synthesize
from neon_sim.tasks import follow_voice, look_at, reach
from neon_sim.tasks.arms import HANDS
from neon_sim.tasks.objects import COLORS
from neon_sim.tasks.wording import Wording

TAKES = {"spoken": 6, "follow_voice": 4, "reach": 2}  # times that each text is said, by what it is for
PRESETS = {"default": 1.0, "tiny": 0.05}  # share of the texts
LICENSE_NOTE = (
    "Synthetic speech that agents/make_utterances.py made with eSpeak NG for this project; no recording of a person is "
    "in it. It is under this repository's license."
)


def both_splits(wording: Wording) -> tuple[str, ...]:
    """Training and held-out templates together."""
    return wording.train + wording.test


def texts() -> Iterator[tuple[str, int]]:
    """Every text and how often it is said."""
    for text in both_splits(look_at.SPOKEN) + both_splits(look_at.WORDING):
        yield text, TAKES["spoken"]
    for template in both_splits(follow_voice.SPOKEN):
        for color in COLORS:
            yield template.format(color=color), TAKES["follow_voice"]
    for template in both_splits(reach.WORDING):
        for color in COLORS:
            for hand in HANDS:
                yield template.format(color=color, hand=hand), TAKES["reach"]


def say_all(share: float, seed: int) -> list[Utterance]:
    """The texts, or an even share of them, each by its number of speakers."""
    rng = np.random.default_rng(seed)
    every = round(1.0 / share)
    jobs = [text for text, takes in list(texts())[::every] for _ in range(takes)]
    return [synthesize(text, *draw_voice(rng)) for text in tqdm(jobs, desc="speaking", unit="utterance")]


def save(utterances: list[Utterance], folder: Path, seed: int) -> None:
    """Write manifest.json and utterances.npz."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = [speech_codec.encode(each.samples) for each in utterances]
    counts = np.array([len(each) for each in frames], np.int32)
    path = folder / "utterances.npz"
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in (("frames", np.concatenate(frames)), ("counts", counts)):
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array)
    rows = [
        {"text": each.text, "voice": each.voice, "words_per_minute": each.words_per_minute, "pitch": each.pitch}
        for each in utterances
    ]
    manifest = {"license": LICENSE_NOTE, "sample_rate_hz": SAMPLE_RATE, "seed": seed, "rows": rows}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Say, store, read back and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("assets/speech"))
    parser.add_argument("--preset", default="default", help=", ".join(PRESETS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    utterances = say_all(PRESETS[args.preset], args.seed)
    save(utterances, args.out, args.seed)
    library = UtteranceLibrary(args.out)
    seconds = sum(len(each.samples) for each in utterances) / SAMPLE_RATE
    megabytes = sum(path.stat().st_size for path in args.out.iterdir()) / 1e6
    print(f"{len(library)} utterances of {len(library.texts)} texts, {seconds:.0f} s of speech in {megabytes:.2f} MB")


if __name__ == "__main__":
    main()
