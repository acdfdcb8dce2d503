"""The regimes of a long life: what is wrong with the robot or its world, how badly, and why a real G1 could meet it.

A regime is a description in words and numbers that needs no simulator: the name of a fault class of
`neon_sim.sim.faults`, its fields, and the one of them that says how bad it is. How bad is settled before anything is
learned (`raise_severity`): from `mildest` on it is raised, to `worst` at most, until the frozen policy loses enough. A
regime that takes nothing even then is "no loss", and counts nowhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from neon_sim.names import nearest

NOMINAL: Final = "nominal"
LEAST_LOSS: Final = 0.1  # success that a regime must take from the frozen policy to count


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
    chosen: float = 0.0  # what `--calibrate` found, and what is lived through
    source: str = ""  # of the limits

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
    "payload", "Payload", (("body", "right_hand"),), "mass", (), mildest=4.0, worst=5.0, step=0.5, chosen=4.0,
    source="kg. 5 kg at 0.35 m ask 17 N m of a shoulder that has 25 N m (data sheet) and must lift its arm as well",
)  # fmt: skip
_WEAK: Final = Regime(
    "weak_motor", "ActuatorFault", (("bias", 0.0),), "strength", _ARM,
    mildest=0.6, worst=0.2, step=-0.1, chosen=0.4,
    source="share that is left to the motors of one arm. 60 % is usual in work on adaptation; the limit is ours: a"
    " fifth still carries the arm (about 3 of the shoulder's 25 N m)",
)  # fmt: skip
_BIAS: Final = Regime(
    "actuator_bias", "ActuatorFault", (("strength", 1.0),), "bias", (_SHOULDER,),
    mildest=0.1, worst=0.35, step=0.05, chosen=0.15,
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

# What was chosen, and the success of the shipped reach policy in it (it has 100 of 100 on nominal): payload 48 of 100,
# weak motor 88 (97 at the level before), actuator bias 57 (92 before). Friction and latency are at their limits and
# took nothing in 16 episodes.
_TROUBLES: Final = (_PAYLOAD, _WEAK, _BIAS, _FRICTION, _LATENCY)
# A first look, one to ten episodes a level, at what the walker alone does: not calibrated. It walks with 16 kg, 5 times
# of 6 with a leg at 40 %, 4 of 6 on ice; with a leg at 20 %, or with 60 ms of latency, it falls 6 times of 6. With a
# hip's pitch 0.3 rad off it goes astray 6 times of 10, with its yaw 5 times. It stands in all of this but with a leg at
# 20 %, and falls with both at 40 % and with 60 ms of latency each way.
_WALK: Final = (_RUCKSACK, _WEAK_LEG, _HIP_BIAS, _HIP_TWIST, _FRICTION, _LATENCY)
_STAND: Final = (_RUCKSACK, replace(_WEAK_LEG, chosen=0.2), _WEAK_LEGS, _HIP_BIAS, _FRICTION, _SLOW)
REGIMES: Final[dict[str, tuple[Regime, ...]]] = {  # by task, in the order of a life
    "reach": (Regime(NOMINAL), *_TROUBLES),
    "wave": (Regime(NOMINAL), *(replace(trouble, chosen=trouble.mildest) for trouble in _TROUBLES)),  # not calibrated
    "stand": (Regime(NOMINAL), *_STAND),
    "walk": (Regime(NOMINAL), *_WALK),
}
CALIBRATED: Final = ("reach",)  # tasks whose severities were settled by `raise_severity`: others are a first look


def regimes_of(task: str) -> tuple[Regime, ...]:
    """A task's regimes, nominal first.

    Raises:
        ValueError: no such task.
    """
    if task not in REGIMES:
        raise nearest("task with regimes", task, REGIMES)
    return REGIMES[task]


def life_order(regimes: Sequence[Regime]) -> list[int]:
    """The one life: nominal, each trouble, nominal again, each trouble again; numbers of regimes, nominal is 0."""
    troubles = list(range(1, len(regimes)))
    return [0, *troubles, 0, *troubles]


def raise_severity(
    regime: Regime, lost: Callable[[Regime], float], least_loss: float = LEAST_LOSS
) -> tuple[Regime, list[tuple[float, float]]]:
    """The mildest level at which the frozen policy loses `least_loss` of success, else the worst.

    Args:
        regime: what to raise.
        lost: success (0-1) that the frozen policy loses in a regime; asked once for each level that is tried.
        least_loss: success (0-1).

    Returns:
        The regime with its level chosen, and (level, loss) of what was tried.
    """
    tried: list[tuple[float, float]] = []
    for level in regime.levels:
        regime = replace(regime, chosen=level)
        tried.append((level, lost(regime)))
        if tried[-1][1] >= least_loss - 1e-9:
            break
    return regime, tried
