"""Many robots at once: `mujoco.rollout` steps a batch of states on threads, each with its own model.

The walker is trained on a lean G1: soles and floor are the only things that touch, wrists are welded, and a few sensors
tell the truth about feet and torso. It takes half the time of the full model.
"""

import copy
from typing import Final, NamedTuple

import mujoco
import numpy as np
from mujoco import rollout

from neon_sim.g1 import joints
from neon_sim.g1.links import LINKS
from neon_sim.sim.model import FLOOR, SOLE_GROUP, build_model, build_spec
from neon_sim.sim.randomize import LOADED, ModelRandomization, randomize_model, slope

WELDED: Final = tuple(f"{side}_wrist_{kind}_joint" for side in ("left", "right") for kind in ("roll", "pitch", "yaw"))
MOVING: Final = np.array([i for i, name in enumerate(joints.JOINT_NAMES) if name not in WELDED])  # (23,) of the 29
# Bodies that a joint moves, in hardware order; the six behind the welds are still there to be hit.
JOINT_BODIES: Final = tuple(f"{link.name}_link" for link in LINKS[1:])
MAX_DELAY: Final = 2  # control steps

_STATE: Final = int(mujoco.mjtState.mjSTATE_FULLPHYSICS)
_CTRL: Final = int(mujoco.mjtState.mjSTATE_CTRL)
_CTRL_AND_FORCE: Final = _CTRL | int(mujoco.mjtState.mjSTATE_XFRC_APPLIED)
_FEET: Final = ("left", "right")
_STEEP: Final = 3.0  # degrees


def lean_spec() -> mujoco.MjSpec:
    """The G1 as training needs it: see the module."""
    spec = build_spec()
    for geom in list(spec.geoms):
        if geom.name != FLOOR and geom.group != SOLE_GROUP:
            spec.delete(geom)
    for sensor in list(spec.sensors):
        spec.delete(sensor)
    for name in WELDED:
        spec.delete(spec.actuator(name.removesuffix("_joint")))
        spec.delete(spec.joint(name))
    site, body = mujoco.mjtObj.mjOBJ_SITE, mujoco.mjtObj.mjOBJ_XBODY
    for kind in ("FRAMEPOS", "FRAMEZAXIS", "FRAMELINVEL"):
        for foot in _FEET:
            spec.add_sensor(type=getattr(mujoco.mjtSensor, f"mjSENS_{kind}"), objtype=site, objname=f"{foot}_foot")
    spec.add_sensor(type=mujoco.mjtSensor.mjSENS_FRAMEZAXIS, objtype=body, objname="torso_link")
    for foot in _FEET:
        spec.body(f"{foot}_ankle_roll_link").add_site(
            name=f"{foot}_sole", type=mujoco.mjtGeom.mjGEOM_BOX, pos=[0.035, 0.0, -0.033], size=[0.1, 0.05, 0.02]
        )
        spec.add_sensor(type=mujoco.mjtSensor.mjSENS_TOUCH, objtype=site, objname=f"{foot}_sole")
    return spec


class Truth(NamedTuple):
    """What only the simulation knows, after a control step; foot 0 is the left one."""

    pos_w: np.ndarray  # (B, 3) m, pelvis
    quat_wxyz: np.ndarray  # (B, 4)
    velocity_w: np.ndarray  # (B, 3) m/s, pelvis
    gyro: np.ndarray  # (B, 3) rad/s, pelvis frame
    joint_pos: np.ndarray  # (B, 29) rad, hardware order; welded joints are at home
    joint_vel: np.ndarray  # (B, 29) rad/s
    foot_pos_w: np.ndarray  # (B, 2, 3) m, middle of the sole
    foot_up_w: np.ndarray  # (B, 2, 3) the soles' upward normals
    foot_vel_w: np.ndarray  # (B, 2, 3) m/s
    torso_up_w: np.ndarray  # (B, 3)
    foot_force: np.ndarray  # (B, 2) N, the largest normal force during the step

    @property
    def heading(self) -> tuple[np.ndarray, np.ndarray]:
        """Cosine and sine (B,) of the direction that the pelvis faces, seen from above."""
        w, x, y, z = self.quat_wxyz.T
        forward, left = 1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z)
        length = np.maximum(np.hypot(forward, left), 1e-6)
        return forward / length, left / length


class BatchPhysics:
    """B lean robots.

    Args:
        count: B.
        models: how many different robots there are; they are dealt out in turn. 0 = the nominal one only.
        randomization: what differs between them.
        loaded: share of the models that carry a load besides.
        slopes: share of the models that stand on a slope of up to `max_slope` degrees.
        rng: draws the models.
        physics_dt: s; a third of a control step is what training affords.
        threads: of `mujoco.rollout`.
    """

    def __init__(
        self,
        count: int,
        models: int,
        randomization: ModelRandomization,
        loaded: float,
        slopes: float,
        max_slope: float,
        rng: np.random.Generator,
        physics_dt: float = 0.02 / 3.0,
        threads: int = 2,
    ) -> None:
        self.count, self.substeps = count, round(0.02 / physics_dt)
        nominal = build_model(lean_spec(), physics_dt)
        self.body_index = np.array([nominal.body(name).id for name in JOINT_BODIES])
        _write_gains(nominal)
        # A dozen rows of contact: the dual solver does them in two thirds of Newton's time, and as well.
        nominal.opt.solver, nominal.opt.iterations = int(mujoco.mjtSolver.mjSOL_PGS), 20
        different = [_another(nominal, randomization, loaded, slopes, max_slope, rng) for _ in range(models)]
        different = different or [(nominal, False)]
        self.models = [different[i % len(different)][0] for i in range(count)]
        self.burdened = np.array([different[i % len(different)][1] for i in range(count)])  # (B,) bool: load or slope
        soles = nominal.geom_group == SOLE_GROUP
        self.friction = np.array([model.geom_friction[soles, 0][0] for model in self.models])
        gravity = np.array([model.opt.gravity for model in self.models])
        self.down_w = gravity / np.linalg.norm(gravity, axis=1, keepdims=True)  # (B, 3)
        self._rollout = rollout.Rollout(nthread=threads)
        self._datas = [mujoco.MjData(nominal) for _ in range(threads)]
        size = mujoco.mj_stateSize(nominal, _STATE)
        self.state = np.zeros((count, size))
        self._states = np.empty((count, self.substeps, size))
        self._sensed = np.zeros((count, self.substeps, nominal.nsensordata))
        self._ctrl = np.zeros((count, self.substeps, nominal.nu))
        self._ctrl_and_force = np.zeros((count, self.substeps, nominal.nu + 6 * nominal.nbody))
        self._forces = self._ctrl_and_force[:, :, nominal.nu :].reshape(count, self.substeps, nominal.nbody, 6)
        self._sent = np.tile(joints.HOME[MOVING], (MAX_DELAY + 1, count, 1))  # newest first
        self.delay = np.zeros(count, dtype=np.intp)  # physics steps
        self._welded_home = np.tile(joints.HOME, (count, 1))
        self._welded_still = np.zeros((count, 29))

    def place(self, rows: np.ndarray, pos_w: np.ndarray, quat_wxyz: np.ndarray, joint_pos: np.ndarray) -> None:
        """Put some robots somewhere, at rest: (R,) indices, (R, 3) m, (R, 4), (R, 29) rad."""
        self.state[rows] = 0.0
        self.state[rows, 1:4], self.state[rows, 4:8] = pos_w, quat_wxyz
        self.state[rows, 8 : 8 + len(MOVING)] = joint_pos[:, MOVING]
        self._sent[:, rows] = joint_pos[:, MOVING]
        self._sensed[rows] = 0.0

    def set_delay(self, rows: np.ndarray, physics_steps: np.ndarray) -> None:
        """Physics steps (R,) that a target takes to the motors of some robots, `MAX_DELAY` control steps at most."""
        self.delay[rows] = physics_steps

    def push(self, rows: np.ndarray, velocity_w: np.ndarray) -> None:
        """Add to the pelvis velocity (R, 2) m/s, as legged_gym's pushes do."""
        start = 8 + len(MOVING)
        self.state[rows, start : start + 2] += velocity_w

    def step(self, targets: np.ndarray, hit: np.ndarray, body: np.ndarray, force_w: np.ndarray) -> None:
        """One control step.

        Args:
            targets: (B, 29) rad.
            hit: (R,) indices of the robots that a force acts on.
            body: (R,) index into `JOINT_BODIES`.
            force_w: (R, 3) N at that body's centre of mass.
        """
        self._sent = np.roll(self._sent, 1, axis=0)
        self._sent[0] = targets[:, MOVING]
        punched = len(hit) > 0
        control = self._ctrl_and_force if punched else self._ctrl
        rows = np.arange(self.count)
        for substep in range(self.substeps):
            age = np.maximum(self.delay - substep + self.substeps - 1, 0) // self.substeps
            control[:, substep, : len(MOVING)] = self._sent[age, rows]
        if punched:
            self._forces[hit, :, self.body_index[body], :3] = force_w[:, None, :]
        self._rollout.rollout(
            self.models,
            self._datas,
            self.state,
            control,
            control_spec=_CTRL_AND_FORCE if punched else _CTRL,
            skip_checks=True,
            nstep=self.substeps,
            state=self._states,
            sensordata=self._sensed,
        )
        if punched:
            self._forces[hit] = 0.0
        self.state[:] = self._states[:, -1]

    def truth(self) -> Truth:
        """Where everybody is now. Feet and torso are as of the last physics step's beginning."""
        moving = len(MOVING)
        vel = self.state[:, 8 + moving :]
        joint_pos, joint_vel = self._welded_home.copy(), self._welded_still.copy()
        joint_pos[:, MOVING], joint_vel[:, MOVING] = self.state[:, 8 : 8 + moving], vel[:, 6 : 6 + moving]
        last = self._sensed[:, -1]
        return Truth(
            pos_w=self.state[:, 1:4].copy(),
            quat_wxyz=self.state[:, 4:8].copy(),
            velocity_w=vel[:, :3].copy(),
            gyro=vel[:, 3:6].copy(),
            joint_pos=joint_pos,
            joint_vel=joint_vel,
            foot_pos_w=last[:, 0:6].reshape(-1, 2, 3).copy(),
            foot_up_w=last[:, 6:12].reshape(-1, 2, 3).copy(),
            foot_vel_w=last[:, 12:18].reshape(-1, 2, 3).copy(),
            torso_up_w=last[:, 18:21].copy(),
            foot_force=self._sensed[:, :, 21:23].max(axis=1),
        )

    def get_state(self) -> dict[str, np.ndarray]:
        """What the next step depends on besides the models, which follow from the rng that drew them."""
        return {
            "state": self.state.copy(),
            "sensed": self._sensed.copy(),
            "sent": self._sent.copy(),
            "delay": self.delay.copy(),
        }

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Go back to what `get_state` returned."""
        self.state[:], self._sensed[:] = state["state"], state["sensed"]
        self._sent, self.delay = state["sent"].copy(), state["delay"].copy()

    def close(self) -> None:
        """Stop the threads."""
        self._rollout.close()


def _write_gains(model: mujoco.MjModel) -> None:
    model.actuator_gainprm[:, 0] = joints.KP[MOVING]
    model.actuator_biasprm[:, 1], model.actuator_biasprm[:, 2] = -joints.KP[MOVING], -joints.KD[MOVING]


def _another(
    nominal: mujoco.MjModel,
    randomization: ModelRandomization,
    loaded: float,
    slopes: float,
    max_slope: float,
    rng: np.random.Generator,
) -> tuple[mujoco.MjModel, bool]:
    """Another robot, and whether it has a load to carry or a slope to climb."""
    model = copy.copy(nominal)
    laden, tilted = rng.random() < loaded, rng.random() < slopes
    randomize_model(model, rng, LOADED if laden else randomization)
    degrees = rng.uniform(0.0, max_slope) if tilted else 0.0
    slope(model, degrees, rng.uniform(-np.pi, np.pi))
    return model, laden or degrees > _STEEP
