"""How a network is run: the choice by device, and recordings of a CUDA graph where there is one."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from neon_sim.inference.engines import ENGINES, RecordedNetwork, pick_engine, run_by

CPU = torch.device("cpu")


def _sum(inputs: Mapping[str, Tensor]) -> Tensor:
    return inputs["a"] + 2.0 * inputs["b"]


def _require_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)


def test_auto_is_a_graph_where_there_is_cuda_and_eager_elsewhere():
    chosen = {device: pick_engine("auto", torch.device(device)) for device in ("cuda", "cpu", "mps")}
    assert chosen == {"cuda": "cudagraph", "cpu": "eager", "mps": "eager"}
    assert [pick_engine(name, torch.device("cuda")) for name in ENGINES[1:-1]] == list(ENGINES[1:-1])
    assert ENGINES[-1] == pick_engine("onnx", CPU) == "onnx"


def test_an_engine_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="Unknown engine 'cudagraf'. Did you mean 'cudagraph'"):
        pick_engine("cudagraf", CPU)
    with pytest.raises(ValueError, match="wants a CUDA device, got cpu. Use auto, eager or compile"):
        run_by("cudagraph", _sum, CPU)
    with pytest.raises(ValueError, match="'onnx' runs on the CPU, got cuda. Use auto, eager or compile"):
        pick_engine("onnx", torch.device("cuda"))


def test_eager_is_the_network_itself():
    assert run_by("eager", _sum, CPU) is _sum and run_by("auto", _sum, CPU) is _sum


@pytest.mark.slow
def test_a_compiled_network_answers_alike():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))
    compiled = run_by("compile", lambda inputs: layer(inputs["a"]), CPU)
    for rows in (1, 3):
        given = torch.randn(rows, 4)
        with torch.no_grad():
            torch.testing.assert_close(compiled({"a": given}), layer(given), rtol=0.0, atol=1e-5)


def test_onnxruntime_answers_alike_and_is_exported_anew_for_other_shapes():
    _require_onnx()
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))
    network = run_by("onnx", lambda inputs: layer(inputs["a"]) + inputs["b"], CPU)
    for rows in (1, 3, 1):
        given = {"b": torch.randn(rows, 2), "a": torch.randn(rows, 4)}
        with torch.inference_mode():
            torch.testing.assert_close(network(given), layer(given["a"]) + given["b"], rtol=0.0, atol=1e-5)
    last = network(given)
    with torch.no_grad():
        layer[2].bias.add_(1.0)
    assert torch.equal(network(given), last)  # as it says: the weights are those of the export


def test_an_export_that_is_off_its_network_is_refused():
    _require_onnx()
    calls = iter(range(100))
    drifting = run_by("onnx", lambda inputs: inputs["a"] + float(next(calls)), CPU)
    with pytest.raises(RuntimeError, match="off the network's own, more than 1e-03. Use eager"):
        drifting({"a": torch.zeros(1, 8)})


@pytest.mark.gpu
def test_a_recording_follows_its_inputs_its_shapes_and_its_weights():
    layer = nn.Linear(3, 2).cuda()
    recorded = RecordedNetwork(lambda inputs: layer(inputs["a"]))
    firsts = []
    for rows in (1, 4, 1):
        given = torch.randn(rows, 3, device="cuda")
        firsts.append((recorded({"a": given}), layer(given)))
    for answer, wanted in firsts:  # an answer is not written over by the next
        torch.testing.assert_close(answer, wanted.detach(), rtol=0.0, atol=1e-5)
    with torch.no_grad():
        layer.bias.add_(1.0)
    given = torch.randn(1, 3, device="cuda")
    torch.testing.assert_close(recorded({"a": given}), layer(given).detach(), rtol=0.0, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(recorded({"a": given}), layer(given), rtol=0.0, atol=1e-5)


@pytest.mark.gpu
def test_a_network_that_draws_is_not_recorded():
    def noisy(inputs: Mapping[str, Tensor]) -> Tensor:
        return inputs["a"] + torch.randn_like(inputs["a"])

    given = {"a": torch.zeros(1, 8, device="cuda")}
    with pytest.raises(RuntimeError, match="off the network's own, more than 1e-03. Use eager"):
        RecordedNetwork(noisy)(given)
    lenient = RecordedNetwork(noisy, strict=False)
    with pytest.warns(UserWarning, match="off the network's own"):
        first = lenient(given)
    assert not torch.equal(lenient(given), first)  # the network itself draws anew
