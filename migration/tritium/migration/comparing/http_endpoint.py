"""A server over HTTP: inferences go out in binary form, streams by `generate_stream`."""

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from tritium.migration.comparing.call import Answer, Call, Captured, Inference, Outcome, Unreachable
from tritium.migration.comparing.tensor import BadTensor, Tensor, from_elements

_HEADER_LENGTH = "Inference-Header-Content-Length"


class HttpEndpoint:
    """One server over HTTP/1.1, on one connection that is kept."""

    protocol = "http"

    def __init__(self, scheme: str, place: str, timeout_s: float) -> None:
        self.url = f"{scheme}://{place}"
        host, _, self._below = place.partition("/")
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        try:
            self._connection = kind(host, timeout=timeout_s)
        except http.client.InvalidURL as error:
            raise Unreachable(f"{self.url}: {error}") from None

    def models(self) -> dict[str, str]:
        """Ask for the repository's index."""
        index = self._document("POST", "/v2/repository/index", b"{}")
        if not isinstance(index, list):
            raise Unreachable(f"{self.url}/v2/repository/index is not answered as Triton does")
        states: dict[str, str] = {}
        for entry in index:
            name, state = str(entry.get("name", "")), str(entry.get("state", ""))
            states[name] = "READY" if "READY" in (state, states.get(name)) else state
        return states

    def metadata(self, model: str) -> dict[str, Any]:
        """Ask for a model's metadata."""
        return dict(self._document("GET", f"/v2/models/{quote(model)}"))

    def config(self, model: str) -> dict[str, Any]:
        """Ask for a model's configuration."""
        return dict(self._document("GET", f"/v2/models/{quote(model)}/config"))

    def send(self, call: Call, correlation: int = 0) -> Outcome:
        """Send a call; a made one becomes `infer`, or `generate_stream` where a stream is asked for."""
        if isinstance(call, Captured):
            body = call.messages[0] if call.messages else b""
            return self._send(call.path, dict(call.headers), body)
        if call.streamed:
            body = json.dumps({**dict(call.parameters), **_plain(call)}).encode()
            return self._send(f"/v2/models/{quote(call.model)}/generate_stream", {}, body)
        header, binary = _encoded(call, correlation)
        headers = {"Content-Type": "application/octet-stream", _HEADER_LENGTH: str(len(header))}
        return self._send(f"/v2/models/{quote(call.model)}/infer", headers, header + binary)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _send(self, path: str, headers: dict[str, str], body: bytes) -> Outcome:
        began = time.perf_counter()
        response = self._ask("POST", path, body, headers)
        try:
            if response.headers.get_content_type() == "text/event-stream":
                return _streamed(response, began)
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Outcome(status="cut off", message=str(error), took_s=time.perf_counter() - began)
        took_s = time.perf_counter() - began
        if response.status >= 400:
            return Outcome(status=str(response.status), message=_error(raw), took_s=took_s, first_s=took_s)
        return Outcome((_decoded(raw, response.headers.get(_HEADER_LENGTH)),), took_s=took_s, first_s=took_s)

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        path = f"/{self._below}{path}" if self._below else path
        for attempt in (1, 2):
            try:
                self._connection.request(method, path, body, headers)
                return self._connection.getresponse()
            except TimeoutError:
                self._connection.close()
                raise Unreachable(f"{self.url}{path} did not answer in {self._connection.timeout} s") from None
            except (OSError, http.client.HTTPException) as error:
                # A server may close a connection that is kept; a second failure is the server's.
                self._connection.close()
                if attempt == 2:
                    raise Unreachable(f"{self.url}: {error or type(error).__name__}; is it running?") from error
        raise AssertionError("unreachable")

    def _document(self, method: str, path: str, body: bytes | None = None) -> Any:
        response = self._ask(method, path, body, {})
        raw = response.read()
        if response.status >= 400:
            raise Unreachable(f"{self.url}{path}: {response.status} {_error(raw)}")
        try:
            return json.loads(raw)
        except ValueError:
            raise Unreachable(f"{self.url}{path} is not answered in JSON; is this the HTTP port?") from None


def _encoded(call: Inference, correlation: int) -> tuple[bytes, bytes]:
    """Return the JSON header and the tensors behind it."""
    inputs = [
        {"name": t.name, "datatype": t.datatype, "shape": t.shape, "parameters": {"binary_data_size": len(t.data)}}
        for t in call.inputs
    ]
    parameters: dict[str, Any] = dict(call.parameters)
    if call.sequence:
        parameters |= {"sequence_id": correlation, "sequence_start": call.starts, "sequence_end": call.ends}
    header: dict[str, Any] = {"inputs": inputs}
    if call.outputs:
        header["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in call.outputs]
    else:
        parameters["binary_data_output"] = True
    if parameters:
        header["parameters"] = parameters
    return json.dumps(header).encode(), b"".join(t.data for t in call.inputs)


def _plain(call: Inference) -> dict[str, Any]:
    """Return the inputs as `generate` takes them: a value where there is one element, else a row."""
    values: dict[str, Any] = {}
    for tensor in call.inputs:
        row = (
            [text.decode(errors="replace") for text in tensor.texts()]
            if tensor.datatype == "BYTES"
            else tensor.numbers().tolist()
        )
        values[tensor.name] = row[0] if len(row) == 1 else row
    return values


def _decoded(raw: bytes, header_length: str | None) -> Answer:
    """Read the body of an answer: tensors in JSON or behind it; what is no JSON is kept as text."""
    length = int(header_length) if header_length else len(raw)
    try:
        document = json.loads(raw[:length])
    except ValueError:
        return Answer(document={"text": raw.decode(errors="replace")})
    if not isinstance(document, dict):
        return Answer(document={"value": document})
    tensors, at = [], length
    for output in document.pop("outputs", []):
        name, datatype, shape = str(output["name"]), str(output["datatype"]), output["shape"]
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            try:
                tensors.append(from_elements(name, datatype, shape, output.get("data", [])))
            except BadTensor as error:
                document[f"unreadable {name}"] = str(error)
        else:
            tensors.append(Tensor(name, datatype, tuple(shape), raw[at : at + size]))
            at += size
    return Answer(tuple(tensors), document)


def _streamed(response: http.client.HTTPResponse, began: float) -> Outcome:
    answers: list[Answer] = []
    first_s = 0.0
    status, message = "ok", ""
    for event in _events(response):
        first_s = first_s or time.perf_counter() - began
        if event == b"[DONE]":
            continue
        answer = _decoded(event, None)
        if "error" in answer.document and len(answer.document) == 1:
            status, message = "error", str(answer.document["error"])
        else:
            answers.append(answer)
    if response.status >= 400:
        status = str(response.status)
    return Outcome(tuple(answers), status, message, time.perf_counter() - began, first_s)


def _events(response: http.client.HTTPResponse) -> Iterator[bytes]:
    for line in response:
        if line.startswith(b"data:"):
            yield line[5:].strip()


def _error(raw: bytes) -> str:
    try:
        document = json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace")[:500]
    error = document.get("error", document) if isinstance(document, dict) else document
    return error if isinstance(error, str) else json.dumps(error)
