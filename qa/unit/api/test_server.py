"""The server inside a program: started on a real repository, asked from this thread and from an event loop."""

import asyncio
import json
import queue
import threading
from pathlib import Path

import numpy as np
import pytest

import tritium.api as triton

MODEL = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            tensors = [pb_utils.Tensor(t.name().replace("IN", "OUT"), t.as_numpy()) for t in request.inputs()]
            if any(t.name() == "OUT" and t.as_numpy().ravel()[0] < 0 for t in tensors):
                responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("no", 3)))
                continue
            said = json.loads(request.parameters() or "{}")
            responses.append(pb_utils.InferenceResponse(tensors, parameters=said))
        return responses
"""

STREAM = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for number in range(int(request.inputs()[0].as_numpy()[0])):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([number], np.float32))]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

CONFIG = """
backend: "python"
max_batch_size: {batch}
input [
  {{ name: "IN" data_type: TYPE_FP32 dims: [ -1 ] optional: true }},
  {{ name: "IN_TEXT" data_type: TYPE_STRING dims: [ -1 ] optional: true }},
  {{ name: "IN_HALF" data_type: TYPE_BF16 dims: [ -1 ] optional: true }}
]
output [
  {{ name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }},
  {{ name: "OUT_TEXT" data_type: TYPE_STRING dims: [ -1 ] }}
]
parameters: {{ key: "EXECUTION_MODE" value: {{ string_value: "in_process" }} }}
{more}
"""


def write(folder: Path, name: str, code: str, *, batch: int = 0, more: str = "") -> None:
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "1" / "model.py").write_text(code)
    (folder / name / "config.pbtxt").write_text(f'name: "{name}"\n' + CONFIG.format(batch=batch, more=more))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write(folder, "echo", MODEL, batch=4)
    write(folder, "stream", STREAM, more="model_transaction_policy { decoupled: true }")
    return folder


@pytest.fixture(scope="module")
def server(repository):
    with triton.Server(model_repository=str(repository), model_control_mode=triton.ModelControlMode.EXPLICIT) as one:
        one.load("echo")
        one.load("stream")
        yield one


def test_an_inference(server):
    """Inputs of numpy come back as outputs that numpy takes over, in the one and final response."""
    given = np.arange(6, dtype=np.float32).reshape(2, 3)
    (response,) = server.model("echo").infer(inputs={"IN": given}, request_id="r", parameters={"a": 1})
    assert np.from_dlpack(response.outputs["OUT"]).tolist() == given.tolist()
    assert (response.final, response.request_id, response.parameters) == (True, "r", {"a": 1})


def test_strings(server):
    """Lists of strings go in, arrays of str or bytes come out."""
    (response,) = server.model("echo").infer(inputs={"IN_TEXT": [["a", "é"]]})
    assert response.outputs["OUT_TEXT"].to_string_array().tolist() == [["a", "é"]]
    assert response.outputs["OUT_TEXT"].to_bytes_array().tolist() == [[b"a", "é".encode()]]


async def test_an_inference_from_an_event_loop(server):
    """The asynchronous iterator gives the responses on the loop of who asks; many are under way at once."""

    async def ask(number: int) -> float:
        inputs = {"IN": np.full((1, 1), number, np.float32)}
        (response,) = [r async for r in server.model("echo").async_infer(inputs=inputs)]
        return float(response.outputs["OUT"].to_numpy()[0, 0])

    async with asyncio.timeout(60):
        assert await asyncio.gather(*map(ask, range(50))) == list(range(50))


def test_a_stream(server):
    """A decoupled model's responses come one by one; the last is empty and final."""
    responses = list(server.model("stream").infer(inputs={"IN": np.array([3], np.float32)}))
    assert [r.outputs["OUT"].to_numpy()[0] for r in responses[:-1]] == [0, 1, 2]
    assert [(bool(r.outputs), r.final) for r in responses] == [(True, False)] * 3 + [(False, True)]


def test_errors(server):
    """A model's error is raised as the exception of its code, or handed over where the caller wants that."""
    inputs = {"IN": np.array([[-1]], np.float32)}
    with pytest.raises(triton.InvalidArgumentError, match=r"^no$"):
        list(server.model("echo").infer(inputs=inputs))
    (response,) = server.model("echo").infer(inputs=inputs, raise_on_error=False)
    assert (type(response.error), response.outputs, response.final) == (triton.InvalidArgumentError, {}, True)
    with pytest.raises(triton.NotFoundError, match="unknown model: 'none'"):
        next(server.model("none").infer(inputs=inputs))


def test_what_cannot_be_sent(server):
    """Parameters that are no scalars, outputs in a GPU's memory and unknown types are refused before anything runs."""
    model = server.model("echo")
    for fields in (
        {"parameters": {"a": {}}},
        {"output_memory_type": "gpu"},
        {"inputs": {"IN": np.zeros(1, np.complex64)}},
        {"inputs": {"IN": [[1], [2, 3]]}},
    ):
        with pytest.raises(triton.InvalidArgumentError):
            model.infer(**fields)


def test_a_response_queue(server):
    """Responses of several requests can be had from one queue, as well as from their iterators."""
    together: queue.SimpleQueue = queue.SimpleQueue()
    inputs = {"IN": np.ones((1, 2), np.float32)}
    iterators = [server.model("echo").infer(inputs=inputs, response_queue=together) for _ in range(3)]
    assert all(together.get(timeout=60).final for _ in range(3))
    assert [len(list(iterator)) for iterator in iterators] == [1, 1, 1]


def test_what_models_are(server):
    """Metadata, configuration, statistics and properties are those of the protocols."""
    echo, stream = server.model("echo"), server.model("stream")
    assert echo.metadata()["inputs"][0] == {"name": "IN", "datatype": "FP32", "shape": (-1, -1)}
    assert echo.config()["max_batch_size"] == 4
    before = echo.statistics()["model_stats"][0]["inference_stats"]["success"]["count"]
    list(echo.infer(inputs={"IN": np.ones((1, 2), np.float32)}))
    assert echo.statistics()["model_stats"][0]["inference_stats"]["success"]["count"] == before + 1
    assert (echo.batch_properties(), stream.batch_properties()) == (
        triton.ModelBatchFlag.FIRST_DIM,
        triton.ModelBatchFlag.UNKNOWN,
    )
    assert stream.transaction_properties() is triton.ModelTxnPropertyFlag.DECOUPLED
    assert echo.transaction_properties() is triton.ModelTxnPropertyFlag.ONE_TO_ONE
    assert (echo.ready(), server.model("echo", 7).ready()) == (True, False)


def test_what_the_server_is(server):
    """It is live and ready, has the name it was given, and metrics."""
    assert (server.live(), server.ready(), server.metadata()["name"]) == (True, True, "triton")
    assert 'nv_inference_request_success{model="echo",version="1"}' in server.metrics()


def test_loading_and_unloading(repository):
    """A model is loaded with its configuration replaced, listed by the index, and unloaded."""
    options = triton.Options(str(repository), model_control_mode=triton.ModelControlMode.EXPLICIT)
    with triton.Server(options) as server:
        assert [model.state for model in server.models().values()] == [None, None]
        config = json.loads(json.dumps({"backend": "python", "max_batch_size": 9}))
        model = server.load("echo", {"config": json.dumps(config)})
        assert model.config()["max_batch_size"] == 9
        assert server.models()["echo", 1].state == "READY"
        assert server.models()["echo"].ready()
        server.unload(model, wait_until_unloaded=True)
        assert not model.ready()
        with pytest.raises(KeyError, match="Unknown Model: none"):
            server.models()["none"]
        with pytest.raises(triton.InvalidArgumentError, match="unrecognized load parameter 'x'"):
            server.load("echo", {"x": 1})
        with pytest.raises(triton.TritonError, match="failed to load 'none'"):
            server.load("none")


def test_a_server_that_does_not_run():
    """It answers nothing, and says so; wrong options are told at the start."""
    with pytest.raises(triton.InvalidArgumentError, match="Server not started"):
        triton.Server().ready()
    with pytest.raises(triton.InvalidArgumentError, match="model_repository must be specified"):
        triton.Server(model_repository=None).start()
    with pytest.raises(TypeError):
        triton.Server(model_repository=1).start()
    with pytest.raises(triton.InternalError, match="/nowhere"):
        triton.Server(model_repository="/nowhere").start()


def test_a_server_leaves_nothing(repository):
    """Once stopped its thread is gone, its port is closed, and it can be started again."""
    server = triton.Server(model_repository=str(repository), http_port=0)
    before = set(threading.enumerate())
    for _ in range(2):
        server.start(wait_until_ready=True, timeout=10)
        assert server.ports["http"] > 0
        server.stop()
        assert not {thread.name for thread in set(threading.enumerate()) - before} & {"tritium", "echo_0", "stream_0"}


def test_tensors_share_memory():
    """A tensor shows the array it was made of, and an array made of it shows the same."""
    array = np.arange(4, dtype=np.int16)
    tensor = triton.Tensor.from_dlpack(array)
    assert (tensor.data_ptr, tensor.size, tensor.data_type) == (array.ctypes.data, 8, triton.DataType.INT16)
    tensor.shape = (2, 2)
    again = np.from_dlpack(tensor)
    array[3] = 9
    assert again.tolist() == [[0, 1], [2, 9]]


def test_repositories_come_and_go(repository, tmp_path):
    """Models of a folder that is registered later are loaded by the names that are given for them."""
    write(tmp_path / "more", "twice", MODEL)
    options = triton.Options(model_repository=str(repository), model_control_mode=triton.ModelControlMode.EXPLICIT)
    with triton.Server(options) as server:
        server.register_model_repository(str(tmp_path / "more"), {"twice": "again"})
        with pytest.raises(triton.AlreadyExistsError, match="has already been registered"):
            server.register_model_repository(str(tmp_path / "more"))
        assert ("again", -1) in server.models()
        model = server.load("again")
        (response,) = model.infer(inputs={"IN": np.array([3], np.float32)})
        assert np.array_equal(np.from_dlpack(response.outputs["OUT"]), [3])
        server.unregister_model_repository(str(tmp_path / "more"))
        with pytest.raises(triton.InvalidArgumentError, match="repository not found"):
            server.unregister_model_repository(str(tmp_path / "more"))
        assert model.ready()
        server.unload("again", wait_until_unloaded=True)
        assert ("again", 1) not in server.models()


def test_the_log_is_read_by_the_program(repository, capfd):
    """Each line goes to the callback, and not to the terminal."""
    lines: list[str] = []
    options = triton.Options(
        model_repository=str(repository),
        model_control_mode=triton.ModelControlMode.EXPLICIT,
        log_error=True,
        log_callback=lines.append,
    )
    with triton.Server(options) as server, pytest.raises(triton.InternalError):
        server.load("nowhere")
    assert ["nowhere" in line for line in lines] == [True]
    assert "nowhere" not in "".join(capfd.readouterr())
