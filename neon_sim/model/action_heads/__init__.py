"""Action heads: small decoders from one fused feature vector to a chunk of normalised actions."""

from neon_sim.model.action_heads.chunking import ActionChunkingHead, masked_mse
from neon_sim.model.action_heads.config import HEAD_TYPES, ActionHeadConfig
from neon_sim.model.action_heads.denoising import DenoisingHead
from neon_sim.model.action_heads.dit import DiTActionHead, DiTBlock
from neon_sim.model.action_heads.ensemble import EnsembleHead
from neon_sim.model.action_heads.flow import FlowMatchingHead
from neon_sim.model.action_heads.group import G1ActionHead
from neon_sim.model.action_heads.guide import Guide
from neon_sim.model.action_heads.mlp import MLPDecoder
from neon_sim.model.action_heads.state_relative import StateRelativeHead

__all__ = [
    "HEAD_TYPES",
    "ActionChunkingHead",
    "ActionHeadConfig",
    "DenoisingHead",
    "DiTActionHead",
    "DiTBlock",
    "EnsembleHead",
    "FlowMatchingHead",
    "G1ActionHead",
    "Guide",
    "MLPDecoder",
    "StateRelativeHead",
    "masked_mse",
]
