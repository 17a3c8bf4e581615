"""POST /v1/messages and /v1/messages/count_tokens."""

from tritium.llm.models import LanguageModels
from tritium.openai.chat import chat_order
from tritium.openai.messages.conversation import WORDS, chat_of
from tritium.openai.messages.schema import CountRequest, MessagesRequest, TokenCount
from tritium.openai.messages.telling import MessageTeller
from tritium.openai.options import OpenAIOptions
from tritium.openai.schema import Reader
from tritium.openai.status import json_response
from tritium.openai.telling import ToldAnswer
from tritium.openai.visit import Visit
from tritium.wire.http import Response

_MESSAGES = Reader(MessagesRequest)
_COUNT = Reader(CountRequest)


async def messages(visit: Visit, models: LanguageModels, options: OpenAIOptions) -> Response | None:
    """Answer a conversation with a message, streaming or whole."""
    call = visit.read(_MESSAGES)
    order = await chat_order(chat_of(call), models, options.media, WORDS)
    teller = MessageTeller(f"msg_{visit.id}", call.model, visit.id)
    return await ToldAnswer(visit, order, teller, stream=bool(call.stream), stall_bytes=options.stall_bytes).run()


async def count_tokens(visit: Visit, models: LanguageModels, options: OpenAIOptions) -> Response:
    """Count the tokens that a conversation would be."""
    order = await chat_order(chat_of(visit.read(_COUNT)), models, options.media, WORDS)
    return json_response(visit, TokenCount(len(order.prompts[0].token_ids)))
