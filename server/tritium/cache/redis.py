"""A store of responses in Redis, shared by every server that is told of it.

    open --failed--> the server does not start
      +--> READY --lost, or too slow--> AWAY --connected again--> READY

While Redis is away nothing is found and nothing kept: requests are computed. A value is one msgpack map under
`tritium:response:1:` and the key in hexadecimal; Redis evicts by its own policy.
"""

import asyncio
from typing import Any, Final

import msgspec
import structlog

from tritium.cache.connection import CannotConnect, RedisConnection, connect
from tritium.cache.resp import LONGEST_VALUE_BYTES, RedisError, Reply, command
from tritium.cache.settings import RedisSettings
from tritium.core.cache.entry import Entry, entry
from tritium.core.cache.store import Found, Insertion
from tritium.core.errors import Unavailable
from tritium.core.request import Parameter
from tritium.core.tensor import Tensor

PREFIX: Final = b"tritium:response:1:"
RETRY_S: Final = (0.5, 1, 2, 5)
"""How long to wait before each attempt to connect again; the last counts for all that follow."""
_START: Final = (
    "start Redis there, name another with --cache-config redis,host=HOST and redis,port=PORT, "
    "or keep responses in memory: --cache-config local,size=BYTES"
)
_AS_WHOM: Final = "--cache-config redis,password=PASSWORD (and redis,user=USER), or TRITONCACHE_REDIS_PASSWORD"

log = structlog.get_logger("tritium")


class _Output(msgspec.Struct, array_like=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


class _Value(msgspec.Struct):
    outputs: list[_Output]
    parameters: dict[str, Any]


_decoder = msgspec.msgpack.Decoder(_Value)


class RedisStore:
    """Entries in Redis; see `core.cache.store.Store`."""

    shared = True

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._connection: RedisConnection | None = None
        self._reconnecting: asyncio.Task[None] | None = None

    @property
    def away(self) -> bool:
        """Tell whether Redis cannot be asked now."""
        return self._connection is None

    async def open(self) -> None:
        """Connect for the first time.

        Raises:
            Unavailable: Redis is not there, or refuses.
        """
        try:
            self._connection = await connect(self._settings, self._lost)
        except CannotConnect as error:
            raise Unavailable(
                f"Failed to initialize RedisCache: failed to connect to Redis ({self._settings.address}): {error}",
                hint=_AS_WHOM if str(error).startswith(("NOAUTH", "WRONGPASS")) else _START,
            ) from None

    def lookup(self, key: bytes, found: Found) -> None:
        """Ask for an entry."""
        connection = self._connection
        if connection is None or connection.busy:
            found(None)
            return

        def then(reply: Reply) -> None:
            found(_entry_of(reply, key) if isinstance(reply, bytes) else None)

        connection.ask(command(b"GET", PREFIX + key.hex().encode()), then)

    def insert(self, key: bytes, entry: Entry) -> Insertion:
        """Send an entry; that it arrived is not waited for."""
        connection = self._connection
        if connection is None or connection.busy or entry.size_bytes > LONGEST_VALUE_BYTES:
            return Insertion.REFUSED

        def then(reply: Reply) -> None:
            if isinstance(reply, RedisError):
                log.warning("response_not_cached", cache=self._settings.address, reason=reply.message)

        connection.ask(command(b"SET", PREFIX + key.hex().encode(), _value_of(entry)), then)
        return Insertion.STORED

    async def close(self) -> None:
        """Leave."""
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _lost(self, why: str) -> None:
        self._connection = None
        log.warning("cache_away", cache=self._settings.address, reason=why, hint="requests are computed meanwhile")
        self._reconnecting = asyncio.get_running_loop().create_task(self._reconnect(), name="reconnect to redis")

    async def _reconnect(self) -> None:
        attempt = 0
        while self._connection is None:
            await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
            attempt += 1
            try:
                self._connection = await connect(self._settings, self._lost)
            except CannotConnect as error:
                log.debug("cache_still_away", cache=self._settings.address, reason=str(error))
        log.info("cache_back", cache=self._settings.address)


def _value_of(kept: Entry) -> bytes:
    outputs = [_Output(t.name, t.datatype, t.shape, bytes(t.data)) for t in kept.outputs]
    return msgspec.msgpack.encode(_Value(outputs, kept.parameters))


def _entry_of(value: bytes, key: bytes) -> Entry | None:
    try:
        read = _decoder.decode(value)
    except msgspec.DecodeError as error:
        log.warning("cached_response_unreadable", key=key.hex(), reason=str(error))
        return None
    outputs = tuple(Tensor(o.name, o.datatype, o.shape, o.data) for o in read.outputs)
    parameters: dict[str, Parameter] = read.parameters
    return entry(outputs, parameters)
