"""Headers of a request that become parameters of its inference, chosen by a pattern that the server was started with.

Source: ForEachHeader in server/src/http_server.cc, ForwardHeadersAsParameters in server/src/grpc/infer_handler.h, 2.73.
"""

import re
from collections.abc import Iterable, MutableMapping

from tritium.compat.v2.call import Parameter
from tritium.compat.v2.infer_request import RESERVED_PARAMETERS, RESERVED_PREFIX
from tritium.compat.v2.refusal import Refusal


def forward(
    pattern: re.Pattern[str], headers: Iterable[tuple[bytes, bytes]], parameters: MutableMapping[str, Parameter]
) -> None:
    """Add every header whose name the pattern matches somewhere, as a string parameter.

    Raises:
        Refusal: a header that matches is named like a parameter that means something to the server.
    """
    for name, value in headers:
        key = name.decode("latin-1")
        if pattern.search(key) is None:
            continue
        if key in RESERVED_PARAMETERS or key.startswith(RESERVED_PREFIX):
            raise Refusal(f"Header '{key}' is reserved for Triton usage and cannot be forwarded.")
        parameters[key] = value.decode("utf-8", "replace")
