"""Headers that become request parameters (--http-header-forward-pattern).

Source: server/src/http_server.cc, ForwardHeaders, 2.73.
"""

import re
from typing import Any

from tritium.compat.v2.call import InferCall
from tritium.compat.v2.infer_request import RESERVED_PARAMETERS, RESERVED_PREFIX
from tritium.core.errors import InvalidArgument
from tritium.wire.http import Request


def forward(request: Request, pattern: re.Pattern[str], call: InferCall[Any]) -> None:
    """Give the call a parameter for each header whose name the pattern is found in.

    Raises:
        InvalidArgument: a header has the name of a parameter that means something else.
    """
    for raw_name, value in request.headers:
        name = raw_name.decode("latin-1")
        if pattern.search(name):
            if name in RESERVED_PARAMETERS or name.startswith(RESERVED_PREFIX):
                raise InvalidArgument(f"Header '{name}' is reserved for Triton usage and cannot be forwarded.")
            call.parameters[name] = value.decode("latin-1")
