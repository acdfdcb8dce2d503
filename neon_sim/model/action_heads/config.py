"""Sizes and switches of the standard action heads."""

from collections.abc import Mapping
from dataclasses import dataclass, field

_POSITIVE = ("hidden_size", "action_dim", "num_action_steps", "mlp_hidden")


@dataclass(frozen=True)
class ActionHeadConfig:
    """The documents' fields and defaults, then the two of decision D15. All v2 switches off give a vanilla MLP."""

    hidden_size: int = 2048  # width of the fused features that the heads read
    action_dim: int = 17  # G1ActionHead takes it from its action space
    num_action_steps: int = 16  # 320 ms at 50 Hz
    mlp_hidden: int = 512
    num_layers: int = 3  # Linear layers of a decoder, its output layer included
    dropout: float = 0.1
    use_separate_heads: bool = True  # one head per joint group
    use_action_chunking: bool = True  # False: one action, held over the chunk
    use_relu_squared: bool = True  # False: GELU
    use_rmsnorm: bool = True  # False: no normalisation
    use_residual_scale: bool = True  # False: residuals at scale one
    use_skip_connections: bool = True  # first hidden layer also feeds the last one, from 3 layers on
    soft_cap_value: float = 1.0  # 0: plain tanh
    group_weights: Mapping[str, float] = field(default_factory=dict)  # loss weight of a group; 1 where not named
    chunk_all_groups: bool = False  # whole_body: torso_head and legs get a chunk head too

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise ValueError(f"ActionHeadConfig.{name} wants at least 1, got {getattr(self, name)}.")
        if self.num_layers < 2:
            raise ValueError(f"ActionHeadConfig.num_layers wants 2 or more (input, output), got {self.num_layers}.")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"ActionHeadConfig.dropout wants a probability in [0, 1), got {self.dropout}.")
        if self.soft_cap_value < 0.0:
            raise ValueError(f"ActionHeadConfig.soft_cap_value wants 0 (tanh) or more, got {self.soft_cap_value}.")
        wrong = {name: weight for name, weight in self.group_weights.items() if not weight >= 0.0}
        if wrong:
            raise ValueError(f"ActionHeadConfig.group_weights wants weights of 0 or more, got {wrong}.")
