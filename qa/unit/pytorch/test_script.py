"""TorchScript run by the class that its process runs, and once as the server runs it."""

import asyncio
import importlib.util
import os
import signal
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tritium.backends.hosted.configured import Refused
from tritium.compat.pb_utils import InferenceRequest, InferenceResponse, Tensor, TritonError
from tritium.compat.pb_utils.tensor import ReceivedTensor
from tritium.core.errors import InferenceError, Internal, Unavailable
from tritium.core.replies import SingleReply
from tritium.core.request import InferRequest, InferResponse
from tritium.core.tensor import Tensor as Wire
from tritium.core.tensor import from_array
from tritium.core.tensor_model import TensorModel

torch = pytest.importorskip("torch", reason="the pytorch backend needs torch")
script = pytest.importorskip("tritium.backends.pytorch.script")

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

FP32 = "data_type: TYPE_FP32 dims: [ 2 ]"
INPUTS = f'input [ {{ name: "a" {FP32} }}, {{ name: "b" {FP32} }} ] '
TWO = INPUTS + f'output [ {{ name: "s" {FP32} }}, {{ name: "d" {FP32} }} ]'
ADD_SUB = """
def forward(self, a, b):
    return a + b, a - b
"""


@pytest.fixture
def write(tmp_path: Path):
    """Return a function that writes the TorchScript of a `forward` as version 1."""

    def write_script(forward: str) -> None:
        (tmp_path / "1").mkdir(exist_ok=True)
        file = tmp_path / "source.py"
        head = "import torch\nfrom torch import Tensor\nclass Net(torch.nn.Module):\n"
        file.write_text(head + textwrap.indent(forward, "    "))
        spec = importlib.util.spec_from_file_location("source", file)
        source = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates TorchScript
            torch.jit.script(source.Net()).save(str(tmp_path / "1" / "model.pt"))

    return write_script


def run(model, *requests: dict[str, np.ndarray]) -> list[InferenceResponse]:
    made = [
        InferenceRequest(inputs=[Tensor(n, a) for n, a in inputs.items()], model_name="m", requested_output_names=[])
        for inputs in requests
    ]
    return model.execute(made)


def arrays(response: InferenceResponse) -> dict[str, np.ndarray]:
    assert response.error() is None, response.error().message()
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


def error(responses: Sequence[InferenceResponse]) -> tuple[int, str]:
    found = {(r.error().code(), r.error().message()) for r in responses}
    assert len(found) == 1
    return found.pop()


def test_a_batch_is_run_at_once_and_shared_out(write, load) -> None:
    """Requests of different sizes are one call of forward; each gets its own rows, a batch of one its own shape."""
    write(ADD_SUB)
    model = load(script.TritonPythonModel, f"max_batch_size: 8 {TWO}")
    one, three = np.ones((1, 2), "f4"), np.arange(6, dtype="f4").reshape(3, 2)
    first, second = map(arrays, run(model, {"a": one, "b": one}, {"b": one.repeat(3, 0), "a": three}))
    assert first["s"].tolist() == [[2, 2]]
    assert second["d"].tolist() == (three - 1).tolist()


@pytest.mark.parametrize("datatype", ["BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"])
def test_datatypes_pass_unchanged(write, load, datatype: str) -> None:
    """What forward returns as it came has the bytes it came with, empty tensors included."""
    write("def forward(self, x):\n    return x\n")
    io = f'name: "x" data_type: TYPE_{datatype} dims: [ -1 ]'
    model = load(script.TritonPythonModel, f"input {{ {io} }} output {{ {io} }}")
    for values in ([0, 1], []):
        sent = np.array(values).astype(
            {"BOOL": "?", "FP16": "f2", "FP32": "f4", "FP64": "f8"}.get(datatype, datatype.lower())
        )
        (response,) = run(model, {"x": sent})
        assert arrays(response)["x"].tobytes() == sent.tobytes()


def test_strings_go_in_and_out_as_lists(write, load) -> None:
    """BYTES is List[str] to forward, and batches are split by rows."""
    write("def forward(self, x: list[str]) -> list[str]:\n    return [t + '!' for t in x]\n")
    io = "data_type: TYPE_STRING dims: [ 1 ] reshape { shape: [ ] }"
    model = load(script.TritonPythonModel, f'max_batch_size: 4 input {{ name: "x" {io} }} output {{ name: "y" {io} }}')
    sent = [np.array(texts, object) for texts in (["é".encode()], [b"b", b"c"])]
    answers = [arrays(r)["y"].tolist() for r in run(model, *({"x": a} for a in sent))]
    assert answers == [["é!".encode()], [b"b!", b"c!"]]
    code, said = error(run(model, {"x": np.array([b"\xff"], object)}))
    assert code == TritonError.INVALID_ARG
    assert "not UTF-8" in said


def test_a_dictionary_takes_the_names_of_the_inputs(write, load) -> None:
    """A forward of one Dict[str, Tensor] gets every input by its name."""
    write("def forward(self, x: dict[str, Tensor]):\n    return x['a'] + x['b'], x['a'] - x['b']\n")
    model = load(script.TritonPythonModel, TWO)
    (response,) = run(model, {"a": np.array([3, 4], "f4"), "b": np.array([1, 1], "f4")})
    assert arrays(response)["d"].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("source", "config", "said"),
    [
        ("def forward(self, a):\n    return a\n", TWO, "configuration expects 2 inputs, model provides 1"),
        ("def forward(self, a, b: dict[str, Tensor]):\n    return a\n", TWO, "Multiple inputs of kind DictType"),
        ("def forward(self, a, b: int):\n    return a\n", TWO, "An input of type 'int' was detected in the model"),
        (ADD_SUB, "", "configuration expects 0 inputs, model provides 2"),
        (ADD_SUB, INPUTS, "model configuration must contain at least one output, none were specified"),
        (ADD_SUB, TWO + 'parameters { key: "INFERENCE_MODE" value { string_value: "maybe" } }', "'maybe' to boolean"),
        (ADD_SUB, TWO + 'parameters { key: "INTRA_OP_THREAD_COUNT" value { string_value: "x" } }', "integral number"),
    ],
)
def test_what_does_not_fit_is_refused_at_load(write, load, source: str, config: str, said: str) -> None:
    """The number and kinds of forward's arguments, and parameters that are no values, are told in Triton's words."""
    write(source)
    with pytest.raises(Refused, match=said):
        load(script.TritonPythonModel, config)


def test_a_file_that_is_no_torchscript_is_refused_at_load(tmp_path: Path, load) -> None:
    """The reason is torch's."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.pt").write_bytes(b"no model")
    with pytest.raises(Refused, match="failed to load model 'm': "):
        load(script.TritonPythonModel, TWO)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("return (a,)", "output d in the model configuration refers to an output index which doesn't exist. This"),
        ("return a.to(torch.int32), b", "expects datatype TYPE_FP32 for output 's', model provides TYPE_INT32"),
        ("return a.sum(), b", "output 's' is a scalar which is not supported."),
        ("return [a, b]", "output must be of type Tensor or List[str], received List[Tensor]"),
        ("return (a, [b])", "output at index 1 must be of type Tensor or List[str], received List[Tensor]"),
        ("return {'s': a}", "It should not be a List / Dictionary of Tensors or a Scalar"),
        ("assert a.numel() == 0, 'too long'\n    return a, b", "PyTorch execute failure: "),
    ],
)  # fmt: skip
def test_what_forward_must_not_return_fails_the_request(write, load, source: str, said: str) -> None:
    """Each mistake is told in Triton's words, and the next request is served as if nothing had been."""
    write(f"def forward(self, a, b):\n    {source}\n")
    model = load(script.TritonPythonModel, TWO)
    pair = np.ones(2, "f4")
    assert said in error(run(model, {"a": pair, "b": pair}))[1]


def test_bfloat16_passes(write, load) -> None:
    """Torch computes on BF16, which numpy has not."""
    write("def forward(self, x):\n    return x + x\n")
    io = "data_type: TYPE_BF16 dims: [ 2 ]"
    model = load(script.TritonPythonModel, f'input {{ name: "x" {io} }} output {{ name: "y" {io} }}')
    sent = ReceivedTensor("x", "BF16", (2,), bytearray(b"\xc0\x3f\x00\xc0"))
    (response,) = model.execute([InferenceRequest(inputs=[sent], model_name="m", requested_output_names=[])])
    (y,) = response.output_tensors()
    assert torch.from_dlpack(y.to_dlpack()).tolist() == [3, -4]


async def infer(model: TensorModel, *inputs: Wire) -> InferResponse:
    """Submit one request and return its response."""
    reply = SingleReply(asyncio.get_running_loop())
    model.submit(InferRequest("m", inputs=list(inputs)), reply)
    return await asyncio.wait_for(reply.future, 60)


async def test_served_in_a_process_that_comes_back(write, serve) -> None:
    """The whole way there and back; after a SIGSEGV of its process the instance serves again by itself.

    Takes two imports of torch.
    """
    write(ADD_SUB)
    served = await serve(f"max_batch_size: 8 {TWO}")
    model, instance = served.model, served.instance
    pair = from_array("a", np.array([[1, 2]], "f4"), "FP32"), from_array("b", np.array([[3, 4]], "f4"), "FP32")
    assert (await infer(model, *pair)).outputs[0].array().tolist() == [[4, 6]]
    died = instance.pid
    os.kill(died, signal.SIGSEGV)
    while instance.pid in (None, died):  # noqa: ASYNC110  # it offers nothing to wait on; pytest bounds it
        await asyncio.sleep(0)
    assert (await infer(model, *pair)).outputs[1].array().tolist() == [[-2, -2]]


@pytest.mark.parametrize(
    ("config", "kind", "said"),
    [
        (TWO, Unavailable, "unable to find '.*/1/model.pt' for model instance 'm'"),
        (TWO.replace("TYPE_FP32", "TYPE_UINT32", 1), Internal, "unsupported datatype TYPE_UINT32 for input 'a' for"),
        (TWO.replace("TYPE_FP32", "TYPE_UINT64"), Internal, "unsupported datatype TYPE_UINT64 for input 'a'"),
        (TWO.replace("FP32 dims: [ 2 ]", "STRING dims: [ 2, 2 ]"), Internal, "only supports 1 dimensional List of Str"),
    ],
)
async def test_what_needs_no_torch_is_refused_without_it(
    write, serve, config: str, kind: type[InferenceError], said: str
) -> None:
    """A missing file, a datatype that torch has not, and a configuration without tensors start no process."""
    if kind is not Unavailable:
        write(ADD_SUB)
    with pytest.raises(kind, match=said):
        await serve(config)
