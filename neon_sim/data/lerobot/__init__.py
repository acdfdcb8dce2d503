"""LeRobot data sets, v2.1 and v3.0: parquet, mp4 and json in a folder, written and read without the `lerobot` package.

    with LeRobotWriter("runs/mine", version="v3.0") as writer:
        writer.add(episode)
    reader = LeRobotReader("runs/mine")
    episode = reader.episode(0)

Needs the extra: pip install 'neon-sim[data]'.
"""

from neon_sim.data.lerobot.errors import BadEpisodeError
from neon_sim.data.lerobot.merge import merge
from neon_sim.data.lerobot.reader import LeRobotReader
from neon_sim.data.lerobot.writer import LeRobotWriter

__all__ = ["BadEpisodeError", "LeRobotReader", "LeRobotWriter", "merge"]
