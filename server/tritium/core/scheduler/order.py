"""Responses in the order in which their requests were started (`preserve_ordering`)."""

from collections import deque

from tritium.core.errors import InferenceError
from tritium.core.request import InferResponse, Reply


class Turnstile:
    """Lets the responses of the request at the head through, and holds those of the others back."""

    def __init__(self) -> None:
        self._queue: deque[_Ticket] = deque()

    def join(self, reply: Reply) -> Reply:
        """Return a reply that delivers to `reply` once every request that joined before is answered."""
        ticket = _Ticket(self, reply)
        self._queue.append(ticket)
        return ticket

    def advance(self) -> None:
        """Let through what may pass now."""
        queue = self._queue
        while queue and queue[0].release():
            queue.popleft()


class _Ticket:
    __slots__ = ("_held", "_reply", "_turnstile")

    def __init__(self, turnstile: Turnstile, reply: Reply) -> None:
        self._turnstile = turnstile
        self._reply = reply
        self._held: deque[tuple[InferResponse | InferenceError | None, bool]] = deque()

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Hold one response until it is this request's turn."""
        self._held.append((response, final))
        self._turnstile.advance()

    def release(self) -> bool:
        """Deliver what is held; tell whether the last response was among it."""
        while self._held:
            response, final = self._held.popleft()
            self._reply.send(response, final=final)
            if final:
                return True
        return False
