"""Corrections by hand, what they must never do, and real heads, arms and loads under guidance."""

import mujoco
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neon_sim.g1 import joints, kinematics
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.g1.links import PALM_OFFSET
from neon_sim.model.action_heads import ActionHeadConfig, G1ActionHead
from neon_sim.model.collision import Obstacle
from neon_sim.model.guidance import GuidanceConfig, PhysicsGuide
from neon_sim.model.physics_losses import (
    CollisionLoss,
    CompositeLoss,
    Motion,
    PayloadLoss,
    PhysicsLoss,
    SagLoss,
    Situation,
    SmoothLoss,
    TorqueLoss,
)
from neon_sim.sim.model import build_model, build_spec

ARMS = G1ActionSpace()
ONE_STEP = GuidanceConfig(scale=1.0, iterations=1, max_correction=1.0)
BALL = Obstacle((0.3, 0.15, 0.1), radius=0.12)
RULES: dict[str, PhysicsLoss] = {
    "torque": TorqueLoss(0.2),
    "payload": PayloadLoss((3.0, 2.0), 0.4),
    "collision": CollisionLoss((BALL,)),
    "smooth": SmoothLoss(),
}
RULES["composite"] = CompositeLoss(tuple((rule, 0.5) for rule in RULES.values()))


def _bump() -> Tensor:
    """(1, 3, 17): a forward speed of 0, 0.5, 0 m/s, which is action 0, 1, 0."""
    chunk = torch.zeros(1, 3, 17, dtype=torch.float64)
    chunk[0, 1, 14] = 1.0
    return chunk


def _random_chunk(rows: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(-0.8, 0.8, (rows, 16, 17)))


def test_polyaks_step_by_hand() -> None:
    # The second difference of 0, 0.5, 0 is -1: L = 1, g = -2 (1, -2, 1), |g|^2 = 24, step = -g / 24 in m/s, and an
    # action unit is 0.5 m/s.
    correction = PhysicsGuide(ARMS, SmoothLoss(), ONE_STEP)(_bump(), 0.5)
    np.testing.assert_allclose(correction[0, :, 14].numpy(), [1 / 6, -1 / 3, 1 / 6], atol=1e-12)
    assert correction.abs().sum().item() == pytest.approx(2 / 3)
    # Twice that is Newton's step: the bump becomes 1/3, 1/3, 1/3.
    newton = PhysicsGuide(ARMS, SmoothLoss(), GuidanceConfig(scale=2.0, iterations=1, max_correction=1.0))
    np.testing.assert_allclose((_bump() + newton(_bump(), 0.5))[0, :, 14].numpy(), [1 / 3] * 3, atol=1e-12)


def test_a_quadratic_loss_falls_by_what_the_scale_promises() -> None:
    # Scale 1.5 of 2 leaves a quarter of the distance, a sixteenth of the loss; another iteration, a sixteenth of that.
    rule, chunk = SagLoss((1.0, 0.5)), 0.5 + 0.3 * _random_chunk(2, seed=7)  # off 0, where slopes change
    before = rule(Motion(chunk, ARMS))
    for iterations in (1, 2):
        correction = PhysicsGuide(ARMS, rule, GuidanceConfig(1.5, iterations, max_correction=1.0))(chunk, 0.75)
        after = rule(Motion(chunk + correction, ARMS, reference=chunk))
        torch.testing.assert_close(after, before / 16**iterations)


def test_a_weight_is_a_share_of_the_step_and_parts_add_up() -> None:
    whole = PhysicsGuide(ARMS, SmoothLoss(), ONE_STEP)(_bump(), 0.5)
    half = PhysicsGuide(ARMS, CompositeLoss(((SmoothLoss(), 0.25), (SmoothLoss(), 0.25))), ONE_STEP)(_bump(), 0.5)
    torch.testing.assert_close(half, 0.5 * whole)
    beside = CompositeLoss(((SmoothLoss(), 1.0), (CollisionLoss(), 1.0)))  # nothing is in the way
    torch.testing.assert_close(PhysicsGuide(ARMS, beside, ONE_STEP)(_bump(), 0.5), whole)


@pytest.mark.parametrize("name", ["torque", "payload", "collision"])
def test_a_chunk_that_keeps_the_rule_is_left_alone(name: str) -> None:
    home = torch.zeros(2, 16, 17)
    rule = {"torque": TorqueLoss(), "payload": PayloadLoss((1.0, 1.0)), "collision": CollisionLoss()}[name]
    assert not PhysicsGuide(ARMS, rule)(home, 0.75).any()


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_broken_less_after_a_correction(name: str) -> None:
    chunk = _random_chunk(6)
    guide = PhysicsGuide(ARMS, RULES[name], GuidanceConfig(scale=1.0, iterations=3, max_correction=0.3))
    before = RULES[name](Motion(chunk, ARMS))
    after = RULES[name](Motion(chunk + guide(chunk, 0.5), ARMS))
    broken = before > 0.0
    assert broken.sum() >= 3
    assert (after[broken] < before[broken]).all(), (before, after)
    assert torch.equal(after[~broken], before[~broken])


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(RULES)), st.floats(0.001, 0.5), st.floats(0.1, 2.0))
def test_a_correction_is_finite_and_bounded(seed: int, name: str, limit: float, scale: float) -> None:
    chunk = 3.0 * _random_chunk(2, seed).float()  # far outside [-1, 1], as noise is
    correction = PhysicsGuide(ARMS, RULES[name], GuidanceConfig(scale=scale, max_correction=limit))(chunk, 0.0)
    assert correction.shape == chunk.shape and correction.dtype == chunk.dtype
    assert bool(correction.isfinite().all())
    assert correction.abs().max().item() <= limit * (1 + 1e-6)


def test_rows_are_corrected_as_if_each_were_alone() -> None:
    chunk = _random_chunk(3, seed=4)
    guide = PhysicsGuide(ARMS, RULES["composite"])
    together = guide(chunk, 0.5)
    alone = torch.cat([guide(row[None], 0.5) for row in chunk])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


def test_it_works_inside_every_autograd_mode_and_keeps_no_graph() -> None:
    chunk = _random_chunk(1).float()
    guide = PhysicsGuide(ARMS, RULES["composite"])
    expected = guide(chunk, 0.5)
    with torch.inference_mode():
        inside = guide(chunk.clone(), 0.5)
    with torch.no_grad():
        assert torch.equal(guide(chunk, 0.5), expected)
    assert torch.equal(inside, expected)
    leaf = chunk.clone().requires_grad_()
    assert not guide(leaf, 0.5).requires_grad and leaf.grad is None and torch.equal(leaf, chunk)


def test_half_precision_is_steered_in_single() -> None:
    chunk = _random_chunk(1).bfloat16()
    guide = PhysicsGuide(ARMS, TorqueLoss(0.2))
    correction = guide(chunk, 0.5)
    assert correction.dtype == torch.bfloat16
    torch.testing.assert_close(correction, guide(chunk.float(), 0.5).bfloat16())


def test_it_may_wait_for_the_estimate_to_get_clear() -> None:
    guide = PhysicsGuide(ARMS, SmoothLoss(), GuidanceConfig(start_time=0.5))
    assert not guide(_bump(), 0.25).any() and bool(guide(_bump(), 0.5).any())


def test_the_situation_changes_and_the_guide_does_not() -> None:
    guide = PhysicsGuide(ARMS, SmoothLoss(), ONE_STEP)
    there = guide.at(Situation(executed=torch.ones(17)))
    assert not guide(torch.zeros(1, 16, 17), 0.5).any()  # a straight line, no seam known
    assert bool((there(torch.zeros(1, 16, 17), 0.5)[:, 0] > 0.0).all())  # toward the action before


@pytest.mark.parametrize("bad", [{"scale": 0.0}, {"scale": 2.5}, {"iterations": 0}, {"max_correction": 0.0}])
def test_settings_that_could_not_work_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="GuidanceConfig wants 0 < scale <= 2"):
        GuidanceConfig(**bad)  # type: ignore[arg-type]


def test_a_time_is_from_zero_to_one() -> None:
    with pytest.raises(ValueError, match="from 0 .noise. to 1"):
        PhysicsGuide(ARMS, SmoothLoss())(_bump(), 4.0)


@pytest.mark.parametrize("head_type", ["flow", "dit"])
def test_a_real_head_samples_around_an_obstacle(head_type: str) -> None:
    """Random weights, the same noise: without guidance the hand goes 5 cm into the ball, with it hardly."""
    torch.manual_seed(0)
    config = ActionHeadConfig(hidden_size=16, mlp_hidden=32, head_type=head_type, dit_hidden=24, dit_heads=2)
    head = G1ActionHead(config, ARMS).eval()
    features = torch.randn(8, 16)
    with torch.no_grad():
        free = head(features, generator=torch.Generator().manual_seed(1))
        hand = kinematics.palm_poses(ARMS.decode(free.numpy())[0])[0][:, 8, 0].mean(0)
    x, y, z = (hand + [0.09, 0.0, 0.0]).tolist()
    rule = CollisionLoss((Obstacle((x, y, z), radius=0.1),), own_trunk=False)
    guide = PhysicsGuide(ARMS, rule, GuidanceConfig(max_correction=0.3))
    with torch.inference_mode():
        steered = head(features, generator=torch.Generator().manual_seed(1), guide=guide)
    before, after = (rule(Motion(chunk.clone(), ARMS)) for chunk in (free, steered))
    assert bool((before > 0.01).all())
    assert after.mean() < 0.1 * before.mean(), (before, after)


def _resting_palm(target: np.ndarray, mass: float) -> np.ndarray:
    """Left palm (3,) m in the pelvis frame once the servos have come to rest, pelvis held, `mass` kg in the palm."""
    spec = build_spec()
    spec.delete(spec.joint("floating_base_joint"))
    load = spec.body("left_wrist_yaw_link").add_body(name="load", pos=PALM_OFFSET, mass=max(mass, 1e-6))
    load.inertia, load.ipos, load.explicitinertial = [1e-6] * 3, np.zeros(3), True
    model = build_model(spec)
    model.dof_damping[:] = 5.0  # sooner at rest, at the same place
    data = mujoco.MjData(model)
    data.qpos[:] = data.ctrl[:] = target  # the model's own servos, with the gains of `joints`
    mujoco.mj_step(model, data, 1500)  # 3 s
    assert np.abs(data.qvel).max() < 0.02
    return kinematics.palm_poses(data.qpos)[0][0]


@pytest.mark.parametrize(("mode", "share"), [("upper_body", 0.1), ("arms_only", 0.3)])
def test_a_loaded_arm_comes_to_rest_where_the_chunk_wanted_it(mode: str, share: float) -> None:
    """In MuJoCo: 2 kg pull the palm down by 8 cm; guidance takes that back, but for the waist's part if not owned."""
    space = G1ActionSpace(mode)
    wanted = joints.HOME.copy()
    wanted[joints.GROUPS["left_arm"]] = [-0.9, 0.2, 0.0, 0.3, 0.0, 0.0, 0.0]
    chunk = torch.from_numpy(space.encode(wanted)).expand(1, 16, -1)
    guide = PhysicsGuide(space, SagLoss((2.0, 0.0)), GuidanceConfig(scale=2.0, max_correction=0.3))
    steered = space.decode((chunk + guide(chunk, 0.75)).numpy())[0][0, 0]
    unloaded = _resting_palm(wanted, 0.0)
    sag = np.linalg.norm(_resting_palm(wanted, 2.0) - unloaded)
    left = np.linalg.norm(_resting_palm(steered, 2.0) - unloaded)
    assert sag > 0.04
    assert left < share * sag, (sag, left)
