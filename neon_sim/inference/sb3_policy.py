"""A folder of agents/train_ppo.py as a policy: which world it was trained in, and its actor, one action at a time.

A Stable-Baselines3 file is a pickle: load only folders that you trust.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from neon_sim.training.run_folder import MARKER
from neon_sim.wrappers.goal import goal_view

POLICY_FILE: Final = "policy.zip"  # a model of Stable-Baselines3, and in the same zip what follows
STATISTICS: Final = "observation_statistics.npz"
ALGORITHMS: Final = ("ppo", "sac")
CLIP: Final = 10.0  # standard deviations, of observations; VecNormalize's own
_EPSILON: Final = 1e-8  # VecNormalize's own
INSTALL: Final = "pip install 'neon-sim[train]'"
# Playing needs no memory of what was played.
_FORGOTTEN: Final[dict[str, Any]] = {"replay_buffer_class": None, "replay_buffer_kwargs": {}, "buffer_size": 1}


@dataclass(frozen=True)
class Sb3Run:
    """What a training by Stable-Baselines3 says of itself.

    folder: where it is. her: whether it sees the goal view of reach instead of the vectors named in `keys`.
    """

    folder: Path
    algo: str
    her: bool
    task: str
    control_mode: str
    action_center: str
    sensors: tuple[str, ...]
    physics_dt: float  # s
    keys: tuple[str, ...]

    def env_options(self) -> dict[str, Any]:
        """Options of `NeonG1-v0` that make the world it was trained in."""
        names = ("task", "control_mode", "action_center", "sensors", "physics_dt")
        return {name: getattr(self, name) for name in names}

    def check_task(self, task: str) -> None:
        """Raise ValueError if it is to do another task than the one it was trained on."""
        if task != self.task:
            raise ValueError(
                f"{self.folder} was trained on {self.task!r}, not on {task!r}: its observation is that task's truth. "
                f"Ask for {self.task!r}, or train another one: agents/train_ppo.py --task {task}"
            )


def find_run(folder: Path) -> Sb3Run | None:
    """What a folder of agents/train_ppo.py says of itself; None if it is no such folder."""
    marker = folder / MARKER
    if not marker.is_file():
        return None
    settings = json.loads(marker.read_text(encoding="utf-8"))
    if settings.get("algo") not in ALGORITHMS:
        return None
    values: dict[str, Any] = {name: tuple(settings[name]) for name in ("sensors", "keys")}
    for name in ("algo", "her", "task", "control_mode", "action_center", "physics_dt"):
        values[name] = settings[name]
    return Sb3Run(folder, **values)


@dataclass(frozen=True)
class ObservationScale:
    """The running mean and variance that observations were brought to zero and one with, by key ("" for a vector)."""

    mean: Mapping[str, np.ndarray]
    var: Mapping[str, np.ndarray]
    count: Mapping[str, float]

    def __call__(self, key: str, value: np.ndarray) -> np.ndarray:
        """A key's value, scaled and clipped as in training."""
        if key not in self.mean:
            return value
        scaled = (value - self.mean[key]) / np.sqrt(self.var[key] + _EPSILON)
        return np.clip(scaled, -CLIP, CLIP).astype(np.float32)

    def to_bytes(self) -> bytes:
        """As an .npz file: three arrays a key."""
        parts = {"mean": self.mean, "var": self.var, "count": self.count}
        arrays: dict[str, Any] = {f"{part}/{key}": v for part, table in parts.items() for key, v in table.items()}
        out = io.BytesIO()
        np.savez(out, **arrays)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "ObservationScale":
        """What `to_bytes` wrote."""
        tables: dict[str, dict[str, Any]] = {"mean": {}, "var": {}, "count": {}}
        with np.load(io.BytesIO(content)) as stored:
            for name in stored.files:
                part, _, key = name.partition("/")
                tables[part][key] = float(stored[name]) if part == "count" else stored[name]
        return cls(**tables)


def require_sb3() -> Any:
    """The package stable_baselines3.

    Raises:
        ModuleNotFoundError: it is not installed; how to install it.
    """
    try:
        import stable_baselines3
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"Plain RL needs stable_baselines3: {INSTALL}") from error
    return stable_baselines3


def read_scale(path: Path) -> ObservationScale:
    """How the observations of a policy file were scaled."""
    with zipfile.ZipFile(path) as archive:
        return ObservationScale.from_bytes(archive.read(STATISTICS))


def load_model(run: Sb3Run) -> tuple[Any, ObservationScale]:
    """A run's newest model of Stable-Baselines3, on the CPU, and the scale of its observations.

    Raises:
        ValueError: the run has not come to its first checkpoint.
        ModuleNotFoundError: stable_baselines3 is not installed.
    """
    path = run.folder / POLICY_FILE
    if not path.is_file():
        raise ValueError(
            f"{run.folder} holds no {POLICY_FILE} yet. Let agents/train_ppo.py run to its first checkpoint."
        )
    return _load(str(path), run.algo, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _load(path: str, algo: str, changed_ns: int) -> tuple[Any, ObservationScale]:
    """Read once in each process, until the file changes."""
    kind = getattr(require_sb3(), algo.upper())
    forgotten = _FORGOTTEN if algo == "sac" else None
    return kind.load(path, device="cpu", custom_objects=forgotten), read_scale(Path(path))


class Sb3Policy:
    """A trained actor as a `neon_sim.inference.policy.Policy` whose chunks are one action long: it reacts at 50 Hz.

    Args:
        run: what was trained.
        env: the unwrapped NeonG1Env that it acts in; with `her`, its truth is where the goal comes from.

    Raises:
        ValueError: the env is of another task or control mode, or lacks a sensor; or there is no checkpoint yet.
    """

    def __init__(self, run: Sb3Run, env: Any) -> None:
        _check_env(run, env.config)
        self.run, self._env = run, env
        self._model, self._scale = load_model(run)
        self._obs: Mapping[str, np.ndarray] | None = None

    def reset(self, env_ids: list[int] | None = None) -> None:
        """It remembers nothing but the last observation."""
        self._obs = None

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """Keep the newest observation."""
        self._obs = obs

    def act(self) -> np.ndarray:
        """(1, 1, A): the actor's mean for the newest observation.

        Raises:
            ValueError: nothing has been observed.
        """
        if self._obs is None:
            raise ValueError("Nothing was observed yet: call observe() before act().")
        seen: Any
        if self.run.her:
            view = goal_view(self._obs, self._env.privileged())
            seen = {key: self._scale(key, value) for key, value in view.items()}
        else:
            seen = self._scale("", np.concatenate([self._obs[key] for key in self.run.keys]))
        action, _ = self._model.predict(seen, deterministic=True)
        return np.asarray(action)[None, None]


def _check_env(run: Sb3Run, config: Any) -> None:
    run.check_task(config.task)
    for name in ("control_mode", "action_center"):
        if getattr(config, name) != getattr(run, name):
            wanted, came = getattr(run, name), getattr(config, name)
            raise ValueError(f"{run.folder} was trained with {name}={wanted!r}, this env has {came!r}. Make it so.")
    missing = [name for name in run.sensors if name not in config.sensors]
    if missing:
        raise ValueError(f"{run.folder} reads the sensors {run.sensors}; this env lacks {missing}. Add them.")
