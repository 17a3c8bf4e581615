"""Repositories in Google Cloud Storage and in Azure, against an endpoint that has their manners."""

import base64
import importlib.util
from pathlib import Path

import pytest

from tritium.repository.cloud.repository import CloudRepository
from tritium.repository.settings import ControlMode

CONFIG = (
    b"backend: 'fake' input { name: 'x' data_type: TYPE_FP32 dims: [ 1 ] } "
    b"output { name: 'y' data_type: TYPE_FP32 dims: [ 1 ] }"
)


def _fake_stores():
    spec = importlib.util.spec_from_file_location("fake_stores", Path(__file__).parent / "fake_stores.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def store(monkeypatch):
    made = _fake_stores().FakeStore()
    monkeypatch.delenv("TRITON_CLOUD_CREDENTIAL_PATH", raising=False)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", made.endpoint)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", made.endpoint)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account")
    monkeypatch.setenv("AZURE_STORAGE_KEY", base64.b64encode(b"key").decode())
    yield made
    made.close()


@pytest.mark.parametrize("address", ["gs://place/models", "as://account/place/models"])
async def test_a_repository_is_served_and_polled(house, store, address):
    """The same as in S3: all is loaded, and of what changes only that is fetched."""
    store.objects["place"] = {"models/a/config.pbtxt": CONFIG, "models/a/1/model.fake": b"one", "other/b/1/x": b""}
    repository = CloudRepository(address, house.path / "cache")
    registry = house.registry(ControlMode.POLL, repositories=(repository,), poll_s=3600)
    await registry.start()
    assert [model.name for model in registry.models()] == ["a"]
    store.read.clear()
    store.objects["place"]["models/a/1/model.fake"] = b"two"
    await registry.poll()
    await registry.poll()
    assert registry.model("a").content == "two"
    assert store.read == ["models/a/1/model.fake"]


@pytest.mark.parametrize(
    ("address", "variable"),
    [("gs://place", "GOOGLE_APPLICATION_CREDENTIALS"), ("as://account/place", "AZURE_STORAGE_KEY")],
)
def test_a_denial_names_what_to_set(house, store, address, variable):
    """Credentials that are not accepted are told from a bucket that is not there."""
    repository = CloudRepository(address, house.path / "cache")
    (problem,) = house.registry(repositories=(repository,)).survey().unreadable
    assert problem.message.startswith(("there is no bucket 'place'", "no such bucket"))
    store.denied = True
    (problem,) = house.registry(repositories=(repository,)).survey().unreadable
    assert problem.message == "access denied"
    assert variable in problem.hint
