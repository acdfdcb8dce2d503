"""The `voice` service: the robot's loudspeaker, text to speech, volume and head light.

Numbers and JSON: unitree_sdk2_python 37116c52 g1/audio. Sound goes as 16 kHz mono signed 16-bit little-endian bytes
beside the JSON, at most 96000 bytes (3 s) a call; the vendor's example sends such chunks a second apart.
"""

from collections.abc import Iterator
from enum import IntEnum
from itertools import count
from typing import Final, Protocol

from neon_sim.real.rpc import Handler, Reply, RpcClient, RpcServer, number, string
from neon_sim.real.rpc_errors import BadParameterError, WrongReplyError
from neon_sim.real.transport import Link

SERVICE: Final = "voice"
VERSION: Final = "1.0.0.0"
SAMPLE_RATE_HZ: Final = 16_000
CHUNK_BYTES: Final = 96_000


class Api(IntEnum):
    """The service's functions. 1002 (ASR) has no reader here: what was understood comes on rt/audio_msg."""

    SPEAK = 1001
    START_PLAY = 1003
    STOP_PLAY = 1004
    GET_VOLUME = 1005
    SET_VOLUME = 1006
    SET_LIGHT = 1010


class Voice(Protocol):
    """A mouth and a light: `VoiceClient` is one over the network, the simulated robot is another."""

    def speak(self, text: str, speaker_id: int = 0) -> None:
        """Say something; returns before it is said."""

    def play(self, app: str, stream: str, pcm: bytes) -> None:
        """Add sound to a program's stream."""

    def stop(self, app: str) -> None:
        """Stop a program's stream."""

    def volume(self) -> int:
        """Return the volume, 0..100."""

    def set_volume(self, volume: int) -> None:
        """Set the volume, 0..100."""

    def set_light(self, red: int, green: int, blue: int) -> None:
        """Colour the head light, 0..255 each."""


class VoiceClient:
    """`Voice` over the network. Every method can raise an RpcError."""

    def __init__(self, link: Link, timeout_s: float = 10.0) -> None:
        self._rpc = RpcClient(link, SERVICE, timeout_s)
        self._index = count(1)  # the vendor's client always sends 0

    def speak(self, text: str, speaker_id: int = 0) -> None:
        """See `Voice`."""
        self._rpc.call(Api.SPEAK, {"index": next(self._index), "text": text, "speaker_id": int(speaker_id)})

    def play(self, app: str, stream: str, pcm: bytes) -> None:
        """See `Voice`.

        Raises:
            ValueError: more than `CHUNK_BYTES` (see `chunks`), or half a sample.
        """
        if len(pcm) > CHUNK_BYTES or len(pcm) % 2:
            raise ValueError(
                f"pcm must be at most {CHUNK_BYTES} bytes and an even number, got {len(pcm)}. Use chunks()."
            )
        self._rpc.call(Api.START_PLAY, {"app_name": app, "stream_id": stream}, pcm)

    def stop(self, app: str) -> None:
        """See `Voice`."""
        self._rpc.call(Api.STOP_PLAY, {"app_name": app})

    def volume(self) -> int:
        """See `Voice`."""
        data = self._rpc.call(Api.GET_VOLUME).data
        if not isinstance(data, dict) or not isinstance(data.get("volume"), int):
            raise WrongReplyError(f'{SERVICE}/{Api.GET_VOLUME} wanted {{"volume": number}}, got {data!r}')
        return data["volume"]

    def set_volume(self, volume: int) -> None:
        """See `Voice`."""
        self._rpc.call(Api.SET_VOLUME, {"volume": int(volume)})

    def set_light(self, red: int, green: int, blue: int) -> None:
        """See `Voice`."""
        self._rpc.call(Api.SET_LIGHT, {"R": int(red), "G": int(green), "B": int(blue)})


def chunks(pcm: bytes) -> Iterator[bytes]:
    """Cut a sound into what one `play` takes."""
    return (pcm[start : start + CHUNK_BYTES] for start in range(0, len(pcm), CHUNK_BYTES))


def serve_voice(link: Link, voice: Voice) -> RpcServer:
    """Offer a voice as the `voice` service; poll the server that comes back."""

    def speak(parameter: dict, binary: bytes) -> Reply:
        voice.speak(string(parameter, "text"), int(number(parameter, "speaker_id")))
        return Reply()

    def play(parameter: dict, binary: bytes) -> Reply:
        if len(binary) > CHUNK_BYTES or len(binary) % 2:
            raise BadParameterError(f"wanted at most {CHUNK_BYTES} bytes of 16-bit sound, got {len(binary)}")
        voice.play(string(parameter, "app_name"), string(parameter, "stream_id"), binary)
        return Reply()

    def stop(parameter: dict, binary: bytes) -> Reply:
        voice.stop(string(parameter, "app_name"))
        return Reply()

    def volume(parameter: dict, binary: bytes) -> Reply:
        return Reply({"volume": voice.volume()})

    def set_volume(parameter: dict, binary: bytes) -> Reply:
        voice.set_volume(_within(parameter, "volume", 100))
        return Reply()

    def set_light(parameter: dict, binary: bytes) -> Reply:
        voice.set_light(*(_within(parameter, key, 255) for key in ("R", "G", "B")))
        return Reply()

    handlers: dict[int, Handler] = {
        Api.SPEAK: speak,
        Api.START_PLAY: play,
        Api.STOP_PLAY: stop,
        Api.GET_VOLUME: volume,
        Api.SET_VOLUME: set_volume,
        Api.SET_LIGHT: set_light,
    }
    return RpcServer(link, SERVICE, handlers, VERSION)


def _within(parameter: dict, key: str, highest: int) -> int:
    value = int(number(parameter, key))
    if not 0 <= value <= highest:
        raise BadParameterError(f"wanted 0..{highest} as {key!r}, got {value}")
    return value
