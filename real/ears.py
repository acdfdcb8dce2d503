"""The robot's microphone: packets of 160 ms as they come, heard on evenly, 20 ms of it in every control step.

In simulation each frame ends where time stands. Packets do not allow that: a window that moved on by eight steps at
once and then stood still would be heard as eight times the same. So it is played a packet and a margin late, at an even
pace.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from neon_sim.real.multicast import MICROPHONE_GROUP, MICROPHONE_PORT, hear
from neon_sim.real.sense_source import Place
from neon_sim.real.voice import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from neon_sim.sensors.audio import AudioConfig

PACKET: Final = 2560  # samples, 160 ms: unitree_sdk2 example/g1/audio
_LARGEST: Final = 65_536  # bytes of a UDP packet
_SILENT_S: Final = 1.0  # without a packet the sense does not come any more
_NOT_LISTENED_S: Final = 1.0  # what has waited longer in the socket is not news


@dataclass(frozen=True)
class MicrophoneGroup:
    """The multicast group that the robot sends its microphone to: 16 kHz, one channel, signed 16 bits.

    margin_s: by how much a packet may be late; sound is heard this and a packet (0.16 s) later than it was made.
    A policy that should know that is trained with `AudioConfig(latency_s=0.2)`.
    """

    group: str = MICROPHONE_GROUP
    port: int = MICROPHONE_PORT
    margin_s: float = 0.04

    def __post_init__(self) -> None:
        if not 0.0 <= self.margin_s <= 1.0:
            raise ValueError(f"margin_s must be in [0, 1] s, got {self.margin_s}.")

    def open(self, wanted: "AudioConfig", place: Place) -> "Ear":
        """Join the group.

        Raises:
            ValueError: another rate, or two microphones. OSError: no such interface.
        """
        if wanted.sample_rate_hz != SAMPLE_RATE_HZ or wanted.microphones != 1:
            got = f"{wanted.microphones} of {wanted.sample_rate_hz} Hz"
            raise ValueError(
                f"The robot's microphone is one of {SAMPLE_RATE_HZ} Hz, got a wish for {got}. Set audio so."
            )
        return Ear(self, wanted.window_samples, place.interface)


class Ear:
    """Receives the packets. Made by `MicrophoneGroup.open`."""

    def __init__(self, source: MicrophoneGroup, window: int, interface: str) -> None:
        self._socket = hear(interface, source.port, source.group)
        self._socket.setblocking(False)
        self._sound = EvenSound(window, round(source.margin_s * SAMPLE_RATE_HZ))
        self._looked_s = self._heard_s = -np.inf

    def look(self, now_s: float, joint_pos: np.ndarray) -> np.ndarray | None:
        """See `Receiver`: (window,) float32 in [-1, 1], the newest sample last."""
        packets = self._packets()
        if now_s - self._looked_s > _NOT_LISTENED_S:
            packets = packets[-1:]
        self._looked_s = now_s
        for packet in packets:
            self._sound.add(np.frombuffer(packet[: len(packet) // 2 * 2], "<i2").astype(np.float32) / 32768.0, now_s)
            self._heard_s = now_s
        frame = self._sound.window(now_s)
        return frame if now_s - self._heard_s < _SILENT_S else None

    def close(self) -> None:
        """See `Receiver`."""
        self._socket.close()

    def _packets(self) -> list[bytes]:
        packets: list[bytes] = []
        while True:
            try:
                packets.append(self._socket.recv(_LARGEST))
            except BlockingIOError:
                return packets


class EvenSound:
    """Sound that comes in packets and is heard at an even pace.

    It begins `margin` samples after a first packet. When nothing is left to be heard there is silence, and it begins
    again with the next packet; what piles up beyond two packets and the margin (a sender whose clock is faster, a
    reader that was away) is skipped down to one.
    """

    def __init__(self, window: int, margin: int) -> None:
        """window: samples of a frame. margin: samples."""
        self._window = np.zeros(window, np.float32)
        self._margin = margin
        self._waiting = np.zeros(0, np.float32)
        self._plays = False
        self._clock: int | None = None

    def add(self, samples: np.ndarray, now_s: float) -> None:
        """Take a packet (N,) of samples in [-1, 1] that came at `now_s`."""
        if not self._plays:
            self._waiting = np.zeros(self._margin + self._passed(now_s), np.float32)
            self._plays = True
        waiting = np.concatenate((self._waiting, samples))
        self._waiting = waiting if len(waiting) <= 2 * PACKET + self._margin else waiting[-(PACKET + self._margin) :]

    def window(self, now_s: float) -> np.ndarray:
        """Hear on until `now_s` and return the window (window,) float32, newest last, as the caller's own copy."""
        passed = self._passed(now_s)
        self._clock = round(now_s * SAMPLE_RATE_HZ)
        heard, self._waiting = self._waiting[:passed], self._waiting[passed:]
        self._plays = self._plays and len(heard) == passed
        count = min(passed, len(self._window))
        fresh = np.zeros(passed, np.float32)
        fresh[: len(heard)] = heard
        self._window = np.concatenate((self._window[count:], fresh[passed - count :]))
        return self._window.copy()

    def _passed(self, now_s: float) -> int:
        """Samples of time since the last window."""
        return 0 if self._clock is None else max(0, round(now_s * SAMPLE_RATE_HZ) - self._clock)
