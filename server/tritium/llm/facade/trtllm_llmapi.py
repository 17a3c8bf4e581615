"""The tensors of TensorRT-LLM's model over its LLM API: a text in, the text of each answer out, no prompt before it.

Source: NVIDIA/TensorRT-LLM, triton_backend/all_models/llmapi/tensorrt_llm, config.pbtxt, 1/model.py and 1/helpers.py.
"""

from dataclasses import dataclass
from typing import Any, Final

from tritium.backends.engine import EngineInfo
from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InvalidArgument, Unsupported
from tritium.core.request import InferRequest
from tritium.core.tensor import Tensor
from tritium.llm.facade import outputs
from tritium.llm.facade.inputs import strings_of, text_of, truth_of
from tritium.llm.facade.run import Completion, Run
from tritium.llm.facade.surface import Ask, Call, Generate, Stop, Target
from tritium.llm.facade.trtllm import ways
from tritium.llm.facade.trtllm_extras import performance
from tritium.llm.sampling import Sampling, split

_PREFIX: Final = "sampling_param_"
_INPUTS: Final[tuple[outputs.TensorRow, ...]] = (
    ("text_input", "BYTES", [-1]),
    ("streaming", "BOOL", [1]),
    (f"{_PREFIX}best_of", "INT32", [1]),
    (f"{_PREFIX}beam_width", "INT32", [1]),
    (f"{_PREFIX}temperature", "FP32", [1]),
    (f"{_PREFIX}top_k", "INT32", [1]),
    (f"{_PREFIX}top_p", "FP32", [1]),
    (f"{_PREFIX}frequency_penalty", "FP32", [1]),
    (f"{_PREFIX}presence_penalty", "FP32", [1]),
    (f"{_PREFIX}max_tokens", "INT32", [1]),
    (f"{_PREFIX}stop", "BYTES", [-1]),
    (f"{_PREFIX}seed", "UINT64", [1]),
    (f"{_PREFIX}exclude_input_from_output", "BOOL", [1]),
    (f"{_PREFIX}return_perf_metrics", "BOOL", [1]),
    ("return_finish_reason", "BOOL", [1]),
    ("return_stop_reason", "BOOL", [1]),
    ("return_cumulative_logprob", "BOOL", [1]),
    ("stop", "BOOL", [1]),
)
_OUTPUTS: Final[tuple[outputs.TensorRow, ...]] = (
    ("text_output", "BYTES", [-1]),
    ("finish_reason", "BYTES", [-1]),
    ("stop_reason", "BYTES", [-1]),
    ("cumulative_logprob", "FP32", [-1]),
    *((name, "INT32", [-1]) for name in ("kv_cache_alloc_new_blocks", "kv_cache_alloc_total_blocks")),
    ("kv_cache_reused_blocks", "INT32", [-1]),
    *((name, "INT64", [1]) for name in ("arrival_time_ns", "first_scheduled_time_ns")),
    *((name, "INT64", [1]) for name in ("first_token_time_ns", "last_token_time_ns")),
    ("acceptance_rate", "FP32", [1]),
    *((name, "INT32", [1]) for name in ("total_accepted_draft_tokens", "total_draft_tokens")),
)
_MAX_TOKENS: Final = 32
"""The LLM API's own default of max_tokens."""


class TrtllmLlmapiSurface:
    """Prompts and answers as the model over the LLM API has them."""

    def complete(self, config: ModelConfig) -> ModelConfig:
        """Add what a configuration leaves out; one without any inputs is decoupled."""
        bare = not config.proto.input
        return outputs.completed(
            config,
            _INPUTS,
            _OUTPUTS,
            required=frozenset({"text_input"}),
            decoupled=True if bare else None,
        )

    def read(self, request: InferRequest, config: ModelConfig, target: Target) -> Call:  # noqa: ARG002  a Surface's
        """Read a request of one prompt, or one that stops others.

        Raises:
            InferenceError: a value makes no sense, or asks for what is not served.
        """
        if truth_of(request, "stop"):
            return Stop()
        prompt = text_of(request, "text_input")
        if prompt is None:
            raise InvalidArgument("text_input is missing from the request")
        tensor = request.input("text_input")
        if tensor is not None and len(strings_of(tensor)) > 1:
            raise InvalidArgument("The current implementation only supports text_input being a 1D tensor.")
        stream = truth_of(request, "streaming") or False
        answers = _Answers(
            target.fleet.info,
            stream,
            finish_reason=truth_of(request, "return_finish_reason") or False,
            stop_reason=truth_of(request, "return_stop_reason") or False,
            cumulative_logprob=truth_of(request, "return_cumulative_logprob") or False,
            performance=truth_of(request, f"{_PREFIX}return_perf_metrics") or False,
        )
        ask = Ask(prompt, _sampling(request, scored=answers.cumulative_logprob))
        return Generate([ask], answers, streams=stream, stoppable=True)


def _sampling(request: InferRequest, *, scored: bool) -> Sampling:
    def given(name: str) -> Any:
        tensor = request.input(_PREFIX + name)
        if tensor is None:
            return None
        values = tensor.array().ravel()
        if values.size != 1:
            raise InvalidArgument(f"Expected a scalar tensor for tensor {_PREFIX}{name}")
        return values[0].item()

    for name in ("beam_width", "best_of"):
        if given(name) not in (None, 1):
            raise Unsupported(f"{_PREFIX}{name} must be 1: no engine here searches with beams")
    stops = request.input(f"{_PREFIX}stop")
    most = given("max_tokens")
    fields: dict[str, Any] = {
        "max_tokens": _MAX_TOKENS if most is None else most,
        "stop": [word for word in strings_of(stops) if word] if stops is not None else [],
        "frequency_penalty": given("frequency_penalty"),
        "presence_penalty": given("presence_penalty"),
        "seed": given("seed"),
        "logprobs": 0 if scored else None,
        **ways(given("top_k"), given("top_p"), given("temperature")),
    }
    return split(fields, {field: _PREFIX + field for field in fields})


@dataclass(frozen=True, slots=True)
class _Answers:
    """Responses in the outputs of the LLM API's model. A stream's have the whole of the text so far, as there."""

    info: EngineInfo
    stream: bool
    finish_reason: bool
    stop_reason: bool
    cumulative_logprob: bool
    performance: bool

    def respond(self, moved: Completion, run: Run) -> list[Tensor] | None:
        """Return the text so far: at each step of a stream, else once it is over."""
        if not self.stream and not moved.over:
            return None
        made = [outputs.texts("text_output", [moved.gain.text])]
        follower = moved.follower
        if self.finish_reason:
            made.append(outputs.texts("finish_reason", [str(follower.finish)]))
        if self.stop_reason:
            made.append(outputs.texts("stop_reason", [str(follower.stop_reason)]))
        if self.cumulative_logprob:
            made.append(outputs.floats("cumulative_logprob", [moved.cumulative_logprob]))
        if self.performance:
            made += performance(moved, run, self.info.block_tokens)
        return made
