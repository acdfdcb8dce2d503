"""Pictures without OpenGL: one ray per pixel, shaded in numpy. Also the one place that casts rays."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import mujoco
import numpy as np

from neon_sim.sensors.sensor import find_id

# Geoms of these groups can be seen: MuJoCo's own default. Groups 3 to 5 hold collision shapes and helpers.
VISIBLE_GROUPS = np.array([1, 1, 1, 0, 0, 0], dtype=np.uint8)
SKY_RGB = np.array([0, 0, 0], dtype=np.uint8)  # what OpenGL leaves behind where there is no geom (the skybox is off)
_HIDDEN_GROUP = 5
_CONVEX = [
    int(getattr(mujoco.mjtGeom, f"mjGEOM_{kind}")) for kind in ("SPHERE", "CAPSULE", "ELLIPSOID", "CYLINDER", "BOX")
]


class Renderer(Protocol):
    """Draws what a named camera of the model sees."""

    backend: str

    def rgb(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """Colour picture (H, W, 3) uint8."""

    def depth(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """Distance along the optical axis (H, W) float32 m; 0 where nothing is seen."""

    def segmentation(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """Geom id of every pixel (H, W) int32; -1 where nothing is seen."""

    def close(self) -> None:
        """Free everything. Safe to call twice."""


def cast_rays(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    origin_w: np.ndarray,
    rays_w: np.ndarray,
    cutoff_m: float,
    normals: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest visible geom along unit rays (N, 3) from one point in the world frame.

    Returns:
        geom id (N,) int32, -1 for a miss; distance (N,) m, -1 for a miss; outward surface normal (N, 3),
        or (0, 3) if not asked for. Whole geoms beyond `cutoff_m` are skipped, hits on nearer ones may lie beyond it.
    """
    count = len(rays_w)
    geom, distance = np.empty(count, np.int32), np.empty(count)
    normal = np.empty((count if normals else 0, 3))
    flat_normal = normal.reshape(-1) if normals else None
    rays = np.ascontiguousarray(rays_w, dtype=np.float64).reshape(-1)
    mujoco.mj_multiRay(
        model, data, origin_w, rays, VISIBLE_GROUPS, True, -1, geom, distance, flat_normal, count, cutoff_m
    )
    return geom, distance, normal


def enclosing_geoms(model: mujoco.MjModel, data: mujoco.MjData, pos_w: np.ndarray, body: int) -> np.ndarray:
    """Ids of the visible primitive geoms of one body that a point is inside of: the shell that a sensor sits in."""
    ray = np.array([0.0, 0.6, 0.8])
    normal = np.empty(3)
    inside = []
    first = int(model.body_geomadr[body])
    for geom in range(first, first + int(model.body_geomnum[body])):
        kind = int(model.geom_type[geom])
        if kind not in _CONVEX:
            continue
        distance = mujoco.mju_rayGeom(
            data.geom_xpos[geom], data.geom_xmat[geom], model.geom_size[geom], pos_w, ray, kind, normal
        )
        # A ray that leaves a convex shape meets the surface from behind.
        if distance >= 0 and normal @ ray > 0:
            inside.append(geom)
    return np.array(inside, dtype=np.intp)


class Shell:
    """The geoms that a sensor sits inside of, made transparent for its rays: a LiDAR looks out of its own housing.

    OpenGL does the same by never drawing a surface from behind.
    """

    def __init__(self, model: mujoco.MjModel, body: int) -> None:
        self._model, self._body = model, body
        self._geoms: np.ndarray | None = None
        self._groups = np.empty(0, np.int32)

    @contextmanager
    def hidden(self, data: mujoco.MjData, pos_w: np.ndarray) -> Iterator[None]:
        """Hide the shell from rays inside the block. Mount and shell share a body, so it is looked up only once."""
        if self._geoms is None:
            self._geoms = enclosing_geoms(self._model, data, pos_w, self._body)
            self._groups = self._model.geom_group[self._geoms].copy()
        if not len(self._geoms):
            yield
            return
        self._model.geom_group[self._geoms] = _HIDDEN_GROUP
        try:
            yield
        finally:
            self._model.geom_group[self._geoms] = self._groups


def fixed_camera(camera: int) -> mujoco.MjvCamera:
    """MuJoCo's handle on a camera that is part of the model."""
    handle = mujoco.MjvCamera()
    handle.type = int(mujoco.mjtCamera.mjCAMERA_FIXED)
    handle.fixedcamid = camera
    return handle


def camera_rays(model: mujoco.MjModel, camera: int, height: int, width: int) -> np.ndarray:
    """Directions through the pixel centres in the camera frame (x right, y up, looking along -z): (H, W, 3), z = -1.

    Raises ValueError for an orthographic camera, whose rays have no common origin.
    """
    if int(model.cam_projection[camera]) != int(mujoco.mjtProjection.mjPROJ_PERSPECTIVE):
        raise ValueError("The ray renderer draws perspective cameras only; use one, or a GL backend.")
    vertical, horizontal, clip = np.zeros(2, np.float32), np.zeros(2, np.float32), np.zeros(2, np.float32)
    mujoco.mjv_cameraFrustum(vertical, horizontal, clip, model, fixed_camera(camera))
    top, bottom = vertical / clip[0]
    left, right = horizontal / clip[0]
    if left + right == 0.0:  # given by fovy alone: square pixels
        left = right = 0.5 * (top + bottom) * width / height
    rays = np.full((height, width, 3), -1.0)
    rays[..., 0] = -left + (np.arange(width) + 0.5) / width * (left + right)
    rays[..., 1] = (top - (np.arange(height) + 0.5) / height * (top + bottom))[:, None]
    return rays


@dataclass(frozen=True)
class _View:
    """One camera's rays, for the field of view that it had when they were made."""

    camera: int
    fovy: float  # deg
    rays: np.ndarray  # (H * W, 3) unit, camera frame
    cosine: np.ndarray  # (H * W,) between ray and optical axis
    shell: Shell


class RayRenderer:
    """Draws what a camera sees with `mj_multiRay`: colour, depth and geom ids, on any machine, without OpenGL.

    Lights and materials are the model's, as OpenGL's fixed pipeline adds them, less highlights. Like our GL renderer
    it casts no shadows; a texture is replaced by its mean colour, and a half-transparent geom is drawn opaque.
    """

    backend = "ray"

    def __init__(self, model: mujoco.MjModel, height: int, width: int) -> None:
        self._model, self._height, self._width = model, height, width
        self._views: dict[str, _View] = {}
        self._texture_rgb = mean_texture_rgb(model)

    def rgb(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """Colour picture (H, W, 3) uint8."""
        view, (geom, distance, normal), rays_w = self._cast(data, camera, normals=True)
        hit = np.flatnonzero(geom >= 0)
        pos_w, forward_w = data.cam_xpos[view.camera], -data.cam_xmat[view.camera].reshape(3, 3)[:, 2]
        point = pos_w + rays_w[hit] * distance[hit, None]
        light = _illumination(self._model, data, forward_w, point, normal[hit])
        light *= geom_rgb(self._model, self._texture_rgb)[geom[hit]]
        picture = np.empty((len(geom), 3), np.uint8)
        picture[:] = SKY_RGB
        picture[hit] = np.minimum(light, 1.0) * 255.0 + 0.5
        return picture.reshape(self._height, self._width, 3)

    def depth(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """Distance along the optical axis (H, W) float32 m; 0 where nothing is seen."""
        view, (geom, distance, _), _ = self._cast(data, camera)
        depth = np.where(geom >= 0, distance * view.cosine, 0.0)
        return depth.astype(np.float32).reshape(self._height, self._width)

    def segmentation(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """Geom id of every pixel (H, W) int32; -1 where nothing is seen."""
        return self._cast(data, camera)[1][0].reshape(self._height, self._width)

    def close(self) -> None:
        """Nothing to free."""

    def _view(self, camera: str) -> _View:
        view = self._views.get(camera)
        if view is None or view.fovy != self._model.cam_fovy[view.camera]:
            model = self._model
            index = find_id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
            rays = camera_rays(model, index, self._height, self._width).reshape(-1, 3)
            norm = np.linalg.norm(rays, axis=1)
            shell = Shell(model, int(model.cam_bodyid[index]))
            view = _View(index, float(model.cam_fovy[index]), rays / norm[:, None], 1.0 / norm, shell)
            self._views[camera] = view
        return view

    def _cast(
        self, data: mujoco.MjData, camera: str, normals: bool = False
    ) -> tuple[_View, tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
        view, model = self._view(camera), self._model
        pos_w, rays_w = data.cam_xpos[view.camera], view.rays @ data.cam_xmat[view.camera].reshape(3, 3).T
        far_m = float(model.vis.map.zfar * model.stat.extent)
        with view.shell.hidden(data, pos_w):
            return view, cast_rays(model, data, pos_w, rays_w, far_m, normals), rays_w


def mean_texture_rgb(model: mujoco.MjModel) -> np.ndarray:
    """Mean colour of every texture (ntex, 3), 0..1."""
    colours = np.ones((model.ntex, 3))
    for texture in range(model.ntex):
        channels = int(model.tex_nchannel[texture])
        count = int(model.tex_width[texture]) * int(model.tex_height[texture]) * channels
        first = int(model.tex_adr[texture])
        pixels = model.tex_data[first : first + count].reshape(-1, channels)
        colours[texture] = pixels[:, :3].mean(axis=0) / 255.0
    return colours


def geom_rgb(model: mujoco.MjModel, texture_rgb: np.ndarray) -> np.ndarray:
    """Colour of every geom (ngeom, 3) as the model stands now: its own, or its material's times the texture's."""
    colours = model.geom_rgba[:, :3].astype(np.float32)
    if not model.nmat:
        return colours
    # A colour that was set on the geom itself wins over the material's: MuJoCo marks "not set" with this grey.
    unset = (model.geom_rgba == [0.5, 0.5, 0.5, 1.0]).all(axis=1)
    textures = model.mat_texid[:, int(mujoco.mjtTextureRole.mjTEXROLE_RGB)]
    material = model.mat_rgba[:, :3].copy()
    textured = textures >= 0
    material[textured] *= texture_rgb[textures[textured]]
    use = unset & (model.geom_matid >= 0)
    colours[use] = material[model.geom_matid[use]]
    return colours


def _illumination(
    model: mujoco.MjModel, data: mujoco.MjData, forward_w: np.ndarray, point: np.ndarray, normal: np.ndarray
) -> np.ndarray:
    """Ambient plus diffuse light (N, 3) on surface points (N, 3) with unit normals (N, 3), world frame."""
    head = model.vis.headlight
    light = np.zeros((len(point), 3), np.float32)
    if head.active:
        light += np.maximum(-normal @ forward_w, 0.0)[:, None] * head.diffuse + head.ambient
    for index in np.flatnonzero(model.light_active):
        strength = _light_strength(model, data, int(index), point, normal)
        light += strength[:, None] * model.light_diffuse[index] + model.light_ambient[index]
    return light


def _light_strength(
    model: mujoco.MjModel, data: mujoco.MjData, index: int, point: np.ndarray, normal: np.ndarray
) -> np.ndarray:
    """Diffuse factor (N,) of one light of the model: cosine law, attenuation, spot cone, as in OpenGL."""
    direction = data.light_xdir[index]
    if int(model.light_type[index]) == int(mujoco.mjtLightType.mjLIGHT_DIRECTIONAL):
        return np.maximum(-normal @ direction, 0.0)
    ray = point - data.light_xpos[index]
    distance = np.linalg.norm(ray, axis=1)
    ray /= distance[:, None]
    constant, linear, square = model.light_attenuation[index]
    strength = np.maximum(-np.einsum("ij,ij->i", normal, ray), 0.0)
    strength /= constant + linear * distance + square * distance**2
    if int(model.light_type[index]) == int(mujoco.mjtLightType.mjLIGHT_SPOT):
        along = ray @ direction
        cone = np.cos(np.radians(model.light_cutoff[index]))
        strength *= np.where(along >= cone, np.maximum(along, 0.0) ** model.light_exponent[index], 0.0)
    return strength
