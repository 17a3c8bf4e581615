import asyncio
import copy

import pytest

from tritium.llm.content_format import ContentFormat
from tritium.llm.conversation import template_messages
from tritium.llm.errors import FieldRefused

STRING, PARTS = ContentFormat.STRING, ContentFormat.OPENAI


@pytest.mark.parametrize(
    ("content", "string", "parts"),
    [
        ("hi", "hi", [{"type": "text", "text": "hi"}]),
        (None, "", []),
        ([], "", []),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb", None),
        (["a", {"type": "input_text", "text": "b"}], "a\nb", [{"type": "text", "text": t} for t in "ab"]),
        ([{"type": "refusal", "refusal": "no"}], "no", [{"type": "text", "text": "no"}]),
    ],
)
async def test_content_has_the_form_that_the_template_takes(content, string, parts):
    """A template gets a string, or a list of parts, whatever the client sent."""
    message = {"role": "user", "content": content}
    assert await template_messages([message], STRING) == [{"role": "user", "content": string}]
    assert await template_messages([message], PARTS) == [
        {"role": "user", "content": content if parts is None else parts}
    ]


async def test_a_tools_answer_is_a_string_for_every_template():
    """Templates expect text from tools, also those that take parts from users."""
    message = {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "3"}]}
    assert await template_messages([message], PARTS) == [{"role": "tool", "tool_call_id": "1", "content": "3"}]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [('{"a": 1}', {"a": 1}), ({"a": 1}, {"a": 1}), ("", {}), (None, {}), ("{broken", {}), ("[1]", {}), ("3", {})],
)
async def test_arguments_of_earlier_calls_are_objects(arguments, expected):
    """OpenAI's JSON in a string is read; a broken call of an earlier turn does not end the conversation."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    before = copy.deepcopy(message)
    [shown] = await template_messages([message], STRING)
    assert shown["tool_calls"][0]["function"]["arguments"] == expected
    assert message == before


async def test_what_is_null_or_empty_is_left_out():
    """Clients that send back a whole answer send nulls, which templates would take for something."""
    sent = {"role": "assistant", "content": "x", "tool_calls": [], "audio": None, "function_call": None, "name": None}
    assert await template_messages([sent], STRING) == [{"role": "assistant", "content": "x"}]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_goes_by_both_its_names(name):
    """What an assistant thought is there under the name that the template knows."""
    [shown] = await template_messages([{"role": "assistant", "content": "x", name: "hm"}], STRING)
    assert (shown["reasoning"], shown["reasoning_content"]) == ("hm", "hm")


async def test_media_are_handed_over_and_stand_where_they_were():
    """A part that is no text is given to whoever takes it; the template sees what kind it is."""
    taken = []
    image = {"type": "image_url", "image_url": {"url": "x"}}
    content = [{"type": "text", "text": "a"}, image]
    message = {"role": "user", "content": content}
    [shown] = await template_messages([message], PARTS, lambda part, where: taken.append((part, where)))
    assert shown["content"] == [content[0], {"type": "image"}]
    assert taken == [(image, "messages[0].content[1]")]
    with pytest.raises(FieldRefused, match="takes text only"):
        await template_messages([message], STRING, lambda _part, _where: None)
    with pytest.raises(FieldRefused, match="only text parts are served"):
        await template_messages([message], PARTS)


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": 3}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [3]}], "messages[0].content[0]"),
        ([{"role": "assistant", "tool_calls": {}}], "messages[0].tool_calls"),
        ([{"role": "assistant", "tool_calls": [{"type": "custom"}]}], "messages[0].tool_calls[0]"),
    ],
)
async def test_what_is_no_message_is_named(messages, field):
    """The field at fault is told."""
    with pytest.raises(FieldRefused) as refused:
        await template_messages(messages, STRING)
    assert refused.value.field == field


async def test_others_have_their_turn_while_many_messages_are_looked_at():
    """Somebody who yields whenever he has run runs for every thousand messages; the last is named as the first."""
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    messages = [{"role": "user", "content": str(number)} for number in range(10_000)]
    counting = asyncio.create_task(count())
    shown = await template_messages(messages, STRING)
    with pytest.raises(FieldRefused) as refused:
        await template_messages([*messages, {"content": "x"}], STRING)
    counting.cancel()
    assert shown == messages
    assert turns >= 10
    assert refused.value.field == "messages[10000].role"
