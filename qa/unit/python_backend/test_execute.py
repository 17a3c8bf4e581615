"""Ordinary models: what goes in, what comes out, and how."""

import asyncio
import time

import numpy as np
import pytest

from tritium.core.errors import ModelFailed
from tritium.core.instance import Job
from tritium.core.replies import SingleReply
from tritium.core.request import RequestedOutput, SequenceStep
from tritium.core.tensor import Tensor, from_array

KINDS = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}

ALL_KINDS = "".join(
    f'input [ {{ name: "IN_{kind}" data_type: TYPE_{kind} dims: [ -1 ] optional: true }} ]\n'
    f'output [ {{ name: "OUT_{kind}" data_type: TYPE_{kind} dims: [ -1 ] }} ]\n'
    for kind in [*KINDS, "STRING", "BF16"]
)


async def test_every_datatype_comes_back(serve, tools):
    """Each numpy datatype goes through a model and back unchanged, in one request with all of them."""
    model = await serve(tools.identity, ALL_KINDS)
    sent = {kind: np.array([[0, 1, 2], [3, 1, 0]]).astype(dtype) for kind, dtype in KINDS.items()}
    response = await model.infer(*[from_array(f"IN_{kind}", array, kind) for kind, array in sent.items()])
    assert [f"OUT_{kind}" for kind in sent] == [output.name for output in response.outputs]
    for output, (kind, array) in zip(response.outputs, sent.items(), strict=True):
        assert (kind, array.shape) == (output.datatype, output.shape)
        np.testing.assert_array_equal(array, output.array())


async def test_bytes_come_back(serve, tools):
    """BYTES elements of any content and length are `bytes` to the model and come back as they were."""
    model = await serve(tools.identity, ALL_KINDS)
    sent = np.array([[b"", b"a\0b"], ["grüße".encode(), b"\xff" * 70_000]], dtype=np.object_)
    (output,) = (await model.infer(from_array("IN_STRING", sent, "BYTES"))).outputs
    assert (output.datatype, output.shape) == ("BYTES", (2, 2))
    assert sent.tolist() == output.array().tolist()


async def test_nothing_at_all(serve, tools):
    """Tensors without elements pass, of numbers and of strings alike."""
    model = await serve(tools.identity, ALL_KINDS)
    empty = [from_array("IN_FP32", np.zeros((0, 3)), "FP32"), Tensor("IN_STRING", "BYTES", (2, 0), b"")]
    response = await model.infer(*empty)
    assert [(output.datatype, output.shape, bytes(output.data)) for output in response.outputs] == [
        ("FP32", (0, 3), b""),
        ("BYTES", (2, 0), b""),
    ]


async def test_strings_of_any_numpy_kind_are_bytes(serve):
    """A model may answer with str objects, numpy's S or numpy's U arrays."""
    model = await serve(
        """
        import numpy as np
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                arrays = np.array(["ä", 5], dtype=object), np.array([b"s"]), np.array(["u"])
                return [
                    pb_utils.InferenceResponse([pb_utils.Tensor(f"O{i}", a) for i, a in enumerate(arrays)])
                    for _ in requests
                ]
        """,
        "".join(f'output [ {{ name: "O{i}" data_type: TYPE_STRING dims: [ -1 ] }} ]\n' for i in range(3)),
    )
    response = await model.infer()
    assert [["ä".encode(), b"5"], [b"s"], [b"u"]] == [output.array().tolist() for output in response.outputs]


async def test_bfloat16_through_dlpack(serve):
    """BF16 has no numpy type: as_numpy says so, dlpack carries it."""
    model = await serve(
        """
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                responses = []
                for request in requests:
                    tensor = pb_utils.get_input_tensor_by_name(request, "IN_BF16")
                    try:
                        tensor.as_numpy()
                    except pb_utils.TritonModelException as error:
                        assert "BF16" in str(error)
                        out = pb_utils.Tensor.from_dlpack("OUT_BF16", tensor.to_dlpack())
                        responses.append(pb_utils.InferenceResponse([out]))
                return responses
        """,
        ALL_KINDS,
    )
    bits = np.arange(100_000, dtype=np.uint16)
    (output,) = (await model.infer(Tensor("IN_BF16", "BF16", (100_000,), bits.tobytes()))).outputs
    assert output.datatype == "BF16"
    np.testing.assert_array_equal(bits, output.array())


async def test_optional_input_is_none(serve, tools):
    """An input that was not sent is None to get_input_tensor_by_name."""
    model = await serve(
        """
        import numpy as np
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                found = [pb_utils.get_input_tensor_by_name(r, "INPUT1") is None for r in requests]
                return [
                    pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([f], np.float32))]) for f in found
                ]
        """
    )
    assert await model.ask([0.0]) == [1.0]
    assert await model.ask([0.0], [0.0]) == [0.0]


async def test_only_requested_outputs_are_sent(serve, tools):
    """Outputs that were not asked for are dropped, and the model knows which were."""
    model = await serve(
        """
        import numpy as np
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                value = np.array([len(requests[0].requested_output_names())], np.float32)
                return [
                    pb_utils.InferenceResponse([pb_utils.Tensor(n, value) for n in ("A", "B")]) for _ in requests
                ]
        """,
        "".join(f'output [ {{ name: "{name}" data_type: TYPE_FP32 dims: [ 1 ] }} ]\n' for name in "AB"),
    )
    everything = await model.infer()
    assert [(o.name, o.array()[0]) for o in everything.outputs] == [("A", 2.0), ("B", 2.0)]
    one = await model.infer(outputs=[RequestedOutput("B")])
    assert [(o.name, o.array()[0]) for o in one.outputs] == [("B", 1.0)]


async def test_a_batch_is_separate_requests(serve, tools):
    """The requests of one execution reach the model as separate objects and are answered each with its own."""
    model = await serve(
        """
        import numpy as np
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                return [
                    pb_utils.InferenceResponse([pb_utils.Tensor(
                        "OUTPUT0", np.append(r.inputs()[0].as_numpy(), np.float32(len(requests)))
                    )])
                    for r in requests
                ]
        """
    )
    futures = model.submit(*[model.request([float(i)] * (i + 1)) for i in range(3)])
    answers = [(await future).outputs[0].array().tolist() for future in futures]
    assert answers == [[0.0, 3.0], [1.0, 1.0, 3.0], [2.0, 2.0, 2.0, 3.0]]


async def test_what_a_request_says_of_itself(serve):
    """Id, correlation id, flags, timeout and parameters reach the model."""
    model = await serve(
        """
        import json
        import numpy as np
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                said = [json.dumps([r.request_id(), r.correlation_id(), r.flags(), r.timeout(), r.parameters()])
                        for r in requests]
                return [
                    pb_utils.InferenceResponse(
                        [pb_utils.Tensor("SAID", np.array([s], dtype=object))], parameters={"n": 7, "t": "x", "b": True}
                    )
                    for s in said
                ]
        """,
        'output [ { name: "SAID" data_type: TYPE_STRING dims: [ 1 ] } ]',
    )
    response = await model.infer(
        id="r1", sequence=SequenceStep("s", start=True, end=True), timeout_us=9, parameters={"a": 1, "b": "c"}
    )
    assert response.outputs[0].array().tolist() == [b'["r1", "s", 3, 9, "{\\"a\\": 1, \\"b\\": \\"c\\"}"]']
    assert response.parameters == {"n": 7, "t": "x", "b": True}
    assert (response.model_name, response.model_version, response.id) == ("m", "1", "r1")
    assert (await model.infer()).outputs[0].array().tolist() == [b'["", 0, 0, 0, "{}"]']


@pytest.mark.parametrize("size", [4, 100_000])
async def test_inputs_may_be_written_to(serve, size):
    """A model may compute in place: inline inputs and those in shared memory are writable and nobody else's."""
    model = await serve(
        """
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                responses = []
                for request in requests:
                    array = request.inputs()[0].as_numpy()
                    array += 1
                    responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)]))
                return responses
        """
    )
    sent = model.request(np.zeros(size, np.float32))
    (future,) = model.submit(sent)
    np.testing.assert_array_equal(np.ones(size, np.float32), (await future).outputs[0].array())
    assert not np.frombuffer(sent.inputs[0].data, np.float32).any()


@pytest.mark.parametrize("result", ["array[::2]", "array.reshape(2, -1).T", "array.astype('>f4')"])
async def test_outputs_of_any_layout(serve, result):
    """Strided, transposed and big-endian arrays are sent as what they mean."""
    model = await serve(
        f"""
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                array = requests[0].inputs()[0].as_numpy()
                return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", {result})])]
        """
    )
    array = np.arange(50_000, dtype=np.float32)
    expected = eval(result, {"array": array})
    np.testing.assert_array_equal(expected, await model.ask(array))


async def test_executions_run_in_order(serve):
    """Many executions handed over at once run one after the other, in the order they were handed over."""
    model = await serve(
        """
        import numpy as np
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def initialize(self, args):
                self.count = 0
            def execute(self, requests):
                self.count += 1
                return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([self.count], np.float32))])]
        """
    )
    futures = [model.submit(model.request([0.0]))[0] for _ in range(200)]
    counts = [(await future).outputs[0].array()[0] for future in futures]
    assert list(range(1, 201)) == counts


async def test_times_of_an_execution(serve):
    """An execution reports what the model took, and what came before and after: together no more than passed."""
    model = await serve(
        """
        import time
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                time.sleep(0.05)
                return [pb_utils.InferenceResponse([]) for _ in requests]
        """
    )
    began_ns = time.monotonic_ns()
    (future,) = model.submit(model.request([0.0]))
    (task,) = model.tasks
    times = await task
    await future
    assert times.infer_ns >= 50e6
    assert min(times.input_ns, times.output_ns) > 0
    assert times.input_ns + times.infer_ns + times.output_ns <= time.monotonic_ns() - began_ns


async def test_async_execute(serve):
    """`async def execute` is awaited before the next execution, with a running loop of its own."""
    model = await serve(
        """
        import asyncio
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            async def execute(self, requests):
                await asyncio.gather(*[asyncio.sleep(0.001) for _ in range(3)])
                return [
                    pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy() * 2)])
                    for r in requests
                ]
        """
    )
    answers = await asyncio.gather(*[model.ask([float(i)]) for i in range(20)])
    assert [i * 2.0 for i in range(20)] == [answer[0] for answer in answers]


async def test_answering_by_sender_after_return(serve):
    """A model that is not decoupled may return None for a request and answer it later, from a thread."""
    model = await serve(
        """
        import threading
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                for request in requests:
                    threading.Timer(0.01, self.answer, (request.get_response_sender(), request.inputs()[0])).start()
                return [None] * len(requests)
            def answer(self, sender, tensor):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", tensor.as_numpy() + 1)]),
                            flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        """
    )
    assert await model.ask([5.0]) == [6.0]


async def test_a_request_given_up_is_an_error(serve):
    """Returning None without a sender answers the client with an error instead of never."""
    model = await serve("class TritonPythonModel:\n    def execute(self, requests): return [None] * len(requests)")
    with pytest.raises(ModelFailed, match="gave a request up without answering"):
        await model.infer([0.0])


async def test_cancellation_reaches_the_model(serve):
    """is_cancelled() turns true in a running execute when the client takes the request back."""
    model = await serve(
        """
        import time
        import numpy as np
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                end = time.monotonic() + 60
                while not requests[0].is_cancelled() and time.monotonic() < end:
                    time.sleep(0.001)
                seen = np.array([r.is_cancelled() for r in requests], np.float32)
                return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", seen)]) for _ in requests]
        """
    )
    cancelled, other = model.request([0.0]), model.request([0.0])
    future, _ = model.submit(cancelled, other)
    queued = model.request([0.0])
    (next_future,) = model.submit(queued)
    asyncio.get_running_loop().call_soon(queued.cancel)
    asyncio.get_running_loop().call_later(0.05, cancelled.cancel)
    assert (await future).outputs[0].array().tolist() == [1.0, 0.0]
    assert (await next_future).outputs[0].array().tolist() == [1.0]


async def test_prints_do_not_disturb(serve, capfd):
    """What a model prints reaches the server's own output, and never the protocol."""
    model = await serve(
        """
        import os, sys
        import triton_python_backend_utils as pb_utils
        print("importing")
        class TritonPythonModel:
            def execute(self, requests):
                print("to stdout")
                print("to stderr", file=sys.stderr)
                os.write(1, b"straight to 1\\n")
                assert sys.stdin.read() == ""
                return [pb_utils.InferenceResponse([]) for _ in requests]
        """
    )
    await model.infer([0.0])
    said = capfd.readouterr()
    assert said.out.split("\n")[:3] == ["importing", "to stdout", "straight to 1"]
    assert "to stderr" in said.err


async def test_a_request_is_executed_once_more(serve, tools):
    """A request released for rescheduling is not answered: its job says that the model wants it again."""
    model = await serve(
        """
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                responses = []
                for request in requests:
                    if request.request_id() == "again":
                        request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                        responses.append(None)
                    else:
                        tensor = pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy())
                        responses.append(pb_utils.InferenceResponse([tensor]))
                return responses
        """
    )
    replies = [SingleReply(asyncio.get_running_loop()) for _ in range(2)]
    jobs = [Job(model.request([1.0], id=name), reply) for name, reply in zip(("again", "once"), replies, strict=True)]
    await model.start(jobs)
    assert [job.again for job in jobs] == [True, False]
    assert [reply.future.done() for reply in replies] == [False, True]


async def test_a_request_cannot_be_answered_and_run_again(serve):
    """A response for a request that is released for rescheduling is an error, in Triton's words."""
    model = await serve(
        """
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                requests[0].set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                return [pb_utils.InferenceResponse([])]
        """
    )
    with pytest.raises(ModelFailed, match="Expected a None object in the execute function return list for reschduled"):
        await model.infer([1.0])
