"""The action layer by another engine is the model: same seeds, same senses, same guide."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_neon import noise_frames, tiny_features, tiny_model, tiny_senses
from torch import Tensor

from neon_sim.inference.action_layer import ActionLayer
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.inference.server import NeonInferenceServer
from neon_sim.instruction import encode_instruction
from neon_sim.model.neon_vla import NeonVLA

SMALL_DIT = {"dit_hidden": 24, "dit_layers": 1, "dit_heads": 2}
KINDS: dict[str, dict[str, Any]] = {
    "chunking": {},
    "flow": {"head": {"head_type": "flow", "state_relative": True}, "control_mode": "upper_body"},
    "dit": {"head": {"head_type": "dit", **SMALL_DIT}, "cross_attention": True},
    "ensemble": {"head": {"head_type": "ensemble", **SMALL_DIT}, "extra_senses": {"segmentation": 4, "imu": 6}},
}
KINDS["told and heard"] = {"heads_read": True, "goal_hears": True}
KINDS["choosing, blind"] = {"heads_read": True, "word_choices": 5, "use_vision": False}
NAMES = ("proprio", "eef", "lidar")


def _asked(
    model: NeonVLA, batch: int = 1, seed: int = 0, names: tuple[str, ...] = (*NAMES, "audio")
) -> tuple[Any, ...]:
    """Features, senses and a goal on the model's device."""
    device = next(model.parameters()).device
    features = tiny_features(batch, seed)
    senses = {name: value.to(device) for name, value in tiny_senses(batch, seed).items() if name in names}
    senses |= {"segmentation": torch.ones(batch, 16, 16, device=device), "imu": torch.ones(batch, 6, device=device)}
    here = type(features)(*(value.to(device) for value in vars(features).values()))
    return here, {name: senses[name] for name in model.senses if name in senses}, torch.rand(batch, 5).to(device)


def _both(model: NeonVLA, layer: ActionLayer, asked: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    """The layer's chunk and the model's own, from generators of one seed."""
    with torch.no_grad():
        chunk = layer.chunk(*asked, torch.Generator().manual_seed(7))
        wanted, _ = model(*asked, torch.Generator().manual_seed(7))
    return chunk, wanted


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_engine_is_given_is_all_that_the_model_reads(tmp_path: Path, kind: str):
    model = tiny_model(tmp_path, **KINDS[kind])
    layer = ActionLayer(model, "compile")
    layer._chunk, layer._goal = layer._decode, layer._read_goal  # the networks that would be compiled, as they are
    for names in ((*NAMES, "audio"), ("proprio",)):
        chunk, wanted = _both(model, layer, _asked(model, 2, names=names))
        assert torch.equal(chunk, wanted) and chunk.shape[:2] == (2, 16)
        features, senses, _ = _asked(model, 2, names=names)
        with torch.no_grad():
            assert torch.equal(layer.goal(features, senses), model(features, senses)[1])
    inputs = layer._inputs(*_asked(model), torch.Generator().manual_seed(7))
    assert all(isinstance(value, Tensor) for value in inputs.values())
    assert ("noise.arms" in inputs) is model.action_head.samples
    assert ("part.segmentation" in inputs, "sense.imu" in inputs) == (kind == "ensemble",) * 2


def test_the_noise_is_the_generators_and_nothing_else_draws(tmp_path: Path):
    model = tiny_model(tmp_path, **KINDS["dit"])
    layer, asked = ActionLayer(model, "compile"), _asked(model)
    one, same, other = (layer._inputs(*asked, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one["noise.arms"], same["noise.arms"]) and not torch.equal(
        one["noise.arms"], other["noise.arms"]
    )
    with torch.no_grad():
        assert torch.equal(layer._decode(one), layer._decode(same))
        assert not torch.equal(layer._decode(one), layer._decode(other))


def test_eager_is_the_model_and_a_guide_is_served_eagerly(tmp_path: Path):
    model = tiny_model(tmp_path, **KINDS["dit"])
    eager, asked = ActionLayer(model, "eager"), _asked(model)
    chunk, wanted = _both(model, eager, asked)
    assert torch.equal(chunk, wanted)
    layer = ActionLayer(model, "compile")
    with torch.no_grad():
        lifted = layer.chunk(*asked, torch.Generator().manual_seed(7), lambda seen, time: 0.0 * seen.detach() + 0.5)
    assert float((lifted - wanted).abs().max()) > 0.1


def test_a_policy_and_a_server_say_which_engine_they_run(tmp_path: Path):
    model = tiny_model(tmp_path / "backbone")
    assert NeonPolicy(model).layer.engine == "eager" and NeonPolicy(model, engine="auto").layer.engine == "eager"
    with pytest.raises(ValueError, match="Did you mean 'eager'"):
        NeonPolicy(model, engine="eagr")
    model.save_pretrained(tmp_path / "heads")
    server = NeonInferenceServer(tmp_path / "heads", "cpu")
    assert server.status()["engine"] == "eager"
    picture, words = noise_frames(1, 1, 128)[0, 0], "touch the red ball"
    answer = server.predict(picture, words, np.zeros(125, np.float32), time_s=0.0)
    assert np.array_equal(answer, server.model.predict(picture, words, np.zeros(125, np.float32)))


@pytest.mark.parametrize("kind", ["chunking", "flow"])
def test_an_exported_layer_answers_as_the_model(tmp_path: Path, kind: str):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    model = tiny_model(tmp_path, use_audio=False, **KINDS[kind])
    layer, asked = ActionLayer(model, "onnx"), _asked(model)
    chunk, wanted = _both(model, layer, asked)
    torch.testing.assert_close(chunk, wanted, rtol=0.0, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(layer.goal(*asked[:2]), model(*asked[:2])[1], rtol=0.0, atol=1e-5)
    given = (noise_frames(1, 1, 128)[0, 0], "touch the red ball", np.full(125, 0.1, np.float32))
    chunks = [one.predict(*given, generator=torch.Generator().manual_seed(7)) for one in (layer, model)]
    np.testing.assert_allclose(*chunks, atol=1e-5)
    if kind == "flow":
        with pytest.raises(ValueError, match="A state-relative head wants `state`"):
            layer.predict(*given[:2])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["chunking", "flow"])
def test_a_compiled_layer_answers_as_the_model(tmp_path: Path, kind: str):
    model = tiny_model(tmp_path, use_audio=False, **KINDS[kind])
    layer = ActionLayer(model, "compile")
    chunk, wanted = _both(model, layer, _asked(model))
    torch.testing.assert_close(chunk, wanted, rtol=0.0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_layer_answers_as_the_model(tmp_path: Path, kind: str):
    model = tiny_model(tmp_path, **KINDS[kind]).cuda()
    layer = ActionLayer(model)
    assert layer.engine == "cudagraph"
    for seed in range(3):  # recorded at the first, replayed on other inputs
        asked = _asked(model, 1, seed)
        chunk, wanted = _both(model, layer, asked)
        torch.testing.assert_close(chunk, wanted, rtol=0.0, atol=1e-5)
        with torch.no_grad():
            wanted_goal = ActionLayer(model, "eager").goal(*asked[:2])
            torch.testing.assert_close(layer.goal(*asked[:2]), wanted_goal, rtol=0.0, atol=1e-5)


@pytest.mark.gpu
def test_a_recorded_policy_acts_as_the_eager_one(tmp_path: Path):
    model = tiny_model(tmp_path, **KINDS["flow"])
    model.backbone.cuda()
    model.cuda()
    vectors = {"proprio": 125, "eef": 14, "lidar": 288, "audio": 5120}
    obs = {name: np.full(width, 0.1, np.float32) for name, width in vectors.items()}
    obs["instruction"] = encode_instruction("touch the red ball")
    chunks = {}
    for engine in ("eager", "cudagraph"):
        policy, taken = NeonPolicy(model, engine=engine), []
        policy.reset()
        for index, frame in enumerate(noise_frames(1, 3, 128)[0]):
            policy.observe({**obs, "camera": frame}, index * 0.25)
            taken.append(policy.act())
        chunks[engine] = np.concatenate(taken)
    np.testing.assert_allclose(chunks["cudagraph"], chunks["eager"], rtol=0.0, atol=1e-4)
