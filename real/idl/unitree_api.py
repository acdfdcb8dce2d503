"""`unitree_api`: the request and the response that every service of the robot speaks (unitree_sdk2_python 37116c52)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from cyclonedds.idl import IdlStruct, annotations, types

Bytes = Annotated[Sequence[int], types.sequence(types.byte)]  # `bytes` is one


@dataclass
@annotations.final
@annotations.autoid("sequential")
class RequestIdentity(IdlStruct, typename="unitree_api.msg.dds_.RequestIdentity_"):
    """Which request this is, and of which function."""

    id: types.int64  # the client's own; the response repeats it
    api_id: types.int64


@dataclass
@annotations.final
@annotations.autoid("sequential")
class RequestLease(IdlStruct, typename="unitree_api.msg.dds_.RequestLease_"):
    """Zero: no G1 service that we know asks for a lease."""

    id: types.int64


@dataclass
@annotations.final
@annotations.autoid("sequential")
class RequestPolicy(IdlStruct, typename="unitree_api.msg.dds_.RequestPolicy_"):
    """How to serve it."""

    priority: types.int32
    noreply: bool


@dataclass
@annotations.final
@annotations.autoid("sequential")
class RequestHeader(IdlStruct, typename="unitree_api.msg.dds_.RequestHeader_"):
    """Everything but the payload."""

    identity: RequestIdentity
    lease: RequestLease
    policy: RequestPolicy


@dataclass
@annotations.final
@annotations.autoid("sequential")
class Request(IdlStruct, typename="unitree_api.msg.dds_.Request_"):
    """Topic rt/api/<service>/request."""

    header: RequestHeader
    parameter: str  # JSON
    binary: Bytes


@dataclass
@annotations.final
@annotations.autoid("sequential")
class ResponseStatus(IdlStruct, typename="unitree_api.msg.dds_.ResponseStatus_"):
    """Zero is success."""

    code: types.int32


@dataclass
@annotations.final
@annotations.autoid("sequential")
class ResponseHeader(IdlStruct, typename="unitree_api.msg.dds_.ResponseHeader_"):
    """Everything but the payload."""

    identity: RequestIdentity
    status: ResponseStatus


@dataclass
@annotations.final
@annotations.autoid("sequential")
class Response(IdlStruct, typename="unitree_api.msg.dds_.Response_"):
    """Topic rt/api/<service>/response; every client of a service hears every response."""

    header: ResponseHeader
    data: str  # JSON
    binary: Bytes
