"""Several fronts of the same workers: what each is told of the others, and what becomes of a load with all of them."""

import asyncio

import pytest
from qa.bench.fronts import fronts_over, send
from qa.bench.openai_front.model import write_model
from qa.bench.routing import BLOCK, Answer, prefix_jobs

from tritium.backends.engine import Generate
from tritium.cluster.fleet import GenerationRequest
from tritium.cluster.frames import AskCache, Submit

ENGINE = {"max_model_len": 4096, "block_size": BLOCK, "num_gpu_blocks_override": 256}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fronts") / "model"
    write_model(folder)
    return folder


def loads(fleet):
    """Return what a front's book says of each worker."""
    return {
        load.name: (load.active, load.prefill_blocks, load.decode_blocks) for load in fleet.workers.generating.loads
    }


async def turns(count=10):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_fronts_know_of_each_others_requests(model):
    """What one front sends counts in another's book as in its own, until it is over; a late front learns it too."""
    timing = {"timing": {"base_ms": 20_000.0}}
    async with fronts_over(model, fronts=3, workers=1, arguments=ENGINE | {"mocker": timing}) as (one, other, third):
        answer = Answer(asyncio.get_running_loop().create_future())
        handle = one.generate(GenerationRequest(list(range(10, 90)), {"max_tokens": 4, "ignore_eos": True}), answer)
        await turns()
        assert loads(one) == loads(other) == loads(third) == {"worker_0": (1, 5, 5)}
        assert [len(fleet.workers.elsewhere["worker_0"]) for fleet in (one, other, third)] == [0, 1, 1]
        assert "5/5" in other.explain(list(range(10, 90))).because, "its prompt is expected there"
        [worker] = other.workers.by_name.values()
        worker._runner.leave(worker.peer)
        other.workers.leave_router(worker)
        worker._runner.join(worker.peer)
        await turns()
        assert loads(other) == {"worker_0": (1, 5, 5)}
        handle.cancel()
        await turns()
        for fleet in (one, other, third):
            assert loads(fleet) == {"worker_0": (0, 0, 0)}
            assert len(fleet.workers.elsewhere["worker_0"]) == 0


async def test_tokens_that_are_none_keep_no_front_out(model):
    """What one front sends may be no tokens at all: the engine says so to it, and others join all the same."""
    timing = {"timing": {"base_ms": 20_000.0}}
    async with fronts_over(model, fronts=2, workers=1, arguments=ENGINE | {"mocker": timing}) as (one, other):
        [worker] = one.workers.by_name.values()
        worker.send(Submit(Generate(77, [-1, 2**40], {"max_tokens": 4})))
        [late] = other.workers.by_name.values()
        late._runner.leave(late.peer)
        late._runner.join(late.peer)
        await turns()
        assert loads(other)["worker_0"][0] == 1
        worker._runner.leave(worker.peer)
        await turns()
        assert loads(other) == {"worker_0": (0, 0, 0)}


async def test_a_front_that_leaves_takes_its_requests_along(model):
    """What a lost front had asked for is aborted, and counts nowhere any more."""
    timing = {"timing": {"base_ms": 20_000.0}}
    async with fronts_over(model, fronts=2, workers=1, arguments=ENGINE | {"mocker": timing}) as (one, other):
        answer = Answer(asyncio.get_running_loop().create_future())
        handle = one.generate(GenerationRequest(list(range(10, 90)), {"max_tokens": 100}), answer)
        await turns()
        assert loads(other)["worker_0"][0] == 1
        [worker] = one.workers.by_name.values()
        worker._runner.leave(worker.peer)
        await turns()
        assert loads(other) == {"worker_0": (0, 0, 0)}
        handle.cancel()


@pytest.mark.parametrize("fronts", [2, 4])
async def test_fronts_do_not_herd(model, fronts):
    """Shared prefixes find their caches, and workers their share of the load, behind several fronts as behind one."""
    jobs = prefix_jobs(prefixes=8, each=15)
    arguments = ENGINE | {"num_gpu_blocks_override": 4096, "mocker": {"gpu": "h100", "speedup": 4.0}}
    async with fronts_over(model, fronts=fronts, workers=4, arguments=arguments) as fleets:
        outcome = await send(fleets, jobs, 12)
        # Wide, for a busy machine makes some mock workers look slow; `qa.bench.fronts` has the figures.
        assert outcome.hits > 0.6, "the best possible is 0.876"
        assert outcome.balance < 10
        assert all(load == (0, 0, 0) for fleet in fleets for load in loads(fleet).values())


async def test_changes_come_one_way(model):
    """A front that has changes by another way is not told by its connection, unless the worker has no other way."""
    async with fronts_over(model, fronts=2, workers=1, arguments=ENGINE) as (one, other):
        [worker] = one.workers.by_name.values()
        published = []

        async def generate(first):
            answer = Answer(asyncio.get_running_loop().create_future())
            tokens = list(range(first, first + 2 * BLOCK))
            other.generate(GenerationRequest(tokens, {"max_tokens": 1}), answer)
            await asyncio.wait_for(answer.over, 60)
            await turns()
            return one.explain(tokens).overlap_blocks, other.explain(tokens).overlap_blocks

        worker.send(AskCache(changes_here=False))
        await turns()
        assert await generate(10) == (2, 2)
        worker._runner.publish = published.append
        worker.send(AskCache(changes_here=False))
        await turns()
        assert await generate(100) == (0, 2)
        [changed] = published
        one.workers.followers["worker_0"].hear(changed)
        assert await generate(200) == (0, 2)
        assert one.explain(list(range(100, 100 + 2 * BLOCK))).overlap_blocks == 2
