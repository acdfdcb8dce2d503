"""Policies with two action layers behind one pair of eyes: a light one answers where a heavy one is not needed.

Both read the features of the same frozen backbone. The heavy model's goal reader is the one that counts.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.inference.real_time import RealTimeConfig
from neon_sim.inference.router import RouterConfig, choose_heavy, difficulty, disagreement
from neon_sim.model.action_heads import DiTActionHead, FlowMatchingHead
from neon_sim.model.goal import HANDS, goal_position
from neon_sim.model.neon_vla import TRACKING_ERROR, NeonVLA
from neon_sim.model.speculative import (
    AcceptanceStatistics,
    Speculation,
    SpeculativeConfig,
    one_step_opinion,
    speculate,
)
from neon_sim.model.video_backbone import BackboneFeatures

_JUDGES: Final = (FlowMatchingHead, DiTActionHead)  # what can say in one denoising step where a draft should be


class TwoHeadPolicy(NeonPolicy):
    """What the policies of this module share: a heavy model, a light one that drafts, and how often each answered.

    Args:
        heavy: the model whose answer counts; its eyes serve both.
        draft: the light model; same action space and chunk length, same width of features.
        seed: of the heavy heads' noise; the draft's and the checks' is another stream, so that what the heavy heads
            draw does not depend on them.
        real_time: see NeonPolicy.

    Raises:
        ValueError: models that do not go together.
    """

    def __init__(self, heavy: NeonVLA, draft: NeonVLA, seed: int = 0, real_time: RealTimeConfig | None = None) -> None:
        super().__init__(heavy, seed=seed, real_time=real_time)
        heavy.action_space.require_equal(draft.action_space, "draft")
        shapes = [(model.config.num_action_steps, model.backbone.hidden_size) for model in (heavy, draft)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"Heavy and draft want one chunk length and one width of features, got {shapes}.")
        ears = [(model.config.microphones, model.config.sound_memory_s) for model in (heavy, draft)]
        if "audio" in draft.senses and "audio" in heavy.senses and ears[0] != ears[1]:
            raise ValueError(f"Heavy and draft want to hear alike, got (microphones, s of sound) {ears}.")
        self.draft = draft.eval()
        self.side_generator = torch.Generator().manual_seed(seed + 1)
        self.answers = self.heavy_answers = 0

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Forget the episode; the counts of answers go on."""
        super().reset(env_ids)
        self.side_generator.manual_seed(self.seed + 1)

    @property
    def heavy_share(self) -> float:
        """Share of the answers so far for which the heavy heads ran; 0 before the first."""
        return self.heavy_answers / max(1, self.answers)

    def decode_light(self, features: BackboneFeatures, senses: dict[str, Tensor], goal: Tensor) -> Tensor:
        """The draft (1, T, A)."""
        chunk, _ = self.draft(features, senses, goal, self.side_generator)
        return chunk

    def decode_heavy(self, features: BackboneFeatures, senses: dict[str, Tensor], goal: Tensor) -> Tensor:
        """The heavy heads' chunk (1, T, A)."""
        return super().decode(features, senses, goal)

    def get_state(self) -> dict[str, Any]:
        """As NeonPolicy, and the other stream of noise."""
        return super().get_state() | {"side_generator": self.side_generator.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        super().set_state(state)
        self.side_generator.set_state(state["side_generator"])


class SpeculativePolicy(TwoHeadPolicy):
    """Speculative decoding of chunks, see `neon_sim.model.speculative`: the draft, as far as the heavy heads agree.

    Args:
        config: tolerance, and how many steps must agree for the heavy heads to be spared.
        check_time: denoising time of the one step that the heavy heads are asked for; None asks them in full, which
            saves nothing.
        **policy: as TwoHeadPolicy.

    Attributes:
        statistics: accepted steps of all answers.

    Raises:
        ValueError: as TwoHeadPolicy; and a joint group of the heavy model that cannot judge a draft in one step, while
            `check_time` asks it to.
    """

    def __init__(
        self,
        heavy: NeonVLA,
        draft: NeonVLA,
        config: SpeculativeConfig | None = None,
        check_time: float | None = 0.5,
        **policy: Any,
    ) -> None:
        super().__init__(heavy, draft, **policy)
        self.config, self.check_time = config or SpeculativeConfig(), check_time
        if check_time is not None and self.config.tolerance > 0.0:  # else nobody is asked for an opinion
            _require_judges(heavy)
        self.statistics = AcceptanceStatistics(heavy.config.num_action_steps)
        self.speculation: Speculation | None = None

    def decode(self, features: BackboneFeatures, senses: dict[str, Tensor], goal: Tensor) -> Tensor:
        """The draft where it is accepted, completed (1, T, A); the first argument of the heads below is one row."""

        def check(row: Tensor, draft: Tensor) -> Tensor:
            return self.opinion(features, senses, goal, draft)

        self.speculation = speculate(
            features.pooled,
            lambda row: self.decode_light(features, senses, goal),
            lambda row: self.decode_heavy(features, senses, goal),
            self.config,
            None if self.check_time is None else check,
        )
        self.statistics.add(self.speculation)
        self.answers += 1
        self.heavy_answers += int(self.speculation.heavy.sum())
        return self.speculation.chunk

    def opinion(self, features: BackboneFeatures, senses: dict[str, Tensor], goal: Tensor, draft: Tensor) -> Tensor:
        """What one denoising step of the heavy heads makes of a draft (1, T, A)."""
        model, head, time = self.model, self.model.action_head, self.check_time
        told = torch.cat([model.fuse(features.pooled, senses, features.text), model.goal_embed(goal)], dim=-1)
        context = None if head.context is None else head.context(features.tokens, goal)
        noise = torch.randn(draft.shape, generator=self.side_generator).to(draft)
        parts = [
            one_step(
                head.heads[name], told, context, draft[..., where], noise[..., where], 0.5 if time is None else time
            )
            for name, where in head.parts.items()
        ]
        return torch.cat(parts, dim=-1)


def one_step(
    head: nn.Module, told: Tensor, context: Tensor | None, draft: Tensor, noise: Tensor, time: float
) -> Tensor:
    """One denoising step of a flow or DiT head, from a draft (B, T, A) noised back to `time`.

    Raises TypeError for a head that cannot judge a draft in one step; SpeculativePolicy lets none come here.
    """
    if isinstance(head, FlowMatchingHead):
        condition = head.condition(told, context)
        return one_step_opinion(lambda noisy, at: head.estimate(noisy, at, condition), draft, noise, time)
    if isinstance(head, DiTActionHead):
        at = draft.new_full((len(draft),), time)
        return head.estimate(head.disturb(draft, noise, at), at, told, context)
    raise TypeError(f"A draft is judged in one step by a flow or DiT head, got {type(head).__name__}.")


def _require_judges(heavy: NeonVLA) -> None:
    """Raise ValueError, naming the joint groups, where a head is neither flow nor DiT itself."""
    heads = heavy.action_head.heads
    wrong = [f"{name} has {type(head).__name__}" for name, head in heads.items() if not isinstance(head, _JUDGES)]
    if wrong:
        raise ValueError(
            f"A draft is judged in one step by a flow or DiT head; of the heavy model's groups {', '.join(wrong)}. "
            "Use check_time=None, or train a heavy model with such a head for every group (chunk_all_groups)."
        )


class RoutedPolicy(TwoHeadPolicy):
    """Adaptive compute: the draft, unless the moment looks hard (`neon_sim.inference.router`).

    It looks at what the robot senses: how far two drafts in a row disagree about the same steps, the largest tracking
    error of the action's joints, and how near the palm is to the goal that was read.

    Args:
        config: what counts as hard.
        **policy: as TwoHeadPolicy.
    """

    def __init__(self, heavy: NeonVLA, draft: NeonVLA, config: RouterConfig | None = None, **policy: Any) -> None:
        super().__init__(heavy, draft, **policy)
        self.config = config or RouterConfig()
        self._forget()

    def _forget(self) -> None:
        self._was_heavy: np.ndarray | None = None
        self._drafted: np.ndarray | None = None
        self._steps = 0  # observed since that draft

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Forget the episode; the counts of answers go on."""
        super().reset(env_ids)
        self._forget()

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """As NeonPolicy, and count."""
        super().observe(obs, now_s)
        self._steps += 1

    def decode(self, features: BackboneFeatures, senses: dict[str, Tensor], goal: Tensor) -> Tensor:
        """The draft or the heavy heads' chunk (1, T, A)."""
        draft = self.decode_light(features, senses, goal)
        drafted = draft.cpu().numpy()
        moved = None if self._drafted is None else disagreement(self._drafted, drafted, self._steps)
        error = tracking_error(senses, self.model.action_space.joint_indices)
        score = difficulty(self.config, moved, error, goal_distance(senses, goal))
        self._was_heavy = choose_heavy(score, self._was_heavy, self.config)
        self._drafted, self._steps = drafted, 0
        self.answers += 1
        self.heavy_answers += int(self._was_heavy.sum())
        return self.decode_heavy(features, senses, goal) if self._was_heavy.any() else draft

    def get_state(self) -> dict[str, Any]:
        """As TwoHeadPolicy, and what the router remembers."""
        memory = {"was_heavy": self._was_heavy, "drafted": self._drafted}
        copies = {name: None if value is None else value.copy() for name, value in memory.items()}
        return super().get_state() | copies | {"steps": self._steps}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        super().set_state(state)
        copies = (None if state[name] is None else state[name].copy() for name in ("was_heavy", "drafted"))
        self._was_heavy, self._drafted = copies
        self._steps = int(state["steps"])


def tracking_error(senses: Mapping[str, Tensor], joint_indices: np.ndarray) -> np.ndarray | None:
    """Largest tracking error (B,) rad of the joints named in hardware order, out of proprio (B, 125); None without it.

    The other joints are the walker's: a leg that carries the robot is off its target on the best of days.
    """
    proprio = senses.get("proprio")
    if proprio is None:
        return None
    return proprio[:, TRACKING_ERROR][:, joint_indices.tolist()].abs().amax(-1).cpu().numpy()


def goal_distance(senses: Mapping[str, Tensor], goal: Tensor) -> np.ndarray | None:
    """Distance (B,) m of the goal token's (B, 5) hand from its place, out of eef (B, 14); None without it."""
    eef = senses.get("eef")
    if eef is None:
        return None
    palms = torch.stack([eef[:, 0:3], eef[:, 7:10]], dim=1)  # (B, 2, 3) m
    hand = goal[:, :HANDS].argmax(-1)
    named = palms[torch.arange(len(palms), device=palms.device), hand]
    return (named - goal_position(goal)).norm(dim=-1).cpu().numpy()
