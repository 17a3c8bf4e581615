"""The tier in an object store: one object a block, many requests at once, shared by all workers that name its URL.

    <prefix>/<shape and tenant, hex>/<block hash, hex>  =  head (magic, size, digest of the key) | checksum | block

A store that fails or is slow rests: it is not asked for a second, then two, and so on up to a minute, and whatever it
holds is computed again meanwhile. What it holds is listed beside all else, when the tier opens and from time to time.
"""

import asyncio
import struct
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

import xxhash

from tritium.core.errors import InvalidArgument
from tritium.kv.block import SHAPE_BYTES, TENANT_BYTES, Tier
from tritium.kv.holdings import TierEvent
from tritium.kv.host import checksum_of, copy_block
from tritium.kv.nixl_objects import NixlObjects
from tritium.kv.rest import Rest
from tritium.kv.settings import ObjectSettings
from tritium.kv.shelf import Entry, Shares, Shelf

_HEAD = struct.Struct("<8sQ16s")
_BEFORE_BLOCK = _HEAD.size + 8
_MAGIC = b"TrKV\x00\x00\x00\x01"
_DAMAGED = -1  # no checksum is negative
_PREFIX_BYTES = SHAPE_BYTES + TENANT_BYTES


class ObjectTier:
    """Blocks as objects."""

    tier = Tier.OBJECT

    def __init__(self, settings: ObjectSettings, block_bytes: int, shares: Shares) -> None:
        self.min_uses = settings.min_uses
        self._settings = settings
        self._store = open_bucket(settings)
        self.shelf = Shelf(settings.size_bytes // block_bytes, shares)
        self.capacity_bytes = self.shelf.slots * block_bytes
        self._block_bytes = block_bytes
        self._rest = Rest()
        self._by_nixl = NixlObjects(settings) if settings.mover == "nixl" else None
        self._listing: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kv-objects", daemon=True)
        self._thread.start()

    def follow(self, update: Callable[[Callable[[], Iterable[TierEvent]]], None], listed: Callable[[], object]) -> None:
        """Begin to list what the store holds, page by page into `update`; `listed` is called after the first time."""

        async def begin() -> None:
            self._listing = asyncio.create_task(self._keep_listed(update, listed))

        asyncio.run_coroutine_threadsafe(begin(), self._loop).result()

    @property
    def notes(self) -> list[str]:
        """Return nothing: there is nothing to say of it."""
        return []

    @property
    def resting(self) -> bool:
        """Return whether the store failed a short time ago."""
        return self._rest.resting

    def view(self, entry: Entry) -> memoryview | None:  # noqa: ARG002  (of the tiers' protocol)
        """Return None: blocks have to be fetched."""
        return None

    def write(
        self, entries: Sequence[Entry], blocks: Sequence[memoryview], checksums: Sequence[int | None]
    ) -> list[int | None]:
        """Put blocks, several at once."""
        summed = [
            checksum_of(block) if given is None else given for block, given in zip(blocks, checksums, strict=True)
        ]
        if self._by_nixl is not None and self._put_by_nixl(entries, blocks, summed):
            return list(summed)
        put = self._all([self._put(*one) for one in zip(entries, blocks, summed, strict=True)])
        return [checksum if done else None for checksum, done in zip(summed, put, strict=True)]

    def read(self, entries: Sequence[Entry], into: Sequence[memoryview]) -> list[int | None]:
        """Get blocks, several at once."""
        got = self._get_by_nixl(entries) if self._by_nixl is not None else []
        got = got or self._all([self._get(entry) for entry in entries])
        return [self._unpack(*one) for one in zip(entries, got, into, strict=True)]

    def discard(self, entries: Sequence[Entry]) -> None:
        """Delete the objects of blocks that leave."""
        if entries:
            self._all([self._delete(entry.key) for entry in entries])

    def close(self) -> None:
        """End the thread that speaks to the store."""

        async def end() -> None:
            if self._listing is not None:
                self._listing.cancel()
                with suppress(asyncio.CancelledError):
                    await self._listing

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        if self._by_nixl is not None:
            self._by_nixl.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _unpack(self, entry: Entry, answer: Any, target: memoryview) -> int | None:
        if answer is None:
            return None
        data = memoryview(answer)
        fits = data.nbytes == _BEFORE_BLOCK + target.nbytes and data[: _HEAD.size] == _head(entry.key, target.nbytes)
        if not fits:
            return _DAMAGED
        summed = copy_block(target, data[_BEFORE_BLOCK:])
        if summed != int.from_bytes(data[_HEAD.size : _BEFORE_BLOCK], "little"):
            return _DAMAGED
        # Another worker may have written the block anew, with bits of its own: what is whole is good.
        entry.checksum = summed
        return summed

    def _put_by_nixl(self, entries: Sequence[Entry], blocks: Sequence[memoryview], summed: Sequence[int]) -> bool:
        """Put blocks in one go; False: obstore may try."""
        assert self._by_nixl is not None
        if self.resting:
            return False
        packed = [_pack(*one) for one in zip(entries, blocks, summed, strict=True)]
        try:
            self._by_nixl.put([object_name(entry.key) for entry in entries], packed)
        except OSError:
            return False
        return True

    def _get_by_nixl(self, entries: Sequence[Entry]) -> list[Any]:
        """Get blocks in one go; none where one of them is not there, or the store fails: obstore tells which."""
        assert self._by_nixl is not None
        sizes = [_BEFORE_BLOCK + entry.size_bytes for entry in entries]
        try:
            return [] if self.resting else self._by_nixl.get([object_name(entry.key) for entry in entries], sizes)
        except OSError:
            return []

    async def _put(self, entry: Entry, block: memoryview, checksum: int) -> bool:
        data = _pack(entry, block, checksum)
        await self._store.put_async(object_name(entry.key), data, use_multipart=False)
        return True

    async def _get(self, entry: Entry) -> Any:
        answer = await self._store.get_async(object_name(entry.key))
        return await answer.bytes_async()

    async def _delete(self, key: bytes) -> bool:
        await self._store.delete_async(object_name(key))
        return True

    def _all(self, asked: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """Return the answers, None for each request that failed or took too long."""
        if self.resting:
            for one in asked:
                one.close()
            return [None] * len(asked)
        return asyncio.run_coroutine_threadsafe(self._gather(asked), self._loop).result()

    async def _gather(self, asked: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        from obstore.exceptions import BaseError, NotFoundError  # noqa: PLC0415  (an extra)

        gate = asyncio.Semaphore(self._settings.concurrency)

        async def one(request: Coroutine[Any, Any, Any]) -> Any:
            async with gate:
                if self.resting:
                    request.close()
                    return None
                try:
                    answer = await asyncio.wait_for(request, self._settings.timeout_s)
                except (NotFoundError, FileNotFoundError):  # deleted by another worker: no fault of the store
                    return None
                except (BaseError, TimeoutError, OSError):
                    self._rest.begin()
                    return None
                self._rest.end()
                return answer

        return await asyncio.gather(*map(one, asked))

    async def _keep_listed(
        self, update: Callable[[Callable[[], Iterable[TierEvent]]], None], listed: Callable[[], object]
    ) -> None:
        from obstore.exceptions import BaseError  # noqa: PLC0415  (an extra)

        first = True
        while True:
            wait_s = self._settings.list_every_s
            try:
                async for page in self._store.list():
                    found = [(meta["path"], meta["size"]) for meta in page]
                    update(lambda found=found: self._take_up(found))  # type: ignore[misc]
                    if len(self.shelf) >= self.shelf.slots:
                        break
            except (BaseError, TimeoutError, OSError):
                self._rest.begin()
                wait_s = min(wait_s, self._rest.seconds)
            finally:
                if first:
                    listed()
            first = False
            await asyncio.sleep(wait_s)

    def _take_up(self, found: Sequence[tuple[str, int]]) -> Iterator[TierEvent]:
        """Note blocks that were found, under the lock of `holdings`; what they are is checked when they are read."""
        for name, object_bytes in found:
            key, size_bytes = key_of(name), object_bytes - _BEFORE_BLOCK
            if key is not None and 0 < size_bytes <= self._block_bytes and self.shelf.note(key, size_bytes):
                yield TierEvent(Tier.OBJECT, key, stored=True)


def open_bucket(settings: ObjectSettings) -> Any:
    """Return the store behind a URL; InvalidArgument where it names none, or obstore is missing."""
    try:
        from_url: Any = import_module("obstore.store").from_url  # typed by store, of which the URL chooses one
    except ImportError:
        raise InvalidArgument("the object tier needs the package obstore", "pip install 'tritium[kv]'") from None
    if settings.mover not in ("obstore", "nixl"):
        raise InvalidArgument(f"no mover of objects is called '{settings.mover}'", "obstore and nixl are there")
    remote: dict[str, Any] = {}
    if not settings.url.startswith(("file:", "memory:")):
        client = {"timeout": f"{settings.timeout_s}s", "connect_timeout": f"{settings.timeout_s}s"}
        if settings.endpoint.startswith("http://"):
            client["allow_http"] = "true"
        endpoint = {"endpoint": settings.endpoint} if settings.endpoint else {}
        remote = {
            "config": {**settings.options, **endpoint},
            "client_options": client,
            "retry_config": {"max_retries": 0},
        }
    try:
        return from_url(settings.url, **remote)
    except Exception as fault:
        raise InvalidArgument(f"{settings.url}: {fault}", "write s3://bucket/prefix") from fault


def _head(key: bytes, size_bytes: int) -> bytes:
    return _HEAD.pack(_MAGIC, size_bytes, xxhash.xxh3_128_digest(key))


def _pack(entry: Entry, block: memoryview, checksum: int) -> bytes:
    return b"".join((_head(entry.key, block.nbytes), checksum.to_bytes(8, "little"), block))


def object_name(key: bytes) -> str:
    """Return a block's name in the store."""
    return f"{key[:_PREFIX_BYTES].hex()}/{key[_PREFIX_BYTES:].hex()}"


def key_of(name: str) -> bytes | None:
    """Return the key out of a name; None for objects that are not ours."""
    try:
        prefix, block_hash = name.split("/")[-2:]
        key = bytes.fromhex(prefix) + bytes.fromhex(block_hash)
    except ValueError:
        return None
    return key if len(prefix) == 2 * _PREFIX_BYTES and block_hash else None
