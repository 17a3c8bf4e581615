"""Sequences, implicit state, iterative models and streams through ensembles, with Triton's clients on a real server."""

import queue
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from qa.e2e.product import Product
from tritonclient.utils import InferenceServerException

TENSORS = """input { name: "INPUT" data_type: TYPE_INT32 dims: 1 }
output { name: "OUTPUT" data_type: TYPE_INT32 dims: 1 }
"""
CONTROLS = "".join(
    f'control_input {{ name: "{kind}" control {{ kind: CONTROL_SEQUENCE_{kind} int32_false_true: [ 0, 1 ] }} }}\n'
    for kind in ("START", "END", "READY")
)
IDLE = "max_sequence_idle_microseconds: 200000000"
DYNA = f"""backend: "dyna_sequence" max_batch_size: 4 {TENSORS}
sequence_batching {{ {IDLE} oldest {{ max_candidate_sequences: 4 }} {CONTROLS}
    control_input {{ name: "CORRID" control {{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING }} }} }}
"""
STATE = f"""backend: "python" max_batch_size: 4 {TENSORS}
sequence_batching {{ {IDLE} direct {{ }} {CONTROLS} state {{
    input_name: "SUM_IN" output_name: "SUM_OUT" data_type: TYPE_INT32 dims: 1
    initial_state: {{ name: "ten" data_type: TYPE_INT32 dims: 1 data_file: "ten" }} }} }}
"""
STATE_MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            get = lambda name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            total = (get("SUM_IN") + get("INPUT")).astype("int32")
            assert get("READY").item() or not get("INPUT").any(), "a null request is empty"
            responses.append(pb_utils.InferenceResponse([
                pb_utils.Tensor("OUTPUT", total), pb_utils.Tensor("SUM_OUT", total)]))
        return responses
"""
ITERATIVE = f"""backend: "python" max_batch_size: 4 {TENSORS}
model_transaction_policy {{ decoupled: true }}
sequence_batching {{ {IDLE} iterative_sequence: true }}
"""
ITERATIVE_MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.left = {}

    def execute(self, requests):
        for request in requests:
            key, sender = request.correlation_id(), request.get_response_sender()
            if key == 0:
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                continue
            given = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy().item()
            left = self.left.pop(key, given) - 1
            final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if left <= 0 else 0
            output = pb_utils.Tensor("OUTPUT", np.array([[left]], dtype=np.int32))
            sender.send(pb_utils.InferenceResponse([output]), flags=final)
            if left > 0:
                self.left[key] = left
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
        return None
"""
SQUARE = """backend: "square" model_transaction_policy { decoupled: true }
input { name: "IN" data_type: TYPE_INT32 dims: 1 } output { name: "OUT" data_type: TYPE_INT32 dims: 1 }
"""
SLOW = """backend: "identity" parameters { key: "execute_delay_ms" value { string_value: "20" } }
dynamic_batching { default_queue_policy { max_queue_size: 2 } } max_batch_size: 1
input { name: "INPUT0" data_type: TYPE_INT32 dims: 1 } output { name: "OUTPUT0" data_type: TYPE_INT32 dims: 1 }
"""
STREAM = """platform: "ensemble" ensemble_scheduling { max_inflight_requests: 2
step { model_name: "square" model_version: -1
    input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "each" } }
step { model_name: "slow" model_version: -1
    input_map { key: "INPUT0" value: "each" } output_map { key: "OUTPUT0" value: "OUT" } } }
input { name: "IN" data_type: TYPE_INT32 dims: 1 } output { name: "OUT" data_type: TYPE_INT32 dims: 1 }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Serve one model of each kind."""
    root = tmp_path_factory.mktemp("models")
    models = {
        "dyna": (DYNA, ""),
        "state": (STATE, STATE_MODEL),
        "iterative": (ITERATIVE, ITERATIVE_MODEL),
        "square": (SQUARE, ""),
        "slow": (SLOW, ""),
        "stream": (STREAM, ""),
        "unlimited": (STREAM.replace("max_inflight_requests: 2", ""), ""),
    }
    for name, (pbtxt, code) in models.items():
        version: Path = root / name / "1"
        version.mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(pbtxt)
        if code:
            (version / "model.py").write_text(code)
    (root / "state" / "initial_state").mkdir()
    (root / "state" / "initial_state" / "ten").write_bytes(b"\x0a\0\0\0")
    product = Product([str(root)])
    assert product.process.poll() is None, product.output
    yield product
    assert product.stop() == 0, product.output


def one_number(library, name: str, value: int, shape: tuple[int, ...] = (1, 1)):
    """Return an input that holds a number."""
    tensor = library.InferInput(name, list(shape), "INT32")
    tensor.set_data_from_numpy(np.full(shape, value, dtype=np.int32))
    return tensor


@pytest.mark.parametrize("library", [http_client, grpc_client], ids=["http", "grpc"])
def test_sequences_go_on_over_both_protocols(server: Product, library) -> None:
    """A sequence is told by its string id; one that has ended has to start anew."""
    with library.InferenceServerClient(server.url("HTTP" if library is http_client else "gRPC")) as client:
        sums = [
            client.infer(
                "dyna",
                [one_number(library, "INPUT", value)],
                sequence_id="1000",
                sequence_start=value == 1,
                sequence_end=value == 3,
            ).as_numpy("OUTPUT")[0, 0]
            for value in (1, 2, 3)
        ]
        assert sums == [1, 3, 1006]
        with pytest.raises(InferenceServerException, match="must specify the START flag on the first request"):
            client.infer("dyna", [one_number(library, "INPUT", 4)], sequence_id="1000")


def test_the_server_keeps_the_state_of_a_python_model(server: Product) -> None:
    """Sequences in other places of the batch keep their own state, which starts out from the file."""
    with http_client.InferenceServerClient(server.url("HTTP"), concurrency=2) as client:

        def ask(key: int, value: int, *, start: bool = False):
            given = [one_number(http_client, "INPUT", value)]
            return client.async_infer("state", given, sequence_id=key, sequence_start=start)

        first = [ask(1, 1, start=True), ask(2, 100, start=True)]
        sums = [[call.get_result().as_numpy("OUTPUT")[0, 0] for call in first]]
        for value in (1, 2):
            sums.append([ask(key, value).get_result().as_numpy("OUTPUT")[0, 0] for key in (2, 1)])
        assert sums == [[11, 110], [111, 12], [113, 14]]


def stream(server: Product, model: str, tensors: list, **fields):
    """Stream requests of a model, one input each; return the responses of each, by its number."""
    heard: queue.Queue = queue.Queue()
    answers: dict[int, list] = {number: [] for number in range(len(tensors))}
    with grpc_client.InferenceServerClient(server.url("gRPC")) as client:
        client.start_stream(lambda result, error: heard.put((result, error)))
        for number, tensor in enumerate(tensors):
            client.async_stream_infer(
                model, [tensor], request_id=str(number), enable_empty_final_response=True, **fields
            )
        left = len(tensors)
        while left:
            result, error = heard.get(timeout=60)
            if error is not None:
                raise error
            response = result.get_response()
            if response.outputs:
                answers[int(response.id)].append(int(result.as_numpy(response.outputs[0].name).item()))
            left -= response.parameters["triton_final_response"].bool_param
    return answers


def test_iterative_requests_take_turns(server: Product) -> None:
    """A python model that asks for its requests again answers each as often as it wants to."""
    tensors = [one_number(grpc_client, "INPUT", count) for count in (4, 1, 3)]
    assert stream(server, "iterative", tensors) == {0: [3, 2, 1, 0], 1: [0], 2: [2, 1, 0]}


def test_a_limit_keeps_a_stream_from_filling_the_next_steps_queue(server: Product) -> None:
    """With max_inflight_requests every response gets through a member that lets two requests wait; without, not."""
    tensors = [one_number(grpc_client, "IN", count, (1,)) for count in (12, 5)]
    assert stream(server, "stream", tensors) == {0: [12] * 12, 1: [5] * 5}
    with pytest.raises(InferenceServerException, match=r"in ensemble 'unlimited', .*Exceeds maximum queue size"):
        stream(server, "unlimited", tensors)
