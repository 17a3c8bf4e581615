"""POST /v1/load_lora_adapter and /v1/unload_lora_adapter, in the shapes of vLLM's server: adapters come and go.

A loaded adapter is a model of its own to clients: its name stands in /v1/models, and requests name it as `model`.
"""

import msgspec

from tritium.core.errors import InvalidArgument, NotFound
from tritium.llm.errors import FieldRefused
from tritium.llm.models import LanguageModels, Served
from tritium.openai.options import OpenAIOptions
from tritium.openai.schema import Reader
from tritium.openai.visit import Visit
from tritium.wire.http import Response


class LoadAdapter(msgspec.Struct, forbid_unknown_fields=True):
    """An adapter to load: a folder that the workers can read.

    `model` says of which model, where several take adapters; `load_inplace` replaces the one of that name.
    """

    lora_name: str
    lora_path: str
    model: str = ""
    load_inplace: bool = False


class UnloadAdapter(msgspec.Struct, forbid_unknown_fields=True):
    """An adapter to forget. The number that vLLM's clients may send says nothing that the name does not."""

    lora_name: str
    model: str = ""
    lora_int_id: int | None = None


_LOAD = Reader(LoadAdapter)
_UNLOAD = Reader(UnloadAdapter)


async def load_adapter(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """POST /v1/load_lora_adapter."""
    call = visit.read(_LOAD)
    for field in ("lora_name", "lora_path"):
        if not getattr(call, field):
            raise FieldRefused(field, f"'{field}' is empty: both 'lora_name' and 'lora_path' must be given")
    known = _served(models, call.lora_name)
    if known is not None and not known.lora:
        raise FieldRefused("lora_name", f"'{call.lora_name}' is the name of a model")
    if known is not None and not call.load_inplace:
        raise FieldRefused(
            "lora_name",
            f"the adapter '{call.lora_name}' is loaded already; to load it anew, set 'load_inplace' to true",
        )
    served = known or _adaptable(models, call.model)
    await served.model.load_lora(call.lora_name, call.lora_path)
    return _said(visit, f"Success: LoRA adapter '{call.lora_name}' added successfully.")


async def unload_adapter(visit: Visit, models: LanguageModels, _options: OpenAIOptions) -> Response:
    """POST /v1/unload_lora_adapter."""
    call = visit.read(_UNLOAD)
    served = _served(models, call.lora_name)
    if served is None or not served.lora:
        raise NotFound(f"there is no adapter '{call.lora_name}'", hint="GET /v1/models lists them")
    await served.model.unload_lora(call.lora_name)
    return _said(visit, f"Success: LoRA adapter '{call.lora_name}' removed successfully.")


def _served(models: LanguageModels, name: str) -> Served | None:
    return next((served for served in models.all() if served.name == name), None)


def _adaptable(models: LanguageModels, name: str) -> Served:
    """Return the model that is named, or the only one that takes adapters."""
    if name:
        return models.find(name)
    able = [served for served in models.all() if not served.lora and served.model.fleet.info.lora]
    if len(able) == 1:
        return able[0]
    if able:
        raise FieldRefused("model", f"say of which model: {', '.join(served.name for served in able)} take adapters")
    raise InvalidArgument(
        "no model here takes adapters at run time", hint='serve one on vllm with "enable_lora": true in model.json'
    )


def _said(visit: Visit, words: str) -> Response:
    return Response(200, [(b"content-type", b"text/plain; charset=utf-8"), *visit.headers], [words.encode()])
