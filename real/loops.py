"""An episode on a robot, and one that only prints: the loops of `run.py`."""

from typing import Any

import numpy as np

from neon_sim.episode import NeonEpisode
from neon_sim.g1 import joints
from neon_sim.real.chunks import Chunks
from neon_sim.real.env import NeonG1RealEnv


def play(env: NeonG1RealEnv, chunks: Chunks, steps: int) -> NeonEpisode:
    """One episode: until the time is over, the robot falls or stops, or somebody presses Ctrl-C."""
    obs, info = env.reset()
    chunks.begin(obs, info["time_s"])
    rows: list[tuple[dict[str, np.ndarray], np.ndarray, bool, bool]] = []
    try:
        for _ in range(steps):
            action, before = chunks.next(), obs
            obs, terminated, truncated, info = _step(env, action, chunks.silent)
            rows.append((before, action, terminated, truncated))
            chunks.observe(obs, info["time_s"])
            if terminated or truncated:
                break
    except KeyboardInterrupt:
        print("Stopped by you.")
    if chunks.silent:
        print("The policy did not answer in time: nothing more was sent.")
    print(f"{len(rows)} steps; the robot is {info['safety']['phase']}. {'; '.join(info['safety']['reasons'])}".rstrip())
    return NeonEpisode(
        observations={key: np.stack([row[0][key] for row in rows]) for key in obs} if rows else {},
        actions=np.array([row[1] for row in rows], np.float32).reshape(len(rows), env.action_map.dim),
        terminated=np.array([row[2] for row in rows], bool),
        truncated=np.array([row[3] for row in rows], bool),
        instruction=info["instruction"],
        control_mode=str(env.config.control_mode),
    )


def dry_run(env: NeonG1RealEnv, chunks: Chunks, steps: int) -> None:
    """Print what would be sent, one line a control step; the robot is not armed and gets nothing."""
    obs, info = env.reset()
    chunks.begin(obs, info["time_s"])
    for number in range(steps):
        command, cut = env.preview(chunks.next())
        late = "  the policy is too late: nothing would be sent" if chunks.silent else ""
        way = np.where(command.owned_mask, command.joint_target - env.robot.read().joint_pos, 0.0)
        worst = int(np.abs(way).argmax())
        cuts = ", ".join((*cut.position, *cut.speed, *cut.velocity)) or "-"
        velocity = np.array2string(command.velocity, precision=2)
        print(f"{number:4d}  velocity {velocity}  {joints.JOINT_NAMES[worst]} {way[worst]:+.3f} rad  cut {cuts}{late}")
        env.robot.advance()
        obs, info = env.look()
        chunks.observe(obs, info["time_s"])


def _step(
    env: NeonG1RealEnv, action: np.ndarray, silent: bool
) -> tuple[dict[str, np.ndarray], bool, bool, dict[str, Any]]:
    """A control step; or, silent, only its time: the last action stays in force until the control holds the robot."""
    if not silent:
        obs, _, terminated, truncated, info = env.step(action)
        return obs, terminated, truncated, info
    env.robot.advance()
    obs, info = env.look()
    return obs, False, bool(info["safety"]["stopped"]), info
