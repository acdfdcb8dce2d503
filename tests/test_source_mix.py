"""One data soup of all fifteen kinds of data trains a policy and is evaluated."""

import json
import runpy
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from source_files import ALL, source_config
from tiny_neon import tiny_config

from neon_sim.data.data_soup import DataSoup, DataSoupConfig
from neon_sim.data.source import DataSourceConfig
from neon_sim.eval.offline import evaluate_offline
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.train import NeonTrainer
from neon_sim.training.train_config import TrainConfig

PRETRAIN = Path(__file__).resolve().parents[1] / "agents" / "pretrain.py"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[DataSourceConfig]:
    """A small data set of each type."""
    folder = tmp_path_factory.mktemp("sources")
    return [source_config(kind, folder / kind) for kind in ALL]


def training(folder: Path, sources: list[DataSourceConfig], steps: int) -> TrainConfig:
    """A small policy on all of them; of those that have two episodes or more, one is held back."""
    return TrainConfig(
        model=tiny_config(folder / "backbone", use_audio=False, use_lidar=False, dropout=0.0),
        data=DataSoupConfig(sources, visit=1),
        output_dir=str(folder / "run"),
        max_steps=steps,
        batch_size=16,
        gradient_accumulation=1,
        learning_rate=2e-3,
        evaluate_every=10,
        feature_cache=str(folder / "features"),
        optim="adamw",
        bf16=False,
        device="cpu",
    )


def test_all_fifteen_mix_train_and_are_evaluated(sources: list[DataSourceConfig], tmp_path: Path) -> None:
    config = training(tmp_path, sources, 40)
    trainer = NeonTrainer(config, progress=False)
    stats = trainer.train()
    assert stats["steps"] == 40 and not stats["skipped"]
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [10, 20, 30, 40]
    assert log[-1]["train_loss"] < 0.5 * log[0]["train_loss"]
    assert log[-1]["mse"] < log[0]["mse"] and stats["best_loss"] == min(line["mse"] for line in log)
    held_back = {name for name, episodes in trainer.soup.others.items() if len(episodes)}
    assert held_back == {"neon_sim", "oxe"}  # the others have one episode each
    assert all({"mse", "mse/neon_sim", "mse/oxe"} <= set(line) for line in log)
    assert stats["sources"].keys() == ALL.keys()
    assert all(told["share"] == pytest.approx(1 / 15) and told["samples"] > 0 for told in stats["sources"].values())
    assert {trainer.soup[k].source for k in range(200)} == ALL.keys()
    soup = DataSoup(DataSoupConfig(sources, 0.0), trainer.model.action_space, trainer.windows)
    result = evaluate_offline(trainer.model, soup, trajectories=2)
    assert result.chunks == len(soup.each()) > 15 and 0.0 < result.mse["total"] < result.random["total"]


def test_they_train_from_a_soup_file_on_the_command_line(
    sources: list[DataSourceConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mixture = tmp_path / "mixture.json"
    mixture.write_text(json.dumps({"sources": [asdict(source) for source in sources]}))
    monkeypatch.chdir(tmp_path)  # the preset keeps features in runs/
    flags = ["--preset", "compact_reach", "--soup", str(mixture), "--epochs", "1", "--out", "out"]
    monkeypatch.setattr(sys, "argv", ["pretrain.py", *flags])
    runpy.run_path(str(PRETRAIN), run_name="__main__")
    log = json.loads((tmp_path / "out" / "log.jsonl").read_text())
    assert f"after {log['step']} steps in" in capsys.readouterr().out and log["step"] >= 1
    assert json.loads((tmp_path / "out" / "data.json").read_text()).keys() == ALL.keys()
    assert np.isfinite(log["mse"]) and NeonVLA.from_pretrained(tmp_path / "out" / "best").senses
