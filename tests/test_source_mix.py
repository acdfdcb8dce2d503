"""One data soup of all fifteen kinds of data trains a policy and is evaluated."""

from pathlib import Path

import numpy as np
import pytest
from source_files import ALL, source_config
from tiny_neon import tiny_config

from neon_sim.data.data_soup import DataSoup, DataSoupConfig
from neon_sim.eval.offline import evaluate_offline
from neon_sim.training.train import NeonTrainer
from neon_sim.training.train_config import TrainConfig


def test_all_fifteen_mix_train_and_are_evaluated(tmp_path: Path) -> None:
    sources = [source_config(kind, tmp_path / kind) for kind in ALL]
    model = tiny_config(tmp_path / "backbone", use_audio=False, use_lidar=False)
    config = TrainConfig(
        model=model,
        data=DataSoupConfig(sources, validation_share=0.0, visit=1),
        output_dir=str(tmp_path / "run"),
        max_steps=2,
        batch_size=16,
        gradient_accumulation=1,
        optim="adamw",
        bf16=False,
        device="cpu",
    )
    trainer = NeonTrainer(config, progress=False)
    stats = trainer.train()
    assert stats["steps"] == 2 and 0.0 < stats["best_loss"] < 1.0 and not stats["skipped"]
    assert stats["sources"].keys() == ALL.keys()
    assert all(told["share"] == pytest.approx(1 / 15) and told["samples"] > 0 for told in stats["sources"].values())
    assert {trainer.soup[k].source for k in range(200)} == ALL.keys()
    soup = DataSoup(config.data, trainer.model.action_space, trainer.windows)  # type: ignore[arg-type]
    result = evaluate_offline(trainer.model, soup, trajectories=2)
    assert result.chunks == len(soup.each()) > 15 and np.isfinite(result.mse["total"]) and result.zero["total"] > 0.0
