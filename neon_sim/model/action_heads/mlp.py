"""MLPDecoder: features to one action, with the paper's v2 layers (appendix B)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neon_sim.model.layers import Activation, ResidualScale, RMSNorm, relu_squared, soft_cap


class MLPDecoder(nn.Module):
    """`num_layers` Linear layers: one in, `num_layers - 2` residual ones of width hidden_dim, one out.

    Hidden layers are Linear, RMSNorm, ReLU squared. The last residual layer also reads the first layer's output
    (eq. 8), every residual has its own alpha (eq. 7), and the output is soft-capped (eq. 9). Dropout lies between
    hidden layers, after the skip is taken. With 3 layers the skip and the last hidden layer's input are the same
    tensor but for dropout: the first depth at which the skip adds information is 4.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        hidden_dim: int = 512,
        num_layers: int = 3,
        dropout: float = 0.1,
        use_relu_squared: bool = True,
        use_rmsnorm: bool = True,
        use_residual_scale: bool = True,
        use_skip_connections: bool = True,
        soft_cap_value: float = 1.0,
    ) -> None:
        super().__init__()
        if num_layers < 2:
            raise ValueError(f"MLPDecoder wants num_layers >= 2 (one in, one out), got {num_layers}.")
        self.use_skip_connections = use_skip_connections and num_layers >= 3
        self.soft_cap_value = soft_cap_value
        self.activation: Activation = relu_squared if use_relu_squared else F.gelu
        widths = [input_dim] + [hidden_dim] * (num_layers - 2)
        if self.use_skip_connections:
            widths[-1] = 2 * hidden_dim
        self.hidden = nn.ModuleList(nn.Linear(width, hidden_dim) for width in widths)
        self.norms = nn.ModuleList(RMSNorm(hidden_dim) if use_rmsnorm else nn.Identity() for _ in widths)
        self.residuals = nn.ModuleList(ResidualScale() for _ in widths[1:]) if use_residual_scale else None
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_dim, output_dim)

    def forward(self, features: Tensor) -> Tensor:
        """(..., input_dim) -> (..., output_dim) in (-soft_cap_value, soft_cap_value)."""
        return self.decode(self.hidden[0](features))

    def decode(self, first: Tensor) -> Tensor:
        """What follows the first Linear layer: its output (..., hidden_dim) -> (..., output_dim)."""
        skip = hidden = self.activation(self.norms[0](first))
        last = len(self.hidden) - 1
        for index in range(1, last + 1):
            residual = self.dropout(hidden)
            joined = torch.cat([residual, skip], dim=-1) if self.use_skip_connections and index == last else residual
            update = self.activation(self.norms[index](self.hidden[index](joined)))
            hidden = update + residual if self.residuals is None else self.residuals[index - 1](update, residual)
        return soft_cap(self.output(hidden), self.soft_cap_value)
