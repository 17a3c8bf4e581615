"""The rules of a port: restricted APIs, forwarded headers, sizes, and load reports."""

import json
import re

import httpx
import pytest

from tritium.compat.restrictions import Api, Restriction, RestrictionError, parse
from tritium.http.front import Front
from tritium.http.routes import ROUTES, handler
from tritium.wire.listener import listen_http

KV_CACHE = """# TYPE nv_trt_llm_kv_cache_block_metrics gauge
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="llm",version="1"} 40
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="llm",version="1"} 10
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="llm",version="1"} 64
"""


@pytest.fixture
async def ask(server):
    """Open a port with some rules, and return a client of it."""
    opened = []

    async def open_port(**rules):
        listener = await listen_http(handler(Front(server, **rules)), host="127.0.0.1", port=0)
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}", timeout=60, verify=False)
        opened.append((listener, client))
        return client

    yield open_port
    for listener, client in opened:
        await client.aclose()
        await listener.close(1)


def test_restrictions_are_read_by_group():
    """Several groups, each with its header."""
    assert parse(["health,metadata:k=v", "inference:admin=a=b"]) == {
        Api.HEALTH: Restriction("k", "v"),
        Api.METADATA: Restriction("k", "v"),
        Api.INFERENCE: Restriction("admin", "a=b"),
    }


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (["health:k=v", "health:k=w"], "restricted api 'health' can not be specified in multiple config groups"),
        (["heath:k=v"], "unknown restricted api 'heath'"),
        (["health"], "a restricted api group is"),
        (["health:k"], "a restricted api group is"),
        (["health:=s3cret"], "not 'health:=***'"),
    ],
)
def test_a_restriction_that_says_nothing_is_refused(groups, words):
    """In Triton's words where it has some."""
    with pytest.raises(RestrictionError, match=re.escape(words)):
        parse(groups)


@pytest.mark.parametrize("api", list(Api))
async def test_every_api_can_be_restricted(ask, api):
    """Its routes are 403 without the header or with another value, whatever the method; those of others are not."""
    client = await ask(restricted={api: Restriction("Admin-Key", "secret")})
    for route in ROUTES:
        path = re.sub(r"\(\?P<name>.*?\)", "add_sub", re.sub(r"\(\?:.*?\)\)?\??(?=/|$)", "", route.pattern.pattern))
        refused = await client.get(path)
        assert (refused.status_code == 403) == (route.api is api), path
        if route.api is api:
            assert refused.json() == {"error": "This API is restricted, expecting header 'Admin-Key'"}
            assert (await client.get(path, headers={"admin-key": "wrong"})).status_code == 403
            assert (await client.get(path, headers={"admin-key": "secret"})).status_code != 403


async def infer(client, headers, **document):
    data = {"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]}
    return await client.post("/v2/models/identity_fp32/infer", json={"inputs": [data]} | document, headers=headers)


async def test_headers_are_forwarded_as_they_came(ask, house):
    """Names keep their case, though the pattern does not look at it; other headers stay behind."""
    seen = {}
    model = house.model("identity_fp32")
    submit = model.submit
    model.submit = lambda request, reply: (seen.update(request.parameters), submit(request, reply))
    client = await ask(forwarded=re.compile("^x-mine", re.IGNORECASE))
    assert (await infer(client, {"X-Mine-Tenant": "a b", "X-Other": "no"}, parameters={"p": 1})).status_code == 200
    assert seen == {"p": 1, "X-Mine-Tenant": "a b"}


@pytest.mark.parametrize("name", ["priority", "sequence_id", "triton_x", "binary_data_output"])
async def test_headers_of_reserved_names_are_not_forwarded(ask, name):
    """A header must not become what only the body may say."""
    client = await ask(forwarded=re.compile(".*"))
    answer = await infer(client, {name: "1"})
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        f"Header '{name}' is reserved for Triton usage and cannot be forwarded.",
    )


@pytest.mark.parametrize(
    ("path", "content", "headers", "words"),
    [
        (
            "identity_fp32/infer",
            b" " * 101,
            {},
            "request JSON size of 101 bytes exceeds the maximum allowed input size",
        ),
        (
            "identity_fp32/infer",
            bytes(104),
            {"Inference-Header-Content-Length": "0"},
            "Raw input has a byte_size (104 bytes) that exceeds the maximum allowed value of 100 bytes",
        ),
        ("words/generate", b" " * 101, {}, "request JSON size of 101 bytes exceeds the maximum allowed input size"),
    ],
)
async def test_inputs_are_limited(ask, path, content, headers, words):
    """400, with the flag that raises the limit."""
    client = await ask(input_bytes=100)
    answer = await client.post(f"/v2/models/{path}", content=content, headers=headers)
    assert (answer.status_code, words in answer.json()["error"]) == (400, True)
    assert "Use --http-max-input-size to increase the limit." in answer.json()["error"]


async def test_binary_tensors_are_not_limited(ask):
    """Only what has to be read as JSON, unpacked or guessed is."""
    client = await ask(input_bytes=200)
    document = {"name": "INPUT0", "datatype": "FP32", "shape": [1000], "parameters": {"binary_data_size": 4000}}
    text = json.dumps({"inputs": [document]}).encode()
    answer = await client.post(
        "/v2/models/identity_fp32/infer",
        content=text + bytes(4000),
        headers={"Inference-Header-Content-Length": str(len(text))},
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("how", ["generate", "generate_stream"])
@pytest.mark.parametrize(
    ("wanted", "report", "header"),
    [
        ("text", KV_CACHE, "TEXT named_metrics.kv_cache_utilization=0.250000, named_metrics.max_token_capacity=2560"),
        ("json", KV_CACHE, 'JSON {"named_metrics":{"kv_cache_utilization":0.25,"max_token_capacity":2560}}'),
        ("xml", KV_CACHE, None),
        ("json", "", None),
        (None, KV_CACHE, None),
    ],
)
async def test_generate_tells_load_balancers_of_the_kv_cache(ask, how, wanted, report, header):
    """In the format that is asked for; nothing where nobody asks or nothing is known."""
    client = await ask(load_report=lambda: report)
    headers = {"endpoint-load-metrics-format": wanted} if wanted else {}
    answer = await client.post(f"/v2/models/words/{how}", json={"text_input": "hi"}, headers=headers)
    assert answer.headers.get("endpoint-load-metrics") == header


async def test_an_unknown_encoding_is_told_those_that_are_known(ask):
    """In a header of the answer, as Triton does."""
    answer = await infer(await ask(), {"Content-Encoding": "br"})
    assert (answer.status_code, answer.headers["accept-encoding"]) == (501, "gzip, deflate")
