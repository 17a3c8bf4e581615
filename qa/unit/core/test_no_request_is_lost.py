"""Whatever happens to instances and clients, every request gets exactly one final answer, and the books balance."""

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from types import ModuleType

import pytest

from tritium.core.errors import ModelFailed
from tritium.core.instance import ExecutionTimes, Job
from tritium.core.request import InferResponse, SequenceStep
from tritium.core.scheduler.limiter import EVERY_DEVICE, Claim, RateLimiter
from tritium.core.tensor_model import TensorModel

SCHEDULERS = {
    "default": "",
    "dynamic": "dynamic_batching { preferred_batch_size: 3 max_queue_delay_microseconds: 300 }",
    "policies": """dynamic_batching { priority_levels: 2 default_priority_level: 2 default_queue_policy {
        max_queue_size: 8 default_timeout_microseconds: 2000 allow_timeout_override: true }
        priority_queue_policy { key: 1 value { timeout_action: DELAY default_timeout_microseconds: 500 } } }""",
    "ordered": "dynamic_batching { preserve_ordering: true max_queue_delay_microseconds: 200 }",
    "sequence": """sequence_batching { max_sequence_idle_microseconds: 1000
        control_input { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } } }""",
    "oldest": """sequence_batching { max_sequence_idle_microseconds: 1000 oldest { max_candidate_sequences: 3
        max_queue_delay_microseconds: 200 }
        control_input { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } } }""",
}
REQUESTS = 150


class Moody:
    """An instance that takes its time, fails now and then, and is lost for a while."""

    def __init__(self, name: str, random: Random, fakes: ModuleType) -> None:
        self.name = name
        self.depth = 2
        self.healthy = True
        self._random = random
        self._echo = fakes.echo

    async def execute(self, jobs: Sequence[Job]) -> ExecutionTimes | None:
        for _ in range(self._random.randrange(4)):
            await asyncio.sleep(0)
        fate = self._random.random()
        if fate < 0.05:
            raise RuntimeError("backend bug")
        for job in jobs:
            failed = ModelFailed("no") if fate < 0.15 else None
            job.reply.send(failed or InferResponse("", "", outputs=self._echo(job)), final=True)
        return ExecutionTimes(1, 1, 1)

    async def close(self) -> None:
        pass


class PromptMoody(Moody):
    """The same, where the runner needs no tasks; what it fails by raising, it must answer itself."""

    def begin(self, jobs: Sequence[Job], done: Callable[[ExecutionTimes | None], None]) -> None:
        def ended(task: asyncio.Task[ExecutionTimes | None]) -> None:
            if error := task.exception():
                for job in jobs:
                    job.reply.send(ModelFailed(str(error)), final=True)
            done(None if error else task.result())

        asyncio.ensure_future(self.execute(jobs)).add_done_callback(ended)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", [Moody, PromptMoody])
@pytest.mark.parametrize("units", [0, 1], ids=["free", "limited"])
async def test_every_request_is_answered_once(
    fakes: ModuleType, scheduler: str, seed: int, kind: type[Moody], units: int
) -> None:
    """A random life: requests, cancels, instances lost, recovered, added and taken away, time passing; then a drain.

    With `units`, instances share so many of a resource under the rate limiter, and give all of it back.
    """
    random = Random(seed)
    limiter = RateLimiter({(EVERY_DEVICE, "R"): units})
    clock = fakes.VirtualClock()
    instances = [kind(f"m_{n}", random, fakes) for n in range(2)]
    config = fakes.config(f"max_batch_size: 4 {SCHEDULERS[scheduler]} {fakes.ADD_SUB}")
    tickets = [limiter.register(Claim({(0, "R"): 1})) for _ in instances if units]
    model = TensorModel(config, "1", instances, clock=clock, tickets=tickets)
    asked = []
    everyone = list(instances)
    for number in range(REQUESTS):
        size = 1 if "sequence_batching" in SCHEDULERS[scheduler] else random.randint(1, 3)
        given = fakes.request(
            fakes.tensor("INPUT0", [size, 4]),
            fakes.tensor("INPUT1", [size, 4]),
            id=str(number),
            priority=random.randrange(3),
            timeout_us=random.choice([0, 100]),
            sequence=SequenceStep(random.randint(1, 6), random.random() < 0.5, random.random() < 0.2),
        )
        reply = fakes.Collector()
        model.submit(given, reply)
        asked.append((given, reply))
        if random.random() < 0.1:
            random.choice(asked)[0].cancel()
        if random.random() < 0.1:
            instance = random.choice(instances)
            instance.healthy = not instance.healthy
            model.health_changed()
        if random.random() < 0.1:
            everyone.append(kind(f"m_{len(everyone)}", random, fakes))
            instances.append(everyone[-1])
            model.admit(everyone[-1], limiter.register(Claim({(0, "R"): 1})) if units else None)
        if random.random() < 0.1 and len(instances) > 1:
            model.dismiss(instances.pop(random.randrange(len(instances))))
        if random.random() < 0.5:
            clock.advance(random.randrange(400_000))
            await asyncio.sleep(0)
    for instance in everyone:
        instance.healthy = True
    model.health_changed()
    closing = asyncio.ensure_future(model.close())
    while not closing.done():
        clock.advance(100_000)
        await asyncio.sleep(0)
    # The collector refuses anything after a final answer by itself.
    assert [reply.final.is_set() for _, reply in asked] == [True] * REQUESTS
    assert all(len(reply.items) == 1 for _, reply in asked)
    statistics = model.statistics
    answered = sum(isinstance(reply.items[0], InferResponse) for _, reply in asked)
    assert statistics.pending == 0
    assert statistics.success.count == answered
    assert statistics.fail.count == sum(statistics.failures.values()) <= REQUESTS - answered
    whole = limiter.register(Claim({(0, "R"): units}))
    whole.wanted = lambda: True
    assert whole.stage(), "a resource was not given back"
