"""benchmarks/foundation.py: nothing is measured without a GPU, and the same code runs small on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import foundation
import foundation_measures
import transformers
from foundation_measures import Amount
from foundation_shapes import PUBLISHED, shape_of, small_tokenizer

from neon_sim.model.backbones.prompt import OPENING

CPU = Amount("cpu", 0.0, tiny=True)
GPU = {"name": "A GPU", "driver": "1.2", "torch": "2.11", "cuda": "13.0"}


def _weights(name: str) -> dict[str, int]:
    """Weights of each published model, by its folder; shapes only, no memory."""
    counted = {}
    for where, part in PUBLISHED[name].parts.items():
        with torch.device("meta"):
            model = getattr(transformers, part.model_class)(getattr(transformers, part.config_class)(**part.options))
        counted[where] = sum(weight.numel() for weight in model.parameters())
    return counted


def test_without_a_gpu_nothing_is_measured_and_nothing_is_written(tmp_path: Path):
    command = [sys.executable, str(foundation.__file__), "--out", str(tmp_path / "results")]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=hidden)
    assert run.stdout.strip() == "not measured: no CUDA device"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # modelling code of four families is imported
@pytest.mark.parametrize(
    ("name", "billions"), [("Qwen2.5-VL-3B", 3.75), ("Cosmos-Reason2-2B", 2.13), ("Qwen2.5-Omni-3B", 4.39)]
)
def test_the_shapes_have_as_many_weights_as_the_published_models(name: str, billions: float):
    assert sum(_weights(name).values()) / 1e9 == pytest.approx(billions, rel=0.01)


def test_a_tiny_model_goes_the_whole_way_on_a_cpu(tmp_path: Path):
    figures = foundation_measures.backbone_figures("Qwen2.5-VL-3B", str(tmp_path), CPU)
    assert 1e5 < figures["weights"] < 1e6
    for precision in ("bf16", "NF4"):
        one = figures[precision]
        assert one["hidden_size"] == 64 and one["weights_mb"] is None  # a CPU's memory is not what is asked for
        assert one["encode_1_ms"]["p50"] <= one["encode_1_ms"]["p99"] and one["encode_1_ms"]["repeats"] >= 10
        assert list(one["policy_ms"]) == ["eager"]
    lines = foundation.backbone_lines({"Qwen2.5-VL-3B": figures})
    assert [line[:1] + line[2:4] for line in lines] == [
        ["Qwen2.5-VL-3B", precision, "not measured"] for precision in ("bf16", "NF4")
    ]
    assert {len(line) for line in lines} == {len(foundation.HEADERS["foundation"])}


def test_heads_stand_beside_their_floor():
    rows = foundation_measures.head_rows(("chunking",), (2,), ("eager", "cudagraph"), CPU)
    (row,) = rows
    assert row["batch"] == 2 and set(row["p50_ms"]) == {"eager", "floor, eager"}
    assert row["off_eager"] == {"eager": 0.0, "floor, eager": 0.0}
    (line,) = foundation.engine_lines({"engines": rows, "engines, compiled": {"failed": "why"}})
    assert len(line) == len(foundation.HEADERS["foundation_engines"]) and line[4] == "-"


def test_a_part_that_fails_says_why_and_harms_nobody():
    assert foundation.run_apart(os.getpid) != os.getpid()
    failed = foundation.run_apart(_fails)
    assert failed == {"failed": "ValueError: no such thing"}
    assert foundation.backbone_lines({"Qwen2.5-VL-3B": failed}) == []


def _fails() -> None:
    raise ValueError("no such thing")


def test_a_report_from_another_machine_keeps_its_own_date_and_gpu(tmp_path: Path):
    (tmp_path / "RESULTS.md").write_text("# Results\n")
    row: dict[str, Any] = {
        "network": "flow head", "weights": 2_000_000, "batch": 1, "p50_ms": {"eager": 2.0, "cudagraph": 0.5},
        "p99_ms": {"eager": 3.0, "cudagraph": 0.75}, "off_eager": {"eager": 0.0, "cudagraph": 1e-6},
    }  # fmt: skip
    figures = {"gpu": GPU, "parts": {"engines": [row], "engines, compiled": {"failed": "it"}}}
    report = {"name": "foundation_engines", "date": "2026-01-02", "commit": "abc", "machine": {}, "figures": figures}
    foundation.put_into_results(report, tmp_path)
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| flow head | 2.00 M | 1 | 2.000 | - | 0.500 / 0.750 | 1.0e-06 | - |" in text
    assert "2026-01-02, commit abc, A GPU" in text
    folder = tmp_path / "benchmarks" / "results"
    assert json.loads((folder / "foundation_engines.json").read_text()) == report
    assert foundation.read_parts(folder, "foundation_engines", GPU) == {"engines": [row]}  # what failed is tried again
    assert foundation.read_parts(folder, "foundation_engines", {**GPU, "torch": "2.13"}) == {}


def test_our_own_lines_are_few_tokens():
    tokenizer = small_tokenizer()
    assert len(tokenizer(OPENING)["input_ids"]) < 20
    assert tokenizer("<|im_start|>")["input_ids"] == [1]
    assert (
        len(tokenizer)
        < 500
        < min(v for v in shape_of("Qwen2.5-VL-3B", True).parts[""].options.values() if isinstance(v, int))
    )
