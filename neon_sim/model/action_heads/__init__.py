"""Action heads: small decoders from one fused feature vector to a chunk of normalised actions."""

from neon_sim.model.action_heads.chunking import ActionChunkingHead, masked_mse
from neon_sim.model.action_heads.config import ActionHeadConfig
from neon_sim.model.action_heads.group import G1ActionHead
from neon_sim.model.action_heads.mlp import MLPDecoder

__all__ = ["ActionChunkingHead", "ActionHeadConfig", "G1ActionHead", "MLPDecoder", "masked_mse"]
