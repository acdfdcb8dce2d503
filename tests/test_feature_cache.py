"""The feature cache: what it returns, when it asks the backbone, what it keeps, what a second pass is worth."""

import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_backbones import save_omni, save_qwen_vl, tiny_clips, tone
from tiny_neon import noise_frames, tiny_backbone

from neon_sim.model.compact import CompactBackbone
from neon_sim.model.feature_cache import FeatureCache, sample_key
from neon_sim.model.video_backbone import BackboneConfig, BackboneFeatures, VideoBackbone

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import feature_cache

TEXTS = ["touch the red ball", "touch the blue ball", "press"]
NAMES = ("tokens", "pooled", "text")


def _clips(batch: int = 3, seed: int = 0, side: int = 64) -> torch.Tensor:
    return torch.from_numpy(noise_frames(batch, 4, side, seed))


@pytest.fixture
def backbone() -> CompactBackbone:
    return tiny_backbone(4).requires_grad_(False)


def _count(backbone: VideoBackbone) -> list[int]:
    """Grows by the batch size at every pass of the backbone."""
    seen: list[int] = []
    backbone.register_forward_hook(lambda _, args, output: seen.append(len(args[0])))
    return seen


def _equal(one: BackboneFeatures, other: BackboneFeatures) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in NAMES)


def test_a_second_pass_gives_the_same_bits_and_encodes_nothing(backbone, tmp_path):
    seen = _count(backbone)
    cache = FeatureCache(tmp_path, backbone)
    first = cache(_clips(), TEXTS)
    assert _equal(first, backbone(_clips(), TEXTS)) and seen == [3, 3]
    assert _equal(cache(_clips(), TEXTS), first)
    assert _equal(FeatureCache(tmp_path, backbone)(_clips(), TEXTS), first)  # from the disk
    assert seen == [3, 3] and (cache.hits, cache.misses) == (3, 3)


def test_only_what_is_new_is_encoded_and_twins_once(backbone, tmp_path):
    seen = _count(backbone)
    cache = FeatureCache(tmp_path, backbone)
    cache(_clips(1), TEXTS[:1])
    clips = torch.cat([_clips(1), _clips(1, seed=1), _clips(1, seed=1)])
    mixed = cache(clips, [TEXTS[0], TEXTS[1], TEXTS[1]])
    assert seen == [1, 1] and (cache.hits, cache.misses) == (2, 2)
    assert torch.equal(mixed.pooled[1], mixed.pooled[2])
    torch.testing.assert_close(mixed.pooled, backbone(clips, [TEXTS[0], TEXTS[1], TEXTS[1]]).pooled)


def test_pictures_words_and_sound_each_make_another_key():
    clip, sound = _clips(1)[0], tone(1)[0]
    changed = clip.clone()
    changed[0, 0, 0, 0] ^= 1
    keys = {
        sample_key(clip, "press"),
        sample_key(changed, "press"),
        sample_key(clip, "Press"),
        sample_key(clip, "press", sound),
        sample_key(clip, "press", 0.5 * sound),
        sample_key(clip.reshape(2, 128, 64, 3), "press"),  # the same bytes in another shape
    }
    assert len(keys) == 6
    assert sample_key(clip.clone(), "press") in keys


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(rows=st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_any_order_of_clips_gets_its_own_features(backbone, tmp_path_factory, rows):
    pool = _clips(6)
    texts = [TEXTS[row % 3] for row in range(6)]
    cache = FeatureCache(tmp_path_factory.mktemp("any"), backbone, memory_mb=0.01)
    whole = backbone(pool, texts)
    for batch in (rows, rows[::-1]):
        found = cache(pool[batch], [texts[row] for row in batch])
        for name in NAMES:
            torch.testing.assert_close(getattr(found, name), getattr(whole, name)[batch], rtol=0, atol=1e-5)


def test_another_backbone_reads_nothing_of_it(backbone, tmp_path):
    FeatureCache(tmp_path, backbone)(_clips(), TEXTS)
    with torch.no_grad():
        backbone.clip_query.add_(0.1)
    changed = FeatureCache(tmp_path, backbone)
    changed(_clips(), TEXTS)
    assert (changed.hits, changed.misses) == (0, 3) and len(list(tmp_path.iterdir())) == 2


def test_memory_is_bounded_and_the_disk_keeps_the_rest(backbone, tmp_path):
    sample_bytes = (16 * 40 + 40 + 40) * 4
    cache = FeatureCache(tmp_path, backbone, memory_mb=2.5 * sample_bytes / 2**20)
    clips = _clips(5)
    for i in range(5):
        cache(clips[i : i + 1], ["press"])
        assert sum(value.nbytes for sample in cache._recent.values() for value in sample.values()) <= 2.5 * sample_bytes
    assert len(cache._recent) == 2 and cache._size == 2 * sample_bytes
    cache(clips[:1], ["press"])
    assert (cache.hits, cache.misses) == (1, 5)


def test_the_disk_is_bounded_and_what_does_not_fit_is_encoded_each_time(backbone, tmp_path, monkeypatch):
    sample_bytes = (16 * 40 + 40 + 40) * 4
    limit_gb = 2.5 * (sample_bytes + 300) / 2**30  # a file has a header of some 250 bytes
    clips, seen = _clips(5), _count(backbone)
    cache = FeatureCache(tmp_path, backbone, memory_mb=0.0, limit_gb=limit_gb)
    with pytest.warns(UserWarning, match="has no room for more features.*raise TrainConfig.feature_cache_gb"):
        first = cache(clips, ["press"] * 5)
    assert cache.full and len(list(tmp_path.rglob("*.safetensors"))) == 2
    torch.testing.assert_close(cache(clips, ["press"] * 5).tokens, first.tokens)
    assert seen == [5, 3]  # the two that fit are read
    full = FeatureCache(tmp_path, backbone, limit_gb=limit_gb)  # another run finds them, and that there is no room
    with pytest.warns(UserWarning, match="no room"):
        full(clips[2:], ["press"] * 3)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12 - 2**31, 2**31))
    with pytest.warns(UserWarning, match="the disk has 2 GB left"):
        FeatureCache(tmp_path, backbone)(clips[:1], ["press"])
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_half_precision_is_rounded_from_the_first_pass_on(backbone, tmp_path):
    cache = FeatureCache(tmp_path, backbone, dtype=torch.float16)
    first, second = cache(_clips(), TEXTS), FeatureCache(tmp_path, backbone, dtype=torch.float16)(_clips(), TEXTS)
    assert _equal(first, second) and first.pooled.dtype == torch.float32
    exact = backbone(_clips(), TEXTS)
    assert torch.equal(first.tokens, exact.tokens.half().float()) and not _equal(first, exact)


def test_a_damaged_file_is_encoded_again(backbone, tmp_path):
    first = FeatureCache(tmp_path, backbone)(_clips(1), ["press"])
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-40])
    again = FeatureCache(tmp_path, backbone)
    with pytest.warns(UserWarning, match="is damaged"):
        assert _equal(again(_clips(1), ["press"]), first)
    assert again.misses == 1
    assert _equal(FeatureCache(tmp_path, backbone)(_clips(1), ["press"]), first)


def test_files_appear_whole_and_nothing_else_is_left(backbone, tmp_path):
    FeatureCache(tmp_path, backbone)(_clips(), TEXTS)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3 and {path.suffix for path in files} == {".safetensors"}


def test_a_backbone_that_learns_is_refused(tmp_path):
    for wrong in (tiny_backbone(4), tiny_backbone(4).requires_grad_(False).train()):
        with pytest.raises(ValueError, match="frozen backbone in eval mode"):
            FeatureCache(tmp_path, wrong)


def test_with_everything_on_disk_a_foundation_model_is_never_loaded(tmp_path):
    folder = save_qwen_vl(tmp_path / "model")
    config = BackboneConfig(str(folder), max_frames=4, image_size=56, load_in_4bit=False, dtype="float32", device="cpu")
    first = FeatureCache(tmp_path / "cache", VideoBackbone.from_config(config))(tiny_clips(), TEXTS[:2])
    lazy = VideoBackbone.from_config(config)
    assert _equal(FeatureCache(tmp_path / "cache", lazy)(tiny_clips(), TEXTS[:2]), first)
    assert list(lazy.parameters()) == []


def test_sound_goes_to_a_backbone_that_hears(tmp_path):
    folder = save_omni(tmp_path / "model")
    config = BackboneConfig(str(folder), max_frames=4, image_size=56, load_in_4bit=False, dtype="float32", device="cpu")
    backbone = VideoBackbone.from_config(config)
    cache = FeatureCache(tmp_path / "cache", backbone)
    heard, deaf = cache(tiny_clips(), TEXTS[:2], tone()), cache(tiny_clips(), TEXTS[:2])
    assert cache.misses == 4 and not torch.equal(heard.pooled, deaf.pooled)
    assert _equal(cache(tiny_clips(), TEXTS[:2], tone()), heard) and cache.misses == 4
    torch.testing.assert_close(heard.pooled, backbone(tiny_clips(), TEXTS[:2], tone()).pooled)


def test_the_benchmark_finds_that_reading_is_faster_than_encoding(tmp_path):
    """Ratios of three passes in turns: the machine's load touches all of them alike."""
    times = feature_cache.measure(feature_cache.Preset(clips=16, batch=8, repeats=3), tmp_path)
    assert [len(values) for values in times.values()] == [1, 3, 3, 3]
    assert min(times["from disk"]) < min(times["encoded"]) and min(times["from memory"]) < min(times["encoded"]) / 2
    assert len(list(tmp_path.rglob("*.safetensors"))) == 16


def test_the_benchmarks_table_by_hand():
    times = {"first pass": [12.0], "encoded": [8.0, 10.0, 30.0], "from disk": [4.0, 4.0, 7.0]}
    # Of the turns 2, 2.5 and 30 / 7 times: their mean is 2.929, their deviation 1.202; t of two degrees is 4.303.
    assert feature_cache.table_rows(times) == [
        ["first pass", "12.000", "-", "0.8"],
        ["encoded", "10.000", "28.000", "1.0"],
        ["from disk", "4.000", "6.700", "2.9 ± 3.0"],
    ]
