"""press: springs by hand, whose hand it was, wrong buttons, a table with things on it, an expert that does it."""

from typing import Any

import mujoco
import numpy as np
import pytest

from neon_sim.env import NeonG1Env
from neon_sim.g1 import joints
from neon_sim.g1.kinematics import palm_poses
from neon_sim.tasks.arms import HANDS, SHOULDERS_B
from neon_sim.tasks.buttons import BUTTONS, button_name, cap_name, depths, front_name
from neon_sim.tasks.objects import COLORS, TABLES, THINGS
from neon_sim.tasks.press import EITHER_HAND, WORDING, PressConfig, sample_fronts, tip_posture

HOME_ACTION = np.zeros(17)


def make(**options: Any) -> NeonG1Env:
    return NeonG1Env(task="press", sensors=("proprio",), physics_dt=0.005, task_options=options)


@pytest.fixture(scope="module")
def env() -> NeonG1Env:
    return make()


def push(env: NeonG1Env, color: str, newtons: float) -> None:
    """A force on a cap, into its box, from now on."""
    env.robot.data.xfrc_applied[env.robot.model.body(cap_name(color)).id, 0] = newtons


# The scene


def test_fronts_are_in_one_plane_within_reach_of_both_hands_and_apart() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        fronts = sample_fronts(PressConfig(), rng)
        assert fronts.shape == (3, 3) and np.ptp(fronts[:, 0]) == 0.0
        assert (fronts >= [0.33, -0.12, 0.14]).all() and (fronts <= [0.38, 0.12, 0.30]).all()
        assert np.linalg.norm(fronts[:, None] - SHOULDERS_B, axis=2).max() <= 0.46
        assert np.linalg.norm(fronts[:, None] - fronts, axis=2)[np.triu_indices(3, 1)].min() >= 0.12
    with pytest.raises(ValueError, match="No room for 3 buttons"):
        sample_fronts(PressConfig(min_separation=0.5), rng)
    with pytest.raises(ValueError, match="num_buttons must be 1 to 5"):
        PressConfig(num_buttons=0)


def test_words_truth_and_scene_agree(env: NeonG1Env) -> None:
    kinds = set()
    for seed in range(12):
        _, info = env.reset(seed=seed)
        truth, words = info["privileged"], info["instruction"].split()
        assert [color for color in COLORS if color in words] == [truth["color"]]
        assert [hand for hand in HANDS if hand in words] == ([] if truth["hand"] < 0 else [HANDS[truth["hand"]]])
        kinds.add(truth["hand"])
        shown = {color for color in COLORS if env.world.position(button_name(color))[2] > 0.0}
        assert shown == set(truth["button_pos_b"]) and len(shown) == 3
        pelvis_z = env.world.position("pelvis")[2]
        assert 0.9 < pelvis_z + truth["target_pos_b"][2] < 1.15  # chest height: the shoulders are at 1.08 m
    assert kinds == {-1, 0, 1}


def test_things_lie_on_the_table_in_other_places_each_time(env: NeonG1Env) -> None:
    places = []
    for seed in (0, 1):
        env.reset(seed=seed)
        for _ in range(25):
            env.step(HOME_ACTION)
        for thing in THINGS["train"]:
            x, y, z = env.world.position(thing.name)
            assert z == pytest.approx(0.74 + thing.half_height, abs=0.003) and 0.7 < x < 0.85 and abs(y) < 0.6
        places.append([env.world.position(thing.name) for thing in THINGS["train"]])
    assert np.abs(np.subtract(*places)).max() > 0.02


def test_what_is_compiled_is_what_the_tables_say() -> None:
    for split in ("train", "test"):
        model = make(objects=split).robot.model
        button = BUTTONS[split]
        joint = model.joint(cap_name("red"))
        assert joint.range.tolist() == [0.0, button.travel] and joint.stiffness[0] == button.stiffness
        cap = model.geom(cap_name("red"))
        assert cap.type[0] == getattr(mujoco.mjtGeom, f"mjGEOM_{button.shape.upper()}")
        assert model.body_mass[model.body(cap_name("red")).id] == pytest.approx(button.mass)
        for thing in THINGS[split]:
            assert model.body(thing.name).mass[0] == pytest.approx(thing.mass)
            assert model.geom(thing.name).friction[0] == thing.friction
        table = TABLES[split]
        assert model.geom("table").pos[2] + model.geom("table").size[2] == pytest.approx(table.height)
        np.testing.assert_array_equal(model.body("pelvis").id, 1)  # the robot first: its joints are the first 29
        assert model.joint(1).name == joints.JOINT_NAMES[0]
    train, test = ({(thing.look, thing.mass) for thing in THINGS[split]} for split in ("train", "test"))
    assert not train & test and BUTTONS["train"] != BUTTONS["test"]


# Physics


def test_a_cap_gives_way_as_its_spring_says(env: NeonG1Env) -> None:
    _, info = env.reset(seed=0)
    color = info["privileged"]["color"]
    rest = env.world.position(front_name(color))
    for newtons, millimetres in ((1.0, 0.0), (2.5, 5.0), (3.5, 10.0), (10.0, 15.0)):  # (N - 1.5) / 200, stop at 15
        push(env, color, newtons)
        for _ in range(20):
            env.step(HOME_ACTION)
        assert depths(env.world, [color])[color] == pytest.approx(millimetres / 1000, abs=0.0015)
        assert env.privileged()["depth"] == depths(env.world, [color])[color]
    assert env.world.position(front_name(color))[0] - rest[0] == pytest.approx(0.015, abs=0.002)


def test_what_goes_in_by_itself_is_nobodys_success(env: NeonG1Env) -> None:
    _, info = env.reset(seed=0)
    push(env, info["privileged"]["color"], 5.0)
    for _ in range(20):
        _, reward, terminated, _, info = env.step(HOME_ACTION)
    assert info["reward_terms"]["pressed"] == 1.0 and not info["success"] and not terminated and reward < 0.2


def test_a_wrong_button_ends_it(env: NeonG1Env) -> None:
    _, info = env.reset(seed=0)
    truth = info["privileged"]
    wrong = next(color for color in truth["button_pos_b"] if color != truth["color"])
    push(env, wrong, 2.3)  # 4 mm: touched, not pressed
    for _ in range(20):
        _, _, terminated, _, info = env.step(HOME_ACTION)
    assert not terminated and info["reward_terms"]["others"] == pytest.approx(0.1 ** ((0.002 / 0.006) ** 2), abs=0.05)
    push(env, wrong, 5.0)
    for _ in range(10):
        _, reward, terminated, _, info = env.step(HOME_ACTION)
        if terminated:
            break
    assert terminated and env.task.failed and not info["success"] and info["reward_terms"]["others"] < 0.2


# Expert


def test_the_tip_of_the_hand_is_where_it_should_be() -> None:
    model = make().robot.model
    hand = model.geom("left_hand")
    front = hand.pos + [hand.size[0], 0.0, 0.0]
    palm = model.site("left_palm").pos
    for side, mirror in ((0, 1.0), (1, -1.0)):
        tip_b = np.array([0.33, 0.05 * mirror, 0.2])
        posture = joints.HOME.copy()
        posture[joints.GROUPS[f"{HANDS[side]}_arm"]] = tip_posture(posture, side, tip_b)
        data = mujoco.MjData(model)
        data.qpos[7:36] = posture
        mujoco.mj_kinematics(model, data)
        wrist = model.body(f"{HANDS[side]}_wrist_yaw_link").id
        pelvis = data.xmat[1].reshape(3, 3)
        at_w = data.xpos[wrist] + data.xmat[wrist].reshape(3, 3) @ (front * [1.0, mirror, 1.0])
        np.testing.assert_allclose(pelvis.T @ (at_w - data.xpos[1]), tip_b, atol=0.008)
    assert front - palm == pytest.approx([0.09, -0.008, 0.004]) and palm_poses(posture)[0].shape == (2, 3)


def played(env: NeonG1Env, seed: int, change: Any = None) -> tuple[dict[str, Any], bool, int]:
    """The expert's episode: its last info, whether it ended in failure, and its length."""
    _, info = env.reset(seed=seed)
    if change is not None:
        change()
    for step in range(1, 300):
        if step % 16 == 1:
            chunk = env.expert_chunk(16)
        _, _, terminated, _, info = env.step(chunk[(step - 1) % 16])
        if terminated or info["success"]:
            break
    return info, terminated, step


@pytest.mark.parametrize("options", [{}, {"objects": "test", "wording": "test"}])
def test_the_expert_presses(options: dict[str, Any]) -> None:
    env = make(**options)
    for seed in (100, 101):
        info, terminated, step = played(env, seed)
        assert info["success"] and not terminated and step < 200
        assert info["privileged"]["depth"] >= 0.008 and info["reward_terms"]["others"] > 0.9


def test_the_other_hand_does_not_count() -> None:
    env = make(named_hand=1.0)

    def ask_for_the_other() -> None:
        state = env.task.get_state()
        env.task.set_state({**state, "hand": 1 - state["hand"]})

    env.reset(seed=100)
    pressed = 0
    for step in range(160):
        if step % 16 == 0:
            chunk = env.expert_chunk(16)
            ask_for_the_other()  # the expert moved for one hand, the task judges the other
        _, reward, terminated, _, info = env.step(chunk[step % 16])
        pressed += info["privileged"]["depth"] >= 0.008
        if step % 16 == 15:
            ask_for_the_other()
        assert not info["success"]
    assert pressed > 15 and not terminated and info["reward_terms"]["distance"] < 1.0


def test_wordings_of_one_hand_and_of_either_are_told_apart() -> None:
    for wording in (WORDING, EITHER_HAND):
        for template in (*wording.train, *wording.test):
            assert ("{hand}" in template) == (wording is WORDING) and "{color}" in template
