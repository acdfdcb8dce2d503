"""LiDAR: ranges against planes and spheres known in closed form, the robot's own body, the scan pattern."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neon_sim.sensors.lidar import WHITE, Lidar, LidarConfig, ScanPattern, scan_directions
from neon_sim.sensors.ray_renderer import cast_rays
from neon_sim.sensors.sensor import Sensor, SensorConfig

CONFIG = LidarConfig(num_points=512)


def load(world: str, robot: str = "", site: str = 'pos="0 0 0"') -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(f"""<mujoco><worldbody>{world}
      <body name="torso_link" pos="0 0 1"><freejoint/><inertial mass="1" pos="0 0 0" diaginertia="1 1 1"/>
        <site name="mid360" {site}/>{robot}</body></worldbody></mujoco>""")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def scan(model: mujoco.MjModel, data: mujoco.MjData, config: LidarConfig = CONFIG) -> np.ndarray:
    """The hits of one frame, (K, 3) m in the torso frame."""
    points = Lidar(config, model).capture(data, 0.0).reshape(-1, 3)
    return points[np.any(points != 0.0, axis=1)]


def test_wall_at_two_metres_reads_two_metres() -> None:
    model, data = load('<geom type="box" size=".5 50 50" pos="2.5 0 1"/>')
    points = scan(model, data)
    assert len(points) > 200  # nearly half of all rays look forward
    assert points[:, 0] == pytest.approx(2.0, abs=1e-6)
    rays = points / np.linalg.norm(points, axis=1, keepdims=True)
    assert np.linalg.norm(points, axis=1) == pytest.approx(2.0 / rays[:, 0], rel=1e-5)


def test_sphere_is_hit_on_its_surface_at_the_quadratic_formulas_range() -> None:
    model, data = load('<geom type="sphere" size=".8" pos="1.5 .5 1.6"/>')
    points = scan(model, data)
    centre, radius = np.array([1.5, 0.5, 0.6]), 0.8
    assert len(points) > 15
    ranges = np.linalg.norm(points, axis=1)
    along = points @ centre / ranges
    expected = along - np.sqrt(along**2 - centre @ centre + radius**2)
    assert ranges == pytest.approx(expected, abs=1e-4)


@given(
    height=st.floats(0.3, 2.0),
    turn=st.tuples(*[st.floats(-1.0, 1.0)] * 3),
    shift=st.tuples(*[st.floats(-0.2, 0.2)] * 3),
)
@settings(max_examples=25, deadline=None)
def test_floor_is_flat_in_the_world_whatever_the_pose(height: float, turn: tuple, shift: tuple) -> None:
    pos = " ".join(map(str, shift))
    model, data = load('<geom type="plane" size="0 0 1"/>', site=f'pos="{pos}" quat="0 1 0 0"')
    quat = np.array([1.0, *turn]) / np.linalg.norm([1.0, *turn])
    data.qpos[:] = 0.3, -0.2, height + 0.4, *quat
    mujoco.mj_kinematics(model, data)
    points = scan(model, data)
    points_w = points @ data.body("torso_link").xmat.reshape(3, 3).T + data.body("torso_link").xpos
    assert np.abs(points_w[:, 2]).max(initial=0.0) < 1e-4
    lowest = -CONFIG.max_range_m
    assert points.min(initial=0.0) >= lowest and points.max(initial=0.0) <= CONFIG.max_range_m


def test_field_of_view_is_the_mid360s_and_an_inverted_mount_looks_down() -> None:
    room = '<geom type="sphere" size="5" pos="0 0 1" rgba="1 1 1 1"/>'
    model, data = load(room)
    points = scan(model, data, replace(CONFIG, num_points=4096))
    elevation = np.degrees(np.arcsin(points[:, 2] / np.linalg.norm(points, axis=1)))
    assert len(points) == 4096
    assert -7.0 <= elevation.min() < -6.9 and 51.8 < elevation.max() <= 52.0
    model, data = load(room, site='quat="0 1 0 0"')
    points = scan(model, data)
    elevation = np.degrees(np.arcsin(points[:, 2] / np.linalg.norm(points, axis=1)))
    assert elevation.min() >= -52.0 and elevation.max() <= 7.0


def test_frames_fill_each_others_gaps_evenly() -> None:
    frames = [scan_directions(CONFIG, index) for index in range(4)]
    together = np.concatenate(frames)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1.0)
    assert len(np.unique(together.round(9), axis=0)) == 4 * 512
    model, data = load('<geom type="sphere" size="5" pos="0 0 1"/>')
    lidar = CONFIG.build(model)
    scanned = np.concatenate([lidar.capture(data, 0.1 * index).reshape(-1, 3) for index in range(4)])
    assert scanned / 5.0 == pytest.approx(together, abs=1e-6)
    for rays in (frames[0], frames[3]):
        azimuth = np.arctan2(rays[:, 1], rays[:, 0])
        counts, _, _ = np.histogram2d(azimuth, rays[:, 2], bins=(8, 4))
        assert counts.min() >= 12 and counts.max() <= 20  # 16 each on average


def test_own_body_gives_no_points_but_blocks_the_view() -> None:
    wall = '<geom type="box" size=".5 50 50" pos="2.5 0 1"/>'
    model, data = load(wall)
    open_view = scan(model, data)
    arm = '<body name="arm" pos=".4 0 .1"><joint axis="0 0 1"/><geom type="box" size=".02 .15 .15" mass="1"/></body>'
    model, data = load(wall, arm)
    points = scan(model, data)
    assert points[:, 0] == pytest.approx(2.0, abs=1e-6)
    # The plate's shadow: 0.15 wide at 0.38 m, so 0.79 wide on the wall.
    shadow = (np.abs(open_view[:, 1]) < 0.7) & (open_view[:, 2] > -0.2) & (open_view[:, 2] < 1.2)
    assert shadow.sum() > 10
    shadow = (np.abs(points[:, 1]) < 0.7) & (points[:, 2] > -0.2) & (points[:, 2] < 1.2)
    assert shadow.sum() == 0


def test_housing_around_the_sensor_is_transparent_and_objects_are_not_own() -> None:
    world = '<geom type="box" size=".5 50 50" pos="2.5 0 1"/><body pos="-1 0 1"><freejoint/><geom size=".3"/></body>'
    shell = '<geom type="capsule" size=".1 .1" mass="1"/><geom type="box" size=".12 .1 .3" mass="1"/>'
    model, data = load(world, shell)
    points = scan(model, data)
    front, back = points[points[:, 0] > 0], points[points[:, 0] < 0]
    assert front[:, 0] == pytest.approx(2.0, abs=1e-6)
    assert len(back) > 5
    assert np.linalg.norm(back - [-1, 0, 0], axis=1) == pytest.approx(0.3, abs=1e-5)
    assert (model.geom_group == 0).all()


@pytest.mark.parametrize("wall_at_m", [0.05, 41.0])
def test_out_of_range_is_exactly_zero(wall_at_m: float) -> None:
    # A ring of wall all round the sensor, so that the slanted rays count as well.
    model, data = load(f'<geom type="sphere" size="{wall_at_m}" pos="0 0 1"/>')
    frame = Lidar(CONFIG, model).capture(data, 0.0)
    assert not frame.any()


def test_hits_just_inside_the_range_count() -> None:
    model, data = load('<geom type="sphere" size="39.9" pos="0 0 1"/>')
    assert len(scan(model, data)) == 512


def test_range_noise_has_the_configured_spread_along_the_ray() -> None:
    model, data = load('<geom type="sphere" size="5" pos="0 0 1"/>')
    lidar = LidarConfig(num_points=4096, range_noise_m=0.02).build(model)
    lidar.reset(np.random.default_rng(3))
    ranges = np.linalg.norm(lidar.capture(data, 0.0).reshape(-1, 3), axis=1)
    assert ranges.mean() == pytest.approx(5.0, abs=0.002)
    assert ranges.std() == pytest.approx(0.02, rel=0.1)


def test_dropout_loses_its_share_and_other_points_in_every_frame() -> None:
    model, data = load('<geom type="sphere" size="5" pos="0 0 1"/>')
    lidar = LidarConfig(num_points=4096, dropout=0.3).build(model)
    lidar.reset(np.random.default_rng(0))
    first, second = (lidar.capture(data, 0.0).reshape(-1, 3).any(axis=1) for _ in range(2))
    assert first.mean() == pytest.approx(0.7, abs=0.03) and (first != second).mean() > 0.3


def test_learning_sees_the_first_points_of_the_frame_that_a_recording_sees_whole() -> None:
    # A white wall ahead and a dark grey one behind; nothing to the sides.
    ahead = '<geom type="box" size=".1 9 9" pos="2.1 0 1" rgba="1 1 1 1"/>'
    behind = '<geom type="box" size=".1 9 9" pos="-3.1 0 1" rgba=".2 .2 .2 1"/>'
    model, data = load(ahead + behind)
    lidar = LidarConfig(num_points=512, frame_points=2000, range_noise_m=0.02, dropout=0.1).build(model)
    lidar.reset(np.random.default_rng(4))
    for _ in range(3):  # noise and holes are the same too, and asking moves nothing on
        few, full = lidar.capture(data, 0.0).reshape(-1, 3), lidar.full_frame(data)
        assert full.shape == (2000, 4) and full.dtype == np.float32
        assert full[:512, :3] == pytest.approx(few, abs=1e-5)
        assert np.array_equal(full, lidar.full_frame(data))
    hit = full[:, :3].any(axis=1)
    assert full[hit & (full[:, 0] > 0), 3] == pytest.approx(WHITE)
    assert full[hit & (full[:, 0] < 0), 3] == pytest.approx(0.2 * WHITE)
    assert not full[~hit].any() and 0.3 < hit.mean() < 0.9


def test_a_frame_has_twenty_thousand_points_at_ten_hertz_and_the_next_one_lies_between_them() -> None:
    config = LidarConfig()
    assert config.frame_points == 20_000 and config.rate_hz == 10.0
    pattern = ScanPattern(config)
    rays, turn = pattern.rays(0, 20_000)
    later, later_turn = pattern.rays(1, 100)
    first, second = rays @ turn.T, later @ later_turn.T
    nearest = np.arccos(np.clip(second @ first.T, -1.0, 1.0)).min(axis=1)
    # Mean spacing: 20,000 points share 2 pi (sin 52 + sin 7) sr, 0.017 rad each way.
    assert nearest.max() < 0.02 and nearest.min() > 1e-5


@given(frame=st.integers(-1, 1 << 20), count=st.integers(1, 600))
@settings(max_examples=30)
def test_every_frame_continues_the_one_sequence(frame: int, count: int) -> None:
    config = LidarConfig(num_points=300, frame_points=600)
    rays, turn = ScanPattern(config).rays(frame, count)
    index = frame * 600.0 + np.arange(count)
    golden = 1.32471795724474602596
    azimuth, height = 2 * np.pi * np.mod(index / golden + 0.5, 1.0), np.mod(index / golden**2 + 0.5, 1.0)
    low, high = np.sin(np.radians([-7.0, 52.0]))
    assert rays @ turn.T == pytest.approx(
        np.stack(
            [*(np.sqrt(1 - (low + (high - low) * height) ** 2) * [np.cos(azimuth), np.sin(azimuth)]),
             low + (high - low) * height], axis=1
        ), abs=1e-6,
    )  # fmt: skip


def test_same_seed_same_frames_and_state_restores_to_the_bit() -> None:
    model, data = load('<geom type="sphere" size="5" pos="0 0 1"/>')
    config = replace(CONFIG, range_noise_m=0.01)
    lidar, twin = config.build(model), config.build(model)
    lidar.reset(np.random.default_rng(7))
    twin.reset(np.random.default_rng(7))
    first = lidar.capture(data, 0.0)
    assert np.array_equal(first, twin.capture(data, 0.0))
    state = lidar.get_state()
    second, third = lidar.capture(data, 0.1), lidar.capture(data, 0.2)
    assert not np.array_equal(first, second) and not np.array_equal(second, third)
    twin.reset(np.random.default_rng(8))
    twin.set_state(state)
    assert np.array_equal(twin.capture(data, 0.1), second)
    assert np.array_equal(twin.capture(data, 0.2), third)


def test_frame_lies_in_the_space_and_is_fresh() -> None:
    model, data = load('<geom type="plane" size="0 0 1"/>')
    config = LidarConfig()
    lidar = config.build(model)
    assert isinstance(config, SensorConfig) and isinstance(lidar, Sensor)
    frame = lidar.capture(data, 0.0)
    assert frame.shape == (3072,) and frame.dtype == np.float32 and config.space().contains(frame)
    assert not np.shares_memory(frame, lidar.capture(data, 0.1))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_many_rays_at_once_agree_with_one_at_a_time(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = ("sphere", "box", "capsule", "cylinder", "ellipsoid")
    geoms = "".join(
        f'<geom type="{kind}" size=".3 .2 .4" pos="{x} {y} {z}" euler="{a} {b} 0"/>'
        for kind, (x, y, z), (a, b) in zip(kinds, rng.uniform(-2, 2, (5, 3)), rng.uniform(-90, 90, (5, 2)), strict=True)
    )
    model, data = load(geoms + '<geom type="plane" size="3 3 1" pos="0 0 -2"/>')
    rays = rng.normal(size=(64, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    origin = np.array([0.0, 0.0, 3.0])
    geom, distance, normal = cast_rays(model, data, origin, rays, 40.0, normals=True)
    hit = np.zeros(1, np.int32)
    for ray, found, range_m, outward in zip(rays, geom, distance, normal, strict=True):
        assert mujoco.mj_ray(model, data, origin, ray, None, True, -1, hit) == pytest.approx(range_m, abs=1e-9)
        assert hit[0] == found
        assert found < 0 or outward @ ray < 0


def test_wrong_settings_are_explained() -> None:
    model, _ = load("")
    with pytest.raises(ValueError, match="Unknown site 'mid36'. Did you mean 'mid360'"):
        LidarConfig(site="mid36").build(model)
    with pytest.raises(ValueError, match="min < max"):
        LidarConfig(min_range_m=3.0, max_range_m=2.0)
    with pytest.raises(ValueError, match="num_points must be 1 to 1000000, got 0"):
        LidarConfig(num_points=0)
    with pytest.raises(ValueError, match="A frame of 100 points has no 1024"):
        LidarConfig(frame_points=100)
    with pytest.raises(ValueError, match="dropout must be 0 to 1, got 1.5"):
        LidarConfig(dropout=1.5)
