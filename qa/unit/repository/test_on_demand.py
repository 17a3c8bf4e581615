"""Models on demand: woken by a request, and put to sleep when others need their room."""

import asyncio
import os

import pytest

from tritium.core.errors import Cancelled, InvalidArgument, NotFound
from tritium.core.replies import SingleReply
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor
from tritium.repository.memory import used_bytes
from tritium.repository.on_demand import OnDemandRegistry, Room, SleepingModel
from tritium.repository.settings import ControlMode, RegistrySettings


@pytest.fixture
async def open_registry(house):
    made = []

    def build(room, **options):
        measure = options.pop("measure", lambda: 0)
        settings = RegistrySettings(repositories=(house.path,), control=ControlMode.EXPLICIT, **options)
        made.append(OnDemandRegistry(settings, {"fake": house.loader}, house.events.append, room=room, measure=measure))
        return made[-1]

    yield build
    house.loader.hold.set()
    house.loader.gate.set()
    for registry in made:
        await asyncio.wait_for(registry.close(), 60)


def ask(registry, name, version=""):
    """Submit a request as a protocol does, to the model that the catalog gives, and return its future."""
    reply = SingleReply(asyncio.get_running_loop())
    model = registry.model(name, version)
    model.submit(InferRequest(name, model.version, inputs=[Tensor("x", "FP32", (1,), b"\0\0\0\0")]), reply)
    return reply.future


async def answer(registry, name, version=""):
    return await asyncio.wait_for(ask(registry, name, version), 60)


def loaded(registry):
    return [model.name for model in registry.models()]


def counted(registry):
    return {name.removeprefix("tritium_on_demand_"): value for name, _, value in registry.metrics()}


async def test_a_request_wakes_its_model(house, open_registry):
    """Nothing is loaded at start; all models are there, and the first request of one waits for its load."""
    house.write("a")
    house.write("b")
    registry = open_registry(Room(models=1))
    await registry.start()
    assert registry.ready
    assert loaded(registry) == []
    assert isinstance(registry.model("a"), SleepingModel)
    assert list(registry.model("a").config.inputs) == ["x"]
    assert registry.versions("a") == ["1"]
    assert (await answer(registry, "a")).model_version == "1"
    assert loaded(registry) == ["a"]
    assert counted(registry) == {"loads_total": 1, "evictions_total": 0, "waiting_requests": 0, "asleep_models": 1}


async def test_requests_that_come_together_wait_for_one_load(house, open_registry):
    """A model is loaded once, however many ask for it."""
    house.write("a")
    registry = open_registry(Room())
    await registry.start()
    house.loader.hold.clear()
    futures = [ask(registry, "a") for _ in range(5)]
    assert counted(registry)["waiting_requests"] == 5
    house.loader.hold.set()
    await asyncio.wait_for(asyncio.gather(*futures), 60)
    assert len(house.loader.loaded) == 1


async def test_the_least_recently_used_goes(house, open_registry):
    """What has been asked for since stays, also where it was loaded first."""
    for name in "abc":
        house.write(name)
    registry = open_registry(Room(models=2))
    await registry.start()
    for name in ("a", "b", "a", "c"):
        await answer(registry, name)
    await asyncio.wait_for(registry.unload("nothing"), 60)
    assert loaded(registry) == ["a", "c"]
    assert counted(registry)["evictions_total"] == 1
    await answer(registry, "b")
    assert loaded(registry) == ["b", "c"]


async def test_a_model_that_works_finishes_first(house, open_registry):
    """An evicted model answers what it has taken."""
    house.write("a")
    house.write("b")
    registry = open_registry(Room(models=1), unload_wait_s=0.01)
    await registry.start()
    await answer(registry, "a")
    house.loader.gate.clear()
    pending = ask(registry, "a")
    house.loader.begun.clear()
    other = ask(registry, "b")
    await asyncio.wait_for(house.loader.begun.wait(), 60)
    assert "a" not in loaded(registry)
    house.loader.gate.set()
    assert (await asyncio.wait_for(pending, 60)).model_name == "a"
    assert (await asyncio.wait_for(other, 60)).model_name == "b"


async def test_memory_is_a_bound_as_well(house, open_registry):
    """Models go until what is used fits, but the one that is asked for is served in any case."""
    for name in "abc":
        house.write(name)
    registry = open_registry(Room(bytes=250), measure=lambda: 100 * len(registry.models()))
    await registry.start()
    for name in "abc":
        await answer(registry, name)
    await asyncio.wait_for(asyncio.gather(*registry._operations), 60)
    assert loaded(registry) == ["b", "c"]


async def test_an_ensemble_brings_its_members_and_takes_them_along(house, open_registry):
    """Members stay as long as the ensemble does, and go with it."""
    house.write("part")
    house.write("other")
    house.write_ensemble("whole", "part")
    registry = open_registry(Room(models=2))
    await registry.start()
    await answer(registry, "whole")
    assert loaded(registry) == ["part", "whole"]
    await answer(registry, "other")
    assert loaded(registry) == ["other"]


async def test_a_load_that_fails_is_told_and_tried_again(house, open_registry):
    """The requests that waited get the reason; the next one may find the model mended."""
    house.write("a", content="broken")
    registry = open_registry(Room(models=1))
    await registry.start()
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="the model is broken"):
            await answer(registry, "a")
    house.write("a")
    assert (await answer(registry, "a")).model_name == "a"


async def test_what_is_not_there_is_not_woken(house, open_registry):
    """An unknown model, or a version that its policy leaves out, is not found, as ever."""
    house.write("a", versions=("1", "2"))
    registry = open_registry(Room(models=1))
    await registry.start()
    for name, version in (("b", ""), ("a", "1"), ("a", "7")):
        with pytest.raises(NotFound):
            registry.model(name, version)
    assert (await answer(registry, "a", "2")).model_version == "2"
    with pytest.raises(NotFound):
        registry.model("a", "1")


async def test_models_can_be_loaded_at_start(house, open_registry):
    """--load-model wakes those that should not keep their first client waiting."""
    house.write("a")
    house.write("b")
    registry = open_registry(Room(models=2), load_models=("b",))
    await registry.start()
    assert loaded(registry) == ["b"]


def test_memory_of_this_process_is_measured():
    """It is what the kernel says, with that of children."""
    before = used_bytes()
    block = bytearray(os.urandom(1 << 20) * 32)
    assert used_bytes() - before > 24 << 20, len(block)


async def test_nothing_is_lost_where_there_is_room_for_less_than_is_asked_for(house, open_registry):
    """A model is not put to sleep before the requests that woke it have run, however many others want its place."""
    for name in "abcdef":
        house.write(name)
    house.write_ensemble("both", "a", "b")
    load = house.loader.load

    async def uneven(source):
        """Take a while, one longer than another, so that models become ready while others look for room."""
        for _ in range(7 * len(house.loader.loaded) % 11):
            await asyncio.sleep(0)
        return await load(source)

    house.loader.load = uneven
    registry = open_registry(Room(models=2), unload_wait_s=0)
    await registry.start()
    names = [*"abcdef", "both"]

    async def client(first):
        for turn in range(7):
            await answer(registry, names[(first + turn * 3) % len(names)])

    await asyncio.wait_for(asyncio.gather(*(client(first) for first in range(10))), 60)
    assert counted(registry)["evictions_total"] > 10
    assert counted(registry)["waiting_requests"] == 0


async def test_a_client_that_left_while_its_model_was_loaded_is_answered(house, open_registry):
    """A request that was cancelled meanwhile does not run, and whoever counts requests under way hears of its end."""
    house.write("a")
    registry = open_registry(Room())
    await registry.start()
    house.loader.hold.clear()
    reply = SingleReply(asyncio.get_running_loop())
    request = InferRequest("a", "1", inputs=[Tensor("x", "FP32", (1,), b"\0\0\0\0")])
    registry.model("a").submit(request, reply)
    request.cancel()
    house.loader.hold.set()
    with pytest.raises(Cancelled):
        await asyncio.wait_for(reply.future, 60)


async def test_a_model_can_be_waited_for(house, open_registry):
    """Whoever needs its whole configuration gets the loaded model, or why there is none."""
    house.write("a")
    registry = open_registry(Room())
    await registry.start()
    asleep = registry.model("a")
    house.loader.hold.clear()
    left, stayed = (asyncio.create_task(asleep.awake()) for _ in range(2))
    await asyncio.sleep(0)
    left.cancel()
    house.loader.hold.set()
    awake = await asyncio.wait_for(stayed, 60)
    assert not isinstance(awake, SleepingModel)
    assert await awake.awake() is awake
    assert registry.model("a") is awake


async def test_whoever_waits_for_a_model_hears_why_there_is_none(house, open_registry):
    """The error of the load, as for requests."""
    house.write("a", content="broken")
    registry = open_registry(Room())
    await registry.start()
    with pytest.raises(InvalidArgument, match="the model is broken"):
        await asyncio.wait_for(registry.model("a").awake(), 60)
