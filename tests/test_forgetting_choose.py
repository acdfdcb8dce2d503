"""Settings are chosen on short lives: what is lived, what is chosen, what is said of each loss."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_neon import tiny_model

from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.online import save_forward_model

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import forgetting_choose
import forgetting_strength
from forgetting_arms import CANDIDATES
from forgetting_choose import HEADER, choose, figures_of, rows_of


def _shard(after: list[list[str]]) -> dict[str, Any]:
    rows = [["1" * 8, *["0" * 8] * (len(after[0]) - 1)], *after]
    return {"seed": 100, "stages": [{"row": [{"outcomes": cell} for cell in row]} for row in rows]}


def test_the_best_mean_of_both_stages_is_chosen_and_losses_are_compared_with_all_of_them() -> None:
    """Success of 8 episodes on nominal and in the bias, after the bias and at the end."""
    good, half, none = "1" * 8, "1" * 4 + "0" * 4, "0" * 8
    shards = {
        "l2_1": [_shard([[half, half], [good, half]])],
        "l2_10": [_shard([[good, half], [good, half]])],
        "decay_0.9": [_shard([[good, good], [good, half]])],
        "share_1": [_shard([[none, none], [none, none]])],
        "least_6": [_shard([[good, good], [good, half]])],
        "rate_0.33": [_shard([[good, good], [good, good]])],
        "eps_1e-05": [_shard([[half, half], [good, half]])],
        "no_outcome": [_shard([[none, half], [none, half]])],
        "no_coherence": [_shard([[good, good], [good, half]])],
        "no_consistency": [_shard([[good, good], [good, good]])],
    }
    found = figures_of(shards)
    assert found["scores"] == pytest.approx(
        dict(zip(shards, (0.625, 0.75, 0.875, 0.0, 0.875, 1.0, 0.625, 0.25, 0.875, 1.0), strict=True))
    )
    assert found["chosen"] == {
        "l2": "l2_10",
        "decay": "decay_0.9",
        "share": "share_1",
        "least": "decay_0.9",  # no better than as it is
        "rate": "rate_0.33",
        "eps": "decay_0.9",
    }
    assert found["said"][:4] == ["l2: l2_10.", "decay: as it is.", "share: share_1.", "least: as it is."]
    assert "outcome: +62.5 points" in found["said"][6] and found["said"][6].endswith("helps.")
    assert found["said"][7] == "coherence: +0.0 points [+0.0, +0.0]: no help seen."
    assert "consistency: -12.5 points" in found["said"][8]
    rows = rows_of(found)
    assert rows[1] == ["l2 10", "75.0", "100.0", "50.0", "100.0", "50.0"] and len(rows[0]) == len(HEADER)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A random policy with its forward model."""
    model, folder = tiny_model(tmp_path / "backbone"), tmp_path / "policy"
    model.save_pretrained(folder)
    torch.manual_seed(3)
    save_forward_model(ForwardModel.for_model(model), folder)
    return folder


def test_short_lives_are_lived_once(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: CANDIDATES[name] for name in ("l2_1", "decay_0.9", "share_1", "no_outcome")}
    monkeypatch.setattr(forgetting_choose, "CANDIDATES", few)
    monkeypatch.setattr(forgetting_choose, "SEEDS", (100,))
    found = choose("reach", policy, False, tmp_path / "out", 1, "tiny")
    assert set(found["scores"]) == set(few) and len(found["said"]) == 7
    shards = sorted((tmp_path / "out" / "shards").glob("*.json"))
    when = [path.stat().st_mtime_ns for path in shards]
    assert len(shards) == 4 and choose("reach", policy, False, tmp_path / "out", 1, "tiny") == found
    assert [path.stat().st_mtime_ns for path in shards] == when
    with pytest.raises(ValueError, match="not for 'walk': take reach or wave"):
        choose("walk", policy, False, tmp_path / "out", 1, "tiny")


def test_the_strength_with_the_best_ends_of_its_stages_is_chosen_and_of_equal_ones_the_stronger() -> None:
    """Success of 8 episodes on nominal, under a load and in a bias, after each stage but the first."""
    good, half, none = "1" * 8, "1" * 4 + "0" * 4, "0" * 8
    names, home = {"regimes": ["nominal", "payload", "bias"]}, [good, none, none]

    def life(payload: list[str], bias: list[str]) -> list[dict[str, Any]]:
        """Both visits end alike; what stands after nominal counts nowhere."""
        return [_shard([payload, bias, home, payload, bias]) | names]

    shards = {
        "strength_30000": life([half, good, none], [half, none, good]),
        "strength_100000": life([good, half, none], [good, none, half]),
        "strength_300000": life([good, half, good], [good, half, half]),
        "l2_strength_1000": life([good, half, good], [good, none, none]),
        "beside_frozen": life([good, good, none], [good, none, good]),
    }
    found = forgetting_strength.figures_of(shards)
    assert found["cells"]["strength_30000"] == [[0.5, 1.0], [0.5, 1.0]] * 2
    assert found["scores"] == pytest.approx(dict(zip(shards, (0.75, 0.75, 0.75, 0.625, 1.0), strict=True)))
    assert found["chosen"] == {"online EWC": 3e5, "L2": 1e3}  # frozen is beside them, and has no strength
    shards["strength_100000"] = life([good, good, none], [good, none, half])
    found = forgetting_strength.figures_of(shards)
    assert found["chosen"]["online EWC"] == 1e5
    rows = forgetting_strength.rows_of(found)
    assert rows[1] == ["strength 100000", "87.5", *["100.0", "100.0", "100.0", "50.0"] * 2]
    header = forgetting_strength.header_of(names["regimes"])
    assert len(header) == len(rows[0]) and header[-1] == "bias again after it"


def test_strengths_are_lived_through_the_regimes_that_count(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: forgetting_strength.STRENGTHS[name] for name in ("strength_100000", "beside_frozen")}
    monkeypatch.setattr(forgetting_strength, "STRENGTHS", few)
    monkeypatch.setattr(forgetting_strength, "SEEDS", (100,))
    arguments = (policy, False, tmp_path / "out", 1, "tiny")
    found = forgetting_strength.choose_strength("reach", *arguments)
    assert found["regimes"] == ["nominal", "payload", "weak_motor", "actuator_bias"]
    assert len(found["cells"]["strength_100000"]) == 6 and found["chosen"] == {"online EWC": 1e5, "L2": None}
    assert forgetting_strength.choose_strength("reach", *arguments) == found  # nothing is lived twice
    for task in ("stand", "walk"):
        with pytest.raises(ValueError, match=f"calibrated regimes, not for '{task}': take reach"):
            forgetting_strength.choose_strength(task, *arguments)
