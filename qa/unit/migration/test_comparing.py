"""What counts as a difference, and which requests are made: pure data, no server."""

import csv
import io
import json

import numpy as np
import pytest
from google.protobuf import text_format

from tritium.compat.datatypes import DATATYPES
from tritium.compat.protobufs import model_config_pb2
from tritium.migration.comparing.call import Answer, Inference, Outcome
from tritium.migration.comparing.description import configurations, metadata
from tritium.migration.comparing.difference import Tolerance, agreement, differences, essence
from tritium.migration.comparing.latency import latency
from tritium.migration.comparing.making import make
from tritium.migration.comparing.report import written
from tritium.migration.comparing.tensor import BadTensor, Tensor, from_elements
from tritium.migration.comparing.verdict import Exchange, ModelVerdict, Standing, Verification

EXACT = Tolerance()


def answered(*tensors: Tensor, **document: object) -> Outcome:
    """Return an outcome of one answer."""
    return Outcome((Answer(tensors, document),))


def row(datatype: str, *values: object, name: str = "y") -> Tensor:
    """Return a tensor of one dimension."""
    return from_elements(name, datatype, (len(values),), list(values))


def said(old: Outcome, new: Outcome, tolerance: Tolerance = EXACT) -> list[str]:
    """Return the differences in words."""
    return [one.message for one in differences(old, new, tolerance)]


def config(text: str) -> object:
    """Return a configuration."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.mark.parametrize("datatype", [kind.name for kind in DATATYPES])
def test_every_datatype_survives(datatype: str) -> None:
    """Elements of each datatype are written and read back as they were."""
    values = ["é", ""] if datatype == "BYTES" else [0, 1]
    tensor = row(datatype, *values)
    back = [text.decode() for text in tensor.texts()] if datatype == "BYTES" else tensor.numbers().tolist()
    assert back == values


@pytest.mark.parametrize(
    ("datatype", "near", "far"),
    [("FP32", 1.00005, 1.001), ("FP16", 1.005, 1.1), ("BF16", 1.0, 1.25), ("FP64", 1 + 1e-11, 1 + 1e-6)],
)
def test_floats_have_a_tolerance_by_datatype(datatype: str, near: float, far: float) -> None:
    """The rounding of another kernel is none of the answer's business; more is."""
    assert said(answered(row(datatype, 1.0)), answered(row(datatype, near))) == []
    [message] = said(answered(row(datatype, 5.0, 1.0)), answered(row(datatype, 5.0, far)))
    assert message.startswith("y: 1 of 2 elements differ, the first at 1: 1.0 became ")


def test_nan_equals_nan() -> None:
    """A model that answers NaN on both sides answers the same."""
    assert said(answered(row("FP32", float("nan"))), answered(row("FP32", float("nan")))) == []
    assert said(answered(row("FP32", float("nan"))), answered(row("FP32", 1.0))) != []


def test_whole_numbers_and_text_are_exact() -> None:
    """One off is a difference."""
    assert said(answered(row("INT64", 1, 2)), answered(row("INT64", 1, 3))) == [
        "y: 1 of 2 elements differ, the first at 1: 2 became 3"
    ]
    assert said(answered(row("BYTES", "a")), answered(row("BYTES", "b"))) == ["y: element 0: 'a' became 'b'"]


def test_form_and_names_count() -> None:
    """Another shape, a missing and a new output are each said."""
    old = answered(from_elements("y", "FP32", (1, 2), [1, 2]), row("INT8", 1, name="gone"))
    new = answered(row("FP32", 1, 2), row("INT8", 1, name="fresh"))
    assert said(old, new) == ["y: FP32 [1, 2] became FP32 [2]", "gone is missing", "fresh is there and was not"]


def test_tensors_that_lie_about_their_size_are_told() -> None:
    """Bytes that do not fit their datatype differ with a reason, they do not crash."""
    broken = Tensor("y", "BYTES", (1,), b"\x09\x00\x00\x00ab")
    with pytest.raises(BadTensor, match="9 bytes, of which 2"):
        broken.texts()
    assert said(answered(row("BYTES", "a")), answered(broken)) == ["y: an element of 9 bytes, of which 2 are there"]


def test_streams_are_compared_in_order() -> None:
    """The same answers in another order, or one fewer, differ."""
    one, two = Answer((row("INT32", 1),)), Answer((row("INT32", 2),))
    assert said(Outcome((one, two)), Outcome((one, two))) == []
    assert len(said(Outcome((one, two)), Outcome((two, one)))) == 2
    assert said(Outcome((one, two)), Outcome((one,))) == ["2 answers became 1"]


def test_generated_text_is_compared_as_a_whole() -> None:
    """However it is cut into answers; by the share that agrees from the start."""
    old = Outcome((Answer(document={"text_output": "the river "}), Answer(document={"text_output": "runs"})))
    assert said(old, answered(text_output="the river runs")) == []
    [message] = said(old, answered(text_output="the riXXXXXXXX"))
    assert message.startswith("43% of the text agrees (90% asked)")
    assert said(old, answered(text_output="the riXXXXXXXX"), Tolerance(text_agreement=0.4)) == []
    assert agreement("", "") == 1.0


def test_errors_are_compared_by_status_and_message() -> None:
    """What only says where a program lies is no part of the message."""
    old = Outcome(status="400", message="Failed: /opt/tritonserver/x.py line 12 at 0x7f01\nTraceback")
    assert said(old, Outcome(status="400", message="Failed: /usr/lib/x.py line 99 at 0x55aa")) == []
    assert essence("a /b/c.py") == "a c.py"
    other = Outcome(status="400", message="no")
    assert len(said(old, other)) == 1
    assert said(old, other, Tolerance(messages=False)) == []
    assert said(old, Outcome(status="500", message=old.message))[0].startswith("400 ")
    assert said(answered(row("INT8", 1)), other) == ["an answer became 400 'no'"]


def test_configurations_differ_where_clients_see_it() -> None:
    """Tensors and batches count, instances are a remark."""
    old = config('max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: 3 } instance_group { count: 1 }')
    new = config('max_batch_size: 8 input { name: "x" data_type: TYPE_FP16 dims: 3 } instance_group { count: 2 }')
    seen, remarks = configurations(old, new)
    assert seen[0].startswith("configuration, input: name=x data_type=TYPE_FP32")
    assert seen[1] == "configuration, max_batch_size: 4 became 8"
    assert remarks == ["configuration: instance_group differ"]


def test_metadata_is_the_same_over_both_protocols() -> None:
    """gRPC's JSON form writes sizes as strings."""
    old = {"platform": "a", "versions": ["1"], "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]}
    new = {"platform": "b", "versions": ["1"], "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "3"]}]}
    assert metadata(old, new) == ([], ["metadata: platform 'a' became 'b'"])
    assert metadata(old, {**old, "inputs": []})[0] != []


ALL = " ".join(f'input {{ name: "{kind.name}" data_type: {kind.config_name} dims: [ -1, 2 ] }}' for kind in DATATYPES)


def test_requests_have_every_datatype_batches_and_tied_dimensions() -> None:
    """Made requests fit the configuration, and are the same for the same seed."""
    model = config(f'max_batch_size: 8 {ALL} output {{ name: "y" }} output {{ name: "z" }}')
    made = make("m", model, seed=1, rounds=6, protocol="grpc")
    assert made == make("m", model, seed=1, rounds=6, protocol="grpc")
    assert made != make("m", model, seed=2, rounds=6, protocol="grpc")
    ordinary = [call for call in made.calls if call.about.startswith(("one", "batch"))]
    assert {tensor.datatype for tensor in ordinary[0].inputs} == {kind.name for kind in DATATYPES}
    assert len({call.inputs[0].shape[0] for call in ordinary}) > 1
    for call in ordinary:
        assert len({tensor.shape for tensor in call.inputs}) == 1
        for tensor in call.inputs:
            count = len(tensor.texts()) if tensor.datatype == "BYTES" else len(tensor.numbers())
            assert count == tensor.elements
    assert [call.outputs for call in made.calls if call.about.startswith("only ")] in ([("y",)], [("z",)])
    assert {"an unknown input", "an unknown output", "without BOOL"} <= {call.about for call in made.calls}


def test_optional_inputs_are_left_out() -> None:
    """All at once, and one at a time."""
    model = config(
        'input { name: "x" data_type: TYPE_INT32 dims: 1 }'
        ' input { name: "a" data_type: TYPE_INT32 dims: 1 optional: true }'
    )
    calls = make("m", model, seed=0, rounds=2, protocol="http").calls
    assert ("x",) in {tuple(tensor.name for tensor in call.inputs) for call in calls}


def test_sequences_run_side_by_side() -> None:
    """Two sequences, begun and ended, each request of them marked."""
    model = config('sequence_batching { } input { name: "x" data_type: TYPE_INT32 dims: 1 }')
    calls = [call for call in make("m", model, seed=0, rounds=1, protocol="http").calls if call.sequence]
    assert [call.sequence for call in calls] == [1, 2, 1, 2, 1, 2]
    assert [call.starts for call in calls] == [True, True, False, False, False, False]
    assert [call.ends for call in calls] == [False, False, False, False, True, True]


def test_decoupled_models_are_asked_for_streams() -> None:
    """Over HTTP only where generate_stream carries the inputs, which is said."""
    text = 'model_transaction_policy { decoupled: true } input { name: "x" data_type: TYPE_INT32 dims: %s }'
    made = make("m", config(text % "[ 2, 2 ]"), seed=0, rounds=2, protocol="http")
    assert made.calls == ()
    assert "grpc://" in made.remarks[0]
    assert all(call.streamed for call in make("m", config(text % "[ 1 ]"), seed=0, rounds=2, protocol="grpc").calls)


def test_language_models_are_asked_for_greedy_text() -> None:
    """By the inputs they have, of vllm_backend or of TensorRT-LLM's ensemble."""
    vllm = config(
        'model_transaction_policy { decoupled: true } input { name: "text_input" data_type: TYPE_STRING dims: 1 }'
        ' input { name: "stream" data_type: TYPE_BOOL dims: 1 optional: true }'
        ' input { name: "sampling_parameters" data_type: TYPE_STRING dims: 1 optional: true }'
    )
    calls = make("m", vllm, seed=0, rounds=2, protocol="grpc").calls
    streams = [{t.name: t for t in call.inputs}["stream"].data for call in calls if isinstance(call, Inference)]
    assert streams == [b"\0", b"\1"] * 3
    given = json.loads({t.name: t for t in calls[0].inputs}["sampling_parameters"].texts()[0])
    assert given["temperature"] == 0


def test_latency_is_summed_up() -> None:
    """Medians, their ratio, and the nearest rank of p99."""
    found = latency([0.1] * 99 + [9.0], [0.2] * 100)
    assert (found.requests, found.old_median_s, found.ratio, found.old_p99_s) == (100, 0.1, 2.0, 9.0)


def verification() -> Verification:
    """Return one of each standing."""
    call = Inference("m", "one | two", ())
    right = Exchange(call, (), (), "")
    wrong = Exchange(call, ("y: 1 became 2 password=hunter22",), (), "")
    drawn = Exchange(call, (), ("y",), "", compared=False)
    return Verification(
        "http://a:1",
        "http://b:1",
        (
            ModelVerdict("same", exchanges=(right,), latency=latency([0.1], [0.2])),
            ModelVerdict("differs", exchanges=(wrong, right)),
            ModelVerdict("sampled", exchanges=(drawn,)),
        ),
    )


def test_standings_are_told_apart() -> None:
    """What varies by itself proves nothing, and is no difference."""
    found = verification()
    assert [model.standing for model in found.models] == [Standing.SAME, Standing.DIFFERS, Standing.UNPROVEN]
    assert not found.same
    assert [model.name for model in found.slower_than(1.5)] == ["same"]
    assert found.slower_than(2.5) == ()


def test_reports_say_the_same_in_every_form() -> None:
    """Text, Markdown, JSON and CSV; secrets in messages are covered in all."""
    found = verification()
    text = written(found, "text")
    assert "sampled: unproven" in text
    assert "differs  one | two: y: 1 became 2" in text
    document = json.loads(written(found, "json"))
    assert [model["is"] for model in document["models"]] == ["same", "differs", "unproven"]
    assert document["models"][0]["ratio"] == 2.0
    rows = list(csv.DictReader(io.StringIO(written(found, "csv"))))
    assert [line["differ"] for line in rows] == ["0", "1", "0"]
    assert "| differs | differs |" in written(found, "markdown")
    assert all("hunter22" not in written(found, form) for form in ("text", "json", "markdown", "csv"))
    assert np.isfinite(document["models"][0]["old_p99_ms"])
