"""Where bodies and sites are in the world, and how scene objects are put somewhere else."""

from typing import NamedTuple

import mujoco
import numpy as np

from neon_sim.names import nearest


class _Place(NamedTuple):
    """Views of where MuJoCo keeps a body's or a site's pose in the world."""

    pos_w: np.ndarray  # (3,) m
    matrix_w: np.ndarray  # (9,)
    quat_wxyz: np.ndarray | None  # (4,); a site has none


class Places:
    """Bodies and sites of one simulation by name; looked up once each."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self._model, self._data = model, data
        self._found: dict[str, _Place] = {}

    def pose(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) m and quaternion (4,) wxyz of a body, else of a site, in the world frame."""
        found = self._found.get(name) or self._find(name)
        if found.quat_wxyz is not None:
            return found.pos_w.copy(), found.quat_wxyz.copy()
        quat = np.empty(4)
        mujoco.mju_mat2Quat(quat, found.matrix_w)
        return found.pos_w.copy(), quat

    def position(self, name: str) -> tuple[float, float, float]:
        """The position half of `pose`, x, y, z m, in plain floats: ten times as fast."""
        x, y, z = (self._found.get(name) or self._find(name)).pos_w.tolist()
        return x, y, z

    def put(self, name: str, pos_w: np.ndarray, quat_wxyz: np.ndarray | None = None) -> None:
        """Put a mocap body, or a body with a free joint and then at rest, at a world pose; None keeps its orientation.

        Raises ValueError for a body that is neither, and for the robot, which its `reset` puts in its place.
        """
        model, data = self._model, self._data
        body = model.body(name)
        mocap, joint = int(body.mocapid[0]), int(body.jntadr[0])
        if mocap >= 0:
            data.mocap_pos[mocap] = pos_w
            if quat_wxyz is not None:
                data.mocap_quat[mocap] = quat_wxyz
        elif joint > 0 and int(model.jnt_type[joint]) == int(mujoco.mjtJoint.mjJNT_FREE):  # joint 0 is the robot's
            pose, vel = int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])
            data.qpos[pose : pose + 3], data.qvel[vel : vel + 6] = pos_w, 0.0
            if quat_wxyz is not None:
                data.qpos[pose + 3 : pose + 7] = quat_wxyz
        else:
            raise ValueError(f"Body {name!r} is neither a mocap body nor a free one; only those can be placed.")
        mujoco.mj_kinematics(model, data)

    def _find(self, name: str) -> _Place:
        data = self._data
        body = mujoco.mj_name2id(self._model, int(mujoco.mjtObj.mjOBJ_BODY), name)
        if body >= 0:
            found = _Place(data.xpos[body], data.xmat[body], data.xquat[body])
        else:
            site = mujoco.mj_name2id(self._model, int(mujoco.mjtObj.mjOBJ_SITE), name)
            if site < 0:
                raise nearest("object", name, [self._model.body(i).name for i in range(self._model.nbody)])
            found = _Place(data.site_xpos[site], data.site_xmat[site], None)
        self._found[name] = found
        return found
