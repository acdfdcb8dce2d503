"""The robot's camera: pictures as JPEG over ZMQ, or from a RealSense on this machine.

Either way the middle of the picture is cut to the wanted shape and scaled to the wanted size. The vertical field of
view stays the lens's own: a policy that was trained with `CameraConfig("d435")` (42.5 degrees, as the D435's) sees what
it knows; one that was trained with the wider "task" camera needs such a lens on the robot.
"""

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from neon_sim.real.codec import WireError
from neon_sim.real.errors import SenseError
from neon_sim.real.sense_source import Place

if TYPE_CHECKING:
    from neon_sim.sensors.camera import CameraConfig


@dataclass(frozen=True)
class ZmqCamera:
    """A ZMQ publisher of JPEG pictures, one a message: xr_teleoperate's image server, or the simulated robot.

    Raises ValueError for columns that are none.
    """

    address: str = "tcp://192.168.123.164:5555"  # PC2, the robot's Jetson
    columns: tuple[float, float] = (0.0, 1.0)  # of the width: servers put several cameras side by side

    def __post_init__(self) -> None:
        if not 0.0 <= self.columns[0] < self.columns[1] <= 1.0:
            raise ValueError(f"columns are two shares of the width, such as (0.0, 0.5), got {self.columns}.")

    def open(self, wanted: "CameraConfig", place: Place) -> "ZmqEye":
        """Subscribe. Nothing need be there yet.

        Raises:
            ValueError: not a colour camera. SenseError: no such address. ImportError: no pyzmq, with the pip line.
        """
        _require_colour(wanted)
        return ZmqEye(self, wanted)


class ZmqEye:
    """Receives pictures; only the newest is kept, whatever the publisher's pace. Made by `ZmqCamera.open`."""

    def __init__(self, source: ZmqCamera, wanted: "CameraConfig") -> None:
        self._zmq = zmq = need_zmq()
        self._columns, self._size = source.columns, (wanted.height, wanted.width)
        self._context: Any = zmq.Context()
        self._socket: Any = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.CONFLATE, 1)
        self._socket.subscribe(b"")
        try:
            self._socket.connect(source.address)
        except zmq.ZMQError as error:
            self.close()
            raise SenseError(f"No camera can be at {source.address!r} ({error}). Wanted: tcp://HOST:PORT.") from error

    def look(self, now_s: float, joint_pos: np.ndarray) -> np.ndarray | None:
        """See `Receiver`: (H, W, 3) uint8."""
        try:
            picture = self._socket.recv(self._zmq.NOBLOCK)
        except self._zmq.Again:
            return None
        return read_jpeg(picture, self._columns, *self._size)

    def close(self) -> None:
        """See `Receiver`."""
        self._socket.close(linger=0)
        self._context.term()


@dataclass(frozen=True)
class RealSenseCamera:
    """The colour camera of a RealSense that is plugged into this machine. It was never run with a camera.

    Its depth is not read. Needs `pyrealsense2` (`pip install pyrealsense2`), which needs libusb.
    """

    serial: str = ""  # "" = the only one
    width: int = 640  # pixels
    height: int = 480
    rate_hz: int = 30

    def open(self, wanted: "CameraConfig", place: Place) -> "RealSenseEye":
        """Start the camera.

        Raises:
            ValueError: not a colour camera. SenseError: none is plugged in. ImportError: with the pip line.
        """
        _require_colour(wanted)
        return RealSenseEye(self, wanted)


class RealSenseEye:
    """Takes the newest colour picture of a RealSense. Made by `RealSenseCamera.open`."""

    def __init__(self, source: RealSenseCamera, wanted: "CameraConfig") -> None:
        try:
            import pyrealsense2 as realsense
        except ImportError as error:
            raise ImportError(f"A RealSense needs pyrealsense2: pip install pyrealsense2 ({error})") from error
        self._size = wanted.height, wanted.width
        self._pipeline: Any = realsense.pipeline()
        self._runs = False
        settings = realsense.config()
        if source.serial:
            settings.enable_device(source.serial)
        stream = (source.width, source.height, realsense.format.rgb8, source.rate_hz)
        settings.enable_stream(realsense.stream.color, *stream)
        try:
            self._pipeline.start(settings)
        except RuntimeError as error:
            raise SenseError(f"The RealSense {source.serial or 'of this machine'} does not start: {error}.") from error
        self._runs = True

    def look(self, now_s: float, joint_pos: np.ndarray) -> np.ndarray | None:
        """See `Receiver`: (H, W, 3) uint8."""
        frame = self._pipeline.poll_for_frames().get_color_frame()
        if not frame:
            return None
        return fit(Image.fromarray(np.asanyarray(frame.get_data())), (0.0, 1.0), *self._size)

    def close(self) -> None:
        """See `Receiver`."""
        if self._runs:
            self._runs = False
            self._pipeline.stop()


def read_jpeg(picture: bytes, columns: tuple[float, float], height: int, width: int) -> np.ndarray:
    """A JPEG as `fit` wants it: (height, width, 3) uint8 RGB.

    Raises:
        WireError: no picture, or one that was cut short.
    """
    try:
        image = Image.open(io.BytesIO(picture))
        left, top, right, bottom = middle(image.size, columns, width / height)
        shrink = min((right - left) / width, (bottom - top) / height)
        if shrink > 1.0:  # the decoder itself can halve, which saves most of its time
            image.draft("RGB", (math.ceil(image.width / shrink), math.ceil(image.height / shrink)))
        return fit(image, columns, height, width)
    except (OSError, SyntaxError) as error:  # what PIL raises for bytes that are no picture
        start = picture[:4].hex(" ") or "nothing"
        raise WireError(f"{len(picture)} bytes ({start} ...) are no picture ({error}). Wanted: one JPEG.") from error


def fit(image: Image.Image, columns: tuple[float, float], height: int, width: int) -> np.ndarray:
    """The middle of the named columns of a picture, scaled: (height, width, 3) uint8 RGB."""
    box = middle(image.size, columns, width / height)
    rgb = image.convert("RGB")
    if box != (0.0, 0.0, width, height) or rgb.size != (width, height):
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR, box)
    return np.array(rgb)


def middle(size: tuple[int, int], columns: tuple[float, float], aspect: float) -> tuple[float, float, float, float]:
    """The largest box of an aspect (width over height) in the middle of the columns: left, top, right, bottom, px."""
    first, last = (share * size[0] for share in columns)
    width = min(last - first, aspect * size[1])
    height = width / aspect
    left, top = (first + last - width) / 2.0, (size[1] - height) / 2.0
    return left, top, left + width, top + height


def need_zmq() -> Any:
    """The module `zmq`.

    Raises:
        ImportError: with the pip line.
    """
    try:
        import zmq
    except ImportError as error:
        raise ImportError("Pictures on the wire need pyzmq: pip install 'neon-sim[real]'") from error
    return zmq


def _require_colour(wanted: "CameraConfig") -> None:
    if wanted.kind != "rgb":
        raise ValueError(f'The robot\'s camera gives colour, got a wish for {wanted.kind!r}. Set kind="rgb".')
