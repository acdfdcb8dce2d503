"""The regimes of a long life: what is wrong with the robot or its world, how badly, and why a real G1 could meet it.

A regime is a description in words and numbers that needs no simulator: the name of a fault class of
`neon_sim.sim.faults`, its fields, and the one of them that says how bad it is. How bad is settled before anything is
learned (`raise_severity`): from `mildest` on it is raised, to `worst` at most, until the frozen policy loses
`ENOUGH_LOSS`. A regime that takes less than `LEAST_LOSS` even then is "no loss", and counts nowhere. Whether it counts
is settled with its severity and written beside it: the episodes that are reported on do not decide it again. Of tasks
that were not calibrated they do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from neon_sim.names import nearest

NOMINAL: Final = "nominal"
LEAST_LOSS: Final = 0.1  # success that a regime must take from the frozen policy to count
ENOUGH_LOSS: Final = 0.2  # that it is raised for: twice as much, so that chance does not make it "no loss"


@dataclass(frozen=True)
class Regime:
    """One kind of trouble. Without a `fault`, nothing is wrong."""

    name: str
    fault: str = ""  # class in neon_sim.sim.faults
    fixed: tuple[tuple[str, Any], ...] = ()  # its other fields, by name
    knob: str = ""  # the field that says how bad it is
    joints: tuple[str, ...] = ()  # one such fault for each of them; () = one, of no joint
    mildest: float = 0.0  # where raising begins
    worst: float = 0.0  # what a real robot could still meet
    step: float = 0.0  # of raising, signed
    chosen: float = 0.0  # what is lived through: found by calibration, or by a first look
    source: str = ""  # of the limits
    counts: bool | None = None  # whether it took `LEAST_LOSS` when it was calibrated; None = it was not
    losses: tuple[tuple[float, float], ...] = ()  # (severity, success lost) of all that calibration tried
    episodes: int = 0  # of each of them
    attainable: float | None = None  # success of an expert that knows of it, where there is one that can be told

    def __post_init__(self) -> None:
        if not self.fault:
            return
        low, high = sorted((self.mildest, self.worst))
        if self.step == 0.0 or (self.worst - self.mildest) * self.step < 0.0 or not low <= self.chosen <= high:
            raise ValueError(
                f"Regime '{self.name}' wants a step from mildest to worst and a chosen {self.knob} between them, got"
                f" {self.mildest}, {self.worst}, step {self.step}, chosen {self.chosen}."
            )

    @property
    def faults(self) -> list[dict[str, Any]]:
        """Arguments of the fault's class at the chosen severity, for each fault; [] for nominal."""
        fields = {**dict(self.fixed), self.knob: self.chosen}
        found = [{"joint": joint, **fields} for joint in self.joints] or [fields]
        return found if self.fault else []

    @property
    def levels(self) -> list[float]:
        """Severities from the mildest to the worst."""
        count = int((self.worst - self.mildest) / self.step + 1e-9) + 1 if self.fault else 0
        return [round(self.mildest + i * self.step, 9) for i in range(count)]


_SHOULDER: Final = "right_shoulder_pitch_joint"
_ARM: Final = (_SHOULDER, "right_shoulder_roll_joint", "right_shoulder_yaw_joint", "right_elbow_joint")
_PAYLOAD: Final = Regime(
    "payload", "Payload", (("body", "right_hand"),), "mass", (), mildest=1.0, worst=3.0, step=0.5, chosen=1.0,
    source="kg. An arm is made for 2 kg, the EDU's for 3 (data sheet). 4 kg cannot be held where the balls are: the"
    " wrist's pitch would need more than its 5 N m at one ball of ten, and the robot steps forward under the load",
)  # fmt: skip
_WEAK: Final = Regime(
    "weak_motor", "ActuatorFault", (("bias", 0.0),), "strength", _ARM,
    mildest=0.6, worst=0.2, step=-0.1, chosen=0.6,
    source="share that is left to the motors of one arm. 60 % is usual in work on adaptation; the limit is ours: a"
    " fifth still carries the arm (about 3 of the shoulder's 25 N m)",
)  # fmt: skip
_BIAS: Final = Regime(
    "actuator_bias", "ActuatorFault", (("strength", 1.0),), "bias", (_SHOULDER,),
    mildest=0.1, worst=0.35, step=0.05, chosen=0.1,
    source="rad. A tenth is a coarse zeroing; 0.35 (20 degrees) as a limit is ours, more is seen by eye",
)  # fmt: skip
_FRICTION: Final = Regime(
    "low_friction", "LowFriction", (), "friction", (), mildest=0.3, worst=0.1, step=-0.1, chosen=0.1,
    source="sliding. Rubber on a wet floor to rubber on ice; nominal is 0.6. The limits are ours",
)  # fmt: skip
_LATENCY: Final = Regime(
    "latency", "AddedLatency", (("sensing_s", 0.0),), "action_s", (), mildest=0.02, worst=0.06, step=0.02, chosen=0.06,
    source="s. One control period, to the three that a remote policy of 50 ms costs at 50 Hz (Neon's documents)",
)  # fmt: skip

_LEG: Final = ("left_hip_pitch_joint", "left_knee_joint", "left_ankle_pitch_joint")
_LEGS: Final = (*_LEG, *(name.replace("left", "right") for name in _LEG))
_RUCKSACK: Final = Regime(
    "payload", "Payload", (("body", "torso"),), "mass", (), mildest=8.0, worst=16.0, step=4.0, chosen=16.0,
    source="kg on the torso, of a robot of 35 kg: a child's rucksack to half of its own weight. The limit is ours",
)  # fmt: skip
_WEAK_LEG: Final = Regime(
    "weak_motor", "ActuatorFault", (("bias", 0.0),), "strength", _LEG,
    mildest=0.6, worst=0.2, step=-0.1, chosen=0.3,
    source="share that is left to hip pitch, knee and ankle pitch of one leg. 60 % is usual in work on adaptation; the"
    " limit is ours: a fifth no longer carries the robot",
)  # fmt: skip
_WEAK_LEGS: Final = replace(_WEAK_LEG, name="weak_legs", joints=_LEGS, worst=0.4, chosen=0.4)
_HIP_BIAS: Final = Regime(
    "actuator_bias", "ActuatorFault", (("strength", 1.0),), "bias", ("left_hip_pitch_joint",),
    mildest=0.1, worst=0.35, step=0.05, chosen=0.3, source=_BIAS.source,
)  # fmt: skip
_HIP_TWIST: Final = replace(_HIP_BIAS, name="twisted_hip", joints=("left_hip_yaw_joint",))
_SLOW: Final = replace(_LATENCY, fixed=(("sensing_s", 0.06),), source="s, and as much again for what is sensed: 60 ms. "
    + _LATENCY.source.removeprefix("s. "))  # fmt: skip

# What `benchmarks/forgetting.py --calibrate` found for the shipped policy, which has 298 of 300 on nominal.
# `attainable` is of 100 episodes.
_REACH: Final = (
    replace(_PAYLOAD, chosen=1.0, counts=True, losses=((1.0, 0.25),), episodes=300, attainable=1.0),
    replace(
        _WEAK,
        chosen=0.3,
        counts=True,
        losses=((0.6, -0.0033), (0.5, 0.0067), (0.4, 0.11), (0.3, 0.3867)),
        episodes=300,
        attainable=1.0,
    ),
    replace(_BIAS, chosen=0.15, counts=True, losses=((0.1, 0.0867), (0.15, 0.42)), episodes=300, attainable=1.0),
    replace(_FRICTION, chosen=0.1, counts=False, losses=((0.3, 0.0), (0.2, 0.0), (0.1, 0.0)), episodes=300),
    replace(_LATENCY, chosen=0.06, counts=False, losses=((0.02, 0.0), (0.04, 0.0), (0.06, -0.0033)), episodes=300),
)
# The same for the gestures' policy (`benchmarks/forgetting.py --task wave`), which has 295 of 300 on nominal.
# With a fifth of its motors an arm cannot be raised at all, by the expert that knows of it neither (none of 6).
_WAVE: Final = (
    replace(_PAYLOAD, chosen=2.0, counts=True, losses=((1.0, 0.1167), (1.5, 0.1767), (2.0, 0.3233)), episodes=300),
    replace(
        _WEAK,
        chosen=0.2,
        counts=True,
        losses=((0.6, 0.0), (0.5, 0.0067), (0.4, 0.0433), (0.3, 0.1467), (0.2, 0.35)),
        episodes=300,
    ),
    replace(_BIAS, chosen=0.2, counts=True, losses=((0.1, 0.04), (0.15, 0.1533), (0.2, 0.2367)), episodes=300),
    replace(_FRICTION, chosen=0.1, counts=False, losses=((0.3, 0.0033), (0.2, 0.01), (0.1, 0.0233)), episodes=300),
    replace(_LATENCY, chosen=0.06, counts=False, losses=((0.02, 0.0067), (0.04, 0.0033), (0.06, 0.0667)), episodes=300),
)
# A first look, one to ten episodes a level, at what the walker alone does: not calibrated. It walks with 16 kg, 5 times
# of 6 with a leg at 40 %, 4 of 6 on ice; with a leg at 20 %, or with 60 ms of latency, it falls 6 times of 6. With a
# hip's pitch 0.3 rad off it goes astray 6 times of 10, with its yaw 5 times. It stands in all of this but with a leg at
# 20 %, and falls with both at 40 % and with 60 ms of latency each way.
_WALK: Final = (_RUCKSACK, _WEAK_LEG, _HIP_BIAS, _HIP_TWIST, _FRICTION, _LATENCY)
_STAND: Final = (_RUCKSACK, replace(_WEAK_LEG, chosen=0.2), _WEAK_LEGS, _HIP_BIAS, _FRICTION, _SLOW)
REGIMES: Final[dict[str, tuple[Regime, ...]]] = {  # by task, in the order of a life
    "reach": (Regime(NOMINAL), *_REACH),
    "wave": (Regime(NOMINAL), *_WAVE),
    "stand": (Regime(NOMINAL), *_STAND),
    "walk": (Regime(NOMINAL), *_WALK),
}
# Other tasks that walk: what is broken in them is what is broken in `walk`, and was not calibrated for them.
_LIKE: Final = {"navigate": "walk", "push_box": "walk"}
# Tasks whose severities were settled by `raise_severity`; those of the others are the mildest, or a first look.
CALIBRATED: Final = tuple(task for task, found in REGIMES.items() if all(r.counts is not None for r in found[1:]))


def regimes_of(task: str) -> tuple[Regime, ...]:
    """A task's regimes, nominal first.

    Raises:
        ValueError: no such task.
    """
    if task not in REGIMES:
        raise nearest("task with regimes", task, REGIMES)
    return REGIMES[task]


def regimes_by_name(task: str) -> dict[str, Regime]:
    """What may be wrong in a task, by name; in navigate and push_box, what may be in walk.

    Raises:
        ValueError: no such task.
    """
    return {regime.name: regime for regime in regimes_of(_LIKE.get(task, task))}


def life_order(regimes: Sequence[Regime]) -> list[int]:
    """The one life: nominal, each trouble, nominal again, each trouble again; numbers of regimes, nominal is 0."""
    troubles = list(range(1, len(regimes)))
    return [0, *troubles, 0, *troubles]


def raise_severity(regime: Regime, lost: Callable[[Regime], float]) -> Regime:
    """The regime at the mildest level at which the frozen policy loses `ENOUGH_LOSS`, else at the worst.

    Args:
        regime: what to raise.
        lost: success (0-1) that the frozen policy loses in a regime; asked once for each level that is tried.

    Returns:
        It with its level chosen, what was lost at each level that was tried, and whether it counts.
    """
    losses: list[tuple[float, float]] = []
    for level in regime.levels:
        regime = replace(regime, chosen=level)
        losses.append((level, lost(regime)))
        if losses[-1][1] >= ENOUGH_LOSS - 1e-9:
            break
    return replace(regime, losses=tuple(losses), counts=losses[-1][1] >= LEAST_LOSS - 1e-9)
