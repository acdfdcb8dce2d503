"""The `sport` service: the robot's own locomotion, asked over the network or served by our walker.

Numbers and JSON: unitree_sdk2_python 37116c52 g1/loco. Velocities carry their own dead-man: each holds for its duration
and then becomes zero, so that a client that dies does not leave a robot walking.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Final, Protocol

from neon_sim.real.rpc import Handler, Reply, RpcClient, RpcServer, finite, is_finite, number
from neon_sim.real.rpc_errors import BadParameterError, WrongReplyError
from neon_sim.real.transport import Link

SERVICE: Final = "sport"
VERSION: Final = "1.0.0.0"
LONGEST_VELOCITY_S: Final = 1.0  # what our client will ask for; the vendor's "continuous" move asks for ten days


class Fsm(IntEnum):
    """States of the robot's state machine that are known by name; newer firmware has more."""

    ZERO_TORQUE = 0
    DAMP = 1
    SQUAT = 2
    SIT = 3
    STAND_UP = 4
    WALK = 500
    LIE_TO_STAND = 702
    SQUAT_TO_STAND_AND_BACK = 706


class Api(IntEnum):
    """The service's functions."""

    GET_FSM_ID = 7001
    GET_FSM_MODE = 7002
    GET_BALANCE_MODE = 7003
    GET_SWING_HEIGHT = 7004
    GET_STAND_HEIGHT = 7005
    SET_FSM_ID = 7101
    SET_BALANCE_MODE = 7102
    SET_SWING_HEIGHT = 7103
    SET_STAND_HEIGHT = 7104
    SET_VELOCITY = 7105
    SET_ARM_TASK = 7106
    SET_SPEED_MODE = 7107
    TO_USER_CONTROL = 7110
    TO_INTERNAL_CONTROL = 7111


class Sport(Protocol):
    """Locomotion: `SportClient` is one over the network, the simulated robot is another."""

    def fsm_id(self) -> int:
        """Return the state (`Fsm`)."""

    def fsm_mode(self) -> int:
        """Return the state's own mode."""

    def balance_mode(self) -> int:
        """Return 0 (stands when it can) or 1 (steps all the time)."""

    def swing_height(self) -> float:
        """Return how high the feet lift, m."""

    def stand_height(self) -> float:
        """Return the height of standing; in the robot's own measure, 0 lowest."""

    def set_fsm_id(self, fsm_id: int) -> None:
        """Go to a state. Raises UnknownFsmError: none such, or no way there."""

    def set_balance_mode(self, mode: int) -> None:
        """Choose a balance mode."""

    def set_swing_height(self, height: float) -> None:
        """Choose how high the feet lift, m."""

    def set_stand_height(self, height: float) -> None:
        """Choose the height of standing; 0 is the lowest and 2**32 - 1 the highest."""

    def set_velocity(self, velocity: Sequence[float], duration_s: float = LONGEST_VELOCITY_S) -> None:
        """Walk at (m/s forward, m/s left, rad/s to the left) for a time, then stand."""

    def set_arm_task(self, task_id: int) -> None:
        """Wave (0, 1 with a turn) or shake hands (2, 3). Raises UnknownTaskError."""

    def set_speed_mode(self, mode: int) -> None:
        """Choose a range of speeds."""

    def to_user_control(self) -> None:
        """Let rt/user_lowcmd command the motors."""

    def to_internal_control(self, state: int) -> None:
        """Take the motors back, into the last state (0), a passive one (1) or walking (2)."""


class SportClient:
    """`Sport` over the network. Every method can raise an RpcError."""

    def __init__(self, link: Link, timeout_s: float = 1.0) -> None:
        self._rpc = RpcClient(link, SERVICE, timeout_s)

    def fsm_id(self) -> int:
        """See `Sport`."""
        return int(self._get(Api.GET_FSM_ID))

    def fsm_mode(self) -> int:
        """See `Sport`."""
        return int(self._get(Api.GET_FSM_MODE))

    def balance_mode(self) -> int:
        """See `Sport`."""
        return int(self._get(Api.GET_BALANCE_MODE))

    def swing_height(self) -> float:
        """See `Sport`."""
        return self._get(Api.GET_SWING_HEIGHT)

    def stand_height(self) -> float:
        """See `Sport`."""
        return self._get(Api.GET_STAND_HEIGHT)

    def set_fsm_id(self, fsm_id: int) -> None:
        """See `Sport`."""
        self._rpc.call(Api.SET_FSM_ID, {"data": int(fsm_id)})

    def set_balance_mode(self, mode: int) -> None:
        """See `Sport`."""
        self._rpc.call(Api.SET_BALANCE_MODE, {"data": int(mode)})

    def set_swing_height(self, height: float) -> None:
        """See `Sport`."""
        self._rpc.call(Api.SET_SWING_HEIGHT, {"data": float(height)})

    def set_stand_height(self, height: float) -> None:
        """See `Sport`."""
        self._rpc.call(Api.SET_STAND_HEIGHT, {"data": float(height)})

    def set_velocity(self, velocity: Sequence[float], duration_s: float = LONGEST_VELOCITY_S) -> None:
        """See `Sport`.

        Raises:
            ValueError: longer than `LONGEST_VELOCITY_S`: repeat it instead, so that it ends when you do.
        """
        self._rpc.call(Api.SET_VELOCITY, _velocity_parameter(velocity, duration_s))

    def set_arm_task(self, task_id: int) -> None:
        """See `Sport`."""
        self._rpc.call(Api.SET_ARM_TASK, {"data": int(task_id)})

    def set_speed_mode(self, mode: int) -> None:
        """See `Sport`."""
        self._rpc.call(Api.SET_SPEED_MODE, {"data": int(mode)})

    def to_user_control(self) -> None:
        """See `Sport`."""
        self._rpc.call(Api.TO_USER_CONTROL, {"data": False})

    def to_internal_control(self, state: int) -> None:
        """See `Sport`."""
        self._rpc.call(Api.TO_INTERNAL_CONTROL, {"data": int(state)})

    def post_fsm_id(self, fsm_id: int) -> None:
        """`set_fsm_id` without waiting for the answer: see `RpcClient.post`."""
        self._rpc.post(Api.SET_FSM_ID, {"data": int(fsm_id)})

    def post_velocity(self, velocity: Sequence[float], duration_s: float = LONGEST_VELOCITY_S) -> None:
        """`set_velocity` without waiting for the answer: see `RpcClient.post`. Raises ValueError as that does."""
        self._rpc.post(Api.SET_VELOCITY, _velocity_parameter(velocity, duration_s))

    def _get(self, api: Api) -> float:
        data = self._rpc.call(api).data
        if not isinstance(data, dict) or not is_finite(data.get("data")):
            raise WrongReplyError(f'{SERVICE}/{api} wanted {{"data": number}}, got {data!r}')
        return data["data"]


def _velocity_parameter(velocity: Sequence[float], duration_s: float) -> dict[str, Any]:
    if not 0 < duration_s <= LONGEST_VELOCITY_S:
        raise ValueError(
            f"duration_s must be above 0 and at most {LONGEST_VELOCITY_S}, got {duration_s}. To walk on, repeat "
            "the call: then the robot stops when this program does."
        )
    vx, vy, yaw_rate = (float(value) for value in velocity)
    return {"velocity": [vx, vy, yaw_rate], "duration": float(duration_s)}


def serve_sport(link: Link, sport: Sport) -> RpcServer:
    """Offer a locomotion as the `sport` service; poll the server that comes back."""
    handlers: dict[int, Handler] = {
        Api.GET_FSM_ID: _tell(sport.fsm_id),
        Api.GET_FSM_MODE: _tell(sport.fsm_mode),
        Api.GET_BALANCE_MODE: _tell(sport.balance_mode),
        Api.GET_SWING_HEIGHT: _tell(sport.swing_height),
        Api.GET_STAND_HEIGHT: _tell(sport.stand_height),
        Api.SET_FSM_ID: _take(sport.set_fsm_id, int),
        Api.SET_BALANCE_MODE: _take(sport.set_balance_mode, int),
        Api.SET_SWING_HEIGHT: _take(sport.set_swing_height, float),
        Api.SET_STAND_HEIGHT: _take(sport.set_stand_height, float),
        Api.SET_VELOCITY: _take_velocity(sport),
        Api.SET_ARM_TASK: _take(sport.set_arm_task, int),
        Api.SET_SPEED_MODE: _take(sport.set_speed_mode, int),
        Api.TO_USER_CONTROL: _let_go(sport),
        Api.TO_INTERNAL_CONTROL: _take(sport.to_internal_control, int),
    }
    return RpcServer(link, SERVICE, handlers, VERSION)


def _tell(getter: Callable[[], float]) -> Handler:
    return lambda parameter, binary: Reply({"data": getter()})


def _take(setter: Callable[[Any], None], kind: type[int] | type[float]) -> Handler:
    def handle(parameter: dict[str, Any], binary: bytes) -> Reply:
        setter(kind(number(parameter, "data")))
        return Reply()

    return handle


def _take_velocity(sport: Sport) -> Handler:
    def handle(parameter: dict[str, Any], binary: bytes) -> Reply:
        values = parameter.get("velocity")
        if not isinstance(values, list) or len(values) != 3:
            raise BadParameterError(f"wanted three numbers as 'velocity', got {values!r}")
        velocity = [finite("velocity", value) for value in values]
        sport.set_velocity(velocity, number(parameter, "duration"))
        return Reply()

    return handle


def _let_go(sport: Sport) -> Handler:
    def handle(parameter: dict[str, Any], binary: bytes) -> Reply:
        sport.to_user_control()
        return Reply()

    return handle
