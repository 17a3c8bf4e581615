"""How a port marks where the JSON of a body ends and its binary tensors begin.

KServe's is a header of its own; a cloud's is part of the content type, for its gateway passes on no other header.
"""

from dataclasses import dataclass
from typing import Protocol

from tritium.compat.v2 import infer_request
from tritium.compat.v2.refusal import Refusal
from tritium.wire.http import Headers, Request

_SIZE = b"inference-header-content-length"
_BINARY = (b"content-type", b"application/octet-stream")


class Marking(Protocol):
    """Reads the mark of a request, and writes that of a response."""

    def json_size(self, request: Request, body_size: int) -> int:
        """Return how many bytes of the body are JSON; 0 means a raw tensor."""
        ...

    def headers(self, json_size: int) -> Headers:
        """Return the headers of a response whose first bytes are JSON and whose others are tensors."""
        ...


class KServeMarking:
    """Inference-Header-Content-Length."""

    def json_size(self, request: Request, body_size: int) -> int:
        """Return how many bytes of the body are JSON; 0 means a raw tensor.

        Raises:
            Refusal: in Triton's words.
        """
        return infer_request.header_size(request.header(_SIZE), body_size)

    def headers(self, json_size: int) -> Headers:
        """Return the headers of a response with binary tensors."""
        return (_BINARY, (_SIZE, b"%d" % json_size))


@dataclass(frozen=True, slots=True)
class TypeMarking:
    """A content type that ends in the size; `prefix` is what stands before it.

    Where it is not used `both_ways`, answers carry KServe's header.
    """

    prefix: str
    both_ways: bool

    def json_size(self, request: Request, body_size: int) -> int:
        """Return how many bytes of the body are JSON; 0 means a raw tensor.

        Raises:
            Refusal: in Triton's words.
        """
        given = request.header(b"content-type").decode("latin-1")
        before, found, size = given.partition(self.prefix)
        if not found:
            return body_size
        if before:
            raise Refusal(f"expect MIME type for binary data starts with '{self.prefix}', got: {given}")
        return infer_request.marked_size(size, body_size)

    def headers(self, json_size: int) -> Headers:
        """Return the headers of a response with binary tensors."""
        if not self.both_ways:
            return KSERVE.headers(json_size)
        return ((b"content-type", f"{self.prefix}{json_size}".encode()),)


KSERVE = KServeMarking()
SAGEMAKER = TypeMarking("application/vnd.sagemaker-triton.binary+json;json-header-size=", both_ways=True)
VERTEX_AI = TypeMarking("application/vnd.vertex-ai-triton.binary+json;json-header-size=", both_ways=False)
