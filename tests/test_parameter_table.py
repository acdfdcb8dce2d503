"""benchmarks/parameter_table.py: counts by hand, and README.md says what the code counts."""

import sys
from pathlib import Path

import pytest
import torch

from neon_sim.model.neon_vla import NeonVLA

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import parameter_table
from report import put_section

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def columns() -> list[dict[str, int]]:
    return parameter_table.layer_columns()


@pytest.fixture(scope="module")
def heads() -> dict[str, int]:
    return parameter_table.head_counts()


def test_the_readme_is_current(columns: list[dict[str, int]], heads: dict[str, int]) -> None:
    """If it is not: python benchmarks/parameter_table.py."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert put_section(readme, parameter_table.SECTION, parameter_table.section(columns, heads)) == readme


def test_rows_add_up(columns: list[dict[str, int]]) -> None:
    within = ("norms (in the heads)", "residual scales (in the heads)", parameter_table.TOTAL)
    for column in columns:
        assert sum(count for name, count in column.items() if name not in within) == column[parameter_table.TOTAL]
        assert list(column) == list(parameter_table.LAYER_CLAIMS)


def test_counts_by_hand(columns: list[dict[str, int]], heads: dict[str, int]) -> None:
    # 2048 to 512, RMSNorm, 512 to 512 read by a layer that sees 1024 (the skip), RMSNorm and a scale, 512 to 17.
    layers = (2048 * 512 + 512) + 512 + (1024 * 512 + 512) + 512 + 1 + (512 * 17 + 17)
    assert heads["MLPDecoder"] == pytest.approx(layers, abs=1024)
    assert heads["StateRelativeHead"] == 0
    # Clip of 2048, proprioception 256, palms 64 and sound 64 to 2048: 2432 columns.
    assert columns[0]["fusion"] == pytest.approx(2432 * 2048 + 2048, rel=0.001)
    assert columns[0]["proprioception encoder"] == (125 * 256 + 256) + (256 * 256 + 256)
    # 14 outputs against 3, 512 wide, with their biases.
    assert columns[0]["arms head"] - columns[0]["locomotion head"] == 11 * 513
    shipped = NeonVLA.from_pretrained(ROOT / "assets" / "g1" / "demo_heads")
    assert columns[2][parameter_table.TOTAL] == shipped.parameter_table()["trainable"]


def test_weights_of_a_kind_are_those_of_its_parts() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1, bias=False))
    assert parameter_table.weights_of(net) == 20 and parameter_table.weights_of(net, torch.nn.ReLU) == 0
    assert parameter_table.weights_of(net, torch.nn.Linear) == 20


@pytest.mark.parametrize(("count", "text"), [(7, "7"), (98_048, "98 K"), (1_364_344, "1.36 M"), (116_480, "0.12 M")])
def test_short_numbers(count: int, text: str) -> None:
    assert parameter_table.short(count) == text
