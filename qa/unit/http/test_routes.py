"""Every URL, and every method on it."""

import json

import pytest

from tritium.http.routes import ROUTES

GET = [
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/add_sub",
    "/v2/models/add_sub/versions/1",
    "/v2/models/add_sub/ready",
    "/v2/models/add_sub/versions/1/ready",
    "/v2/models/add_sub/config",
    "/v2/models/add_sub/versions/1/config",
    "/v2/models/add_sub/stats",
    "/v2/models/add_sub/versions/1/stats",
    "/v2/models/stats",
    "/v2/models/add_sub/trace/setting",
    "/v2/trace/setting",
    "/v2/logging",
    "/v2/systemsharedmemory/status",
    "/v2/cudasharedmemory/status",
]
POST = [
    "/v2/models/add_sub/infer",
    "/v2/models/add_sub/generate",
    "/v2/models/add_sub/generate_stream",
    "/v2/repository/index",
    "/v2/repository/own/index",
    "/v2/repository/models/add_sub/load",
    "/v2/repository/models/add_sub/unload",
    "/v2/systemsharedmemory/region/r/register",
    "/v2/systemsharedmemory/unregister",
    "/v2/cudasharedmemory/region/r/unregister",
]


@pytest.mark.parametrize("path", GET)
async def test_what_can_be_read_is_there(client, path):
    """Each answers 200 to GET."""
    assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("path", POST)
async def test_what_is_done_is_not_read(client, path):
    """GET of something that is POSTed to is 405."""
    answer = await client.get(path)
    assert (answer.status_code, answer.json()) == (405, {"error": "Method Not Allowed"})


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "OPTIONS"])
async def test_other_methods_are_not_allowed(client, method):
    """On any URL that exists."""
    assert (await client.request(method, "/v2/models/add_sub")).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nope",
        "/metrics",
        "/v1/models/x",
        "/v2/",
        "/v2//health/live",
        "/v2/health",
        "/v2/health/live/",
        "/v2/models",
        "/v2/models/",
        "/v2/models/add_sub/",
        "/v2/models/add_sub/nope",
        "/v2/models/add_sub/versions/abc",
        "/v2/models/add_sub/versions/-1/ready",
    ],
)
async def test_other_urls_are_not_found(client, path):
    """No trailing slash, no version that is no number."""
    answer = await client.get(path)
    assert (answer.status_code, answer.json()) == (404, {"error": "Not Found"})


async def test_names_are_not_decoded(client):
    """A percent sign is a percent sign, as in Triton."""
    answer = await client.get("/v2/models/add%5Fsub")
    assert answer.json() == {"error": "Request for unknown model: 'add%5Fsub' is not found"}


async def test_a_query_says_nothing(client):
    """It is taken and not read."""
    assert (await client.get("/v2/health/live?x=1")).status_code == 200


def test_every_route_is_in_the_manual(request):
    """docs/protocols.md names each path."""
    manual = (request.config.rootpath / "docs" / "protocols.md").read_text()
    for route in ROUTES:
        path = route.pattern.pattern.replace("(?P<name>[^/]+)", "{name}")
        path = path.replace("(?:/versions/(?P<version>[0-9]+))?", "").replace("(?:/(?P<repository>[^/]+))?", "")
        for kind in ("system", "cuda") if "sharedmemory" in path else ("",):
            plain = path.replace("(?P<memory>system|cuda)", kind).replace("(?:/region/(?P<region>[^/]+))?", "")
            assert f"`{plain}`" in manual


async def test_health_tells_the_truth(client, house):
    """Ready is the catalog's word; live is the process's."""
    house.ready = False
    assert (await client.get("/v2/health/ready")).status_code == 400
    assert (await client.get("/v2/health/live")).status_code == 200


async def test_a_model_that_is_not_there_is_not_ready(client):
    """An unknown model is 400 here, not 404, as in Triton."""
    for path in ("nope", "add_sub/versions/9"):
        answer = await client.get(f"/v2/models/{path}/ready")
        assert (answer.status_code, answer.json()) == (400, {"error": "Model version not ready"})


async def test_metadata_names_inputs_outputs_and_versions(client):
    """Shapes have the batch dimension where the model has one; a version in the URL is the only one named."""
    answer = await client.get("/v2/models/add_sub_batch")
    assert answer.content == (
        b'{"name":"add_sub_batch","versions":["1"],"platform":"python","inputs":['
        b'{"name":"INPUT0","datatype":"FP32","shape":[-1,4]},{"name":"INPUT1","datatype":"FP32","shape":[-1,4]}],'
        b'"outputs":[{"name":"OUTPUT0","datatype":"FP32","shape":[-1,4]},'
        b'{"name":"OUTPUT1","datatype":"FP32","shape":[-1,4]}]}'
    )
    assert (await client.get("/v2/models/add_sub_16")).json()["versions"] == ["1", "3"]
    for number in ("3", "003"):
        assert (await client.get(f"/v2/models/add_sub_16/versions/{number}")).json()["versions"] == ["3"]


async def test_statistics_count(client):
    """One model, one version, or all; an unknown one is 400, as in Triton."""
    raw = {"inference-header-content-length": "0"}
    await client.post("/v2/models/identity_fp32/infer", content=b"\0" * 8, headers=raw)
    (row,) = (await client.get("/v2/models/identity_fp32/stats")).json()["model_stats"]
    assert (row["inference_count"], row["execution_count"], row["inference_stats"]["success"]["count"]) == (1, 1, 1)
    assert row["batch_stats"][0]["batch_size"] == 1
    assert len((await client.get("/v2/models/add_sub_16/stats")).json()["model_stats"]) == 2
    assert len((await client.get("/v2/models/add_sub_16/versions/3/stats")).json()["model_stats"]) == 1
    answer = await client.get("/v2/models/nope/stats")
    assert (answer.status_code, answer.json()) == (400, {"error": "requested model 'nope' is not available"})


async def test_the_index_leaves_out_what_is_empty(client):
    """A model that never loaded has a name and nothing else."""
    rows = (await client.post("/v2/repository/index")).json()
    assert rows[0] == {"name": "add_sub", "version": "1", "state": "READY"}
    assert rows[-2:] == [
        {"name": "broken"},
        {"name": "gone", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
    ]
    ready = (await client.post("/v2/repository/index", json={"ready": True})).json()
    assert {row["state"] for row in ready} == {"READY"}


async def test_loading_passes_on_configuration_and_files(client, house):
    """Files come as base64, their paths after `file:`."""
    parameters = {"config": '{"backend": "python"}', "file:1/model.py": "cHJpbnQ="}
    answer = await client.post("/v2/repository/models/m/load", json={"parameters": parameters})
    assert (answer.status_code, answer.content) == (200, b"")
    ((_, name, given),) = house.asked
    assert (name, given.config, given.files) == ("m", parameters["config"], {"1/model.py": b"print"})


async def test_unloading_passes_on_dependents(client, house):
    """Without a body, dependents stay."""
    await client.post("/v2/repository/models/m/unload", json={"parameters": {"unload_dependents": True}})
    await client.post("/v2/repository/models/m/unload")
    assert house.asked == [("unload", "m", True), ("unload", "m", False)]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("models/nope/load", {}, 500, "failed to load 'nope', failed to poll from model repository"),
        ("models/m/load", {"parameters": {"foo": "x"}}, 500, "unexpected error on creating Triton parameter"),
        ("models/m/load", {"parameters": {"file:1/a": "abcde"}}, 400, "load parameter 'file:1/a' is not base64"),
        ("models/m/load", b"{", 500, "failed to parse the request JSON buffer: Missing a name for object member. at 1"),
        ("own/models/m/load", {}, 501, "'repository_name' specification is not supported"),
        ("models/m/load", {"parameters": {"config": 5}}, 500, "attempt to access JSON non-string as string"),
        ("index", {"ready": 1}, 400, "Invalid value for 'ready': expected a boolean"),
        ("index", [], 500, "attempt to get members for non-object"),
    ],
)
async def test_wrong_repository_requests_are_refused(client, path, body, status, words):
    """In Triton's words where it has some."""
    content = body if isinstance(body, bytes) else json.dumps(body)
    answer = await client.post(f"/v2/repository/{path}", content=content)
    assert (answer.status_code, answer.json()["error"]) == (status, words)


async def test_loading_can_be_forbidden(client, house):
    """The control mode decides; the catalog says so."""
    house.explicit = False
    answer = await client.post("/v2/repository/models/m/load")
    assert (answer.status_code, answer.json()["error"]) == (
        503,
        "explicit model load / unload is not allowed if polling is enabled",
    )


async def test_log_settings_are_changed_and_shown(client):
    """What is not named stays; the answer shows all."""
    before = (await client.get("/v2/logging")).json()
    answer = await client.post("/v2/logging", json={"log_verbose_level": 2, "log_info": False})
    assert (answer.status_code, answer.json()) == (200, before | {"log_verbose_level": 2, "log_info": False})
    assert (await client.get("/v2/logging")).json() == answer.json()


async def test_trace_settings_of_a_model_are_its_own(client):
    """They fall back to the server's where they are cleared."""
    path = "/v2/models/add_sub/trace/setting"
    assert (await client.post(path, json={"trace_rate": "7"})).json()["trace_rate"] == "7"
    assert (await client.get("/v2/trace/setting")).json()["trace_rate"] == "1000"
    assert (await client.post(path, json={"trace_rate": None})).json()["trace_rate"] == "1000"


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("logging", {"log_info": 1}, 500, "attempt to access JSON non-boolean as boolean"),
        ("logging", {"log_file": "x"}, 501, "log file location can not be updated through network protocol"),
        ("trace/setting", {"trace_file": "x"}, 501, "trace file location can not be updated through network protocol"),
        ("trace/setting", {"trace_rate": "x"}, 400, "Unable to parse 'trace_rate', got: x"),
        ("models/nope/trace/setting", {}, 400, "Request for unknown model : nope"),
    ],
)
async def test_wrong_settings_are_refused(client, path, body, status, words):
    """In Triton's words."""
    answer = await client.post(f"/v2/{path}", json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": words})


@pytest.mark.parametrize("memory", ["system", "cuda"])
async def test_an_unknown_region_is_told_by_its_memory(client, memory):
    """404 in Triton's words."""
    answer = await client.get(f"/v2/{memory}sharedmemory/region/r/status")
    assert (answer.status_code, answer.json()) == (
        404,
        {"error": f"Unable to find {memory} shared memory region: 'r'"},
    )


async def test_settings_of_an_unknown_model_are_refused(client):
    """With the odd blank of Triton's text."""
    answer = await client.get("/v2/models/nope/trace/setting")
    assert (answer.status_code, answer.json()) == (400, {"error": "Request for unknown model : nope"})
