"""Roles of workers that were found: changed by one front, known to all of them and to discovery, under load."""

import asyncio

import pytest
from qa.unit.cluster.memory_discovery import MemoryDiscovery
from qa.unit.cluster.remote_fleet import Front, OpenWorker, ask, until

from tritium.backends.engine import Role
from tritium.cluster import own_role, role_calls
from tritium.cluster.own_role import Holder, OwnRole
from tritium.cluster.role_calls import RoleCalls
from tritium.core.errors import InvalidArgument, NotFound, Unavailable, WorkerLost

PROMPT = list(range(1, 21))
A, P, D = Role.AGGREGATED, Role.PREFILL, Role.DECODE


@pytest.fixture
async def place():
    """Make workers and fronts that are ended with the test."""

    class Place:
        def __init__(self):
            self.discovery = MemoryDiscovery()
            self.made = []

        async def worker(self, name, role=A, *, any_role=True, **rest):
            worker = await OpenWorker(self.discovery, name, role=role).start(any_role=any_role, **rest)
            self.made.append(worker.end)
            return worker

        async def fleet(self, name="front", workers=1, spec="detour=0"):
            front = Front(self.discovery, name=name, spec=spec)
            self.made.append(front.close)
            return await front.fleet(workers=workers)

        async def three(self):
            """Return 1P+2D and two fronts of them."""
            workers = [await self.worker(name, role) for name, role in (("a", P), ("b", D), ("c", D))]
            return workers, *[await self.fleet(name, 3) for name in ("one", "other")]

    place = Place()
    yield place
    for end in reversed(place.made):
        await end()


def roles(fleet):
    return {worker.name: worker.role for worker in fleet.workers.by_name.values()}


async def test_one_front_changes_a_role_for_all(place, collector, echo):
    """Who asked, the other front, discovery and a front that comes late agree, and requests go by the new roles."""
    (_, b, _), one, other = await place.three()
    report = await one.change("", {"b": "prefill"})
    assert report.shape == "2 prefill + 1 decode found"
    assert [(c.worker, c.before, c.after, c.restarted, c.error) for c in report.changes] == [("b", D, P, False, "")]
    await until(lambda: other.shape == "2 prefill + 1 decode found")
    late = await place.fleet("late", 3)
    assert roles(one) == roles(other) == roles(late) == {"a": P, "b": P, "c": D}
    assert place.discovery._instances[b.instance.key].role is P
    for fleet in (one, other, late):
        handle = ask(fleet, sink := collector(), PROMPT)
        await sink.end(30)
        assert sink.tokens == echo.continuation(PROMPT, 8)
        assert handle.route.worker == "c"
        assert handle.route.prefill_worker in ("a", "b", "")


async def test_streams_under_way_end_where_they_are(place, collector, echo):
    """Streams of both fronts on a worker whose role changes go on there to their end; new ones go elsewhere."""
    for name in ("b", "c"):
        await place.worker(name, step_s=0.02)
    fleets = [await place.fleet(name, 2) for name in ("one", "other")]
    streams = [(ask(fleet, sink := collector(), PROMPT, 60, worker="b"), sink) for fleet in fleets]
    for _, sink in streams:
        await sink.grown(2, 30)
    await fleets[0].change("", {"b": "prefill", "c": "decode"})
    await until(lambda: roles(fleets[1]) == {"b": P, "c": D})
    for fleet in fleets:
        handle = ask(fleet, sink := collector(), [*PROMPT, 9], 4)
        await sink.end(30)
        assert handle.route.worker == "c"
    for handle, sink in streams:
        await sink.end(30)
        assert sink.error is None
        assert sink.tokens == echo.continuation(PROMPT, 60)
        assert handle.route.worker == "b"
        assert "moved" not in handle.route.because


async def test_the_same_change_by_two_fronts(place):
    """Asked at once for the same numbers, one changes a role, and the other changes nothing or says who is at it."""
    _, one, other = await place.three()
    told = await asyncio.gather(*(f.change("prefill=2,decode=1", {}) for f in (one, other)), return_exceptions=True)
    refused = [error for error in told if isinstance(error, Exception)]
    assert all(isinstance(error, Unavailable) and "is changing roles" in error.message for error in refused)
    changes = [change for report in told if not isinstance(report, Exception) for change in report.changes]
    assert len(changes) == 1
    await until(lambda: roles(one) == roles(other))
    assert sorted(roles(one).values()) == [D, P, P]
    again = await other.change("prefill=2,decode=1", {})
    assert again.changes == []


async def test_a_front_in_the_middle_of_a_change(place):
    """While one front changes roles another is told so; once that one is gone, whatever way, others may."""
    _, one, other = await place.three()
    remote = one.workers.by_name["a"]
    await remote.roles.hold()
    with pytest.raises(Unavailable, match="worker a: front one is changing roles"):
        await other.change("", {"b": "prefill"})
    assert roles(other) == {"a": P, "b": D, "c": D}
    remote._channel.abort()
    await until(lambda: not remote.connected)
    async with asyncio.timeout(30):
        while True:
            try:
                await other.change("", {"b": "prefill"})
                break
            except Unavailable:
                await asyncio.sleep(0.02)
    await until(lambda: roles(one) == {"a": P, "b": P, "c": D})


async def test_a_worker_lost_in_the_middle(place):
    """The report says what was changed, which worker was lost, and what was not tried."""
    (a, _, c), one, _ = await place.three()
    take = c.own_role.take

    def die(front, role):
        for session in list(c.door.fronts):
            session.channel.abort()
        return take(front, role)

    c.own_role.take = die
    report = await one.change("", {"b": "aggregated", "c": "aggregated", "a": "aggregated"})
    by_name = {change.worker: change for change in report.changes}
    assert by_name["b"].error == ""
    assert "c was lost while its role changed" in by_name["c"].error
    assert by_name["a"].error == "not tried, for c kept its role"
    assert a.own_role.role is P
    samples = {labels["outcome"]: n for name, labels, n in one.metrics() if name == "tritium_fleet_role_changes_total"}
    assert samples == {"changed": 1, "kept": 1}
    # It had taken the role all the same, and says so when it is back.
    await until(lambda: one.workers.by_name["c"].ready and roles(one)["c"] is A)


async def test_a_worker_that_does_not_answer(place, monkeypatch):
    """A worker that is cut off answers nothing: the change fails in a bounded time, and the others keep their roles."""
    monkeypatch.setattr(role_calls, "ANSWER_S", 0.2)
    (a, _, _), one, _ = await place.three()
    for session in a.door.fronts:
        session.peer.send = lambda *_: None
        session._send = lambda *_: None
    with pytest.raises(Unavailable, match=r"worker a has not answered within 0\.2 s"):
        await one.change("", {"b": "prefill"})
    assert roles(one) == {"a": P, "b": D, "c": D}


async def test_what_is_refused(place):
    """Roles that make no fleet, unknown workers, and an engine that cannot; nothing is changed."""
    await place.worker("a", P, any_role=False)
    await place.worker("b", D, any_role=False)
    fleet = await place.fleet(workers=2)
    with pytest.raises(InvalidArgument, match="at least one prefill and one decode"):
        await fleet.change("", {"b": "prefill"})
    with pytest.raises(NotFound, match="no worker 'x'"):
        await fleet.change("", {"x": "prefill"})
    with pytest.raises(Unavailable, match="worker a: its engine takes another role only when it is started in it"):
        await fleet.change("", {"a": "decode", "b": "prefill"})
    assert roles(fleet) == {"a": P, "b": D}


async def test_a_worker_that_starts_itself_anew(place, collector, echo):
    """Where the engine has to load anew the worker drains, is found again in its role, and the report says so."""
    await place.worker("a", P)
    await place.worker("b", D)
    old = await place.worker("c", D, any_role=False, step_s=0.01)
    fleet = await place.fleet(workers=3)
    ask(fleet, sink := collector(), PROMPT, 40, worker="c")
    await sink.grown(2, 30)

    async def start_anew(role):
        await old.leave()
        await place.worker("c", role, any_role=False)

    started = []
    old.own_role.on_restart = lambda role: started.append(asyncio.ensure_future(start_anew(role)))
    report = await fleet.change("", {"c": "prefill"})
    [change] = report.changes
    assert (change.restarted, change.error, report.shape) == (True, "", "2 prefill + 1 decode found")
    await sink.end(30)
    assert sink.tokens == echo.continuation(PROMPT, 40)
    await asyncio.gather(*started)


async def test_a_worker_that_comes_back_as_it_was(place):
    """A worker that could not be started in the role is told of, with the role that it has."""
    await place.worker("a", P)
    await place.worker("b", D)
    old = await place.worker("c", D, any_role=False)
    fleet = await place.fleet(workers=3)

    async def start_as_before():
        await old.leave()
        await place.worker("c", D, any_role=False)

    started = []
    old.own_role.on_restart = lambda _: started.append(asyncio.ensure_future(start_as_before()))
    with pytest.raises(Unavailable, match="worker c could not be started as prefill, and is decode"):
        await fleet.change("", {"c": "prefill"})
    await asyncio.gather(*started)


def test_a_role_is_held_by_one(monkeypatch):
    """A front's hold keeps others off until it lets go, or has said nothing for long; taking needs it."""
    role = OwnRole(A, tuple(Role))
    told = []
    role.on_change.append(lambda: told.append((role.role, role.number)))
    one, other = Holder("one"), Holder("other")
    assert "another front has begun" in role.take(one, P)
    assert (role.hold(one), role.hold(one)) == ("", "")
    assert role.hold(other) == "front one is changing roles"
    role.let(other)
    assert role.take(one, P) == role.take(one, P) == ""
    assert told == [(P, 1)]
    role.let(one)
    assert (role.hold(other), role.take(other, D)) == ("", "")
    monkeypatch.setattr(own_role, "LAPSE_S", 0.0)
    assert role.hold(one) == ""
    assert "another front has begun" in role.take(other, A)
    role.leaving = True
    assert role.take(one, A) == "it is draining"
    assert told == [(P, 1), (D, 2)]


async def test_calls_to_a_worker_that_is_lost():
    """They fail with the reason."""
    calls = RoleCalls("w", lambda _: None)
    asked = asyncio.ensure_future(calls.hold())
    await asyncio.sleep(0)
    calls.lost("the cable")
    with pytest.raises(WorkerLost, match="worker w was lost while its role changed: the cable"):
        await asked
