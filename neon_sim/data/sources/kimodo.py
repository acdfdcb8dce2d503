"""Type "kimodo": motions that Kimodo made from words for the G1, 30 a second: MuJoCo qpos CSV files.

The layout read here is Kimodo's CSV export for the G1, 36 numbers a line without a header (root position, quat_wxyz,
29 joint angles in rad), or the same as "qpos" in an NPZ file (option pattern="*.npz"). Kimodo's own NPZ files hold
rotation matrices of a skeleton and have to be exported first. The words are a text file of the same name, or the name.
"""

from neon_sim.data.source import DataSourceConfig, EpisodeSource
from neon_sim.data.sources.bones import open_clips


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """Open a folder of motions; options: see `ClipOptions`. Raises FileNotFoundError if there are none."""
    return open_clips(config, 30.0)
