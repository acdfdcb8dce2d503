"""benchmarks/speculation.py: who is worth it by hand, tolerances by calibration, one set of episodes for all."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_neon import tiny_model

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import speculation
import speculation_report
import speculation_setups


def _cell(won: list[bool], mean_ms: float, spread_ms: float = 0.0) -> dict[str, Any]:
    times = [mean_ms + (spread_ms if i % 2 else -spread_ms) for i in range(len(won))]
    return {"won": won, "successes": sum(won), "episodes": len(won), "mean_ms": mean_ms, "episode_ms": times}


def test_what_is_worth_it_by_hand() -> None:
    verdict, heavy = speculation_report.against_heavy, _cell([True] * 200, 20.0)
    # Nobody changes sides: 1.96 sqrt(0.5 + 0.5) / 202 = 1.0 point to either side.
    assert verdict(heavy, _cell([True] * 200, 15.0)) == (
        "worth it: 25 % [25, 25] of the time saved, success +0.0 points [-1.0, +1.0]"
    )
    assert verdict(heavy, _cell([True] * 200, 19.0)).startswith("not worth it: 5 % [5, 5] of the time saved")
    assert verdict(heavy, _cell([True] * 200, 24.0)).startswith("not worth it: -20 % [-20, -20] of the time saved")
    # 14 lost: (0.5 - 14.5) / 202 = -6.9, and 1.96 sqrt(15 - 196 / 202) / 202 = 3.6 points to either side.
    lost = _cell([True] * 186 + [False] * 14, 5.0)
    assert verdict(heavy, lost) == ("not worth it: 75 % [75, 75] of the time saved, success -7.0 points [-10.6, -3.3]")
    assert verdict(lost, _cell([True] * 200, 4.0)).startswith("worth it: 20 %")


def test_what_nobody_knows_is_undecided() -> None:
    verdict = speculation_report.against_heavy
    # As many lost as won, but too many of both.
    torn = _cell([False] * 50 + [True] * 150, 5.0), _cell([True] * 150 + [False] * 50, 4.0)
    assert verdict(*torn).startswith("undecided: 20 % [20, 20] of the time saved, success +0.0 points [-9.8")
    few = _cell([True] * 4, 20.0), _cell([True] * 4, 5.0)
    assert verdict(*few).startswith("undecided: 75 %")
    # 12 of 100 ms saved, 86 more or less in every other episode: 1.96 * 86.2 / sqrt(200) = 11.9 to either side.
    wavers = _cell([True] * 200, 100.0), _cell([True] * 200, 88.0, 86.0)
    assert verdict(*wavers).startswith("undecided: 12 % [0, 24]")


def test_a_mixture_is_held_against_the_draft_alone() -> None:
    draft = _cell([True] * 200, 5.0)
    against = speculation_report.against_draft
    assert against(draft, _cell([True] * 200, 8.0)) == "dominated: +3.0 ms, success +0.0 points [-1.0, +1.0]"
    assert against(draft, _cell([True] * 200, 4.0)).startswith("undecided: -1.0 ms")
    worse = _cell([True] * 150 + [False] * 50, 5.0)
    assert against(worse, _cell([True] * 200, 8.0)).startswith("better: +3.0 ms, success +25.0 points")
    some = _cell([True] * 190 + [False] * 10, 5.0), _cell([False] * 8 + [True] * 192, 8.0)
    assert against(*some).startswith("undecided: +3.0 ms, success +1.0 points")


def test_figures_of_a_policy_by_hand() -> None:
    accepted = [3] + [0] * 4 + [1] + [0] * 10 + [1]  # of five drafts: three with no step, one with 5, one with all
    played = [
        {"success": True, "steps": 50, "answers_ms": [1.0, 3.0], "heavy": 1, "histogram": accepted},
        {"success": False, "steps": 150, "answers_ms": [5.0, 7.0], "heavy": 2, "histogram": accepted},
    ]
    cell = speculation_report.summarise(played)
    assert (cell["successes"], cell["episodes"], cell["answers"]) == (1, 2, 4)
    assert cell["mean_ms"] == 4.0 and cell["p50_ms"] == 4.0 and cell["median_steps"] == 100.0
    assert cell["heavy_share"] == 0.75 and cell["episode_ms"] == [2.0, 6.0] and sum(cell["histogram"]) == 10
    alone = speculation_report.summarise([{**one, "histogram": []} for one in played])
    rows = speculation_report.table_rows({"heavy": alone, "draft": alone, "speculative, 0.1": cell})
    assert rows[0][5:] == ["-", "-", "-"] and rows[1][-2].startswith("not worth it: 0 %") and rows[1][-1] == "-"
    assert rows[2][4:6] == ["75 %", "60 %, 20 %, 20 %"] and len(rows[2]) == len(speculation.HEADER)


def test_tolerances_are_chosen_by_what_they_spare() -> None:
    spared = {0.025: 0.0, 0.05: 0.1, 0.1: 0.5, 0.2: 0.7, 0.4: 0.95}
    assert speculation_setups.choose(spared) == [0.05, 0.1, 0.4]
    assert speculation_setups.choose(dict.fromkeys(spared, 0.0)) == [0.05, 0.4]  # the default, and the most there is
    assert speculation_setups.choose(dict.fromkeys(spared, 1.0)) == [0.025, 0.05]


def _heads(folder: Path) -> None:
    dit = {"head_type": "dit", "dit_hidden": 24, "dit_layers": 1, "dit_heads": 2}
    for name, head in (("dit", dit), ("draft", {})):
        tiny_model(folder / "backbone", head=head).save_pretrained(folder / name)


def test_both_heads_are_asked_what_came_up(tmp_path: Path) -> None:
    _heads(tmp_path)
    found = speculation_setups.calibrate(tmp_path, (100,), {**speculation.ENV, "max_steps": 22})
    assert found["questions"] == 6  # at steps 0, 10 and 20 with either head driving
    assert found["gap"]["p50"] > 0.0 and found["spread"]["p50"] > 0.0
    for check in found["checks"]:
        for row in check["tolerances"].values():
            assert sum(row["histogram"]) == 6 and row["spared"] == pytest.approx(sum(row["histogram"][10:]) / 6)
    assert found["check_time"] == min(found["checks"], key=lambda check: check["error"])["check_time"]
    assert len(speculation_setups.calibration_rows(found)) == 15
    setups = speculation_setups.setups_of(found)
    assert [name for name in setups if name.startswith("speculative")] == ["speculative, 0.05", "speculative, 0.4"]


def test_every_policy_plays_is_timed_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speculation, "ENV", {**speculation.ENV, "max_steps": 22})
    _heads(tmp_path)
    setups = speculation_setups.setups_of({"tolerances": [0.05, 100.0], "check_time": 0.5})
    job = speculation.PlayingJob(tmp_path, tmp_path, setups, (7,), {"updates": 4}, begun_at="abc")
    part = speculation.play_or_read(job)
    written = job.result.stat().st_mtime_ns
    assert speculation.play_or_read(job) == part and job.result.stat().st_mtime_ns == written
    assert part["commit"] == "abc" and part["settings"]["router"]["enter_heavy"] == 1.0
    assert set(part["made"]) == {"heavy", "draft", "routed", "speculative, 0.05", "speculative, 100"}
    found = {name: rows[0] for name, rows in part["made"].items()}
    for name, episode in found.items():
        assert episode["steps"] == 22 and len(episode["answers_ms"]) == 3, name  # asked at steps 0, 10 and 20
        assert min(episode["answers_ms"]) > 0.0
    assert found["heavy"]["heavy"] == 3 and found["draft"]["heavy"] == 0 and found["draft"]["histogram"] == []
    always = found["speculative, 100"]
    assert always["heavy"] == 0 and always["histogram"] == [0] * 16 + [3]
    summary = {name: speculation_report.summarise([row]) for name, row in found.items()}
    speculation_report.plot(summary, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5_000
    other = speculation_setups.setups_of({"tolerances": [0.1], "check_time": 0.5})
    with pytest.raises(ValueError, match="made with other settings"):
        speculation.play_or_read(replace(job, setups=other))


def test_settings_tell_the_router_the_chunking_and_the_training() -> None:
    settings = speculation.preset_settings(speculation.PRESETS["full"])
    assert settings["router"]["tracking_error"] == 0.3 and settings["real_time"]["chunking"]["execution_horizon"] == 10
    assert settings["trained"]["draft"]["training"]["updates"] == 3000 and settings["tolerances"][1] == 0.05


def test_an_unknown_preset_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["speculation.py", "--preset", "tinny"])
    with pytest.raises(SystemExit, match="Unknown preset 'tinny'. Did you mean 'tiny'"):
        speculation.main()
