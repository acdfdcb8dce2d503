"""Tactile palms: how hard each cell of a palm is pressed."""

from dataclasses import dataclass
from typing import Final

import gymnasium
import mujoco
import numpy as np

from neon_sim.names import require_counts, require_deviations, require_numbers
from neon_sim.sensors.sensor import LATENCY_S, RATE_HZ, find_id
from neon_sim.sensors.vector_sensor import VectorSensor, vector_space

HANDS: Final = ("left_hand", "right_hand")  # geoms, boxes in their link's axes: x to the fingertips, z to the thumb
_PALM_SIDE: Final = (-1.0, 1.0)  # along y: the palms face each other
FORCE_LIMIT: Final = 500.0  # N on one cell


@dataclass(frozen=True)
class TactileConfig:
    """Settings of the tactile skin on the palms. The stock rubber hands have none; the grid is ours.

    Raises ValueError for a grid without cells, a rate out of range, and a deviation that is negative or not finite.
    """

    rows: int = 4  # cells across the palm, from the little finger's side to the thumb's
    columns: int = 4  # cells along it, from the wrist to the fingertips
    noise: float = 0.0  # N, 1 sigma on every cell of every frame
    rate_hz: float = 50.0
    latency_s: float = 0.0  # from the instant a frame is taken to the computer; not measured on the robot

    def __post_init__(self) -> None:
        require_counts(self, rows=(1, 1000), columns=(1, 1000))
        require_numbers(self, rate_hz=RATE_HZ, latency_s=LATENCY_S)
        require_deviations(self, "noise")

    def space(self) -> gymnasium.spaces.Box:
        """(2 * rows * columns,) float32 N, left palm first, rows by rows; noise may take a cell below zero."""
        return vector_space(np.full(2 * self.rows * self.columns, FORCE_LIMIT))

    def build(self, model: mujoco.MjModel) -> "TactilePalms":
        """Make the skin. Raises ValueError if the model lacks a hand."""
        return TactilePalms(self, model)


class TactilePalms(VectorSensor):
    """Sums, cell by cell, the parts of the contact forces that push into the palms, as of the last physics step."""

    def __init__(self, config: TactileConfig, model: mujoco.MjModel) -> None:
        cells = config.rows * config.columns
        super().__init__(config.rate_hz, np.full(2 * cells, FORCE_LIMIT), np.full(2 * cells, config.noise))
        self.config, self._model, self._cells = config, model, cells
        hands = [find_id(model, mujoco.mjtObj.mjOBJ_GEOM, name) for name in HANDS]
        self._geoms = np.array(hands)
        self._hand_of_geom = np.full(model.ngeom, -1)
        self._hand_of_geom[hands] = 0, 1

    def measure(self, data: mujoco.MjData) -> np.ndarray:
        """(2 * rows * columns,) N, without errors."""
        pressed = np.zeros(2 * self._cells)
        hands = self._hand_of_geom[data.contact.geom]  # (contacts, 2)
        force = np.empty(6)
        for place in np.flatnonzero(hands >= 0).tolist():
            index, side = divmod(place, 2)
            mujoco.mj_contactForce(self._model, data, index, force)
            contact = data.contact[index]
            # The force is what the first geom does to the second.
            push_w = (force[:3] if side == 1 else -force[:3]) @ contact.frame.reshape(3, 3)
            self._press(pressed, data, int(hands[index, side]), contact.pos, push_w)
        return pressed

    def _press(
        self, pressed: np.ndarray, data: mujoco.MjData, hand: int, pos_w: np.ndarray, push_w: np.ndarray
    ) -> None:
        geom, config = self._geoms[hand], self.config
        to_hand = data.geom_xmat[geom].reshape(3, 3).T
        into_palm = float((to_hand @ push_w)[1]) * -_PALM_SIDE[hand]
        at = (to_hand @ (pos_w - data.geom_xpos[geom])) / self._model.geom_size[geom]  # -1 to 1 on the box
        if into_palm <= 0.0:  # on the back of the hand, or an edge of it
            return
        row = min(max(int((at[2] + 1.0) / 2.0 * config.rows), 0), config.rows - 1)
        column = min(max(int((at[0] + 1.0) / 2.0 * config.columns), 0), config.columns - 1)
        pressed[hand * self._cells + row * config.columns + column] += into_palm
