"""What a walker reaches for what it is asked: on a few real robots that only stand, and as a table that must rise."""

from dataclasses import replace

import numpy as np
import pytest

from neon_sim.locomotion.network import load_weights
from neon_sim.shipped import asset_path
from neon_sim.sim.randomize import NOMINAL
from neon_sim.walking.calibration import CalibrationConfig, calibrate
from neon_sim.walking.curriculum import BLOWS
from neon_sim.walking.world import WalkConfig

WEIGHTS = load_weights(asset_path("g1/walker/walker.npz"))
ALONE = WalkConfig(models=0, randomization=NOMINAL, threads=1)


def test_the_table_covers_the_trained_range_rises_and_stands_at_zero():
    few = CalibrationConfig(commands=5, robots=2, settle_s=0.6, seconds=0.6)
    found = calibrate(WEIGHTS, few, ALONE, BLOWS, seed=1)
    np.testing.assert_allclose(found.asked[0], [-0.7, -0.35, 0.0, 0.6, 1.2])
    np.testing.assert_allclose(found.asked[1:], [[-0.5, -0.25, 0.0, 0.25, 0.5], [-1.2, -0.6, 0.0, 0.6, 1.2]])
    assert not found.reached[:, 2].any() and np.all(np.diff(found.reached, axis=1) > 0.0)
    assert found.layers is WEIGHTS.layers and found.note == WEIGHTS.note
    again = calibrate(WEIGHTS, few, ALONE, BLOWS, seed=1)
    np.testing.assert_array_equal(again.reached, found.reached)


def test_a_robot_that_does_as_it_is_told_needs_no_correction():
    """The shipped walker on the nominal robot, asked through its own table."""
    wanted = np.array([[0.5, 0.0, 0.0], [-0.3, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.8]])
    asked = np.array([WEIGHTS.ask(velocity) for velocity in wanted])
    assert np.all(np.abs(asked).max(axis=1) > 0.9 * np.abs(wanted).max(axis=1))
    assert np.all((asked == 0.0) == (wanted == 0.0))


@pytest.mark.parametrize("commands", [1, 4])
def test_zero_must_be_one_of_the_commands(commands):
    with pytest.raises(ValueError, match=f"odd number of at least 3, got {commands}"):
        CalibrationConfig(commands=commands)


def test_commands_at_which_every_robot_falls_count_as_reached():
    """A walker with no gains and no network falls: nothing is known of it, and nothing is corrected."""
    limp = replace(
        WEIGHTS,
        gains=np.zeros_like(WEIGHTS.gains),
        layers=tuple((np.zeros_like(weight), np.zeros_like(bias)) for weight, bias in WEIGHTS.layers),
    )
    found = calibrate(limp, CalibrationConfig(commands=3, robots=1, settle_s=3.0, seconds=0.1), ALONE, BLOWS, seed=0)
    assert found.reached[0] == pytest.approx(found.asked[0])
