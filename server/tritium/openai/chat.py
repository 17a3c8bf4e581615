"""POST /v1/chat/completions."""

import time
from dataclasses import replace

from tritium.llm.conversation import TakeMedia, template_messages
from tritium.llm.errors import FieldRefused
from tritium.llm.model import LanguageModel
from tritium.llm.models import LanguageModels, OfferedAsText
from tritium.llm.reading.choose import reader_for
from tritium.llm.reading.reading import Asked
from tritium.llm.reading.strict import structural_tag
from tritium.llm.reading.table import TOOL_PARSERS
from tritium.openai.chunks import chat_chunks
from tritium.openai.media.parts import MediaOf
from tritium.openai.media.policy import DATA_ONLY, MediaPolicy
from tritium.openai.options import OpenAIOptions
from tritium.openai.order import Order, Prompt
from tritium.openai.plan import chat_sampling, details_of
from tritium.openai.schema import ChatRequest, Reader
from tritium.openai.stream import StreamAnswer
from tritium.openai.structure import Constraint
from tritium.openai.text_answer import text_chat
from tritium.openai.tools import ANY_TOOL, ToolPlan, tool_plan
from tritium.openai.visit import Visit
from tritium.openai.whole import WholeAnswer
from tritium.openai.wording import CHAT, Wording
from tritium.wire.http import Response

READER = Reader(ChatRequest)


async def chat(visit: Visit, models: LanguageModels, options: OpenAIOptions) -> Response | None:
    """Answer a conversation, streaming or whole."""
    call = visit.read(READER)
    visit.take_id(call.request_id)
    try:
        order = await chat_order(call, models, options.media)
    except OfferedAsText as tensors:
        return await text_chat(visit, call, tensors.offered, options)
    answer_id, created = f"chatcmpl-{visit.id}", int(time.time())
    if not call.stream:
        return await WholeAnswer(visit, order, answer_id, created, chat=True).run()
    with_usage = call.stream_options is not None and call.stream_options.include_usage
    chunks = chat_chunks(
        answer_id, created, call.model, with_usage=with_usage and not order.details.usage, functions=order.functions
    )
    return await StreamAnswer(visit, order, chunks, with_usage=with_usage, stall_bytes=options.stall_bytes).run()


async def chat_order(
    call: ChatRequest, models: LanguageModels, policy: MediaPolicy = DATA_ONLY, words: Wording = CHAT
) -> Order:
    """Render the conversation, fetch its media as `policy` allows, and plan its sampling.

    Raises:
        InferenceError: the model is unknown or not ready, or a field is refused, by its name in these words.
    """
    with words.spoken():
        order = await _chat_order(call, models, policy)
    if words is CHAT:
        return order
    return replace(order, sampling=words.sampling(order.sampling), prompt_field=words.of(order.prompt_field))


async def _chat_order(call: ChatRequest, models: LanguageModels, policy: MediaPolicy) -> Order:
    served = models.find(call.model)
    served.model.admit()
    _refuse_unserved(call)
    plan = tool_plan(call)
    _check_readable(plan, call.model, served.model)
    model = served.model
    calls = _strict_calls(plan, model)
    sampling = chat_sampling(call, model, plan, calls)
    found = MediaOf(call.model, model.fleet.info.modalities, policy)
    text = await _render(call, model, plan, found.take)
    media = await found.media()
    asked = Asked(
        tools=plan.tools,
        forced=plan.forced,
        parallel=plan.parallel,
        reasoning=call.include_reasoning is not False,
        constrained=sampling.engine.get("structured_outputs") not in (None, calls),
        continues=bool(call.continue_final_message),
    )
    # A chat template writes the start token itself.
    token_ids = await model.tokenizer.encode(text, add_special=bool(call.add_special_tokens))
    return Order(
        served,
        [Prompt(token_ids)],
        sampling,
        "messages",
        cache_salt=call.cache_salt or "",
        priority=call.priority or 0,
        reading=reader_for(model.defaults.formats, asked, text, model.tokenizer),
        media=media,
        details=details_of(call),
        functions=plan.legacy,
        named=plan.forced not in ("", ANY_TOOL),
    )


def _strict_calls(plan: ToolPlan, model: LanguageModel) -> Constraint | None:
    """Return what holds the calls of strict tools to their schemas, where engine and notation allow it."""
    if plan.forced or not model.fleet.info.structural_tags:
        return None
    tag = structural_tag(model.defaults.formats.tool, plan.tools)
    return {"structural_tag": tag} if tag is not None else None


async def _render(call: ChatRequest, model: LanguageModel, plan: ToolPlan, take_media: TakeMedia) -> str:
    template = model.tokenizer.templates.choose(call.chat_template, tools=plan.shown is not None)
    going_on = bool(call.continue_final_message)
    variables = dict(call.chat_template_kwargs or {})
    if "chat_template" in variables:
        raise FieldRefused("chat_template_kwargs.chat_template", "chat_template is a field of its own")
    if call.reasoning_effort is not None:
        variables.setdefault("reasoning_effort", call.reasoning_effort)
    if going_on and call.add_generation_prompt:
        raise FieldRefused(
            "continue_final_message",
            "continue_final_message ends the prompt inside the last message, add_generation_prompt after it: send one",
        )
    began_s = time.monotonic()
    text = await template.render_aside(
        await template_messages(call.messages, template.content_format, take_media),
        tools=plan.shown,
        documents=call.documents,
        add_generation_prompt=not going_on and call.add_generation_prompt is not False,
        continue_final_message=going_on,
        variables=variables,
    )
    model.tokenizer.render_s.observe(time.monotonic() - began_s)
    model.tokenizer.check_room(text, model.fleet.info.context_tokens, "messages")
    return text


def _refuse_unserved(call: ChatRequest) -> None:
    if call.modalities is not None and call.modalities != ["text"]:
        raise FieldRefused("modalities", f"modalities {call.modalities} are not served: only text is")


def _check_readable(plan: ToolPlan, name: str, model: LanguageModel) -> None:
    """Refuse tools whose calls nobody could tell from content; a call that is forced is JSON whatever the model."""
    formats = model.defaults.formats
    if plan.tools and not plan.forced and formats.calls is None and not formats.harmony:
        known = ", ".join(TOOL_PARSERS)
        raise FieldRefused(
            plan.field,
            f"nothing tells how the model `{name}` writes tool calls: its chat template shows no known notation",
            hint=f'name it in model.json as "tool_parser", one of {known}; or send tool_choice "required"',
        )
