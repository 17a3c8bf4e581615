"""Bad requests get a clear error with the right status, the server lives on, and nobody else's request suffers."""

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
from qa.e2e.product import ROOT, Product, alive, descendants
from tritonclient.utils import InferenceServerException

GOOD = {"name": "INPUT0", "datatype": "FP32", "shape": [4], "data": [1.0] * 4}


def send(product: Product, protocol: str, path: str, body: bytes | dict, **headers: str) -> tuple[int, dict]:
    """POST a body and return the status and the JSON that came back."""
    raw = json.dumps(body).encode() if isinstance(body, dict) else body
    host, port = product.url(protocol).split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=120)
    try:
        connection.request("POST", path, raw, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    return answer.status, json.loads(text) if text else {}


def infer_body(**change: object) -> dict:
    """Make an add_sub request whose first input differs by `change`."""
    return {"inputs": [{**GOOD, **change}, {**GOOD, "name": "INPUT1"}]}


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("nope/infer", infer_body(), 404, "unknown model: 'nope'"),
        ("add_sub_python/versions/9/infer", infer_body(), 404, "version 9 is not found"),
        ("add_sub_python/infer", infer_body(datatype="INT32", data=[1] * 4), 400, "data-type is 'INT32'"),
        ("add_sub_python/infer", infer_body(datatype="FP33"), 400, "invalid datatype"),
        ("add_sub_python/infer", infer_body(shape=[5], data=[1.0] * 5), 400, "Expected [4], got [5]"),
        ("add_sub_python/infer", infer_body(data=[1.0]), 500, "shape does not match true shape"),
        ("add_sub_python/infer", infer_body(shape=[2**63 - 1], data=[1.0]), 400, ""),
        ("add_sub_python/infer", infer_body(shape=[10**12], data=[1.0]), 400, ""),
        ("add_sub_python/infer", infer_body(shape=[-4]), 500, "Unable to parse 'shape'"),
        ("add_sub_python/infer", infer_body(name="INPUT9"), 400, "INPUT9"),
        ("add_sub_python/infer", {"inputs": [GOOD]}, 400, "expected 2 inputs but got 1"),
        ("add_sub_python/infer", {**infer_body(), "outputs": [{"name": "NOPE"}]}, 400, "unexpected inference output"),
        ("add_sub_python/infer", b'{"inputs": [', 500, "failed to parse the request JSON buffer"),
        ("add_sub_python/infer", b"[" * 100_000, 500, "Invalid value. at 100000"),
        (
            "add_sub_python/infer",
            b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[4],"data":'
            + b"[" * 100_000
            + b"]" * 100_000
            + b"}]}",
            400,
            "",
        ),
        (
            "repeat/infer",
            {"inputs": [{"name": "COUNT", "datatype": "INT32", "shape": [1], "data": [1]}]},
            501,
            "decoupled",
        ),
    ],
)
def test_a_bad_inference_is_told_why(sample: Product, path: str, body: dict | bytes, status: int, words: str) -> None:
    """Status and words are Triton's where Triton has an answer; where it crashes or hangs, ours is a plain error."""
    got, answer = send(sample, "HTTP", f"/v2/models/{path}", body)
    assert got == status, answer
    assert words in answer["error"]
    assert send(sample, "HTTP", "/v2/models/add_sub_python/infer", infer_body())[0] == 200


def test_an_oversize_body_is_refused(sample: Product) -> None:
    """A body beyond the limit is refused by its length, before it is read."""
    host, port = sample.url("HTTP").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    connection.putrequest("POST", "/v2/models/add_sub/infer")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert "error" in json.loads(answer.read())
    connection.close()


@pytest.mark.parametrize(
    ("model", "version", "datatype", "shape", "code", "words"),
    [
        ("nope", "", "FP32", 4, "NOT_FOUND", "unknown model"),
        ("add_sub_python", "7", "FP32", 4, "NOT_FOUND", "version 7"),
        ("add_sub_python", "x", "FP32", 4, "INVALID_ARGUMENT", "version"),
        ("add_sub_python", "", "INT32", 4, "INVALID_ARGUMENT", "data-type"),
        ("add_sub_python", "", "FP32", 3, "INVALID_ARGUMENT", "unexpected shape"),
    ],
)
def test_grpc_says_the_same(
    sample: Product, model: str, version: str, datatype: str, shape: int, code: str, words: str
) -> None:
    """The gRPC status code and message match the HTTP ones."""
    tensors = [grpc_client.InferInput(name, [shape], datatype) for name in ("INPUT0", "INPUT1")]
    for tensor in tensors:
        tensor.set_data_from_numpy(np.zeros(shape, dtype=np.float32 if datatype == "FP32" else np.int32))
    with (
        grpc_client.InferenceServerClient(sample.url("gRPC")) as client,
        pytest.raises(InferenceServerException, match=words) as caught,
    ):
        client.infer(model, tensors, model_version=version)
    assert caught.value.status() == f"StatusCode.{code}"


CHAT = {"model": "tiny_chat", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"model": "gpt-9"}, 404, "model_not_found", "model"),
        ({"temperature": "hot"}, 400, None, "temperature"),
        ({"temperature": 9}, 400, None, "temperature"),
        ({"max_tokens": -1}, 400, None, "max_tokens"),
        ({"n": 0}, 400, None, "n"),
        ({"messages": "Hello"}, 400, None, "messages"),
        ({"tempreture": 1}, 400, None, "tempreture"),
        ({"messages": [{"role": "user", "content": "word " * 5000}]}, 400, "context_length_exceeded", "messages"),
    ],
)
def test_a_bad_chat_gets_openais_error(
    sample: Product, change: dict, status: int, code: str | None, param: str
) -> None:
    """The error object names the parameter; a long prompt is told both lengths."""
    got, answer = send(sample, "OpenAI", "/v1/chat/completions", {**CHAT, **change})
    error = answer["error"]
    assert got == status, answer
    assert set(error) >= {"message", "type", "param", "code"}
    assert error["param"] == param
    if code is not None:
        assert error["code"] == code
    assert send(sample, "OpenAI", "/v1/chat/completions", CHAT)[0] == 200


def test_a_body_that_is_no_json_is_told_so(sample: Product) -> None:
    """A chat that is no JSON is refused with a sentence."""
    got, answer = send(sample, "OpenAI", "/v1/chat/completions", b"{nope")
    assert got == 400
    assert "JSON" in answer["error"]["message"]


def test_a_worker_killed_in_a_stream_costs_nobody_else(start: Callable[..., Product]) -> None:
    """With two workers, kill -9 of one: its streams go on elsewhere or end with an error, the others are untouched."""
    product = start(str(ROOT / "model_repository"), "--engine=mocker", "--fleet=tiny_chat=workers=2,router=round_robin")
    results: list[str] = []

    def stream() -> None:
        host, port = product.url("OpenAI").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        body = {**CHAT, "stream": True, "max_tokens": 900, "ignore_eos": True}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        text = connection.getresponse().read().decode()
        connection.close()
        results.append(text)

    threads = [threading.Thread(target=stream) for _ in range(8)]
    for thread in threads:
        thread.start()
    victim = _worker_pids(product)[0]
    os.kill(victim, signal.SIGKILL)
    for thread in threads:
        thread.join(60)
    assert len(results) == 8
    for text in results:
        assert text.rstrip().endswith("data: [DONE]") or '"error"' in text
    assert sum("[DONE]" in text for text in results) >= 4
    deadline = time.monotonic() + 60
    while len(_worker_pids(product)) < 2 or victim in _worker_pids(product):
        assert time.monotonic() < deadline, product.output
        time.sleep(0.05)
    assert send(product, "OpenAI", "/v1/chat/completions", CHAT)[0] == 200


def _worker_pids(product: Product) -> list[int]:

    def is_worker(pid: int) -> bool:
        try:
            return "tritium.cluster.worker" in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except OSError:
            return False

    return sorted(pid for pid in alive(descendants(product.process.pid)) if is_worker(pid))
