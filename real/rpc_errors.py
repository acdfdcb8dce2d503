"""What can go wrong with a call to one of the robot's services: each status code as an exception with its name.

Codes: unitree_sdk2_python 37116c52 rpc/internal.py; 73xx and 74xx unitree_sdk2 21d0a3b2 g1_loco_error.hpp and
g1_arm_action_error.hpp.
"""

from typing import ClassVar


class RpcError(RuntimeError):
    """A call that did not succeed, with its status on the wire; one that has no class of its own comes as this."""

    code: int = 3001
    meaning: ClassVar[str] = "The service reports a status that this package does not know."

    def __init__(self, detail: str = "", code: int | None = None) -> None:
        """detail: what was asked, or what is wrong with it. code: only for a status without a class of its own."""
        self.code = type(self).code if code is None else code
        super().__init__(f"{detail + ': ' if detail else ''}{self.meaning} (status {self.code})")


class NoServerError(RpcError):
    """Nobody serves."""

    code = 3102
    meaning = (
        "Nobody answers to this service. Is the robot or the bridge up, on the same domain and interface? "
        "`sport` is also gone while motion_switcher has released the mode."
    )


class RpcTimeoutError(RpcError):
    """The server was there and did not answer in time."""

    code = 3104
    meaning = "No answer in time. Whether the call was carried out is not known: ask for the state before repeating it."


class WrongReplyError(RpcError):
    """The answer has this request's id and another function's number, or is not JSON."""

    code = 3106
    meaning = "The answer cannot be read. The service is of another version than this client."


class ServerFailedError(RpcError):
    """The server broke while it worked."""

    code = 3202
    meaning = "The service failed inside. Its own log says why."


class UnknownApiError(RpcError):
    """The server does not know this function, or not in its present mode."""

    code = 3203
    meaning = "The service does not have this function, or not in its present mode."


class BadParameterError(RpcError):
    """The parameters are not what the function takes."""

    code = 3204
    meaning = "The parameters are not what the function takes."


class LeaseDeniedError(RpcError):
    """Another client holds the service."""

    code = 3205
    meaning = "Another client holds this service."


class SportUnavailableError(RpcError):
    """sport: the robot's locomotion state cannot be had."""

    code = 7301
    meaning = "The robot's locomotion does not run."


class UnknownFsmError(RpcError):
    """sport: no such state, or none that can follow on the present one."""

    code = 7302
    meaning = "There is no such state of the robot's state machine, or no way to it from the present one."


class UnknownTaskError(RpcError):
    """sport: no such arm task."""

    code = 7303
    meaning = "There is no such arm task."


class ArmsTakenError(RpcError):
    """arm: somebody writes to rt/arm_sdk."""

    code = 7400
    meaning = "Somebody else commands the arms over rt/arm_sdk."


class ArmsHoldingError(RpcError):
    """arm: a held gesture has to be released first."""

    code = 7401
    meaning = "The arms hold a gesture. Release it (99), or ask for the same again."


class UnknownGestureError(RpcError):
    """arm: no such gesture."""

    code = 7402
    meaning = "There is no such gesture."


class NoGestureNowError(RpcError):
    """arm: the robot's state does not allow gestures."""

    code = 7404
    meaning = "Gestures need the robot standing or walking (fsm 500, 501, or 801 in mode 0 or 3)."


_BY_CODE: dict[int, type[RpcError]] = {error.code: error for error in RpcError.__subclasses__()}
_BY_CODE |= {3105: WrongReplyError, 3206: LeaseDeniedError, 3207: LeaseDeniedError}


def error_for(code: int, detail: str) -> RpcError:
    """Build (not raise) the exception for a status other than 0."""
    return _BY_CODE.get(code, RpcError)(detail, code)
