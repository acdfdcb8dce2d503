"""The command line that starts several processes: they learn what one process with all their samples learns."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_distributed import unfrozen_training
from test_offline import SCRIPTS, load

from neon_sim.training.config import PRESETS
from neon_sim.training.train_config import TrainConfig

TESTS = Path(__file__).parent
# scripts/train_neon.py with one preset more.
SCRIPT = """
import runpy, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from neon_sim.training.config import PRESETS
from test_torchrun import five_steps
PRESETS["five_steps"] = lambda: five_steps(Path({folder!r}))
runpy.run_path({script!r}, run_name="__main__")
"""


def five_steps(folder: Path) -> TrainConfig:
    """Heads and the tiny compact backbone, without noise: each process draws its own."""
    config = unfrozen_training(folder, "run")
    config.max_steps, config.evaluate_every, config.gradient_accumulation = 5, 1, 1
    return config


def test_torchrun_of_two_is_one_process_with_twice_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "five_steps", lambda: five_steps(tmp_path))
    load("train_neon").main(["--preset", "five_steps", "--batch-size", "8", "--output", str(tmp_path / "alone")])
    script = tmp_path / "five_steps.py"
    script.write_text(SCRIPT.format(tests=str(TESTS), folder=str(tmp_path), script=str(SCRIPTS / "train_neon.py")))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    line = ["--nproc-per-node", "2", str(script), "--preset", "five_steps", "--batch-size", "4"]
    done = subprocess.run(
        [*torchrun, *line, "--output", str(tmp_path / "team")], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Best loss") == 1  # one of them speaks
    logs = [
        [json.loads(line) for line in (tmp_path / out / "log.jsonl").read_text().splitlines()]
        for out in ("alone", "team")
    ]
    for name, tolerance in (("step", 0.0), ("train_loss", 1e-5), ("mse", 1e-4)):
        one, two = ([line[name] for line in log] for log in logs)
        assert len(one) == 5
        np.testing.assert_allclose(two, one, rtol=tolerance)
    one, two = (load_file(tmp_path / out / "last" / "neon_weights.safetensors") for out in ("alone", "team"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0.0, atol=2e-5, msg=lambda said, name=name: f"{name}: {said}")
    eyes = [load_file(tmp_path / out / "last" / "backbone" / "backbone.safetensors") for out in ("alone", "team")]
    torch.testing.assert_close(eyes[1], eyes[0], rtol=2e-3, atol=2e-3)  # 16 bits a weight
