"""Tasks: rewards of named tolerances, what counts as success, what is hidden, and experts that can do it."""

import math
from typing import Any

import numpy as np
import pytest
from dm_control.utils import rewards
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.env import NeonG1Env
from neon_sim.g1 import joints
from neon_sim.g1.geometry import points_in_frame, quat_rotate_inverse
from neon_sim.g1.kinematics import gravity_torque, palm_poses
from neon_sim.rollout import rollout
from neon_sim.sim.faults import ActuatorFault, Payload
from neon_sim.tasks import TASKS, make_task
from neon_sim.tasks.arms import HANDS, approach, lift_against_gravity, palms_b
from neon_sim.tasks.objects import COLORS
from neon_sim.tasks.reach import TEMPLATES, ReachConfig, sample_ball_positions
from neon_sim.tasks.tolerance import tolerance
from neon_sim.tasks.walk import STAND_STILL
from neon_sim.tasks.walk import describe as describe_velocity
from neon_sim.tasks.wording import Wording

FAST: dict[str, Any] = {"sensors": ("proprio",), "physics_dt": 0.005}
SHOULDERS_B = np.array([[0.0, 0.10, 0.29], [0.0, -0.10, 0.29]])


def make(**options: Any) -> NeonG1Env:
    return NeonG1Env(**{**FAST, **options})


class Chunks:
    """A policy of one line: a function that returns a chunk (16, A)."""

    def __init__(self, act: Any) -> None:
        self._act = act

    def reset(self, env_ids: list[int] | None = None) -> None:
        pass

    def observe(self, obs: Any, now_s: float) -> None:
        pass

    def act(self) -> np.ndarray:
        return self._act()[None]


# Tolerance


@given(
    value=st.floats(-5, 5),
    lower=st.floats(-2, 2),
    width=st.floats(0, 2) | st.just(math.inf),
    margin=st.floats(0.01, 3),
    at_margin=st.floats(0.01, 0.99),
    sigmoid=st.sampled_from(["gaussian", "linear"]),
)
def test_tolerance_is_dm_controls(
    value: float, lower: float, width: float, margin: float, at_margin: float, sigmoid: str
) -> None:
    bounds = (lower, lower + width)
    theirs = rewards.tolerance(value, bounds, margin, sigmoid, at_margin)
    assert tolerance(value, bounds, margin, at_margin, sigmoid) == pytest.approx(theirs, abs=1e-12)


def test_tolerance_by_hand() -> None:
    assert tolerance(0.03, (0.0, 0.04), 0.4) == 1.0
    assert tolerance(0.44, (0.0, 0.04), 0.4) == pytest.approx(0.1)
    assert tolerance(0.24, (0.0, 0.04), 0.4) == pytest.approx(0.1**0.25)
    assert tolerance(0.5, (1.0, math.inf), 1.0, 0.0, "linear") == 0.5
    assert tolerance(-3.0, (1.0, math.inf), 1.0, 0.0, "linear") == 0.0
    with pytest.raises(ValueError, match="'gaussian' or 'linear', got 'cosine'"):
        tolerance(2.0, (0.0, 1.0), 1.0, sigmoid="cosine")


# All tasks


def test_tasks_have_their_own_names() -> None:
    assert {name: make_task(name).name for name in TASKS} == {name: name for name in TASKS}
    with pytest.raises(ValueError, match="Unknown task 'stan'. Did you mean 'stand'"):
        make_task("stan")


@pytest.mark.parametrize("task", TASKS)
def test_a_reward_is_the_product_of_its_named_terms(task: str) -> None:
    env = make(task=task)
    env.reset(seed=0)
    for action in np.random.default_rng(0).uniform(-1, 1, (40, 17)):
        _, reward, _, _, info = env.step(action)
        terms = info["reward_terms"]
        assert reward == pytest.approx(math.prod(terms.values())) and all(0.0 <= term <= 1.0 for term in terms.values())
    named = {
        "reach": {"distance", "upright"},
        "stand": {"height", "upright", "still"},
        "walk": {"velocity", "turning", "upright", "smooth"},
        "wave": {"place", "other_hand", "swing", "upright"},
        "track": {"distance", "upright"},
        "press": {"distance", "pressed", "others", "upright"},
    }
    assert set(terms) == named.get(task, set(terms))


@pytest.mark.parametrize("task", TASKS)
def test_a_saved_state_goes_on_to_the_bit(task: str) -> None:
    env, other = make(task=task), make(task=task)
    env.reset(seed=4)
    for action in env.expert_chunk(24):
        env.step(action)
    saved, actions = env.get_state(), env.expert_chunk(16)
    first = [env.step(action) for action in actions]
    other.set_state(saved)  # never reset, and from other choices
    np.testing.assert_array_equal(other.expert_chunk(16), actions)
    for (obs, reward, *ends, info), again in zip(first, (other.step(action) for action in actions), strict=True):
        assert (reward, ends, info["success"]) == (again[1], list(again[2:4]), again[4]["success"])
        for key, value in obs.items():
            np.testing.assert_array_equal(value, again[0][key])
        for key, value in info["privileged"].items():
            np.testing.assert_equal(again[4]["privileged"][key], value)


# What is held out for testing


@pytest.mark.parametrize("task", TASKS)
def test_every_task_can_be_told_what_to_draw_from(task: str) -> None:
    told = make_task(task, {"wording": "test", "objects": "test"})
    assert (told.config.wording, told.config.objects) == ("test", "test")
    assert (make_task(task).config.wording, make_task(task).config.objects) == ("train", "train")
    for option in ("wording", "objects"):
        with pytest.raises(ValueError, match="'tset'. Did you mean 'test'"):
            make_task(task, {option: "tset"})
    with pytest.raises(ValueError, match=f"Unknown option of task '{task}' 'wordin'. Did you mean 'wording'"):
        make_task(task, {"wordin": "test"})


def test_a_wording_has_two_sides_that_share_nothing() -> None:
    wording = Wording(train=("take the {thing}", "grab the {thing}"), test=("pick up the {thing}",))
    rng = np.random.default_rng(0)
    assert {wording.draw("train", rng, thing="cup") for _ in range(20)} == {"take the cup", "grab the cup"}
    assert wording.draw("test", rng, thing="cup") == "pick up the cup"
    with pytest.raises(ValueError, match="Unknown split of wordings 'trian'. Did you mean 'train'"):
        wording.draw("trian", rng)
    with pytest.raises(ValueError, match="unseen in training, got \\['go'\\] in both"):
        Wording(train=("go", "walk"), test=("go",))
    with pytest.raises(ValueError, match="to train and to test with"):
        Wording(train=("go",), test=())


@pytest.mark.parametrize("task", ["reach", "stand", "walk", "track", "press"])
def test_the_env_passes_the_splits_on(task: str) -> None:
    said = {}
    for split in ("train", "test"):
        env = make(task=task, task_options={"wording": split}, settle_s=0.0)
        said[split] = {env.reset(seed=seed)[1]["instruction"] for seed in range(12)}
    assert len(said["train"]) > 2 and len(said["test"]) > 2 and not said["train"] & said["test"]


def test_unseen_words_for_a_velocity_still_say_it() -> None:
    rng = np.random.default_rng(0)
    for velocity, words in (
        ([0.3, 0.0, 0.0], ("advance", "march straight on")),
        ([-0.3, 0.0, 0.0], ("retreat", "go in reverse")),
        ([0.0, 0.2, 0.0], ("sidestep left", "shift leftwards")),
        ([0.0, -0.2, 0.0], ("sidestep right", "shift rightwards")),
        ([0.0, 0.0, 0.4], ("spin left", "turn counterclockwise")),
        ([0.0, 0.0, -0.4], ("spin right", "turn clockwise")),
    ):
        heard = {describe_velocity(np.array(velocity), rng, "test") for _ in range(20)}
        assert all(text.startswith(words) for text in heard) and len(heard) > 2
    assert describe_velocity(np.zeros(3), rng, "test") not in STAND_STILL
    assert ", and also " in describe_velocity(np.array([0.3, 0.0, 0.4]), rng, "test")


def test_balls_of_the_test_are_none_that_was_trained_with() -> None:
    models = {split: make(task_options={"objects": split}).robot.model for split in ("train", "test")}
    seen = {split: {tuple(m.geom(f"ball_{c}").size) for c in COLORS} for split, m in models.items()}
    assert seen["train"] == {(0.04, 0.0, 0.0)} and len(seen["test"]) == 5 and not seen["train"] & seen["test"]
    for color in COLORS:
        train, test = (m.geom(f"ball_{color}").rgba[:3] for m in models.values())
        assert 0.1 < np.linalg.norm(train - test) < 0.5  # another shade, and still the colour
        assert np.argmin([np.linalg.norm(test - rgb) for rgb in COLORS.values()]) == list(COLORS).index(color)
        assert {split: float(m.geom(f"ball_{color}").contype[0]) for split, m in models.items()} == {
            "train": 0.0,
            "test": 0.0,
        }


# Stand


def test_the_expert_stands_and_says_so() -> None:
    env = make(task="stand")
    env.reset(seed=0)
    episode = rollout(env, Chunks(env.expert_chunk), seed=0, keep=())
    assert len(episode) == 500 and episode.truncated[-1] and not episode.terminated.any()
    assert episode.success and episode.rewards[50:].min() > 0.9


@pytest.mark.parametrize("mode", ["arms_only", "upper_body"])
def test_it_stays_up_while_the_arms_do_as_they_like(mode: str) -> None:
    env = make(task="stand", control_mode=mode)
    rng = np.random.default_rng(1)
    arms = env.action_map.groups["arms"]

    def wander() -> np.ndarray:
        chunk = np.zeros((48, env.action_map.dim))
        chunk[:, arms] = rng.uniform(-1, 1, 14)
        return chunk

    for seed in range(2):
        episode = rollout(env, Chunks(wander), seed=seed, execute=48, keep=())
        assert len(episode) == 500 and episode.success and not episode.terminated.any()


def test_standing_is_lost_with_height() -> None:
    env = make(task="stand", control_mode="whole_body", fall_height=0.0, fall_tilt=3.14)
    env.reset(seed=0)
    assert env.step(np.zeros(29))[4]["success"]
    for _ in range(150):  # nobody balances, and the fall does not end the episode
        _, reward, terminated, _, info = env.step(np.zeros(29))
    pelvis = env.privileged()["pelvis_pos_w"]
    assert not terminated and pelvis[2] < 0.6 and not info["success"] and reward < 0.5
    np.testing.assert_array_equal(pelvis, env.world.object_pose("pelvis")[0])


# Reach: the scene


@pytest.fixture(scope="module")
def scenes() -> list[tuple[dict[str, Any], str]]:
    """What 80 resets chose: the truth and the words."""
    env = make(settle_s=0.0)
    found = []
    for seed in range(80):
        _, info = env.reset(seed=seed)
        found.append((info["privileged"], info["instruction"]))
        balls = {c: env.world.object_pose(f"ball_{c}")[0] for c in COLORS}
        assert {c for c, pos_w in balls.items() if pos_w[2] > 0} == set(info["privileged"]["ball_pos_b"])
    return found


def test_all_colours_hands_and_wordings_come_up(scenes: list[tuple[dict[str, Any], str]]) -> None:
    assert {(truth["color"], truth["hand"]) for truth, _ in scenes} == {(c, h) for c in COLORS for h in (0, 1)}
    assert {color for truth, _ in scenes for color in truth["ball_pos_b"]} == set(COLORS)
    wordings = {
        text.replace(truth["color"], "{color}").replace(HANDS[truth["hand"]], "{hand}") for truth, text in scenes
    }
    assert wordings == set(TEMPLATES)


def test_the_words_name_the_hand_and_the_ball(scenes: list[tuple[dict[str, Any], str]]) -> None:
    for truth, text in scenes:
        words = text.split()
        assert [color for color in COLORS if color in words] == [truth["color"]]
        assert [hand for hand in HANDS if hand in words] == [HANDS[truth["hand"]]]
        np.testing.assert_array_equal(truth["target_pos_b"], truth["ball_pos_b"][truth["color"]])


def test_three_balls_within_reach_of_both_hands_and_apart(scenes: list[tuple[dict[str, Any], str]]) -> None:
    for truth, _ in scenes:
        balls = np.array(list(truth["ball_pos_b"].values()))
        assert balls.shape == (3, 3)
        assert (balls > [0.19, -0.13, 0.01]).all() and (balls < [0.37, 0.13, 0.31]).all()
        assert np.linalg.norm(balls[:, None] - SHOULDERS_B, axis=2).max() < 0.386
        gaps = np.linalg.norm(balls[:, None] - balls, axis=2)[np.triu_indices(3, 1)]
        assert gaps.min() > 0.109


def test_more_balls_on_request_but_not_more_than_colours() -> None:
    rng = np.random.default_rng(0)
    assert sample_ball_positions(ReachConfig(num_balls=4), rng).shape == (4, 3)
    for count in (2, 6):
        with pytest.raises(ValueError, match="num_balls must be 3 to 5"):
            ReachConfig(num_balls=count)
    with pytest.raises(ValueError, match="No room for 3 balls"):
        sample_ball_positions(ReachConfig(min_separation=0.9), rng)


def test_where_the_balls_are_is_for_the_camera_alone_to_see() -> None:
    def observations(moved: bool) -> list[dict[str, np.ndarray]]:
        env = NeonG1Env(sensors=("proprio", "camera"), physics_dt=0.005)
        obs, info = env.reset(seed=8)
        if moved:
            for number, color in enumerate(info["privileged"]["ball_pos_b"]):
                pos_w = env.world.object_pose("pelvis")[0] + [0.3, 0.12 * (number - 1), 0.2]
                env.world.place_object(f"ball_{color}", pos_w)
        seen = [obs, *(env.step(action)[0] for action in np.random.default_rng(0).uniform(-1, 1, (10, 17)))]
        env.close()
        return seen

    for before, after in zip(observations(False), observations(True), strict=True):
        for key in ("proprio", "eef", "command", "instruction"):
            np.testing.assert_array_equal(before[key], after[key])
    assert np.abs(before["camera"].astype(int) - after["camera"]).max() > 50


def test_the_truth_in_the_pelvis_frame() -> None:
    env = make()
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.full(17, 0.5))
    pelvis_pos, pelvis_quat = env.world.object_pose("pelvis")
    truth = env.privileged()
    for color, pos_b in truth["ball_pos_b"].items():
        expected = quat_rotate_inverse(pelvis_quat, env.world.object_pose(f"ball_{color}")[0] - pelvis_pos)
        np.testing.assert_allclose(pos_b, expected, atol=1e-12)
    palm_b = palm_poses(env.robot.read().joint_pos)[0][truth["hand"]]
    assert truth["distance"] == pytest.approx(np.linalg.norm(palm_b - truth["target_pos_b"]), abs=1e-9)


def test_points_in_frame_by_hand() -> None:
    quarter_left = np.array([np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)])
    [ahead, left] = points_in_frame([(1.0, 3.0, 0.5), (0.0, 2.0, 0.0)], np.array([1.0, 2.0, 0.0]), quarter_left)
    np.testing.assert_allclose(ahead, [1.0, 0.0, 0.5], atol=1e-12)
    np.testing.assert_allclose(left, [0.0, 1.0, 0.0], atol=1e-12)


# Reach: success


def put_ball_at_palm(env: NeonG1Env, above: float = 0.0) -> None:
    truth = env.privileged()
    palm_w = env.world.object_pose(f"{HANDS[truth['hand']]}_palm")[0]
    env.world.place_object(f"ball_{truth['color']}", palm_w + [0.0, 0.0, above])


def test_reward_by_hand() -> None:
    env = make()
    env.reset(seed=0)
    for above, expected in ((0.0, 1.0), (0.039, 1.0), (0.24, 0.1**0.25), (0.44, 0.1)):
        put_ball_at_palm(env, above)
        reward, terms = env.task.reward(env.robot.read(), env.world)
        assert terms["upright"] == 1.0 and reward == pytest.approx(expected, rel=1e-6)
        assert env.privileged()["distance"] == pytest.approx(above, abs=1e-12)


def test_success_takes_half_a_second_without_a_break() -> None:
    env = make()
    env.reset(seed=0)
    action = np.zeros(17)

    def hold(steps: int, above: float) -> list[bool]:
        seen = []
        for _ in range(steps):
            put_ball_at_palm(env, above)  # the palm moves by millimetres in a step
            seen.append(env.step(action)[4]["success"])
        return seen

    assert hold(24, 0.03) == [False] * 24
    assert hold(1, 0.06) == [False]  # one step too far begins the count anew
    assert hold(26, 0.03) == [False] * 24 + [True] * 2
    assert hold(1, 0.06) == [False]
    assert hold(24, 0.03) == [False] * 24
    assert env.reset(seed=0)[1]["success"] is False
    assert hold(25, 0.03) == [False] * 24 + [True]  # a new episode counts from nothing


def test_the_other_hand_and_the_other_balls_do_not_count() -> None:
    env = make()
    _, info = env.reset(seed=0)
    truth = info["privileged"]
    other_palm = f"{HANDS[1 - truth['hand']]}_palm"
    for _ in range(30):
        for color in truth["ball_pos_b"]:
            at = other_palm if color == truth["color"] else f"{HANDS[truth['hand']]}_palm"
            env.world.place_object(f"ball_{color}", env.world.object_pose(at)[0])
        info = env.step(np.zeros(17))[4]
    assert not info["success"] and info["privileged"]["distance"] > 0.1


def successes(env: NeonG1Env, act: Any, seeds: range) -> int:
    return sum(rollout(env, Chunks(act), seed=seed, keep=(), stop_on_success=True).success for seed in seeds)


def test_the_expert_reaches() -> None:
    env = make()
    assert successes(env, env.expert_chunk, range(20)) >= 18


def test_the_expert_reaches_in_every_mode_and_with_the_default_physics() -> None:
    env = make(control_mode="upper_body", physics_dt=0.002, action_center="limits")
    assert successes(env, env.expert_chunk, range(3)) == 3


def test_chance_is_rare() -> None:
    env = make()
    rng = np.random.default_rng(0)
    assert successes(env, lambda: np.tile(rng.uniform(-1, 1, 17), (16, 1)), range(20)) <= 2
    assert successes(env, lambda: np.zeros((16, 17)), range(10)) <= 1


def test_a_fault_beats_the_expert_until_he_is_told() -> None:
    env = make()
    fault = ActuatorFault()
    env.world.apply_fault(fault)
    right = [seed for seed in range(40) if make_truth(env, seed)["hand"] == 1][:6]
    blind = sum(successes(env, env.expert_chunk, range(seed, seed + 1)) for seed in right)
    env.task.known_fault = fault
    told = sum(successes(env, env.expert_chunk, range(seed, seed + 1)) for seed in right)
    assert blind <= 1 and told >= 5


def make_truth(env: NeonG1Env, seed: int) -> dict[str, Any]:
    return env.reset(seed=seed)[1]["privileged"]


def test_expert_chunks_begin_with_the_expert_action_and_keep_the_speed() -> None:
    env = make()
    env.reset(seed=1)
    chunk = env.expert_chunk(16)
    assert chunk.shape == (16, 17) and np.abs(chunk).max() <= 1.0
    np.testing.assert_array_equal(chunk[0], env.expert_action())
    targets, velocity = env.action_map.decode(chunk)
    assert np.abs(np.diff(targets, axis=0)).max() <= 0.036 + 1e-9 and not velocity.any()
    for action in chunk:
        assert not env.step(action)[4]["safety"]["clipped"]


def test_approach_by_hand() -> None:
    targets = approach(np.array([0.0, 0.0]), np.array([1.0, -0.01]), 3, gain=0.2, speed=0.1)
    np.testing.assert_allclose(targets[:, 0], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(targets[:, 1], [-0.002, -0.0036, -0.00488])


def test_lift_makes_the_motor_carry_the_arm() -> None:
    posture, down = joints.HOME + 0.1, np.array([0.0, 0.0, -1.0])
    torque = joints.KP * (lift_against_gravity(posture, down) - posture)
    np.testing.assert_allclose(torque[joints.GROUPS["arms"]], gravity_torque(posture, down), atol=1e-12)
    assert not torque[:15].any()
    fault = ActuatorFault("left_elbow_joint", strength=0.5, bias=0.2)
    elbow = joints.JOINT_INDEX["left_elbow_joint"]
    told = lift_against_gravity(posture, down, fault)
    faulty_torque = 0.5 * joints.KP[elbow] * (told[elbow] + 0.2 - posture[elbow])
    assert faulty_torque == pytest.approx(torque[elbow])
    dead = lift_against_gravity(posture, down, ActuatorFault("left_elbow_joint", strength=0.0, bias=0.0))
    assert np.isfinite(dead).all()


def test_lift_makes_the_motor_carry_what_is_in_the_hand() -> None:
    """The torque of a weight is its work for each radian: m g times how much the palm rises."""
    posture, down = joints.HOME + 0.1, np.array([0.0, 0.0, -1.0])
    load, arm = Payload("right_hand", 2.0), joints.GROUPS["right_arm"]
    added = joints.KP * (lift_against_gravity(posture, down, load) - lift_against_gravity(posture, down))
    rises = []
    for joint in arm:
        ends = [posture.copy(), posture.copy()]
        ends[0][joint] -= 1e-6
        ends[1][joint] += 1e-6
        low, high = (palms_b(end)[1, 2] for end in ends)
        rises.append((high - low) / 2e-6)
    np.testing.assert_allclose(added[arm], 2.0 * 9.81 * np.array(rises), atol=1e-6)
    assert not np.delete(added, arm).any()
    assert np.array_equal(
        lift_against_gravity(posture, down, Payload("torso", 8.0)), lift_against_gravity(posture, down)
    )
    both = (load, ActuatorFault("right_elbow_joint", strength=0.5, bias=0.1))
    elbow = joints.JOINT_INDEX["right_elbow_joint"]
    alone, told = (lift_against_gravity(posture, down, known)[elbow] - posture[elbow] for known in (load, both))
    assert 0.5 * (told + 0.1) == pytest.approx(alone)
