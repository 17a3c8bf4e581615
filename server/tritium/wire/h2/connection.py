"""One HTTP/2 connection that carries gRPC calls: the socket, the frames that concern all of it, and its end.

GREETING --preface, SETTINGS--> OPEN --wind_down, GOAWAY--> DRAINING --last call ended--> closed
|                            |                              |
+--------- ConnectionFault: GOAWAY with its code -----------+-----------------------> closed
"""

import asyncio
import random

import structlog

from tritium.wire.gate import Gate
from tritium.wire.grpc import GrpcLimits, Methods
from tritium.wire.h2.batch import Batch
from tritium.wire.h2.blocks import BlockCollector
from tritium.wire.h2.calls import Calls
from tritium.wire.h2.flow import Credit
from tritium.wire.h2.frames import (
    ACK,
    DEFAULT_FRAME_BYTES,
    STREAM_MASK,
    Code,
    ConnectionFault,
    Kind,
    Setting,
    StreamFault,
    pack_frame,
    pack_goaway,
    pack_window_update,
)
from tritium.wire.h2.guard import CONTROL_BURST, CONTROL_PER_S, Budget
from tritium.wire.h2.headers import HeadDecoder
from tritium.wire.h2.keepalive import Pings
from tritium.wire.h2.outbox import TURN_BYTES, Outbox
from tritium.wire.h2.reader import DIRECT_BYTES, FrameReader
from tritium.wire.h2.settings import DATA_FRAME_BYTES, pack_hello, unpack_settings
from tritium.wire.roster import Roster

LINGER_S = 2.0
"""How long a peer that was given up on may take to read why."""
NEVER = float("inf")
FAREWELL = b"farewell"
"""The PING behind the first GOAWAY: once it is answered, no call can be on its way any more."""
ARE_YOU_THERE = b"keepaliv"
NOT_HTTP2 = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 54\r\nconnection: close\r\n\r\n"
    b'{"error":"this port speaks gRPC, which needs HTTP/2"}\n'
)
_HEADERS = int(Kind.HEADERS)
_WINDOW_UPDATE = int(Kind.WINDOW_UPDATE)

log = structlog.get_logger("tritium.wire")


def scratch_bytes(limits: GrpcLimits) -> int:
    """Return how much memory a listener's connections need to read into."""
    return max(256 << 10, limits.header_bytes + DIRECT_BYTES + 64)


class GrpcConnection(asyncio.BufferedProtocol):
    """The protocol of one accepted socket."""

    def __init__(self, methods: Methods, limits: GrpcLimits, roster: Roster) -> None:
        self._methods = methods
        self._limits = limits
        self._roster = roster
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # these three are set when it is made
        self._outbox: Outbox = None  # type: ignore[assignment]
        self._calls: Calls = None  # type: ignore[assignment]
        self._gate = Gate()
        frame_limit = max(limits.header_bytes, DEFAULT_FRAME_BYTES)
        self._reader = FrameReader(self, roster.scratch, data_limit=DATA_FRAME_BYTES, frame_limit=frame_limit)
        self._blocks = BlockCollector(limits.header_bytes)
        self._decoder = HeadDecoder(list_bytes=limits.header_bytes)
        self._credit = Credit(limits.connection_window)
        self._controls = Budget("control frames", CONTROL_BURST, CONTROL_PER_S, roster.loop.time)
        self._since = now = roster.loop.time()
        self._pings = Pings(limits.keepalive, now)
        self._heard = False
        self._retires_at = retirement(limits.keepalive.age_s, now)
        self._ends_at = NEVER
        self._leaving = ""
        self._unsent = 0
        self._greeted = False
        self._closed = False

    # the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the accepted socket."""
        self._transport = transport  # type: ignore[assignment]  # a stream transport, by the way it is created
        peer = transport.get_extra_info("peername")
        name = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "local"
        self._outbox = Outbox(Batch(self._transport, self._roster.loop), self._gate, self._on_ended)
        self._calls = Calls(self._methods, self._limits, self._roster, self._outbox, name)
        self._roster.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # how it was lost changes nothing
        """Cancel every call: nobody waits for it any more."""
        self._closed = True
        self._roster.strike(self)
        self._calls.cancel_all()
        self._reader.leave()
        self._outbox.leave()

    def eof_received(self) -> bool:
        """Close: a client that sends nothing more cannot even acknowledge."""
        return False

    def pause_writing(self) -> None:
        """Hold messages back: the client does not read."""
        self._gate.close()

    def resume_writing(self) -> None:
        """Send what was held back."""
        self._gate.open()
        self._outbox.pump()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # the loop's wish is its own constant
        """Offer memory to read into."""
        return self._reader.offer()

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        if self._closed:
            return
        self._heard = True
        try:
            self._reader.advance(nbytes)
        except ConnectionFault as fault:
            self._give_up(fault)

    # frames, as the reader cuts them

    def on_data(self, stream_id: int, piece: memoryview, held: int, *, last: bool) -> None:
        """Take a piece of DATA."""
        if self._closed:
            return
        if not piece and not last:
            self._controls.spend()
        self._account(stream_id, held)
        try:
            self._calls.data(stream_id, piece, held, last=last)
        except StreamFault as fault:
            self._reset(fault)

    def vacancy(self, stream_id: int) -> memoryview | None:
        """Offer the memory of the message that a stream is receiving."""
        return self._calls.vacancy(stream_id)

    def on_filled(self, stream_id: int, size: int, *, last: bool) -> None:
        """Note that DATA was read straight into a message."""
        self._calls.filled(stream_id, size, last=last)

    def on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Take any frame but DATA."""
        if self._closed:
            return
        try:
            if self._blocks.stream_id and kind != Kind.CONTINUATION:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block is interrupted by another frame")
            if kind == _HEADERS and self._greeted:
                block = self._blocks.begin(flags, stream_id, payload)
                if block is not None:
                    self._on_block(stream_id, block)
            elif kind == _WINDOW_UPDATE and self._greeted:
                self._on_window_update(stream_id, payload)
            else:
                self._on_rare(kind, flags, stream_id, payload)
        except StreamFault as fault:
            self._reset(fault)

    def _on_rare(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Take the frames that a well-behaved peer sends seldom; who sends too many is cut off."""
        self._controls.spend()
        if not self._greeted and kind != Kind.SETTINGS:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        match kind:
            case Kind.CONTINUATION:
                block = self._blocks.more(flags, stream_id, payload)
                if block is not None:
                    self._on_block(stream_id, block)
            case Kind.SETTINGS:
                self._on_settings(flags, stream_id, payload)
            case Kind.PING:
                self._on_ping(flags, stream_id, payload)
            case Kind.RST_STREAM:
                _expect(payload, 4, stream_id, on_stream=True)
                self._calls.reset_by_peer(stream_id)
                self._controls.refund()  # resets have a budget of their own
                self._close_if_done()
            case Kind.GOAWAY:
                # The peer opens no more streams; the ones that are open go on.
                if stream_id:
                    raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY on a stream")
            case Kind.PRIORITY:
                if not stream_id:
                    raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY on stream 0")
                if len(payload) != 5:
                    raise StreamFault(stream_id, Code.FRAME_SIZE_ERROR, "PRIORITY is not five bytes")
            case Kind.PUSH_PROMISE:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a client cannot push")
            case _:
                pass  # an extension; RFC 9113, 5.5

    def _on_block(self, stream_id: int, block: bytes) -> None:
        calls = self._calls
        if not stream_id & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"a client cannot open stream {stream_id}")
        if stream_id <= calls.last_id:
            ends_stream = self._blocks.ends_stream
            self._decoder.fields(block)
            if not calls.trailers(stream_id, ends_stream=ends_stream) and not calls.forgives(stream_id):
                raise ConnectionFault(Code.STREAM_CLOSED, f"HEADERS on stream {stream_id}, which is closed")
            return
        calls.open(stream_id, self._decoder.head(block), half_closed=self._blocks.ends_stream)

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        _expect(payload, 4)
        self._pings.forgive()
        credit = int.from_bytes(payload, "big") & STREAM_MASK
        if not credit:
            if stream_id:
                raise StreamFault(stream_id, Code.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
            raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        if stream_id:
            self._calls.widen(stream_id, credit)
        else:
            self._outbox.widen(credit)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            _expect(payload, 0)
            self._calls.limits_known = True
            return
        settings = unpack_settings(payload)
        # The answer goes first: a client counts its new windows from there (RFC 9113, 6.5.3). The hello waits for the
        # client's greeting, so that whoever speaks HTTP/1 to this port can still be told.
        hello = b"" if self._greeted else pack_hello(self._limits)
        self._greeted = True
        self._outbox.control(hello + pack_frame(Kind.SETTINGS, ACK, 0))
        for key, value in settings:
            if key == Setting.INITIAL_WINDOW_SIZE:
                self._calls.resize(value)
            elif key == Setting.MAX_FRAME_SIZE:
                self._outbox.frame_bytes = min(value, TURN_BYTES)

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING on a stream")
        _expect(payload, 8)
        if not flags & ACK:
            self._outbox.control(pack_frame(Kind.PING, ACK, 0, payload))
            self._pings.received(self._roster.loop.time(), self._sent(), idle=not self._calls)
        elif payload == FAREWELL and self._leaving:
            self._calls.refuse_above = self._calls.last_id
            self._outbox.control(pack_goaway(self._calls.last_id, Code.NO_ERROR, self._leaving))
            self._close_if_done()

    def _sent(self) -> tuple[int, int]:
        """Return what changes whenever headers or messages leave."""
        return self._outbox.window, self._calls.last_id

    def _account(self, stream_id: int, held: int) -> None:
        """Count DATA against the connection's window, whatever becomes of it, and give the window back."""
        if self._blocks.stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block is interrupted by DATA")
        if not stream_id or not self._greeted:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "DATA without a stream")
        if not held:
            return
        if not self._credit.take(held):
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "DATA beyond the connection's window")
        credit = self._credit.give(held)
        if credit:
            self._outbox.control(pack_window_update(0, credit))

    # ending

    def _on_ended(self, stream_id: int) -> None:
        self._calls.ended(stream_id)
        self._controls.refund()
        self._close_if_done()

    def _reset(self, fault: StreamFault) -> None:
        self._controls.spend()
        self._calls.reset(fault.stream_id, fault.code)
        self._close_if_done()

    def _give_up(self, fault: ConnectionFault) -> None:
        log.info("grpc_peer_fault", peer=self._calls.peer, code=fault.code.name, reason=fault.reason)
        if self._reader.greeted:
            self._outbox.control(pack_goaway(self._calls.last_id, fault.code, fault.reason))
        else:
            self._outbox.control(NOT_HTTP2)
        self._closed = True
        self._since = self._roster.loop.time()
        self._calls.cancel_all()
        self._outbox.flush()
        # Closing at once, with input unread, would destroy the GOAWAY on its way.
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _close_if_done(self) -> None:
        if self._calls.refuse_above is not None and not self._calls:
            self._outbox.flush()
            self._transport.close()

    def wind_down(self) -> None:
        """Ask the client to go, and close when the calls under way have ended."""
        if not self._greeted or self._closed:
            self._transport.abort()
        elif not self._leaving:
            self._leave("the server is shutting down")

    def _leave(self, reason: str) -> None:
        self._leaving = reason
        goaway = pack_goaway(STREAM_MASK, Code.NO_ERROR, reason)
        self._outbox.control(goaway + pack_frame(Kind.PING, 0, 0, FAREWELL))

    def abort(self) -> None:
        """Drop the connection at once."""
        self._transport.abort()

    def expire(self, now: float) -> None:
        """End what the client takes too long over; called every so often."""
        unsent = self._transport.get_write_buffer_size()
        limit = LINGER_S if self._closed else self._limits.handshake_s
        if self._greeted and not self._closed:
            limit = self._limits.stall_s
            if unsent == 0 or unsent < self._unsent:
                self._since = now
            self._calls.expire(now)
            self._close_if_done()
            self._keep_alive(now)
        self._unsent = unsent
        if limit and now - self._since > limit:
            self._transport.abort()

    def _keep_alive(self, now: float) -> None:
        """Ask a silent client whether it is there, and send one away whose connection is old."""
        keepalive = self._limits.keepalive
        heard, self._heard = self._heard, False
        if self._pings.due(now, self._sent(), heard=heard, idle=not self._calls):
            self._outbox.control(pack_frame(Kind.PING, 0, 0, ARE_YOU_THERE))
        elif self._pings.lost(now) or now > self._ends_at:
            log.info("grpc_connection_ended", peer=self._calls.peer, why="age" if now > self._ends_at else "silence")
            self._transport.abort()
        elif now > self._retires_at and not self._leaving:
            self._leave("max_age")
            if keepalive.age_grace_s:
                self._ends_at = now + keepalive.age_grace_s


def retirement(age_s: float, now: float) -> float:
    """Return when a connection made now is too old; not all that were made together go together."""
    return now + age_s * random.uniform(0.9, 1.1) if age_s else NEVER  # noqa: S311  # no secret


def _expect(payload: bytes, size: int, stream_id: int = 1, *, on_stream: bool = False) -> None:
    if len(payload) != size:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of {len(payload)} bytes should have {size}")
    if on_stream and not stream_id:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame for a stream came without one")
