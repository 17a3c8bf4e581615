"""POST /v1/embeddings, /pooling and /classify: one array a prompt, written as the route has it."""

import base64

import numpy as np

from tritium.llm.errors import FieldRefused
from tritium.llm.models import LanguageModels
from tritium.openai.options import OpenAIOptions
from tritium.openai.pooling.batch import Array, Batch, prompts_of, require, served_for
from tritium.openai.pooling.schema import (
    Classification,
    Classifications,
    ClassifyRequest,
    Embedding,
    EmbeddingRequest,
    Embeddings,
    Encoding,
    PooledData,
    PooledList,
    PoolRequestBody,
)
from tritium.openai.schema import Reader
from tritium.openai.status import json_response
from tritium.openai.visit import Visit
from tritium.wire.http import Response

_EMBED = Reader(EmbeddingRequest)
_POOL = Reader(PoolRequestBody)
_CLASSIFY = Reader(ClassifyRequest)

_TASKS = ("embed", "classify", "token_embed", "score")


async def embeddings(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """POST /v1/embeddings."""
    call = visit.read(_EMBED)
    served = served_for(visit, call, models)
    task = require(served, "embed")
    _check_dimensions(call)
    special = call.add_special_tokens is not False
    prompts = await prompts_of(call.input, served.model, add_special=special)
    batch = Batch(visit, served, call)
    arrays = await batch.pool(prompts, task, call.dimensions)
    data = [Embedding(i, _vector(array, call.encoding_format)) for i, array in enumerate(arrays)]
    return json_response(visit, Embeddings(f"embd-{batch.id}", batch.created, served.name, data, batch.usage))


async def pooling(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """POST /pooling."""
    call = visit.read(_POOL)
    served = served_for(visit, call, models)
    if call.task is not None and call.task not in _TASKS:
        raise FieldRefused("task", f"task is one of {', '.join(_TASKS)}, not {call.task!r}")
    task = require(served, *((call.task,) if call.task else _TASKS))
    _check_dimensions(call)
    special = call.add_special_tokens is not False
    prompts = await prompts_of(call.input, served.model, add_special=special)
    batch = Batch(visit, served, call)
    arrays = await batch.pool(prompts, task, call.dimensions)
    data = [PooledData(i, _numbers(array, call.encoding_format)) for i, array in enumerate(arrays)]
    return json_response(visit, PooledList(f"pool-{batch.id}", batch.created, served.name, data, batch.usage))


async def classify(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """POST /classify."""
    call = visit.read(_CLASSIFY)
    served = served_for(visit, call, models)
    task = require(served, "classify")
    special = call.add_special_tokens is not False
    prompts = await prompts_of(call.input, served.model, add_special=special)
    batch = Batch(visit, served, call)
    labels = served.model.defaults.labels
    data = []
    for i, array in enumerate(await batch.pool(prompts, task)):
        best = int(array.argmax())
        data.append(Classification(i, labels.get(best), array.tolist(), array.size))
    return json_response(visit, Classifications(f"classify-{batch.id}", batch.created, served.name, data, batch.usage))


def _check_dimensions(call: EmbeddingRequest) -> None:
    if call.dimensions is not None and call.dimensions < 1:
        raise FieldRefused("dimensions", f"dimensions must be at least 1, got {call.dimensions}")


def _vector(array: Array, encoding: Encoding | None) -> list[float] | str:
    return _base64(array) if encoding == "base64" else _floats(array.ravel())


def _numbers(array: Array, encoding: Encoding | None) -> list[float | list[float]] | str:
    if encoding == "base64":
        return _base64(array)
    numbers: list[float | list[float]] = array.tolist()
    return numbers


def _floats(array: Array) -> list[float]:
    numbers: list[float] = array.tolist()
    return numbers


def _base64(array: Array) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype="<f4").tobytes()).decode()
