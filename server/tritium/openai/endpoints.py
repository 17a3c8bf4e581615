"""What a route of the OpenAI port is, and how a request finds its own.

One table (`openai.routes`) serves, documents and tests the routes; a path may have one hole, `{id}` for a name
without slashes or `{id:path}` for any.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import msgspec

from tritium.llm.models import LanguageModels
from tritium.openai.errors import UnknownRoute
from tritium.openai.options import OpenAIOptions
from tritium.openai.visit import Visit
from tritium.wire.http import Response

Route = Callable[[Visit, LanguageModels, OpenAIOptions], Awaitable[Response | None]]

_HOLE = re.compile(r"\{(\w+)(:path)?\}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route: `body` and `answer` are the structs that read and write it, for the document at /openapi.json.

    `answer` None stands for an answer that is no JSON. `streams` ones can answer by server-sent events. `counted` ones
    take a place among the requests under way and count for their key's limits; those of them that are `brief` give it
    back once they have answered, the others when their last token is sent. `open` ones ask for no
    key, `admin` ones for a key that may administer.
    """

    method: str
    path: str
    serve: Route
    summary: str
    answer: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | tuple[type[msgspec.Struct], ...] = ()
    streams: bool = False
    counted: bool = False
    brief: bool = False
    open: bool = False
    admin: bool = False

    @property
    def bodies(self) -> tuple[type[msgspec.Struct], ...]:
        """Return the kinds of body that the route reads."""
        return self.body if isinstance(self.body, tuple) else (self.body,)

    @property
    def plain_path(self) -> str:
        """Return the path as OpenAPI writes it."""
        return _HOLE.sub(r"{\1}", self.path)


@dataclass(frozen=True, slots=True)
class Found:
    """The endpoint of a request, and what stands in its path's hole."""

    endpoint: Endpoint
    argument: str = ""


class RouteTable:
    """The endpoints by path and method. Of several patterns that match, the first listed wins."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self._fixed: dict[str, dict[str, Endpoint]] = {}
        self._patterns: dict[re.Pattern[str], dict[str, Endpoint]] = {}
        for endpoint in endpoints:
            if "{" in endpoint.path:
                methods = self._patterns.setdefault(_pattern(endpoint.path), {})
            else:
                methods = self._fixed.setdefault(endpoint.path, {})
            methods[endpoint.method] = endpoint

    def find(self, method: str, path: str) -> Found:
        """Return the endpoint of a request; HEAD is answered by GET's.

        Raises:
            UnknownRoute: there is none of that path, or not by that method.
        """
        methods, argument = self._methods(path)
        endpoint = methods.get("GET" if method == "HEAD" else method)
        if endpoint is not None:
            return Found(endpoint, argument)
        if not methods:
            raise UnknownRoute(f"Unknown request URL: {method} {path}.", 404)
        allowed = self.allowed(path)
        raise UnknownRoute(f"Not allowed to {method} on {path}: use {' or '.join(methods)}.", 405, allowed)

    def allowed(self, path: str) -> str:
        """Return the methods of a path as the header `allow` lists them; "" where there is no such path."""
        methods, _ = self._methods(path)
        if not methods:
            return ""
        return ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])

    def _methods(self, path: str) -> tuple[dict[str, Endpoint], str]:
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed, ""
        for pattern, methods in self._patterns.items():
            if match := pattern.fullmatch(path):
                return methods, unquote(match[1])
        return {}, ""


def _pattern(path: str) -> re.Pattern[str]:
    before, after = _HOLE.split(path)[0], _HOLE.split(path)[-1]
    hole = "(.+)" if ":path}" in path else "([^/]+)"
    return re.compile(re.escape(before) + hole + re.escape(after), re.DOTALL)
