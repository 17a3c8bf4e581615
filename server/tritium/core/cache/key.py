"""What makes two requests equal: the model, its version, the inputs, and which outputs are asked for.

Inputs are compared as the model sees them, so JSON and binary requests share their answers. Request parameters do
not count, as in Triton. Unlike Triton's key, ours tells apart inputs of one content in two shapes, and requests for
different outputs.
"""

import hashlib
from operator import attrgetter

from tritium.core.request import InferRequest

_by_name = attrgetter("name")


class KeyMaker:
    """Makes the keys of one model version.

    A cryptographic hash, for nobody may be able to make an input whose response is served for another's.
    """

    def __init__(self, model: str, version: str, edition: str = "") -> None:
        self._start = hashlib.sha256(f"{model}\0{version}\0{edition}\0".encode())

    def key(self, request: InferRequest) -> bytes:
        """Return the key of a request."""
        digest = self._start.copy()
        for tensor in sorted(request.inputs, key=_by_name):
            digest.update(f"{tensor.name}\0{tensor.datatype}\0{tensor.shape}\0{tensor.size_bytes}\0".encode())
            digest.update(tensor.data)
        for output in sorted(request.outputs, key=_by_name):
            digest.update(f"\0{output.name}".encode())
        return digest.digest()
