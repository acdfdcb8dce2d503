"""Command spaces: what the numbers mean, that the robot does it, and that recorded rollouts are what happened."""

from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.g1 import joints
from neon_sim.g1.kinematics import palm_poses
from neon_sim.tasks import push_box
from neon_sim.tasks.arms import SHOULDERS_B
from neon_sim.world_model import command_space as commands
from neon_sim.world_model.command_space import COMMAND_SPACES, arm_posture, carry_out, command_space, palm_command
from neon_sim.world_model.dataset import Rollouts
from neon_sim.world_model.rollouts import (
    Behaviour,
    RolloutConfig,
    missing,
    mixed_for,
    record_episode,
    save_shard,
    shards_of,
)
from neon_sim.world_model.worlds import (
    base_pose,
    from_base,
    in_world,
    moment,
    object_names,
    object_places,
    open_world,
    outcome,
    step_world,
)

CONFIG = RolloutConfig("reach", episodes=3, steps=4, image_size=32, shard_episodes=2)


@pytest.fixture(scope="module")
def reach_env() -> Any:
    env = open_world("reach", 32)
    yield env
    env.close()


@pytest.fixture(scope="module")
def walking_env() -> Any:
    env = open_world("navigate", 32)
    yield env
    env.close()


def test_units_are_the_boxes_ends_and_middle() -> None:
    space = command_space("navigate")
    assert space.to_units(np.array([1.0, -1.0, 0.0])) == pytest.approx([0.5, -0.2, 0.0])
    assert space.to_units(np.array([9.0, -9.0, 9.0])) == pytest.approx([0.5, -0.2, 0.8])
    assert space.from_units(np.array([0.15, 0.0, 0.8])) == pytest.approx([0.0, 0.0, 1.0])


@given(st.sampled_from(sorted(COMMAND_SPACES)), st.data())
def test_units_and_back(task: str, data: st.DataObject) -> None:
    space = command_space(task)
    command = np.array(data.draw(st.lists(st.floats(-1, 1), min_size=space.dim, max_size=space.dim)))
    assert space.from_units(space.to_units(command)) == pytest.approx(command, abs=1e-9)


def test_an_unknown_task_and_a_wrong_width_are_named() -> None:
    with pytest.raises(ValueError, match="Unknown task to plan 'push_bix'. Did you mean 'push_box'"):
        command_space("push_bix")
    with pytest.raises(ValueError, match="width 3"):
        carry_out(command_space("navigate"), np.zeros(2), np.zeros(125))


def test_what_is_written_twice_is_equal() -> None:
    assert np.array_equal(push_box._PUSHING, commands._PUSHING)
    assert np.array_equal(SHOULDERS_B, commands._SHOULDERS_B)
    assert command_space("navigate").posture == tuple(joints.HOME[15:22].tolist())


@pytest.mark.parametrize("hand", [0, 1])
def test_an_arm_goes_where_it_is_told(hand: int) -> None:
    side = 1.0 if hand == 0 else -1.0
    posture = joints.HOME.copy()
    arm = arm_posture(hand, 0.28, 0.05 * side, 0.15)
    assert arm is not None
    posture[joints.GROUPS["left_arm" if hand == 0 else "right_arm"]] = arm
    assert palm_poses(posture)[0][hand] == pytest.approx([0.28, 0.05 * side, 0.15], abs=2e-3)


def test_a_point_out_of_reach_becomes_the_nearest_on_its_line() -> None:
    far = commands.reachable_point(0, np.array([2.0, 0.10, 0.29]))
    assert far == pytest.approx([0.385, 0.10, 0.29])
    assert commands.reachable_point(0, np.array([0.05, 0.10, 0.29])) == pytest.approx([0.16, 0.10, 0.29])


def test_the_velocity_is_in_the_actions_and_arms_move_at_two_rad_a_second_at_most() -> None:
    space = command_space("push_box")
    proprio = np.zeros(125)
    proprio[:29], proprio[119:122] = joints.HOME, (0.0, 0.0, -1.0)
    actions = carry_out(space, np.array([1.0, 0.0, -1.0]), proprio)
    targets, velocity = commands._ACTIONS.decode(actions)
    assert actions.shape == (5, 17) and velocity == pytest.approx(np.tile([0.4, 0.0, -0.5], (5, 1)))
    steps = np.diff(np.vstack([joints.HOME, targets]), axis=0)
    assert np.abs(steps).max() == pytest.approx(0.036, abs=1e-9)


def test_palms_go_to_the_ball_in_the_simulator(reach_env: Any) -> None:
    space = command_space("reach")
    obs, _ = reach_env.reset(seed=3)
    begun = reach_env.robot.read().time_s
    command = commands.expert_command(space, reach_env)
    for _ in range(15):
        obs, ended = step_world(reach_env, space, command, obs)
        assert not ended
    truth = reach_env.privileged()
    assert truth["distance"] < 0.04
    assert reach_env.robot.read().time_s - begun == pytest.approx(1.5)
    seen = moment(reach_env, obs)
    told = space.to_units(command).reshape(2, 3)
    assert np.linalg.norm(outcome(space, seen) - told, axis=1).max() < 0.04
    fresh = reach_env.robot.sensor("camera").capture(reach_env.robot.data, 0.0)
    assert np.array_equal(seen.frame, fresh)  # the picture is of this instant


def test_walking_is_in_the_direction_of_the_command(walking_env: Any) -> None:
    space = command_space("navigate")
    obs, _ = walking_env.reset(seed=1)
    start = base_pose(walking_env)
    for _ in range(20):
        obs, ended = step_world(walking_env, space, space.from_units(np.array([0.4, 0.0, 0.0])), obs)
        assert not ended
    ahead, left = from_base(start, base_pose(walking_env)[None, :2])[0]
    assert 0.4 < ahead < 0.9 and abs(left) < 0.2  # 0.8 m if it were at speed from the start
    seen, truth = moment(walking_env, obs), walking_env.privileged()
    marker_w = in_world(seen.base, seen.target[None, :2])[0]
    assert marker_w == pytest.approx(truth["target_pos_w"][:2], abs=1e-5)  # however the pelvis is tilted
    tilted = in_world(seen.base, np.array(truth["target_pos_b"])[None, :2])[0]
    assert np.linalg.norm(tilted - marker_w) > 0.005  # the pelvis frame's x and y are not those of the floor
    height = truth["target_pos_w"][2] - walking_env.world.position("pelvis")[2]
    assert seen.target[2] == pytest.approx(height, abs=1e-5)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3.1, 3.1))
def test_to_the_world_and_back(x: float, y: float, yaw: float) -> None:
    base, place = np.array([x, y, yaw]), np.array([[0.7, -0.2]])
    assert from_base(base, in_world(base, place)) == pytest.approx(place, abs=1e-9)


def test_a_quarter_turn_by_hand() -> None:
    assert in_world(np.array([1.0, 2.0, np.pi / 2]), np.array([[3.0, 0.0]])) == pytest.approx(np.array([[1.0, 5.0]]))


def test_an_episode_depends_on_its_seed_alone_and_shards_are_resumed(reach_env: Any, tmp_path: Path) -> None:
    shards = shards_of(CONFIG, tmp_path)
    assert [(s.first_seed - CONFIG.first_seed, s.count) for s in shards] == [(0, 2), (2, 1)]
    last = record_episode(reach_env, CONFIG, shards[1].first_seed)
    first = [record_episode(reach_env, CONFIG, shards[0].first_seed + i) for i in range(2)]
    again = record_episode(reach_env, CONFIG, shards[1].first_seed)
    assert all(np.array_equal(again[name], last[name]) for name in ("frames", "proprio", "commands", "palms"))
    assert not np.array_equal(first[0]["commands"], first[1]["commands"])
    save_shard(shards[0], first)
    assert missing(shards) == [shards[1]]
    save_shard(shards[1], [last])
    assert missing(shards) == [] and not list(tmp_path.glob("*.partial"))

    rollouts = Rollouts(tmp_path)
    assert len(rollouts) == 3 and rollouts.moments == 15
    assert np.array_equal(rollouts.frames(2, 1, 3), last["frames"][1:3])
    window = rollouts.part(np.array([2])).windows(np.random.default_rng(0), 4, 5)
    assert np.array_equal(window["frames"][3].numpy(), last["frames"])
    assert np.array_equal(window["actions"][0].numpy(), last["commands"])
    assert np.array_equal(window["proprio"][1].numpy(), last["proprio"])
    with pytest.raises(ValueError, match="No episode has 6 moments"):
        rollouts.windows(np.random.default_rng(0), 1, 6)
    train, test = rollouts.split(0.34)
    assert list(train["seed"]) + list(test["seed"]) == [6_000_000, 6_000_001, 6_000_002]
    with pytest.raises(ValueError, match="holds no rollouts"):
        Rollouts(tmp_path / "nothing")


def test_behaviours_do_what_they_are_called(reach_env: Any) -> None:
    reach_env.reset(seed=5)
    balls = np.array(list(reach_env.privileged()["ball_pos_b"].values()))
    space = command_space("reach")
    expert = Behaviour(CONFIG, np.random.default_rng(0), "expert").command(reach_env)
    palms = space.to_units(expert).reshape(2, 3)
    assert np.linalg.norm(palms[:, None] - balls, axis=-1).min() < 1e-6  # one palm is told to be at a ball
    chance = Behaviour(CONFIG, np.random.default_rng(0), "random")
    held = [chance.command(reach_env) for _ in range(3)]
    assert np.array_equal(held[0], held[2]) and not np.array_equal(held[0], expert)
    kinds = [Behaviour(CONFIG, np.random.default_rng(i)).kind for i in range(300)]
    assert 60 < kinds.count("expert") < 120 and 90 < kinds.count("noisy") < 150  # 90 and 120 expected
    waiting = space.to_units(palm_command(space, 0, balls[0])).reshape(2, 3)[1]
    assert waiting == pytest.approx([0.14, -0.20, -0.02])


def test_who_is_told_to_stand_stands_half_a_second_and_more(walking_env: Any) -> None:
    walking_env.reset(seed=1)
    space, config = command_space("navigate"), RolloutConfig("navigate", stop_share=1.0)
    stand = space.from_units(np.zeros(3))
    behaviour = Behaviour(config, np.random.default_rng(3), "random")
    stands = [np.array_equal(behaviour.command(walking_env), stand) for _ in range(120)]
    runs = [len(list(run)) for told, run in groupby(stands) if told][:-1]  # the last one may be cut
    assert len(runs) >= 4 and all(5 <= run < 13 for run in runs) and stands[0]  # between any two commands
    never, as_before = (
        Behaviour(c, np.random.default_rng(3), "random")
        for c in (replace(config, stop_share=0.0), RolloutConfig("navigate"))
    )
    assert all(np.array_equal(never.command(walking_env), as_before.command(walking_env)) for _ in range(20))


def test_an_episode_may_begin_at_the_box() -> None:
    config = mixed_for("push_box", RolloutConfig(steps=1, image_size=32))
    assert (config.expert_share, config.noisy_share, config.stop_share, config.contact_share) == (0.4, 0.5, 0.12, 0.25)
    env = open_world("push_box", 32)
    try:
        far, near = (record_episode(env, replace(config, contact_share=share), 6_000_000) for share in (0.0, 1.0))
    finally:
        env.close()
    assert far["reset"] and not near["reset"]
    assert far["thing"][0, 0] > 0.7  # m ahead, where the task puts it
    assert near["thing"][0, 0] < far["thing"][0, 0] - 0.1  # its centre is half a box further than the palms
    assert far["objects"].shape == (2, 5, 3) and np.array_equal(far["objects"][:, 0], far["thing"])
    zones = np.isfinite(far["objects"][0, 1:]).all(-1)
    assert zones.sum() == 2 and any(np.allclose(far["target"][0], zone) for zone in far["objects"][0, 1:][zones])


def test_objects_are_told_by_colour_whatever_is_named(reach_env: Any, walking_env: Any) -> None:
    obs, _ = reach_env.reset(seed=5)
    truth, places = reach_env.privileged()["ball_pos_b"], object_places(reach_env, "reach")
    for name, place in zip(object_names("reach"), places, strict=True):
        color = name.removeprefix("ball_")
        assert place == pytest.approx(truth[color], abs=1e-6) if color in truth else np.isnan(place).all()
    obs, _ = walking_env.reset(seed=2)
    named = f"marker_{walking_env.privileged()['color']}"
    places = object_places(walking_env, "navigate")
    assert np.isfinite(places).all(-1).sum() == 3
    assert places[object_names("navigate").index(named)] == pytest.approx(moment(walking_env, obs).target, abs=1e-6)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="stop_share"):
        RolloutConfig("reach", stop_share=0.1)
    with pytest.raises(ValueError, match="contact_share"):
        RolloutConfig("navigate", contact_share=0.1)
    with pytest.raises(ValueError, match="together"):
        RolloutConfig(expert_share=0.8, noisy_share=0.3)
    with pytest.raises(ValueError, match="Did you mean 'unseen_objects'"):
        open_world("reach", 32, "unseen_object")
