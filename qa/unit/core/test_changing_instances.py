"""Instances that come and go while a model serves: no request is lost, and no sequence changes its instance."""

import asyncio
from types import ModuleType
from typing import Any

import pytest

from tritium.core.errors import Unavailable
from tritium.core.request import InferResponse, SequenceStep
from tritium.core.scheduler.limiter import Claim, RateLimiter
from tritium.core.tensor_model import TensorModel

BATCHED = "max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 1000 }"
SEQUENCES = """max_batch_size: 1 sequence_batching { max_sequence_idle_microseconds: 1000000 %s }
    input { name: "INPUT0" data_type: TYPE_INT32 dims: 1 } output { name: "OUTPUT0" data_type: TYPE_INT32 dims: 1 }"""
STRATEGIES = pytest.mark.parametrize("strategy", ["direct {}", "oldest { max_candidate_sequences: 1 }"])


def submit(fakes: ModuleType, model: TensorModel, batch: tuple[int, ...] = ()) -> Any:
    """Submit a request to a model of ADD_SUB and return its reply."""
    tensors = [fakes.tensor(name, [*batch, 4]) for name in ("INPUT0", "INPUT1")]
    reply = fakes.Collector()
    model.submit(fakes.request(*tensors), reply)
    return reply


def step(fakes: ModuleType, model: TensorModel, id_: int, *, start: bool = False, end: bool = False) -> Any:
    """Submit one request of a sequence and return its reply."""
    reply = fakes.Collector()
    model.submit(fakes.request(fakes.tensor("INPUT0", [1, 1], "INT32"), sequence=SequenceStep(id_, start, end)), reply)
    return reply


@pytest.mark.parametrize("kind", ["FakeInstance", "PromptFakeInstance"])
@pytest.mark.parametrize(("settings", "batch"), [("", ()), (BATCHED, (1,))], ids=["default", "batching"])
async def test_an_instance_more_takes_what_waits(
    fakes: ModuleType, kind: str, settings: str, batch: tuple[int, ...]
) -> None:
    """While the one instance is at work, another that is admitted runs what has queued up behind it."""
    first, second = (getattr(fakes, kind)(held=held) for held in (True, False))
    model = TensorModel(fakes.config(fakes.ADD_SUB + settings), "1", [first])
    running = submit(fakes, model, batch)
    await first.seen(1)
    waiting = submit(fakes, model, batch)
    model.admit(second)
    assert isinstance(await waiting.one(), InferResponse)
    assert not running.final.is_set()
    first.release()
    await running.one()
    await model.close()
    assert first.closed
    assert second.closed


@pytest.mark.parametrize("kind", ["FakeInstance", "PromptFakeInstance"])
async def test_a_dismissed_instance_ends_what_it_runs(fakes: ModuleType, kind: str) -> None:
    """It gets nothing new, answers what it has, and is closed only then; the other does the rest."""
    first, second = (getattr(fakes, kind)(held=True) for _ in range(2))
    model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [first, second])
    replies = [submit(fakes, model) for _ in range(2)]
    await asyncio.gather(first.seen(1), second.seen(1))
    leaving = model.dismiss(first)
    replies += [submit(fakes, model) for _ in range(2)]
    second.release()
    await asyncio.gather(*(reply.one() for reply in replies[1:]))
    assert not first.closed
    assert not leaving.done()
    first.release()
    assert isinstance(await replies[0].one(), InferResponse)
    await asyncio.wait_for(leaving, 60)
    assert first.closed
    assert len(first.batches) == 1
    assert len(second.batches) == 3


async def test_an_idle_instance_leaves_at_once(fakes: ModuleType) -> None:
    """One that has nothing to do is closed without waiting, and the model serves with the others."""
    first, second = fakes.FakeInstance(), fakes.FakeInstance()
    model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [first, second])
    await asyncio.wait_for(model.dismiss(first), 60)
    assert first.closed
    assert isinstance(await submit(fakes, model).one(), InferResponse)
    await model.close()
    assert second.closed


@STRATEGIES
@pytest.mark.parametrize("kind", ["FakeInstance", "PromptFakeInstance"])
async def test_sequences_end_where_they_began(fakes: ModuleType, strategy: str, kind: str) -> None:
    """A dismissed instance keeps its sequence to its END and then leaves; new sequences go to the others."""
    first, second = (getattr(fakes, kind)() for _ in range(2))
    model = TensorModel(fakes.config(SEQUENCES % strategy), "1", [first])
    await step(fakes, model, 1, start=True).one()
    model.admit(second)
    leaving = model.dismiss(first)
    await asyncio.sleep(0)
    await step(fakes, model, 2, start=True).one()
    await step(fakes, model, 1).one()
    assert not leaving.done()
    assert not first.closed
    assert [len(first.batches), len(second.batches)] == [2, 1]
    await step(fakes, model, 1, end=True).one()
    await asyncio.wait_for(leaving, 60)
    assert first.closed
    await asyncio.gather(step(fakes, model, 2, end=True).one(), step(fakes, model, 3, start=True).one())
    assert [len(first.batches), len(second.batches)] == [3, 3]


async def test_sequences_that_wait_for_a_slot_get_one_of_a_new_instance(fakes: ModuleType) -> None:
    """The backlog is seated when an instance is admitted, not when the next request arrives."""
    first, second = fakes.FakeInstance(), fakes.FakeInstance()
    model = TensorModel(fakes.config(SEQUENCES % "direct {}"), "1", [first])
    await step(fakes, model, 1, start=True).one()
    waiting = step(fakes, model, 2, start=True)
    model.admit(second)
    await waiting.one()
    assert len(second.batches) == 1


async def test_an_idle_sequence_does_not_keep_an_instance(fakes: ModuleType) -> None:
    """Where a client never ends its sequence, the instance leaves when the sequence has been idle for too long."""
    clock = fakes.VirtualClock()
    first, second = fakes.FakeInstance(), fakes.FakeInstance()
    model = TensorModel(fakes.config(SEQUENCES % "direct {}"), "1", [first, second], clock=clock)
    await step(fakes, model, 1, start=True).one()
    busy = first if first.batches else second
    leaving = model.dismiss(busy)
    await asyncio.sleep(0)
    assert not leaving.done()
    clock.advance(1_000_000_000)
    await asyncio.wait_for(leaving, 60)
    assert busy.closed


async def test_a_model_that_is_closed_closes_what_is_leaving(fakes: ModuleType) -> None:
    """Unloading does not wait for sequences that keep a dismissed instance, and leaves no instance open."""
    first, second = fakes.FakeInstance(), fakes.FakeInstance()
    model = TensorModel(fakes.config(SEQUENCES % "direct {}"), "1", [first])
    await step(fakes, model, 1, start=True).one()
    model.admit(second)
    leaving = model.dismiss(first)
    await asyncio.sleep(0)
    await asyncio.wait_for(model.close(), 60)
    assert leaving.done()
    assert first.closed
    assert second.closed
    assert isinstance(await step(fakes, model, 2, start=True).one(), Unavailable)


async def test_resources_change_hands_with_the_instances(fakes: ModuleType) -> None:
    """An instance that leaves gives its resources back, and one that needs more of them raises what there is."""
    heard: list[dict[tuple[int, str], int]] = []
    limiter = RateLimiter(told=lambda limits: heard.append(dict(limits)))
    tickets = [limiter.register(Claim({(0, "R1"): 4}))]
    first, second = fakes.FakeInstance(), fakes.FakeInstance()
    model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [first], tickets=tickets)
    await submit(fakes, model).one()
    model.admit(second, limiter.register(Claim({(0, "R1"): 3})))
    await asyncio.wait_for(model.dismiss(first), 60)
    await asyncio.gather(*(submit(fakes, model).one() for _ in range(4)))
    assert heard == [{(0, "R1"): 4}, {(0, "R1"): 4}, {(0, "R1"): 3}]
    await model.close()
    assert heard[-1] == {}
