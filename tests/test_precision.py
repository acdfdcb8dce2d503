"""bfloat16 is used where the device has it, and only there."""

import platform
from pathlib import Path

import pytest
import torch

from neon_sim.training.precision import has_bfloat16, mixed_precision


def product_dtype(wanted: bool) -> torch.dtype:
    with mixed_precision(torch.device("cpu"), wanted):
        return torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3)).dtype


def test_the_cpu_is_asked_and_its_answer_followed(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    for answer, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda answer=answer: answer)
        assert has_bfloat16(torch.device("cpu")) is answer
        assert product_dtype(wanted=True) == dtype
        assert product_dtype(wanted=False) == torch.float32


@pytest.mark.skipif(platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(), reason="asks Linux on x86")
def test_the_processor_has_what_linux_says_of_it():
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert has_bfloat16(torch.device("cpu")) == bool(flags & {"avx512_bf16", "amx_tile"})


def test_a_device_that_nobody_knows_has_none():
    assert not has_bfloat16(torch.device("meta"))
