"""Pictures of walking: heat maps of how far the velocity is off, and a film. matplotlib is imported when it draws."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from tour_pictures import FILM_HZ, FILM_SIZE, View, add_camera, open_film
from walking_episode import CONTROL_DT, Job, Plan, Track, make_course, record

from neon_sim.sim.model import build_spec

FILM_PLAN: Final[Plan] = (
    (0.0, (0.0, 0.0, 0.0)),
    (1.0, (0.6, 0.0, 0.0)),
    (4.5, (0.3, 0.0, 1.0)),
    (7.5, (0.0, 0.0, 0.0)),
)
FILM_S: Final = 10.0


class HeatMap(NamedTuple):
    """One figure over a grid of commands; NaN where nobody walked to the end."""

    title: str
    x_label: str
    x: Sequence[float]
    y_label: str
    y: Sequence[float]
    values: np.ndarray  # (len(y), len(x))
    fell: np.ndarray  # (len(y), len(x)) share of episodes


def heat_maps(path: Path, maps: Sequence[HeatMap], worst: float, title: str) -> None:
    """Draw maps, two in a row, into a PNG. `worst` is where the colours end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = -(-len(maps) // 2)
    figure, grid = plt.subplots(rows, 2, figsize=(11.0, 4.3 * rows), dpi=130, squeeze=False)
    for axes, one in zip(grid.ravel(), maps, strict=False):
        image = _draw(axes, one, worst)
        figure.colorbar(image, ax=axes, extend="max", shrink=0.9)
    for axes in grid.ravel()[len(maps) :]:
        axes.axis("off")
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def _draw(axes: Any, one: HeatMap, worst: float) -> Any:
    axes.set_facecolor("#dddddd")  # where there is no value
    image = axes.imshow(one.values, origin="lower", cmap="viridis_r", vmin=0.0, vmax=worst, aspect="auto")
    axes.set_xticks(range(len(one.x)), [f"{value:.2g}" for value in one.x])
    axes.set_yticks(range(len(one.y)), [f"{value:.2g}" for value in one.y])
    axes.set_xlabel(one.x_label)
    axes.set_ylabel(one.y_label)
    axes.set_title(one.title, fontsize=10)
    for row, column in np.ndindex(one.values.shape):
        value, fell = one.values[row, column], one.fell[row, column]
        text = ("" if np.isnan(value) else f"{value:.2f}") + (f"\n✕ {100 * fell:.0f} %" if fell > 0.0 else "")
        color = "white" if value > 0.55 * worst else "black"
        axes.text(column, row, text.strip(), ha="center", va="center", fontsize=7, color=color)
    return image


def film(path: Path, pattern: Job, seconds: float = FILM_S) -> Track:
    """Film an episode that stands, walks ahead, walks a turn and stops, the arms at home; as fast as it happened."""
    spec = build_spec()
    add_camera(spec)
    job = replace(pattern, plan=FILM_PLAN, seconds=seconds, arms=False)
    course = make_course(spec, job.condition, job.walker)
    view, every = View(course.robot, FILM_SIZE), round(1.0 / (FILM_HZ * CONTROL_DT))
    with open_film(path) as writer:

        def watch(step: int) -> None:
            if step % every == 0:
                now_s = step * CONTROL_DT
                velocity = [told for start_s, told in FILM_PLAN if start_s <= now_s + 1e-9][-1]
                ahead, left, turn = velocity
                writer.append_data(view.shot(f"{now_s:5.2f} s   {ahead:g} m/s ahead, {left:g} left, {turn:g} rad/s"))

        track = record(course, job, watch)
    view.close()
    return track
