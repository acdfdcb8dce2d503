"""What a data source is: a number of episodes, how long each is, and each as a NeonEpisode when it is asked for."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from neon_sim.episode import NeonEpisode

# How a message about a bad episode ends.
SKIP_HINT: Final = "leave it out with --skip-bad (DataSoupConfig.skip_bad)"

Keys = Collection[str] | None  # observations that somebody asks for; None = all that there are


def is_wanted(key: str, keys: Keys) -> bool:
    """Whether an observation is asked for."""
    return keys is None or key in keys


class EpisodeSource(Protocol):
    """Episodes on disk. Opening one is cheap; only `episode` reads what is in it."""

    def __len__(self) -> int:
        """How many episodes there are."""

    def steps(self, index: int) -> int:
        """Length of one episode in control steps (50 Hz), without reading it."""

    def succeeded(self, index: int) -> bool:
        """Whether an episode says that it ended well; False where nobody says."""

    def episode(self, index: int, keys: Keys = None) -> NeonEpisode:
        """Read one episode.

        keys: observations that are wanted. The pictures of other cameras are not decoded, and their files not opened.

        Raises ValueError naming file, episode and what was found, for data that are not what they should be.
        """


class BadEpisodeError(ValueError):
    """An episode that cannot be learned from; the message names file and episode."""


@dataclass(frozen=True)
class DataSourceConfig:
    """One source of a data soup.

    Raises ValueError for a weight that is not positive and finite, or a cap below 1.
    """

    name: str  # what reports call it
    type: str  # one of `neon_sim.data.sources.SOURCES`
    path: str  # a local folder or file; a hub id must have been downloaded before
    weight: float = 1.0  # w_s; the source is sampled with w_s / sum of all w
    max_episodes: int | None = None  # the first so many; None = all of them
    use_relative_actions: bool = False  # its actions are end-effector steps (eq. 12-14), to be turned into joints
    action_scaler: float = 20.0  # lambda of those steps
    options: Mapping[str, Any] = field(default_factory=dict)  # what this type of source wants to know besides
    successes_only: bool = False  # leave out the episodes that do not say that they succeeded

    def __post_init__(self) -> None:
        if not 0.0 < self.weight < float("inf"):
            raise ValueError(f"Data source {self.name!r} wants a positive weight, got {self.weight}. Or leave it out.")
        if self.max_episodes is not None and self.max_episodes < 1:
            raise ValueError(f"Data source {self.name!r} wants max_episodes of at least 1, got {self.max_episodes}.")
        if not self.action_scaler > 0.0:
            raise ValueError(f"Data source {self.name!r} wants a positive action_scaler, got {self.action_scaler}.")
