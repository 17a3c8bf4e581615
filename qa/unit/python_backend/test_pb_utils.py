"""The parts of triton_python_backend_utils that need no server."""

import json

import numpy as np
import pytest

from tritium.compat import pb_utils
from tritium.compat.datatypes import DATATYPES
from tritium.compat.pb_utils.tensor import ReceivedTensor


def test_datatypes_three_ways():
    """Configuration names, numbers and numpy types agree, as in Triton's module."""
    for kind in DATATYPES:
        if kind.name == "BF16":
            assert pb_utils.triton_to_numpy_type(kind.config_value) is None
            continue
        numpy_type = pb_utils.triton_string_to_numpy(kind.config_name)
        assert np.dtype(numpy_type) == np.dtype(pb_utils.triton_to_numpy_type(kind.config_value))
        assert pb_utils.numpy_to_triton_type(numpy_type) == kind.config_value
    assert pb_utils.triton_string_to_numpy("TYPE_BOOL") is bool
    assert pb_utils.numpy_to_triton_type(np.bytes_) == 13
    assert pb_utils.numpy_to_triton_type(np.complex64) is None
    assert pb_utils.triton_to_numpy_type(99) is None
    with pytest.raises(KeyError):
        pb_utils.triton_string_to_numpy("TYPE_NONE")


def test_byte_tensors():
    """BYTES are laid out with their lengths, row by row, and read back."""
    array = np.array([["a", b"\x00b"], [5, ""]], dtype=object)
    encoded = pb_utils.serialize_byte_tensor(array)
    assert encoded == b"\1\0\0\0a\2\0\0\0\0b\1\0\0\x005\0\0\0\0"
    assert pb_utils.deserialize_bytes_tensor(encoded).tolist() == [b"a", b"\x00b", b"5", b""]
    assert pb_utils.serialize_byte_tensor(np.array([], dtype=object)) == b""
    assert pb_utils.serialize_byte_tensor(np.zeros(1)) is None


@pytest.mark.parametrize(
    ("encoded", "said"),
    [(b"\1\0\0", "incomplete length field"), (b"\5\0\0\0ab", "string extends beyond buffer")],
)
def test_broken_byte_tensors(encoded, said):
    """Lengths that do not add up are refused."""
    with pytest.raises(pb_utils.TritonModelException, match=f"Invalid bytes tensor data: {said}"):
        pb_utils.deserialize_bytes_tensor(encoded)


def test_tensor_of_an_array():
    """A tensor gives back the very array it was made of, and says what it is."""
    array = np.zeros((2, 3), np.int16)
    tensor = pb_utils.Tensor("T", array)
    assert tensor.as_numpy() is array
    assert (tensor.name(), tensor.shape(), tensor.triton_dtype(), tensor.is_cpu()) == ("T", [2, 3], 7, True)


def test_tensor_that_arrived():
    """A tensor of bytes views them; the array is made once, and nothing is copied."""
    raw = bytearray(np.arange(4, dtype=np.float32).tobytes())
    tensor = ReceivedTensor("T", "FP32", (2, 2), raw)
    array = tensor.as_numpy()
    assert array.tolist() == [[0, 1], [2, 3]]
    assert tensor.as_numpy() is array
    array[0, 0] = 9
    assert np.frombuffer(raw, np.float32)[0] == 9


def test_dlpack_both_ways():
    """Tensors go to and from DLPack without a copy, as objects and as capsules."""
    array = np.arange(6, dtype=np.float64).reshape(2, 3)
    tensor = pb_utils.Tensor("T", array)
    assert tensor.__dlpack_device__() == (1, 0)
    for offer in (tensor, tensor.to_dlpack(), array):
        taken = pb_utils.Tensor.from_dlpack("U", offer).as_numpy()
        assert taken.tolist() == array.tolist()
        assert np.shares_memory(taken, array)
    assert np.shares_memory(np.from_dlpack(tensor), array)


def test_bfloat16_with_torch():
    """A BF16 tensor is torch's bfloat16 through DLPack, and back, without a copy."""
    torch = pytest.importorskip("torch", exc_type=ImportError)
    bits = bytearray(np.array([0x3F80, 0x4000], np.uint16).tobytes())
    tensor = ReceivedTensor("T", "BF16", (2,), bits)
    values = torch.from_dlpack(tensor)
    assert (values.dtype, values.tolist()) == (torch.bfloat16, [1.0, 2.0])
    values[0] = 3.0
    assert np.frombuffer(bits, np.uint16)[0] == 0x4040
    back = pb_utils.Tensor.from_dlpack("U", values)
    assert (back.triton_dtype(), bytes(back.payload())) == (14, bytes(bits))


def test_what_dlpack_cannot():
    """Strings, streams, other devices and things that are no tensors are refused with the reason."""
    strings = pb_utils.Tensor("T", np.array(["a"], dtype=object))
    with pytest.raises(pb_utils.TritonModelException, match="does not have support for string tensors"):
        strings.to_dlpack()
    with pytest.raises(pb_utils.TritonModelException, match="stream must be None"):
        pb_utils.Tensor("T", np.zeros(1)).__dlpack__(stream=1)
    with pytest.raises(pb_utils.TritonModelException, match="must be a DLPack capsule"):
        pb_utils.Tensor.from_dlpack("T", [1.0])
    with pytest.raises(pb_utils.TritonModelException, match="cannot be an empty string"):
        pb_utils.Tensor.from_dlpack("", np.zeros(1))

    class Elsewhere:
        def __dlpack__(self):
            raise AssertionError("not asked for")

        def __dlpack_device__(self):
            return 2, 0

    with pytest.raises(pb_utils.TritonModelException, match="DLDevice type 2 is not support by Python backend"):
        pb_utils.Tensor.from_dlpack("T", Elsewhere())


def test_responses():
    """A response holds its outputs, or an error, and parameters as JSON text."""
    output = pb_utils.Tensor("O", np.zeros(1))
    response = pb_utils.InferenceResponse([output], parameters={"a": 1})
    assert (response.output_tensors(), response.has_error(), response.error()) == ([output], False, None)
    assert (response.parameters(), pb_utils.InferenceResponse().parameters()) == ('{"a": 1}', "")
    assert pb_utils.get_output_tensor_by_name(response, "O") is output
    assert pb_utils.get_output_tensor_by_name(response, "P") is None
    error = pb_utils.TritonError("no", pb_utils.TritonError.UNAVAILABLE)
    failed = pb_utils.InferenceResponse(error=error)
    assert (failed.has_error(), failed.error().message(), failed.error().code()) == (True, "no", 4)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: pb_utils.InferenceResponse(parameters={1: "a"}),
        lambda: pb_utils.InferenceResponse(parameters={"a": [1]}),
        lambda: pb_utils.InferenceResponse(error="text"),
        lambda: pb_utils.TritonError(5),
        lambda: pb_utils.TritonError("x", 99),
        lambda: pb_utils.InferenceRequest(inputs=[], requested_output_names=[]),
        lambda: pb_utils.InferenceRequest(model_name="m", correlation_id=1.5),
        lambda: pb_utils.InferenceRequest(model_name="m", inputs=[None]),
        lambda: pb_utils.InferenceRequest(model_name="m", inputs=[5]),
        lambda: pb_utils.InferenceRequest(model_name="m", requested_output_names=[""]),
        lambda: pb_utils.InferenceRequest(model_name="m").get_response_sender(),
        lambda: pb_utils.InferenceRequest(model_name="m").set_release_flags(2),
        lambda: pb_utils.InferenceRequest(model_name="m").set_release_flags(7),
        lambda: pb_utils.MetricFamily("n", "d", "counter"),
        lambda: pb_utils.load_model("m", files=[]),
    ],
)
def test_wrong_arguments(wrong):
    """What cannot be is refused where it is written."""
    with pytest.raises((pb_utils.TritonModelException, TypeError, ValueError)):
        wrong()


def test_requests_a_model_makes():
    """A request of another model remembers all that it was given."""
    tensor = pb_utils.Tensor("I", np.zeros(1))
    request = pb_utils.InferenceRequest(
        request_id="r",
        correlation_id="c",
        inputs=[tensor],
        requested_output_names=["B", "A", "B"],
        model_name="m",
        model_version=2,
        flags=1,
        timeout=5,
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_GPU, 1),
        trace=pb_utils.InferenceTrace(),
        parameters={"p": True},
    )
    request.set_flags(pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END)
    assert (request.request_id(), request.correlation_id(), request.flags(), request.timeout()) == ("r", "c", 2, 5)
    assert (request.inputs(), request.requested_output_names()) == ([tensor], ["B", "A"])
    assert (request.parameters(), request.trace().get_context()) == ('{"p": true}', None)
    assert pb_utils.get_input_tensor_by_name(request, "I") is tensor
    assert not request.is_cancelled()


def test_outside_a_model():
    """What needs the server says so where there is none, as in a script that imports a model."""
    with pytest.raises(RuntimeError, match="only inside a model's process"):
        pb_utils.Logger.log_info("hello")


def test_configurations():
    """Inputs and outputs are found by name, and the transaction policy is read."""
    config = {"input": [{"name": "I"}], "output": [{"name": "O"}], "model_transaction_policy": {"decoupled": True}}
    assert pb_utils.get_input_config_by_name(config, "I") == {"name": "I"}
    assert pb_utils.get_output_config_by_name(config, "O") == {"name": "O"}
    assert pb_utils.get_input_config_by_name(config, "O") is None
    assert pb_utils.get_output_config_by_name({}, "O") is None
    assert pb_utils.using_decoupled_model_transaction_policy(config)
    assert not pb_utils.using_decoupled_model_transaction_policy({})


@pytest.fixture
def config():
    return pb_utils.ModelConfig(
        json.dumps(
            {
                "name": "m",
                "max_batch_size": 4,
                "input": [{"name": "I", "data_type": "TYPE_FP32", "dims": [4], "optional": False}],
                "output": [{"name": "O", "data_type": "TYPE_INVALID", "dims": []}],
                "model_transaction_policy": {"decoupled": False},
            }
        )
    )


def test_completing(config):
    """What the configuration leaves open is filled in, what is new is added, and what is the same stays."""
    config.set_max_batch_size(8)
    config.add_input({"name": "I", "data_type": "TYPE_FP32", "dims": [4]})
    config.add_input({"name": "J", "data_type": "TYPE_INT8", "dims": [-1], "optional": True})
    config.add_output({"name": "O", "data_type": "TYPE_STRING", "dims": [2]})
    config.set_dynamic_batching()
    config.set_dynamic_batching()
    config.set_model_transaction_policy({"decoupled": False})
    done = config.as_dict()
    assert done["max_batch_size"] == 8
    assert [io["name"] for io in done["input"]] == ["I", "J"]
    assert done["output"] == [{"name": "O", "data_type": "TYPE_STRING", "dims": [2]}]
    assert done["dynamic_batching"] == {}


CONFLICTS = {
    "configuration specified max_batch_size 4, but in auto-complete-config function for model 'm' "
    "specified max_batch_size 2": lambda c: c.set_max_batch_size(2),
    "unable to load model 'm', configuration expects datatype TYPE_FP32 for input 'I', "
    "model provides TYPE_INT8": lambda c: c.add_input({"name": "I", "data_type": "TYPE_INT8", "dims": [4]}),
    "model 'm', tensor 'I': the model expects dims [5] but the model configuration specifies dims [4]": lambda c: (
        c.add_input({"name": "I", "data_type": "TYPE_FP32", "dims": [5]})
    ),
    "model 'm', tensor 'I': the model expects optional True but the model configuration specifies "
    "optional False": lambda c: c.add_input({"name": "I", "data_type": "TYPE_FP32", "dims": [4], "optional": True}),
    "input 'K' in auto-complete-config function for model 'm' contains property other than 'name', 'data_type', "
    "'dims' and 'optional'.": lambda c: c.add_input({"name": "K", "data_type": "TYPE_FP32", "dims": [1], "x": 1}),
    "output 'K' in auto-complete-config function for model 'm' contains property other than 'name', 'data_type' "
    "and 'dims'.": lambda c: c.add_output({"name": "K", "data_type": "TYPE_FP32", "dims": [1], "optional": True}),
    "input in auto-complete-config function for model 'm' is missing 'name' property.": lambda c: c.add_input({}),
    "output 'K' in auto-complete-config function for model 'm' is missing 'dims' property.": lambda c: c.add_output(
        {"name": "K", "data_type": "TYPE_FP32"}
    ),
    "trying to change decoupled property in auto-complete-config for model 'm', which is already set to "
    "'False'.": lambda c: c.set_model_transaction_policy({"decoupled": True}),
    "model transaction property in auto-complete-config function for model 'm' contains property other than "
    "'decoupled'.": lambda c: c.set_model_transaction_policy({"other": True}),
}


@pytest.mark.parametrize("said", CONFLICTS)
def test_completing_against_the_configuration(config, said):
    """A model that contradicts its configuration is refused in Triton's words."""
    with pytest.raises(ValueError) as caught:
        CONFLICTS[said](config)
    assert str(caught.value) == said


def test_another_scheduler_stands(config):
    """Dynamic batching cannot be chosen for a model that batches sequences."""
    config.as_dict()["sequence_batching"] = {}
    with pytest.raises(ValueError, match="Configuration specified scheduling_choice as 'sequence_batching', but"):
        config.set_dynamic_batching()
