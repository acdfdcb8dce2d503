"""NeonVLA: shapes, missing senses, what learns and what never does, checkpoints that come back or are refused."""

import json
import re
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_neon import noise_frames, tiny_backbone, tiny_config, tiny_features, tiny_model, tiny_senses

from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.model.action_heads import masked_mse
from neon_sim.model.checkpoint import WEIGHTS_FILE
from neon_sim.model.compact import CompactBackbone
from neon_sim.model.goal import goal_loss, goal_token, make_goal
from neon_sim.model.neon_vla import PROPRIO_DIM, SENSES, NeonConfig, NeonVLA
from neon_sim.model.video_backbone import BackboneConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's one tiny backbone lies."""
    return tmp_path_factory.mktemp("backbone")


@pytest.fixture(scope="module")
def model(folder: Path) -> NeonVLA:
    """One random model in eval mode; tests that change it make their own."""
    return tiny_model(folder)


@pytest.mark.parametrize(("mode", "width"), [("arms_only", 17), ("upper_body", 20), ("whole_body", 29)])
@torch.no_grad()
def test_a_chunk_has_the_width_of_its_mode(folder: Path, mode: str, width: int) -> None:
    model = tiny_model(folder, control_mode=mode)
    chunk, goal = model(tiny_features(3), tiny_senses(3))
    assert chunk.shape == (3, 16, width) and goal.shape == (3, 5)
    assert float(chunk.abs().max()) <= 1.0 and float(chunk.abs().max()) > 0.0
    assert torch.equal(goal, goal_token(model.goal_reader(tiny_features(3))))


@pytest.mark.parametrize("missing", [some for count in range(1, 5) for some in combinations(SENSES, count)])
@torch.no_grad()
def test_missing_senses_are_legal_and_read_as_zero_features(model: NeonVLA, missing: tuple[str, ...]) -> None:
    senses, features = tiny_senses(2), tiny_features(2)
    full = model.fuse(features.pooled, senses)
    without = model.fuse(features.pooled, {name: value for name, value in senses.items() if name not in missing})
    assert without.shape == full.shape and not torch.allclose(without, full, atol=1e-4)
    parts = {name: getattr(model, f"{name}_encoder")(senses[name]) for name in SENSES}
    parts |= {name: torch.zeros_like(parts[name]) for name in missing}
    joined = torch.cat([features.pooled, *parts.values()], dim=-1)  # eq. 4, by hand
    torch.testing.assert_close(without[:, :40], torch.nn.functional.gelu(model.fusion.proj(joined)))
    if "proprio" in missing:
        assert not bool(without[:, 40:].any())


@torch.no_grad()
def test_only_an_unusual_tracking_error_reaches_the_heads(folder: Path) -> None:
    model = tiny_model(folder)
    model.proprio_encoder.set_statistics(torch.full((125,), 0.25), torch.full((125,), 0.5))
    proprio = torch.full((1, 125), 0.25)
    proprio[0, 87], proprio[0, 88] = 0.25 + 0.5 * 3.9, 0.25 - 0.5 * 3.9  # 3.9 standard deviations: usual
    proprio[0, 89], proprio[0, 90] = 0.25 + 0.5 * 6.0, 0.25 - 0.5 * 8.0  # q 29, dq 29, tau 29, then target - q
    proprio[0, 115] = 1e4
    fused = model.fuse(tiny_features(1).pooled, {"proprio": proprio})
    assert fused.shape == (1, model.fused_dim) and model.fused_dim == 40 + 29
    error = fused[0, 40:]
    assert error[:4].tolist() == pytest.approx([0.0, 0.0, 0.5 * (6 - 4), -0.5 * (8 - 4)])
    assert not bool(error[4:28].any()) and float(error[28]) == 4.0


def test_the_unusual_error_is_disturbed_in_training_only(folder: Path) -> None:
    model, proprio = tiny_model(folder), torch.zeros(64, 125)
    assert not bool(model.eval().unusual_error(proprio, proprio).any())
    assert bool(model.train().unusual_error(proprio, proprio).any())


@torch.no_grad()
def test_any_single_modality_is_enough(model: NeonVLA) -> None:
    senses = tiny_senses(2)
    assert model.fuse(tiny_features(2).pooled, {}).shape == (2, model.fused_dim)
    for name in SENSES:
        assert bool(model.fuse(None, {name: senses[name]}).isfinite().all())
    with pytest.raises(ValueError, match="at least one of"):
        model.fuse(None, {})


def test_a_sense_that_does_not_exist_names_the_nearest(model: NeonVLA) -> None:
    with pytest.raises(ValueError, match="Unknown sense 'lidra'. Did you mean 'lidar'"):
        model.fuse(tiny_features(1).pooled, {"lidra": torch.zeros(1, 30)})


@torch.no_grad()
def test_a_sense_without_an_encoder_is_left_out(folder: Path) -> None:
    model = tiny_model(folder, use_lidar=False, use_audio=False, use_eef=False)
    assert set(model.fusion.dims) == {"vision", "proprio"}
    features, senses = tiny_features(2), tiny_senses(2)
    assert torch.equal(model.fuse(features.pooled, senses), model.fuse(features.pooled, {"proprio": senses["proprio"]}))


@torch.no_grad()
def test_the_goal_token_steers_the_heads_and_can_be_put_in(model: NeonVLA) -> None:
    features, senses = tiny_features(2), tiny_senses(2)
    goal = make_goal(torch.tensor([0, 1]), torch.tensor([[0.3, 0.1, 0.2], [0.3, -0.1, 0.2]]))
    chunk, used = model(features, senses, goal)
    assert used is goal
    read, _ = model(features, senses)
    assert float((chunk - read).abs().max()) > 1e-3
    torch.testing.assert_close(chunk, model.decode(model.fuse(features.pooled, senses), goal))


def test_the_table_adds_up_and_the_default_trains_less_than_seven_million() -> None:
    model = NeonVLA(backbone=CompactBackbone())
    table = model.parameter_table()
    trainable, frozen = table.pop("trainable"), table.pop("backbone (frozen)")
    assert trainable == sum(table.values()) == sum(param.numel() for param in model.parameters())
    assert 1_000_000 < trainable < 7_000_000
    assert 2_000_000 < frozen < 4_000_000
    assert set(table) == {f"{sense}_encoder" for sense in SENSES} | {
        "fusion",
        "goal_reader",
        "goal_embed",
        "action_head",
    }


def test_the_backbone_is_no_part_of_the_weights_and_never_trains(folder: Path) -> None:
    model = tiny_model(folder)
    assert not any("backbone" in name for name in model.state_dict())
    assert {id(p) for p in model.parameters()}.isdisjoint({id(p) for p in model.backbone.parameters()})
    model.train()
    assert not any(part.training for part in model.backbone.modules())
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    features = model.encode(torch.from_numpy(noise_frames(2, 4, 128)), ["a", "b"])
    assert not features.tokens.requires_grad
    model(features, tiny_senses(2))[0].sum().backward()
    assert all(param.grad is None for param in model.backbone.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())


def test_a_backbone_that_is_handed_over_is_frozen() -> None:
    backbone = CompactBackbone(tiny_backbone(4).config)
    assert backbone.training
    model = NeonVLA(NeonConfig(mlp_hidden=8), backbone)
    assert model.backbone is backbone is model.load_backbone() and not backbone.training
    assert not any(param.requires_grad for param in backbone.parameters())
    free = CompactBackbone(tiny_backbone(4).config)
    NeonVLA(NeonConfig(BackboneConfig(freeze_backbone=False), mlp_hidden=8), free)
    assert all(param.requires_grad for param in free.parameters())


@pytest.mark.parametrize("mode", ["arms_only", "whole_body"])
def test_every_trainable_weight_learns_from_the_losses(folder: Path, mode: str) -> None:
    model = tiny_model(folder, control_mode=mode, vision_dropout=0.0, sense_dropout=0.0, dropout=0.0).train()
    features, hand = tiny_features(8), torch.tensor([0, 1] * 4)
    target = torch.full((8, 3), 0.3)
    chunk, _ = model(features, tiny_senses(8), make_goal(hand, target))
    loss = masked_mse(chunk, torch.zeros_like(chunk)) + goal_loss(model.goal_reader(features), hand, target)
    loss.backward()
    silent = [name for name, param in model.named_parameters() if param.grad is None or not bool(param.grad.any())]
    assert silent == []


def test_training_loses_modalities_and_evaluation_does_not(folder: Path) -> None:
    model = tiny_model(folder, vision_dropout=1.0, sense_dropout=1.0, dropout=0.0)
    features, senses = tiny_features(2), tiny_senses(2)
    bodily = {name: senses[name] for name in ("proprio", "eef")}
    with torch.no_grad():
        lost, bare = model.train().fuse(features.pooled, senses), model.fuse(None, bodily)
        torch.testing.assert_close(lost[:, :40], bare[:, :40])
        seen = model.eval().fuse(features.pooled, senses)
        assert not torch.allclose(seen[:, :40], bare[:, :40], atol=1e-4)


def test_predict_takes_a_picture_or_a_clip(model: NeonVLA) -> None:
    clip = noise_frames(1, 4, 128)[0]
    senses = {name: value[0].numpy() for name, value in tiny_senses(1).items()}
    proprio = senses.pop("proprio")
    chunk = model.predict(clip, "touch the red ball", proprio, **senses)
    assert chunk.shape == (16, 17) and chunk.dtype == "float32" and abs(chunk).max() <= 1.0
    again = model.predict(clip, "touch the red ball", proprio, **senses)
    assert (chunk == again).all()
    assert model.predict(clip[0], "touch the red ball").shape == (16, 17)
    with torch.no_grad():
        features = model.encode(torch.from_numpy(clip)[None], ["touch the red ball"])
        expected, _ = model(features, {"proprio": torch.from_numpy(proprio)[None]})
    torch.testing.assert_close(torch.from_numpy(model.predict(clip, "touch the red ball", proprio)), expected[0])
    with pytest.raises(ValueError, match="Did you mean 'lidar'"):
        model.predict(clip, "a", proprio, lidr=senses["lidar"])
    with pytest.raises(ValueError, match=r"wants clips \(B, T, 128, 128, 3\), got"):
        model.predict(clip[:, :64], "a")


def test_a_checkpoint_comes_back_to_the_bit(folder: Path, tmp_path: Path) -> None:
    model = tiny_model(folder, control_mode="upper_body")
    model.proprio_encoder.set_statistics(torch.full((125,), 0.25), torch.full((125,), 2.0))
    model.save_pretrained(tmp_path / "a" / "b")
    again = NeonVLA.from_pretrained(tmp_path / "a" / "b")
    assert again.config == model.config and again.action_space == model.action_space and not again.training
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    with torch.no_grad():
        for one, other in zip(
            model(tiny_features(2), tiny_senses(2)), again(tiny_features(2), tiny_senses(2)), strict=True
        ):
            assert torch.equal(one, other)
    names = {path.name for path in (tmp_path / "a" / "b").iterdir()}
    assert names == {WEIGHTS_FILE, "config.json", "action_space.json", "README.md"}


def test_config_survives_json_and_refuses_what_it_does_not_know(folder: Path) -> None:
    config = tiny_config(folder, vision_dropout=0.125, use_audio=False)
    assert NeonConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config
    assert NeonConfig.from_dict({}) == NeonConfig()
    with pytest.raises(ValueError, match="Unknown NeonConfig field 'control_mod'. Did you mean 'control_mode'"):
        NeonConfig.from_dict({"control_mod": "arms_only"})


@pytest.fixture
def checkpoint(folder: Path, tmp_path: Path) -> Path:
    """A whole checkpoint of an arms_only model, to be damaged."""
    tiny_model(folder).save_pretrained(tmp_path / "policy")
    return tmp_path / "policy"


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_another_action_space_is_refused_naming_both(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="space is arms_only.*wanted upper_body"):
        NeonVLA.from_pretrained(checkpoint, control_mode="upper_body")
    assert NeonVLA.from_pretrained(checkpoint, control_mode="arms_only").action_space.dim == 17
    (checkpoint / "action_space.json").write_text(G1ActionSpace(action_center="limits").to_json())
    with pytest.raises(ValueError, match="centered on limits.*wanted arms_only.*centered on home"):
        NeonVLA.from_pretrained(checkpoint)
    with pytest.raises(ValueError, match="Unknown control mode 'arms_onyl'. Did you mean 'arms_only'"):
        NeonVLA.from_pretrained(checkpoint, control_mode="arms_onyl")


def test_an_unknown_config_key_names_the_nearest(checkpoint: Path) -> None:
    _edit(checkpoint / "config.json", mlp_hiden=24)
    with pytest.raises(ValueError, match="Unknown NeonConfig field 'mlp_hiden'. Did you mean 'mlp_hidden'"):
        NeonVLA.from_pretrained(checkpoint)


@pytest.mark.parametrize("keep", [0, 4, 1000, -1000])
def test_cut_weights_are_refused(checkpoint: Path, keep: int) -> None:
    weights = checkpoint / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(ValueError, match="does not hold a whole Neon checkpoint.*agents/pretrain.py"):
        NeonVLA.from_pretrained(checkpoint)


@pytest.mark.parametrize("name", [WEIGHTS_FILE, "config.json", "action_space.json"])
def test_a_folder_without_a_part_is_refused(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    with pytest.raises(ValueError, match=f"{checkpoint.name} does not hold a whole Neon checkpoint"):
        NeonVLA.from_pretrained(checkpoint)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"{", b"3", b'{"backbone": 3}'])
def test_a_config_that_is_none_is_refused(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match="does not hold a whole Neon checkpoint"):
        NeonVLA.from_pretrained(checkpoint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": {"colour": 1}}, "Unknown BackboneConfig field 'colour'"),
        ({"audio": {"n_mel": 80}}, "Unknown AudioConfig field 'n_mel'. Did you mean 'n_mels'"),
        ({"mlp_hidden": "256"}, "NeonConfig.mlp_hidden must be 1 to 65536, got '256'"),
        ({"tracking_noise": -1.0}, "NeonConfig.tracking_noise must be 0 to 1000, got -1.0"),
        ({"head": {"head_type": "mlp"}}, "head_type='chunking' with use_action_chunking=False"),
    ],
)
def test_a_config_with_a_wrong_part_says_which(checkpoint: Path, changes: dict[str, Any], message: str) -> None:
    _edit(checkpoint / "config.json", **changes)
    with pytest.raises(ValueError, match=re.escape(message)):
        NeonVLA.from_pretrained(checkpoint)


def test_what_predict_is_given_is_checked(model: NeonVLA) -> None:
    side = model.config.backbone.image_size
    picture, body = np.zeros((side, side, 3), np.uint8), np.zeros(PROPRIO_DIM, np.float32)
    with pytest.raises(ValueError, match="uint8"):
        model.predict(picture / 255.0, "reach")
    with pytest.raises(ValueError, match=r"ProprioEncoder wants \(B, 125\), got \(1, 29\)"):
        model.predict(picture, "reach", body[:29])
    with pytest.raises(ValueError, match="sense 'eef' gives is not finite"):
        model.predict(picture, "reach", body, eef=np.full(14, np.nan, np.float32))
    np.testing.assert_array_equal(model.predict(Image.fromarray(picture), "reach"), model.predict(picture, "reach"))


def test_weights_of_another_shape_are_refused(checkpoint: Path) -> None:
    _edit(checkpoint / "config.json", mlp_hidden=32)
    with pytest.raises(ValueError, match="(?s)do not fit its config.json.*size mismatch"):
        NeonVLA.from_pretrained(checkpoint)
    _edit(checkpoint / "config.json", mlp_hidden=24)
    weights = load_file(checkpoint / WEIGHTS_FILE)
    weights.pop("goal_embed.0.bias")
    save_file(weights, checkpoint / WEIGHTS_FILE)
    with pytest.raises(ValueError, match="(?s)do not fit its config.json.*goal_embed.0.bias"):
        NeonVLA.from_pretrained(checkpoint)


def test_a_missing_backbone_is_said(checkpoint: Path, tmp_path: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    _edit(checkpoint / "config.json", backbone={**config["backbone"], "weights": str(tmp_path / "gone")})
    with pytest.raises(ValueError, match="gone does not hold a whole compact backbone"):
        NeonVLA.from_pretrained(checkpoint)
    again = NeonVLA.from_pretrained(checkpoint, backbone=tiny_backbone())
    assert again.config == replace(
        again.config, backbone=replace(again.config.backbone, weights=str(tmp_path / "gone"))
    )


@torch.no_grad()
def test_words_reach_the_arms_beside_the_picture_where_the_heads_read(folder: Path) -> None:
    one, other = tiny_features(1), tiny_features(1)
    other.text[:] = tiny_features(1, 5).text  # the same pooled clip, as where that carries no words
    senses, goal = tiny_senses(1), torch.rand(1, 5)
    plain, reads = tiny_model(folder), tiny_model(folder, heads_read=True)
    assert torch.equal(plain(one, senses, goal)[0], plain(other, senses, goal)[0])
    assert not torch.allclose(reads(one, senses, goal)[0][..., :14], reads(other, senses, goal)[0][..., :14], atol=1e-4)
    left_out = {name for name in reads.state_dict() if reads.state_dict()[name].shape != plain.state_dict()[name].shape}
    assert left_out == {"fusion.proj.weight"}
    assert reads.fusion.proj.in_features == plain.fusion.proj.in_features + 40
    lost = reads.train().fuse(torch.zeros(1, 40), senses, one.text) - reads.fuse(torch.zeros(1, 40), senses)
    assert bool(lost.abs().max() > 1e-4)  # no dropout of the clip takes the words away


@torch.no_grad()
def test_a_goal_that_is_heard_moves_with_the_sound_and_the_ear_is_asked_once(folder: Path) -> None:
    model = tiny_model(folder, goal_hears=True)
    features, senses = tiny_features(2), tiny_senses(2)
    asked = []
    model.audio_encoder.register_forward_hook(lambda *_: asked.append(1))
    chunk, goal = model(features, senses)
    assert len(asked) == 1
    other = {**senses, "audio": senses["audio"].flip(0)}
    assert not torch.allclose(model(features, other)[1], goal, atol=1e-5)
    deaf = {name: value for name, value in senses.items() if name != "audio"}
    assert model(features, deaf)[0].shape == chunk.shape
    plain = tiny_model(folder)
    assert torch.equal(plain(features, other)[1], plain(features, senses)[1])
    target = torch.zeros_like(chunk)
    heard = model.hear(features, senses)
    assert torch.equal(
        model.loss(features, senses, goal, target, heard=heard), model.loss(features, senses, goal, target)
    )


def test_words_may_reach_the_arms_as_a_choice_and_pictures_not_at_all(folder: Path) -> None:
    model = tiny_model(folder, heads_read=True, word_choices=3, use_vision=False)
    features, senses = tiny_features(6), tiny_senses(6)
    goal = torch.zeros(6, 5)
    choice = model.heard_words(features.text)
    assert choice.shape == (6, 3)
    torch.testing.assert_close(choice.sum(1), torch.ones(6))
    seen = model(features, senses, goal)[0]
    other = replace(features, tokens=features.tokens + 1.0, pooled=features.pooled + 1.0)
    assert torch.equal(model(other, senses, goal)[0], seen)
    loud = replace(features, text=1000.0 * features.text)  # of a choice that is made, more of the same changes nothing
    louder = replace(features, text=2000.0 * features.text)
    torch.testing.assert_close(model(loud, senses, goal)[0], model(louder, senses, goal)[0])
    assert not torch.allclose(model(loud, senses, goal)[0], seen)
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model.heard_words(features.text), model.heard_words(features.text))
    with pytest.raises(ValueError, match="heads_read"):
        tiny_model(folder, word_choices=3)


def test_options_that_came_later_are_said_only_where_they_are_used(folder: Path) -> None:
    plain = tiny_config(folder)
    assert not any(
        name in repr(plain) for name in ("microphones", "goal_hears", "heads_read", "use_vision", "word_choices")
    )
    changed = replace(plain, microphones=2, heads_read=True)
    assert "microphones=2, heads_read=True" in repr(changed) and NeonConfig.from_dict(asdict(changed)) == changed
    model = tiny_model(folder, microphones=2, use_lidar=False)
    assert model.audio_encoder.conv[0].in_channels == 240 and model.audio_encoder.proj.in_features == 256
    chunk = model.predict(noise_frames(1, 4, 128)[0], "wave", audio=0.1 * torch.randn(2 * 5120).numpy())
    assert chunk.shape == (16, 17)
