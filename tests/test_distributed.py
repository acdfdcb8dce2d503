"""Several processes: a backbone in shares learns as one whole does, is saved whole, and is taken up in shares again."""

import os
import runpy
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_train import tiny_training
from torch import nn

from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.video_backbone import BackboneConfig, VideoBackbone
from neon_sim.training.distributed import Team, gathered, join_team, share_of
from neon_sim.training.train import NeonTrainer
from neon_sim.training.train_config import TrainConfig

TESTS = Path(__file__).parent
ALONE = Team(0, 1, torch.device("cpu"))


def unfrozen_training(folder: Path, out: str, **changes) -> TrainConfig:
    """Heads and the tiny compact backbone trained together."""
    config = tiny_training(folder, out, feature_cache=None, max_steps=8, evaluate_every=4, **changes)
    config.model = replace(config.model, backbone=replace(config.model.backbone, freeze_backbone=False))
    return config


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import torch
from pathlib import Path
from test_distributed import unfrozen_training
from neon_sim.training.distributed import gathered, is_spread, local
from neon_sim.training.train import NeonTrainer
torch.set_num_threads(1)

def trainer_of(out):
    return NeonTrainer(unfrozen_training(Path({folder!r}), out, **{changes!r}), progress=False)

def weights(trainer):
    return torch.cat([p.reshape(-1) for p in gathered([p.detach() for p in trainer.params])])

trainer, losses = trainer_of({out!r}), []
update = trainer.update
trainer.update = lambda batch: losses.append(update(batch)) or losses[-1]
stats = trainer.train()
here = sum(local(p).numel() for p in trainer.spread)
result = dict(losses=losses, weights=weights(trainer), here=here, best=stats["best_loss"], parted=None)
if trainer.spread:
    first = trainer_of("parted")
    for _, micro_batches in zip(range(4), first._micro_batches(), strict=False):
        first.update(micro_batches)
    first.save()
    first.team.wait()
    second = trainer_of("parted")
    assert second.step == 4
    second.train()
    result["parted"] = weights(second)
if trainer.team.leads:
    torch.save(result, {result!r})
"""


def start(folder: Path, out: str, env: dict[str, str], **changes) -> subprocess.Popen:
    code = SCRIPT.format(
        tests=str(TESTS), folder=str(folder), out=out, changes=changes, result=str(folder / f"{out}.pt")
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    return subprocess.Popen([sys.executable, "-c", code], env=environment)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.slow
def test_a_backbone_in_shares_learns_as_one_process_with_twice_the_batch(tmp_path):
    unfrozen_training(tmp_path, "any")  # writes data and backbone
    alone = start(tmp_path, "alone", {}, batch_size=8)
    assert alone.wait(timeout=400) == 0
    team = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    both = [
        start(tmp_path, "team", {"RANK": str(rank), "LOCAL_RANK": str(rank), **team}, batch_size=4, shard_backbone=True)
        for rank in range(2)
    ]
    assert [process.wait(timeout=600) for process in both] == [0, 0]
    one, two = (torch.load(tmp_path / f"{name}.pt") for name in ("alone", "team"))
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-5)
    torch.testing.assert_close(two["weights"].sort().values, one["weights"].sort().values, rtol=0, atol=2e-5)
    assert two["best"] == pytest.approx(one["best"], rel=1e-4)
    assert torch.equal(two["parted"], two["weights"])
    state = torch.load(tmp_path / "team" / "state.pt", weights_only=True)
    whole = sum(value.numel() for value in state["adapter"])
    assert one["here"] == 0 and whole / 2 <= two["here"] < 0.55 * whole
    kept = NeonVLA.from_pretrained(tmp_path / "team" / "last").backbone.parameters()
    assert all(torch.equal(param, value.half().float()) for param, value in zip(kept, state["adapter"], strict=True))


def test_a_trained_adapter_lies_below_the_checkpoint(tmp_path):
    pytest.importorskip("peft")
    from tiny_backbones import SAVERS, tiny_clips

    qwen = {"max_frames": 4, "image_size": 60, "load_in_4bit": False, "dtype": "float32", "device": "cpu"}
    frozen = BackboneConfig(str(SAVERS["qwen_vl"](tmp_path / "qwen")), **qwen)
    config = tiny_training(tmp_path, feature_cache=None, max_steps=2, batch_size=2, learning_rate=1e-2)
    config.model = replace(config.model, backbone=replace(frozen, freeze_backbone=False, lora_rank=4))
    trainer = NeonTrainer(config, progress=False)
    trainer.train()
    with torch.no_grad():
        learned = trainer.model.backbone.eval()(tiny_clips(), ["wave", "press"]).pooled
        before = VideoBackbone.from_config(frozen)(tiny_clips(), ["wave", "press"]).pooled
        adapter = str(tmp_path / "run" / "last" / "adapter")
        after = VideoBackbone.from_config(replace(frozen, adapter=adapter))(tiny_clips(), ["wave", "press"]).pooled
    torch.testing.assert_close(after, learned)
    assert float((after - before).abs().max()) > 1e-4
    assert (tmp_path / "run" / "best" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_process_that_is_alone_has_everything():
    module = nn.Linear(3, 2)
    ALONE.spread(module)
    assert type(module.weight) is nn.Parameter and ALONE.most(3) == 3 and join_team("cpu") == ALONE
    tensors = {"a": [torch.ones(2), 1.5], "b": {"c": torch.zeros(1)}}
    same = gathered(tensors)
    assert same["a"][0] is tensors["a"][0] and same["a"][1] == 1.5 and same["b"]["c"] is tensors["b"]["c"]
    assert share_of(tensors["a"][0], module.bias) is tensors["a"][0]


def test_a_gradient_is_shortened_to_its_length():
    params = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
    params[0].grad, params[1].grad = torch.tensor([2.0, 3.0]), torch.tensor([6.0])  # 2, 3, 6: of length 7
    ALONE.clip_gradients(params, 0.7)
    assert params[0].grad.tolist() == pytest.approx([0.2, 0.3], rel=1e-5)
    assert params[1].grad.tolist() == pytest.approx([0.6], rel=1e-5)


def test_weights_of_four_bits_are_not_cut():
    module = nn.Linear(3, 2)
    module.weight = nn.Parameter(torch.zeros(3, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ValueError, match="weight is not. Set BackboneConfig.load_in_4bit to False"):
        Team(0, 2, torch.device("cpu")).spread(module)


def test_what_cannot_be_in_shares_is_refused(tmp_path):
    frozen = tiny_training(tmp_path, shard_backbone=True)
    with pytest.raises(ValueError, match="shard_backbone is for a backbone that is trained"):
        frozen.check()
    for change in ({"optim": "paged_adamw_8bit"}, {"ema_decay": 0.9}):
        with pytest.raises(ValueError, match="wants optim 'adamw' and ema_decay 0"):
            unfrozen_training(tmp_path, "run", shard_backbone=True, **change).check()


def test_the_command_line_asks_for_it():
    script = SimpleNamespace(**runpy.run_path(str(TESTS.parent / "scripts" / "train_neon.py"), run_name="script"))
    line = ["--backbone", "Qwen/Qwen2.5-VL-3B-Instruct", "--lora", "--shard-backbone"]
    config = script.config_from(script.parse(line))
    config.check()
    assert config.shard_backbone and not config.model.backbone.freeze_backbone and config.feature_cache is None
    assert not script.config_from(script.parse([])).shard_backbone


def test_a_run_from_before_there_was_a_choice_goes_on(tmp_path):
    assert not {"shard_backbone", "reworded"} & set(tiny_training(tmp_path).decides())
    assert tiny_training(tmp_path, reworded=0.5).decides()["reworded"] == 0.5
    assert unfrozen_training(tmp_path, "run", shard_backbone=True).decides()["shard_backbone"] is True
