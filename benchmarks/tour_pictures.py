"""Pictures of the walking tour: who is still up after a punch and after a while; one run as a film and as a strip."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import imageio.v2 as imageio
import mujoco
import numpy as np
from PIL import Image, ImageDraw
from tour_record import PunchResult, RunResult
from tour_run import JUDGED_S, Tour, build_tour_robot
from tour_task import CONTROL_HZ, PUNCH_S, TOUR_S, Punch, TourConfig
from tqdm import tqdm

from neon_sim.eval.plots import COLORS
from neon_sim.eval.statistics import wilson_interval
from neon_sim.g1 import joints
from neon_sim.g1.geometry import matrix_to_quat
from neon_sim.sensors.gl_renderer import GLRenderer, make_renderer
from neon_sim.sim.model import SCENE_GROUP, build_spec
from neon_sim.sim.sim_robot import SimRobot

FILM_SIZE: Final = (360, 480)  # px, height and width
FILM_HZ: Final = 25
STRIP_SIZE: Final = (360, 230)
STRIP_S: Final = (-0.1, 0.04, 0.14, 0.3, 0.5, 0.8, 1.2, 2.0)  # s from the beginning of the punch
ARROW_S: Final = 0.5  # how long after a punch its arrow stays
FEWEST_PUNCHES: Final = 10  # in a bin that is drawn

_UNDER_THE_FLOOR = np.array([0.0, 0.0, -9.0])
_CAMERA_POS, _CAMERA_GOAL = np.array([2.9, -1.9, 0.85]), np.array([0.0, 0.0, -0.28])  # m, from the pelvis


def plot_survival(walkers: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Share of punches that fell the robot against their force, and share of runs still going against time; a PNG.

    walkers: label -> what `tour_figures.summarise` returns. Bands are 95 % Wilson intervals.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11.0, 4.4), dpi=130, layout="constrained")
    for color, (label, figures) in zip(itertools.cycle(COLORS), walkers.items(), strict=False):
        _band(left, *_falls_by_force(figures["falls_of_punches"]), label, color, "o-")
        _band(right, *_alive_by_time(figures["survival_of_each_run_s"]), label, color, "-")
    left.set(xlabel=f"force of a {PUNCH_S:g} s punch, N", ylabel=f"falls within {JUDGED_S:g} s, %")
    left.set(xlim=(50, 500), ylim=(0, None))
    right.set(xlabel="time, s", ylabel="still up, %", xlim=(0, TOUR_S), ylim=(0, 102))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
    lines, labels = right.get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def _band(axes: Any, x: Sequence[float], counts: Sequence[tuple[int, int]], label: str, color: str, style: str) -> None:
    low, high = zip(*(wilson_interval(some, total) for some, total in counts), strict=True) if counts else ((), ())
    share = [100.0 * some / total for some, total in counts]
    axes.plot(x, share, style, color=color, label=label, markersize=4, linewidth=1.8)
    axes.fill_between(x, 100.0 * np.array(low), 100.0 * np.array(high), color=color, alpha=0.18, linewidth=0)


def _falls_by_force(table: Mapping[str, Mapping[str, str]]) -> tuple[list[float], list[tuple[int, int]]]:
    """Middle of each force bin (N) with (falls, punches) over all bodies; bins with few punches are left out."""
    forces, counts = [], []
    for label in next(iter(table.values())):
        cells = [tuple(map(int, row[label].split("/"))) for row in table.values()]
        falls, punches = (sum(column) for column in zip(*cells, strict=True))
        if punches >= FEWEST_PUNCHES:
            forces.append(sum(map(float, label.split("-"))) / 2)
            counts.append((falls, punches))
    return forces, counts


def _alive_by_time(survival_s: str) -> tuple[list[float], list[tuple[int, int]]]:
    """Each second of the tour with (runs still up, runs)."""
    ends = np.array([float(word) for word in survival_s.split()])
    seconds = [float(second) for second in range(int(TOUR_S) + 1)]
    return seconds, [(int(((ends > second) | (ends >= TOUR_S)).sum()), len(ends)) for second in seconds]


def film(walker: Any, run_id: int, config: TourConfig, path: Path, speed: float = 2.0) -> RunResult:
    """One run as a video, `speed` times as fast as it happened."""
    robot = build_tour_robot(walker, config, scene())
    tour, view = Tour(robot, run_id, config), TourView(robot, FILM_SIZE)
    every = round(speed * CONTROL_HZ / FILM_HZ)
    writer = open_film(path)
    with writer, tqdm(total=tour.steps, desc=f"film of run {run_id}") as progress:
        while not tour.over:
            tour.advance()
            progress.update()
            if tour.step % every == 0 or tour.over:
                writer.append_data(view.picture(tour, f"run {run_id}, {speed:g} x"))
    view.close()
    return tour.result()


def open_film(path: Path) -> Any:
    """A writer of FILM_HZ pictures a second of constant quality, so that one in which little moves costs little."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # 8: both sides of FILM_SIZE are whole blocks of it.
    return imageio.get_writer(path, fps=FILM_HZ, macro_block_size=8, output_params=["-crf", "30"])


def strip(walker: Any, result: RunResult, config: TourConfig, path: Path) -> PunchResult | None:
    """The hardest punch that a run survived, as a row of pictures; returns it, or None if there is none to draw."""
    punch = hardest_survived(result)
    if punch is None:
        return None
    robot = build_tour_robot(walker, config, scene())
    tour, view = Tour(robot, result.run_id, config), TourView(robot, STRIP_SIZE)
    wanted = {round((punch.start_s + after_s) * CONTROL_HZ): after_s for after_s in STRIP_S}
    pictures: list[np.ndarray] = []
    while not tour.over and len(pictures) < len(wanted):
        tour.advance()
        if tour.step in wanted:
            pictures.append(view.picture(tour, f"{wanted[tour.step]:+.2f} s"))
    view.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    imageio.imwrite(path, np.concatenate(pictures, axis=1))
    return punch


def hardest_survived(result: RunResult) -> PunchResult | None:
    """The strongest punch of a run that is known not to have felled the robot."""
    return max((p for p in result.punches if p.fell is False), key=lambda p: p.force, default=None)


def scene() -> mujoco.MjSpec:
    """The robot and its floor, with a disc for the waypoint, an arrow for the punch and a camera that follows.

    Nothing of it touches anything, so the run is the one that was measured.
    """
    spec = build_spec()
    look: dict[str, Any] = {"group": SCENE_GROUP, "contype": 0, "conaffinity": 0}
    cylinder, blue, red = mujoco.mjtGeom.mjGEOM_CYLINDER, [0.15, 0.45, 0.85, 1.0], [0.9, 0.12, 0.1, 1.0]
    waypoint = spec.worldbody.add_body(name="waypoint", mocap=True)
    waypoint.add_geom(type=cylinder, size=[0.13, 0.003, 0.0], rgba=blue, **look)
    pointer = mujoco.mjtGeom.mjGEOM_BOX
    waypoint.add_geom(type=pointer, pos=[0.18, 0.0, 0.002], size=[0.13, 0.02, 0.004], rgba=blue, **look)
    punch = spec.worldbody.add_body(name="punch", mocap=True)  # its tip is the origin, and it points along z
    punch.add_geom(type=cylinder, fromto=[0, 0, -0.5, 0, 0, -0.1], size=[0.016, 0.0, 0.0], rgba=red, **look)
    tip = mujoco.mjtGeom.mjGEOM_ELLIPSOID
    punch.add_geom(type=tip, pos=[0.0, 0.0, -0.07], size=[0.042, 0.042, 0.07], rgba=red, **look)
    add_camera(spec)
    return spec


def add_camera(spec: mujoco.MjSpec) -> None:
    """The camera "tour", which goes along with the robot and keeps its direction."""
    follow = mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM
    turn = _look(_CAMERA_GOAL - _CAMERA_POS)
    spec.body("pelvis").add_camera(name="tour", mode=follow, fovy=36.0, pos=_CAMERA_POS, quat=turn)


class View:
    """Takes pictures through the camera of `add_camera`."""

    def __init__(self, robot: SimRobot, size: tuple[int, int]) -> None:
        self._robot = robot
        self._renderer = make_renderer(robot.model, *size)
        if isinstance(self._renderer, GLRenderer):
            self._renderer.draw_sky()

    def shot(self, words: str) -> np.ndarray:
        """(H, W, 3) uint8 of the present moment, with some words above."""
        model, data = self._robot.model, self._robot.data
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        return _captioned(self._renderer.rgb(data, "tour"), words)

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()


class TourView(View):
    """Takes pictures of a run in the world of `scene`."""

    def picture(self, tour: Tour, words: str) -> np.ndarray:
        """(H, W, 3) uint8 of the present moment, with the time and the latest punch written above."""
        x, y, heading = tour.target
        self._robot.place_object("waypoint", np.array((x, y, 0.0)), _turn_about_z(heading))
        punch = latest_punch(tour)
        if punch is None:
            self._robot.place_object("punch", _UNDER_THE_FLOOR)
        else:
            joint = self._robot.model.joint(joints.JOINT_NAMES[punch.joint]).id
            self._robot.place_object("punch", self._robot.data.xanchor[joint].copy(), _turn_z_to(tour.force_w(punch)))
            words = f"{words}   {np.linalg.norm(punch.force):.0f} N, {punch.body.replace('_', ' ')}"
        return self.shot(f"{tour.time_s:5.2f} s   {words}")


def latest_punch(tour: Tour) -> Punch | None:
    """The punch that is on, or was a moment ago."""
    ends = PUNCH_S + ARROW_S
    return next((p for p in tour.scenario.punches if p.start_s < tour.time_s <= p.start_s + ends), None)


def _look(direction: np.ndarray) -> np.ndarray:
    """Orientation (4,) wxyz of a camera that looks along a direction (3,), its upper edge level."""
    back = -direction / np.linalg.norm(direction)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    return matrix_to_quat(np.stack([right, np.cross(back, right), back], axis=1))


def _turn_about_z(angle: float) -> np.ndarray:
    return np.array((np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)))


def _turn_z_to(direction: np.ndarray) -> np.ndarray:
    """A rotation (4,) wxyz that takes the z axis to a direction (3,) of any length."""
    quat = np.empty(4)
    mujoco.mju_quatZ2Vec(quat, direction / np.linalg.norm(direction))
    return quat


def _captioned(picture: np.ndarray, words: str) -> np.ndarray:
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, image.width, 20), fill=(16, 20, 26))
    draw.text((6, 4), words, fill=(255, 255, 255))
    return np.asarray(image)
