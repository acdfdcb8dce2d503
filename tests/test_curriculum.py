"""The course gets harder step by step, and a point between two stages lies between them."""

from dataclasses import fields

import pytest

from neon_sim.walking.curriculum import COURSE, EASY, WALK, Difficulty, difficulty_at


def test_between_two_stages_life_is_half_as_much_harder():
    course = ((0.0, Difficulty(speed=(-0.2, 0.4, 0.1, 0.5), punch=0.0)), (4.0, Difficulty(speed=(-0.6, 1.0, 0.3, 1.5))))
    halfway = difficulty_at(course, 2.0)
    assert halfway.speed == pytest.approx((-0.4, 0.7, 0.2, 1.0))
    quarter = difficulty_at(((0.0, Difficulty(punch=0.0)), (4.0, Difficulty(punch=200.0))), 1.0)
    assert quarter.punch == pytest.approx(50.0)


def test_stages_are_met_exactly_and_the_last_one_stays():
    for at, difficulty in COURSE:
        assert difficulty_at(COURSE, at) == difficulty
    last = COURSE[-1][1]
    assert difficulty_at(COURSE, 1000.0) == last
    assert difficulty_at(((0.0, EASY),), 5.0) == EASY
    plateau = ((0.0, EASY), (6.0, WALK), (8.0, WALK))
    assert difficulty_at(plateau, 7.0) == WALK


def test_punches_begin_when_every_speed_is_asked_for():
    assert COURSE[0][1].punch == 0.0 < COURSE[-1][1].punch
    for at, difficulty in COURSE:
        assert difficulty.punch == 0.0 or difficulty_at(COURSE, at).speed == COURSE[-1][1].speed


def test_nothing_gets_easier_on_the_way():
    stages = [difficulty for _, difficulty in COURSE]
    for before, after in zip(stages[:-1], stages[1:], strict=True):
        assert all(abs(later) >= abs(earlier) for earlier, later in zip(before.speed, after.speed, strict=True))
        for field in fields(Difficulty):
            if field.name != "speed":
                assert getattr(after, field.name) >= getattr(before, field.name), field.name
    points = [at for at, _ in COURSE]
    assert points == sorted(points) and points[0] == 0.0
