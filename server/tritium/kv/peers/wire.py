"""What two stores say to each other, over TCP: a length, then a frame, and after some frames the bytes of blocks.

    asking                                          giving
                                       <----------  Challenge(nonce)
    Hello(purpose, nonce, proof)       ---------->
                                       <----------  Welcome(proof, where its memory is) | Refused(reason)
    purpose FOLLOW:                    <----------  Changes, Changes, ... (empty ones say that it lives)
    purpose FETCH: Lease | Probe       ---------->
                                       <----------  Leased, then the blocks where `send` was asked for
                   Done (otherwise)    ---------->

The secret itself is never sent, and a proof is worth nothing on another connection. Without a secret proofs are empty.
"""

import hmac
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from typing import TypeVar

import msgspec

from tritium.core.errors import Unavailable

VERSION = 1
GREETING_S = 10.0
_GREETING_WAITS = 3
_NONCE_BYTES = 32
_LENGTH_BYTES = 4
_MOST_GREETING_BYTES = 64 << 10
MOST_FRAME_BYTES = 4 << 20
_MOST_VIEWS = 512
# A sender that is slower than this is taken for one that has stopped.
_SLOWEST_BYTES_S = 10e6


class Purpose(StrEnum):
    """What a connection is for."""

    FOLLOW = "follow"
    FETCH = "fetch"


class Challenge(msgspec.Struct, array_like=True, tag="challenge"):
    """What the proof has to be about."""

    version: int
    nonce: bytes
    secret: bool


class Hello(msgspec.Struct, array_like=True, tag="hello"):
    """Who asks, what for, and of blocks with which prefix it wants to hear."""

    version: int
    purpose: Purpose
    store: bytes
    nonce: bytes
    proof: bytes
    prefix: bytes


class Welcome(msgspec.Struct, array_like=True, tag="welcome"):
    """That the giving store has the secret too, which one it is, and how NIXL reads its memory (empty: it cannot)."""

    store: bytes
    proof: bytes
    metadata: bytes
    base: int
    memory_bytes: int


class Refused(msgspec.Struct, array_like=True, tag="refused"):
    """Why nothing comes of it; the last frame."""

    reason: str


class Changes(msgspec.Struct, array_like=True, tag="changes"):
    """Blocks that came to the giving store's memory, with their sizes, and those that left it, with 0; in order."""

    keys: list[bytes]
    sizes: list[int]


class Lease(msgspec.Struct, array_like=True, tag="lease"):
    """Blocks that must stay as they are until they are read; `send`: over this connection, instead of by NIXL."""

    keys: list[bytes]
    sizes: list[int]
    send: bool


class Leased(msgspec.Struct, array_like=True, tag="leased"):
    """Where each block begins in the giving store's memory, -1 for those that are gone, and their checksums."""

    offsets: list[int]
    checksums: list[int]


class Probe(msgspec.Struct, array_like=True, tag="probe"):
    """A request for so many bytes of nothing, to see how fast they come."""

    size_bytes: int


class Done(msgspec.Struct, array_like=True, tag="done"):
    """That leased blocks have been read."""


Frame = Challenge | Hello | Welcome | Refused | Changes | Lease | Leased | Probe | Done
_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)
F = TypeVar("F", bound=Frame)


class Line:
    """One end of a connection; for one thread at a time."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._connection = connection
        self._most_bytes = _MOST_GREETING_BYTES
        self._patience_s: float | None = None
        self._greeted_by: float | None = None

    def patience(self, seconds: float | None) -> None:
        """Say how long each wait may take; None: as long as the other end lives.

        A greeting may take no longer than three waits, however steadily its bytes come: strangers hold no connection.
        """
        self._patience_s = seconds
        if seconds is not None and self._most_bytes == _MOST_GREETING_BYTES:
            self._greeted_by = time.monotonic() + _GREETING_WAITS * seconds
        self._connection.settimeout(seconds)

    def trust(self) -> None:
        """Take frames of all sizes, now that it is known who is there."""
        self._most_bytes = MOST_FRAME_BYTES
        self._greeted_by = None
        self._connection.settimeout(self._patience_s)

    def send(self, frame: Frame, blocks: Sequence[memoryview] = ()) -> None:
        """Send a frame and the bytes that follow it; raises OSError."""
        body = _ENCODER.encode(frame)
        self._connection.sendall(len(body).to_bytes(_LENGTH_BYTES, "big") + body)
        left = list(blocks)
        while left:
            sent = self._connection.sendmsg(left[:_MOST_VIEWS])
            whole = 0
            while whole < len(left) and sent >= left[whole].nbytes:
                sent -= left[whole].nbytes
                whole += 1
            del left[:whole]
            if sent:
                left[0] = left[0][sent:]

    def receive(self, *kinds: type[F]) -> F:
        """Wait for a frame of one of these kinds; raises OSError where another comes, or none."""
        head = bytearray(_LENGTH_BYTES)
        self._fill(memoryview(head), self._greeted_by)
        length = int.from_bytes(head, "big")
        if length > self._most_bytes:
            raise OSError("what came is not of a store of KV")
        body = bytearray(length)
        self._fill(memoryview(body), self._greeted_by)
        try:
            frame = _DECODER.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise OSError("what came is not of a store of KV") from None
        if isinstance(frame, Refused):
            raise OSError(f"refused: {frame.reason[:500]}")
        if not isinstance(frame, kinds):
            raise OSError(f"a {type(frame).__name__} came out of turn")
        return frame

    def receive_blocks(self, into: Sequence[memoryview], patience_s: float) -> None:
        """Fill memory with the bytes that follow a frame; raises OSError, and nothing is written after that."""
        until = time.monotonic() + patience_s + sum(view.nbytes for view in into) / _SLOWEST_BYTES_S
        for view in into:
            self._fill(view, until)

    def close(self) -> None:
        """End the connection, also for a thread that waits for it."""
        with suppress(OSError):  # it had ended
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _fill(self, view: memoryview, until: float | None) -> None:
        while view.nbytes:
            if until is not None:
                self._connection.settimeout(max(1e-3, until - time.monotonic()))
            got = self._connection.recv_into(view)
            if not got:
                raise ConnectionResetError("the other store hung up")
            view = view[got:]


def ask_in(line: Line, purpose: Purpose, store: bytes, secret: bytes | None, prefix: bytes) -> Welcome:
    """Introduce ourselves to a giving store, as patient as the line is; OSError where one does not trust the other."""
    challenge = line.receive(Challenge)
    if challenge.version != VERSION:
        raise OSError(f"it speaks version {challenge.version} and we {VERSION}: both must be of one release")
    if secret is not None and not challenge.secret:
        raise OSError("it has no secret, and we ask for one")
    if secret is None and challenge.secret:
        raise OSError("it asks for a secret, and we have none")
    nonce = os.urandom(_NONCE_BYTES)
    both = (purpose.encode(), nonce, challenge.nonce)
    line.send(Hello(VERSION, purpose, store, nonce, _proof(secret, b"asking", *both), prefix))
    welcome = line.receive(Welcome)
    if not hmac.compare_digest(welcome.proof, _proof(secret, b"giving", *both)):
        raise OSError("it does not have our secret")
    line.trust()
    return welcome


def let_in(line: Line, store: bytes, secret: bytes | None, welcome: Welcome) -> Hello:
    """Let another store introduce itself; raises Unavailable with what to tell it, and OSError."""
    line.patience(GREETING_S)
    ours = os.urandom(_NONCE_BYTES)
    line.send(Challenge(VERSION, ours, secret is not None))
    hello = line.receive(Hello)
    if hello.version != VERSION:
        raise Unavailable(f"this store speaks version {VERSION}, not {hello.version}")
    both = (hello.purpose.encode(), hello.nonce, ours)
    if not hmac.compare_digest(hello.proof, _proof(secret, b"asking", *both)):
        raise Unavailable("the secret is not that of this store")
    line.send(msgspec.structs.replace(welcome, store=store, proof=_proof(secret, b"giving", *both)))
    line.trust()
    return hello


def _proof(secret: bytes | None, *parts: bytes) -> bytes:
    if secret is None:
        return b""
    mac = hmac.new(secret, digestmod="sha256")
    for part in parts:
        mac.update(len(part).to_bytes(4, "big") + part)
    return mac.digest()
