"""Alarms below a millisecond: on time, in order, and without a loop that spins for them."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from types import ModuleType
from typing import Any

import pytest
import uvloop

from tritium.core.clock import SYSTEM_CLOCK, Alarm, SystemClock
from tritium.core.tensor_model import TensorModel

MICROSECOND = 1_000


def on(run: Callable[[Coroutine[Any, Any, Any]], Any], work: Coroutine[Any, Any, Any]) -> Any:
    """Run on a loop of that kind."""
    return run(work)


async def ring_after(*delays_us: int, cancel: int = -1) -> list[tuple[int, int]]:
    """Set alarms, and return those that rang in order: index, and how late (ns)."""
    loop, rung, all_rung = asyncio.get_running_loop(), [], asyncio.Event()
    began_ns = time.monotonic_ns()
    alarms = []
    for index, delay_us in enumerate(delays_us):
        when_ns = began_ns + delay_us * MICROSECOND

        def ring(index: int = index, when_ns: int = when_ns) -> None:
            rung.append((index, time.monotonic_ns() - when_ns))
            if index == len(delays_us) - 1:
                loop.call_soon(all_rung.set)

        alarms.append(SYSTEM_CLOCK.call_at(when_ns, ring))
    if cancel >= 0:
        alarms[cancel].cancel()
    await asyncio.wait_for(all_rung.wait(), 60)
    return rung


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_alarms_ring_in_order_and_never_early(run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
    """Whatever the order in which they are set; one that is cancelled does not ring."""
    rung = on(run, ring_after(900, 300, 600, 100, 1200, cancel=2))
    assert [index for index, _ in rung] == [3, 1, 0, 4]
    assert all(late_ns >= 0 for _, late_ns in rung)
    for _ in range(20):
        ((_, late_ns),) = on(run, ring_after(150))
        assert late_ns >= 0


class CountingClock(SystemClock):
    """The machine's clock, which counts the alarms that are set."""

    def __init__(self) -> None:
        self.alarms = 0

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Alarm:
        self.alarms += 1
        return super().call_at(when_ns, callback)


def test_a_short_delay_does_not_spin(fakes: ModuleType) -> None:
    """A batch that waits 400 µs for company sets an alarm for the end of its time, and does not ask in between.

    Where the machine is so busy that its time is over before, it needs none.
    """

    async def alarms() -> int:
        pbtxt = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 400 }" + fakes.ADD_SUB
        clock = CountingClock()
        model = TensorModel(fakes.config(pbtxt), "1", [fakes.FakeInstance()], clock=clock)
        reply = fakes.Collector()
        model.submit(fakes.request(fakes.tensor("INPUT0", (1, 4)), fakes.tensor("INPUT1", (1, 4))), reply)
        await reply.one()
        await model.close()
        return clock.alarms

    assert uvloop.run(alarms()) <= 2
