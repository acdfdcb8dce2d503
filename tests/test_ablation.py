"""The ablation's variants are what they are called; trials learn, are kept, and come out as a table and a picture."""

import importlib
import importlib.util
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tiny_neon import tiny_config, tiny_demos, tiny_model

from neon_sim.eval import ablation
from neon_sim.eval.ablation import (
    SWITCHES,
    VARIANTS,
    Trial,
    markdown,
    no_room,
    plot_ablation,
    residual_scales,
    summarise,
)
from neon_sim.eval.outcomes import kept
from neon_sim.eval.trials import (
    FIRST_DEMO_SEED,
    HELD_BACK,
    TrialTraining,
    held_back_mse,
    record_demos,
    train_trial,
    trial_model,
)
from neon_sim.model.action_heads import ActionHeadConfig, G1ActionHead
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.demos import Demos
from neon_sim.training.run_folder import claim_folder

AGENTS = Path(__file__).resolve().parents[1] / "agents"
SHORT = TrialTraining(updates=60, batch_size=32, learning_rate=3e-3)


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("agents_ablate", AGENTS / "ablate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _settings(name: str) -> dict[str, Any]:
    variant = VARIANTS[name]
    return {**variant.head, **asdict(variant.of(TrialTraining()))}


def _differing(one: str, other: str) -> set[str]:
    a, b = _settings(one), _settings(other)
    return {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)}


def test_variants_differ_in_what_they_are_called() -> None:
    assert len(VARIANTS) == 13
    assert _differing("all", "without RMSNorm") == {"use_rmsnorm"}
    assert _differing("all", "without optimizer") == {"betas", "max_grad_norm"}
    assert _differing("all", "all, soft cap 2") == {"soft_cap_value"}
    assert _differing("none", "only skip connection") == {"use_skip_connections"}
    assert _differing("all", "none") == {
        "use_relu_squared", "use_rmsnorm", "use_residual_scale", "use_skip_connections", "soft_cap_value", "betas",
        "max_grad_norm",
    }  # fmt: skip
    defaults = ActionHeadConfig()
    assert all(getattr(defaults, key) == value for key, value in VARIANTS["all"].head.items())
    assert VARIANTS["all"].of(TrialTraining()) == TrialTraining()
    for technique in set(SWITCHES) - set(ablation.NO_CHANGE):
        assert {f"without {technique}", f"only {technique}"} <= set(VARIANTS)


def test_the_soft_cap_of_one_is_the_vanilla_bound() -> None:
    chunks = []
    for cap in (SWITCHES["soft cap"][0], SWITCHES["soft cap"][1], VARIANTS["all, soft cap 2"].head):
        torch.manual_seed(0)
        head = G1ActionHead(ActionHeadConfig(hidden_size=12, mlp_hidden=16, **cap), {"arms": slice(0, 14)}).eval()
        chunks.append(head(10.0 * torch.ones(1, 12)))
    assert torch.equal(chunks[0], chunks[1]) and chunks[0].abs().max() > 0.3
    assert not torch.equal(chunks[0], chunks[2])


@pytest.mark.parametrize("variant", ["all", "none"])
def test_a_trial_learns_with_the_reader_it_was_given(tmp_path: Path, variant: str) -> None:
    shipped, demos = tiny_model(tmp_path, seed=5), tiny_demos(30)
    config = tiny_config(tmp_path, use_lidar=False, use_audio=False, head=dict(VARIANTS[variant].head))
    model = trial_model(shipped, config, seed=0)
    _, held_back = demos.split(HELD_BACK)
    fresh = held_back_mse(trial_model(shipped, config, seed=0), demos, held_back)
    figures = train_trial(model, demos, VARIANTS[variant].of(SHORT))
    assert figures["held_back_mse"] < 0.5 * fresh and figures["train_loss"] < fresh
    for given, found in zip(shipped.goal_reader.parameters(), model.goal_reader.parameters(), strict=True):
        assert torch.equal(given, found)
    scales = residual_scales(model.action_head)
    assert scales == () if variant == "none" else all(scale != 1.0 for scale in scales) and len(scales) == 2
    again = trial_model(shipped, config, seed=0)
    assert train_trial(again, demos, VARIANTS[variant].of(SHORT)) == figures  # same seed, same bits


def test_a_head_that_samples_is_tried_as_well(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, head={"head_type": "flow"})
    model = trial_model(tiny_model(tmp_path), config, seed=0)
    figures = train_trial(model, tiny_demos(10), TrialTraining(updates=5, batch_size=8))
    assert np.isfinite(list(figures.values())).all() and figures["held_back_mse"] > 0.0


def test_demonstrations_are_recorded_once_and_without_tokens(tmp_path: Path) -> None:
    env = _script().ENV | {"max_steps": 32}
    (path,) = record_demos(tmp_path / "demos", 1, env, workers=1)
    written = path.stat().st_mtime_ns
    assert record_demos(tmp_path / "demos", 1, env, workers=1) == [path] and path.stat().st_mtime_ns == written
    demos = Demos.load([path])
    assert len(demos) == 2 and demos.arrays["expert"].shape == (2, 16, 17) and "tokens" not in demos.arrays
    assert demos.arrays["pooled"].shape == (2, 160)  # the shipped backbone's width


TRIALS = (
    Trial("all", 0, 0.1, 0.002, (True, True), (0.01, 0.03), (0.5, 0.9)),
    Trial("none", 0, 0.1, 0.004, (False, False), (0.2, 0.4)),
    Trial("all", 1, 0.1, 0.003, (True, False), (0.02, 0.10), (0.7, 0.8)),
)


def test_the_table_by_hand(tmp_path: Path) -> None:
    summary = summarise(TRIALS)
    assert list(summary) == ["all", "none"]
    assert summary["all"]["successes"] == 3 and summary["all"]["episodes"] == 4
    assert summary["all"]["minus"] == {}  # none lacks a seed
    assert summary["all"]["final_distance_cm"] == pytest.approx(2.5)  # the median of 1, 2, 3 and 10 cm
    lines = markdown(summary).splitlines()
    wanted = "| all | 75.0 % [30.1, 95.4] (3/4) | 2, 1 | - | - | 2.00, 3.00 | 2.5 cm |"
    assert len(lines) == 4 and lines[2].startswith(wanted)
    assert lines[2].endswith("| 0.50 to 0.90 |") and lines[3].endswith("| 30.0 cm | - |")
    plot_ablation(summary, tmp_path / "ablation.png")
    assert (tmp_path / "ablation.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_difference_pairs_episodes_and_training_seeds() -> None:
    other = replace(TRIALS[1], seed=1, successes=(False, True))
    minus = summarise([*TRIALS[::-1], other])["all"]["minus"]["none"]  # in any order
    # Pairs none -> all: two won with seed 0; one won, one lost with seed 1. So 2 of 4, of seeds 2 of 2 and 0 of 2.
    assert minus["rate"] == 0.5 and minus["of_seeds"] == [1.0, 0.0]
    # Half an episode to each outcome: (3.5 - 1.5) / 6 and 1.959964 sqrt(5 - 4 / 6) / 6; t of one degree is 12.7062.
    assert minus["low"] == pytest.approx(1 / 3 - 1.959964 * (5 - 2 / 3) ** 0.5 / 6)
    assert minus["half_over_seeds"] == pytest.approx(12.7062 / 2, abs=1e-4)
    (row,) = (line for line in markdown(summarise([*TRIALS, other])).splitlines() if line.startswith("| none"))
    assert "| -50.0 [-100.0, +34.7] (± 635.3) | - |" in row
    assert summarise(TRIALS[:2])["none"]["minus"]["all"]["half_over_seeds"] is None  # of one seed


def test_references_without_room_are_told() -> None:
    def summary(successes: int) -> dict[str, Any]:
        return {name: {"successes": count, "episodes": 40} for name, count in (("all", successes), ("none", 20))}

    assert no_room(summary(38)) == no_room(summary(8)) == []  # 95 and 20 % themselves
    assert no_room(summary(39)) == ["'all' is at the ceiling, above 95 %: 97.5 % [87.1, 99.6] (39/40)"]
    assert no_room(summary(7)) == ["'all' is on the floor, below 20 %: 17.5 % [8.7, 31.9] (7/40)"]


def test_a_trial_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    script = _script()
    job = script.TrialJob("all", 0, script.PRESETS["tiny"], tmp_path, (tmp_path / "no_such_demos.npz",), "abc")
    with pytest.raises(FileNotFoundError):  # it would have to be trained
        script.run_trial(job)
    assert not job.result.exists()
    kept(job.result, lambda: asdict(TRIALS[0]), "abc")
    assert script.run_trial(job) == TRIALS[0]


def test_a_run_that_finds_no_room_stops_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every trial is there already, so that nothing is trained: the run reads them, and says when they were made."""
    script = _script()
    preset = script.Preset(demos=0, variants=("all", "without RMSNorm", "none"), seeds=(0,), episodes=2)
    for variant in preset.variants:
        trial = replace(TRIALS[0 if variant == "all" else 1], variant=variant)
        kept(script.TrialJob(variant, 0, preset, tmp_path, (), "").result, lambda trial=trial: asdict(trial), "abc")
    with pytest.raises(SystemExit, match="cannot show a difference. --go-on trains them"):
        script.run(preset, tmp_path, 1, "def")
    assert "'all' is at the ceiling" in capsys.readouterr().out and not (tmp_path / "results.json").exists()
    script.run(preset, tmp_path, 1, "def", go_on=True)
    record = json.loads((tmp_path / "results.json").read_text())
    assert list(record["summary"]) == list(preset.variants)
    assert record["commit"] in ("def, abc", "abc, def")  # of the demonstrations' record, and of the trials
    assert record["variants"]["without RMSNorm"]["head"]["use_rmsnorm"] is False


def test_a_folder_belongs_to_what_its_variants_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = _script()
    preset = script.PRESETS["tiny"]
    claim_folder(tmp_path / "run", script.settings_of(preset))
    claim_folder(tmp_path / "run", script.settings_of(preset))
    changed = replace(VARIANTS["none"], training={"betas": (0.9, 0.99)})
    monkeypatch.setitem(script.VARIANTS, "none", changed)  # another training under the same name
    with pytest.raises(ValueError, match="begun with other settings"):
        claim_folder(tmp_path / "run", script.settings_of(preset))


def test_no_episode_is_judged_that_was_learned_from() -> None:
    script = _script()
    preset = script.PRESETS["default"]
    judged = [seed for one in preset.seeds for seed in script.judging_seeds(preset, one)]
    assert len(set(judged)) == len(judged) == 120
    learned = range(FIRST_DEMO_SEED, FIRST_DEMO_SEED + preset.demos)
    assert set(judged).isdisjoint(learned) and set(judged).isdisjoint(range(3_000_000, 3_003_000))


def test_the_benchmark_reports_what_the_script_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(AGENTS.parent / "benchmarks"))
    benchmark = importlib.import_module("ablation")
    record = {"date": "2026-11-03", "commit": "abc1234", "summary": summarise(TRIALS), "preset": {"demos": 200}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.json").write_text(json.dumps(record))
    (tmp_path / "RESULTS.md").write_text("# Results\n")
    written = json.loads(benchmark.report(tmp_path / "run", tmp_path).read_text())
    assert (written["date"], written["commit"]) == ("2026-11-03", "abc1234")  # the run's, not this process's
    assert written["figures"]["summary"]["none"]["episodes"] == 2 and "commit" not in written["figures"]
    page = (tmp_path / "RESULTS.md").read_text()
    assert "| all | 75.0 % [30.1, 95.4] (3/4) | 2, 1 |" in page and "2026-11-03, commit abc1234" in page


@pytest.mark.slow
def test_the_tiny_preset_runs_from_end_to_end_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = _script()
    monkeypatch.setattr(
        sys, "argv", ["ablate.py", "--preset", "tiny", "--out", str(tmp_path / "run"), "--workers", "1"]
    )
    script.main()
    table = (tmp_path / "run" / "table.md").read_text()
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(record["summary"]) == {"all", "none"} and "| none |" in table
    assert f"the last trial on {record['date']}, commit {record['commit']}." in table
    assert NeonVLA.from_pretrained(tmp_path / "run" / "trials" / "all_0").config.action_head_layers == 4
    script.main()  # everything is there: it reads it and says the same
    assert (tmp_path / "run" / "table.md").read_text() == table
