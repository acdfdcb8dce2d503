"""benchmarks/data.py measures what it says, on the smallest data set."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

from neon_sim.training.recording import Collecting

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("data_benchmark", BENCHMARKS / "data.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, loaded)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_figures_hang_together(module: ModuleType) -> None:
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


@pytest.mark.parametrize(("flags", "writes"), [((), True), (("--episodes", "3"), False), (("--rounds", "2"), False)])
def test_a_smaller_measurement_leaves_the_results_alone(
    module: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    writes: bool,
) -> None:
    names = ("episodes_per_minute", "of_bare_stepping", "writing_share", "samples_per_s", "of_bare_decoding")
    figures = dict.fromkeys((*names, "megabytes_per_episode"), 1.0)
    written: list[object] = []
    monkeypatch.setattr(module, "figures_of", lambda *_: dict(figures))
    monkeypatch.setattr(module, "write_report", lambda *told: written.append(told))
    monkeypatch.setattr(sys, "argv", ["data.py", *flags])
    module.main()
    assert len(written) == writes and ("RESULTS.md is as it was" in capsys.readouterr().out) != writes
