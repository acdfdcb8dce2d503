"""Every code fragment of Neon's documents runs, with `neon_sim` for `neon` and local folders for hub ids.

The calls are written anew here: the same names, keywords and numbers, one test for each fragment. The pages are not
part of the project; where they lie beside it, tests/test_seed_pages.py runs what stands on them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_folders import G1_ARMS, angles, bridge_folder, foreign_lerobot
from local_hub import call, running_hub
from source_files import cosmos_folder, voice_folder
from tiny_backbones import save_omni
from tiny_data import soup_of, write_episodes
from tiny_neon import noise_frames, tiny_config
from torch import Tensor

from neon_sim.data.data_soup import DataSoupConfig, DataSourceConfig
from neon_sim.model.action_heads import (
    ActionChunkingHead,
    ActionHeadConfig,
    DiTActionHead,
    DiTBlock,
    EnsembleHead,
    FlowMatchingHead,
    G1ActionHead,
    MLPDecoder,
    StateRelativeHead,
    masked_mse,
)
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.model.video_backbone import BackboneConfig
from neon_sim.training.config import TrainConfig, large_arms_config
from neon_sim.training.train import NeonTrainer

# The fragments, page by page, in order, and the test that runs each.
FRAGMENTS = {
    "training: large preset and trainer": "test_large_preset_and_trainer",
    "training: custom data soup": "test_custom_data_soup",
    "training: what gets saved": "test_what_gets_saved",
    "training: load a trained model": "test_load_a_trained_model",
    "training: push to hub manually": "test_push_to_hub_manually",
    "action heads: MLPDecoder": "test_mlp_decoder",
    "action heads: ActionChunkingHead": "test_action_chunking_head",
    "action heads: loss function": "test_loss_function",
    "action heads: configuration": "test_configuration",
    "action heads: backward compatibility": "test_backward_compatibility",
    "action heads: FlowMatchingHead": "test_flow_matching_head",
    "action heads: DiTActionHead": "test_dit_action_head",
    "action heads: DiTBlock": "test_dit_block",
    "action heads: StateRelativeHead": "test_state_relative_head",
    "action heads: EnsembleHead": "test_ensemble_head",
}


def test_each_fragment_has_its_test() -> None:
    tests = list(FRAGMENTS.values())
    assert len(set(tests)) == len(tests) and all(callable(globals()[test]) for test in tests)


def features(batch: int = 2) -> Tensor:
    """Fused features (batch, 2048), as wide as the documents' backbone."""
    return torch.randn(batch, 2048, generator=torch.Generator().manual_seed(0))


def chunk_and_mask(batch: int = 2) -> tuple[Tensor, Tensor]:
    """Target actions (batch, 16, 17) and a mask (batch, 16) whose last four steps are padding."""
    mask = torch.ones(batch, 16)
    mask[:, 12:] = 0.0
    return torch.rand(batch, 16, 17, generator=torch.Generator().manual_seed(1)) - 0.5, mask


@torch.no_grad()
def test_mlp_decoder() -> None:
    decoder = MLPDecoder(
        input_dim=2048,
        output_dim=14,
        hidden_dim=512,
        num_layers=3,
        dropout=0.1,
        use_relu_squared=True,
        use_rmsnorm=True,
        use_residual_scale=True,
        use_skip_connections=True,
        soft_cap_value=1.0,
    ).eval()
    actions = decoder(features())
    assert actions.shape == (2, 14) and 0.0 < float(actions.abs().max()) < 1.0


@torch.no_grad()
def test_action_chunking_head() -> None:
    head = ActionChunkingHead(input_dim=2048, action_dim=17, num_steps=16).eval()
    actions = head(features())
    assert actions.shape == (2, 16, 17) and head.step_embed.shape[0] == 16
    assert not torch.allclose(actions[:, 0], actions[:, 15])  # the same observation, two instants


def test_loss_function() -> None:
    target, mask = chunk_and_mask()
    predicted = torch.zeros_like(target)
    predicted[:, 12:] = 1e6  # in the padding
    assert float(masked_mse(predicted, target)) > 1e6
    torch.testing.assert_close(masked_mse(predicted, target, mask), target[:, :12].square().mean())  # D16
    weights = {"arms": 2.0, "locomotion": 1.0}  # "give arms 2x the loss weight"
    head = G1ActionHead(ActionHeadConfig(group_weights=weights), {"arms": slice(0, 14), "locomotion": slice(14, 17)})
    losses = head.group_losses(torch.zeros_like(target), target, mask)
    expected = (2.0 * losses["arms"] + losses["locomotion"]) / 3.0
    torch.testing.assert_close(head.weighted_loss(torch.zeros_like(target), target, mask), expected)


def test_configuration() -> None:
    config = ActionHeadConfig(
        hidden_size=2048,
        action_dim=17,
        num_action_steps=16,
        mlp_hidden=512,
        num_layers=3,
        dropout=0.1,
        use_separate_heads=True,
        use_action_chunking=True,
        use_relu_squared=True,
        use_rmsnorm=True,
        use_residual_scale=True,
        use_skip_connections=True,
        soft_cap_value=1.0,
    )
    assert config == ActionHeadConfig()  # "all on by default"


@torch.no_grad()
def test_backward_compatibility() -> None:
    config = ActionHeadConfig(
        use_relu_squared=False,
        use_rmsnorm=False,
        use_residual_scale=False,
        use_skip_connections=False,
        soft_cap_value=0.0,
    )
    head = G1ActionHead(config, {"arms": slice(0, 14), "locomotion": slice(14, 17)}).eval()
    parts = {part for name in head.state_dict() for part in name.split(".")}
    assert "hidden" in parts and not {"norms", "residuals"} & parts  # nothing to normalise or to scale with
    assert head.heads["arms"].decoder.activation is torch.nn.functional.gelu
    assert float(head(100.0 * features()).abs().max()) <= 1.0  # the hard tanh


def test_flow_matching_head() -> None:
    head = FlowMatchingHead(
        input_dim=2048,
        action_dim=17,
        num_steps=16,
        hidden_dim=512,
        num_layers=4,
        num_denoise_steps=4,
        soft_cap_value=1.0,
        noise_beta_alpha=0.0,
        use_cross_attention=False,
    )
    _learns_and_samples(head)
    attending = FlowMatchingHead(input_dim=64, action_dim=17, use_cross_attention=True, noise_beta_alpha=1.5)
    assert attending.context_dim == 64


def test_dit_action_head() -> None:
    head = DiTActionHead(
        input_dim=2048,
        action_dim=17,
        num_steps=16,
        hidden_dim=384,
        num_layers=8,
        num_heads=6,
        num_denoise_steps=4,
        soft_cap_value=1.0,
    )
    _learns_and_samples(head)


def _learns_and_samples(head: Any) -> None:
    target_actions, mask = chunk_and_mask()
    loss = head.compute_loss(features(), target_actions, mask)
    loss.backward()
    assert loss.dim() == 0 and float(loss.detach()) > 0.0
    assert any(p.grad is not None and bool(p.grad.any()) for p in head.parameters())
    with torch.no_grad():
        actions = head.eval().sample(features(), num_denoise_steps=4)
    assert actions.shape == (2, 16, 17) and bool(actions.isfinite().all())


@torch.no_grad()
def test_dit_block() -> None:
    block = DiTBlock(hidden_dim=384, num_heads=6, dropout=0.1, cross_attention_dim=2048).eval()
    tokens, condition, context = torch.randn(2, 16, 384), torch.randn(2, 384), torch.randn(2, 5, 2048)
    assert block(tokens, condition, context).shape == (2, 16, 384)


@torch.no_grad()
def test_state_relative_head() -> None:
    inner = ActionChunkingHead(input_dim=2048, action_dim=17, num_steps=16)
    head = StateRelativeHead(inner_head=inner, action_dim=17, num_steps=16).eval()
    joint_positions = 0.1 * torch.ones(2, 17)
    actions = head(features(), current_state=joint_positions)
    torch.testing.assert_close(actions, inner(features()) + joint_positions[:, None])
    assert sum(p.numel() for p in head.parameters()) == sum(p.numel() for p in inner.parameters())  # zero extra


@torch.no_grad()
def test_ensemble_head() -> None:
    head = EnsembleHead(
        input_dim=2048,
        action_dim=17,
        num_steps=16,
        mlp_hidden=512,
        flow_hidden=512,
        dit_hidden=384,
        dit_layers=8,
        dit_heads=6,
        flow_layers=4,
        num_denoise_steps=4,
    ).eval()
    assert head(features()).shape == (2, 16, 17)
    torch.testing.assert_close(head.shares(features()).sum(dim=-1), torch.ones(2))


def test_large_preset_and_trainer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = large_arms_config()
    assert config.model.backbone.model_id == "Qwen/Qwen2.5-Omni-7B"

    config.hub_model_id = "YOUR_USERNAME/neon-g1-large-v1"
    config.epochs = 5
    config.batch_size = 2

    # In the places of what has to be downloaded: a small backbone under the large heads, three episodes, no hub.
    heads = {name: getattr(config.model, name) for name in ("mlp_hidden", "action_head_layers")}
    config.model = tiny_config(tmp_path / "backbone", use_audio=False, use_lidar=False, **heads)
    config.data = soup_of(write_episodes(tmp_path / "data", 3, steps=16))
    config.output_dir, config.max_steps, config.gradient_accumulation = str(tmp_path / "run"), 1, 1
    config.push_to_hub, config.device, config.optim = False, "cpu", "adamw"

    trainer = NeonTrainer(config)
    stats = trainer.train()
    print(f"Best loss: {stats['best_loss']:.4f}")
    assert "Best loss: 0." in capsys.readouterr().out and stats["steps"] == 1


def test_custom_data_soup(tmp_path: Path) -> None:
    arms = foreign_lerobot(tmp_path / "agibot", angles(30, 14), names={"action": G1_ARMS}, fps=30.0)
    config = TrainConfig(
        model=NeonConfig(
            backbone=BackboneConfig(
                model_id="Qwen/Qwen2.5-Omni-7B",
                load_in_4bit=True,
                freeze_backbone=True,
            ),
            control_mode="arms_only",
            num_action_steps=16,
            mlp_hidden=2048,
            action_head_layers=8,
        ),
        data=DataSoupConfig(
            sources=[
                DataSourceConfig(
                    name="agibot",
                    type="lerobot",
                    path=str(arms),
                    weight=2.0,
                ),
                DataSourceConfig(
                    name="bridge",
                    type="lerobot",
                    path=str(bridge_folder(tmp_path / "bridge_v2")),
                    weight=1.0,
                ),
                DataSourceConfig(
                    name="cosmos-synth",
                    type="cosmos_dreamgen",
                    path=str(cosmos_folder(tmp_path / "GR1-100")),
                    weight=1.5,
                    use_relative_actions=True,
                    action_scaler=20.0,
                ),
                DataSourceConfig(
                    name="voice-cmds",
                    type="voice_commands",
                    path=str(voice_folder(tmp_path / "vlm-voice-commands")),
                    weight=0.3,
                ),
            ],
        ),
        epochs=5,
        batch_size=2,
        learning_rate=1e-4,
        push_to_hub=True,
        hub_model_id="YOUR_USERNAME/neon-g1-custom-v1",
    )
    # In the places of what has to be downloaded: a small backbone and small heads, one step, no hub.
    config.model = tiny_config(tmp_path / "backbone", use_audio=False, use_lidar=False)
    config.output_dir, config.max_steps, config.gradient_accumulation = str(tmp_path / "run"), 1, 1
    config.push_to_hub, config.device, config.optim, config.bf16 = False, "cpu", "adamw", False
    stats = NeonTrainer(config, progress=False).train()
    shares = {name: told["share"] for name, told in stats["sources"].items()}
    wanted = {"agibot": 2.0 / 4.8, "bridge": 1.0 / 4.8, "cosmos-synth": 1.5 / 4.8, "voice-cmds": 0.3 / 4.8}
    assert shares == pytest.approx(wanted) and np.isfinite(stats["best_loss"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for YOUR_USERNAME/neon-g1-v1: small heads on a tiny Omni that lies in a folder."""
    base = tmp_path_factory.mktemp("neon-g1-v1")
    backbone = BackboneConfig(model_id=str(save_omni(base / "omni")), load_in_4bit=True, freeze_backbone=True)
    NeonVLA(NeonConfig(backbone=backbone, mlp_hidden=24, proprioception_hidden=16)).save_pretrained(base / "policy")
    return base / "policy"


def test_what_gets_saved(trained: Path) -> None:
    files = {path.name for path in trained.iterdir()}
    assert {"config.json", "action_space.json", "neon_weights.safetensors"} <= files  # D12: no pickle
    assert json.loads((trained / "config.json").read_text())["control_mode"] == "arms_only"
    assert json.loads((trained / "action_space.json").read_text())["control_mode"] == "arms_only"


def test_load_a_trained_model(trained: Path) -> None:
    frame = noise_frames(1, 1, 64)[0, 0]
    model = NeonVLA.from_pretrained(str(trained))
    assert list(model.backbone.parameters()) == []
    model.load_backbone()
    assert list(model.backbone.parameters()) != []
    output = model.predict(image=frame, instruction="Pick up the cup")
    assert output.shape == (16, 17) and np.isfinite(output).all()


def test_push_to_hub_manually(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    code = "from huggingface_hub import HfApi\n"
    code += (
        f"HfApi().upload_folder(folder_path={str(trained)!r}, repo_id='YOUR_USERNAME/neon-g1-v1', repo_type='model')"
    )
    with running_hub() as hub:
        pushed = call(hub, tmp_path, code)
        assert pushed.returncode == 0, pushed.stderr
        files = {str(path.relative_to(trained)): path.read_bytes() for path in trained.rglob("*") if path.is_file()}
        assert hub.files == files and len(files) >= 4


def test_the_model_of_the_custom_data_soup(tmp_path: Path) -> None:
    model = NeonConfig(
        backbone=BackboneConfig(
            model_id="Qwen/Qwen2.5-Omni-7B",
            load_in_4bit=True,
            freeze_backbone=True,
        ),
        control_mode="arms_only",
        num_action_steps=16,
        mlp_hidden=2048,
        action_head_layers=8,
    )
    assert (model.backbone.max_frames, model.backbone.image_size) == (16, 224)
    large = NeonVLA(tiny_config(tmp_path, mlp_hidden=model.mlp_hidden, action_head_layers=model.action_head_layers))
    assert large.parameter_table()["action_head"] > 30_000_000


def test_the_switches_of_the_omnimodal_preset(tmp_path: Path) -> None:
    model = NeonVLA(tiny_config(tmp_path, control_mode="whole_body", use_lidar=True, use_eef=True, use_audio=True))
    assert model.senses == ("proprio", "eef", "lidar", "audio") and model.action_space.dim == 29
