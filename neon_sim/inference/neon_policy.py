"""NeonPolicy: a NeonVLA with the memory that a video backbone needs, for one environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neon_sim.inference.policy import ClipBuffer
from neon_sim.instruction import decode_instruction
from neon_sim.model.action_heads.guide import Guide
from neon_sim.model.goal import goal_token
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.video_backbone import BackboneFeatures


@dataclass(frozen=True)
class Decision:
    """One answer of the policy, and what it was made from. Every tensor has batch size 1."""

    features: BackboneFeatures
    senses: dict[str, Tensor]
    goal: Tensor  # (1, 5) the token that the heads were given
    chunk: Tensor  # (1, 16, A)


class NeonPolicy:
    """Observes every step, encodes a clip and answers with a chunk when asked.

    Args:
        model: the network; put in eval mode.
        blank_camera: feed black pictures, to see what the policy is worth without eyes.
        seed: of the noise that heads which sample start from; every episode begins with it anew.
        guide: steers heads that sample, see `neon_sim.model.guidance`.
    """

    def __init__(self, model: NeonVLA, blank_camera: bool = False, seed: int = 0, guide: Guide | None = None) -> None:
        self.model = model.eval()
        self.blank_camera = blank_camera
        self.seed, self.guide = seed, guide
        self.generator = torch.Generator().manual_seed(seed)
        self.clip = ClipBuffer(fps=model.config.backbone.fps)
        self.decision: Decision | None = None
        self._obs: Mapping[str, np.ndarray] = {}
        self._last_frame: np.ndarray | None = None

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Forget the clip."""
        self.clip.clear()
        self.generator.manual_seed(self.seed)
        self.decision, self._last_frame = None, None

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """Keep the observation, and its picture when it is a new one.

        Raises:
            ValueError: the observation has no camera.
        """
        if "camera" not in obs:
            raise ValueError(f"NeonPolicy needs the sensor 'camera', got {sorted(obs)}. Name it in the env's sensors.")
        self._obs = obs
        frame = obs["camera"]
        if self._last_frame is None or not np.array_equal(frame, self._last_frame):
            self._last_frame = frame
            self.clip.add(np.zeros_like(frame) if self.blank_camera else frame, now_s)

    @torch.no_grad()
    def perceive(self) -> tuple[BackboneFeatures, dict[str, Tensor]]:
        """Encode the present clip and words, and collect the senses as (1, ...) float32 tensors by the heads."""
        device = next(self.model.parameters()).device
        clip = torch.from_numpy(self.clip.clip(self.model.config.backbone.max_frames))[None].to(device)
        features = self.model.encode(clip, [decode_instruction(self._obs["instruction"])])
        known = [name for name in self.model.senses if name in self._obs]
        senses = {name: torch.from_numpy(self._obs[name])[None].float().to(device) for name in known}
        return features, senses

    @torch.no_grad()
    def act(self) -> np.ndarray:
        """Answer with (1, 16, A), and remember the decision."""
        features, senses = self.perceive()
        goal = self.choose_goal(goal_token(self.model.goal_reader(features)))
        chunk, _ = self.model(features, senses, goal, self.generator, self.guide)
        self.decision = Decision(features, senses, goal, chunk)
        return chunk.cpu().numpy()

    def choose_goal(self, goal: Tensor) -> Tensor:
        """The goal token (1, 5) to act on, given the one that was read; a learner that practises may return another."""
        return goal

    def get_state(self) -> dict[str, Any]:
        """The clip, the newest picture and the noise's state; weights are the checkpoint's."""
        frame = self._last_frame
        return {
            "clip": self.clip.get_state(),
            "last_frame": None if frame is None else frame.copy(),
            "generator": self.generator.get_state(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`; the next `observe` comes before the next `act`."""
        self.clip.set_state(state["clip"])
        self.generator.set_state(state["generator"])
        self._last_frame = None if state["last_frame"] is None else state["last_frame"].copy()
