"""Turns away requests for restricted APIs that lack their header."""

from tritium.compat.restrictions import Restriction
from tritium.http import answer
from tritium.wire.http import Request, Response


def refusal(request: Request, restriction: Restriction) -> Response | None:
    """Return 403 unless the request has the header with its value."""
    if restriction.allows(request.header(restriction.header.lower().encode())):
        return None
    return answer.plain_error(403, f"This API is restricted, expecting header '{restriction.header}'")
