"""Responses in Redis: shared between servers, and no harm done when it is away, slow, or something else."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from tritium.cache import redis as redis_store
from tritium.cache.redis import RedisStore
from tritium.cache.settings import RedisSettings
from tritium.core.cache.entry import Entry, entry
from tritium.core.cache.store import Insertion
from tritium.core.errors import Unavailable
from tritium.core.tensor import Tensor

KEY = bytes(range(32))
TENSORS = (Tensor("Y", "FP32", (2, 1), b"12345678"), Tensor("S", "BYTES", (1,), b"\1\0\0\0x"))
KEPT = entry(TENSORS, {"p": 1, "q": "two", "r": True})


async def look(store: RedisStore, key: bytes = KEY) -> Entry | None:
    """Return what the store finds."""
    found: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
    store.lookup(key, found.set_result)
    return await asyncio.wait_for(found, 60)


@asynccontextmanager
async def opened(port: int, **settings: Any) -> AsyncIterator[RedisStore]:
    """A store that is connected."""
    store = RedisStore(RedisSettings("127.0.0.1", port, **settings))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_an_entry_comes_back_as_it_was_put(redis: Any) -> None:
    """What one server stores another finds, tensors and parameters alike; what nobody stored is not found."""
    server = await redis()
    async with opened(server.port) as one, opened(server.port) as other:
        assert await look(other) is None
        assert one.insert(KEY, KEPT) is Insertion.STORED
        assert await look(one) == KEPT
        assert await look(other) == KEPT


async def test_the_servers_own_event_loop(redis: Any) -> None:
    """uvloop, on which servers run, takes the store as well."""
    server = await redis()

    async def round_trip() -> Entry | None:
        async with opened(server.port) as store:
            store.insert(KEY, KEPT)
            return await look(store)

    assert await asyncio.to_thread(lambda: uvloop.run(round_trip())) == KEPT


async def test_databases_and_passwords(redis: Any) -> None:
    """A password opens the door, and the database of the settings is the one that is used."""
    server = await redis(password="secret")
    async with opened(server.port, password="secret", db=3) as three, opened(server.port, password="secret") as zero:
        three.insert(KEY, KEPT)
        assert await look(three) == KEPT
        assert await look(zero) is None


@pytest.mark.parametrize(
    ("password", "reason"),
    [("", "NOAUTH Authentication required"), ("wrong", "WRONGPASS")],
    ids=["none", "wrong"],
)
async def test_a_wrong_password_stops_the_start(redis: Any, password: str, reason: str) -> None:
    """The error names the address and what Redis said."""
    server = await redis(password="secret")
    with pytest.raises(Unavailable, match=rf"failed to connect to Redis \(127.0.0.1:{server.port}\): {reason}"):
        await RedisStore(RedisSettings("127.0.0.1", server.port, password=password)).open()


async def test_nobody_there_stops_the_start() -> None:
    """A port that nobody listens on is a reason not to start."""
    with pytest.raises(
        Unavailable, match=r"failed to connect to Redis \(localhost:0\): .*(refused|Errno 111)"
    ) as refused:
        await RedisStore(RedisSettings("localhost", 0)).open()
    assert "start Redis there" in refused.value.hint


async def test_redis_may_leave_and_come_back(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is away nothing is found or kept, at once and without an error; then it is used again."""
    monkeypatch.setattr(redis_store, "RETRY_S", (0.01,))
    server = await redis()
    async with opened(server.port) as store:
        store.insert(KEY, KEPT)
        assert await look(store) == KEPT
        await server.stop()
        await until(lambda: store.away)
        assert await look(store) is None
        assert store.insert(KEY, KEPT) is Insertion.REFUSED
        await server.start()
        await until(lambda: not store.away)
        assert store.insert(KEY, KEPT) is Insertion.STORED
        assert await look(store) == KEPT


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["nothing", "something else"])
async def test_a_server_that_does_not_answer_is_left(says: bytes) -> None:
    """After PING it is silent, or talks about something else: the request is computed, and the connection dropped."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(b"+PONG\r\n")
        await reader.readuntil(b"\r\n")
        writer.write(says)
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with opened(listener.sockets[0].getsockname()[1], answer_timeout_s=0.05) as store:
        assert await look(store) is None
        assert store.away
    listener.close()


async def test_a_value_of_somebody_else_is_a_miss(redis: Any) -> None:
    """What is no response of ours under a key of ours is passed over."""
    server = await redis()
    async with opened(server.port) as store:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"SET {(redis_store.PREFIX + KEY.hex().encode()).decode()} nonsense\r\n".encode())
        assert await reader.readline() == b"+OK\r\n"
        assert await look(store) is None
        writer.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  the store tells nobody
            await asyncio.sleep(0.005)
