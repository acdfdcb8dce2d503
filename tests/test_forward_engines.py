"""benchmarks/forward_engines.py: every way gives eager's answer; the policy as one network is the policy."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_neon import tiny_model
from torch import nn

from neon_sim.training.precision import has_bfloat16

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import forward_ways
from forward_engines import ENGINES, PolicyGraph, Ways, export_onnx, in_bfloat16, onnx_call, ways_of


def _asked(folder: Path) -> tuple[PolicyGraph, tuple[torch.Tensor, ...], np.ndarray]:
    """The tiny policy as one network, its inputs, and the policy's own answer (1, 16, 17)."""
    model = tiny_model(folder, use_lidar=False, use_audio=False)
    generator = torch.Generator().manual_seed(3)
    clip = torch.randint(0, 256, (1, 4, 128, 128, 3), dtype=torch.uint8, generator=generator)
    senses = {name: 0.3 * torch.randn(1, width, generator=generator) for name, width in (("proprio", 125), ("eef", 14))}
    with torch.no_grad():
        features = model.encode(clip, ["touch the red ball with your left hand"])
        chunk, _ = model(features, senses)
    return PolicyGraph(model), (clip, features.text, senses["proprio"], senses["eef"]), chunk.numpy()


def test_the_network_is_the_policy(tmp_path: Path) -> None:
    graph, inputs, chunk = _asked(tmp_path)
    with torch.inference_mode():
        assert np.array_equal(graph(*inputs).numpy(), chunk)
        other = graph(inputs[0], inputs[1].roll(1), *inputs[2:]).numpy()
    assert not np.allclose(other, chunk)  # it hears the words


def test_heads_that_sample_are_refused(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, use_lidar=False, use_audio=False, head={"head_type": "flow"})
    with pytest.raises(ValueError, match="heads that do not sample, got compact and flow"):
        PolicyGraph(model)


def test_differences_are_the_largest_from_eager() -> None:
    plain = torch.tensor([[1.0, 2.0]])
    calls = {"eager": lambda: plain, "onnxruntime": lambda: np.array([[1.0, 2.25]], np.float32)}
    assert Ways(calls).differences() == {"eager": 0.0, "onnxruntime": 0.25}


def test_bfloat16_is_near_and_not_equal() -> None:
    torch.manual_seed(0)
    layer, given = nn.Linear(64, 8), torch.randn(4, 64)
    answer = in_bfloat16(layer, (given,))()
    assert answer.dtype == torch.bfloat16
    gap = (answer.float() - layer(given)).abs().max()
    assert 0.0 < gap < 0.03  # 8 bits of mantissa


def test_a_way_that_is_not_there_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no compiler
    monkeypatch.setattr(sys, "meta_path", [])
    for name in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    ways = ways_of(nn.Linear(2, 2), (torch.ones(1, 2),), tmp_path)
    assert ways.missing["torch.compile"] == "no C++ compiler"
    assert ways.missing["onnxruntime"] == "pip install onnx onnxscript onnxruntime"
    assert ("bf16" in ways.missing) != has_bfloat16(torch.device("cpu"))
    assert set(ways.calls) | set(ways.missing) == set(ENGINES)


def test_a_way_that_fails_is_missing_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    ways = Ways({"eager": lambda: torch.ones(1)})
    ways.take_up("torch.compile", lambda: lambda: torch.ones(1) @ torch.ones(2))  # fails when it is called
    ways.take_up("onnxruntime", lambda: onnx_call(Path("no_such_file.onnx"), (), 1))  # fails when it is built
    assert list(ways.calls) == ["eager"] and ways.missing["torch.compile"] == "failed: RuntimeError"
    assert ways.missing["onnxruntime"].startswith("failed: ") and "inconsistent tensor size" in capsys.readouterr().err
    ways.take_up("inference mode", lambda: lambda: torch.zeros(1))
    assert ways.differences() == {"eager": 0.0, "inference mode": 1.0}


def test_the_exported_policy_answers_alike(tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    graph, inputs, chunk = _asked(tmp_path / "backbone")
    call = onnx_call(export_onnx(graph, inputs, tmp_path / "policy.onnx"), inputs, threads=1)
    np.testing.assert_allclose(call(), chunk, atol=1e-5)
    assert len(list(tmp_path.glob("policy*"))) == 1  # its weights are within


@pytest.mark.slow
def test_a_head_in_every_way_and_the_choice_is_the_fastest_that_agrees() -> None:
    (row,) = forward_ways.ways_rows(["standard head"], 0.05)
    near = [way for way, gap in row["differences"].items() if gap <= forward_ways.PARITY]
    assert {"eager", "inference mode"} <= set(near) and row["differences"].get("onnxruntime", 0.0) < 1e-5
    assert row["p50_ms"][row["choice"]] == min(row["p50_ms"][way] for way in near)
    assert len(forward_ways.ways_text(row)) == len(forward_ways.WAYS_HEADER)
