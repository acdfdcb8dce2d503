"""Pictures with OpenGL, and the choice of how to get at it.

The user's MUJOCO_GL is honoured and never set. Without it, what the machine has is probed: EGL, OSMesa, then a
display. With none of them the ray renderer draws instead, after one warning.
"""

import atexit
import copy
import ctypes
import functools
import importlib
import os
import sys
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import mujoco
import numpy as np

from neon_sim.names import nearest
from neon_sim.sensors.ray_renderer import VISIBLE_GROUPS, RayRenderer, Renderer, fixed_camera
from neon_sim.sensors.sensor import find_id

BACKENDS = ("auto", "egl", "osmesa", "glfw", "cgl", "ray")
_LIBRARIES = {"egl": ("libEGL.so.1", "libGL.so.1"), "osmesa": ("libOSMesa.so.8",)}
# Values that MuJoCo accepts in MUJOCO_GL, and what they mean here. Those left out leave the choice to us.
_MUJOCO_GL = {
    **dict.fromkeys(("egl", "osmesa", "glfw", "cgl"), None),
    **dict.fromkeys(("glx", "wgl"), "glfw"),
    **dict.fromkeys(("disable", "disabled", "off", "false", "0"), "ray"),
}
_OFF_FLAGS = ("SHADOW", "REFLECTION", "SKYBOX", "FOG", "HAZE")
_MAX_GEOMS = 2000
_SMALL_PICTURE = 256  # pixels
_reasons_told: list[str] = []  # why this process has no GL; empty until it was said


class GLUnavailableError(RuntimeError):
    """A GL backend could not be started; the message says which and why."""


def can_load(library: str) -> bool:
    """Whether the dynamic linker finds a library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def choose_backends(
    environ: Mapping[str, str], probe: Callable[[str], bool] = can_load, platform: str = sys.platform
) -> list[str]:
    """Backends worth trying, best first; ["ray"] alone when there is no OpenGL or the user switched it off.

    environ: read for MUJOCO_GL, PYOPENGL_PLATFORM and the display's name. probe: says whether a library loads.
    """
    asked = environ.get("MUJOCO_GL", "").strip().lower()
    if asked in _MUJOCO_GL:
        return [_MUJOCO_GL[asked] or asked]
    if platform == "darwin":
        return ["cgl", "glfw", "ray"]
    found = [name for name, libraries in _LIBRARIES.items() if all(map(probe, libraries))]
    # PyOpenGL serves one platform per process, and mujoco.egl and mujoco.osmesa refuse any other.
    bound = environ.get("PYOPENGL_PLATFORM", "").strip().lower()
    found = [name for name in found if bound in ("", name)]
    if platform == "win32" or environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"):
        found.append("glfw")
    return [*found, "ray"]


def make_renderer(
    model: mujoco.MjModel,
    height: int,
    width: int,
    backend: str = "auto",
    environ: Mapping[str, str] = os.environ,
    probe: Callable[[str], bool] = can_load,
) -> Renderer:
    """Start a renderer for one model and picture size (pixels).

    "auto" takes the first backend that starts, at the worst the rays, with one warning per process. A backend that
    is named must start: GLUnavailableError otherwise. The renderer belongs to this process; threads may take turns.
    """
    if backend not in BACKENDS:
        raise nearest("render backend", backend, BACKENDS)
    if backend != "auto":
        return RayRenderer(model, height, width) if backend == "ray" else GLRenderer(model, height, width, backend)
    reasons = []
    for name in choose_backends(environ, probe):
        if name == "ray":
            break
        try:
            return GLRenderer(model, height, width, name)
        except GLUnavailableError as error:
            reasons.append(str(error))
    _warn_no_gl("; ".join(reasons) or "no library found, or MUJOCO_GL switches it off")
    return RayRenderer(model, height, width)


def _warn_no_gl(reason: str) -> None:
    """Say, once per process, that the cameras are drawn with rays."""
    if _reasons_told:
        return
    _reasons_told.append(reason)
    advice = "cameras are drawn with rays, slower and plainer. On Debian: apt install libegl1 libgl1."
    warnings.warn(f"No OpenGL ({reason}): {advice}", RuntimeWarning, stacklevel=3)


class GLRenderer:
    """Draws with MuJoCo's OpenGL renderer, off screen, with everything off that a software rasteriser is slow at.

    Shadows, reflections, skybox, fog, haze and multisampling are off; sites are not drawn, as rays do not see them.
    """

    def __init__(self, model: mujoco.MjModel, height: int, width: int, backend: str) -> None:
        self.backend = backend
        self._model, self._height, self._width = model, height, width
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._scene = mujoco.MjvScene(model, maxgeom=max(_MAX_GEOMS, 2 * model.ngeom))
        for flag in _OFF_FLAGS:
            self._scene.flags[int(getattr(mujoco.mjtRndFlag, f"mjRND_{flag}"))] = 0
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = VISIBLE_GROUPS
        self._option.sitegroup[:] = 0
        self._cameras: dict[str, mujoco.MjvCamera] = {}
        self._codes: tuple[tuple[Any, ...], np.ndarray] = ((), np.empty(0, np.int32))
        self._context: tuple[Any, mujoco.MjrContext] | None = _open_context(model, height, width, backend)
        _LIVE.add(self)
        self._free = weakref.finalize(self, _free_context, *self._context)
        # Our own exit hook runs before the GL library's, which finalize's would not.
        self._free.atexit = False

    def rgb(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """Colour picture (H, W, 3) uint8."""
        picture = np.empty((self._height, self._width, 3), np.uint8)
        self.draw(data, camera, picture, None)
        return picture[::-1].copy()

    def depth(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """Distance along the optical axis (H, W) float32 m; 0 where nothing is seen."""
        buffer = np.empty((self._height, self._width), np.float32)
        self.draw(data, camera, None, buffer)
        extent = self._model.stat.extent
        near, far = self._model.vis.map.znear * extent, self._model.vis.map.zfar * extent
        # The buffer runs from 1 at the near plane to 0 at the far plane, linear in 1 / depth.
        empty = buffer == 0.0
        buffer *= np.float32((far - near) / (near * far))
        buffer += np.float32(1.0 / far)
        np.reciprocal(buffer, out=buffer)
        buffer[empty] = 0.0
        return buffer[::-1].copy()

    def segmentation(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """Geom id of every pixel (H, W) int32; -1 where nothing is seen."""
        picture = np.empty((self._height, self._width, 3), np.uint8)
        self.draw_ids(data, camera, picture)
        code = picture[::-1, :, 1].astype(np.intp)
        code <<= 8
        code += picture[::-1, :, 0]
        if self._scene.ngeom > 65000:  # the third byte is zero in every scene but a huge one
            code += picture[::-1, :, 2].astype(np.intp) << 16
        return np.take(self._geom_of_code(), code)

    def _geom_of_code(self) -> np.ndarray:
        """Geom id of each colour that `draw_ids` paints with, -1 for none: looked up again when others are drawn."""
        model = self._model
        drawn = (model.geom_group, model.geom_matid, model.geom_rgba[:, 3], model.mat_rgba[:, 3])
        key = (self._scene.ngeom, *(part.tobytes() for part in drawn))
        if key != self._codes[0]:
            geom_of_code = np.full(self._scene.ngeom + 2, -1, np.int32)
            kind = int(mujoco.mjtObj.mjOBJ_GEOM)
            for geom in self._scene.geoms[: self._scene.ngeom]:
                if geom.objtype == kind and geom.segid >= 0:
                    geom_of_code[geom.segid + 1] = geom.objid
            self._codes = (key, geom_of_code)
        return self._codes[1]

    def draw_ids(self, data: mujoco.MjData, camera: str, picture: np.ndarray) -> None:
        """As `draw`, with each geom in the colour of its number in the scene."""
        flags = [int(mujoco.mjtRndFlag.mjRND_SEGMENT), int(mujoco.mjtRndFlag.mjRND_IDCOLOR)]
        self._scene.flags[flags] = 1
        try:
            self.draw(data, camera, picture, None)
        finally:
            self._scene.flags[flags] = 0

    def draw_sky(self) -> None:
        """Draw the sky from now on: for pictures that people look at; a sensor's picture stays black there."""
        self._scene.flags[int(mujoco.mjtRndFlag.mjRND_SKYBOX)] = 1

    def close(self) -> None:
        """Free the GL context. Safe to call twice."""
        self._context = None
        self._free()

    def draw(self, data: mujoco.MjData, camera: str, rgb: np.ndarray | None, depth: np.ndarray | None) -> None:
        """Nothing but MuJoCo's own calls, into (H, W, 3) uint8 and (H, W) float32 buffers, rows from the bottom up."""
        if self._context is None:
            raise RuntimeError("This renderer was closed; make a new one with make_renderer().")
        if camera not in self._cameras:
            self._cameras[camera] = fixed_camera(find_id(self._model, mujoco.mjtObj.mjOBJ_CAMERA, camera))
        # An endless plane is put under the camera that the scene last had: without this line, the frame before decides.
        mujoco.mjv_updateCamera(self._model, data, self._cameras[camera], self._scene)
        bodies = int(mujoco.mjtCatBit.mjCAT_STATIC) | int(mujoco.mjtCatBit.mjCAT_DYNAMIC)
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._cameras[camera], bodies, self._scene)
        gl, mjr = self._context
        gl.make_current()
        mujoco.mjr_render(self._rect, self._scene, mjr)
        mujoco.mjr_readPixels(rgb, depth, self._rect, mjr)
        _release(self.backend)


_LIVE: "weakref.WeakSet[GLRenderer]" = weakref.WeakSet()


@functools.cache
def _close_at_exit() -> None:
    """Register, once, that open contexts are freed before the GL library shuts down."""
    atexit.register(_close_all)


def _close_all() -> None:
    for renderer in list(_LIVE):
        renderer.close()


def _start_context(backend: str, height: int, width: int) -> Any:
    """Open a context and make it current. Without one MuJoCo would abort the process, not raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GLFW reports a dead display twice; the caller tells it once
        gl = _gl_module(backend).GLContext(width, height)
        gl.make_current()
        if backend == "glfw" and not sys.modules["mujoco.glfw"].glfw.get_current_context():
            raise OSError("no window could be opened on this display")
    return gl


def _gl_module(backend: str) -> Any:
    """Import mujoco's wrapper of one GL library, leaving the environment as it was."""
    before = os.environ.get("PYOPENGL_PLATFORM")
    try:
        return importlib.import_module(f"mujoco.{backend}")
    finally:
        # The wrappers set it as they are imported; child processes would inherit a choice nobody made.
        if before is None:
            os.environ.pop("PYOPENGL_PLATFORM", None)


def _open_context(model: mujoco.MjModel, height: int, width: int, backend: str) -> tuple[Any, mujoco.MjrContext]:
    """Start a GL context and upload the model to it. Raises GLUnavailableError."""
    lean = _lean_copy(model, height, width)
    try:
        gl = _start_context(backend, height, width)
        mjr = mujoco.MjrContext(lean, int(mujoco.mjtFontScale.mjFONTSCALE_50))
    except _start_errors() as error:
        raise GLUnavailableError(f"{backend}: {str(error).partition(chr(10))[0]}") from error
    _close_at_exit()
    if backend in ("egl", "osmesa"):
        _coarsen_endless_planes(model, mjr)
    mujoco.mjr_setBuffer(int(mujoco.mjtFramebuffer.mjFB_OFFSCREEN), mjr)
    mjr.readDepthMap = int(mujoco.mjtDepthMap.mjDEPTH_ZEROFAR)
    _release(backend)
    return gl, mjr


def _lean_copy(model: mujoco.MjModel, height: int, width: int) -> mujoco.MjModel:
    """The model with the picture quality to make a context with; it is read then and never again."""
    lean = copy.copy(model)
    quality = lean.vis.quality
    quality.offsamples = 0
    quality.shadowsize = 0
    lean.vis.global_.offwidth, lean.vis.global_.offheight = width, height
    if max(height, width) <= _SMALL_PICTURE:
        # 20 sides leave 1.2 % of the radius, under a pixel here; and half the time of a frame goes into vertices.
        quality.numslices, quality.numstacks = min(quality.numslices, 20), min(quality.numstacks, 10)
    return lean


def _coarsen_endless_planes(model: mujoco.MjModel, mjr: mujoco.MjrContext) -> None:
    """Redraw endless planes as one quad each: MuJoCo's 200 x 200 cost a software rasteriser 3 ms a frame.

    Extent and texture coordinates are MuJoCo's. Light is computed at vertices, so planes that a lamp or a highlight
    shades unevenly are left alone.
    """
    if (model.light_type != int(mujoco.mjtLightType.mjLIGHT_DIRECTIONAL)).any():
        return
    gl = importlib.import_module("OpenGL.GL")  # only now: PyOpenGL has to be bound to its platform first
    planes = np.flatnonzero(model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE))
    far_m = float(model.vis.map.zfar * model.stat.extent)
    for number, geom in enumerate(planes):
        material = int(model.geom_matid[geom])
        if material < 0 or model.mat_specular[material] > 0 or (model.geom_size[geom, :2] > 0).any():
            continue
        x, y = 1.05 * far_m + 2.0 / np.maximum(model.mat_texrepeat[material], 1e-3).astype(float)
        gl.glNewList(mjr.basePlane + number + 1, gl.GL_COMPILE)
        gl.glBegin(gl.GL_QUADS)
        gl.glNormal3d(0.0, 0.0, 1.0)
        for corner_x, corner_y in ((-x, -y), (x, -y), (x, y), (-x, y)):
            gl.glTexCoord2d(0.5 * corner_x, -0.5 * corner_y)
            gl.glVertex3d(corner_x, corner_y, 0.0)
        gl.glEnd()
        gl.glEndList()


def _start_errors() -> tuple[type[Exception], ...]:
    """What a GL stack raises when it cannot start: no library or symbol, no device, a null handle, PyOpenGL's own."""
    errors = (ImportError, OSError, AttributeError, RuntimeError, TypeError, mujoco.FatalError)
    pyopengl = sys.modules.get("OpenGL.error")
    return errors if pyopengl is None else (*errors, pyopengl.Error)


def _release(backend: str) -> None:
    """Unbind the context from this thread (about 10 us), so that another may draw, and any may free it."""
    if backend == "egl":
        module, egl = sys.modules["mujoco.egl"], sys.modules["mujoco.egl"].EGL
        egl.eglMakeCurrent(module.EGL_DISPLAY, egl.EGL_NO_SURFACE, egl.EGL_NO_SURFACE, egl.EGL_NO_CONTEXT)
    elif backend == "glfw":
        sys.modules["mujoco.glfw"].glfw.make_context_current(None)


def _free_context(gl: Any, mjr: mujoco.MjrContext) -> None:
    """Free MuJoCo's buffers in their own context, then the context."""
    gl.make_current()
    mjr.free()
    gl.free()
