"""Offline evaluation: errors that can be worked out by hand, and the documents' two command lines."""

import importlib.util
import json
import shlex
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from foreign_folders import G1_ARMS, angles, foreign_lerobot, gripper_path
from local_hub import call, running_hub
from tiny_data import write_episodes
from tiny_neon import tiny_config, tiny_model

from neon_sim.data.relative_actions import states_to_relative_actions
from neon_sim.eval.offline import OfflineResult, evaluate_offline, open_dataset
from neon_sim.training.config import PRESETS
from neon_sim.training.preset_table import preset_table

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
HUB_JOB = "hf jobs uv run --flavor a100-large --secrets HF_TOKEN --timeout 8h"
# The documents' lines, each whole: those of a job end with the script's own flags.
TRAIN_LINES = (
    f"{HUB_JOB} scripts/train_neon.py --backbone Qwen/Qwen2.5-Omni-7B --mode arms_only --audio"
    " --output YOUR_HF_USERNAME/neon-g1-v1",
    f"{HUB_JOB} scripts/train_neon.py --backbone Qwen/Qwen2.5-Omni-7B --audio --output YOUR_USERNAME/neon-g1-v1",
    f"{HUB_JOB} scripts/train_neon.py --backbone nvidia/Cosmos-Reason2-8B --output YOUR_USERNAME/neon-g1-cosmos-v1",
    f"{HUB_JOB} scripts/train_neon.py --backbone Qwen/Qwen2.5-Omni-3B --audio --output YOUR_USERNAME/neon-g1-edge-v1",
    f"{HUB_JOB} scripts/train_neon.py --backbone Qwen/Qwen2.5-Omni-7B --audio --epochs 5 --batch-size 2 --lr 1e-4"
    " --output YOUR_USERNAME/neon-g1-large-v1",
    "python scripts/train_neon.py --backbone Qwen/Qwen2.5-VL-3B-Instruct --mode arms_only --epochs 3 --batch-size 4"
    " --dataset lerobot/xvla-agibot-world --output YOUR_USERNAME/neon-g1-v1",
)
EVAL_LINES = (
    "python scripts/eval_neon.py --model YOUR_USERNAME/neon-g1-v1 --dataset lerobot/xvla-agibot-world --trajs 10",
    "python scripts/eval_neon.py --model YOUR_USERNAME/neon-g1-v1 --dataset lerobot/xvla-agibot-world --trajs 500"
    " --baselines --plot",
    f"{HUB_JOB} scripts/eval_neon.py --model YOUR_USERNAME/neon-g1-large-v1 --trajs 500 --baselines",
)


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


def test_only_the_asked_episodes_are_opened(tmp_path):
    data = write_episodes(tmp_path / "data", 3)
    (data / "episode_0001.npz").write_bytes(b"half a file")
    soup = open_dataset(str(data), "neon_sim", small_model(tmp_path), max_episodes=1)
    assert evaluate_offline(small_model(tmp_path), soup, trajectories=1).chunks == 3


def test_relative_steps_can_be_evaluated(tmp_path):
    steps = states_to_relative_actions(gripper_path(12), 20.0).astype(np.float32)
    data = foreign_lerobot(tmp_path / "arm", steps, fps=5.0)
    small_model(tmp_path).save_pretrained(tmp_path / "policy")
    line = ["--model", str(tmp_path / "policy"), "--dataset", str(data), "--out", str(tmp_path / "out")]
    load("eval_neon").main([*line, "--relative-actions"])
    assert json.loads((tmp_path / "out" / "offline.json").read_text())["trajectories"] == 1
    with pytest.raises(SystemExit, match="None of the columns of 'action'"):
        load("eval_neon").main(line)


def test_improvement_is_the_share_of_the_error_that_is_gone():
    result = OfflineResult({"total": 0.25}, {"total": 1.0}, {"total": 2.0}, 1, 1)
    assert result.improvement() == 0.75 and result.as_dict()["improvement_over_zero"] == {"total": 0.75}


def flags_of(line: str) -> list[str]:
    return shlex.split(line.partition(".py ")[2])


@pytest.mark.parametrize("line", TRAIN_LINES)
def test_the_documents_lines_train(line):
    script, flags = load("train_neon"), flags_of(line)
    config = script.config_from(script.parse(flags))
    config.check()
    told = dict(zip(flags, [*flags[1:], ""], strict=True))
    assert config.model.backbone.model_id == told["--backbone"] and config.hub_model_id == told["--output"]
    assert config.model.use_audio and config.push_to_hub and config.hub_private
    named = [source.path for source in config.data.sources]
    assert named[0] == "lerobot/xvla-agibot-world" and (len(named) == 1) == ("--dataset" in told)


@pytest.mark.parametrize("line", EVAL_LINES)
def test_the_documents_lines_evaluate(line):
    args = load("eval_neon").parse(flags_of(line))
    assert args.dataset == "lerobot/xvla-agibot-world" and args.dataset_type == "lerobot"
    assert args.trajs == (10 if line == EVAL_LINES[0] else 500)
    assert args.baselines == ("--baselines" in line) and args.plot == ("--plot" in line)


def test_the_scripts_carry_what_a_fresh_machine_has_to_install():
    for name in ("train_neon", "eval_neon"):
        head = (SCRIPTS / f"{name}.py").read_text().partition("# ///\n")[0].splitlines()
        assert head[0] == "# /// script"  # PEP 723
        assert f"scripts/{name}.py" not in "".join(
            line for line in (SCRIPTS / f"{name}.py").read_text().splitlines() if "hf jobs uv run --" in line
        )  # a job gets the script alone: docs/training.md
        told = tomllib.loads("\n".join(line.removeprefix("# ") for line in head[1:]))
        assert told["dependencies"] == ["neon-sim[train,vla,data]"]  # heads, backbones, and what reads data sets


def test_a_fresh_machine_fetches_the_data_it_is_asked_for(tmp_path):
    """Both scripts in processes whose hub is ours, which holds one small LeRobot data set."""
    data = foreign_lerobot(tmp_path / "data", angles(30, 14), names={"action": G1_ARMS}, fps=30.0)
    small_model(tmp_path).save_pretrained(tmp_path / "policy")
    code = "import sys\nsys.path[:0] = {!r}\nimport test_offline\n{}"
    places = [str(Path(__file__).parent)]
    evaluate = (
        f"test_offline.load('eval_neon').main(['--model', {str(tmp_path / 'policy')!r}, '--dataset', 'someone/neon'"
    )
    evaluate += f", '--trajs', '2', '--out', {str(tmp_path / 'eval')!r}])"
    with running_hub() as hub:
        hub.data = {str(path.relative_to(data)): path.read_bytes() for path in data.rglob("*") if path.is_file()}
        done = call(hub, tmp_path / "home", code.format(places, evaluate))
        assert done.returncode == 0, done.stderr
        train = "script = test_offline.load('train_neon')\n"
        train += "args = script.parse(['--backbone', 'compact', '--dataset', 'someone/neon'])\n"
        train += "print(script.with_data(script.config_from(args)).data.sources[0].path)"
        found = call(hub, tmp_path / "home", code.format(places, train))
        assert found.returncode == 0, found.stderr
        gone = call(hub, tmp_path / "home", code.format(places, evaluate.replace("someone/neon", "nobody/gone")))
        assert gone.returncode == 1 and gone.stderr.startswith("There is no data set 'nobody/gone'")
    assert json.loads((tmp_path / "eval" / "offline.json").read_text())["trajectories"] == 1
    assert (Path(found.stdout.strip()) / "meta" / "info.json").is_file()


def test_flags_change_the_preset():
    script = load("train_neon")
    line = "--backbone Qwen/Qwen2.5-VL-3B-Instruct --mode whole_body --epochs 5 --batch-size 2 --lr 1e-4 --audio"
    config = script.config_from(script.parse([*line.split(), "--output", "ME/neon-g1", "--dataset", "some/folder"]))
    assert config.model.backbone.model_id == "Qwen/Qwen2.5-VL-3B-Instruct" and config.model.use_audio
    assert (config.model.control_mode, config.epochs, config.batch_size) == ("whole_body", 5, 2)
    assert config.learning_rate == 1e-4 and config.data.sources[0].path == "some/folder"
    assert config.hub_model_id == "ME/neon-g1" and config.hub_private and config.output_dir == "runs/neon-g1"
    assert script.config_from(script.parse(["--output", "./here"])).hub_model_id is None
    for flag, name in (("--lr", "learning_rate"), ("--epochs", "epochs"), ("--batch-size", "batch_size")):
        with pytest.raises(ValueError, match=f"TrainConfig.{name} must be positive, got 0"):
            script.config_from(script.parse([flag, "0"])).check()
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
