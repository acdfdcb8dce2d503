"""The inference server over HTTP, in JSON: POST /predict, /action, /reset, GET /health. Standard library only.

POST /predict {"image": PICTURE, "instruction": "...", "proprioception": [125 numbers], "time_s": 1.5, "eef": [...]}
              -> {"chunk": [[A numbers] * 16]}; other senses by name, as in `NeonInferenceServer.predict`
POST /action  -> {"action": [A numbers], "remaining": steps left in the plan, "due": an observation is wanted}
POST /reset   -> {}
GET  /health  -> `NeonInferenceServer.status`
A PICTURE is {"picture": base64 of a PNG or JPEG}, or an array. An array is nested lists, or {"shape": [...], "dtype":
"uint8" or "float32", "data": base64 of the numbers, little-endian}. An error is {"error": "..."}: 4xx says what to
change, 503 to come again. A failure of the network itself closes the connection and prints its traceback here.
"""

import base64
import binascii
import io
import json
import math
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from neon_sim.inference.observation import KNOWN_SENSES
from neon_sim.inference.turns import Busy, OutOfTurn
from neon_sim.names import nearest

_ROUTES: Final = {"/predict": "POST", "/action": "POST", "/reset": "POST", "/health": "GET"}
_ARRAYS: Final = ("image", "proprioception", *KNOWN_SENSES)
_FIELDS: Final = ("instruction", "time_s", *_ARRAYS)
_DTYPES: Final[dict[str, np.dtype[Any]]] = {"uint8": np.dtype("u1"), "float32": np.dtype("<f4")}
_MOST_PIXELS: Final = 4_000_000
_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class HttpConfig:
    """Where to listen, and how much to take: the loopback alone unless told otherwise; port 0 is any free one."""

    host: str = "127.0.0.1"
    port: int = 8300
    max_body_bytes: int = 8 * 1024 * 1024
    max_connections: int = 32
    timeout_s: float = 10.0  # s that a client may keep a connection without a word


class Answers(Protocol):
    """What is served: a NeonInferenceServer."""

    @property
    def remaining(self) -> int:
        """See NeonInferenceServer."""

    @property
    def due(self) -> bool:
        """See NeonInferenceServer."""

    def predict(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """See NeonInferenceServer."""

    def get_action(self) -> np.ndarray:
        """See NeonInferenceServer."""

    def reset(self) -> None:
        """See NeonInferenceServer."""

    def status(self) -> dict[str, Any]:
        """See NeonInferenceServer."""


class _Refused(Exception):
    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers


class Listener(ThreadingHTTPServer):
    """A bound port. `serve_forever` in one thread, `shutdown` from another, then `server_close`; or as a context."""

    daemon_threads = True

    def __init__(self, answers: Answers, config: HttpConfig) -> None:
        self.answers, self.config = answers, config
        self._free = threading.BoundedSemaphore(config.max_connections)
        super().__init__((config.host, config.port), _Handler)

    @property
    def url(self) -> str:
        """http://host:port, with the port that was given."""
        return f"http://{self.config.host}:{self.server_port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for the connection, unless there are too many."""
        if not self._free.acquire(blocking=False):
            request.sendall(_FULL)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


class _Handler(BaseHTTPRequestHandler):
    server: Listener
    protocol_version = "HTTP/1.1"  # one connection for all the actions
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.config.timeout_s)

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: there are fifty actions a second."""

    def _respond(self) -> None:
        try:
            path = self._route()
            reply, status, headers = self._call(path, self._body()), 200, {}
        except _Refused as refusal:
            reply, status, headers = {"error": str(refusal)}, refusal.status, refusal.headers
        except ValueError as error:
            reply, status, headers = {"error": str(error)}, 400, {}
        except OutOfTurn as error:
            reply, status, headers = {"error": str(error)}, 409, {}
        except Busy as error:
            reply, status, headers = {"error": str(error)}, 503, {"Retry-After": "1"}
        body = json.dumps(reply, allow_nan=False).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answers = self.server.answers
        if path == "/health":
            return answers.status()
        if path == "/reset":
            answers.reset()
            return {}
        if path == "/action":
            action = answers.get_action()
            return {"action": action.tolist(), "remaining": answers.remaining, "due": answers.due}
        return {"chunk": answers.predict(**read_observation(body)).tolist()}

    def _route(self) -> str:
        self.close_connection = True  # until the body is read: what is left of it is no next request
        path = self.path.partition("?")[0]
        if path not in _ROUTES:
            listed = ", ".join(f"{method} {name}" for name, method in _ROUTES.items())
            raise _Refused(404, f"There is no {path[:80]}. There is {listed}.")
        if self.command != _ROUTES[path]:
            raise _Refused(405, f"{path} wants {_ROUTES[path]}, got {self.command}.", Allow=_ROUTES[path])
        if "Origin" in self.headers:
            raise _Refused(403, "Web pages may not move the robot. Send the request from a program.")
        return path

    def _body(self) -> dict[str, Any]:
        declared = self.headers.get("Content-Length", "0" if "Transfer-Encoding" not in self.headers else "")
        if not (declared.isascii() and declared.isdigit()):
            raise _Refused(411, "A request wants a Content-Length in bytes, and no Transfer-Encoding.")
        length, most = int(declared), self.server.config.max_body_bytes
        if length > most:
            raise _Refused(413, f"A body wants at most {most} bytes, got {length}. Send a JPEG, or fewer frames.")
        raw = self.rfile.read(length)
        if len(raw) < length:
            raise _Refused(400, f"The body ended after {len(raw)} of {length} bytes.")
        self.close_connection = self.headers.get("Connection", "").lower() == "close"
        return read_json(raw) if raw else {}


def read_json(raw: bytes) -> dict[str, Any]:
    """A JSON object out of bytes. Raises ValueError for anything else, NaN and Infinity included."""
    try:
        body = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The body is no JSON object ({error}).") from error
    if not isinstance(body, dict):
        raise ValueError(f"The body wants a JSON object {{...}}, got a {type(body).__name__}.")
    return body


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def read_observation(body: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `predict` out of a request: pictures and arrays decoded, the rest as it came.

    Raises ValueError for a field that is missing or cannot be decoded; the values are `predict`'s to check.
    """
    missing = [name for name in ("image", "instruction") if name not in body]
    if missing:
        raise ValueError(f"The body wants {' and '.join(missing)}, got {sorted(body)[:12]}.")
    for name in body:
        if name not in _FIELDS:
            raise nearest("field", name[:80], _FIELDS)
    if not isinstance(body.get("time_s"), int | float | None):
        raise ValueError(f"time_s wants a number of seconds, got a {type(body['time_s']).__name__}.")
    arrays = {name: read_array(name, body[name]) for name in _ARRAYS if name in body}
    return {"instruction": body["instruction"], "time_s": body.get("time_s"), **arrays}


def read_array(name: str, value: Any) -> np.ndarray | None:
    """A picture or an array out of JSON, see the top of this file; null is None. Raises ValueError, naming it."""
    if value is None:
        return None
    if isinstance(value, dict):
        return _picture(name, value["picture"]) if set(value) == {"picture"} else _binary(name, value)
    try:
        return np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name} wants nested lists of one length each ({error}).") from error


def _binary(name: str, value: dict[str, Any]) -> np.ndarray:
    dtype, shape = _DTYPES.get(str(value.get("dtype"))), value.get("shape")
    whole = isinstance(shape, list) and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape)
    if dtype is None or not isinstance(shape, list) or not whole or len(shape) > 4:
        raise ValueError(f"{name} wants a shape of at most 4 sizes and a dtype of {', '.join(_DTYPES)}.")
    raw = _decoded(name, value.get("data"))
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} wants {math.prod(shape) * dtype.itemsize} bytes for {shape}, got {len(raw)}.")
    return np.frombuffer(raw, dtype).reshape(shape)


def _picture(name: str, value: Any) -> np.ndarray:
    raw = io.BytesIO(_decoded(name, value))
    try:
        with Image.open(raw, formats=("PNG", "JPEG")) as picture:
            if picture.width * picture.height > _MOST_PIXELS:  # the header tells, before anything is unpacked
                raise ValueError(f"{name} wants at most {_MOST_PIXELS} pixels, got {picture.width} x {picture.height}.")
            return np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} is no whole PNG or JPEG ({error}).") from error


def _decoded(name: str, value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise ValueError(f"{name} wants base64 ({error}).") from error
