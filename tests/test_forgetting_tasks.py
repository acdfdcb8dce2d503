"""The tasks of the forgetting benchmark beside reach: what they begin with, how they are lived and judged."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neon_sim.cells import LASTING
from neon_sim.eval.regimes import REGIMES, Regime
from neon_sim.g1 import joints
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.rollout import rollout
from neon_sim.tasks.arms import palms_b
from neon_sim.tasks.wave import GESTURES
from neon_sim.training.heads import HeadTraining
from neon_sim.training.protection import EWCConfig, EWCReplayConfig, L2Config, OnlineEWCConfig, ReplayConfig
from neon_sim.training.residual_learner import ResidualLearner, ResidualLearnerConfig
from neon_sim.training.residual_model import ResidualNet
from neon_sim.training.residual_policy import ResidualPolicy
from neon_sim.training.self_learner import SelfLearnerConfig

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import forgetting
from forgetting_arms import ARMS, LEG_SPRING_BYTES, LEG_STRENGTH, PRESETS, Preset, learner_config, preset_of
from forgetting_calibrate import judging_seeds
from forgetting_gestures import (
    GestureTeaching,
    moved_gesture,
    place_of,
    record_gesture,
    swing_phase,
    teach_gestures,
)
from forgetting_job import ShardJob
from forgetting_judge import Judge
from forgetting_learners import prepare_rivals
from forgetting_legs import Babbling, begin_residual, residual_policy
from forgetting_life import Life, live_shard
from forgetting_randomised import RivalConfig
from forgetting_settings import prepare
from forgetting_stages import stages_of
from forgetting_tasks import SUBJECTS
from forgetting_world import Looks, judge, open_env

HIP = Regime("hip", "ActuatorFault", (("strength", 1.0),), "bias", ("left_hip_pitch_joint",), 0.1, 0.5, 0.1, 0.4, "rad")
TWO = (Regime("nominal"), HIP)
SHORT = Preset(
    seeds=(0,),
    first_visit=2,
    again=1,
    judged=1,
    steps=144,
    window=1,
    learner=ResidualLearnerConfig(batch_size=4, updates_per_chunk=1, fisher_samples=4),
    rival=RivalConfig(episodes=9, rounds=1),
    written=False,
)


@pytest.fixture(autouse=True)
def short_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Walks of 144 steps, 9 chunks, in this file."""
    monkeypatch.setitem(SUBJECTS, "walk", replace(SUBJECTS["walk"], steps=144, options={"max_steps": 144}))


@pytest.fixture(scope="module")
def walking(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a residual on short walks begins with."""
    folder = tmp_path_factory.mktemp("walk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SUBJECTS, "walk", replace(SUBJECTS["walk"], steps=144, options={"max_steps": 144}))
        return str(begin_residual("walk", folder / "babbled", Babbling(episodes=3, steady=2), 1))


@pytest.fixture(scope="module")
def waving() -> Iterator[Any]:
    env = open_env("wave")
    yield env
    env.close()


@pytest.mark.parametrize("task", ["wave", "stand", "walk"])
@pytest.mark.parametrize("name", PRESETS)
def test_every_task_has_as_many_steps_to_learn_and_as_many_episodes_in_a_cell(name: str, task: str) -> None:
    preset, reach = preset_of(name, task), PRESETS[name]
    assert preset.first_visit * preset.steps <= max(10_000, preset.steps)
    assert preset.first_visit * preset.steps > 0.9 * reach.first_visit * reach.steps or not preset.written
    assert preset.judged * len(preset.seeds) >= 100 or not preset.written
    assert 1 <= preset.window <= preset.again and preset.seeds == reach.seeds
    assert isinstance(preset.learner, ResidualLearnerConfig) == (task != "wave")
    on_legs = {"by_itself", "replay_by_itself", "oracle"}
    lacking: dict[str, set[str]] = {"wave": set(), "stand": on_legs, "walk": on_legs}
    assert set(reach.arms) - set(preset.arms) == lacking[task] & set(reach.arms)


def test_springs_on_the_legs_are_softer() -> None:
    preset = preset_of("full", "walk")
    configs = {
        arm: learner_config(preset, ARMS[arm], 3).protection for arm in ("ewc", "online_ewc", "ewc_replay", "l2")
    }
    assert configs["ewc"] == EWCConfig(LEG_STRENGTH) and configs["online_ewc"] == OnlineEWCConfig(LEG_STRENGTH)
    both = EWCReplayConfig(OnlineEWCConfig(LEG_STRENGTH), ReplayConfig(LEG_SPRING_BYTES))
    assert configs["ewc_replay"] == both and configs["l2"] == L2Config()
    assert 2 * 4 * sum(param.numel() for param in ResidualNet().parameters()) == LEG_SPRING_BYTES
    assert learner_config(preset_of("full", "wave"), ARMS["ewc"], 3).protection == EWCConfig()


def test_reach_is_what_it_was() -> None:
    assert all(preset_of(name, "reach") == preset for name, preset in PRESETS.items())
    with pytest.raises(ValueError, match="Did you mean 'full'"):
        preset_of("ful", "reach")
    assert set(SUBJECTS) == set(REGIMES) and {t for t, s in SUBJECTS.items() if s.lasts} == set(LASTING) & set(SUBJECTS)


def test_a_gesture_that_is_not_moved_is_the_experts(waving: Any) -> None:
    seen = set()
    for seed in range(6):
        waving.reset(seed=seed)
        truth = waving.privileged()
        gesture, hand = GESTURES[truth["gesture"]], truth["hand"]
        targets = moved_gesture(gesture, hand, np.zeros(7), waving.robot.read(), 16, 0.02)
        if not gesture.swing:
            np.testing.assert_array_equal(waving.action_map.encode(targets), waving.expert_chunk(16))
        np.testing.assert_allclose(place_of(gesture, hand, np.zeros(7)), truth["palm_pos_b"][hand])
        seen.add(truth["gesture"])
    assert len(seen) > 1 and "raise_both" not in seen  # a goal token names one hand


@pytest.mark.parametrize(
    ("yaw", "speed", "phase"), [(0.3, 2.0, 0.0), (0.5, 0.0, np.pi / 2), (0.2, -0.2 * np.pi, -2.356)]
)
def test_the_phase_of_a_swing_is_read_from_the_arm(waving: Any, yaw: float, speed: float, phase: float) -> None:
    """Its middle is at 0.3 rad of the left shoulder's yaw; 0.1 rad before it, at -0.1 rad times 2 pi Hz, an eighth."""
    waving.reset(seed=0)
    pos, vel = joints.HOME.copy(), np.zeros(29)
    left, right = joints.JOINT_INDEX["left_shoulder_yaw_joint"], joints.JOINT_INDEX["right_shoulder_yaw_joint"]
    pos[left], vel[left], pos[right], vel[right] = yaw, speed, -yaw, -speed
    state = replace(waving.robot.read(), joint_pos=pos, joint_vel=vel)
    for hand in (0, 1):
        assert swing_phase(GESTURES["wave"], hand, np.zeros(7), state) == pytest.approx(phase, abs=1e-3)


def test_what_is_taught_waves(waving: Any) -> None:
    """From the arm alone, chunk after chunk: four swings within 192 steps."""
    seed = next(seed for seed in range(20) if waving.reset(seed=seed) and waving.privileged()["gesture"] == "wave")
    waving.reset(seed=seed)
    hand = waving.privileged()["hand"]
    for _ in range(12):
        targets = moved_gesture(GESTURES["wave"], hand, np.zeros(7), waving.robot.read(), 16, 0.02)
        for action in waving.action_map.encode(targets):
            waving.step(action)
    assert waving.task.success


def test_a_moved_gesture_ends_where_its_token_says(waving: Any) -> None:
    """The right arm at the mirror image of the offset, 160 steps later, within 4 cm: motors and waist give a little."""
    waving.reset(seed=0)
    offset = np.array([0.1, 0.15, -0.1, 0.1, 0.0, 0.0, 0.0])
    place = place_of(GESTURES["offer"], 1, offset)
    posture = joints.HOME.copy()
    posture[joints.GROUPS["left_arm"]] = GESTURES["offer"].postures()[0] + offset
    np.testing.assert_allclose(place, palms_b(posture)[0] * [1.0, -1.0, 1.0], atol=2e-5)
    for _ in range(10):
        targets = moved_gesture(GESTURES["offer"], 1, offset, waving.robot.read(), 16, 0.02)
        for action in waving.action_map.encode(targets):
            waving.step(action)
    assert np.linalg.norm(palms_b(waving.robot.read().joint_pos)[1] - place) < 0.04


@pytest.mark.slow
def test_gestures_are_taught_once(tmp_path: Path) -> None:
    teaching = GestureTeaching(episodes=3, chunks=2, training=HeadTraining(epochs=1, batch_size=4))
    policy = teach_gestures(tmp_path / "taught", teaching, 1)
    rows = dict(np.load(tmp_path / "taught" / "demos" / "000000.npz"))
    assert rows["expert"].shape == (6, 16, 17) and set(rows["episode"]) == {4_000_000, 4_000_001, 4_000_002}
    when = (policy / "neon_weights.safetensors").stat().st_mtime_ns
    assert teach_gestures(tmp_path / "taught", teaching, 1) == policy
    assert (policy / "neon_weights.safetensors").stat().st_mtime_ns == when
    with pytest.raises(ValueError, match="begun with other settings"):
        teach_gestures(tmp_path / "taught", replace(teaching, episodes=4), 1)
    env, eyes, look = open_env("wave"), open_env("wave", eyes=True), NeonPolicy(NeonVLA.from_pretrained(policy))
    again = record_gesture(env, look, eyes, teaching, 4_000_001)
    for name in ("proprio", "expert", "executed", "target_pos_b"):
        np.testing.assert_array_equal(again[1][name], rows[name][3])
    env.close()
    eyes.close()


def test_the_body_is_found_out_once(walking: str) -> None:
    folder = Path(walking).parent
    when = (folder / "policy" / "residual.pt").stat().st_mtime_ns
    assert begin_residual("walk", folder, Babbling(episodes=3, steady=2), 1) == Path(walking)
    assert (folder / "policy" / "residual.pt").stat().st_mtime_ns == when
    with pytest.raises(ValueError, match="begun with other settings"):
        begin_residual("walk", folder, Babbling(episodes=4, steady=2), 1)
    episodes = np.load(folder / "babble" / "000000.npz")
    residuals = [episodes[str(i)][-1, -15:] for i in range(3)]
    assert not residuals[0].any() and not residuals[1].any() and 0.02 < np.abs(residuals[2]).max() <= 0.2


def test_a_frozen_residual_policy_is_the_walker_alone(walking: str) -> None:
    """The same walk with the residual policy as with the task's own expert, to the bit."""

    class Expert:
        def __init__(self, env: Any) -> None:
            self.env = env

        def reset(self, env_ids: list[int] | None = None) -> None: ...

        def observe(self, obs: Any, now_s: float) -> None: ...

        def act(self) -> np.ndarray:
            return self.env.expert_chunk(16)[None]

    env, plain = open_env("walk"), open_env("walk")
    policy = residual_policy(walking)
    policy.join(env)
    one, other = rollout(env, policy, seed=5), rollout(plain, Expert(plain), seed=5)
    np.testing.assert_array_equal(one.observations["proprio"], other.observations["proprio"])
    env.close()
    plain.close()


def test_walks_side_by_side_are_walks_alone_and_last_to_the_end(walking: str) -> None:
    policy, seeds = residual_policy(walking), judging_seeds(0, 1)
    torch.nn.init.normal_(policy.net.net[4].weight, std=0.5)  # type: ignore[union-attr]
    rest = ResidualPolicy(policy.net, policy.healthy)
    env = open_env("walk")
    together = Judge("walk", lambda: ResidualPolicy(policy.net, policy.healthy), together=2)
    found = together.judge(TWO, seeds)
    assert found == [judge(env, rest, regime, seeds) for regime in TWO]
    assert found == together.judge(TWO, seeds)  # from where the same walks began
    assert env.robot.read().time_s == pytest.approx(144 * 0.02) and env.robot.walker.residual.any()
    assert judge(env, rest, TWO[0], seeds).median_distance is None
    together.close()
    env.close()


@pytest.mark.parametrize("arm", ["naive", "ewc_replay", "reward", "randomised", "lr0"])
def test_arms_live_on_legs(arm: str, walking: str, tmp_path: Path) -> None:
    job = ShardJob(arm, 0, "walk", TWO, SHORT, walking, tmp_path)
    if ARMS[arm].remembers:
        prepare_rivals([job], 1)
    life = Life(job, Looks())
    assert isinstance(life.learner, ResidualLearner) and type(life.learner).__name__ == (
        "RewardedResidual" if arm == "reward" else "ResidualLearner"
    )
    fresh = residual_policy(walking).net
    assert fresh is not None
    begins_new = [torch.equal(v, life.learner.params[name].detach()) for name, v in fresh.state_dict().items()]
    assert all(begins_new) == (arm != "randomised")
    before = {name: value.detach().clone() for name, value in life.learner.params.items()}
    records = [life._stage(stage) for stage in stages_of("sequence", TWO, SHORT, 0)[:2]]
    assert [len(record["curve"]) for record in records] == [2, 2] and not life.learner.buffer
    moved = any(not torch.equal(value, before[name]) for name, value in life.learner.params.items())
    assert moved == (arm not in ("randomised", "lr0"))
    assert all(cell["median_distance"] is None and cell["episodes"] == 1 for cell in records[0]["row"])
    life.close()


def test_a_life_on_legs_is_written_and_reported(walking: str, tmp_path: Path) -> None:
    jobs = [ShardJob(arm, 0, "walk", TWO, SHORT, walking, tmp_path) for arm in ("frozen", "online_ewc")]
    prepare(jobs)
    for job in jobs:
        live_shard(job)
    table = forgetting.report(jobs, "short")
    assert "online_ewc" in table and json.loads((tmp_path / "figures.json").read_text())["task"] == "walk"


@pytest.mark.slow
@pytest.mark.parametrize("task", ["wave", "stand", "walk"])
def test_one_command_does_it_all(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forgetting.main(["--task", task, "--preset", "tiny", "--workers", "1", "--out", str(tmp_path)])
    assert "Wrote table.md" in capsys.readouterr().out and (tmp_path / "figures.json").exists()


def test_what_a_task_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="There is no arm 'oracle' for 'walk'"):
        forgetting.main(["--task", "walk", "--arms", "frozen", "oracle", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="Did you mean 'walk'"):
        forgetting.main(["--task", "walc", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists() and isinstance(PRESETS["full"].learner, SelfLearnerConfig)
