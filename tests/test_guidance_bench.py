"""benchmarks/guidance.py: its figures by hand, off and on in the same episodes, its quick look writes nothing."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_neon import open_reach, tiny_model

from neon_sim.episode import NeonEpisode
from neon_sim.eval.statistics import mean_interval
from neon_sim.g1 import joints
from neon_sim.g1.kinematics import palm_poses
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.model.collision import Obstacle

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import guidance
import guidance_cases
import guidance_report


def _figures(episode: dict[str, Any]) -> dict[str, float]:
    """Without the times, which no two episodes share."""
    return {name: value for name, value in episode.items() if name != "answers_ms"}


def _episode(joint_pos: np.ndarray, torque: np.ndarray, error: np.ndarray) -> NeonEpisode:
    """T steps with the given (T, 29) rows of proprioception."""
    steps = len(joint_pos)
    body = np.zeros((steps, 125), np.float32)
    body[:, :29], body[:, 58:87], body[:, 87:116] = joint_pos, torque, error
    ends = np.zeros(steps, dtype=bool)
    actions = np.zeros((steps, 17), np.float32)
    return NeonEpisode({"proprio": body}, actions, np.zeros(steps, np.float32), ends, ends, "touch", True)


def test_figures_of_an_episode_by_hand() -> None:
    time_s = 0.02 * np.arange(8.0)
    home = np.tile(joints.HOME, (8, 1))
    torque, error = np.zeros((8, 29)), np.zeros((8, 29))
    elbow = joints.JOINT_INDEX["left_elbow_joint"]
    torque[0], torque[3, elbow] = 25.0, -10.0  # sensed before any action; of 25 N m
    torque[3, joints.JOINT_INDEX["left_knee_joint"]] = 100.0  # a leg: not looked at
    error[:, elbow] = time_s**3  # targets whose third derivative is 6 rad/s^3, in one arm joint of 14
    palm = palm_poses(joints.HOME)[0][0]
    ball = Obstacle((palm[0], palm[1] + 1.0, palm[2]), radius=0.1)  # a metre to the left
    found = guidance_cases.measures(_episode(home, torque, error), 0.035, ball)
    assert found["success"] == 1.0 and found["distance_cm"] == pytest.approx(3.5)
    assert found["torque_peak"] == pytest.approx(0.4) and found["torque_held"] == pytest.approx(0.4 / 7)
    weak = guidance_cases.measures(_episode(home, torque, error), 0.035, ball, effort=0.4)
    assert found["saturated"] == 0.0 and weak["saturated"] == pytest.approx(1 / 7)
    assert found["jerk"] == pytest.approx(6.0 / np.sqrt(14.0), rel=0.02)  # float32 at 1/dt^3
    # The hand is a sphere of 4.2 cm about the palm's height: 1 m - 10 cm - 4.2 cm, and a few mm of offset.
    assert found["clearance_cm"] == pytest.approx(100.0 - 10.0 - 4.2, abs=3.0)


def test_an_obstacle_on_the_way_is_in_the_way() -> None:
    palm = palm_poses(joints.HOME)[0][1]
    target = palm + np.array([0.2, 0.0, 0.2])
    obstacle = guidance_cases.obstacle_on_the_way(1, target)
    np.testing.assert_allclose(obstacle.pos, palm + np.array([0.1, 0.0, 0.1]))
    near = guidance_cases.clearance_m(np.tile(joints.HOME, (2, 1)), Obstacle(tuple(palm), radius=0.05))
    assert near < -0.04  # a hand that is in the ball is deep in it
    assert guidance_cases.clearance_m(np.tile(joints.HOME, (2, 1)), obstacle) > near


def test_a_change_is_that_of_paired_episodes() -> None:
    times = {"answers_ms": [2.0, 4.0, 9.0]}
    off = [{"success": 1.0, "jerk": 10.0, **times}, {"success": 0.0, "jerk": 30.0, **times}]
    on = [{"success": 1.0, "jerk": 9.0, **times}, {"success": 1.0, "jerk": 27.0, **times}]
    assert mean_interval([-1.0, -3.0]) == pytest.approx((-2.0, 1.96))  # spread sqrt(2), over sqrt(2)
    (row,) = guidance_report.case_rows("dit", "smooth", off, on)
    assert row[:4] == ["dit", "smooth", "reached", "50.0 % [9.5, 90.5] (1/2)"]
    # One of two won: (1.5 - 0.5) / 4 = 25, and 1.96 sqrt(2 - 1 / 4) / 4 = 64.8 points to either side.
    assert row[5] == "+50.0 [-39.8, +89.8]" and row[8].startswith("18 ±")
    assert row[9:] == ["-2 ± 2", "4.0 / 4.0"] and len(row) == len(guidance.HEADER)
    assert mean_interval([1.0]) == (1.0, np.inf)


def test_what_counts_by_an_obstacle_is_a_reach_without_contact() -> None:
    def row(success: float, clearance: float) -> dict[str, Any]:
        return {"success": success, "clearance_cm": clearance, "answers_ms": [1.0]}

    off, on = [row(1.0, -2.0), row(1.0, 0.5)], [row(1.0, 1.0), row(0.0, 1.0)]
    first, second = guidance_report.case_rows("flow", "collision", off, on)
    assert first[2] == "reached without contact" and [cell[-5:] for cell in first[3:5]] == ["(1/2)", "(1/2)"]
    assert second[2] == "reached" and [cell[-5:] for cell in second[3:5]] == ["(2/2)", "(1/2)"]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    row = {"success": 1.0, "jerk": 3.0, "answers_ms": [1.0]}
    guidance_report.plot({("flow", "smooth", guided): [row, row] for guided in (False, True)}, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5_000


def test_every_case_has_a_measure_and_a_loss() -> None:
    obstacle = guidance_cases.obstacle_on_the_way(0, np.array([0.3, 0.1, 0.1]))
    for name, case in guidance.CASES.items():
        assert case.measure in guidance_cases.MEASURES, name
        assert set(case.outcomes) <= set(guidance_cases.OUTCOMES), name
        assert callable(case.loss(obstacle))
    jobs = guidance.jobs_of(guidance.PRESETS["full"], Path("run"), Path("heads"))
    assert len({job.result for job in jobs}) == len(jobs)
    seeds = {(job.head, job.case, job.guided): [] for job in jobs}
    for job in jobs:
        seeds[job.head, job.case, job.guided] += job.seeds
    assert (
        {head for head, _, _ in seeds} == {"flow", "dit"}
        and len(seeds) == 32
        and all(len(set(found)) == len(found) == 60 for found in seeds.values())
    )
    assert len({tuple(found) for found in seeds.values()}) == 1  # off and on play the same episodes


def test_weak_motors_give_no_more_than_they_have_and_keep_their_gains(tmp_path: Path) -> None:
    env: Any = open_reach(max_steps=12)
    policy = NeonPolicy(tiny_model(tmp_path))
    gains = env.world.model.actuator_gainprm[:, 0].copy()
    nominal = guidance.play_episode(env, policy, guidance.CASES["torque"], False, 7)
    weak = guidance.play_episode(env, policy, guidance.CASES["weak motors"], False, 7)
    share = guidance_cases.WEAK_SHARE
    assert nominal["torque_peak"] > share and weak["torque_peak"] == pytest.approx(share, rel=1e-5)
    assert nominal["saturated"] < weak["saturated"]
    np.testing.assert_array_equal(env.world.model.actuator_gainprm[:, 0], gains)
    again = guidance.play_episode(env, policy, guidance.CASES["torque"], False, 7)
    assert _figures(again) == _figures(nominal)  # a reset heals
    env.close()


def test_settings_tell_every_number_of_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    before = guidance.settings_of(guidance.PRESETS["full"])
    feasible = before["cases"]["payload, feasible"]
    assert feasible["load_kg"] == 1.5 and "fraction=0.4" in feasible["rule"]
    assert before["cases"]["weak motors"]["arm_effort"] == 0.35
    assert before["trained"]["dit"]["training"]["updates"] == 1500 and before["env"]["physics_dt"] == 0.005
    for name, value in (("TORQUE_SHARE", 0.3), ("WEAK_SHARE", 0.3), ("RADIUS_M", 0.04)):
        with monkeypatch.context() as changed:
            changed.setattr(guidance_cases, name, value)
            changed.setattr(guidance, name, value, raising=False)
            assert guidance.settings_of(guidance.PRESETS["full"]) != before, name


DIT = {"head_type": "dit", "dit_hidden": 24, "dit_layers": 1, "dit_heads": 2}


@pytest.mark.parametrize("head", [{"head_type": "flow"}, DIT], ids=["flow", "dit"])
def test_an_episode_off_and_on(tmp_path: Path, head: dict[str, Any]) -> None:
    env: Any = open_reach(max_steps=24)
    policy = NeonPolicy(tiny_model(tmp_path, head=head))
    case = guidance.CASES["smooth"]
    off = _figures(guidance.play_episode(env, policy, case, False, 7))
    on = _figures(guidance.play_episode(env, policy, case, True, 7))
    assert _figures(guidance.play_episode(env, policy, case, False, 7)) == off  # the guide is gone again
    assert on["jerk"] < 0.95 * off["jerk"]  # of what is sent, which safety has smoothed already
    env.close()


def test_what_was_played_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guidance, "ENV", {**guidance.ENV, "max_steps": 22})
    tiny_model(tmp_path / "backbone", head=DIT).save_pretrained(tmp_path / "dit")
    job = guidance.Job("dit", "smooth", True, tmp_path, tmp_path, (7,), {"updates": 4}, begun_at="abc")
    part = guidance.play_or_read(job)
    (episode,) = part["made"]
    assert set(episode) == {"success", "seed", "answers_ms", *guidance_cases.MEASURES} and part["commit"] == "abc"
    assert len(episode["answers_ms"]) == 2 and np.isfinite(list(_figures(episode).values())).all()
    written = job.result.stat().st_mtime_ns
    assert guidance.play_or_read(job) == part and job.result.stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="made with other settings"):
        guidance.play_or_read(replace(job, trained={"updates": 5}))


def test_an_unknown_preset_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["guidance.py", "--preset", "tinny"])
    with pytest.raises(SystemExit, match="Unknown preset 'tinny'. Did you mean 'tiny'"):
        guidance.main()
