"""What of a call is written down: no header but those that say how to read the body, no secrets, on demand no text.

Text that is taken out keeps its length and its shape, letters as x and digits as 0, so that the call still works.
"""

import json
import re
from dataclasses import replace
from typing import Any

from tritium.compat.protobufs import service_pb2
from tritium.migration.comparing.tensor import BadTensor, Tensor, joined
from tritium.migration.recording.file import Recorded
from tritium.migration.secrets import COVERED, covered, names_secret

_KEPT_HEADERS = {"content-type", "content-encoding", "inference-header-content-length", "accept"}
_HEADER_LENGTH = "inference-header-content-length"
_LETTER, _DIGIT = re.compile(r"[^\W\d_]"), re.compile(r"\d")
# These names of inputs and members say how to generate, not what: without them a call is another one.
_SETTINGS = {"sampling_parameters", "model", "role", "type", "name", "datatype", "model_name", "model_version", "id"}


class Redaction:
    """How calls are written down; `without_text` takes all text of inputs and outputs out."""

    def __init__(self, *, without_text: bool) -> None:
        self._without_text = without_text

    def applied(self, recorded: Recorded) -> Recorded:
        """Return a call as it may be written down; what cannot be read to take its text out is left away."""
        call = recorded.call
        path = covered(call.path)
        if call.protocol == "grpc":
            requests = tuple(self._message(message, service_pb2.ModelInferRequest) for message in call.messages)
            kind = service_pb2.ModelInferResponse
            if call.path.endswith("/ModelStreamInfer"):
                kind = service_pb2.ModelStreamInferResponse
            responses = tuple(self._message(message, kind) for message in recorded.responses)
            headers = call.headers
        else:
            given = {name.lower(): value for name, value in call.headers if name.lower() in _KEPT_HEADERS}
            body, length = self._body(call.messages[0], given.get(_HEADER_LENGTH))
            if length is not None:
                given[_HEADER_LENGTH] = str(length)
            headers = tuple(given.items())
            requests = (body,)
            responses = tuple(self._response(response) for response in recorded.responses)
        return replace(recorded, call=replace(call, path=path, headers=headers, messages=requests), responses=responses)

    def _body(self, body: bytes, header_length: str | None) -> tuple[bytes, int | None]:
        """Return an HTTP body without what must not be written down, and the new length of its JSON part."""
        length = int(header_length) if header_length else len(body)
        try:
            document = json.loads(body[:length])
        except ValueError:
            return (b"", None) if self._without_text else (body, None)
        binary = body[length:]
        if self._without_text and binary:
            binary = self._binaries(document.get("inputs", []), binary)
        if self._without_text:
            document = _without_text(document)
        clean = _cleaned(document)
        if clean == document and not self._without_text:
            return body, None
        head = json.dumps(clean, ensure_ascii=False).encode()
        return head + binary, len(head) if header_length else None

    def _binaries(self, tensors: list[dict[str, Any]], binary: bytes) -> bytes:
        parts, at = [], 0
        for tensor in tensors:
            size = int(tensor.get("parameters", {}).get("binary_data_size", 0))
            part = binary[at : at + size]
            if tensor.get("datatype") == "BYTES" and tensor.get("name") not in _SETTINGS:
                part = _masked_elements(part)
            parts.append(part)
            tensor.setdefault("parameters", {})
            if size:
                tensor["parameters"]["binary_data_size"] = len(part)
            at += size
        return b"".join(parts)

    def _response(self, body: bytes) -> bytes:
        """Return an answer's body; with text taken out only its JSON is kept, as what follows may be text."""
        if not self._without_text:
            return covered(body.decode()).encode() if _is_text(body) else body
        lines = []
        for line in body.split(b"\n"):
            prefix = b"data:" if line.startswith(b"data:") else b""
            try:
                lines.append(prefix + json.dumps(_without_text(json.loads(line.removeprefix(prefix)))).encode())
            except ValueError:
                lines.append(b"")
        return b"\n".join(lines)

    def _message(self, raw: bytes, kind: Any) -> bytes:
        message = kind.FromString(raw)
        inner = message.infer_response if kind is service_pb2.ModelStreamInferResponse else message
        tensors = inner.inputs if kind is service_pb2.ModelInferRequest else inner.outputs
        contents = inner.raw_input_contents if kind is service_pb2.ModelInferRequest else inner.raw_output_contents
        for index, tensor in enumerate(tensors):
            if tensor.datatype != "BYTES":
                continue
            masked = self._without_text and tensor.name not in _SETTINGS
            if index < len(contents):
                contents[index] = _masked_elements(contents[index]) if masked else _covered_elements(contents[index])
            for at, text in enumerate(tensor.contents.bytes_contents):
                tensor.contents.bytes_contents[at] = _masked_bytes(text) if masked else _covered_bytes(text)
        return bytes(message.SerializeToString())


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _cleaned(value: Any) -> Any:
    """Return a JSON document with the secrets in its texts covered."""
    if isinstance(value, str):
        return covered(value)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {
            key: COVERED if isinstance(item, str) and item and names_secret(key) else _cleaned(item)
            for key, item in value.items()
        }
    return value


def _without_text(value: Any, key: str = "") -> Any:
    if isinstance(value, str):
        return value if key in _SETTINGS else masked(value)
    if isinstance(value, list):
        # Tensors carry their name beside their data: settings among them stay as they are.
        return [_without_text(item, key) for item in value]
    if isinstance(value, dict):
        named = str(value.get("name", ""))
        return {
            name: item if name == "data" and named in _SETTINGS else _without_text(item, name)
            for name, item in value.items()
        }
    return value


def masked(text: str) -> str:
    """Return text of the same shape that says nothing."""
    return _DIGIT.sub("0", _LETTER.sub("x", text))


def _masked_bytes(text: bytes) -> bytes:
    return masked(text.decode()).encode() if _is_text(text) else bytes(len(text))


def _covered_bytes(text: bytes) -> bytes:
    return covered(text.decode()).encode() if _is_text(text) else text


def _masked_elements(data: bytes) -> bytes:
    return _over(data, _masked_bytes)


def _covered_elements(data: bytes) -> bytes:
    return _over(data, _covered_bytes)


def _over(data: bytes, change: Any) -> bytes:
    try:
        return joined(change(text) for text in Tensor("", "BYTES", (), data).texts())
    except BadTensor:
        return b""
