"""From noise to a chunk in a few steps: what the flow, DiT and ensemble heads share.

Time runs from 0, noise alone, to 1, the clean chunk, in every head. A head says at each step which clean chunk it sees
(its estimate); a guide may correct it; the step then goes toward the corrected estimate, and the last one lands on it.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from neon_sim.model.action_heads.chunking import require_mask
from neon_sim.model.action_heads.guide import Guide, guide_correction

Predict = Callable[[Tensor, float], Tensor]  # noisy chunk (B, T, A), time -> clean chunk (B, T, A)
Step = Callable[[Tensor, Tensor, float, float], Tensor]  # noisy, clean (B, T, A), time, time after -> noisy (B, T, A)


class Denoising(Protocol):
    """One chunk on its way from noise to clean."""

    def estimate(self, time: float) -> Tensor:
        """The clean chunk (B, T, A) as seen at `time`; asked for before each `advance`."""

    def advance(self, correction: Tensor | None, time: float, after: float) -> None:
        """Go from `time` to `after`, toward the last estimate plus the correction (B, T, A)."""

    def chunk(self) -> Tensor:
        """The chunk (B, T, A) as it is now; clean once time 1 is reached."""


class NoisyChunk:
    """The denoising of a single head."""

    def __init__(self, noise: Tensor, predict: Predict, step: Step) -> None:
        self.noisy = self._clean = noise
        self._predict, self._step = predict, step

    def estimate(self, time: float) -> Tensor:
        """See Denoising."""
        self._clean = self._predict(self.noisy, time)
        return self._clean

    def advance(self, correction: Tensor | None, time: float, after: float) -> None:
        """See Denoising."""
        clean = self._clean if correction is None else self._clean + correction
        self.noisy = self._step(self.noisy, clean, time, after)

    def chunk(self) -> Tensor:
        """See Denoising."""
        return self.noisy


class HeldChunk:
    """The chunk of a head that needs no denoising: a guide sees it and cannot move it."""

    def __init__(self, chunk: Tensor) -> None:
        self._chunk = chunk

    def estimate(self, time: float) -> Tensor:
        """See Denoising."""
        return self._chunk

    def advance(self, correction: Tensor | None, time: float, after: float) -> None:
        """See Denoising."""

    def chunk(self) -> Tensor:
        """See Denoising."""
        return self._chunk


class ShiftedDenoising:
    """A denoising of differences, seen as absolute actions: offset (B, 1, A)."""

    def __init__(self, inner: Denoising, offset: Tensor) -> None:
        self._inner, self._offset = inner, offset

    def estimate(self, time: float) -> Tensor:
        """See Denoising."""
        return self._inner.estimate(time) + self._offset

    def advance(self, correction: Tensor | None, time: float, after: float) -> None:
        """See Denoising."""
        self._inner.advance(correction, time, after)

    def chunk(self) -> Tensor:
        """See Denoising."""
        return self._inner.chunk() + self._offset


class MixedDenoising:
    """Several denoisings of one action, averaged with shares (B, K) that sum to one; each gets the whole correction."""

    def __init__(self, parts: Sequence[Denoising], shares: Tensor) -> None:
        self._parts, self._shares = parts, shares

    def estimate(self, time: float) -> Tensor:
        """See Denoising."""
        return mix([part.estimate(time) for part in self._parts], self._shares)

    def advance(self, correction: Tensor | None, time: float, after: float) -> None:
        """See Denoising."""
        for part in self._parts:
            part.advance(correction, time, after)

    def chunk(self) -> Tensor:
        """See Denoising."""
        return mix([part.chunk() for part in self._parts], self._shares)


class JoinedDenoising:
    """Denoisings of neighbouring parts of one action, side by side: widths of the parts in order."""

    def __init__(self, parts: Sequence[Denoising], widths: Sequence[int]) -> None:
        self._parts, self._widths = parts, list(widths)

    def estimate(self, time: float) -> Tensor:
        """See Denoising."""
        return torch.cat([part.estimate(time) for part in self._parts], dim=-1)

    def advance(self, correction: Tensor | None, time: float, after: float) -> None:
        """See Denoising."""
        own = [None] * len(self._parts) if correction is None else correction.split(self._widths, dim=-1)
        for part, piece in zip(self._parts, own, strict=True):
            part.advance(piece, time, after)

    def chunk(self) -> Tensor:
        """See Denoising."""
        return torch.cat([part.chunk() for part in self._parts], dim=-1)


def denoise(process: Denoising, num_steps: int, guide: Guide | None = None) -> Tensor:
    """Take `num_steps` equal steps in time from 0 to 1; return the clean chunk (B, T, A). Raises ValueError below 1."""
    if num_steps < 1:
        raise ValueError(f"Denoising wants at least 1 step, got {num_steps}. The documents use 4.")
    for index in range(num_steps):
        time, after = index / num_steps, (index + 1) / num_steps
        estimate = process.estimate(time)
        correction = None if guide is None else guide_correction(guide, estimate, time)
        process.advance(correction, time, after)
    return process.chunk()


class DenoisingHead(nn.Module):
    """Interface of the heads that draw a chunk instead of computing one. Subclasses implement begin and compute_loss.

    forward is `sample`: autograd passes through all steps, and the draw is new in every call unless the generator says
    otherwise. It is not what the head learns from: that is compute_loss.
    """

    def __init__(self, action_dim: int, num_steps: int, num_denoise_steps: int) -> None:
        super().__init__()
        self.action_dim, self.num_steps, self.num_denoise_steps = action_dim, num_steps, num_denoise_steps

    def begin(
        self,
        features: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Denoising:
        """A denoising at time 0: features (B, input_dim), context (B, M, E), noise (B, T, A), drawn if None."""
        raise NotImplementedError

    def compute_loss(
        self,
        features: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        dim_weights: Tensor | None = None,
    ) -> Tensor:
        """The head's training loss, scalar float32: features (B, input_dim), target (B, T, A), mask (B, T), see D16."""
        raise NotImplementedError

    def sample(
        self,
        features: Tensor,
        num_denoise_steps: int | None = None,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Draw one chunk per row: features (B, input_dim) -> (B, T, A).

        Args:
            features: fused features.
            num_denoise_steps: None for the head's own.
            context: tokens (B, M, E) to look at, for a head with cross-attention and only for one.
            generator: where the noise comes from; None is torch's global generator.
            guide: steers the sampling, see Guide.
        """
        steps = self.num_denoise_steps if num_denoise_steps is None else num_denoise_steps
        return denoise(self.begin(features, context, generator), steps, guide)

    def forward(
        self,
        features: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Fused features (B, input_dim) -> a drawn chunk (B, T, A)."""
        return self.sample(features, None, context, generator, guide)

    def require_chunk(self, target: Tensor, rows: int) -> None:
        """Raise ValueError unless target is (rows, num_steps, action_dim)."""
        wanted = (rows, self.num_steps, self.action_dim)
        if target.shape != wanted:
            raise ValueError(
                f"{type(self).__name__} wants chunks of shape {wanted}, got {tuple(target.shape)}. "
                "Resample or slice the target chunk to the head's steps and dimensions."
            )

    def draw_noise(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        """Standard normal noise (B, T, A) for features (B, input_dim), in their dtype and on their device."""
        return draw(torch.randn, (len(features), self.num_steps, self.action_dim), features, generator)


def draw(how: Callable[..., Tensor], shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Random numbers of `shape` by torch.randn or torch.rand, made where the generator lives, in `like`'s type."""
    device = like.device if generator is None else generator.device
    return how(shape, generator=generator, device=device).to(like)


def begin_denoising(
    head: nn.Module,
    features: Tensor,
    num_steps: int,
    context: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Denoising:
    """A denoising of any head: one that computes its answer is held, a single action (B, A) over `num_steps`."""
    if isinstance(head, DenoisingHead):
        return head.begin(features, context, generator, noise)
    return HeldChunk(hold(head(features), num_steps))


def hold(actions: Tensor, num_steps: int) -> Tensor:
    """Hold a single action (B, A) over a chunk, (B, num_steps, A); a chunk (B, T, A) passes."""
    return actions if actions.dim() == 3 else actions.unsqueeze(1).expand(-1, num_steps, -1)


def mix(chunks: Sequence[Tensor], shares: Tensor) -> Tensor:
    """Sum over k of shares (B, K)[:, k] times chunks[k] (B, T, A) -> (B, T, A)."""
    return torch.einsum("kbta,bk->bta", torch.stack(list(chunks)), shares.to(chunks[0].dtype))


def without_padding(target: Tensor, mask: Tensor | None) -> Tensor:
    """Target chunk (B, T, A) with zeros where mask (B, T) is zero.

    A denoising head reads its target, mixed with noise, as an input: what stands in the padding must not reach it.
    """
    if mask is None:
        return target
    require_mask(mask, target)
    return torch.where(mask.bool().unsqueeze(-1), target, 0.0)


def require_context(context: Tensor | None, width: int | None, what: str) -> None:
    """Raise ValueError unless context is (B, M, width), or None for a head without cross-attention (width None)."""
    if width is None and context is not None:
        raise ValueError(f"This {what} has no cross-attention and was given context tokens. Build it with a width.")
    if width is not None and (context is None or context.dim() != 3 or context.shape[-1] != width):
        got = None if context is None else tuple(context.shape)
        raise ValueError(f"{what} with cross-attention wants context tokens (B, M, {width}), got {got}.")
