"""NeonVLA: frozen backbone, sensor encoders, fusion, goal token, one action head per joint group."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.g1.joints import NUM_JOINTS
from neon_sim.model.action_heads import ActionHeadConfig, G1ActionHead
from neon_sim.model.action_heads.guide import Guide
from neon_sim.model.audio import AudioEncoder
from neon_sim.model.compact import CompactBackbone
from neon_sim.model.ear import SpokenWords
from neon_sim.model.encoders import EefEncoder, FeatureFusion, LidarEncoder, ProprioEncoder
from neon_sim.model.extra_encoders import EXTRA_ENCODERS, build_extra_encoder
from neon_sim.model.goal import GOAL_DIM, GoalReader, goal_embedding, goal_token
from neon_sim.model.neon_config import NeonConfig
from neon_sim.model.pretrained import Pretrained
from neon_sim.model.question import as_question, to_one_ear
from neon_sim.model.speech import SpeechResponseHead
from neon_sim.model.video_backbone import BackboneFeatures, VideoBackbone
from neon_sim.model.word_choice import WordChoice
from neon_sim.names import nearest

PROPRIO_DIM = 125
TRACKING_ERROR = slice(87, 116)  # last sent target - q in the proprio vector
USUAL_ERROR_STD = 4.0  # standard deviations of the demonstrations' tracking error that count as usual
SENSES = ("proprio", "eef", "lidar", "audio")
_KNOWN = (*SENSES, *EXTRA_ENCODERS)


class NeonVLA(Pretrained):
    """Clip, words and senses in, a chunk of 16 actions out.

    The backbone is never saved with the weights. The heads are built to its sizes (D3), which its config tells before
    its weights are read.

    Args:
        config: None for the defaults.
        backbone: one that is loaded already; it is frozen here if the config says so. None loads `config.backbone`.
    """

    def __init__(self, config: NeonConfig | None = None, backbone: VideoBackbone | None = None) -> None:
        super().__init__()
        self.config = config = config or NeonConfig()
        self.action_space = G1ActionSpace(config.control_mode, config.action_center)
        self._backbone = [backbone or VideoBackbone.from_config(config.backbone)]  # in a list: not a submodule
        if backbone is not None and config.backbone.freeze_backbone:
            backbone.requires_grad_(False).eval()
        hidden = self.backbone.hidden_size
        self.proprio_encoder = ProprioEncoder(PROPRIO_DIM, config.proprioception_hidden)
        dims = ({"vision": hidden} if config.use_vision else {}) | {"proprio": config.proprioception_hidden}
        if config.heads_read:
            dims["text"] = config.word_choices or hidden
        if config.word_choices:
            self.word_choice = WordChoice(hidden, config.word_choices)
        if config.use_eef:
            self.eef_encoder = EefEncoder()
            dims["eef"] = self.eef_encoder.output_dim
        if config.use_lidar:
            self.lidar_encoder = LidarEncoder()
            dims["lidar"] = self.lidar_encoder.output_dim
        if config.use_audio:
            self.audio_encoder = AudioEncoder(config.audio, self.backbone, config.microphones)
            dims["audio"] = config.audio.output_dim
        for name, size in config.extra_senses.items():
            encoder: Any = build_extra_encoder(name, size)
            self.add_module(f"{name}_encoder", encoder)
            dims[name] = encoder.output_dim
        lost = {"vision": config.vision_dropout}
        lost |= dict.fromkeys(("lidar", "audio", *config.extra_senses), config.sense_dropout)
        self.fusion = FeatureFusion(dims, hidden, config.dropout, {k: p for k, p in lost.items() if k in dims})
        self.fused_dim = hidden + NUM_JOINTS
        heard_size = config.audio.output_dim if config.goal_hears and config.use_audio else 0
        self._spoken = SpokenWords(config.ear, config.audio, hidden) if config.ear else None
        if self._spoken is not None:
            heard_size += 2 * hidden  # the words, and what they name in the clip
        self.goal_reader = GoalReader(hidden, self.backbone.num_tokens, heard_size=heard_size)
        self.goal_embed = goal_embedding(config.goal_width)
        self.action_head = G1ActionHead(
            ActionHeadConfig(
                hidden_size=self.fused_dim + config.goal_width,
                num_action_steps=config.num_action_steps,
                mlp_hidden=config.mlp_hidden,
                num_layers=config.action_head_layers,
                dropout=config.dropout,
                token_dim=hidden if config.cross_attention else 0,
                goal_dim=GOAL_DIM if config.cross_attention else 0,
                **config.head,
            ),
            self.action_space,
        )
        if config.speech_vocabulary:
            self.speech_head = SpeechResponseHead(self.fused_dim, config.speech_vocabulary, config.speech_words)
        self.train()

    @property
    def senses(self) -> tuple[str, ...]:
        """What it has encoders for, in the order of `SENSES`, then the extra ones."""
        return tuple(name for name in _KNOWN if hasattr(self, f"{name}_encoder"))

    @property
    def backbone(self) -> VideoBackbone:
        """The frozen foundation model."""
        return self._backbone[0]

    def load_backbone(self) -> VideoBackbone:
        """Read the frozen weights now, a frozen ear's as well: else it happens at the first clip and sound."""
        if self.config.use_audio:
            self.audio_encoder.load()
        if self._spoken is not None:
            self._spoken.load(next(self.parameters()).device)
        self.backbone.load()
        self.train(self.training)  # what was just read has no mode yet
        return self.backbone

    def train(self, mode: bool = True) -> "NeonVLA":
        """Training or eval mode, for a backbone that learns as well; a frozen one stays in eval mode.

        A backbone that learns keeps the statistics of its batch normalisations: those of a handful of clips are worse,
        they would differ between processes, and what is judged, saved and gone on from would not be what was trained.
        """
        super().train(mode)
        if not self.config.backbone.freeze_backbone:
            self.backbone.train(mode)
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def encode(self, frames: Tensor, instructions: list[str], audio: Tensor | None = None) -> BackboneFeatures:
        """Clips (B, T, H, W, 3) uint8, words, and sound (B, S) at 16 kHz for a backbone that hears -> features.

        Such a backbone hears the mean of two microphones. No autograd graph, unless it has an adapter that is trained.
        """
        sound: tuple[Tensor, ...] = ()
        if audio is not None and self.backbone.hears:
            sound = (to_one_ear(audio) if self.config.microphones == 2 else audio,)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.backbone.freeze_backbone):
            return self.backbone(frames, instructions, *sound)

    def hear(self, features: BackboneFeatures, senses: Mapping[str, Tensor]) -> Tensor | None:
        """What a goal reader hears (B, heard_size), and `fuse` after it; None for one that does not.

        First the encoded sound; with an ear of `config.ear` what was said as well, and what that names in the clip.
        """
        if not self.goal_reader.heard_size or "audio" not in senses:
            return None
        sound = senses["audio"]
        if self._spoken is None:
            return self.audio_encoder(sound)
        spectra = sound if sound.dim() == 3 else self.audio_encoder.spectra(sound)
        words, eyes = self._spoken(spectra), self.backbone
        assert isinstance(eyes, CompactBackbone)  # the config saw to it
        with torch.no_grad():
            named = eyes.find(features.tokens, words)
        return torch.cat([self.audio_encoder(spectra), words, named], dim=-1)

    def heard_words(self, text: Tensor) -> Tensor:
        """Words (B, D) as the heads hear them: as they are, or a choice (B, word_choices)."""
        return self.word_choice(text) if self.config.word_choices else text

    def fuse(
        self,
        vision: Tensor | None,
        senses: Mapping[str, Tensor],
        text: Tensor | None = None,
        heard: Tensor | None = None,
    ) -> Tensor:
        """Eq. 4: pooled clip (B, D), any of the senses, and words (B, D) where `heads_read` says so -> f (B, D).

        The clip is left out where `use_vision` is False.

        proprio (B, 125), eef (B, 14), lidar (B, N*3) m, audio (B, S), and those of `EXTRA_ENCODERS`; one that the
        config has no encoder for is left out. heard: audio, encoded already by `hear`.

        Raises ValueError for a sense that does not exist.
        """
        parts: dict[str, Tensor] = {} if vision is None or not self.config.use_vision else {"vision": vision}
        if text is not None and self.config.heads_read:
            parts["text"] = self.heard_words(text)
        for name, value in senses.items():
            if name not in _KNOWN:
                raise nearest("sense", name, _KNOWN)
            encoder = getattr(self, f"{name}_encoder", None)
            if name == "audio" and heard is not None:
                parts[name] = heard[:, : self.config.audio.output_dim]
            elif encoder is not None:
                parts[name] = encoder(value)
        fused = self.fusion(parts)
        return torch.cat([fused, self.unusual_error(senses.get("proprio"), fused)], dim=-1)

    def unusual_error(self, proprio: Tensor | None, like: Tensor) -> Tensor:
        """The tracking error (B, 29) beyond the usual; zeros without proprioception.

        A broken motor shows there first (D18). On a healthy robot these entries are nearly always zero, so the exact
        Fisher of the weights that lead from them to the heads is close to zero, and EWC leaves just those free: one set
        of weights can learn to serve a healthy and a faulty robot. In training they are disturbed at random, so that
        the heads begin by making nothing of them.
        """
        if proprio is None:
            return like.new_zeros(len(like), NUM_JOINTS)
        encoder, part = self.proprio_encoder, TRACKING_ERROR
        error = (proprio[:, part] - encoder.mean[part]) / encoder.std[part]
        if self.training:
            error = error + self.config.tracking_noise * torch.randn_like(error) * (torch.rand_like(error) < 0.3)
        return (0.5 * nn.functional.softshrink(error, USUAL_ERROR_STD)).clamp(-4.0, 4.0)

    def decode(
        self,
        fused: Tensor,
        goal: Tensor,
        tokens: Tensor | None = None,
        state: Tensor | None = None,
        generator: torch.Generator | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Fused features (B, D) and goal token (B, 5) -> chunk (B, 16, A) in [-1, 1].

        tokens (B, N, D) for cross-attention, state (B, A) of `action_state` for state-relative heads, generator and
        guide for heads that sample: see G1ActionHead.
        """
        told = torch.cat([fused, self.goal_embed(goal)], dim=-1)
        return self.action_head(told, state=state, tokens=tokens, goal=goal, generator=generator, guide=guide)

    def action_state(self, senses: Mapping[str, Tensor]) -> Tensor | None:
        """Where the robot is, or was last told to be, as an action (B, A), out of proprio (B, 125); None without it."""
        proprio = senses.get("proprio")
        if proprio is None:
            return None
        body = proprio.detach().cpu().numpy()
        joint_pos = body[:, :NUM_JOINTS] + self.config.relative_to_target * body[:, TRACKING_ERROR]
        action = self.action_space.encode(joint_pos, body[:, PROPRIO_DIM - 3 :])
        return torch.from_numpy(action).to(proprio)

    def forward(
        self,
        features: BackboneFeatures,
        senses: Mapping[str, Tensor],
        goal: Tensor | None = None,
        generator: torch.Generator | None = None,
        guide: Guide | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the chunk (B, 16, A) and the goal token (B, 5) it was decoded from (read from the clip if None)."""
        heard = self.hear(features, senses)
        if goal is None:
            goal = goal_token(self.goal_reader(features, heard))
        state = self.action_state(senses) if self.action_head.config.state_relative else None
        fused = self.fuse(features.pooled, senses, features.text, heard)
        return self.decode(fused, goal, features.tokens, state, generator, guide), goal

    def loss(
        self,
        features: BackboneFeatures,
        senses: Mapping[str, Tensor],
        goal: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        heard: Tensor | None = None,
    ) -> Tensor:
        """What the heads learn from, a scalar: target chunk (B, 16, A), mask (B, 16) of real steps; any head type.

        heard: of `hear`, where it is there already.
        """
        fused = self.fuse(features.pooled, senses, features.text, heard)
        told = torch.cat([fused, self.goal_embed(goal)], dim=-1)
        state = self.action_state(senses) if self.action_head.config.state_relative else None
        return self.action_head.loss(told, goal, target, mask, generator, tokens=features.tokens, state=state)

    def speech_loss(self, features: BackboneFeatures, senses: Mapping[str, Tensor], answers: Sequence[str]) -> Tensor:
        """What the speech head learns from, a scalar: B clips, senses and answers. Raises ValueError as `respond`."""
        return self._speech().compute_loss(self.fuse(features.pooled, senses, features.text), answers)

    @torch.no_grad()
    def respond(self, features: BackboneFeatures, senses: Mapping[str, Tensor]) -> list[str]:
        """What the robot would say at each of B clips, "" for nothing; PersonaPlexTTS makes sound of it.

        Raises ValueError where `speech_vocabulary` is empty.
        """
        return self._speech().respond(self.fuse(features.pooled, senses, features.text))

    def _speech(self) -> SpeechResponseHead:
        if not self.config.speech_vocabulary:
            raise ValueError("This policy has no words to answer with. Build it with NeonConfig.speech_vocabulary.")
        return self.speech_head

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
        """One picture (H, W, 3) or clip (T, H, W, 3) uint8, words, and any of the senses -> chunk (16, A) in [-1, 1].

        proprioception (125,), eef (14,), lidar (N*3,) m, audio (S,). generator: where heads that sample draw their
        noise. Raises ValueError for another size or type of picture, for a sense that does not exist or has another
        size, and for numbers that are not finite.
        """
        self.eval()
        device = next(self.parameters()).device
        clip, tensors = as_question(image, proprioception, senses, device)
        chunk, _ = self(self.encode(clip, [instruction], tensors.get("audio")), tensors, generator=generator)
        return chunk[0].cpu().numpy()

    def parameter_table(self) -> dict[str, int]:
        """Trainable parameters by component, their sum, and the frozen backbone's."""
        table = {name: sum(p.numel() for p in module.parameters()) for name, module in self.named_children()}
        table["trainable"] = sum(table.values())
        table["backbone (frozen)"] = sum(p.numel() for p in self.backbone.parameters())
        return table
