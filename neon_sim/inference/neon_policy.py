"""NeonPolicy: a NeonVLA with the memory that a video backbone needs, for one environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neon_sim.inference.action_layer import ActionLayer
from neon_sim.inference.policy import ClipBuffer, SoundBuffer
from neon_sim.inference.real_time import RealTimeConfig, RealTimePlan
from neon_sim.inference.situation import sensed_situation
from neon_sim.instruction import decode_instruction
from neon_sim.model.action_heads.guide import Guide
from neon_sim.model.guidance import PhysicsGuide
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.video_backbone import BackboneFeatures


@dataclass(frozen=True)
class Decision:
    """One answer of the policy, and what it was made from. Every tensor has batch size 1."""

    features: BackboneFeatures
    senses: dict[str, Tensor]
    goal: Tensor  # (1, 5) the token that the heads were given
    chunk: Tensor  # (1, 16, A) as the heads gave it


class NeonPolicy:
    """Observes every step, encodes a clip and answers with a chunk when asked.

    Args:
        model: the network; put in eval mode.
        blank_camera: feed black pictures, to see what the policy is worth without eyes.
        seed: of the noise that heads which sample start from; every episode begins with it anew.
        guide: steers heads that sample, see `neon_sim.model.guidance`. A PhysicsGuide is told at each chunk where the
            robot is.
        real_time: chunks take over from each other by real-time chunking; None carries each out as it comes.
        engine: how goal reader, fusion and heads are run, of `engines.ENGINES`; "auto" is a CUDA graph where there is
            CUDA. By another than "eager" the model is on its device already and stays there.

    Raises:
        ValueError: a horizon and delay that are longer together than the model's chunks; an engine that does not exist
            or not on this device.
    """

    def __init__(
        self,
        model: NeonVLA,
        blank_camera: bool = False,
        seed: int = 0,
        guide: Guide | None = None,
        real_time: RealTimeConfig | None = None,
        engine: str = "eager",
    ) -> None:
        self.model = model.eval()
        self.layer = ActionLayer(model, engine)
        self.blank_camera = blank_camera
        self.seed, self.guide = seed, guide
        self.plan: RealTimePlan | None = None
        if real_time is not None:
            real_time.check_length(model.config.num_action_steps)
            self.plan = RealTimePlan(real_time, model.action_space)
        self.generator = torch.Generator().manual_seed(seed)
        self.clip = ClipBuffer(fps=model.config.backbone.fps)
        memory_s = model.config.sound_memory_s
        self.sound = SoundBuffer(memory_s, microphones=model.config.microphones) if memory_s else None
        self.decision: Decision | None = None
        self.steps_taken = 0  # of the newest chunk: observations since it was answered
        self._obs: Mapping[str, np.ndarray] = {}
        self._last_frame: np.ndarray | None = None

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Forget the clip, the sound and the plan."""
        self.clip.clear()
        if self.sound is not None:
            self.sound.clear()
        if self.plan is not None:
            self.plan.reset()
        self.generator.manual_seed(self.seed)
        self.decision, self._last_frame, self.steps_taken = None, None, 0

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """Keep the observation, and its picture when it is a new one.

        Raises:
            ValueError: the observation has no camera.
        """
        if "camera" not in obs:
            raise ValueError(f"NeonPolicy needs the sensor 'camera', got {sorted(obs)}. Name it in the env's sensors.")
        self._obs = obs
        self.steps_taken += 1
        if self.sound is not None and "audio" in obs:
            self.sound.add(obs["audio"], now_s)
        frame = obs["camera"]
        if self._last_frame is None or not np.array_equal(frame, self._last_frame):
            self._last_frame = frame
            self.clip.add(np.zeros_like(frame) if self.blank_camera else frame, now_s)

    @torch.inference_mode()
    def perceive(self) -> tuple[BackboneFeatures, dict[str, Tensor]]:
        """Encode the present clip and words, and collect the senses as (1, ...) float32 tensors by the heads."""
        clip, words, senses = self.sense()
        return self.model.encode(clip, [words], senses.get("audio")), senses

    def sense(self) -> tuple[Tensor, str, dict[str, Tensor]]:
        """The present clip (1, T, H, W, 3) uint8, the words, and the senses as (1, ...) float32 tensors."""
        device = next(self.model.parameters()).device
        clip = torch.from_numpy(self.clip.clip(self.model.config.backbone.max_frames))[None].to(device)
        known = [name for name in self.model.senses if name in self._obs]
        seen = {name: self._obs[name] for name in known}
        if self.sound is not None and "audio" in seen:
            seen["audio"] = self.sound.sound()
        senses = {name: torch.from_numpy(value)[None].float().to(device) for name, value in seen.items()}
        return clip, decode_instruction(self._obs["instruction"]), senses

    @torch.inference_mode()
    def act(self) -> np.ndarray:
        """Answer with (1, 16, A), with real-time chunking (1, execution_horizon, A), and remember the decision."""
        features, senses = self.perceive()
        goal = self.choose_goal(self.layer.goal(features, senses))
        chunk = self.decode(features, senses, goal)
        self.decision, self.steps_taken = Decision(features, senses, goal, chunk), 0
        answer = chunk.cpu().numpy()
        return answer if self.plan is None else self.plan.follow(answer, self._obs.get("proprio"))

    def decode(self, features: BackboneFeatures, senses: dict[str, Tensor], goal: Tensor) -> Tensor:
        """The heads' chunk (1, 16, A) for a goal token (1, 5), under the guide; called without autograd."""
        guide = self.guide
        if isinstance(guide, PhysicsGuide) and "proprio" in self._obs:
            guide = guide.at(sensed_situation(self._obs["proprio"], self.model.action_space))
        return self.layer.chunk(features, senses, goal, self.generator, guide)

    def choose_goal(self, goal: Tensor) -> Tensor:
        """The goal token (1, 5) to act on, given the one that was read; a learner that practises may return another."""
        return goal

    def get_state(self) -> dict[str, Any]:
        """The clip, the newest picture, the sound, the noise's state and the plan; weights are the checkpoint's."""
        frame = self._last_frame
        return {
            "clip": self.clip.get_state(),
            "last_frame": None if frame is None else frame.copy(),
            "sound": None if self.sound is None else self.sound.get_state(),
            "generator": self.generator.get_state(),
            "plan": None if self.plan is None else self.plan.get_state(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`; the next `observe` comes before the next `act`."""
        self.clip.set_state(state["clip"])
        if self.sound is not None:
            self.sound.set_state(state["sound"])
        self.generator.set_state(state["generator"])
        if self.plan is not None:
            self.plan.set_state(state["plan"])
        self._last_frame = None if state["last_frame"] is None else state["last_frame"].copy()
