"""One group's head, of the kind that the config names."""

from typing import Any, Final

from torch import nn

from neon_sim.model.action_heads.chunking import ActionChunkingHead
from neon_sim.model.action_heads.config import ActionHeadConfig
from neon_sim.model.action_heads.dit import DiTActionHead
from neon_sim.model.action_heads.ensemble import EnsembleHead
from neon_sim.model.action_heads.flow import FlowMatchingHead
from neon_sim.model.action_heads.mlp import MLPDecoder
from neon_sim.model.action_heads.state_relative import StateRelativeHead

CHUNKED_GROUPS: Final = ("arms", "locomotion")  # the documents' diagram; the other groups hold one action (D15)
SINGLE_HEAD: Final = "all"  # key of the only head when use_separate_heads is off


def build_head(config: ActionHeadConfig, name: str, width: int) -> nn.Module:
    """The head of group `name`, `width` actions wide; a group that does not predict a chunk gets an MLPDecoder."""
    chunked = config.use_action_chunking and (name in (*CHUNKED_GROUPS, SINGLE_HEAD) or config.chunk_all_groups)
    head = _CHUNK_HEADS[config.head_type](config, width) if chunked else _decoder(config, width)
    return StateRelativeHead(head, width, config.num_action_steps) if config.state_relative else head


def _switches(config: ActionHeadConfig) -> dict[str, Any]:
    return {
        "dropout": config.dropout,
        "use_relu_squared": config.use_relu_squared,
        "use_rmsnorm": config.use_rmsnorm,
        "use_residual_scale": config.use_residual_scale,
        "soft_cap_value": config.soft_cap_value,
    }


def _standard(config: ActionHeadConfig) -> dict[str, Any]:
    return {
        "hidden_dim": config.mlp_hidden,
        "num_layers": config.num_layers,
        "use_skip_connections": config.use_skip_connections,
        **_switches(config),
    }


def _decoder(config: ActionHeadConfig, width: int) -> nn.Module:
    return MLPDecoder(config.hidden_size, width, **_standard(config))


def _chunking(config: ActionHeadConfig, width: int) -> nn.Module:
    return ActionChunkingHead(config.hidden_size, width, config.num_action_steps, **_standard(config))


def _flow(config: ActionHeadConfig, width: int) -> nn.Module:
    return FlowMatchingHead(
        config.hidden_size,
        width,
        config.num_action_steps,
        config.mlp_hidden,
        config.flow_layers,
        config.num_denoise_steps,
        noise_beta_alpha=config.noise_beta_alpha,
        use_cross_attention=config.token_dim > 0,
        cross_attention_dim=config.token_dim or None,
        use_skip_connections=config.use_skip_connections,
        **_switches(config),
    )


def _dit(config: ActionHeadConfig, width: int) -> nn.Module:
    return DiTActionHead(
        config.hidden_size,
        width,
        config.num_action_steps,
        config.dit_hidden,
        config.dit_layers,
        config.dit_heads,
        config.num_denoise_steps,
        cross_attention_dim=config.token_dim or None,
        **_switches(config),
    )


def _ensemble(config: ActionHeadConfig, width: int) -> nn.Module:
    return EnsembleHead(
        config.hidden_size,
        width,
        config.num_action_steps,
        mlp_hidden=config.mlp_hidden,
        flow_hidden=config.mlp_hidden,
        dit_hidden=config.dit_hidden,
        dit_layers=config.dit_layers,
        dit_heads=config.dit_heads,
        flow_layers=config.flow_layers,
        num_denoise_steps=config.num_denoise_steps,
        mlp_layers=config.num_layers,
        noise_beta_alpha=config.noise_beta_alpha,
        cross_attention_dim=config.token_dim or None,
        use_skip_connections=config.use_skip_connections,
        **_switches(config),
    )


# Keys are config.HEAD_TYPES; a test compares them.
_CHUNK_HEADS: Final = {"chunking": _chunking, "flow": _flow, "dit": _dit, "ensemble": _ensemble}
