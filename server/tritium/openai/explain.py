"""POST /router/explain: where a request would go now, and why, without sending it.

The body is that of a chat or a plain completion; the answer has one route a prompt.
"""

import msgspec

from tritium.cluster.fleet import RouteReport
from tritium.llm.models import LanguageModels
from tritium.openai.chat import READER as CHAT
from tritium.openai.chat import chat_order
from tritium.openai.completions import READER as COMPLETION
from tritium.openai.completions import completion_order
from tritium.openai.options import OpenAIOptions
from tritium.openai.status import json_response
from tritium.openai.visit import Visit
from tritium.wire.http import Response


class PromptRoute(msgspec.Struct):
    """Where one prompt would go."""

    prompt_tokens: int
    route: RouteReport


class Explanation(msgspec.Struct):
    """The answer to POST /router/explain."""

    model: str
    prompts: list[PromptRoute]


class _Kind(msgspec.Struct):
    messages: msgspec.Raw = msgspec.Raw()


async def explain(visit: Visit, models: LanguageModels, options: OpenAIOptions) -> Response:
    """Explain the route of a request."""
    body = visit.request.body
    if _is_chat(body):
        order = await chat_order(visit.read(CHAT), models, options.media)
    else:
        order = await completion_order(visit.read(COMPLETION), models)
    served = order.served
    routes = [
        PromptRoute(
            len(prompt.token_ids),
            served.model.fleet.explain(
                prompt.token_ids,
                cache_salt=order.cache_salt,
                lora=served.lora,
                worker=visit.worker,
                session=visit.session,
            ),
        )
        for prompt in order.prompts
    ]
    return json_response(visit, Explanation(served.name, routes))


def _is_chat(body: bytes | memoryview) -> bool:
    try:
        return bool(bytes(msgspec.json.decode(body, type=_Kind).messages))
    except msgspec.MsgspecError:
        return False
