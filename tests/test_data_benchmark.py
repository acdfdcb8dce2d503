"""benchmarks/data.py measures what it says, on the smallest data set."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

from neon_sim.training.recording import Collecting

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_the_figures_hang_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("data_benchmark", BENCHMARKS / "data.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    config = Collecting(task="stand", sensors=("proprio", "camera"), seconds=0.2)
    found = module.figures_of(config, episodes=1, rounds=1)
    assert all(math.isfinite(value) and value > 0.0 for value in found.values())
    ratio = found["episodes_per_minute"] / found["bare_stepping_episodes_per_minute"]
    assert found["of_bare_stepping"] == pytest.approx(ratio)
    assert found["of_bare_decoding"] == pytest.approx(found["samples_per_s"] / found["bare_decoding_samples_per_s"])
    assert found["writing_share"] < 1.0
    found["episodes_per_minute"] = 100.0
    judged = [module.cells(name, found) for name in ("stand, proprio", "reach, proprio + camera", "reach, all senses")]
    assert [row[:2] for row in judged] == [["100", "150: missed"], ["100", "20: met"], ["100", "-"]]
    assert {len(row) for row in judged} == {7}
