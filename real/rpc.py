"""The robot's services: a request on rt/api/<service>/request, its answer with the same id on .../response.

Parameters and answers are JSON text, with bytes beside them where sound or pictures travel. The client waits for its
answer; the server is polled by whoever owns the state that it serves, so that a call never meets a half-done step.
"""

import json
import logging
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from neon_sim.real.codec import WireError, read_message
from neon_sim.real.idl.unitree_api import (
    Request,
    RequestHeader,
    RequestIdentity,
    RequestLease,
    RequestPolicy,
    Response,
    ResponseHeader,
    ResponseStatus,
)
from neon_sim.real.rpc_errors import (
    BadParameterError,
    NoServerError,
    RpcError,
    RpcTimeoutError,
    ServerFailedError,
    UnknownApiError,
    WrongReplyError,
    error_for,
)
from neon_sim.real.transport import Link, wait_for

API_VERSION: Final = 1  # every service answers this number with its version, as text
QUEUE: Final = 32  # requests or answers that wait; the oldest makes room
_SETTLE_S: Final = 0.1  # a server that we have found may not have found us yet
_MEET_S: Final = 0.2  # how long a server waits for the reader of a client that it has heard
_SHOWN: Final = 40  # characters of what came, in an error
_NO_JSON: Final = (ValueError, RecursionError)  # no JSON, an integer beyond Python's limit, or nested too deeply
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reply:
    """What a function answers: a JSON value (None: no text at all) and bytes."""

    data: Any = None
    binary: bytes = b""


Handler = Callable[[dict[str, Any], bytes], Reply]  # raises an RpcError to answer with its status


class RpcClient:
    """Calls one service, one call at a time. Each answer is matched by id; other clients' answers are passed over."""

    def __init__(self, link: Link, service: str, timeout_s: float = 1.0) -> None:
        """timeout_s: how long to look for the server, and then how long to wait for its answer."""
        if timeout_s <= 0:
            raise ValueError(f"timeout_s must be positive, got {timeout_s}")
        self.service, self.timeout_s = service, timeout_s
        self._requests = link.writer(f"rt/api/{service}/request", Request, QUEUE)
        self._responses = link.reader(f"rt/api/{service}/response", Response, QUEUE, reliable=True)
        self._ids = count(secrets.randbits(62))  # no two clients of a service count alike
        self._settled = False
        self._one_call = threading.Lock()

    def call(self, api_id: int, parameter: Mapping[str, Any] | None = None, binary: bytes = b"") -> Reply:
        """Ask and wait for the answer.

        Raises:
            NoServerError: nobody serves. RpcTimeoutError: no answer in `timeout_s`.
            RpcError: what the service says; each status has its subclass.
        """
        name = f"{self.service}/{api_id}"
        with self._one_call:
            request_id = self._send(name, api_id, parameter, binary, noreply=False)
            response = self._receive(request_id)
        if response is None:
            raise RpcTimeoutError(f"{name} after {self.timeout_s} s")
        return _reply(name, api_id, response)

    def tell(self, api_id: int, parameter: Mapping[str, Any] | None = None, binary: bytes = b"") -> None:
        """Ask without wanting an answer.

        Raises:
            NoServerError: nobody serves.
        """
        with self._one_call:
            self._send(f"{self.service}/{api_id}", api_id, parameter, binary, noreply=True)

    def post(self, api_id: int, parameter: Mapping[str, Any] | None = None) -> None:
        """Ask as `call` does, but wait neither for a server nor for the answer, which is never looked at.

        For what is repeated until it is no longer wanted. A `call` that waits in another thread does not delay it.

        Raises:
            NoServerError: nobody serves now.
        """
        if not self._met():
            raise NoServerError(f"{self.service}/{api_id}")
        self._write(api_id, parameter, b"", noreply=False)

    def version(self) -> str:
        """The service's own version ("1.0.0.0")."""
        return str(self.call(API_VERSION).data)

    def _send(self, name: str, api_id: int, parameter: Mapping[str, Any] | None, binary: bytes, noreply: bool) -> int:
        if not wait_for(self._met, self.timeout_s):
            raise NoServerError(name)
        if not self._settled:
            time.sleep(_SETTLE_S)
            self._settled = True
        return self._write(api_id, parameter, binary, noreply)

    def _met(self) -> bool:
        return bool(self._requests.readers() and self._responses.writers())

    def _write(self, api_id: int, parameter: Mapping[str, Any] | None, binary: bytes, noreply: bool) -> int:
        request_id = next(self._ids) & (2**63 - 1)
        header = RequestHeader(RequestIdentity(request_id, api_id), RequestLease(0), RequestPolicy(0, noreply))
        self._requests.send(Request(header, json.dumps(dict(parameter or {})), binary))
        return request_id

    def _receive(self, request_id: int) -> Response | None:
        deadline = time.monotonic() + self.timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            self._responses.wait(left_s)
            for sample in self._responses.take():
                response = read_message(Response, sample)
                if response.header.identity.id == request_id:
                    return response
        return None


class RpcServer:
    """Answers for one service, whenever `poll` is called."""

    def __init__(self, link: Link, service: str, handlers: Mapping[int, Handler], version: str) -> None:
        """handlers: api id -> function. version: what api id 1 answers."""
        self.service, self._handlers, self._version = service, dict(handlers), version
        self._requests = link.reader(f"rt/api/{service}/request", Request, QUEUE, reliable=True)
        self._responses = link.writer(f"rt/api/{service}/response", Response, QUEUE)

    def poll(self) -> int:
        """Answer what has come since the last call, in order; how many that was. Never waits for a request.

        An exception of a handler that is no RpcError answers ServerFailedError; the first goes on to the caller once
        all are answered.
        """
        samples = self._requests.take()
        broken: Exception | None = None
        for sample in samples:
            try:
                request = read_message(Request, sample)
            except WireError as error:  # it has no id to answer to
                _LOG.warning("%s: dropped a request. %s", self.service, error)
                continue
            code, reply = ServerFailedError.code, Reply()
            try:
                code, reply = 0, self._handle(request)
            except RpcError as error:
                code = error.code
            except Exception as error:  # raised below: whoever asked next is to be answered first
                broken = broken or error
            if not request.header.policy.noreply:
                self._answer(request, code, reply if code == 0 else Reply())
        if broken is not None:
            raise broken
        return len(samples)

    def wait(self, timeout_s: float) -> bool:
        """Sleep until a request is there or the time is over; True if one is."""
        return self._requests.wait(timeout_s)

    def _handle(self, request: Request) -> Reply:
        api_id = request.header.identity.api_id
        if api_id == API_VERSION:
            return Reply(self._version)
        if api_id not in self._handlers:
            raise UnknownApiError(f"{self.service}/{api_id}")
        return self._handlers[api_id](_parameters(request.parameter), bytes(request.binary))

    def _answer(self, request: Request, code: int, reply: Reply) -> None:
        # Discovery of the two topics is independent: a client can be heard before it can hear.
        wait_for(lambda: self._responses.readers() >= self._requests.writers(), _MEET_S)
        header = ResponseHeader(request.header.identity, ResponseStatus(code))
        plain = request.header.identity.api_id == API_VERSION and code == 0  # the one answer that is not JSON
        text = str(reply.data) if plain else "" if reply.data is None else json.dumps(reply.data)
        self._responses.send(Response(header, text, reply.binary))


def number(parameter: Mapping[str, Any], key: str) -> float:
    """Read a finite number out of a request's parameters.

    Raises:
        BadParameterError: missing, or something else.
    """
    return finite(key, parameter.get(key))


def finite(key: str, value: Any) -> float:
    """Check one value that came as JSON.

    Raises:
        BadParameterError: no number, or no finite one.
    """
    if not is_finite(value):
        raise BadParameterError(f"wanted a number as {key!r}, got {str(value)[:_SHOWN]}")
    return float(value)


def is_finite(value: Any) -> bool:
    """True for what came as a JSON number and fits into a float: not for true, NaN, or an integer of 400 digits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def string(parameter: Mapping[str, Any], key: str) -> str:
    """Read a string out of a request's parameters.

    Raises:
        BadParameterError: missing, or something else.
    """
    value = parameter.get(key)
    if not isinstance(value, str):
        raise BadParameterError(f"wanted text as {key!r}, got {value!r}")
    return value


def _parameters(given: str) -> dict[str, Any]:
    if not given:  # the C++ clients send no text where the Python ones send {}
        return {}
    try:
        parameters = json.loads(given)
    except _NO_JSON as error:
        raise BadParameterError(f"wanted JSON, got {given[:_SHOWN]!r}") from error
    if not isinstance(parameters, dict):
        raise BadParameterError(f"wanted a JSON object, got {given[:_SHOWN]!r}")
    return parameters


def _reply(name: str, api_id: int, response: Response) -> Reply:
    if response.header.identity.api_id != api_id:
        raise WrongReplyError(f"{name} was answered as {response.header.identity.api_id}")
    if response.header.status.code != 0:
        raise error_for(response.header.status.code, name)
    if api_id == API_VERSION:
        return Reply(response.data, bytes(response.binary))
    try:
        data = json.loads(response.data) if response.data else None
    except _NO_JSON as error:
        raise WrongReplyError(f"{name} answered {response.data[:_SHOWN]!r}") from error
    return Reply(data, bytes(response.binary))
