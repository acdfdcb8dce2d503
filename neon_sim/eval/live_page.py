"""A page on this machine's own address: the robot as it moves, what it sees, and how the learning goes.

The life that is shown puts messages into a queue (`PageFeed`); the process that serves the page takes them out. If the
page is behind, pictures are left out and the life goes on. Needs the extra: pip install 'neon-sim[viewer]'.
"""

import contextlib
import multiprocessing
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from neon_sim.eval.live_shapes import Shape, link_shapes
from neon_sim.eval.live_table import RECENT, LiveLine, success_share

HOST: Final = "127.0.0.1"  # never an address that another machine can reach
POINT_RGB: Final = (30, 120, 200)
PLOTS: Final = ("success of the last 20", "residual of the forward model", "loss: hindsight", "EWC penalty")


@dataclass(frozen=True)
class Scene:
    """What there is to see: sent once, before the first `Picture`."""

    shapes: list[Shape]


@dataclass(frozen=True)
class Picture:
    """One moment."""

    poses_w: np.ndarray  # (bodies, 7) m and quat_wxyz, in the order of the model's bodies
    camera: np.ndarray | None  # (H, W, 3) uint8
    points_w: np.ndarray  # (N, 3) m, LiDAR


@dataclass(frozen=True)
class Progress:
    """An episode is over."""

    label: str
    line: LiveLine


Message = Scene | Picture | Progress


class LivePage:
    """Serves the page until `close`.

    Args:
        port: on 127.0.0.1; if it is taken, the next free one is used, see `address`.

    Raises:
        ImportError: viser is not installed.
    """

    def __init__(self, port: int = 8080) -> None:
        self._server = _serve(port)
        self.address = f"http://{HOST}:{self._server.get_port()}"
        self._links: dict[int, Any] = {}
        self._camera: Any = None
        self._points: Any = None
        self._plots: dict[str, Any] = {}
        self._lines: list[LiveLine] = []
        self._server.scene.add_grid("/floor", cell_size=0.5)
        self._state = self._server.gui.add_markdown("Waiting for the first episode.")
        self._retention = self._server.gui.add_markdown("Retention is judged when the lives are over.")

    def show(self, message: Message) -> None:
        """Put one message on the page."""
        match message:
            case Scene():
                self._show_scene(message)
            case Picture():
                self._show_picture(message)
            case Progress():
                self._show_progress(message)

    def show_report(self, plot: Path, text: str) -> None:
        """Put the retention picture (a PNG) and its table on the page."""
        from imageio.v3 import imread

        self._retention.content = text
        self._server.gui.add_image(imread(plot)[..., :3], label="retention")

    def close(self) -> None:
        """Stop serving."""
        self._server.stop()

    def _show_scene(self, scene: Scene) -> None:
        names = self._server.scene
        for link in sorted({shape.link for shape in scene.shapes}):
            self._links[link] = names.add_frame(f"/links/{link}", show_axes=False)
        for number, shape in enumerate(scene.shapes):
            name = f"/links/{shape.link}/{number}"
            names.add_mesh_simple(name, shape.vertices, shape.faces, color=shape.rgb, opacity=shape.opacity)

    def _show_picture(self, picture: Picture) -> None:
        with self._server.atomic():
            for link, handle in self._links.items():
                handle.position, handle.wxyz = picture.poses_w[link, :3], picture.poses_w[link, 3:]
            if self._points is not None:
                self._points.points = picture.points_w
            else:
                self._points = self._server.scene.add_point_cloud(
                    "/lidar", picture.points_w, POINT_RGB, point_size=0.02
                )
        if picture.camera is None:
            return
        if self._camera is None:
            self._camera = self._server.gui.add_image(picture.camera, label="camera")
        else:
            self._camera.image = picture.camera

    def _show_progress(self, progress: Progress) -> None:
        line = progress.line
        self._lines.append(line)
        learning = "on" if line.learning else "off"
        share = success_share(self._lines, line.phase)
        self._state.content = (
            f"**{progress.label}**, {line.phase} robot, episode {line.curve.episode + 1}: success {100 * share:.0f} %"
            f" of the last {RECENT}, learning {learning}"
        )
        for title, curve in curves_of(self._lines).items():
            if len(curve[0]) > 1:
                self._draw(title, curve)

    def _draw(self, title: str, curve: tuple[np.ndarray, np.ndarray]) -> None:
        if title in self._plots:
            self._plots[title].data = curve
            return
        series = ({"label": "episode"}, {"label": title, "stroke": "#1f5f8b", "width": 2})
        # uPlot reads x as time of day unless it is told.
        self._plots[title] = self._server.gui.add_uplot(
            curve, series, title=title, scales={"x": {"time": False}}, aspect=2.0
        )


def curves_of(lines: list[LiveLine]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The page's plots: title -> episodes and values, (N,) each; an episode without the figure is left out."""
    found: dict[str, list[tuple[int, float | None]]] = {title: [] for title in PLOTS}
    for i, line in enumerate(lines):
        values = (success_share(lines[: i + 1], line.phase), line.residual, line.losses.get("hindsight"), line.penalty)
        for title, value in zip(PLOTS, values, strict=True):
            found[title].append((line.curve.episode + 1, value))
    curves = {}
    for title, points in found.items():
        kept = np.array([(x, y) for x, y in points if y is not None], dtype=np.float64).reshape(-1, 2)
        curves[title] = (kept[:, 0].copy(), kept[:, 1].copy())
    return curves


class PageFeed:
    """A policy that also sends what the page shows; what acts is the policy that it was given.

    Args:
        env: unwrapped, with a simulated world.
        policy: what acts.
        messages: where they go; a full queue costs a picture.
        scan: the LiDAR's points (N, 3) in the world at this moment. Not the env's own: one more sensor would change
            what the others draw, and a shown life must be the same life.
        every: control steps from picture to picture.
    """

    def __init__(self, env: Any, policy: Any, messages: Any, scan: Callable[[], np.ndarray], every: int = 5) -> None:
        self.env, self.policy, self.messages, self.scan, self.every = env, policy, messages, scan, every
        self.skipped = 0
        self._steps = 0
        self.send(Scene(link_shapes(env.world.model)), wait_s=30.0)

    def send(self, message: Message, wait_s: float = 0.0) -> None:
        """Give the page a message, waiting so long for room; without room it is left out and counted."""
        try:
            self.messages.put(message, wait_s > 0.0, wait_s)
        except queue.Full:
            self.skipped += 1

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Pass on."""
        self.policy.reset(env_ids)

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """Pass on, and send a picture when one is due."""
        self.policy.observe(obs, now_s)
        if self._steps % self.every == 0:
            data = self.env.world.data
            camera = obs.get("camera")
            poses = np.concatenate([data.xpos, data.xquat], axis=1).astype(np.float32)
            self.send(Picture(poses, None if camera is None else camera.copy(), self.scan()))
        self._steps += 1

    def act(self) -> np.ndarray:
        """Pass on."""
        actions: np.ndarray = self.policy.act()
        return actions


def follow(page: LivePage, messages: Any) -> None:
    """Put every message of a queue on the page, until a None comes."""
    while (message := messages.get()) is not None:
        page.show(message)


@dataclass(frozen=True)
class ServedPage:
    """A page that is being served, and the life that it shows."""

    page: LivePage
    label: str
    messages: Any
    thread: threading.Thread  # puts the messages on the page


@contextlib.contextmanager
def serve_page(port: int | None, label: str) -> Iterator[ServedPage | None]:
    """Serve the page of one life meanwhile; None without a port.

    Raises:
        SystemExit: viser is not installed.
    """
    if port is None:
        yield None
        return
    try:
        page = LivePage(port)
    except ImportError as error:
        raise SystemExit(str(error)) from None
    messages = multiprocessing.get_context("spawn").Queue(8)
    thread = threading.Thread(target=follow, args=(page, messages), daemon=True)
    thread.start()
    print(f"The life of {label} is shown on {page.address}", flush=True)
    try:
        yield ServedPage(page, label, messages, thread)
    finally:
        messages.cancel_join_thread()
        page.close()


def _serve(port: int) -> Any:
    try:
        import viser
    except ImportError as error:
        raise ImportError("The page needs viser. Install it: pip install 'neon-sim[viewer]'") from error
    return viser.ViserServer(host=HOST, port=port, label="neon_sim", verbose=False)
