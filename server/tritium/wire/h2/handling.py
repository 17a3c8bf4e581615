"""Runs the handlers of a connection's calls, and turns how each ends into the status of its call."""

import asyncio

import structlog

from tritium.wire.grpc import GrpcError, Methods
from tritium.wire.h2.messages import Message, Packed
from tritium.wire.h2.outbox import Outbox
from tritium.wire.h2.stream import Stream
from tritium.wire.roster import Roster, was_cancelled
from tritium.wire.status import Status

log = structlog.get_logger("tritium.wire")


class Handling:
    """The handlers under way. One whose call was cancelled goes on, and counts, until it returns."""

    __slots__ = ("_methods", "_outbox", "_roster", "running")

    def __init__(self, methods: Methods, roster: Roster, outbox: Outbox) -> None:
        self._methods = methods
        self._roster = roster
        self._outbox = outbox
        self.running = 0

    def start_unary(self, stream: Stream, message: Message) -> None:
        """Run the handler of a unary call and send its reply."""
        self.running += 1
        if stream.method in self._methods.prompt:
            self._roster.begin(stream, self._unary(stream, message))
        else:
            self._roster.start(stream, self._unary(stream, message))

    def start_bidi(self, stream: Stream) -> None:
        """Run a streaming handler, which writes its replies itself, and end the call."""
        self.running += 1
        self._roster.start(stream, self._bidi(stream))

    async def _unary(self, stream: Stream, message: Message) -> None:
        try:
            if isinstance(message, Packed):
                message = await message.unpack()
            answer = await self._methods.unary[stream.method](message, stream)
            stream.reply(await stream.pack(answer) if stream.packs else answer)
        except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001  # however it ends, its call ends with it
            _fail(stream, fault)
        finally:
            self._done(stream)

    async def _bidi(self, stream: Stream) -> None:
        try:
            await self._methods.bidi[stream.method](stream, stream)
            stream.succeed()
        except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001  # likewise
            _fail(stream, fault)
        finally:
            self._done(stream)

    def _done(self, stream: Stream) -> None:
        self.running -= 1
        stream.forget_callbacks()
        del self._roster.running[stream]
        if not self.running:
            self._outbox.flush()


def _fail(stream: Stream, fault: BaseException) -> None:
    """End a call as its handler's exception says; a cancelled task stays cancelled."""
    match fault:
        case GrpcError():
            stream.fail(fault.status, fault.message)
        case asyncio.CancelledError():
            if was_cancelled(fault):
                stream.fail(Status.UNAVAILABLE, "the server is shutting down")
                raise fault
            stream.fail(Status.CANCELLED, "what the call waited for was cancelled")
        case _:
            log.error("grpc_handler_failed", method=stream.method, exc_info=fault)
            # grpc/doc/statuscodes.md: an application that throws ends its call with UNKNOWN.
            stream.fail(Status.UNKNOWN, f"unexpected {type(fault).__name__}: {fault}")
