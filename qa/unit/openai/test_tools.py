"""Tools and reasoning in chats: what the client gets of what the model writes, and what the engine is held to."""

import json

import openai
import pytest

from tritium.core.errors import SamplingRefused
from tritium.llm.model import ModelDefaults
from tritium.llm.reading.choose import Formats

HELLO = [{"role": "user", "content": "What is the weather in Berlin?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
NOW = {"type": "function", "function": {"name": "now"}}
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Berlin"}}</tool_call>'
FUNCTION = WEATHER["function"]


@pytest.fixture
async def door(open_door):
    async with open_door(defaults=ModelDefaults(formats=Formats("hermes", "qwen3")), context_tokens=2048) as opened:
        yield opened


def ask(door, **fields):
    return door.client.chat.completions.create(model="story", messages=HELLO, **fields)


async def test_a_call(door):
    """A call is told apart from content; an answer of calls alone has none, and ends by them."""
    door.say(reply=f"{CALL}\n{CALL}")
    answer = await ask(door, tools=[WEATHER, NOW])
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert [(c.type, c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls] == [
        ("function", "get_weather", {"city": "Berlin"})
    ] * 2
    assert len({c.id for c in choice.message.tool_calls}) == 2


async def test_a_streamed_call(door):
    """A stream tells the role, then id and name, then the arguments as they come, then the reason."""
    door.say(reply=f"Let me see. {CALL}")
    chunks = [chunk async for chunk in await ask(door, tools=[WEATHER], stream=True)]
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert deltas[0].role == "assistant"
    assert "".join(d.content or "" for d in deltas) == "Let me see."
    calls = [d.tool_calls[0] for d in deltas if d.tool_calls]
    assert (calls[0].index, calls[0].type, calls[0].function.name) == (0, "function", "get_weather")
    assert calls[0].id
    assert all((c.id, c.function.name, c.index) == (None, None, 0) for c in calls[1:])
    fragments = [c.function.arguments for c in calls]
    assert json.loads("".join(fragments)) == {"city": "Berlin"}
    assert len(fragments) > 5
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_one_call_only(door):
    """With parallel_tool_calls false the first call is the only one."""
    door.say(reply=f"{CALL}{CALL}")
    answer = await ask(door, tools=[WEATHER], parallel_tool_calls=False)
    assert len(answer.choices[0].message.tool_calls) == 1


async def test_malformed_call_is_content(door):
    """What looked like a call and is none is content, and the answer ends as any."""
    door.say(reply="<tool_call>oh</tool_call>")
    answer = await ask(door, tools=[WEATHER])
    assert answer.choices[0].message.content == "<tool_call>oh</tool_call>"
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason == "stop"


async def test_cut_short(door):
    """A call that max_tokens cuts ends by length, with the arguments as far as they came."""
    door.say(reply=CALL)
    answer = await ask(door, tools=[WEATHER], max_tokens=40)
    assert answer.choices[0].finish_reason == "length"


async def test_without_tools_nothing_is_read(door):
    """Without tools a call is what it looks like: text."""
    door.say(reply=CALL)
    answer = await ask(door)
    assert answer.choices[0].message.content == CALL
    assert answer.choices[0].finish_reason == "stop"


async def test_reasoning(door):
    """Thinking is told apart under both of its names, whole and streamed, and can be left out."""
    door.say(reply="<think>\nI think so.\n</think>\n\nYes, it is. ")
    message = (await ask(door)).choices[0].message
    assert (message.content, message.reasoning_content, message.reasoning) == ("Yes, it is. ", *["I think so."] * 2)
    chunks = [chunk async for chunk in await ask(door, stream=True)]
    deltas = [chunk.choices[0].delta for chunk in chunks]
    thoughts = [d.reasoning_content for d in deltas if getattr(d, "reasoning_content", None)]
    assert "".join(thoughts) == "I think so."
    assert len(thoughts) > 2
    assert "".join(d.content or "" for d in deltas) == "Yes, it is. "
    message = (await ask(door, extra_body={"include_reasoning": False})).choices[0].message
    assert (message.content, getattr(message, "reasoning_content", None)) == ("Yes, it is. ", None)


@pytest.mark.parametrize("tools", [[WEATHER], openai.NOT_GIVEN])
async def test_whole_and_streamed_say_the_same(door, tools):
    """However much of a stream passes by the reader, its text is the whole answer's, to the last space."""
    door.say(reply=f"<think>so  it is\n</think>\n\nYes,  a < b and\n\n <tool_call is \n {CALL} none  \t here. \n")
    message = (await ask(door, tools=tools)).choices[0].message
    deltas = [chunk.choices[0].delta async for chunk in await ask(door, tools=tools, stream=True)]
    assert "".join(d.content or "" for d in deltas) == message.content
    assert "".join(getattr(d, "reasoning", None) or "" for d in deltas) == message.reasoning == "so  it is"
    assert bool(message.tool_calls) == bool(tools)


async def test_scores_of_read_tokens_are_all_there(door):
    """Every token's score is sent once, also of tokens that are notation and no text."""
    door.say(reply=f"<think>so</think>I call. {CALL}")
    stream = await ask(door, tools=[WEATHER], logprobs=True, stream=True)
    scored = [
        s.token for c in [c async for c in stream] if c.choices[0].logprobs for s in c.choices[0].logprobs.content
    ]
    assert "".join(scored).removesuffix("<|end|>") == door.fleet.script.reply


async def test_template_is_shown_the_tools(open_door, scripted):
    """The template gets the tools as the client wrote them, and none where tool_choice is none."""
    template = "{% if tools %}{{ tools | tojson }}{% endif %}<|assistant|>"
    tokenizer = scripted.chat_tokenizer(template)
    async with open_door(defaults=ModelDefaults(formats=Formats("hermes")), context_tokens=2048) as door:
        door.model.tokenizer = tokenizer
        await ask(door, tools=[WEATHER])
        await ask(door, tools=[WEATHER], tool_choice="none")
    shown, unshown = (tokenizer.decode(request.token_ids) for request in door.fleet.requests)
    assert json.loads(shown) == [WEATHER]
    assert unshown == ""


async def test_named_choice_holds_the_engine_to_the_arguments(door):
    """A function by name: the engine is held to its parameters, and its text is the arguments."""
    door.say(reply='{"city": "Rome"}')
    choice = {"type": "function", "function": {"name": "get_weather"}}
    answer = await ask(door, tools=[WEATHER, NOW], tool_choice=choice)
    assert door.fleet.requests[-1].sampling["structured_outputs"] == {"json": FUNCTION["parameters"]}
    call = answer.choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "Rome"}')
    assert answer.choices[0].finish_reason == "stop"


async def test_required_choice_holds_the_engine_to_a_list_of_calls(door):
    """A required call: the engine is held to a list of calls of the tools; definitions move to the root."""
    door.say(reply='[{"name": "now", "parameters": {}}]')
    draw = {"type": "object", "$defs": {"p": {"type": "number"}}, "properties": {"x": {"$ref": "#/$defs/p"}}}
    tools = [NOW, {"type": "function", "function": {"name": "draw", "parameters": draw}}]
    answer = await ask(door, tools=tools, tool_choice="required", parallel_tool_calls=False)
    schema = door.fleet.requests[-1].sampling["structured_outputs"]["json"]
    assert (schema["minItems"], schema["maxItems"], schema["$defs"]) == (1, 1, draw["$defs"])
    assert [s["properties"]["name"]["enum"] for s in schema["items"]["anyOf"]] == [["now"], ["draw"]]
    assert "$defs" not in schema["items"]["anyOf"][1]["properties"]["parameters"]
    assert answer.choices[0].message.tool_calls[0].function.name == "now"
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_allowed_tools(door):
    """Of all tools that the model sees only those allowed are in the schema."""
    door.say(reply='[{"name": "now", "parameters": {}}]')
    only = {"mode": "required", "tools": [{"type": "function", "function": {"name": "now"}}]}
    await ask(door, tools=[WEATHER, NOW], tool_choice={"type": "allowed_tools", "allowed_tools": only})
    schema = door.fleet.requests[-1].sampling["structured_outputs"]["json"]
    assert [s["properties"]["name"]["enum"] for s in schema["items"]["anyOf"]] == [["now"]]


async def test_functions(door):
    """A client from before there were tools sends functions, and is answered with a function call."""
    door.say(reply=CALL)
    answer = await ask(door, functions=[FUNCTION], function_call="auto")
    message = answer.choices[0].message
    assert (message.function_call.name, json.loads(message.function_call.arguments)) == (
        "get_weather",
        {"city": "Berlin"},
    )
    assert message.tool_calls is None
    assert answer.choices[0].finish_reason == "function_call"
    chunks = [chunk async for chunk in await ask(door, functions=[FUNCTION], stream=True)]
    said = [c.choices[0].delta.function_call for c in chunks if c.choices[0].delta.function_call]
    assert said[0].name == "get_weather"
    assert json.loads("".join(s.arguments for s in said)) == {"city": "Berlin"}
    assert chunks[-1].choices[0].finish_reason == "function_call"


def tool(**function):
    return {"type": "function", "function": function}


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"tools": [{"type": "custom"}]}, "tools[0].type", "'function'"),
        ({"tools": [{"function": FUNCTION}]}, "tools[0].type", "Missing"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "Missing"),
        ({"tools": [WEATHER, tool(description="x")]}, "tools[1].function.name", "Missing"),
        ({"tools": [tool(name="no spaces")]}, "tools[0].function.name", "pattern"),
        ({"tools": [tool(name="f", parameters={"type": "string"})]}, "tools[0].function.parameters", "'f'"),
        ({"tools": [tool(name=f"f{i}") for i in range(5000)]}, "tools", "4096"),
        ({"tools": [tool(name="f", parameters=[])]}, "tools[0].function.parameters", "object"),
        ({"tools": [WEATHER, WEATHER]}, "tools", "twice"),
        ({"tool_choice": "required"}, "tool_choice", "only allowed when 'tools'"),
        ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice", "'required'"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice", "'g'"),
        ({"tools": [WEATHER], "tool_choice": {"type": "x"}}, "tool_choice", "names a function"),
        ({"functions": [FUNCTION], "tools": [WEATHER]}, "functions", "one or the other"),
        ({"functions": [{}]}, "functions[0].name", "Missing"),
        ({"structured_outputs": {"jsn": {}}}, "structured_outputs.jsn", "did you mean json"),
        ({"structured_outputs": {"json": {}, "regex": "a"}}, "structured_outputs", "json and regex"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs", "not empty"),
        ({"guided_regex": "a", "guided_choice": ["b"]}, "guided_choice", "guided_regex and guided_choice"),
        ({"response_format": {"type": "structural_tag"}}, "response_format", "needs format"),
    ],
)
async def test_fields_at_fault(door, fields, param, said):
    """What is wrong with tools or a constraint is said in OpenAI's shape, the field by name, before anything runs."""
    body = {"model": "story", "messages": HELLO, **fields}
    response = await door.http.post("/v1/chat/completions", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert said in error["message"]
    assert door.fleet.requests == []


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"guided_json": {"type": "object"}}, {"json": {"type": "object"}}),
        ({"guided_regex": "a+"}, {"regex": "a+"}),
        ({"guided_choice": ["a", "b"]}, {"choice": ["a", "b"]}),
        ({"guided_grammar": "root ::= 'a'"}, {"grammar": "root ::= 'a'"}),
        ({"structured_outputs": {"regex": "a", "disable_fallback": True}}, {"regex": "a", "disable_fallback": True}),
        ({"response_format": {"type": "json_object"}}, {"json_object": True}),
        (
            {"response_format": {"type": "structural_tag", "format": {"type": "any_text"}}},
            {"structural_tag": '{"type":"structural_tag","format":{"type":"any_text"}}'},
        ),
    ],
)
async def test_constraints_reach_the_engine(door, fields, constraint):
    """Every way to hold an answer to something comes to the engine's one."""
    response = await door.http.post("/v1/chat/completions", json={"model": "story", "messages": HELLO, **fields})
    assert response.status_code == 200
    assert door.fleet.requests[-1].sampling["structured_outputs"] == constraint


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"guided_choice": ["a"]}, "guided_choice"),
        ({"tools": [WEATHER], "tool_choice": "required"}, "tool_choice"),
    ],
)
async def test_engines_without_guided_decoding(open_door, fields, param):
    """An engine that holds no answer to a form says so of the field that asks for it, before anything runs."""
    async with open_door(structured=False) as door:
        response = await door.http.post("/v1/chat/completions", json={"model": "story", "messages": HELLO, **fields})
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)
        assert "the scripted engine" in response.json()["error"]["message"]
        assert door.fleet.requests == []


async def test_schema_of_the_openai_package(door):
    """What `parse` of the openai package sends reaches the engine, and its answer is read into the class."""
    pydantic = pytest.importorskip("pydantic")

    class Weather(pydantic.BaseModel):
        city: str
        degrees: int

    door.say(reply='{"city": "Rome", "degrees": 31}')
    answer = await door.client.chat.completions.parse(model="story", messages=HELLO, response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(city="Rome", degrees=31)
    sent = door.fleet.requests[-1].sampling["structured_outputs"]["json"]
    assert sent["required"] == ["city", "degrees"]


async def test_past_calls_reach_the_template(door):
    """A conversation with calls and their results is rendered; the client's messages are the template's."""
    messages = [
        *HELLO,
        {
            "role": "assistant",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
    ]
    answer = await door.client.chat.completions.create(model="story", messages=messages, tools=[NOW])
    assert answer.choices[0].message.content == door.fleet.script.reply


async def test_special_tokens_of_the_notation_do_not_leak(open_door, scripted):
    """Markers that are special tokens reach the reader although the client's text has none of them."""
    tokenizer = scripted.chat_tokenizer()
    tokenizer._backend.add_special_tokens(["<|tool_call|>"])
    tokenizer = type(tokenizer)(tokenizer._backend, tokenizer.template)
    async with open_door(defaults=ModelDefaults(formats=Formats("granite")), context_tokens=2048) as door:
        door.model.tokenizer = door.fleet.tokenizer = tokenizer
        door.say(reply='<|tool_call|>[{"name": "now", "arguments": {}}]')
        answer = await ask(door, tools=[NOW])
        assert answer.choices[0].message.tool_calls[0].function.name == "now"
        door.say(reply="<|tool_call|> broken")
        assert (await ask(door, tools=[NOW])).choices[0].message.content == " broken"


async def test_messages_and_responses_read_the_same(door):
    """Anthropic's messages and OpenAI's responses tell thoughts, content and calls of the same text in their words."""
    door.say(reply=f"<think>hm</think>Let me see. {CALL}")
    parameters = FUNCTION["parameters"]
    tools = [{"name": "get_weather", "input_schema": parameters}]
    body = {"model": "story", "max_tokens": 200, "messages": HELLO, "tools": tools}
    message = (await door.http.post("/v1/messages", json=body)).json()
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]
    assert (message["content"][2]["name"], message["content"][2]["input"]) == ("get_weather", {"city": "Berlin"})
    assert message["stop_reason"] == "tool_use"
    tools = [{"type": "function", "name": "get_weather", "parameters": parameters}]
    response = await door.client.responses.create(model="story", input="Weather?", tools=tools)
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
    assert response.output_text == "Let me see."
    assert json.loads(response.output[2].arguments) == {"city": "Berlin"}


async def test_a_named_tool_ends_a_message_by_its_use(door):
    """What chats tell as a plain end, for the client chose the tool, is a tool's use to Anthropic's clients."""
    door.say(reply='{"city": "Rome"}')
    tools = [{"name": "get_weather", "input_schema": FUNCTION["parameters"]}]
    choice = {"type": "tool", "name": "get_weather"}
    body = {"model": "story", "max_tokens": 200, "messages": HELLO, "tools": tools, "tool_choice": choice}
    message = (await door.http.post("/v1/messages", json=body)).json()
    assert (message["stop_reason"], message["content"][0]["input"]) == ("tool_use", {"city": "Rome"})


STRICT = {"type": "function", "function": FUNCTION | {"strict": True}}


async def test_calls_of_strict_tools_are_held_to_their_schemas(open_door):
    """Where the model decides whether to call, the engine's grammar begins where a call does."""
    formats = ModelDefaults(formats=Formats("hermes", "qwen3"))
    async with open_door(defaults=formats, context_tokens=2048, structural_tags=True) as door:
        door.say(reply=f"<think>so</think>Let me see. {CALL}")
        message = (await ask(door, tools=[STRICT, NOW])).choices[0].message
        assert (message.content, len(message.tool_calls), message.reasoning_content) == ("Let me see.", 1, "so")
        tag = json.loads(door.fleet.requests[-1].sampling["structured_outputs"]["structural_tag"])
        assert tag["format"]["triggers"] == ["<tool_call>"]
        schemas = {each["begin"]: each["content"]["json_schema"] for each in tag["format"]["tags"]}
        assert schemas['<tool_call>{"name": "get_weather", "arguments": '] == FUNCTION["parameters"]
        assert schemas['<tool_call>{"name": "now", "arguments": '] == {"type": "object"}
        for free in ({"tools": [WEATHER]}, {"tools": [STRICT], "tool_choice": "none"}):
            await ask(door, **free)
            assert "structured_outputs" not in door.fleet.requests[-1].sampling
        await ask(door, tools=[STRICT], extra_body={"guided_regex": "a"})
        assert door.fleet.requests[-1].sampling["structured_outputs"] == {"regex": "a"}
        await ask(door, tools=[STRICT], tool_choice="required")
        assert "json" in door.fleet.requests[-1].sampling["structured_outputs"]
        door.say(fail_at=0, failure=SamplingRefused("structured_outputs", "cannot be compiled"))
        with pytest.raises(openai.BadRequestError) as refused:
            await ask(door, tools=[STRICT])
        assert refused.value.param == "tools"


@pytest.mark.parametrize("family", ["hermes", "llama3_json"])
async def test_strict_where_nothing_holds_to_it(open_door, family):
    """An engine without structural tags, or a notation without a tag, is asked as for any tool."""
    formats = ModelDefaults(formats=Formats(family, "none"))
    async with open_door(defaults=formats, context_tokens=2048, structural_tags=family != "hermes") as door:
        await ask(door, tools=[STRICT])
        assert "structured_outputs" not in door.fleet.requests[-1].sampling
        with pytest.raises(openai.BadRequestError) as refused:
            await ask(door, tools=[{"type": "function", "function": FUNCTION | {"strict": "yes"}}])
        assert refused.value.param == "tools[0].function.strict"
