"""Push buttons of many colours that really give way: boxes with a cap on a spring, in front of a plate on a table.

Each box is a mocap body, so that a task can put it anywhere; its cap is a child on a slide joint, so that physics says
how far it is pressed. Only arms touch them. A box looks along its own -x; `depth` counts from there inwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import mujoco
import numpy as np

from neon_sim.g1.geometry import points_in_frame
from neon_sim.robot import World
from neon_sim.tasks.objects import COLORS, HIDDEN_W, SHADES, Look

PLATE: Final = "plate"
_TOUCH: Final = (0, 2)  # contype and conaffinity of what only arms can touch (see assets/g1/g1.xml)
_BOX_RGB: Final = (0.30, 0.31, 0.33)
_PLATE_RGB: Final = (0.85, 0.86, 0.88)


@dataclass(frozen=True)
class ButtonConfig:
    """One kind of button, in m, N/m, N, kg and N s/m. Ours: about what an emergency-stop mushroom head asks for."""

    shape: str = "cylinder"  # of the cap: "cylinder" or "box"
    radius: float = 0.030  # or half its side
    stands_out: float = 0.022  # of the cap in front of the box
    travel: float = 0.015
    stiffness: float = 200.0
    preload: float = 1.5
    damping: float = 4.0
    mass: float = 0.03
    friction: float = 0.8
    box: tuple[float, float, float] = (0.020, 0.042, 0.042)  # half sizes, x first

    @property
    def face(self) -> float:
        """m from the middle of the box to the front of a cap at rest."""
        return self.box[0] + self.stands_out


BUTTONS: Final[dict[str, ButtonConfig]] = {
    "train": ButtonConfig(),
    "test": ButtonConfig(
        shape="box", radius=0.025, stands_out=0.026, travel=0.018, stiffness=260.0, preload=1.0, friction=0.5
    ),
}


def button_name(color: str) -> str:
    """The body of a button's box."""
    return f"button_{color}"


def cap_name(color: str) -> str:
    """The body of the part that gives way."""
    return f"cap_{color}"


def front_name(color: str) -> str:
    """The site in the middle of a cap's front."""
    return f"front_{color}"


def add_buttons(spec: mujoco.MjSpec, split: str) -> None:
    """One button per colour and a plate, hidden until they are placed."""
    config = BUTTONS[split]
    for color in COLORS:
        box = spec.worldbody.add_body(name=button_name(color), mocap=True, pos=HIDDEN_W)
        Look("box", config.box, _BOX_RGB).add_to(box, touch=_TOUCH, name=button_name(color))
        _add_cap(box, config, color, SHADES[split][color])
    plate = spec.worldbody.add_body(name=PLATE, mocap=True, pos=HIDDEN_W)
    Look("box", (0.01, 0.24, 0.20), _PLATE_RGB).add_to(plate, touch=_TOUCH, name=PLATE)


def _add_cap(box: mujoco.MjsBody, config: ButtonConfig, color: str, rgb: tuple[float, float, float]) -> None:
    cap = box.add_body(name=cap_name(color))
    cap.add_site(name=front_name(color), pos=[-config.face, 0.0, 0.0], group=4)
    cap.add_joint(
        name=cap_name(color),
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=[1.0, 0.0, 0.0],
        range=[0.0, config.travel],
        limited=True,
        solref_limit=[0.01, 1.0],  # a firm stop: the softest part of a button is its spring
        stiffness=[config.stiffness, 0.0, 0.0],
        springref=-config.preload / config.stiffness,
        damping=[config.damping, 0.0, 0.0],
    )
    # The cap reaches into its box, by more than it can be pressed, so that nothing gets behind it.
    half = (config.stands_out + config.travel) / 2
    where = {"pos": [-config.face + half, 0.0, 0.0]}
    if config.shape == "cylinder":
        look, where["quat"] = Look("cylinder", (config.radius, half), rgb), [np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0]
    else:
        look = Look("box", (half, config.radius, config.radius), rgb)
    friction = [config.friction, 0.005, 0.0001]
    look.add_to(cap, touch=_TOUCH, name=cap_name(color), mass=config.mass, friction=friction, **where)


def place_buttons(world: World, places_w: dict[str, np.ndarray], quat_wxyz: np.ndarray) -> None:
    """Put the middles of some buttons' boxes at (3,) m, all turned alike, the rest out of sight."""
    for color in COLORS:
        world.place_object(button_name(color), places_w.get(color, HIDDEN_W), quat_wxyz)


def depths(world: World, colors: Sequence[str]) -> dict[str, float]:
    """How far in m each button is pressed in: 0 at rest."""
    pressed = {}
    for color in colors:
        [inwards] = points_in_frame([world.position(cap_name(color))], *world.object_pose(button_name(color)))
        pressed[color] = float(inwards[0])
    return pressed
