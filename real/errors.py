"""What can go wrong between an environment and a robot, each with its own name."""

from collections.abc import Sequence


class RobotError(RuntimeError):
    """The robot, or the process that controls it, did not do what it should."""


class NotArmedError(RobotError):
    """Something wanted to move a robot that no person has armed, or that has stopped since."""

    def __init__(self, reasons: Sequence[str], wanted: str = "move") -> None:
        """reasons: why it is not armed, in words; none = nobody has armed it yet. wanted: what was refused."""
        self.reasons = tuple(reasons)
        why = "; ".join(reasons) or "nobody has armed it yet"
        super().__init__(
            f"Cannot {wanted}: the robot is not armed ({why}). Look at the robot, remove the cause, then call "
            "robot.arm() yourself; no program does that for you."
        )


class ControlProcessError(RobotError):
    """The control process did not start, did not answer or died."""


class SenseError(RobotError):
    """A sense of the robot that should be there does not come."""


class VectorWrapperError(RobotError):
    """A vector wrapper wanted to hold a real robot: it resets by itself, and nobody stands beside each copy."""

    def __init__(self, wrapper: str) -> None:
        super().__init__(
            f"NeonG1Real-v0 was asked for by {wrapper}. A real robot is one env, reset and armed by a person: use "
            'gymnasium.make("NeonG1Real-v0", ...), and NeonG1-v0 for vectors.'
        )
