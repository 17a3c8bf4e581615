"""Ensembles over members that run: order, optional tensors, streams, errors, cancellation and what is counted."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

import pytest

from tritium.core.dataflow import Dataflow
from tritium.core.ensemble import EnsembleModel
from tritium.core.errors import Cancelled, InferenceError, InvalidArgument, ModelFailed, NotFound
from tritium.core.instance import ExecutionTimes, Job
from tritium.core.model import Model
from tritium.core.request import InferRequest, InferResponse, SequenceStep
from tritium.core.tensor_model import TensorModel

ENS = """
    platform: "ensemble"
    input [ { name: "A" data_type: TYPE_FP32 dims: 4 }, { name: "B" data_type: TYPE_FP32 dims: 4 } ]
    output [ { name: "SUM2" data_type: TYPE_FP32 dims: 4 }, { name: "DIFF2" data_type: TYPE_FP32 dims: 4 } ]
    ensemble_scheduling { step [
        { model_name: "first" model_version: -1
          input_map { key: "INPUT0" value: "A" } input_map { key: "INPUT1" value: "B" }
          output_map { key: "OUTPUT0" value: "s" } output_map { key: "OUTPUT1" value: "d" } },
        { model_name: "second" model_version: 2
          input_map { key: "INPUT0" value: "s" } input_map { key: "INPUT1" value: "d" }
          output_map { key: "OUTPUT0" value: "SUM2" } output_map { key: "OUTPUT1" value: "DIFF2" } } ] }
"""
Members = Mapping[str, Model]
Make = Callable[..., EnsembleModel]


@pytest.fixture
def member(fakes: ModuleType) -> Callable[..., TensorModel]:
    """Return a maker of members with one fake instance."""

    def make(name: str, pbtxt: str = fakes.ADD_SUB, instance: object = None, version: str = "1") -> TensorModel:
        return TensorModel(fakes.config(pbtxt, name), version, [instance or fakes.FakeInstance()])

    return make


def ensemble(fakes: ModuleType, pbtxt: str, members: Members) -> EnsembleModel:
    """Return an ensemble over members found by name."""

    def resolve(name: str, version: str) -> Model:
        if name not in members or version not in ("", members[name].version):
            raise NotFound(f"Request for unknown model: '{name}' is not found")
        return members[name]

    return EnsembleModel(fakes.config(pbtxt, "ens"), "1", resolve)


async def ask(fakes: ModuleType, model: Model, request: InferRequest) -> list[InferResponse | InferenceError]:
    """Submit a request and return every response."""
    reply = fakes.Collector()
    model.submit(request, reply)
    return await reply.all()


def names_and_data(response: InferResponse | InferenceError) -> dict[str, bytes]:
    assert isinstance(response, InferResponse), response
    return {tensor.name: bytes(tensor.data) for tensor in response.outputs}


async def test_tensors_flow_by_name(fakes: ModuleType, member: Callable[..., TensorModel]) -> None:
    """Each member gets the tensors its map names; the answer carries the ensemble's name, version and id."""
    first, second = fakes.FakeInstance(), fakes.FakeInstance()
    model = ensemble(
        fakes, ENS, {"first": member("first", instance=first), "second": member("second", instance=second, version="2")}
    )
    a, b = fakes.tensor("A", [4], data=b"a" * 16), fakes.tensor("B", [4], data=b"b" * 16)
    (response,) = await ask(fakes, model, fakes.request(a, b, id="7", priority=3, timeout_us=9, parameters={"k": 1}))
    assert names_and_data(response) == {"DIFF2": b"b" * 16, "SUM2": b"a" * 16}
    assert [t.name for t in response.outputs] == ["DIFF2", "SUM2"]  # Triton's order
    assert (response.model_name, response.model_version, response.id) == ("ens", "1", "7")
    assert response.parameters == {"sequence_id": 0, "sequence_start": False, "sequence_end": False}
    inner = second.batches[0][0].request
    assert (inner.id, inner.priority, inner.timeout_us, inner.parameters) == ("7", 3, 9, {"k": 1})
    assert (inner.model_name, inner.model_version) == ("second", "2")


async def test_steps_not_needed_do_not_run(fakes: ModuleType, member: Callable[..., TensorModel]) -> None:
    """A step none of whose outputs is wanted, directly or further on, is left out."""
    pbtxt = """
        input [ { name: "A" data_type: TYPE_FP32 dims: 4 } ]
        output [ { name: "X" data_type: TYPE_FP32 dims: 4 }, { name: "Y" data_type: TYPE_FP32 dims: 4 } ]
        ensemble_scheduling { step [
            { model_name: "x" input_map { key: "INPUT0" value: "A" } output_map { key: "OUTPUT0" value: "X" } },
            { model_name: "y" input_map { key: "INPUT0" value: "A" } output_map { key: "OUTPUT0" value: "Y" } } ] }"""
    one = (
        'input { name: "INPUT0" data_type: TYPE_FP32 dims: 4 } output { name: "OUTPUT0" data_type: TYPE_FP32 dims: 4 }'
    )
    x, y = fakes.FakeInstance(), fakes.FakeInstance()
    model = ensemble(fakes, pbtxt, {"x": member("x", one, x), "y": member("y", one, y)})
    (response,) = await ask(fakes, model, fakes.request(fakes.tensor("A", [4]), outputs=["Y"]))
    assert list(names_and_data(response)) == ["Y"]
    assert (len(x.batches), len(y.batches)) == (0, 1)


async def test_independent_steps_run_at_the_same_time(fakes: ModuleType, member: Callable[..., TensorModel]) -> None:
    """A step starts as soon as its own inputs are there, whatever the others do."""
    pbtxt = """
        input [ { name: "A" data_type: TYPE_FP32 dims: 4 } ]
        output [ { name: "X" data_type: TYPE_FP32 dims: 4 }, { name: "Y" data_type: TYPE_FP32 dims: 4 } ]
        ensemble_scheduling { step [
            { model_name: "x" input_map { key: "INPUT0" value: "A" } output_map { key: "OUTPUT0" value: "X" } },
            { model_name: "y" input_map { key: "INPUT0" value: "A" } output_map { key: "OUTPUT0" value: "Y" } } ] }"""
    one = (
        'input { name: "INPUT0" data_type: TYPE_FP32 dims: 4 } output { name: "OUTPUT0" data_type: TYPE_FP32 dims: 4 }'
    )
    x, y = fakes.FakeInstance(held=True), fakes.FakeInstance(held=True)
    model = ensemble(fakes, pbtxt, {"x": member("x", one, x), "y": member("y", one, y)})
    reply = fakes.Collector()
    model.submit(fakes.request(fakes.tensor("A", [4])), reply)
    await x.seen(1)
    await y.seen(1)
    y.release()
    x.release()
    assert list(names_and_data(await reply.one())) == ["Y", "X"]


OPTIONAL = """
    input [ { name: "A" data_type: TYPE_FP32 dims: 4 }, { name: "B" data_type: TYPE_FP32 dims: 4 optional: true } ]
    output [ { name: "X" data_type: TYPE_FP32 dims: 4 } ]
    ensemble_scheduling { step [
        { model_name: "m" input_map { key: "INPUT0" value: "A" } input_map { key: "INPUT1" value: "B" }
          output_map { key: "OUTPUT0" value: "X" } } ] }
"""


async def test_optional_inputs(fakes: ModuleType, member: Callable[..., TensorModel]) -> None:
    """An optional input that was not given is not handed on, and does not hold its step up."""
    optional = fakes.ADD_SUB.replace(
        '"INPUT1" data_type: TYPE_FP32 dims: 4', '"INPUT1" data_type: TYPE_FP32 dims: 4 optional: true'
    )
    instance = fakes.FakeInstance()
    model = ensemble(fakes, OPTIONAL, {"m": member("m", optional, instance)})
    (response,) = await ask(fakes, model, fakes.request(fakes.tensor("A", [4])))
    assert list(names_and_data(response)) == ["X"]
    assert [t.name for t in instance.batches[0][0].request.inputs] == ["INPUT0"]


async def test_batch_dimension_is_added_and_taken_off(fakes: ModuleType, member: Callable[..., TensorModel]) -> None:
    """A batch dimension of one comes and goes between members of which only one batches."""
    first, second = fakes.FakeInstance(), fakes.FakeInstance()
    members = {
        "first": member("first", "max_batch_size: 8" + fakes.ADD_SUB, first),
        "second": member("second", instance=second, version="2"),
    }
    model = ensemble(fakes, ENS, members)
    (response,) = await ask(fakes, model, fakes.request(fakes.tensor("A", [4]), fakes.tensor("B", [4])))
    assert first.batches[0][0].request.inputs[0].shape == (1, 4)
    assert second.batches[0][0].request.inputs[0].shape == (4,)
    assert response.outputs[0].shape == (4,)


async def test_errors_name_the_ensemble(fakes: ModuleType, member: Callable[..., TensorModel]) -> None:
    """A member's error keeps its kind and says which ensemble it happened in."""
    failing = fakes.FakeInstance(lambda job: ModelFailed("boom"))
    model = ensemble(fakes, ENS, {"first": member("first", instance=failing), "second": member("second", version="2")})
    (error,) = await ask(fakes, model, fakes.request(fakes.tensor("A", [4]), fakes.tensor("B", [4])))
    assert isinstance(error, ModelFailed)
    assert error.message == "in ensemble 'ens', boom"
    assert model.statistics.failures == {"BACKEND": 1}
    assert model.statistics.inference_count == 0


async def test_requests_are_checked_at_the_door(fakes: ModuleType, member: Callable[..., TensorModel]) -> None:
    """A request that contradicts the ensemble's own configuration reaches no member."""
    instance = fakes.FakeInstance()
    model = ensemble(fakes, ENS, {"first": member("first", instance=instance), "second": member("second", version="2")})
    (error,) = await ask(fakes, model, fakes.request(fakes.tensor("A", [4])))
    assert isinstance(error, InvalidArgument)
    assert "missing required input(s) ['B']" in error.message
    assert instance.batches == []


async def test_missing_member(fakes: ModuleType, member: Callable[..., TensorModel]) -> None:
    """An ensemble without one of its members is not ready, and says which is missing."""
    model = ensemble(fakes, ENS, {"first": member("first")})
    assert not model.ready
    (error,) = await ask(fakes, model, fakes.request(fakes.tensor("A", [4]), fakes.tensor("B", [4])))
    assert error.message == "in ensemble 'ens', Request for unknown model: 'second' is not found"


async def test_output_that_nobody_makes(fakes: ModuleType, member: Callable[..., TensorModel]) -> None:
    """Where members leave out what further steps need, the run ends with Triton's deadlock message."""
    silent = fakes.FakeInstance(lambda job: [])
    model = ensemble(fakes, ENS, {"first": member("first", instance=silent), "second": member("second", version="2")})
    (error,) = await ask(fakes, model, fakes.request(fakes.tensor("A", [4]), fakes.tensor("B", [4]), id="9"))
    assert "expected 2 inputs but got 0 inputs for model 'second'" in error.message


async def test_cancellation_reaches_the_members(fakes: ModuleType, member: Callable[..., TensorModel]) -> None:
    """A cancelled request is answered at once, its member request is cancelled, and no further step starts."""
    first, second = fakes.FakeInstance(held=True), fakes.FakeInstance()
    model = ensemble(
        fakes, ENS, {"first": member("first", instance=first), "second": member("second", instance=second, version="2")}
    )
    request = fakes.request(fakes.tensor("A", [4]), fakes.tensor("B", [4]))
    reply = fakes.Collector()
    model.submit(request, reply)
    await first.seen(1)
    request.cancel()
    assert isinstance(await reply.one(), Cancelled)
    assert first.batches[0][0].request.cancelled
    first.release()
    await model.close()
    await asyncio.sleep(0)
    assert second.batches == []
    assert model.statistics.failures == {"CANCELED": 1}


async def test_times_of_members_are_counted_as_the_ensembles(
    fakes: ModuleType, member: Callable[..., TensorModel]
) -> None:
    """The ensemble's compute times are the sums of its members'."""
    members = {"first": member("first"), "second": member("second", version="2")}
    model = ensemble(fakes, ENS, members)
    await ask(fakes, model, fakes.request(fakes.tensor("A", [4]), fakes.tensor("B", [4])))
    for inner in members.values():
        await inner.close()
    statistics = model.statistics
    assert (statistics.success.count, statistics.inference_count, statistics.execution_count) == (1, 1, 1)
    assert statistics.compute_infer.ns == 4_000
    assert (statistics.batches[1].compute_output.count, statistics.batches[1].compute_output.ns) == (1, 6_000)


STREAM = """
    input [ { name: "A" data_type: TYPE_FP32 dims: 4 }, { name: "B" data_type: TYPE_FP32 dims: 4 } ]
    output [ { name: "X" data_type: TYPE_FP32 dims: 4 }, { name: "Y" data_type: TYPE_FP32 dims: 4 } ]
    ensemble_scheduling { step [
        { model_name: "stream" input_map { key: "INPUT0" value: "A" } output_map { key: "OUTPUT0" value: "many" } },
        { model_name: "join" input_map { key: "INPUT0" value: "many" } input_map { key: "INPUT1" value: "B" }
          output_map { key: "OUTPUT0" value: "X" } output_map { key: "OUTPUT1" value: "Y" } } ] }
"""
DECOUPLED = """model_transaction_policy { decoupled: true }
    input { name: "INPUT0" data_type: TYPE_FP32 dims: 4 } output { name: "OUTPUT0" data_type: TYPE_FP32 dims: 4 }"""


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_decoupled_member_makes_the_ensemble_stream(
    fakes: ModuleType, member: Callable[..., TensorModel], count: int
) -> None:
    """Each response of a decoupled member goes through the rest of the graph, with tensors that come only once."""
    model = ensemble(fakes, STREAM, {"stream": member("stream", DECOUPLED, fakes.Streaming()), "join": member("join")})
    assert model.decoupled
    a, b = fakes.tensor("A", [4], data=bytes([count] * 16)), fakes.tensor("B", [4], data=b"b" * 16)
    responses = await ask(fakes, model, fakes.request(a, b))
    assert [names_and_data(r) for r in responses] == [
        {"X": bytes([index] * 16), "Y": b"b" * 16} for index in range(count)
    ]


async def test_sequence_of_a_response_goes_to_the_next_step(
    fakes: ModuleType, member: Callable[..., TensorModel]
) -> None:
    """A member's response parameters may put the following steps into another sequence."""

    class Renaming(fakes.FakeInstance):  # type: ignore[misc,name-defined]
        async def execute(self, jobs: list[Job]) -> ExecutionTimes:
            parameters = {"sequence_id": 5, "sequence_start": True}
            jobs[0].reply.send(InferResponse("", "", outputs=fakes.echo(jobs[0]), parameters=parameters), final=True)
            return ExecutionTimes(1, 1, 1)

    second = fakes.FakeInstance()
    model = ensemble(
        fakes,
        ENS,
        {"first": member("first", instance=Renaming()), "second": member("second", instance=second, version="2")},
    )
    (response,) = await ask(fakes, model, fakes.request(fakes.tensor("A", [4]), fakes.tensor("B", [4])))
    assert second.batches[0][0].request.sequence == SequenceStep(5, start=True)
    assert response.parameters["sequence_id"] == 5


def test_streams_are_found_through_the_graph(fakes: ModuleType) -> None:
    """Whatever a decoupled step makes, and whatever is made of that, may come more than once."""
    flow = Dataflow(fakes.config(STREAM, "ens"))
    everything: frozenset[str] = frozenset()
    assert flow.course(everything, (0,)).streams == {"many", "X", "Y"}
    assert flow.course(everything, (1,)).streams == {"X", "Y"}
    assert flow.course(everything, ()).streams == frozenset()
    assert flow.course(frozenset("X"), (0,)).outputs == ("X",)


def two_inputs(fakes: ModuleType, shape: Sequence[int] = (4,)) -> InferRequest:
    """Return a request of the ensemble ENS."""
    return InferRequest("ens", inputs=[fakes.tensor(name, shape) for name in ("A", "B")])


FORKED = """
    platform: "ensemble"
    input { name: "A" data_type: TYPE_FP32 dims: 4 }
    output { name: "Z" data_type: TYPE_FP32 dims: 4 }
    ensemble_scheduling { max_inflight_requests: 2 step {
        model_name: "one" model_version: -1
        input_map { key: "INPUT0" value: "A" } output_map { key: "OUTPUT0" value: "Z" } } }
"""
ONE = (
    """input { name: "INPUT0" data_type: TYPE_FP32 dims: 4 } output { name: "OUTPUT0" data_type: TYPE_FP32 dims: 4 }"""
)


async def test_only_so_many_requests_of_a_step_are_under_way(
    fakes: ModuleType, member: Callable[..., TensorModel]
) -> None:
    """Beyond max_inflight_requests they wait for one another; those that are cancelled meanwhile never run."""
    instances = [fakes.FakeInstance(held=True, name=f"one_{n}") for n in range(4)]
    one = TensorModel(fakes.config(ONE, "one"), "1", instances)
    model = ensemble(fakes, FORKED, {"one": one})
    requests = [InferRequest("ens", inputs=[fakes.tensor("A", [4])]) for _ in range(5)]
    replies = [fakes.Collector() for _ in requests]
    for request, reply in zip(requests, replies, strict=True):
        model.submit(request, reply)
    await instances[1].seen(1)
    assert [len(instance.batches) for instance in instances] == [1, 1, 0, 0]
    requests[3].cancel()
    for instance in instances:
        instance.release()
    items = [await reply.one() for reply in replies]
    assert [isinstance(item, InferResponse) for item in items] == [True, True, True, False, True]
    assert sum(len(instance.batches) for instance in instances) == 4
    await model.close()


async def test_a_step_that_fails_at_once_lets_the_next_request_in(
    fakes: ModuleType, member: Callable[..., TensorModel]
) -> None:
    """A thousand requests that are refused on the spot do not pile up on the stack."""
    full = "dynamic_batching { default_queue_policy { max_queue_size: 1 } } max_batch_size: 1 " + ONE
    held = fakes.FakeInstance(held=True)
    pbtxt = FORKED.replace("dims: 4", "dims: [1, 4]")
    model = ensemble(fakes, pbtxt, {"one": member("one", full, held)})
    replies = [fakes.Collector() for _ in range(1000)]
    for reply in replies:
        model.submit(InferRequest("ens", inputs=[fakes.tensor("A", [1, 4])]), reply)
    await held.seen(1)
    held.release()
    for reply in replies:
        await reply.one()
    await model.close()


async def test_errors_tell_the_step_in_their_hint(fakes: ModuleType, member: Callable[..., TensorModel]) -> None:
    """Triton's words name the ensemble alone; which step and model it was is beside them."""
    broken = fakes.FakeInstance(lambda _: ModelFailed("no such luck"))
    model = ensemble(fakes, ENS, {"first": member("first"), "second": member("second", instance=broken, version="2")})
    (error,) = await ask(fakes, model, two_inputs(fakes))
    assert isinstance(error, ModelFailed)
    assert (error.message, error.hint) == ("in ensemble 'ens', no such luck", "in step 1, model 'second'")


async def test_requests_of_one_batch_are_batched_again(fakes: ModuleType, member: Callable[..., TensorModel]) -> None:
    """What a step answers together reaches the next step together."""
    batching = "max_batch_size: 8 dynamic_batching { } " + fakes.ADD_SUB
    instances = [fakes.FakeInstance(held=True), fakes.FakeInstance()]
    members = {
        "first": member("first", batching, instances[0]),
        "second": member("second", batching, instances[1], version="2"),
    }
    model = ensemble(fakes, "max_batch_size: 8 " + ENS, members)
    replies = [fakes.Collector() for _ in range(6)]
    for reply in replies:
        model.submit(two_inputs(fakes, [1, 4]), reply)
    await instances[0].seen(1)
    instances[0].release()
    for reply in replies:
        assert isinstance(await reply.one(), InferResponse)
    assert [len(batch) for batch in instances[1].batches] == [6]


async def test_a_replaced_member_is_found_by_requests_under_way(
    fakes: ModuleType, member: Callable[..., TensorModel]
) -> None:
    """A request whose later step's model is reloaded meanwhile goes on with the new one."""
    first = fakes.FakeInstance(held=True)
    members = {"first": member("first", instance=first), "second": member("second", version="2")}
    model = ensemble(fakes, ENS, members)
    reply = fakes.Collector()
    model.submit(two_inputs(fakes), reply)
    await first.seen(1)
    old, members["second"] = members["second"], member("second", version="2")
    await old.close()
    first.release()
    assert isinstance(await reply.one(), InferResponse)
    assert members["second"].statistics.success.count == 1


async def test_long_chains_are_gone_through(fakes: ModuleType, member: Callable[..., TensorModel]) -> None:
    """An ensemble may have hundreds of steps one after the other."""
    steps = "".join(
        f'step {{ model_name: "one" model_version: -1 input_map {{ key: "INPUT0" value: "t{n}" }} '
        f'output_map {{ key: "OUTPUT0" value: "t{n + 1}" }} }}'
        for n in range(400)
    )
    pbtxt = f"""platform: "ensemble" input {{ name: "t0" data_type: TYPE_FP32 dims: 4 }}
        output {{ name: "t400" data_type: TYPE_FP32 dims: 4 }} ensemble_scheduling {{ {steps} }}"""
    model = ensemble(fakes, pbtxt, {"one": member("one", ONE)})
    (item,) = await ask(fakes, model, InferRequest("ens", inputs=[fakes.tensor("t0", [4])]))
    assert isinstance(item, InferResponse)


async def test_nested_ensembles_answer(fakes: ModuleType, member: Callable[..., TensorModel]) -> None:
    """Ensembles within ensembles, as deep as they are loaded, hand their answers up; each knows how deep it is."""
    members: dict[str, Model] = {"e0": member("e0", ONE)}
    for n in range(64):
        pbtxt = FORKED.replace('"one"', f'"e{n}"').replace('"A"', '"INPUT0"').replace('"Z"', '"OUTPUT0"')
        members[f"e{n + 1}"] = ensemble(fakes, pbtxt, members)
    outermost = members["e64"]
    assert outermost.nesting == 64
    (item,) = await ask(fakes, outermost, InferRequest("e64", inputs=[fakes.tensor("INPUT0", [4])]))
    assert isinstance(item, InferResponse)


async def test_a_member_that_raises_fails_its_request_alone(fakes: ModuleType) -> None:
    """Whatever goes wrong while a request is started is answered, and the ensemble goes on."""

    class Raising(Model):
        """Breaks the contract of `submit`."""

        name, version, ready = "one", "1", True
        config = fakes.config(ONE, "one")

        def submit(self, request: InferRequest, reply: object) -> None:
            raise RecursionError("maximum recursion depth exceeded")

        async def close(self) -> None:
            """Hold nothing."""

    model = ensemble(fakes, FORKED, {"one": Raising()})
    (error,) = await ask(fakes, model, InferRequest("ens", inputs=[fakes.tensor("A", [4])]))
    assert isinstance(error, InferenceError)
    assert error.message == "in ensemble 'ens', RecursionError: maximum recursion depth exceeded"
    await model.close()


async def test_an_ensemble_reshapes_as_a_model_does(fakes: ModuleType, member: Callable[..., TensorModel]) -> None:
    """Members see the ensemble's input in the shape it is reshaped to, and the client sees the output's own."""
    flat = """max_batch_size: 4
        input { name: "A" data_type: TYPE_FP32 dims: 4 reshape { shape: [ 2, 2 ] } }
        output { name: "SUM" data_type: TYPE_FP32 dims: 4 reshape { shape: [ 2, 2 ] } }
        ensemble_scheduling { step { model_name: "square" model_version: -1
            input_map { key: "INPUT0" value: "A" } output_map { key: "OUTPUT0" value: "SUM" } } }"""
    square = """max_batch_size: 4 input { name: "INPUT0" data_type: TYPE_FP32 dims: [ 2, 2 ] }
        output { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 2, 2 ] }"""
    instance = fakes.FakeInstance()
    model = ensemble(fakes, flat, {"square": member("square", square, instance)})
    (response,) = await ask(fakes, model, fakes.request(fakes.tensor("A", (3, 4))))
    assert isinstance(response, InferResponse)
    assert instance.batches[0][0].request.inputs[0].shape == (3, 2, 2)
    assert response.outputs[0].shape == (3, 4)
