"""Draw one picture of all tasks and sensors, and write the table of the tasks: what README shows.

    python agents/contact_sheet.py            # docs/tasks.png, docs/tasks.md and README's table; about a minute
    python agents/contact_sheet.py --out runs/sheet    # leaves README alone

Each task is shown in the middle of its expert's work, each sensor while two palms lift a box in a furnished room and
a voice says so. Writes OUT/tasks.png and OUT/tasks.md.
"""

import argparse
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import gymnasium
import mujoco
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.env import ALL_SENSORS
from neon_sim.eval.task_table import task_table
from neon_sim.sensors.segmentation import FIRST_OBJECT
from neon_sim.sim.rooms import RoomConfig
from neon_sim.tasks import TASKS

GAP: Final = 8  # px
TASK_SIZE, TASK_COLUMNS = (314, 236), 4  # px of a picture; with the gaps both rows are equally wide
SENSE_SIZE, SENSE_COLUMNS = (176, 176), 7
WIDTH: Final = GAP + TASK_COLUMNS * (TASK_SIZE[0] + GAP)
GROUND, PAPER, INK, FAINT = (16, 20, 26), (28, 34, 43), (240, 243, 246), (150, 160, 172)
HUES: Final = ((94, 178, 232), (240, 160, 75), (110, 200, 140), (225, 110, 120), (175, 150, 220), (200, 200, 200))
STEPS: Final = {"stand": 40, "walk": 170, "track": 120, "wave": 45, "look_at": 60, "navigate": 130, "push_box": 170}
SEEDS: Final = {"follow_voice": 9}  # of the episodes that are shown; 4 for the rest
CHUNK: Final = 16
NEAR: Final = (-1.0, 4.0, -3.5, 3.5)  # m: a small room shows more of itself
ROOM: Final = RoomConfig("train", seed=1, clear=NEAR)
LIDAR_RANGE_M: Final = 7.0
WRIST_STEP: Final = 32  # the hands are on their way then, and have more to see
SENSE_STEPS: Final = 110  # of lifting the box: it is in the air by then


class View(NamedTuple):
    """Where a task is seen from: degrees around the robot (0 = from ahead, -90 = from its right), m away and m above
    what is looked at, which is `ahead` m in front of the pelvis and `raised` m over it.
    """

    degrees: float = -33.0
    away: float = 2.0
    above: float = 0.35
    ahead: float = 0.0
    raised: float = -0.1


NEAR: Final = View(away=1.35, above=0.3, ahead=0.1, raised=0.18)  # what arms do
VIEWS: Final = {
    "reach": NEAR,
    "track": NEAR,
    "wave": NEAR._replace(away=1.6),
    "follow_voice": NEAR._replace(degrees=-15.0),
    "press": View(-112.0, 1.4, 0.55, 0.25, 0.15),
    "look_at": View(-40.0, 4.6, 1.0),
    "navigate": View(-135.0, 4.2, 2.2, 1.0, -0.3),
    "lift_box": View(-48.0, 1.7, 0.5, 0.2, 0.05),
    "push_box": View(-75.0, 3.0, 1.3, 0.6, -0.2),
}
DOCS: Final = Path("docs")
README: Final = Path("README.md")
MARKERS: Final = ("<!-- tasks -->\n", "<!-- /tasks -->")  # around README's table

ROOM_VIEW: Final = View(-125.0, 5.0, 2.3, 2.2, -0.4)


class Panel(NamedTuple):
    """A picture with a name and a few words."""

    picture: Image.Image
    name: str
    words: str


def play(env: Any, steps: int) -> Iterable[dict[str, np.ndarray]]:
    """The expert's observations, until it is done or for `steps` control steps."""
    chunk = np.empty((0, env.action_map.dim))
    for step in range(steps):
        if step % CHUNK == 0:
            chunk = env.expert_chunk(CHUNK)
        obs, _, terminated, truncated, info = env.step(chunk[step % CHUNK])
        yield obs
        if terminated or truncated or (info["success"] and env.config.task not in STEPS):
            return


def look_from(env: Any, view: View) -> None:
    """Move the camera that `env.render` uses."""
    model = env.robot.model
    camera = model.camera("tracking").id
    angle, target = np.radians(view.degrees), np.array([view.ahead, 0.0, view.raised])
    away = np.array([view.away * np.cos(angle), view.away * np.sin(angle), view.above])
    back = away / np.linalg.norm(away)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    model.cam_mode[camera] = mujoco.mjtCamLight.mjCAMLIGHT_TRACK  # moves with the pelvis, does not turn
    model.cam_pos0[camera] = target + away
    model.cam_mat0[camera] = np.stack([right, np.cross(back, right), back], axis=1).ravel()


def task_panel(name: str, view: View, seed: int = 4, **options: Any) -> Panel:
    """The robot at a task, and what it was told."""
    options = {"sensors": (), "physics_dt": 0.005, "render_mode": "rgb_array", **options}
    env: Any = gymnasium.make("NeonG1-v0", task=name, disable_env_checker=True, **options).unwrapped
    _, info = env.reset(seed=seed)
    for _ in play(env, STEPS.get(name, env.task.max_steps)):
        pass
    look_from(env, view)
    picture = Image.fromarray(env.render()).resize(TASK_SIZE, Image.Resampling.LANCZOS)
    env.close()
    return Panel(picture, name, f'"{info["instruction"]}"')


def sense_panels(seed: int = 4) -> list[Panel]:
    """What every sensor has to say of one episode."""
    options = {"sensors": ALL_SENSORS, "instruct": "both", "scene": ROOM, "physics_dt": 0.005}
    env: Any = gymnasium.make("NeonG1-v0", task="lift_box", disable_env_checker=True, **options).unwrapped
    obs, _ = env.reset(seed=seed)
    seen = [obs, *play(env, SENSE_STEPS)]
    draw = {
        "camera": (lambda: photo(seen[-1]["camera"]), "head, colour"),
        "depth": (lambda: photo(np.repeat(seen[-1]["depth"], 3, axis=2)), "head; black = out of range"),
        "segmentation": (lambda: photo(painted(seen[-1]["segmentation"])), "a colour a thing"),
        "wrist_left": (lambda: photo(seen[WRIST_STEP]["wrist_left"]), "beside the palm, earlier"),
        "wrist_right": (lambda: photo(seen[WRIST_STEP]["wrist_right"]), "beside the palm, earlier"),
        "stereo": (lambda: photo(seen[-1]["stereo"]), "two pictures, 5 cm apart"),
        "lidar": (lambda: cloud(seen[-1]["lidar"]), "from above, 14 m wide"),
        "audio": (lambda: spectrogram(heard(seen)), "a voice, 0 to 8 kHz"),
        "tactile": (lambda: palms(seen[-1]["tactile"]), "left and right palm, N"),
        "force": (lambda: traces([o["force"][:12] for o in seen]), "both wrists, N and N m"),
        "imu": (lambda: traces([o["imu"] for o in seen]), "turning and acceleration"),
        "proprio": (lambda: traces([o["proprio"][15:29] for o in seen]), "the arms' joints, rad"),
        "gps": (lambda: traces([o["gps"][:2] for o in seen]), "x and y of the base, m"),
        "state": (lambda: traces([o["state"][:16] for o in seen]), "the truth, in simulation only"),
    }
    if set(draw) != set(ALL_SENSORS):
        raise ValueError(f"No panel for {sorted(set(ALL_SENSORS) - set(draw))}. Add it in sense_panels().")
    panels = [Panel(make(), name, words) for name, (make, words) in draw.items()]
    env.close()
    return panels


def photo(picture: np.ndarray) -> Image.Image:
    """A camera's picture (H, W, 3) uint8, whole, in a panel."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    scale = min(SENSE_SIZE[0] / image.width, SENSE_SIZE[1] / image.height)
    size = (round(image.width * scale), round(image.height * scale))
    panel = Image.new("RGB", SENSE_SIZE, PAPER)
    place = ((SENSE_SIZE[0] - size[0]) // 2, (SENSE_SIZE[1] - size[1]) // 2)
    panel.paste(image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC), place)
    return panel


def painted(classes: np.ndarray) -> np.ndarray:
    """Class numbers (H, W, 1) as colours (H, W, 3) uint8: nothing, scene and robot dark, objects bright."""
    paints = np.array([(16, 20, 26), (62, 70, 82), (125, 135, 148), *HUES], np.uint8)
    numbers = classes[..., 0].astype(int)
    return paints[np.where(numbers < FIRST_OBJECT, numbers, FIRST_OBJECT + (numbers - FIRST_OBJECT) % len(HUES))]


def cloud(points: np.ndarray) -> Image.Image:
    """LiDAR points (N*3,) m from above, ahead is up, colour by height."""
    panel = Image.new("RGB", SENSE_SIZE, PAPER)
    draw = ImageDraw.Draw(panel)
    middle, scale = SENSE_SIZE[0] / 2, SENSE_SIZE[0] / 2 / LIDAR_RANGE_M
    for x, y, z in points.reshape(-1, 3):
        if (x, y, z) != (0.0, 0.0, 0.0) and max(abs(x), abs(y)) < LIDAR_RANGE_M:
            warm = float(np.clip((z + 0.8) / 2.4, 0.0, 1.0))
            u, v = middle - y * scale, middle - x * scale
            draw.ellipse((u - 1, v - 1, u + 1, v + 1), fill=(int(70 + 185 * warm), 170, int(250 - 190 * warm)))
    draw.ellipse((middle - 3, middle - 3, middle + 3, middle + 3), fill=INK)
    return panel


def heard(seen: list[dict[str, np.ndarray]]) -> np.ndarray:
    """All the sound of an episode (N,): the first window, then what each later one added, 20 ms at 16 kHz."""
    return np.concatenate([seen[0]["audio"], *(obs["audio"][-320:] for obs in seen[1:])])


def spectrogram(sound: np.ndarray) -> Image.Image:
    """Time to the right, 0 to 8 kHz upwards, 60 dB from dark to bright."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, 512)[::160] * np.hanning(512)
    level_db = 20.0 * np.log10(np.abs(np.fft.rfft(frames)).T[::-1] + 1e-9)
    light = np.clip((level_db - level_db.max()) / 60.0 + 1.0, 0.0, 1.0)[..., None]
    picture = Image.fromarray((np.array(PAPER) * (1 - light) + np.array(HUES[1]) * light).astype(np.uint8))
    return picture.resize(SENSE_SIZE, Image.Resampling.BICUBIC)


def palms(force: np.ndarray) -> Image.Image:
    """Cells of both palms (32,) N side by side, the brightest is the most pressed, with its force."""
    panel = Image.new("RGB", SENSE_SIZE, PAPER)
    draw = ImageDraw.Draw(panel)
    most, side = max(float(force.max()), 1.0), 18
    for number, value in enumerate(force.tolist()):
        hand, (row, column) = number // 16, divmod(number % 16, 4)
        x, y = 10 + hand * 84 + column * side, 46 + (3 - row) * side
        light = max(value, 0.0) / most
        color = tuple(int(50 + (hue - 50) * light) for hue in HUES[1])
        draw.rectangle((x, y, x + side - 2, y + side - 2), fill=color)
    draw.text((10, 130), f"at most {force.max():.0f} N", font=font(13), fill=FAINT)
    return panel


def traces(rows: list[np.ndarray]) -> Image.Image:
    """Curves over the episode, all on one scale, which is written beside them."""
    values = np.array(rows, dtype=float)
    low, high = float(values.min()), float(values.max())
    panel = Image.new("RGB", (SENSE_SIZE[0] * 2, SENSE_SIZE[1] * 2), PAPER)  # drawn large: lines get smooth edges
    draw = ImageDraw.Draw(panel)
    x = np.linspace(16, panel.width - 16, len(values))
    y = panel.height - 44 - (panel.height - 88) * (values - low) / max(high - low, 1e-9)
    for number, curve in enumerate(y.T):
        draw.line(list(zip(x.tolist(), curve.tolist(), strict=True)), fill=HUES[number % len(HUES)], width=3)
    draw.text((14, 8), f"{high:.3g}", font=font(24), fill=FAINT)
    draw.text((14, panel.height - 36), f"{low:.3g}", font=font(24), fill=FAINT)
    return panel.resize(SENSE_SIZE, Image.Resampling.LANCZOS)


def font(size: int) -> Any:
    """Pillow's own, so that the sheet looks alike everywhere."""
    return ImageFont.load_default(size)


def sheet(tasks: list[Panel], senses: list[Panel]) -> Image.Image:
    """Tasks above, sensors below."""
    parts = [grid(tasks, TASK_SIZE, TASK_COLUMNS, 54), grid(senses, SENSE_SIZE, SENSE_COLUMNS, 38)]
    image = Image.new("RGB", (WIDTH, sum(part.height for part in parts) + GAP), GROUND)
    for part, top in zip(parts, (0, parts[0].height + GAP), strict=True):
        image.paste(part, (0, top))
    return image


def grid(panels: list[Panel], size: tuple[int, int], columns: int, caption: int) -> Image.Image:
    """Rows of pictures of one size, each with `caption` px of words below it."""
    rows = -(-len(panels) // columns)
    image = Image.new("RGB", (WIDTH, GAP + rows * (size[1] + caption)), GROUND)
    draw = ImageDraw.Draw(image)
    for number, panel in enumerate(panels):
        x = GAP + number % columns * (size[0] + GAP)
        y = GAP + number // columns * (size[1] + caption)
        image.paste(panel.picture, (x, y))
        draw.text((x + 1, y + size[1] + 2), panel.name, font=font(14), fill=INK)
        for line, words in enumerate(textwrap.wrap(panel.words, size[0] // 6)[:2]):
            draw.text((x + 1, y + size[1] + 19 + 14 * line), words, font=font(11), fill=FAINT)
    return image


def with_table(page: str, table: str) -> str:
    """The page with this table between its `MARKERS`, instead of what is there.

    Raises:
        ValueError: the page has not each of them once, in this order.
    """
    begin, end = MARKERS
    before, found, rest = page.partition(begin)
    old, closed, after = rest.partition(end)
    if not (found and closed) or begin in after or end in before + after:
        raise ValueError(f"The page must have {begin.strip()!r} on a line and then {end!r}, each once. Put them back.")
    return f"{before}{begin}{table}{end}{after}"


def main() -> None:
    """Draw, write, say where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DOCS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    panels = [task_panel(name, VIEWS.get(name, View()), SEEDS.get(name, 4)) for name in tqdm(TASKS, desc="tasks")]
    room = task_panel("walk", ROOM_VIEW, scene=RoomConfig("test", seed=5, furniture=12, clear=NEAR))
    panels.append(room._replace(name="a room", words="walls, floor and furniture, from a seed"))
    sheet(panels, sense_panels()).save(args.out / "tasks.png", optimize=True)
    table, written = task_table(), [args.out / "tasks.png", args.out / "tasks.md"]
    written[1].write_text(table, encoding="utf-8")
    if args.out == DOCS:
        README.write_text(with_table(README.read_text(encoding="utf-8"), table), encoding="utf-8")
        written.append(README)
    print(f"Wrote {', '.join(map(str, written))}")


if __name__ == "__main__":
    main()
