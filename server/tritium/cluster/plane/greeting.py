"""How a front and a worker get to know each other, before any other frame is read.

    front                                     worker
      Hello(version, purpose, nonce) ------>
                                     <------ Challenge(nonce) | Refused(reason)
      Proof(of both nonces)          ------>
                                     <------ Welcome(proof of both nonces) | Refused(reason)

The secret itself is never sent, and a proof is worth nothing on another connection. Without a secret the proofs are
empty. Everything here is bounded: a frame by `MOST_BYTES`, all of it by `GREETING_S`.
"""

import asyncio
import os
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import msgspec

from tritium.cluster.channel import Channel
from tritium.cluster.frames import LENGTH_BYTES, VERSION
from tritium.cluster.plane.security import Secret
from tritium.core.errors import Unavailable

MOST_BYTES = 4096
GREETING_S = 10.0
_NONCE_BYTES = 32
_AGREE = "give all of them the same --cluster-secret"

Purpose = Literal["work", "files", "refusal"]
"""What a connection is for: to have the engine work, to fetch the files of the model's card, or to say why neither."""


class Unreachable(Unavailable):
    """The other side is not there, does not talk to us, or we not to it."""


class Hello(msgspec.Struct, array_like=True, tag="hello", forbid_unknown_fields=True):
    """The first frame. `front` is a name for the log."""

    version: int
    purpose: Purpose
    front: str
    nonce: bytes


class Challenge(msgspec.Struct, array_like=True, tag="challenge"):
    """What the proof has to be about."""

    nonce: bytes
    secret: bool


class Proof(msgspec.Struct, array_like=True, tag="proof"):
    """That the front has the secret."""

    proof: bytes


class Welcome(msgspec.Struct, array_like=True, tag="welcome"):
    """That the worker has it too, and which worker it is."""

    proof: bytes
    worker: str
    run: str


class Refused(msgspec.Struct, array_like=True, tag="refused"):
    """Why nothing comes of it; the last frame."""

    reason: str


Greeting = Hello | Challenge | Proof | Welcome | Refused
_DECODER: msgspec.msgpack.Decoder[Greeting] = msgspec.msgpack.Decoder(Greeting)
G = TypeVar("G", Hello, Challenge, Proof, Welcome)


@dataclass(frozen=True, slots=True)
class Greeted:
    """Who is at the other end; a worker leaves `front` empty."""

    purpose: Purpose
    front: str = ""
    worker: str = ""
    run: str = ""


class GreetingLine(asyncio.Protocol):
    """One end of a connection until both sides know each other."""

    def __init__(self) -> None:
        self.silent = True
        """Nothing has come yet; who only looks whether the port is open goes like that."""
        self._received = bytearray()
        self._more = asyncio.Event()
        self._lost: str | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Keep what comes, as far as anything may come before an answer."""
        self.silent = False
        self._received += data
        if len(self._received) > MOST_BYTES + LENGTH_BYTES and self._transport is not None:
            self._transport.pause_reading()
        self._more.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let who waits know."""
        self._lost = f"the connection ended while greeting{f': {exc}' if exc else ''}"
        self._more.set()

    def send(self, frame: Greeting) -> None:
        """Send a frame; it is dropped when the connection has ended."""
        if self._transport is not None and not self._transport.is_closing():
            data = msgspec.msgpack.encode(frame)
            self._transport.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)

    async def read(self, kind: type[G]) -> G:
        """Wait for a frame, which must be of this kind.

        Raises:
            Unreachable: another came, none that could be read, or the other side refuses.
        """
        frame = await self._read()
        if isinstance(frame, Refused):
            raise Unreachable(frame.reason[:500])
        if not isinstance(frame, kind):
            raise Unreachable(f"a {type(frame).__name__} came where a {kind.__name__} was expected")
        return frame

    async def _read(self) -> Greeting:
        received = self._received
        while True:
            if len(received) >= LENGTH_BYTES:
                length = int.from_bytes(received[:LENGTH_BYTES], "big")
                if length > MOST_BYTES:
                    raise Unreachable("what came is no greeting of a Tritium cluster")
                end = LENGTH_BYTES + length
                if len(received) >= end:
                    try:
                        frame = _DECODER.decode(bytes(received[LENGTH_BYTES:end]))
                    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                        raise Unreachable("what came is no greeting of a Tritium cluster") from None
                    del received[:end]
                    return frame
            if self._lost is not None:
                raise Unreachable(self._lost)
            self._more.clear()
            await self._more.wait()

    def hand_over(self, channel: Channel[Any]) -> None:
        """Have everything that comes from here on go to a channel."""
        assert self._transport is not None
        if self._lost is not None:
            raise Unreachable(self._lost)
        self._transport.set_protocol(channel)
        channel.connection_made(self._transport)
        self._transport.resume_reading()
        if self._received:
            channel.data_received(bytes(self._received))

    def refuse(self, reason: str) -> None:
        """Say why not, and end the connection."""
        if self._transport is not None:
            self.send(Refused(reason))
            self._transport.close()


async def greet(line: GreetingLine, purpose: Purpose, front: str, secret: Secret | None) -> Greeted:
    """Introduce a front to the worker at the other end.

    Raises:
        Unreachable: one of the two does not trust the other, or speaks another version.
    """
    try:
        async with asyncio.timeout(GREETING_S):
            ours = os.urandom(_NONCE_BYTES)
            line.send(Hello(VERSION, purpose, front[:200], ours))
            challenge = await line.read(Challenge)
            if secret is not None and not challenge.secret:
                raise _not_so(line, "the worker has no secret, and this front asks for one")
            if secret is None and challenge.secret:
                raise _not_so(line, "the worker asks for a secret, and this front has none")
            both = (purpose.encode(), ours, challenge.nonce)
            line.send(Proof(_prove(secret, b"front", *both)))
            welcome = await line.read(Welcome)
            if secret is not None and not secret.proves(welcome.proof, b"worker", *both):
                raise _not_so(line, "the worker does not have the secret of this front")
            return Greeted(purpose, worker=welcome.worker, run=welcome.run)
    except TimeoutError:
        raise Unreachable(f"the worker did not greet within {GREETING_S:g} s") from None


async def receive(line: GreetingLine, worker: str, run: str, secret: Secret | None) -> Greeted:
    """Let a front introduce itself to this worker.

    Raises:
        Unreachable: it may not come in; the caller tells it why.
    """
    try:
        async with asyncio.timeout(GREETING_S):
            hello = await line.read(Hello)
            if hello.version != VERSION:
                raise Unreachable(
                    f"the front speaks frames of version {hello.version}, the worker of version {VERSION}: "
                    "both must be of one release"
                )
            ours = os.urandom(_NONCE_BYTES)
            line.send(Challenge(ours, secret is not None))
            proof = await line.read(Proof)
            both = (hello.purpose.encode(), hello.nonce, ours)
            if secret is not None and not secret.proves(proof.proof, b"front", *both):
                raise Unreachable("the front does not have the secret of this worker", _AGREE)
            line.send(Welcome(_prove(secret, b"worker", *both), worker, run))
            return Greeted(hello.purpose, front=hello.front)
    except TimeoutError:
        raise Unreachable(f"no greeting within {GREETING_S:g} s") from None


def _not_so(line: GreetingLine, reason: str) -> Unreachable:
    """Tell the worker, too, why nothing comes of it: its operator may look there first."""
    line.refuse(reason)
    return Unreachable(reason, _AGREE)


def _prove(secret: Secret | None, *parts: bytes) -> bytes:
    return secret.prove(*parts) if secret is not None else b""
