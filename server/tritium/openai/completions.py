"""POST /v1/completions."""

import time
from collections.abc import Sequence

from tritium.llm.errors import FieldRefused
from tritium.llm.model import LanguageModel
from tritium.llm.models import LanguageModels, OfferedAsText
from tritium.openai.chunks import completion_chunks
from tritium.openai.infill import infill
from tritium.openai.options import OpenAIOptions
from tritium.openai.order import MOST_COMPLETIONS, Order, Prompt
from tritium.openai.plan import completion_details, completion_sampling
from tritium.openai.schema import CompletionRequest, Reader
from tritium.openai.stream import StreamAnswer
from tritium.openai.text_answer import text_completion
from tritium.openai.tokens import check_tokens
from tritium.openai.visit import Visit
from tritium.openai.whole import WholeAnswer
from tritium.wire.http import Response

READER = Reader(CompletionRequest)


async def completions(visit: Visit, models: LanguageModels, options: OpenAIOptions) -> Response | None:
    """Continue one or more prompts, streaming or whole."""
    call = visit.read(READER)
    visit.take_id(call.request_id)
    try:
        order = await completion_order(call, models)
    except OfferedAsText as tensors:
        return await text_completion(visit, call, tensors.offered, options)
    answer_id, created = f"cmpl-{visit.id}", int(time.time())
    if not call.stream:
        return await WholeAnswer(visit, order, answer_id, created, chat=False).run()
    with_usage = call.stream_options is not None and call.stream_options.include_usage
    chunks = completion_chunks(answer_id, created, call.model, with_usage=with_usage and not order.details.usage)
    return await StreamAnswer(visit, order, chunks, with_usage=with_usage, stall_bytes=options.stall_bytes).run()


async def completion_order(call: CompletionRequest, models: LanguageModels) -> Order:
    """Encode the prompts and plan their sampling.

    Raises:
        InferenceError: the model is unknown or not ready, or a field is refused.
    """
    served = models.find(call.model)
    served.model.admit()
    sampling = completion_sampling(call, served.model)
    asked = _prompts(call.prompt)
    if len(asked) * sampling.n > MOST_COMPLETIONS:
        words = f"{len(asked)} prompts with n {sampling.n} are more than the {MOST_COMPLETIONS} completions"
        raise FieldRefused("prompt", f"{words} a request may have")
    prompts = [await _encode(prompt, call, served.model) for prompt in asked]
    return Order(
        served,
        prompts,
        sampling,
        "prompt",
        cache_salt=call.cache_salt or "",
        priority=call.priority or 0,
        details=completion_details(call),
    )


def _prompts(prompt: str | list[str | int | list[int]]) -> Sequence[str | list[int]]:
    """Tell the four shapes of `prompt` apart: text, token ids, and lists of either."""
    if isinstance(prompt, str):
        return [prompt]
    ids = [p for p in prompt if isinstance(p, int)]
    if prompt and len(ids) == len(prompt):
        return [ids]
    prompts = [p for p in prompt if not isinstance(p, int)]
    if not prompts or ids:
        raise FieldRefused("prompt", "prompt must be a string, a list of token ids, or a non-empty list of either")
    return prompts


async def _encode(prompt: str | list[int], call: CompletionRequest, model: LanguageModel) -> Prompt:
    tokenizer = model.tokenizer
    if call.suffix:
        if not isinstance(prompt, str):
            raise FieldRefused("suffix", "suffix needs the prompt as text")
        return Prompt(await infill(prompt, call.suffix, tokenizer), echo=prompt if call.echo else "")
    if isinstance(prompt, str):
        tokenizer.check_room(prompt, model.fleet.info.context_tokens, "prompt")
        token_ids = await tokenizer.encode(prompt, add_special=call.add_special_tokens is not False)
    else:
        token_ids = prompt
        check_tokens(token_ids, tokenizer, "prompt")
    if not token_ids:
        raise FieldRefused("prompt", "prompt is empty")
    if not call.echo:
        return Prompt(token_ids)
    return Prompt(token_ids, echo=prompt if isinstance(prompt, str) else tokenizer.decode(token_ids))
