"""Requests leave nothing for the garbage collector: memory is free the moment the last reference is gone."""

import gc
from types import ModuleType

import pytest

from tritium.core.ensemble import EnsembleModel
from tritium.core.errors import InvalidArgument
from tritium.core.model import Model
from tritium.core.request import InferRequest, InferResponse
from tritium.core.tensor_model import TensorModel

ENSEMBLE = """
    input [ { name: "INPUT0" data_type: TYPE_FP32 dims: 4 }, { name: "INPUT1" data_type: TYPE_FP32 dims: 4 } ]
    output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: 4 } ]
    ensemble_scheduling { step { model_name: "m" model_version: -1
        input_map { key: "INPUT0" value: "INPUT0" } input_map { key: "INPUT1" value: "INPUT1" }
        output_map { key: "OUTPUT0" value: "OUTPUT0" } } }
"""


@pytest.mark.parametrize("kind", ["default", "dynamic", "ensemble"])
@pytest.mark.parametrize("given", [2, 1])
async def test_no_cycles(fakes: ModuleType, kind: str, given: int) -> None:
    """Neither an answered request nor a refused one is part of a circle of references."""
    batching = "max_batch_size: 4 dynamic_batching {}" if kind == "dynamic" else ""
    model: Model = TensorModel(fakes.config(batching + fakes.ADD_SUB), "1", [fakes.FakeInstance()])
    if kind == "ensemble":
        member = model
        model = EnsembleModel(fakes.config(ENSEMBLE, "ens"), "1", lambda name, version: member)
    shape = [1, 4] if kind == "dynamic" else [4]

    async def ask() -> None:
        inputs = [fakes.tensor("INPUT0", shape), fakes.tensor("INPUT1", shape)]
        reply = fakes.Collector()
        model.submit(InferRequest("m", inputs=inputs[:given]), reply)
        assert isinstance(await reply.one(), InferResponse if given == 2 else InvalidArgument)

    await ask()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await ask()
        assert gc.collect() == 0
    finally:
        gc.enable()
    await model.close()
