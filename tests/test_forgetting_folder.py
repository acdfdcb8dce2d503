"""The folder of a forgetting run: lives that fail, and shards of other settings or code."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_neon import tiny_model

from neon_sim.eval.regimes import Regime
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.online import save_forward_model
from neon_sim.training.self_learner import SelfLearnerConfig

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import forgetting
import forgetting_settings
from forgetting_arms import Preset
from forgetting_code import life_code, said_by
from forgetting_failures import live_all
from forgetting_job import ShardJob
from forgetting_looks import look_at_all
from forgetting_settings import prepare
from forgetting_shards import read_shard
from forgetting_shipped import ship, take_shipped

BIAS = Regime("bias", "ActuatorFault", (("strength", 1.0),), "bias", ("left_elbow_joint",), 0.1, 0.5, 0.1, 0.4, "rad")
SHORT = Preset(
    arms=("frozen", "lr0"),
    seeds=(0,),
    first_visit=1,
    again=1,
    judged=1,
    steps=16,
    window=1,
    learner=SelfLearnerConfig(practice_noise_m=0.03, batch_size=2, updates_per_chunk=1, fisher_samples=4),
    written=False,
)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random policy with its forward model."""
    folder = tmp_path_factory.mktemp("pretrained")
    model = tiny_model(folder / "backbone")
    model.save_pretrained(folder / "policy")
    torch.manual_seed(3)
    save_forward_model(ForwardModel.for_model(model), folder / "policy")
    return str(folder / "policy")


def _jobs(policy: str, out: Path) -> list[ShardJob]:
    return [ShardJob(arm, 0, "reach", (Regime("nominal"), BIAS), SHORT, policy, out) for arm in ("lr0", "frozen")]


def test_a_life_that_fails_ends_no_other_and_is_gone_on_with(policy: str, tmp_path: Path) -> None:
    """The first life's state is damaged: it is told where and why, the second one is written, nothing is reported."""
    damaged, sound = _jobs(policy, tmp_path)
    damaged.state_path.parent.mkdir()
    damaged.state_path.write_bytes(b"half a state")
    with pytest.raises(SystemExit) as ended:
        forgetting.run([damaged, sound], "short", 1)
    told = str(ended.value)  # a text: the exit status is 1
    assert told.startswith("1 of 2 lives failed") and "run the same command again" in told
    assert f"{damaged.failure_path}: ValueError: {damaged.state_path} is no whole learning state" in told
    assert "Traceback" in damaged.failure_path.read_text() and damaged.failure_path.name == "lr0_0.txt"
    assert sound.path.exists() and not damaged.path.exists() and not (tmp_path / "table.md").exists()
    written = sound.path.stat().st_mtime_ns
    damaged.state_path.unlink()
    forgetting.run([damaged, sound], "short", 1)
    assert damaged.path.exists() and not damaged.failure_path.exists() and (tmp_path / "table.md").exists()
    assert sound.path.stat().st_mtime_ns == written
    live_all([damaged, sound], 1)  # nothing is missing


def test_failures_in_other_processes_are_told_all_at_once(policy: str, tmp_path: Path) -> None:
    jobs = _jobs(str(tmp_path / "nowhere"), tmp_path)
    with pytest.raises(SystemExit, match="2 of 2 lives failed"):
        live_all(jobs, 2)
    assert all("Traceback" in job.failure_path.read_text() for job in jobs)


def test_ctrl_c_is_no_failure(policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = _jobs(policy, tmp_path)
    look_at_all(jobs[0], 1)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("forgetting_life.Life._tell", stop)  # where somebody presses it
    with pytest.raises(KeyboardInterrupt):
        live_all(jobs, 1)
    assert not (tmp_path / "failed").exists() and jobs[0].state_path.exists()


def test_only_shards_of_the_folders_settings_are_read(policy: str, tmp_path: Path) -> None:
    """One from another folder, one from before shards said whose they are, one that nobody has settings of."""
    (job,), (other,) = _jobs(policy, tmp_path / "one")[1:], _jobs(policy, tmp_path / "other")[1:]
    other = replace(other, preset=replace(SHORT, steps=32))
    for one in (job, other):
        prepare([one])
        look_at_all(one, 1)
        live_all([one], 1)
    own = job.path.read_text()
    assert read_shard(job) == json.loads(own)
    with pytest.raises(FileNotFoundError):
        read_shard(replace(job, seed=1))
    job.path.write_text(other.path.read_text())
    with pytest.raises(ValueError, match="one/shards/frozen_0.json was lived with other settings or code than"):
        forgetting.gather([job])
    with pytest.raises(ValueError, match="other settings or code"):
        prepare([job])  # before anything is lived beside it
    old = {name: value for name, value in json.loads(own).items() if name != "settings"}
    job.path.write_text(json.dumps(old))
    with pytest.raises(ValueError, match="from before shards said which settings and code"):
        forgetting.report([job], "short")
    job.path.write_text(own)
    prepare([job])
    job.settings_path.unlink()
    with pytest.raises(ValueError, match="frozen.json is missing"):
        forgetting.report([job], "short")


def test_lives_in_the_repository_are_taken_while_settings_and_code_are_the_same(policy: str, tmp_path: Path) -> None:
    """One of two is finished and shipped; whoever begins anew elsewhere has it, and who lives otherwise has not."""
    (begun, done), lives = _jobs(policy, tmp_path / "out"), tmp_path / "lives"
    prepare([begun, done])
    look_at_all(done, 1)
    live_all([done], 1)
    assert ship([begun, done], lives) == 1
    elsewhere = [replace(job, out=tmp_path / "elsewhere") for job in (begun, done)]
    prepare(elsewhere)
    assert take_shipped(elsewhere, lives) == 1 and take_shipped(elsewhere, lives) == 0
    assert read_shard(elsewhere[1]) == read_shard(done) and not elsewhere[0].path.exists()
    otherwise = replace(done, out=tmp_path / "otherwise", preset=replace(SHORT, steps=32))
    assert take_shipped([otherwise], lives) == 0


def test_a_folder_of_other_code_is_refused(policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = _jobs(policy, tmp_path)
    prepare(jobs)
    code = life_code("reach")
    assert json.loads(jobs[0].settings_path.read_text())["code"] == code
    assert {len(digest) for digest in code.values()} == {12} and life_code("wave")["package"] != code["package"]
    monkeypatch.setattr(forgetting_settings, "life_code", lambda _: code | {"package": "another"})
    for some in (jobs, [replace(jobs[0], arm="naive")]):  # nor is another arm lived beside those
        with pytest.raises(SystemExit, match="begun with other settings for the arm 'frozen': code"):
            prepare(some)


def test_what_code_does_counts_and_what_is_said_of_it_does_not() -> None:
    plain = 'def f(x: int) -> int:\n    """Says this."""\n    return x + 1\n'
    assert said_by([plain]) == said_by([plain.replace("Says this.", "Says\n    that.") + "# and this\n"])
    assert len({said_by([plain]), said_by([plain.replace("+ 1", "+ 2")]), said_by([plain, plain])}) == 3
