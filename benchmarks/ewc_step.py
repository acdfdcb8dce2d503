"""What a learning step costs with EWC and without it, and what EWC keeps after one, three and nine regimes.

    python benchmarks/ewc_step.py                  # two minutes on one idle core; writes RESULTS.md
    python benchmarks/ewc_step.py --preset tiny    # seconds, leaves RESULTS.md alone

A step is `NeonSelfLearner.update`: the default's one loss, hindsight, backward, optimiser, springs, and the forward
model's own step. The heads read features 2048 wide, as a model of 3 billion weights has them, and have 6.2 M weights:
the MLP head, which answers with one action, and the chunking head, which is the usual one and sends each of its 16
steps through a hidden layer. One thread; the steps with and without EWC take turns, which of them goes first as well,
so that what disturbs one disturbs both. Wanted of each head, fixed before anything was measured: a step with EWC of at
most 60 ms and at most 1.2 times the step without, both of the medians; no more bytes after nine regimes than after one.
"""

import argparse
import datetime
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from parameter_table import bare_backbone
from report import table, write_report

from neon_sim.model.goal import make_goal
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.names import nearest
from neon_sim.training.experience import Experience
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.protection import NoneConfig, OnlineEWCConfig, ProtectionConfig
from neon_sim.training.self_learner import NeonSelfLearner, SelfLearnerConfig

WANTED_MS: Final = 60.0
WANTED_RATIO: Final = 1.2
HEADS: Final = ("MLP", "chunking")
WAYS: Final[dict[str, ProtectionConfig]] = {"without": NoneConfig(), "online EWC": OnlineEWCConfig()}
HEADER: Final = ("head", "", "measured", "wanted", "")


@dataclass(frozen=True)
class Preset:
    """Size of heads and measurement."""

    width: int = 2048  # of the features
    hidden: tuple[int, int] = (818, 650)  # of the MLP and the chunking head: 6.2 M weights, goal embedding included
    batch_size: int = 64
    chunks: int = 128  # of made-up experience
    fisher_samples: int = 64
    steps: int = 200  # of each way
    regimes: tuple[int, ...] = (1, 3, 9)


PRESETS: Final = {"full": Preset(), "tiny": Preset(32, (24, 24), 8, 16, 4, 5)}


def make_learner(preset: Preset, head: str, protection: ProtectionConfig) -> NeonSelfLearner:
    """Heads of random weights that have seen made-up chunks; the same for every protection."""
    torch.manual_seed(0)
    hidden = preset.hidden[HEADS.index(head)]
    config = NeonConfig(mlp_hidden=hidden, use_lidar=False, head={"use_action_chunking": head == "chunking"})
    model = NeonVLA(config, bare_backbone(preset.width))
    learning = SelfLearnerConfig(
        batch_size=preset.batch_size, fisher_samples=preset.fisher_samples, protection=protection
    )
    learner = NeonSelfLearner(model, ForwardModel.for_model(model), learning)
    steps, actions = config.num_action_steps, model.action_space.dim
    for _ in range(preset.chunks):
        before, text, place = torch.randn(model.fused_dim), torch.randn(preset.width), 0.3 + 0.1 * torch.randn(1, 3)
        goal = make_goal(torch.tensor([1]), place)[0]
        after, executed = before + 0.1 * torch.randn(model.fused_dim), 0.3 * torch.randn(steps, actions)
        learner.buffer.append(Experience(before, after, text, goal, executed, goal, 1.0))
    return learner


def measure(preset: Preset, head: str) -> dict[str, Any]:
    """Milliseconds of each step by way, weights that learn, bytes of online EWC by number of regimes."""
    torch.set_num_threads(1)
    learners = {name: make_learner(preset, head, protection) for name, protection in WAYS.items()}
    for learner in learners.values():
        learner.protect(*learner.known())
        learner.update()  # what only the first one costs
    times: dict[str, list[float]] = {name: [] for name in learners}
    for step in range(preset.steps):
        for name in sorted(learners, reverse=bool(step % 2)):
            begun = time.perf_counter()
            learners[name].update()
            times[name].append(1e3 * (time.perf_counter() - begun))
    learner = learners["online EWC"]
    kept = {}
    for regimes in range(1, max(preset.regimes) + 1):
        if regimes > 1:  # the first one has ended above
            learner.protect(*learner.known())
        if regimes in preset.regimes:
            kept[str(regimes)] = learner.strategy.memory_bytes()
    weights = sum(param.numel() for param in learner.params.values())
    return {"weights": weights, "ms": times, "bytes_after_regimes": kept}


def verdicts(found: dict[str, Any]) -> dict[str, Any]:
    """The figures that something is wanted of, and whether it is met."""
    plain, held = (np.percentile(found["ms"][name], (50, 99)) for name in WAYS)
    kept = list(found["bytes_after_regimes"].values())
    ratio, growth = float(held[0] / plain[0]), kept[-1] - kept[0]
    return {
        "p50_ms": float(held[0]),
        "p99_ms": float(held[1]),
        "p50_ms_without": float(plain[0]),
        "p99_ms_without": float(plain[1]),
        "ratio": ratio,
        "growth_bytes": growth,
        "met": {"step": bool(held[0] <= WANTED_MS), "ratio": ratio <= WANTED_RATIO, "memory": growth == 0},
    }


def table_rows(head: str, found: dict[str, Any], judged: dict[str, Any]) -> list[list[str]]:
    """What was measured of one head, what was wanted, met or missed."""
    met = {name: "met" if good else "missed" for name, good in judged["met"].items()}
    kept = " / ".join(f"{count / 2**20:.2f}" for count in found["bytes_after_regimes"].values())
    regimes = ", ".join(found["bytes_after_regimes"])
    name = f"{head}, {found['weights'] / 1e6:.2f} M"
    step, without = (f"{judged[f'p50_ms{way}']:.1f} / {judged[f'p99_ms{way}']:.1f}" for way in ("", "_without"))
    return [
        [name, "a step with online EWC, p50 / p99 ms", step, f"p50 at most {WANTED_MS:g}", met["step"]],
        [name, "the same without, p50 / p99 ms", without, "-", "-"],
        [name, "with over without, of p50", f"{judged['ratio']:.3f}", f"at most {WANTED_RATIO:g}", met["ratio"]],
        [name, f"MiB that EWC keeps after {regimes} regimes", kept, "no growth", met["memory"]],
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and at full size report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full", help=f"one of {', '.join(PRESETS)}")
    args = parser.parse_args(arguments)
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    figures: dict[str, Any] = {"preset": asdict(PRESETS[args.preset])}
    rows = []
    for head in HEADS:
        found = measure(PRESETS[args.preset], head)
        judged = verdicts(found)
        figures[head] = {**found, **judged}
        rows += table_rows(head, found, judged)
    print(table(HEADER, rows))
    if args.preset == "full":
        write_report("ewc_step", figures, HEADER, rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
