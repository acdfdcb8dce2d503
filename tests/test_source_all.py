"""All fifteen kinds of data: each opens, says how long it is before it is read, and says what it does not know."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from source_files import ALL, source_config

from neon_sim.data.sources import SOURCES, open_source
from neon_sim.g1.action_space import G1ActionSpace


def test_there_are_fifteen() -> None:
    assert set(SOURCES) == set(ALL) and len(ALL) == 15


@pytest.mark.parametrize("kind", ALL)
def test_an_episode_is_as_long_as_was_said_and_can_be_learned_from(tmp_path: Path, kind: str) -> None:
    source = open_source(source_config(kind, tmp_path / kind))
    assert len(source) >= 1
    episode = source.episode(0)
    assert len(episode) == source.steps(0) > 10 and episode.rate_hz == 50.0
    assert np.isfinite(episode.actions).all() and np.abs(episode.actions).max() <= 1.0
    assert episode.actions.shape[1] == G1ActionSpace(episode.control_mode).dim
    assert episode.observations["proprio"].shape == (len(episode), 125)
    assert episode.observations["eef"].shape == (len(episode), 14)
    again = pickle.loads(pickle.dumps(source)).episode(0)  # as a data loader's worker gets it
    np.testing.assert_array_equal(again.actions, episode.actions)


@pytest.mark.parametrize("kind", ALL)
def test_an_option_that_it_does_not_know_is_refused(tmp_path: Path, kind: str) -> None:
    options = {**ALL[kind][1], "contol_mode": "arms_only"}
    if kind == "neon_sim":
        with pytest.raises(ValueError, match="Unknown option of data source type 'neon_sim'"):
            open_source(source_config(kind, tmp_path / kind, options=options))
        return
    with pytest.raises(ValueError, match="contol_mode'. Did you mean 'control_mode'"):
        open_source(source_config(kind, tmp_path / kind, options=options))


@pytest.mark.parametrize("kind", ALL)
def test_where_nothing_lies_the_error_says_so(tmp_path: Path, kind: str) -> None:
    (tmp_path / "empty").mkdir()
    config = source_config(kind, tmp_path / kind)
    nothing = type(config)(kind, kind, str(tmp_path / "empty"), options=config.options)
    with pytest.raises(FileNotFoundError, match="empty"):
        open_source(nothing)
