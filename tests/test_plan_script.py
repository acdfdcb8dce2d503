"""agents/plan.py: what flags mean, what is refused before anything is played, and what its figures say they are of."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from neon_sim.world_model import judging
from neon_sim.world_model.amortised import AmortisedConfig, AmortisedHead
from neon_sim.world_model.bundle import Bundle, save_bundle
from neon_sim.world_model.config import lewm_config
from neon_sim.world_model.controllers import PlanningConfig
from neon_sim.world_model.judging import FIRST_SEED
from neon_sim.world_model.lewm import LeWM
from neon_sim.world_model.played import fingerprint
from neon_sim.world_model.problems import NoProblemError, find_problem
from neon_sim.world_model.readout import Readout


def _loaded() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "agents" / "plan.py"
    spec = importlib.util.spec_from_file_location("agents_plan", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


script = _loaded()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    head = AmortisedHead(AmortisedConfig(dim=32, action_dim=6)).eval()
    bundle = Bundle("reach", LeWM(lewm_config("tiny", action_dim=6)).eval(), Readout.empty(32).eval(), amortised=head)
    save_bundle(bundle, tmp_path / "world_model")
    return tmp_path / "world_model"


def _run(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr(sys, "argv", ["plan.py", "--preset", "tiny", *flags])
    script.main()


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (("--samples", "1"), "--samples must be at least 2, got 1"),
        (("--goal-steps", "0"), "--goal-steps must be at least 1, got 0"),
        (("--horizon", "2", "--hold", "1", "--execute", "3"), "--execute must be at most the plan's 2 model steps"),
        (("--episodes", "0"), "--episodes must be at least 1, got 0"),
        (("--goal", "imge"), "Did you mean 'image'"),
    ],
)
def test_a_number_that_makes_no_sense_is_named_by_its_flag(
    flags: tuple[str, ...], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=match):
        _run(monkeypatch, *flags)


@pytest.mark.parametrize(
    ("flags", "budget"),
    [
        ((), 20),  # the preset's
        (("--goal-steps", "50"), 100),
        (("--goal-steps", "50", "--budget-steps", "60"), 60),
    ],
)
def test_a_goal_may_take_twice_its_time(flags: tuple[str, ...], budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    monkeypatch.setattr(script, "play", lambda config, episodes, args: found.append(config))
    _run(monkeypatch, *flags)
    assert found[0].budget_steps == budget


def test_prefixes_of_a_model_that_learned_none_are_refused_before_anything_is_played(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "each_problem", lambda *given: pytest.fail("played"))
    with pytest.raises(SystemExit, match=r"train_world_model.py --task TASK --prefix"):
        _run(monkeypatch, "--model", str(model), "--prefix", "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("planner", ["cem", "amortised"])
def test_figures_say_what_they_are_of(
    planner: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(env: Any, space: Any, seed: int, *given: Any, **named: Any) -> Any:
        if seed == FIRST_SEED + 300_000:  # the first of --seed 3
            raise NoProblemError("nothing moved")
        return find_problem(env, space, seed, *given, **named)

    monkeypatch.setattr(judging, "find_problem", lost)
    flags = ("--planner", planner, "--seed", "3", "--episodes", "2", "--model", str(model))
    _run(monkeypatch, *flags, "--out", str(tmp_path / "out"))
    found = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert (found["episodes"], found["without_a_problem"], found["seed"]) == (1, 1, 3)
    assert found["config"]["goal"] == ("observation" if planner == "amortised" else "state")
    assert found["weights"] == fingerprint(model) and found["model"] == str(model)
    assert len(found["date"]) == 10 and "commit" in found and found["decide_ms_p50"] > 0.0
    monkeypatch.setattr(judging, "find_problem", lambda *given, **named: lost(None, None, FIRST_SEED + 300_000))
    with pytest.raises(SystemExit, match="Of 2 episodes none had a problem. nothing moved"):
        _run(monkeypatch, *flags, "--out", str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_late_decisions_are_counted() -> None:
    rows = [{"decide_ms": [40.0, 120.0]}, {"no_problem": "none"}, {"decide_ms": [201.0, 199.0]}]
    assert script.punctuality(rows, PlanningConfig()) == {"decisions": 4, "late_decisions": 3, "due_ms": 100.0}
    assert script.punctuality(rows, PlanningConfig(execute=2))["late_decisions"] == 1
