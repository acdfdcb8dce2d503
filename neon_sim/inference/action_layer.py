"""ActionLayer: what a NeonVLA computes behind its backbone, run by an engine that suits the device."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from neon_sim.inference.engines import pick_engine, run_by
from neon_sim.model.action_heads.guide import Guide
from neon_sim.model.goal import goal_token
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.question import as_question
from neon_sim.model.video_backbone import BackboneFeatures

# In a network's inputs: raw senses, senses that are encoded already, and what each head that samples starts from.
_SENSE, _PART, _NOISE = "sense.", "part.", "noise."
_ASKS_ITS_INPUT: Final = ("segmentation",)  # encoders that look at the numbers on the CPU: no engine takes them in


class ActionLayer:
    """Goal reader, encoders, fusion and heads of a NeonVLA, by one of `engines.ENGINES`.

    By "eager" it is the model to the bit. By the others the noise of heads that sample is drawn as the model draws it
    and handed in, so a seed means the same; a frozen ear is heard as it is; and a guide, which needs autograd in
    between, is served as by "eager". By "onnx" the weights are those of the first answer: what learns wants another.

    Args:
        model: in eval mode, and on its device: a model that is moved wants a new ActionLayer.
        engine: "auto" chooses by the device, see `pick_engine`.

    Raises as `pick_engine`.
    """

    def __init__(self, model: NeonVLA, engine: str = "auto") -> None:
        device = next(model.parameters()).device
        self.model, self.engine = model, pick_engine(engine, device)
        self._goal = run_by(engine, self._read_goal, device)
        self._chunk = run_by(engine, self._decode, device)
        ear = () if model.config.audio.encoder_type == "mel_spectrogram" else ("audio",)
        self._apart = (*_ASKS_ITS_INPUT, *ear)

    def goal(self, features: BackboneFeatures, senses: Mapping[str, Tensor]) -> Tensor:
        """The goal token (B, 5) that the model reads out of a clip and words, and out of what it hears if it does."""
        heard = self.model.hear(features, senses)
        return self._goal(vars(features) if heard is None else {**vars(features), "heard": heard})

    def chunk(
        self,
        features: BackboneFeatures,
        senses: Mapping[str, Tensor],
        goal: Tensor,
        generator: torch.Generator | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """The heads' chunk (B, 16, A), as `NeonVLA.forward` gives it; call it without autograd."""
        if self.engine == "eager" or guide is not None:
            chunk, _ = self.model(features, senses, goal, generator, guide)
            return chunk
        return self._chunk(self._inputs(features, senses, goal, generator))

    @torch.inference_mode()
    def predict(
        self,
        image: np.ndarray,
        instruction: str,
        proprioception: np.ndarray | None = None,
        *,
        generator: torch.Generator | None = None,
        **senses: np.ndarray,
    ) -> np.ndarray:
        """As `NeonVLA.predict`."""
        if self.engine == "eager":
            return self.model.predict(image, instruction, proprioception, generator=generator, **senses)
        device = next(self.model.parameters()).device
        clip, tensors = as_question(image, proprioception, senses, device)
        features = self.model.encode(clip, [instruction], tensors.get("audio"))
        return self.chunk(features, tensors, self.goal(features, tensors), generator)[0].cpu().numpy()

    def _inputs(
        self, features: BackboneFeatures, senses: Mapping[str, Tensor], goal: Tensor, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Everything that `_decode` reads, as tensors by name."""
        model, head = self.model, self.model.action_head
        inputs = {"goal": goal}
        if model.config.use_vision:
            inputs["pooled"] = features.pooled
        if model.config.heads_read:
            inputs["text"] = features.text
        if head.context is not None:
            inputs["tokens"] = features.tokens
        state = model.action_state(senses) if head.config.state_relative else None
        if state is not None:
            inputs["state"] = state
        for name in model.senses:
            if name in senses and name in self._apart:
                encoder: Any = getattr(model, f"{name}_encoder")
                inputs[_PART + name] = encoder(senses[name])
            elif name in senses:
                inputs[_SENSE + name] = senses[name]
        noise = head.draw_noise(features.pooled, generator) if head.samples else {}
        return inputs | {_NOISE + name: value for name, value in noise.items()}

    def _decode(self, inputs: Mapping[str, Tensor]) -> Tensor:
        model = self.model
        parts = {"vision": inputs["pooled"]} if "pooled" in inputs else {}
        if "text" in inputs:
            parts["text"] = model.heard_words(inputs["text"])
        parts |= _under(_PART, inputs)
        for name, value in _under(_SENSE, inputs).items():
            parts[name] = getattr(model, f"{name}_encoder")(value)
        fused = model.fusion(parts)
        unusual = model.unusual_error(inputs.get(_SENSE + "proprio"), fused)
        goal = inputs["goal"]
        told = torch.cat([fused, unusual, model.goal_embed(goal)], dim=-1)
        chunk: Tensor = model.action_head(
            told, state=inputs.get("state"), tokens=inputs.get("tokens"), goal=goal, noise=_under(_NOISE, inputs)
        )
        return chunk

    def _read_goal(self, inputs: Mapping[str, Tensor]) -> Tensor:
        features = BackboneFeatures(inputs["tokens"], inputs["pooled"], inputs["text"])
        return goal_token(self.model.goal_reader(features, inputs.get("heard")))


def _under(prefix: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inputs whose names begin with a prefix, by the rest of the name."""
    return {name.removeprefix(prefix): value for name, value in inputs.items() if name.startswith(prefix)}
