"""The compact ear: what was said in the last seconds, as the vector that the text side has of the same words.

So what is said can be asked of a picture as what is written can, and nobody who learns a task has to learn to hear
words first. It is trained in this simulator, on synthetic voices (`agents/train_ear.py`), and frozen.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from neon_sim.model.audio import AudioConfig
from neon_sim.model.compact import Block

SHIPPED_EARS: Final = ("compact_ear",)
SILENCE: Final = -1.5  # what `Spectra` makes of nothing
_KERNEL: Final = 5


@dataclass(frozen=True)
class EarConfig:
    """Sizes of the ear, and how the spectra are made that it reads."""

    dim: int = 160  # of the text side's vectors
    channels: int = 128
    heads: int = 5
    layers: int = 1
    n_mels: int = 80
    n_fft: int = 400  # samples at 16 kHz, 25 ms
    hop: int = 320  # samples, 20 ms
    seconds: float = 3.0  # of sound; less is padded with silence

    @property
    def frames(self) -> int:
        """Spectra in so much sound."""
        return round(self.seconds * 16000) // self.hop + 1


class CompactEar(nn.Module):
    """Loudness spectra (B, n_mels, T) as `Spectra` scales them -> (B, dim): the words' vector, 0 where none were said.

    Three convolutions, two of which halve the rate, a transformer over the sound, and a query of its own. What it says
    is weighed by how sure it is that a sentence has been said to its end.
    """

    def __init__(self, config: EarConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or EarConfig()
        layers: list[nn.Module] = []
        for before, after, stride in (
            (config.n_mels, config.channels, 1),
            (config.channels, config.channels, 2),
            (config.channels, config.dim, 2),
        ):
            convolution = nn.Conv1d(before, after, _KERNEL, stride, _KERNEL // 2, bias=False)
            layers += [convolution, nn.BatchNorm1d(after), nn.GELU()]
        self.convolutions = nn.Sequential(*layers)
        steps = -(-config.frames // 4)  # after halving twice
        self.places = nn.Parameter(0.02 * torch.randn(1 + steps, config.dim))
        self.query = nn.Parameter(0.02 * torch.randn(config.dim))
        self.blocks = nn.ModuleList(Block(config.dim, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.words, self.sure = nn.Linear(config.dim, config.dim), nn.Linear(config.dim, 1)

    def forward(self, spectra: Tensor) -> Tensor:
        """Of sound of any length: of more than `config.seconds` the newest."""
        words, sure = self.hear(spectra)
        return words * sure.sigmoid()

    def hear(self, spectra: Tensor) -> tuple[Tensor, Tensor]:
        """What may have been said (B, dim), and the logit (B, 1) of that it was."""
        frames = self.config.frames
        newest = spectra[..., -frames:]
        if newest.shape[-1] < frames:
            silence = newest.new_full((*newest.shape[:-1], frames - newest.shape[-1]), SILENCE)
            newest = torch.cat([silence, newest], dim=-1)
        found = self.convolutions(newest).transpose(1, 2)
        x = torch.cat([self.query.expand(len(found), 1, -1), found], dim=1) + self.places
        for block in self.blocks:
            x = block(x)
        read = self.norm(x[:, 0])
        return self.words(read), self.sure(read)


def save_ear(ear: CompactEar, folder: Path) -> None:
    """Write config.json and ear.safetensors, of 16-bit floats."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(ear.config), indent=2) + "\n", encoding="utf-8")
    state = {name: value.half() if value.is_floating_point() else value for name, value in ear.state_dict().items()}
    partial = folder / "ear.safetensors.partial"
    save_file({name: value.contiguous() for name, value in state.items()}, partial)
    partial.replace(folder / "ear.safetensors")


def load_ear(name: str) -> CompactEar:
    """A shipped ear, or one in a folder of `save_ear`; frozen, in eval mode.

    Raises ValueError for a folder that does not hold a whole one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    ear = CompactEar(read_config(name))
    try:
        state = load_file(_folder(name) / "ear.safetensors")
        ear.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in state.items()})
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(_no_ear(name, error)) from error
    return ear.requires_grad_(False).eval()


def read_config(name: str) -> EarConfig:
    """Sizes of an ear, without its weights. Raises ValueError as `load_ear`."""
    try:
        return EarConfig(**json.loads((_folder(name) / "config.json").read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(_no_ear(name, error)) from error


def _folder(name: str) -> Path:
    from neon_sim.shipped import asset_path

    return asset_path(f"g1/{name}") if name in SHIPPED_EARS else Path(name)


def _no_ear(name: str, error: Exception) -> str:
    return (
        f"{name} does not hold a whole ear ({error}). Take one of {', '.join(SHIPPED_EARS)}, or train one: "
        "python agents/train_ear.py"
    )


class SpokenWords:
    """The ear of a policy that asks pictures for what is said; its weights are read at the first sound.

    Args:
        name: as `load_ear` has it.
        audio: how the policy makes spectra. The ear takes their loudness, and every second one where they are twice as
            many as it was taught on.
        hidden_size: of the backbone whose words it is to speak.

    Raises ValueError where it cannot.
    """

    def __init__(self, name: str, audio: AudioConfig, hidden_size: int) -> None:
        config = read_config(name)
        self.name, self._bands, self._every = name, config.n_mels, max(1, config.hop // audio.hop)
        same = (audio.encoder_type, audio.sample_rate, audio.n_mels, audio.n_fft, self._every * audio.hop)
        wanted = ("mel_spectrogram", 16000, config.n_mels, config.n_fft, config.hop)
        if same != wanted:
            raise ValueError(
                f"NeonConfig.ear wants AudioConfig with encoder_type, sample_rate, n_mels, n_fft and hop (or a whole "
                f"part of it) of {wanted}, got {audio}."
            )
        if hidden_size != config.dim:
            raise ValueError(f"The ear {name} speaks in {config.dim} numbers, the backbone's words have {hidden_size}.")
        self._ear: CompactEar | None = None
        self._heard: dict[bytes, Tensor] = {}
        self._memory = 0  # sounds

    def remember(self, sounds: int) -> None:
        """Keep what was said in as many different sounds, and do not listen to them again: for who learns from the same
        ones many times. On a CPU; about 1 kB each.
        """
        self._memory = sounds

    def load(self, device: torch.device) -> CompactEar:
        """The ear itself, on a device."""
        if self._ear is None:
            self._ear = load_ear(self.name)
        return self._ear.to(device)

    @torch.no_grad()
    def __call__(self, spectra: Tensor) -> Tensor:
        """What `Spectra` makes of one microphone or two (B, bands, T) -> the words' vectors (B, dim)."""
        newest_last = spectra[:, : self._bands, (spectra.shape[-1] - 1) % self._every :: self._every].float()
        if self._memory and spectra.device.type == "cpu":
            return torch.cat([self._remembered(sound) for sound in newest_last.split(1)])
        words: Tensor = self.load(spectra.device)(newest_last)
        return words

    def _remembered(self, sound: Tensor) -> Tensor:
        """One at a time, so that what is said of it does not depend on its neighbours."""
        key = hashlib.blake2b(sound.numpy().tobytes(), digest_size=16).digest()
        words = self._heard.get(key)
        if words is None:
            words = self.load(sound.device)(sound).float()  # whoever hears it again may compute otherwise
            if len(self._heard) < self._memory:
                self._heard[key] = words
        return words
