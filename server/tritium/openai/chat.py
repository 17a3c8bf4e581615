"""POST /v1/chat/completions."""

import time

from tritium.core.errors import InvalidArgument
from tritium.llm.conversation import template_messages
from tritium.llm.errors import FieldRefused
from tritium.llm.model import LanguageModel
from tritium.llm.models import LanguageModels
from tritium.openai.answer import Order, Prompt, Visit
from tritium.openai.chunks import chat_chunks
from tritium.openai.options import OpenAIOptions
from tritium.openai.plan import chat_sampling
from tritium.openai.schema import ChatRequest, Reader
from tritium.openai.stream import StreamAnswer
from tritium.openai.whole import WholeAnswer
from tritium.wire.http import Response

READER = Reader(ChatRequest)


async def chat(visit: Visit, models: LanguageModels, options: OpenAIOptions) -> Response | None:
    """Answer a conversation, streaming or whole."""
    call = READER.read(visit.request.body)
    visit.take_id(call.request_id)
    order = await chat_order(call, models)
    answer_id, created = f"chatcmpl-{visit.id}", int(time.time())
    if not call.stream:
        return await WholeAnswer(visit, order, answer_id, created, chat=True).run()
    with_usage = call.stream_options is not None and call.stream_options.include_usage
    chunks = chat_chunks(answer_id, created, call.model, with_usage=with_usage)
    return await StreamAnswer(visit, order, chunks, with_usage=with_usage, stall_bytes=options.stall_bytes).run()


async def chat_order(call: ChatRequest, models: LanguageModels) -> Order:
    """Render the conversation and plan its sampling.

    Raises:
        InferenceError: the model is unknown or not ready, or a field is refused.
    """
    served = models.find(call.model)
    served.model.admit()
    _refuse_unserved(call)
    sampling = chat_sampling(call, served.model)
    prompt = Prompt(await _encode(call, served.model))
    return Order(served, [prompt], sampling, "messages", cache_salt=call.cache_salt or "", priority=call.priority or 0)


async def _encode(call: ChatRequest, model: LanguageModel) -> list[int]:
    template = model.tokenizer.template
    if template is None:
        raise InvalidArgument(
            f"The model `{call.model}` has no chat template.",
            hint="use /v1/completions, or add chat_template.jinja to the model folder",
        )
    going_on = bool(call.continue_final_message)
    variables = dict(call.chat_template_kwargs or {})
    if call.reasoning_effort is not None:
        variables.setdefault("reasoning_effort", call.reasoning_effort)
    if going_on and call.add_generation_prompt:
        raise FieldRefused(
            "continue_final_message",
            "continue_final_message ends the prompt inside the last message, add_generation_prompt after it: send one",
        )
    text = await template.render_aside(
        template_messages(call.messages, template.content_format),
        tools=call.tools if call.tool_choice != "none" else None,
        documents=call.documents,
        add_generation_prompt=not going_on and call.add_generation_prompt is not False,
        continue_final_message=going_on,
        variables=variables,
    )
    model.tokenizer.check_room(text, model.fleet.info.context_tokens, "messages")
    # A chat template writes the start token itself.
    return await model.tokenizer.encode(text, add_special=bool(call.add_special_tokens))


def _refuse_unserved(call: ChatRequest) -> None:
    if call.tools and call.tool_choice != "none":
        raise FieldRefused(
            "tools",
            "tools are not served: nothing here reads tool calls out of a model's text yet",
            hint='send tool_choice "none" or leave tools out',
        )
    if call.modalities is not None and call.modalities != ["text"]:
        raise FieldRefused("modalities", f"modalities {call.modalities} are not served: only text is")
