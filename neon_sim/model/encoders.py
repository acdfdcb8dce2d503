"""Sensor encoders and their fusion: one small network per sense, one vector for the heads (paper, 3.2 and 3.4)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from neon_sim.names import nearest


class VectorEncoder(nn.Module):
    """A two-layer MLP with GELU on a standardised vector (eq. 2): proprioception, IMU, force, tactile, GPS alike.

    `mean` and `std` are buffers: they travel with the weights, and leave the input as it is until set.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, input_dim: int, output_dim: int, hidden_dim: int | None = None) -> None:
        super().__init__()
        self.input_dim, self.output_dim = input_dim, output_dim
        hidden_dim = hidden_dim or output_dim
        self.net = nn.Sequential(
            nn.Linear(input_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, output_dim), nn.GELU()
        )
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("std", torch.ones(input_dim))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the input's mean and standard deviation, each (input_dim,), in the input's units.

        A channel that never moved in the data (std 0) is only centred. Raises ValueError for another shape, or for
        values that are not finite, or a negative std.
        """
        values = [torch.as_tensor(value, dtype=self.mean.dtype, device=self.mean.device) for value in (mean, std)]
        for name, value in zip(("mean", "std"), values, strict=True):
            if value.shape != self.mean.shape or not bool(value.isfinite().all()):
                raise ValueError(
                    f"set_statistics wants a finite {name} of shape ({self.input_dim},), got shape "
                    f"{tuple(value.shape)}. Compute it over the training data's first axis."
                )
        if bool((values[1] < 0).any()):
            raise ValueError("set_statistics wants a std of 0 or more. Was the variance or the mean passed for it?")
        self.mean.copy_(values[0])
        self.std.copy_(torch.where(values[1] == 0, 1.0, values[1]))

    def forward(self, vector: Tensor) -> Tensor:
        """(B, input_dim), or any (B, ...) with as many entries, -> (B, output_dim). Raises ValueError for others."""
        flat = vector.flatten(1)
        if flat.shape[1] != self.input_dim:
            raise ValueError(f"{type(self).__name__} wants (B, {self.input_dim}), got {tuple(vector.shape)}.")
        return self.net((flat - self.mean) / self.std)


class ProprioEncoder(VectorEncoder):
    """Joint positions, velocities, torques, tracking error, IMU, last command: (B, input_dim) -> (B, 256)."""

    def __init__(self, input_dim: int, output_dim: int = 256, hidden_dim: int | None = None) -> None:
        super().__init__(input_dim, output_dim, hidden_dim)


class EefEncoder(VectorEncoder):
    """Both palms in the pelvis frame, position (m) and quaternion wxyz each: (B, 14) -> (B, 64)."""

    def __init__(self, input_dim: int = 14, output_dim: int = 64, hidden_dim: int | None = None) -> None:
        super().__init__(input_dim, output_dim, hidden_dim)


class LidarEncoder(nn.Module):
    """PointNet: one MLP shared by all points, a maximum over them, a projection. The order of points has no effect.

    A row of zeros is a ray that hit nothing and is left out; a cloud without a hit is encoded as a zero maximum.
    """

    def __init__(self, output_dim: int = 128, hidden_dim: int = 64, range_m: float = 10.0) -> None:
        """`range_m` is the distance that becomes 1 at the network's input; ours, about the size of a room."""
        super().__init__()
        self.output_dim = output_dim
        self.range_m = range_m
        self.point_net = nn.Sequential(
            nn.Linear(3, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, 2 * hidden_dim), nn.GELU()
        )
        self.proj = nn.Sequential(nn.Linear(2 * hidden_dim, output_dim), nn.GELU())

    def forward(self, points: Tensor) -> Tensor:
        """Points in metres, (B, N, 3) or flat (B, N*3) -> (B, output_dim). Raises ValueError for other shapes."""
        if points.dim() not in (2, 3) or points.shape[-1] % 3 or (points.dim() == 3 and points.shape[-1] != 3):
            raise ValueError(f"LidarEncoder wants (B, N, 3) or (B, N*3) points in metres, got {tuple(points.shape)}.")
        cloud = points.reshape(len(points), -1, 3)
        hit = (cloud != 0).any(dim=-1, keepdim=True)
        features = self.point_net(cloud / self.range_m).masked_fill(~hit, -torch.inf)
        pooled = torch.where(hit.any(dim=1), features.amax(dim=1), 0.0)
        return self.proj(pooled)


class FeatureFusion(nn.Module):
    """f = Dropout(GELU(W concat[features] + b)) (eq. 4), over whichever modalities are there.

    The concatenation follows the order of `dims`. A modality that is not given is zeros, and in training each sample
    loses a modality with the probability `modality_dropout` (one number, or one per name), so that a sensor missing on
    the day is nothing new.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        output_dim: int,
        dropout: float = 0.1,
        modality_dropout: float | Mapping[str, float] = 0.0,
    ) -> None:
        super().__init__()
        self.dims = dict(dims)
        self.modality_dropout = _probabilities(self.dims, modality_dropout)
        self.proj = nn.Linear(sum(self.dims.values()), output_dim)
        self.activation = nn.GELU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Name -> (B, dims[name]) for any non-empty subset of the names -> (B, output_dim)."""
        like = self._check(features)
        parts = [
            self._drop(name, features[name]) if name in features else like.new_zeros(len(like), width)
            for name, width in self.dims.items()
        ]
        return self.dropout(self.activation(self.proj(torch.cat(parts, dim=-1))))

    def _check(self, features: Mapping[str, Tensor]) -> Tensor:
        for name, value in features.items():
            if name not in self.dims:
                raise nearest("modality", name, tuple(self.dims))
            if value.dim() != 2 or value.shape[1] != self.dims[name]:
                raise ValueError(f"FeatureFusion wants {name} as (B, {self.dims[name]}), got {tuple(value.shape)}.")
        if not features:
            raise ValueError(f"FeatureFusion wants at least one of {tuple(self.dims)}, got none.")
        return next(iter(features.values()))

    def _drop(self, name: str, value: Tensor) -> Tensor:
        probability = self.modality_dropout[name]
        if not self.training or probability == 0.0:
            return value
        # No 1/(1-p) as in nn.Dropout: at run time a missing modality is zero and the others are not louder for it.
        lost = torch.rand(len(value), 1, device=value.device) < probability
        return value.masked_fill(lost, 0.0)


def _probabilities(dims: Mapping[str, int], given: float | Mapping[str, float]) -> dict[str, float]:
    if not isinstance(given, Mapping):
        given = dict.fromkeys(dims, given)
    for name, probability in given.items():
        if name not in dims:
            raise nearest("modality", name, tuple(dims))
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"modality_dropout wants probabilities in [0, 1], got {probability} for {name!r}.")
    return {name: given.get(name, 0.0) for name in dims}
