"""The worlds and rules of benchmarks/guidance.py, and what is measured of an episode in them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import torch

from neon_sim.episode import NeonEpisode
from neon_sim.g1 import joints
from neon_sim.g1.kinematics import palm_poses
from neon_sim.inference.real_time import last_target
from neon_sim.model.collision import Obstacle, arm_spheres, gaps
from neon_sim.model.g1_dynamics import limb_poses
from neon_sim.model.guidance import GuidanceConfig
from neon_sim.model.physics_losses import (
    CollisionLoss,
    CompositeLoss,
    PayloadLoss,
    PhysicsLoss,
    SagLoss,
    SmoothLoss,
    TorqueLoss,
)
from neon_sim.sim.faults import Payload

LOAD_KG: Final = 1.5  # in each hand: holding a reach then takes 34 % of some arm motor's effort (median), 15 % without
TORQUE_SHARE: Final = 0.25  # of each motor's effort that the guides allow: less than a loaded reach needs
FEASIBLE_SHARE: Final = 0.4  # enough for most of them
WEAK_SHARE: Final = 0.35  # of its effort that each arm motor has in the world of weak motors
RADIUS_M: Final = 0.05  # of the obstacle, whose centre is half way from the palm at home to the ball
DT: Final = 0.02  # s
ARMS: Final = joints.GROUPS["arms"]
HANDS_KG: Final = (LOAD_KG, LOAD_KG)


@dataclass(frozen=True)
class Case:
    """One rule in one world.

    measure: what it is about, of `MEASURES`. loss: the rule, for an obstacle. outcomes: of `OUTCOMES`, the one that
    matters first. loaded: LOAD_KG in each hand. weak: arm motors with WEAK_SHARE of their effort.
    """

    measure: str
    loss: Callable[[Obstacle], PhysicsLoss]
    outcomes: tuple[str, ...] = ("success",)
    loaded: bool = False
    weak: bool = False
    config: GuidanceConfig = field(default_factory=GuidanceConfig)


def _composite(obstacle: Obstacle) -> PhysicsLoss:
    parts = (CollisionLoss((obstacle,)), 1.0), (TorqueLoss(TORQUE_SHARE), 0.5), (SmoothLoss(), 0.3)
    return CompositeLoss(parts)


LAST_STEP: Final = GuidanceConfig(start_time=0.75)  # of four: see SagLoss
AROUND: Final = ("untouched", "success")
CASES: Final = {
    "collision": Case("clearance_cm", lambda obstacle: CollisionLoss((obstacle,)), AROUND),
    "composite": Case("clearance_cm", _composite, AROUND),
    "payload": Case("torque_held", lambda _: PayloadLoss(HANDS_KG, TORQUE_SHARE), loaded=True),
    "payload, feasible": Case("torque_held", lambda _: PayloadLoss(HANDS_KG, FEASIBLE_SHARE), loaded=True),
    "sag": Case("distance_cm", lambda _: SagLoss(HANDS_KG), loaded=True, config=LAST_STEP),
    "torque": Case("torque_peak", lambda _: TorqueLoss(TORQUE_SHARE)),
    "weak motors": Case("saturated", lambda _: TorqueLoss(WEAK_SHARE), weak=True),
    "smooth": Case("jerk", lambda _: SmoothLoss()),
}
OUTCOMES: Final = {"success": "reached", "untouched": "reached without contact"}
MEASURES: Final = {
    "torque_peak": "largest share of an arm motor's effort",
    "torque_held": "largest share of an arm motor's effort, mean over the last 0.2 s",
    "saturated": "share of control steps with a saturated arm motor",
    "distance_cm": "palm to ball at the end, cm",
    "clearance_cm": "least distance of arm and obstacle, cm",
    "jerk": "jerk of the arms' targets, rms, rad/s^3",
}


def case_settings(case: Case) -> dict[str, Any]:
    """All that a case's episodes depend on, its rule with its numbers."""
    rule = repr(case.loss(Obstacle((0.0, 0.0, 0.0), radius=RADIUS_M)))
    world = {"load_kg": LOAD_KG if case.loaded else 0.0, "arm_effort": effort_share(case)}
    return world | {"rule": rule, "guidance": asdict(case.config)}


def effort_share(case: Case) -> float:
    """Share of its effort that each arm motor has in a case."""
    return WEAK_SHARE if case.weak else 1.0


def load_hands(env: Any, case: Case) -> None:
    """Put what a case wants into both hands; it stays there over resets."""
    load = (Payload("left_hand", LOAD_KG), Payload("right_hand", LOAD_KG))
    env.world.apply_fault(load if case.loaded else None)


def weaken_arms(env: Any, case: Case) -> None:
    """Cut the arm motors' torque as a case wants it, their gains as they are; a reset makes them whole again."""
    most = effort_share(case) * joints.EFFORT[ARMS]
    env.world.model.actuator_forcerange[ARMS] = np.stack([-most, most], axis=1)


def obstacle_on_the_way(hand: int, target_pos_b: np.ndarray) -> Obstacle:
    """A ball half way between the palm of the home pose and the target (3,) m, pelvis frame."""
    start = palm_poses(joints.HOME)[0][hand]
    x, y, z = (0.5 * (start + target_pos_b)).tolist()
    return Obstacle((x, y, z), radius=RADIUS_M)


def clearance_m(joint_pos: np.ndarray, obstacle: Obstacle) -> float:
    """Least distance, m, between either arm and an obstacle over postures (T, 29) rad; negative inside it."""
    centers, radii = arm_spheres(limb_poses(torch.from_numpy(joint_pos)[None]))
    return float((gaps(centers, (obstacle,))[..., 0] - radii).min())


def measures(episode: NeonEpisode, distance_m: float, obstacle: Obstacle, effort: float = 1.0) -> dict[str, float]:
    """One episode's figures, see `MEASURES`; from what the robot sensed in it.

    Torques are shares of the nominal effort; `effort` is the share at which a motor of this world saturates.
    """
    body = episode.observations["proprio"].astype(np.float64)
    torque = np.abs(body[1:, 58:87])[:, ARMS] / joints.EFFORT[ARMS]  # the first was sensed before any action
    targets = np.stack([last_target(row) for row in body])[:, ARMS]
    third = np.diff(targets, n=3, axis=0) / DT**3
    return {
        "success": float(episode.success),
        "torque_peak": float(torque.max()),
        "torque_held": float(torque[-10:].max(axis=1).mean()),
        "saturated": float((torque >= 0.999 * effort).any(axis=1).mean()),
        "distance_cm": 100.0 * distance_m,
        "clearance_cm": 100.0 * clearance_m(body[:, :29], obstacle),
        "jerk": math.sqrt(float(np.square(third).mean())),
    }


def outcome(episode: Mapping[str, Any], name: str) -> bool:
    """Whether an episode's figures say that it came to an outcome of `OUTCOMES`."""
    return bool(episode["success"]) and (name == "success" or episode["clearance_cm"] >= 0.0)
