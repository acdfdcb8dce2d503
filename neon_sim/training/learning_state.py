"""A learner's whole state in one file that is either the old one or the new one, whenever the power goes.

Weights, optimisers, Fisher and anchors, buffers, drift, adoption and every random generator: a resumed learner goes on
to the bit. The file says which head it belongs to, on which policy and with which settings; others' are refused.
"""

import copy
import io
import pickle
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import torch

from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.self_learner import NeonSelfLearner

FORMAT: Final = 1
_DAMAGE = (EOFError, RuntimeError, TypeError, KeyError, AttributeError, pickle.UnpicklingError)


def save_learning_state(path: Path, learner: NeonSelfLearner, extra: Mapping[str, Any] | None = None) -> None:
    """Write `path`, between two episodes. When it returns, the state is on the disk.

    Args:
        path: the file; its folder is made if it is missing.
        learner: what to save.
        extra: more to keep beside it, such as the learning curve: plain types and tensors.

    Raises:
        OSError: it cannot be written (a full disk, say); what had been saved there before is still there.
    """
    buffer = io.BytesIO()
    state = {
        "format": FORMAT,
        "head": head_layout(learner),
        "frozen": _frozen(learner),
        "config": _settings(learner),
        "learner": learner.state_dict(),
        "torch_rng": torch.get_rng_state(),  # heads that sample draw from it
        "extra": dict(extra or {}),
    }
    torch.save(state, buffer)
    replace_bytes(path, buffer.getbuffer())


def load_learning_state(path: Path, learner: NeonSelfLearner) -> dict[str, Any]:
    """Make `learner` what it was, torch's random generator included; returns `extra`.

    Raises:
        FileNotFoundError: nothing was saved there.
        ValueError: the file is damaged, of another format, head or policy, or of other settings. The learner is as it
            was.
    """
    state = _read(path)
    if state["format"] != FORMAT:
        raise ValueError(f"{path} has format {state['format']}; this version reads {FORMAT}. Upgrade neon_sim.")
    _refuse_other_head(path, state["head"], head_layout(learner))
    if state.get("frozen", _frozen(learner)) != _frozen(learner):  # states of before there was this do not say
        raise ValueError(f"{path} was saved with another policy of the same shape. Load the policy it belongs to.")
    _refuse_other_settings(path, state.get("config", {}), _settings(learner))
    before = copy.deepcopy(learner.state_dict())  # what it gives are the weights themselves
    try:
        learner.load_state_dict(state["learner"])
    except (ValueError, RuntimeError, KeyError) as error:
        learner.load_state_dict(before)
        raise ValueError(f"{path} does not fit this learner's config ({error}). Resume with its own.") from error
    torch.set_rng_state(state["torch_rng"])
    return dict(state["extra"])


def head_layout(learner: NeonSelfLearner) -> dict[str, list[int]]:
    """Name and shape of each parameter that learns: what tells one head from another."""
    return {name: list(param.shape) for name, param in learner.params.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, weights_only=True)
        return dict(state) | {name: state[name] for name in ("format", "head", "learner", "torch_rng", "extra")}
    except _DAMAGE as error:
        raise ValueError(f"{path} is no whole learning state ({error}). Start from the policy's checkpoint.") from error


def _frozen(learner: NeonSelfLearner) -> str | None:
    return getattr(learner, "frozen", None)  # a residual learner's net learns as a whole


def _settings(learner: NeonSelfLearner) -> dict[str, str]:
    return {field.name: repr(getattr(learner.config, field.name)) for field in fields(learner.config)}


def _refuse_other_settings(path: Path, saved: Mapping[str, str], present: Mapping[str, str]) -> None:
    odd = sorted(name for name in saved if saved[name] != present.get(name))
    if odd:
        shown = ", ".join(f"{name} {saved[name]} there, {present.get(name, 'missing')} here" for name in odd[:3])
        raise ValueError(
            f"{path} was saved with other settings ({shown}). Go on with those, or begin with the policy that it has"
            " learned, in another folder."
        )


def _refuse_other_head(path: Path, saved: Mapping[str, list[int]], present: Mapping[str, list[int]]) -> None:
    if saved == present:
        return
    odd = sorted(name for name in set(saved) | set(present) if saved.get(name) != present.get(name))
    shown = ", ".join(
        f"{name} {saved.get(name, 'missing')} there, {present.get(name, 'missing')} here" for name in odd[:3]
    )
    raise ValueError(
        f"{path} was saved with another head: {len(odd)} parameters differ ({shown}). Load the policy it belongs to."
    )
