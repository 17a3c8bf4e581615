"""One HTTP request on the OpenAI port: its id, its headers, whose it is, and what is done when it is over."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tritium.cluster.fleet import RouteReport
from tritium.core.errors import InferenceError
from tritium.llm.errors import FieldRefused
from tritium.openai.deadline import Deadline
from tritium.openai.keys.account import Account
from tritium.openai.schema import Reader, T
from tritium.wire.http import Headers, Request

_MAX_ID_CHARACTERS = 256


@dataclass(slots=True)
class Visit:
    """One HTTP request on the OpenAI routes. Its id is in every answer: the client's x-request-id, or one of ours."""

    request: Request
    id: str
    named: bool = False
    """Whether the client chose the id."""
    explain: bool = False
    worker: str = ""
    """The worker that the client wants its generations on."""
    session: str = ""
    """What the request belongs to, where the router is to keep that together."""
    lenient: bool = False
    """Whether fields that nobody knows are passed over."""
    argument: str = ""
    """What stands in the hole of the route's path, such as a model's name."""
    shared: tuple[tuple[bytes, bytes], ...] = ()
    """Headers that every answer gets beside the id, such as those of CORS."""
    account: Account | None = None
    """The books of the client's API key; None where no key is asked."""
    deadline: Deadline | None = None
    """How long it may take; None where it may take any time."""
    arrived_s: float = field(default_factory=time.monotonic)
    on_over: Callable[[], None] | None = None
    """Called once when the visit ends, however it does."""

    def read(self, reader: Reader[T]) -> T:
        """Return the request's body.

        Raises:
            FieldRefused: it is no JSON, or a field of it is at fault.
        """
        return reader.read(self.request.body, ignore_unknown=self.lenient)

    def take_id(self, request_id: str | None) -> None:
        """Take the id from the request's body, where its headers have none.

        Raises:
            FieldRefused: it could not stand in a header.
        """
        if not request_id or self.named:
            return
        if len(request_id) > _MAX_ID_CHARACTERS or not (request_id.isascii() and request_id.isprintable()):
            raise FieldRefused("request_id", f"request_id takes up to {_MAX_ID_CHARACTERS} printable ASCII characters")
        self.id, self.named = request_id, True

    @property
    def tenant(self) -> str:
        """Return whom the request is for: the name of its API key, or where no key is asked what the client says."""
        if self.account is not None:
            return self.account.name
        return self.request.header(b"x-tritium-tenant").decode("latin-1")[:_MAX_ID_CHARACTERS]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that every answer carries."""
        return [(b"x-request-id", self.id.encode("latin-1", "replace")), *self.shared]

    @property
    def too_late(self) -> InferenceError | None:
        """Return what the client is told, where the request has taken longer than it may."""
        return self.deadline.error if self.deadline is not None else None

    def spend(self, prompt_tokens: int, answer_tokens: int) -> None:
        """Enter tokens into the books of whoever asked."""
        if self.account is not None:
            self.account.spend(prompt_tokens, answer_tokens, time.monotonic())

    def end(self) -> None:
        """Say that the visit is over; harmless when said before."""
        if self.deadline is not None:
            self.deadline.end()
        on_over, self.on_over = self.on_over, None
        if on_over is not None:
            on_over()

    def answer_headers(self, content_type: bytes, route: RouteReport | None) -> Headers:
        """Return the headers of a successful answer; with `x-tritium-explain: 1` they tell the route."""
        headers = [(b"content-type", content_type), *self.headers]
        if self.explain and route is not None:
            headers += [
                (b"x-tritium-worker", route.worker.encode()),
                (b"x-tritium-because", route.because.encode("ascii", "replace")),
                (b"x-tritium-overlap", b"%d/%d" % (route.overlap_blocks, route.prompt_blocks)),
            ]
            if route.price is not None:
                headers.append((b"x-tritium-cost", b"%.4g; %b" % (route.cost, route.price.told.encode())))
            if route.prefill_worker:
                headers.append((b"x-tritium-prefill-worker", route.prefill_worker.encode()))
        return headers
