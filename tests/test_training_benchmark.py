"""benchmarks/training.py measures what it says, on a handful of samples."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("training_benchmark", BENCHMARKS / "training.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, loaded)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.slow
def test_the_figures_hang_together(module: ModuleType, tmp_path: Path) -> None:
    found = module.figures_of("compact_reach", tmp_path, episodes=2, steps=1)
    found["two_processes_samples_per_s"] = module.pair_rate("compact_reach", tmp_path, episodes=2, steps=1)
    assert all(math.isfinite(value) and value > 0.0 for value in found.values())
    assert found["encoding_samples_per_s"] < found["updates_alone_samples_per_s"]
    assert found["reading_samples_per_s"] < found["kept_samples_per_s"]
    assert len(module.cells(found)) == 7


def test_a_smaller_measurement_leaves_the_results_alone(module: ModuleType) -> None:
    assert module.too_small(list(module.COMPACT), module.STEPS, module.EPISODES) == ""
    assert module.too_small(list(module.COMPACT), 200, 48) == ""
    for presets, steps, episodes in ((module.COMPACT[:1], 20, 24), (module.COMPACT, 19, 24), (module.COMPACT, 20, 23)):
        assert "RESULTS.md is as it was" in module.too_small(presets, steps, episodes)


def test_what_is_wrong_is_answered_before_anything_is_measured(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["training.py", "--presets", "compact_reech"])
    with pytest.raises(SystemExit, match="Did you mean 'compact_reach'"):
        module.main()
    monkeypatch.setattr(sys, "argv", ["training.py", "--episodes", "1"])
    with pytest.raises(SystemExit):
        module.main()
