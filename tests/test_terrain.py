"""Ground that is not flat, measured with rays and with the soles that stand on it."""

import mujoco
import numpy as np
import pytest

from neon_sim.env import NeonG1Env
from neon_sim.g1 import joints
from neon_sim.sim.model import SCENE_GROUP, build_model, build_spec
from neon_sim.sim.scene import build_scene
from neon_sim.sim.terrain import TERRAINS, TerrainConfig, add_rough, add_slope, add_steps

SOLES = [f"{side}_foot_{i}" for side in ("left", "right") for i in range(4)]  # spheres of 5 mm


class Ground:
    """A compiled scene with the robot out of the way, to be probed from above."""

    def __init__(self, spec: mujoco.MjSpec) -> None:
        self.model = build_model(spec)
        self.data = mujoco.MjData(self.model)
        mujoco.mj_kinematics(self.model, self.data)
        self._group = np.zeros(6, dtype=np.uint8)
        self._group[SCENE_GROUP] = 1

    def height(self, x: float, y: float) -> float:
        """m of the ground at a place, by a ray from 2 m above."""
        hit = np.zeros(1, dtype=np.int32)
        start, down = np.array([x, y, 2.0]), np.array([0.0, 0.0, -1.0])
        return 2.0 - mujoco.mj_ray(self.model, self.data, start, down, self._group, 1, -1, hit)

    def heights(self, places: np.ndarray) -> np.ndarray:
        return np.array([self.height(x, y) for x, y in places])


def steps(seed: int = 0, **options: float) -> Ground:
    spec = build_spec()
    add_steps(spec, np.random.default_rng(seed), **options)
    return Ground(spec)


def rough(seed: int = 0, **options: float) -> Ground:
    spec = build_spec()
    add_rough(spec, np.random.default_rng(seed), **options)
    return Ground(spec)


def places(reach: float, count: int = 400) -> np.ndarray:
    return np.random.default_rng(7).uniform(-reach, reach, (count, 2))


def test_steps_have_three_levels_and_edges_of_the_asked_height() -> None:
    ground = steps(height=0.04)
    field = ground.heights(places(5.9))
    assert set(field.round(6)) == {0.0, 0.02, 0.04}
    assert 0.2 < np.mean(field > 0.03) < 0.4  # each level has a third of the tiles
    # Tiles are 0.5 m: along a line of their middles neighbours differ by at most 4 cm, somewhere by all of it.
    line = ground.heights(np.column_stack([np.arange(1.25, 6.0, 0.5), np.full(10, 2.25)]))
    assert np.abs(np.diff(line)).max() == pytest.approx(0.04)
    assert ground.height(6.3, 0.0) == 0.0  # the field ends, the floor goes on


def test_steps_and_rough_ground_leave_the_start_level() -> None:
    for ground in (steps(), rough()):
        np.testing.assert_allclose(ground.heights(places(0.55, 100)), 0.0, atol=1e-6)
        assert np.ptp(ground.heights(places(3.0))) > 0.03


def test_rough_ground_spans_the_amplitude_and_no_floor_shows_through() -> None:
    ground = rough(amplitude=0.06, reach=3.0)
    field = ground.heights(places(2.9, 2000))
    assert 0.05 < np.ptp(field) <= 0.06
    assert field.min() > -0.03 - 1e-6 and field.max() < 0.03 + 1e-6
    floor = ground.height(3.5, 0.0)
    assert -0.0401 < floor < -0.0395  # half the amplitude and 1 cm below the level start
    # Facets, not stairs: over a tenth of a cell the ground rises by at most a tenth of the amplitude, each way.
    near = places(2.5, 200)
    rise = ground.heights(near + [0.015, 0.0]) - ground.heights(near)
    assert 0.0 < np.abs(rise).max() <= 0.006 + 1e-6


@pytest.mark.parametrize("make", [steps, rough])
def test_same_seed_same_ground(make) -> None:
    where = places(4.0, 100)
    np.testing.assert_array_equal(make(3).heights(where), make(3).heights(where))
    assert not np.array_equal(make(3).heights(where), make(4).heights(where))


def test_a_slope_rises_towards_its_heading() -> None:
    spec = build_spec()
    add_slope(spec, 10.0, heading=0.0)
    ground = Ground(spec)
    assert ground.height(1.0, 0.0) == pytest.approx(np.tan(np.deg2rad(10.0)))  # 0.17633 m
    assert ground.height(0.0, 1.0) == pytest.approx(0.0, abs=1e-9)
    spec = build_spec()
    add_slope(spec, 5.0, heading=np.pi / 2)
    assert Ground(spec).height(3.0, -1.0) == pytest.approx(-np.tan(np.deg2rad(5.0)))


@pytest.mark.parametrize("heading", np.arange(0.0, 6.28, 0.785))
def test_the_start_pose_stands_flat_on_the_slope(heading) -> None:
    spec = build_spec()
    qpos = add_slope(spec, 10.0, heading)
    model = build_model(spec)
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    normal = np.array([-np.cos(heading), -np.sin(heading), 1.0 / np.tan(np.deg2rad(10.0))])
    normal /= np.linalg.norm(normal)
    centres = np.array([data.geom(name).xpos for name in SOLES])
    np.testing.assert_allclose(centres @ normal, 0.005, atol=1e-6)  # each sphere touches the plane
    np.testing.assert_array_equal(qpos[3:7], [1.0, 0.0, 0.0, 0.0])
    # The soles are where home has them, so the body is above them: 0.1185 m to each side.
    assert data.site("left_foot").xpos[1] - data.site("right_foot").xpos[1] == pytest.approx(0.237, abs=0.003)
    np.testing.assert_array_equal(qpos[22:], joints.HOME[15:])


def test_level_ground_is_a_slope_of_nothing() -> None:
    spec = build_spec()
    assert add_slope(spec, 0.0, 1.0)[2] == pytest.approx(joints.HOME_HEIGHT - 0.04)
    assert Ground(spec).height(2.0, 1.0) == pytest.approx(0.0, abs=1e-12)


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match="do not reach a slope of 25"):
        add_slope(build_spec(), 25.0, np.pi / 2)
    with pytest.raises(ValueError, match="height must be a positive"):
        add_steps(build_spec(), np.random.default_rng(0), height=0.0)


def test_a_ball_rests_on_a_plateau() -> None:
    """The boxes are felt, not only seen."""
    spec = build_spec()
    add_steps(spec, np.random.default_rng(0), height=0.04)
    top = next(geom for geom in spec.worldbody.geoms if geom.name.startswith("step_") and geom.size[2] > 0.04)
    ball = spec.worldbody.add_body(name="ball", pos=[top.pos[0], top.pos[1], 0.1])
    ball.add_freejoint()
    ball.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.03, 0.0, 0.0], mass=0.5)
    model = build_model(spec)
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, nstep=600)
    assert data.body("ball").xpos[2] == pytest.approx(0.07, abs=0.001)


@pytest.mark.parametrize("kind", TERRAINS)
def test_a_terrain_is_a_scene_of_its_own(kind: str) -> None:
    config = TerrainConfig(kind, height=0.03, seed=4, reach=3.0, clear=0.8)
    ground, again, other = (
        Ground(build_scene(scene)) for scene in (config, config, TerrainConfig(kind, 0.03, 5, 3.0, 0.8))
    )
    heights = ground.heights(places(2.5))
    assert 0.015 < np.ptp(heights) <= 0.03 + 1e-9
    np.testing.assert_array_equal(heights, again.heights(places(2.5)))
    assert (heights != other.heights(places(2.5))).mean() > 0.3
    np.testing.assert_allclose(ground.heights(places(0.75)), 0.0, atol=1e-9)


def test_the_robot_walks_over_it() -> None:
    scene = TerrainConfig("rough", height=0.02, seed=1)
    env = NeonG1Env(task="walk", sensors=("proprio",), physics_dt=0.005, scene=scene)
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape)
    action[-3] = 1.0  # straight ahead, as fast as it goes
    for _ in range(200):
        _, _, terminated, _, _ = env.step(action)
        assert not terminated
    assert np.hypot(*env.world.object_pose("pelvis")[0][:2]) > 1.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "roug"}, "Did you mean 'rough'"),
        ({"height": 0.0}, r"height must be .*got 0\.0"),
        ({"clear": 7.0}, "clear < reach"),
        ({"seed": -1}, "seed must be 0 to .*got -1"),
    ],
)
def test_a_terrain_that_makes_no_sense_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TerrainConfig(**wrong)
