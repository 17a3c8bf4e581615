"""SageMaker's multi-model endpoints over the small models."""

import httpx
import pytest

from tritium.compat.restrictions import Api, Restriction
from tritium.core.errors import AlreadyExists, Internal
from tritium.http.front import Front
from tritium.http.marking import SAGEMAKER
from tritium.http.multi_model import MultiModel
from tritium.wire.listener import listen_http

NUMBERS = {"shape": [4], "datatype": "FP32", "data": [1, 2, 3, 4]}
BOTH = {"inputs": [{"name": name, **NUMBERS} for name in ("INPUT0", "INPUT1")]}


class Folders:
    """Notes what is registered."""

    def __init__(self):
        self.registered = {}

    def register(self, folder, names):
        if folder in self.registered:
            raise AlreadyExists(f"model repository '{folder}' has already been registered")
        [self.registered[folder]] = names.items()

    def unregister(self, folder):
        del self.registered[folder]


@pytest.fixture
def folders():
    return Folders()


@pytest.fixture
def home(tmp_path):
    """Where an endpoint unpacks models: one with its configuration at the top, one that is an ensemble of two."""
    (tmp_path / "abc/model/1").mkdir(parents=True)
    (tmp_path / "abc/model/config.pbtxt").write_text('backend: "python"')
    for name, platform in (("a_member", "python"), ("whole", "ensemble"), ("z_member", "python")):
        (tmp_path / "def/model" / name / "1").mkdir(parents=True)
        (tmp_path / "def/model" / name / "config.pbtxt").write_text(f'platform: "{platform}"')
    return tmp_path


@pytest.fixture
async def endpoint(server, house, folders, home):
    """A multi-model endpoint, whose catalog has a model called add_sub from the start."""
    house.explicit = True
    many = MultiModel(Front(server, marking=SAGEMAKER), folders, str(home))
    listener = await listen_http(many.handle, host="127.0.0.1", port=0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}", timeout=60, verify=False) as client:
        yield client
    await listener.close(1)


def load(endpoint, name, url, **headers):
    return endpoint.post("/models", json={"model_name": name, "url": str(url)}, headers=headers)


async def test_a_model_comes_answers_and_goes(endpoint, house, folders, home):
    """Loaded by its URL, listed, invoked, unloaded with its dependents; then it is not there."""
    url = home / "abc/model"
    row = {"modelName": "add_sub", "modelUrl": str(home / "abc")}
    assert (await load(endpoint, "add_sub", url)).status_code == 200
    assert folders.registered == {str(home / "abc"): ("model", "add_sub")}
    assert (await endpoint.get("/models")).json() == {"models": [row]}
    assert (await endpoint.get("/models/add_sub")).json() == row
    answer = await endpoint.post("/models/add_sub/invoke", json=BOTH)
    assert answer.json()["outputs"][0]["data"] == [2.0, 4.0, 6.0, 8.0]
    house.loaded.pop("add_sub")
    assert (await endpoint.delete("/models/add_sub")).status_code == 200
    assert house.asked[-1] == ("unload", "add_sub", True)
    assert folders.registered == {}
    for gone in (endpoint.get("/models/add_sub"), endpoint.delete("/models/add_sub")):
        assert (await gone).status_code == 404
    assert (await endpoint.post("/models/add_sub/invoke", json=BOTH)).status_code == 404


async def test_the_same_model_again_is_a_conflict(endpoint, home):
    """409, which SageMaker takes for loaded."""
    assert (await load(endpoint, "add_sub", home / "abc/model")).status_code == 200
    again = await load(endpoint, "add_sub", home / "abc/model")
    assert (again.status_code, "already been registered" in again.json()["error"]) == (409, True)


async def test_of_several_models_the_ensemble_is_meant(endpoint, folders, home):
    """It goes by the target model's name; its members by their own."""
    answer = await load(endpoint, "hash", home / "def/model", **{"X-Amzn-SageMaker-Target-Model": "add_sub"})
    assert answer.status_code == 200
    assert folders.registered == {str(home / "def/model"): ("whole", "add_sub")}
    headers = {"X-Amzn-SageMaker-Target-Model": "add_sub"}
    assert (await endpoint.post("/models/hash/invoke", json=BOTH, headers=headers)).status_code == 200


@pytest.mark.parametrize("url", ["", "/etc", "/dev/shm/model", "{home}/abc", "{home}/../abc/model"])
async def test_only_sagemakers_urls_are_loaded(endpoint, folders, home, url):
    """Whatever else is on the machine is none of an endpoint's business."""
    answer = await load(endpoint, "m", url.format(home=home))
    assert (answer.status_code, 'Invalid "url"' in answer.json()["error"]) == (400, True)
    assert folders.registered == {}


@pytest.mark.parametrize(("reason", "status"), [("no backend", 400), ("CUDA out of memory", 507)])
async def test_what_cannot_be_loaded_is_not_registered(endpoint, house, folders, home, reason, status):
    """For want of memory it is 507, upon which SageMaker unloads others."""

    async def fail(_name, _parameters):
        raise Internal(f"failed to load: {reason}")

    house.load = fail
    assert (await load(endpoint, "m", home / "abc/model")).status_code == status
    assert folders.registered == {}


@pytest.mark.parametrize("body", ["[]", '{"model_name": 5}', "{"])
async def test_a_load_request_that_is_none_is_told_so(endpoint, body):
    """400 in the words of the JSON reader."""
    assert (await endpoint.post("/models", content=body)).status_code == 400


async def test_other_methods_and_paths_are_unknown(endpoint):
    """400 and nothing, as all that the port does not know."""
    for answer in (endpoint.put("/models"), endpoint.post("/models/m/nope"), endpoint.patch("/models/m")):
        assert (await answer).status_code == 400


async def test_control_may_be_restricted(server, folders, home):
    """Loading, listing and unloading need the header then; invoking does not."""
    front = Front(server, restricted={Api.MODEL_REPOSITORY: Restriction("key", "k")})
    listener = await listen_http(MultiModel(front, folders, str(home)).handle, host="127.0.0.1", port=0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}", timeout=60, verify=False) as client:
        assert (await client.get("/models")).status_code == 403
        assert (await client.get("/models", headers={"key": "k"})).status_code == 200
        assert (await client.post("/models/m/invoke")).status_code == 404
    await listener.close(1)
