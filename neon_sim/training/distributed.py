"""One process or many: torchrun (or `accelerate launch`) says which by environment variables, as torch defines them.

Heads are small: every process has all of them, and their gradients are added up. A foundation model that is trained, or
carries a LoRA adapter, can be spread instead (FSDP2): each process keeps a share of every weight and gathers a layer
when it is that layer's turn.
"""

import atexit
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from neon_sim.model.backbones.loading import pick_device


@dataclass(frozen=True)
class Team:
    """This process among those that train together."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """True for the one that writes files and shows progress."""
        return self.rank == 0

    def total(self, value: float) -> float:
        """Sum of a number over all processes."""
        if self.size == 1:
            return value
        summed = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(summed)
        return float(summed)

    def sum_gradients(self, params: Sequence[nn.Parameter]) -> None:
        """Add up every parameter's gradient over all processes; no gradient counts as zero.

        One reduction after the last backward pass: the few million weights of the heads are not worth overlapping, and
        processes may have had different numbers of passes, or other parameters in them.
        What is spread over the processes was added up as it came.
        """
        if self.size == 1:
            return
        params = [param for param in params if not is_spread(param)]
        for param in params:
            if param.grad is None:
                param.grad = torch.zeros_like(param)
        flat = torch.cat([param.grad.reshape(-1) for param in params])  # type: ignore[union-attr]
        dist.all_reduce(flat)
        for param, part in zip(params, flat.split([param.numel() for param in params]), strict=True):
            param.grad = part.view_as(param)

    def spread(self, module: nn.Module) -> None:
        """FSDP2: keep a share of each of the module's weights here, layers of its `ModuleList`s one at a time.

        Gradients are added up, not averaged: each process's loss is its part of one mean (D16). Nothing happens to a
        process that is alone. Raises ValueError for weights of four bits, which cannot be cut.
        """
        if self.size == 1:
            return
        whole_numbers = [name for name, param in module.named_parameters() if not param.is_floating_point()]
        if whole_numbers:
            raise ValueError(
                f"Only floating-point weights can be spread over processes, and {whole_numbers[0]} is not. "
                "Set BackboneConfig.load_in_4bit to False, or train without shard_backbone."
            )
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        mesh = init_device_mesh(self.device.type, (self.size,))
        for part in (*_layers(module), module):
            fully_shard(part, mesh=mesh)
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.set_gradient_divide_factor(1.0)
                part.set_force_sum_reduction_for_comms(True)  # gloo has no sum with a factor

    def clip_gradients(self, params: Sequence[nn.Parameter], max_norm: float) -> None:
        """Shorten the gradient of all parameters together to `max_norm`, wherever their shares lie."""
        if not any(is_spread(param) for param in params):
            nn.utils.clip_grad_norm_(params, max_norm)
            return
        shares = [local(param.grad) for param in params if is_spread(param) and param.grad is not None]
        own = [param.grad for param in params if not is_spread(param) and param.grad is not None]
        squared = self.total(_square(shares)) + _square(own)
        scale = min(1.0, max_norm / (squared**0.5 + 1e-6))
        for grad in (*shares, *own):
            grad.mul_(scale)

    def most(self, count: int) -> int:
        """The largest of everybody's counts."""
        if self.size == 1:
            return count
        largest = torch.tensor(count, device=self.device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def wait(self) -> None:
        """Until everybody is here."""
        if self.size > 1:
            dist.barrier()


def is_spread(value: Any) -> bool:
    """Whether a tensor lies in shares on several processes."""
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)


def local(value: Any) -> torch.Tensor:
    """The share of a spread tensor that lies here."""
    part: torch.Tensor = value.to_local()
    return part


def gathered(state: Any) -> Any:
    """Dicts and lists of tensors with every spread one put together: every process must ask for it, in equal order."""
    if isinstance(state, Mapping):
        return {key: gathered(value) for key, value in state.items()}
    if isinstance(state, list):
        return [gathered(value) for value in state]
    return state.full_tensor() if is_spread(state) else state


def keep_shares(module: nn.Module) -> None:
    """Let go of weights that FSDP2 has put together and not cut again: the outermost, after a pass without gradients.

    Nothing is exchanged, and a module that is not spread stays as it is.
    """
    from torch.distributed.fsdp import FSDPModule

    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def share_of(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor cut as `like` is; as it was where that is not spread, or has another shape."""
    if not is_spread(like) or whole.shape != like.shape:
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole, like.device_mesh, like.placements)  # type: ignore[attr-defined]


def spread_optimizer_state(optimizer: torch.optim.Optimizer) -> None:
    """Cut what was loaded whole beside parameters that are spread."""
    for param, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and not is_spread(value):
                state[name] = share_of(value, param)


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """The members of the outermost `ModuleList`s: the repeated layers of a transformer."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _layers(child)


def _square(values: Sequence[torch.Tensor]) -> float:
    return float(sum(value.float().square().sum() for value in values))


def _leave_team() -> None:
    """End the process group's threads: one that still runs while the process ends has aborted it (gloo, exit -6)."""
    if dist.is_initialized():
        dist.destroy_process_group()


def join_team(device: str) -> Team:
    """Start the process group if the environment names one; `device` is "auto", "cuda", "mps" or "cpu".

    NCCL between GPUs, gloo between CPUs.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    picked = pick_device(device)
    if size == 1:
        return Team(0, 1, picked)
    if picked.type == "cuda":
        picked = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(picked)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if picked.type == "cuda" else "gloo")
        atexit.register(_leave_team)
    return Team(rank, size, picked)
