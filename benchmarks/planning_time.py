"""How long a run will still take, by what its finished pieces took, else by a guess."""

from collections.abc import Sequence
from pathlib import Path

from neon_sim.world_model.played import seconds_of


def time_left(groups: Sequence[tuple[float, Sequence[tuple[Path, int]]]], workers: int) -> str:
    """How much is to do and about how long that takes.

    groups: pieces of work that are alike: a guess of one episode's seconds, and for each piece the file that it leaves
    (see `judging.played_once`) and its episodes.
    """
    episodes = left = 0
    seconds = 0.0
    for each, pieces in groups:
        took = [(count, seconds_of(path)) for path, count in pieces]
        played = [(count, spent) for count, spent in took if spent is not None]
        missing = sum(count for count, spent in took if spent is None)
        if played:
            each = sum(spent for _, spent in played) / sum(count for count, _ in played)
        episodes, left, seconds = episodes + sum(count for _, count in pieces), left + missing, seconds + missing * each
    return said(left, episodes, seconds, workers)


def said(left: int, episodes: int, seconds: float, workers: int) -> str:
    """In words; seconds: of one worker."""
    hours = seconds / max(1, workers) / 3600.0
    long = f"{hours:.1f} h" if hours >= 0.95 else f"{60.0 * hours:.0f} min"
    return f"{left} of {episodes} episodes are to be played: roughly {long} with {workers} workers on idle cores"
