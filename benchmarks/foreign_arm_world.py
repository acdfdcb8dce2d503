"""Somebody else's robot: an arm of seven joints of our own in MuJoCo, and its reaches as a foreign LeRobot folder.

It shares nothing with the G1: other joints and lengths, a base of its own, 20 Hz, a gripper that points out along z.
What carries over is the gripper's motion in its own frame (paper, eq. 12-17).
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mujoco
import numpy as np
from tqdm import tqdm

from neon_sim.data.lerobot import LeRobotWriter
from neon_sim.data.relative_actions import STATE_DIM, rotm2euler, states_to_relative_actions
from neon_sim.episode import NeonEpisode

# Metres and kilograms are round numbers of ours; like the arms it stands for, it carries its own weight (gravcomp).
ARM_XML: Final = """
<mujoco model="foreign_arm">
  <compiler angle="radian"/>
  <option timestep="0.002" integrator="implicitfast"/>
  <default>
    <joint damping="2" armature="0.05" range="-2.8 2.8"/>
    <geom type="capsule" contype="0" conaffinity="0" rgba="0.8 0.5 0.2 1"/>
    <position kp="900" dampratio="1" ctrlrange="-2.8 2.8" forcerange="-90 90"/>
  </default>
  <worldbody>
    <geom name="floor" type="plane" size="2 2 0.1" rgba="0.3 0.3 0.3 1"/>
    <body name="column" gravcomp="1">
      <joint name="base_yaw" axis="0 0 1"/>
      <geom fromto="0 0 0 0 0 0.3" size="0.07" mass="3"/>
      <body name="shoulder" pos="0 0 0.3" gravcomp="1">
        <joint name="shoulder_pitch" axis="0 1 0"/>
        <geom fromto="0 0 0 0 0 0.14" size="0.055" mass="2"/>
        <body name="upper" pos="0 0 0.14" gravcomp="1">
          <joint name="upper_roll" axis="0 0 1"/>
          <geom fromto="0 0 0 0 0 0.16" size="0.05" mass="1.6"/>
          <body name="elbow" pos="0 0 0.16" gravcomp="1">
            <joint name="elbow_pitch" axis="0 1 0"/>
            <geom fromto="0 0 0 0 0 0.12" size="0.045" mass="1.2"/>
            <body name="fore" pos="0 0 0.12" gravcomp="1">
              <joint name="fore_roll" axis="0 0 1"/>
              <geom fromto="0 0 0 0 0 0.14" size="0.04" mass="0.9"/>
              <body name="wrist" pos="0 0 0.14" gravcomp="1">
                <joint name="wrist_pitch" axis="0 1 0"/>
                <geom fromto="0 0 0 0 0 0.05" size="0.035" mass="0.5"/>
                <body name="hand" pos="0 0 0.05" gravcomp="1">
                  <joint name="wrist_roll" axis="0 0 1"/>
                  <geom type="box" pos="0 0 0.02" size="0.04 0.02 0.02" mass="0.3"/>
                  <geom fromto="0.03 0 0.04 0.03 0 0.07" size="0.008" mass="0.03"/>
                  <geom fromto="-0.03 0 0.04 -0.03 0 0.07" size="0.008" mass="0.03"/>
                  <site name="gripper" pos="0 0 0.07"/>
                </body>
              </body>
            </body>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position joint="base_yaw"/>
    <position joint="shoulder_pitch"/>
    <position joint="upper_roll"/>
    <position joint="elbow_pitch"/>
    <position joint="fore_roll"/>
    <position joint="wrist_pitch"/>
    <position joint="wrist_roll"/>
  </actuator>
</mujoco>
"""
RATE_HZ: Final = 20
HOME: Final = np.array([0.0, 0.5, 0.0, 1.6, 0.0, 1.04, 0.0])  # rad: the gripper looks down, in front of the column
POSE_NAMES: Final = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
INSTRUCTION: Final = "move the gripper to the marked point"
_DAMPING: Final = 0.05  # m
_OPEN: Final = 1.0  # its fingers do not move


@dataclass(frozen=True)
class ForeignReach:
    """Where it reaches: two points in a box around its home, a way of `near` to `far` m between them, at `speed` m/s.

    The way is a minimum-jerk one; then the gripper rests for `hold_s`.
    """

    box: float = 0.12  # m, half of the box's side
    near: float = 0.10
    far: float = 0.28  # the G1's arm is shorter: it did not follow every way of 0.36 m
    speed: float = 0.30
    hold_s: float = 0.4


class ForeignArm:
    """The arm with its controller: joint targets that follow a gripper path, one damped step each 50 ms."""

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(ARM_XML)
        self.data = mujoco.MjData(self.model)
        self._wanted = mujoco.MjData(self.model)  # the posture that is commanded, for its kinematics alone
        self._site = self.model.site("gripper").id
        self.settle(HOME)

    def settle(self, joint_pos: np.ndarray) -> None:
        """Put it at rest at joint_pos (7,) rad."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = self.data.ctrl[:] = self._wanted.qpos[:] = joint_pos
        for data in (self.data, self._wanted):
            mujoco.mj_forward(self.model, data)

    @property
    def pose(self) -> np.ndarray:
        """The gripper (7,) as measured: x, y, z m, roll, pitch, yaw rad in the arm's base frame, opening."""
        turn = self.data.site_xmat[self._site].reshape(3, 3)
        return np.concatenate([self.data.site_xpos[self._site], rotm2euler(turn), [_OPEN]])

    def command(self, pos: np.ndarray, turn: np.ndarray) -> None:
        """Bring the commanded posture nearer to a gripper pos (3,) m and turn (3, 3), and move for 50 ms."""
        data, jacobian = self._wanted, np.zeros((6, self.model.nv))
        mujoco.mj_jacSite(self.model, data, jacobian[:3], jacobian[3:], self._site)
        now = data.site_xmat[self._site].reshape(3, 3)
        twist = 0.5 * np.cross(now.T, turn.T).sum(axis=0)  # small rotations: sum over the three axes
        error = np.concatenate([pos - data.site_xpos[self._site], twist])
        step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + _DAMPING**2 * np.eye(6), error)
        data.qpos[:] = np.clip(data.qpos + np.clip(step, -0.2, 0.2), *self.model.jnt_range.T)
        mujoco.mj_forward(self.model, data)
        self.data.ctrl[:] = data.qpos
        mujoco.mj_step(self.model, self.data, nstep=round(1.0 / RATE_HZ / self.model.opt.timestep))

    def reach(self, config: ForeignReach, rng: np.random.Generator) -> np.ndarray:
        """One episode: gripper poses (T, 7) from one random point to another."""
        self.settle(HOME)
        turn = self._wanted.site_xmat[self._site].reshape(3, 3).copy()
        start, target = self._draw(config, rng)
        for _ in range(RATE_HZ):  # to the start; not recorded
            self.command(start, turn)
        duration_s = float(np.linalg.norm(target - start)) / config.speed
        count = round((duration_s + config.hold_s) * RATE_HZ)
        poses = [self.pose]
        for step in range(1, count + 1):
            share = min(1.0, step / RATE_HZ / duration_s)
            self.command(start + (target - start) * share**3 * (10.0 - 15.0 * share + 6.0 * share**2), turn)
            poses.append(self.pose)
        return np.array(poses)

    def _draw(self, config: ForeignReach, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        middle = self._wanted.site_xpos[self._site].copy()
        while True:
            start, target = middle + rng.uniform(-config.box, config.box, (2, 3))
            if config.near <= np.linalg.norm(target - start) <= config.far:
                return start, target


def foreign_episode(poses: np.ndarray) -> NeonEpisode:
    """Poses (T, 7) as an episode in a foreign layout: states, and seven relative steps as actions; the last rests."""
    steps = states_to_relative_actions(poses)
    rest = np.array([[*np.zeros(STATE_DIM - 1), poses[-1, 6]]])
    actions = np.concatenate([steps, rest]).astype(np.float32)
    seen = {"proprio": poses.astype(np.float32)}
    return NeonEpisode(seen, actions, instruction=INSTRUCTION, success=True, rate_hz=RATE_HZ)


def write_foreign_folder(folder: Path, episodes: int, seed: int = 0) -> Path:
    """`episodes` reaches as a LeRobot folder that says nothing of us; it appears when it is whole.

    Raises ValueError for a folder that holds another number of episodes.
    """
    info_path = folder / "meta" / "info.json"
    if folder.exists():
        found = json.loads(info_path.read_text(encoding="utf-8"))["total_episodes"]
        if found != episodes:
            raise ValueError(f"{folder} holds {found} episodes, {episodes} are wanted. Choose another folder.")
        return folder
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    arm, config = ForeignArm(), ForeignReach()
    with LeRobotWriter(partial, "v3.0") as writer:
        for number in tqdm(range(episodes), desc="foreign arm"):
            writer.add(foreign_episode(arm.reach(config, np.random.default_rng([seed, number]))))
    (partial / "meta" / "neon.json").unlink()  # only folders of ours have it
    path = partial / "meta" / "info.json"
    info = json.loads(path.read_text(encoding="utf-8"))
    info["robot_type"] = "foreign_arm"
    for column in ("observation.state", "action"):
        info["features"][column]["names"] = list(POSE_NAMES)
    path.write_text(json.dumps(info, indent=4), encoding="utf-8")
    partial.rename(folder)
    return folder
