"""Fleets of workers that were found: they come and go, and no request is lost."""

import asyncio

import msgspec
import pytest
from qa.unit.cluster.memory_discovery import MemoryDiscovery
from qa.unit.cluster.remote_fleet import Front, OpenWorker, ask, until

from tritium.backends.engine import MetricFamily, Role
from tritium.cluster.frames import OwnMetrics
from tritium.cluster.member import WorkerState
from tritium.cluster.remote import RemoteWorker

PROMPT = list(range(1, 21))


@pytest.fixture
async def place():
    """Make workers and fronts that are ended with the test."""

    class Place:
        def __init__(self):
            self.discovery = MemoryDiscovery()
            self.made = []

        async def worker(self, name, address="127.0.0.1:0", **rest):
            own = {key: rest.pop(key) for key in ("security", "role", "model", "namespace") if key in rest}
            worker = await OpenWorker(self.discovery, name, **own).start(address, **rest)
            self.made.append(worker.end)
            return worker

        def front(self, **rest):
            front = Front(self.discovery, **rest)
            self.made.append(front.close)
            return front

    place = Place()
    yield place
    for end in reversed(place.made):
        await end()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_found_worker_answers(kind, place, collector, echo, tmp_path):
    """A front that started nothing generates on a worker it found, over TCP and over a Unix socket."""
    await place.worker("a", "127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}/a.sock")
    fleet = await place.front().fleet()
    sink = collector()
    handle = ask(fleet, sink, PROMPT)
    await sink.end(30)
    assert sink.tokens == echo.continuation(PROMPT, 8)
    assert handle.route.worker == "a"


async def test_the_report_counts_who_was_found(place):
    """How a fleet stands is told in as many workers as there are, none at all included."""
    workers = [await place.worker("a"), await place.worker("b")]
    fleet = await place.front().fleet()
    await until(lambda: fleet.shape == "2 workers found")
    assert (await fleet.change("", {})).shape == "2 workers found"
    for worker in workers:
        await worker.leave()
    await until(lambda: not fleet.workers.by_name)
    report = await fleet.change("", {})
    assert (report.shape, report.workers) == ("0 workers found", [])


async def test_workers_join_while_requests_wait(place, collector, echo):
    """A request that finds no worker is held until one is found."""
    front = place.front()
    first = await place.worker("a")
    fleet = await front.fleet()
    await first.leave()
    await until(lambda: not fleet.workers.by_name)
    sink = collector()
    ask(fleet, sink, PROMPT)
    await place.worker("b")
    await sink.end(30)
    assert sink.tokens == echo.continuation(PROMPT, 8)


async def test_a_leaving_worker_finishes_its_streams(place, collector, echo):
    """While a worker drains its streams go on to their end there, and new ones go to the others."""
    leaving = await place.worker("a", step_s=0.02)
    fleet = await place.front().fleet()
    streams = [collector() for _ in range(4)]
    routes = [ask(fleet, sink, [*PROMPT, n], 60) for n, sink in enumerate(streams)]
    for sink in streams:
        await sink.grown(2, 30)
    await place.worker("b")
    await until(lambda: len(fleet.workers.generating) == 2)
    left = asyncio.ensure_future(leaving.leave())
    await until(lambda: fleet.workers.by_name["a"].state is WorkerState.DRAINING)
    late = collector()
    later = ask(fleet, late, PROMPT)
    await left
    for n, (sink, handle) in enumerate(zip(streams, routes, strict=True)):
        await sink.end(30)
        assert sink.tokens == echo.continuation([*PROMPT, n], 60)
        assert handle.route.worker == "a"
        assert "moved" not in handle.route.because
    await late.end(30)
    assert later.route.worker == "b"
    await until(lambda: "a" not in fleet.workers.by_name)


async def test_a_lost_worker_s_streams_go_on_elsewhere(place, collector, echo):
    """A connection that ends in mid-stream moves its streams, whose tokens stay the same."""
    first = await place.worker("a", step_s=0.01)
    fleet = await place.front().fleet()
    sink = collector()
    handle = ask(fleet, sink, PROMPT, 50)
    await sink.grown(3, 30)
    await place.worker("b", step_s=0.01)
    await until(lambda: len(fleet.workers.generating) == 2)
    await first.kill()
    await sink.end(30)
    assert sink.error is None
    assert sink.tokens == echo.continuation(PROMPT, 50)
    assert handle.route.worker == "b"


async def test_a_worker_that_comes_back_is_used_again(place, collector, echo):
    """A worker that was started again takes the place of its last run, though that is still announced."""
    front = place.front()
    first = await place.worker("a")
    fleet = await front.fleet()
    await first.kill()
    again = await place.worker("a")
    await until(lambda: (w := fleet.workers.by_name.get("a")) and w.ready and w.instance.run == again.run)
    sink = collector()
    ask(fleet, sink, PROMPT)
    await sink.end(30)
    assert sink.tokens == echo.continuation(PROMPT, 8)


async def test_a_worker_out_of_sight_stays_while_it_is_connected(place, collector, echo):
    """Discovery that loses sight of a worker loses no request: the connection is the better witness."""
    worker = await place.worker("a")
    fleet = await place.front().fleet()
    await place.discovery.withdraw(worker.instance)
    sink = collector()
    ask(fleet, sink, PROMPT)
    await sink.end(30)
    assert sink.tokens == echo.continuation(PROMPT, 8)
    assert fleet.ready


async def test_several_fronts_share_a_worker(place, collector, echo):
    """Each front's requests are its own, though both number them alike; one that leaves takes only its own along."""
    worker = await place.worker("a", step_s=0.01)
    one, other = place.front(name="one"), place.front(name="other")
    fleets = [await front.fleet() for front in (one, other)]
    sinks = [collector(), collector()]
    for n, fleet in enumerate(fleets):
        ask(fleet, sinks[n], [*PROMPT, n], 40)
    for sink in sinks:
        await sink.grown(2, 30)
    assert worker.runner.active == 2
    for remote in fleets[0].workers.by_name.values():
        remote._channel.abort()
    await until(lambda: worker.runner.active == 1 or sinks[1].over.is_set())
    await sinks[1].end(30)
    assert sinks[1].tokens == echo.continuation([*PROMPT, 1], 40)


async def test_a_late_front_knows_the_cache(place, collector):
    """A front that comes late learns what the worker holds, and finds the prefix there."""
    await place.worker("a")
    first = await place.front().fleet()
    sink = collector()
    ask(first, sink, PROMPT)
    await sink.end(30)
    late = await place.front(name="late").fleet()
    await until(lambda: late.explain(PROMPT).overlap_blocks == 5)


async def test_another_model_by_the_same_name_is_refused(place):
    """A worker whose card says something else is not let in, and the front says what differs."""
    await place.worker("a", block_tokens=4)
    front = place.front()
    fleet = await front.fleet()
    await place.worker("b", block_tokens=8)
    members = front.roll.members("echo")
    await until(lambda: members.refused)
    [reason] = members.refused.values()
    assert "block_tokens: 8 instead of 4" in reason
    assert list(fleet.workers.by_name) == ["a"]
    states = {labels["state"]: value for name, labels, value in fleet.metrics() if name == "tritium_workers"}
    assert (states["ready"], states["refused"]) == (1, 1)


async def test_models_of_one_front_are_apart(place, collector, echo):
    """Each model has a fleet of its own."""
    await place.worker("a", model="one")
    await place.worker("b", model="two")
    front = place.front()
    for model, worker in (("one", "a"), ("two", "b")):
        fleet = await front.fleet(model)
        sink = collector()
        handle = ask(fleet, sink, PROMPT)
        await sink.end(30)
        assert handle.route.worker == worker


async def test_disaggregated(place, collector, echo):
    """Prefill and decode workers that were found work together, and beside an aggregated one."""
    await place.worker("p", role=Role.PREFILL)
    await place.worker("d", role=Role.DECODE)
    front = place.front()
    fleet = await front.fleet(workers=2)
    sink = collector()
    handle = ask(fleet, sink, PROMPT)
    await sink.end(30)
    assert (handle.route.worker, handle.route.prefill_worker) == ("d", "p")
    assert sink.tokens == echo.continuation(PROMPT, 8)
    await place.worker("x")
    await until(lambda: fleet.shape == "1 prefill + 1 decode + 1 aggregated found")
    handle = ask(fleet, sink := collector(), PROMPT, worker="x")
    await sink.end(30)
    assert (handle.route.worker, handle.route.prefill_worker) == ("x", "")
    assert sink.tokens == echo.continuation(PROMPT, 8)


async def test_the_next_model_takes_over_when_the_last_is_gone(place):
    """Workers of another model by the same name are refused until the last of the first has left; then it is theirs."""
    old = await place.worker("a", block_tokens=4)
    front = place.front()
    await front.fleet()
    await place.worker("b", block_tokens=8)
    await until(lambda: front.roll.members("echo").refused)
    assert front.vanished == []
    await old.leave()
    await until(lambda: front.vanished)
    assert front.roll.members("echo").stranded
    await front.fleets.pop("echo").close()
    front.roll.forget("echo")
    fleet = await front.fleet()
    assert list(fleet.workers.by_name) == ["b"]
    assert fleet.info.block_tokens == 8


async def test_workers_of_another_release_say_nothing_of_the_model(place, collector, echo):
    """While a fleet is replaced by one of another release, the old workers' card is not what the new are held to."""
    old = await place.worker("a", block_tokens=4)
    await place.discovery.withdraw(old.instance)
    await place.discovery.announce(msgspec.structs.replace(old.instance, version=old.instance.version - 1))
    front = place.front()
    await until(front.roll.seen.is_set)
    assert front.fleets == {}
    await place.worker("b", block_tokens=8)
    fleet = await front.fleet()
    assert list(fleet.workers.by_name) == ["b"]
    assert "frames of version" in next(iter(front.roll.members("echo").refused.values()))
    assert front.vanished == []
    sink = collector()
    ask(fleet, sink, PROMPT, 8)
    await sink.end(30)
    assert sink.tokens == echo.continuation(PROMPT, 8)


@pytest.mark.parametrize("address", ["a..b:80", f"{'x' * 300}.com:99", "unix:/a\0b", f"h:{'9' * 5000}", "h:99999"])
async def test_addresses_that_cannot_be(place, address):
    """A worker announced where nothing can be is told of, and goes when it is announced no more."""
    worker = await place.worker("a")
    await place.discovery.withdraw(worker.instance)
    lost = msgspec.structs.replace(worker.instance, address=address)
    await place.discovery.announce(lost)
    front = place.front()
    await until(lambda: "echo" in front.fleets)
    workers = front.fleets["echo"].workers.by_name
    remote = workers["a"]
    await until(lambda: remote.trouble)
    await place.discovery.withdraw(lost)
    await until(lambda: not workers)


async def test_the_first_namespace_wins(place):
    """Of two models by one name in two namespaces a front serves that of the namespace it names first."""
    await place.worker("a", namespace="blue")
    await place.worker("b", namespace="green")
    fleet = await place.front(namespaces=("green", "blue")).fleet()
    assert list(fleet.workers.by_name) == ["b"]
    other = await place.front(namespaces=("blue",)).fleet()
    assert list(other.workers.by_name) == ["a"]


async def test_two_workers_of_one_name(place):
    """The second of two living workers of one name is not let in until the first has left."""
    first = await place.worker("a")
    front = place.front()
    fleet = await front.fleet()
    second = await place.worker("a")
    members = front.roll.members("echo")
    await until(lambda: members.refused)
    assert "another worker is called a" in next(iter(members.refused.values()))
    await first.leave()
    await until(lambda: (w := fleet.workers.by_name.get("a")) and w.ready and w.instance.run == second.run)


async def test_a_worker_is_told_why_it_is_not_used(place):
    """Another model, a name that is taken: the operator reads it at the worker, until the front uses it after all."""
    first = await place.worker("a", block_tokens=4)
    front = place.front(name="gate")
    fleet = await front.fleet()
    for name, arguments, words in (
        ("b", {"block_tokens": 8}, "block_tokens: 8 instead of 4"),
        ("a", {}, "is called a"),
    ):
        worker = await place.worker(name, **arguments)
        await until(lambda worker=worker: worker.door.refusals.reasons)
        assert words in worker.door.refusals.reasons["gate"]
    await first.leave()
    await until(lambda: (w := fleet.workers.by_name.get("a")) and w.ready and w.instance.run == worker.run)
    assert worker.door.refusals.reasons == {}


async def test_a_silent_connection_is_given_up(place, collector, echo):
    """A worker that says nothing any more though its connection stands is lost, and its streams go on elsewhere."""
    frozen = await place.worker("a", step_s=0.01)
    front = place.front(spec="silent_s=1")
    fleet = await front.fleet()
    sink = collector()
    ask(fleet, sink, PROMPT, 40)
    await sink.grown(2, 30)
    await place.worker("b", step_s=0.01)
    await until(lambda: len(fleet.workers.generating) == 2)
    for session in frozen.door.fronts:
        session.peer.send = lambda *_: None
    await sink.end(30)
    assert sink.tokens == echo.continuation(PROMPT, 40)
    assert {name: value for name, labels, value in fleet.metrics() if name == "tritium_worker_hung_total" and value}


async def test_adapters_of_several_fronts_are_apart(place):
    """Two fronts may load other weights by one name: the engines know them by keys that no other front uses."""
    worker = await place.worker("a")
    loaded = {}

    async def load_lora(name, path):
        loaded[name] = path

    async def unload_lora(name):
        del loaded[name]

    engine = worker.runner._engine
    engine.load_lora, engine.unload_lora = load_lora, unload_lora
    one, other = [await place.front(name=name).fleet() for name in ("one", "other")]
    await one.load_lora("poet", "/loras/old")
    await other.load_lora("poet", "/loras/new")
    assert sorted(loaded.values()) == ["/loras/new", "/loras/old"]
    await other.unload_lora("poet")
    assert loaded == {one.adapters.key("poet"): "/loras/old"}


async def test_closing_leaves_the_workers(place, collector):
    """A front that closes finishes what runs and leaves its workers to others."""
    worker = await place.worker("a", step_s=0.01)
    front = place.front()
    fleet = await front.fleet()
    sink = collector()
    ask(fleet, sink, PROMPT, 30)
    await sink.grown(1, 30)
    await fleet.close()
    assert len(sink.tokens) == 30
    await until(lambda: not worker.door.fronts)
    assert (await place.front(name="next").fleet()).ready


async def test_a_worker_is_held_to_its_card(place):
    """A worker whose engine is not what it announced is not used, and the front says what is different."""
    worker = await place.worker("a", block_tokens=4)
    told = worker.runner.info
    worker.runner.info = msgspec.structs.replace(told, block_tokens=16)
    front = place.front()
    await until(lambda: "echo" in front.fleets)
    remote = front.fleets["echo"].workers.by_name["a"]
    await until(lambda: remote.trouble)
    assert "not what it announced: block_tokens: 16 instead of 4" in remote.trouble
    worker.runner.info = told
    await until(lambda: remote.ready)


async def test_metrics_that_cannot_be_read(place):
    """A worker whose own metrics make no sense has none, and those of the others are told."""
    liar, other = await place.worker("a"), await place.worker("b")
    fleet = await place.front().fleet(workers=2)
    [session] = liar.door.fronts
    session.peer.send(OwnMetrics(msgspec.Raw(msgspec.msgpack.encode({"no": "families"}))))
    [session] = other.door.fronts
    families = [MetricFamily("echo:asked", "counter", "How often.", [])]
    session.peer.send(OwnMetrics(msgspec.Raw(msgspec.msgpack.encode(families))))
    await until(lambda: fleet.workers.by_name["b"].own_metrics == families)
    assert fleet.workers.by_name["a"].own_metrics == []
    assert fleet.workers.by_name["a"].ready


async def test_a_worker_that_loses_its_connections_is_not_hammered(place, monkeypatch):
    """A worker that lets a front in and loses it again and again is tried less and less often."""
    waited = []

    async def rest(self, seconds):
        waited.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(RemoteWorker, "_rest", rest)
    worker = await place.worker("a")
    fleet = await place.front().fleet()
    [remote] = fleet.workers.by_name.values()
    for times in range(1, 5):
        await until(lambda: remote.ready and worker.door.fronts)
        next(iter(worker.door.fronts)).channel.abort()
        await until(lambda times=times: remote.restarts == times)
    assert waited == sorted(waited)
    assert waited[-1] >= 8 * waited[0]
