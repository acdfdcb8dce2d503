"""Offline evaluation: errors that can be worked out by hand, and the documents' two command lines."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tiny_data import write_episodes
from tiny_neon import tiny_config, tiny_model

from neon_sim.eval.offline import OfflineResult, evaluate_offline, open_dataset
from neon_sim.training.config import PRESETS
from neon_sim.training.preset_table import preset_table

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
# What the documents' pages call their scripts with.
TRAIN_FLAGS = "--backbone --mode --audio --output --epochs --batch-size --lr --dataset"
EVAL_FLAGS = "--model --dataset --trajs --baselines --plot"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def small_model(folder: Path):
    return tiny_model(folder / "backbone", use_lidar=False, use_audio=False)


def test_a_policy_that_does_nothing_has_the_zero_baselines_error(tmp_path):
    model = small_model(tmp_path)
    with torch.no_grad():
        for param in model.action_head.parameters():
            param.zero_()
    soup = open_dataset(str(write_episodes(tmp_path / "data", 3)), "neon_sim", model)
    result = evaluate_offline(model, soup, trajectories=2)
    # One of the 17 entries is the episode's level, the others are 0.
    level = np.mean([soup.episode("dataset", i).actions[0, 0] ** 2 for i in range(2)])
    assert result.mse["total"] == pytest.approx(level / 17, rel=1e-5)
    assert result.mse == pytest.approx(result.zero) and result.improvement() == pytest.approx(0.0)
    assert result.mse["arms"] == pytest.approx(level / 14, rel=1e-5) and result.mse["locomotion"] == 0.0
    assert result.random["locomotion"] == pytest.approx(1 / 3, rel=0.15)  # variance of a uniform in [-1, 1]
    assert (result.trajectories, result.chunks) == (2, 6)


def test_improvement_is_the_share_of_the_error_that_is_gone():
    result = OfflineResult({"total": 0.25}, {"total": 1.0}, {"total": 2.0}, 1, 1)
    assert result.improvement() == 0.75 and result.as_dict()["improvement_over_zero"] == {"total": 0.75}


def test_the_scripts_take_the_documents_flags(capsys):
    for name, flags in (("train_neon", TRAIN_FLAGS), ("eval_neon", EVAL_FLAGS)):
        with pytest.raises(SystemExit):
            load(name).parse(["--help"])
        text = capsys.readouterr().out
        assert [flag for flag in flags.split() if flag not in text] == []
        head = (SCRIPTS / f"{name}.py").read_text().splitlines()
        assert head[0] == "# /// script" and "# ///" in head[1:6]  # PEP 723


def test_flags_change_the_preset():
    script = load("train_neon")
    line = "--backbone Qwen/Qwen2.5-VL-3B-Instruct --mode whole_body --epochs 5 --batch-size 2 --lr 1e-4 --audio"
    config = script.config_from(script.parse([*line.split(), "--output", "ME/neon-g1", "--dataset", "some/folder"]))
    assert config.model.backbone.model_id == "Qwen/Qwen2.5-VL-3B-Instruct" and config.model.use_audio
    assert (config.model.control_mode, config.epochs, config.batch_size) == ("whole_body", 5, 2)
    assert config.learning_rate == 1e-4 and config.data.sources[0].path == "some/folder"
    assert config.hub_model_id == "ME/neon-g1" and config.hub_private and config.output_dir == "runs/neon-g1"
    assert script.config_from(script.parse(["--output", "./here"])).hub_model_id is None
    with pytest.raises(SystemExit, match="Did you mean 'large_arms'"):
        script.config_from(script.parse(["--preset", "larg_arms"]))


def test_train_then_evaluate_from_the_command_line(tmp_path, monkeypatch, capsys):
    folder = write_episodes(tmp_path / "data", 4)
    monkeypatch.setitem(PRESETS, "tiny", lambda: tiny_preset(tmp_path))
    out = tmp_path / "run"
    load("train_neon").main(
        ["--preset", "tiny", "--dataset", str(folder), "--dataset-type", "neon_sim", "--output", str(out)]
    )
    assert "Best loss" in capsys.readouterr().out
    flags = ["--dataset", str(folder), "--dataset-type", "neon_sim", "--trajs", "3", "--baselines", "--plot"]
    load("eval_neon").main(["--model", str(out / "best"), *flags, "--out", str(tmp_path / "eval")])
    assert "| total |" in capsys.readouterr().out
    written = json.loads((tmp_path / "eval" / "offline.json").read_text())
    assert written["trajectories"] == 3 and set(written["mse"]) == {"total", "arms", "locomotion"}
    assert (tmp_path / "eval" / "trajectory_2.png").stat().st_size > 10_000


def test_a_data_set_that_is_not_there_is_one_sentence(tmp_path):
    small_model(tmp_path).save_pretrained(tmp_path / "policy")
    line = ["--model", str(tmp_path / "policy"), "--dataset", str(tmp_path / "none"), "--dataset-type", "neon_sim"]
    with pytest.raises(SystemExit, match="no episode"):
        load("eval_neon").main(line)
    with pytest.raises(SystemExit, match="--trajs wants at least 1"):
        load("eval_neon").main([*line, "--trajs", "0"])


def tiny_preset(folder: Path):
    from neon_sim.training.train_config import TrainConfig

    model = tiny_config(folder / "backbone", use_lidar=False, use_audio=False)
    return TrainConfig(model, max_steps=3, gradient_accumulation=1, optim="adamw", evaluate_every=2, device="cpu")


def test_there_are_24_presets_and_each_is_whole():
    assert len(PRESETS) == 24
    for name, build in PRESETS.items():
        config = build()
        config.check()
        assert build() == config and build().data is not config.data, name
    documented = "default_arms_only default_wholebody cosmos_physics edge_3b large_arms large_cosmos large_wholebody"
    assert set(documented.split()) | {"g1_omnimodal"} <= set(PRESETS)
    large = PRESETS["large_arms"]()
    assert (large.model.mlp_hidden, large.model.action_head_layers, large.model.proprioception_hidden) == (2048, 8, 512)
    assert (large.learning_rate, large.batch_size, large.gradient_accumulation) == (1e-4, 2, 16)


def test_the_page_of_presets_is_what_the_code_counts():
    page = (SCRIPTS.parent / "docs" / "presets.md").read_text()
    assert preset_table() in page
    assert "| `compact_reach` | compact | arms_only | chunking |" in page
