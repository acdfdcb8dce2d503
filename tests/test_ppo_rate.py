"""The training's rates: the peer steps the same world, medians are medians, and a quick look writes nothing."""

import sys
from pathlib import Path

import numpy as np
import pytest

from neon_sim.locomotion.stepper import ACTION_SIZE

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package

import ppo_rate
from ppo_rate import PRESETS, Preset, WalkVecEnv, compare, make_world, measure

SMALL = Preset(count=4, horizon=2, rounds=1, models=2)


def test_the_peer_sees_and_gets_what_the_world_gives():
    env, world = WalkVecEnv(make_world(SMALL, 1)), make_world(SMALL, 1)
    np.testing.assert_array_equal(env.reset(), world.observe()[0].astype(np.float32))
    rng, ended = np.random.default_rng(0), 0
    for _ in range(60):
        action = rng.normal(0.0, 1.5, (4, ACTION_SIZE)).astype(np.float32)
        observation, reward, done, infos = env.step(action)
        outcome = world.step(action.astype(np.float64))
        np.testing.assert_array_equal(observation, world.observe()[0].astype(np.float32))
        np.testing.assert_array_equal(reward, outcome.reward.astype(np.float32))
        np.testing.assert_array_equal(done, outcome.fell | outcome.timed_out)
        assert infos == [{}] * 4 and infos[0] is not infos[1]
        ended += int(done.sum())
    assert ended > 0 and env.observation_space.contains(observation[0])
    env.close()
    world.close()


@pytest.mark.parametrize("run", [ppo_rate.physics_rounds, ppo_rate.world_rounds, ppo_rate.our_rounds])
def test_a_round_says_how_many_steps_it_took(run):
    one_round = run(SMALL, 1)
    assert [one_round(), one_round()] == [8, 8]


def test_a_round_of_the_peer_is_one_batch():
    one_round = ppo_rate.their_rounds(SMALL, 1, 1)
    assert [one_round(), one_round()] == [8, 8]


def test_rates_are_medians_in_turns_without_the_first_round():
    now, order = 0.0, []
    durations = {"a": iter([99.0, 1.0, 2.0, 4.0]), "b": iter([99.0, 10.0, 10.0, 5.0])}

    def run(name: str) -> ppo_rate.Round:
        def one_round() -> int:
            nonlocal now
            now += next(durations[name])
            order.append(name)
            return 100

        return one_round

    rates = measure({"a": run("a"), "b": run("b")}, rounds=3, clock=lambda: now)
    assert rates == {"a": 50.0, "b": 10.0} and "".join(order) == "ab" * 4


def test_ratios_are_to_the_physics_and_to_the_faster_peer():
    rates = {"mujoco.rollout": 40.0, "our PPO": 20.0, "stable-baselines3 x": 5.0, "stable-baselines3 y": 8.0}
    assert compare(rates) == [
        ["mujoco.rollout", "40", "1.00", "5.00"],
        ["our PPO", "20", "0.50", "2.50"],
        ["stable-baselines3 x", "5", "0.12", "0.62"],
        ["stable-baselines3 y", "8", "0.20", "1.00"],
    ]


def test_a_quick_look_prints_and_writes_nothing(monkeypatch, capsys):
    def written(*_: object) -> None:
        raise AssertionError("only the full preset writes")

    monkeypatch.setattr(ppo_rate, "write_report", written)
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    ppo_rate.main(["--preset", "tiny", "--threads", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[2].startswith("| mujoco.rollout |")
    assert lines[5].startswith("| stable-baselines3 PPO, 1 torch thread |")
    monkeypatch.setitem(PRESETS, "full", SMALL)
    ppo_rate.main(["--threads", str(ppo_rate.cpu_count() + 1)])  # not the machine as it is
    with pytest.raises(AssertionError, match="only the full preset"):
        ppo_rate.main([])
    with pytest.raises(SystemExit):
        ppo_rate.main(["--preset", "tinny"])
    assert "Did you mean 'tiny'" in capsys.readouterr().err
