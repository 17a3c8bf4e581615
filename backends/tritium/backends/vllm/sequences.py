"""From our sequences to vLLM's sampling parameters, and from its outputs to our deltas."""

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from tritium.backends.engine import Delta, FinishReason, Generate, TokenLogprob
from tritium.backends.vllm.resume import RESUMED
from tritium.core.errors import InvalidArgument, SamplingRefused

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams

OURS = frozenset({"n", "stop", "detokenize", "output_kind", "stream_interval", "skip_clone"})
"""Fields of SamplingParams that the engine decides: one sequence, tokens only, every step."""

PREFILL_TRANSFER = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
"""vLLM's kv_transfer_params that ask a prefill worker to keep the blocks for whoever decodes."""


def sampling_params(request: Generate) -> "SamplingParams":
    """Make vLLM's sampling parameters.

    Raises:
        InvalidArgument: a field that vLLM does not have or will not take.
    """
    from vllm import SamplingParams  # noqa: PLC0415  takes seconds, and this module is read without vLLM too
    from vllm.exceptions import VLLMClientError  # noqa: PLC0415
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams  # noqa: PLC0415

    fields = dict(request.sampling)
    known = [name for name in SamplingParams.__struct_fields__ if not name.startswith("_") and name not in OURS]
    for name in fields:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            raise InvalidArgument(
                f"vLLM has no sampling parameter '{name}'" + (f"; did you mean {close[0]}?" if close else "")
            )
    transfer = PREFILL_TRANSFER if request.keep else request.transfer
    if transfer is not None:
        fields["extra_args"] = {**(fields.get("extra_args") or {}), "kv_transfer_params": transfer}
    if request.resumed_tokens:
        fields["extra_args"] = {**(fields.get("extra_args") or {}), RESUMED: request.resumed_tokens}
    if isinstance(fields.get("structured_outputs"), dict):
        try:
            fields["structured_outputs"] = StructuredOutputsParams(**fields["structured_outputs"])
        except (TypeError, ValueError, VLLMClientError) as error:
            raise SamplingRefused("structured_outputs", str(error)) from error
    try:
        if fields.get("logit_bias"):
            fields["logit_bias"] = {int(token): bias for token, bias in fields["logit_bias"].items()}
        return SamplingParams(**fields, detokenize=False, output_kind=RequestOutputKind.DELTA)
    except (TypeError, ValueError, VLLMClientError) as error:
        raise InvalidArgument(str(error)) from error


def forbid_words(params: "SamplingParams", tokenizer: Any) -> None:
    """Forbid `bad_words` at the beginning of a text and within it.

    vLLM itself forbids a word after a space only where that has as many tokens as the word without; with most
    vocabularies, " word" is one token and "word" several, so that most words would still be said.

    Raises:
        InvalidArgument: more token sequences than vLLM allows.
    """
    if not params.bad_words or tokenizer is None:
        return
    from vllm import envs  # noqa: PLC0415  the same reason as above

    texts = [text for word in params.bad_words for text in (word.lstrip(), f" {word.lstrip()}")]
    encoded = (tokenizer.encode(text, add_special_tokens=False) for text in texts)
    sequences = list(dict.fromkeys(tuple(ids) for ids in encoded if ids))
    if len(sequences) > envs.VLLM_MAX_NUM_BAD_WORDS:
        raise InvalidArgument(
            f"bad_words come to {len(sequences)} sequences of tokens; vLLM takes {envs.VLLM_MAX_NUM_BAD_WORDS}"
        )
    # vLLM works them out itself when it finds words, and leaves these alone when it finds none.
    params.bad_words = []
    params._bad_words_token_ids = [list(ids) for ids in sequences]  # noqa: SLF001  no public way to say it


def delta_of(request: Generate, output: "RequestOutput", *, first: bool) -> Delta:
    """Make our delta of one of vLLM's."""
    completion = output.outputs[0]
    finish = completion.finish_reason
    delta = Delta(request.id, list(completion.token_ids))
    if first:
        delta.cached_tokens = output.num_cached_tokens or 0
        if request.media and output.prompt_token_ids is not None:
            delta.prompt_tokens = len(output.prompt_token_ids)
        if output.prompt_logprobs is not None:
            delta.prompt_logprobs = _prompt_logprobs(output.prompt_token_ids or request.token_ids, output)
    if completion.logprobs:
        delta.logprobs = [
            _logprobs(token, among or {})
            for token, among in zip(completion.token_ids, completion.logprobs, strict=True)
        ]
    if finish is None:
        return delta
    # vLLM also stops a model that repeats itself, and calls that "repetition".
    delta.finish = finish if finish in _REASONS else FinishReason.STOP
    if finish == FinishReason.ERROR:
        delta.error = "vLLM reports an internal error of this request; its log says more"
        if first and request.sampling.get("structured_outputs") is not None and not (request.transfer or request.media):
            # A form is compiled beside the scheduler; one that fails there ends its request before the first token.
            delta.error = "vLLM could not compile what the answer is to be held to; its log says more"
            delta.invalid, delta.field = True, "structured_outputs"
    if isinstance(completion.stop_reason, int):
        delta.stop_token = completion.stop_reason
    delta.transfer = output.kv_transfer_params
    return delta


_REASONS = frozenset(FinishReason)


def _prompt_logprobs(tokens: list[int], output: "RequestOutput") -> list[list[TokenLogprob] | None]:
    places = output.prompt_logprobs or []
    return [None if among is None else _logprobs(token, among) for token, among in zip(tokens, places, strict=False)]


def _logprobs(sampled: int, among: dict[int, Any]) -> list[TokenLogprob]:
    """Order vLLM's logprobs of one place: the sampled token, then the likeliest by rank."""
    first = among[sampled]
    ranked = sorted(((token, entry) for token, entry in among.items()), key=lambda pair: pair[1].rank or 0)
    return [TokenLogprob(sampled, first.logprob, first.rank or 0)] + [
        TokenLogprob(token, entry.logprob, entry.rank or 0) for token, entry in ranked
    ]
