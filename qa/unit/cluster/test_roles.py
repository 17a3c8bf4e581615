"""Roles that change while a fleet serves: in place, by restart, and refused."""

import asyncio

import pytest
from qa.e2e.fleets import until

from tritium.backends.engine import Role
from tritium.cluster.roles import plan_roles
from tritium.core.errors import InvalidArgument, ModelFailed, NotFound, Unavailable

PROMPT = list(range(1, 42))
A, P, D = Role.AGGREGATED, Role.PREFILL, Role.DECODE


@pytest.mark.parametrize(
    ("current", "active", "wanted", "changes"),
    [
        ({"a": P, "b": D, "c": D}, {"b": 5, "c": 1}, {P: 2, D: 1}, [("c", P)]),
        ({"a": A, "b": A, "c": A}, {"a": 2, "b": 1}, {P: 1, D: 2}, [("c", D), ("b", D), ("a", P)]),
        ({"a": P, "b": D, "c": A}, {}, {A: 3}, [("a", A), ("b", A)]),
        ({"a": P, "b": D}, {}, {P: 1, D: 1}, []),
        ({"a": P, "b": P, "c": D}, {"a": 1}, {P: 1, D: 1, A: 1}, [("b", A)]),
    ],
)
def test_fewest_changes(current, active, wanted, changes):
    """The idlest workers of what there is too much of change, generating roles being filled first."""
    assert plan_roles(current, active, wanted) == changes


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({P: 2, D: 2}, "the fleet has 3 workers, and 2 prefill + 2 decode are 4"),
        ({P: 3}, "at least one prefill and one decode worker"),
        ({D: 3}, "at least one prefill and one decode worker"),
        ({A: 0}, "leaves nobody to answer"),
    ],
)
def test_numbers_that_make_no_fleet(wanted, words):
    """They are refused before anything changes."""
    with pytest.raises(InvalidArgument, match=words.replace("+", r"\+")):
        plan_roles({"a": P, "b": D, "c": D}, {}, wanted)


class Load:
    """Requests that keep coming until told to stop, so many at a time; every one must be answered rightly."""

    def __init__(self, fleet, request_for, collector, echo, streams: int = 4) -> None:
        self.prefilled_by: set[str] = set()
        self.decoded_by: set[str] = set()
        self.answered = 0
        self._round = 0
        self._stopped = False
        self._makers = (fleet, request_for, collector, echo)
        self._tasks = [asyncio.create_task(self._stream(number)) for number in range(streams)]

    async def _stream(self, number: int) -> None:
        fleet, request_for, collector, echo = self._makers
        start = number * 1_000_000  # no two streams ever ask the same
        while not self._stopped:
            start += 50
            began = self._round
            prompt = list(range(start, start + 41))
            handle = fleet.generate(request_for(prompt, 20), sink := collector())
            await sink.end(60)
            assert sink.error is None, sink.error
            assert echo.continuation(prompt, 20) == sink.tokens
            if began == self._round:
                self.answered += 1
                self.prefilled_by.add(handle.route.prefill_worker)
                self.decoded_by.add(handle.route.worker)

    async def more(self, count: int) -> None:
        """Let so many requests that begin from now on be answered, and note by whom."""
        self._round += 1
        self.answered = 0
        self.prefilled_by.clear()
        self.decoded_by.clear()
        await until(lambda: self.answered >= count or any(task.done() for task in self._tasks))

    async def stop(self) -> None:
        self._stopped = True
        await asyncio.gather(*self._tasks)


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "by restart"])
async def test_roles_change_under_load(fleet_of, request_for, collector, echo, in_place):
    """1P+2D becomes 2P+1D and then mixed under load; no request is lost, and only where it must a process is new."""
    async with fleet_of("prefill=1,decode=2,detour=0", step_s=0.002, any_role=in_place) as fleet:
        pids = {worker.name: worker.pid for worker in fleet.workers.by_name.values()}
        load = Load(fleet, request_for, collector, echo)
        await load.more(8)
        report = await fleet.change("prefill=2,decode=1", {})
        assert (report.shape, fleet.shape) == ("2 prefill + 1 decode", "2 prefill + 1 decode")
        (change,) = report.changes
        assert (change.before, change.after, change.restarted) == (D, P, not in_place)
        assert fleet.ready
        await load.more(40)
        assert load.prefilled_by == {"prefill_0", change.worker}
        (left,) = {"decode_0", "decode_1"} - {change.worker}
        assert load.decoded_by == {left}
        report = await fleet.change("", {"prefill_0": "aggregated"})
        assert report.shape == "1 prefill + 1 decode + 1 aggregated"
        await load.more(40)
        assert load.prefilled_by == {change.worker, ""}
        assert load.decoded_by == {left, "prefill_0"}
        await load.stop()
        changed = {name for name, worker in fleet.workers.by_name.items() if worker.pid != pids[name]}
        assert changed == (set() if in_place else {change.worker, "prefill_0"})
        assert fleet.flights.counters.lost == fleet.flights.counters.moved == 0
        assert not any(load.active for router in fleet.workers.routers.values() for load in router.loads)


async def test_cache_is_known_after_a_change_in_place(fleet_of, request_for, collector):
    """What the worker holds is found by the router of its new role, for the worker is asked for it."""
    async with fleet_of("workers=2", any_role=True) as fleet:
        handle = fleet.generate(request_for(PROMPT), sink := collector())
        await sink.end()
        other = {"worker_0": "worker_1", "worker_1": "worker_0"}[handle.route.worker]
        await fleet.change("", {handle.route.worker: "prefill", other: "decode"})
        router = fleet.workers.prefilling
        await until(lambda: router.choose(router.prompt(PROMPT)).overlap_blocks == 10)
        await fleet.change("workers=2", {})
        assert fleet.shape == "2 workers"


async def test_worker_that_does_not_drain(fleet_of, request_for, collector, echo):
    """Where a restart would cut a stream the worker keeps its role, and the stream goes on."""
    async with fleet_of("prefill=1,decode=2,drain_s=0.2", step_s=0.05) as fleet:
        handle = fleet.generate(request_for(PROMPT, 60), sink := collector())
        await sink.grown(2)
        with pytest.raises(Unavailable, match=rf"{handle.route.worker} still has 1 requests after 0.2 s, and keeps"):
            await fleet.change("", {handle.route.worker: "prefill"})
        assert fleet.shape == "1 prefill + 2 decode"
        assert handle.route.worker in {load.name for load in fleet.workers.generating.loads}
        await sink.end(60)
        assert echo.continuation(PROMPT, 60) == sink.tokens


async def test_role_that_the_engine_refuses(fleet_of, request_for, collector):
    """The worker is started again in the role it had, and the engine's words are told; what had changed stays."""
    async with fleet_of("workers=3", refuse_role="prefill") as fleet:
        report = await fleet.change("prefill=1,decode=1,workers=1", {})
        assert [(change.after, bool(change.error)) for change in report.changes] == [(D, False), (A, True)]
        assert "no prefill here" in report.changes[1].error
        assert report.shape == "1 decode + 2 aggregated"
        with pytest.raises(ModelFailed, match="no prefill here"):
            await fleet.change("prefill=1,decode=1,workers=1", {})
        await until(lambda: all(worker.ready for worker in fleet.workers.by_name.values()))
        fleet.generate(request_for(PROMPT), sink := collector())
        assert (await sink.end()).error is None


async def test_what_is_refused(fleet_of):
    """Bad changes are refused with what to write, and change nothing, neither roles nor thresholds."""
    async with fleet_of("prefill=1,decode=1") as fleet:
        for setting, workers, words in (
            ("prefill=2,decode=1,local_prefill_tokens=9", {}, "the fleet has 2 workers"),
            ("hold_s=3", {}, "hold_s is fixed while a model is loaded"),
            ("prefil=2", {}, "unknown option 'prefil'"),
            ("", {"decode_0": "boss"}, "unknown role 'boss'"),
            ("", {"decode_0": "prefill"}, "at least one prefill and one decode"),
            ("prefill=1,decode=1", {"decode_0": "decode"}, "not both"),
        ):
            with pytest.raises(InvalidArgument, match=words):
                await fleet.change(setting, workers)
        with pytest.raises(NotFound, match="no worker 'decode_7'"):
            await fleet.change("", {"decode_7": "decode"})
        report = await fleet.change("", {})
        assert (report.shape, report.changes, report.thresholds.local_prefill_tokens) == ("1 prefill + 1 decode", [], 0)


async def test_thresholds_change_while_it_serves(fleet_of):
    """The next decision is made by them; what is not named stays."""
    async with fleet_of("prefill=1,decode=1,detour=2") as fleet:
        assert fleet.explain(PROMPT).prefill.where == "remote"
        report = await fleet.change("local_prefill_tokens=64,router=round_robin", {})
        assert (report.thresholds.local_prefill_tokens, report.thresholds.detour) == (64, 2)
        assert report.router == "round_robin"
        assert fleet.explain(PROMPT).prefill.reason == "short"
        await fleet.change("local_prefill_tokens=0", {})
        assert fleet.explain(PROMPT).prefill.where == "remote"
        assert [(worker.worker, worker.role, worker.state) for worker in report.workers] == [
            ("prefill_0", "prefill", "ready"),
            ("decode_0", "decode", "ready"),
        ]
