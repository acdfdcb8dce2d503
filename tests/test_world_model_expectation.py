"""Violated expectations: what is done to the world, that it is taken back, that it shows, and whom it surprises."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neon_sim.tasks.objects import COLORS
from neon_sim.world_model import expectation
from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.command_space import command_space
from neon_sim.world_model.config import lewm_config
from neon_sim.world_model.expectation import (
    VIOLATIONS,
    expectation_report,
    shows,
    surprises_at_end,
    things_to,
    violate,
    violated_ends,
)
from neon_sim.world_model.lewm import LeWM
from neon_sim.world_model.probe import surprise
from neon_sim.world_model.readout import Readout
from neon_sim.world_model.worlds import NAMED, base_pose, from_base, open_world

SPACE = command_space("reach")


@pytest.fixture(scope="module")
def env() -> Any:
    made = open_world("reach", 32)
    yield made
    made.close()


def _model(**overrides: Any) -> LeWM:
    torch.manual_seed(0)
    model = LeWM(lewm_config("tiny", action_dim=6, **overrides)).eval()
    for module in model.predictor.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    return model


def _seen_from(env: Any, body: str) -> np.ndarray:
    return from_base(base_pose(env), np.array(env.world.position(body))[None, :2])[0]


def test_what_is_written_twice_is_equal() -> None:
    for task in ("reach", "navigate"):
        assert [name.split("_")[1] for name in NAMED[task]] == list(COLORS)


def test_violations_do_what_they_are_called_and_are_taken_back(env: Any) -> None:
    env.reset(seed=4)
    truth = env.privileged()
    named = f"ball_{truth['color']}"
    balls = things_to(env, SPACE, "vanished")
    assert balls[0] == named and set(balls) == {f"ball_{color}" for color in truth["ball_pos_b"]}
    state, before, height = env.get_state(), _seen_from(env, named), env.world.position(named)[2]
    violate(env, SPACE, "teleported", named)
    moved = _seen_from(env, named)
    assert moved[0] == pytest.approx(before[0]) and abs(moved[1] - before[1]) == pytest.approx(0.2)
    assert abs(moved[1]) <= 0.2 and env.world.position(named)[2] == height
    env.set_state(state)
    assert _seen_from(env, named) == pytest.approx(before)
    violate(env, SPACE, "recoloured", named)
    there = [ball for ball in NAMED["reach"] if np.allclose(_seen_from(env, ball), before)]
    assert len(there) == 1 and there[0] not in balls
    env.set_state(state)
    violate(env, SPACE, "vanished", named)
    assert _seen_from(env, named)[0] == pytest.approx(-6.0)
    env.set_state(state)
    assert things_to(env, SPACE, "vanished") == balls


@pytest.mark.parametrize(("task", "moved_m"), [("navigate", 0.8), ("push_box", 0.4)])
def test_what_walking_robots_see_is_violated_as_well(task: str, moved_m: float) -> None:
    world, space = open_world(task, 32), command_space(task)
    try:
        world.reset(seed=4)
        state, color = world.get_state(), world.privileged()["color"]
        named = f"{'marker' if task == 'navigate' else 'zone'}_{color}"
        things = things_to(world, space, "teleported")
        assert things[0] == (named if task == "navigate" else world.task.box.name)
        before, height = _seen_from(world, things[0]), world.world.position(things[0])[2]
        violate(world, space, "teleported", things[0])
        after = _seen_from(world, things[0])
        # Across the view, to where it was not: as far ahead as before, and as high.
        assert after[0] == pytest.approx(before[0]) and abs(after[1] - before[1]) == pytest.approx(moved_m)
        assert np.sign(after[1] - before[1]) == -np.copysign(1.0, before[1])
        assert world.world.position(things[0])[2] == pytest.approx(height)
        world.set_state(state)

        gone = things_to(world, space, "vanished")
        standing = [f"obstacle_{i}" for i in world.task.get_state()["standing"]] if task == "navigate" else things
        assert gone == standing and gone
        violate(world, space, "vanished", gone[0])
        assert _seen_from(world, gone[0]) == pytest.approx([-6.0, 0.0], abs=1e-6)
        world.set_state(state)

        painted = things_to(world, space, "recoloured")
        assert painted[0] == named and set(painted) < set(NAMED[task])
        place = _seen_from(world, named)
        violate(world, space, "recoloured", named)
        there = [body for body in NAMED[task] if np.allclose(_seen_from(world, body), place, atol=1e-6)]
        assert len(there) == 1 and there[0] not in painted  # another colour lies where the named one lay
        world.set_state(state)
        assert things_to(world, space, "recoloured") == painted
    finally:
        world.close()


def test_both_worlds_are_one_up_to_the_violation_and_it_shows(env: Any) -> None:
    played = violated_ends(env, SPACE, 0, 3)
    assert played is not None
    seen, commands, ends = played
    assert len(seen) == 4 and commands.shape == (3, 6) and tuple(ends) == VIOLATIONS
    for end in ends.values():
        assert shows(seen[-1].frame, end.frame)
        assert np.array_equal(end.proprio, seen[-1].proprio)  # balls are seen and not felt
    again = violated_ends(env, SPACE, 0, 3)
    assert again is not None
    assert all(np.array_equal(again[2][kind].frame, ends[kind].frame) for kind in ends)


def test_a_difference_shows_from_a_thousandth_of_the_picture_on() -> None:
    black = np.zeros((32, 32, 3), np.uint8)
    dot = black.copy()
    dot[3, 4:6, 1] = 17  # two pixels of 1024
    assert shows(black, dot) and not shows(black, black)
    dot[3, 4, 1] = 16  # and now one
    assert not shows(black, dot)


@pytest.mark.parametrize("feels", [True, False])
def test_the_surprise_is_that_of_the_whole_sequence(env: Any, feels: bool) -> None:
    model = _model() if feels else _model(proprio_dim=0)
    played = violated_ends(env, SPACE, 1, 3)
    assert played is not None
    seen, commands, ends = played
    found = surprises_at_end(model, seen, commands, [seen[-1], ends["vanished"]])
    frames = torch.from_numpy(np.stack([m.frame for m in (*seen[:-1], ends["vanished"])]))[None]
    felt = torch.from_numpy(np.stack([m.proprio for m in (*seen[:-1], ends["vanished"])]))[None] if feels else None
    with torch.no_grad():
        whole = surprise(model, model.encode(frames, felt), torch.as_tensor(commands, dtype=torch.float32)[None])
    assert found[1] == pytest.approx(float(whole[0, -1]), rel=1e-4)
    assert found[0] != found[1]


def test_a_report_counts_its_pairs() -> None:
    found = expectation_report(Bundle("reach", _model(), Readout.empty(32)), episodes=2)
    assert tuple(found) == VIOLATIONS
    assert all(row["pairs"] == 2 and row["normal"] > 0.0 and 0.0 < row["p_value"] <= 1.0 for row in found.values())
    assert len({row["normal"] for row in found.values()}) == 1 and len({row["violated"] for row in found.values()}) == 3


def test_figures_of_pairs_by_hand() -> None:
    rng = np.random.default_rng(0)
    found = expectation._tested(np.array([[1.0, 2.0], [3.0, 6.0]]), rng)
    assert (found["pairs"], found["normal"], found["violated"]) == (2, 2.0, 4.0)
    assert found["effect_size"] == pytest.approx(2.0 / 2**0.5)  # differences 1 and 3
    assert expectation._tested(np.zeros((0, 2)), rng)["p_value"] is None
