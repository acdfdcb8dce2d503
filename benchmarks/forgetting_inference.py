"""How long inference takes at 50 Hz while the learner works in its own process, and while it does not.

    python benchmarks/forgetting_inference.py                 # three minutes, on an idle machine; writes RESULTS.md
    python benchmarks/forgetting_inference.py --preset tiny   # a quick look; writes nothing

The acting process asks the policy (eyes, encoders and heads: the whole of it) once in every 20 ms; each 16th call it
takes new weights, which is counted in. Whenever fewer than two episodes wait it hands one over, counted in as well: the
learner is never idle, which is more than acting asks of it (an episode in 1.92 s). Learning and rest take turns, so
that a busy moment hits both: in the rest the learner's process is stopped by a signal. A regime has ended before, so
the default rehearses what it kept of that one. Wanted: p99 below 20 ms while it learns.
"""

import argparse
import datetime
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from report import table, write_report

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.names import nearest
from neon_sim.rollout import rollout
from neon_sim.sensors.camera import CameraConfig
from neon_sim.shipped import asset_path
from neon_sim.training.background import BackgroundConfig, BackgroundLearner
from neon_sim.training.experience import Experience
from neon_sim.training.online import load_forward_model
from neon_sim.training.self_learner import NeonSelfLearner, SelfLearnerConfig

PERIOD_S = 0.02
CHUNK = 16  # calls between two looks for new weights
EPISODE = 96  # control steps
WAITING = 2  # episodes that wait for the learner while it learns
WANTED_P99_MS = 20.0
HEADER = ["", "p50", "p99", "worst", "calls", "late calls", f"p99 below {WANTED_P99_MS:g} ms"]


@dataclass(frozen=True)
class Preset:
    """Size of the measurement."""

    turns: int = 10  # of each kind
    calls: int = 288  # a turn: 5.8 s
    warm_up: int = 16  # episodes that the learner has before


PRESETS = {"full": Preset(), "tiny": Preset(turns=2, calls=96, warm_up=12)}


def play_episode(learner: NeonSelfLearner) -> None:
    """A real one, after which the policy has a clip to look at."""
    camera = CameraConfig(rate_hz=12.5)
    options: dict[str, Any] = {"task": "reach", "physics_dt": 0.005, "sensors": ("proprio", "camera"), "camera": camera}
    env: Any = gymnasium.make("NeonG1-v0", disable_env_checker=True, **options).unwrapped
    rollout(env, learner.policy, EPISODE, seed=5_000_000, keep=(), on_chunk=lambda _: learner.before_chunk())
    learner.end_episode()
    env.close()


def an_episode(policy: Path) -> list[Experience]:
    """The chunks of one real episode."""
    model = NeonVLA.from_pretrained(policy)
    learner = NeonSelfLearner(model, load_forward_model(model, policy))
    play_episode(learner)
    return list(learner.buffer)


def one_turn(learner: BackgroundLearner, episode: list[Experience], calls: int, learning: bool) -> list[float]:
    """Milliseconds of each call, one call per 20 ms."""
    assert learner.process.pid is not None
    os.kill(learner.process.pid, signal.SIGCONT if learning else signal.SIGSTOP)
    spent = []
    due = time.perf_counter()
    for call in range(calls):
        time.sleep(max(0.0, due - time.perf_counter()))
        due = max(due + PERIOD_S, time.perf_counter() - PERIOD_S)  # what was missed is not made up for
        begun = time.perf_counter()
        if call % CHUNK == 0:
            learner.take_newest()
        if learning and learner.waiting < WAITING:
            learner.hand_over(episode)
        learner.policy.act()
        spent.append(1e3 * (time.perf_counter() - begun))
    return spent


def measure(preset: Preset) -> dict[str, Any]:
    """Play, learn and rest in turns; the figures of both."""
    torch.set_num_threads(1)
    config = SelfLearnerConfig()
    policy = asset_path("g1/demo_heads")
    episode = an_episode(policy)
    times: dict[str, list[float]] = {"learning": [], "at rest": []}
    with BackgroundLearner(policy, config, BackgroundConfig(waiting_episodes=preset.warm_up)) as learner:
        play_episode(learner)
        for _ in range(preset.warm_up):
            learner.hand_over(episode)
        learner.catch_up()
        learner.end_regime()
        for _ in range(preset.warm_up - 1):
            learner.hand_over(episode)
        learner.catch_up()
        before = learner.learned_episodes
        for _ in range(preset.turns):
            times["learning"] += one_turn(learner, episode, preset.calls, learning=True)
            times["at rest"] += one_turn(learner, episode, preset.calls, learning=False)
        assert learner.process.pid is not None
        os.kill(learner.process.pid, signal.SIGCONT)
        learner.catch_up()
        episodes, dropped = learner.learned_episodes - before, learner.dropped
    figures = {name: figures_of(values) for name, values in times.items()}
    counts = {"episodes_learned": episodes, "updates": episodes * len(episode) * config.updates_per_chunk}
    met = figures["learning"]["p99_ms"] < WANTED_P99_MS
    return {**figures, **counts, "episodes_dropped": dropped, "wanted_p99_ms": WANTED_P99_MS, "met": met}


def figures_of(values: list[float]) -> dict[str, float]:
    """Of the milliseconds of all calls in one state."""
    p50, p99 = np.percentile(values, (50, 99))
    late = sum(value > 1e3 * PERIOD_S for value in values)
    return {"p50_ms": float(p50), "p99_ms": float(p99), "worst_ms": max(values), "calls": len(values), "late": late}


def rows_of(figures: dict[str, Any]) -> list[list[str]]:
    """A row for each state of the learner."""
    rows = []
    for name in ("learning", "at rest"):
        found = figures[name]
        times = [f"{found[part]:.1f} ms" for part in ("p50_ms", "p99_ms", "worst_ms")]
        met = "met" if found["p99_ms"] < WANTED_P99_MS else "missed"
        rows.append([name, *times, str(found["calls"]), str(found["late"]), met if name == "learning" else "-"])
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and at full size report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full", help=f"one of {', '.join(PRESETS)}")
    args = parser.parse_args(arguments)
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    figures = measure(PRESETS[args.preset])
    rows = rows_of(figures)
    print(table(HEADER, rows))
    learned, dropped = figures["episodes_learned"], figures["episodes_dropped"]
    print(f"{figures['updates']} updates from {learned} episodes meanwhile, {dropped} episodes dropped")
    if args.preset == "full":
        write_report("inference_while_learning", figures, HEADER, rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()
