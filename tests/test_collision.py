"""Distances by hand, the spheres and the trunk against the simulator's geoms, and contacts that they must foresee."""

import mujoco
import numpy as np
import pytest
import torch

from neon_sim.g1 import joints
from neon_sim.model import collision
from neon_sim.model.collision import TRUNK, Obstacle, arm_spheres, gaps
from neon_sim.model.g1_dynamics import TORSO_DEPTH, limb_poses
from neon_sim.sim.model import build_model, build_spec

COVERED_LINKS = ("shoulder_yaw", "elbow", "wrist_roll", "wrist_pitch", "wrist_yaw")


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    """The robot of the simulator."""
    return build_model(build_spec())


def _posed(model: mujoco.MjModel, joint_pos: np.ndarray) -> mujoco.MjData:
    """The pelvis upright at the origin, high above the floor's contacts that nobody asks for here."""
    data = mujoco.MjData(model)
    data.qpos[:7] = (0, 0, 0, 1, 0, 0, 0)
    data.qpos[7:36] = joint_pos
    mujoco.mj_forward(model, data)
    return data


def _arm_geoms(model: mujoco.MjModel, side: str) -> list[int]:
    names = [f"{side}_{link}_link" for link in COVERED_LINKS]
    return [g for g in range(model.ngeom) if model.body(model.geom_bodyid[g]).name in names and model.geom_contype[g]]


def _surface(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """Points (N, 3) on a capsule or box, in the geom's frame."""
    directions = np.random.default_rng(geom).normal(size=(400, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    radius, half, _ = model.geom_size[geom]
    if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_CAPSULE:
        along = np.random.default_rng(geom).uniform(-half, half, 400)
        return radius * directions + np.stack([np.zeros(400), np.zeros(400), along], axis=1)
    assert model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX
    return directions / np.abs(directions).max(axis=1, keepdims=True) * model.geom_size[geom]


def test_distances_to_a_sphere_and_a_box_by_hand() -> None:
    sphere = Obstacle((1.0, 0.0, 0.0), radius=0.25)
    box = Obstacle((0.0, 0.0, 0.0), half_size=(0.1, 0.2, 0.3))
    rounded = Obstacle((0.0, 0.0, 0.0), half_size=(0.1, 0.2, 0.3), radius=0.05)
    # Away from a face, from an edge (a 3-4-5 triangle), in the middle (0.1 m under the nearest face).
    points = torch.tensor([[0.5, 0.0, 0.0], [0.4, 0.6, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    expected = [[0.25, 0.4, 0.35], [np.hypot(0.6, 0.6) - 0.25, 0.5, 0.45], [0.75, -0.1, -0.15]]
    np.testing.assert_allclose(gaps(points, (sphere, box, rounded)).numpy(), expected, atol=1e-12)


def test_a_box_can_be_turned() -> None:
    # A quarter turn about z: what was 0.4 m long in x is so in y.
    turned = Obstacle((0.0, 0.0, 1.0), half_size=(0.4, 0.1, 0.1), quat_wxyz=(np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)))
    points = torch.tensor([[0.3, 0.0, 1.0], [0.0, 0.6, 1.0]], dtype=torch.float64)
    np.testing.assert_allclose(gaps(points, (turned,))[:, 0].numpy(), [0.2, 0.2], atol=1e-12)


def test_distances_have_their_derivatives_inside_and_outside() -> None:
    bodies = (Obstacle((0.1, 0.0, 0.0), (0.1, 0.2, 0.3), 0.02), Obstacle((1.0, 0.0, 0.0), radius=0.25))
    points = torch.tensor([[0.5, 0.3, 0.1], [0.12, 0.03, 0.05]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: gaps(p, bodies), (points,))


def test_an_obstacle_without_size_is_refused() -> None:
    with pytest.raises(ValueError, match="a size or a radius above 0"):
        Obstacle((0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="no negative one"):
        Obstacle((0.0, 0.0, 0.0), radius=-0.1)


def test_the_trunk_is_the_simulators(model: mujoco.MjModel) -> None:
    bodies = dict(zip(("pelvis", "belly", "chest", "head"), (*TRUNK["pelvis"], *TRUNK["torso"]), strict=True))
    for name, body in bodies.items():
        geom = model.geom(name)
        np.testing.assert_allclose(body.pos, geom.pos, atol=1e-9, err_msg=name)
        if name == "head":
            np.testing.assert_allclose([body.radius, *body.half_size], [geom.size[0], 0, 0, geom.size[1]], atol=1e-9)
        else:
            np.testing.assert_allclose([*body.half_size, body.radius], [*geom.size, 0], atol=1e-9, err_msg=name)


@pytest.mark.parametrize("seed", range(5))
def test_the_spheres_cover_both_arms(model: mujoco.MjModel, seed: int) -> None:
    joint_pos = np.random.default_rng(seed).uniform(joints.LOWER, joints.UPPER)
    data = _posed(model, joint_pos)
    centers, radii = (t.numpy() for t in arm_spheres(limb_poses(torch.from_numpy(joint_pos))))
    count = collision.SPHERES_PER_ARM
    assert centers.shape == (2 * count, 3)
    for side, mine in (("left", slice(0, count)), ("right", slice(count, 2 * count))):
        geoms = _arm_geoms(model, side)
        assert len(geoms) == 6
        for geom in geoms:
            points = _surface(model, geom) @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
            distance = np.linalg.norm(points[:, None] - centers[mine], axis=2) - radii[mine]
            assert distance.min(axis=1).max() < 0.009, model.body(model.geom_bodyid[geom]).name  # m, below the margins


def test_a_touch_between_arm_and_trunk_is_always_foreseen(model: mujoco.MjModel) -> None:
    arms = {*_arm_geoms(model, "left"), *_arm_geoms(model, "right")}
    trunk = {model.geom(name).id for name in ("pelvis", "belly", "chest", "head")}
    rng = np.random.default_rng(1)
    touches = 0
    for _ in range(150):
        joint_pos = rng.uniform(joints.LOWER, joints.UPPER)
        data = _posed(model, joint_pos)
        pairs = [set(pair) for pair in data.contact.geom[data.contact.dist < 0.0]]
        if not any(pair & arms and pair & trunk for pair in pairs):
            continue
        touches += 1
        poses = limb_poses(torch.from_numpy(joint_pos))
        centers, radii = arm_spheres(poses)
        torso = poses[TORSO_DEPTH, 2]
        in_torso = (centers - torso[:3, 3]) @ torso[:3, :3]
        distance = torch.cat([gaps(centers, TRUNK["pelvis"]), gaps(in_torso, TRUNK["torso"])], dim=1) - radii[:, None]
        assert distance.min() < collision.TRUNK_MARGIN
    assert touches > 20
