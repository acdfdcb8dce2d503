"""Push-T: a disc that follows its target by hand-made sums, a T that lies still until pushed, pictures by area."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pymunk", reason="pip install 'neon-sim[pusht]'")

from neon_sim.world_model.push_t import (
    RADIUS,
    T_BOXES,
    TABLE,
    PushT,
    distance_to_block,
    distance_to_t,
    draw_state,
    from_block,
    picture,
    solved,
    to_block,
    turn,
)
from neon_sim.world_model.push_t_pusher import OUTLINE, best_push, push_action

FAR = np.array([60.0, 450.0, 300.0, 200.0, 0.0, 0.0, 0.0])  # the disc far from an upright T


def test_the_disc_follows_its_target_as_the_pd_law_says() -> None:
    world = PushT(FAR)
    x, v = 60.0, 0.0
    for _ in range(10):  # 0.1 s at 100 Hz: 100 / s2 of the distance, 20 / s of the speed
        v += 0.01 * (100.0 * (110.0 - x) - 20.0 * v)
        x += 0.01 * v
    state = world.step(np.array([0.5, 0.0]))
    assert state[0] == pytest.approx(x, abs=1e-9) and state[5] == pytest.approx(v, abs=1e-9)
    assert state[1] == 450.0 and x == pytest.approx(60.0 + 50.0 * (1.0 - 2.0 / math.e), abs=2.0)  # critically damped
    np.testing.assert_array_equal(state[2:5], FAR[2:5])


def test_an_action_beyond_one_is_cut_and_the_disc_stays_on_the_table() -> None:
    np.testing.assert_array_equal(PushT(FAR).step(np.array([5.0, 0.0])), PushT(FAR).step(np.array([1.0, 0.0])))
    world = PushT(FAR)
    for _ in range(30):
        state = world.step(np.array([-1.0, 1.0]))
    np.testing.assert_allclose(state[:2], [RADIUS, TABLE - RADIUS], atol=0.1)


def test_a_push_through_the_middle_moves_the_t_straight() -> None:
    world = PushT(np.array([256.0, 360.0, 256.0, 250.0, 0.0, 0.0, 0.0]))  # below the stem's end
    for _ in range(5):
        state = world.step(np.array([0.0, -0.6]))
    assert 100.0 < state[3] < 230.0 and state[2] == pytest.approx(256.0, abs=0.5)
    assert turn(0.0, state[4]) == pytest.approx(0.0, abs=0.02)
    assert distance_to_block(state[:2], state) > RADIUS - 1.5  # they touch and hardly overlap


def test_a_push_beside_the_middle_turns_it_the_way_that_it_must() -> None:
    world = PushT(np.array([305.0, 330.0, 256.0, 250.0, 0.0, 0.0, 0.0]))  # below the bar's right end
    for _ in range(12):
        state = world.step(np.array([0.0, -0.6]))
    assert turn(0.0, state[4]) < -0.2  # y points down: from x to y is a turn to the right, and this one is to the left


def test_the_block_stops_when_the_disc_does() -> None:
    world = PushT(np.array([256.0, 360.0, 256.0, 250.0, 0.0, 0.0, 0.0]))
    for _ in range(6):
        world.step(np.array([0.0, -0.6]))
    for _ in range(15):
        rested = world.step(np.zeros(2))
    np.testing.assert_allclose(world.step(np.zeros(2))[2:5], rested[2:5], atol=0.05)


def test_the_same_state_and_actions_give_the_same_bits() -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (40, 2))
    start = np.array([256.0, 330.0, 256.0, 250.0, 1.0, 3.0, -2.0])
    one, other = PushT(start), PushT()
    for action in actions[:7]:
        other.step(action)  # something to forget
    other.set_state(start)
    for action in actions:
        np.testing.assert_array_equal(one.step(action), other.step(action))


@pytest.mark.parametrize("state", [np.zeros(6), np.full(7, np.nan)])
def test_a_state_that_is_none_is_refused(state: np.ndarray) -> None:
    with pytest.raises(ValueError, match="7 finite numbers"):
        PushT(state)


@pytest.mark.parametrize("action", [np.zeros(3), np.array([np.inf, 0.0])])
def test_an_action_that_is_none_is_refused(action: np.ndarray) -> None:
    with pytest.raises(ValueError, match="two finite numbers"):
        PushT().step(action)


def test_the_t_is_balanced_about_its_origin() -> None:
    areas = 4.0 * T_BOXES[:, 2] * T_BOXES[:, 3]
    np.testing.assert_array_equal(areas, [3600.0, 2700.0])
    np.testing.assert_allclose(areas @ T_BOXES[:, :2], 0.0, atol=1e-9)
    by_hand = sum(
        area / 6300.0 * ((2 * w) ** 2 + (2 * h) ** 2) / 12.0 + area / 6300.0 * y**2
        for area, (_, y, w, h) in zip(areas, T_BOXES, strict=True)
    )
    assert PushT()._block.moment == pytest.approx(by_hand) and PushT()._block.mass == 1.0


@pytest.mark.parametrize(
    ("off", "angle", "is_solved"),
    [
        ((19.9, 0, 0, 0), 0.0, True),
        ((20.1, 0, 0, 0), 0.0, False),
        ((15, 0, 15, 0), 0.0, False),  # 21.2 together
        ((0, 0, 14, 14), 0.0, True),  # 19.8
        ((0, 0, 0, 0), math.radians(19.9), True),
        ((0, 0, 0, 0), math.radians(-20.1), False),
        ((0, 0, 0, 0), math.radians(359.0), True),
    ],
)
def test_success_is_the_fields(off: tuple[float, ...], angle: float, is_solved: bool) -> None:
    moved = FAR + np.array([*off, angle, 400.0, 0.0])  # its speed does not count
    assert solved(moved, FAR) is is_solved


@given(st.floats(-20, 20), st.floats(-20, 20))
def test_a_turn_is_the_shorter_way(start: float, end: float) -> None:
    way = turn(start, end)
    assert -math.pi <= way <= math.pi + 1e-9
    assert math.cos(start + way) == pytest.approx(math.cos(end), abs=1e-9)
    assert math.sin(start + way) == pytest.approx(math.sin(end), abs=1e-9)


@given(st.tuples(st.floats(0, 512), st.floats(0, 512)), st.floats(0, 6.28))
@settings(max_examples=30)
def test_frames_of_table_and_block_are_each_others_inverse(point: tuple[float, float], angle: float) -> None:
    state = np.array([0.0, 0.0, 200.0, 300.0, angle, 0.0, 0.0])
    np.testing.assert_allclose(from_block(to_block(np.array(point), state), state), point, atol=1e-9)


def test_distances_to_the_t_by_hand() -> None:
    bar_top, stem_end = T_BOXES[0, 1] - 15.0, T_BOXES[1, 1] + 45.0
    points = np.array([[0.0, bar_top - 7.0], [63.0, bar_top - 4.0], [0.0, stem_end + 2.0], [30.0, stem_end]])
    np.testing.assert_allclose(distance_to_t(points), [7.0, 5.0, 2.0, 15.0])
    assert distance_to_t(T_BOXES[:, :2]).max() < 0.0


def test_a_picture_shows_what_is_there_where_it_is() -> None:
    image = picture(FAR, 64).astype(float)
    darker = (255.0 - image) / (255.0 - np.array([119.0, 136.0, 153.0]))
    disc = np.hypot(*(np.indices((64, 64)) * 8.0 + 4.0 - np.array([450.0, 60.0])[:, None, None])) < 30.0
    assert darker[~disc][:, 0].sum() == pytest.approx(6300.0 / 64.0, rel=0.02)  # the T's area in pixels of 8 px
    assert ((255.0 - image[disc])[:, 0] / (255.0 - 65.0)).sum() == pytest.approx(math.pi * RADIUS**2 / 64.0, rel=0.03)
    np.testing.assert_array_equal(image[56, 7], [65.0, 105.0, 225.0])
    moved = picture(FAR + np.array([8.0, -16.0, 8.0, -16.0, 0, 0, 0]), 64)
    np.testing.assert_array_equal(moved[:-2, 1:], image[2:, :-1])


def test_the_outline_is_where_a_disc_can_come_to() -> None:
    away = distance_to_t(OUTLINE.points - (RADIUS + 1.0) * OUTLINE.inward)
    assert len(OUTLINE.points) > 30 and away.min() > RADIUS - 1.0
    np.testing.assert_allclose(distance_to_t(OUTLINE.points), 0.0, atol=1e-9)


def test_the_best_push_goes_the_way_that_is_wanted() -> None:
    start, direction = best_push(FAR, np.array([0.0, -50.0, 0.0]))
    np.testing.assert_allclose(direction, [0.0, -1.0])
    assert start[1] > FAR[3] + 79.0  # from below
    for sign in (-1.0, 1.0):
        start, direction = best_push(FAR, np.array([0.0, 0.0, sign * 50.0]))
        x, y = start - FAR[2:4]
        assert sign * (x * direction[1] - y * direction[0]) > 40.0  # px, the lever: the bar is 60 px long each way


def test_the_script_brings_block_and_disc_where_they_are_wanted() -> None:
    done = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        state = draw_state(rng)
        goal = state.copy()
        goal[2:4] = np.clip(state[2:4] + rng.normal(0, 40, 2), 120, 392)
        goal[4] += 0.5
        goal[:2] = np.where(goal[2:4] > 256, 60.0, 450.0)
        world = PushT(state)
        done += any(solved(state := world.step(push_action(state, goal)), goal) for _ in range(150))
    assert done >= 4
