"""The little that discovery needs of etcd: a lease, a key under it, a listing, a watch. Over aetcd's gRPC stubs.

aetcd's own client neither speaks TLS nor takes more than one endpoint, and its watcher does not come back from a lost
connection; so of aetcd only the messages and stubs are used, and everything that can fail is an EtcdError here.

With a user every call carries a token. etcd forgets tokens, by time and whenever it starts; then another is asked for.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

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


_NO_LONGER = ("invalid auth token", "revision in header is old")
"""What etcd says of a token that was good once (etcd: api/v3rpc/rpctypes/error.go)."""

_REFUSALS = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT", "FAILED_PRECONDITION"})
"""gRPC's codes of an etcd that did answer, and will not do it."""


class EtcdError(Unavailable):
    """etcd did not answer, or not as asked."""


class Compacted(EtcdError):
    """The revision that was to be watched from is not kept any more: list again."""


@dataclass(frozen=True, slots=True)
class EtcdPlace:
    """Where etcd is, and whom it knows us as; `prefix` begins every key. TLS where there is an authority."""

    endpoints: tuple[str, ...]
    prefix: str = "/tritium"
    user: str = ""
    password: str = field(default="", repr=False)
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def who(self) -> str:
        """Say whom etcd knows us as, and where that is written."""
        if not self.user:
            return "write the user that etcd is to know, etcd://USER@HOST:2379, and give --discovery-password FILE"
        return f"look at the password of user {self.user}, and at what etcd grants it under {self.prefix}"


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
    """Read etcd://[USER[:PASSWORD]@]HOST:PORT[,HOST:PORT...][/PREFIX]; user and password as URLs encode them.

    Raises:
        InvalidArgument: it is no such address.
    """
    shown = without_login(text)
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise InvalidArgument(f"'{shown}' is no address of etcd: {error}") from None
    if "@" in text.removeprefix(f"{parts.scheme}://{parts.netloc}"):
        hint = "write /, ? and # in a user or password as %2F, %3F and %23"
        raise InvalidArgument(f"'{shown}' is no address of etcd", hint=hint)
    login, _, hosts = parts.netloc.rpartition("@")
    endpoints = tuple(one if ":" in one else f"{one}:2379" for one in hosts.split(",") if one)
    user, _, password = login.partition(":")
    if not endpoints or any(not one.rpartition(":")[2].isdecimal() for one in endpoints) or (login and not user):
        raise InvalidArgument(f"'{shown}' is no address of etcd", hint="write etcd://HOST:2379, or several with commas")
    prefix = parts.path.rstrip("/") or "/tritium"
    return EtcdPlace(endpoints, prefix, unquote(user), unquote(password))


def without_login(address: str) -> str:
    """Return an address without user and password, which are nobody else's to read."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if rest else address


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
        self._token = ""

    async def grant(self, ttl_s: int) -> int:
        """Return a new lease."""
        answer = await self._call("LeaseStub", "LeaseGrant", self._rpc.LeaseGrantRequest(TTL=ttl_s))
        return int(answer.ID)

    async def keep_alive(self, lease: int) -> bool:
        """Renew a lease; tell whether it is still there."""

        async def ask() -> AsyncIterator[Any]:
            yield self._rpc.LeaseKeepAliveRequest(ID=lease)

        metadata = await self._login()
        call = self._rpc.LeaseStub(self._open()).LeaseKeepAlive(ask(), timeout=CALL_S, metadata=metadata)
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
        metadata = await self._login()
        call = rpc.WatchStub(self._open()).Watch(metadata=metadata)
        try:
            await call.write(rpc.WatchRequest(create_request=create))
            while True:
                answer = await call.read()
                if not hasattr(answer, "events"):
                    raise EtcdError("etcd has ended the watch")
                if answer.compact_revision:
                    raise Compacted(f"etcd keeps nothing from before revision {answer.compact_revision}")
                if answer.canceled:
                    self._token = ""
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
        metadata = await self._login()
        try:
            return await self._once(stub, method, request, metadata)
        except self._failures as error:
            if not (self._token and any(words in _details(error) for words in _NO_LONGER)):
                raise await self._failed(error) from None
        self._token = ""
        metadata = await self._login()
        try:
            return await self._once(stub, method, request, metadata)
        except self._failures as error:
            raise await self._failed(error) from None

    async def _once(self, stub: str, method: str, request: Any, metadata: Any) -> Any:
        call = getattr(getattr(self._rpc, stub)(self._open()), method)
        return await call(request, timeout=CALL_S, metadata=metadata)

    async def _login(self) -> tuple[tuple[str, str], ...]:
        """Return what a call has to carry: a token, where there is a user."""
        if not self._place.user:
            return ()
        if not self._token:
            request = self._rpc.AuthenticateRequest(name=self._place.user, password=self._place.password)
            try:
                self._token = str((await self._once("AuthStub", "Authenticate", request, ())).token)
            except self._failures as error:
                raise await self._failed(error) from None
        return (("token", self._token),)

    async def _failed(self, error: Exception) -> EtcdError:
        """Word a failure, and turn to the next endpoint; whatever the token was, the next call takes another."""
        self._token = ""
        endpoint = self._place.endpoints[self._turn % len(self._place.endpoints)]
        if len(self._place.endpoints) > 1:
            self._turn += 1
            await self.close()
        code = getattr(error, "code", None)
        if callable(code) and code().name in _REFUSALS:
            return EtcdError(f"etcd at {endpoint} refuses: {_details(error)}", hint=self._place.who)
        return EtcdError(f"etcd at {endpoint} does not answer: {_details(error)}")


def _details(error: Exception) -> str:
    details = getattr(error, "details", None)
    return str(details()) if callable(details) else str(error)


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
