"""benchmarks/speculation.py: who is worth it by hand, one set of episodes for all, answers that are timed."""

import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_neon import tiny_model

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import speculation

from neon_sim.model.neon_vla import NeonVLA


def _cell(won: list[bool], mean_ms: float) -> dict[str, Any]:
    return {"won": won, "successes": sum(won), "episodes": len(won), "mean_ms": mean_ms}


def test_what_is_worth_it_by_hand() -> None:
    heavy = _cell([True] * 200, 20.0)
    # Nobody changes sides: 1.96 sqrt(0.5 + 0.5) / 202 = 1.0 point to either side.
    assert speculation.verdict(heavy, _cell([True] * 200, 15.0)) == (
        "yes: 25 % of the time saved, success +0.0 points [-1.0, +1.0]"
    )
    assert speculation.verdict(heavy, _cell([True] * 200, 19.0)).startswith("no: 5 % of the time saved")
    assert speculation.verdict(heavy, _cell([True] * 200, 24.0)).startswith("no: -20 % of the time saved")
    # 14 lost: (0.5 - 14.5) / 202 = -6.9, and 1.96 sqrt(15 - 196 / 202) / 202 = 3.6 points to either side.
    lost = _cell([True] * 186 + [False] * 14, 5.0)
    assert speculation.verdict(heavy, lost) == "no: 75 % of the time saved, success -7.0 points [-10.6, -3.3]"
    assert speculation.verdict(lost, _cell([True] * 200, 4.0)).startswith("yes: 20 %")
    # As many lost as won, but too many of both: what nobody knows is not called equal.
    torn = _cell([False] * 50 + [True] * 150, 5.0), _cell([True] * 150 + [False] * 50, 4.0)
    assert speculation.verdict(*torn).startswith("no: 20 % of the time saved, success +0.0 points [-9.8")


def test_what_was_played_is_kept(tmp_path: Path) -> None:
    job = speculation.PlayingJob(tmp_path, ("draft",), (7, 8))
    with pytest.raises(ValueError, match="not hold a whole Neon checkpoint"):  # no heads, and nothing kept
        speculation.play_or_read(job)
    job.result.parent.mkdir()
    job.result.write_text('{"draft": [{"success": true, "steps": 9, "answers_ms": [1.5, 2.5], "heavy": 1}]}')
    assert speculation.play_or_read(job) == {"draft": [speculation.Played(True, 9, (1.5, 2.5), 1)]}


def test_figures_of_a_policy_by_hand() -> None:
    played = [speculation.Played(True, 50, (1.0, 3.0), 1), speculation.Played(False, 150, (5.0, 7.0), 2)]
    cell = speculation.summarise(played)
    assert (cell["successes"], cell["episodes"], cell["answers"]) == (1, 2, 4)
    assert cell["mean_ms"] == 4.0 and cell["p50_ms"] == 4.0 and cell["median_steps"] == 100.0
    assert cell["heavy_share"] == 0.75
    rows = speculation.table_rows({"heavy": cell, "draft": cell})
    assert rows[0][-1] == "-" and rows[1][-1].startswith("no: 0 %")
    assert len(rows[0]) == len(speculation.HEADER) and rows[0][4] == "75 %"


def test_every_policy_plays_and_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speculation, "ENV", {**speculation.ENV, "max_steps": 22})
    dit = {"head_type": "dit", "dit_hidden": 24, "dit_layers": 1, "dit_heads": 2}
    for name, head in (("heavy", dit), ("draft", {})):
        tiny_model(tmp_path / "backbone", head=head).save_pretrained(tmp_path / name)
    assert NeonVLA.from_pretrained(tmp_path / "heavy").action_head.samples
    job = speculation.PlayingJob(tmp_path, tuple(speculation.POLICIES), (7,))
    found = speculation.play_or_read(job)
    written = job.result.stat().st_mtime_ns
    assert speculation.play_or_read(job) == found and job.result.stat().st_mtime_ns == written
    assert set(found) == {"heavy", "draft", "speculative", "routed"}
    for name, (episode,) in found.items():
        assert episode.steps == 22 and len(episode.answers_ms) == 3, name  # asked at steps 0, 10 and 20
        assert min(episode.answers_ms) > 0.0
    assert found["heavy"][0].heavy == 3 and found["draft"][0].heavy == 0


def test_an_unknown_preset_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["speculation.py", "--preset", "tinny"])
    with pytest.raises(SystemExit, match="Unknown preset 'tinny'. Did you mean 'tiny'"):
        speculation.main()
