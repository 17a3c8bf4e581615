"""Tools and structured answers of a real vLLM worker through the openai package.

The sample model writes no tool calls by itself: its engine's guided decoding makes it, so that every part is real but
the wish to call. The server starts once for all tests, for a vLLM worker takes the better part of a minute.
"""

import importlib.util
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import openai
import pydantic
import pytest
from qa.e2e.product import ROOT, Product

START_S = 300

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test installs it"),
    pytest.mark.timeout(2 * START_S),
]

QUESTION = [{"role": "user", "content": "What is the weather in Berlin?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Berlin", "Rome"]}, "days": {"enum": [1, 2, 3]}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
CALL = r'<tool_call>\{"name": "get_weather", "arguments": \{"city": "(Berlin|Rome)", "days": [1-3]\}\}</tool_call>'
ASK: Any = {"model": "tiny_chat", "messages": QUESTION, "max_tokens": 200, "temperature": 0}


class Forecast(pydantic.BaseModel):
    """What the model is asked for by `parse`."""

    city: Literal["Berlin", "Rome"]
    days: Literal[1, 2, 3]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Serve the sample model on vLLM, its tool parser named in model.json."""
    repository = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "model_repository" / "tiny_chat", repository / "tiny_chat")
    path = repository / "tiny_chat" / "1" / "model.json"
    # A model that knows no JSON would fill its answer with the white space that grammars allow.
    more = {
        "tool_parser": "hermes",
        "structured_outputs_config": {"disable_any_whitespace": True, "backend": "xgrammar"},
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    product = Product([str(repository), "--engine=vllm"], wait_s=START_S)
    assert "OpenAI" in product.ports, product.output
    yield product
    assert product.stop() == 0, product.output


@pytest.fixture
async def client(served: Product) -> AsyncIterator[openai.AsyncOpenAI]:
    """An asynchronous client."""
    url = f"http://{served.url('OpenAI')}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=120) as made:
        yield made


@pytest.fixture
def plain(served: Product) -> Iterator[openai.OpenAI]:
    """A synchronous client."""
    with openai.OpenAI(
        base_url=f"http://{served.url('OpenAI')}/v1", api_key="none", max_retries=0, timeout=120
    ) as made:
        yield made


async def test_required_call(client: openai.AsyncOpenAI) -> None:
    """A required call is made by guided decoding: its arguments satisfy the tool's schema."""
    answer = await client.chat.completions.create(
        **ASK, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False
    )
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    calls = choice.message.tool_calls or []
    assert [call.function.name for call in calls] == ["get_weather"]
    Forecast.model_validate_json(calls[0].function.arguments)


async def test_named_call_streamed(client: openai.AsyncOpenAI) -> None:
    """A call of a named function streams: id and name first, then fragments that join to valid arguments."""
    choice: Any = {"type": "function", "function": {"name": "get_weather"}}
    stream = await client.chat.completions.create(**ASK, tools=[WEATHER], tool_choice=choice, stream=True)
    chunks = [chunk async for chunk in stream]
    calls = [chunk.choices[0].delta.tool_calls[0] for chunk in chunks if chunk.choices[0].delta.tool_calls]
    assert (calls[0].index, calls[0].function.name, bool(calls[0].id)) == (0, "get_weather", True)
    assert len(calls) > 3
    Forecast.model_validate_json("".join(call.function.arguments or "" for call in calls))
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True])
async def test_call_in_the_models_notation(client: openai.AsyncOpenAI, *, stream: bool) -> None:
    """With tool_choice auto the model's own notation is read; here a regular expression makes it write that."""
    body = {"structured_outputs": {"regex": rf"Let me see\. {CALL}\n{CALL}"}}
    if stream:
        async with client.chat.completions.stream(**ASK, tools=[WEATHER], extra_body=body) as events:
            kinds = {event.type async for event in events}
            answer = await events.get_final_completion()
        assert {"content.delta", "tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds
    else:
        answer = await client.chat.completions.create(**ASK, tools=[WEATHER], extra_body=body)
    message = answer.choices[0].message
    assert message.content == "Let me see."
    calls = message.tool_calls or []
    assert len(calls) == 2
    for call in calls:
        Forecast.model_validate_json(call.function.arguments)
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_strict_tools(client: openai.AsyncOpenAI) -> None:
    """With tool_choice auto vLLM takes the structural tag that holds strict calls; a schema it cannot read is a 400."""
    strict = {"type": "function", "function": WEATHER["function"] | {"strict": True}}
    answer = await client.chat.completions.create(**ASK, tools=[strict])
    assert answer.choices[0].message.content
    broken = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"properties": {"a": 1}}}}
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(**ASK, tools=[broken])
    assert refused.value.param == "tools"


async def test_parse(client: openai.AsyncOpenAI) -> None:
    """`parse` sends a class's strict schema and gets an instance of the class."""
    answer = await client.chat.completions.parse(**ASK, response_format=Forecast)
    assert isinstance(answer.choices[0].message.parsed, Forecast)


def test_parse_of_the_synchronous_client(plain: openai.OpenAI) -> None:
    """So does the synchronous client, by the path of `beta` too, and with a stream."""
    assert isinstance(
        plain.beta.chat.completions.parse(**ASK, response_format=Forecast).choices[0].message.parsed, Forecast
    )
    with plain.chat.completions.stream(**ASK, response_format=Forecast) as events:
        for _ in events:
            pass
        assert isinstance(events.get_final_completion().choices[0].message.parsed, Forecast)


def test_parsed_tool_arguments(plain: openai.OpenAI) -> None:
    """A tool made of a class comes back with its arguments as an instance."""
    tool = openai.pydantic_function_tool(Forecast)
    answer = plain.chat.completions.parse(**ASK, tools=[tool], tool_choice="required", parallel_tool_calls=False)
    calls = answer.choices[0].message.tool_calls or []
    assert [type(call.function.parsed_arguments) for call in calls] == [Forecast]


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"structured_outputs": {"choice": ["yes", "no"]}}, {"yes", "no"}),
        ({"guided_choice": ["yes", "no"]}, {"yes", "no"}),
        ({"guided_regex": "(left|right)"}, {"left", "right"}),
        ({"structured_outputs": {"grammar": 'root ::= "up" | "down"'}}, {"up", "down"}),
        ({"guided_json": {"enum": ["a", "b"]}}, {'"a"', '"b"'}),
        ({"response_format": {"type": "structural_tag", "format": {"type": "const_string", "value": "ok"}}}, {"ok"}),
    ],
)
async def test_held_to_a_form(client: openai.AsyncOpenAI, fields: dict[str, Any], allowed: set[str]) -> None:
    """Choices, expressions, grammars and schemas hold an answer to what they allow, by both vLLM's names."""
    answer = await client.chat.completions.create(**ASK, extra_body=fields)
    assert answer.choices[0].message.content in allowed


async def test_json_object(client: openai.AsyncOpenAI) -> None:
    """json_object gives an object, or as much of one as the tokens allow."""
    answer = await client.chat.completions.create(**ASK, response_format={"type": "json_object"})
    text = answer.choices[0].message.content or ""
    assert text.startswith("{")
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("guided_regex", "(unclosed"),
        ("guided_grammar", "nonsense"),
        ("guided_json", "{"),
        ("structured_outputs", {"structural_tag": "{}"}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonesuch"}}}),
    ],
)
async def test_bad_form_is_the_requests_fault(client: openai.AsyncOpenAI, field: str, value: Any) -> None:
    """What the engine cannot make a grammar of is a 400 with its reason, and the name of the field."""
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(**ASK, extra_body={field: value})
    assert (refused.value.type, refused.value.param) == ("invalid_request_error", field)
