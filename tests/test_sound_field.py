"""Sound in space: ways around a head, its shadow, sources that play, and the tracks that remember them."""

import math

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.sensors.sound_field import Ears, SoundField, SoundSource, low_pass, paths_to, shadow_gain

HEAD = 0.059
LEFT_RIGHT = np.array([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
EARS = Ears(np.zeros(3), LEFT_RIGHT, HEAD)
MODEL = mujoco.MjModel.from_xml_string('<mujoco><worldbody><body name="box" pos="0 2 0"/></worldbody></mujoco>')


def heard(source: SoundSource, radius: float = 0.0, count: int = 3200, end: int = 3200) -> np.ndarray:
    data = mujoco.MjData(MODEL)
    mujoco.mj_forward(MODEL, data)
    field = SoundField(MODEL, 16000, radius)
    field.add(source)
    sound = np.zeros((2, count), np.float32)
    field.add_to(sound, data, EARS._replace(radius=radius), end)
    return sound


def test_the_way_to_the_far_ear_leads_around_the_head() -> None:
    (near, far), (near_angle, far_angle) = paths_to(EARS, np.array([0.0, 3.0, 0.0]))
    assert near == pytest.approx(3.0 - HEAD) and near_angle == 0.0
    # Tangent to the sphere, then a quarter of its girth and a little more.
    assert far == pytest.approx(2.99942 + HEAD * (math.pi / 2 + 0.01967), abs=1e-4)
    assert far_angle == pytest.approx(math.pi)
    assert (far - near) / 343.0 == pytest.approx(444e-6, abs=1e-6)  # 7.1 samples at 16 kHz


def test_straight_ahead_both_ears_are_equally_far() -> None:
    (left, right), angles = paths_to(EARS, np.array([2.0, 0.0, 0.0]))
    assert left == right and angles == pytest.approx([math.pi / 2] * 2)


def test_without_a_head_the_way_is_straight_and_never_shorter_than_10_cm() -> None:
    bare = EARS._replace(radius=0.0)
    assert paths_to(bare, np.array([3.0, 0.0, 4.0]))[0] == pytest.approx([5.0, 5.0])
    assert paths_to(bare, np.zeros(3))[0] == pytest.approx([0.1, 0.1])


@given(x=st.floats(-5, 5), y=st.floats(-5, 5), z=st.floats(-5, 5))
def test_no_way_is_shorter_than_the_straight_one_or_longer_than_half_a_turn(x: float, y: float, z: float) -> None:
    pos_w = np.array([x, y, z])
    ways, _ = paths_to(EARS, pos_w)
    straight = np.linalg.norm(EARS.pos_w - pos_w, axis=1)
    if np.linalg.norm(pos_w) > 2.0 * HEAD:
        assert (ways >= np.maximum(straight, 0.1) - 1e-9).all()
        assert (ways <= np.linalg.norm(pos_w) + HEAD * math.pi).all()


def test_the_shadow_is_darkest_150_degrees_from_the_axis() -> None:
    assert shadow_gain(np.radians([0.0, 75.0, 150.0])) == pytest.approx([2.0, 1.05, 0.1])
    assert 0.1 < shadow_gain(np.array(math.pi)) < 0.3


def test_high_tones_are_shadowed_and_low_ones_are_not() -> None:
    def level(hz: float) -> np.ndarray:
        tone = SoundSource("tone", lambda t: np.sin(2 * np.pi * hz * t), (0.0, 3.0, 0.0), start_s=-1.0)
        return heard(tone, HEAD)[:, 320:].std(axis=1)

    (low_near, low_far), (high_near, high_far) = level(100.0), level(4000.0)
    assert low_near / low_far == pytest.approx(3.093 / 2.941, rel=0.02)  # the distance alone
    # |1 + 2j w| / |1 + 0.281j w| = 3.79 with w = 2 pi 4000 * 0.059 / (2 * 343) = 2.16, and the distance: 4.0.
    assert high_near / high_far == pytest.approx(4.0, rel=0.2)  # sampling bends the filter by a dB


def test_3_43_m_away_it_is_10_ms_later_and_weaker_by_1_over_r() -> None:
    click = np.zeros(20, np.float32)
    click[0] = 1.0
    at = heard(SoundSource("click", click, (0.0, 0.0, 3.43), level=1.0, start_s=0.1))
    assert at[0].argmax() == 1760 and at[0, 1760] == pytest.approx(1.0 / 3.43)


def test_a_source_on_a_body_is_where_the_body_is() -> None:
    fixed = heard(SoundSource("a", np.ones(3200), (0.0, 2.0, 0.0)))
    np.testing.assert_array_equal(heard(SoundSource("a", np.ones(3200), "box")), fixed)


def test_a_loop_goes_round_without_a_gap_and_a_single_play_ends() -> None:
    ramp = np.linspace(0.0, 1.0, 101)[:-1]  # 100 samples
    loop = SoundSource("r", ramp, "box", loop=True)
    index = np.arange(0.0, 1000.0)
    assert loop.emit(index / 16000, 16000) == pytest.approx(np.tile(ramp, 10), abs=1e-9)
    assert loop.emit((index + 0.5) / 16000, 16000)[99] == pytest.approx(0.5 * (ramp[99] + ramp[0]))
    once = SoundSource("r", ramp, "box").emit(index / 16000, 16000)
    assert once[:100] == pytest.approx(ramp, abs=1e-9) and not once[100:].any()


def test_a_low_pass_lets_the_steady_part_through() -> None:
    response = low_pass(1000.0, 16000, 64)
    assert response.sum() == pytest.approx(1.0)
    at_corner = abs((response * np.exp(-2j * np.pi * 1000.0 / 16000 * np.arange(64))).sum())
    assert at_corner == pytest.approx(1.0 / math.sqrt(2.0), rel=0.02)


def test_captures_of_any_length_join_without_a_seam() -> None:
    data = mujoco.MjData(MODEL)
    mujoco.mj_forward(MODEL, data)
    parts = []
    for count in (1600, 160):
        field = SoundField(MODEL, 16000, HEAD)
        field.add(SoundSource("tone", lambda t: np.sin(2 * np.pi * 1000.0 * t), "box"))
        sound = np.zeros((2, 1600))
        for end in range(count, 1601, count):
            field.add_to(sound[:, end - count : end], data, EARS, end)
        parts.append(sound)
    assert parts[1] == pytest.approx(parts[0], abs=1e-12)
