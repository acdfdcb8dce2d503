"""Cameras: a red box in the right pixels, depth in metres, the two renderers against each other, life without GL."""

import os
import pickle
import subprocess
import sys
import threading
import weakref

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neon_sim.g1 import joints
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.depth import DepthConfig
from neon_sim.sensors.gl_renderer import choose_backends, make_renderer
from neon_sim.sensors.sensor import Sensor, SensorConfig
from neon_sim.sim.model import build_model, build_spec
from neon_sim.tasks import make_task

GL = choose_backends(os.environ)[0]
needs_gl = pytest.mark.skipif(GL == "ray", reason="no OpenGL on this machine")
backends = pytest.mark.parametrize("backend", ["ray", pytest.param(GL, marks=needs_gl, id="gl")])

# Looking straight down from 2 m with a 90 degree field of view: at depth z, a metre is (size / 2) / z pixels.
BOX_SCENE = """<mujoco><worldbody>
  <geom name="floor" type="plane" size="9 9 .1" rgba="0 1 0 1"/>
  <body name="box" mocap="true" pos="0.5 0.3 0">
    <geom name="box" type="box" size=".1 .1 .1" rgba="1 0 0 1" contype="0" conaffinity="0"/></body>
  <camera name="task" pos="0 0 2" fovy="90"/>
  <site name="marker" pos="0 0 1" size=".5"/>
</worldbody></mujoco>"""

SHAPES = """<mujoco><asset>
  <material name="dull" rgba=".2 .5 .8 1" specular="0"/><material name="green" rgba=".3 .6 .3 1" specular="0"/>
</asset><visual><headlight ambient=".2 .2 .2" diffuse=".3 .3 .3" specular="0 0 0"/></visual><worldbody>
  <light type="directional" dir="-.5 .4 -1" diffuse=".4 .4 .4" specular="0 0 0"/>
  <light type="spot" pos="0 0 3" dir="0 0 -1" diffuse=".3 .2 .1" specular="0 0 0"/>
  <geom type="plane" size="4 4 .1" material="green"/>
  <geom type="sphere" size=".3" pos="0 0 .3" material="dull"/>
  <geom type="box" size=".2 .1 .4" pos=".8 .2 .4" euler="0 0 30" rgba=".8 .2 .2 1" material="dull"/>
  <geom type="capsule" size=".1 .3" pos="-.7 0 .4" euler="20 0 0" material="dull"/>
  <geom type="cylinder" size=".15 .3" pos="0 .9 .3" material="dull"/>
  <geom type="ellipsoid" size=".1 .2 .3" pos="-.5 .9 .3" material="dull"/>
  <geom type="sphere" size=".5" pos="0 -1.5 1.2" group="3"/>
  <camera name="front" pos="0 -3 1.5" xyaxes="1 0 0 0 .4 1" fovy="50"/>
  <camera name="lens" pos="0 -3 1.5" xyaxes="1 0 0 0 .4 1" resolution="640 480" sensorsize=".004 .003"
    focal=".003 .003" principal=".0005 .0003"/>
  <camera name="up" pos="0 -3 1.5" xyaxes="1 0 0 0 0 1"/>
</worldbody></mujoco>"""

HEAD = """<mujoco><worldbody>
  <geom type="box" size=".1 2 2" pos="2.1 0 0" name="wall"/>
  <body name="head"><geom type="capsule" size=".1 .1" name="shell"/>
    <camera name="task" xyaxes="0 -1 0 0 0 1" fovy="60"/></body>
</worldbody></mujoco>"""


def load(xml: str) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def is_red(picture: np.ndarray) -> np.ndarray:
    red, green = picture[..., 0].astype(int), picture[..., 1].astype(int)
    return (red > 15) & (red > 2 * green)


@backends
def test_red_box_covers_the_pixels_computed_by_hand(backend: str) -> None:
    model, data = load(BOX_SCENE)
    picture = CameraConfig(width=100, height=100, backend=backend).build(model).capture(data, 0.0)
    rows, cols = np.nonzero(is_red(picture))
    # Top face at depth 1.9: columns 50 + 50 * (0.4 .. 0.6) / 1.9 = 60.5 .. 65.8, rows 50 - 50 * (0.2 .. 0.4) / 1.9 =
    # 44.7 .. 39.5; the inner sides reach the floor (depth 2) at column 50 + 50 * 0.4 / 2 = 60.0 and row 45.0.
    assert (cols.min(), cols.max(), rows.min(), rows.max()) == (60, 65, 39, 44)
    assert len(rows) == 6 * 6
    assert picture[20, 20, 1] > 60  # floor, and no trace of the site in front of it
    assert picture[50, 50, 1] > 60


@backends
def test_depth_of_floor_and_box_in_metres(backend: str) -> None:
    model, data = load(BOX_SCENE)
    depth = CameraConfig(width=100, height=100, backend=backend, kind="depth").build(model).capture(data, 0.0)
    assert depth.dtype == np.float32
    assert depth[42, 63] == pytest.approx(1.9, abs=1e-3)
    assert depth[0, 0] == pytest.approx(2.0, abs=1e-3)  # along the optical axis, not along the ray (3.46 m)
    assert depth[99, 50] == pytest.approx(2.0, abs=1e-3)


@backends
def test_depth_reads_zero_where_nothing_is_in_range(backend: str) -> None:
    model, data = load(BOX_SCENE)
    near = CameraConfig(width=50, height=50, backend=backend, kind="depth", max_depth_m=1.95)
    depth = near.build(model).capture(data, 0.0)
    assert depth[0, 0] == 0.0
    assert near.space().contains(depth)
    model, data = load(SHAPES)
    sky = CameraConfig("up", width=40, height=40, backend=backend, kind="depth").build(model).capture(data, 0.0)
    assert sky[0, 0] == 0.0
    assert sky[39, 20] > 0.0


@given(x=st.floats(-1.2, 1.2), y=st.floats(-1.2, 1.2))
@settings(max_examples=15, deadline=None)
def test_segmentation_shows_the_box_where_it_projects(x: float, y: float) -> None:
    model, data = load(BOX_SCENE)
    data.mocap_pos[0] = x, y, 0.0
    mujoco.mj_kinematics(model, data)
    renderer = make_renderer(model, 80, 120, "ray" if GL == "ray" else GL)
    ids = renderer.segmentation(data, "task")
    renderer.close()
    row, col = 40 - 40 * y / 1.9, 60 + 40 * x / 1.9  # fovy rules both axes: 40 pixels per unit of tangent
    assert ids.shape == (80, 120) and ids.dtype == np.int32
    assert ids[int(row), int(col)] == model.geom("box").id
    assert set(np.unique(ids)) == {model.geom("floor").id, model.geom("box").id}


@needs_gl
@pytest.mark.parametrize("camera", ["front", "lens"])
def test_rays_and_gl_draw_the_same_picture(camera: str) -> None:
    model, data = load(SHAPES)
    gl, ray = make_renderer(model, 96, 128, GL), make_renderer(model, 96, 128, "ray")
    gl_ids, ray_ids = gl.segmentation(data, camera), ray.segmentation(data, camera)
    same = gl_ids == ray_ids
    assert same.mean() > 0.98  # only silhouettes may differ
    assert {-1, 0, 1, 2, 3, 4, 5} == set(np.unique(ray_ids)) | {-1}  # 6 is in a hidden group
    gap = np.abs(gl.depth(data, camera) - ray.depth(data, camera))[same]
    assert np.quantile(gap, 0.99) < 0.01 and np.median(gap) < 1e-3
    shade_gap = np.abs(gl.rgb(data, camera).astype(int) - ray.rgb(data, camera))[same]
    assert shade_gap.mean() < 1.5 and np.quantile(shade_gap, 0.99) < 16
    gl.close()


def away_from_edges(ids: np.ndarray) -> np.ndarray:
    """Pixels (H, W) whose eight neighbours show the same geom."""
    inner = np.zeros(ids.shape, bool)
    middle = ids[1:-1, 1:-1]
    shifted = [
        ids[1 + dy : ids.shape[0] - 1 + dy, 1 + dx :][:, : middle.shape[1]] for dy in (-1, 0, 1) for dx in (-1, 0, 1)
    ]
    inner[1:-1, 1:-1] = np.all([part == middle for part in shifted], axis=0)
    return inner


@needs_gl
@pytest.mark.parametrize("camera", ["task", "d435", "stereo_left", "wrist_left", "wrist_right"])
def test_rays_and_gl_agree_to_a_centimetre_at_every_mount_of_the_robot(camera: str) -> None:
    spec = build_spec()
    make_task("reach").edit_scene(spec)
    model = build_model(spec)
    data = mujoco.MjData(model)
    data.qpos[2], data.qpos[7:36] = joints.HOME_HEIGHT, joints.HOME
    data.qpos[7 + joints.JOINT_INDEX["left_elbow_joint"]] = 0.3  # a forearm in the picture
    data.mocap_pos[:3] = (0.35, 0.1, 0.95), (0.4, -0.1, 0.9), (0.3, 0.0, 0.85)
    mujoco.mj_forward(model, data)
    gl, ray = make_renderer(model, 96, 128, GL), make_renderer(model, 96, 128, "ray")
    gl_ids, ray_ids = gl.segmentation(data, camera), ray.segmentation(data, camera)
    assert (gl_ids == ray_ids).mean() > 0.98
    depth = ray.depth(data, camera)
    clear = away_from_edges(gl_ids) & away_from_edges(ray_ids) & (gl_ids == ray_ids) & (depth < 5.0) & (depth > 0.0)
    assert clear.mean() > 0.4 and np.abs(gl.depth(data, camera) - depth)[clear].max() < 0.01
    gl.close()


@backends
def test_sensors_of_one_size_share_a_renderer_and_the_last_one_takes_it_along(backend: str) -> None:
    model, data = load(BOX_SCENE)
    view = CameraConfig(width=64, height=64, backend=backend)
    camera, depth, larger = view.build(model), DepthConfig(view).build(model), CameraConfig(width=70, height=64)
    picture = camera.capture(data, 0.0)
    depth.capture(data, 0.0)
    renderer = weakref.ref(camera._renderer)
    assert depth._camera._renderer is renderer() and larger.build(model)._start() is not renderer()
    camera.close()
    assert renderer() is not None and depth.capture(data, 0.0).any()
    depth.close()
    assert renderer() is None
    assert np.array_equal(camera.capture(data, 0.0), picture)


@backends
def test_a_camera_inside_its_housing_looks_out_of_it(backend: str) -> None:
    model, data = load(HEAD)
    renderer = make_renderer(model, 32, 32, backend)
    assert (renderer.segmentation(data, "task") == model.geom("wall").id).all()
    assert renderer.depth(data, "task") == pytest.approx(2.0, abs=1e-3)
    assert (model.geom_group == 0).all()
    renderer.close()


@backends
def test_colours_follow_the_live_model(backend: str) -> None:
    model, data = load(BOX_SCENE)
    camera = CameraConfig(width=64, height=64, backend=backend).build(model)
    assert is_red(camera.capture(data, 0.0)).any()
    model.geom_rgba[model.geom("box").id] = 0, 0, 1, 1
    assert not is_red(camera.capture(data, 0.0)).any()


@backends
@pytest.mark.parametrize("kind", ["rgb", "depth", "segmentation"])
def test_frames_are_fresh_and_in_the_space(backend: str, kind: str) -> None:
    model, data = load(BOX_SCENE)
    config = CameraConfig(width=48, height=36, backend=backend, kind=kind)
    camera = config.build(model)
    assert isinstance(config, SensorConfig) and isinstance(camera, Sensor)
    first, second = camera.capture(data, 0.0), camera.capture(data, 0.0)
    assert config.space().contains(first)
    assert np.array_equal(first, second) and not np.shares_memory(first, second)
    assert first.flags.writeable and first.base is None or first.base.base is None
    camera.set_state(camera.get_state())
    camera.close()
    camera.close()
    assert pickle.loads(pickle.dumps(config)) == config


@needs_gl
def test_another_thread_may_draw() -> None:
    model, data = load(BOX_SCENE)
    camera = CameraConfig(width=64, height=64, backend=GL).build(model)
    mine, theirs = camera.capture(data, 0.0), []
    thread = threading.Thread(target=lambda: theirs.append(camera.capture(data, 0.0)))
    thread.start()
    thread.join()
    assert np.array_equal(theirs[0], mine)
    assert np.array_equal(camera.capture(data, 0.0), mine)


@pytest.mark.parametrize(
    ("environ", "present", "platform", "expected"),
    [
        ({}, {"libEGL.so.1", "libGL.so.1", "libOSMesa.so.8"}, "linux", ["egl", "osmesa", "ray"]),
        ({}, {"libEGL.so.1"}, "linux", ["ray"]),
        ({}, {"libOSMesa.so.8"}, "linux", ["osmesa", "ray"]),
        ({"DISPLAY": ":0"}, set(), "linux", ["glfw", "ray"]),
        ({"DISPLAY": ":0"}, {"libEGL.so.1", "libGL.so.1"}, "linux", ["egl", "glfw", "ray"]),
        ({"PYOPENGL_PLATFORM": "osmesa"}, {"libEGL.so.1", "libGL.so.1"}, "linux", ["ray"]),
        ({"MUJOCO_GL": "OSMesa"}, {"libEGL.so.1", "libGL.so.1"}, "linux", ["osmesa"]),
        ({"MUJOCO_GL": "disable"}, {"libEGL.so.1", "libGL.so.1"}, "linux", ["ray"]),
        ({"MUJOCO_GL": "glx"}, set(), "linux", ["glfw"]),
        ({"MUJOCO_GL": "on"}, {"libOSMesa.so.8"}, "linux", ["osmesa", "ray"]),
        ({}, set(), "darwin", ["cgl", "glfw", "ray"]),
    ],
)
def test_backend_choice(environ: dict[str, str], present: set[str], platform: str, expected: list[str]) -> None:
    assert choose_backends(environ, present.__contains__, platform) == expected


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60)


def test_without_gl_rays_draw_after_one_warning() -> None:
    result = run_python(f"""
import mujoco
from neon_sim.sensors.gl_renderer import make_renderer
model = mujoco.MjModel.from_xml_string({BOX_SCENE!r})
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
for environ in ({{}}, {{}}, {{"MUJOCO_GL": "osmesa"}}, {{"MUJOCO_GL": "off"}}):
    renderer = make_renderer(model, 100, 100, environ=environ, probe=lambda library: False)
    print(renderer.backend, renderer.rgb(data, "task")[42, 63].argmax())
""")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["ray", "0"] * 4
    assert result.stderr.count("No OpenGL") == 1 and "Traceback" not in result.stderr


def test_a_dead_display_is_one_warning_and_no_crash() -> None:
    result = run_python(f"""
import os
os.environ["DISPLAY"] = ":77"
import mujoco
from neon_sim.sensors.gl_renderer import make_renderer
model = mujoco.MjModel.from_xml_string({BOX_SCENE!r})
for _ in range(2):
    print(make_renderer(model, 8, 8, environ={{"DISPLAY": ":77"}}, probe=lambda library: False).backend)
""")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["ray", "ray"]
    assert result.stderr.count("Warning") == 1 and "glfw" in result.stderr


@needs_gl
def test_gl_starts_late_leaves_the_environment_alone_and_ends_without_noise() -> None:
    result = run_python(f"""
import os, sys, mujoco
from neon_sim.sensors.camera import CameraConfig
model = mujoco.MjModel.from_xml_string({BOX_SCENE!r})
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
cameras = [CameraConfig(width=32, height=32).build(model) for _ in range(3)]
print("OpenGL" in sys.modules or "OpenGL.error" in sys.modules)
for camera in cameras:
    camera.capture(data, 0.0)
del cameras[0]
cameras[0].close()
print("MUJOCO_GL" in os.environ or "PYOPENGL_PLATFORM" in os.environ)
""")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["False", "False"]
    assert result.stderr == ""


def test_wrong_names_are_met_with_a_proposal() -> None:
    model, data = load(BOX_SCENE)
    with pytest.raises(ValueError, match="Unknown camera 'taks'. Did you mean 'task'"):
        CameraConfig("taks").build(model)
    with pytest.raises(ValueError, match="Did you mean 'depth'"):
        CameraConfig(kind="deptj")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Did you mean 'egl'"):
        make_renderer(model, 8, 8, "elg")
    with pytest.raises(ValueError, match="width must be 1 to 8192, got 0"):
        CameraConfig(width=0)


@needs_gl
def test_a_closed_renderer_says_so() -> None:
    model, data = load(BOX_SCENE)
    renderer = make_renderer(model, 8, 8, GL)
    renderer.close()
    with pytest.raises(RuntimeError, match="make a new one"):
        renderer.rgb(data, "task")


@needs_gl
def test_an_endless_checkered_floor_stands_still_in_the_world() -> None:
    model, data = load("""<mujoco><statistic extent="2"/><asset>
      <texture name="checker" type="2d" builtin="checker" rgb1="1 1 1" rgb2="0 0 0" width="64" height="64"/>
      <material name="checker" texture="checker" texrepeat="1 1" texuniform="true" specular="0"/>
    </asset><worldbody><geom type="plane" size="0 0 1" material="checker"/>
      <body name="eye" mocap="true"><camera name="task" fovy="90" pos="0 0 2"/></body></worldbody></mujoco>""")
    camera = CameraConfig(width=200, height=200, backend=GL).build(model)
    pixel = (np.arange(200) + 0.5 - 100) / 50  # 50 pixels a metre
    for x, y in np.random.default_rng(0).uniform(-300.0, 300.0, (20, 2)):
        data.mocap_pos[0] = x, y, 0.0
        mujoco.mj_kinematics(model, data)
        picture = camera.capture(data, 0.0)[..., 0] > 60
        at_x, at_y = np.meshgrid(x + pixel, y - pixel)
        near = 0.06  # m, two texels: edges are smeared
        clear = (np.abs(at_x - np.round(at_x)) > near) & (np.abs(at_y - np.round(at_y)) > near)
        white = (np.floor(at_x) + np.floor(at_y)) % 2 == 1  # squares of 1 m: two by two repeat in 2 m
        assert (picture == white)[clear].all()
    camera.close()
