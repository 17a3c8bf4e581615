import asyncio
import importlib.util
import os
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from qa.unit.cluster.watched_fleet import WatchedFleet

from tritium.cluster.fleet import GenerationRequest
from tritium.cluster.spec import parse_fleet

HERE = Path(__file__).parent


class Collector:
    """A sink that gathers everything and can be waited on."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.deltas = []
        self.error = None
        self.over = asyncio.Event()
        self._moved = asyncio.Event()

    def on_delta(self, delta) -> None:
        assert not self.over.is_set(), "nothing may follow the end"
        self.tokens += delta.token_ids
        self.deltas.append(delta)
        if delta.finish is not None:
            self.over.set()
        self._moved.set()

    def on_failure(self, error) -> None:
        assert not self.over.is_set(), "nothing may follow the end"
        self.error = error
        self.over.set()
        self._moved.set()

    @property
    def finish(self):
        return self.deltas[-1].finish

    @property
    def cached_tokens(self):
        return next(d.cached_tokens for d in self.deltas if d.cached_tokens is not None)

    async def end(self, within_s: float = 60.0) -> "Collector":
        await asyncio.wait_for(self.over.wait(), within_s)
        return self

    async def grown(self, tokens: int, within_s: float = 60.0) -> None:
        async with asyncio.timeout(within_s):
            while len(self.tokens) < tokens and not self.over.is_set():
                self._moved.clear()
                await self._moved.wait()


@pytest.fixture
def collector():
    return Collector


@pytest.fixture(scope="session")
def echo():
    """The echo engine's module, for what it should have generated."""
    spec = importlib.util.spec_from_file_location("echo_engine", HERE / "echo_engine.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Events:
    """A fleet's events; wait for one of a kind."""

    def __init__(self) -> None:
        self.seen = []
        self._more = asyncio.Event()

    def __call__(self, event) -> None:
        self.seen.append(event)
        self._more.set()

    async def until(self, kind: str, count: int = 1, within_s: float = 60.0):
        async with asyncio.timeout(within_s):
            while len(found := [e for e in self.seen if e.kind == kind]) < count:
                self._more.clear()
                await self._more.wait()
            return found[-1]


@pytest.fixture
def fleet_of(monkeypatch):
    """Start a fleet of echo engines: `async with fleet_of("workers=2", step_s=0.01) as fleet`."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]))

    @asynccontextmanager
    async def opened(spec: str = "", **arguments):
        events = Events()
        fleet = WatchedFleet(parse_fleet(spec), "echo", events)
        fleet.events = events
        await fleet.workers.start("echo_engine:EchoEngine", HERE, arguments)
        pids = [worker.pid for worker in fleet.workers.by_name.values()]
        try:
            yield fleet
        finally:
            pids += [worker.pid for worker in fleet.workers.by_name.values()]
            await fleet.close()
            left = [pid for pid in filter(None, pids) if os.path.exists(f"/proc/{pid}")]  # noqa: ASYNC240, PTH110
            assert not left, f"worker processes {left} are left"

    return opened


@pytest.fixture
def request_for():
    def made(tokens, max_tokens=8, **rest):
        sampling = {"max_tokens": max_tokens, **rest.pop("sampling", {})}
        return GenerationRequest(list(tokens), sampling, **rest)

    return made
