"""The compact backbone: shapes, words, clips, what is saved comes back, what is not one is refused."""

import json
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_neon import noise_frames, tiny_backbone

from neon_sim.model.compact import (
    CompactBackbone,
    CompactConfig,
    fit_length,
    grid_places,
    load_compact,
    read_compact,
    save_compact,
    tokenize,
)
from neon_sim.model.video_backbone import BackboneConfig, BackboneFeatures, VideoBackbone

WORDS = ["touch the red ball with your left hand", "blue"]


def _clips(batch: int = 2, length: int = 4, side: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(noise_frames(batch, length, side, seed))


@torch.no_grad()
def test_the_default_is_a_few_million_parameters_and_gives_a_grid() -> None:
    backbone = CompactBackbone().eval()
    assert 2_000_000 < sum(param.numel() for param in backbone.parameters()) < 4_000_000
    assert (backbone.hidden_size, backbone.num_tokens) == (160, 64)
    features = backbone(_clips(2, 4, 128), WORDS)
    assert features.tokens.shape == (2, 64, 160)
    assert features.pooled.shape == features.text.shape == (2, 160)


@pytest.mark.parametrize("grid", [4, 8])
@torch.no_grad()
def test_shapes_follow_the_config(grid: int) -> None:
    backbone = tiny_backbone(grid)
    features = backbone(_clips(3, 4, 16 * grid), [*WORDS, ""])
    assert features.tokens.shape == (3, grid**2, 40) and backbone.num_tokens == grid**2
    assert features.pooled.shape == features.text.shape == (3, 40)
    assert all(bool(getattr(features, name).isfinite().all()) for name in ("tokens", "pooled", "text"))


def test_a_grid_that_does_not_fit_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="grid must be image_size / 16, got 8 and 64"):
        CompactConfig(grid=8, image_size=64)


def test_tokens_are_hashes_of_lower_case_words_padded_with_zero() -> None:
    def bucket(word: str) -> int:
        return 1 + zlib.crc32(word.encode()) % 511

    rows = tokenize(["Red ball, 31cm!", "BLUE"], 512, 64)
    assert rows.dtype == torch.int64
    assert rows[0].tolist() == [bucket(word) for word in ("red", "ball", ",", "31", "cm", "!")]
    assert rows[1].tolist() == [bucket("blue"), 0, 0, 0, 0, 0]
    assert tokenize([""], 512, 64).tolist() == [[0]]
    assert tokenize(["one two three"], 512, 2).tolist() == [[bucket("one"), bucket("two")]]


def test_tokens_are_the_same_in_another_process() -> None:
    code = "from neon_sim.model.compact import tokenize; print(tokenize(['touch the red ball'], 4096, 64).tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == tokenize(["touch the red ball"], 4096, 64).tolist()


@given(st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_any_text_gives_valid_rows_and_padding_only_at_the_end(texts: list[str]) -> None:
    rows = tokenize(texts, 512, 16)
    assert rows.shape[0] == len(texts) and 1 <= rows.shape[1] <= 16
    assert int(rows.min()) >= 0 and int(rows.max()) < 512
    real = rows > 0
    assert bool((real[:, :-1] >= real[:, 1:]).all())


@torch.no_grad()
def test_padding_and_neighbours_do_not_change_what_a_text_means() -> None:
    encoder = tiny_backbone().text_encoder
    together = encoder([*WORDS, ""])
    for i, text in enumerate([*WORDS, ""]):
        torch.testing.assert_close(encoder([text])[0], together[i], rtol=0, atol=1e-5)
    assert not torch.allclose(encoder(["red ball"]), encoder(["ball red"]), atol=1e-3)  # the order counts


def test_fit_length_keeps_the_newest_and_repeats_the_oldest() -> None:
    clip = torch.arange(3).view(1, 3, 1)
    assert fit_length(clip, 3).flatten().tolist() == [0, 1, 2]
    assert fit_length(clip, 2).flatten().tolist() == [1, 2]
    assert fit_length(clip, 5).flatten().tolist() == [0, 0, 0, 1, 2]


def test_places_tell_every_cell_apart() -> None:
    places = grid_places(4, 40)
    assert places.shape == (16, 40)
    distance = torch.cdist(places, places) + 10.0 * torch.eye(16)
    assert float(distance.min()) > 0.5
    # Mirror images: cosines are equal, sines are opposite. Cell 1 is row 0, column 1; cell 2 is row 0, column 2.
    row, column = places[:, :20], places[:, 20:]
    torch.testing.assert_close(row[1], row[2])
    torch.testing.assert_close(column[1, :10], -column[2, :10])
    torch.testing.assert_close(column[1, 10:], column[2, 10:])


@torch.no_grad()
def test_samples_of_a_batch_do_not_touch_each_other() -> None:
    backbone, clips = tiny_backbone(4), _clips(3)
    texts = [*WORDS, "put your right hand on the green ball"]
    together = backbone(clips, texts)
    for i in range(3):
        alone = backbone(clips[i : i + 1], texts[i : i + 1])
        for name in ("tokens", "pooled", "text"):
            torch.testing.assert_close(getattr(alone, name)[0], getattr(together, name)[i], rtol=0, atol=1e-5)


@torch.no_grad()
def test_time_is_seen_and_a_short_clip_stands_still() -> None:
    backbone, clips = tiny_backbone(4), _clips(1)
    forward, backward = backbone(clips, ["a"]).tokens, backbone(clips.flip(1), ["a"]).tokens
    assert float((forward - backward).abs().max()) > 1e-2
    still = clips[:, :1].expand(-1, 4, -1, -1, -1)
    assert torch.equal(backbone(clips[:, :1], ["a"]).tokens, backbone(still, ["a"]).tokens)


@torch.no_grad()
def test_the_words_choose_what_is_found() -> None:
    backbone = tiny_backbone(4)
    tokens = backbone(_clips(2), WORDS).tokens
    query = backbone.text_encoder(["red", "blue"])
    one = backbone.find(tokens, query)
    many = backbone.find(tokens, torch.stack([query, query.flip(0)], dim=1))
    assert one.shape == (2, 40) and many.shape == (2, 2, 40)
    torch.testing.assert_close(one, many[:, 0])
    assert not torch.allclose(many[:, 0], many[:, 1], atol=1e-3)


def test_wrong_input_is_refused_with_both_shapes() -> None:
    backbone = tiny_backbone(4)
    for frames in (_clips(1, 4, 32), _clips(1)[0], _clips(1)[..., :1]):
        with pytest.raises(ValueError, match=r"wants clips \(B, T, 64, 64, 3\), got"):
            backbone(frames, ["a"])
    with pytest.raises(ValueError, match="2 clips want as many instructions, got 1"):
        backbone(_clips(2), ["a"])
    with pytest.raises(ValueError, match="uint8 with T >= 1, got .* torch.float32"):
        backbone(_clips(1) / 255.0, ["a"])


def test_what_is_saved_comes_back_rounded_to_half_precision(tmp_path: Path) -> None:
    backbone = tiny_backbone(4)
    save_compact(backbone, tmp_path / "new" / "folder")
    again = read_compact(tmp_path / "new" / "folder").eval()
    assert again.config == backbone.config
    for name, value in backbone.state_dict().items():
        found = again.state_dict()[name]
        assert found.dtype == value.dtype, name
        assert torch.equal(found, value.half().float() if value.is_floating_point() else value), name
    with torch.no_grad():
        before, after = backbone(_clips(), WORDS), again(_clips(), WORDS)
    for name in ("tokens", "pooled", "text"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=0, atol=2e-2)
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "backbone.safetensors",
        "config.json",
    ]


def _cut(folder: Path) -> None:
    weights = folder / "backbone.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def _edit(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_cut, id="weights cut short"),
        pytest.param(lambda folder: (folder / "backbone.safetensors").write_bytes(b""), id="weights empty"),
        pytest.param(lambda folder: (folder / "backbone.safetensors").unlink(), id="no weights"),
        pytest.param(lambda folder: (folder / "config.json").unlink(), id="no config"),
        pytest.param(lambda folder: (folder / "config.json").write_text("{"), id="config cut short"),
        pytest.param(lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe\x00"), id="config not text"),
        pytest.param(lambda folder: (folder / "config.json").write_text("[1]"), id="config a list"),
        pytest.param(lambda folder: (folder / "config.json").write_text("{}"), id="config of something else"),
        pytest.param(lambda folder: _edit(folder, colour=1), id="unknown key"),
        pytest.param(lambda folder: _edit(folder, dim=80), id="other sizes"),
        pytest.param(lambda folder: _edit(folder, layers=2), id="a layer more"),
        pytest.param(lambda folder: _edit(folder, grid=5), id="impossible sizes"),
    ],
)
def test_a_damaged_or_foreign_folder_is_refused(tmp_path: Path, damage) -> None:
    save_compact(tiny_backbone(4), tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match="does not hold a whole compact backbone") as caught:
        load_compact(BackboneConfig(weights=str(tmp_path)))
    assert str(tmp_path) in str(caught.value) and "agents/train_backbone.py" in str(caught.value)


def test_from_config_freezes_unless_told_not_to(tmp_path: Path) -> None:
    save_compact(tiny_backbone(4), tmp_path)
    config = BackboneConfig(weights=str(tmp_path))
    frozen = VideoBackbone.from_config(config)
    assert not frozen.training and not any(param.requires_grad for param in frozen.parameters())
    assert not any(part.training for part in frozen.modules())
    free = VideoBackbone.from_config(replace(config, freeze_backbone=False))
    assert all(param.requires_grad for param in free.parameters())


@pytest.mark.parametrize(("given_id", "meant"), [("compcat", "compact"), ("Compact", "compact")])
def test_an_unknown_backbone_names_the_nearest(given_id: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"Unknown backbone '{given_id}'. Did you mean '{meant}'"):
        BackboneConfig(given_id)


def test_the_interface_does_not_answer_by_itself() -> None:
    with pytest.raises(NotImplementedError):
        VideoBackbone()(_clips(), WORDS)
    assert {"tokens", "pooled", "text"} == set(BackboneFeatures.__dataclass_fields__)


@torch.no_grad()
def test_folded_normalisations_say_what_the_net_says() -> None:
    encoder = tiny_backbone().requires_grad_(False).frame_encoder
    frames = _clips(1, 4)[0]
    for norm in (layer for layer in encoder.net if isinstance(layer, torch.nn.BatchNorm2d)):
        norm.running_mean.uniform_(-1.0, 1.0)
        norm.running_var.uniform_(0.5, 2.0)
        norm.weight.uniform_(0.5, 2.0)
        norm.bias.uniform_(-1.0, 1.0)
    pictures = frames.permute(0, 3, 1, 2).float() / 127.5 - 1.0

    def plain() -> torch.Tensor:
        cells: torch.Tensor = encoder.net(pictures).flatten(2).transpose(1, 2)
        return cells

    first = encoder(frames)
    assert torch.allclose(first, plain(), atol=2e-5) and torch.equal(first, encoder(frames))
    encoder.load_state_dict({name: 0.5 * value for name, value in encoder.state_dict().items()})
    again = encoder(frames)
    assert torch.allclose(again, plain(), atol=2e-5) and not torch.allclose(first, again, atol=1e-3)


def test_a_backbone_that_learns_keeps_nothing_and_folds_nothing() -> None:
    backbone = tiny_backbone()  # in eval mode, as in an evaluation in the midst of a training
    frames, encoder = _clips(1, 4)[0], backbone.frame_encoder
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=0.01, fused=True)  # its steps leave no trace on a tensor
    for _ in range(2):
        with torch.no_grad():
            before, said = encoder(frames), backbone.encode_text(WORDS)
        (encoder(frames).square().mean() + backbone.encode_text(WORDS).square().mean()).backward()
        optimizer.step()
        with torch.no_grad():
            assert not torch.allclose(before, encoder(frames), atol=1e-4)
            assert not torch.allclose(said, backbone.encode_text(WORDS), atol=1e-4)


def test_kept_words_follow_the_words_the_weights_and_the_mode() -> None:
    backbone = tiny_backbone().requires_grad_(False)
    with torch.inference_mode():
        first = backbone.encode_text(WORDS)
        assert backbone.encode_text(WORDS) is first
        assert not torch.equal(backbone.encode_text(WORDS[::-1]), first)
    assert backbone.encode_text(WORDS[::-1]).is_inference() is False  # autograd takes what inference mode left
    first = backbone.encode_text(WORDS)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = backbone.encode_text(WORDS)
    assert torch.allclose(rounded, first, atol=0.1) and not torch.equal(rounded, first)
    assert torch.equal(backbone.encode_text(WORDS), first)
    backbone.load_state_dict({name: 0.5 * value for name, value in backbone.state_dict().items()})
    assert torch.equal(backbone.encode_text(WORDS), backbone.text_encoder(WORDS))
    assert not torch.allclose(backbone.encode_text(WORDS), first, atol=1e-3)


def test_what_is_kept_stays_out_of_an_exported_graph() -> None:
    encoder, frames = tiny_backbone().requires_grad_(False).frame_encoder, _clips(1, 4)[0]
    answer = encoder(frames)
    exported = torch.export.export(encoder, (frames,)).module()
    assert torch.allclose(exported(frames), answer, atol=2e-5)
