"""Foundation models through the very path that loads the hub's: tiny random checkpoints, quantised and not."""

import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_backbones import HIDDEN, IDS, SAVERS, save_omni, save_qwen_vl, tiny_clips, tone

from neon_sim.model.backbones import loading
from neon_sim.model.backbones.families import build
from neon_sim.model.backbones.prompt import CLOSING, OPENING, framing_ids, instruction_ids
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.model.video_backbone import DOCUMENTED, BackboneConfig, BackboneFeatures, VideoBackbone
from neon_sim.shipped import asset_path

WORDS = ["touch the red ball", "press"]
FAMILIES = ("qwen_vl", "cosmos", "omni")
SIDE = {"qwen_vl": 56, "omni": 56, "cosmos": 64}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {name: SAVERS[name](tmp_path_factory.mktemp(name)) for name in FAMILIES}


def _config(folder: Path, **changes: Any) -> BackboneConfig:
    options = {"max_frames": 4, "image_size": 60, "load_in_4bit": False, "dtype": "float32", "device": "cpu"}
    return BackboneConfig(str(folder), **{**options, **changes})


@pytest.fixture(scope="module")
def backbones(folders) -> dict[str, VideoBackbone]:
    return {name: VideoBackbone.from_config(_config(folder)) for name, folder in folders.items()}


def _same(one: BackboneFeatures, other: BackboneFeatures, atol: float = 1e-4) -> None:
    for name in ("tokens", "pooled", "text"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-4, atol=atol)


def test_defaults_are_the_documents_except_for_the_compact_clip():
    compact, omni = BackboneConfig(), BackboneConfig("Qwen/Qwen2.5-Omni-7B", load_in_4bit=True, freeze_backbone=True)
    assert (compact.model_id, compact.max_frames, compact.image_size) == ("compact", 4, 128)
    assert (omni.max_frames, omni.image_size, omni.fps, omni.dtype) == (16, 224, 4.0, "bfloat16")
    assert omni.lazy_load and omni.device == omni.device_map == omni.attn_implementation == "auto"
    assert BackboneConfig(**asdict(omni)) == omni


def test_the_shipped_heads_still_have_a_config():
    values = json.loads((asset_path("g1/demo_heads") / "config.json").read_text())["backbone"]
    assert BackboneConfig(**values) == BackboneConfig()


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"model_id": "TRIBEv"}, "Did you mean 'TRIBEv2'"),
        ({"dtype": "bfloat61"}, "Did you mean 'bfloat16'"),
        ({"attn_implementation": "flash"}, "Unknown attn_implementation 'flash'"),
        ({"max_frames": -1}, "BackboneConfig wants fps > 0"),
        ({"lora_rank": 0}, "BackboneConfig wants fps > 0"),
    ],
)
def test_a_wrong_config_is_refused(changes, part):
    with pytest.raises(ValueError, match=part):
        BackboneConfig(**changes)


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_come_from_the_config_before_any_weight_is_read(folders, family):
    backbone = VideoBackbone.from_config(_config(folders[family]))
    assert list(backbone.parameters()) == []
    assert backbone.hidden_size == HIDDEN and backbone.num_tokens == 4  # 60 px is nearest to two cells a side
    assert backbone.hears is (family == "omni")
    whole = VideoBackbone.from_config(_config(folders[family], token_slices=0, max_frames=5, image_size=224))
    assert whole.num_tokens == 3 * (7 if family == "cosmos" else 8) ** 2
    assert list(VideoBackbone.from_config(_config(folders[family], lazy_load=False)).parameters()) != []


@pytest.mark.parametrize("hidden", [2048, 3584])
def test_the_flat_config_of_the_hubs_first_release_is_read_as_well(tmp_path, hidden):
    vision = {"depth": 32, "hidden_size": 1280, "out_hidden_size": hidden, "patch_size": 14, "spatial_merge_size": 2}
    rope = {"type": "mrope", "mrope_section": [16, 24, 24]}
    values = {"model_type": "qwen2_5_vl", "hidden_size": hidden, "num_attention_heads": 16, "rope_scaling": rope}
    (tmp_path / "config.json").write_text(json.dumps({**values, "vision_config": vision}))
    backbone = VideoBackbone.from_config(BackboneConfig("Qwen/Qwen2.5-VL-3B-Instruct", str(tmp_path)))
    assert (backbone.hidden_size, backbone.num_tokens, backbone.num_slices) == (hidden, 64, 8)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_have_the_interfaces_shapes_and_weights_are_frozen(backbones, family):
    backbone = backbones[family]
    backbone.train()
    features = backbone(tiny_clips(), WORDS)
    assert features.tokens.shape == (2, 4, HIDDEN) and features.pooled.shape == features.text.shape == (2, HIDDEN)
    assert all(value.dtype == torch.float32 and bool(value.isfinite().all()) for value in vars(features).values())
    assert torch.is_grad_enabled() and not any(value.requires_grad for value in vars(features).values())
    assert not any(value.is_inference() for value in vars(features).values())  # heads may keep them for backward
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(part.training for part in backbone.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_saved_weights_are_the_ones_in_use(backbones, folders, family):
    from safetensors.torch import load_file

    file = load_file(folders[family] / "model.safetensors")
    saved = {
        name.split("layers.1.")[1]: value
        for name, value in file.items()
        if "layers.1.mlp" in name and "audio" not in name and "visual" not in name
    }
    used = backbones[family].load().model.language_model.layers[1].mlp.state_dict()
    assert len(used) == 3
    for name, value in used.items():
        assert torch.equal(value, saved[f"mlp.{name}"]), name


@pytest.mark.parametrize("family", FAMILIES)
def test_four_bits_hold_the_language_model_and_nearly_its_answers(backbones, folders, family):
    from bitsandbytes.nn import Linear4bit

    small = VideoBackbone.from_config(_config(folders[family], load_in_4bit=True, dtype="bfloat16"))
    features = small(tiny_clips(), WORDS)
    weight = small.model.language_model.layers[0].mlp.up_proj.weight
    assert isinstance(small.model.language_model.layers[0].mlp.up_proj, Linear4bit)
    assert weight.quant_type == "nf4" and weight.quant_state.nested  # double quantisation
    assert not any(isinstance(part, Linear4bit) for part in small.model.visual.modules())
    assert small.model.visual.patch_embed.proj.weight.dtype == torch.bfloat16
    assert not any(parameter.requires_grad for parameter in small.parameters())
    full = backbones[family](tiny_clips(), WORDS)
    assert not torch.equal(features.pooled, full.pooled)
    assert float(torch.cosine_similarity(features.pooled, full.pooled).min()) > 0.8


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_of_a_batch_do_not_touch_each_other(backbones, family):
    clips, backbone = tiny_clips(3), backbones[family]
    texts = [*WORDS, ""]
    together = backbone(clips, texts)
    for i in range(3):
        alone = backbone(clips[i : i + 1], texts[i : i + 1])
        _same(alone, BackboneFeatures(*(getattr(together, name)[i : i + 1] for name in ("tokens", "pooled", "text"))))


@pytest.mark.parametrize("family", FAMILIES)
def test_time_and_words_are_seen_and_a_short_clip_stands_still(backbones, family):
    backbone, clips = backbones[family], tiny_clips(1)
    base = backbone(clips, ["press"])
    for changed in (backbone(clips.flip(1), ["press"]), backbone(clips, ["touch"])):
        assert float((changed.pooled - base.pooled).abs().max()) > 1e-2
    assert torch.equal(backbone(clips, ["touch"]).tokens, base.tokens)  # the model is causal: words come later
    older = clips.clone()
    older[:, 0] = 0
    assert float((backbone(older, ["press"]).tokens - base.tokens).abs().max()) > 1e-3  # the newest cells know the past
    still = clips[:, :1].expand(-1, 4, -1, -1, -1)
    _same(backbone(clips[:, :1], ["press"]), backbone(still, ["press"]))
    assert torch.equal(backbone(clips, ["press"]).text, base.text)


def _positions(backbone: VideoBackbone, *inputs: Any) -> torch.Tensor:
    """The rotary positions (3, L) that the language model was given in the pass with the clip."""
    seen: list[torch.Tensor] = []
    language = backbone.load().model.language_model
    hook = language.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["position_ids"]), with_kwargs=True
    )
    backbone(*inputs)
    hook.remove()
    return seen[0][-3:, 0]


@pytest.mark.parametrize(("family", "per_second"), [("qwen_vl", 4), ("omni", 25)])
def test_the_rotary_clock_runs_in_seconds(folders, family, per_second):
    start = len(framing_ids(VideoBackbone.from_config(_config(folders[family])).load().tokenizer, OPENING)) + 1
    for fps in (4.0, 1.0):
        backbone = VideoBackbone.from_config(_config(folders[family], fps=fps))
        time, row, column = _positions(backbone, tiny_clips(1), ["press"])[:, start : start + 8].tolist()
        step = int(per_second * 2 / fps)  # two frames to a slice
        assert time == [start] * 4 + [start + step] * 4
        assert row == [start, start, start + 1, start + 1] * 2 and column == [start, start + 1] * 4


def test_cosmos_reads_the_time_in_its_prompt(folders):
    backbone = VideoBackbone.from_config(_config(folders["cosmos"])).load()
    first, frame, last = backbone.clip_parts()[:3]
    assert backbone.tokenizer.decode(first.ids) == "<0.1 seconds><|vision_start|>"
    assert frame.ids == [IDS["<|video_pad|>"]] * 4 and last.ids == [IDS["<|vision_end|>"]]
    assert backbone.tokenizer.decode(backbone.clip_parts()[3].ids) == "<0.6 seconds><|vision_start|>"


def test_a_still_clip_is_what_transformers_makes_of_a_picture(folders):
    """An independent way to the same numbers: their image processor, their image tokens, only the sums are ours."""
    from transformers import Qwen2_5_VLModel
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    backbone = VideoBackbone.from_config(_config(folders["qwen_vl"], max_frames=2)).load()
    picture = tiny_clips(1, 1, 56)[0, 0]
    ours = backbone(picture[None, None], ["press"])
    processor = Qwen2VLImageProcessorPil(patch_size=14, image_mean=[0.4] * 3, image_std=[0.3] * 3)
    inputs = processor(Image.fromarray(picture.numpy()), return_tensors="pt")
    head = framing_ids(backbone.tokenizer, OPENING + "<|vision_start|>" + "<|image_pad|>" * 4 + "<|vision_end|>")
    ids = torch.tensor([head + instruction_ids(backbone.tokenizer, "press") + framing_ids(backbone.tokenizer, CLOSING)])
    kinds = (ids == IDS["<|image_pad|>"]).int()
    model = Qwen2_5_VLModel.from_pretrained(folders["qwen_vl"]).eval()
    with torch.no_grad():
        hidden = model(input_ids=ids, attention_mask=ids * 0 + 1, mm_token_type_ids=kinds, **inputs).last_hidden_state
    torch.testing.assert_close(ours.tokens, hidden[kinds == 1][None], rtol=1e-4, atol=1e-4)
    pooled = (hidden[kinds == 1].mean(0) + hidden[0, len(head) :].mean(0)) / 2
    torch.testing.assert_close(ours.pooled[0], pooled, rtol=1e-4, atol=1e-4)


def test_omni_hears(backbones):
    backbone, clips = backbones["omni"], tiny_clips()
    deaf, heard, other = (backbone(clips, WORDS, sound) for sound in (None, tone(), tone(hz=2000.0)))
    _same(backbone(clips, WORDS), deaf)
    assert torch.equal(heard.tokens, deaf.tokens) and torch.equal(heard.text, deaf.text)  # the sound comes later
    for changed in (heard, other):
        assert float((changed.pooled - deaf.pooled).abs().max()) > 1e-2
    assert float((heard.pooled - other.pooled).abs().max()) > 1e-3
    alone = backbone(clips[:1], WORDS[:1], tone()[:1])
    torch.testing.assert_close(alone.pooled[0], heard.pooled[0], rtol=1e-4, atol=1e-4)
    assert [len(part.ids) for part in backbone.sound_parts(100)] == [1, 25, 1]  # 25 tokens a second
    with pytest.raises(ValueError, match="Audio wants"):
        backbone(clips, WORDS, tone(1))


def test_a_thinker_saved_by_itself_is_an_omni(tmp_path, backbones):
    from safetensors.torch import load_file, save_file

    folder = save_omni(tmp_path)
    weights = load_file(folder / "model.safetensors")
    own = {name.removeprefix("thinker."): value for name, value in weights.items() if name.startswith("thinker.")}
    save_file(own, folder / "model.safetensors", {"format": "pt"})
    whole = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(whole["thinker_config"]))
    _same(VideoBackbone.from_config(_config(folder))(tiny_clips(), WORDS), backbones["omni"](tiny_clips(), WORDS))


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_in_an_instruction_do_no_harm(backbones, family):
    features = backbones[family](tiny_clips(1), ["<|video_pad|><|im_end|><|AUDIO|>"])
    assert bool(features.pooled.isfinite().all())


@pytest.mark.parametrize("frames", [tiny_clips()[0], tiny_clips().float(), tiny_clips()[..., :1], tiny_clips()[:, :0]])
def test_wrong_frames_are_refused(backbones, frames):
    with pytest.raises(ValueError, match=r"A backbone wants clips \(B, T, H, W, 3\) uint8"):
        backbones["qwen_vl"](frames, WORDS)


def test_every_clip_wants_its_instruction(backbones):
    with pytest.raises(ValueError, match="2 clips want as many instructions, got 1"):
        backbones["qwen_vl"](tiny_clips(), ["press"])


def test_the_heads_stay_when_the_eyes_are_swapped(folders, backbones):
    clip = tiny_clips(1)[0].numpy()
    for family in FAMILIES:
        config = NeonConfig(backbone=_config(folders[family]), mlp_hidden=8, proprioception_hidden=8, goal_width=8)
        model = NeonVLA(config, backbones[family])
        chunk = model.predict(clip, "press")
        assert chunk.shape == (16, 17)
        assert NeonConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize("four_bits", [False, True])
def test_unfreezing_trains_an_adapter_and_nothing_else(folders, tmp_path, four_bits):
    precision = {"load_in_4bit": four_bits, "dtype": "bfloat16" if four_bits else "float32"}
    config = _config(folders["qwen_vl"], freeze_backbone=False, lora_rank=4, **precision)
    backbone = VideoBackbone.from_config(config).load().train()
    learning = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert len(learning) == 2 * 7 * 2 and all("language_model" in name and "lora_" in name for name in learning)
    before = backbone(tiny_clips(), WORDS).pooled.detach()
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # B begins at zero, so A sees a gradient from the second step on
        optimizer.zero_grad()
        (backbone(tiny_clips(), WORDS).pooled.square().mean() + backbone(tiny_clips(), WORDS).text.mean()).backward()
        optimizer.step()
    assert all(bool(p.grad.abs().max() > 0) for p in backbone.parameters() if p.requires_grad)
    with torch.no_grad():
        after = backbone.eval()(tiny_clips(), WORDS)
    assert float((after.pooled - before).abs().max()) > 1e-3
    backbone.save_adapter(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    frozen = VideoBackbone.from_config(_config(folders["qwen_vl"], adapter=str(tmp_path), **precision))
    _same(frozen(tiny_clips(), WORDS), after)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert frozen.fingerprint() != VideoBackbone.from_config(_config(folders["qwen_vl"], **precision)).fingerprint()


def test_without_an_adapter_there_is_none_to_save(backbones, tmp_path):
    with pytest.raises(ValueError, match="There is no adapter to save"):
        backbones["qwen_vl"].load().save_adapter(tmp_path)


def test_the_fingerprint_follows_the_weights_and_what_is_made_of_them(folders, tmp_path):
    config = _config(folders["qwen_vl"])
    own = VideoBackbone.from_config(config).fingerprint()
    shutil.copytree(folders["qwen_vl"], tmp_path / "copy")
    assert VideoBackbone.from_config(_config(tmp_path / "copy", lazy_load=False)).fingerprint() == own
    for changed in ({"fps": 2.0}, {"max_frames": 8}, {"image_size": 112}, {"dtype": "bfloat16"}, {"token_slices": 2}):
        assert VideoBackbone.from_config(replace(config, **changed)).fingerprint() != own
    save_qwen_vl(tmp_path / "other", seed=1)
    assert VideoBackbone.from_config(_config(tmp_path / "other")).fingerprint() != own


def test_a_large_file_is_sampled_at_both_ends(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(5 * 2**20))
    plain = loading.source_fingerprint(str(tmp_path), None)
    for place in (0, 5 * 2**20 - 1):
        changed = bytearray(5 * 2**20)
        changed[place] = 1
        path.write_bytes(changed)
        assert loading.source_fingerprint(str(tmp_path), None) != plain


def _drop(folder: Path, part: str) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file({n: v for n, v in weights.items() if part not in n}, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda folder: _drop(folder, "layers.1.mlp.up_proj"), "no weights for"),
        (lambda folder: (folder / "model.safetensors").unlink(), "does not hold a whole backbone"),
        (lambda folder: (folder / "config.json").unlink(), "does not hold a whole backbone"),
        (lambda folder: (folder / "config.json").write_text("{"), "does not hold a whole backbone"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "llama"}'), "Unknown backbone family"),
    ],
)
def test_a_damaged_or_foreign_folder_is_refused(folders, tmp_path, damage, part):
    shutil.copytree(folders["qwen_vl"], tmp_path / "copy")
    damage(tmp_path / "copy")
    with pytest.raises(ValueError, match=part):
        build(_config(tmp_path / "copy", lazy_load=False))


def test_an_id_and_its_folder_must_be_one_family(folders):
    with pytest.raises(ValueError, match="Qwen/Qwen2.5-Omni-3B is a qwen2_5_omni, but .* holds a qwen2_5_vl"):
        VideoBackbone.from_config(BackboneConfig("Qwen/Qwen2.5-Omni-3B", str(folders["qwen_vl"])))
    assert VideoBackbone.from_config(BackboneConfig("Qwen/Qwen2.5-Omni-3B", str(folders["omni"]))).hears


@pytest.mark.parametrize("source", ["/no/such/folder", "./neither"])
def test_a_path_that_is_no_folder_is_refused(source):
    with pytest.raises(ValueError, match=f"No folder '{source}'"):
        VideoBackbone.from_config(BackboneConfig(source))


@pytest.mark.parametrize("model_id", DOCUMENTED)
def test_an_id_that_cannot_be_reached_asks_for_a_local_folder(monkeypatch, tmp_path, model_id):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConnectionError, match="Pass a local folder instead: BackboneConfig.*weights="):
        VideoBackbone.from_config(BackboneConfig(model_id))


@pytest.mark.parametrize("package", ["transformers", "accelerate", "bitsandbytes", "peft"])
def test_a_missing_extra_comes_with_the_pip_line(monkeypatch, folders, package):
    monkeypatch.setitem(sys.modules, package, None)  # Python's own way to say that it cannot be imported
    with pytest.raises(ImportError, match=rf"needs '{package}', .*pip install 'neon-sim\[vla\]'"):
        build(_config(folders["qwen_vl"], lazy_load=False, load_in_4bit=True, freeze_backbone=False))


def test_attention_falls_back_to_what_runs_here():
    class Full:
        _supports_flash_attn = _supports_sdpa = True

    class Plain:
        _supports_sdpa = False

    cpu = torch.device("cpu")
    assert loading.pick_attention("auto", Full, cpu) == "sdpa"
    assert loading.pick_attention("auto", Plain, cpu) == "eager"
    assert loading.pick_attention("eager", Full, cpu) == "eager"
    with pytest.warns(UserWarning, match="flash_attention_2 does not run here with Full; using sdpa"):
        assert loading.pick_attention("flash_attention_2", Full, cpu) == "sdpa"


def test_a_device_by_name_or_the_best_there_is():
    assert loading.pick_device("cpu") == torch.device("cpu")
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert loading.pick_device("auto").type == best
