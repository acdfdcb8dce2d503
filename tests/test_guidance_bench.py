"""benchmarks/guidance.py: its figures by hand, off and on in the same episodes, its quick look writes nothing."""

import sys
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
    found = guidance.measures(_episode(home, torque, error), 0.035, ball)
    assert found["success"] == 1.0 and found["distance_cm"] == pytest.approx(3.5)
    assert found["torque_peak"] == pytest.approx(0.4) and found["torque_held"] == pytest.approx(0.4 / 7)
    assert found["jerk"] == pytest.approx(6.0 / np.sqrt(14.0), rel=0.02)  # float32 at 1/dt^3
    # The hand is a sphere of 4.2 cm about the palm's height: 1 m - 10 cm - 4.2 cm, and a few mm of offset.
    assert found["clearance_cm"] == pytest.approx(100.0 - 10.0 - 4.2, abs=3.0)


def test_an_obstacle_on_the_way_is_in_the_way() -> None:
    palm = palm_poses(joints.HOME)[0][1]
    target = palm + np.array([0.2, 0.0, 0.2])
    obstacle = guidance.obstacle_on_the_way(1, target)
    np.testing.assert_allclose(obstacle.pos, palm + np.array([0.1, 0.0, 0.1]))
    near = guidance.clearance_m(np.tile(joints.HOME, (2, 1)), Obstacle(tuple(palm), radius=0.05))
    assert near < -0.04  # a hand that is in the ball is deep in it
    assert guidance.clearance_m(np.tile(joints.HOME, (2, 1)), obstacle) > near


def test_a_change_is_that_of_paired_episodes() -> None:
    off = [{"success": 1.0, "jerk": 10.0}, {"success": 0.0, "jerk": 30.0}]
    on = [{"success": 1.0, "jerk": 9.0}, {"success": 1.0, "jerk": 27.0}]
    assert mean_interval([-1.0, -3.0]) == pytest.approx((-2.0, 1.96))  # spread sqrt(2), over sqrt(2)
    first, second = guidance.case_rows("dit", "smooth", off, on)
    assert first[:4] == ["dit", "smooth", "off", "50.0 % [9.5, 90.5] (1/2)"] and first[6] == "-"
    assert second[2] == "on" and second[6] == "-2 ± 2" and second[5].startswith("18 ±")
    assert len(first) == len(second) == len(guidance.HEADER)
    assert mean_interval([1.0]) == (1.0, np.inf)


def test_every_case_has_a_measure_and_a_loss() -> None:
    obstacle = guidance.obstacle_on_the_way(0, np.array([0.3, 0.1, 0.1]))
    for name, case in guidance.CASES.items():
        assert case.measure in guidance.MEASURES, name
        assert callable(case.loss(obstacle))
    jobs = guidance.jobs_of(guidance.PRESETS["full"], Path("run"))
    assert len({job.result for job in jobs}) == len(jobs)
    seeds = {(job.head, job.case, job.guided): [] for job in jobs}
    for job in jobs:
        seeds[job.head, job.case, job.guided] += job.seeds
    assert (
        {head for head, _, _ in seeds} == {"flow", "dit"}
        and len(seeds) == 24
        and all(len(set(found)) == len(found) == 60 for found in seeds.values())
    )
    assert len({tuple(found) for found in seeds.values()}) == 1  # off and on play the same episodes


DIT = {"head_type": "dit", "dit_hidden": 24, "dit_layers": 1, "dit_heads": 2}


@pytest.mark.parametrize("head", [{"head_type": "flow"}, DIT], ids=["flow", "dit"])
def test_an_episode_off_and_on(tmp_path: Path, head: dict[str, Any]) -> None:
    env: Any = open_reach(max_steps=24)
    policy = NeonPolicy(tiny_model(tmp_path, head=head))
    case = guidance.CASES["smooth"]
    off = guidance.play_episode(env, policy, case, False, 7)
    on = guidance.play_episode(env, policy, case, True, 7)
    assert guidance.play_episode(env, policy, case, False, 7) == off  # the guide is gone again
    assert on["jerk"] < 0.95 * off["jerk"]  # of what is sent, which safety has smoothed already
    env.close()


def test_what_was_played_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guidance, "ENV", {**guidance.ENV, "max_steps": 22})
    tiny_model(tmp_path / "backbone", head=DIT).save_pretrained(tmp_path / "dit")
    job = guidance.Job("dit", "smooth", True, tmp_path, (7,))
    (episode,) = guidance.play_or_read(job)
    assert set(episode) == {"success", *guidance.MEASURES} and np.isfinite(list(episode.values())).all()
    written = job.result.stat().st_mtime_ns
    assert guidance.play_or_read(job) == [episode] and job.result.stat().st_mtime_ns == written


def test_an_unknown_preset_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["guidance.py", "--preset", "tinny"])
    with pytest.raises(SystemExit, match="Unknown preset 'tinny'. Did you mean 'tiny'"):
        guidance.main()
