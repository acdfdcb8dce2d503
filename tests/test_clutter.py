"""What stands around when `clutter` is on: it is in nobody's way, and the rest of an episode stays what it was."""

from typing import Any

import numpy as np
import pytest

from neon_sim.env import NeonG1Env
from neon_sim.tasks.boxes import PUSH_BOXES
from neon_sim.tasks.objects import THINGS

STILL = np.zeros(17)
NAMES = {thing.name for things in THINGS.values() for thing in things}


def make(task: str, clutter: bool = True, **options: Any) -> NeonG1Env:
    options = {"clutter": clutter, **options}
    return NeonG1Env(task=task, sensors=("proprio",), physics_dt=0.005, task_options=options)


def contacts(env: NeonG1Env) -> set[tuple[str, str]]:
    """Bodies that touch each other, the world left out: (name, name) in order of the alphabet."""
    model, data = env.robot.model, env.robot.data
    pairs = {tuple(sorted(model.body(model.geom_bodyid[geom]).name for geom in c.geom)) for c in data.contact}
    return {pair for pair in pairs if "world" not in pair}


@pytest.mark.parametrize("task", ["reach", "lift_box", "push_box"])
def test_the_episode_is_the_one_without_clutter(task: str) -> None:
    """What is named, where it is and what is said; how feet settle may differ by rounding, far below 0.1 mm."""
    plain, full = make(task, clutter=False), make(task)
    assert plain.observation_space == full.observation_space
    for seed in range(6):
        one, other = (env.reset(seed=seed)[1] for env in (plain, full))
        assert one["instruction"] == other["instruction"]
        np.testing.assert_allclose(other["privileged"]["target_pos_b"], one["privileged"]["target_pos_b"], atol=1e-4)
        assert one["privileged"].keys() == other["privileged"].keys()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("task", ["reach", "lift_box"])
def test_a_table_carries_things_and_stands_in_nothing(task: str, split: str) -> None:
    env = make(task, objects=split)
    things = {thing.name: thing for thing in THINGS[split]}
    places = []
    for seed in range(8):
        env.reset(seed=seed)
        for _ in range(25):
            env.step(STILL)
        touching = contacts(env)
        on_table = {name for pair in touching if "table" in pair for name in pair} - {"table"}
        boxes = {name for name in on_table if name.startswith("box_")}
        assert on_table - boxes == set(things)
        assert (
            len(boxes) == (task == "lift_box") and env.task.box.name not in boxes if task == "lift_box" else not boxes
        )
        # Nothing loose touches anything but the table: neither another thing, nor a box, nor the robot.
        assert not {pair for pair in touching if NAMES & set(pair) and "table" not in pair}
        for name, thing in things.items():
            assert env.world.position(name)[2] == pytest.approx(0.74 + thing.half_height, abs=0.003)
            assert env.robot.model.body(name).mass[0] == pytest.approx(thing.mass)
        places.append([env.world.position(name) for name in things])
    assert np.ptp(places, axis=0)[:, 1].min() > 0.02  # in other places each time


def test_the_second_box_stands_to_the_side_without_a_zone() -> None:
    env = make("push_box")
    seen = set()
    for seed in range(16):
        env.reset(seed=seed)
        shown = {b.name for b in PUSH_BOXES["train"] if env.world.position(b.name)[2] < 10.0}
        (other,) = shown - {env.task.box.name}
        x, y, z = env.world.position(other)
        zone = env.world.position(f"zone_{env.task._other}")
        assert y * zone[1] < 0.0 and 1.1 < abs(y) < 1.75 and x < 0.85
        assert z == pytest.approx(next(b.half_height for b in PUSH_BOXES["train"] if b.name == other), abs=0.01)
        seen.add((env.task.box.name, other))
    assert len(seen) > 5 and len({other for _, other in seen}) > 2


@pytest.mark.parametrize("task", ["reach", "lift_box", pytest.param("push_box", marks=pytest.mark.slow)])
def test_the_expert_works_among_it_and_leaves_it_alone(task: str) -> None:
    env = make(task)
    for seed in (100, 101):
        env.reset(seed=seed)
        loose = [b for b in PUSH_BOXES["train"] if b is not env.task.box] if task == "push_box" else env.task._things
        loose = [thing for thing in loose if env.world.position(thing.name)[2] < 10.0]
        assert loose
        before = [env.world.position(thing.name) for thing in loose]
        for step in range(env.task.max_steps):
            if step % 16 == 0:
                chunk = env.expert_chunk()
            *_, terminated, _, info = env.step(chunk[step % 16])
            if terminated or info["success"]:
                break
        assert info["success"] and not terminated
        after = [env.world.position(thing.name) for thing in loose]
        assert np.abs(np.subtract(before, after)).max() < 0.005


def test_a_saved_state_goes_on_to_the_bit() -> None:
    env, other = make("lift_box"), make("lift_box")
    env.reset(seed=3)
    other.set_state(env.get_state())
    for action in env.expert_chunk(12):
        one, two = (e.step(action)[4]["privileged"]["box_pos_w"] for e in (env, other))
        np.testing.assert_array_equal(one, two)
    for name in NAMES & {env.robot.model.body(i).name for i in range(env.robot.model.nbody)}:
        assert env.world.position(name) == other.world.position(name)
