"""A long time in every world: random and adversarial actions, faults and noise; nothing breaks, leaks or escapes.

    make soak                              # one million steps: every task in every control mode, an equal share each
    NEON_SOAK_STEPS=20000 make soak        # fewer of them
    NEON_SOAK_OUT=runs/soak make soak      # can be stopped: worlds that are done leave a file, and are not run again

`benchmarks/soak.py` does the latter on all cores and makes a table of the files.

Half of the worlds do not end when the robot falls: it goes on thrashing on the floor until time is up. The 5 ms of fast
training are not made for that: MuJoCo started over four times in 12,000 such steps, and on 2 ms never in 9,000. Then
the episode has to end, and to say why.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.env_config import ALL_SENSORS
from neon_sim.g1 import joints
from neon_sim.g1.action_space import ControlMode
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.depth import DepthConfig
from neon_sim.sensors.segmentation import SegmentationConfig
from neon_sim.sensors.senses import ExtraSenses
from neon_sim.sensors.stereo import StereoConfig
from neon_sim.sim.domain import DomainRandomization
from neon_sim.sim.faults import ActuatorFault, AddedLatency, Fault, LostSensor, LowFriction, Payload, StuckJoint
from neon_sim.sim.noise import SensorNoise
from neon_sim.tasks import TASKS

pytestmark = pytest.mark.soak

WORLDS = [(task, str(mode)) for task in TASKS for mode in ControlMode]
STEPS = int(os.environ.get("NEON_SOAK_STEPS", "1000000"))
OUT = os.environ.get("NEON_SOAK_OUT")  # a folder for what each world came to; None = nothing is kept
COMMIT = os.environ.get("NEON_SOAK_COMMIT", "")  # that the files of OUT are of
WARM_UP = 0.25  # of a world's steps: what is built on first use is built by then
MOST_GROWN = 1.05  # of the resident set
BURST = 40  # steps that one kind of action lasts, at most
_WARNINGS = mujoco.mjtWarning  # after one of these MuJoCo starts over, and says no more than this
BROKEN = tuple(int(kind) for kind in (_WARNINGS.mjWARN_BADQPOS, _WARNINGS.mjWARN_BADQVEL, _WARNINGS.mjWARN_BADQACC))

_SMALL = CameraConfig(width=64, height=48, rate_hz=2.0)
SENSES = ExtraSenses(
    depth=DepthConfig(view=_SMALL),
    segmentation=SegmentationConfig(view=_SMALL),
    wrist_left=replace(_SMALL, camera="wrist_left"),
    wrist_right=replace(_SMALL, camera="wrist_right"),
    stereo=StereoConfig(width=64, height=48, rate_hz=2.0),
)


def make(task: str, mode: str, **more: Any) -> Any:
    """A world with all senses, some of them slow and small, on the faster physics."""
    options = {"physics_dt": 0.005, "sensors": ALL_SENSORS, "camera": _SMALL, "extra_senses": SENSES, **more}
    return gymnasium.make("NeonG1-v0", task=task, control_mode=mode, disable_env_checker=True, **options).unwrapped


def resident_mb() -> float:
    """Of this process."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        pytest.skip("The resident set is read from /proc, which this system does not have.")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def random_fault(rng: np.random.Generator) -> Fault | None:
    """Any kind of fault, from harmless to as bad as it may be; None in one of eight cases."""
    joint = str(rng.choice(joints.JOINT_NAMES))
    kinds: tuple[Callable[[], Fault | None], ...] = (
        lambda: None,
        lambda: ActuatorFault(joint, float(rng.uniform(0, 1)), float(rng.uniform(-1, 1))),
        lambda: StuckJoint(joint),
        lambda: Payload(str(rng.choice(("torso", "left_hand", "right_hand"))), float(rng.uniform(0, 10))),
        lambda: LowFriction(float(rng.uniform(0.01, 1))),
        lambda: AddedLatency(float(rng.uniform(0, 0.1)), float(rng.uniform(0, 0.1))),
        lambda: LostSensor(str(rng.choice(("camera", "lidar", "audio", "depth", "imu")))),
        lambda: ActuatorFault(joint, 0.0, 0.0),
    )
    return kinds[rng.integers(len(kinds))]()


def actions(rng: np.random.Generator, size: int) -> Iterator[np.ndarray]:
    """Endless actions (size,), in bursts: random, from end to end, in resonance, held, and far out of the space."""
    while True:
        length = int(rng.integers(1, BURST))
        corner = rng.choice((-1.0, 1.0), size)
        period = int(rng.integers(1, 25))
        kinds: tuple[Callable[[int], np.ndarray], ...] = (
            lambda step: rng.uniform(-1, 1, size),
            lambda step: rng.choice((-1.0, 1.0), size),
            lambda step: corner if step // period % 2 else -corner,  # noqa: B023  used within its turn of the loop
            lambda step: corner,  # noqa: B023
            lambda step: np.zeros(size),
            lambda step: 10.0 ** rng.uniform(0, 30) * rng.uniform(-1, 1, size),
        )
        kind = kinds[rng.integers(len(kinds))]
        for step in range(length):
            yield kind(step)


def outside(space: Any, obs: dict[str, np.ndarray]) -> list[str]:
    """Keys of an observation that are not in its space; NaN is in none."""
    wrong = sorted(set(space.spaces) ^ set(obs))
    for key in set(space.spaces) & set(obs):
        box, value = space[key], obs[key]
        fits = value.shape == box.shape and value.dtype == box.dtype
        whole = value.dtype == np.uint8 and box.low.flat[0] == 0 and box.high.flat[0] == 255  # no byte can be outside
        if not fits or not (whole or bool(((value >= box.low) & (value <= box.high)).all())):
            wrong.append(key)
    return wrong


def not_finite(info: dict[str, Any], path: str = "info") -> list[str]:
    """Where in an info a number is not finite."""
    wrong = []
    for key, value in info.items():
        if isinstance(value, dict):
            wrong += not_finite(value, f"{path}.{key}")
        elif isinstance(value, float | np.ndarray) and not np.isfinite(value).all():
            wrong.append(f"{path}.{key}")
    return wrong


def check(env: Any, obs: dict[str, np.ndarray], reward: float, info: dict[str, Any]) -> None:
    """Everything is a number, and within its bounds."""
    assert outside(env.observation_space, obs) == []
    assert np.isfinite(reward) and not_finite(info) == []
    broken = sum(env.robot.data.warning[kind].number for kind in BROKEN)
    assert (broken > 0) == info["diverged"]


def soak(env: Any, steps: int, rng: np.random.Generator) -> dict[str, float]:
    """Step, break, heal and reset; how many episodes there were, and the resident set after the warm-up and now."""
    stream = actions(rng, env.action_map.dim)
    obs, info = env.reset(seed=int(rng.integers(2**31)))
    check(env, obs, 0.0, info)
    episodes, diverged, warm_mb = 1, 0, 0.0
    for step in range(steps):
        if step == int(WARM_UP * steps):
            warm_mb = resident_mb()
        if rng.random() < 0.01:
            env.world.apply_fault([fault for fault in (random_fault(rng), random_fault(rng)) if fault is not None])
        obs, reward, terminated, truncated, info = env.step(next(stream))
        check(env, obs, reward, info)
        assert terminated or not info["diverged"]
        if terminated or truncated:
            episodes, diverged = episodes + 1, diverged + info["diverged"]
            obs, info = env.reset()
            check(env, obs, 0.0, info)
    return {"episodes": episodes, "diverged": diverged, "warm_mb": warm_mb, "end_mb": resident_mb()}


def done_before(path: Path | None, steps: int) -> bool:
    """Whether a world's file tells of as many steps."""
    return path is not None and path.is_file() and json.loads(path.read_text())["steps"] >= steps


@pytest.mark.parametrize(("task", "mode"), WORLDS)
def test_a_world_stands_everything(task: str, mode: str) -> None:
    index, steps = WORLDS.index((task, mode)), -(-STEPS // len(WORLDS))
    path = None if OUT is None else Path(OUT) / f"{task}-{mode}.json"
    if done_before(path, steps):
        pytest.skip(f"done before: {path}")
    start_s = time.process_time()
    thrashing = {"fall_height": -10.0, "fall_tilt": 3.2} if index % 2 else {}
    with closing(make(task, mode, noise=SensorNoise(), randomization=DomainRandomization(), **thrashing)) as env:
        found = soak(env, steps, np.random.default_rng(index))
    warm_mb, end_mb = found["warm_mb"], found["end_mb"]
    assert end_mb <= MOST_GROWN * warm_mb, f"{task} in {mode} grew from {warm_mb:.0f} to {end_mb:.0f} MB"
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"task": task, "mode": mode, "commit": COMMIT, "steps": steps, **found}
        record["cpu_s"] = time.process_time() - start_s
        path.write_text(json.dumps(record) + "\n")


def test_worlds_that_are_closed_leave_nothing_behind() -> None:
    """Every world made, stepped and closed, again and again: the second round is the warm-up of the last."""
    rounds = max(3, STEPS // 100_000)
    held = []
    for _ in range(rounds):
        for task, mode in WORLDS[::4]:
            with closing(make(task, mode)) as env:
                env.reset(seed=0)
                for _ in range(5):
                    env.step(np.zeros(env.action_map.dim))
        held.append(resident_mb())
    assert held[-1] <= MOST_GROWN * held[1], f"after each round: {[round(mb) for mb in held]} MB"
