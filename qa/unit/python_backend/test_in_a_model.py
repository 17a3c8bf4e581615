"""Python instances behind the scheduler: the sample models, batching, statistics and readiness."""

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.python.backend import PythonBackend
from tritium.compat.config.model import from_proto
from tritium.compat.config.parse import parse_file
from tritium.core.errors import ModelFailed, WorkerLost
from tritium.core.replies import SingleReply
from tritium.core.request import InferRequest
from tritium.core.tensor import from_array
from tritium.core.tensor_model import TensorModel

SAMPLES = Path(__file__).parents[3] / "model_repository"


@pytest.fixture
async def load(nothing_left):
    """Load a model folder with a number of instances behind its scheduler."""
    models = []

    async def load_one(folder: Path, instances: int = 1) -> TensorModel:
        config = from_proto(parse_file(folder / "config.pbtxt").message)
        source = ModelSource(config, folder, "1")
        model = None
        host = BackendHost(changed=lambda: model and model.health_changed())
        opened = [
            await PythonBackend().open(source, InstancePlace(f"{config.name}_0_{index}"), host)
            for index in range(instances)
        ]
        model = TensorModel(config, "1", opened)
        models.append(model)
        return model

    yield load_one
    for model in models:
        await asyncio.wait_for(model.close(), 60)


def ask(model: TensorModel, *inputs) -> "asyncio.Future":
    reply = SingleReply(asyncio.get_running_loop())
    model.submit(InferRequest(model.name, inputs=list(inputs)), reply)
    return reply.future


def floats(name: str, *values) -> object:
    return from_array(name, np.array(values, np.float32), "FP32")


async def test_add_sub(load, tools):
    """The sample model answers many requests at once, and each is counted once."""
    model = await load(SAMPLES / "add_sub_python")
    size = model.config.inputs["INPUT0"].dims[-1]
    ones = floats("INPUT1", *[1] * size)
    futures = [ask(model, floats("INPUT0", *[i] * size), ones) for i in range(100)]
    responses = await asyncio.gather(*futures)
    sums = [response.outputs[0].array()[0] for response in responses]
    differences = [response.outputs[1].array()[-1] for response in responses]
    assert sums == [i + 1 for i in range(100)]
    assert differences == [i - 1 for i in range(100)]
    statistics = model.statistics
    await tools.until(lambda: statistics.execution_count == 100)
    assert (statistics.success.count, statistics.inference_count) == (100, 100)
    assert statistics.compute_infer.ns > 0


async def test_texts_are_batched(load, tools):
    """The tokenizer batches dynamically: requests that wait together share an execution."""
    model = await load(SAMPLES / "text_tokenizer")
    texts = [from_array("TEXT", np.array([[f"text number {i}"]], dtype=object), "BYTES") for i in range(40)]
    rows = [(await future).outputs[0].array() for future in [ask(model, text) for text in texts]]
    assert {row.shape for row in rows} == {(1, 32)}
    assert [np.count_nonzero(row) for row in rows] == [2] * 40, "digits are no words"
    await tools.until(lambda: model.statistics.inference_count == 40)
    assert model.statistics.execution_count < 40


async def test_a_crash_among_instances(load, write_model, tools):
    """With one of two instances down the model serves on; with both down it is not ready, and comes back."""
    source = write_model(
        """
        import os
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                value = requests[0].inputs()[0].as_numpy()
                if value[0] < 0:
                    os.abort()
                return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", value)]) for _ in requests]
        """
    )
    (source.folder / "config.pbtxt").write_text(
        'name: "m" backend: "python"\n'
        'input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]\n'
        'output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]\n'
        "instance_group [ { kind: KIND_CPU count: 2 } ]\n"
    )
    model = await load(source.folder, instances=2)
    with pytest.raises(WorkerLost):
        await ask(model, floats("INPUT0", -1))
    assert model.ready
    assert (await ask(model, floats("INPUT0", 5))).outputs[0].array() == [5]
    for instance in model._instances:
        if instance.pid:
            os.kill(instance.pid, signal.SIGKILL)
    await tools.until(lambda: not model.ready)
    await tools.until(lambda: model.ready)
    assert (await ask(model, floats("INPUT0", 6))).outputs[0].array() == [6]
    assert model.statistics.failures == {"BACKEND": 1}


async def test_errors_are_counted(load, write_model, tools):
    """A request that the model failed is a failure of its backend."""
    source = write_model("class TritonPythonModel:\n    def execute(self, requests): raise ValueError('no')\n")
    (source.folder / "config.pbtxt").write_text(
        'name: "m" backend: "python"\ninput [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]\n'
    )
    model = await load(source.folder)
    with pytest.raises(ModelFailed, match="ValueError: no"):
        await ask(model, floats("INPUT0", 1))
    await tools.until(lambda: model.statistics.execution_count == 1)
    assert (model.statistics.failures, model.statistics.success.count) == ({"BACKEND": 1}, 0)
