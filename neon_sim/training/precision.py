"""When to compute in bfloat16: where the device can, which many CPUs cannot."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 itself: a CPU that imitates it takes ten times as long as in float32.

    A CPU with AVX512_BF16 or AMX has it.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return device.type == "mps"


def mixed_precision(device: torch.device, wanted: bool = True) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 if it is wanted and the device has it, else nothing."""
    return torch.autocast(device.type, torch.bfloat16) if wanted and has_bfloat16(device) else nullcontext()
