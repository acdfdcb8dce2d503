"""Look at an episode of a LeRobot data set: frames, joint curves, LiDAR from above, sound; one picture per episode.

    python agents/view.py runs/collect/dataset
    python agents/view.py runs/collect/dataset --episodes 0 7 12 --out runs/view

Writes OUT/episode_000000.png and so on, and prints what each episode is.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from neon_sim.data.lerobot import LeRobotReader
from neon_sim.episode import NeonEpisode
from neon_sim.g1 import joints

FRAMES = 6  # in the film strip
LOOKS = ("lidar", "audio")


def film_strip(episode: NeonEpisode, key: str = "camera") -> np.ndarray:
    """FRAMES pictures evenly through the episode, side by side: (H, FRAMES * W, 3) uint8."""
    rows = np.linspace(0, len(episode) - 1, FRAMES).round().astype(int)
    return np.concatenate(list(episode.observations[key][rows]), axis=1)


def draw_arms(axes: Axes, episode: NeonEpisode) -> None:
    """Arm joints over time where the robot is a G1, else the actions."""
    proprio = episode.observations.get("proprio")
    is_g1 = proprio is not None and proprio.shape[1] >= joints.NUM_JOINTS
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
    """One picture of one episode, with as many panels as it has senses."""
    has_camera = "camera" in episode.observations
    looks = [key for key in LOOKS if key in episode.observations]
    panels = [*(["camera"] if has_camera else []), "arms", *looks]
    figure, grid = plt.subplots(len(panels), 1, figsize=(9.0, 2.6 * len(panels)), squeeze=False, layout="constrained")
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        if panel == "camera":
            axes.imshow(film_strip(episode))
            axes.axis("off")
        else:
            {"arms": draw_arms, "lidar": draw_lidar, "audio": draw_audio}[panel](axes, episode)
    figure.suptitle(title)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """Draw the chosen episodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--episodes", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/view"))
    args = parser.parse_args()
    try:
        reader = LeRobotReader(args.dataset)
        args.out.mkdir(parents=True, exist_ok=True)
        for number in args.episodes:
            episode = reader.episode(number)
            seconds = len(episode) / episode.rate_hz
            ended = "success" if episode.success else "no success"
            title = f"episode {number}: {episode.instruction!r}, {seconds:.1f} s, {ended}"
            path = args.out / f"episode_{number:06d}.png"
            draw(episode, title, path)
            print(f"{title}; {', '.join(episode.observations)}; {path}")
    except (OSError, ValueError, IndexError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
