"""Sound that is learned from is listened to once a sample, and reads as it does live."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_data import soup_of, tiny_episode
from tiny_neon import tiny_config, tiny_model

from neon_sim.data.lerobot import LeRobotWriter
from neon_sim.training.listening import Listener, build_listener
from neon_sim.training.train import NeonTrainer
from neon_sim.training.train_config import TrainConfig

SETTINGS: dict[str, Any] = {"optim": "adamw", "bf16": False, "device": "cpu", "batch_size": 4, "max_steps": 3}


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes with sound, one of them silent."""
    folder = tmp_path_factory.mktemp("heard") / "set"
    with LeRobotWriter(folder) as writer:
        for seed in range(3):
            episode = tiny_episode(seed)
            sound = np.random.default_rng(seed).normal(size=(len(episode), 5120)) * 0.1 * (seed < 2)
            episode.observations["audio"] = sound.astype(np.float32)
            writer.add(episode)
    return folder


def trained(folder: Path, out: Path, **changes: Any) -> NeonTrainer:
    model = tiny_config(folder.parent / "backbone", use_lidar=False)
    trainer = NeonTrainer(TrainConfig(model, soup_of(folder), str(out), **SETTINGS, **changes), progress=False)
    trainer.train()
    return trainer


@pytest.mark.parametrize("microphones", [1, 2])
def test_what_was_listened_to_sounds_like_the_sound(tmp_path: Path, microphones: int) -> None:
    model = tiny_model(tmp_path, use_lidar=False, microphones=microphones).eval()
    sound = 0.1 * torch.randn(3, 2 * 5120)
    listener = build_listener(model, None)
    assert listener is not None
    kept = np.stack([listener(one) for one in sound.numpy()])
    assert kept.dtype == np.float16 and kept[0].nbytes < 0.6 * sound[0].numpy().nbytes
    with torch.no_grad():
        torch.testing.assert_close(
            model.audio_encoder(torch.from_numpy(kept)), model.audio_encoder(sound), atol=2e-3, rtol=1e-2
        )
        assert not torch.allclose(model.audio_encoder(sound), model.audio_encoder(0.1 * sound), atol=2e-2)


def test_a_training_hears_every_sample_once_and_learns_the_same_without_a_cache(heard: Path, tmp_path: Path) -> None:
    calls: list[int] = []
    whole = Listener.__call__

    def counted(self: Listener, sound: np.ndarray) -> np.ndarray:
        calls.append(1)
        return whole(self, sound)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Listener, "__call__", counted)
        trainer = trained(heard, tmp_path / "cached")
        assert len(calls) == 3 * 3  # 40 steps are three samples
        del calls[:]
        plain = trained(heard, tmp_path / "plain", sample_cache_gb=0.0)
        assert len(calls) > 3 * 3
    for a, b in zip(trainer.model.parameters(), plain.model.parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def test_whoever_needs_the_sound_itself_is_given_it(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, use_lidar=False)
    assert build_listener(model, None) is not None and build_listener(model, model) is None
    assert build_listener(tiny_model(tmp_path, use_lidar=False, use_audio=False), None) is None
