"""What the sglang engine uses of SGLang 0.5.23, without a model: tokens count upwards.

Names of parameters and fields are those of the real package (qa/fakes/sglang.json holds what was read of its source),
and so are the shapes of what is returned. It keeps SGLang's habits that an engine may stumble over: a request goes on
until it is aborted, also when nobody reads it; an abort takes every request whose id begins so; a prefill ends only
when its KV is fetched; a stream ends by a chunk with finish_reason.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, ClassVar

import msgspec

from .srt.publisher import Publisher
from .srt.server_args import ServerArgs

__version__ = "0.5.23"

VOCABULARY = 1_000
END = 2


class Room:
    """Where the two halves of a request meet: `first` is the token that the prefilling one has sampled, once it has."""

    def __init__(self) -> None:
        self.both = threading.Event()
        self.first: int | None = None


_rooms: dict[int, Room] = {}
_rooms_lock = threading.Lock()


class SamplingParams(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The fields that requests may set."""

    max_new_tokens: int | None = 128
    stop: Any = None
    stop_token_ids: set[int] | None = None
    stop_regex: Any = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 1 << 30
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    n: int = 1
    json_schema: str | None = None
    regex: str | None = None
    ebnf: str | None = None
    structural_tag: str | None = None
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    no_stop_trim: bool = False
    stream_interval: int | None = None
    logit_bias: dict[str, float] | None = None
    sampling_seed: int | None = None
    custom_params: dict[str, Any] | None = None


class LoRAUpdateOutput(msgspec.Struct, kw_only=True):
    """What became of a change of adapters."""

    success: bool
    error_message: str | None = None
    loaded_adapters: dict[str, str] | None = None


class TokenizerManager:
    """The part of the real one that the engine reaches for."""

    def __init__(self, arguments: ServerArgs) -> None:
        self.context_len = arguments.context_length or 4_096
        self.aborted: list[str] = []
        self.running: set[str] = set()

    def abort_request(self, rid: str = "", abort_all: bool = False) -> None:
        """Abort every request whose id begins with `rid`."""
        self.aborted += [each for each in self.running if abort_all or each.startswith(rid)]
        self.running.difference_update(self.aborted)

    async def get_loads(self, include: list[str] | None = None, dp_rank: int | None = None) -> list[Any]:
        """Return one snapshot."""
        return [
            SimpleNamespace(
                num_running_reqs=len(self.running), num_waiting_reqs=0, num_used_tokens=16 * len(self.running)
            )
        ]


class Engine:
    """Counts upwards from a prompt's last token, 32 tokens of cache for every prompt it has seen before."""

    started: ClassVar[list["Engine"]] = []

    def __init__(self, **kwargs: Any) -> None:
        self.server_args = ServerArgs(**kwargs)
        assert threading.current_thread() is not threading.main_thread(), "it would take the process's signals"
        self.tokenizer_manager = TokenizerManager(self.server_args)
        self.loop = asyncio.get_event_loop()
        self.loras = dict(self.server_args.lora_paths or {})
        self.requests: list[dict[str, Any]] = []
        self.closed = False
        self._seen: set[tuple[int, ...]] = set()
        config = json.loads(self.server_args.kv_events_config or "{}")
        self._publisher = Publisher(config["endpoint"], config["replay_endpoint"]) if config else None
        Engine.started.append(self)

    def get_server_info(self) -> dict[str, Any]:
        """Return the arguments, and what the scheduler found."""
        return msgspec.structs.asdict(self.server_args) | {
            "max_total_num_tokens": 65_536,
            "page_size": self.server_args.page_size or 1,
            "max_running_requests": self.server_args.max_running_requests or 48,
            "version": __version__,
        }

    async def async_generate(
        self,
        prompt: Any = None,
        sampling_params: Any = None,
        input_ids: list[int] | None = None,
        image_data: Any = None,
        audio_data: Any = None,
        video_data: Any = None,
        mm_hashes: Any = None,
        mm_content_hashes: Any = None,
        return_logprob: bool | None = False,
        logprob_start_len: int | None = None,
        top_logprobs_num: int | None = None,
        token_ids_logprob: Any = None,
        lora_path: str | None = None,
        custom_logit_processor: Any = None,
        require_reasoning: bool = False,
        return_hidden_states: Any = False,
        return_routed_experts: bool = False,
        routed_experts_start_len: int = 0,
        stream: bool = False,
        bootstrap_host: str | None = None,
        bootstrap_port: int | None = None,
        bootstrap_room: int | None = None,
        routed_dp_rank: int | None = None,
        disagg_prefill_dp_rank: int | None = None,
        kv_hints: Any = None,
        data_parallel_rank: int | None = None,
        external_trace_header: Any = None,
        rid: str | None = None,
        session_params: Any = None,
        priority: int | None = None,
        session_id: str | None = None,
        *,
        cache_salt: str | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Return the chunks of one sequence."""
        assert stream
        assert input_ids
        assert rid
        parameters = msgspec.convert(sampling_params, SamplingParams)
        self.requests.append({name: value for name, value in locals().items() if name not in {"self", "parameters"}})
        return self._run(
            rid, input_ids, parameters, bool(return_logprob), logprob_start_len, top_logprobs_num or 0, bootstrap_room
        )

    async def _run(
        self,
        rid: str,
        prompt: list[int],
        parameters: SamplingParams,
        logprobs: bool,
        logprobs_from: int | None,
        top: int,
        room: int | None,
    ) -> AsyncIterator[dict[str, Any]]:
        context = self.tokenizer_manager.context_len
        if len(prompt) >= context:
            raise ValueError(f"The input ({len(prompt)} tokens) is longer than the model's context length ({context})")
        if parameters.json_schema == "{":
            yield _refusal("Failed to compile json grammar", 400)
            return
        self.tokenizer_manager.running.add(rid)
        # Sampling is told apart by its seed, which the first token of a whole answer is off by.
        first = (prompt[-1] + 1 + (parameters.sampling_seed or 0)) % VOCABULARY
        first = await self._meet(room, first)
        cached = 32 if tuple(prompt) in self._seen else 0
        self._seen.add(tuple(prompt))
        self._publish(prompt)
        tokens: list[int] = []
        reason = None
        while reason is None:
            await asyncio.sleep(0)
            if rid in self.tokenizer_manager.aborted:
                reason = {"type": "abort", "message": "Aborted", "status_code": None, "err_type": None}
                new = []
            else:
                tokens.append((prompt[-1] + len(tokens) + 1) % VOCABULARY if tokens else first)
                new = tokens[-1:]
                reason = _reason(tokens, parameters)
            meta: dict[str, Any] = {
                "id": rid,
                "finish_reason": reason,
                "prompt_tokens": len(prompt),
                "completion_tokens": len(tokens),
                "cached_tokens": cached,
            }
            if logprobs:
                meta["output_token_logprobs"] = [(-0.5, token, None) for token in new]
                start = len(prompt) if logprobs_from is None else logprobs_from
                given = [(None if place == 0 else -1.5, token, None) for place, token in enumerate(prompt)]
                meta["input_token_logprobs"] = given[start:]
                if top:
                    meta["output_top_logprobs"] = [_top(token, top) for token in new]
                    meta["input_top_logprobs"] = [
                        _top(token, top) if place else None for place, token in enumerate(prompt)
                    ][start:]
            if reason is not None:
                self.tokenizer_manager.running.discard(rid)
            yield {"text": "", "output_ids": new, "meta_info": meta}

    async def _meet(self, number: int | None, sampled: int) -> int:
        """Have the two halves of a disaggregated request wait for each other; return the prefilling one's token."""
        if self.server_args.disaggregation_mode == "null":
            return sampled
        assert number is not None
        with _rooms_lock:
            alone = number not in _rooms
            room = _rooms.setdefault(number, Room())
            if self.server_args.disaggregation_mode == "prefill":
                room.first = sampled
        if not alone:
            room.both.set()
        while not room.both.is_set():
            await asyncio.sleep(0.001)
        assert room.first is not None
        return room.first

    def _publish(self, prompt: list[int]) -> None:
        if self._publisher is not None:
            self._publisher.stored(prompt, self.server_args.page_size or 1)

    async def async_load_lora_adapter(self, lora_name: str, lora_path: str, pinned: bool = False) -> LoRAUpdateOutput:
        """Take an adapter, unless its path says that it is none."""
        if "missing" in lora_path:
            return LoRAUpdateOutput(success=False, error_message=f"{lora_path} has no adapter_config.json")
        self.loras[lora_name] = lora_path
        return LoRAUpdateOutput(success=True, loaded_adapters=dict(self.loras))

    async def async_unload_lora_adapter(self, lora_name: str) -> LoRAUpdateOutput:
        """Forget an adapter."""
        self.loras.pop(lora_name)
        return LoRAUpdateOutput(success=True, loaded_adapters=dict(self.loras))

    def shutdown(self) -> None:
        """End."""
        if self._publisher is not None:
            self._publisher.close()
        self.closed = True


def _reason(tokens: list[int], parameters: SamplingParams) -> dict[str, Any] | None:
    if tokens[-1] == END and not parameters.ignore_eos:
        return {"type": "stop", "matched": END}
    if tokens[-1] in (parameters.stop_token_ids or ()):
        return {"type": "stop", "matched": tokens[-1]}
    if len(tokens) == parameters.max_new_tokens:
        return {"type": "length", "length": len(tokens)}
    return None


def _top(token: int, count: int) -> list[tuple[float, int, None]]:
    return [(-0.25 * (place + 1), token + place, None) for place in range(count)]


def _refusal(words: str, status: int) -> dict[str, Any]:
    reason = {"type": "abort", "message": words, "status_code": status, "err_type": "BadRequestError"}
    return {"text": "", "output_ids": [], "meta_info": {"finish_reason": reason, "cached_tokens": 0}}
