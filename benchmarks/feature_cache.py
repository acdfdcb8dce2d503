"""What the feature cache saves: clips encoded by the backbone, read back from disk, and out of memory.

    python benchmarks/feature_cache.py                  # under a minute on one idle core
    python benchmarks/feature_cache.py --preset tiny    # seconds, leaves RESULTS.md alone

The shipped compact backbone, the cheapest there is to encode with: what a larger one gains is more. One thread, the
three ways in turns, so that what disturbs one disturbs all; "from disk" reads files that the system may have in its own
memory. A first pass, which encodes and writes, stands beside them. How many times as fast a way is as encoding is the
mean of its turns, with a 95 % interval (Student's t); the first pass, of which there is one, is set beside the median.
"""

import argparse
import datetime
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from report import table, write_report

from neon_sim.eval.statistics import t_interval
from neon_sim.model.feature_cache import FeatureCache
from neon_sim.model.video_backbone import BackboneConfig, VideoBackbone
from neon_sim.names import nearest

WORDS: Final = "touch the red ball with your left hand"
HEADER: Final = ("features of a clip", "ms a clip, median", "p95", "times as fast as encoding, 95 %")


@dataclass(frozen=True)
class Preset:
    """How many clips, asked for in batches, how many times."""

    clips: int = 256
    batch: int = 32
    repeats: int = 9


PRESETS: Final = {"full": Preset(), "tiny": Preset(8, 8, 3)}


def measure(preset: Preset, folder: Path, seed: int = 0) -> dict[str, list[float]]:
    """Milliseconds a clip of every pass, by way; "first pass" has one."""
    torch.set_num_threads(1)
    backbone = VideoBackbone.from_config(BackboneConfig())
    rng = np.random.default_rng(seed)
    clips = torch.from_numpy(rng.integers(0, 256, (preset.clips, 4, 128, 128, 3), dtype=np.uint8))
    batches = [(part, [WORDS] * len(part)) for part in clips.split(preset.batch)]
    remembering = FeatureCache(folder, backbone, memory_mb=4096.0)

    def pass_ms(encode: Callable[..., object]) -> float:
        begun = time.perf_counter()
        for batch in batches:
            encode(*batch)
        return 1e3 * (time.perf_counter() - begun) / preset.clips

    with torch.no_grad():
        backbone(*batches[0])  # what only the first call costs
        times = {"first pass": [pass_ms(remembering)], "encoded": [], "from disk": [], "from memory": []}
        for _ in range(preset.repeats):
            times["encoded"].append(pass_ms(backbone))
            times["from disk"].append(pass_ms(FeatureCache(folder, backbone, memory_mb=0.0)))
            times["from memory"].append(pass_ms(remembering))
    if remembering.misses != preset.clips:
        raise RuntimeError(
            f"{remembering.misses} clips were encoded, not {preset.clips}: the cache does not hold them."
        )
    return times


def speed_ups(times: dict[str, list[float]]) -> dict[str, tuple[float, float | None]]:
    """How many times as fast as encoding each way is, and half of the interval's width; None for a single pass."""
    encoded = times["encoded"]
    found: dict[str, tuple[float, float | None]] = {}
    for way, values in times.items():
        if len(values) == len(encoded):
            found[way] = t_interval([slow / fast for slow, fast in zip(encoded, values, strict=True)])
        else:
            found[way] = float(np.median(encoded) / np.median(values)), None
    return found


def table_rows(times: dict[str, list[float]]) -> list[list[str]]:
    """One row a way."""
    rows = []
    for way, (ratio, half) in speed_ups(times).items():
        p95 = f"{np.quantile(times[way], 0.95):.3f}" if len(times[way]) > 1 else "-"
        interval = "" if half is None or way == "encoded" else f" ± {half:.1f}"
        rows.append([way, f"{np.median(times[way]):.3f}", p95, f"{ratio:.1f}{interval}"])
    return rows


def main() -> None:
    """Measure, print, and report what was measured in full."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full", help=", ".join(PRESETS))
    args = parser.parse_args()
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    preset = PRESETS[args.preset]
    with tempfile.TemporaryDirectory() as folder:
        times = measure(preset, Path(folder))
    rows = table_rows(times)
    print(table(HEADER, rows))
    if args.preset == "full":
        figures = {"preset": asdict(preset), "ms_a_clip": times, "times_as_fast": speed_ups(times)}
        write_report("feature_cache", figures, HEADER, rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
