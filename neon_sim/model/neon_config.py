"""NeonConfig: everything that a Neon checkpoint's shape depends on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from neon_sim.model.action_heads import ActionHeadConfig
from neon_sim.model.audio import AudioConfig
from neon_sim.model.video_backbone import COMPACT, BackboneConfig
from neon_sim.names import nearest, require_counts, require_numbers

# Fields of ActionHeadConfig that follow from other fields of NeonConfig, or from the backbone and the action space.
_OWN_HEAD_FIELDS: Final = (
    "hidden_size", "action_dim", "num_action_steps", "mlp_hidden", "num_layers", "dropout", "token_dim", "goal_dim"
)  # fmt: skip

# Fields that runs which began earlier know nothing of.
_LATER: Final = (
    "speech_vocabulary", "speech_words", "sound_memory_s", "microphones", "goal_hears", "heads_read",
    "use_vision", "word_choices", "ear",
)  # fmt: skip


@dataclass(frozen=True)
class NeonConfig:
    """Everything that a checkpoint's shape depends on. The hidden size comes from the backbone (D3)."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    control_mode: str = "arms_only"
    action_center: str = "home"
    num_action_steps: int = 16
    mlp_hidden: int = 256  # half of the documents' 512: made for CPUs
    action_head_layers: int = 3
    proprioception_hidden: int = 256
    goal_width: int = 64
    dropout: float = 0.05
    vision_dropout: float = 0.5  # chance that a training sample loses the pooled clip: the goal token must carry it
    sense_dropout: float = 0.3  # chance that a training sample loses LiDAR, and the same for audio and extra senses
    tracking_noise: float = 6.0  # standard deviations, disturbance of `NeonVLA.unusual_error` in training
    use_lidar: bool = True
    use_eef: bool = True
    use_audio: bool = True
    audio: AudioConfig = field(default_factory=lambda: AudioConfig(output_dim=64))
    extra_senses: Mapping[str, int] = field(default_factory=dict)  # of `EXTRA_ENCODERS`, with their sizes
    cross_attention: bool = False  # flow, DiT and ensemble heads look at the backbone's tokens and the goal token
    relative_to_target: bool = False  # state-relative heads: to the last sent target, and not to where the joints are
    speech_vocabulary: tuple[str, ...] = ()  # words of its answers, see SpeechResponseHead; none = it has no such head
    speech_words: int = 12  # longest answer
    sound_memory_s: float = 0.0  # s of sound that it hears at once; 0 = what its microphone gives, 0.32 s of the env's
    microphones: int = 1  # whose sound it hears: 1, or 2 at the left and right of the head
    goal_hears: bool = False  # the goal is read out of the clip by what is heard as well, and not by the words alone
    ear: str = ""  # a frozen ear (`neon_sim.model.ear`): what is said is asked of the clip as the words are; "" = none
    heads_read: bool = False  # the words go to the heads as well, beside the pooled clip, which may be lost
    word_choices: int = 0  # the words go there as a choice among so many things (WordChoice); 0 = as their own vector
    use_vision: bool = True  # whether the heads see the pooled clip, in which the words are, too
    head: Mapping[str, Any] = field(default_factory=dict)  # other fields of ActionHeadConfig, such as head_type="flow"

    def __post_init__(self) -> None:
        known = [f.name for f in fields(ActionHeadConfig) if f.name not in _OWN_HEAD_FIELDS]
        for name in self.head:
            if name not in known:
                raise nearest("NeonConfig.head option", name, known)
        sizes = ("num_action_steps", "mlp_hidden", "action_head_layers", "proprioception_hidden")
        may_be_none = ("goal_width", "word_choices")
        require_counts(self, **dict.fromkeys(may_be_none, (0, 1 << 16)), **dict.fromkeys(sizes, (1, 1 << 16)))
        shares = ("dropout", "vision_dropout", "sense_dropout")
        require_numbers(self, tracking_noise=(0.0, 1e3), **dict.fromkeys(shares, (0.0, 1.0)))
        if self.word_choices == 1 or (self.word_choices and not self.heads_read):
            raise ValueError(
                "NeonConfig.word_choices wants 2 or more, and heads_read=True: who is to choose must hear."
            )
        if not (self.use_vision or self.heads_read or self.goal_width):
            raise ValueError("No words would reach the heads: keep one of use_vision, heads_read and goal_width.")
        if self.ear and not (self.goal_hears and self.use_audio and self.backbone.model_id == COMPACT):
            raise ValueError(
                "NeonConfig.ear wants goal_hears=True, use_audio=True and the compact backbone, whose words it knows."
            )
        if self.sound_memory_s and not 0.1 <= self.sound_memory_s <= 30.0:
            raise ValueError(f"NeonConfig.sound_memory_s wants 0 (none), or 0.1 to 30 s, got {self.sound_memory_s}.")

    def __repr__(self) -> str:
        """As dataclasses have it, without what came later and is left alone: folders of runs are known by this text."""
        told = ((f.name, getattr(self, f.name), f.default) for f in fields(self))
        shown = [f"{name}={value!r}" for name, value, default in told if name not in _LATER or value != default]
        return f"{type(self).__name__}({', '.join(shown)})"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "NeonConfig":
        """Rebuild from `asdict`. Raises ValueError for a key that this version does not know."""
        parts: dict[str, Any] = {"backbone": BackboneConfig(**_known(BackboneConfig, values.get("backbone", {})))}
        if "audio" in values:  # checkpoints from before it could be chosen have the mel encoder
            parts["audio"] = AudioConfig(**_known(AudioConfig, values["audio"]))
        if "speech_vocabulary" in values:
            parts["speech_vocabulary"] = tuple(values["speech_vocabulary"])
        return cls(**{**_known(cls, values), **parts})


def _known(kind: Any, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values themselves, once each is known to be a field of a dataclass; ValueError names the nearest."""
    known = [f.name for f in fields(kind)]
    for name in values:
        if name not in known:
            raise nearest(f"{kind.__name__} field", name, known)
    return values
