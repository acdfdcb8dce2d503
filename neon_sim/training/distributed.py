"""One process or many: torchrun (or `accelerate launch`) says which by environment variables, as torch defines them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

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
        """
        if self.size == 1:
            return
        for param in params:
            if param.grad is None:
                param.grad = torch.zeros_like(param)
        flat = torch.cat([param.grad.reshape(-1) for param in params])  # type: ignore[union-attr]
        dist.all_reduce(flat)
        for param, part in zip(params, flat.split([param.numel() for param in params]), strict=True):
            param.grad = part.view_as(param)

    def wait(self) -> None:
        """Until everybody is here."""
        if self.size > 1:
            dist.barrier()


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
    return Team(rank, size, picked)
