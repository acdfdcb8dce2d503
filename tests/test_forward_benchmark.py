"""benchmarks/forward.py: its floor has as many weights, its turns are fair, its quick look writes nothing."""

import sys
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


def test_an_unknown_preset_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["forward.py", "--preset", "tinny"])
    with pytest.raises(SystemExit, match="Unknown preset 'tinny'. Did you mean 'tiny'"):
        forward.main()
