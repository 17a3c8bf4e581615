import msgspec
import pytest

from tritium.llm.errors import FieldRefused
from tritium.openai.messages.conversation import chat_of
from tritium.openai.messages.schema import MessagesRequest


def _chat(**fields):
    return chat_of(msgspec.convert({"model": "m", "max_tokens": 9, "messages": [], **fields}, MessagesRequest))


def _user(*blocks):
    return {"role": "user", "content": list(blocks)}


def test_system_blocks():
    """System text comes first, as one message; the coding client's counter is left out, for it defeats caches."""
    system = [{"type": "text", "text": t} for t in ("x-anthropic-billing-header: cch=1", "Be kind.", "Be short.")]
    chat = _chat(system=system, messages=[{"role": "user", "content": "hi"}])
    assert chat.messages == [{"role": "system", "content": "Be kind.\nBe short."}, {"role": "user", "content": "hi"}]


def test_tools_and_their_results():
    """A tool call becomes a call of the assistant, its result a message of the tool, what follows the user's."""
    turns = [
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
            ],
        },
        _user(
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "rain"}]},
            {"type": "text", "text": "and tomorrow?", "cache_control": {"type": "ephemeral"}},
        ),
    ]
    tool = {"name": "weather", "description": "d", "input_schema": {"type": "object"}}
    chat = _chat(messages=turns, tools=[tool], tool_choice={"type": "any", "disable_parallel_tool_use": True})
    assert chat.messages[1:] == [
        {
            "role": "assistant",
            "content": "I look.",
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "rain"},
        {"role": "user", "content": "and tomorrow?"},
    ]
    assert chat.tools == [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}, "description": "d"}}
    ]
    assert (chat.tool_choice, chat.parallel_tool_calls) == ("required", False)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "w"}, {"type": "function", "function": {"name": "w"}}),
    ],
)
def test_tool_choice(choice, expected):
    """Anthropic's choices become OpenAI's."""
    assert _chat(tool_choice=choice).tool_choice == expected


def test_images_and_documents():
    """Images go on as URLs or data, plain text documents as text; other documents are refused."""
    png = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    url = {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}
    text = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "body"}}
    [message] = _chat(messages=[_user(png, url, text)]).messages
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
        {"type": "text", "text": "T\n\nbody"},
    ]
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}
    with pytest.raises(FieldRefused, match="only plain text"):
        _chat(messages=[_user(pdf)])


def test_thinking_and_form():
    """Thinking switches the template, effort and schema become OpenAI's fields."""
    chat = _chat(
        thinking={"type": "enabled", "budget_tokens": 1024},
        output_config={"effort": "max", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    )
    assert chat.chat_template_kwargs == {"enable_thinking": True, "thinking": True}
    assert chat.reasoning_effort == "high"
    assert chat.response_format.json_schema.schema == {"type": "object"}
    assert _chat(thinking={"type": "disabled"}).chat_template_kwargs["enable_thinking"] is False
    assert _chat().chat_template_kwargs is None
