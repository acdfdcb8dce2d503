"""Words as an observation: UTF-8 in a fixed number of bytes."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from neon_sim.names import nearest

INSTRUCTION_BYTES: Final = 256


def encode_instruction(text: str) -> np.ndarray:
    """Text -> (256,) uint8, UTF-8, zero-padded; refuses what does not fit."""
    raw = text.encode()
    if len(raw) > INSTRUCTION_BYTES:
        raise ValueError(f"An instruction has at most {INSTRUCTION_BYTES} bytes of UTF-8, got {len(raw)}. Shorten it.")
    return np.frombuffer(raw.ljust(INSTRUCTION_BYTES, b"\0"), np.uint8).copy()


def decode_instruction(code: np.ndarray) -> str:
    """Inverse of `encode_instruction`."""
    return bytes(np.asarray(code, np.uint8)).rstrip(b"\0").decode()


def instruction_option(options: Mapping[str, Any]) -> str | None:
    """The words among `reset`'s options, or None. Raises ValueError for another option, or words that do not fit."""
    for name in options:
        if name != "instruction":
            raise nearest("reset option", name, ["instruction"])
    words = options.get("instruction")
    if words is not None and not isinstance(words, str):
        raise ValueError(f"The option instruction is a text, got {words!r}.")
    if words is not None:
        encode_instruction(words)
    return words
