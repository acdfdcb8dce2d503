"""What a planner costs a machine beside time: its memory, and its share of the processor while it plans at 10 Hz.

Measured in a process of its own, which does nothing else. On the robot or in `agents/plan.py` the world, the senses and
the walker come on top.
"""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from planning_turns import SpeedPreset, untrained

from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.config import LeWMConfig
from neon_sim.world_model.controllers import LatentController, PlanningConfig
from neon_sim.world_model.problems import Problem
from neon_sim.world_model.readout import Readout
from neon_sim.world_model.worlds import Moment

RATE_HZ: Final = 10.0  # of agents/plan.py


def planner_costs(preset: SpeedPreset, config: LeWMConfig, threads: int) -> dict[str, float]:
    """Of this process, which should be a fresh one: `alone(planner_costs, ...)`. Random weights.

    memory_mb: resident while it plans; memory_above_mb: that less what was resident before the world model was made,
    when Python, torch and our code were loaded; memory_peak_mb: the most at once. cores: processor seconds per second
    of `preset.paced` replans at 10 Hz, all threads, and what they spend waiting for the next replan; late: share of
    replans that began late.
    """
    torch.set_num_threads(threads)
    before = memory_mb()
    once = live(preset, config)
    once()
    cores, late = paced(once, preset.paced)
    resident = memory_mb()
    return {
        "memory_mb": resident,
        "memory_above_mb": resident - before,
        "memory_peak_mb": memory_mb(peak=True),
        "cores": cores,
        "late": late,
    }


def live(preset: SpeedPreset, config: LeWMConfig) -> Callable[[], np.ndarray]:
    """One replan as `agents/plan.py` makes it to a place on the floor: look, know the way made, search, imagine.

    The preset's samples and iterations, and `PlanningConfig`'s plan: five commands, held for two model steps each.
    config: of a world model of navigate.
    """
    bundle = Bundle("navigate", untrained(config), Readout.empty(config.dim).eval())
    rng = np.random.default_rng(0)
    shape = (config.image_size, config.image_size, 3)
    nothing = np.zeros(3)
    seen = Moment(
        rng.integers(0, 256, shape, np.uint8), rng.normal(size=125).astype(np.float32), nothing, np.zeros(6), nothing,
        nothing,
    )  # fmt: skip
    controller = LatentController(bundle, PlanningConfig(samples=preset.samples, iterations=preset.iterations))
    controller.begin(Problem(0, {}, {}, seen, seen, np.array([[1.0, 0.0]]), ""))
    told: np.ndarray | None = None

    def once() -> np.ndarray:
        nonlocal told
        controller.see(seen, told)
        told = controller.decide()[0]
        return told

    return once


def paced(once: Callable[[], Any], calls: int, rate_hz: float = RATE_HZ) -> tuple[float, float]:
    """Make some calls at a rate; processor seconds of this process per second, and the share of calls that began late.

    Whoever cannot keep up begins the next call at once, and the seconds are those that it took.
    """
    late, began, used = 0, time.perf_counter(), time.process_time()
    for number in range(calls):
        early = began + number / rate_hz - time.perf_counter()
        late += number > 0 and early < 0.0
        time.sleep(max(0.0, early))
        once()
    time.sleep(max(0.0, began + calls / rate_hz - time.perf_counter()))  # the last call's period belongs to it
    return (time.process_time() - used) / (time.perf_counter() - began), late / calls


def memory_mb(peak: bool = False) -> float:
    """Resident memory of this process, now or the most that it ever had, MB.

    On Linux from /proc, where getrusage tells a parent's; elsewhere the most, in either case.
    """
    if sys.platform == "linux":
        name, lines = "VmHWM" if peak else "VmRSS", Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(name))) * 1024 / 1e6
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most / 1e3  # bytes there, kB here


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work` gives in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def readme_row(figures: Mapping[str, Any], date: str) -> str:
    """The row of the README's table, of the figures of `measure_speed`; date: ISO."""
    model, threads = figures["timed"]["grid"]["label"], f"{figures['threads']} thread{'s' * (figures['threads'] > 1)}"
    decision = f"{figures['replan_xs_live_p50_ms']:.0f} ms, p99 {figures['replan_xs_live_p99_ms']:.0f} ms"
    memory = f"{figures['planner_memory_mb']:.0f} MB, {figures['planner_memory_above_mb']:.0f} of them the planner's"
    return (
        f"| a planner in the world model {model}, replanning at {RATE_HZ:.0f} Hz with {threads} ({date}): a "
        f"decision; processor; memory of its process | {decision}; {figures['planner_cores_at_10_hz']:.2f} cores; "
        f"{memory} |"
    )
