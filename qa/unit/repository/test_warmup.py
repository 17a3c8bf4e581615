"""Warm-up samples: what a configuration writes is what every instance runs before the model is ready."""

import asyncio
import struct
from functools import partial

import numpy as np
import pytest

from tritium.backends.contract import ModelSource
from tritium.compat.config.model import from_proto
from tritium.compat.config.parse import parse_text
from tritium.compat.config.warmup import check_warmup
from tritium.core.errors import InvalidArgument, ModelFailed
from tritium.core.instance import ExecutionTimes
from tritium.core.request import InferResponse
from tritium.repository.warmup import read_samples, warm_up

IO = "input { name: 'x' data_type: TYPE_FP32 dims: [ 2 ] } output { name: 'y' data_type: TYPE_FP32 dims: [ 2 ] }\n"


def source(folder, text):
    parsed = parse_text(f"name: 'm' backend: 'fake' {IO} {text}", "f")
    assert not parsed.problems
    return ModelSource(from_proto(parsed.message), folder, "1")


def warmup(inputs, head="batch_size: 1"):
    return f"model_warmup {{ name: 'sample' {head} {inputs} }}"


def value(key, data_type, dims, kind):
    return f"inputs {{ key: '{key}' value {{ data_type: {data_type} dims: {dims} {kind} }} }}"


ZERO = value("x", "TYPE_FP32", "[ 2 ]", "zero_data: true")


def _shown(tensor):
    return tensor.name, tensor.datatype, tensor.shape, bytes(tensor.data)


class FakeInstance:
    """Answers each request after `execute` has returned, as a decoupled model may; `error` answers instead."""

    depth, healthy, name = 1, True, "m_0"

    def __init__(self, error=None):
        self.batches, self.error = [], error

    async def execute(self, jobs):
        self.batches.append([[_shown(tensor) for tensor in job.request.inputs] for job in jobs])
        answer = self.error or InferResponse("m", "1")
        for job in jobs:
            asyncio.get_running_loop().call_soon(partial(job.reply.send, answer, final=True))
        return ExecutionTimes(0, 0, 0)


async def test_every_instance_runs_every_sample_as_often_as_it_says(tmp_path):
    """`count` repeats a sample, `batch_size` is how many requests run together, each a batch of one."""
    model = source(tmp_path, "max_batch_size: 4 " + warmup(ZERO, "batch_size: 3 count: 2"))
    instances = [FakeInstance(), FakeInstance()]
    await warm_up(model, instances)
    request = [("x", "FP32", (1, 2), bytes(8))]
    assert [one.batches for one in instances] == [[[request] * 3] * 2] * 2


async def test_a_sample_without_requests_is_left_out(tmp_path):
    """Batch size 0 is how a sample is written down but not run."""
    instance = FakeInstance()
    await warm_up(source(tmp_path, warmup(ZERO, "batch_size: 0")), [instance])
    assert instance.batches == []


async def test_control_tensors_go_to_the_model_as_they_are_written(tmp_path):
    """A sequence model's sample names the controls itself: the sequence batcher is not asked."""
    controls = value("START", "TYPE_INT32", "1", "zero_data: true")
    text = "max_batch_size: 4 sequence_batching { } " + warmup(f"{ZERO} {controls}")
    instance = FakeInstance()
    await warm_up(source(tmp_path, text), [instance])
    assert ("START", "INT32", (1, 1), bytes(4)) in instance.batches[0][0]


async def test_a_failing_sample_fails_the_load_in_tritons_words(tmp_path):
    """A model that cannot answer its own sample is not ready."""
    with pytest.raises(InvalidArgument, match=r"failed to run warmup sample 'sample': boom; $"):
        await warm_up(source(tmp_path, warmup(ZERO)), [FakeInstance(), FakeInstance(ModelFailed("boom"))])


@pytest.mark.parametrize(
    ("data_type", "low", "high", "dtype"),
    [("TYPE_FP32", 0, 1, "<f4"), ("TYPE_FP16", 0, 1, "<f2"), ("TYPE_BOOL", 0, 1, "u1"), ("TYPE_INT8", -128, 127, "i1")],
)
def test_random_data_are_values_of_the_type(tmp_path, data_type, low, high, dtype):
    """The bits of a random float may be no number at all, and those of a bool neither true nor false."""
    text = warmup(value("x", data_type, "[ 1000 ]", "random_data: true"))
    (sample,) = read_samples(source(tmp_path, text))
    values = np.frombuffer(sample.inputs[0].data, dtype)
    assert len(values) == 1000
    assert len(set(values.tolist())) > 1
    assert low <= values.min() <= values.max() <= high


def test_strings_without_data_are_empty(tmp_path):
    """Zero and random strings alike are of length zero: random lengths would be nonsense."""
    for kind in ("zero_data: true", "random_data: true"):
        (sample,) = read_samples(source(tmp_path, warmup(value("x", "TYPE_STRING", "[ 3 ]", kind))))
        assert sample.inputs[0].array().tolist() == [b"", b"", b""]


def test_data_from_a_file(tmp_path):
    """Files lie in the model's warmup folder; strings are in the v2 form, whatever their length."""
    (tmp_path / "warmup").mkdir()
    (tmp_path / "warmup" / "two").write_bytes(struct.pack("<3f", 1, 2, 3))
    (tmp_path / "warmup" / "text").write_bytes(b"\x03\x00\x00\x00233")
    numbers = value("x", "TYPE_FP32", "[ 2 ]", "input_data_file: 'two'")
    text = value("s", "TYPE_STRING", "[ 1 ]", "input_data_file: 'text'")
    (sample,) = read_samples(source(tmp_path, warmup(f"{numbers} {text}")))
    values = {tensor.name: tensor.array().tolist() for tensor in sample.inputs}
    assert values == {"x": [1.0, 2.0], "s": [b"233"]}


def test_a_file_that_is_missing_or_short(tmp_path):
    """Both stop the load, in Triton's words."""
    model = source(tmp_path, warmup(value("x", "TYPE_FP32", "[ 2 ]", "input_data_file: 'two'")))
    with pytest.raises(InvalidArgument, match=r"failed to open text file for read .*/warmup/two: No such file"):
        read_samples(model)
    (tmp_path / "warmup").mkdir()
    (tmp_path / "warmup" / "two").write_bytes(b"1234")
    with pytest.raises(InvalidArgument, match=r"warmup setting expects 8 bytes, but .*from twoonly has 4"):
        read_samples(model)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            value("x", "TYPE_FP32", "[ -1 ]", "zero_data: true"),
            "all variable-size dimensions are specified",
        ),
        (value("x", "TYPE_FP32", "[ 2 ]", ""), "expects input 'x' to have input_data_type set"),
        (value("x", "TYPE_INVALID", "[ 2 ]", "zero_data: true"), "expects input 'x' to have data_type set"),
        (value("x", "TYPE_FP32", "[ 2 ]", "input_data_file: '../../key'"), "must lie in the model's warmup folder"),
    ],
)
def test_samples_that_cannot_be_made(inputs, message):
    """They are found before anything is loaded, where the file has them."""
    parsed = parse_text(f"name: 'm' backend: 'fake' {IO}\n{warmup(inputs)}", "config.pbtxt")
    (finding,) = check_warmup(parsed.message)
    assert message in finding.message
    assert parsed.places.problem(finding).line == 3
