"""The table that a person watches: each column by hand."""

import pytest

from neon_sim.eval.live_table import HEADER, LiveLine, format_row, phase_rows, scalars_of, success_share
from neon_sim.training.online import LifeEpisode


def _line(episode: int, faulty: bool, success: bool, **changes: object) -> LiveLine:
    given = {"residual": 0.0123, "learned_chunks": 5, "learning": True, "penalty": None, "losses": {}, **changes}
    return LiveLine(  # type: ignore[arg-type]
        "faulty" if faulty else "healthy", LifeEpisode(episode, faulty, success, 0.25, 0), **given
    )


LINES = [_line(i, False, True) for i in range(30)] + [
    _line(30 + i, True, i % 2 == 0, penalty=12.5, learning=False) for i in range(4)
]


def test_a_row_stands_under_its_header() -> None:
    row = format_row("ewc, seed 0", LINES, 130)
    assert row.split() == ["ewc,", "seed", "0", "faulty", "34/130", "50", "%", "0.0123", "off", "12.5"]
    ends = [HEADER.index(word) + len(word) for word in ("episode", "last 20", "residual", "learning", "EWC penalty")]
    assert all(row[end - 1] != " " and row[end : end + 1] in ("", " ") for end in ends)


def test_what_is_not_known_is_a_dash() -> None:
    row = format_row("naive, seed 0", [_line(0, False, False, residual=None)], 1)
    assert row.split()[-4:] == ["%", "-", "on", "-"]


def test_success_is_of_the_newest_twenty_of_the_phase() -> None:
    lines = [_line(i, False, i >= 15) for i in range(25)]
    assert success_share(lines, "healthy") == pytest.approx(10 / 20)
    assert success_share(LINES, "faulty") == pytest.approx(0.5)
    with pytest.raises(ValueError, match="'icy' has been lived"):
        success_share(LINES, "icy")


def test_one_row_for_each_phase() -> None:
    rows = phase_rows("ewc, seed 0", LINES, 130)
    assert [row.split()[3:5] for row in rows] == [["healthy", "30/130"], ["faulty", "34/130"]]


def test_scalars_leave_out_what_is_not_known() -> None:
    scalars = scalars_of(_line(0, False, True, losses={"hindsight": 0.3}))
    assert scalars == {
        "reach/final_distance_m": 0.25,
        "reach/success": 1.0,
        "learner/learned_chunks": 5.0,
        "learner/residual": 0.0123,
        "loss/hindsight": 0.3,
    }
    assert scalars_of(LINES[-1])["learner/ewc_penalty"] == 12.5
