"""The little that discovery needs of etcd: a lease, a key under it, a listing, a watch. Over aetcd's gRPC stubs.

aetcd's own client neither speaks TLS nor takes more than one endpoint, and its watcher does not come back from a lost
connection; so of aetcd only the messages and stubs are used, and everything that can fail is an EtcdError here.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tritium.core.errors import InvalidArgument, Unavailable

CALL_S = 3.0
"""How long etcd may take to answer."""

_OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A server that comes back is to be found again soon.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
)


class EtcdError(Unavailable):
    """etcd did not answer, or not as asked."""


class Compacted(EtcdError):
    """The revision that was to be watched from is not kept any more: list again."""


@dataclass(frozen=True, slots=True)
class EtcdPlace:
    """Where etcd is; `prefix` begins every key. TLS where there is an authority."""

    endpoints: tuple[str, ...]
    prefix: str = "/tritium"
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """The keys under a prefix as of a revision."""

    values: dict[str, bytes]
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """A key that was written, or (value None) is gone."""

    key: str
    value: bytes | None


def parse_etcd(text: str) -> EtcdPlace:
    """Read etcd://HOST:PORT[,HOST:PORT...][/PREFIX].

    Raises:
        InvalidArgument: it is no such address.
    """
    parts = urlsplit(text)
    endpoints = tuple(one if ":" in one else f"{one}:2379" for one in parts.netloc.split(",") if one)
    if not endpoints or any(not one.rpartition(":")[2].isdecimal() for one in endpoints):
        raise InvalidArgument(f"'{text}' is no address of etcd", hint="write etcd://HOST:2379, or several with commas")
    return EtcdPlace(endpoints, prefix=parts.path.rstrip("/") or "/tritium")


class EtcdClient:
    """Speaks with one endpoint at a time, and with the next when that one does not answer."""

    def __init__(self, place: EtcdPlace) -> None:
        """Make a client; it connects when it is asked something.

        Raises:
            InvalidArgument: aetcd is not installed, or a certificate cannot be used.
        """
        try:
            from aetcd import rpc  # type: ignore[import-untyped]  # noqa: PLC0415  an extra
        except ImportError:
            raise InvalidArgument(
                "discovery by etcd needs the package aetcd", hint="pip install 'tritium[cluster]'"
            ) from None
        self._rpc: Any = rpc
        self._place = place
        self._credentials = _credentials(place)
        self._turn = 0
        self._channel: Any = None

    async def grant(self, ttl_s: int) -> int:
        """Return a new lease."""
        answer = await self._call("LeaseStub", "LeaseGrant", self._rpc.LeaseGrantRequest(TTL=ttl_s))
        return int(answer.ID)

    async def keep_alive(self, lease: int) -> bool:
        """Renew a lease; tell whether it is still there."""
        stub = self._rpc.LeaseStub(self._open())

        async def ask() -> AsyncIterator[Any]:
            yield self._rpc.LeaseKeepAliveRequest(ID=lease)

        call = stub.LeaseKeepAlive(ask(), timeout=CALL_S)
        try:
            answer = await call.read()
        except self._failures as error:
            raise await self._failed(error) from None
        finally:
            call.cancel()
        return bool(getattr(answer, "TTL", 0) > 0)

    async def revoke(self, lease: int) -> None:
        """End a lease, and with it its keys."""
        await self._call("LeaseStub", "LeaseRevoke", self._rpc.LeaseRevokeRequest(ID=lease))

    async def put(self, key: str, value: bytes, lease: int) -> None:
        """Write a key that lives as long as its lease."""
        await self._call("KVStub", "Put", self._rpc.PutRequest(key=key.encode(), value=value, lease=lease))

    async def delete(self, key: str) -> None:
        """Remove a key."""
        await self._call("KVStub", "DeleteRange", self._rpc.DeleteRangeRequest(key=key.encode()))

    async def listing(self, prefix: str) -> Listing:
        """Return every key under a prefix."""
        request = self._rpc.RangeRequest(key=prefix.encode(), range_end=_after(prefix))
        answer = await self._call("KVStub", "Range", request)
        return Listing({one.key.decode(): one.value for one in answer.kvs}, int(answer.header.revision))

    async def ask(self) -> None:
        """Ask for next to nothing, to see whether etcd answers."""
        prefix = self._place.prefix
        request = self._rpc.RangeRequest(key=prefix.encode(), range_end=_after(prefix), count_only=True)
        await self._call("KVStub", "Range", request)

    async def watch(self, prefix: str, revision: int) -> AsyncGenerator[list[Change], None]:
        """Yield what changes under a prefix from a revision on; an empty list is a sign of life.

        Raises:
            Compacted: what happened since that revision is not kept any more.
            EtcdError: the connection was lost.
        """
        rpc = self._rpc
        create = rpc.WatchCreateRequest(
            key=prefix.encode(), range_end=_after(prefix), start_revision=revision, progress_notify=True
        )
        call = rpc.WatchStub(self._open()).Watch()
        try:
            await call.write(rpc.WatchRequest(create_request=create))
            while True:
                answer = await call.read()
                if not hasattr(answer, "events"):
                    raise EtcdError("etcd has ended the watch")
                if answer.compact_revision:
                    raise Compacted(f"etcd keeps nothing from before revision {answer.compact_revision}")
                if answer.canceled:
                    raise EtcdError(f"etcd has ended the watch: {answer.cancel_reason}")
                yield [
                    Change(one.kv.key.decode(), one.kv.value if one.type == rpc.Event.PUT else None)
                    for one in answer.events
                ]
        except self._failures as error:
            raise await self._failed(error) from None
        finally:
            call.cancel()

    async def close(self) -> None:
        """End the connection."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    @property
    def _failures(self) -> tuple[type[Exception], ...]:
        return (self._rpc.AioRpcError, self._rpc.InternalError, asyncio.InvalidStateError)

    def _open(self) -> Any:
        if self._channel is None:
            endpoint = self._place.endpoints[self._turn % len(self._place.endpoints)]
            if self._credentials is not None:
                self._channel = self._rpc.secure_channel(endpoint, self._credentials, options=_OPTIONS)
            else:
                self._channel = self._rpc.insecure_channel(endpoint, options=_OPTIONS)
        return self._channel

    async def _call(self, stub: str, method: str, request: Any) -> Any:
        try:
            return await getattr(getattr(self._rpc, stub)(self._open()), method)(request, timeout=CALL_S)
        except self._failures as error:
            raise await self._failed(error) from None

    async def _failed(self, error: Exception) -> EtcdError:
        """Word a failure, and turn to the next endpoint."""
        endpoint = self._place.endpoints[self._turn % len(self._place.endpoints)]
        if len(self._place.endpoints) > 1:
            self._turn += 1
            await self.close()
        details = getattr(error, "details", None)
        words = details() if callable(details) else str(error)
        return EtcdError(f"etcd at {endpoint} does not answer: {words}")


def _after(prefix: str) -> bytes:
    """Return the first key that does not begin with a prefix."""
    raw = prefix.encode()
    return raw[:-1] + bytes([raw[-1] + 1])


def _credentials(place: EtcdPlace) -> Any:
    if place.authority is None:
        return None
    import grpc  # type: ignore[import-untyped]  # noqa: PLC0415  not needed by those without etcd

    try:
        return grpc.ssl_channel_credentials(
            place.authority.read_bytes(),
            place.key.read_bytes() if place.key is not None else None,
            place.certificate.read_bytes() if place.certificate is not None else None,
        )
    except OSError as error:
        raise InvalidArgument(f"a certificate for etcd cannot be read: {error.filename}: {error.strerror}") from None
