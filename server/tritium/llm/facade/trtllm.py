"""What the models of TensorRT-LLM have in common: rows of inputs, what is refused, and how to sample.

Source: NVIDIA/TensorRT-LLM, triton_backend/all_models/inflight_batcher_llm and cpp/tensorrt_llm/batch_manager.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InvalidArgument, Unsupported
from tritium.core.request import InferRequest
from tritium.llm.errors import FieldRefused
from tritium.llm.facade.inputs import text_from
from tritium.llm.facade.outputs import TensorRow
from tritium.llm.facade.outputs import completed as outputs_completed
from tritium.llm.facade.surface import Target
from tritium.llm.facade.trtllm_tensors import MAX_BATCH_SIZE
from tritium.llm.sampling import MAX_COMPLETIONS, Sampling, split

_GUIDES: Final[Mapping[str, str]] = {
    "json": "json_object",
    "json_schema": "json",
    "regex": "regex",
    "ebnf_grammar": "grammar",
    "structural_tag": "structural_tag",
}
"""vLLM's StructuredOutputsParams field by TensorRT-LLM's guide type."""

_NO_LOGITS: Final = ("logits are not served: engines return scores", "return_log_probs has those of tokens")
_NO_DRAFT: Final = ("a draft model is the engine's to run", "leave it out; configure speculation in the engine")
_NO_WEIGHTS: Final = (
    "weights of adapters are not taken from requests",
    "load the adapter, name it by lora_task_id",
)
_NO_ENCODER: Final = ("encoder-decoder models are not served", "leave it out")
_NO_PIXELS: Final = ("images are taken as files, not as pixels", "use the input 'image_url_input', or the OpenAI API")

_REFUSED: Final[Mapping[str, tuple[str, str]]] = {
    "return_context_logits": _NO_LOGITS,
    "return_generation_logits": _NO_LOGITS,
    "num_draft_tokens": _NO_DRAFT,
    "use_draft_logits": _NO_DRAFT,
    "draft_input_ids": _NO_DRAFT,
    "draft_logits": _NO_DRAFT,
    "prompt_embedding_table": ("prompts are tokens: no engine takes embeddings in their place", "leave it out"),
    "lora_weights": _NO_WEIGHTS,
    "lora_config": _NO_WEIGHTS,
    "decoder_text_input": _NO_ENCODER,
    "decoder_input_ids": _NO_ENCODER,
    "encoder_input_features": _NO_ENCODER,
    "image_input": _NO_PIXELS,
    "image_bytes_input": _NO_PIXELS,
    "video_bytes_input": ("videos are not served", "leave it out"),
}
"""Inputs that are declared, as the old models declare them, and refused where they ask for anything."""


class Rows:
    """The inputs of a request by prompt: row N of each belongs to prompt N."""

    def __init__(self, request: InferRequest, *, batches: bool) -> None:
        self._tensors = {tensor.name: tensor for tensor in request.inputs}
        self._arrays: dict[str, np.ndarray[Any, Any]] = {}
        self.count = request.inputs[0].shape[0] if batches and request.inputs else 1
        if not self.count:
            raise InvalidArgument("the request has no prompts: its batch dimension is 0")

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def row(self, name: str, row: int) -> np.ndarray[Any, Any] | None:
        """Return the part of an input that belongs to one prompt, flat; None where the request has no such input."""
        array = self._arrays.get(name)
        if array is None:
            if name not in self._tensors:
                return None
            array = self._arrays[name] = self._tensors[name].array().reshape(self.count, -1)
        part: np.ndarray[Any, Any] = array[row]
        return part

    def scalar(self, name: str, row: int) -> Any:
        """Return one value, or None where the request has no such input.

        Raises:
            InvalidArgument: there are several, or none.
        """
        part = self.row(name, row)
        if part is None:
            return None
        if part.size != 1:
            raise InvalidArgument(f"Expected a scalar tensor for tensor {name}")
        return part.item()

    def text(self, name: str, row: int) -> str | None:
        """Return one string, or None where the request has no such input."""
        value = self.scalar(name, row)
        return None if value is None else text_from(value, name)

    def words(self, name: str, row: int) -> list[str]:
        """Return the strings of an input that say anything: clients send an empty one for none."""
        part = self.row(name, row)
        return [text_from(raw, name) for raw in part if raw] if part is not None else []


def completed(
    config: ModelConfig, inputs: Sequence[TensorRow], outputs: Sequence[TensorRow], required: frozenset[str]
) -> ModelConfig:
    """Add the tensors that a configuration leaves out; one without any inputs is decoupled and takes batches."""
    bare = not config.proto.input
    return outputs_completed(
        config,
        inputs,
        outputs,
        required=required,
        max_batch_size=MAX_BATCH_SIZE if bare else None,
        decoupled=True if bare else None,
    )


def refuse_unserved(rows: Rows) -> None:
    """Refuse what no engine does.

    Raises:
        Unsupported: an input asks for it.
    """
    for name, (why, hint) in _REFUSED.items():
        if name in rows and any(_asks(name, rows.row(name, row)) for row in range(rows.count)):
            raise Unsupported(f"input '{name}': {why}", hint=hint)


def _asks(name: str, part: np.ndarray[Any, Any] | None) -> bool:
    """Tell whether an input is more than absent, empty, or a switch that is off."""
    if part is None or part.size == 0:
        return False
    # TensorRT-LLM's preprocessing sends one token of padding for a decoder's prompt where there is none.
    return part.size > 1 or (name != "decoder_input_ids" and bool(part.item()))


def sampling_of(rows: Rows, row: int, max_tokens: int, names: Mapping[str, str], fields: dict[str, Any]) -> Sampling:
    """Return how to sample one prompt; `fields` are what the caller has read already.

    `names` maps what the text models call an input to what the request calls it.

    Raises:
        InferenceError: a value is out of range.
    """

    def given(name: str) -> Any:
        return rows.scalar(names.get(name, name), row)

    beams = given("beam_width")
    if beams is not None and beams != 1:
        raise Unsupported(
            f"beam_width must be 1, got {beams}: no engine here searches with beams",
            hint="num_return_sequences gives several answers",
        )
    fields = {"max_tokens": max_tokens, **fields, **ways(given("top_k"), given("top_p"), given("temperature"))}
    for field in ("repetition_penalty", "presence_penalty", "frequency_penalty"):
        fields[field] = _number(given(field))
    least = given("min_tokens")
    fields["min_tokens"] = given("min_length") if least is None else least
    seed = given("seed")
    seed = given("random_seed") if seed is None else seed
    fields["seed"] = None if seed is None else seed % 2**63
    fields |= _end(given("end_id"))
    fields |= _guide(rows, row)
    if given("return_log_probs"):
        fields["logprobs"] = 0
    # Stop words are part of the answer in TensorRT-LLM.
    sampling = replace(split(fields, names), include_stop=True)
    count = given("num_return_sequences")
    if count is not None and not 1 <= count <= MAX_COMPLETIONS:
        raise FieldRefused(
            "num_return_sequences", f"num_return_sequences must be from 1 to {MAX_COMPLETIONS}, got {count}"
        )
    return replace(sampling, n=count or 1)


def ways(top_k: int | None, top_p: float | None, temperature: float | None) -> dict[str, Any]:
    """Return what TensorRT-LLM does by top_k and top_p; where it is given neither it takes the likeliest token."""
    top_p = _number(top_p)
    if top_p is not None and top_p <= 0:
        top_p = None
    if temperature == 0 or top_k == 1 or (not top_k and top_p is None):
        return {"temperature": 0.0}
    ways: dict[str, Any] = {"temperature": 1.0 if temperature is None else _number(temperature)}
    if top_k:
        ways["top_k"] = top_k
    if top_p is not None:
        ways["top_p"] = top_p
    return ways


def _number(value: float | None) -> float | None:
    """Return an FP32 value as the decimal that was meant by it: 0.95, not 0.949999988079071."""
    return None if value is None else float(str(np.float32(value)))


def _end(end_id: int | None) -> dict[str, Any]:
    """Return what a request's own end token means: it is the only one; -1 is none at all."""
    if end_id is None:
        return {}
    return {"ignore_eos": True, **({"stop_token_ids": [end_id]} if end_id >= 0 else {})}


def _guide(rows: Rows, row: int) -> dict[str, Any]:
    kind = rows.text("guided_decoding_guide_type", row)
    if not kind:
        return {}
    if kind not in _GUIDES:
        raise FieldRefused(
            "guided_decoding_guide_type", f"guided_decoding_guide_type is one of {', '.join(_GUIDES)}, not '{kind}'"
        )
    guide = rows.text("guided_decoding_guide", row)
    if kind != "json" and not guide:
        raise FieldRefused("guided_decoding_guide", f"guided_decoding_guide is missing: the {kind} to follow")
    return {"structured_outputs": {_GUIDES[kind]: True if kind == "json" else guide}}


def lora_of(rows: Rows, row: int, target: Target) -> str:
    """Return the adapter whose name is the request's lora_task_id.

    Raises:
        InvalidArgument: there is no such adapter.
    """
    task = rows.scalar("lora_task_id", row)
    if not task:
        return ""
    if str(task) not in target.loras:
        known = ", ".join(target.loras) or "none"
        raise InvalidArgument(
            f"lora_task_id {task} is no adapter of model '{target.name}', which has {known}",
            hint="adapters are found by their names: call it by its number in multi_lora.json",
        )
    return str(task)


def excluded(rows: Rows, row: int, config: ModelConfig) -> bool:
    """Tell whether the prompt is left out of the answer: as the request says, else as the configuration does."""
    asked = rows.scalar("exclude_input_in_output", row)
    if asked is None:
        return config.parameter("exclude_input_in_output").lower() in ("1", "true")
    return bool(asked)
