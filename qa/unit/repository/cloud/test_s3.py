"""A repository in S3: what is loaded, what is downloaded and when, and what is said when it cannot be."""

import pytest

from tritium.core.catalog import LoadParameters
from tritium.core.errors import Internal
from tritium.repository.cloud.bucket import Bucket, CloudError
from tritium.repository.cloud.repository import CloudRepository
from tritium.repository.settings import ControlMode

EXPLICIT, POLL = ControlMode.EXPLICIT, ControlMode.POLL
NOTHING = LoadParameters()
CONFIG = (
    "backend: 'fake' input { name: 'x' data_type: TYPE_FP32 dims: [ 1 ] } "
    "output { name: 'y' data_type: TYPE_FP32 dims: [ 1 ] }"
)


@pytest.fixture
def fetched(monkeypatch):
    """Remember the objects that are downloaded."""
    paths = []
    original = Bucket.fetch

    def fetch(self, one, target):
        paths.append(one.path)
        original(self, one, target)

    monkeypatch.setattr(Bucket, "fetch", fetch)
    return paths


def write(bucket, name, *versions, content="one", root="models"):
    bucket.put(f"{root}/{name}/config.pbtxt", CONFIG)
    for version in versions or ("1",):
        bucket.put(f"{root}/{name}/{version}/model.fake", content)


def registry_of(house, bucket, mode, **settings):
    repository = CloudRepository(f"{bucket.address}/models", house.path / "cache")
    return house.registry(mode, repositories=(repository,), **settings)


async def test_all_models_are_loaded(house, bucket, index_of):
    """Mode none: everything under the path, and nothing beside it."""
    write(bucket, "a")
    write(bucket, "b", "1", "2")
    write(bucket, "c", root="others")
    registry = registry_of(house, bucket, ControlMode.NONE)
    await registry.start()
    assert index_of(registry) == {"a": {"1": ("READY", "")}, "b": {"2": ("READY", "")}}
    assert registry.ready


async def test_polling_fetches_and_loads_only_what_has_changed(house, bucket, fetched):
    """What has the tags it had is neither downloaded nor loaded; of a model that changed, only the files that did."""
    write(bucket, "a")
    write(bucket, "b")
    registry = registry_of(house, bucket, POLL, poll_s=3600)
    await registry.start()
    fetched.clear()
    untouched, old = registry.model("a"), registry.model("b")
    await registry.poll()
    assert fetched == []
    assert registry.model("b") is old
    bucket.put("models/b/1/model.fake", "two")
    await registry.poll()
    assert fetched == ["b/1/model.fake"]
    assert registry.model("b").content == "two"
    assert registry.model("a") is untouched


async def test_models_come_and_go(house, bucket, index_of):
    """New folders are loaded at the next poll, those that are gone are unloaded, and their copies deleted."""
    write(bucket, "a")
    registry = registry_of(house, bucket, POLL, poll_s=3600)
    await registry.start()
    write(bucket, "b")
    bucket.delete("models/a/config.pbtxt")
    bucket.delete("models/a/1/model.fake")
    await registry.poll()
    assert index_of(registry) == {"b": {"1": ("READY", "")}}
    await registry.poll()
    copies = {path.parent.name for path in (house.path / "cache").glob("*/*/*/config.pbtxt")}
    assert "b" in copies


async def test_only_what_is_asked_for_is_fetched(house, bucket, fetched):
    """Mode explicit: a load fetches the model and its members, and again only when they have changed."""
    write(bucket, "a")
    write(bucket, "b")
    registry = registry_of(house, bucket, EXPLICIT)
    await registry.start()
    assert fetched == []
    assert [entry.name for entry in registry.index()] == ["a", "b"]
    await registry.load("a", NOTHING)
    assert set(fetched) == {"a/config.pbtxt", "a/1/model.fake"}
    fetched.clear()
    await registry.load("a", NOTHING)
    assert fetched == []
    with pytest.raises(Internal, match="failed to load 'c', failed to poll from model repository"):
        await registry.load("c", NOTHING)


async def test_a_restart_finds_its_copies(house, bucket, fetched):
    """The cache outlives the server: only what has changed since is downloaded."""
    write(bucket, "a")
    first = registry_of(house, bucket, ControlMode.NONE)
    await first.start()
    await first.close()
    fetched.clear()
    bucket.put("models/a/1/model.fake", "two")
    second = registry_of(house, bucket, ControlMode.NONE)
    await second.start()
    assert fetched == ["a/1/model.fake"]
    assert second.model("a").content == "two"


async def test_an_empty_version_folder_is_one(house, bucket, index_of):
    """Stores have no folders: an empty object of the name stands for that of an ensemble's version."""
    write(bucket, "a")
    maps = "input_map { key: 'x' value: 'x' } output_map { key: 'y' value: 'y' }"
    steps = f"step {{ model_name: 'a' model_version: -1 {maps} }}"
    ensemble = CONFIG.replace("backend: 'fake'", "platform: 'ensemble'") + f" ensemble_scheduling {{ {steps} }}"
    bucket.put("models/whole/config.pbtxt", ensemble)
    bucket.marker("models/whole/3")
    registry = registry_of(house, bucket, ControlMode.NONE)
    await registry.start()
    assert index_of(registry)["whole"] == {"3": ("READY", "")}


async def test_a_store_that_fails_while_polled_unloads_nothing(house, bucket, monkeypatch, fetched):
    """What cannot be seen for a moment goes on serving, and is not loaded again when it can be."""
    write(bucket, "a")
    registry = registry_of(house, bucket, POLL, poll_s=3600)
    await registry.start()
    old = registry.model("a")

    def unreachable(self, *_):
        raise CloudError("the store did not answer in time")

    with monkeypatch.context() as broken:
        broken.setattr(Bucket, "names", unreachable)
        await registry.poll()
    with monkeypatch.context() as broken:
        broken.setattr(Bucket, "objects", unreachable)
        await registry.poll()
    assert registry.model("a") is old
    await registry.poll()
    assert registry.model("a") is old
    assert registry.ready


async def test_half_a_model_is_never_seen(house, bucket, monkeypatch):
    """A download that breaks off leaves the old model serving, and no copy that looks whole."""
    write(bucket, "a")
    registry = registry_of(house, bucket, POLL, poll_s=3600)
    await registry.start()
    bucket.put("models/a/config.pbtxt", CONFIG + " max_batch_size: 4")
    bucket.put("models/a/1/model.fake", "two")
    original = Bucket.fetch

    def breaks(self, one, target):
        if one.path.endswith("model.fake"):
            raise CloudError("the connection broke")
        original(self, one, target)

    with monkeypatch.context() as broken:
        broken.setattr(Bucket, "fetch", breaks)
        await registry.poll()
    assert registry.model("a").content == "one"
    await registry.poll()
    assert registry.model("a").content == "two"


async def test_what_is_wrong_is_said(house, bucket, s3_endpoint):
    """A bucket or a path that is not there, a server that is not: each with its address."""
    write(bucket, "a")
    cases = {
        f"s3://{s3_endpoint}/no-such-bucket": "there is no bucket 'no-such-bucket'",
        f"{bucket.address}/nowhere": "nothing lies there",
        "s3://127.0.0.1:1/b": "cannot connect to http://127.0.0.1:1",
    }
    for address, message in cases.items():
        survey = house.registry(repositories=(CloudRepository(address, house.path / "cache"),)).survey()
        assert [(problem.path, problem.message) for problem in survey.unreadable] == [(address, message)]
