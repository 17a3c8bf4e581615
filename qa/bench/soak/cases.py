"""What the clients of a soak do: each case is opened once and then does the same thing again and again.

A step raises where the server's answer is wrong; what a case does to the server on purpose (to leave in the middle of
an answer, to send half a request) is no error.
"""

import http.client
import itertools
import json
import mmap
import os
import queue
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpc_client
from qa.e2e.product import Product

Step = Callable[[], None]

WAIT_S = 60
CHURNED = "churned"
"""A model that is loaded and unloaded; nobody else asks for it."""
A = np.arange(4, dtype=np.float32)
_numbers = itertools.count(1)
CHATS = 300
"""So many that the warm-up asks them all: what is remembered of prompts has its bound, and grows up to that."""


class WrongAnswerError(Exception):
    """The server answered something else than it had to."""


def must(right: bool, said: str) -> None:  # noqa: FBT001  # reads like an assertion
    """Raise with what was said unless it is right."""
    if not right:
        raise WrongAnswerError(said)


@contextmanager
def json_over_http(product: Product) -> Iterator[Step]:
    """A python model over HTTP, tensors in JSON."""
    with closing(_connect(product, "HTTP")) as connection:

        def step() -> None:
            inputs = [
                {"name": name, "datatype": "FP32", "shape": [4], "data": A.tolist()} for name in ("INPUT0", "INPUT1")
            ]
            answer = _ask(connection, "/v2/models/add_sub_python/infer", {"inputs": inputs})
            must(answer["outputs"][0]["data"] == [0, 2, 4, 6], "json: wrong sum")

        yield step


@contextmanager
def onnx_over_grpc(product: Product) -> Iterator[Step]:
    """An onnx model over gRPC, in batches of 1 to 8."""
    with _grpc(product) as client:

        def step() -> None:
            rows = next(_numbers) % 8 + 1
            inputs = [_tensor(name, np.tile(A, (rows, 1))) for name in ("INPUT0", "INPUT1")]
            answer = client.infer("add_sub", inputs, client_timeout=WAIT_S)
            must((answer.as_numpy("OUTPUT0") == A * 2).all(), "onnx: wrong sum")

        yield step


@contextmanager
def ensemble_over_grpc(product: Product) -> Iterator[Step]:
    """Three steps: python, onnx, python."""
    with _grpc(product) as client:

        def step() -> None:
            text = np.array([[b"why is this broken " * (next(_numbers) % 10 + 1)]], dtype=np.object_)
            answer = client.infer("text_pipeline", [_tensor("TEXT", text)], client_timeout=WAIT_S)
            must(answer.as_numpy("LABEL").shape == (1, 1), "ensemble: no label")

        yield step


@contextmanager
def sequences_over_grpc(product: Product) -> Iterator[Step]:
    """Two sequences in turn, of three requests each, that the model adds up."""
    with _grpc(product) as client:

        def step() -> None:
            sums = {next(_numbers): 0, next(_numbers): 0}
            for place in range(3):
                for sequence in sums:
                    answer = client.infer(
                        "accumulate",
                        [_tensor("INPUT", np.array([[place + sequence % 100]], np.int32))],
                        sequence_id=sequence,
                        sequence_start=place == 0,
                        sequence_end=place == 2,
                        client_timeout=WAIT_S,
                    )
                    sums[sequence] = int(answer.as_numpy("SUM")[0, 0])
            right = {sequence: 3 + 3 * (sequence % 100) for sequence in sums}
            must(sums == right, f"sequences: {sums} instead of {right}")

        yield step


@contextmanager
def decoupled_over_grpc(product: Product) -> Iterator[Step]:
    """A stream of ten answers to one request; every third stream is left in the middle."""

    def step() -> None:
        arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        leave = next(_numbers) % 3 == 0
        count, delay_ms = (1000, 1) if leave else (10, 0)
        inputs = [_tensor("COUNT", np.array([count], np.int32)), _tensor("DELAY_MS", np.array([delay_ms], np.int32))]
        with _grpc(product) as client:
            client.start_stream(lambda result, error: arrived.put((result, error)))
            client.async_stream_infer("repeat", inputs)
            for place in range(5 if leave else 10):
                result, error = arrived.get(timeout=WAIT_S)
                must(error is None, f"decoupled: {error}")
                must(int(result.as_numpy("INDEX")[0]) == place, "decoupled: wrong order")
            client.stop_stream(cancel_requests=leave)

    yield step


@contextmanager
def shared_memory(product: Product) -> Iterator[Step]:
    """Both inputs and both outputs in a region that is registered for one request."""
    name = f"tritium_soak_{os.getpid()}"
    path = Path("/dev/shm") / name
    path.write_bytes(bytes(mmap.PAGESIZE))
    try:
        with _grpc(product) as client, path.open("r+b") as file, mmap.mmap(file.fileno(), mmap.PAGESIZE) as memory:

            def step() -> None:
                other = next(_numbers) % 1000
                memory[:32] = np.concatenate([A, np.full(4, other, np.float32)]).tobytes()
                client.register_system_shared_memory("soak", f"/{name}", mmap.PAGESIZE)
                try:
                    inputs, outputs = [], []
                    for place in range(2):
                        tensor = grpc_client.InferInput(f"INPUT{place}", [4], "FP32")
                        tensor.set_shared_memory("soak", 16, 16 * place)
                        inputs.append(tensor)
                        output = grpc_client.InferRequestedOutput(f"OUTPUT{place}")
                        output.set_shared_memory("soak", 16, 1024 + 16 * place)
                        outputs.append(output)
                    client.infer("add_sub_python", inputs, outputs=outputs, client_timeout=WAIT_S)
                finally:
                    client.unregister_system_shared_memory("soak")
                must(memory[1024:1040] == (A + other).tobytes(), "shared memory: wrong sum")

            yield step
    finally:
        path.unlink()


@contextmanager
def load_and_unload(product: Product) -> Iterator[Step]:
    """A python model is loaded, asked once, and unloaded."""
    with closing(_connect(product, "HTTP")) as connection:

        def step() -> None:
            _ask(connection, f"/v2/repository/models/{CHURNED}/load", {})
            inputs = [
                {"name": name, "datatype": "FP32", "shape": [4], "data": A.tolist()} for name in ("INPUT0", "INPUT1")
            ]
            answer = _ask(connection, f"/v2/models/{CHURNED}/infer", {"inputs": inputs})
            must(answer["outputs"][0]["data"] == [0, 2, 4, 6], "load: wrong sum")
            _ask(connection, f"/v2/repository/models/{CHURNED}/unload", {})

        yield step


@contextmanager
def leaving_over_http(product: Product) -> Iterator[Step]:
    """Half a request, and a stream of events of which only the beginning is read."""

    def step() -> None:
        host, port = product.url("HTTP").split(":")
        with socket.create_connection((host, int(port)), timeout=WAIT_S) as half:
            half.sendall(b"POST /v2/models/add_sub/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        with closing(_connect(product, "HTTP")) as connection:
            body = json.dumps({"COUNT": 1000, "DELAY_MS": 1})
            connection.request("POST", "/v2/models/repeat/generate_stream", body)
            answer = connection.getresponse()
            must(answer.status == http.client.OK, f"events: status {answer.status}")
            must(answer.readline().startswith(b"data:"), "events: no event")

    yield step


@contextmanager
def chat(product: Product) -> Iterator[Step]:
    """A streamed chat out of CHATS; every fourth is left after its first event."""

    def step() -> None:
        question = [{"role": "user", "content": f"question {next(_numbers) % CHATS}"}]
        body = {"model": "tiny_chat", "messages": question, "stream": True, "max_tokens": 24}
        with closing(_connect(product, "OpenAI")) as connection:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            must(answer.status == http.client.OK, f"chat: status {answer.status}")
            must(answer.readline().startswith(b"data:"), "chat: no event")
            if next(_numbers) % 4:
                must(answer.read().rstrip().endswith(b"data: [DONE]"), "chat: no end")

    yield step


CASES = (
    json_over_http,
    onnx_over_grpc,
    ensemble_over_grpc,
    sequences_over_grpc,
    decoupled_over_grpc,
    shared_memory,
    load_and_unload,
    leaving_over_http,
    chat,
)


def _connect(product: Product, protocol: str) -> http.client.HTTPConnection:
    host, port = product.url(protocol).split(":")
    return http.client.HTTPConnection(host, int(port), timeout=WAIT_S)


def _ask(connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> dict[str, Any]:
    connection.request("POST", path, json.dumps(body))
    answer = connection.getresponse()
    text = answer.read()
    must(answer.status == http.client.OK, f"{path}: status {answer.status} {text[:200]!r}")
    document: dict[str, Any] = json.loads(text) if text else {}
    return document


def _grpc(product: Product) -> grpc_client.InferenceServerClient:
    # A connection of its own: grpcio shares one between clients of the same arguments.
    return grpc_client.InferenceServerClient(product.url("gRPC"), channel_args=[("grpc.use_local_subchannel_pool", 1)])


def _tensor(name: str, values: np.ndarray) -> grpc_client.InferInput:
    kinds = {"f": "FP32", "i": "INT32", "O": "BYTES"}
    tensor = grpc_client.InferInput(name, list(values.shape), kinds[values.dtype.kind])
    tensor.set_data_from_numpy(values)
    return tensor
