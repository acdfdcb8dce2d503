"""Train the compact backbone on films of this simulator with captions written from the scene.

    python agents/train_backbone.py                      # the shipped weights: about 40 minutes on two cores
    python agents/train_backbone.py --preset tiny        # two minutes, prints the same report
    python agents/train_backbone.py --out runs/bb        # stop with Ctrl-C, run the same line to go on
    apt-get install wordnet-base
    python agents/train_backbone.py --words /usr/share/wordnet --out runs/words   # the text side alone: a minute

Writes OUT/compact_backbone (config.json, backbone.safetensors) and OUT/probes.json. With --words it writes
OUT/compact_words, the shipped backbone with a text side that knows words by their meaning, and OUT/wordings.json, what
it makes of wordings that are held back. The eyes stay the same to the bit: BackboneConfig(weights="compact_words").
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium

import neon_sim
from neon_sim.model.compact import CompactBackbone, load_compact, read_compact, save_compact
from neon_sim.model.video_backbone import BackboneConfig
from neon_sim.names import nearest
from neon_sim.sensors.camera import CameraConfig
from neon_sim.tasks.said import WRITTEN
from neon_sim.training.backbone import BackboneTrainer, Films, load_films
from neon_sim.training.clips import FRAME_STEPS, MOTION_PROBE, ClipConfig, film_paths, record_film, save_films
from neon_sim.training.multitask import STANDING
from neon_sim.training.probes import probe_backbone
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.wording_probes import judge_finding, judge_wordings, text_in_pooled
from neon_sim.training.wordings import Phrase, WordingTraining, phrases_of, teach_wordings
from neon_sim.training.wordnet import WordVectorConfig, read_wordnet, word_vectors, wordnet_license
from neon_sim.training.workers import cpu_count, parallel_map


@dataclass(frozen=True)
class BackboneTraining:
    """How many films and how long."""

    films: int = 5000
    test_films: int = 400
    motion_films: int = 6000  # a fifth of them is held back to judge the direction probe
    minutes: float = 30.0
    batch_films: int = 24
    learning_rate: float = 1e-3
    seed: int = 0


PRESETS = {
    "default": BackboneTraining(),
    "tiny": BackboneTraining(films=60, test_films=20, motion_films=100, minutes=0.7, batch_films=12),
}
SHARD = 50  # films in one file
FOUND_FILMS = 40  # films in which phrases are to find balls
NAMES = (Phrase("name", "{color}"), Phrase("name", "the {color} ball"))  # what a picture is asked for
_ENV: Any = None


def open_env() -> None:
    """One simulator a worker: the reach scene, the head camera at four frames a second."""
    global _ENV
    _ENV = gymnasium.make(
        "NeonG1-v0",
        task="reach",
        physics_dt=0.005,
        sensors=("proprio", "camera"),
        camera=CameraConfig(rate_hz=50 / FRAME_STEPS),
        disable_env_checker=True,
    )


def record_shard(job: tuple[str, int, int, ClipConfig]) -> int:
    """Record films with consecutive seeds into one file; a finished file is kept."""
    path, seed, count, config = job
    if not Path(path).exists():
        save_films([record_film(_ENV, config, seed + i) for i in range(count)], Path(path))
    return count


def record(folder: Path, count: int, seed: int, workers: int, config: ClipConfig | None = None) -> list[Path]:
    """Make sure that a folder holds `count` films."""
    folder.mkdir(parents=True, exist_ok=True)
    label, config, starts = f"recording {folder.name}", config or ClipConfig(), range(0, count, SHARD)
    jobs = [(str(folder / f"films_{i:06d}.npz"), seed + i, min(SHARD, count - i), config) for i in starts]
    for _ in parallel_map(record_shard, jobs, workers, label, open_env):
        pass
    return film_paths(folder)[: len(jobs)]


def judge(backbone: CompactBackbone, reference: CompactBackbone, films: Films) -> dict[str, Any]:
    """What a text side makes of held-out wordings: which task, by its own features and through a black clip's."""
    train, test = ([p for p in phrases_of(WRITTEN, split) if p.task in STANDING] for split in ("train", "test"))
    asked = {name: [p for p in said if p.task == "reach"] for name, said in (("seen", train), ("held_out", test))}
    return {
        "text": judge_wordings(backbone.text_encoder, train, test),
        "pooled": judge_wordings(lambda texts: text_in_pooled(backbone, texts), train, test),
        "finds": {split: judge_finding(reference, backbone, films, p) for split, p in asked.items()},
    }


def train_words(folder: Path, out: Path, test_films: int, seed: int, workers: int) -> dict[str, Any]:
    """Compute word vectors, teach the text side, and judge it beside the hashed one."""
    begun = time.perf_counter()
    vectors = word_vectors(read_wordnet(folder), WordVectorConfig(), seed)
    hashed = load_compact(BackboneConfig()).eval()
    training = WordingTraining(seed=seed)
    save_compact(
        teach_wordings(hashed, vectors, [*phrases_of(WRITTEN, "train"), *NAMES], training), out / "compact_words"
    )
    minutes = (time.perf_counter() - begun) / 60.0
    (out / "compact_words" / "LICENSE-WordNet.txt").write_text(wordnet_license(folder))
    films = load_films(record(out / "test_films", test_films, 2_000_000 + seed, workers))
    taught = read_compact(out / "compact_words").eval()
    report: dict[str, Any] = {"hashed": judge(hashed, hashed, films), "meanings": judge(taught, hashed, films)}
    report |= {"training": asdict(training), "minutes": minutes, "version": neon_sim.__version__}
    (out / "wordings.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def main() -> None:
    """Record, train, probe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--out", type=Path, default=Path("runs/backbone"))
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--minutes", type=float, help="training time in place of the preset's")
    parser.add_argument("--words", type=Path, help="folder of WordNet's database: train the text side alone")
    parser.add_argument("--probe-only", action="store_true", help="train nothing: probe the shipped backbone")
    args = parser.parse_args()
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    preset = PRESETS[args.preset]
    minutes = args.minutes or preset.minutes
    try:
        claim_folder(args.out, {"preset": args.preset} | ({"words": True} if args.words else {"minutes": minutes}))
        if args.words:
            report = train_words(args.words, args.out, min(FOUND_FILMS, preset.test_films), preset.seed, args.workers)
            print(json.dumps({side: report[side] for side in ("hashed", "meanings")}, indent=2))
            return
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from None
    train = record(args.out / "films", preset.films, 1_000_000 + preset.seed, args.workers)
    test = record(args.out / "test_films", preset.test_films, 2_000_000 + preset.seed, args.workers)
    motion = record(args.out / "motion", preset.motion_films, 4_000_000 + preset.seed, args.workers, MOTION_PROBE)
    held_back = max(1, len(motion) // 5)

    if args.probe_only:
        backbone, made = load_compact(BackboneConfig()), {"weights": "shipped"}
    else:
        trainer = BackboneTrainer(load_films(train), preset.seed, preset.batch_films, preset.learning_rate)
        trainer.run(minutes * 60.0, args.out / "state.pt")
        trainer.save(args.out / "compact_backbone")
        backbone, made = trainer.backbone, {"minutes": minutes, "steps": trainer.step}
    motion_films = load_films(motion[:-held_back]), load_films(motion[-held_back:])
    report = probe_backbone(backbone, load_films(train), load_films(test), *motion_films, preset.seed)
    report |= {"preset": asdict(preset), "version": neon_sim.__version__, **made}
    (args.out / "probes.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report["figures"], indent=2))


if __name__ == "__main__":
    main()
