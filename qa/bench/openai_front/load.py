"""A closed loop of streaming chats: so many at once, each the next as soon as the last has ended.

It reads no more of an answer than it must: when its first text came, how many events held text, and the usage at the
end. It does nothing to hide a server's delays (no TCP_QUICKACK): it is an ordinary client.
"""

import asyncio
import json
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

WORDS = """
    request server model router worker token prompt block cache queue batch stream answer version folder
    policy engine memory latency throughput sequence ensemble instance health metric trace weight layer
    tensor shape buffer socket frame header client library config parameter value index table record
""".split()  # noqa: SIM905  a list of forty quoted words reads worse
_CONTENT = b'"content":"'
_EMPTY = _CONTENT + b'"'
_USAGE = '"usage":{'
_END = b"\r\n0\r\n\r\n"
_TAIL_BYTES = 2048


@dataclass(slots=True)
class Chat:
    """One answered chat, times in seconds."""

    first_token_s: float
    total_s: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    events: int
    """Events on the wire that carried text."""
    worker: str = ""
    """Who served it, where the server was asked to tell."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How a server is asked to tell who serves a chat, and where it says so; by default it is not asked."""

    header: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    worker: re.Pattern[bytes] | None = None


@dataclass(slots=True)
class Load:
    """What a run brought."""

    wall_s: float
    chats: list[Chat] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Return the tokens of all answers."""
        return sum(chat.completion_tokens for chat in self.chats)


class _Connection(asyncio.Protocol):
    """One client: sends a chat, takes its events, and says when it is over."""

    def __init__(self, asking: Asking) -> None:
        self.over: asyncio.Future[Chat] | None = None
        self._worker_at = asking.worker
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self, request: bytes) -> "asyncio.Future[Chat]":
        """Send one chat; the future is its outcome."""
        self._first = 0.0
        self._events = 0
        self._tail = b""
        self._worker = ""
        self._begun = False
        self.over = asyncio.get_running_loop().create_future()
        self._sent = time.perf_counter()
        self.transport.write(request)
        return self.over

    def data_received(self, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            if not data.startswith(b"HTTP/1.1 200"):
                self.over.set_exception(RuntimeError(data.decode("utf-8", "replace")))
                return
        # Counted over the seam of two reads, too; an event that only names the role has empty text.
        seen = self._tail[1 - len(_EMPTY) :] + data
        again = self._tail[1 - len(_EMPTY) :]
        self._events += seen.count(_CONTENT) - seen.count(_EMPTY) - again.count(_CONTENT) + again.count(_EMPTY)
        if self._events and not self._first:
            self._first = time.perf_counter()
        if self._worker_at and not self._worker and (found := self._worker_at.search(self._tail + data)):
            self._worker = found[1].decode()
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        if self._tail.endswith(_END):
            self._finish(time.perf_counter())

    def connection_lost(self, exc: Exception | None) -> None:
        if self.over is not None and not self.over.done():
            self.over.set_exception(exc or ConnectionError("the server closed the connection"))

    def _finish(self, now: float) -> None:
        text = self._tail.decode("utf-8", "replace")
        if _USAGE not in text:
            self.over.set_exception(RuntimeError(f"an answer without usage: {text}"))
            return
        usage = json.JSONDecoder().raw_decode(text, text.rindex(_USAGE) + len(_USAGE) - 1)[0]
        details = usage.get("prompt_tokens_details") or {}
        self.over.set_result(
            Chat(
                (self._first or now) - self._sent,
                now - self._sent,
                usage["prompt_tokens"],
                usage["completion_tokens"],
                details.get("cached_tokens") or 0,
                self._events,
                self._worker,
            )
        )


def words(rng: random.Random, count: int) -> str:
    """Return so many random words."""
    return " ".join(rng.choices(WORDS, k=count))


def request(host: str, model: str, prompt: str, tokens: int, asking: Asking = Asking()) -> bytes:
    """Return the bytes of one streamed chat that generates exactly `tokens` tokens."""
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            **asking.fields,
        }
    ).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    if asking.header:
        head += f"{asking.header}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


class Clients:
    """So many connections, kept open from run to run."""

    def __init__(self, host: str, model: str, connections: list[_Connection], asking: Asking) -> None:
        self._host = host
        self._asking = asking
        self._model = model
        self._connections = connections

    @classmethod
    async def connect(cls, host: str, port: int, model: str, count: int, asking: Asking = Asking()) -> "Clients":
        """Open the connections."""
        loop = asyncio.get_running_loop()
        opened = [(await loop.create_connection(partial(_Connection, asking), host, port))[1] for _ in range(count)]
        return cls(host, model, opened, asking)

    async def run(self, prompts: Sequence[str], tokens: int | Sequence[int]) -> Load:
        """Ask one chat a prompt, between all clients, for so many tokens each; the last prompt is asked first."""
        each = [tokens] * len(prompts) if isinstance(tokens, int) else tokens
        asked = zip(prompts, each, strict=True)
        waiting = [request(self._host, self._model, prompt, count, self._asking) for prompt, count in asked]
        load = Load(0.0)

        async def client(connection: _Connection) -> None:
            while waiting:
                load.chats.append(await connection.ask(waiting.pop()))

        started = time.perf_counter()
        await asyncio.gather(*(client(connection) for connection in self._connections))
        load.wall_s = time.perf_counter() - started
        return load

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.transport.close()
