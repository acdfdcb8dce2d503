"""Frozen ears: Whisper as transformers runs it, the backbone's own tower, and what of either is trained and saved."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_backbones import HIDDEN, save_omni, save_qwen_vl, save_tribe_encoders, tiny_clips, tone
from tiny_neon import noise_frames, tiny_model, tiny_senses

from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.instruction import encode_instruction
from neon_sim.model.audio import AudioConfig, AudioEncoder
from neon_sim.model.backbones.preprocess import log_mel
from neon_sim.model.checkpoint import WEIGHTS_FILE
from neon_sim.model.compact import CompactBackbone
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.model.video_backbone import BackboneConfig, VideoBackbone
from neon_sim.model.whisper_encoder import BackboneTower, WhisperTower

WIDTH = 24


def save_whisper(folder: Path) -> Path:
    """A Whisper of two layers, in the hub's layout: encoder, decoder and language model head."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        f"{part}_{name}": 2 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")
    }
    sizes |= {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "d_model": WIDTH, "vocab_size": 60}
    ids = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
    config = WhisperConfig(**sizes, **ids, num_mel_bins=80, init_std=0.3)
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whisper(tmp_path_factory.mktemp("whisper"))


def loaded(kind: Any, base: Path) -> VideoBackbone:
    """A tiny foundation model of the backbones' tests."""
    small = {"max_frames": 4, "image_size": 60, "load_in_4bit": False, "dtype": "float32", "device": "cpu"}
    return VideoBackbone.from_config(BackboneConfig(str(kind(base / kind.__name__)), **small))


def test_states_are_those_of_transformers_whisper(whisper: Path) -> None:
    from transformers import WhisperFeatureExtractor, WhisperModel

    wave = tone(2, 1.0) + 0.05 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    inputs = WhisperFeatureExtractor(feature_size=80)(list(wave.numpy()), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        theirs = WhisperModel.from_pretrained(whisper).eval().encoder(inputs["input_features"]).last_hidden_state
    ours = WhisperTower(str(whisper)).states(wave)
    assert ours.shape == (2, 1500, WIDTH)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-3)
    assert float(ours[:, :50].std()) > 0.1  # there is something to be equal


def test_only_what_was_heard_counts_in_the_mean(whisper: Path) -> None:
    tower = WhisperTower(str(whisper), context_s=1.0)
    wave = tone(1, 0.32)  # 5120 samples: 16 states of 320
    torch.testing.assert_close(tower.hear(wave), tower.states(wave)[:, :16].mean(dim=1))
    torch.testing.assert_close(tower.hear(wave[:, :4801]), tower.states(wave[:, :4801])[:, :16].mean(dim=1))


def test_a_shorter_context_cuts_the_table_of_positions(whisper: Path) -> None:
    short, whole = WhisperTower(str(whisper), context_s=0.5), WhisperTower(str(whisper))
    wave = tone(1, 0.5)
    assert short.states(wave).shape == (1, 25, WIDTH)
    table = whole.load(), short.encoder.embed_positions.weight
    torch.testing.assert_close(table[1], whole.encoder.embed_positions.weight[:25])
    assert not torch.allclose(short.states(wave), whole.states(wave)[:, :25], atol=1e-3)  # it attends to less silence
    with pytest.raises(ValueError, match="hears 0.5 s, got 0.6 s. Keep the newest part"):
        short.hear(tone(1, 0.6))


def test_the_projection_alone_is_trained_and_saved(whisper: Path) -> None:
    encoder = AudioEncoder(AudioConfig("whisper", weights=str(whisper), context_s=1.0, output_dim=8))
    tower: Any = encoder._tower[0]
    assert tower.encoder is None and set(encoder.state_dict()) == {"proj.weight", "proj.bias"}
    out = encoder(tone(3, 0.32))
    assert out.shape == (3, 8) and not tower.encoder.training
    torch.testing.assert_close(out, encoder.proj(tower.hear(tone(3, 0.32))))
    out.square().sum().backward()
    assert [bool(p.grad is not None and p.grad.any()) for p in encoder.parameters()] == [True, True]
    assert not any(p.requires_grad for p in tower.encoder.parameters())


def test_a_loud_and_a_quiet_tone_or_another_pitch_differ(whisper: Path) -> None:
    encoder = AudioEncoder(AudioConfig("whisper", weights=str(whisper), context_s=1.0)).eval()
    same, again, other = (encoder(tone(1, 0.5, hz)).detach() for hz in (440.0, 440.0, 1200.0))
    assert torch.equal(same, again) and float((same - other).abs().max()) > 1e-2


def test_a_checkpoint_with_whisper_comes_back_without_its_weights(whisper: Path, tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "backbone", audio=AudioConfig("whisper", weights=str(whisper), output_dim=12))
    model.save_pretrained(tmp_path / "policy")
    names = {name for name in load_file(tmp_path / "policy" / WEIGHTS_FILE) if name.startswith("audio")}
    assert names == {"audio_encoder.proj.weight", "audio_encoder.proj.bias"}
    again = NeonVLA.from_pretrained(tmp_path / "policy")
    assert again.config == model.config and again.fusion.dims["audio"] == 12
    clip, audio = noise_frames(1, 4, 128)[0], tiny_senses(1)["audio"][0].numpy()
    chunk = model.predict(clip, "a", audio=audio)
    assert (again.predict(clip, "a", audio=audio) == chunk).all() and (model.predict(clip, "a") != chunk).any()


def test_loading_the_backbone_loads_the_ear(whisper: Path, tmp_path: Path) -> None:
    model = tiny_model(tmp_path, audio=AudioConfig("whisper", weights=str(whisper)))
    tower: Any = model.audio_encoder._tower[0]
    assert tower.encoder is None
    model.load_backbone()
    assert tower.encoder is not None


def test_an_old_config_has_the_mel_encoder() -> None:
    config = NeonConfig.from_dict({"use_audio": True})
    assert config.audio == AudioConfig(output_dim=64) and config.audio.encoder_type == "mel_spectrogram"


def test_weights_that_are_no_whisper_are_refused(
    whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    other = str(save_qwen_vl(tmp_path / "qwen_vl"))
    with pytest.raises(ValueError, match="holds a qwen2_5_vl. AudioConfig.weights wants a Whisper"):
        WhisperTower(other)
    with pytest.raises(ValueError, match="No folder '/nowhere/whisper'"):
        WhisperTower("/nowhere/whisper")
    with pytest.raises(ConnectionError, match="weights='/path/to/folder'"):
        WhisperTower("nobody/whisper-nothing")
    with pytest.raises(ValueError, match="hears at most 30 s, got context_s 31"):
        WhisperTower(str(whisper), context_s=31.0)


@pytest.fixture(scope="module")
def omni(tmp_path_factory: pytest.TempPathFactory) -> VideoBackbone:
    return loaded(save_omni, tmp_path_factory.mktemp("omni"))


def test_omni_is_the_mean_of_the_backbones_own_tower(omni: Any) -> None:
    tower, wave = BackboneTower(omni), tone(2, 0.64)
    heard = tower.hear(wave)
    mel = log_mel(wave, 128)
    assert heard.shape == (2, HIDDEN) == (2, tower.width) and mel.shape == (2, 128, 64)
    for row in range(2):
        with torch.no_grad():  # 64 mel frames, 32 after the convolution, 16 states
            states = omni.model.audio_tower(mel[row], feature_lens=torch.tensor([64]), aftercnn_lens=torch.tensor([32]))
        assert states.last_hidden_state.shape == (16, HIDDEN)
        torch.testing.assert_close(heard[row], states.last_hidden_state.mean(dim=0), rtol=1e-4, atol=1e-4)


def test_a_policy_hears_through_its_backbone(omni: VideoBackbone) -> None:
    torch.manual_seed(0)
    config = NeonConfig(audio=AudioConfig("omni", output_dim=16), mlp_hidden=16, proprioception_hidden=16)
    model = NeonVLA(config, omni).eval()
    assert not any("tower" in name for name in model.state_dict())
    clip = tiny_clips(1)[0].numpy()
    low, high = (model.predict(clip, "a", audio=tone(1, 0.5, hz)[0].numpy()) for hz in (300.0, 2000.0))
    assert low.shape == (16, 17) and (low != high).any()


def test_a_backbone_that_hears_is_given_the_sound_on_the_robot_as_in_training(omni: VideoBackbone) -> None:
    torch.manual_seed(0)
    config = NeonConfig(audio=AudioConfig("omni", output_dim=16), mlp_hidden=16, proprioception_hidden=16)
    policy = NeonPolicy(NeonVLA(config, omni))
    clip, sound = tiny_clips(1)[0].numpy(), tone(1, 0.5, 300.0)
    policy.observe({"camera": clip[-1], "audio": sound[0].numpy(), "instruction": encode_instruction("a")}, 0.0)
    seen = torch.from_numpy(policy.clip.clip(config.backbone.max_frames))[None]
    heard, deaf = (policy.model.encode(seen, ["a"], *given).pooled for given in ((sound,), ()))
    assert torch.equal(policy.perceive()[0].pooled, heard) and not torch.equal(heard, deaf)


def test_tribe_lends_its_ear_too(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="untrained"):
        tribe = loaded(save_tribe_encoders, tmp_path)
    encoder = AudioEncoder(AudioConfig("omni", output_dim=8), tribe).eval()
    quiet, loud = encoder(tone(1, 1.0, 300.0)), encoder(tone(1, 1.0, 2000.0))
    assert quiet.shape == (1, 8) and BackboneTower(tribe).width == 16 and not torch.equal(quiet, loud)


@pytest.mark.parametrize(("backbone", "found"), [(None, "no backbone"), (CompactBackbone(), "a CompactBackbone")])
def test_a_deaf_backbone_lends_no_ear(backbone: VideoBackbone | None, found: str) -> None:
    with pytest.raises(ValueError, match=f"wants a backbone that hears .*, got {found}"):
        AudioEncoder(AudioConfig("omni"), backbone)
