"""What the vision-language models of the Qwen kind share: a clip and words in one chat turn, hidden states pooled."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from neon_sim.model.backbones.loading import (
    adapt,
    config_fingerprint,
    load_model,
    read_preprocessor,
    require_extra,
    source_fingerprint,
    source_of,
)
from neon_sim.model.backbones.preprocess import patchify, prepare_frames
from neon_sim.model.backbones.prompt import (
    CLIP,
    SOUND,
    WORDS,
    Part,
    Prompts,
    RecentTexts,
    chat,
    mean_over,
    pad_prompts,
)
from neon_sim.model.compact import fit_length
from neon_sim.model.video_backbone import BackboneConfig, BackboneFeatures, VideoBackbone, check_clips


class ChatBackbone(VideoBackbone):
    """A frozen vision-language model. Subclasses say which class it is and how a clip stands in its prompt.

    Out of the last hidden states h:
    - tokens: h at the newest `token_slices` of the clip's grid, row by row. The model is causal, so they know the past.
    - pooled: (mean of h over clip and sound + mean of h over the words that follow) / 2; the words have seen the clip.
    - text: mean of h over the words of a prompt without a clip.

    Args:
        config: how to load and feed it.
        model_config: the transformers config, from which every size is read.
    """

    model_class: ClassVar[str]
    default_mean: ClassVar[list[float]]
    default_std: ClassVar[list[float]]
    model: Any  # the transformers model, None before `load`

    def __init__(self, config: BackboneConfig, model_config: Any) -> None:
        super().__init__()
        self.config, self.model_config, self.source = config, model_config, source_of(config)
        vision = model_config.vision_config
        self.patch, self.merge, self.temporal = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
        cell = self.patch * self.merge
        self.cells_per_side = max(1, round(config.image_size / cell))
        self.side = self.cells_per_side * cell
        self.num_slices = -(-config.max_frames // self.temporal)
        self.kept_slices = min(config.token_slices or self.num_slices, self.num_slices)
        self.num_tokens = self.kept_slices * self.cells_per_side**2
        self.hidden_size = model_config.get_text_config().hidden_size
        self.tokenizer: Any = None
        self.mean, self.std = self.default_mean, self.default_std
        self._texts = RecentTexts()
        self.register_module("model", None)

    def load(self) -> "ChatBackbone":
        """Read tokenizer, normalisation and weights, unless they are there. Raises as `loading.load_model` does."""
        if self.model is None:
            transformers = require_extra("transformers")
            revision = self.config.revision
            model_class = getattr(transformers, self.model_class)
            model = load_model(model_class, self.source, self.model_config, self.config, quantize=True)
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(self.source, revision=revision)
            found = read_preprocessor(self.source, revision)
            self.mean = found.get("image_mean", self.default_mean)
            self.std = found.get("image_std", self.default_std)
            self.model = adapt(model, self.config)
        return self

    def train(self, mode: bool = True) -> "ChatBackbone":
        """Training mode for an adapter that learns; a frozen backbone stays in eval mode."""
        return super().train(mode and not self.config.freeze_backbone)

    def fingerprint(self) -> str:
        """As `VideoBackbone.fingerprint`, from the files, so that nothing is loaded for it."""
        adapter = self.config.adapter
        below = "" if adapter is None else source_fingerprint(adapter, None)
        return config_fingerprint(self.config, source_fingerprint(self.source, self.model_config), below)

    def save_adapter(self, folder: str | Path, learned: Mapping[str, Tensor] | None = None) -> None:
        """Write the LoRA adapter for `BackboneConfig.adapter`. Raises ValueError when there is none.

        learned: the model's weights that are written, where it lies in shares on several processes; None is its own.
        """
        if self.model is None or not hasattr(self.model, "peft_config"):
            raise ValueError("There is no adapter to save. Build with freeze_backbone=False, load, and train first.")
        self.model.save_pretrained(str(folder), state_dict=None if learned is None else dict(learned))

    def forward(self, frames: Tensor, instructions: list[str]) -> BackboneFeatures:
        """Encode clips (B, T, H, W, 3) uint8, oldest frame first; shorter clips repeat their oldest frame."""
        return self.encode(frames, instructions, {}, [])

    def encode(
        self, frames: Tensor, instructions: list[str], sound: dict[str, Tensor], heard: Sequence[Part]
    ) -> BackboneFeatures:
        """`forward` with what a hearing subclass adds: inputs of the model, and their places after the clip."""
        check_clips(frames, instructions)
        self.load()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_backbone):
            content = [*self.clip_parts(), *heard]
            prompts = self._prompts(content, instructions)
            hidden = self._hidden(prompts, self._clip_inputs(frames) | sound)
            roles = prompts.roles.to(hidden.device)
            seen = mean_over(hidden, (roles == CLIP) | (roles == SOUND))
            clip = hidden[roles == CLIP].view(len(frames), self.num_slices, -1, self.hidden_size)
            tokens = clip[:, -self.kept_slices :].flatten(1, 2)
            pooled = 0.5 * (seen + mean_over(hidden, roles == WORDS))
            text = self._text(instructions)
        return BackboneFeatures(*(value.to(frames.device) for value in (tokens, pooled, text)))

    def clip_parts(self) -> list[Part]:
        """The clip's place in the prompt: one CLIP token per cell and slice, framed as the model knows it."""
        config, cells = self.model_config, self.num_slices * self.cells_per_side**2
        return [
            Part([config.vision_start_token_id]),
            Part([config.video_token_id] * cells, CLIP),
            Part([config.vision_end_token_id]),
        ]

    def timing(self, batch: int) -> dict[str, Tensor]:
        """Inputs that tell the model how much time passes between two slices."""
        return {}

    def _clip_inputs(self, frames: Tensor) -> dict[str, Tensor]:
        clip = fit_length(frames, self.num_slices * self.temporal).to(self._device())
        pixels = prepare_frames(clip, self.side, self.mean, self.std)
        grid = torch.tensor([self.num_slices, self.side // self.patch, self.side // self.patch])
        return {
            "pixel_values_videos": patchify(pixels, self.patch, self.merge, self.temporal),
            "video_grid_thw": grid.repeat(len(frames), 1),
            **self.timing(len(frames)),
        }

    def _prompts(self, content: Sequence[Part], instructions: Sequence[str]) -> Prompts:
        chats = [chat(self.tokenizer, content, text) for text in instructions]
        return pad_prompts(chats, self.tokenizer.pad_token_id or 0)

    def _hidden(self, prompts: Prompts, inputs: dict[str, Tensor]) -> Tensor:
        """Last hidden states (B, L, D) float32."""
        device = self._device()
        kinds = {} if not inputs else {"mm_token_type_ids": 2 * (prompts.roles == CLIP).int()}  # 2 is a video
        inputs = {name: value.to(device) for name, value in (inputs | self.extra_inputs(kinds)).items()}
        output = self.model(
            input_ids=prompts.ids.to(device), attention_mask=prompts.mask.to(device), use_cache=False, **inputs
        )
        return output.last_hidden_state.float()

    def extra_inputs(self, kinds: dict[str, Tensor]) -> dict[str, Tensor]:
        """Which of the token kinds the model wants to be told."""
        return kinds

    def _text(self, instructions: list[str]) -> Tensor:
        """The instructions alone, (B, D); a frozen model remembers the last ones."""
        return self._texts(instructions, self._read) if self.config.freeze_backbone else self._read(instructions)

    def _read(self, instructions: list[str]) -> Tensor:
        prompts = self._prompts([], instructions)
        hidden = self._hidden(prompts, {})
        return mean_over(hidden, prompts.roles.to(hidden.device) == WORDS)

    def _device(self) -> torch.device:
        return next(self.model.parameters()).device
