import asyncio
from types import SimpleNamespace

from tritium.llm.text_models.offered import TextPiece
from tritium.openai.schema import ChatRequest
from tritium.openai.text_answer import text_chat
from tritium.openai.visit import Visit

PIECES = 200_000


class Chatterbox:
    """An offered model whose answer comes in very many pieces."""

    name = "chatterbox"

    def check_fields(self, fields):
        pass

    async def render(self, messages):
        return "hello"

    def request(self, prompt, given, *, stream, request_id):
        return SimpleNamespace(cancel=lambda: None)

    async def run(self, request, stops):
        for number in range(PIECES):
            if not number % 1_000:
                await asyncio.sleep(0)
            yield TextPiece("word " * 20)

    async def count(self, texts):
        return 0


async def test_answers_of_very_many_pieces_take_linear_time():
    """Pieces are joined once: two hundred thousand of them are a second's work, not minutes'."""
    visit = Visit(SimpleNamespace(on_disconnect=lambda _: None, header=lambda *_: b""), "1")
    call = ChatRequest(model="chatterbox", messages=[{"role": "user", "content": "go on"}])
    async with asyncio.timeout(60):
        response = await text_chat(visit, call, Chatterbox(), None)
    assert len(b"".join(response.body)) > PIECES * 100
