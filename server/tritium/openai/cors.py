"""Cross-origin requests: which web pages a browser lets read the answers (the Fetch standard's CORS protocol)."""

import re
from collections.abc import Sequence

from tritium.wire.http import Headers, Request

_READABLE = b", ".join(
    (
        b"x-request-id",
        b"retry-after",
        *(
            b"x-ratelimit-%b-%b" % (what, of)
            for what in (b"limit", b"remaining", b"reset")
            for of in (b"requests", b"tokens")
        ),
        b"x-tritium-worker",
        b"x-tritium-because",
        b"x-tritium-overlap",
        b"x-tritium-cost",
        b"x-tritium-prefill-worker",
    )
)
"""The headers of our own answers; a page reads no other without being told that it may."""
_KEPT_S = b"600"
_NAMES = re.compile(rb"[\w\-, ]+")


class Cors:
    """The headers for the origins that may read the answers; `*` stands for all of them."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._all = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, request: Request) -> tuple[tuple[bytes, bytes], ...]:
        """Return the headers of any answer to the request."""
        origin = request.header(b"origin")
        if not origin:
            return ()
        if self._all:
            return ((b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _READABLE))
        # Caches must not show one origin the answer that another was given.
        vary = (b"vary", b"origin")
        if origin not in self._origins:
            return (vary,)
        return ((b"access-control-allow-origin", origin), (b"access-control-expose-headers", _READABLE), vary)

    def preflight(self, request: Request, allowed: str) -> Headers:
        """Return what a browser that asks first is told beside that: methods, headers, and how long it holds."""
        origin = request.header(b"origin")
        if not (self._all or origin in self._origins) or not request.header(b"access-control-request-method"):
            return ()
        asked = request.header(b"access-control-request-headers")
        named = asked if _NAMES.fullmatch(asked) else b""
        return (
            (b"access-control-allow-methods", allowed.encode()),
            *(((b"access-control-allow-headers", named),) if named else ()),
            (b"access-control-max-age", _KEPT_S),
        )
