import asyncio
import json
import socket

import pytest

from tritium.openai.options import OpenAIOptions

TOKENS = 4_000_000


class SlowClient:
    """A client that asks for a stream and reads only when told to; the kernel buffers little for it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)

    async def ask(self, **fields) -> None:
        body = {
            "model": "story",
            "messages": [{"role": "user", "content": "x"}],
            "stream": True,
            "max_tokens": TOKENS,
            **fields,
        }
        raw = json.dumps(body).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        request = head + b"content-length: %d\r\n\r\n" % len(raw) + raw
        await asyncio.get_running_loop().sock_sendall(self.socket, request)

    async def read_all(self) -> bytes:
        parts = []
        while part := await asyncio.get_running_loop().sock_recv(self.socket, 1 << 20):
            parts.append(part)
        return b"".join(parts)


@pytest.fixture
def slow_client():
    clients = []

    def make(door):
        clients.append(SlowClient(door.port))
        return clients[-1]

    yield make
    for client in clients:
        client.socket.close()


@pytest.mark.parametrize(
    ("fields", "step_tokens"),
    [({}, 1), ({}, 30_000), ({"stop": "never"}, 30_000), ({"n": 2}, 30_000)],
    ids=["tokens", "steps", "stop", "two"],
)
async def test_client_that_does_not_read_is_given_up(open_door, slow_client, fields, step_tokens):
    """Once more than stall_bytes wait for a client, its generations are cancelled and it is told why."""
    async with open_door(OpenAIOptions(stall_bytes=1 << 16), context_tokens=1 << 23) as door:
        door.say(reply="all work and no play " * 400, endless=True, step_tokens=step_tokens)
        client = slow_client(door)
        await client.ask(**fields)
        await asyncio.wait_for(door.fleet.cancelled.wait(), 60)
        raw = await asyncio.wait_for(client.read_all(), 60)
    assert b'data: {"error":{"message":"the client reads too slowly' in raw
    assert b"[DONE]" not in raw
    assert all(generation.cancelled for generation in door.fleet.generations)
    assert door.model.statistics.failures == {"REJECTED": 1}


async def test_client_that_pauses_loses_nothing(open_door, slow_client):
    """A client that reads late, but within the bound, gets every event whole and in order."""
    async with open_door(OpenAIOptions(stall_bytes=1 << 30), context_tokens=1 << 23) as door:
        door.say(reply="all work and no play " * 400, endless=True, step_tokens=30_000)
        client = slow_client(door)
        await client.ask(stream_options={"include_usage": True})
        await asyncio.wait_for(door.fleet.finished.wait(), 60)
        raw = await asyncio.wait_for(client.read_all(), 60)
    events = [json.loads(e) for e in _events(raw)[:-1]]
    said = "".join(e["choices"][0]["delta"].get("content", "") for e in events if e["choices"])
    whole = ("all work and no play " * 400) * (len(said) // 8400 + 1)
    assert said == whole[: len(said)]
    assert events[-1]["usage"]["completion_tokens"] == TOKENS
    assert _events(raw)[-1] == "[DONE]"


async def test_client_that_leaves_while_events_wait(open_door, slow_client):
    """A slow client that leaves is given up at once."""
    async with open_door(OpenAIOptions(stall_bytes=1 << 30), context_tokens=1 << 23) as door:
        door.say(reply="all work and no play " * 400, endless=True, step_tokens=30_000, hold_at=3_000_000)
        client = slow_client(door)
        await client.ask()
        await asyncio.wait_for(door.fleet.held.wait(), 60)
        client.socket.close()
        await asyncio.wait_for(door.fleet.cancelled.wait(), 60)
    assert door.model.statistics.failures == {"CANCELED": 1}


def _events(raw: bytes) -> list[str]:
    """Undo the chunked coding and cut the events."""
    _, _, rest = raw.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body, rest = body + rest[:length], rest[length + 2 :]
    return [event.removeprefix("data: ") for event in body.decode().split("\n\n") if event]
