"""What is fitted to a trained world model before it plans: readout, word reader, and the heads that answer at once."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from neon_sim.world_model.amortised import (
    AmortisedConfig,
    AmortisedHead,
    Pairs,
    distillation_pairs,
    fit_amortised,
    hindsight_pairs,
)
from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.dataset import Rollouts, encode_rollouts
from neon_sim.world_model.lewm import LeWM, distance_to, latent_cost
from neon_sim.world_model.plan import Box, held
from neon_sim.world_model.planner import CEM
from neon_sim.world_model.readout import GoalReader, ReaderConfig, embed_words, fit_reader, fit_readout
from neon_sim.world_model.sight import fit_sight

Made = TypeVar("Made")
_AT_ONCE: Final = 32  # problems that CEM solves side by side
_AT_ONCE_GPU: Final = 512


@dataclass(frozen=True)
class PartsConfig:
    """How much is fitted."""

    episodes: int | None = None  # that it is fitted to; None: all that the world model learned from
    readout_epochs: int = 20
    readout_batch: int = 256
    reader_updates: int = 1500
    head_updates: int = 3000
    distil_plans: int = 1536  # CEM plans that the amortised head imitates; 0: none, and no such head
    samples: int = 64  # of that CEM
    iterations: int = 5
    horizon: int = 5
    hold: int = 2
    seed: int = 0


class Stages:
    """A bar over some named pieces of work, and how long each took."""

    def __init__(self, count: int, label: str) -> None:
        self.seconds: dict[str, float] = {}
        self._bar = tqdm(total=count, desc=label)

    def run(self, name: str, work: Callable[[], Made]) -> Made:
        """Do a piece of work and note its time; equal names add up."""
        self._bar.set_postfix_str(name)
        begun = time.monotonic()
        made = work()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun
        self._bar.update()
        return made

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


def fit_parts(
    task: str,
    model: LeWM,
    rollouts: Rollouts,
    config: PartsConfig,
    device: str = "cpu",
    seconds: dict[str, float] | None = None,
) -> Bundle:
    """Fit everything on training episodes, on `device`; the bundle and the model are on the CPU afterwards. The same
    seed gives the same bits on a CPU.

    seconds: what each part took is put into it.
    Raises ValueError if no episode has a step for the heads to learn from.
    """
    used = (
        rollouts if config.episodes is None else rollouts.part(torch.arange(len(rollouts))[: config.episodes].numpy())
    )
    generator = torch.Generator().manual_seed(config.seed)
    model.to(device)
    stages = Stages(4 + 2 * bool(config.distil_plans) + (task == "push_box"), "fitting parts")
    try:
        latents = stages.run("latents", lambda: encode_rollouts(model, used))
        readout = stages.run(
            "readout",
            lambda: fit_readout(used, latents, generator, config.readout_epochs, config.readout_batch, device, task),
        )
        reader = stages.run("words", lambda: _reader(used, latents, generator, config, device))
        sight = stages.run("sight", lambda: fit_sight(model.encoder, used)) if task == "push_box" else None
        cloned, amortised = _heads(model, used, latents, config, generator, device, stages)
    finally:
        stages.close()
        model.to("cpu")
    if seconds is not None:
        seconds.update(stages.seconds)
    heads = cloned.cpu(), amortised and amortised.cpu()
    return Bundle(task, model, readout.cpu(), reader.cpu(), *heads, sight=sight and sight.cpu())


def _reader(
    used: Rollouts, latents: Tensor, generator: torch.Generator, config: PartsConfig, device: str
) -> GoalReader:
    texts = embed_words(used["instruction"])
    sizes = ReaderConfig(latents.shape[-1], texts.shape[1], updates=config.reader_updates)
    return fit_reader(sizes, used, latents, texts, generator, device)


def _heads(
    model: LeWM,
    used: Rollouts,
    latents: Tensor,
    config: PartsConfig,
    generator: torch.Generator,
    device: str,
    stages: Stages,
) -> tuple[AmortisedHead, AmortisedHead | None]:
    """The head that clones what was done, and the one that imitates a planner (None if it is not wanted)."""
    steps = used["length"] > 1  # an episode that falls at once shows nothing to do
    if not steps.any():
        raise ValueError(f"Not one of {len(used)} episodes has a step before its fall. Record more.")
    lengths = torch.from_numpy(used["length"][steps])
    sequences = latents[torch.from_numpy(steps)].to(device)
    commands = torch.from_numpy(used["commands"][steps]).to(device)
    sizes = AmortisedConfig(dim=model.config.dim, action_dim=model.config.action_dim)

    def behaviour(count: int) -> Pairs:
        return hindsight_pairs(sequences, commands, count, sizes, generator, lengths)

    cloned = stages.run("cloned head", lambda: _head(sizes, behaviour, config, device))
    if not config.distil_plans:
        return cloned, None
    drawn = behaviour(config.distil_plans)
    plans = stages.run("plans", lambda: planned_pairs(model, drawn, config, sizes, generator))

    def imitation(count: int) -> Pairs:
        rows = torch.randint(0, len(plans.latents), (count,), generator=generator).to(device)
        return Pairs(*(value[rows] for value in plans))

    return cloned, stages.run("amortised head", lambda: _head(sizes, imitation, config, device))


def planned_pairs(
    model: LeWM, drawn: Pairs, config: PartsConfig, sizes: AmortisedConfig, generator: torch.Generator
) -> Pairs:
    """What CEM plans for the starts and goals of `drawn`, in the form that the head imitates; model and pairs are on
    one device.
    """
    planner = CEM(config.samples, config.iterations, max(2, config.samples // 8), sigma=0.7, sigma_floor=0.05)
    limit, found = torch.ones(sizes.action_dim, device=drawn.latents.device), []
    box = Box(-limit, limit)
    at_once = _AT_ONCE if limit.device.type == "cpu" else _AT_ONCE_GPU
    for rows in torch.arange(len(drawn.latents), device=limit.device).split(at_once):
        start, goal = drawn.latents[rows], drawn.goals[rows]
        past = start.new_zeros(len(rows), 0, sizes.action_dim)
        cost = held(latent_cost(model, start[:, None], past, distance_to(goal), running=0.2), config.hold)
        plan = planner.plan(cost, box, box.center(len(rows), config.horizon), generator)
        found.append(plan.actions.repeat_interleave(config.hold, dim=1))
    return distillation_pairs(drawn.latents, drawn.goals, drawn.steps, torch.cat(found), sizes)


def _head(sizes: AmortisedConfig, draw: Callable[[int], Pairs], config: PartsConfig, device: str) -> AmortisedHead:
    """A head taught on what `draw` gives; torch's global generator is left as it was."""
    state: Tensor = torch.get_rng_state()
    torch.manual_seed(config.seed)
    head = AmortisedHead(sizes)
    torch.set_rng_state(state)
    fit_amortised(head.to(device), draw, config.head_updates)
    return head.requires_grad_(False)
