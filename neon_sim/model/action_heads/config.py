"""Sizes and switches of the action heads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from neon_sim.names import nearest

HEAD_TYPES: Final = ("chunking", "flow", "dit", "ensemble")
_POSITIVE = ("hidden_size", "action_dim", "num_action_steps", "mlp_hidden", "num_denoise_steps", "dit_hidden")
_NOT_NEGATIVE = ("soft_cap_value", "noise_beta_alpha", "token_dim", "goal_dim")


@dataclass(frozen=True)
class ActionHeadConfig:
    """The documents' fields and defaults, decision D15's two, and which head. All v2 switches off give a vanilla MLP.

    head_type "chunking" with use_action_chunking off is the documents' MLP head. The fields from num_denoise_steps on
    concern the heads that sample (flow, dit, ensemble); mlp_hidden is the flow head's width as well.
    """

    hidden_size: int = 2048  # width of the fused features that the heads read
    action_dim: int = 17  # G1ActionHead takes it from its action space
    num_action_steps: int = 16  # 320 ms at 50 Hz
    mlp_hidden: int = 512
    num_layers: int = 3  # Linear layers of a decoder, its output layer included
    dropout: float = 0.1
    use_separate_heads: bool = True  # one head per joint group
    use_action_chunking: bool = True  # False: one action, held over the chunk
    use_relu_squared: bool = True  # False: GELU
    use_rmsnorm: bool = True  # False: no normalisation (DiT: LayerNorm)
    use_residual_scale: bool = True  # False: residuals at scale one
    use_skip_connections: bool = True  # first hidden layer also feeds the last one, from 3 layers on
    soft_cap_value: float = 1.0  # 0: plain tanh
    group_weights: Mapping[str, float] = field(default_factory=dict)  # loss weight of a group; 1 where not named
    chunk_all_groups: bool = False  # whole_body: torso_head and legs get a chunk head too
    head_type: str = "chunking"  # one of HEAD_TYPES
    state_relative: bool = False  # predict differences to the current state
    num_denoise_steps: int = 4
    noise_beta_alpha: float = 0.0  # flow: 0 draws training times uniformly, 1.5 is pi0's schedule
    flow_layers: int = 4
    dit_hidden: int = 384
    dit_layers: int = 8
    dit_heads: int = 6
    token_dim: int = 0  # width of the backbone tokens for cross-attention; 0: none
    goal_dim: int = 0  # width of the goal token that joins them; 0: it does not

    def __post_init__(self) -> None:
        if self.head_type not in HEAD_TYPES:
            if self.head_type == "mlp":
                raise ValueError("The documents' MLP head is head_type='chunking' with use_action_chunking=False.")
            raise nearest("head type", self.head_type, HEAD_TYPES)
        self._check_numbers()
        if self.head_type == "chunking" and self.token_dim:
            raise ValueError(
                "ActionHeadConfig.token_dim wants a head that attends (flow, dit, ensemble), got chunking."
            )
        if self.head_type != "chunking" and not self.use_action_chunking:
            raise ValueError(f"A {self.head_type} head always predicts a chunk. Leave use_action_chunking on.")
        if self.goal_dim and not self.token_dim:
            raise ValueError("ActionHeadConfig.goal_dim adds a row to the backbone tokens: set token_dim as well.")

    def _check_numbers(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise ValueError(f"ActionHeadConfig.{name} wants at least 1, got {getattr(self, name)}.")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ValueError(f"ActionHeadConfig.{name} wants 0 or more, got {getattr(self, name)}.")
        if self.num_layers < 2:
            raise ValueError(f"ActionHeadConfig.num_layers wants 2 or more (input, output), got {self.num_layers}.")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"ActionHeadConfig.dropout wants a probability in [0, 1), got {self.dropout}.")
        wrong = {name: weight for name, weight in self.group_weights.items() if not weight >= 0.0}
        if wrong:
            raise ValueError(f"ActionHeadConfig.group_weights wants weights of 0 or more, got {wrong}.")
