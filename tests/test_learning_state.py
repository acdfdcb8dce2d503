"""A saved learner goes on to the bit; a kill, a full disk, a wrong file and another head lose nothing."""

import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_self_learner import SMALL, _made_up
from tiny_neon import tiny_model

from neon_sim.training.adoption import AdoptionConfig
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.drift import DriftConfig
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.learning_state import load_learning_state, save_learning_state
from neon_sim.training.protection import EWCConfig, EWCReplayConfig, ReplayConfig
from neon_sim.training.self_learner import NeonSelfLearner, SelfLearnerConfig

EVERYTHING = replace(
    SMALL,
    protection=EWCReplayConfig(replay=ReplayConfig(budget_bytes=200_000)),
    drift=DriftConfig(group=1, baseline=4),
    drift_ends_regimes=False,  # `_live` says when
    adoption=AdoptionConfig(hold_back_every=2),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's one tiny backbone lies."""
    return tmp_path_factory.mktemp("backbone")


def _learner(folder: Path, config: SelfLearnerConfig = EVERYTHING, **model_changes: object) -> NeonSelfLearner:
    model = tiny_model(folder, **model_changes)
    torch.manual_seed(2)
    return NeonSelfLearner(model, ForwardModel.for_model(model), config)


def _live(learner: NeonSelfLearner, residuals: list[float]) -> None:
    """Some episodes of experience, some residuals, some learning, the end of a regime."""
    learner._keep(_made_up(20))
    learner._keep(_made_up(24))
    assert learner.drift is not None
    for value in residuals:
        learner.drift.observe(value)
    learner.learn()
    learner.protect(*learner.known())
    learner.learn()


def _same(one: NeonSelfLearner, other: NeonSelfLearner) -> bool:
    return _equal(one.state_dict(), other.state_dict())


def _equal(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other


def test_a_resumed_learner_goes_on_to_the_bit(folder: Path, tmp_path: Path) -> None:
    """Weights, moments, anchors, Fisher, reservoir, held-back buffer, adoption, drift and all three generators."""
    learner = _learner(folder)
    _live(learner, [1.0] * 4 + [50.0] * 4)
    assert learner.drift is not None and learner.drift.speed > 0 and learner.gate is not None
    assert learner.gate.proposals >= 2 and learner.protection is not None and len(learner.strategy.sample(4)["goal"])  # type: ignore[index]
    curve = [{"episode": 0, "success": True}]
    save_learning_state(tmp_path / "state.pt", learner, {"curve": curve})
    noise = torch.rand(3)
    other = _learner(folder)
    for rng in (other.rng, other.policy.rng):
        rng.random()
    assert load_learning_state(tmp_path / "state.pt", other) == {"curve": curve}
    assert torch.equal(torch.rand(3), noise)
    assert _same(learner, other)
    for one in (learner, other):
        torch.manual_seed(0)
        _live(one, [40.0, 30.0])
    assert _same(learner, other)
    assert learner.policy.rng.random() == other.policy.rng.random()


def test_a_head_that_samples_is_protected_and_resumed_too(folder: Path, tmp_path: Path) -> None:
    """Its noise comes from torch's own generator, which is part of the state; its Fisher does not draw from it."""
    config = replace(SMALL, protection=EWCConfig(), fisher_samples=4)
    learner, other = (_learner(folder, config, head={"head_type": "flow"}) for _ in range(2))
    learner.buffer.extend(_made_up(20))
    before = torch.get_rng_state()
    learner.protect(*learner.known())
    assert torch.equal(torch.get_rng_state(), before)
    assert learner.protection is not None and learner.protection.anchor_count == 1
    save_learning_state(tmp_path / "state.pt", learner)
    first = learner.update()
    load_learning_state(tmp_path / "state.pt", other)
    assert other.update() == first and _same(learner, other)


def test_another_policy_of_the_same_shape_is_refused(folder: Path, tmp_path: Path) -> None:
    save_learning_state(tmp_path / "state.pt", _learner(folder))
    other = _learner(folder)
    with torch.no_grad():  # a weight that does not learn
        next(value for name, value in other.model.named_parameters() if name.startswith("goal_reader")).add_(1e-3)
    other = NeonSelfLearner(other.model, other.forward_model, EVERYTHING)
    before = other.state_dict()
    with pytest.raises(ValueError, match="another policy of the same shape"):
        load_learning_state(tmp_path / "state.pt", other)
    assert _equal(before, other.state_dict())


def test_other_settings_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    save_learning_state(tmp_path / "state.pt", _learner(folder))
    slower = _learner(folder, replace(EVERYTHING, learning_rate=1e-5))
    with pytest.raises(ValueError, match=r"other settings \(learning_rate 0.0001 there, 1e-05 here\)"):
        load_learning_state(tmp_path / "state.pt", slower)


def test_another_head_is_refused_and_the_learner_stays(folder: Path, tmp_path: Path) -> None:
    save_learning_state(tmp_path / "state.pt", _learner(folder))
    wider = _learner(folder, goal_width=24)
    before = {name: value.detach().clone() for name, value in wider.params.items()}
    with pytest.raises(ValueError, match=r"saved with another head: \d+ parameters differ .*there, .*here.*Load the"):
        load_learning_state(tmp_path / "state.pt", wider)
    assert all(torch.equal(value, before[name]) for name, value in wider.params.items())


def test_another_strategy_is_refused_and_the_learner_stays(folder: Path, tmp_path: Path) -> None:
    saved = _learner(folder, replace(SMALL, protection=EWCConfig(2.0)))
    saved.buffer.extend(_made_up(20))
    saved.update()
    save_learning_state(tmp_path / "state.pt", saved)
    other = _learner(folder, replace(SMALL, protection=ReplayConfig()))
    before = {name: value.detach().clone() for name, value in other.params.items()}
    with pytest.raises(ValueError, match=r"protection EWCConfig\(strength=2.0\) there, ReplayConfig"):
        load_learning_state(tmp_path / "state.pt", other)
    assert all(torch.equal(value, before[name]) for name, value in other.params.items()) and not other.buffer


def test_a_file_that_is_no_state_is_refused(folder: Path, tmp_path: Path) -> None:
    learner, path = _learner(folder), tmp_path / "state.pt"
    with pytest.raises(FileNotFoundError):
        load_learning_state(path, learner)
    save_learning_state(path, learner)
    whole = path.read_bytes()
    for content in (b"", b"nonsense", whole[:-500], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="no whole learning state"):
            load_learning_state(path, learner)
    for foreign in ([1, 2], {"weights": torch.zeros(1)}):
        torch.save(foreign, path)
        with pytest.raises(ValueError, match="no whole learning state"):
            load_learning_state(path, learner)
    path.write_bytes(whole)
    state = torch.load(path, weights_only=True)
    torch.save({**state, "format": 99}, path)
    with pytest.raises(ValueError, match="has format 99; this version reads 1"):
        load_learning_state(path, learner)


# Writes "n" and then 8 MB that all say n, again and again; prints n when the write has returned.
_WRITER = """
import sys
from pathlib import Path
from neon_sim.training.atomic_file import replace_bytes
n = 0
while True:
    n += 1
    replace_bytes(Path(sys.argv[1]), n.to_bytes(8, "little") * 1_000_000)
    print(n, flush=True)
"""


def test_sigkill_in_mid_save_loses_nothing_that_was_saved(tmp_path: Path) -> None:
    """Killed while a new file is being written: what is there is whole, and as new as what was acknowledged."""
    path = tmp_path / "state.pt"
    partial = tmp_path / "state.pt.partial"
    for _ in range(2):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "1\n"
        _wait_for_half_a_file(partial)
        writer.send_signal(signal.SIGKILL)
        told = [1, *map(int, writer.stdout.read().split())]
        assert writer.wait() == -signal.SIGKILL
        content = path.read_bytes()
        found = int.from_bytes(content[:8], "little")
        assert content == found.to_bytes(8, "little") * 1_000_000  # all of one state
        assert found in (told[-1], told[-1] + 1)  # the last that was acknowledged, or the next


def _wait_for_half_a_file(partial: Path) -> None:
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        try:
            if partial.stat().st_size > 0:
                return
        except FileNotFoundError:
            pass
    raise AssertionError("no save was seen in a minute")


def test_a_full_disk_keeps_the_old_state_and_says_so(folder: Path, tmp_path: Path) -> None:
    """A limit on the size of a file stands for the full disk: the write fails half way in the same manner."""
    learner, path = _learner(folder), tmp_path / "state.pt"
    save_learning_state(path, learner, {"episode": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="Could not save to .*state.pt.*What was saved there before is kept"):
            save_learning_state(path, learner, {"episode": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["state.pt"]
    assert load_learning_state(path, _learner(folder)) == {"episode": 1}
    save_learning_state(path, learner, {"episode": 3})
    assert load_learning_state(path, learner) == {"episode": 3}


def test_a_folder_is_made_and_a_stale_partial_file_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.pt"
    replace_bytes(path, b"one")
    path.with_name("state.pt.partial").write_bytes(b"left by a process that was killed")
    replace_bytes(path, b"two")
    assert path.read_bytes() == b"two" and os.listdir(path.parent) == ["state.pt"]
