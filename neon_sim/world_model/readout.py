"""What a latent says in metres: palms, box and target, and how far robot and box went between two latents.

So a goal can be a state or words instead of a picture. A single latent does not know where in the world the robot is;
steps between neighbours do, and along an imagined rollout they add up. So do those of a box: where it is, a latent
tells 4 cm off, and whether it was moved, two neighbours tell better (1 s ahead, read of where it is then was 6.3 cm off
in the median, the steps added up 3.7; 480 starts of held-out episodes, 2026-11-27).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from neon_sim.world_model.dataset import Rollouts, moments_of
from neon_sim.world_model.lewm import Distance
from neon_sim.world_model.probe import Probe, fit_mlp_probe

PLACES: Final = {"palms": slice(0, 6), "thing": slice(6, 9), "target": slice(9, 12)}  # m, see `Moment`
_PLACE_DIM, _STEP_DIM, _PUSH_DIM, _HIDDEN = 12, 3, 2, 256
_RESTING: Final = torch.tensor([[0.14, 0.20, -0.02], [0.14, -0.20, -0.02]])  # m: where a palm that is not named waits


class Readout(nn.Module):
    """Probes: latent -> places (12,) m, framed as in `Moment`; two neighbouring latents -> the robot's step, (3,), and
    for push_box the box's, (2,) m.
    """

    def __init__(self, place: Probe, step: Probe, push: Probe | None = None) -> None:
        super().__init__()
        self.place, self.step, self.push = place, step, push

    @classmethod
    def empty(cls, dim: int, task: str = "reach") -> "Readout":
        """For weights to be loaded into."""

        def probe(inputs: int, outputs: int) -> Probe:
            net = nn.Sequential(nn.Linear(inputs, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, outputs))
            return Probe(net, torch.zeros(2, inputs), torch.zeros(2, outputs))

        push = probe(2 * dim, _PUSH_DIM) if task == "push_box" else None
        return cls(probe(dim, _PLACE_DIM), probe(2 * dim, _STEP_DIM), push)

    def walked(self, start: Tensor, imagined: Tensor) -> Tensor:
        """Pose (B, N, H, 3) x, y m and yaw rad after each step in the frame of the start: start (B, D), (B, N, H, D).

        The steps are read between neighbours and put together.
        """
        steps = self.step(_neighbours(start, imagined))
        yaw = steps[..., 2].cumsum(-1)
        return torch.cat([_added_up(steps[..., :2], yaw - steps[..., 2]), yaw.unsqueeze(-1)], dim=-1)

    def outcome(self, task: str, start: Tensor, imagined: Tensor) -> Tensor:
        """What a goal of the task is about, after each imagined step: (B, N, H, K, d), see `worlds.outcome`.

        For navigate and push_box in the frame of the robot at the start, (ahead, left) m.
        """
        if task == "reach":
            return self.place(imagined)[..., PLACES["palms"]].unflatten(-1, (2, 3))
        if task == "navigate":
            return self.walked(start, imagined)[..., None, :2]
        assert self.push is not None  # who reads boxes has it
        pairs = _neighbours(start, imagined)
        turns = self.step(pairs)[..., 2]
        moved = _added_up(self.push(pairs), turns.cumsum(-1) - turns)
        return (self.place(start)[:, None, None, PLACES["thing"]][..., :2] + moved).unsqueeze(-2)


def _neighbours(start: Tensor, imagined: Tensor) -> Tensor:
    """Each latent behind the one before it: (B, D), (B, N, H, D) -> (B, N, H, 2 D)."""
    first = start[:, None, None].expand(-1, imagined.shape[1], 1, -1).to(imagined)
    return torch.cat([torch.cat([first, imagined[:, :, :-1]], dim=2), imagined], dim=-1)


def _added_up(steps: Tensor, heading: Tensor) -> Tensor:
    """Steps (..., H, 2), each in a frame that is turned by `heading` (..., H) rad -> where they led, (..., H, 2)."""
    cosine, sine = heading.cos(), heading.sin()
    ahead = (cosine * steps[..., 0] - sine * steps[..., 1]).cumsum(-1)
    left = (sine * steps[..., 0] + cosine * steps[..., 1]).cumsum(-1)
    return torch.stack([ahead, left], dim=-1)


def state_distance(readout: Readout, task: str, start: Tensor, goal: Tensor) -> Distance:
    """Squared distance in m^2 from what an imagined latent says to a goal (B, K, d), given like `Readout.outcome`.

    start: (B, D), the latent of now. For `latent_cost`.
    """

    def distance(imagined: Tensor) -> Tensor:
        reached = readout.outcome(task, start, imagined.float())
        return (reached - goal[:, None, None].to(reached)).square().sum((-1, -2))

    return distance


def step_labels(base: np.ndarray) -> np.ndarray:
    """Base poses (..., T, 3) x, y, yaw in the world -> the step to the next in the frame of each, (..., T - 1, 3)."""
    moved = np.diff(base, axis=-2)
    yaw = base[..., :-1, 2]
    ahead = np.cos(yaw) * moved[..., 0] + np.sin(yaw) * moved[..., 1]
    left = -np.sin(yaw) * moved[..., 0] + np.cos(yaw) * moved[..., 1]
    turned = np.angle(np.exp(1j * moved[..., 2]))
    return np.stack([ahead, left, turned], axis=-1)


def push_labels(base: np.ndarray, thing: np.ndarray) -> np.ndarray:
    """Base poses (..., T, 3) and a thing's places ahead of and left of them (..., T, 2 or more) -> how far it went to
    the next in the frame of each, (..., T - 1, 2).
    """
    cosine, sine = np.cos(base[..., 2]), np.sin(base[..., 2])
    x = base[..., 0] + cosine * thing[..., 0] - sine * thing[..., 1]
    y = base[..., 1] + sine * thing[..., 0] + cosine * thing[..., 1]
    (dx, dy), cosine, sine = (np.diff(x, axis=-1), np.diff(y, axis=-1)), cosine[..., :-1], sine[..., :-1]
    return np.stack([cosine * dx + sine * dy, -sine * dx + cosine * dy], axis=-1)


def place_labels(rollouts: Rollouts) -> np.ndarray:
    """(N, T, 12) m: palms, thing and target."""
    return np.concatenate([rollouts["palms"], rollouts["thing"], rollouts["target"]], axis=-1)


def step_pairs(rollouts: Rollouts, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Neighbouring latents (M, 2 D), and the robot's steps (M, 3) and the thing's (M, 2) between them, before a fall;
    latents (N, T, D).
    """
    base = rollouts["base"].astype(np.float64)
    steps = torch.from_numpy(step_labels(base)).float()
    pushes = torch.from_numpy(push_labels(base, rollouts["thing"].astype(np.float64))).float()
    seen = torch.from_numpy(np.arange(steps.shape[1]) < rollouts["length"][:, None] - 1)
    return torch.cat([latents[:, :-1], latents[:, 1:]], dim=-1)[seen], steps[seen], pushes[seen]


def fit_readout(
    rollouts: Rollouts,
    latents: Tensor,
    generator: torch.Generator,
    epochs: int = 20,
    batch: int = 256,
    device: str = "cpu",
    task: str = "reach",
) -> Readout:
    """Fit the task's probes to recorded episodes and their latents (N, T, D) on the CPU; `device` is where it is done
    and where the readout is.
    """
    z, places = moments_of(rollouts, latents, torch.from_numpy(place_labels(rollouts)))
    pairs, steps, pushes = step_pairs(rollouts, latents)
    asked = [(z, places), (pairs, steps)] + [(pairs, pushes)] * (task == "push_box")
    probes = (
        fit_mlp_probe(inputs.to(device), wanted.to(device), generator, _HIDDEN, epochs, batch)
        for inputs, wanted in asked
    )
    return Readout(*probes).eval()


@dataclass(frozen=True)
class ReaderConfig:
    """Sizes of a goal reader and of its training."""

    dim: int  # of a latent
    text_dim: int  # of the words' embedding
    hidden: int = 256
    updates: int = 1500
    batch: int = 256
    learning_rate: float = 1e-3


class GoalReader(nn.Module):
    """What the words mean here: latent and embedded instruction -> the named target, m, framed as in `Moment`."""

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        self.config = config
        self.net = nn.Sequential(
            nn.Linear(config.dim + config.text_dim, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, 4),
        )

    def forward(self, latents: Tensor, text: Tensor) -> Tensor:
        """(B, D), (B, E) -> (B, 4): target (3,) m, and how much rather the right hand than the left (a logit)."""
        return self.net(torch.cat([latents, text], dim=-1))

    def goal(self, task: str, latents: Tensor, text: Tensor) -> Tensor:
        """The goal (B, K, d) that the words name, given like `Readout.outcome`."""
        found = self(latents, text)
        if task != "reach":
            return found[:, None, :2]
        right = (found[:, 3:, None] > 0.0).float() * torch.tensor([[-1.0], [1.0]]) + torch.tensor([[1.0], [0.0]])
        return right * found[:, None, :3] + (1.0 - right) * _RESTING


def fit_reader(
    config: ReaderConfig,
    rollouts: Rollouts,
    latents: Tensor,
    texts: Tensor,
    generator: torch.Generator,
    device: str = "cpu",
) -> GoalReader:
    """Teach a reader on recorded episodes: latents (N, T, D), embedded instructions (N, E). Same generator, same bits.

    `device` is where it learns and where it is; what comes in is on the CPU, and so is the generator. The named hand is
    taken from the words of reach; other tasks name none.
    """
    state = torch.get_rng_state()
    torch.manual_seed(int(torch.randint(0, 2**31 - 1, (1,), generator=generator)))
    reader = GoalReader(config).to(device)
    torch.set_rng_state(state)
    lengths = torch.from_numpy(rollouts["length"])
    right = torch.tensor([float("right" in words) for words in rollouts["instruction"]], device=device)
    targets = torch.from_numpy(rollouts["target"]).to(device)
    latents, texts = latents.to(device), texts.to(device)
    optimizer = torch.optim.AdamW(reader.parameters(), config.learning_rate, weight_decay=0.01)
    for _ in range(config.updates):
        row = torch.randint(0, len(rollouts), (config.batch,), generator=generator)
        at = (torch.rand(config.batch, generator=generator) * lengths[row]).long().to(device)
        row = row.to(device)
        found = reader(latents[row, at], texts[row])
        place = (found[:, :3] - targets[row, at]).square().mean()
        loss = place + 0.1 * nn.functional.binary_cross_entropy_with_logits(found[:, 3], right[row])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return reader.requires_grad_(False).eval()


def embed_words(instructions: Sequence[str] | np.ndarray) -> Tensor:
    """The compact backbone's text side: (N, E) for N instructions; equal texts are encoded once."""
    from neon_sim.model.compact import load_compact
    from neon_sim.model.video_backbone import BackboneConfig

    unique = sorted(set(map(str, instructions)))
    with torch.no_grad():
        vectors = load_compact(BackboneConfig()).eval().text_encoder(unique)
    return vectors[[unique.index(str(text)) for text in instructions]].float()
