"""benchmarks/speculation.py: who is worth it by hand, one set of episodes for all, answers that are timed."""

import sys
from pathlib import Path

import pytest
from tiny_neon import tiny_model

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import speculation

from neon_sim.model.neon_vla import NeonVLA


def _cell(successes: int, mean_ms: float, episodes: int = 100) -> dict[str, float]:
    return {"successes": successes, "episodes": episodes, "mean_ms": mean_ms}


def test_what_is_worth_it_by_hand() -> None:
    heavy = _cell(90, 20.0)
    assert speculation.verdict(heavy, _cell(88, 15.0)) == "yes: 25 % of the time saved"
    assert speculation.verdict(heavy, _cell(88, 19.0)) == "no: 5 % of the time saved"
    assert speculation.verdict(heavy, _cell(90, 24.0)) == "no: -20 % of the time saved"
    assert speculation.verdict(heavy, _cell(40, 5.0)) == "no: 75 % of the time saved, success is lost"
    assert speculation.verdict(_cell(40, 20.0), _cell(90, 10.0)).endswith("success is higher")


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
    found = speculation.play(speculation.PlayingJob(tmp_path, tuple(speculation.POLICIES), (7,)))
    assert set(found) == {"heavy", "draft", "speculative", "routed"}
    for name, (episode,) in found.items():
        assert episode.steps == 22 and len(episode.answers_ms) == 3, name  # asked at steps 0, 10 and 20
        assert min(episode.answers_ms) > 0.0
    assert found["heavy"][0].heavy == 3 and found["draft"][0].heavy == 0


def test_an_unknown_preset_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["speculation.py", "--preset", "tinny"])
    with pytest.raises(SystemExit, match="Unknown preset 'tinny'. Did you mean 'tiny'"):
        speculation.main()
