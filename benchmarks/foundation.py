"""What only a GPU can show: foundation models of billions of weights in bf16 and NF4, the action layer's engines.

    python benchmarks/foundation.py --tiny                # some ten thousand weights, on any device; writes nothing
    python benchmarks/foundation.py --seconds 300         # needs CUDA and the extra vla; says "not measured" without
    python benchmarks/foundation.py --adopt FOLDER        # put reports from another machine into this checkout

The models have their published sizes and random weights (`foundation_shapes`), and are loaded and asked by the very
code that serves the real ones. Each part runs in a process of its own and is written down as soon as it is done: a run
that is cut keeps what it has, and the next one goes on with the rest. Memory is what tensors occupy (the driver's own
few hundred MB are not in it); a latency waits for the GPU. Encoding is one clip with words that stay the same.
"""

import argparse
import datetime
import json
import multiprocessing
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from foundation_measures import PRECISIONS, Amount, compiled_heads, graphed_heads, one_backbone
from foundation_shapes import PUBLISHED
from report import ROOT, commit, machine, put_section, replace_file, table

NOT_MEASURED: Final = "not measured: no CUDA device"
GRAPHED, COMPILED = "engines", "engines, compiled"
# In the order of what matters most, with seconds that each takes at most, by estimate: none begins that cannot end.
PARTS: Final = {
    "Qwen2.5-VL-3B": 60.0, GRAPHED: 40.0, "Cosmos-Reason2-2B": 45.0, "Qwen2.5-Omni-3B": 60.0, COMPILED: 90.0,
    "TRIBEv2": 80.0,
}  # fmt: skip
BACKBONES, ENGINES = "foundation", "foundation_engines"  # the two reports
SHELF: Final = Path("/dev/shm")  # a file system in memory, where there is one
SHELF_BYTES: Final = 16e9  # what the largest folder needs, with room
HEADERS: Final = {
    BACKBONES: (
        "model", "weights", "precision", "weights in GPU memory, MB", "peak in encoding 1 / 16 frames, MB",
        "1 frame p50 / p99, ms", "16 frames p50 / p99, ms", "policy eager / CUDA graph p50, ms",
    ),
    ENGINES: (
        "network", "weights", "batch", "eager p50, ms", "torch.compile p50, ms", "CUDA graph p50 / p99, ms",
        "off eager by at most", "floor eager / CUDA graph p50, ms",
    ),
}  # fmt: skip


def part_of(name: str, amount: Amount) -> Callable[[], Any]:
    """What measures one of `PARTS`."""
    if name in (GRAPHED, COMPILED):
        return partial(graphed_heads if name == GRAPHED else compiled_heads, amount)
    roomy = SHELF.is_dir() and shutil.disk_usage(SHELF).free > SHELF_BYTES
    return partial(one_backbone, name, amount, str(SHELF) if roomy else None)


def report_name(part: str) -> str:
    """Which of the two reports a part stands in."""
    return BACKBONES if part in PUBLISHED else ENGINES


def run_apart(call: Callable[[], Any]) -> Any:
    """The call's answer out of a fresh process, or {"failed": why}: one that dies takes nothing else with it."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        answer = pool.submit(call)
        error = answer.exception()
    return answer.result() if error is None else {"failed": f"{type(error).__name__}: {error}"}


def gpu() -> dict[str, str]:
    """Name of the GPU, its driver, and what torch was built for."""
    asked = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    found = shutil.which(asked[0]) is not None
    driver = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split() if found else []
    return {
        "name": torch.cuda.get_device_name(), "driver": driver[0] if driver else "unknown",
        "torch": torch.__version__, "cuda": str(torch.version.cuda),
    }  # fmt: skip


def backbone_lines(parts: Mapping[str, Any]) -> list[list[str]]:
    """Rows of the table of backbones."""
    lines = []
    for name, figures in parts.items():
        for precision in PRECISIONS if "failed" not in figures else ():
            one = figures[precision]
            engines = one["policy_ms"].values()
            memory = [_mb(one[f"encode_{length}_peak_mb"]) for length in (1, 16)]
            times = [_both(one[f"encode_{length}_ms"]) for length in (1, 16)]
            size = [f"{figures['weights'] / 1e6:.1f} M", precision, _mb(one["weights_mb"]), " / ".join(memory)]
            lines.append([name, *size, *times, " / ".join(f"{engine['p50']:.1f}" for engine in engines)])
    return lines


def _mb(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.0f}"


def _both(times: Mapping[str, float]) -> str:
    return f"{times['p50']:.1f} / {times['p99']:.1f}"


def engine_lines(parts: Mapping[str, Any]) -> list[list[str]]:
    """Rows of the table of engines."""
    lines = []
    for row in (row for rows in parts.values() if "failed" not in rows for row in rows):
        middle, high = row["p50_ms"], row["p99_ms"]
        compiled, graph = middle.get("compile"), middle.get("cudagraph")
        floors = [f"{middle[name]:.3f}" for name in ("floor, eager", "floor, cudagraph") if name in middle]
        times = [
            f"{middle['eager']:.3f}",
            "-" if compiled is None else f"{compiled:.3f}",
            "-" if graph is None else f"{graph:.3f} / {high['cudagraph']:.3f}",
        ]
        gap = max(gap for name, gap in row["off_eager"].items() if not name.startswith("floor"))
        size = [f"{row['weights'] / 1e6:.2f} M", str(row["batch"])]
        lines.append([row["network"], *size, *times, f"{gap:.1e}", " / ".join(floors) or "-"])
    return lines


LINES: Final = {BACKBONES: backbone_lines, ENGINES: engine_lines}


def read_parts(folder: Path, name: str, found_on: Mapping[str, str]) -> dict[str, Any]:
    """The parts that an earlier run on the same GPU and torch left in a report, but for those that failed."""
    path = folder / f"{name}.json"
    figures = json.loads(path.read_text(encoding="utf-8"))["figures"] if path.is_file() else {}
    kept = figures.get("parts", {}) if figures.get("gpu") == dict(found_on) else {}
    return {part: what for part, what in kept.items() if "failed" not in what}


def put_into_results(report: Mapping[str, Any], root: Path = ROOT) -> None:
    """Write a report's JSON file and its table in RESULTS.md; machine, date and commit are the report's own."""
    name, figures = report["name"], report["figures"]
    file = f"benchmarks/results/{name}.json"
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    replace_file(root / file, json.dumps(report, indent=2, allow_nan=False) + "\n")
    source = f"{report['date']}, commit {report['commit']}, {figures['gpu']['name']}, `{file}`"
    body = f"{table(HEADERS[name], LINES[name](figures['parts']))}\n\n{source}"
    results = root / "RESULTS.md"
    replace_file(results, put_section(results.read_text(encoding="utf-8"), name, body))


def measure(names: Sequence[str], seconds: float, out: Path | None, measured_at: str) -> None:
    """Measure on the GPU the parts that are not there yet, as many as fit in so many seconds."""
    began, found_on = time.monotonic(), gpu()
    home = ROOT / "benchmarks" / "results" if out is None else out
    parts = {name: read_parts(home, name, found_on) for name in HEADERS}
    print(found_on, flush=True)
    for name in names:
        report = report_name(name)
        if name in parts[report]:
            print(f"{name}: measured already", flush=True)
            continue
        if time.monotonic() - began + PARTS[name] > seconds:
            print(f"{name}: not measured, {PARTS[name]:.0f} s are not left of {seconds:.0f}", flush=True)
            continue
        parts[report][name] = run_apart(part_of(name, Amount("cuda", 1.0)))
        lines = LINES[report]({name: parts[report][name]})
        print(f"{name}, {time.monotonic() - began:.0f} s: {lines or parts[report][name]}", flush=True)
        today, figures = datetime.date.today().isoformat(), {"gpu": found_on, "parts": parts[report]}
        written = {"name": report, "date": today, "commit": measured_at, "machine": machine(), "figures": figures}
        if out is None:
            put_into_results(written)
        else:
            out.mkdir(parents=True, exist_ok=True)
            replace_file(out / f"{report}.json", json.dumps(written, indent=2, allow_nan=False) + "\n")


def try_tiny(names: Sequence[str]) -> None:
    """Every part on tiny models, in this process; prints its tables."""
    amount = Amount("cuda" if torch.cuda.is_available() else "cpu", 0.05, tiny=True)
    for name in names:
        if name == COMPILED:
            continue  # a minute or more of compilation
        found = {name: part_of(name, amount)()}
        report = report_name(name)
        print(table(HEADERS[report], LINES[report](found)), flush=True)


def main() -> None:
    """Measure, adopt, or say that nothing is measured here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=400.0, help="begin no part that would end later")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, help="folder for the JSON files; RESULTS.md is left alone then")
    parser.add_argument("--commit", help="of the measured tree, where it is no git checkout")
    parser.add_argument("--adopt", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    if args.adopt is not None:
        for name in HEADERS:
            if (args.adopt / f"{name}.json").is_file():
                put_into_results(json.loads((args.adopt / f"{name}.json").read_text(encoding="utf-8")))
    elif args.tiny:
        try_tiny(args.only)
    elif not torch.cuda.is_available():
        print(NOT_MEASURED)
    else:
        measure(args.only, args.seconds, args.out, args.commit or commit(ROOT))


if __name__ == "__main__":
    main()
