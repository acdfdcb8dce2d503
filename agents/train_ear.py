"""Train the compact ear: what is said to the robot, as the vector that the text side has of the same words.

    pip install -e '.[speech]'
    python agents/train_ear.py                           # the shipped weights
    python agents/train_ear.py --preset tiny --out runs/ear_tiny   # a minute, prints the same report

eSpeak NG says the training wordings of the tasks, in many voices; an env without a voice gives the noise that the robot
hears of itself and the room. Writes OUT/compact_ear (config.json, ear.safetensors) and OUT/report.json: how often
colour and meaning of a sentence are told by the voices that ship with the package, in wordings that were learned and in
held-out ones.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from tqdm import tqdm

import neon_sim
from neon_sim.model.compact import load_compact
from neon_sim.model.ear import EarConfig, save_ear
from neon_sim.model.video_backbone import BackboneConfig
from neon_sim.names import nearest
from neon_sim.rollout import rollout
from neon_sim.sensors.overheard import Bed, Voices
from neon_sim.sensors.utterances import Utterance, draw_voice, shipped_utterances, synthesize
from neon_sim.tasks.said import SPOKEN
from neon_sim.training.ear import EarTraining, judge_ear, teach_ear
from neon_sim.training.recording import NoisyExpert
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.wordings import Lesson, Said, phrases_of, say_all, where_it_lies

NOISY_TASKS = ("reach", "wave", "stand", "press")  # whose motors are heard
TEXT_SIDE = "compact_words"


@dataclass(frozen=True)
class EarPreset:
    """How much is made and learned."""

    takes: int = 12  # utterances of each text
    beds: int = 120  # episodes of noise
    bed_steps: int = 350  # 7 s
    judged: int = 1024
    training: EarTraining = EarTraining()


PRESETS = {
    "default": EarPreset(),
    "tiny": EarPreset(takes=1, beds=4, bed_steps=200, judged=128, training=EarTraining(steps=40, batch=16)),
}


def record_beds(preset: EarPreset, seed: int) -> list[Bed]:
    """The noise that a robot at work hears of itself and the room."""
    beds = []
    for number, task in enumerate(NOISY_TASKS):
        env: Any = gymnasium.make(
            "NeonG1-v0", task=task, sensors=("proprio", "audio"), physics_dt=0.005, disable_env_checker=True
        ).unwrapped
        policy = NoisyExpert(env, 0.15, 0.5)
        for episode in tqdm(range(-(-preset.beds // len(NOISY_TASKS))), desc=f"noise of {task}", unit="episode"):
            first = 5_000_000 + seed + 1000 * number + episode
            frames = rollout(env, policy, preset.bed_steps, first, keep=("audio",)).observations["audio"]
            beds.append(Bed.of_frames(np.asarray(frames), 50.0))
        env.close()
    return beds


def synthesized(said: Sequence[Said], takes: int, seed: int) -> list[list[Utterance]]:
    """Every sentence, said by so many random voices."""
    rng = np.random.default_rng(seed)
    bar = tqdm(said, desc="voices", unit="sentence")
    return [[synthesize(one.text, *draw_voice(rng)) for _ in range(takes)] for one in bar]


def shipped(said: Sequence[Said]) -> tuple[list[Said], list[list[Utterance]]]:
    """Those of the sentences that are said by voices that ship, and all that these say."""
    library = shipped_utterances()
    there = [one for one in said if library.takes(one.text)]
    return there, [[library.utterance(take) for take in library.takes(one.text)] for one in there]


def train(preset: EarPreset, out: Path) -> dict[str, Any]:
    """Record, let speak, teach, judge; returns the report."""
    begun = time.perf_counter()
    config, training = EarConfig(), preset.training
    beds = record_beds(preset, training.seed)
    said = say_all(phrases_of(SPOKEN, "train"))
    voices = Voices(synthesized(said, preset.takes, training.seed), beds, config.seconds)
    text_side = load_compact(BackboneConfig(weights=TEXT_SIDE))
    lesson = Lesson(said, where_it_lies(text_side, said), config.dim)
    made = time.perf_counter()
    ear = teach_ear(lesson, said, voices, config, training)
    save_ear(ear, out / "compact_ear")
    minutes = {"data": (made - begun) / 60.0, "training": (time.perf_counter() - made) / 60.0}
    judged = {}
    for name, split in (("seen", "train"), ("held_out", "test")):
        heard, takes = shipped(say_all(phrases_of(SPOKEN, split)))
        judged[name] = judge_ear(ear, lesson, heard, Voices(takes, beds, config.seconds), preset.judged, 1)
    return {**judged, "preset": asdict(preset), "minutes": minutes, "version": neon_sim.__version__}


def main() -> None:
    """Train an ear and say what it hears."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--steps", type=int, help="of the training, in place of the preset's")
    parser.add_argument("--out", type=Path, default=Path("runs/ear"))
    args = parser.parse_args()
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    preset = PRESETS[args.preset]
    if args.steps is not None and args.steps < 1:
        raise SystemExit(f"--steps wants at least 1, got {args.steps}.")
    if args.steps is not None:
        preset = replace(preset, training=replace(preset.training, steps=args.steps))
    try:
        claim_folder(args.out, {"preset": args.preset, "steps": preset.training.steps})
        report = train(preset, args.out)
    except (ValueError, ImportError) as error:
        raise SystemExit(str(error)) from None
    (args.out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: report[name] for name in ("seen", "held_out", "minutes")}, indent=2))


if __name__ == "__main__":
    main()
