"""What comes next: a causal transformer over one token per frame, told the actions by adaLN-zero.

Every position from the first to the last is trained (a token with no past, one, two, ...), and the learned places never
slide while a rollout lasts. So keys and values stay valid, and a cached rollout is the uncached one.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neon_sim.world_model.config import LeWMConfig
from neon_sim.world_model.encoder import Projector, start_small

NO_PREFIX: Final = (
    "This world model did not learn prefixes. Train one that does (python agents/train_world_model.py --task TASK "
    "--prefix), or plan without --prefix."
)


class Room:
    """A layer's keys and values, with room for those to come, which are put there: nothing is moved as they grow.

    Takes the place of a pair in a `Cache` where no gradient is wanted. It changes, so a cache of before is no more.
    """

    def __init__(self, batch: int, most: int, config: LeWMConfig, like: Tensor) -> None:
        """For `most` tokens of `batch` sequences, in the dtype and on the device of `like`."""
        self._held = like.new_empty(most, batch, 2, config.predictor_heads, config.head_dim)
        self._length = 0

    def __getitem__(self, which: int) -> Tensor:
        """The keys, 0, or the values, 1, so far: (B, heads, length, head_dim)."""
        return self._held[: self._length, :, which].permute(1, 2, 0, 3)

    def put(self, more: Tensor) -> None:
        """Take keys and values of T more tokens, (B, T, 2, heads, head_dim)."""
        begin, self._length = self._length, self._length + more.shape[1]
        self._held[begin : self._length] = more.transpose(0, 1)


Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Cache:
    """Keys and values of the tokens so far, one pair of (B, heads, length, head_dim) a layer; empty at first."""

    layers: tuple[Pair | Room, ...] = ()

    @property
    def length(self) -> int:
        """Tokens so far."""
        return self.layers[0][0].shape[2] if self.layers else 0

    def repeat(self, times: int) -> "Cache":
        """Each row `times` times in a row: one history, many candidates."""
        return Cache(tuple((k.repeat_interleave(times, 0), v.repeat_interleave(times, 0)) for k, v in self._pairs()))

    def with_room(self, tokens: int, config: LeWMConfig, like: Tensor) -> "Cache":
        """The same with room for so many more tokens of sequences like (B, T, D)."""
        rooms = [Room(len(like), self.length + tokens, config, like) for _ in range(config.predictor_layers)]
        for room, pair in zip(rooms, self._pairs(), strict=False):  # an empty cache has no pairs
            room.put(torch.stack(pair, dim=1).permute(0, 3, 1, 2, 4))
        return Cache(tuple(rooms))

    def _pairs(self) -> list[Pair]:
        return [(layer[0], layer[1]) for layer in self.layers]


def modulation_layer(config: LeWMConfig) -> nn.Linear:
    """Action embedding (..., action_width) -> shift, factor, gate of a layer's attention and of its MLP, (..., 6 D).

    Begins as 0, 1, 0 whatever the action (adaLN-zero): the layer is the identity at first. The factor is the papers'
    1 + scale; with the one in the bias it costs nothing.
    """
    layer = nn.Linear(config.action_width, 6 * config.dim)
    nn.init.zeros_(layer.weight)
    one, zero = torch.ones(config.dim), torch.zeros(config.dim)
    with torch.no_grad():
        layer.bias.copy_(torch.cat([zero, one, zero, zero, one, zero]))
    return layer


class PredictorBlock(nn.Module):
    """Causal self-attention and MLP; shift, scale and gate of both come from the action (DiT, Peebles and Xie 2023)."""

    def __init__(self, config: LeWMConfig) -> None:
        super().__init__()
        dim, inner = config.dim, config.predictor_heads * config.head_dim
        self.heads, self.dropout = config.predictor_heads, config.dropout
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)  # serves both places: it has no weights
        self.query_key_value = nn.Linear(dim, 3 * inner, bias=False)
        self.output = nn.Sequential(nn.Linear(inner, dim), nn.Dropout(config.dropout))
        self.mlp = nn.Sequential(
            nn.Linear(dim, config.predictor_mlp),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.predictor_mlp, dim),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Tensor, modulation: Tensor, past: Pair | Room | None) -> tuple[Tensor, Pair | Room]:
        """x (B, T, D), modulation (B, T, 6 D), keys and values before them -> (B, T, D), keys and values with them."""
        shift1, factor1, gate1, shift2, factor2, gate2 = modulation.chunk(6, dim=-1)
        mixed, past = self._attend(torch.addcmul(shift1, self.norm(x), factor1), past)
        x = torch.addcmul(x, gate1, mixed)
        return torch.addcmul(x, gate2, self.mlp(torch.addcmul(shift2, self.norm(x), factor2))), past

    def _attend(self, x: Tensor, past: Pair | Room | None) -> tuple[Tensor, Pair | Room]:
        made = self.query_key_value(x).unflatten(-1, (3, self.heads, -1))  # B, T, query key value, heads, head_dim
        q = made[:, :, 0].transpose(1, 2)
        if isinstance(past, Room):
            past.put(made[:, :, 1:])
        else:
            k, v = made[:, :, 1].transpose(1, 2), made[:, :, 2].transpose(1, 2)
            past = (k, v) if past is None else (torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2))
        k, v = past[0], past[1]
        new, seen = q.shape[2], k.shape[2]
        # The newest token may see everything; of several, each sees the past and those before it.
        mask = None if new == 1 else torch.ones(new, seen, dtype=torch.bool, device=x.device).tril(seen - new)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.output(mixed.transpose(1, 2).flatten(2)), past


class Predictor(nn.Module):
    """z_1..z_T and the actions that follow each -> the predicted z_2..z_{T+1}.

    Differs from the published action embedder by the linear layer (to 10 numbers) that it has before its MLP.
    """

    def __init__(self, config: LeWMConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_action = nn.Sequential(
            nn.Linear(config.action_dim, config.action_hidden),
            nn.SiLU(),
            nn.Linear(config.action_hidden, config.action_width),
            nn.SiLU(),
        )
        self.places = nn.Parameter(0.02 * torch.randn(1, config.positions, config.dim))
        self.blocks = nn.ModuleList(PredictorBlock(config) for _ in range(config.predictor_layers))
        self.modulation = nn.ModuleList(modulation_layer(config) for _ in range(config.predictor_layers))
        self.norm = nn.LayerNorm(config.dim)
        self.projector = Projector(config.dim, config.projector_hidden, config.dim)
        if config.prefix:
            self.unknown = nn.Parameter(0.02 * torch.randn(config.dim))  # stands for a latent nobody has seen yet
        self.embed_action.apply(start_small)
        self.blocks.apply(start_small)

    def modulations(self, actions: Tensor) -> list[Tensor]:
        """Actions (B, T, A) -> what each layer makes of them, (B, T, 6 D) a layer; depends on nothing else."""
        condition = self.embed_action(actions)
        return [modulation(condition) for modulation in self.modulation]

    def advance(self, tokens: Tensor, modulations: list[Tensor], cache: Cache) -> tuple[Tensor, Cache]:
        """Take T more tokens (B, T, D) after those in the cache -> hidden states (B, T, D) and the longer cache.

        Raises ValueError where they do not fit into the trained positions.
        """
        begin, end = cache.length, cache.length + tokens.shape[1]
        if end > self.config.positions:
            raise ValueError(
                f"The predictor has {self.config.positions} positions, got token {end}. "
                "rollout() begins anew by itself; for training cut shorter sequences or set positions."
            )
        x = tokens + self.places[:, begin:end]
        layers = []
        for i, block in enumerate(self.blocks):
            x, pair = block(x, modulations[i], cache.layers[i] if cache.layers else None)
            layers.append(pair)
        return x, Cache(tuple(layers))

    def read(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, T, D) -> predicted latents (B, T, D)."""
        return self.projector(self.norm(hidden))

    def forward(self, latents: Tensor, actions: Tensor, known: Tensor | None = None) -> Tensor:
        """Teacher-forced: latents (B, T, D), actions (B, T, A) -> predictions of the next latents (B, T, D).

        known (B, T) bool, for a model with `prefix`: where False, the latent is hidden, so that position has to be told
        from the latents before it and the actions up to it.
        """
        if known is not None:
            latents = torch.where(known.unsqueeze(-1), latents, self._unknown())
        return self.read(self.advance(latents, self.modulations(actions), Cache())[0])

    def rollout(self, latents: Tensor, past: Tensor, actions: Tensor, prefix: bool = False) -> Tensor:
        """Imagine: what N candidate plans would lead to. Differentiable.

        latents (B, h, D): the newest h latents seen, 1 <= h <= history. past (B, h - 1, A): the actions between them.
        actions (B, N, H, A) -> (B, N, H, D), the latent after each action. `prefix`: one parallel pass over the actions
        (Fast-LeWM) instead of H passes that feed each prediction back.

        A rollout longer than the positions begins anew with its newest `history` latents, as often as need be. It runs
        in the weights' dtype, and so is what it gives: commands are 32-bit floats, and the weights may be bfloat16.
        Raises ValueError for shapes that do not fit each other, and `prefix` on a model that did not learn it.
        """
        batch, count, horizon, _ = actions.shape
        self._check(latents, past, batch)
        latents, past, actions = (given.to(self.places) for given in (latents, past, actions.flatten(0, 1)))
        cache = self._remember(latents[:, :-1], past).repeat(count)
        latents, past = latents.repeat_interleave(count, 0), past.repeat_interleave(count, 0)
        taken = torch.cat([past, actions], dim=1)
        first, unroll = latents.shape[1], self._unroll_prefix if prefix else self._unroll
        while (done := latents.shape[1] - first) < horizon:
            if done:
                recent = self.config.history - 1
                span = slice(latents.shape[1] - 1 - recent, latents.shape[1] - 1)
                cache = self._remember(latents[:, span], taken[:, span])
            part = actions[:, done : done + self.config.positions - cache.length]
            latents = torch.cat([latents, unroll(latents[:, -1:], part, cache)], dim=1)
        return latents[:, first:].unflatten(0, (batch, count))

    def _remember(self, latents: Tensor, actions: Tensor) -> Cache:
        if not latents.shape[1]:
            return Cache()
        return self.advance(latents, self.modulations(actions), Cache())[1]

    def _unroll(self, token: Tensor, actions: Tensor, cache: Cache) -> Tensor:
        steps, imagining = range(actions.shape[1]), not torch.is_grad_enabled()
        if imagining:
            cache = cache.with_room(len(steps), self.config, token)
        # What is held is not worked out again.
        news = [not (imagining and step and torch.equal(actions[:, step], actions[:, step - 1])) for step in steps]
        told = actions[:, [step for step in steps if news[step]]].transpose(0, 1)  # so that a step's lie side by side
        modulations = self.modulations(told.unsqueeze(2))
        found, at = [], -1
        for new in news:
            at += new
            hidden, cache = self.advance(token, [modulation[at] for modulation in modulations], cache)
            token = self.read(hidden)
            found.append(token)
        return torch.cat(found, dim=1)

    def _unroll_prefix(self, token: Tensor, actions: Tensor, cache: Cache) -> Tensor:
        hidden = self._unknown().to(token).expand(len(token), actions.shape[1] - 1, -1)
        tokens = torch.cat([token, hidden], dim=1)
        return self.read(self.advance(tokens, self.modulations(actions), cache)[0])

    def _unknown(self) -> Tensor:
        if not self.config.prefix:
            raise ValueError(NO_PREFIX)
        return self.unknown

    def _check(self, latents: Tensor, past: Tensor, batch: int) -> None:
        seen = latents.shape[1]
        wanted = (batch, seen - 1, self.config.action_dim)
        if not 1 <= seen <= self.config.history or len(latents) != batch or past.shape != wanted:
            raise ValueError(
                f"rollout wants 1 to {self.config.history} latents for each of {batch} problems and the actions "
                f"between them, got latents {tuple(latents.shape)} and past actions {tuple(past.shape)}."
            )


def rollout_plain(predictor: Predictor, latents: Tensor, past: Tensor, actions: Tensor) -> Tensor:
    """`Predictor.rollout` without a cache: its definition, which tests compare it with and benchmarks time beside it.

    At each step the whole window goes through the network again and all but the last prediction is thrown away.
    """
    config = predictor.config
    batch, count, horizon, _ = actions.shape
    latents, past = latents.repeat_interleave(count, 0), past.repeat_interleave(count, 0)
    taken = torch.cat([past, actions.flatten(0, 1)], dim=1)
    begin, first = 0, latents.shape[1]
    for _ in range(horizon):
        if latents.shape[1] - begin > config.positions:
            begin = latents.shape[1] - config.history
        window = predictor(latents[:, begin:], taken[:, begin : latents.shape[1]])
        latents = torch.cat([latents, window[:, -1:]], dim=1)
    return latents[:, first:].unflatten(0, (batch, count))
