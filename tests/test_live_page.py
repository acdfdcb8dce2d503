"""The page: shapes by hand, plots by hand, a real robot's picture through a queue, and a real server on loopback."""

import multiprocessing
import queue
import socket
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from browser import find_browser, open_page, wait_for
from imageio.v3 import imread
from tiny_neon import open_reach

from neon_sim.eval import live_shapes
from neon_sim.eval.live_page import HOST, LivePage, PageFeed, Picture, Progress, Scene, curves_of, serve_page
from neon_sim.eval.live_shapes import link_shapes
from neon_sim.eval.live_table import LiveLine
from neon_sim.eval.plots import line_plot
from neon_sim.training.online import LifeEpisode


def _line(episode: int, **changes: Any) -> LiveLine:
    given: dict[str, Any] = {"residual": 0.5, "learned_chunks": 1, "learning": True, "penalty": None, **changes}
    return LiveLine("healthy", LifeEpisode(episode, False, episode % 2 == 0, 0.1, 0), losses={}, **given)


def _volume(kind: int, size: tuple[float, ...]) -> float:
    """By the divergence theorem: positive only if every face looks outward."""
    vertices, faces = live_shapes.primitive(kind, np.array(size))
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize(
    ("kind", "size", "volume"),
    [
        (live_shapes.BOX, (0.1, 0.2, 0.3), 8 * 0.006),
        (live_shapes.SPHERE, (0.5, 0.0, 0.0), 4 / 3 * np.pi * 0.125),
        (live_shapes.ELLIPSOID, (0.1, 0.2, 0.3), 4 / 3 * np.pi * 0.006),
        (live_shapes.CYLINDER, (0.2, 0.5, 0.0), np.pi * 0.04),
        (live_shapes.CAPSULE, (0.2, 0.5, 0.0), np.pi * 0.04 + 4 / 3 * np.pi * 0.008),
    ],
)
def test_a_surface_encloses_its_volume(kind: int, size: tuple[float, ...], volume: float) -> None:
    assert 0.9 * volume < _volume(kind, size) <= volume * (1 + 1e-9)  # corners lie on the surface, faces inside


def test_a_kind_without_a_surface_is_refused() -> None:
    with pytest.raises(ValueError, match="Geom type 7"):
        live_shapes.primitive(7, np.ones(3))


def test_curves_leave_out_what_is_not_known() -> None:
    curves = curves_of([_line(0), _line(1, residual=None), _line(2, penalty=3.0)])
    episodes, values = curves["residual of the forward model"]
    assert episodes.tolist() == [1.0, 3.0] and values.tolist() == [0.5, 0.5]
    assert curves["EWC penalty"][0].tolist() == [3.0] and curves["EWC penalty"][1].tolist() == [3.0]
    assert curves["success of the last 20"][1].tolist() == [1.0, 0.5, pytest.approx(2 / 3)]


def test_what_the_robot_does_arrives_and_a_full_queue_costs_pictures_only() -> None:
    env = open_reach()
    seen: list[float] = []
    policy = SimpleNamespace(
        reset=lambda env_ids: None, observe=lambda obs, now_s: seen.append(now_s), act=lambda: np.zeros((1, 16, 17))
    )
    messages: Any = queue.Queue(2)
    feed = PageFeed(env, policy, messages, lambda: np.ones((4, 3), np.float32), every=2)
    obs, info = env.reset(seed=0)
    feed.reset()
    for step in range(4):
        feed.observe(obs, info["time_s"] + step)
    scene, picture = messages.get_nowait(), messages.get_nowait()
    assert isinstance(scene, Scene) and isinstance(picture, Picture)
    assert seen == [0.0, 1.0, 2.0, 3.0] and feed.skipped == 1  # pictures at 0 and 2, room for one
    model, data = env.world.model, env.world.data
    assert {shape.link for shape in scene.shapes} <= set(range(model.nbody))
    pelvis = model.body("pelvis").id
    assert picture.poses_w[pelvis, :3] == pytest.approx(data.xpos[pelvis], abs=1e-6)
    assert picture.poses_w.shape == (model.nbody, 7) and picture.points_w.shape == (4, 3)
    assert picture.camera is not None and np.array_equal(picture.camera, obs["camera"])
    assert np.array_equal(feed.act(), np.zeros((1, 16, 17)))
    env.close()


def test_without_viser_the_page_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(ImportError, match=r"pip install 'neon-sim\[viewer\]'"):
        LivePage()
    with pytest.raises(SystemExit, match="viser"), serve_page(8080, "ewc, seed 0"):
        pass


def test_without_a_port_nothing_is_served() -> None:
    with serve_page(None, "ewc, seed 0") as served:
        assert served is None


def _other_address() -> str | None:
    """An address of this machine that is not loopback; None if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address


def test_the_page_answers_on_loopback_only_and_shows_a_life(tmp_path: Path) -> None:
    pytest.importorskip("viser")
    box = live_shapes.primitive(live_shapes.BOX, np.ones(3))
    shape = live_shapes.Shape(1, box[0].astype(np.float32), box[1], (200, 10, 10), None)
    poses = np.tile(np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], np.float32), (2, 1))
    poses[1, :3] = [0.1, 0.2, 0.8]
    line_plot(tmp_path / "plot.png", [0, 1], {"a": [0.0, 1.0]}, "x", "y")
    page = LivePage(0)
    try:
        port = int(page.address.rsplit(":", 1)[1])
        with urllib.request.urlopen(page.address, timeout=30) as answer:
            assert answer.status == 200 and b"<html" in answer.read().lower()
        other = _other_address()
        if other is not None:
            with pytest.raises(OSError):
                socket.create_connection((other, port), timeout=5)
        camera = np.zeros((8, 8, 3), np.uint8)
        for message in (Scene([shape]), Picture(poses, camera, np.ones((5, 3), np.float32))):
            page.show(message)
        page.show(Picture(poses, camera + 7, np.zeros((3, 3), np.float32)))
        for episode in range(3):
            page.show(Progress("ewc, seed 0", _line(episode)))
        page.show_report(tmp_path / "plot.png", "kept")
        assert tuple(page._links[1].position) == pytest.approx((0.1, 0.2, 0.8))
        assert page._points.points.shape == (3, 3) and int(page._camera.image.max()) == 7
        assert page._plots["residual of the forward model"].data[1].tolist() == [0.5] * 3
        assert "EWC penalty" not in page._plots  # there was none
    finally:
        page.close()
    with pytest.raises(OSError):
        socket.create_connection((HOST, port), timeout=5)


def test_a_browser_shows_the_robot_its_camera_and_the_plots(tmp_path: Path) -> None:
    pytest.importorskip("viser")
    chromium = find_browser()
    if chromium is None:
        pytest.skip("no Chromium on the PATH (Debian: apt-get install chromium)")
    env = open_reach()
    obs, _ = env.reset(seed=0)
    data = env.world.data
    poses = np.concatenate([data.xpos, data.xquat], axis=1).astype(np.float32)
    page = LivePage(0)
    try:
        page.show(Scene(link_shapes(env.world.model)))
        page.show(Picture(poses, obs["camera"], np.ones((5, 3), np.float32)))
        for episode in range(4):
            page.show(Progress("ewc, seed 0", _line(episode, penalty=0.5)))
        with open_page(chromium, page.address, tmp_path / "profile") as tab:
            wait_for(lambda: "learning on" in (tab.evaluate("document.body.innerText") or ""), "the newest episode")
            words = tab.evaluate("document.body.innerText")
            assert "ewc, seed 0, healthy robot, episode 4: success 50 % of the last 20, learning on" in words
            wait_for(lambda: tab.evaluate("document.querySelectorAll('.uplot').length") == 3, "three plots")
            assert tab.evaluate("Array.from(document.images).filter(i => i.naturalWidth == 128).length") == 1  # camera
            wait_for(lambda: _dark(tab.screenshot()) > 100, "the robot to be drawn")
            (tmp_path / "page.png").write_bytes(tab.screenshot())
    finally:
        page.close()
        env.close()


def _dark(png: bytes) -> int:
    """How many pixels in the middle of a screenshot are as dark as the robot's feet and hands, and as no floor line."""
    picture = imread(png, extension=".png")[150:750, 320:940, :3]
    return int((picture.max(axis=-1) < 80).sum())


def test_messages_of_another_process_reach_the_page() -> None:
    pytest.importorskip("viser")
    with serve_page(0, "ewc, seed 0") as served:
        assert served is not None
        process = multiprocessing.get_context("spawn").Process(target=_send, args=(served.messages,))
        process.start()
        process.join(300)
        assert process.exitcode == 0
        served.messages.put(None)
        served.thread.join(60)
        assert [line.curve.episode for line in served.page._lines] == [4]


def _send(messages: Any) -> None:
    messages.put(Progress("ewc, seed 0", _line(4)))
