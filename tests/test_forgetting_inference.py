"""benchmarks/forgetting_inference.py: what it counts, and what it prints of it."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import forgetting_inference


def test_percentiles_and_late_calls_by_hand() -> None:
    found = forgetting_inference.figures_of([float(value) for value in range(1, 102)])  # 1 to 101 ms
    assert found == {"p50_ms": 51.0, "p99_ms": 100.0, "worst_ms": 101.0, "calls": 101, "late": 81}


def test_a_row_for_each_state_of_the_learner() -> None:
    quick, slow = (forgetting_inference.figures_of([value] * 4) for value in (5.0, 25.0))
    rows = forgetting_inference.rows_of({"learning": slow, "at rest": quick})
    assert rows == [["learning", *["25.0 ms"] * 3, "4", "4", "missed"], ["at rest", *["5.0 ms"] * 3, "4", "0", "-"]]
    assert forgetting_inference.rows_of({"learning": quick, "at rest": slow})[0][-1] == "met"
    assert all(len(row) == len(forgetting_inference.HEADER) for row in rows)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(SystemExit, match="Unknown preset 'tinny'. Did you mean 'tiny'"):
        forgetting_inference.main(["--preset", "tinny"])
