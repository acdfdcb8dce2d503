"""The sheet of all tasks and sensors, and the table of the tasks: drawn from what is there, and up to date."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from neon_sim.env import ALL_SENSORS
from neon_sim.eval.task_table import task_table
from neon_sim.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]


def _load() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("agents_contact_sheet", ROOT / "agents" / "contact_sheet.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SHEET = _load()
PAPER = SHEET.PAPER


def _pixel(image: Image.Image, x: float, y: float) -> tuple[int, ...]:
    return tuple(np.asarray(image)[int(y), int(x)].tolist())


def test_the_table_of_tasks_is_what_the_code_says() -> None:
    """If it is not: python agents/contact_sheet.py."""
    table = task_table()
    assert (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8") == table
    rows = table.splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(TASKS)
    assert {row.count("|") for row in rows} == {6}
    (reach,) = (row for row in rows if row.startswith("| `reach` |"))
    assert "stays within 4 cm" in reach and "| 3 |" in reach and "hand" in reach.split("|")[5]


def test_readmes_table_is_replaced_and_nothing_else() -> None:
    page = "# Neon\n<!-- tasks -->\n| old |\n<!-- /tasks -->\nand on\n"
    new = SHEET.with_table(page, "| new |\n")
    assert new == "# Neon\n<!-- tasks -->\n| new |\n<!-- /tasks -->\nand on\n"
    assert SHEET.with_table(new, "| new |\n") == new
    for broken in ("# Neon\n", "<!-- /tasks -->\n<!-- tasks -->\n", page + page):
        with pytest.raises(ValueError, match="must have '<!-- tasks -->' on a line and then '<!-- /tasks -->'"):
            SHEET.with_table(broken, "| new |\n")
    readme = (ROOT / SHEET.README).read_text(encoding="utf-8")
    assert SHEET.with_table(readme, (ROOT / SHEET.DOCS / "tasks.md").read_text(encoding="utf-8")) == readme


def test_the_picture_in_docs_has_room_for_every_task_and_sensor() -> None:
    """Its size by hand: 4 tasks (and one room) a row, 7 sensors a row; pictures, captions, gaps of 8."""
    task_rows, sense_rows = -(-(len(TASKS) + 1) // 4), -(-len(ALL_SENSORS) // 7)
    height = 8 + task_rows * (236 + 54) + 8 + 8 + sense_rows * (176 + 38)
    with Image.open(ROOT / "docs" / "tasks.png") as picture:
        assert picture.size == (8 + 4 * (314 + 8), height) == (8 + 7 * (176 + 8), height)
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 1000


def test_settings_are_for_tasks_that_exist() -> None:
    assert {*SHEET.STEPS, *SHEET.SEEDS, *SHEET.VIEWS} <= set(TASKS)


def test_a_lidar_point_is_drawn_where_it_is() -> None:
    """3.5 m ahead: up by half of the 88 px that stand for 7 m. 3.5 m to the left: left by as much."""
    for point, (x, y) in (((3.5, 0.0, 0.0), (88, 44)), ((0.0, 3.5, 0.0), (44, 88))):
        image = SHEET.cloud(np.array([*point, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0], np.float32))
        assert _pixel(image, x, y) not in (PAPER, SHEET.INK)
        assert int((np.asarray(image) != PAPER).any(-1).sum()) < 80  # it and the robot, no others


def test_sound_is_drawn_at_its_pitch() -> None:
    """2 kHz of 0 to 8 kHz: a bright line at a quarter of the height."""
    sound = np.sin(2.0 * np.pi * 2000.0 * np.arange(16000) / 16000.0)
    light = np.asarray(SHEET.spectrogram(sound)).sum(-1)[:, 80]
    assert abs(int(light.argmax()) - 0.75 * 176) < 3


def test_sound_of_an_episode_is_put_together_without_a_gap() -> None:
    whole = np.arange(5120 + 640, dtype=np.float32)
    seen = [{"audio": whole[start : start + 5120]} for start in (0, 320, 640)]
    np.testing.assert_array_equal(SHEET.heard(seen), whole)


def test_the_pressed_cell_shines() -> None:
    force = np.zeros(32)
    force[16 + 4 * 1 + 2] = 8.0  # right palm, second row from below, third column
    panel = SHEET.palms(force)
    assert _pixel(panel, 10 + 84 + 2 * 18 + 8, 46 + 2 * 18 + 8) == SHEET.HUES[1]
    assert _pixel(panel, 10 + 2 * 18 + 8, 46 + 2 * 18 + 8) == (50, 50, 50)


def test_classes_have_colours_of_their_own() -> None:
    classes = np.array([[[0], [1], [2], [3], [4], [9]]], np.uint8)
    colors = [tuple(color) for color in SHEET.painted(classes)[0].tolist()]
    assert len(set(colors[:5])) == 5 and colors[3] == SHEET.HUES[0] == colors[5]  # six hues, then again


def test_a_rising_curve_rises() -> None:
    picture = np.asarray(SHEET.traces([np.array([value]) for value in np.linspace(0.0, 1.0, 20)])).astype(int)
    blue = picture[..., 2] > 110
    heights = [float(np.nonzero(blue[:, x])[0].mean()) for x in (30, 88, 146)]
    assert heights[0] > heights[1] + 20 > heights[2] + 40


def test_a_wide_picture_is_shown_whole() -> None:
    panel = np.asarray(SHEET.photo(np.full((480, 1280, 3), 200, np.uint8)))
    shown = (panel == 200).all(-1)
    assert shown.sum() == 176 * 66 and shown[88].all() and not shown[:54].any()


@pytest.mark.slow
def test_every_sensor_has_its_panel() -> None:
    panels = SHEET.sense_panels()
    assert {panel.name for panel in panels} == set(ALL_SENSORS)
    assert all(panel.picture.size == (176, 176) and np.asarray(panel.picture).std() > 5 for panel in panels)
