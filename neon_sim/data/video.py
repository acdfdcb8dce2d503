"""Frame-exact video with PyAV: frame k of what was written is frame k of what is read, wherever reading begins."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np

try:
    import av
    from av.video.reformatter import VideoReformatter
except ImportError as error:
    raise ImportError("Video needs PyAV. Install it: pip install 'neon-sim[data]'") from error

Path = str | os.PathLike[str]
_KEPT_OPEN: Final = 4  # videos
_Version = tuple[str, int, int, int]  # path, inode, bytes, ns


class _Pool:
    """Open videos that nobody reads now; threads may share it, and a process that was forked off begins with none.

    A reader that the garbage collector ends gives its video back at any moment, also while its thread is in here: the
    lock lets the same thread in again, and each step holds by itself.
    """

    def __init__(self) -> None:
        self._waiting: dict[_Version, Any] = {}  # the one that waits longest first
        self._lock = threading.RLock()

    def take(self, version: _Version) -> Any:
        """One that is open, for the caller alone; None if there is none."""
        with self._lock:
            return self._waiting.pop(version, None)

    def give_back(self, version: _Version, container: Any) -> None:
        """Keep it for the next reader, and close what has waited longest where there are too many."""
        with self._lock:
            surplus = [self._waiting.pop(version, None)]
            self._waiting[version] = container
            if len(self._waiting) > _KEPT_OPEN:
                oldest, *_ = self._waiting  # at once: the garbage collector may give one back at any time
                surplus.append(self._waiting.pop(oldest, None))
        for other in surplus:
            if other is not None:
                other.close()

    def forget(self) -> None:
        """Another process's videos are left as they are: its decoders' threads are not here to be ended."""
        _elsewhere.append(self._waiting)
        self._waiting, self._lock = {}, threading.RLock()


_pool = _Pool()
_elsewhere: list[Any] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.forget)


@dataclass(frozen=True)
class VideoConfig:
    """How pictures are encoded. The defaults favour speed and random access over size.

    No frame refers to a later one, so that clips can be put one after another without encoding them again. One thread:
    the same pictures give the same bytes.
    """

    codec: str = "libx264"  # "libx264rgb" with crf 0 and pix_fmt "rgb24" is lossless
    pix_fmt: str = "yuv420p"
    crf: int = 20  # 0 is the best quality
    preset: str = "ultrafast"
    keyframe_every: int = 25  # frames; reading anywhere decodes at most this many for nothing


def encode_video(path: Path, frames: np.ndarray | Sequence[np.ndarray], fps: int, config: VideoConfig) -> None:
    """Write frames (T, H, W, 3) uint8 RGB to an mp4 file, whatever the path's suffix.

    Raises:
        ValueError: no frames, another shape or type, or an odd size where the pixel format needs an even one.
    """
    _check_frames(frames, config)
    height, width = frames[0].shape[:2]
    with av.open(os.fspath(path), "w", format="mp4") as container:
        stream: Any = container.add_stream(config.codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, config.pix_fmt
        stream.codec_context.thread_count = 1
        stream.options = {"crf": str(config.crf), "preset": config.preset, "bf": "0", "g": str(config.keyframe_every)}
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _check_frames(frames: np.ndarray | Sequence[np.ndarray], config: VideoConfig) -> None:
    if len(frames) == 0:
        raise ValueError("A video needs at least one frame, got none.")
    first = frames[0]
    if first.dtype != np.uint8 or first.ndim != 3 or first.shape[2] != 3:
        raise ValueError(f"Video frames are (H, W, 3) uint8, got {first.shape} {first.dtype}.")
    if config.pix_fmt == "yuv420p" and (first.shape[0] % 2 or first.shape[1] % 2):
        raise ValueError(
            f"yuv420p needs an even height and width, got {first.shape[:2]}. Store them as images instead."
        )


def video_rate(path: Path) -> float:
    """Frames per second that the file says of itself."""
    with av.open(os.fspath(path)) as container:
        return float(container.streams.video[0].average_rate or 0.0)


def decode_video(
    path: Path,
    fps: float,
    first: int = 0,
    count: int | None = None,
    change: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Frames `first` to `first + count` as (count, H, W, 3) uint8 RGB; count=None reads to the end.

    fps: of the grid that frames are numbered on, frame k at k / fps s after the video's start. change: done to each
    frame before the next is decoded, such as making it smaller.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be decoded, its rate is another, it has a hole, or it ends too soon.
    """
    frames: list[np.ndarray] = []
    for index, pixels in iterate_video(path, fps, first):
        if count is not None and len(frames) == count:
            break
        if index != first + len(frames):
            raise ValueError(f"{os.fspath(path)} has frame {index} where frame {first + len(frames)} belongs.")
        frames.append(pixels if change is None else change(pixels))
    if count is not None and len(frames) < count:
        wanted = f"{os.fspath(path)} ends too soon: frames {first} to {first + count - 1} are wanted"
        raise ValueError(f"{wanted}, it gives {len(frames)} of them.")
    return np.stack(frames) if frames else np.empty((0, 0, 0, 3), np.uint8)


def iterate_video(path: Path, fps: float, first: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (frame number, (H, W, 3) uint8 RGB) from frame `first` on, holding one frame at a time."""
    try:
        with _opened(os.fspath(path)) as (container, fresh):
            stream: Any = container.streams.video[0]
            _check_rate(path, stream.average_rate, fps)
            start = (stream.start_time or 0) * stream.time_base
            to_rgb = VideoReformatter()  # a frame's own would be set up for each frame, twenty times the decoding
            if first > 0 or not fresh:
                container.seek(int((start + Fraction(first) / Fraction(fps)) / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                index = round((frame.pts * frame.time_base - start) * Fraction(fps))
                if index >= first:
                    yield index, to_rgb.reformat(frame, format="rgb24").to_ndarray()
    except FileNotFoundError:
        raise FileNotFoundError(f"No video {os.fspath(path)}.") from None
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise ValueError(f"{os.fspath(path)} is not a readable video: {error}. Copy or record it again.") from error


@contextmanager
def _opened(path: str) -> Iterator[tuple[Any, bool]]:
    """A video, and whether it is at its beginning, or where its last reader left it; kept open for the next one.

    To open one whose index lists hundreds of episodes takes as long as to decode an episode of it. Nobody else has it
    meanwhile, and a file that was written anew is another one.
    """
    found = os.stat(path)
    key = (path, found.st_ino, found.st_size, found.st_mtime_ns)
    container = _pool.take(key)
    fresh = container is None
    if fresh:
        container = av.open(path)
        if container.streams.video:
            stream: Any = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1  # the caller's workers share the cores
    whole = False
    try:
        yield container, fresh
        whole = True
    except GeneratorExit:  # its reader has seen enough
        whole = True
        raise
    finally:
        if whole:
            _pool.give_back(key, container)
        else:
            container.close()


def _check_rate(path: Path, rate: Fraction | None, fps: float) -> None:
    if rate is None or abs(float(rate) - fps) > 0.01 * fps:
        raise ValueError(
            f"{os.fspath(path)} runs at {float(rate or 0):g} frames/s, but {fps:g} are said. Correct the fps."
        )


def concatenate_videos(parts: Sequence[Path], lengths: Sequence[int], path: Path, fps: int) -> None:
    """Put clips of `encode_video` with one config one after another into an mp4 file, without encoding them again.

    lengths: frames of each part.
    """
    with av.open(os.fspath(path), "w", format="mp4") as target:
        out: Any = None
        offset = 0
        for part, length in zip(parts, lengths, strict=True):
            with av.open(os.fspath(part)) as source:
                stream = source.streams.video[0]
                if out is None:
                    out = target.add_stream_from_template(stream)
                _copy_packets(source, stream, target, out, Fraction(offset, fps))
            offset += length


def _copy_packets(source: Any, stream: Any, target: Any, out: Any, delay_s: Fraction) -> None:
    ticks = int(delay_s / stream.time_base)
    for packet in source.demux(stream):
        if packet.dts is None:
            continue  # the empty packet that flushes
        packet.pts, packet.dts, packet.stream = packet.pts + ticks, packet.dts + ticks, out
        target.mux(packet)
