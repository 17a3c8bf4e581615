"""Requests against configurations, held to what a real Triton answered."""

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritium.core.bytes_walk import walk_bytes
from tritium.core.check import RequestCheck
from tritium.core.errors import InvalidArgument
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor, join_bytes

ABOUT = "[request id: <id_unknown>] "
NOTE = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each "
    "input shape. If you want to specify the full shape including the batch dim in your input dims config, try "
    "setting max_batch_size to zero. See the model configuration docs for more info on max_batch_size."
)


def refusal(fakes: ModuleType, pbtxt: str, request: InferRequest, name: str = "add_sub") -> str:
    """Return the message with which the request is refused."""
    with pytest.raises(InvalidArgument) as caught:
        RequestCheck(fakes.config(pbtxt, name))(request)
    return caught.value.message


def add_sub(fakes: ModuleType, *inputs: Tensor, batch: int = 0, **fields: object) -> str:
    """Return the refusal of a request to add_sub."""
    name = "add_sub_batch" if batch else "add_sub"
    return refusal(fakes, f"max_batch_size: {batch} {fakes.ADD_SUB}", fakes.request(*inputs, **fields), name)


def test_missing_input(fakes: ModuleType) -> None:
    """The missing inputs are named, in the order of the configuration."""
    t = fakes.tensor
    assert add_sub(fakes, t("INPUT0", [4])) == (
        ABOUT + "expected 2 inputs but got 1 inputs for model 'add_sub'. Got input(s) ['INPUT0'], but missing "
        "required input(s) ['INPUT1']. Please provide all required input(s)."
    )
    assert add_sub(fakes) == (
        ABOUT + "expected 2 inputs but got 0 inputs for model 'add_sub'. Got input(s) [], but missing "
        "required input(s) ['INPUT0','INPUT1']. Please provide all required input(s)."
    )


def test_extra_input(fakes: ModuleType) -> None:
    """One input too many gets Triton's message, stray bracket included."""
    t = fakes.tensor
    assert add_sub(fakes, t("INPUT0", [4]), t("INPUT1", [4]), t("INPUT2", [4])) == (
        ABOUT + "expected 2 inputs but got 3 inputs for model 'add_sub'. Got input(s) "
        "['INPUT2','INPUT1','INPUT0'], but missing required input(s) ]. Please provide all required input(s)."
    )


def test_optional_inputs(fakes: ModuleType) -> None:
    """Optional inputs may be left out; the message of a missing required one gives the range."""
    pbtxt = """input [ { name: "COUNT" data_type: TYPE_INT32 dims: 1 },
        { name: "DELAY" data_type: TYPE_INT32 dims: 1 optional: true },
        { name: "ERR" data_type: TYPE_INT32 dims: 1 optional: true } ]"""
    count = fakes.tensor("COUNT", [1], "INT32")
    assert RequestCheck(fakes.config(pbtxt))(fakes.request(count)) == 1
    assert refusal(fakes, pbtxt, fakes.request(), "repeat") == (
        ABOUT + "expected number of inputs between 1 and 3 but got 0 inputs for model 'repeat'. Got input(s) [], "
        "but missing required input(s) ['COUNT']. Please provide all required input(s)."
    )


def test_names(fakes: ModuleType) -> None:
    """Unknown and repeated inputs and unknown outputs are named; each may be named once."""
    t = fakes.tensor
    both = (t("INPUT0", [4]), t("INPUT1", [4]))
    assert add_sub(fakes, both[0], t("FOO", [4])) == "unexpected inference input 'FOO' for model 'add_sub'"
    assert add_sub(fakes, *both, both[0]) == ABOUT + "input 'INPUT0' already exists in request"
    assert add_sub(fakes, *both, outputs=["NOPE"]) == "unexpected inference output 'NOPE' for model 'add_sub'"
    assert add_sub(fakes, *both, outputs=["OUTPUT1", "OUTPUT1"]) == ABOUT + "output 'OUTPUT1' already exists in request"


def test_a_name_that_is_nearly_right_is_told_the_right_one(fakes: ModuleType) -> None:
    """In the hint, for the message is Triton's; one that is like none is told which there are."""
    t = fakes.tensor
    hints = []
    for request in (
        fakes.request(t("INPUT0", [4]), t("INPUT_1", [4])),
        fakes.request(t("INPUT0", [4]), t("x", [4])),
        fakes.request(t("INPUT0", [4]), t("INPUT1", [4]), outputs=["OUTPT1"]),
    ):
        with pytest.raises(InvalidArgument) as refused:
            RequestCheck(fakes.config(fakes.ADD_SUB))(request)
        hints.append(refused.value.hint)
    assert hints == ["did you mean INPUT1?", "there are: INPUT0, INPUT1", "did you mean OUTPUT1?"]


@pytest.mark.parametrize(("shape", "fits"), [([0, 4], True), ([1 << 60, 0], True), ([(1 << 63) - 1, 0], False)])
def test_a_tensor_of_no_elements_has_a_shape_that_can_be_counted(
    fakes: ModuleType, shape: list[int], *, fits: bool
) -> None:
    """NumPy and torch refuse an array whose other dimensions come to more than 64 bits."""
    config = fakes.config('input { name: "x" data_type: TYPE_FP32 dims: [ -1, -1 ] }', "m")
    request = fakes.request(fakes.tensor("x", shape, "FP32", b""))
    if fits:
        assert RequestCheck(config)(request) == 1
    else:
        with pytest.raises(InvalidArgument, match="byte size for tensor 'x' exceeds maximum size"):
            RequestCheck(config)(request)


def test_datatype(fakes: ModuleType) -> None:
    """A wrong datatype is shown beside the right one, an unknown one as <invalid>."""
    t = fakes.tensor
    expected = ABOUT + "inference input 'INPUT0' data-type is '{}', but model 'add_sub' expects 'FP32'"
    assert add_sub(fakes, t("INPUT0", [4], "INT32"), t("INPUT1", [4])) == expected.format("INT32")
    assert add_sub(fakes, t("INPUT0", [4], "FLOAT"), t("INPUT1", [4])) == expected.format("<invalid>")


def test_shape(fakes: ModuleType) -> None:
    """A wrong shape is shown beside the configured one; with batching the batch dimension is explained."""
    t = fakes.tensor
    about = ABOUT + "unexpected shape for input '{}' for model '{}'. Expected {}, got {}. {}"
    assert add_sub(fakes, t("INPUT0", [5]), t("INPUT1", [4])) == about.format("INPUT0", "add_sub", "[4]", "[5]", "")
    assert add_sub(fakes, t("INPUT0", [1, 4]), t("INPUT1", [4])) == about.format(
        "INPUT0", "add_sub", "[4]", "[1,4]", ""
    )
    assert add_sub(fakes, t("INPUT0", [4]), t("INPUT1", [4]), batch=64) == about.format(
        "INPUT1", "add_sub_batch", "[-1,4]", "[4]", NOTE
    )
    scalar = Tensor("INPUT0", "FP32", (), b"")
    assert add_sub(fakes, t("INPUT1", [1, 4]), scalar, batch=64) == (
        ABOUT + "input 'INPUT0' has no shape but model requires batch dimension for 'add_sub_batch'"
    )


def test_negative_dimensions(fakes: ModuleType) -> None:
    """No dimension may be open or negative, also where the bytes would fit the product."""
    open_one = Tensor("INPUT0", "FP32", (-1,), bytes(16))
    assert add_sub(fakes, open_one, fakes.tensor("INPUT1", [4])) == (
        ABOUT + "All input dimensions should be specified for input 'INPUT0' for model 'add_sub', got [-1]"
    )
    pbtxt = 'input { name: "X" data_type: TYPE_FP32 dims: [ -1, -1 ] }'
    twice = fakes.request(Tensor("X", "FP32", (-2, -2), bytes(16)))
    assert refusal(fakes, pbtxt, twice) == ABOUT + "tensor 'X' contains an invalid dimension [-2,-2]"


def test_batch_size(fakes: ModuleType) -> None:
    """The batch size is the first dimension, the same for all inputs and within bounds."""
    t = fakes.tensor
    check = RequestCheck(fakes.config("max_batch_size: 64" + fakes.ADD_SUB))
    assert check(fakes.request(t("INPUT0", [64, 4]), t("INPUT1", [64, 4]))) == 64
    assert add_sub(fakes, t("INPUT0", [65, 4]), t("INPUT1", [65, 4]), batch=64) == (
        ABOUT + "inference request batch-size must be <= 64 for 'add_sub_batch'"
    )
    assert add_sub(fakes, t("INPUT0", [2, 4]), t("INPUT1", [1, 4]), batch=64) == (
        ABOUT + "input 'INPUT0' batch size does not match other inputs for 'add_sub_batch'"
    )
    assert add_sub(fakes, t("INPUT0", [0, 4]), t("INPUT1", [0, 4]), batch=64) == (
        ABOUT + "input byte size mismatch for input 'INPUT1' for model 'add_sub_batch'. Expected 16, got 0"
    )


def test_byte_size(fakes: ModuleType) -> None:
    """The data must be exactly as long as shape and datatype say; the request's id is in the message."""
    t = fakes.tensor
    expected = "input byte size mismatch for input 'INPUT0' for model 'add_sub'. Expected 16, got {}"
    short, long = t("INPUT0", [4], data=bytes(12)), t("INPUT0", [4], data=bytes(20))
    assert add_sub(fakes, short, t("INPUT1", [4])) == ABOUT + expected.format(12)
    assert add_sub(fakes, long, t("INPUT1", [4]), id="7") == "[request id: 7] " + expected.format(20)


def test_overflow(fakes: ModuleType) -> None:
    """A shape whose size wraps around 64 bits is refused, though its low bits would match the data."""
    fp32 = 'input { name: "X" data_type: TYPE_FP32 dims: -1 }'
    wraps = fakes.request(Tensor("X", "FP32", ((1 << 62) + 1,), bytes(4)))
    assert refusal(fakes, fp32, wraps) == (
        ABOUT + "byte size for tensor 'X' exceeds maximum size of 9223372036854775807"
    )
    text = 'input { name: "X" data_type: TYPE_STRING dims: [ -1, -1 ] }'
    huge = fakes.request(Tensor("X", "BYTES", (1 << 40, 1 << 40), b""))
    assert refusal(fakes, text, huge) == (
        ABOUT + "element count for tensor 'X' exceeds maximum size of 9223372036854775807"
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            b"\x03\0\0\0abc\x03\0\0\0ab",
            "incomplete string data for inference input 'X', expecting string of length 3 but only 2 bytes available",
        ),
        (
            join_bytes([b"a", b"b", b"c"]),
            ABOUT + "unexpected number of string elements 3 for inference input 'X' for model 'm', expecting 2",
        ),
        (join_bytes([b"a"]), ABOUT + "expected 2 string elements for inference input 'X' for model 'm', got 1"),
        (
            join_bytes([b"a", b"b"]) + b"\0\0",
            ABOUT + "incomplete string length indicator for inference input 'X' for model 'm', expecting 4 bytes but "
            "only 2 bytes available. Please make sure the string length indicator is in one buffer.",
        ),
    ],
)
def test_string_lengths(fakes: ModuleType, data: bytes, expected: str) -> None:
    """The lengths inside a BYTES tensor must add up to its elements and its bytes."""
    pbtxt = 'input { name: "X" data_type: TYPE_STRING dims: -1 }'
    assert refusal(fakes, pbtxt, fakes.request(Tensor("X", "BYTES", (2,), data)), "m") == expected


def test_empty_tensors(fakes: ModuleType) -> None:
    """A tensor without elements is fine where the dimension is open."""
    pbtxt = """input [ { name: "X" data_type: TYPE_STRING dims: -1 }, { name: "Y" data_type: TYPE_FP32 dims: -1 } ]"""
    empty = fakes.request(Tensor("X", "BYTES", (0,), b""), Tensor("Y", "FP32", (0,), b""))
    assert RequestCheck(fakes.config(pbtxt))(empty) == 1


@given(st.lists(st.binary(max_size=20), max_size=8), st.integers(0, 9), st.integers(0, 6))
def test_walk_accepts_only_whole_payloads(elements: list[bytes], expected: int, cut: int) -> None:
    """Exactly the right number of whole elements is accepted, and nothing else."""
    whole = join_bytes(elements)
    data = whole[: len(whole) - cut]
    right = expected <= len(elements) and data == join_bytes(elements[:expected])
    assert walk_bytes(data, expected).right == right
    assert walk_bytes(memoryview(data), expected) == walk_bytes(data, expected)


@given(st.data())
def test_quick_yes_agrees_with_the_whole_check(fakes: ModuleType, data: st.DataObject) -> None:
    """Whatever the quick look accepts, the whole check accepts with the same batch size, and the other way round."""
    batch = data.draw(st.sampled_from([0, 4]))
    check = RequestCheck(
        fakes.config(f"""max_batch_size: {batch} input [ {{ name: "A" data_type: TYPE_FP32 dims: [ 2 ] }},
        {{ name: "B" data_type: TYPE_INT32 dims: [ -1 ] optional: true }} ]""")
    )
    tensors = data.draw(
        st.lists(
            st.builds(
                Tensor,
                st.sampled_from("AB"),
                st.sampled_from(["FP32", "INT32"]),
                st.lists(st.integers(-1, 5), max_size=3).map(tuple),
                st.integers(0, 10).map(lambda n: bytes(4 * n)),
            ),
            max_size=3,
        )
    )
    asked = InferRequest("add_sub", inputs=tensors)
    quick = check._plainly_right(asked)
    try:
        whole = check._examine(asked)
    except InvalidArgument:
        whole = 0
    # A batch of zero elements is left to the whole check, which decides it as Triton does.
    assert quick in (whole, 0)
    assert quick == whole or any(t.shape[:1] == (0,) for t in tensors) or not tensors


@pytest.mark.parametrize(("cut", "extra", "right"), [(0, b"", True), (1, b"", False), (0, b"\0", False)])
def test_many_elements_of_one_length(cut: int, extra: bytes, *, right: bool) -> None:
    """Strings of one length are looked at together, and found wrong as any others are."""
    count = 50_000
    data = (b"\6\0\0\0abcdef" * count)[: 10 * count - cut] + extra
    assert walk_bytes(data, count).right == right
    assert not walk_bytes(data, count - 1).right
