"""A tensor model from submit to reply: answers, scheduling, health, draining and what is counted."""

import asyncio
from collections.abc import Callable
from types import ModuleType

import pytest

from tritium.core.errors import (
    Cancelled,
    DeadlineExceeded,
    InferenceError,
    InvalidArgument,
    ModelFailed,
    Overloaded,
    Unavailable,
)
from tritium.core.instance import ExecutionTimes, Job
from tritium.core.replies import SingleReply
from tritium.core.request import InferRequest, InferResponse, Spans
from tritium.core.tensor import Tensor
from tritium.core.tensor_model import TensorModel

Submit = Callable[..., object]


@pytest.fixture(params=["tasks", "prompt"])
def fakes(request: pytest.FixtureRequest, fakes: ModuleType) -> ModuleType:
    """The fakes, with instances of either kind under the one name."""
    if request.param == "tasks":
        return fakes
    prompt = ModuleType("prompt_fakes")
    prompt.__dict__.update(fakes.__dict__, FakeInstance=fakes.PromptFakeInstance)
    return prompt


may_misbehave = pytest.mark.parametrize("fakes", ["tasks"], indirect=True)


def add_sub(fakes: ModuleType, batch: int = 0, **fields: object) -> InferRequest:
    """Return a right request to add_sub."""
    shape = [batch, 4] if batch else [4]
    return fakes.request(fakes.tensor("INPUT0", shape), fakes.tensor("INPUT1", shape), **fields)


def submit(fakes: ModuleType, model: TensorModel, request: InferRequest) -> object:
    """Submit a request and return its reply."""
    reply = fakes.Collector()
    model.submit(request, reply)
    return reply


async def test_answers_carry_id_model_and_version(fakes: ModuleType) -> None:
    """Whatever the instance says, the response names the model, the version that ran, and the request."""
    model = TensorModel(fakes.config(fakes.ADD_SUB), "3", [fakes.FakeInstance()])
    response = await submit(fakes, model, add_sub(fakes, id="7")).one()
    assert (response.model_name, response.model_version, response.id) == ("add_sub", "3", "7")
    assert [t.name for t in response.outputs] == ["OUTPUT0", "OUTPUT1"]


async def test_only_requested_outputs_are_returned(fakes: ModuleType) -> None:
    """Outputs nobody asked for are dropped; those asked for but not made are left out."""
    model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [fakes.FakeInstance()])
    response = await submit(fakes, model, add_sub(fakes, outputs=["OUTPUT1"])).one()
    assert [t.name for t in response.outputs] == ["OUTPUT1"]
    silent = TensorModel(fakes.config(fakes.ADD_SUB), "1", [fakes.FakeInstance(lambda job: [])])
    response = await submit(fakes, silent, add_sub(fakes, outputs=["OUTPUT1"])).one()
    assert response.outputs == []


async def test_reshape(fakes: ModuleType) -> None:
    """The model sees the reshaped input; the client gets the configured output, open dimensions carried over."""
    pbtxt = """max_batch_size: 8
        input { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1, 2 ] reshape { shape: [ 2, -1, 1 ] } }
        output { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1, 2 ] reshape { shape: [ 2, -1, 1 ] } }"""
    instance = fakes.FakeInstance()
    model = TensorModel(fakes.config(pbtxt), "1", [instance])
    given = fakes.tensor("INPUT0", [1, 3, 2])
    response = await submit(fakes, model, fakes.request(given)).one()
    assert instance.batches[0][0].request.inputs[0].shape == (1, 2, 3, 1)
    assert response.outputs[0].shape == (1, 3, 2)
    assert given.shape == (1, 3, 2), "the caller's tensor is not changed"


async def test_statistics_count_as_triton_does(fakes: ModuleType) -> None:
    """Requests, batch elements and executions are counted apart; times are those of the execution."""
    clock = fakes.VirtualClock()
    instance = fakes.FakeInstance(held=True)
    model = TensorModel(
        fakes.config("max_batch_size: 8 dynamic_batching {}" + fakes.ADD_SUB), "1", [instance], clock=clock
    )
    spans: list[Spans] = []
    replies = [submit(fakes, model, add_sub(fakes, 2, measured=spans.append)) for _ in range(3)]
    assert model.statistics.pending == 3
    clock.advance(500)
    await instance.seen(1)
    assert model.statistics.pending == 0
    clock.advance(10_000)
    instance.release()
    for reply in replies:
        await reply.one()
    await model.close()
    statistics = model.statistics
    assert (statistics.success.count, statistics.inference_count, statistics.execution_count) == (3, 6, 1)
    assert statistics.success.ns == 3 * 10_500
    assert statistics.queue.ns == 3 * 500
    assert (statistics.compute_input.ns, statistics.compute_infer.ns, statistics.compute_output.ns) == (
        3_000,
        6_000,
        9_000,
    )
    assert {size: batch.compute_infer.count for size, batch in statistics.batches.items()} == {6: 1}
    assert statistics.last_inference_ms == clock.wall_ms()
    assert statistics.cuts == {"idle": 1}
    assert spans == [Spans(500, 1_000, 2_000, 3_000)] * 3


async def test_failures_are_counted_by_reason(fakes: ModuleType) -> None:
    """A model's error is BACKEND whatever its code; a refused request is not counted at all."""
    errors = iter([ModelFailed("boom"), InvalidArgument("model says no")])
    model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [fakes.FakeInstance(lambda job: next(errors))])
    assert (await submit(fakes, model, add_sub(fakes)).one()).message == "boom"
    assert (await submit(fakes, model, add_sub(fakes)).one()).message == "model says no"
    assert isinstance(await submit(fakes, model, fakes.request()).one(), InvalidArgument)
    await model.close()
    assert model.statistics.failures == {"BACKEND": 2}
    assert (model.statistics.fail.count, model.statistics.success.count) == (2, 0)
    assert (model.statistics.execution_count, model.statistics.inference_count) == (2, 0)


@may_misbehave
async def test_an_instance_that_raises_or_stays_silent(fakes: ModuleType) -> None:
    """A backend that breaks its contract fails its own requests and no others."""

    def misbehave(job: Job) -> list[Tensor]:
        raise RuntimeError("backend bug")

    class Silent(fakes.FakeInstance):  # type: ignore[misc,name-defined]
        async def execute(self, jobs: list[Job]) -> ExecutionTimes | None:
            return None

    raising = TensorModel(fakes.config(fakes.ADD_SUB), "1", [fakes.FakeInstance(misbehave)])
    for _ in range(2):
        error = await submit(fakes, raising, add_sub(fakes)).one()
        assert isinstance(error, ModelFailed)
        assert "RuntimeError: backend bug" in error.message
    silent = TensorModel(fakes.config(fakes.ADD_SUB), "1", [Silent()])
    assert isinstance(await submit(fakes, silent, add_sub(fakes)).one(), ModelFailed)


@may_misbehave
async def test_a_backend_that_cancels_itself(fakes: ModuleType) -> None:
    """A cancellation that nobody asked for fails the requests of its batch; the next ones run."""
    outcomes = iter([asyncio.CancelledError(), None])

    class Fickle(fakes.FakeInstance):  # type: ignore[misc,name-defined]
        async def execute(self, jobs: list[Job]) -> ExecutionTimes | None:
            if (outcome := next(outcomes)) is not None:
                raise outcome
            times: ExecutionTimes | None = await super().execute(jobs)
            return times

    model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [Fickle()])
    assert isinstance(await submit(fakes, model, add_sub(fakes)).one(), ModelFailed)
    assert isinstance(await submit(fakes, model, add_sub(fakes)).one(), InferResponse)
    await model.close()


async def test_a_reply_that_raises_does_not_stop_the_model(fakes: ModuleType) -> None:
    """What goes wrong on the way to one client is reported, and other requests are served."""
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))

    class Broken:
        def send(self, response: object, *, final: bool) -> None:
            raise RuntimeError("client gone")

    instance = fakes.FakeInstance(held=True)
    model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [instance])
    running = submit(fakes, model, add_sub(fakes))
    await instance.seen(1)
    broken = add_sub(fakes)
    model.submit(broken, Broken())
    broken.cancel()
    instance.release()
    await running.one()
    assert isinstance(await submit(fakes, model, add_sub(fakes)).one(), InferResponse)
    assert [str(context["exception"]) for context in reported] == ["client gone"]
    await model.close()


async def test_default_scheduler_runs_one_request_at_a_time(fakes: ModuleType) -> None:
    """Without dynamic batching every request is an execution of its own, in order of arrival."""
    instance = fakes.FakeInstance(held=True)
    model = TensorModel(fakes.config("max_batch_size: 8" + fakes.ADD_SUB), "1", [instance])
    replies = [submit(fakes, model, add_sub(fakes, 1, id=str(n))) for n in range(3)]
    await instance.seen(1)
    assert len(instance.batches) == 1
    instance.release()
    for reply in replies:
        await reply.one()
    assert [[job.request.id for job in batch] for batch in instance.batches] == [["0"], ["1"], ["2"]]


async def test_idle_instances_share_the_queue(fakes: ModuleType) -> None:
    """Two instances work at the same time; the queue is one."""
    first, second = fakes.FakeInstance(held=True), fakes.FakeInstance(held=True)
    model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [first, second])
    replies = [submit(fakes, model, add_sub(fakes)) for _ in range(3)]
    await first.seen(1)
    await second.seen(1)
    second.release()
    await second.seen(2)
    assert (len(first.batches), len(second.batches)) == (1, 2)
    first.release()
    for reply in replies:
        await reply.one()


async def test_depth_pipelines_the_default_scheduler_only(fakes: ModuleType) -> None:
    """An instance of depth 2 holds two executions of the default scheduler, but one batch of the dynamic one."""
    deep = fakes.FakeInstance(held=True, depth=2)
    other = fakes.FakeInstance(held=True, depth=2)
    model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [deep, other])
    replies = [submit(fakes, model, add_sub(fakes)) for _ in range(5)]
    await deep.seen(2)
    await other.seen(2)
    assert (len(deep.batches), len(other.batches), model.statistics.pending) == (2, 2, 1)
    batching = fakes.FakeInstance(held=True, depth=2)
    dynamic = TensorModel(fakes.config("max_batch_size: 1 dynamic_batching {}" + fakes.ADD_SUB), "1", [batching])
    replies += [submit(fakes, dynamic, add_sub(fakes, 1)) for _ in range(2)]
    await batching.seen(1)
    assert dynamic.statistics.pending == 1
    for instance in (deep, other, batching):
        instance.release()
    for reply in replies:
        await reply.one()


async def test_requests_that_arrive_together_run_together(fakes: ModuleType) -> None:
    """What arrives in one turn of the event loop makes one batch, without any delay configured."""
    instance = fakes.FakeInstance()
    model = TensorModel(fakes.config("max_batch_size: 8 dynamic_batching {}" + fakes.ADD_SUB), "1", [instance])
    replies = [submit(fakes, model, add_sub(fakes, 1)) for _ in range(5)]
    for reply in replies:
        await reply.one()
    assert [len(batch) for batch in instance.batches] == [5]


async def test_delay_waits_for_company(fakes: ModuleType) -> None:
    """A batch waits for max_queue_delay after its oldest request, by the clock it is given."""
    clock = fakes.VirtualClock()
    instance = fakes.FakeInstance()
    pbtxt = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 100 }" + fakes.ADD_SUB
    model = TensorModel(fakes.config(pbtxt), "1", [instance], clock=clock)
    replies = [submit(fakes, model, add_sub(fakes, 1))]
    await asyncio.sleep(0)
    clock.advance(60_000)
    replies.append(submit(fakes, model, add_sub(fakes, 1)))
    await asyncio.sleep(0)
    clock.advance(39_999)
    await asyncio.sleep(0)
    assert instance.batches == []
    clock.advance(1)
    for reply in replies:
        await reply.one()
    assert [len(batch) for batch in instance.batches] == [2]


QUEUE = """max_batch_size: 1 dynamic_batching { default_queue_policy { max_queue_size: 1
    default_timeout_microseconds: 100 } }"""


async def test_queue_policy_is_kept_while_the_instance_is_busy(fakes: ModuleType) -> None:
    """A full queue refuses at once; a request whose time is over is answered then, not when its turn comes."""
    clock = fakes.VirtualClock()
    instance = fakes.FakeInstance(held=True)
    model = TensorModel(fakes.config(QUEUE + fakes.ADD_SUB), "1", [instance], clock=clock)
    running = submit(fakes, model, add_sub(fakes, 1))
    await instance.seen(1)
    waiting = submit(fakes, model, add_sub(fakes, 1))
    refused = await submit(fakes, model, add_sub(fakes, 1, id="9")).one()
    assert isinstance(refused, Overloaded)
    assert refused.message == "[request id: 9] Exceeds maximum queue size"
    clock.advance(100_000)
    late = await waiting.one()
    assert isinstance(late, DeadlineExceeded)
    assert late.message == "Request timeout expired"
    instance.release()
    assert isinstance(await running.one(), InferResponse)
    assert model.statistics.failures == {"REJECTED": 2}
    assert model.statistics.pending == 0


@pytest.mark.parametrize("before", [1, 2], ids=["an empty queue", "a queue with later deadlines"])
async def test_a_deadline_counts_after_others_have_left_in_time(fakes: ModuleType, before: int) -> None:
    """The deadline of a request that has long run hides none that comes after it, however long the execution takes."""
    clock = fakes.VirtualClock()
    instance = fakes.FakeInstance(held=True)
    policy = """max_batch_size: 1 dynamic_batching { default_queue_policy {
        default_timeout_microseconds: 100 } priority_levels: 2 default_priority_level: 1
        priority_queue_policy { key: 2 value { default_timeout_microseconds: 1000 } } }"""
    model = TensorModel(fakes.config(policy + fakes.ADD_SUB), "1", [instance], clock=clock)
    running = [submit(fakes, model, add_sub(fakes, 1, priority=level)) for level in (1, 2)[:before]]
    await instance.seen(1)
    clock.advance(200_000)
    waiting = submit(fakes, model, add_sub(fakes, 1, priority=1))
    clock.advance(99_000)
    assert not waiting.final.is_set()
    clock.advance(2_000)
    assert isinstance(await waiting.one(), DeadlineExceeded)
    instance.release()
    for reply in running:
        await reply.one()


async def test_a_deadline_counts_after_a_delay_that_nobody_waited_for(fakes: ModuleType) -> None:
    """A batch whose only request was rejected while it waited for company leaves nothing that hides deadlines."""
    clock = fakes.VirtualClock()
    instance = fakes.FakeInstance(held=True)
    policy = """max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 300
        default_queue_policy { default_timeout_microseconds: 100 } }"""
    model = TensorModel(fakes.config(policy + fakes.ADD_SUB), "1", [instance], clock=clock)
    await asyncio.sleep(0)
    rejected = submit(fakes, model, add_sub(fakes, 1))
    await asyncio.sleep(0)
    clock.advance(400_000)
    assert isinstance(await rejected.one(), DeadlineExceeded)
    running = submit(fakes, model, add_sub(fakes, 4))
    await instance.seen(1)
    waiting = submit(fakes, model, add_sub(fakes, 1))
    clock.advance(100_000)
    assert isinstance(await waiting.one(), DeadlineExceeded)
    instance.release()
    await running.one()


async def test_cancelled_requests_do_not_run(fakes: ModuleType) -> None:
    """A request cancelled while it waits is answered as cancelled and never reaches the model."""
    instance = fakes.FakeInstance(held=True)
    model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [instance])
    running = submit(fakes, model, add_sub(fakes))
    await instance.seen(1)
    request = add_sub(fakes)
    waiting = submit(fakes, model, request)
    request.cancel()
    instance.release()
    assert isinstance(await running.one(), InferResponse)
    assert isinstance(await waiting.one(), Cancelled)
    assert len(instance.batches) == 1
    assert model.statistics.failures == {"CANCELED": 1}


async def test_order_is_kept_where_asked(fakes: ModuleType) -> None:
    """With preserve_ordering, a quick instance does not overtake a slow one."""
    slow, quick = fakes.FakeInstance(held=True), fakes.FakeInstance()
    pbtxt = "max_batch_size: 1 dynamic_batching { preserve_ordering: true }" + fakes.ADD_SUB
    model = TensorModel(fakes.config(pbtxt), "1", [slow, quick])
    seen: list[str] = []

    class Noting(fakes.Collector):  # type: ignore[misc,name-defined]
        def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
            assert isinstance(response, InferResponse)
            seen.append(response.id)
            super().send(response, final=final)

    replies = [Noting() for _ in range(3)]
    for number, reply in enumerate(replies):
        model.submit(add_sub(fakes, 1, id=str(number)), reply)
    await slow.seen(1)
    await quick.seen(2)
    assert seen == []
    slow.release()
    for reply in replies:
        await reply.one()
    started = [batch[0].request.id for batch in (*slow.batches, *quick.batches)]
    assert sorted(started) == seen == ["0", "1", "2"]


async def test_a_lost_instance_gets_no_work(fakes: ModuleType) -> None:
    """Requests go to healthy instances; a model without any refuses and is not ready; a recovered one goes on."""
    first, second = fakes.FakeInstance(), fakes.FakeInstance()
    model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [first, second])
    await asyncio.sleep(0)
    first.healthy = False
    model.health_changed()
    assert model.ready
    for _ in range(2):
        await submit(fakes, model, add_sub(fakes)).one()
    assert (len(first.batches), len(second.batches)) == (0, 2)
    second.healthy = False
    model.health_changed()
    assert not model.ready
    assert isinstance(await submit(fakes, model, add_sub(fakes)).one(), Unavailable)
    first.healthy = True
    model.health_changed()
    assert model.ready
    await submit(fakes, model, add_sub(fakes)).one()
    assert len(first.batches) == 1


async def test_queued_requests_survive_a_restart(fakes: ModuleType) -> None:
    """What waits when the only instance is lost runs once it is back."""
    instance = fakes.FakeInstance(held=True)
    model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [instance])
    replies = [submit(fakes, model, add_sub(fakes)) for _ in range(2)]
    await instance.seen(1)
    instance.healthy = False
    model.health_changed()
    instance.release()
    await replies[0].one()
    await asyncio.sleep(0)
    assert len(instance.batches) == 1
    instance.healthy = True
    model.health_changed()
    await replies[1].one()


async def test_close_drains(fakes: ModuleType) -> None:
    """Closing refuses what is new, finishes what waits and runs, then closes the instances; no task is left."""
    instance = fakes.FakeInstance(held=True)
    before = asyncio.all_tasks()
    model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [instance])
    replies = [submit(fakes, model, add_sub(fakes)) for _ in range(3)]
    await instance.seen(1)
    closing = asyncio.ensure_future(model.close())
    await asyncio.sleep(0)
    assert not model.ready
    refused = await submit(fakes, model, add_sub(fakes)).one()
    assert isinstance(refused, Unavailable)
    assert "stopped accepting" in refused.message
    assert not instance.closed
    instance.release()
    await asyncio.wait_for(closing, 60)
    assert [type(await reply.one()) for reply in replies] == [InferResponse] * 3
    assert instance.closed
    assert asyncio.all_tasks() - {closing} == before


async def test_close_without_instances_fails_what_waits(fakes: ModuleType) -> None:
    """A model whose instances are all lost does not wait for ever when it is closed."""
    instance = fakes.FakeInstance(held=True)
    model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [instance])
    running, waiting = (submit(fakes, model, add_sub(fakes)) for _ in range(2))
    await instance.seen(1)
    instance.healthy = False
    instance.release()
    await asyncio.wait_for(model.close(), 60)
    assert isinstance(await running.one(), InferResponse)
    assert isinstance(await waiting.one(), Unavailable)


async def test_decoupled_responses(fakes: ModuleType) -> None:
    """A decoupled model may answer after its execution has returned, any number of times; each is counted."""

    class Later(fakes.FakeInstance):  # type: ignore[misc,name-defined]
        async def execute(self, jobs: list[Job]) -> ExecutionTimes:
            self.jobs = list(jobs)
            return ExecutionTimes(1, 2, 3)

    instance = Later()
    clock = fakes.VirtualClock()
    pbtxt = "model_transaction_policy { decoupled: true }" + fakes.ADD_SUB
    model = TensorModel(fakes.config(pbtxt), "1", [instance], clock=clock)
    reply = submit(fakes, model, add_sub(fakes, id="d"))
    await asyncio.sleep(0)
    (job,) = instance.jobs
    await model._runner.drain()
    assert model.statistics.success.count == 0
    for _ in range(2):
        clock.advance(100)
        job.reply.send(InferResponse("", "", outputs=fakes.echo(job)), final=False)
    clock.advance(50)
    job.reply.send(None, final=True)
    job.reply.send(InferResponse("", ""), final=True)  # not heard: the final response is out
    responses = await reply.all()
    assert [response.id for response in responses] == ["d", "d"]
    statistics = model.statistics
    assert (statistics.success.count, statistics.success.ns) == (1, 250)
    assert [(index, r.success.count, r.empty_response.count) for index, r in statistics.responses.items()] == [
        (0, 1, 0),
        (1, 1, 0),
        (2, 0, 1),
    ]
    assert statistics.responses[1].compute_infer.ns == 100


async def test_single_reply_gets_the_response(fakes: ModuleType) -> None:
    """The ordinary way: one future, one response."""
    model = TensorModel(fakes.config(fakes.ADD_SUB), "1", [fakes.FakeInstance()])
    reply = SingleReply(asyncio.get_running_loop())
    model.submit(add_sub(fakes), reply)
    assert (await reply.future).model_name == "add_sub"
    await model.close()
