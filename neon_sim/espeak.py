"""eSpeak NG through its C library: a small voice that needs no network, no GPU and no second process.

The library keeps things between two utterances that no call of it resets (where its voice's flutter is, for one), and
a noise that begins with the time of day. So it is loaded afresh for each utterance, and its noise begins with one seed:
the same words in the same voice are the same samples, whatever was said before, in this process and in any other.
"""

import ctypes
import sys
import threading
from contextlib import closing
from typing import Any, Final

import numpy as np

PIP_LINE: Final = "pip install 'neon-sim[speech]'"

# Values of espeak-ng's speak_lib.h.
_SYNCHRONOUS, _NO_EXIT, _RATE, _PITCH, _CHARACTERS, _UTF8 = 2, 0x8000, 1, 3, 1, 1
_SLOWEST, _FASTEST = 80, 450  # words per minute that the library accepts
_HIGHEST = 100  # of its pitch, where 50 is the voice's own
_SEED = 1  # of its noise

_TAKE_SAMPLES = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class _Library:
    """The library, loaded for one utterance. Two at a time would share one output: see `_LOCK`.

    Raises ImportError without espeakng-loader and RuntimeError if the library finds no voices.
    """

    def __init__(self) -> None:
        loader = _loader()
        self._calls: Any = ctypes.CDLL(loader.get_library_path())
        self._pieces: list[np.ndarray] = []
        self._callback = _TAKE_SAMPLES(self._take)  # kept: the library has only its address
        self.sample_rate: int = self._calls.espeak_Initialize(
            _SYNCHRONOUS, 0, loader.get_data_path().encode(), _NO_EXIT
        )
        if self.sample_rate <= 0:
            self.close()
            raise RuntimeError(f"eSpeak NG found no voices in {loader.get_data_path()}. Install again: {PIP_LINE}")
        self._calls.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))  # after it was initialised, which takes the time of day
        self._calls.espeak_SetSynthCallback(self._callback)

    def close(self) -> None:
        """Unload it, so that the next one begins with clean memory."""
        self._calls.espeak_Terminate()
        _unload(self._calls)

    def _take(self, samples: Any, count: int, events: Any) -> int:
        if samples and count:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0  # go on

    def speak(self, text: str, language: str, words_per_minute: int, pitch: int) -> np.ndarray:
        if self._calls.espeak_SetVoiceByName(language.encode()):
            raise ValueError(
                f"eSpeak NG has no voice {language!r}. It has those of its languages: en-us, de, tr, fr-fr, en-us+f3."
            )
        self._calls.espeak_SetParameter(_RATE, words_per_minute, 0)
        self._calls.espeak_SetParameter(_PITCH, pitch, 0)
        self._pieces.clear()
        code = text.encode()
        if self._calls.espeak_Synth(code, ctypes.c_size_t(len(code) + 1), 0, _CHARACTERS, 0, _UTF8, None, None):
            raise RuntimeError(f"eSpeak NG did not say {text[:40]!r}.")
        return np.concatenate([np.zeros(0, np.int16), *self._pieces])


_LOCK: Final = threading.Lock()


def _unload(library: ctypes.CDLL) -> None:
    # ctypes never unloads what it loaded; the call for it is the system's own.
    if sys.platform == "win32":
        ctypes.windll.kernel32.FreeLibrary(ctypes.c_void_p(library._handle))
    else:
        ctypes.CDLL(None).dlclose(ctypes.c_void_p(library._handle))


def _loader() -> Any:
    try:
        import espeakng_loader
    except ImportError as error:
        raise ImportError(f"The default voice needs espeakng-loader: {PIP_LINE}") from error
    return espeakng_loader


def speak(text: str, language: str = "en-us", words_per_minute: int = 175, pitch: int = 50) -> tuple[np.ndarray, int]:
    """Say a text: samples (S,) float32 in [-1, 1], and their rate in Hz (22050). One caller at a time, others wait.

    language: a voice of the library, "en-us", or with one of its speakers, "en-us+f3". pitch: 0 to 100, 50 the
    voice's own. The same arguments give the same samples.

    Raises:
        ImportError: espeakng-loader is missing; the message carries the pip line.
        ValueError: there is no such voice, a rate or pitch that it cannot speak at, or a text with a zero byte.
    """
    if not _SLOWEST <= words_per_minute <= _FASTEST:
        raise ValueError(f"eSpeak NG speaks {_SLOWEST} to {_FASTEST} words per minute, got {words_per_minute}.")
    if not 0 <= pitch <= _HIGHEST:
        raise ValueError(f"eSpeak NG's pitch goes from 0 to {_HIGHEST}, 50 is the voice's own; got {pitch}.")
    if "\0" in text:
        raise ValueError("A text to be said holds no zero byte. Strip the padding first.")
    with _LOCK, closing(_Library()) as library:
        samples = library.speak(text, language, words_per_minute, pitch)
        return samples.astype(np.float32) / 32768.0, library.sample_rate
