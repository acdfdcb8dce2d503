"""A weighted mixture of data sources (paper, 6.3): sample number k is always the same sample, whoever asks for it.

Nothing here has a position that could be lost: which source, which episode and which step make sample k follows from
the seed and k alone. So the order does not depend on how many workers or processes share the work, and a run that goes
on at step n goes on with what it would have seen there.
"""

import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from neon_sim.data.action_mapper import ActionMapper, MappingReport
from neon_sim.data.sample_cache import SampleCache
from neon_sim.data.source import BadEpisodeError, DataSourceConfig, EpisodeSource
from neon_sim.data.sources import open_source
from neon_sim.data.windows import Window, WindowConfig, action_columns, check_episode, cut_window
from neon_sim.episode import NeonEpisode
from neon_sim.g1.action_space import ControlMode, G1ActionSpace

__all__ = ["ActionMapper", "DataSoup", "DataSoupConfig", "DataSourceConfig", "NeonEpisode"]

_SPLIT_SEED: Final = 20_11  # which episodes are held back does not depend on the run's seed


@dataclass(frozen=True)
class DataSoupConfig:
    """What is mixed, and how.

    Raises ValueError for no source, two of one name, or a share outside [0, 1).
    """

    sources: list[DataSourceConfig] = field(default_factory=list)
    validation_share: float = 0.05  # of every source's episodes; at least one is held back if it has two or more
    visit: int = 4  # consecutive samples of one episode: reading an episode costs more than cutting samples from it
    memory_mb: float = 512.0  # episodes kept in memory, per worker; one is kept whatever its size
    skip_bad: bool = False  # leave out what cannot be read and count it, instead of stopping there

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"A data soup wants sources with different names, got {names}.")
        if not 0.0 <= self.validation_share < 1.0:
            raise ValueError(f"validation_share wants a share in [0, 1), got {self.validation_share}.")
        if self.visit < 1 or not self.memory_mb > 0.0:
            raise ValueError(f"visit and memory_mb must be positive, got {self.visit} and {self.memory_mb}.")


class DataSoup:
    """Sources opened, split and mixed.

    Args:
        config: what is mixed.
        action_space: of the policy that learns.
        windows: how samples are cut.
        seed: of the order.
        validation: True for the episodes that are held back, False for the others.

    `bad` says why each episode that was left out was: (source, episode) -> message. `quiet` keeps it from warning.
    `samples` keeps what was cut, where somebody puts a cache: the samples are the same ones. `listen` makes of the
    sound (S,) of a sample what is learned from; None leaves it as it is.

    Raises:
        ValueError: a source without episodes, none to learn from, or a policy whose actions mean something else than
            the data's.
    """

    def __init__(
        self,
        config: DataSoupConfig,
        action_space: G1ActionSpace | None = None,
        windows: WindowConfig | None = None,
        seed: int = 0,
        validation: bool = False,
    ) -> None:
        self.config, self.windows, self.seed = config, windows or WindowConfig(), seed
        self.action_space = action_space or G1ActionSpace()
        _require_home_center(self.action_space)
        self.sources: dict[str, EpisodeSource] = {
            one.name: open_source(_told_in(one, self.action_space.mode)) for one in config.sources
        }
        self.bad: dict[tuple[str, int], str] = {}
        self.quiet = False
        self.samples: SampleCache | None = None
        self.listen: Callable[[np.ndarray], np.ndarray] | None = None
        self._kept: OrderedDict[tuple[str, int], NeonEpisode] = OrderedDict()
        self._visit: tuple[int, str, int, np.ndarray] | None = None  # the last one, as `_drawn` found it
        self._bytes = 0
        self._told_of_size = False
        self.failures: dict[str, int] = {}  # episodes of a source that were left out because it has `successes_only`
        parts = {one.name: self._split(one) for one in config.sources}
        self.episodes = {name: both[validation] for name, both in parts.items()}
        self.others = {name: both[not validation] for name, both in parts.items()}  # on the other side of the split
        mixed = [one for one in config.sources if len(self.episodes[one.name])]
        if not mixed:
            raise ValueError("Every episode is held back for validation. Record more, or lower validation_share.")
        self.names = [one.name for one in mixed]
        weights = np.array([one.weight for one in mixed])
        self.shares = weights / weights.sum()  # p_s = w_s / sum of w

    def __len__(self) -> int:
        """Samples that cut every episode once: what one epoch is as long as."""
        return sum(
            self.windows.count(self._steps(name, int(index))) for name in self.names for index in self.episodes[name]
        )

    def __getitem__(self, number: int) -> Window:
        """Sample `number`, any non-negative integer.

        Raises BadEpisodeError for an episode that cannot be learned from, unless `skip_bad`.
        """
        visit, place = divmod(number, self.config.visit)
        drawn = self._visit
        if drawn is None or drawn[0] != visit:
            self._visit = drawn = (visit, *self._drawn(visit))
        _, name, index, chosen = drawn
        return self.window(name, index, int(chosen[place]) * self.windows.stride)

    def _drawn(self, visit: int) -> tuple[str, int, np.ndarray]:
        """Source and episode of a visit, and the places in it, one for each of its samples."""
        attempt = 0
        while True:
            rng = np.random.default_rng([self.seed, visit, attempt])
            name = self.names[int(rng.choice(len(self.names), p=self.shares))]
            index = int(rng.choice(self.episodes[name]))
            try:
                places = self._places(name, index)
            except BadEpisodeError as error:
                self._leave_out(name, index, error)
                if all((name, int(i)) in self.bad for name in self.names for i in self.episodes[name]):
                    raise ValueError("Not one episode could be read.") from error
                attempt += 1
                continue
            # A visit looks at different places of its episode, as long as there are enough.
            rounds = -(-self.config.visit // places)
            return name, index, np.concatenate([rng.permutation(places) for _ in range(rounds)])

    def each(self, most: int | None = None) -> "list[tuple[str, int, int]]":
        """Every sample of every episode in order, as (source, episode, step).

        most: how many at most, by even steps and as many of each source, as far as it has them.
        """
        places = []
        for name in self.names:
            found = [
                (name, int(index), place * self.windows.stride)
                for index in self.episodes[name]
                for place in range(self.windows.count(self._steps(name, int(index))))
            ]
            if most is not None and found:
                some = min(len(found), max(1, most // len(self.names)))
                found = [found[int(i)] for i in np.linspace(0, len(found) - 1, some).round()]
            places += found
        return places

    def window(self, name: str, index: int, step: int) -> Window:
        """One sample by its place."""
        place, between = divmod(step, self.windows.stride)
        kept = None if between else self.samples
        found = None if kept is None else kept.read(name, index, place)
        if found is not None:
            return found
        episode = self.episode(name, index)
        columns = action_columns(self.action_space, episode.control_mode, self._where(name, index))
        if kept is None or kept.full:
            return self._heard(cut_window(episode, step, self.windows, columns, name))
        steps = range(0, len(episode), self.windows.stride)
        windows = [self._heard(cut_window(episode, one, self.windows, columns, name)) for one in steps]
        kept.write(name, index, windows)
        return windows[place]

    def _heard(self, window: Window) -> Window:
        if self.listen is None or "audio" not in window.senses:
            return window
        return replace(window, senses={**window.senses, "audio": self.listen(window.senses["audio"])})

    def readable(self, places: Iterable[tuple[str, int, int]]) -> list[Window]:
        """Samples by their places; with `skip_bad`, those of bad episodes are missing.

        Raises BadEpisodeError without it.
        """
        windows = []
        for place in places:
            try:
                windows.append(self.window(*place))
            except BadEpisodeError as error:
                self._leave_out(*place[:2], error)
        return windows

    def episode(self, name: str, index: int) -> NeonEpisode:
        """An episode with what samples are cut from, from memory if it was read lately."""
        key = (name, index)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key in self.bad:
            raise BadEpisodeError(self.bad[key])
        episode = check_episode(self.sources[name].episode(index, self.windows.keys), f"Episode {index} of {name!r}")
        self._kept[key] = episode
        size = _size(episode)
        self._bytes += size
        if size > self.config.memory_mb * 2**20:
            self._tell_of_size(name, index, size / 2**20)
        while self._bytes > self.config.memory_mb * 2**20 and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)
        return episode

    def counts(self) -> dict[str, dict[str, float]]:
        """Per source: episodes, samples, and its share of the mixture."""
        return {
            name: {
                "episodes": len(self.episodes[name]),
                "samples": sum(self.windows.count(self._steps(name, int(i))) for i in self.episodes[name]),
                "share": float(share),
                **({"failures_left_out": self.failures[name]} if name in self.failures else {}),
            }
            for name, share in zip(self.names, self.shares, strict=True)
        }

    def reports(self) -> dict[str, MappingReport]:
        """What became of a source's columns and of the G1's places, by source.

        Sources that map nothing, and those of which each episode has its own, are missing.
        """
        found = {name: getattr(self.sources[name], "report", None) for name in self.names}
        return {name: report for name, report in found.items() if report is not None}

    @property
    def skipped(self) -> Counter[str]:
        """How many episodes were left out, by source."""
        return Counter(name for name, _ in self.bad)

    def note_bad(self, found: Mapping[tuple[str, int], str]) -> None:
        """Take over what a copy of this soup, in a worker, found to be bad; what is new is warned about."""
        for (name, index), message in found.items():
            if (name, index) not in self.bad:
                self._leave_out(name, index, BadEpisodeError(message))

    def _places(self, name: str, index: int) -> int:
        """How many samples an episode has, as it can be read."""
        kept = None if self.samples is None else self.samples.count(name, index)
        return self.windows.count(len(self.episode(name, index))) if kept is None else kept

    def _split(self, config: DataSourceConfig) -> tuple[np.ndarray, np.ndarray]:
        """Episodes to learn from and those held back, each in ascending order."""
        count = len(self.sources[config.name])
        if not count:
            raise ValueError(
                f"Data source {config.name!r} has no episode: {config.path} is empty. Record or copy some, or leave "
                "the source out."
            )
        count = count if config.max_episodes is None else min(count, config.max_episodes)
        wanted = np.arange(count)
        if config.successes_only:
            wanted = np.array([i for i in range(count) if self._succeeded(config.name, i)], int)
            unread = sum(name == config.name for name, _ in self.bad)
            self.failures[config.name] = count - len(wanted) - unread
            count = len(wanted)
            if not count:
                raise ValueError(f"No episode of {config.name!r} says that it succeeded: train without successes_only.")
        order = wanted[np.random.default_rng([_SPLIT_SEED, count]).permutation(count)]
        held = round(count * self.config.validation_share)
        if self.config.validation_share > 0.0 and count > 1:
            held = min(max(held, 1), count - 1)
        return np.sort(order[held:]), np.sort(order[:held])

    def _where(self, name: str, index: int) -> str:
        (path,) = (one.path for one in self.config.sources if one.name == name)
        return f"Episode {index} of {name!r} ({path})"

    def _tell_of_size(self, name: str, index: int, size_mb: float) -> None:
        """Once: every sample of such an episode may read it anew, and every worker holds one."""
        if not self._told_of_size:
            self._told_of_size = True
            warnings.warn(
                f"{self._where(name, index)} takes {size_mb:.0f} MB, and memory_mb is {self.config.memory_mb:g}: no "
                "other episode is kept beside it. Split such recordings into shorter episodes, or raise "
                "DataSoupConfig.memory_mb.",
                stacklevel=4,
            )

    def _succeeded(self, name: str, index: int) -> bool:
        try:
            return self.sources[name].succeeded(index)
        except BadEpisodeError as error:
            self._leave_out(name, index, error)
            return False

    def _steps(self, name: str, index: int) -> int:
        try:
            return self.sources[name].steps(index)
        except BadEpisodeError as error:
            self._leave_out(name, index, error)
            return 0

    def _leave_out(self, name: str, index: int, error: BadEpisodeError) -> None:
        if not self.config.skip_bad:
            raise error
        if (name, index) not in self.bad:
            self.bad[name, index] = str(error)
            if not self.quiet:
                warnings.warn(f"{error} Left out: {self.skipped[name]} of {name!r} so far.", stacklevel=3)


def _told_in(config: DataSourceConfig, mode: ControlMode) -> DataSourceConfig:
    """The source told in the policy's layout, where the usual one leaves out joints that the policy has.

    Our own recordings are in the layout that they were recorded in.
    """
    if mode != ControlMode.WHOLE_BODY or config.type == "neon_sim" or "control_mode" in config.options:
        return config
    return replace(config, options={**config.options, "control_mode": str(mode)})


def _require_home_center(space: G1ActionSpace) -> None:
    if space.action_center != "home":
        raise ValueError(
            f"Recorded actions are centered on the home pose, and the policy's on {space.action_center!r}: it would "
            'learn other angles than were commanded. Train it with NeonConfig(action_center="home").'
        )


def _size(episode: NeonEpisode) -> int:
    return sum(array.nbytes for array in (*episode.observations.values(), episode.actions, *episode.infos.values()))
