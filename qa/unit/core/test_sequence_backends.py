"""The backends that try sequences out: sequence, dyna_sequence, iterative_sequence and implicit_state."""

import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource, TensorBackend
from tritium.backends.dyna_sequence import DynaSequenceBackend
from tritium.backends.implicit_state import ImplicitStateBackend
from tritium.backends.iterative_sequence import IterativeSequenceBackend, IterativeSequenceInstance
from tritium.backends.sequence import SequenceBackend
from tritium.core.errors import InferenceError, InvalidArgument
from tritium.core.request import InferRequest, SequenceStep
from tritium.core.tensor import Tensor
from tritium.core.tensor_model import TensorModel

START, END, READY = (
    f'{{ name: "{kind}" control {{ kind: CONTROL_SEQUENCE_{kind} int32_false_true: [ 0, 1 ] }} }}'
    for kind in ("START", "END", "READY")
)
CORRID = '{ name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }'
VECTORS = """input { name: "INPUT" data_type: TYPE_INT32 dims: -1 }
    output { name: "OUTPUT" data_type: TYPE_INT32 dims: -1 }"""
IDLE = "max_sequence_idle_microseconds: 1000000"
SEQUENCE = f"max_batch_size: 4 sequence_batching {{ {IDLE} control_input [ {START}, {READY} ] }} {VECTORS}"
DYNA = (
    f"max_batch_size: 4 sequence_batching {{ {IDLE} oldest {{ max_candidate_sequences: 4 }} "
    f"control_input [ {START}, {END}, {READY}, {CORRID} ] }} {VECTORS}"
)
STATE = 'state { input_name: "INPUT_STATE" output_name: "OUTPUT_STATE" data_type: TYPE_INT32 dims: 1 }'
IMPLICIT = f"""sequence_batching {{ {IDLE} control_input [ {START}, {END}, {READY} ] {STATE} }}
    input [ {{ name: "INPUT" data_type: TYPE_INT32 dims: 1 }}, {{ name: "TEST_CASE" data_type: TYPE_INT32 dims: 1 }} ]
    output {{ name: "OUTPUT" data_type: TYPE_INT32 dims: 1 }}"""


async def load(fakes: ModuleType, backend: TensorBackend, pbtxt: str) -> TensorModel:
    """Return a model of one instance."""
    config = fakes.config(pbtxt, "m")
    source = ModelSource(config, Path(), "1")
    return TensorModel(config, "1", [await backend.open(source, InstancePlace("m_0"), BackendHost())])


def submit(fakes: ModuleType, model: TensorModel, id_: int | str, *values: int, **flags: bool) -> Any:
    """Submit one request of a sequence."""
    shape = (1, len(values)) if model.config.batches else (len(values),)
    tensor = Tensor("INPUT", "INT32", shape, struct.pack(f"<{len(values)}i", *values))
    reply = fakes.Collector()
    model.submit(InferRequest("m", inputs=[tensor], sequence=SequenceStep(id_, **flags)), reply)
    return reply


async def values(reply: Any) -> list[int]:
    """Return the elements of the only response's only output."""
    (output,) = (await reply.one()).outputs
    return [int(value) for value in output.array().ravel()]


async def test_sequence_adds_up_by_place(fakes: ModuleType) -> None:
    """Each place of the batch has a sum, in every element of the output; START begins it anew."""
    model = await load(fakes, SequenceBackend(), SEQUENCE)
    first = [submit(fakes, model, 7, 1, 2, start=True), submit(fakes, model, 8, 10, 20, start=True)]
    assert [await values(reply) for reply in first] == [[3, 3], [30, 30]]
    assert await values(submit(fakes, model, 8, 5, 6)) == [41, 41]
    assert await values(submit(fakes, model, 7, -1, 0, end=True)) == [2, 2]
    assert await values(submit(fakes, model, 9, 4, start=True)) == [4]


async def test_sums_wrap_as_32_bit_numbers_do(fakes: ModuleType) -> None:
    """No sum is too large."""
    model = await load(fakes, SequenceBackend(), SEQUENCE)
    assert await values(submit(fakes, model, 7, 2**31 - 1, start=True)) == [2**31 - 1]
    assert await values(submit(fakes, model, 7, 1)) == [-(2**31)]


async def test_dyna_sequence_adds_the_correlation_id_at_the_end(fakes: ModuleType) -> None:
    """Sums go by correlation id, which may be a string if it is a number."""
    model = await load(fakes, DynaSequenceBackend(), DYNA)
    replies = [submit(fakes, model, id_, id_, start=True) for id_ in (100, 200)]
    replies += [submit(fakes, model, id_, 1, end=True) for id_ in (200, 100)]
    assert [await values(reply) for reply in replies] == [[100], [200], [401], [201]]
    named = await load(fakes, DynaSequenceBackend(), DYNA.replace("TYPE_UINT64", "TYPE_STRING"))
    assert await values(submit(fakes, named, "12", 1, start=True, end=True)) == [13]
    error = await submit(fakes, named, "twelve", 1, start=True).one()
    assert isinstance(error, InvalidArgument)
    assert error.message == "dyna sequence backend expects correlation ID to be decodable into an integer"


async def test_iterative_sequence_counts_down(fakes: ModuleType) -> None:
    """One request has as many responses as it says, each of an execution of its own."""
    pbtxt = f"""model_transaction_policy {{ decoupled: true }}
        sequence_batching {{ {IDLE} iterative_sequence: true }} {VECTORS}"""
    config = fakes.config(pbtxt, "m")
    instance = IterativeSequenceInstance("m_0", ModelSource(config, Path(), "1"), 0.0)
    model = TensorModel(config, "1", [instance])
    replies = [submit(fakes, model, 0, 3), submit(fakes, model, 0, 1)]
    left = [[int(item.outputs[0].array()[0]) for item in await reply.all()] for reply in replies]
    assert left == [[2, 1, 0], [0]]
    assert model.statistics.execution_count == 4
    backend = IterativeSequenceBackend()
    opened = await backend.open(ModelSource(config, Path(), "1"), InstancePlace("m_0"), BackendHost())
    assert opened.name == "m_0"


async def run_case(fakes: ModuleType, model: TensorModel, case: int, *, start: bool = False) -> Any:
    """Run one test case of the implicit_state backend and return the response."""
    inputs = [Tensor(name, "INT32", (1,), struct.pack("<i", n)) for name, n in (("INPUT", 5), ("TEST_CASE", case))]
    reply = fakes.Collector()
    model.submit(InferRequest("m", inputs=inputs, sequence=SequenceStep(3, start)), reply)
    return await reply.one()


async def test_implicit_state_does_what_its_case_says(fakes: ModuleType) -> None:
    """A state that is not made again stays as it is; one that is not configured cannot be made."""
    model = await load(fakes, ImplicitStateBackend(), IMPLICIT)
    for start in (True, False, False):
        (output,) = (await run_case(fakes, model, 1, start=start)).outputs
        assert int(output.array()[0]) == 5
    assert (await run_case(fakes, model, 2)).outputs == []
    error = await run_case(fakes, model, 0)
    assert error.message == "state 'undefined_state' is not a valid state name."
    stateless = await load(fakes, ImplicitStateBackend(), IMPLICIT.replace(STATE, ""))
    error = await run_case(fakes, stateless, 0, start=True)
    assert error.message == ("unable to add state 'undefined_state'. State configuration is missing for model 'm'.")
    assert isinstance(error, InferenceError)


async def test_states_may_grow(fakes: ModuleType) -> None:
    """A state comes back as long as the model has made it."""
    pbtxt = IMPLICIT.replace("TYPE_INT32 dims: 1 }", "TYPE_INT8 dims: -1 }", 1)
    pbtxt += 'output { name: "OUTPUT_STATE" data_type: TYPE_INT8 dims: -1 }'
    model = await load(fakes, ImplicitStateBackend(), pbtxt)
    for blocks in (1, 2, 3):
        (output,) = (await run_case(fakes, model, 3, start=blocks == 1)).outputs
        assert bytes(output.data) == b"".join(bytes([n]) * (1 << 20) for n in range(blocks))


@pytest.mark.parametrize(
    ("backend", "pbtxt", "message"),
    [
        (SequenceBackend, DYNA, "'START' and 'READY' must be configured as the control inputs"),
        (
            SequenceBackend,
            SEQUENCE.replace("dims: -1", "dims: 2", 1),
            "model must have output 'OUTPUT' with shape matching 'INPUT'",
        ),
        (SequenceBackend, SEQUENCE.replace('"INPUT"', '"X"'), "model input must be named 'INPUT'"),
        (SequenceBackend, SEQUENCE.replace("TYPE_INT32", "TYPE_FP32"), "model input must have TYPE_INT32 data-type"),
        (DynaSequenceBackend, SEQUENCE, "'START', 'END, 'READY' and 'CORRID' must be configured as the control inputs"),
        (
            DynaSequenceBackend,
            DYNA.replace("TYPE_UINT64", "TYPE_INT32"),
            "model CORRID control input must have TYPE_UINT64 or TYPE_STRING data-type",
        ),
        (ImplicitStateBackend, SEQUENCE, "'START', 'END, and 'READY' must be configured as the control inputs"),
    ],
)
async def test_wrong_configurations(fakes: ModuleType, backend: type, pbtxt: str, message: str) -> None:
    """A configuration that does not fit is refused in Triton's words."""
    with pytest.raises(InvalidArgument) as caught:
        await load(fakes, backend(), pbtxt)
    assert caught.value.message == message
