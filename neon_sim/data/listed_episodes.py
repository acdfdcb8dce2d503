"""Episodes in a list of places: read when asked for, brought to 50 Hz, every flaw said with its file and episode."""

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from neon_sim.data.action_mapper import MappingReport
from neon_sim.data.resample import resample, resampled_steps
from neon_sim.data.source import BadEpisodeError, DataSourceConfig, EpisodeSource, Keys
from neon_sim.data.windows import check_episode
from neon_sim.episode import NeonEpisode
from neon_sim.names import nearest

RATE_HZ: Final = 50.0  # of control, and so of every episode of a soup
# What readers raise for bytes or fields that are not what they should be.
_DAMAGE: Final = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    ArithmeticError,
    IndexError,
    RuntimeError,
    SyntaxError,  # Pillow's, for a broken PNG
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

Place = TypeVar("Place")
Options = TypeVar("Options")


class ListedEpisodes(Generic[Place]):
    """One episode a place.

    Args:
        places: where the episodes lie; what `str` makes of one stands in error messages.
        measure: place -> (steps, rate in Hz), cheap.
        read: place, observations that are wanted -> episode at its own rate.
        make_report: says what is mapped, padded and dropped, where that is the same for all of them.
    """

    def __init__(
        self,
        places: Sequence[Place],
        measure: Callable[[Place], tuple[int, float]],
        read: Callable[[Place, Keys], NeonEpisode],
        make_report: Callable[[], MappingReport] | None = None,
    ) -> None:
        self.places = places
        self._measure, self._read, self._make_report = measure, read, make_report
        self._steps: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.places)

    @property
    def report(self) -> MappingReport | None:
        """What was mapped, padded and dropped; None where each episode has its own, or nothing is mapped.

        None as well where the file that it follows from is damaged, which is said when that episode is read.
        """
        try:
            return None if self._make_report is None else self._make_report()
        except _DAMAGE:
            return None

    def steps(self, index: int) -> int:
        """Length at 50 Hz. Raises BadEpisodeError for a place that cannot be measured."""
        if index not in self._steps:
            self._steps[index] = self._try(self._measured, index)
        return self._steps[index]

    def succeeded(self, index: int) -> bool:
        """Whether it says so, whatever was seen in it. Raises BadEpisodeError for one that cannot be read."""
        episode: NeonEpisode = self._try(self._read, index, ())
        return episode.success

    def episode(self, index: int, keys: Keys = None) -> NeonEpisode:
        """Read one at 50 Hz. Raises BadEpisodeError for one that cannot be learned from."""
        return check_episode(resample(self._try(self._read, index, keys), RATE_HZ), self._where(index))

    def _measured(self, place: Place) -> int:
        steps, rate_hz = self._measure(place)
        return resampled_steps(steps, rate_hz, RATE_HZ)

    def _where(self, index: int) -> str:
        return f"{self.places[index]}, episode {index}"

    def _try(self, function: Callable[..., Any], index: int, *more: Any) -> Any:
        try:
            return function(self.places[index], *more)
        except BadEpisodeError:
            raise
        except _DAMAGE as error:
            found = f"field {error} is missing" if type(error) is KeyError else str(error)
            raise BadEpisodeError(f"{self._where(index)}: {found}") from error


class JoinedEpisodes:
    """Several sources, one after another."""

    def __init__(self, sources: Sequence[EpisodeSource]) -> None:
        self.sources = sources
        self._places = [(source, index) for source in sources for index in range(len(source))]

    def __len__(self) -> int:
        return len(self._places)

    @property
    def report(self) -> MappingReport | None:
        """What was mapped, padded and dropped; None where they differ, or nothing is mapped."""
        reports = [getattr(source, "report", None) for source in self.sources]
        return reports[0] if all(report == reports[0] for report in reports) else None

    def steps(self, index: int) -> int:
        """Length at 50 Hz."""
        source, place = self._places[index]
        return source.steps(place)

    def succeeded(self, index: int) -> bool:
        """Whether it says so."""
        source, place = self._places[index]
        return source.succeeded(place)

    def episode(self, index: int, keys: Keys = None) -> NeonEpisode:
        """Read one."""
        source, place = self._places[index]
        return source.episode(place, keys)


def find_files(config: DataSourceConfig, pattern: str) -> list[Path]:
    """Files of a source in order of their paths: the path itself, or what lies below it and fits the pattern.

    Raises FileNotFoundError if there are none.
    """
    path = Path(config.path)
    if path.is_file():
        return [path]
    found = sorted(file for file in path.glob(f"**/{pattern}") if not file.name.startswith("."))
    if not found:
        raise FileNotFoundError(f"Data source {config.name!r}: no {pattern} in {path}. Download or record it first.")
    return found


def options_of(config: DataSourceConfig, kind: type[Options]) -> Options:
    """`config.options` as the dataclass that this type of source understands.

    Raises ValueError for an option that it does not know.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in config.options:
        if name not in known:
            raise nearest(f"option of data source type {config.type!r}", name, known)
    return kind(**config.options)


def read_json(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """A JSON object. Raises ValueError, naming the file, for anything else."""
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise ValueError(f"{os.fspath(path)} should hold a JSON object, it holds a {type(given).__name__}.")
    return given


def require(found: Mapping[str, Any], name: str, where: object) -> Any:
    """`found[name]`. Raises ValueError that names file, field and what is there instead."""
    if name not in found:
        raise ValueError(f"{where} has no field {name!r}; it has {sorted(found)}.")
    return found[name]
