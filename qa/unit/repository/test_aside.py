"""Blocking work beside the event loop, on threads that nothing else waits for."""

import asyncio
import subprocess
import sys
import threading

import pytest

from tritium.repository.aside import Aside


async def test_it_returns_and_raises_what_the_work_does() -> None:
    """Results and errors come back to whoever waits."""
    aside = Aside()
    assert await aside.run(sorted, [2, 1], reverse=True) == [2, 1]
    with pytest.raises(ZeroDivisionError):
        await aside.run(divmod, 1, 0)


async def test_work_that_hangs_keeps_the_loops_own_threads_free() -> None:
    """However many readings hang, what the server runs on threads besides goes on at once."""
    aside, release = Aside(), threading.Event()
    hanging = [asyncio.ensure_future(aside.run(release.wait, 30)) for _ in range(40)]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(asyncio.to_thread(sum, [1, 2]), 60) == 3
    release.set()
    assert await asyncio.wait_for(asyncio.gather(*hanging), 60) == [True] * 40


async def test_readings_beyond_the_most_wait_their_turn() -> None:
    """A storm of loads does not make a thread each at once."""
    aside, release, both = Aside(most=2), threading.Event(), threading.Barrier(3)
    began: list[int] = []

    def work(number: int) -> None:
        began.append(number)
        if number < 2:
            both.wait(60)
        release.wait(30)

    running = [asyncio.ensure_future(aside.run(work, number)) for number in range(4)]
    await asyncio.to_thread(both.wait, 5)
    assert sorted(began) == [0, 1]
    release.set()
    await asyncio.wait_for(asyncio.gather(*running), 60)
    assert sorted(began) == [0, 1, 2, 3]


def test_a_process_ends_although_a_reading_hangs() -> None:
    """A server that is told to stop does not wait for a store that does not answer."""
    program = (
        "import asyncio, threading\n"
        "from tritium.repository.aside import Aside\n"
        "async def main():\n"
        "    task = asyncio.ensure_future(Aside().run(threading.Event().wait))\n"
        "    await asyncio.sleep(0)\n"
        "    task.cancel()\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=120, check=False).returncode == 0
