"""CycloneDDS held small: one link per process, raw samples in and out, and nothing but loopback by accident."""

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet
from xml.sax.saxutils import quoteattr

from cyclonedds._clayer import ddspy_take, ddspy_write
from cyclonedds.core import DDSException, InstanceState, ReadCondition, SampleState, ViewState, WaitSet
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

_LOOPBACK: Final = ("lo", "lo0")
_ANY: Final = SampleState.Any | ViewState.Any | InstanceState.Any
_BLOCK_NS: Final = 100_000_000  # a reliable writer waits no longer than this for a slow reader


class LinkError(RuntimeError):
    """The network is not what it has to be."""


@dataclass(frozen=True)
class LinkConfig:
    """Where to talk. The robot itself is on domain 0; domain 1 on loopback is where simulators are."""

    domain: int = 1
    interface: str = "lo"  # its name, or an IPv4 address on it
    allow_network: bool = False  # True: other machines, which may be a robot, can hear this process and be moved by it
    max_participants: int = 10  # per machine and domain; CycloneDDS 0.10.2 looks for no more than ten

    def __post_init__(self) -> None:
        if not 0 <= self.domain <= 232:
            raise ValueError(f"domain must be 0..232 (its ports end at 65535), got {self.domain}")
        if self.max_participants < 1:
            raise ValueError(f"max_participants must be at least 1, got {self.max_participants}")

    @property
    def on_loopback(self) -> bool:
        """True if nobody outside this machine can hear."""
        address = self._address()
        return address.is_loopback if address else self.interface in _LOOPBACK

    def xml(self) -> str:
        """CycloneDDS's configuration. The environment's CYCLONEDDS_URI is not read, as in Unitree's SDK.

        On loopback the peer is named, because without it a 0.10.2 process and this one find each other only if this
        one starts first (measured), and multicast is off, because `lo` has none and CycloneDDS would warn of it.
        """
        key = "address" if self._address() else "name"
        multicast, peers = "default", ""
        if self.on_loopback:
            multicast, peers = "false", '<Peers><Peer address="127.0.0.1"/></Peers>'
        return (
            '<CycloneDDS><Domain Id="any"><General><Interfaces>'
            f'<NetworkInterface {key}={quoteattr(self.interface)} multicast="{multicast}"/></Interfaces></General>'
            "<Discovery><ParticipantIndex>auto</ParticipantIndex>"
            f"<MaxAutoParticipantIndex>{self.max_participants - 1}</MaxAutoParticipantIndex>{peers}</Discovery>"
            "</Domain></CycloneDDS>"
        )

    def _address(self) -> ipaddress.IPv4Address | None:
        try:
            return ipaddress.IPv4Address(self.interface)
        except ValueError:
            return None


class Link:
    """This process's place on one DDS domain. CycloneDDS allows one per process and domain: pass it around.

    A reader or writer that nobody holds any more leaves the domain by itself.

    Raises:
        LinkError: not loopback and `allow_network` is False; the domain is already open here; no such interface.
    """

    def __init__(self, config: LinkConfig = LinkConfig()) -> None:
        if not config.on_loopback and not config.allow_network:
            raise LinkError(
                f"Interface {config.interface!r} is not loopback: a robot may be on it. Pass allow_network=True if you "
                "mean it, after the checklist of the deployment guide."
            )
        self.config = config
        try:
            self._domain: Domain | None = Domain(config.domain, config.xml())
            self.participant: DomainParticipant | None = DomainParticipant(config.domain)
        except DDSException as error:
            self._domain = None
            raise LinkError(_why_not_open(config, error)) from error
        self._endpoints: WeakSet[Reader | Writer] = WeakSet()

    def writer(self, topic: str, data_type: type[IdlStruct], depth: int = 1) -> "Writer":
        """Open a topic ("rt/lowcmd") for writing; reliable, as Unitree's are."""
        writer = Writer(self._open(), topic, data_type, depth)
        self._endpoints.add(writer)
        return writer

    def reader(self, topic: str, data_type: type[IdlStruct], depth: int = 1, reliable: bool = False) -> "Reader":
        """Open a topic for reading; what is not taken in time makes room for newer samples, `depth` of them."""
        reader = Reader(self._open(), topic, data_type, depth, reliable)
        self._endpoints.add(reader)
        return reader

    def close(self) -> None:
        """Leave the domain; readers and writers of this link are dead then. Safe to call twice."""
        for endpoint in list(self._endpoints):
            endpoint.close()
        self.participant = None
        self._domain = None

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> DomainParticipant:
        if self.participant is None:
            raise LinkError("This link is closed. Make a new one.")
        return self.participant


class Writer:
    """One topic, outward. Made by `Link.writer`."""

    def __init__(self, participant: DomainParticipant, topic: str, data_type: type[IdlStruct], depth: int) -> None:
        qos = Qos(Policy.Reliability.Reliable(_BLOCK_NS), Policy.History.KeepLast(depth))
        self.topic = topic
        self._writer: DataWriter | None = DataWriter(participant, Topic(participant, topic, data_type), qos=qos)
        self._handle: int = self._writer._ref

    def write(self, sample: bytes) -> None:
        """Send bytes that `Layout.encode` or a dataclass's `serialize` made; filled up to whole words.

        Raises:
            LinkError: closed, or CycloneDDS refused.
        """
        status = ddspy_write(self._handle, sample)
        if status < 0:
            raise LinkError(f"{self.topic}: CycloneDDS refused the sample ({_reason(status)}). Is the link closed?")

    def send(self, message: IdlStruct) -> None:
        """Serialise a dataclass and send it: for what is rare or has no fixed size."""
        sample = message.serialize()
        self.write(sample + bytes(-len(sample) % 4))

    def readers(self) -> int:
        """How many readers hear this writer now."""
        writer = self._writer  # another thread may close it meanwhile
        return max(0, writer._get_matched_subscriptions(self._handle, None, 0)) if writer else 0

    def close(self) -> None:
        """Stop. Safe to call twice."""
        self._writer, self._handle = None, 0


class Reader:
    """One topic, inward. Made by `Link.reader`."""

    def __init__(
        self, participant: DomainParticipant, topic: str, data_type: type[IdlStruct], depth: int, reliable: bool
    ) -> None:
        reliability = Policy.Reliability.Reliable(_BLOCK_NS) if reliable else Policy.Reliability.BestEffort
        qos = Qos(reliability, Policy.History.KeepLast(depth))
        self.topic, self.depth = topic, depth
        self._reader: DataReader | None = DataReader(participant, Topic(participant, topic, data_type), qos=qos)
        self._handle: int = self._reader._ref
        self._waiting: WaitSet | None = WaitSet(participant)
        self._waiting.attach(ReadCondition(self._reader, ViewState.Any | InstanceState.Any | SampleState.NotRead))

    def take(self) -> list[bytes]:
        """Return the samples that came since the last call, oldest first; at most `depth`.

        Raises:
            LinkError: closed, or CycloneDDS refused.
        """
        samples = ddspy_take(self._handle, _ANY, self.depth)
        if isinstance(samples, int):
            raise LinkError(f"{self.topic}: CycloneDDS gave no samples ({_reason(samples)}). Is the link closed?")
        return [data for data, info in samples if info.valid_data]

    def newest(self) -> bytes | None:
        """Return the newest sample since the last call, if one came."""
        samples = self.take()
        return samples[-1] if samples else None

    def wait(self, timeout_s: float) -> bool:
        """Sleep until a sample is there or the time is over; True if one is."""
        if self._waiting is None:
            raise LinkError(f"{self.topic} is closed.")
        return self._waiting.wait(max(0, int(timeout_s * 1e9))) > 0

    def writers(self) -> int:
        """How many writers are on this topic now. More than one on rt/lowcmd is somebody else moving the robot."""
        reader = self._reader  # another thread may close it meanwhile
        return max(0, reader._get_matched_publications(self._handle, None, 0)) if reader else 0

    def close(self) -> None:
        """Stop. Safe to call twice."""
        self._waiting = self._reader = None
        self._handle = 0


def wait_for(condition: Callable[[], Any], timeout_s: float) -> bool:
    """Ask `condition()` every millisecond until it is true or the time is over; its last answer."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def _reason(status: int) -> str:
    return str(DDSException(status, "")).strip()


def _why_not_open(config: LinkConfig, error: DDSException) -> str:
    if error.code == DDSException.DDS_RETCODE_PRECONDITION_NOT_MET:
        return f"Domain {config.domain} is already open in this process. Share its Link, or close it first."
    return (
        f"Domain {config.domain} cannot be opened on {config.interface!r} ({error}). Is there such an interface "
        f"(`ip addr`), and are fewer than {config.max_participants} DDS processes on this domain?"
    )
