"""wave: words that name one gesture and one hand, what counts as a gesture and what does not, the expert."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from neon_sim.env import NeonG1Env
from neon_sim.g1 import joints
from neon_sim.inference.references import ExpertPolicy
from neon_sim.robot import RobotState
from neon_sim.rollout import rollout
from neon_sim.sim.faults import ActuatorFault, Payload
from neon_sim.tasks.arms import HANDS, lift_against_gravity, of_hand, palms_b
from neon_sim.tasks.wave import GESTURES, Swings, WaveConfig, WaveTask, made_up_for, swing_of

LEFT, RIGHT = joints.GROUPS["left_arm"], joints.GROUPS["right_arm"]


@pytest.fixture(scope="module")
def env() -> NeonG1Env:
    made = NeonG1Env(task="wave", sensors=("proprio",), physics_dt=0.005)
    made.reset(seed=0)
    return made


def begun(env: NeonG1Env, gesture: str, hand: int, **config: Any) -> WaveTask:
    """A task that asks for a gesture of a hand."""
    task = WaveTask(WaveConfig(gestures=(gesture,), **config))
    seed = next(s for s in range(50) if np.random.default_rng(s).integers(2, size=2)[1] == hand)
    for trial in range(seed, seed + 50):
        task.reset(env.robot.read(), env.world, np.random.default_rng(trial))
        if task.get_state()["hand"] == hand:
            return task
    raise AssertionError(f"50 draws without hand {hand}")


def posed(env: NeonG1Env, left: Any = None, right: Any = None) -> RobotState:
    """What the robot would sense with its arms (7,) rad elsewhere; None = at home."""
    joint_pos = joints.HOME.copy()
    for arm, angles in ((LEFT, left), (RIGHT, right)):
        if angles is not None:
            joint_pos[arm] = angles
    return replace(env.robot.read(), joint_pos=joint_pos, gravity_b=np.array([0.0, 0.0, -1.0]))


# Words


def test_each_gesture_and_hand_comes_up_in_its_own_words(env: NeonG1Env) -> None:
    for split in ("train", "test"):
        task = WaveTask(WaveConfig(wording=split))
        rng = np.random.default_rng(0)
        heard: dict[str, set[tuple[str, int]]] = {}
        for _ in range(400):
            text = task.reset(env.robot.read(), env.world, rng)
            asked = task.privileged(env.robot.read(), env.world)
            hand = -1 if GESTURES[asked["gesture"]].both else asked["hand"]
            named = [name for name in HANDS if name in text.split()]
            assert hand == -1 or named == [HANDS[hand]]
            heard.setdefault(text, set()).add((asked["gesture"], hand))
        assert all(len(meanings) == 1 for meanings in heard.values())  # a sentence means one thing
        meant = set().union(*heard.values())
        assert meant == {(g, h) for g, gesture in GESTURES.items() for h in ((-1,) if gesture.both else (0, 1))}


def test_a_gesture_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="gestures must be some of wave, raise"):
        WaveConfig(gestures=("bow",))
    with pytest.raises(ValueError, match="Unknown split for 'wording' 'tset'. Did you mean 'test'"):
        WaveConfig(wording="tset")


# Geometry


def test_gestures_are_where_their_names_say() -> None:
    def palms(name: str) -> np.ndarray:
        return palms_b(np.concatenate([joints.HOME[:15], *GESTURES[name].postures()]))

    for name in GESTURES:
        left, right = palms(name)
        np.testing.assert_allclose(left, right * [1, -1, 1], atol=1e-3)  # mirror images
        assert (GESTURES[name].postures()[0] > joints.LOWER[LEFT]).all()
        assert (GESTURES[name].postures()[0] < joints.UPPER[LEFT]).all()
    assert palms("raise")[0, 2] > 0.7  # the head ends at 0.5 m
    assert palms("spread")[0, 1] > 0.5 and palms("offer")[0, 0] > 0.35
    salute = palms("salute")[0]
    assert 0.05 < salute[0] < 0.2 and salute[1] < 0.15 and salute[2] > 0.38


# Success


def test_swings_by_hand() -> None:
    swings = Swings()
    counts = []
    for value in (0.00, 0.05, 0.09, 0.12, 0.05, 0.03, 0.00, 0.07, 0.09):
        swings.update(value, least=0.08, patience=3)
        counts.append(swings.count)
    # Where it starts is no turning point. Back from 12 to 3 cm in step 5; from 0 to 9 in step 8.
    assert counts == [0, 0, 0, 0, 0, 1, 1, 1, 2]
    for _ in range(3):
        swings.update(0.09, least=0.08, patience=3)
    assert swings.count == 2
    swings.update(0.09, least=0.08, patience=3)
    assert swings.count == 0  # too long without a swing


def test_a_held_gesture_takes_eight_tenths_of_a_second(env: NeonG1Env) -> None:
    task = begun(env, "salute", hand=1)
    made = posed(env, right=GESTURES["salute"].postures()[1])
    other = posed(env, left=GESTURES["salute"].postures()[0])
    seen = []
    for state in [other] * 45 + [made] * 39 + [posed(env)] + [made] * 40:
        reward, terms = task.reward(state, env.world)
        seen.append(task.success)
        if state is made:
            assert reward == pytest.approx(1.0)
    assert seen == [False] * (45 + 39 + 1 + 39) + [True]
    assert set(terms) == {"place", "other_hand", "swing", "upright"}


def test_the_place_counts_in_metres(env: NeonG1Env) -> None:
    task = begun(env, "offer", hand=0)
    arm = GESTURES["offer"].postures()[0]
    for off, held in ((0.0, True), (0.15, True), (0.35, False)):  # rad of the elbow, which is 0.26 m from the palm
        state = posed(env, left=arm + [0, 0, 0, off, 0, 0, 0])
        distance = task.privileged(state, env.world)["distance"]
        assert distance == pytest.approx(0.26 * off, abs=0.02)
        _, terms = task.reward(state, env.world)
        assert (terms["place"] == 1.0) == held == (distance <= 0.08)


def test_the_other_hand_must_rest(env: NeonG1Env) -> None:
    task = begun(env, "raise", hand=0)
    left, right = GESTURES["raise"].postures()
    for _ in range(60):
        reward, terms = task.reward(posed(env, left, right), env.world)
    assert not task.success and terms["place"] == 1.0 and terms["other_hand"] < 0.1 and reward < 0.1
    both = begun(env, "raise_both", hand=0)
    for _ in range(60):
        both.reward(posed(env, left, right), env.world)
    assert both.success


def test_a_hand_that_is_only_held_up_does_not_wave(env: NeonG1Env) -> None:
    task = begun(env, "wave", hand=0)
    still = posed(env, left=GESTURES["wave"].postures()[0])
    for _ in range(200):
        reward, terms = task.reward(still, env.world)
    assert not task.success and reward == pytest.approx(0.2)

    def swing(steps: int, period: int) -> list[bool]:
        seen = []
        for i in range(steps):
            arm = GESTURES["wave"].postures(0.45 * np.sin(2 * np.pi * i / period))[0]
            task.reward(posed(env, left=arm), env.world)
            seen.append(task.success)
        return seen

    assert not any(swing(400, period=200))  # a swing in two seconds is no wave
    task.reward(posed(env), env.world)  # down: what was counted is forgotten
    fast = swing(150, period=50)
    assert 90 < fast.index(True) < 115 and fast[-1]  # a swing shows half-way back from a turn: steps 25, 50, 75, 100
    assert task.privileged(still, env.world)["swings"] >= 4
    task.reward(posed(env), env.world)
    assert not task.success  # the hand is down: the wave has ended


# Expert


@pytest.mark.parametrize(("gesture", "executed"), [*((name, 16) for name in GESTURES), ("wave", 1), ("wave", 5)])
def test_the_expert_makes_each_gesture_however_often_it_is_asked(env: NeonG1Env, gesture: str, executed: int) -> None:
    usual = env.task
    env.task = WaveTask(WaveConfig(gestures=(gesture,)))
    _, info = env.reset(seed=1)
    for _ in range(WaveTask.max_steps // executed):
        for action in env.expert_chunk(executed):
            *_, terminated, _, info = env.step(action)
            if info["success"]:
                break
        if info["success"]:
            break
    env.task = usual
    assert info["success"] and not terminated and not info["safety"]["clipped"]


@pytest.mark.parametrize("gesture", ["offer", "wave"])
def test_a_payload_beats_the_expert_until_it_is_told(env: NeonG1Env, gesture: str) -> None:
    usual, load = env.task, Payload("right_hand", 2.0)
    env.task = WaveTask(WaveConfig(gestures=(gesture,)))
    seed = next(s for s in range(50) if env.reset(seed=s)[1] and env.privileged()["hand"] == 1)
    made = []
    for known in (None, load):
        env.world.apply_fault(load)
        env.task.known_fault = known
        made.append(rollout(env, ExpertPolicy(env), 192, seed, keep=(), stop_on_success=True).success)
    env.world.apply_fault(None)
    env.task = usual
    assert made == [False, True]


def test_what_is_made_up_for_by_hand() -> None:
    """A bias is taken off; half of a motor's strength asks for twice the lift, so for the lift once more."""
    postures, down = np.array([joints.HOME, joints.HOME]), np.array([0.0, 0.0, -1.0])
    elbow = joints.JOINT_NAMES.index("left_elbow_joint")
    lift = (lift_against_gravity(joints.HOME, down) - joints.HOME)[elbow]
    found = made_up_for(postures, down, ActuatorFault("left_elbow_joint", strength=0.5, bias=0.1))
    assert found.shape == (2, 29) and found[0, elbow] == pytest.approx(lift - 0.1)
    assert np.count_nonzero(np.delete(found, elbow, axis=1)) == 0


@pytest.mark.parametrize("hand", [0, 1])
def test_where_a_hand_is_in_its_swing_is_read_from_the_hand(hand: int) -> None:
    """At rest in the middle it begins; a quarter of a second later it is on the outside and turns back."""
    gesture, arm = GESTURES["wave"], joints.GROUPS[f"{HANDS[hand]}_arm"]

    def swing(off: float, velocity: float) -> tuple[float, float]:
        pos, vel = np.zeros((2, 29))
        pos[arm] = gesture.postures(off)[hand]
        vel[arm] = of_hand(np.array([0.0, 0.0, velocity, 0.0, 0.0, 0.0, 0.0]), hand)
        state: Any = SimpleNamespace(joint_pos=pos, joint_vel=vel)
        return swing_of(gesture, hand, state)

    widest, ahead = gesture.swing, math.tau * 0.08
    fastest = math.tau * widest
    assert swing(0.0, 0.0) == pytest.approx((0.3 * widest, ahead))  # it begins, on its way out
    assert swing(widest, 0.0) == pytest.approx((widest, math.pi / 2 + ahead))
    assert swing(0.0, -fastest) == pytest.approx((widest, math.pi + ahead))
    slow = (-0.3 * widest * math.sin(0.5), 0.3 * fastest * math.cos(0.5))
    assert swing(*slow) == pytest.approx((0.6 * widest, ahead - 0.5))  # twice as wide as it was


def test_right_arms_mirror_left_ones() -> None:
    arm = np.arange(1.0, 8.0)
    np.testing.assert_array_equal(of_hand(arm, 0), arm)
    np.testing.assert_array_equal(of_hand(arm, 1), [1, -2, -3, 4, -5, 6, -7])
