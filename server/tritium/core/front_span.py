"""What a protocol's front adds to the trace of a request: when it came, was answered, and left.

    span = begin_front_span(server.trace_settings, model.name, HTTP, traceparent)    None unless it is traced
    model.submit(inference, span.watch(inference, reply) if span else reply)
    leave(span)                                                                     where nothing was submitted

Fronts ask `trace_settings.on` first: without tracing, a request pays for that.
"""

import asyncio
from enum import Enum
from typing import Final

from tritium.core.errors import InferenceError
from tritium.core.request import InferRequest, InferResponse, Reply
from tritium.core.trace import Trace
from tritium.core.trace_settings import TraceSettingsControl

HTTP: Final = ("HTTP_RECV", "HTTP_SEND")
GRPC: Final = ("GRPC_WAITREAD", "GRPC_SEND")
"""What receiving and sending are called."""


class _State(Enum):
    OPEN = "open"
    LEAVING = "leaving"
    CLOSED = "closed"


class FrontSpan:
    """A traced request at its front.

    OPEN --answered--> LEAVING --the loop's next turn--> CLOSED
      `---------------close, or cancelled--------------------^
    """

    __slots__ = ("_sending", "_state", "_trace")

    def __init__(self, trace: Trace, protocol: tuple[str, str]) -> None:
        receiving, self._sending = protocol
        self._trace = trace
        self._state = _State.OPEN
        # A front is handed whole requests: both moments are the one at which it was.
        trace.mark(f"{receiving}_START", trace.began_ns)
        trace.mark(f"{receiving}_END", trace.began_ns)

    def watch(self, inference: InferRequest, reply: Reply) -> Reply:
        """Trace a request, and return the reply to submit it with."""
        inference.trace = self._trace.root
        return _Watch(self, reply)

    def answered(self) -> None:
        """Note the last response, and that it leaves: by the loop's next turn it is with the operating system."""
        if self._state is _State.OPEN:
            self._state = _State.LEAVING
            self._trace.mark("INFER_RESPONSE_COMPLETE")
            self._trace.mark(f"{self._sending}_START")
            asyncio.get_running_loop().call_soon(self._sent)

    def close(self) -> None:
        """End the front's part, unless an answer is on its way."""
        if self._state is _State.OPEN:
            self._state = _State.CLOSED
            self._trace.close()

    def _sent(self) -> None:
        self._state = _State.CLOSED
        self._trace.mark(f"{self._sending}_END")
        self._trace.close()


class _Watch:
    """Passes responses on and sees the last."""

    __slots__ = ("_reply", "_span")

    def __init__(self, span: FrontSpan, reply: Reply) -> None:
        self._span = span
        self._reply = reply

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Pass a response on."""
        if final:
            if isinstance(response, InferenceError) and response.reason == "CANCELED":
                self._span.close()
            else:
                self._span.answered()
        self._reply.send(response, final=final)


def begin_front_span(
    settings: TraceSettingsControl,
    model: str,
    protocol: tuple[str, str],
    traceparent: bytes = b"",
    tracestate: bytes = b"",
) -> FrontSpan | None:
    """Return the front's span of a request that is to be traced; the headers are W3C's."""
    trace = settings.begin(model, traceparent.decode("latin-1"), tracestate.decode("latin-1"))
    return FrontSpan(trace, protocol) if trace is not None else None


def leave(span: FrontSpan | None) -> None:
    """End the front's part of a request that failed at the front, if it is traced."""
    if span is not None:
        span.close()
