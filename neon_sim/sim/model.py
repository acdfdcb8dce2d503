"""The G1 in MuJoCo: one MJCF source, four variants of it as MjSpec edits, a floor and a light.

Every variant keeps the names of `joints.JOINT_NAMES` for the joints that it has, so map by name, never by position:
`joint_map.JointMap` does.
"""

from typing import Final

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.names import nearest
from neon_sim.shipped import asset_path

VARIANTS: Final = ("29dof", "29dof_lock_waist", "23dof", "neck")
FLOOR: Final = "floor"  # geom name
FREE_JOINT: Final = "floating_base_joint"
NECK_JOINTS: Final = ("xl330_joint", "d455_joint")  # pan (z), tilt (y, positive looks down)
NECK_HOME: Final = (0.0, 0.6108652381980153)  # rad; 35 deg down, where the stock model's "task" camera looks
STEREO_BASELINE: Final = 0.05  # m between the two imagers of a D435 (Intel's data sheet)
STEREO_FOVY: Final = 58.0  # deg, of the same imagers (87 x 58 deg in full width)

# Geom groups: what a viewer or a ray may want to leave out.
SCENE_GROUP: Final = 0
ROBOT_GROUP: Final = 1
SOLE_GROUP: Final = 3  # the contact spheres under the feet, not drawn by default

_WAIST: Final = ("waist_roll_joint", "waist_pitch_joint")
_WRISTS: Final = tuple(f"{side}_wrist_{kind}_joint" for side in ("left", "right") for kind in ("pitch", "yaw"))
# unitree_ros: g1_29dof_lock_waist_rev_1_0 and g1_23dof_rev_1_0 lack these; g1_comp's neck sits on a locked waist.
DROPPED_JOINTS: Final[dict[str, tuple[str, ...]]] = {
    "29dof": (),
    "29dof_lock_waist": _WAIST,
    "23dof": _WAIST + _WRISTS,
    "neck": _WAIST,
}


def require_variant(variant: str) -> None:
    """Raise ValueError, naming the nearest, unless it is one of `VARIANTS`."""
    if variant not in VARIANTS:
        raise nearest("robot variant", variant, VARIANTS)


def lacking_joints(variant: str) -> np.ndarray:
    """Hardware indices of the joints that a variant lacks, rising; empty for "29dof"."""
    require_variant(variant)
    return np.array(sorted(joints.JOINT_INDEX[name] for name in DROPPED_JOINTS[variant]), dtype=np.intp)


def build_spec(variant: str = "29dof") -> mujoco.MjSpec:
    """The robot on a flat floor, open to edits until it is compiled.

    Joints that a variant lacks are welded at zero with their links' masses kept. For "23dof" that leaves 33.3411 kg
    where the official 23-joint machine, with other wrist links, weighs 32.1069 kg.

    Args:
        variant: one of `VARIANTS`.

    Raises:
        ValueError: no such variant; the message names the nearest.
    """
    require_variant(variant)
    spec = mujoco.MjSpec.from_file(str(asset_path("g1/g1.xml")))
    for joint_name in DROPPED_JOINTS[variant]:
        spec.delete(spec.actuator(joint_name.removesuffix("_joint")))
        spec.delete(spec.joint(joint_name))
    if variant == "neck":
        _add_neck(spec)
    _add_stereo_cameras(spec)
    _add_wrist_cameras(spec)
    _add_floor(spec)
    return spec


def build_model(spec: mujoco.MjSpec, physics_dt: float = 0.002) -> mujoco.MjModel:
    """Compile a spec, which stays as it is, with a physics step of `physics_dt` seconds.

    Raises:
        ValueError: the step is not a positive number, or MuJoCo refuses the spec.
    """
    if not physics_dt > 0.0:
        raise ValueError(f"physics_dt must be a positive number of seconds, got {physics_dt}. Hardware's is 0.002.")
    model = spec.compile()
    model.opt.timestep = physics_dt
    return model


def substeps_of(physics_dt: float, control_dt: float) -> int:
    """Physics steps in a control period. Raises ValueError where they do not fill it exactly."""
    substeps = round(control_dt / physics_dt) if physics_dt > 0.0 else 0
    if substeps < 1 or abs(substeps * physics_dt - control_dt) > 1e-9:
        raise ValueError(f"physics_dt must divide {control_dt} s (e.g. 0.002 or 0.005), got {physics_dt}.")
    return substeps


def _add_stereo_cameras(spec: mujoco.MjSpec) -> None:
    """A pair of eyes, "stereo_left" and "stereo_right", half a baseline to each side of the "task" camera."""
    middle = spec.camera("task")
    for name, side in (("stereo_left", 1.0), ("stereo_right", -1.0)):
        pos = middle.pos + [0.0, side * STEREO_BASELINE / 2, 0.0]  # the task camera's picture runs along the body's y
        eye = middle.parent.add_camera(name=name, pos=pos, quat=middle.quat, fovy=STEREO_FOVY)
        eye.alt.type, eye.alt.xyaxes = middle.alt.type, middle.alt.xyaxes


def _add_wrist_cameras(spec: mujoco.MjSpec) -> None:
    """The cameras "wrist_left" and "wrist_right": on a bracket beside the palm, turned 15 deg towards the hand.

    The G1 has none; place and lens are ours, chosen so that palm, fingertips and what they close in on are in view.
    """
    for side, inward in (("left", -1.0), ("right", 1.0)):
        right = [-inward * np.sin(np.radians(15.0)), -np.cos(np.radians(15.0)), 0.0]
        camera = spec.body(f"{side}_wrist_yaw_link").add_camera(
            name=f"wrist_{side}", pos=[0.02, inward * 0.055, 0.0], fovy=75.0
        )
        camera.alt.type = mujoco.mjtOrientation.mjORIENTATION_XYAXES
        camera.alt.xyaxes = [*right, 0.0, 0.0, 1.0]


def _add_floor(spec: mujoco.MjSpec) -> None:
    """An endless checkered floor, a sky and one light that casts no shadow."""
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.62, 0.72, 0.82],
        rgb2=[0.85, 0.88, 0.9],
        width=64,
        height=384,
    )
    spec.add_texture(
        name=FLOOR,
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.42, 0.44, 0.46],
        rgb2=[0.5, 0.52, 0.54],
        width=128,
        height=128,
    )
    material = spec.add_material(
        name=FLOOR, texrepeat=[1, 1], texuniform=True, specular=0.0, shininess=0.0, reflectance=0.0
    )
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = FLOOR
    spec.worldbody.add_geom(
        name=FLOOR, type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0.0, 0.0, 0.05], material=FLOOR, group=SCENE_GROUP
    )
    spec.worldbody.add_light(
        name="sun",
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.0, 0.0, 4.0],
        dir=[-0.5, 0.3, -0.8],
        diffuse=[0.5, 0.5, 0.5],
        specular=[0.2, 0.2, 0.2],
        castshadow=False,
    )
    spec.visual.rgba.haze = [0.85, 0.88, 0.9, 1.0]
    spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
    spec.visual.headlight.diffuse = [0.3, 0.3, 0.3]
    spec.visual.headlight.specular = [0.1, 0.1, 0.1]


def _add_neck(spec: mujoco.MjSpec) -> None:
    """The official two-servo neck (g1_comp.urdf) on the torso, with the "task" camera moved onto its D455.

    Places, masses and ranges are the URDF's. It leaves efforts and servo gains unset and our table has no inertias:
    those are ours, 0.5 N m (the stall torque of an XL330) and solid boxes of the parts' size.
    """
    torso = spec.body("torso_link")
    servo = _add_part(torso, "head_servo_link", [0.0039635, 0.0, -0.047], 0.54796, [0.06, 0.06, 0.05])
    servo.ipos = [0.0012943, -0.00018754, 0.49801]
    pan = _add_part(servo, "xl330_link", [0.030518, 0.0, 0.52486], 0.047, [0.012, 0.01, 0.017])
    pan.quat = [np.cos(0.039968 / 2), 0.0, np.sin(0.039968 / 2), 0.0]
    tilt = _add_part(pan, "d455_link", [0.0295, 0.0, 0.013], 0.096, [0.013, 0.062, 0.0145])
    for body, half_size in ((pan, [0.012, 0.01, 0.01]), (tilt, [0.013, 0.062, 0.0145])):
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=half_size,
            material="black",
            group=ROBOT_GROUP,
            contype=0,
            conaffinity=3,
        )
    _add_servo(spec, pan, NECK_JOINTS[0], [0, 0, 1], [-0.8727, 0.8727])
    _add_servo(spec, tilt, NECK_JOINTS[1], [0, 1, 0], [-0.3491, 1.5708])
    fovy = spec.camera("task").fovy
    spec.delete(spec.camera("task"))
    tilt.add_camera(name="task", pos=[0.0155, 0.0, 0.0], quat=[0.5, 0.5, -0.5, -0.5], fovy=fovy)


def _add_part(
    parent: mujoco.MjsBody, name: str, pos: list[float], mass: float, half_size: list[float]
) -> mujoco.MjsBody:
    """A body with the inertia of a solid box, (3,) half sizes in m, about its own origin."""
    square = np.square(half_size)
    inertia = mass / 3.0 * (square.sum() - square)
    # ipos must be given: left out, MuJoCo takes the body's own place for it (3.17).
    return parent.add_body(name=name, pos=pos, mass=mass, inertia=inertia, ipos=[0.0, 0.0, 0.0], explicitinertial=True)


def _add_servo(spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str, axis: list[int], limits: list[float]) -> None:
    """A hinge with a position servo named like it, `limits` in rad."""
    body.add_joint(name=name, axis=axis, range=limits, armature=0.001, actfrcrange=[-0.5, 0.5])
    servo = spec.add_actuator(
        name=name.removesuffix("_joint"),
        target=name,
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        forcerange=[-0.5, 0.5],
    )
    servo.gainprm[0], servo.biasprm[1], servo.biasprm[2] = 4.0, -4.0, -0.15
