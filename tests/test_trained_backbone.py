"""What was trained of a backbone stays with the heads: in the folder, in a copy of it, and on the hub."""

import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from local_hub import call, running_hub
from test_train import tiny_training
from tiny_backbones import save_qwen_vl, save_tribe_encoders, tiny_clips
from tiny_neon import noise_frames, tiny_config
from torch import nn

from neon_sim.model.backbones.trained import TRAINED_FILES
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.model.video_backbone import BackboneConfig
from neon_sim.training.distributed import gathered, is_spread, keep_shares
from neon_sim.training.train import NeonTrainer
from neon_sim.training.train_parts import write_spread

WORDS = ["wave", "press"]
SMALL: dict[str, Any] = {"mlp_hidden": 16, "proprioception_hidden": 16, "use_lidar": False, "use_audio": False}
LOADED: dict[str, Any] = {"max_frames": 4, "load_in_4bit": False, "dtype": "float32", "device": "cpu"}
pytestmark = pytest.mark.filterwarnings("ignore:The cross-modal transformer of this TRIBEv2 is untrained")


def trained(config: BackboneConfig) -> NeonVLA:
    """Heads on a backbone that learns, with noise in the place of what it would have learned."""
    torch.manual_seed(0)
    model = NeonVLA(NeonConfig(backbone=replace(config, freeze_backbone=False), **SMALL))
    model.load_backbone()
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


@torch.no_grad()
def pooled(model: NeonVLA) -> torch.Tensor:
    return model.backbone.eval()(tiny_clips(), WORDS).pooled


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> BackboneConfig:
    pytest.importorskip("peft")
    return BackboneConfig(str(save_qwen_vl(tmp_path_factory.mktemp("qwen"))), image_size=56, lora_rank=4, **LOADED)


@pytest.fixture(scope="module")
def lora(qwen: BackboneConfig) -> NeonVLA:
    return trained(qwen)


def test_an_adapter_comes_back_with_the_heads_frozen(lora: NeonVLA, qwen: BackboneConfig, tmp_path: Path) -> None:
    lora.save_pretrained(tmp_path / "best")
    assert {path.name for path in (tmp_path / "best" / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors"
    }  # fmt: skip
    again = NeonVLA.from_pretrained(tmp_path / "best")
    torch.testing.assert_close(pooled(again), pooled(lora))
    assert not any(parameter.requires_grad for parameter in again.backbone.parameters())
    base = NeonVLA(NeonConfig(backbone=qwen, **SMALL))
    assert float((pooled(again) - pooled(base)).abs().max()) > 1e-3  # noise of 0.3 is not nothing


def test_what_the_trainer_leaves_is_what_it_trained(qwen: BackboneConfig, tmp_path: Path) -> None:
    config = tiny_training(tmp_path, feature_cache=None, max_steps=2, batch_size=2, learning_rate=1e-2)
    config.model = replace(config.model, backbone=replace(qwen, freeze_backbone=False))
    trainer = NeonTrainer(config, progress=False)
    trainer.train()
    learned, base = pooled(trainer.model), NeonVLA(NeonConfig(backbone=qwen, **SMALL))
    last = NeonVLA.from_pretrained(config.folder / "last")
    torch.testing.assert_close(pooled(last), learned)
    assert float((learned - pooled(base)).abs().max()) > 1e-4
    assert (config.folder / "best" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_copy_needs_nothing_of_where_it_was_copied_from(lora: NeonVLA, tmp_path: Path) -> None:
    lora.save_pretrained(tmp_path / "run")
    NeonVLA.from_pretrained(tmp_path / "run").save_pretrained(tmp_path / "copy")  # its weights were never read
    told = (tmp_path / "copy" / "config.json").read_text()
    assert json.loads(told)["backbone"]["adapter"] == "adapter" and str(tmp_path) not in told
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "copy").rename(tmp_path / "moved")
    moved = NeonVLA.from_pretrained(tmp_path / "moved")
    torch.testing.assert_close(pooled(moved), pooled(lora))
    moved.save_pretrained(tmp_path / "moved")  # onto itself
    torch.testing.assert_close(pooled(NeonVLA.from_pretrained(tmp_path / "moved")), pooled(lora))


def test_an_adapter_goes_to_the_hub_and_comes_back(lora: NeonVLA, tmp_path: Path) -> None:
    lora.save_pretrained(tmp_path / "best")
    model = "from neon_sim.model.neon_vla import NeonVLA\nNeonVLA.from_pretrained"
    with running_hub() as hub:
        pushed = call(hub, tmp_path / "home", f"{model}({str(tmp_path / 'best')!r}).push_to_hub('someone/neon')")
        assert pushed.returncode == 0, pushed.stderr
        assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"} < set(hub.files)
        shutil.move(tmp_path / "best", tmp_path / "away")
        copied = call(hub, tmp_path / "new", f"{model}('someone/neon').save_pretrained({str(tmp_path / 'copy')!r})")
        assert copied.returncode == 0, copied.stderr
    torch.testing.assert_close(pooled(NeonVLA.from_pretrained(tmp_path / "copy")), pooled(lora))


def test_a_trained_tribe_keeps_its_cross_modal_transformer(tmp_path: Path) -> None:
    folder = save_tribe_encoders(tmp_path / "tribe")
    model = trained(BackboneConfig("TRIBEv2", str(folder), **LOADED))
    model.save_pretrained(tmp_path / "best")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # neither untrained nor missing
        again = NeonVLA.from_pretrained(tmp_path / "best")
    torch.testing.assert_close(pooled(again), pooled(model))
    assert not any(parameter.requires_grad for parameter in again.backbone.parameters())
    again.save_pretrained(tmp_path / "copy")
    torch.testing.assert_close(pooled(NeonVLA.from_pretrained(tmp_path / "copy")), pooled(model))


def test_a_trained_compact_backbone_is_kept_in_16_bits(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "backbone").backbone
    model = trained(config)
    model.save_pretrained(tmp_path / "best")
    again = NeonVLA.from_pretrained(tmp_path / "best")
    for name, value in model.backbone.state_dict().items():
        kept = value.half().float() if value.is_floating_point() else value
        assert torch.equal(again.backbone.state_dict()[name], kept), name
    frames = noise_frames(1, 4, 128)[0]
    near, far = (
        NeonVLA.from_pretrained(tmp_path / "best", backbone=b).predict(frames, "wave") for b in backbones(again)
    )
    assert abs(near - again.predict(frames, "wave")).max() == 0.0 and abs(far - near).max() > 0.0


def backbones(model: NeonVLA) -> tuple[Any, Any]:
    """Its own backbone, and another one of that shape."""
    other = type(model.backbone)(model.backbone.config).eval()
    for module in other.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.2)
    return model.backbone, other


def test_who_has_lost_it_is_told(lora: NeonVLA, tmp_path: Path) -> None:
    lora.save_pretrained(tmp_path / "best")
    told = json.loads((tmp_path / "best" / "config.json").read_text())
    told["backbone"]["adapter"] = None  # as checkpoints were written before
    (tmp_path / "best" / "config.json").write_text(json.dumps(told))
    torch.testing.assert_close(pooled(NeonVLA.from_pretrained(tmp_path / "best")), pooled(lora))
    shutil.rmtree(tmp_path / "best" / "adapter")
    with pytest.warns(UserWarning, match="holds neither adapter/ nor backbone/"):
        NeonVLA.from_pretrained(tmp_path / "best")


def test_a_backbone_as_it_came_is_not_written(tmp_path: Path) -> None:
    NeonVLA(tiny_config(tmp_path / "backbone")).save_pretrained(tmp_path / "policy")
    assert not [name for name in TRAINED_FILES if (tmp_path / "policy" / name).exists()]
    told = json.loads((tmp_path / "policy" / "config.json").read_text())
    assert told["backbone"]["weights"] == str(tmp_path / "backbone")


# --- weights that lie in shares on several processes; a team of one cuts them as any other does ---------------------


@pytest.fixture
def team_of_one() -> Iterator[Any]:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("family", ["compact", "tribe", "qwen"])
def test_a_spread_backbone_is_written_whole(
    family: str, qwen: BackboneConfig, team_of_one: Any, tmp_path: Path
) -> None:
    from torch.distributed.fsdp import fully_shard

    config = {
        "compact": lambda: tiny_config(tmp_path / "compact").backbone,
        "tribe": lambda: BackboneConfig("TRIBEv2", str(save_tribe_encoders(tmp_path / "tribe")), **LOADED),
        "qwen": lambda: qwen,
    }[family]()
    model = trained(config)
    learned = [param.detach().clone() for param in model.backbone.parameters() if param.requires_grad]
    fully_shard(model.backbone, mesh=team_of_one)
    with torch.no_grad():
        model.backbone.eval()(torch.from_numpy(noise_frames(2, 4, 128)), WORDS)
    assert not all(is_spread(param) for param in model.backbone.parameters())  # as an evaluation leaves them
    keep_shares(model.backbone)
    shares = [param.detach() for param in model.backbone.parameters() if param.requires_grad]
    assert shares and all(map(is_spread, shares))
    write_spread(model.backbone, gathered(shares), tmp_path / "last")
    model.save_pretrained(tmp_path / "last")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # neither untrained nor missing
        again = NeonVLA.from_pretrained(tmp_path / "last")
    again.load_backbone()
    names = [name for name, param in model.backbone.named_parameters() if param.requires_grad]
    have = dict(again.backbone.named_parameters())
    for name, value in zip(names, learned, strict=True):
        kept = value.half().float() if family == "compact" else value
        assert torch.equal(have[name], kept), name
    assert not list((tmp_path / "last").glob("**/*.partial")) and len(list((tmp_path / "last").iterdir())) == 5


def test_a_whole_backbone_is_left_to_save_pretrained(lora: NeonVLA, tmp_path: Path) -> None:
    learned = [param.detach() for param in lora.backbone.parameters() if param.requires_grad]
    write_spread(lora.backbone, learned, tmp_path / "last")
    assert learned and not (tmp_path / "last").exists()
