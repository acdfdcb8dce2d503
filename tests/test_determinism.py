"""Same seed, same bits: 500 steps with all senses on, in two processes, and again in this one."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neon_sim.env import NeonG1Env

STEPS = 500


def fingerprint(task: str, control_mode: str, physics_dt: float, steps: int = STEPS) -> str:
    """Hash of every observation, reward, ending and truth of `steps` seeded steps, through as many episodes."""
    env = NeonG1Env(task=task, control_mode=control_mode, physics_dt=physics_dt)
    digest = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, dict):
            for key in sorted(part):
                digest.update(key.encode())
                add(part[key])
        elif isinstance(part, np.ndarray):
            digest.update(repr((part.shape, part.dtype)).encode() + part.tobytes())
        else:
            digest.update(repr(part).encode())

    actions = np.random.default_rng(0).uniform(-1, 1, (steps, *env.action_space.shape)).astype(np.float32)
    episodes = 0
    over, seed = True, 123
    for action in actions:
        if over:
            for part in env.reset(seed=seed if episodes == 0 else None):
                add(part)
            episodes += 1
        obs, reward, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        for part in (obs, reward, terminated, truncated, info):
            add(part)
    env.close()
    return f"{episodes} {digest.hexdigest()}"


def in_a_new_process(*arguments: Any, hash_seed: str) -> "subprocess.Popen[str]":
    """Start `fingerprint` elsewhere, with another order of sets and dicts."""
    code = f"from test_determinism import fingerprint; print(fingerprint(*{arguments!r}))"
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )


def printed(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return output.strip()


@pytest.mark.parametrize(
    ("task", "control_mode", "physics_dt"), [("reach", "arms_only", 0.002), ("stand", "whole_body", 0.005)]
)
def test_500_steps_are_equal_to_the_bit_across_processes(task: str, control_mode: str, physics_dt: float) -> None:
    setting = (task, control_mode, physics_dt)
    ones = [in_a_new_process(*setting, hash_seed=seed) for seed in ("1", "2")]
    first, second = [printed(process) for process in ones]
    assert first == second == fingerprint(*setting)
    assert int(first.split()[0]) > 2  # so that resets without a seed are in it


def test_the_fingerprint_sees_a_difference() -> None:
    short = fingerprint("stand", "arms_only", 0.005, 20)
    assert short == fingerprint("stand", "arms_only", 0.005, 20)
    assert short != fingerprint("stand", "arms_only", 0.005, 21)
    assert short != fingerprint("stand", "upper_body", 0.005, 20)
