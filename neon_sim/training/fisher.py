"""Exact diagonal Fisher information: every sample's gradient is squared on its own.

Squaring a batch's mean gradient instead, as is common, shrinks the Fisher with the batch size. For an nn.Linear that
sees (B, in) a sample's squared gradient is an outer product, (g_o a_i)^2 = g_o^2 a_i^2, so all samples take one matrix
product; for (B, T, in) a sample's gradient is a sum over T and is built before it is squared.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from neon_sim.names import nearest

Batch = Mapping[str, Tensor]  # each (B, ...), one row per sample
SampleLoss = Callable[[nn.Module, Batch], Tensor]  # negative log-likelihood per sample, (B,)
Fisher = dict[str, Tensor]  # parameter name -> diagonal Fisher information, shaped like the parameter
Pairs = list[tuple[Tensor, Tensor]]  # per call of a layer: its input (B, ..., in), the loss gradient at its output

_FLOATS_AT_ONCE = 16_000_000  # 64 MB of float32 per-sample gradients


def gaussian_nll(mean: Tensor, target: Tensor, std: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of a Gaussian policy, without its constant: (B, ...) -> (B,).

    mask broadcasts against mean and is 0 where a step is padding. With targets from `sampled_target` the Fisher is the
    true one; with labels it is the empirical one, which fades as the fit gets good.
    """
    error = ((mean - target) / std).square()
    return 0.5 * (error if mask is None else error * mask).flatten(1).sum(1)


def sampled_target(mean: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """Draw targets from the policy's own Gaussian: mean (B, ...) -> (B, ...), without gradient."""
    noise = torch.randn(mean.shape, generator=generator, device=generator.device, dtype=mean.dtype)
    return mean.detach() + std * noise.to(mean.device)


def fisher_diagonal(
    module: nn.Module,
    sample_loss: SampleLoss,
    batch: Batch,
    *,
    names: Sequence[str] | None = None,
    chunk: int = 64,
    method: Literal["fast", "vmap", "loop"] = "fast",
) -> Fisher:
    """Mean over samples of the squared per-sample gradient, for each parameter of `module`.

    sample_loss(module, batch) returns (B,) and must treat samples apart; whatever it needs that is random (flow noise,
    times) comes in the batch. names: parameters wanted, all that require a gradient by default. chunk: samples at once.
    method: "fast" is one backward for nn.Linear layers and "vmap" for all else (the same numbers); "loop" is one
    backward per sample, for a loss that vmap cannot trace. The module is in eval mode meanwhile: dropout is not data.
    Raises ValueError for unknown names or methods, and for a batch whose entries differ in rows.
    """
    if method not in ("fast", "vmap", "loop"):
        raise nearest("Fisher method", method, ("fast", "vmap", "loop"))
    params = _wanted(module, names)
    total = {name: torch.zeros_like(param) for name, param in params.items()}
    count = _rows(batch)
    with _eval_mode(module), torch.enable_grad():
        layers = _linear_layers(module, sample_loss, batch, params) if method == "fast" else {}
        covered = {name for own in layers.values() for name in own}
        rest = {name: param for name, param in params.items() if name not in covered}
        add_rest = _add_looped if method == "loop" else _add_vmapped
        for start in range(0, count, chunk):
            part = {key: value[start : start + chunk] for key, value in batch.items()}
            if layers:
                _add_linear(total, module, sample_loss, part, layers)
            if rest:
                add_rest(total, module, sample_loss, part, rest)
    return {name: value.detach().div_(count) for name, value in total.items()}


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _wanted(module: nn.Module, names: Sequence[str] | None) -> dict[str, nn.Parameter]:
    known = {name: param for name, param in module.named_parameters() if param.requires_grad}
    for name in names or ():
        if name not in known:
            raise nearest("trainable parameter", name, known)
    return known if names is None else {name: known[name] for name in names}


def _rows(batch: Batch) -> int:
    counts = {key: len(value) for key, value in batch.items()}
    if not counts or len(set(counts.values())) != 1 or 0 in counts.values():
        raise ValueError(f"A batch needs the same number of rows (at least one) under every key, got {counts}.")
    return next(iter(counts.values()))


class _Bound(nn.Module):
    """A module and its loss as one module, which is what functional_call takes."""

    def __init__(self, module: nn.Module, sample_loss: SampleLoss) -> None:
        super().__init__()
        self.module = module
        self.sample_loss = sample_loss

    def forward(self, batch: Batch) -> Tensor:
        return self.sample_loss(self.module, batch)


def _add_vmapped(
    total: Fisher, module: nn.Module, sample_loss: SampleLoss, part: Batch, params: Mapping[str, Tensor]
) -> None:
    bound = _Bound(module, sample_loss)

    def loss_of_one(values: dict[str, Tensor], sample: dict[str, Tensor]) -> Tensor:
        row = {key: value.unsqueeze(0) for key, value in sample.items()}
        return functional_call(bound, {f"module.{name}": value for name, value in values.items()}, (row,)).sum()

    values = {name: param.detach() for name, param in params.items()}
    at_once = max(1, _FLOATS_AT_ONCE // sum(value.numel() for value in values.values()))
    for start in range(0, _rows(part), at_once):
        samples = {key: value[start : start + at_once] for key, value in part.items()}
        gradients = vmap(grad(loss_of_one), in_dims=(None, 0))(values, samples)
        for name, gradient in gradients.items():
            total[name] += gradient.square().sum(0)


def _add_looped(
    total: Fisher, module: nn.Module, sample_loss: SampleLoss, part: Batch, params: Mapping[str, Tensor]
) -> None:
    for row in range(_rows(part)):
        loss = sample_loss(module, {key: value[row : row + 1] for key, value in part.items()}).sum()
        gradients = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
        for name, gradient in zip(params, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient.square()


class _Calls:
    """What went into and came out of each nn.Linear during one forward pass."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self.of: dict[nn.Linear, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in layers}
        self._handles = [layer.register_forward_hook(self._keep) for layer in layers]

    def _keep(self, layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.of[layer].append((inputs[0].detach(), output))

    def __enter__(self) -> "_Calls":
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def _run(
    module: nn.Module, sample_loss: SampleLoss, part: Batch, layers: Sequence[nn.Linear], weights: Sequence[Tensor] = ()
) -> tuple[dict[nn.Linear, Pairs], list[Tensor | None]]:
    """One forward and backward: the pairs of each layer, and the summed loss's gradients of `weights`."""
    with _Calls(layers) as calls:
        loss = sample_loss(module, part).sum()
    outputs = [output for layer in layers for _, output in calls.of[layer]]
    wanted = [*outputs, *weights]
    gradients: list[Tensor | None] = list(torch.autograd.grad(loss, wanted, allow_unused=True)) if wanted else []
    at_output = iter(gradients[: len(outputs)])
    pairs: dict[nn.Linear, Pairs] = {}
    for layer in layers:
        found = [(value, next(at_output)) for value, _ in calls.of[layer]]
        pairs[layer] = [(value, slope) for value, slope in found if slope is not None]
    return pairs, gradients[len(outputs) :]


def _linear_layers(
    module: nn.Module, sample_loss: SampleLoss, batch: Batch, params: Mapping[str, Tensor]
) -> dict[nn.Linear, list[str]]:
    """The nn.Linear layers that the fast form describes exactly: their wanted parameters' names, weight first.

    Left to vmap: layers whose rows are not samples (their first axis does not follow the batch size), and layers whose
    gradient does not come from their own calls alone (tied or borrowed weights, outputs changed in place).
    """
    name_of = {id(param): name for name, param in params.items()}
    layers = [part for part in module.modules() if isinstance(part, nn.Linear) and id(part.weight) in name_of]
    for size in (2, 3):
        rows = torch.arange(size) % _rows(batch)
        probe = {key: value[rows.to(value.device)] for key, value in batch.items()}
        pairs, expected = _run(module, sample_loss, probe, layers, [layer.weight for layer in layers])
        slopes = dict(zip(layers, expected, strict=True))
        layers = [layer for layer in layers if _describes(pairs[layer], slopes[layer], size)]
    own = {layer: [layer.weight] if layer.bias is None else [layer.weight, layer.bias] for layer in layers}
    return {layer: [name_of[id(param)] for param in pair if id(param) in name_of] for layer, pair in own.items()}


def _describes(pairs: Pairs, expected: Tensor | None, size: int) -> bool:
    if expected is None or not pairs or any(value.dim() < 2 or len(value) != size for value, _ in pairs):
        return False
    found = torch.stack([slope.flatten(0, -2).T @ value.flatten(0, -2) for value, slope in pairs]).sum(0)
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def _add_linear(
    total: Fisher, module: nn.Module, sample_loss: SampleLoss, part: Batch, layers: Mapping[nn.Linear, Sequence[str]]
) -> None:
    pairs, _ = _run(module, sample_loss, part, list(layers))
    for layer, names in layers.items():
        if not pairs[layer]:
            continue
        # Every call of the layer, and every step of a chunk, adds to one sample's gradient: (B, calls * steps, width).
        value = torch.cat([value.reshape(len(value), -1, value.shape[-1]) for value, _ in pairs[layer]], 1)
        slope = torch.cat([slope.reshape(len(slope), -1, slope.shape[-1]) for _, slope in pairs[layer]], 1)
        total[names[0]] += _squared_weight_gradients(value, slope)
        if len(names) > 1:
            total[names[1]] += slope.sum(1).square().sum(0)


def _squared_weight_gradients(value: Tensor, slope: Tensor) -> Tensor:
    """Sum over samples of the squared (out, in) gradient; value (B, T, in), slope (B, T, out)."""
    if value.shape[1] == 1:  # the outer form of this file's head
        return slope[:, 0].square().T @ value[:, 0].square()
    value, slope = value.detach(), slope.detach()
    total = value.new_zeros(slope.shape[2], value.shape[2])
    gradient = torch.empty_like(total)
    for row in range(len(value)):  # one at a time stays in the cache: five times faster than a batched product
        torch.mm(slope[row].T, value[row], out=gradient)
        total.addcmul_(gradient, gradient)
    return total
