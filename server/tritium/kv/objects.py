"""The tier in an object store: one object a block, many requests at once, shared by all workers that name its URL.

    <prefix>/<shape and tenant, hex>/<block hash, hex>  =  head (magic, size, digest of the key) | checksum | block

A store that fails or is slow rests: it is not asked for a second, then two, and so on up to a minute, and whatever it
holds is computed again meanwhile.
"""

import asyncio
import struct
import threading
import time
from collections.abc import Coroutine, Sequence
from importlib import import_module
from typing import Any

import xxhash

from tritium.core.errors import InvalidArgument
from tritium.kv.block import SHAPE_BYTES, TENANT_BYTES, Tier
from tritium.kv.host import checksum_of, copy_block
from tritium.kv.settings import ObjectSettings
from tritium.kv.shelf import Entry, Shares, Shelf

_HEAD = struct.Struct("<8sQ16s")
_BEFORE_BLOCK = _HEAD.size + 8
_MAGIC = b"TrKV\x00\x00\x00\x01"
_DAMAGED = -1  # no checksum is negative
_LONGEST_REST_S = 60.0
_LISTING_S = 30.0  # a bucket that takes longer to list is known in part
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
        self._rests_until = 0.0
        self._rest_s = 0.0
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kv-objects", daemon=True)
        self._thread.start()
        self._restore()

    @property
    def resting(self) -> bool:
        """Return whether the store failed a short time ago."""
        return time.monotonic() < self._rests_until

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
        put = self._all([self._put(*one) for one in zip(entries, blocks, summed, strict=True)])
        return [checksum if done else None for checksum, done in zip(summed, put, strict=True)]

    def read(self, entries: Sequence[Entry], into: Sequence[memoryview]) -> list[int | None]:
        """Get blocks, several at once."""
        got = self._all([self._get(entry) for entry in entries])
        return [self._unpack(*one) for one in zip(entries, got, into, strict=True)]

    def discard(self, entries: Sequence[Entry]) -> None:
        """Delete the objects of blocks that leave."""
        if entries:
            self._all([self._delete(entry.key) for entry in entries])

    def close(self) -> None:
        """End the thread that speaks to the store."""
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

    async def _put(self, entry: Entry, block: memoryview, checksum: int) -> bool:
        data = b"".join((_head(entry.key, block.nbytes), checksum.to_bytes(8, "little"), block))
        await self._store.put_async(object_name(entry.key), data, use_multipart=False)
        return True

    async def _get(self, entry: Entry) -> Any:
        answer = await self._store.get_async(object_name(entry.key))
        return await answer.bytes_async()

    async def _delete(self, key: bytes) -> bool:
        await self._store.delete_async(object_name(key))
        return True

    def _all(self, asked: Sequence[Coroutine[Any, Any, Any]], timeout_s: float | None = None) -> list[Any]:
        """Return the answers, None for each request that failed or took too long."""
        if self.resting:
            for one in asked:
                one.close()
            return [None] * len(asked)
        return asyncio.run_coroutine_threadsafe(
            self._gather(asked, timeout_s or self._settings.timeout_s), self._loop
        ).result()

    async def _gather(self, asked: Sequence[Coroutine[Any, Any, Any]], timeout_s: float) -> list[Any]:
        from obstore.exceptions import BaseError, NotFoundError  # noqa: PLC0415  (an extra)

        gate = asyncio.Semaphore(self._settings.concurrency)

        async def one(request: Coroutine[Any, Any, Any]) -> Any:
            async with gate:
                if self.resting:
                    request.close()
                    return None
                try:
                    answer = await asyncio.wait_for(request, timeout_s)
                except (NotFoundError, FileNotFoundError):  # deleted by another worker: no fault of the store
                    return None
                except (BaseError, TimeoutError, OSError):
                    self._rest()
                    return None
                self._rest_s = 0.0
                return answer

        return await asyncio.gather(*map(one, asked))

    def _rest(self) -> None:
        with self._lock:
            if not self.resting:
                self._rest_s = min(_LONGEST_REST_S, self._rest_s * 2 or 1.0)
                self._rests_until = time.monotonic() + self._rest_s

    def _restore(self) -> None:
        """Note what the store holds; a store that is down holds nothing for now."""
        found: list[tuple[str, int]] = []

        async def listed() -> None:
            async for page in self._store.list():
                found.extend((meta["path"], meta["size"]) for meta in page)

        self._all([listed()], _LISTING_S)
        slot = 0
        for name, size_bytes in found:
            key, size = key_of(name), size_bytes - _BEFORE_BLOCK
            if key is not None and 0 < size <= self._block_bytes and slot < self.shelf.slots:
                # The checksum lies with the block: it is learnt when the block is first read.
                self.shelf.restore(key, slot, size, 0)
                slot += 1


def open_bucket(settings: ObjectSettings) -> Any:
    """Return the store behind a URL; InvalidArgument where it names none, or obstore is missing."""
    try:
        from_url: Any = import_module("obstore.store").from_url  # typed by store, of which the URL chooses one
    except ImportError:
        raise InvalidArgument("the object tier needs the package obstore", "pip install 'tritium[kv]'") from None
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
