"""What was played lies in files, one for each job: whose it is, and what it follows from."""

import datetime
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import torch

from neon_sim.shipped import code_digest, walker_fingerprint
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.world_model.bundle import DESCRIPTION_FILE, PARTS_FILE, Bundle, load_bundle
from neon_sim.world_model.lewm import WEIGHTS_FILE
from neon_sim.world_model.report import commit

_WHERE: Final = ("path", "model")  # of a job: where things lie says nothing about how it was played
# What an episode follows from besides settings, weights and walker: the simulator and what it is seen by, how problems
# are found, trials judged, tasks made, what a picture becomes, and how it is planned.
_SIMULATOR: Final = ("env", "env_config", "cells", "safety", "sim/*", "g1/*", "vector_env/forks")
_SENSES: Final = ("camera", "*_renderer", "proprio", "robot_noise")
_TASKS: Final = (
    "navigate", "reach", "push_box", "boxes", "objects", "path", "arms", "palms", "task", "tolerance", "wording",
)  # fmt: skip
_WORLD: Final = ("trial", "problems", "worlds", "rollouts", "command_space", "references", "judging")
_PLANS: Final = (
    "controllers", "planner", "plan", "bundle", "config", "lewm", "encoder", "predictor", "readout", "sight",
    "amortised",
)  # fmt: skip
_CODE: Final = (
    *(f"{name}.py" for name in _SIMULATOR),
    *(f"sensors/{name}.py" for name in _SENSES),
    *(f"tasks/{name}.py" for name in _TASKS),
    *(f"world_model/{name}.py" for name in (*_WORLD, *_PLANS)),
)


def played_once(
    job: Any, play: Callable[[Bundle], list[dict[str, Any]]], also: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """The rows in the job's file; if there is none, those that `play` makes with its world model, which are kept there.

    job: a dataclass with `path` and `model`. also: source files that rows of this kind follow from besides what all do,
    as `code_digest` takes them. A file belongs to settings, weights, walker and code, not to a place: it may be moved,
    and so may the weights. Raises ValueError for a file of others: what it says is not about this model in this world.
    """
    path = Path(job.path)
    described = description_of(job, also)
    if path.exists():
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["job"] != described:
            other = [name for name, value in described.items() if saved["job"].get(name) != value]
            raise ValueError(
                f"{path} was played with other settings or weights ({', '.join(other)}): {saved['job']}. Remove it, or "
                "keep what is to come in another folder."
            )
        return list(saved["rows"])
    torch.set_num_threads(1)
    began = time.perf_counter()
    rows = play(load_bundle(Path(job.model)))
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"job": described, "seconds": round(time.perf_counter() - began, 2), "played": _now(), "rows": rows}
    replace_bytes(path, (json.dumps(kept) + "\n").encode())
    return rows


def description_of(job: Any, also: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a job's rows follow from, as its file has it: settings, and digests of weights, walker and code. also: see
    `played_once`.
    """
    settings = {name: value for name, value in asdict(job).items() if name not in _WHERE}
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    weights = fingerprint(Path(job.model))
    return plain | {"weights": weights, "walker": walker_fingerprint(), "code": code_digest(*_CODE, *also)}


def stamp_of(path: Path) -> str:
    """The day on which a job's file was made, and the commit of the code: "2026-01-31, commit 1234567"."""
    return str(json.loads(path.read_text(encoding="utf-8"))["played"])


def _now() -> str:
    return f"{datetime.date.today().isoformat()}, commit {_begun_at()}"


@lru_cache
def _begun_at() -> str | None:
    """The commit of the code that this process runs: what is committed meanwhile it does not know."""
    return commit(Path(__file__).resolve().parent)


def seconds_of(path: Path) -> float | None:
    """How long the job took whose file this is; None if it was not played yet."""
    return float(json.loads(path.read_text(encoding="utf-8"))["seconds"]) if path.exists() else None


def fingerprint(folder: Path) -> str:
    """Of a bundle's weights and of what is written beside them: twelve hexadecimal digits."""
    digest = hashlib.sha256()
    for name in (WEIGHTS_FILE, "config.json", PARTS_FILE, DESCRIPTION_FILE):
        path = folder / name
        digest.update(_file_digest(path, path.stat().st_mtime_ns))
    return digest.hexdigest()[:12]


@lru_cache(maxsize=64)
def _file_digest(path: Path, changed_ns: int) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
