"""Other robots than the nominal one: a compiled model with masses, motors, joints and soles drawn from ranges.

    model = build_model(build_spec())
    randomize_model(model, np.random.default_rng(0), TRAINING)

Everything is found by name, so a model that lacks joints keeps what it has, and the same rng gives the links and joints
that two variants share the same numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import matrix_to_quat, quat_to_matrix
from neon_sim.g1.links import LINKS, PALM_OFFSET
from neon_sim.names import Bounds, require_spans
from neon_sim.sim.model import SOLE_GROUP

Range = tuple[float, float]  # low, high; drawn uniformly, ends included

_TORSO: Final = "torso_link"
_HANDS: Final = ("left_wrist_yaw_link", "right_wrist_yaw_link")
_BODIES: Final = tuple(link.name if link.name == "pelvis" else f"{link.name}_link" for link in LINKS)
FRICTIONS: Final = 0.01, 2.0  # on less than that the physics may diverge
# In which a range must lie: what a real G1 could be, with room; beyond them lie models that shake themselves apart.
_BOUNDS: Final[dict[str, Bounds]] = {
    "friction": FRICTIONS,
    "torso_payload": (-4.0, 30.0),
    "hand_payload": (0.0, 10.0),
    "torso_com": (-0.2, 0.2),
    "link_mass_scale": (0.5, 2.0),
    "kp_scale": (0.1, 2.0),
    "kd_scale": (0.1, 2.0),
    "motor_strength": (0.0, 2.0),
    "friction_loss": (0.0, 20.0),
    "damping": (0.0, 20.0),
    "armature_scale": (0.2, 5.0),
}
# How many numbers a robot has of each, in the order in which they are drawn: a seed's robot depends on it.
_SIZES: Final[dict[str, int | None]] = {
    "friction": None,
    "link_mass_scale": len(_BODIES),
    "torso_com": 3,
    "torso_payload": None,
    "hand_payload": 2,
    "friction_loss": joints.NUM_JOINTS,
    "damping": joints.NUM_JOINTS,
    "armature_scale": joints.NUM_JOINTS,
    "kp_scale": joints.NUM_JOINTS,
    "kd_scale": joints.NUM_JOINTS,
    "motor_strength": joints.NUM_JOINTS,
}


@dataclass(frozen=True)
class ModelRandomization:
    """Ranges (low, high) of what differs from robot to robot. The defaults are those of the walker's training.

    Scales multiply what the model has, `friction_loss` and `damping` are added to it; `friction` replaces it. What
    says "each" is drawn anew for each link, hand or joint.
    """

    friction: Range = (0.4, 1.2)  # sliding, of the soles on whatever they stand on
    torso_payload: Range = (-1.0, 2.0)  # kg at the torso link's centre of mass
    hand_payload: Range = (0.0, 0.8)  # kg at each palm
    torso_com: Range = (-0.03, 0.03)  # m by which the torso link's centre of mass is displaced, each axis
    link_mass_scale: Range = (0.95, 1.05)  # each link, its inertia alike
    kp_scale: Range = (0.9, 1.1)  # each joint, as the next five
    kd_scale: Range = (0.8, 1.2)
    motor_strength: Range = (0.9, 1.0)  # of the torque limit and of both gains: torque = strength * clip(PD)
    friction_loss: Range = (0.0, 0.0)  # N m
    damping: Range = (0.0, 0.0)  # N m s/rad
    armature_scale: Range = (0.9, 1.1)

    def __post_init__(self) -> None:
        require_spans(self, **_BOUNDS)


TRAINING: Final = ModelRandomization()
# The same with a load: a backpack, or something in each hand.
LOADED: Final = ModelRandomization(torso_payload=(0.0, 8.0), hand_payload=(0.0, 3.0))
NOMINAL: Final = ModelRandomization(
    friction=(0.6, 0.6),  # assets/g1/g1.xml
    torso_payload=(0.0, 0.0),
    hand_payload=(0.0, 0.0),
    torso_com=(0.0, 0.0),
    link_mass_scale=(1.0, 1.0),
    kp_scale=(1.0, 1.0),
    kd_scale=(1.0, 1.0),
    motor_strength=(1.0, 1.0),
    armature_scale=(1.0, 1.0),
)
# Wider than training in every direction: for judging only.
UNSEEN: Final = ModelRandomization(
    friction=(0.3, 1.3),
    torso_payload=(-1.5, 3.0),
    hand_payload=(0.0, 1.0),
    torso_com=(-0.04, 0.04),
    link_mass_scale=(0.93, 1.07),
    kp_scale=(0.85, 1.15),
    kd_scale=(0.7, 1.3),
    motor_strength=(0.85, 1.0),
    friction_loss=(0.0, 0.2),
    damping=(0.0, 0.05),
    armature_scale=(0.8, 1.2),
)


def randomize_model(model: mujoco.MjModel, rng: np.random.Generator, config: ModelRandomization = TRAINING) -> None:
    """Turn a compiled model into another robot, in place. Edit a fresh one (`copy.copy(model)`): edits add up.

    `SimRobot.reset` and `apply_fault` write the nominal gains and torque limits again: save the three actuator arrays
    (`actuator_gainprm`, `actuator_biasprm`, `actuator_forcerange`) after this call and put them back after those; or
    let SimRobot do it all (`neon_sim.sim.domain`).

    Raises:
        ValueError: the model has no soles, or a payload would leave a link without mass.
    """
    edit_model(model, draw_model(rng, config))


def draw_model(rng: np.random.Generator, config: ModelRandomization) -> dict[str, np.ndarray]:
    """The numbers of one robot, by field of the config: (), or one for each link (30,), axis (3,), hand (2,), joint."""
    return {name: draw_uniform(rng, getattr(config, name), size) for name, size in _SIZES.items()}


def edit_model(model: mujoco.MjModel, values: Mapping[str, np.ndarray]) -> None:
    """Make a compiled model the robot of `draw_model`, in place."""
    set_friction(model, float(values["friction"]))
    _scale_links(model, values["link_mass_scale"])
    torso = model.body(_TORSO).id
    _set_com(model, torso, model.body_ipos[torso] + values["torso_com"])
    add_mass(model, _TORSO, float(values["torso_payload"]), model.body_ipos[torso].copy())
    for hand, payload in zip(_HANDS, values["hand_payload"], strict=True):
        add_mass(model, hand, float(payload), np.array(PALM_OFFSET))
    _edit_joints(model, values)
    _edit_motors(model, values)
    mujoco.mj_setConst(model, mujoco.MjData(model))  # what the solver derives from masses


def set_friction(model: mujoco.MjModel, friction: float) -> None:
    """Set the sliding friction under the soles.

    MuJoCo takes the larger of two geoms' coefficients unless one has priority; the soles have it (assets/g1/g1.xml), so
    theirs is what counts on every ground, and the floor's is never read.
    """
    model.geom_friction[_soles(model), 0] = friction


def set_softness(model: mujoco.MjModel, time_constant_s: float) -> None:
    """Set how long a contact of the soles takes to push back: MuJoCo's `solref[0]`, 0.02 s nominally.

    The soles have priority, so theirs counts on every ground. Below two physics steps MuJoCo takes two.
    """
    model.geom_solref[_soles(model), 0] = time_constant_s


def add_mass(model: mujoco.MjModel, body: str, mass: float, pos: np.ndarray) -> None:
    """Fix a point mass of `mass` kg to a body at `pos` (3,) m in the body's frame; a negative one takes away.

    Call `mujoco.mj_setConst` after the last edit; it brings what the solver derives from masses up to date.

    Raises:
        ValueError: nothing would be left of the body, or its inertia could not be a body's.
    """
    index = model.body(body).id
    old_mass, old_com = float(model.body_mass[index]), model.body_ipos[index].copy()
    total, lever = old_mass + mass, pos - old_com
    if total <= 0.0:
        raise ValueError(f"Body {body!r} weighs {old_mass:.3f} kg; {-mass:.3f} kg cannot be taken from it.")
    model.body_mass[index] = total
    if mass == 0.0 or not lever.any():
        return
    axes = quat_to_matrix(model.body_iquat[index])
    # Two masses about their common centre: the reduced mass at their distance (parallel axis theorem, twice).
    spread = old_mass * mass / total * (lever @ lever * np.eye(3) - np.outer(lever, lever))
    inertia, quat = _principal((axes * model.body_inertia[index]) @ axes.T + spread)
    if inertia[0] <= 0.0:
        raise ValueError(f"Body {body!r} has no {-mass:.3f} kg at {pos} m to take. Go nearer its centre of mass.")
    model.body_inertia[index], model.body_iquat[index] = inertia, quat
    _set_com(model, index, old_com + mass / total * lever)


def slope(model: mujoco.MjModel, degrees: float, heading: float) -> None:
    """Tilt gravity so that the flat floor is a slope rising by `degrees` towards `heading` (rad, 0 = world x).

    Equal to a tilted floor seen from the floor. The world's z stays the floor's normal: an IMU must take down from
    `model.opt.gravity`, not from the world's axes, and "upright" means against gravity. Calling it again replaces.
    """
    size, angle = float(np.linalg.norm(model.opt.gravity)), np.deg2rad(degrees)
    level = np.array([np.cos(heading), np.sin(heading)]) * np.sin(angle)
    model.opt.gravity[:] = -size * np.array([*level, np.cos(angle)])


def draw_uniform(rng: np.random.Generator, limits: Range, size: int | None) -> np.ndarray:
    """Uniform numbers (size,), or () for None; exactly the value where low equals high."""
    return np.asarray(rng.uniform(*limits, size))


def _soles(model: mujoco.MjModel) -> np.ndarray:
    """(ngeom,) bool: the contact spheres under the feet."""
    soles = (model.geom_group == SOLE_GROUP) & (model.geom_priority > 0)
    if not soles.any():
        raise ValueError(f"No geom of group {SOLE_GROUP} with priority: the model has no soles. Build on build_spec().")
    return soles


def _scale_links(model: mujoco.MjModel, scales: np.ndarray) -> None:
    """Scale mass and inertia of each of the robot's links that the model has."""
    present = {model.body(index).name: index for index in range(model.nbody)}
    for name, scale in zip(_BODIES, scales, strict=True):
        if name in present:
            model.body_mass[present[name]] *= scale
            model.body_inertia[present[name]] *= scale


def _set_com(model: mujoco.MjModel, body: int, pos: np.ndarray) -> None:
    """Place a body's centre of mass at `pos` (3,) m in the body's frame."""
    if model.body_sameframe[body] != mujoco.mjtSameFrame.mjSAMEFRAME_NONE:
        name = model.body(body).name
        raise ValueError(f"Body {name!r} was compiled with its centre of mass in its origin; give it one in the spec.")
    model.body_ipos[body] = pos


def _principal(tensor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal moments (3,) and the quaternion (4,) wxyz of their axes, of an inertia tensor (3, 3)."""
    moments, axes = np.linalg.eigh(tensor)
    if np.linalg.det(axes) < 0.0:
        axes[:, 0] *= -1.0
    return moments, matrix_to_quat(axes)


def _edit_joints(model: mujoco.MjModel, values: Mapping[str, np.ndarray]) -> None:
    """Friction loss, damping and armature of each hardware joint that the model has."""
    present = {model.joint(index).name: int(model.jnt_dofadr[index]) for index in range(model.njnt)}
    kept = [index for index, name in enumerate(joints.JOINT_NAMES) if name in present]
    dofs = [present[joints.JOINT_NAMES[index]] for index in kept]
    model.dof_frictionloss[dofs] += values["friction_loss"][kept]
    model.dof_damping[dofs] += values["damping"][kept]
    model.dof_armature[dofs] *= values["armature_scale"][kept]


def _edit_motors(model: mujoco.MjModel, values: Mapping[str, np.ndarray]) -> None:
    """Gains and torque limits of each hardware joint's motor that the model has."""
    names = [name.removesuffix("_joint") for name in joints.JOINT_NAMES]
    present = {model.actuator(index).name: index for index in range(model.nu)}
    kept = [index for index, name in enumerate(names) if name in present]
    motors = [present[names[index]] for index in kept]
    kp, kd, strength = (values[name][kept] for name in ("kp_scale", "kd_scale", "motor_strength"))
    model.actuator_gainprm[motors, 0] *= kp * strength
    model.actuator_biasprm[motors, 0] *= kp * strength
    model.actuator_biasprm[motors, 1] *= kp * strength
    model.actuator_biasprm[motors, 2] *= kd * strength
    model.actuator_forcerange[motors] *= strength[:, None]
    driven = model.actuator_trnid[motors, 0]
    model.jnt_actfrcrange[driven] *= strength[:, None]
