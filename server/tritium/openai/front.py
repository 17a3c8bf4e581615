"""The OpenAI port on the wire protocol directly: request id, key, route, answer or error object.

request -> id -> key -> route (openai.routes) -> admission -> what serves it
       `-> a browser's question (openai.cors)      `-> documentation and loading of models: an application
                                                       built at its first request
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence

import structlog

from tritium.core.errors import InferenceError, Internal, Overloaded
from tritium.llm.models import LanguageModels
from tritium.openai.cors import Cors
from tritium.openai.deadline import Deadline
from tritium.openai.endpoints import Endpoint, RouteTable
from tritium.openai.errors import Forbidden, error_response
from tritium.openai.keys.account import Account
from tritium.openai.keys.permitted import PermittedModels
from tritium.openai.keys.ring import KeyRing
from tritium.openai.messages.errors import anthropic_response
from tritium.openai.options import OpenAIOptions
from tritium.openai.routes import endpoints
from tritium.openai.status import MetricsPage
from tritium.openai.visit import Visit
from tritium.wire.asgi import asgi_handler
from tritium.wire.http import Handler, Request, Response

log = structlog.get_logger()

_DOCUMENTS = frozenset({"/docs", "/docs/oauth2-redirect", "/openapi.json"})
_MESSAGES = "/v1/messages"


def openai_handler(
    models: LanguageModels, options: OpenAIOptions, metrics: MetricsPage = str, keys: KeyRing | None = None
) -> Handler:
    """Return the handler of the OpenAI port.

    `metrics` writes the page of GET /metrics; without `keys` everybody is let in.
    """
    return _Front(models, options, endpoints(options, metrics), keys).handle


class _Front:
    def __init__(
        self, models: LanguageModels, options: OpenAIOptions, served: Sequence[Endpoint], keys: KeyRing | None
    ) -> None:
        self._models = models
        self._options = options
        self._routes = RouteTable(served)
        self._cors = Cors(options.cors_origins) if options.cors_origins else None
        self._keys = keys
        self._inflight = 0
        self._admin: asyncio.Task[Handler] | None = None

    async def handle(self, request: Request) -> Response | None:
        """Answer one request; every error becomes OpenAI's error object, or Anthropic's on its routes."""
        visit = _visit(request)
        visit.lenient = self._options.ignore_unknown
        if self._cors is not None:
            visit.shared = self._cors.headers(request)
        try:
            if request.method == "OPTIONS":
                return self._answer_options(visit)
            if _is_admin(request.path):
                self._let_in(visit, admin=request.path not in _DOCUMENTS)
                return await self._administer(request)
            found = self._routes.find(request.method, request.path)
            if not found.endpoint.open:
                self._let_in(visit, admin=found.endpoint.admin)
            if found.endpoint.counted:
                self._admit(visit)
            visit.argument = found.argument
            response = await found.endpoint.serve(visit, self._permitted(visit), self._options)
            if found.endpoint.brief:
                visit.end()
            return response  # noqa: TRY300  what follows are errors
        except asyncio.CancelledError:
            visit.end()
            late, task = visit.too_late, asyncio.current_task()
            if late is None or task is None or task.uncancel():
                raise
            return _refused(visit, late)
        except InferenceError as error:
            return _refused(visit, error)
        except Exception:
            log.exception("openai_request_failed", path=request.path, request_id=visit.id)
            return _refused(visit, Internal("the server failed; its log has the reason"))

    def _answer_options(self, visit: Visit) -> Response:
        """Say what a path takes: to a browser that asks before it sends, or to whoever asks."""
        request = visit.request
        allowed = self._routes.allowed(request.path) or "GET, POST, OPTIONS"
        preflight = self._cors.preflight(request, allowed) if self._cors is not None else ()
        return Response(204, [(b"allow", allowed.encode()), *preflight, *visit.headers])

    async def _administer(self, request: Request) -> Response | None:
        if self._admin is None:
            self._admin = asyncio.create_task(asyncio.to_thread(_build_admin, self._models, self._routes.endpoints))
        # Shielded: who waits for it may be cancelled, and it is built for everybody.
        return await (await asyncio.shield(self._admin))(request)

    def _let_in(self, visit: Visit, *, admin: bool) -> None:
        """Find out whose visit it is.

        Raises:
            Unauthorized: no key, or none that is known.
            Forbidden: the key may not load or unload.
        """
        if self._keys is None or self._keys.open:
            return
        visit.account = self._keys.find(_key(visit.request))
        if admin and not visit.account.entry.admin:
            raise Forbidden("This API key may not load or unload models.", hint="its entry needs admin = true")

    def _permitted(self, visit: Visit) -> LanguageModels:
        account = visit.account
        if account is None or account.entry.models is None:
            return self._models
        return PermittedModels(self._models, account.entry)

    def _admit(self, visit: Visit) -> None:
        """Give a visit a place among those under way.

        Raises:
            Overloaded: there is none, or its key has reached a limit.
        """
        if self._options.max_inflight and self._inflight >= self._options.max_inflight:
            raise Overloaded(f"{self._inflight} requests are under way, the most this server takes")
        account = visit.account
        if account is not None:
            now_s = time.monotonic()
            try:
                account.admit(now_s)
            finally:
                visit.shared = (*visit.shared, *account.headers(now_s))
        if self._options.timeout_s:
            visit.deadline = Deadline(self._options.timeout_s)
        self._inflight += 1
        visit.on_over = self._leave if account is None else self._leave_of(account)

    def _leave(self) -> None:
        self._inflight -= 1

    def _leave_of(self, account: Account) -> Callable[[], None]:
        def leave() -> None:
            account.leave()
            self._leave()

        return leave


def _key(request: Request) -> bytes:
    """Return the key as OpenAI's clients send it, or Anthropic's."""
    scheme, _, key = request.header(b"authorization").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else request.header(b"x-api-key")


def _refused(visit: Visit, error: InferenceError) -> Response:
    """End the visit with an error, in the shape that its client reads."""
    visit.end()
    if visit.request.path.startswith(_MESSAGES) or visit.request.header(b"anthropic-version"):
        return anthropic_response(error, visit)
    return error_response(error, visit.headers)


def _is_admin(path: str) -> bool:
    return path in _DOCUMENTS or (path.startswith("/v1/models/") and path.endswith(("/load", "/unload")))


def _build_admin(models: LanguageModels, served: Sequence[Endpoint]) -> Handler:
    from tritium.openai.admin import admin_app  # noqa: PLC0415  half a second, which a server without need is spared

    return asgi_handler(admin_app(models, served))


def _visit(request: Request) -> Visit:
    given = request.header(b"x-request-id")
    return Visit(
        request,
        given.decode("latin-1") if given else f"{random.getrandbits(96):024x}",
        named=bool(given),
        explain=request.header(b"x-tritium-explain") == b"1",
        worker=request.header(b"x-tritium-worker").decode("latin-1"),
        session=request.header(b"x-tritium-session").decode("latin-1"),
    )
