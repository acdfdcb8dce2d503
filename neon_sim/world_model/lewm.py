"""LeWorldModel (Maes et al. 2026, arXiv 2603.19312): one token per frame, the next one predicted, nothing decoded.

L = mean (predicted z_{t+1} - z_{t+1})^2 + lambda SIGReg(z), end to end: no averaged copy of the encoder, and the
gradient flows into the target as well. Ours: proprioception as a second input, more positions, action prefixes, and one
more loss on the latents where a training asks for it.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from neon_sim.world_model.config import LeWMConfig
from neon_sim.world_model.encoder import Projector, ProprioEncoder, VisionEncoder
from neon_sim.world_model.predictor import Predictor
from neon_sim.world_model.sigreg import sigreg

WEIGHTS_FILE = "world_model.safetensors"
_AT_ONCE: Final = 256  # pictures that a CPU encodes together: a fifth faster than 2000, which its caches do not hold
Distance = Callable[[Tensor], Tensor]  # imagined latents (B, N, H, D) -> how far from the goal, (B, N, H)


class LeWMLoss(NamedTuple):
    """One batch's loss and its parts, scalars; `total` is what to differentiate."""

    total: Tensor
    prediction: Tensor  # teacher-forced
    prefix: Tensor  # told from the actions alone; 0 without `prefix`
    sigreg: Tensor
    extra: Tensor  # what the caller's own loss says of the latents; 0 without one


class LeWM(nn.Module):
    """Encoder, projector and predictor of one world."""

    def __init__(self, config: LeWMConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LeWMConfig()
        self.encoder = VisionEncoder(config)
        if config.proprio_dim:
            self.proprio = ProprioEncoder(config)
        senses = 2 if config.proprio_dim and not config.felt_dim else 1
        self.projector = Projector(senses * config.dim, config.projector_hidden, config.dim - config.felt_dim)
        if config.felt_dim:
            self.felt_projector = Projector(config.dim, config.projector_hidden, config.felt_dim)
        self.predictor = Predictor(config)

    def encode(self, frames: Tensor, proprio: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """Frames (B, T, S, S, 3) uint8, or what the encoder saw in them (B, T, D) float, and proprioception (B, T, P)
        -> latents z (B, T, D).

        proprio None: a picture alone (a goal, say). keep (B, 1) or (B, T) bool: False hides proprioception there.
        Raises ValueError for proprioception that the model has no input for, or of another shape.
        """
        batch, length = frames.shape[:2]
        seen = frames if frames.ndim == 3 else self._seen(frames)
        if seen.shape[-1] != self.config.dim:
            raise ValueError(f"What was seen wants {self.config.dim} numbers a frame, got {tuple(frames.shape)}.")
        wanted = (batch, length, self.config.proprio_dim)
        if proprio is not None and (not self.config.proprio_dim or proprio.shape != wanted):
            raise ValueError(f"This world model wants proprio {wanted} (width 0: none), got {tuple(proprio.shape)}.")
        if not self.config.proprio_dim:
            return self.projector(seen)
        felt = self.proprio(proprio, (batch, length), keep)
        if self.config.felt_dim:
            return torch.cat([self.projector(seen), self.felt_projector(felt)], dim=-1)
        return self.projector(torch.cat([seen, felt], dim=-1))

    def _seen(self, frames: Tensor) -> Tensor:
        flat = frames.flatten(0, 1)
        at_once = _AT_ONCE if frames.device.type == "cpu" else len(flat)
        return torch.cat([self.encoder(some) for some in flat.split(at_once)]).view(*frames.shape[:2], -1)

    def loss(
        self,
        frames: Tensor,
        actions: Tensor,
        proprio: Tensor | None,
        generator: torch.Generator,
        extra: Callable[[Tensor], Tensor] | None = None,
    ) -> LeWMLoss:
        """Training loss of sequences.

        frames as `encode` takes them, actions (B, T - 1, A) between them in [-1, 1], proprio (B, T, P) or None. T is at
        most positions + 1. The generator draws SIGReg's directions, hidden proprioception and the prefixes' lengths.
        extra: a loss of one's own of the latents (B, T, D), added to the total; a scalar.
        """
        keep = None
        if proprio is not None and self.config.proprio_dropout:
            chance = torch.rand(len(frames), 1, generator=generator, device=generator.device)
            keep = (chance >= self.config.proprio_dropout).to(frames.device)
        latents = self.encode(frames, proprio, keep)
        config = self.config
        regularity = self._regularity(latents, generator)
        prediction = (self.predictor(latents[:, :-1], actions) - latents[:, 1:]).square().mean()
        prefix = self._prefix_loss(latents, actions, generator) if config.prefix else torch.zeros_like(prediction)
        error = 0.5 * (prediction + prefix) if config.prefix else prediction
        asked = extra(latents) if extra else torch.zeros_like(prediction)
        return LeWMLoss(error + config.sigreg_weight * regularity + asked, prediction, prefix, regularity, asked)

    def _regularity(self, latents: Tensor, generator: torch.Generator) -> Tensor:
        """SIGReg, of the picture's entries and of those of proprioception each on its own where they are apart."""
        config, parts = self.config, [latents]
        if config.felt_dim:
            parts = [latents[..., : -config.felt_dim], latents[..., -config.felt_dim :]]
        draws = (config.sigreg_projections, generator, config.sigreg_knots, config.sigreg_range)
        return torch.stack([sigreg(part, *draws) for part in parts]).sum()

    def _prefix_loss(self, latents: Tensor, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Error where only the first k latents are known, k drawn anew for each sequence, and all the actions are."""
        batch, steps = actions.shape[:2]
        known = torch.randint(1, steps + 1, (batch, 1), generator=generator, device=generator.device).to(actions.device)
        place = torch.arange(steps, device=actions.device)
        told = self.predictor(latents[:, :-1], actions, place < known)
        counts = (place >= known - 1).unsqueeze(-1)
        error = (told - latents[:, 1:]).square() * counts
        return error.sum() / (counts.sum() * latents.shape[-1])

    def parameter_table(self) -> dict[str, int]:
        """Parameters by component, and their sum."""
        table = {name: sum(p.numel() for p in module.parameters()) for name, module in self.named_children()}
        return table | {"total": sum(table.values())}


def latent_cost(
    model: LeWM, latents: Tensor, past: Tensor, distance: Distance, running: float = 0.0, prefix: bool = False
) -> Callable[[Tensor], Tensor]:
    """A planner's cost: candidates (B, N, H, A) -> the imagined distance to the goal at the end, (B, N) float32.

    Args:
        model: in eval mode; its dtype is the one that the rollout runs in, whatever that of the arguments.
        latents: (B, h, D) the newest latents seen, h up to the config's history.
        past: (B, h - 1, A) the actions between them.
        distance: `distance_to(goal)`, or one's own, a probe's reading against a wanted state for example.
        running: weight of the mean distance on the way. Published: 0, the end alone.
        prefix: imagine in one pass (Fast-LeWM).
    """

    def cost(candidates: Tensor) -> Tensor:
        imagined = model.predictor.rollout(latents, past, candidates.to(latents), prefix)
        apart = distance(imagined).float()
        return apart[..., -1] + running * apart.mean(-1) if running else apart[..., -1]

    return cost


def distance_to(goal: Tensor) -> Distance:
    """Squared distance |z - z_goal|^2 to a goal latent (B, D), the published cost."""

    def distance(imagined: Tensor) -> Tensor:
        return (imagined - goal[:, None, None].to(imagined)).square().sum(-1)

    return distance


def save_world_model(model: LeWM, folder: str | Path) -> None:
    """Write config.json and the weights (safetensors); each file is replaced as a whole."""
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / (WEIGHTS_FILE + ".partial")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, partial)
    partial.replace(folder / WEIGHTS_FILE)
    partial = folder / "config.json.partial"
    partial.write_text(json.dumps(asdict(model.config), indent=2) + "\n")
    partial.replace(folder / "config.json")


def load_world_model(folder: str | Path) -> LeWM:
    """Load what `save_world_model` wrote, in eval mode, in the dtype it was saved in.

    Raises:
        ValueError: the folder is not a whole world model, its config has unknown keys, or its weights belong to another
            config. Nothing is half-loaded.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    try:
        config = LeWMConfig.from_dict(json.loads((folder / "config.json").read_text()))
        weights = load_file(folder / WEIGHTS_FILE)
    except (OSError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise ValueError(
            f"{folder} does not hold a whole world model ({error}). Train one of the task in question: "
            "python agents/train_world_model.py --task TASK"
        ) from error
    model = LeWM(config)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"The weights in {folder} do not fit its config.json: {error}") from error
    return model.to(weights["predictor.places"].dtype).eval()
