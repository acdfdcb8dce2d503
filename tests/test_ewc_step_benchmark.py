"""benchmarks/ewc_step.py: a tiny measurement with real learners, and verdicts by hand."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import ewc_step


def test_a_tiny_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    ewc_step.main(["--preset", "tiny"])
    printed = capsys.readouterr().out
    assert printed.count("| with over without, of p50 |") == 2
    assert printed.count("no growth | met |") == 2  # nine regimes take the bytes of one, whatever the machine


def test_both_ways_take_the_same_step_and_only_one_is_held() -> None:
    found = ewc_step.measure(ewc_step.PRESETS["tiny"], "chunking")
    assert {name: len(times) for name, times in found["ms"].items()} == {"without": 5, "online EWC": 5}
    # Centre and Fisher in float32, whatever else is kept is a few numbers.
    assert set(found["bytes_after_regimes"].values()) == {2 * 4 * found["weights"]}


def test_verdicts_by_hand() -> None:
    found = {
        "weights": 6_200_000,
        "ms": {"without": [50.0] * 4, "online EWC": [61.0, 61.0, 61.0, 90.0]},
        "bytes_after_regimes": {"1": 2**20, "3": 2**20, "9": 2**21},
    }
    judged = ewc_step.verdicts(found)
    assert judged["met"] == {"step": False, "ratio": False, "memory": False}
    assert (judged["p50_ms"], judged["ratio"], judged["growth_bytes"]) == (61.0, 1.22, 2**20)
    rows = ewc_step.table_rows("MLP", found, judged)
    assert {row[0] for row in rows} == {"MLP, 6.20 M"}
    assert [row[-1] for row in rows] == ["missed", "-", "missed", "missed"]
    assert rows[3][2] == "1.00 / 1.00 / 2.00" and all(len(row) == len(ewc_step.HEADER) for row in rows)
    found["ms"]["online EWC"] = [60.0] * 4
    found["bytes_after_regimes"]["9"] = 2**20
    assert ewc_step.verdicts(found)["met"] == {"step": True, "ratio": True, "memory": True}


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(SystemExit, match="Unknown preset 'ful'. Did you mean 'full'"):
        ewc_step.main(["--preset", "ful"])
