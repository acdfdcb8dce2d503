"""NeonG1Env: the only Gymnasium env here, the same class in simulation and on the robot."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final

import gymnasium
import numpy as np
from gymnasium import spaces

from neon_sim.blas import one_blas_thread
from neon_sim.env_config import ALL_SENSORS, CONTROL_DT, HIGHEST, PRIVILEGED, SENSORS, NeonG1Config
from neon_sim.g1 import joints
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.instruction import INSTRUCTION_BYTES, decode_instruction, encode_instruction, instruction_option
from neon_sim.names import nearest
from neon_sim.robot import Robot, RobotCommand, RobotState, World
from neon_sim.safety import CUT, SafetyLimits, SafetyReport, all_finite, limit
from neon_sim.sensors.audio import Microphone
from neon_sim.sensors.depth import DepthCamera
from neon_sim.sensors.proprio import EEF_LIMIT, PROPRIO_LIMIT, eef_vector, proprio_vector
from neon_sim.sensors.state import STATE_LIMIT, state_vector
from neon_sim.sensors.voice import give_voice
from neon_sim.sim.divergence import started_over
from neon_sim.sim.model import lacking_joints
from neon_sim.sim.scene import build_scene
from neon_sim.sim.sim_robot import SimRobot
from neon_sim.sim.view import View, open_view
from neon_sim.tasks import make_task
from neon_sim.tasks.speaking import SpeakingTask, say_if_deaf, spoken_words

if TYPE_CHECKING:
    from neon_sim.vector_env.forks import Forks

__all__ = [
    "ALL_SENSORS",
    "CONTROL_DT",
    "INSTRUCTION_BYTES",
    "PRIVILEGED",
    "SENSORS",
    "NeonG1Config",
    "NeonG1Env",
    "decode_instruction",
    "encode_instruction",
    "observation_space",
]

_NOTHING_CLIPPED = {"clipped": False, **dict.fromkeys(CUT, ())}

# The keys that the env works out itself, by sensor: the largest size of each entry, and how it is read.
_Entry = tuple[np.ndarray, Callable[["NeonG1Env", RobotState], np.ndarray]]
_OWN: Final[dict[str, dict[str, _Entry]]] = {
    "proprio": {
        "proprio": (PROPRIO_LIMIT, lambda env, state: proprio_vector(state, env._velocity)),
        "eef": (EEF_LIMIT, lambda env, state: eef_vector(state)),
    },
    PRIVILEGED: {"state": (STATE_LIMIT, lambda env, state: state_vector(env._require_world(), env.privileged()))},
}


def _symmetric_box(limit: np.ndarray) -> spaces.Box:
    return spaces.Box(-limit, limit, dtype=np.float32)


def _own_keys(sensors: tuple[str, ...]) -> dict[str, _Entry]:
    return {key: entry for name, keys in _OWN.items() if name in sensors for key, entry in keys.items()}


def observation_space(config: NeonG1Config) -> spaces.Dict:
    """A one-level Dict with finite bounds; keys exist only for enabled sensors."""
    parts: dict[str, spaces.Space] = {
        "command": _symmetric_box(np.array([*config.safety.max_velocity, HIGHEST], np.float32)),
        "instruction": spaces.Box(0, 255, (INSTRUCTION_BYTES,), np.uint8),
    }
    parts.update({key: _symmetric_box(limit) for key, (limit, _) in _own_keys(config.sensors).items()})
    parts.update({name: sensor.space() for name, sensor in config.sensor_configs().items()})
    return spaces.Dict(parts)


class NeonG1Env(gymnasium.Env[dict[str, Any], np.ndarray]):
    """Observe, act at 50 Hz, be rewarded.

    Args:
        config: the whole configuration, or None for the defaults.
        robot: the body; None builds a `SimRobot` for the config's task.
        render_mode: None, "rgb_array" or "human".
        **overrides: fields of `NeonG1Config` by name.

    Raises:
        ValueError: for an unknown field, task, mode or sensor, naming the nearest valid one.
    """

    observation_space: spaces.Dict
    action_space: spaces.Box
    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": round(1 / CONTROL_DT)}

    def __init__(
        self,
        config: NeonG1Config | None = None,
        robot: Robot | None = None,
        render_mode: str | None = None,
        **overrides: Any,
    ) -> None:
        known = [f.name for f in fields(NeonG1Config)]
        for name in overrides:
            if name not in known:
                raise nearest("NeonG1-v0 option", name, known)
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise nearest("render_mode", render_mode, self.metadata["render_modes"])
        self.config = replace(config or NeonG1Config(), **overrides)
        self.render_mode = render_mode
        self.task = make_task(self.config.task, self.config.task_options)
        say_if_deaf(self.task, self.config.sensors)
        self.action_map = G1ActionSpace(self.config.control_mode, self.config.action_center)
        self.action_space = spaces.Box(-1.0, 1.0, (self.action_map.dim,), np.float32)
        self.observation_space = observation_space(self.config)
        self.robot = robot if robot is not None else self._build_sim()
        self.world: World | None = self.robot if isinstance(self.robot, World) else None
        if self.world is None and PRIVILEGED in self.config.sensors:
            raise ValueError(
                f"Only a simulation knows the sensor {PRIVILEGED!r}: leave it out of `sensors` on a robot."
            )
        self._limits = SafetyLimits(self.config.safety)
        self._captured = tuple(self.config.sensor_configs())
        self._max_steps = self.config.max_steps or self.task.max_steps
        self._fall_cosine = float(np.cos(self.config.fall_tilt))
        self._lacking = lacking_joints(self.config.variant)
        self._own = {key: read for key, (_, read) in _own_keys(self.config.sensors).items()}
        self._velocity: np.ndarray = np.zeros(3)
        self._steps = 0
        self._instruction = ""
        self._instruction_code = encode_instruction("")
        self._state: RobotState | None = None
        self._view: View | None = None
        self._depth = self._depth_for_info()
        self._closed = False

    @one_blas_thread()
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode. `options={"instruction": text}` replaces the words, not the goal.

        Raises:
            ValueError: an unknown option, or words that do not fit.
            gymnasium.error.ClosedEnvironmentError: after `close`.
        """
        self._refuse_if_closed("reset")
        words = instruction_option(options or {})
        super().reset(seed=seed)
        self._steps = 0
        self._velocity = np.zeros(3)
        self._state = state = self.robot.reset(self.np_random)
        instruction = self.task.reset(state, self._require_world(), self.np_random)
        self._say(instruction if words is None else words)
        self._speak()
        if self.render_mode == "human":
            self.render()
        return self._observe(state), self._info(state, {}, None)

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Decode, limit, write, advance, read, reward, sense, done.

        An episode whose physics diverged, after which MuJoCo starts over by itself, is terminated with
        `info["diverged"]`; what is observed then is the robot that started over.

        Raises:
            ValueError: for a wrong shape or a number that is not finite, before anything moves.
            gymnasium.error.ResetNeeded: before the first `reset`.
            gymnasium.error.ClosedEnvironmentError: after `close`.
        """
        before = state = self._running_state()
        target, velocity = self.action_map.decode(self._checked(action))
        target[self._lacking] = 0.0  # where such a joint is, for the limits to know
        mask = self.action_map.owned_mask
        target, self._velocity, report = limit(target, state.joint_target, mask, velocity, self._limits, self.robot.dt)
        self.robot.write(RobotCommand(target, mask, joints.KP, joints.KD, self._velocity, self.config.height))
        self.robot.advance()
        self._state = state = self.robot.read()
        self._steps += 1
        reward, terms = self._reward(state)
        obs = self._observe(state)
        diverged = self.world is not None and started_over(before.time_s, state.time_s, CONTROL_DT)
        terminated = bool(diverged or self._fallen(state) or self.task.failed)
        truncated = self._steps >= self._max_steps
        if self.render_mode == "human":
            self.render()
        return obs, reward, terminated, truncated, self._info(state, terms, report, diverged)

    def render(self) -> np.ndarray | None:
        """A (480, 640, 3) uint8 picture from beside the robot, or a live window in "human" mode."""
        if self.render_mode is None:
            gymnasium.logger.warn('render() does nothing without a mode: make(..., render_mode="rgb_array").')
            return None
        self._running_state()
        if not isinstance(self.robot, SimRobot):
            raise ValueError("Only a simulated robot can be rendered; look at the real one.")
        if self._view is None:
            self._view = open_view(self.robot.model, self.robot.data, self.render_mode)
        return self._view.show()

    def close(self) -> None:
        """Close renderers, window and robot. Safe to call twice; nothing else works afterwards."""
        self._closed, self._state = True, None
        if self._view is not None:
            self._view.close()
            self._view = None
        self.robot.close()

    def get_state(self) -> dict[str, Any]:
        """Everything that the future of this episode depends on; simulation only."""
        self._running_state()
        return {
            "of": self._made_of(),
            "robot": self._require_world().get_state(),
            "task": self.task.get_state(),
            "rng": self.np_random.bit_generator.state,
            "velocity": self._velocity.copy(),
            "steps": self._steps,
            "instruction": self._instruction,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of `get_state`, also of another env of the same config: what follows is equal to the bit.

        No `reset` is needed before it.

        Raises:
            ValueError: a state of another task, of other options of it, or of other senses.
            gymnasium.error.ClosedEnvironmentError: after `close`.
        """
        self._refuse_if_closed("set the state")
        theirs, ours = state.get("of", {}), self._made_of()
        if theirs != ours:
            other = {name: theirs.get(name) for name, value in ours.items() if value != theirs.get(name)}
            raise ValueError(f"This state is of another env, one of {other}. Set it in an env of the same config.")
        self._require_world().set_state(state["robot"])
        self.task.set_state(state["task"])
        self.np_random.bit_generator.state = state["rng"]
        self._velocity = state["velocity"].copy()
        self._steps = int(state["steps"])
        self._say(state["instruction"])
        self._state = self.robot.read()

    def forks(self, count: int, threads: int = 1) -> "Forks | None":
        """`count` robots that begin where this one is, to be stepped side by side without senses and rewards (see
        `Forks`); None for a robot whose future depends on more than model and state, or that is no simulation.
        """
        from neon_sim.vector_env.forks import Forks, forkable

        self._running_state()
        return Forks(self, count, threads) if forkable(self.robot) else None

    def _made_of(self) -> dict[str, Any]:
        """What a saved state's parts are made for."""
        config = self.config
        made_of = {"task": config.task, "options": self.task.config, "variant": config.variant}
        return made_of | {"sensors": tuple(sorted(config.sensors))}

    def _build_sim(self) -> SimRobot:
        spec = build_scene(self.config.scene, self.config.variant)
        self.task.edit_scene(spec)
        return SimRobot(
            spec,
            self.config.sensor_configs(),
            self.config.physics_dt,
            CONTROL_DT,
            settle_s=self.config.settle_s,
            noise=self.config.noise,
            randomization=self.config.randomization,
        )

    def _depth_for_info(self) -> DepthCamera | None:
        """The depth camera if its pictures in metres are wanted in `info`; a real one gives none."""
        wanted = "depth" in self._captured and self.config.extra_senses.depth.metres_in_info
        camera = self.robot.sensor("depth") if wanted and isinstance(self.robot, SimRobot) else None
        return camera if isinstance(camera, DepthCamera) else None

    def _require_world(self) -> World:
        if self.world is None:
            raise ValueError("This robot has no World: saved states, faults and scene tasks exist in simulation only.")
        return self.world

    def _running_state(self) -> RobotState:
        if self._state is None:
            self._refuse_if_closed("go on")
            raise gymnasium.error.ResetNeeded("Nothing runs yet: call env.reset() first.")
        return self._state

    def _refuse_if_closed(self, what: str) -> None:
        if self._closed:
            raise gymnasium.error.ClosedEnvironmentError(f"Cannot {what}: this env was closed. Make a new one.")

    def _say(self, instruction: str) -> None:
        self._instruction_code = encode_instruction("" if self.config.instruct == "speech" else instruction)
        self._instruction = instruction

    def _speak(self) -> None:
        """Let a voice in the simulated room say what is to be heard; to the robot people speak for themselves."""
        if "audio" not in self._captured or not isinstance(self.robot, SimRobot):
            return
        microphone, pelvis = self.robot.sensor("audio"), self.robot.object_pose("pelvis")
        if isinstance(microphone, Microphone):
            spoken = spoken_words(self.task, self._instruction, self.config.instruct)
            said = give_voice(microphone, spoken, pelvis, self.config.voice, self.np_random)
            if isinstance(self.task, SpeakingTask):
                self.task.listen(said)

    def _checked(self, action: np.ndarray) -> np.ndarray:
        action = np.asarray(action, dtype=np.float64)
        if action.shape != self.action_space.shape:
            wanted = f"{self.config.control_mode} takes an action of shape {self.action_space.shape}"
            raise ValueError(f"{wanted}, got {action.shape}. Step with one action, not with a chunk or a batch.")
        if not all_finite(action):
            raise ValueError(f"An action must be finite numbers, got {action}. Look at the policy's output.")
        return action

    def _observe(self, state: RobotState) -> dict[str, np.ndarray]:
        command = np.empty(4, np.float32)
        command[:3], command[3] = self._velocity, self.config.height
        obs = {"command": command, "instruction": self._instruction_code.copy()}
        for key, read in self._own.items():
            obs[key] = read(self, state)
        if self._captured:
            obs.update(self.robot.sense(self._captured))
        return obs

    def _reward(self, state: RobotState) -> tuple[float, dict[str, float]]:
        if self.world is None:
            return 0.0, {}
        return self.task.reward(state, self.world)

    def _fallen(self, state: RobotState) -> bool:
        if -state.gravity_b[2] < self._fall_cosine:
            return True
        return self.world is not None and self.world.position("pelvis")[2] < self.config.fall_height

    def _info(
        self, state: RobotState, terms: dict[str, float], report: SafetyReport | None, diverged: bool = False
    ) -> dict[str, Any]:
        safety = dict(_NOTHING_CLIPPED) if report is None else report.as_info()
        (vx, vy, turn), (most_x, most_y, most_turn) = self._velocity.tolist(), self.robot.max_velocity.tolist()
        safety["velocity_not_followed"] = abs(vx) > most_x or abs(vy) > most_y or abs(turn) > most_turn
        info = {
            "success": self.task.success,
            "reward_terms": terms,
            "reward_available": self.world is not None,
            "safety": safety,
            "diverged": diverged,
            "instruction": self._instruction,
            "randomization": deepcopy(self.robot.randomized) if isinstance(self.robot, SimRobot) else {},
            "privileged": {} if self.world is None else self.task.privileged(state, self.world),
            "time_s": state.time_s,
        }
        if self._depth is not None and isinstance(self.robot, SimRobot):
            metres = self._depth.metres(self.robot.data)
            info["depth_m"] = np.zeros_like(metres) if "depth" in self.robot.lost_sensors else metres
        return info

    def expert_chunk(self, steps: int = 16) -> np.ndarray:
        """The task's scripted solution from here: actions (steps, A) in [-1, 1]. Simulation only."""
        asked = (self._running_state(), self._require_world(), steps)
        return self.action_map.encode(self.task.expert(*asked), self.task.expert_velocity(*asked))

    def expert_action(self) -> np.ndarray:
        """First action (A,) of `expert_chunk`."""
        return self.expert_chunk(1)[0]

    def privileged(self) -> dict[str, Any]:
        """The truth of the running episode for labels and analysis (simulation only): see the task's `privileged`."""
        return self.task.privileged(self._running_state(), self._require_world())
