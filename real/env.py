"""NeonG1Real-v0: the same environment on the robot. No reward but for the eyes of a person, no reset but by consent.

env = gymnasium.make("NeonG1Real-v0", robot=sim_bridge(), sensors=("proprio",)).unwrapped
env.robot.arm()  # a person says so, beside the robot
obs, info = env.reset(options={"instruction": "raise your left hand"})
"""

import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NoReturn

import gymnasium
import numpy as np

from neon_sim.env import NeonG1Config, NeonG1Env
from neon_sim.g1 import joints
from neon_sim.instruction import instruction_option
from neon_sim.real.errors import VectorWrapperError
from neon_sim.real.g1_robot import UnitreeRobot
from neon_sim.real.robot_config import RobotConfig, sim_bridge
from neon_sim.real.senses import SENSE_NAMES
from neon_sim.robot import RobotCommand
from neon_sim.safety import CUT, SafetyReport, limit

_WRAPPERS = ("gymnasium.vector", "stable_baselines3.common.vec_env")


class NeonG1RealEnv(NeonG1Env):
    """`NeonG1Env` on a `UnitreeRobot`: spaces, decoding and limits are those of the simulation.

    What differs: the reward is 0.0 and `info["reward_available"]` False; a safety stop truncates, and
    `info["safety"]` says why; `reset` never arms, and raises NotArmedError after a stop; the words of an episode come
    from `options={"instruction": ...}` or from the constructor.

    Args:
        config: of the environment; its safety limits also hold in the control process.
        robot: where the robot is; None = the simulated one of this machine (`python -m neon_sim.real.bridge`, with
            `--senses` if the config names any that the bridge has).
        instruction: the words when `reset` is given none.
        render_mode: must be None: look at the robot.
        **overrides: fields of `NeonG1Config` by name.

    Raises:
        VectorWrapperError: a vector wrapper builds it.
        ValueError: a sense that the robot has not and that the robot's config does not mask, or another `variant`.
    """

    robot: UnitreeRobot

    def __init__(
        self,
        config: NeonG1Config | None = None,
        robot: RobotConfig | None = None,
        instruction: str = "",
        render_mode: str | None = None,
        **overrides: Any,
    ) -> None:
        _refuse_vector_wrappers()
        if render_mode is not None:
            raise ValueError(f"Only a simulated robot can be rendered, got render_mode {render_mode!r}. Leave it out.")
        config = replace(config or NeonG1Config(), **overrides)
        if config.variant != "29dof":
            raise ValueError(f"The robot is a 29dof one, got variant {config.variant!r}: others are simulated only.")
        body = UnitreeRobot(settings(config, robot), config.sensor_configs())
        with ExitStack() as undo:
            undo.callback(body.close)
            super().__init__(config, body)
            undo.pop_all()
        self._words = instruction

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin an episode where the robot is; an armed one brings its arms home first.

        Raises:
            NotArmedError: it has stopped since a person last armed it.
            ValueError: an unknown option, or words that do not fit.
        """
        self._refuse_if_closed("reset")
        words = instruction_option(options or {})
        gymnasium.Env.reset(self, seed=seed)
        self._steps = 0
        self._velocity = np.zeros(3)
        self._state = self.robot.reset(self.np_random)
        self._say(self._words if words is None else words)
        return self.look()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """See `NeonG1Env.step`; truncated after a safety stop too.

        Raises:
            NotArmedError: nobody has armed the robot.
        """
        obs, reward, terminated, truncated, info = super().step(action)
        self._add_safety(info)
        return obs, reward, terminated, truncated or info["safety"]["stopped"], info

    def look(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The newest observation and info, without doing anything."""
        self._running_state()
        self._state = state = self.robot.read()
        info = self._info(state, {}, None)
        self._add_safety(info)
        return self._observe(state), info

    def preview(self, action: np.ndarray) -> tuple[RobotCommand, SafetyReport]:
        """What `step` would send for an action (A,), and what it would cut. Nothing is sent."""
        state = self._running_state()
        target, velocity = self.action_map.decode(self._checked(action))
        mask = self.action_map.owned_mask
        target, velocity, report = limit(target, state.joint_target, mask, velocity, self._limits, self.robot.dt)
        return RobotCommand(target, mask, joints.KP, joints.KD, velocity, self.config.height), report

    def _add_safety(self, info: dict[str, Any]) -> None:
        """The control's own account beside the env's: it cuts what the env let pass, if anything."""
        mine, its = info["safety"], self.robot.safety()
        cut = {key: tuple(dict.fromkeys((*mine[key], *its[key]))) for key in CUT}
        info["safety"] = {**mine, **its, **cut, "clipped": any(cut.values())}


def settings(config: NeonG1Config, robot: RobotConfig | None = None) -> RobotConfig:
    """The robot's settings with the env's safety limits in them: its own distance to itself holds if it is greater.

    None is the simulated robot of this machine, with those of its senses that the env wants.

    Raises:
        ValueError: limits that only a simulation may have, where a robot may be.
    """
    if robot is None:
        robot = sim_bridge(senses=[name for name in config.sensor_configs() if name in SENSE_NAMES])
    apart = max(config.safety.self_distance, robot.control.safety.self_distance)
    safety = replace(config.safety, self_distance=apart)
    return replace(robot, control=replace(robot.control, safety=safety))


def refuse_vector(*_: Any, **__: Any) -> NoReturn:
    """What `gymnasium.make_vec("NeonG1Real-v0")` builds."""
    raise VectorWrapperError("gymnasium.make_vec")


def _refuse_vector_wrappers() -> None:
    """Look who is building: vector wrappers reset by themselves, and no argument tells an env that it is in one."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        builder = str(frame.f_globals.get("__name__", ""))
        if builder.startswith(_WRAPPERS):
            raise VectorWrapperError(builder)
