"""The pings of one connection: those its client may send, and those that ask a silent client whether it is there.

    QUIET --ping_s of silence--> ASKED --anything is heard--> QUIET
                                   |
                                   +--answer_s--> lost

What counts as a strike is what gRPC's core counts (chttp2/transport/ping_abuse_policy.cc).
"""

from tritium.wire.grpc import Keepalive
from tritium.wire.h2.frames import Code, ConnectionFault

IDLE_PING_S = 7200.0
"""How often a client may ping a connection without calls, where that is not permitted."""
TOO_MANY_PINGS = "too_many_pings"
"""grpc's clients look for this text, and double the time between their pings."""


class Pings:
    """The state above. `sent` is anything that changes when headers or messages leave."""

    __slots__ = ("_asked", "_heard_at", "_last", "_limits", "_sent", "_strikes", "_without_data")

    def __init__(self, limits: Keepalive, now: float) -> None:
        self._limits = limits
        self._heard_at = now
        self._asked: float | None = None
        self._without_data = 0
        self._sent: object = None
        self._last: float | None = None
        self._strikes = 0

    def received(self, now: float, sent: object, *, idle: bool) -> None:
        """Take a ping of the client's; `idle` tells that the connection has no call.

        Raises:
            ConnectionFault: The client pings too often.
        """
        limits = self._limits
        self._note(sent)
        last, self._last = self._last, now
        least = IDLE_PING_S if idle and not limits.without_calls else limits.client_ping_s
        if last is None or now - last >= least:
            return
        self._strikes += 1
        if limits.strikes and self._strikes > limits.strikes:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, TOO_MANY_PINGS)

    def _note(self, sent: object) -> None:
        if sent != self._sent:
            self._sent = sent
            self.forgive()

    def forgive(self) -> None:
        """Begin to count afresh: something else than pings has passed."""
        self._last = None
        self._strikes = 0
        self._without_data = 0

    def due(self, now: float, sent: object, *, heard: bool, idle: bool) -> bool:
        """Tell whether to ping the client now; `heard` tells that it sent anything since this was last asked."""
        limits = self._limits
        self._note(sent)
        if heard:
            self._heard_at = now
            self._asked = None
        if (
            not limits.ping_s
            or self._asked is not None
            or now - self._heard_at < limits.ping_s
            or (idle and not limits.without_calls)
            or (limits.pings_without_data and self._without_data >= limits.pings_without_data)
        ):
            return False
        self._asked = now
        self._without_data += 1
        return True

    def lost(self, now: float) -> bool:
        """Tell whether the client has left a ping unanswered for too long."""
        return self._asked is not None and bool(self._limits.answer_s) and now - self._asked > self._limits.answer_s
