"""Sizes of the latent world model, from the published one down to one that plans on two cores."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from neon_sim.names import nearest


@dataclass(frozen=True)
class LeWMConfig:
    """Everything that the weights' shapes and the loss depend on. The defaults are the `xs` size.

    One model step is 5 control ticks (0.1 s). An action is a task's command, in [-1, 1] by its limits, held over the
    step (`command_space.COMMAND_SPACES`): vx, vy and yaw rate where the robot walks, both palms' places (3 each) where
    it reaches. Never 29 joints x 5 ticks, and not the body's height: the walker keeps that, nobody plans it.
    """

    image_size: int = 64  # px, square
    patch_size: int = 8  # px
    grid: int = (
        0  # n x n places that the picture is read off, each with weights of its own; 0: the class token, published
    )
    dim: int = 128  # of the one token per frame; published ablation: success falls below about 184
    encoder_layers: int = 3
    encoder_heads: int = 2
    encoder_mlp: int = 384
    predictor_layers: int = 3
    predictor_heads: int = 2
    head_dim: int = 64
    predictor_mlp: int = 384
    projector_hidden: int = 256
    action_dim: int = 10  # Push-T's, five actions of two numbers; a task's own (3 or 6) comes from `model_config`
    action_hidden: int = 128
    action_width: int = 64  # of the embedding that modulates every layer; published: dim, a third of a small predictor
    proprio_dim: int = 125  # 0: pixels only, as published; a single frame carries no velocity
    proprio_hidden: int = 128
    proprio_dropout: float = 0.1  # chance that a training sequence lacks it: goals may be pictures alone
    felt_dim: int = 0  # entries of the token that proprioception alone has, the picture the others; 0: both share all
    positions: int = (
        16  # tokens that the predictor attends over, all of them trained: a rollout up to here is one cache
    )
    history: int = 3  # tokens that a longer rollout begins anew with
    dropout: float = 0.1  # in the predictor; published ablation: 78, 96, 85, 67 % at 0, .1, .2, .5
    prefix: bool = False  # also learn to predict from an action prefix without the latents between (Fast-LeWM)
    sigreg_weight: float = 0.1  # lambda; published: works in [.01, .2], collapses at .5
    sigreg_projections: int = 256  # published 1024, and 64 to 1024 hardly differ
    sigreg_knots: int = 17
    sigreg_range: float = 3.0  # the knots lie in [0, range]

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(f"patch_size must divide image_size, got {self.patch_size} and {self.image_size}.")
        if self.grid < 0 or (self.grid and self.image_size // self.patch_size % self.grid):
            raise ValueError(
                f"grid must divide the {self.image_size // self.patch_size} patches of a side, got {self.grid}."
            )
        if self.dim % self.encoder_heads:
            raise ValueError(f"encoder_heads must divide dim, got {self.encoder_heads} and {self.dim}.")
        if not 1 <= self.history <= self.positions:
            raise ValueError(f"history must be in 1..positions, got {self.history} of {self.positions}.")
        if not 0 <= self.felt_dim < self.dim or (self.felt_dim and not self.proprio_dim):
            raise ValueError(f"felt_dim must be below dim, and 0 without proprioception; got {self}.")
        if self.action_dim < 1 or self.proprio_dim < 0 or min(self.encoder_layers, self.predictor_layers) < 1:
            raise ValueError(f"A world model has layers and actions, and no negative widths; got {self}.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LeWMConfig":
        """Rebuild from `asdict`. Raises ValueError for a key that this version does not know."""
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                raise nearest("LeWMConfig field", name, known)
        return cls(**values)


_XS = LeWMConfig()
_PAPER = LeWMConfig(
    image_size=224,
    patch_size=14,
    dim=192,
    encoder_layers=12,
    encoder_heads=3,
    encoder_mlp=768,
    predictor_layers=6,
    predictor_heads=16,
    predictor_mlp=2048,
    projector_hidden=2048,
    action_hidden=768,
    action_width=192,
    proprio_dim=0,
    positions=3,  # as many as the history: the published window slides by one token, and no cache outlives a step
    sigreg_projections=1024,
)
SIZES: Mapping[str, LeWMConfig] = {
    "paper": _PAPER,
    "s": replace(
        _XS,
        image_size=96,
        patch_size=12,
        dim=192,
        encoder_layers=6,
        encoder_heads=3,
        encoder_mlp=768,
        predictor_layers=6,
        predictor_heads=3,
        predictor_mlp=768,
        projector_hidden=768,
        action_hidden=384,
        action_width=96,
        proprio_hidden=256,
    ),
    "xs": _XS,
    "tiny": replace(  # for tests and `--preset tiny`
        _XS,
        image_size=32,
        dim=32,
        encoder_layers=2,
        encoder_mlp=64,
        predictor_layers=2,
        head_dim=16,
        predictor_mlp=64,
        projector_hidden=64,
        action_hidden=32,
        action_width=32,
        proprio_hidden=32,
        positions=8,
        sigreg_projections=64,
    ),
}


def lewm_config(size: str = "xs", **overrides: Any) -> LeWMConfig:
    """The config of a named size, with any fields replaced.

    Published sizes: `paper` is ViT-Tiny at 224 px and the 6-layer predictor (the paper says 15 M, its released weights
    hold 18 M). `s` and `xs` are ours.

    Raises:
        ValueError: for a size or field that does not exist.
    """
    if size not in SIZES:
        raise nearest("world model size", size, SIZES)
    known = [f.name for f in fields(LeWMConfig)]
    for name in overrides:
        if name not in known:
            raise nearest("LeWMConfig field", name, known)
    return replace(SIZES[size], **overrides)
