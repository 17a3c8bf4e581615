"""The calls of one connection: which streams are open, what comes for them, and how each ends."""

from functools import partial

from tritium.wire.grpc import Effort, GrpcError, GrpcLimits, Methods
from tritium.wire.h2 import replies
from tritium.wire.h2.compressed import CompressedStream
from tritium.wire.h2.flow import Credit
from tritium.wire.h2.frames import Code, ConnectionFault, StreamFault, pack_reset, pack_window_update
from tritium.wire.h2.guard import RAPID_S, RESET_BURST, RESET_PER_S, Budget
from tritium.wire.h2.handling import Handling
from tritium.wire.h2.headers import Head
from tritium.wire.h2.messages import Assembler, Message
from tritium.wire.h2.outbox import Outbox
from tritium.wire.h2.stream import Stream
from tritium.wire.roster import Roster
from tritium.wire.status import Status

ENCODINGS = frozenset((b"identity", b"gzip", b"deflate"))
FORGIVEN = 1024
"""How many streams that we ended first are remembered: the peer may send more until it learns of it."""
UNTOLD = 16
"""How many times as many calls a peer may begin that has not acknowledged our settings: it cannot know the limit."""


class Calls:
    """The open streams of a connection, by id."""

    def __init__(self, methods: Methods, limits: GrpcLimits, roster: Roster, outbox: Outbox, peer: str) -> None:
        self.loop = roster.loop
        self.outbox = outbox
        self.peer = peer
        self.last_id = 0
        """The highest stream that a call was taken on, for GOAWAY."""
        self.refuse_above: int | None = None
        """Once set by a GOAWAY of ours, later streams are not looked at."""
        self._roster = roster
        self._methods = methods
        self._limits = limits
        self._handling = Handling(methods, roster, outbox)
        self._stream = partial(CompressedStream, methods) if methods.effort is not Effort.NONE else Stream
        self._streams: dict[int, Stream] = {}
        self._forgiven: dict[int, bool] = {}
        """The streams that we ended first, and whether the peer was told to stop sending."""
        self.limits_known = False
        """Whether the peer has acknowledged our settings."""
        self._resets = Budget("calls reset at once", RESET_BURST, RESET_PER_S, self.loop.time)

    def __len__(self) -> int:
        """Count the open streams."""
        return len(self._streams)

    @property
    def server_leaves(self) -> bool:
        """Tell whether the server is shutting down."""
        return self._roster.closing

    # opening

    def open(self, stream_id: int, head: Head, *, half_closed: bool) -> None:
        """Take a new call.

        Raises:
            StreamFault: The head breaks HTTP/2, or there are too many calls already.
        """
        self.last_id = stream_id
        if self.refuse_above is not None and stream_id > self.refuse_above:
            return
        if head.malformed:
            raise StreamFault(stream_id, Code.PROTOCOL_ERROR, head.malformed)
        limits = self._limits
        most = limits.concurrent_streams if self.limits_known else UNTOLD * limits.concurrent_streams
        if (
            len(self._streams) >= most
            or self._handling.running >= most
            or self.outbox.pending_bytes > limits.unsent_bytes
        ):
            raise StreamFault(stream_id, Code.REFUSED_STREAM, "too many calls at once")
        assembler = Assembler(head.encoding, limits.message_bytes)
        stream = self._stream(self, stream_id, head, assembler, Credit(limits.stream_window))
        self._streams[stream_id] = stream
        stream.half_closed = half_closed
        if head.http_status != 200:
            self.outbox.refuse(stream.outlet, replies.http_refusal(head.http_status))
            return
        if head.encoding not in ENCODINGS:
            stream.fail(Status.UNIMPLEMENTED, f"grpc-encoding {head.encoding.decode('latin-1')} is not supported")
            return
        stream.start_clock()
        if head.path in self._methods.bidi:
            stream.streaming = True
            self._handling.start_bidi(stream)
        elif head.path not in self._methods.unary:
            stream.fail(Status.UNIMPLEMENTED, "")  # as grpc's core says it: with nothing
        elif half_closed:
            self._half_close(stream)

    def trailers(self, stream_id: int, *, ends_stream: bool) -> bool:
        """Take a second header block; False if the stream was not open, so that the block cannot be one.

        Raises:
            StreamFault: The block does not end the stream, or the stream had ended before.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return False
        if stream.half_closed:
            raise StreamFault(stream_id, Code.STREAM_CLOSED, "HEADERS after the end of the stream")
        if not ends_stream:
            raise StreamFault(stream_id, Code.PROTOCOL_ERROR, "trailers that do not end the stream")
        self._half_close(stream)
        return True

    def forgives(self, stream_id: int) -> bool:
        """Tell whether the peer may have sent on this closed stream in good faith."""
        return stream_id in self._forgiven or (self.refuse_above is not None and stream_id > self.refuse_above)

    # receiving

    def data(self, stream_id: int, piece: memoryview, held: int, *, last: bool) -> None:
        """Hand a piece of DATA to its stream; `held` is what its frame takes of the window, told with the first piece.

        Raises:
            ConnectionFault: The stream was never open.
            StreamFault: The stream is closed, or its window is exceeded.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            self._data_without_stream(stream_id)
            return
        if stream.half_closed:
            raise StreamFault(stream_id, Code.STREAM_CLOSED, "DATA after the end of the stream")
        if not stream.credit.take(held):
            raise StreamFault(stream_id, Code.FLOW_CONTROL_ERROR, "DATA beyond the stream's window")
        if stream.over:
            stream.half_closed = last
            return
        stream.received += len(piece)
        try:
            messages = stream.assembler.feed(piece)
        except GrpcError as error:
            self._fail(stream, error, last=last)
        else:
            self._received(stream, messages, held, last=last)

    def _data_without_stream(self, stream_id: int) -> None:
        if not stream_id & 1 or stream_id > self.last_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"DATA on stream {stream_id}, which is idle")
        if not self.forgives(stream_id):
            raise StreamFault(stream_id, Code.STREAM_CLOSED, "DATA on a closed stream")
        if self._forgiven.get(stream_id) is False:
            # The answer was complete before the request is: the rest of it is not wanted (RFC 9113, 8.1).
            self._forgiven[stream_id] = True
            self.outbox.control(pack_reset(stream_id, Code.NO_ERROR))

    def filled(self, stream_id: int, size: int, *, last: bool) -> None:
        """Tell a stream, if it is still there, that DATA was read straight into its message."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.received += size
        try:
            messages = stream.assembler.filled(size)
        except GrpcError as error:
            self._fail(stream, error, last=last)
        else:
            self._received(stream, messages, 0, last=last)

    def vacancy(self, stream_id: int) -> memoryview | None:
        """Offer the memory of the message that a stream is receiving."""
        stream = self._streams.get(stream_id)
        return None if stream is None or stream.over or stream.half_closed else stream.assembler.vacancy()

    def _fail(self, stream: Stream, error: GrpcError, *, last: bool) -> None:
        stream.half_closed = last
        stream.fail(error.status, error.message)
        stream.cancel()

    def _received(self, stream: Stream, messages: list[Message], held: int, *, last: bool) -> None:
        if messages:
            stream.deliver(messages)
        if last:
            self._half_close(stream)
        else:
            self.give_credit(stream, held)

    def give_credit(self, stream: Stream, held: int) -> None:
        """Let the peer send more on a stream, as long as its handler keeps up."""
        stream.owed += held
        if stream.held < self._limits.stream_window and not stream.half_closed:
            credit = stream.credit.give(stream.owed)
            stream.owed = 0
            if credit:
                self.outbox.control(pack_window_update(stream.id, credit))

    def _half_close(self, stream: Stream) -> None:
        """Take the end of the requests; for a unary call this is when its handler starts."""
        stream.close_half()
        if stream.over:
            return
        if stream.head.content_length not in (None, stream.received):
            self.reset(stream.id, Code.PROTOCOL_ERROR)
            return
        if not stream.assembler.between_messages:
            stream.fail(Status.INTERNAL, "the requests ended in the middle of a message")
        elif not stream.streaming:
            if stream.requests == 1:
                self._handling.start_unary(stream, stream.only_request())
            else:
                stream.fail(Status.INTERNAL, f"a unary call takes one request, not {stream.requests}")

    # ending

    def widen(self, stream_id: int, credit: int) -> None:
        """Take a WINDOW_UPDATE of a stream; one that has ended does not mind."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self.outbox.widen_stream(stream.outlet, credit)
        elif stream_id > self.last_id or not stream_id & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"WINDOW_UPDATE on stream {stream_id}, which is idle")

    def ended(self, stream_id: int) -> None:
        """Forget a stream whose last frame has left."""
        stream = self._streams.pop(stream_id)
        stream.stop_clock()
        if not stream.half_closed:
            # No reset as long as it sends nothing: some clients (grpcio's) take it for an error that beats the status.
            self._forgive(stream_id, told=False)
        self._resets.refund()

    def reset(self, stream_id: int, code: Code) -> None:
        """End a stream by RST_STREAM, for what its peer did; it may be gone already."""
        stream = self._streams.pop(stream_id, None)
        self._forgive(stream_id, told=True)
        self.outbox.control(pack_reset(stream_id, code))
        if stream is not None:
            self.outbox.drop(stream.outlet)
            stream.cancel()

    def reset_by_peer(self, stream_id: int) -> None:
        """Cancel the call of a stream.

        Raises:
            ConnectionFault: The stream was never open, or the peer opens and resets calls as an attack.
        """
        stream = self._streams.pop(stream_id, None)
        if stream is None:
            if stream_id > self.last_id or not stream_id & 1:
                raise ConnectionFault(Code.PROTOCOL_ERROR, f"RST_STREAM on stream {stream_id}, which is idle")
            return
        self.outbox.drop(stream.outlet)
        stream.cancel()
        if self.loop.time() - stream.born < RAPID_S:
            self._resets.spend()

    def cancel_all(self) -> None:
        """Cancel every call: the connection is lost."""
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            self.outbox.drop(stream.outlet)
            stream.cancel()

    def resize(self, initial_window: int) -> None:
        """Take the peer's SETTINGS_INITIAL_WINDOW_SIZE."""
        self.outbox.resize(initial_window, [stream.outlet for stream in self._streams.values()])

    def expire(self, now: float) -> None:
        """Reset the calls whose finished answer the peer does not take."""
        for stream_id in self.outbox.stalled(now, self._limits.stall_s):
            self.reset(stream_id, Code.CANCEL)

    def _forgive(self, stream_id: int, *, told: bool) -> None:
        self._forgiven[stream_id] = told
        if len(self._forgiven) > FORGIVEN:
            del self._forgiven[next(iter(self._forgiven))]
