"""A server over HTTP: inferences go out in binary form, streams by `generate_stream`."""

import json
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from tritium.migration.comparing.call import Answer, Call, Captured, Inference, Outcome, Unreachable
from tritium.migration.comparing.http_connection import HttpConnection, error_of, events
from tritium.migration.comparing.tensor import BadTensor, Tensor, from_elements

_HEADER_LENGTH = "Inference-Header-Content-Length"


class HttpEndpoint:
    """One server of KServe's v2 over HTTP/1.1."""

    protocol = "http"

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection
        self.url = connection.url

    def models(self) -> dict[str, str]:
        """Ask for the repository's index."""
        index = self._connection.document("POST", "/v2/repository/index", b"{}")
        if not isinstance(index, list):
            raise Unreachable(f"{self.url}/v2/repository/index is not answered as Triton does")
        states: dict[str, str] = {}
        for entry in index:
            name, state = str(entry.get("name", "")), str(entry.get("state", ""))
            states[name] = "READY" if "READY" in (state, states.get(name)) else state
        return states

    def metadata(self, model: str) -> dict[str, Any]:
        """Ask for a model's metadata."""
        return dict(self._connection.document("GET", f"/v2/models/{quote(model)}"))

    def config(self, model: str) -> dict[str, Any]:
        """Ask for a model's configuration."""
        return dict(self._connection.document("GET", f"/v2/models/{quote(model)}/config"))

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
        response = self._connection.ask("POST", path, body, headers)
        if response.headers.get_content_type() == "text/event-stream":
            answers = ((_decoded(event, None), time.perf_counter() - began) for event in events(response))
            return _streamed(answers, response.status, began)
        raw, cut = self._connection.read(response)
        took_s = time.perf_counter() - began
        if cut:
            return Outcome(status="cut off", message=cut, took_s=took_s)
        if response.status >= 400:
            return Outcome(status=str(response.status), message=error_of(raw), took_s=took_s, first_s=took_s)
        return Outcome((_decoded(raw, response.headers.get(_HEADER_LENGTH)),), took_s=took_s, first_s=took_s)


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


def _streamed(events_with_times: Iterable[tuple[Answer, float]], code: int, began: float) -> Outcome:
    answers: list[Answer] = []
    first_s = 0.0
    status, message = "ok", ""
    for answer, at_s in events_with_times:
        first_s = first_s or at_s
        if "error" in answer.document and len(answer.document) == 1:
            status, message = "error", str(answer.document["error"])
        else:
            answers.append(answer)
    if code >= 400:
        status = str(code)
    return Outcome(tuple(answers), status, message, time.perf_counter() - began, first_s)
