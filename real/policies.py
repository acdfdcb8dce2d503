"""The policies that may run on a robot, and whether one fits its env: asked before anything is armed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from neon_sim.env_config import ALL_SENSORS, NeonG1Config
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.inference.policy import Policy
from neon_sim.inference.references import ZeroPolicy

if TYPE_CHECKING:
    from neon_sim.model.neon_vla import NeonVLA
    from neon_sim.real.env import NeonG1RealEnv

_NEEDED: Final = ("proprio", "camera")  # without the others a network was trained to do


def load_model(name: str, device: str | None = None) -> "NeonVLA | None":
    """The network of a checkpoint's folder, or None for `zero`, which has none. device: as `NeonVLA.from_pretrained`.

    Raises:
        ValueError: a policy that needs a simulation's truth, or no whole checkpoint.
    """
    if name == "zero":
        return None
    if name in ("expert", "random"):
        raise ValueError(f"The policy {name!r} is for simulations: it knows the truth, or nothing. Use a checkpoint.")
    from neon_sim.model.neon_vla import NeonVLA

    return NeonVLA.from_pretrained(Path(name), device=device)


def build_policy(model: "NeonVLA | None", env: "NeonG1RealEnv", engine: str = "eager") -> Policy:
    """A checkpoint's policy, or without one that which goes home.

    engine: of `neon_sim.inference.engines`; by another than "eager" the model is on its device and stays there.

    Raises:
        ValueError: the checkpoint does not fit the env, or the engine the device.
    """
    if model is None:
        return ZeroPolicy(env)
    check_fit(model, env.action_map, env.config.sensors)
    from neon_sim.inference.neon_policy import NeonPolicy

    return NeonPolicy(model, engine=engine)


def senses_of(model: "NeonVLA") -> tuple[str, ...]:
    """The env's sensors that a network has encoders for."""
    return _NEEDED + tuple(name for name in model.senses if name in ALL_SENSORS and name not in _NEEDED)


def check_fit(model: "NeonVLA", space: G1ActionSpace, sensors: Sequence[str]) -> None:
    """Refuse a network whose actions mean something else in the env, or that would have nothing to look at.

    Args:
        space: of the env's actions.
        sensors: of the env.

    Raises:
        ValueError: it does not fit, in words.
    """
    space.require_equal(model.action_space)
    missing = [name for name in _NEEDED if name not in sensors]
    if missing:
        raise ValueError(
            f"The policy needs the sensor {' and '.join(map(repr, missing))}, got {list(sensors)}. Name it in the "
            f"env's sensors; this checkpoint was trained with {list(senses_of(model))}."
        )
    if "audio" in sensors and "audio" in model.senses and model.config.microphones != 1:
        raise ValueError(
            f"This checkpoint hears with {model.config.microphones} microphones, the robot has one. Leave 'audio' "
            "out of the sensors, or train with NeonConfig(microphones=1)."
        )


def world_config(
    model: "NeonVLA | None", control_mode: str | None, sensors: Sequence[str] | None, steps: int
) -> NeonG1Config:
    """The env's settings for a checkpoint, or for `zero` (None): what is left open (None) is the checkpoint's own.

    Raises:
        ValueError: what was said does not fit the checkpoint.
    """
    space = G1ActionSpace() if model is None else model.action_space
    if sensors is None:
        sensors = ("proprio",) if model is None else senses_of(model)
    config = NeonG1Config(
        control_mode=control_mode or str(space.control_mode),
        action_center=space.action_center,
        sensors=tuple(sensors),
        max_steps=steps,
    )
    if model is not None:
        check_fit(model, G1ActionSpace(config.control_mode, config.action_center), config.sensors)
    return config
