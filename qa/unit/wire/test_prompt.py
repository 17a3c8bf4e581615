"""Handlers without a task: where they run, when they get one, and how they end."""

import asyncio
import re

import pytest

from tritium.wire.h1.connection import HttpConnection
from tritium.wire.http import HttpLimits, Response
from tritium.wire.prompt import in_task, prompt
from tritium.wire.roster import Roster


class Signal:
    """What a handler may await without a task."""

    def __init__(self) -> None:
        self.on_ready = self._keep
        self.ready = None

    def _keep(self, callback) -> None:
        self.ready = callback

    def __await__(self):
        yield self


class Handling:
    """A handler that takes notes."""

    def __init__(self, roster: Roster, *awaited) -> None:
        self.notes: list[str] = []
        self._roster = roster
        self._awaited = awaited

    async def run(self) -> None:
        self._note("began")
        try:
            for each in self._awaited:
                await each
                self._note("went on")
        except asyncio.CancelledError:
            self._note("cancelled")
            raise
        finally:
            del self._roster.running[self]

    def _note(self, what: str) -> None:
        self.notes.append(f"{what} {'without' if asyncio.current_task() is None else 'in'} a task")


@pytest.fixture
async def roster():
    """A listener's roster."""
    return Roster(secure=False)


def begin(roster: Roster, *awaited) -> Handling:
    handling = Handling(roster, *awaited)
    # As from the loop: outside of the test's own task.
    asyncio.get_running_loop().call_soon(lambda: roster.begin(handling, handling.run()))
    return handling


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_handler_that_waits_for_nothing(roster):
    """It has ended when `begin` returns."""
    handling = begin(roster)
    await turns(1)
    assert handling.notes == ["began without a task"]
    assert not roster.running


async def test_a_signal_is_answered_where_it_is_given(roster):
    """The handler goes on in the very callback."""
    first, second = Signal(), Signal()
    handling = begin(roster, first, second)
    await turns(1)
    loop = asyncio.get_running_loop()
    loop.call_soon(first.ready)
    await turns(1)
    assert handling.notes == ["began without a task", "went on without a task"]
    loop.call_soon(second.ready)
    await turns(1)
    assert handling.notes[2:] == ["went on without a task"]
    assert not roster.running


async def test_whoever_awaits_anything_else_gets_a_task(roster):
    """From the first future on a handler is in a task, and in the same one to its end."""
    future = asyncio.get_running_loop().create_future()
    handling = begin(roster, in_task(), future, asyncio.sleep(0))
    await turns()
    assert handling.notes == ["began without a task", "went on in a task"]
    future.set_result(None)
    await turns()
    assert handling.notes[2:] == ["went on in a task"] * 2
    assert not roster.running


async def test_a_waiting_handler_goes_on_while_its_listener_closes(roster):
    """A listener in its grace period waits for handlers without tasks as for others."""
    signal = Signal()
    handling = begin(roster, signal, asyncio.sleep(0))
    await turns(1)
    closing = asyncio.ensure_future(roster.close(10))
    await turns()
    assert not closing.done()
    signal.ready()
    await asyncio.wait_for(closing, 60)
    assert handling.notes[1:] == ["went on in a task"] * 2


@pytest.mark.parametrize("awaited", [Signal, lambda: asyncio.get_running_loop().create_future()])
async def test_a_handler_that_outlives_the_grace_is_cancelled(roster, awaited):
    """It hears of it where it stands."""
    handling = begin(roster, awaited())
    await turns(2)
    await asyncio.wait_for(roster.close(0), 60)
    assert handling.notes == ["began without a task", "cancelled in a task"]


async def test_errors_end_a_task_that_began_without_one(roster):
    """What the awaited raises is raised in the handler."""
    future = asyncio.get_running_loop().create_future()
    handling = begin(roster, future)
    await turns(2)
    (task,) = roster.running.values()
    future.set_exception(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await task
    assert handling.notes == ["began without a task"]


async def test_thousands_of_pipelined_requests_need_no_stack(roster, transport, push):
    """Each is answered in order, although each is answered within the callback that brought it."""

    @prompt
    async def handler(request) -> Response:
        return Response(200, (), (request.path.encode(),))

    connection = HttpConnection(handler, HttpLimits(), roster)
    connection.connection_made(transport)
    paths = [b"/%d" % number for number in range(2000)]
    push(connection, b"".join(b"GET %b HTTP/1.1\r\n\r\n" % path for path in paths))
    await turns(len(paths))
    assert re.findall(rb"\r\n\r\n(/\d+)", transport.take()) == paths
    connection.connection_lost(None)
