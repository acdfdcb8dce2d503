"""Look at an episode of a data set: frames, joint curves, LiDAR from above, sound; one picture per episode.

    python agents/view.py runs/collect/dataset
    python agents/view.py runs/collect/dataset --episodes 0 7 12 --out runs/view
    python agents/view.py data/bridge --type oxe --source-options '{"fps": 5.0}'   # as the G1 would learn from it

Without --type, a LeRobot folder of anybody's is shown as it was recorded, and so are the .npz files of
`NeonEpisode.save`. With --type, any data source of `neon_sim.data.sources`, as episodes of the G1 at 50 Hz, and it is
said which of its columns became which joint of the G1, and which have no place there.

Writes OUT/episode_000000.png and so on, and prints what each episode is.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from neon_sim.data.action_mapper import MappingReport
from neon_sim.data.lerobot import LeRobotReader
from neon_sim.data.lerobot.info import INFO
from neon_sim.data.soup_file import add_relative_flag, read_options
from neon_sim.data.source import DataSourceConfig, EpisodeSource
from neon_sim.data.sources import SOURCES, open_source
from neon_sim.episode import NeonEpisode
from neon_sim.g1 import joints
from neon_sim.sensors.proprio import PROPRIO_DIM

FRAMES = 6  # in the film strip
LOOKS = ("lidar", "audio")


def is_film(values: np.ndarray) -> bool:
    """(T, H, W, 3) uint8: what a camera saw, whatever its name."""
    return values.dtype == np.uint8 and values.ndim == 4 and values.shape[-1] == 3


def film_strip(episode: NeonEpisode, key: str = "camera") -> np.ndarray:
    """FRAMES pictures evenly through the episode, side by side: (H, FRAMES * W, 3) uint8."""
    rows = np.linspace(0, len(episode) - 1, FRAMES).round().astype(int)
    return np.concatenate(list(episode.observations[key][rows]), axis=1)


def draw_arms(axes: Axes, episode: NeonEpisode) -> None:
    """Arm joints over time where the state is laid out as the env's, else the actions: no other order is known."""
    proprio = episode.observations.get("proprio")
    is_g1 = proprio is not None and proprio.shape[1:] == (PROPRIO_DIM,)
    shown = proprio[:, joints.GROUPS["arms"]] if is_g1 and proprio is not None else episode.actions
    axes.plot(np.arange(len(episode)) / episode.rate_hz, shown, linewidth=0.8)
    axes.set(xlabel="time (s)", ylabel="arm joints (rad)" if is_g1 else "action")


def draw_lidar(axes: Axes, episode: NeonEpisode) -> None:
    """The points of the middle of the episode from above; misses, which are zero, are left out."""
    points = episode.observations["lidar"][len(episode) // 2].reshape(-1, 3)
    points = points[np.abs(points).max(axis=1) > 0.0]
    axes.scatter(points[:, 0], points[:, 1], s=1.0)
    axes.set(xlabel="x, ahead (m)", ylabel="y, left (m)", aspect="equal")


def draw_audio(axes: Axes, episode: NeonEpisode) -> None:
    """Loudness of each step's window."""
    level = np.sqrt((episode.observations["audio"].astype(np.float64) ** 2).mean(axis=1))
    axes.plot(np.arange(len(episode)) / episode.rate_hz, 20.0 * np.log10(level + 1e-6))
    axes.set(xlabel="time (s)", ylabel="sound (dB of full scale)")


def draw(episode: NeonEpisode, title: str, path: Path) -> None:
    """One picture of one episode, with as many panels as it has senses, one for each of its cameras."""
    films = [key for key, values in episode.observations.items() if is_film(values)]
    looks = [key for key in LOOKS if key in episode.observations]
    panels = [*films, "arms", *looks]
    figure, grid = plt.subplots(len(panels), 1, figsize=(9.0, 2.6 * len(panels)), squeeze=False, layout="constrained")
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        if panel in films:
            axes.imshow(film_strip(episode, panel))
            axes.set_title(panel, fontsize="small")
            axes.axis("off")
        else:
            {"arms": draw_arms, "lidar": draw_lidar, "audio": draw_audio}[panel](axes, episode)
    figure.suptitle(title)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def open_episodes(path: Path, kind: str | None, options: str | None, relative: bool = False) -> EpisodeSource:
    """The episodes at a path: as recorded where `kind` is None, else through a data source of that type.

    Raises what the source raises, and ValueError for options or relative actions without a type.
    """
    if kind is not None:
        told = read_options(options or "{}")
        return open_source(DataSourceConfig("dataset", kind, str(path), use_relative_actions=relative, options=told))
    if options is not None or relative:
        raise ValueError("--source-options and --relative-actions belong to a --type.")
    if not (path / INFO).exists() and next(path.glob("**/*.npz"), None) is not None:
        return open_source(DataSourceConfig("dataset", "neon_sim", str(path)))
    return LeRobotReader(path)


def mapping_lines(report: MappingReport) -> str:
    """For a person: the counts, and each column with the joint of the G1 that it became, where the names differ."""
    renamed = [f"  {name} -> {joint}" for name, joint in report.mapped.items() if name != joint]
    return "\n".join([f"{report}", *renamed])


def main() -> None:
    """Draw the chosen episodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--type", help=f"read it as one of {', '.join(SOURCES)}")
    parser.add_argument("--source-options", metavar="JSON", help="what this type asks for")
    add_relative_flag(parser)
    parser.add_argument("--episodes", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/view"))
    args = parser.parse_args()
    try:
        source = open_episodes(args.dataset, args.type, args.source_options, args.relative_actions)
        report = getattr(source, "report", None)
        print("" if report is None else mapping_lines(report), end="" if report is None else "\n")
        args.out.mkdir(parents=True, exist_ok=True)
        for number in args.episodes:
            if not 0 <= number < len(source):
                raise IndexError(f"{args.dataset} has {len(source)} episodes, number {number} is not one of them.")
            episode = source.episode(number)
            seconds = len(episode) / episode.rate_hz
            ended = "success" if episode.success else "no success"
            title = f"episode {number}: {episode.instruction!r}, {seconds:.1f} s, {ended}"
            path = args.out / f"episode_{number:06d}.png"
            draw(episode, title, path)
            print(f"{title}; {', '.join(episode.observations)}; {path}")
    except (OSError, ValueError, IndexError, ImportError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
