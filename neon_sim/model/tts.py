"""PersonaPlexTTS: the robot's voice, 24 kHz (paper, 9.2). A small offline one, or a Moshi that is told what to say."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from neon_sim import espeak
from neon_sim.model.backbones.loading import freeze, load_model, read_config, require_extra, source_of
from neon_sim.model.video_backbone import BackboneConfig

ESPEAK: Final = "espeak"
SAMPLE_RATE: Final = 24000  # Hz, Mimi's

# Moshi's text stream (arXiv 2410.00037, 3.4.4): what stands between words, and what announces the next one.
_PAD, _END_OF_PAD = 3, 0
_LONGEST_TEXT = 2000  # characters, about two minutes


@dataclass(frozen=True)
class TTSConfig:
    """Which voice. "espeak" is eSpeak NG: small, offline, on the CPU; language and words_per_minute are its own.

    Any other `model_id` is a Moshi in transformers' layout, a folder or a hub id; the fields from role on are its own.
    PersonaPlex is a Moshi of 7 B, about 16 GB in bfloat16. Its hub repository (nvidia/personaplex-7b-v1, behind a
    licence) has Kyutai's layout: convert it with convert_moshi_transformers.py of transformers' repository, and give
    the folder. That has not been tried here, only Moshis of random weights have.
    Raises ValueError for numbers that are not positive.
    """

    model_id: str = ESPEAK
    language: str = "en-us"  # voice name of eSpeak NG
    words_per_minute: int = 175
    role: str = ""  # what PersonaPlex is told about itself before it speaks
    temperature: float = 0.8
    seed: int = 0
    longest_pause: int = 12  # frames of 80 ms between two words before the next one is forced
    tail: int = 12  # frames of 80 ms after the last word
    dtype: str = "bfloat16"
    device: str = "auto"  # cuda, mps or cpu, the first there is
    revision: str | None = None

    def __post_init__(self) -> None:
        if min(self.longest_pause, self.tail) < 1 or self.temperature <= 0.0:
            raise ValueError(f"TTSConfig wants longest_pause, tail and temperature above 0, got {self}.")


def next_tokens(words: Sequence[Sequence[int]], told: Sequence[int], longest_pause: int, tail: int) -> tuple[int, ...]:
    """Which text tokens a Moshi may choose next so that it says these words, and itself decides when.

    Inside a word there is no choice. Between words it may wait, announce the next word, or begin it.

    Args:
        words: token ids of each word.
        told: the text tokens so far.
        longest_pause, tail: frames, as in TTSConfig.

    Returns:
        Token ids; none when all is said and the tail is over.
    """
    word, place, pause, announced = 0, 0, 0, False
    for token in told:
        inside = word < len(words) and token == words[word][place]
        pause, announced = (0, False) if inside else (pause + 1, token == _END_OF_PAD)
        place += inside
        if inside and place == len(words[word]):
            word, place = word + 1, 0
    if word == len(words):
        return () if pause >= tail else (_PAD,)
    coming = words[word][place]
    if place or announced or pause >= longest_pause:
        return (coming,)
    return _PAD, _END_OF_PAD, coming


class _Script:
    """`next_tokens` for one text, as the two callables that transformers' generate asks at every frame."""

    def __init__(self, words: Sequence[Sequence[int]], before: int, config: TTSConfig) -> None:
        self._words, self._before, self._config = words, before, config
        # Most frames that it can take: each word after its longest pause and an announcement, then the tail.
        self.longest = sum(len(word) + config.longest_pause + 1 for word in words) + config.tail

    def _allowed(self, ids: Tensor) -> list[int]:
        told = ids[0, self._before :].tolist()
        return list(next_tokens(self._words, told, self._config.longest_pause, self._config.tail))

    def restrict(self, ids: Tensor, scores: Tensor) -> Tensor:
        """Logits (1, V) with -inf where the script has another word."""
        allowed = self._allowed(ids)
        return torch.full_like(scores, -torch.inf).index_copy(1, torch.tensor(allowed).to(ids), scores[:, allowed])

    def over(self, ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        """(1,) bool."""
        return torch.full((1,), not self._allowed(ids), device=ids.device)


class PersonaPlexTTS:
    """Text in, sound out; the weights, if the voice has any, are read at the first word.

    PersonaPlex is a Moshi: a language model with a text stream, and a stream of Mimi codes (12.5 Hz) that follows it.
    It is made to read by allowing in the text stream nothing but the words and the pauses between them.

    Args:
        config: None for the offline voice.
        voice: (S,) samples at 24 kHz that a Moshi is to sound like; it takes them for what it just said.

    Raises:
        ImportError: the extra that the voice needs is missing; the message carries the pip line.
        ConnectionError: a hub id that is neither cached nor within reach.
        ValueError: weights that are no Moshi in transformers' layout, or a voice for eSpeak NG.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, config: TTSConfig | None = None, voice: np.ndarray | None = None) -> None:
        self.config = config = config or TTSConfig()
        self.voice = None if voice is None else _checked_voice(voice)
        self.model: Any = None  # None before `load`, and for eSpeak NG
        self._tokenizer: Any = None
        if config.model_id == ESPEAK:
            if voice is not None:
                raise ValueError("eSpeak NG cannot take on a voice. Choose one of its own with TTSConfig.language.")
            return
        self._loading = BackboneConfig(
            config.model_id, load_in_4bit=False, dtype=config.dtype, device=config.device, revision=config.revision
        )
        self._source = source_of(self._loading)
        try:
            self._model_config: Any = read_config(self._source, config.revision)
        except ConnectionError as error:
            raise ConnectionError(
                f"{config.model_id!r} is not cached and the hub did not give it, or not in transformers' layout. Pass "
                "a local folder, TTSConfig('/path/to/folder'), or take 'espeak'."
            ) from error
        if self._model_config.model_type != "moshi":
            raise ValueError(
                f"{config.model_id} is no Moshi in transformers' layout (model_type "
                f"{self._model_config.model_type!r}). Convert it with transformers' script for Moshi, or take 'espeak'."
            )

    def load(self) -> "PersonaPlexTTS":
        """Read the weights now, unless they are there or the voice has none."""
        if self.config.model_id != ESPEAK and self.model is None:
            transformers = require_extra("transformers")
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(self._source, revision=self.config.revision)
            moshi = transformers.MoshiForConditionalGeneration
            self.model = freeze(load_model(moshi, self._source, self._model_config, self._loading, quantize=False))
        return self

    def say(self, text: str) -> np.ndarray:
        """Samples (S,) float32 in [-1, 1] at 24 kHz; none for an empty text.

        A Moshi says the same text the same way each time (`config.seed`), eSpeak NG nearly so.
        Raises ValueError for a text of more than 2000 characters, and as `espeak.speak` does.
        """
        if len(text) > _LONGEST_TEXT:
            raise ValueError(f"say() takes at most {_LONGEST_TEXT} characters, got {len(text)}. Say it in parts.")
        if not text.strip():
            return np.zeros(0, np.float32)
        if self.config.model_id == ESPEAK:
            return resampled(*espeak.speak(text, self.config.language, self.config.words_per_minute))
        return self._generate(text)

    @torch.no_grad()
    def _generate(self, text: str) -> np.ndarray:
        self.load()
        transformers = require_extra("transformers")
        model, device, frame = self.model, self.model.device, self._frame
        told, before = self._prompt()
        spoken = -(-len(before) // frame)  # frames
        script = _Script(self._words(text), spoken + 1, self.config)  # generate puts a beginning in front
        silence = torch.zeros(spoken * frame)
        # Both decoders draw from torch's global generator, and from no other.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(self.config.seed)
            model.generate(
                input_ids=torch.tensor([told], device=device),
                moshi_audio_codes=self._codes(before),
                user_audio_codes=self._codes(silence),
                max_new_tokens=script.longest,
                do_sample=True,
                temperature=self.config.temperature,
                depth_decoder_do_sample=True,
                depth_decoder_temperature=self.config.temperature,
                logits_processor=transformers.LogitsProcessorList([script.restrict]),
                stopping_criteria=transformers.StoppingCriteriaList([script.over]),
                return_audio_waveforms=False,  # it could only make them of all max_new_tokens
            )
        made = model.audio_encoder.decode(in_step(model.generated_audio_codes)).audio_values
        return made[0, 0, spoken * frame :].float().cpu().numpy().clip(-1.0, 1.0)

    @property
    def _frame(self) -> int:
        """Samples of one Mimi code, 1920."""
        return round(self._model_config.sampling_rate / self._model_config.audio_encoder_config.frame_rate)

    def _prompt(self) -> tuple[list[int], Tensor]:
        """What the model has said and heard itself say before: text tokens, one a frame, and samples.

        First the voice, without words; then the role, without sound; a frame of silence if there is neither.
        """
        frame = self._frame
        voice = torch.zeros(frame) if self.voice is None else torch.from_numpy(self.voice)
        voice = F.pad(voice, (0, -len(voice) % frame))
        role = [token for word in self._words(self.config.role) for token in word]
        return [_PAD] * (len(voice) // frame) + role, F.pad(voice, (0, len(role) * frame))

    def _words(self, text: str) -> list[list[int]]:
        """Token ids word by word; what the tokenizer does not know is left out, its id announces words here."""
        coded = [self._tokenizer.encode(word, add_special_tokens=False) for word in text.split()]
        known = [[token for token in word if token not in (_PAD, _END_OF_PAD)] for word in coded]
        return [word for word in known if word]

    def _codes(self, samples: Tensor) -> Tensor:
        """Samples (S,) of whole frames -> Mimi's codes (1, codebooks, S / 1920)."""
        wave = samples.to(self.model.device, self.model.dtype)[None, None]
        return self.model.audio_encoder.encode(wave, num_quantizers=self.model.num_codebooks)[0]


def in_step(codes: Tensor) -> Tensor:
    """Mimi codes as Moshi writes them, (1, K, N), a beginning in front -> frame by frame, (1, K, N - 2).

    All codebooks but the first come one step late, so that they can follow what the first one says.
    """
    return torch.cat([codes[:, :1, 1:-1], codes[:, 1:, 2:]], dim=1)


def resampled(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Samples (S,) at some rate -> float32 at 24 kHz, band-limited."""
    from scipy.signal import resample_poly

    common = gcd(SAMPLE_RATE, rate_hz)
    return resample_poly(samples, SAMPLE_RATE // common, rate_hz // common).astype(np.float32).clip(-1.0, 1.0)


def _checked_voice(voice: np.ndarray) -> np.ndarray:
    samples = np.asarray(voice, np.float32)
    if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
        raise ValueError(f"A voice is (S,) finite samples at {SAMPLE_RATE} Hz, got shape {samples.shape}.")
    return samples
