"""benchmarks/forward.py: its floor has as many weights, its turns are fair, its quick look writes nothing."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import forward


@pytest.mark.parametrize("weights", [500_000, 2_120_000, 18_000_000])
def test_the_floor_has_as_many_weights_as_the_head(weights: int) -> None:
    floor = forward.plain_layers(weights, 2048, 272)
    assert forward.weights_of(floor) == pytest.approx(weights, rel=0.01)
    assert floor(torch.zeros(3, 2048)).shape == (3, 272)


def test_calls_are_timed_in_turns() -> None:
    order: list[str] = []
    found = forward.times_ms({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 0.0)
    assert order == ["a", "b"] * (len(order) // 2) and len(found["a"]) == len(found["b"]) >= 10
    assert (found["a"] >= 0.0).all()


def test_modes_are_what_they_say() -> None:
    grads, types = [], []

    def look() -> None:
        value = torch.nn.Linear(2, 2)(torch.ones(1, 2))
        grads.append(value.requires_grad)
        types.append(value.dtype)

    for mode in forward.MODES.values():
        with mode():
            look()
    assert grads == [True, False, False] and types == [torch.float32, torch.float32, torch.bfloat16]


def test_a_row_names_its_best_mode_and_its_ratio() -> None:
    layer, rows = torch.nn.Linear(64, 64), torch.zeros(1, 64)
    row = forward.measure(lambda: layer(rows), lambda: layer(rows), 0.01)
    assert row["p50_ms"] == row["modes_p50_ms"][row["best"]] == min(row["modes_p50_ms"].values())
    assert row["ratio"] == pytest.approx(row["p50_ms"] / row["floor_ms"])
    text = forward.text_of({"what": "layer", "weights": 4160, "batch": 1, "threads": 1, **row})
    assert len(text) == len(forward.HEADER)


def test_memory_is_what_a_fresh_process_of_its_own_says() -> None:
    (row,) = forward.memory_rows(forward.Preset(0.0, (), resident=("compact_reach",)))
    # 2.61 M weights of the backbone and 1.36 M of the action layer, four bytes each: 15.9 MB.
    assert row["weights"] == 2_605_760 + 1_364_344 and row["weights_mb"] == pytest.approx(15.88, abs=0.01)
    grown = row["with_policy_mb"] - row["libraries_mb"]
    assert row["weights_mb"] < grown < 500.0  # it holds them, and an answer's activations
    assert 50.0 < row["libraries_mb"] < 2_000.0
    assert len(forward.memory_text(row)) == len(forward.MEMORY_HEADER)


def test_every_compact_preset_is_measured() -> None:
    assert {"compact_reach", "compact_flow"} <= set(forward.COMPACT_PRESETS)
    assert all(name.startswith("compact") for name in forward.COMPACT_PRESETS)


def test_targets_are_met_or_missed_in_words() -> None:
    rows = [
        {"what": "chunking", "batch": 1, "threads": 1, "p50_ms": 2.0},
        {"what": "chunking", "batch": 64, "threads": 1, "p50_ms": 90.0},
        {"what": "whole policy", "batch": 1, "threads": 1, "p50_ms": 10.5},
        {"what": "whole policy", "batch": 1, "threads": 2, "p50_ms": 6.0},
    ]
    head, policy = (forward.target_text(what, found) for what, found in forward.judged(rows).items())
    assert head[0] == "target: chunking, p50 at most 2 ms" and head[5] == "2.00: met"
    assert policy[0] == "target: whole policy, p50 at most 10 ms" and policy[5] == "10.50: missed"
    assert len(head) == len(policy) == len(forward.HEADER)


def test_presets_that_were_not_measured_say_so() -> None:
    row = {"preset": "compact_flow", "weights": 4e6, "weights_mb": 16.0, "libraries_mb": 240.0, "with_policy_mb": 293.0}
    lines = {line[0]: line[1:] for line in forward.memory_lines([row])}
    assert set(lines) == set(forward.TRAINING_PRESETS)
    assert lines["compact_flow"] == ["4.00 M", "16", "240", "293"] and set(lines["edge_3b"]) == {"not measured"}


def test_each_table_is_written_when_it_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The full preset at its smallest, of which the second part fails."""
    smallest = replace(forward.PRESETS["tiny"], seconds=0.0, heads=("chunking",), networks=("no such network",))
    monkeypatch.setitem(forward.PRESETS, "full", smallest)
    monkeypatch.setattr(sys, "argv", ["forward.py"])
    (tmp_path / "RESULTS.md").write_text("# Results\n")
    with pytest.raises(KeyError, match="no such network"):
        forward.main(tmp_path)
    assert "| target: whole policy, p50 at most 10 ms |" in (tmp_path / "RESULTS.md").read_text()
    assert [path.name for path in (tmp_path / "benchmarks" / "results").iterdir()] == ["forward.json"]


def test_an_unknown_preset_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["forward.py", "--preset", "tinny"])
    with pytest.raises(SystemExit, match="Unknown preset 'tinny'. Did you mean 'tiny'"):
        forward.main()
