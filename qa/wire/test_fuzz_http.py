"""HTTP under fire: damaged bytes and odd documents get an answer of the right kind, and leave nothing behind."""

import json
import re
import struct
import time

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qa.wire.mutation import damaged, exchange

STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) [^\r\n]*\r\n")
INPUT = {"name": "INPUT0", "shape": [2], "datatype": "FP32", "data": [1, 2]}
GROWTH_BYTES = 48 << 20


def request(path, body, *headers):
    lines = [f"POST {path} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def infer(model="fp32", *headers, tail=b"", **fields):
    document = json.dumps({"inputs": [INPUT], **fields}).encode()
    return request(f"/v2/models/{model}/infer", document + tail, *headers)


BINARY = {"name": "INPUT0", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
BINARY_JSON = json.dumps({"inputs": [BINARY], "parameters": {"binary_data_output": True}}).encode()
ORIGINALS = [
    b"GET /v2/health/ready HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /v2/models/fp32/config HTTP/1.1\r\nHost: h\r\n\r\nGET /v2 HTTP/1.1\r\nHost: h\r\n\r\n",
    infer(),
    infer("fp32_batch"),
    infer(outputs=[{"name": "OUTPUT0", "parameters": {"classification": 1, "binary_data": True}}]),
    infer(parameters={"sequence_id": 3, "priority": 1, "timeout": 1000, "own": "x"}, id="7"),
    infer("bytes", inputs=[{"name": "INPUT0", "shape": [2], "datatype": "BYTES", "data": ["a", "\u00fc"]}]),
    request(
        "/v2/models/fp32/infer",
        BINARY_JSON + struct.pack("<2f", 1, 2),
        f"Inference-Header-Content-Length: {len(BINARY_JSON)}",
    ),
    request("/v2/models/fp32/infer", struct.pack("<2f", 1, 2), "Inference-Header-Content-Length: 0"),
    request("/v2/models/fp32/generate", b'{"INPUT0": [1, 2]}'),
    request("/v2/models/fp32/generate_stream", b'{"INPUT0": [1, 2]}'),
    request("/v2/repository/index", b'{"ready": true}'),
    request("/v2/logging", b'{"log_verbose_level": 0}'),
    request("/v2/trace/setting", b'{"trace_rate": "10"}'),
    request("/v2/systemsharedmemory/region/r/register", b'{"key": "/none", "offset": 0, "byte_size": 8}'),
    b"POST /v2/repository/index HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
]


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=f"http://127.0.0.1:{server.http}", timeout=60) as made:
        yield made


def settled(server, bound):
    """Wait until connections that were left are closed."""
    until = time.monotonic() + 60
    while server.descriptors() > bound and time.monotonic() < until:
        time.sleep(0.05)
    return server.descriptors()


def test_damaged_bytes(server, client):
    """Every answer is HTTP with a status of ours; no fault is logged, nothing is kept, and the server still infers."""
    for data in ORIGINALS:
        # Who ends its side while `generate` runs is taken for one that left.
        assert STATUS.match(exchange(server.http, data)) or b"/generate" in data, data
    descriptors, resident = server.descriptors(), None
    for number, data in enumerate(damaged(ORIGINALS, 20_000)):
        answer = exchange(server.http, data)
        statuses = [int(found) for found in STATUS.findall(answer)]
        assert bool(statuses) == bool(answer), (data, answer)
        # 500 is Triton's answer to JSON that cannot be read.
        assert all(status < 500 or status in (500, 501, 503) for status in statuses), (data, answer)
        if number == 500:
            resident = server.resident_bytes()
    assert server.faults() == []
    assert settled(server, descriptors) <= descriptors
    assert resident is None or server.resident_bytes() - resident < GROWTH_BYTES
    assert client.post("/v2/models/fp32/infer", json={"inputs": [INPUT]}).json()["outputs"][0]["data"] == [1, 2]


scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
)
inputs = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("INPUT0") | scalars,
        "shape": st.lists(st.integers(-2, 4) | st.sampled_from([2**31, 2**62]), max_size=3) | scalars,
        "datatype": st.sampled_from(["FP32", "BYTES", "INT8", "BF16", "FP16", "FOO"]) | scalars,
        "data": st.lists(scalars, max_size=4) | st.lists(st.lists(scalars, max_size=2), max_size=2) | scalars,
        "parameters": st.dictionaries(
            st.sampled_from(["binary_data_size", "shared_memory_region", "shared_memory_byte_size", "x"]), scalars
        )
        | anything,
    },
)
outputs = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("OUTPUT0") | scalars,
        "parameters": st.dictionaries(
            st.sampled_from(["classification", "binary_data", "shared_memory_region", "x"]), scalars
        )
        | anything,
    },
)
documents = anything | st.fixed_dictionaries(
    {},
    optional={
        "id": scalars,
        "inputs": st.lists(inputs, max_size=2) | anything,
        "outputs": st.lists(outputs, max_size=2) | anything,
        "parameters": st.dictionaries(
            st.sampled_from(["sequence_id", "sequence_start", "priority", "timeout", "binary_data_output", "x"]),
            scalars,
        )
        | anything,
    },
)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(st.sampled_from(["fp32", "fp32_batch", "bytes", "int8"]), st.sampled_from(["infer", "generate"]), documents)
def test_odd_documents(server, client, model, verb, document):
    """Whatever JSON says, the answer is a result or an error that says what is wrong."""
    text = json.dumps(document).encode()
    answer = client.post(f"/v2/models/{model}/{verb}", content=text)
    assert answer.status_code in (200, 400, 404, 500, 501), answer.text
    if answer.status_code != 200:
        assert answer.json()["error"]
    assert server.faults() == []
