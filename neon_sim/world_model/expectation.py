"""Violation of expectation: one instant twice, as it had to come and with something impossible in the picture.

Of a world model that knows what objects do, a ball that jumps asks more than one that changes its colour (the control,
as published). Up to the violation both worlds are the same to the bit, so the surprises come in pairs.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.command_space import CommandSpace
from neon_sim.world_model.lewm import LeWM
from neon_sim.world_model.probe import paired_test, surprise
from neon_sim.world_model.rollouts import JUDGED_FROM, Behaviour, RolloutConfig
from neon_sim.world_model.worlds import (
    NAMED,
    Moment,
    base_pose,
    from_base,
    in_world,
    moment,
    open_world,
    step_world,
)

VIOLATIONS: Final = ("teleported", "vanished", "recoloured")  # the last one is the control
_JUMP: Final = {"reach": 0.2, "navigate": 0.8, "push_box": 0.4}  # m that a teleported thing moves across the view
_GONE: Final = np.array([-6.0, 0.0])  # m: behind the robot, where it does not look
_DIFFERS: Final = 16  # of 255: what counts as another colour of a pixel
_SEEN: Final = 0.001  # share of the pixels that have to differ, or nobody could be surprised
_MOST_STEPS: Final = 8  # model steps that are seen before


def things_to(env: Any, space: CommandSpace, kind: str) -> list[str]:
    """Bodies of the running episode that a violation can befall: what its instruction names first, then the others."""
    if space.task == "push_box" and kind != "recoloured":
        return [env.task.box.name]
    if space.task == "navigate" and kind == "vanished":
        return [f"obstacle_{i}" for i in env.task.get_state()["standing"]]
    named = env.privileged()["color"]
    there = [body for body in NAMED[space.task] if not _hidden(env, body)]
    return sorted(there, key=lambda body: not body.endswith(named))


def violate(env: Any, space: CommandSpace, kind: str, body: str) -> None:
    """Do the impossible to one of `things_to`; `env.set_state` takes it back.

    teleported: it is on the other side of where the robot looks. vanished: it is behind the robot. recoloured: one of
    a colour that the episode has not is in its place.
    """
    if kind == "recoloured":
        other = next(other for other in NAMED[space.task] if _hidden(env, other))
        env.world.place_object(other, *env.world.object_pose(body))
    if kind != "teleported":
        _move(env, body, _GONE)
        return
    ahead, left = from_base(base_pose(env), np.array(env.world.position(body))[None, :2])[0]
    _move(env, body, np.array([ahead, left - np.copysign(_JUMP[space.task], left)]))


def _hidden(env: Any, body: str) -> bool:
    return bool(env.world.position(body)[2] < -1.0)


def _move(env: Any, body: str, place_b: np.ndarray) -> None:
    """Put a body at (2,) m ahead and left of the robot, as high as it was."""
    height = env.world.position(body)[2]
    env.world.place_object(body, np.array([*in_world(base_pose(env), place_b[None])[0], height]))


def violated_ends(
    env: Any, space: CommandSpace, seed: int, steps: int
) -> tuple[list[Moment], np.ndarray, dict[str, Moment]] | None:
    """`steps` + 1 moments of an episode, the commands (steps, A) between them, and what the last moment is with each
    violation just before it, where there is one that shows. None if the robot fell.
    """
    rng = np.random.default_rng([seed, 41])
    obs, _ = env.reset(seed=JUDGED_FROM + seed)
    behaviour = Behaviour(RolloutConfig(space.task), rng, "noisy")
    commands: list[np.ndarray] = []
    seen, ended = [moment(env, obs)], False
    while len(commands) < steps and not ended:
        before, state = obs, env.get_state()
        commands.append(behaviour.command(env))
        obs, ended = step_world(env, space, commands[-1], before)
        seen.append(moment(env, obs))
    if ended:
        return None

    def end_with(kind: str, body: str) -> Moment:
        env.set_state(state)
        violate(env, space, kind, body)
        return moment(env, step_world(env, space, commands[-1], before)[0])

    ends: dict[str, Moment] = {}
    for kind in VIOLATIONS:
        tried = (end_with(kind, body) for body in things_to(env, space, kind))
        shown = next((end for end in tried if shows(seen[-1].frame, end.frame)), None)
        ends |= {} if shown is None else {kind: shown}
        env.set_state(state)
    return seen, np.array(commands), ends


def shows(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two pictures (S, S, 3) uint8 differ enough for somebody to see it."""
    differs = np.abs(one.astype(int) - other.astype(int)).max(-1) > _DIFFERS
    return bool(differs.mean() >= _SEEN)


@torch.no_grad()
def surprises_at_end(model: LeWM, seen: Sequence[Moment], commands: np.ndarray, ends: Sequence[Moment]) -> np.ndarray:
    """Surprise (E,) at each of `ends`, had it come last instead of the newest of `seen`; the model in eval mode."""

    def encoded(moments: Sequence[Moment]) -> Tensor:
        frames = torch.from_numpy(np.stack([m.frame for m in moments]))[None]
        felt = torch.from_numpy(np.stack([m.proprio for m in moments]))[None]
        return model.encode(frames, felt if model.config.proprio_dim else None)[0]

    past, last = encoded(seen[:-1]), encoded(ends)
    latents = torch.cat([past.expand(len(last), -1, -1), last[:, None]], dim=1)
    actions = torch.as_tensor(commands, dtype=torch.float32).expand(len(last), -1, -1)
    return surprise(model, latents, actions)[:, -1].double().numpy()


def expectation_report(bundle: Bundle, episodes: int = 40, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Plain numbers for each violation, in worlds that no model was trained on: how often it could be seen (`pairs`),
    mean surprise without and with it, and the paired test of the difference (None for fewer than two pairs).
    """
    model, space = bundle.model, bundle.space
    pairs: dict[str, list[np.ndarray]] = {kind: [] for kind in VIOLATIONS}
    env = open_world(bundle.task, model.config.image_size)
    try:
        for episode in range(episodes):
            played = violated_ends(env, space, 100_000 * seed + episode, min(model.config.positions, _MOST_STEPS))
            if played is None:
                continue
            seen, commands, ends = played
            found = surprises_at_end(model, seen, commands, [seen[-1], *ends.values()])
            for kind, violated in zip(ends, found[1:], strict=True):
                pairs[kind].append(np.array([found[0], violated]))
    finally:
        env.close()
    rng = np.random.default_rng([seed, 43])
    return {kind: _tested(np.array(rows).reshape(-1, 2), rng) for kind, rows in pairs.items()}


def _tested(pairs: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """pairs (n, 2): without and with the violation."""
    if len(pairs) < 2:
        return {"pairs": len(pairs), "normal": None, "violated": None, "effect_size": None, "p_value": None}
    test, (normal, violated) = paired_test(pairs[:, 1], pairs[:, 0], rng), pairs.mean(0)
    return {
        "pairs": test.pairs,
        "normal": float(normal),
        "violated": float(violated),
        "effect_size": test.effect_size,
        "p_value": test.p_value,
    }
