"""The privileged vector: every number of a task in its order behind the base pose, and nothing that does not fit."""

import numpy as np
import pytest

from neon_sim.sensors.state import STATE_DIM, STATE_LIMIT, state_vector


class Somewhere:
    """A world whose pelvis is at a known pose."""

    def object_pose(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        assert name == "pelvis"
        return np.array([1.0, 2.0, 0.8]), np.array([0.6, 0.0, 0.0, 0.8])


def test_numbers_stand_flat_behind_the_base_pose_and_words_are_left_out() -> None:
    truth = {"hand": 1, "color": "red", "balls": {"red": np.array([1.0, 2.0, 3.0]), "blue": (4, 5.5)}, "held": True}
    vector = state_vector(Somewhere(), truth)  # type: ignore[arg-type]
    expected = [1, 2, 0.8, 0.6, 0, 0, 0.8, 1, 1, 2, 3, 4, 5.5, 1]
    assert vector.dtype == np.float32 and vector[: len(expected)] == pytest.approx(expected)
    assert vector.shape == (STATE_DIM,) and not vector[len(expected) :].any()


def test_it_stays_in_its_bounds_and_says_when_it_is_full() -> None:
    vector = state_vector(Somewhere(), {"far": [-1e9, 1e9]})  # type: ignore[arg-type]
    assert vector[7:9].tolist() == [-STATE_LIMIT[7], STATE_LIMIT[8]]
    with pytest.raises(ValueError, match="room for 57 numbers of a task, got 58"):
        state_vector(Somewhere(), {"many": np.zeros(58)})  # type: ignore[arg-type]
