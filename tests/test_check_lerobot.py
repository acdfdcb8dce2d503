"""scripts/check_lerobot.py: says when nothing was checked, and sees what differs."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from lerobot_episodes import full_episode

from neon_sim.data.lerobot import LeRobotWriter
from neon_sim.data.lerobot.columns import to_columns

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "check_lerobot.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_lerobot", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(importlib.util.find_spec("lerobot") is not None, reason="lerobot is installed")
def test_a_skipped_check_is_said(tmp_path: Path) -> None:
    with LeRobotWriter(tmp_path / "set", "v3.0") as writer:
        writer.add(full_episode(3))
    command = [sys.executable, str(SCRIPT), str(tmp_path / "set")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "SKIPPED: the lerobot package is not installed" in done.stdout


@pytest.mark.skipif(importlib.util.find_spec("lerobot") is None, reason="needs Python 3.12 and lerobot")
def test_lerobot_reads_the_same(script: ModuleType, tmp_path: Path) -> None:
    with LeRobotWriter(tmp_path / "set", "v3.0") as writer:
        writer.add(full_episode(12))
        writer.add(full_episode(8, 1, "other"))
    assert script.compare(tmp_path / "set", 100) == (20, [])


def test_reasons_to_skip(script: ModuleType) -> None:
    assert script.why_skipped((3, 12), True, "v3.0") is None
    assert "needs Python 3.12, this is 3.11" in script.why_skipped((3, 11), False, "v3.0")
    assert "merge()" in script.why_skipped((3, 12), True, "v2.1")


def test_differences_are_seen(script: ModuleType) -> None:
    columns = to_columns(full_episode(3))
    same = {name: values[1] for name, values in columns.items()}
    same["observation.images.camera"] = same["observation.images.camera"].transpose(2, 0, 1) / np.float32(255.0)
    same["observation.images.wrist_left"] = same["observation.images.wrist_left"].transpose(2, 0, 1) / 255.0
    same["observation.levels"] = same["observation.levels"].transpose(2, 0, 1) / 255.0
    same["observation.depth"] = same["observation.depth"][None] * 1000.0
    assert script.differences(columns, same, 1) == []
    changed = same | {"action": same["action"] + 0.01}
    changed["observation.images.camera"] = 1.0 - same["observation.images.camera"]
    assert sorted(script.differences(columns, changed, 1)) == ["action", "observation.images.camera"]
