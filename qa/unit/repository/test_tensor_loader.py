"""Opening the instances that a configuration asks for."""

import asyncio
from pathlib import Path

import pytest

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.compat.config.defaults import complete_instances
from tritium.compat.config.model import from_proto
from tritium.compat.config.parse import parse_text
from tritium.core.errors import InvalidArgument, ModelFailed, Unsupported
from tritium.core.facilities import Facilities
from tritium.core.scheduler.limiter import EVERY_DEVICE, GLOBAL, Claim, RateLimiter
from tritium.repository.seats import seats_of
from tritium.repository.tensor_loader import TensorLoader, tensor_loaders


class FakeInstance:
    depth = 1
    healthy = True
    closed = False

    def __init__(self, place, host):
        self.name, self.place, self.host = place.name, place, host

    async def execute(self, jobs):
        raise NotImplementedError

    async def close(self):
        self.closed = True


class FakeBackend:
    """Opens instances but for the one called `refused`, which fails once all others are open."""

    name = "fake"

    def __init__(self, refused=""):
        self.refused, self.opened = refused, []
        self.first, self.second = asyncio.Event(), asyncio.Event()

    async def complete(self, config, folder, version):
        return config

    async def open(self, source, place, host):
        if place.name == self.refused:
            await self.second.wait()
            raise ModelFailed("boom in initialize")
        self.opened.append(FakeInstance(place, host))
        (self.second if self.first.is_set() else self.first).set()
        return self.opened[-1]


def source(groups, gpus=()):
    config = parse_text(f"name: 'm' backend: 'fake' {groups}", "f").message
    complete_instances(config, gpus)
    return ModelSource(from_proto(config), Path("m"), "1")


@pytest.mark.parametrize(
    ("groups", "gpus", "places"),
    [
        ("", (), [InstancePlace("m_0")]),
        ("instance_group { count: 2 }", (), [InstancePlace("m_0_0"), InstancePlace("m_0_1")]),
        ("instance_group [ {}, { name: 'n' } ]", (), [InstancePlace("m_0_0"), InstancePlace("n_0")]),
        ("instance_group { kind: KIND_MODEL }", (), [InstancePlace("m_0_0", "MODEL")]),
        (
            "instance_group { kind: KIND_GPU count: 2 }",
            (0, 1),
            [InstancePlace(f"m_0_{i}", "GPU", device) for i, device in enumerate((0, 0, 1, 1))],
        ),
    ],
)
def test_places(groups, gpus, places):
    """Instances are named as Triton names them, and stand on the devices of their group, one after the other."""
    assert [seat.place for seat in seats_of(source(groups, gpus).config)] == places


def test_a_count_without_measure_is_refused():
    """A number that was mistyped, or meant badly, must not fill the memory before anything can be told."""
    with pytest.raises(InvalidArgument, match="model 'm' asks for 2147483648 instances; up to 4096"):
        seats_of(source("instance_group [ { count: 2147483647 }, {} ]").config)


async def test_instances_are_opened_and_closed_with_the_model():
    """The model is ready with its instances, which are closed when it is."""
    backend = FakeBackend()
    host = BackendHost(settings={"a": "b"})
    loader = TensorLoader(lambda: backend, lambda: host)
    model = await loader.load(source("instance_group { count: 3 }"))
    assert model.ready
    assert [i.name for i in backend.opened] == ["m_0_0", "m_0_1", "m_0_2"]
    assert backend.opened[0].host.settings == {"a": "b"}
    for instance in backend.opened:
        instance.healthy = False
    backend.opened[0].host.changed()
    assert not model.ready
    await asyncio.wait_for(model.close(), 60)
    assert all(instance.closed for instance in backend.opened)


async def test_failing_instance_closes_the_others():
    """When one instance cannot be opened nothing of the model stays."""
    backend = FakeBackend(refused="m_0_1")
    loader = TensorLoader(lambda: backend, BackendHost)
    with pytest.raises(ModelFailed, match="boom in initialize"):
        await loader.load(source("instance_group { count: 3 }"))
    assert [instance.closed for instance in backend.opened] == [True, True]


async def test_cancelled_load_closes_what_is_open():
    """A load that is cancelled leaves no instance."""
    backend = FakeBackend(refused="m_0_0")  # it waits for two others, and there is one
    loader = TensorLoader(lambda: backend, BackendHost)
    load = asyncio.ensure_future(loader.load(source("instance_group { count: 2 }")))
    await asyncio.wait_for(backend.first.wait(), 60)
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    assert [instance.closed for instance in backend.opened] == [True]


async def test_backend_that_cannot_be_imported_is_a_reason():
    """A missing package of a backend is told, not raised through the server."""

    def make():
        raise ImportError("No module named 'onnxruntime'")

    with pytest.raises(InvalidArgument, match="No module named 'onnxruntime'"):
        await TensorLoader(make, BackendHost).load(source(""))


def test_backends_are_found_by_entry_point():
    """Every backend of this distribution has a loader, and none is imported for that."""
    assert {"python", "onnxruntime", "identity"} <= set(tensor_loaders())


@pytest.mark.parametrize("beside", ["", "1"], ids=["the model", "the version"])
async def test_a_batching_strategy_of_its_own_is_refused(tmp_path: Path, beside: str) -> None:
    """A shared library that says what a batch is cannot be heeded, so the model is not loaded without it."""
    (tmp_path / "1").mkdir()
    (tmp_path / beside / "batchstrategy.so").touch()
    config = source("max_batch_size: 8 dynamic_batching {}").config
    loader = TensorLoader(FakeBackend, BackendHost)
    with pytest.raises(Unsupported, match="custom batching strategies are shared libraries") as caught:
        await loader.load(ModelSource(config, tmp_path, "1"))
    assert caught.value.hint.endswith("batchstrategy.so")


async def test_passive_instances_are_loaded_and_left_alone() -> None:
    """An instance of a passive group is opened and closed with the others, and given no requests."""
    backend = FakeBackend()
    loader = TensorLoader(lambda: backend, BackendHost)
    model = await loader.load(source("instance_group [ { count: 1 passive: true }, { count: 1 } ]"))
    assert [i.name for i in backend.opened] == ["m_0_0", "m_1_0"]
    backend.opened[1].healthy = False
    assert not model.ready
    await asyncio.wait_for(model.close(), 60)
    assert all(instance.closed for instance in backend.opened)


async def test_instances_that_could_never_run_are_not_opened() -> None:
    """Where the rate limiter has not what an instance needs the load fails, and the limiter keeps nothing of it."""
    limiter = RateLimiter({(EVERY_DEVICE, "R"): 2})
    backend = FakeBackend()
    loader = TensorLoader(lambda: backend, BackendHost, Facilities(limiter=limiter))
    needs = "instance_group { count: %d rate_limiter { resources { name: 'R' count: %d } priority: 3 } }"
    with pytest.raises(InvalidArgument, match='Resource count for "R" is limited to 2'):
        await loader.load(source(needs % (2, 3)))
    assert backend.opened == []
    model = await loader.load(source(needs % (1, 2)))
    await model.close()
    assert limiter.register(Claim({(GLOBAL, "R"): 1})).claim.priority == 1
