"""The files of a model's card over a connection of their own: asked for by checksum, sent in parts.

front                            worker
Ask(sha256)          ------>
<------ Part(data) ... Part(last) | Missing
"""

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tritium.cluster.channel import Channel
from tritium.core.errors import Unavailable

PART_BYTES = 1 << 20


class Ask(msgspec.Struct, array_like=True, tag="ask"):
    """Send the file of this checksum."""

    sha256: str


class Part(msgspec.Struct, array_like=True, tag="part"):
    """The next bytes of it."""

    data: bytes
    last: bool


class Missing(msgspec.Struct, array_like=True, tag="missing"):
    """There is none, and why."""

    reason: str


FromFront = Ask
FromFiles = Part | Missing


class FileServer:
    """A worker's side: the files that its card names, and no others."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self._sending: set[asyncio.Task[None]] = set()
        self._channels: set[Channel[FromFront]] = set()

    def channel(self) -> Channel[FromFront]:
        """Return what serves one connection."""
        channel: Channel[FromFront] = Channel(
            FromFront, lambda ask: self._take(channel, ask), lambda _: self._channels.discard(channel)
        )
        self._channels.add(channel)
        return channel

    def close(self) -> None:
        """End every connection."""
        for channel in tuple(self._channels):
            channel.abort()

    def _take(self, channel: Channel[FromFront], ask: Ask) -> None:
        task = asyncio.get_running_loop().create_task(self._send(channel, ask))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, channel: Channel[FromFront], ask: Ask) -> None:
        path = self._files.get(ask.sha256)
        if path is None:
            channel.send(Missing("the worker's card has no such file"))
            return
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            channel.send(Missing(f"{path.name}: {error.strerror}"))
            return
        parts = max(1, -(-len(data) // PART_BYTES))
        for index in range(parts):
            channel.send(Part(data[index * PART_BYTES : (index + 1) * PART_BYTES], index == parts - 1))


class FileFetcher:
    """A front's side of one connection; files come one after another, until one fails to."""

    def __init__(self) -> None:
        self.channel: Channel[FromFiles] = Channel(FromFiles, self._take, self._closed)
        self._answer: asyncio.Future[bytes] | None = None
        self._parts: list[bytes] = []
        self._left_bytes = 0

    async def fetch(self, sha256: str, size_bytes: int, within_s: float) -> bytes:
        """Fetch one file.

        Raises:
            Unavailable: it did not come, or not as the card says.
        """
        self._answer = asyncio.get_running_loop().create_future()
        self._parts.clear()
        self._left_bytes = size_bytes
        self.channel.send(Ask(sha256))
        try:
            async with asyncio.timeout(within_s):
                data = await self._answer
        except TimeoutError:
            raise Unavailable(f"the file {sha256[:12]} did not come within {within_s:g} s") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Unavailable(f"the file {sha256[:12]} came with other contents than its card says")
        return data

    def _take(self, frame: FromFiles) -> None:
        if self._answer is None or self._answer.done():
            return
        if isinstance(frame, Missing):
            self._answer.set_exception(Unavailable(f"a file of the model cannot be fetched: {frame.reason}"))
            return
        self._parts.append(frame.data)
        self._left_bytes -= len(frame.data)
        if self._left_bytes < 0:
            self._answer.set_exception(Unavailable("a file of the model is longer than its card says"))
        elif frame.last:
            self._answer.set_result(b"".join(self._parts))

    def _closed(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Unavailable(f"the worker left while a file was fetched{_because(error)}"))


def _because(error: Exception | None) -> str:
    return f": {error}" if error else ""
