"""The ports of SageMaker and Vertex AI over the small models."""

import json
import re
import struct

import httpx
import pytest

from tritium.compat.restrictions import Api, Restriction
from tritium.http import sagemaker, vertex_ai
from tritium.http.front import Front
from tritium.http.marking import SAGEMAKER, VERTEX_AI
from tritium.wire.listener import listen_http

A = {"name": "INPUT0", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4]}
BOTH = {"inputs": [A, A | {"name": "INPUT1"}]}
PREDICT, REDIRECT = "/predict", "X-Vertex-Ai-Triton-Redirect"


@pytest.fixture
async def ask(server):
    """Open a port for a handler, and return a client of it."""
    opened = []

    async def open_port(handler):
        listener = await listen_http(handler, host="127.0.0.1", port=0)
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}", timeout=60, verify=False)
        opened.append((listener, client))
        return client

    yield open_port
    for listener, client in opened:
        await client.aclose()
        await listener.close(1)


@pytest.fixture
async def amazon(ask, server):
    """A SageMaker port whose model is add_sub."""
    settings = sagemaker.read({"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "add_sub"})
    return await ask(sagemaker.handler(Front(server, marking=SAGEMAKER), settings, None))


@pytest.fixture
async def google(ask, server):
    """A Vertex AI port whose model is add_sub."""
    settings = vertex_ai.read({"AIP_PREDICT_ROUTE": PREDICT, "AIP_HEALTH_ROUTE": "/health"}, "add_sub")
    return await ask(vertex_ai.handler(Front(server, marking=VERTEX_AI), settings, lambda: "nv_metric 1\n"))


async def test_sagemaker_pings_and_invokes(amazon, house):
    """Readiness, and inference of the one model."""
    assert (await amazon.get("/ping")).status_code == 200
    house.ready = False
    assert (await amazon.get("/ping")).status_code == 400
    answer = await amazon.post("/invocations", json=BOTH)
    assert (answer.status_code, answer.json()["outputs"][0]["data"]) == (200, [2.0, 4.0, 6.0, 8.0])


@pytest.mark.parametrize("path", ["/", "/v2/health/live", "/model", "/invocations/"])
async def test_sagemaker_knows_no_other_path(amazon, path):
    """400 with nothing."""
    answer = await amazon.get(path)
    assert (answer.status_code, answer.content) == (400, b"")


async def test_sagemaker_invokes_by_generate(ask, server):
    """The variables choose the extension."""
    environment = {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "words", "SAGEMAKER_TRITON_INFERENCE_TYPE": "generate"}
    client = await ask(sagemaker.handler(Front(server, marking=SAGEMAKER), sagemaker.read(environment), None))
    answer = await client.post("/invocations", json={"text_input": "hi there"})
    assert answer.json()["text_output"] == "hi there"


def test_a_kind_of_inference_that_there_is_not_is_refused():
    """Before the port opens."""
    with pytest.raises(ValueError, match="one of infer, generate, generate_stream, not 'chat'"):
        sagemaker.read({"SAGEMAKER_TRITON_INFERENCE_TYPE": "chat"})


@pytest.mark.parametrize(
    ("cloud", "path", "kind"),
    [(0, "/invocations", SAGEMAKER.prefix), (1, PREDICT, VERTEX_AI.prefix)],
    ids=["sagemaker", "vertex_ai"],
)
async def test_the_content_type_says_where_tensors_begin(amazon, google, cloud, path, kind):
    """KServe's own header means nothing in a request; Vertex AI has it in answers."""
    client = (amazon, google)[cloud]
    tensor = {"datatype": "FP32", "shape": [4], "parameters": {"binary_data_size": 16}}
    outputs = [{"name": "OUTPUT0", "parameters": {"binary_data": True}}]
    text = json.dumps(
        {"inputs": [tensor | {"name": "INPUT0"}, tensor | {"name": "INPUT1"}], "outputs": outputs}
    ).encode()
    body = text + struct.pack("<8f", *range(8))
    answer = await client.post(path, content=body, headers={"Content-Type": f"{kind}{len(text)}"})
    marked = re.fullmatch(re.escape(kind) + r"(\d+)", answer.headers["content-type"])
    size = marked[1] if cloud == 0 else answer.headers["inference-header-content-length"]
    assert struct.unpack("<4f", answer.content[int(size) :]) == (4.0, 6.0, 8.0, 10.0)


@pytest.mark.parametrize(
    ("content_type", "words"),
    [
        (f"{SAGEMAKER.prefix}abc", "Unable to parse inference header size, got: abc"),
        (f"{SAGEMAKER.prefix}99999999999", "value is out of range, got: 99999999999"),
        (f"{SAGEMAKER.prefix}5", "inference header size should be in range (0, 2), got: 5"),
        (f"text/{SAGEMAKER.prefix}2", f"expect MIME type for binary data starts with '{SAGEMAKER.prefix}', got: text/"),
    ],
)
async def test_a_content_type_that_says_nonsense_is_refused(amazon, content_type, words):
    """In Triton's words."""
    answer = await amazon.post("/invocations", content=b"{}", headers={"Content-Type": content_type})
    assert (answer.status_code, words in answer.json()["error"]) == (400, True)


async def test_vertex_ai_predicts(google):
    """Health, inference of the default model, and 400 for all else."""
    assert (await google.get("/health")).status_code == 200
    assert (await google.post(PREDICT, json=BOTH)).json()["model_name"] == "add_sub"
    assert (await google.get("/v2/health/live")).status_code == 400
    assert (await google.get(PREDICT)).status_code == 405


@pytest.mark.parametrize(
    ("redirect", "status"),
    [
        ("metrics", 200),
        ("v2", 200),
        ("v2/health/live", 200),
        ("v2/models/stats", 200),
        ("v2/models/add_sub/config", 200),
        ("v2/models/nope/config", 404),
        ("v2/repository/index", 200),
        ("v2/systemsharedmemory/status", 200),
        ("v2/systemsharedmemory/region/r/register", 403),
        ("v2/cudasharedmemory/unregister", 403),
        ("v2/repository/models/add_sub/unload", 403),
        ("v2/logging", 400),
        ("v2/models/add_sub/generate", 400),
        ("nonsense", 400),
    ],
)
async def test_vertex_ai_is_redirected_to_what_changes_nothing(google, house, redirect, status):
    """A POST stands for the method of the place it is sent on to."""
    answer = await google.post(PREDICT, headers={REDIRECT: redirect})
    assert answer.status_code == status
    assert house.asked == []


async def test_vertex_ai_infers_the_model_it_is_redirected_to(google):
    """Another than the default one."""
    answer = await google.post(PREDICT, json={"inputs": [A]}, headers={REDIRECT: "v2/models/identity_fp32/infer"})
    assert answer.json()["model_name"] == "identity_fp32"


async def test_vertex_ai_needs_a_model_among_several(ask, server):
    """Which one is meant cannot be guessed."""
    settings = vertex_ai.read({"AIP_PREDICT_ROUTE": PREDICT, "AIP_HEALTH_ROUTE": "/health"}, "")
    client = await ask(vertex_ai.handler(Front(server, marking=VERTEX_AI), settings, str))
    answer = await client.post(PREDICT, json=BOTH)
    assert (answer.status_code, "only a single model" in answer.json()["error"]) == (400, True)


def test_vertex_ai_needs_its_routes():
    """Both."""
    with pytest.raises(ValueError, match="AIP_HEALTH_ROUTE is not defined for Vertex AI endpoint"):
        vertex_ai.read({"AIP_PREDICT_ROUTE": PREDICT}, "")


async def test_restrictions_reach_behind_a_redirect(ask, server):
    """What needs a header on the HTTP port needs it here."""
    settings = vertex_ai.read({"AIP_PREDICT_ROUTE": PREDICT, "AIP_HEALTH_ROUTE": "/health"}, "add_sub")
    front = Front(server, restricted={Api.METADATA: Restriction("key", "secret")}, marking=VERTEX_AI)
    client = await ask(vertex_ai.handler(front, settings, str))
    assert (await client.post(PREDICT, headers={REDIRECT: "v2"})).status_code == 403
    assert (await client.post(PREDICT, headers={REDIRECT: "v2", "Key": "secret"})).status_code == 200
