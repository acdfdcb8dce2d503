"""What is fitted to a trained world model before it plans: readout, word reader, and the heads that answer at once."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neon_sim.world_model.amortised import (
    AmortisedConfig,
    AmortisedHead,
    Pairs,
    distillation_pairs,
    fit_amortised,
    hindsight_pairs,
)
from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.dataset import Rollouts, encode_rollouts, whole_episodes
from neon_sim.world_model.lewm import LeWM, distance_to, latent_cost
from neon_sim.world_model.plan import Box, held
from neon_sim.world_model.planner import CEM
from neon_sim.world_model.readout import ReaderConfig, embed_words, fit_reader, fit_readout

_AT_ONCE = 32  # problems that CEM solves side by side


@dataclass(frozen=True)
class PartsConfig:
    """How much is fitted."""

    episodes: int = 400  # that are encoded for it
    readout_epochs: int = 20
    reader_updates: int = 1500
    head_updates: int = 3000
    distil_plans: int = 1536  # CEM plans that the amortised head imitates; 0: none, and no such head
    samples: int = 64  # of that CEM
    iterations: int = 5
    horizon: int = 5
    hold: int = 2
    seed: int = 0


def fit_parts(task: str, model: LeWM, rollouts: Rollouts, config: PartsConfig) -> Bundle:
    """Fit everything on training episodes. The same seed gives the same bits.

    Raises ValueError if too few episodes are whole for the heads to learn from.
    """
    used = rollouts.part(torch.arange(min(config.episodes, len(rollouts))).numpy())
    generator = torch.Generator().manual_seed(config.seed)
    latents = encode_rollouts(model, used)
    readout = fit_readout(used, latents, generator, config.readout_epochs)
    texts = embed_words(used["instruction"])
    sizes = ReaderConfig(model.config.dim, texts.shape[1], updates=config.reader_updates)
    reader = fit_reader(sizes, used, latents, texts, generator)
    whole = whole_episodes(used)
    if len(whole) < 2:
        raise ValueError(f"Only {len(whole)} of {len(used)} episodes end without a fall. Record more.")
    sequences = encode_rollouts(model, whole)
    commands = torch.from_numpy(whole["commands"])
    sizes_head = AmortisedConfig(dim=model.config.dim, action_dim=model.config.action_dim)

    def behaviour(count: int) -> Pairs:
        return hindsight_pairs(sequences, commands, count, sizes_head, generator)

    bundle = Bundle(task, model, readout, reader, _head(sizes_head, behaviour, config))
    if not config.distil_plans:
        return bundle
    plans = planned_pairs(model, behaviour(config.distil_plans), config, sizes_head, generator)

    def imitation(count: int) -> Pairs:
        rows = torch.randint(0, len(plans.latents), (count,), generator=generator)
        return Pairs(*(value[rows] for value in plans))

    return replace(bundle, amortised=_head(sizes_head, imitation, config))


def planned_pairs(
    model: LeWM, drawn: Pairs, config: PartsConfig, sizes: AmortisedConfig, generator: torch.Generator
) -> Pairs:
    """What CEM plans for the starts and goals of `drawn`, in the form that the head imitates."""
    planner = CEM(config.samples, config.iterations, max(2, config.samples // 8), sigma=0.7, sigma_floor=0.05)
    box, found = Box.unit(sizes.action_dim), []
    for rows in torch.arange(len(drawn.latents)).split(_AT_ONCE):
        start, goal = drawn.latents[rows], drawn.goals[rows]
        past = start.new_zeros(len(rows), 0, sizes.action_dim)
        cost = held(latent_cost(model, start[:, None], past, distance_to(goal), running=0.2), config.hold)
        plan = planner.plan(cost, box, box.center(len(rows), config.horizon), generator)
        found.append(plan.actions.repeat_interleave(config.hold, dim=1))
    return distillation_pairs(drawn.latents, drawn.goals, drawn.steps, torch.cat(found), sizes)


def _head(sizes: AmortisedConfig, draw: Callable[[int], Pairs], config: PartsConfig) -> AmortisedHead:
    """A head taught on what `draw` gives; torch's global generator is left as it was."""
    state: Tensor = torch.get_rng_state()
    torch.manual_seed(config.seed)
    head = AmortisedHead(sizes)
    torch.set_rng_state(state)
    fit_amortised(head, draw, config.head_updates)
    return head.requires_grad_(False)
