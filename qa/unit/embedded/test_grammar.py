"""Answers of the sample model held to schemas, expressions and grammars; it knows no JSON by itself."""

import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tokenizers import Tokenizer

from tritium.backends.embedded.engine import EmbeddedEngine
from tritium.backends.engine import EngineSource, FinishReason

VERSION = Path(__file__).parents[3] / "model_repository" / "tiny_chat" / "1"
FOLDER = VERSION / "tiny_chat"
FORECAST = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Berlin", "Rome"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "rain": {"type": "boolean"},
        "hours": {"type": "array", "items": {"enum": [6, 12, 18]}, "minItems": 2, "maxItems": 3},
    },
    "required": ["city", "days", "rain", "hours"],
    "additionalProperties": False,
}

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


@pytest.fixture
async def driver(drive: Callable[..., Any]) -> AsyncIterator[Any]:
    """The engine on the sample model."""
    async with drive(EmbeddedEngine(EngineSource(FOLDER, json.loads((VERSION / "model.json").read_text())))) as driver:
        yield driver


@pytest.fixture
def ask(driver: Any, tokenizer: Tokenizer) -> Ask:
    """Ask for something held to a form; the text and the last delta come back."""
    prompt = tokenizer.encode("What is the weather?", add_special_tokens=False).ids

    async def one(form: dict[str, Any], **sampling: Any) -> tuple[str, Any]:
        result = await driver.generate(prompt, **{"max_tokens": 200, **sampling, "structured_outputs": form})
        end = result.last.finish == FinishReason.STOP
        return tokenizer.decode(result.tokens[:-1] if end else result.tokens, skip_special_tokens=False), result.last

    return one


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, *({"temperature": 1.5, "seed": seed} for seed in range(8))])
async def test_answer_satisfies_its_schema(ask: Ask, sampling: dict[str, Any]) -> None:
    """However tokens are drawn, the answer is valid by the schema, and ends by itself."""
    text, last = await ask({"json": FORECAST}, **sampling)
    jsonschema.validate(json.loads(text), FORECAST)
    assert last.finish == FinishReason.STOP


async def test_any_object(ask: Ask) -> None:
    """json_object gives an object, or as much of one as the tokens allow."""
    text, last = await ask({"json_object": True}, temperature=1.0, seed=3)
    assert text.startswith("{")
    if last.finish == FinishReason.STOP:
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    ("form", "whole"),
    [
        ({"regex": "[a-f]{3}-[0-9]{4}"}, "[a-f]{3}-[0-9]{4}"),
        ({"choice": ["yes (really)", "no"]}, r"yes \(really\)|no"),
        ({"grammar": 'root ::= "up" | "down" root'}, "(down)*up"),
        ({"json": json.dumps({"enum": [1, 22]})}, "1|22"),
    ],
)
async def test_other_forms(ask: Ask, form: dict[str, Any], whole: str) -> None:
    """Expressions, choices and grammars hold an answer as a schema does."""
    text, last = await ask(form, temperature=1.0, seed=1)
    assert re.fullmatch(whole, text), text
    assert last.finish == FinishReason.STOP


async def test_other_fields_count_too(ask: Ask) -> None:
    """Log probabilities, penalties and limits work within a form; what cannot be reconciled ends the answer."""
    text, last = await ask({"regex": "[0-9]{90}"}, max_tokens=5, logprobs=1, repetition_penalty=1.2, min_tokens=3)
    assert text.isdigit()
    assert (last.finish, len(last.logprobs)) == (FinishReason.LENGTH, 1)
    text, last = await ask({"choice": ["yes"]}, allowed_token_ids=[5])
    assert (text, last.finish) == ("", FinishReason.STOP)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"json": {"type": "nonesuch"}}, "Invalid type: nonesuch"),
        ({"json": "{"}, "json: Expecting property name"),
        ({"json": {"$ref": "#/$defs/none"}}, "does not exist"),
        ({"regex": "("}, "unclosed group"),
        ({"grammar": "nonsense"}, "Expected ::="),
        ({"structural_tag": "{}"}, "serve the model with vllm"),
        ({"json_object": True, "regex": "a"}, "takes one of"),
        ({"regex": "a", "whitespace_pattern": " "}, "has no 'whitespace_pattern'"),
    ],
)
async def test_bad_form_names_its_field(ask: Ask, driver: Any, form: dict[str, Any], words: str) -> None:
    """What cannot be compiled is the request's fault, with the reason, and harms nobody else."""
    _, last = await ask(form)
    assert (last.finish, last.invalid, last.field) == (FinishReason.ERROR, True, "structured_outputs")
    assert words in last.error
    assert (await ask({"choice": ["yes"]}))[0] == "yes"
    assert driver.info.structured


async def test_aborted_while_it_is_compiled(driver: Any) -> None:
    """A sequence that is dropped before its grammar is ready is not heard of, and holds nothing."""
    number = driver.submit([5, 6], structured_outputs={"json": FORECAST})
    driver.engine.abort(number)
    assert len((await driver.generate([5, 6], max_tokens=3, ignore_eos=True)).tokens) == 3
    assert driver.results[number].deltas == []
    assert driver.engine.metrics()["tritium_engine_kv_used_blocks"] == 0


async def test_held_to_the_rest_of_a_form(driver: Any, tokenizer: Tokenizer) -> None:
    """A sequence that another worker began is held to what is left of its schema, from any token on."""
    prompt = tokenizer.encode("What is the weather?", add_special_tokens=False).ids
    form = {"structured_outputs": {"json": FORECAST}, "temperature": 1.5, "seed": 3}
    whole = (await driver.generate(prompt, max_tokens=200, **form)).tokens
    for done in range(1, len(whole), 7):
        rest = await driver.generate(prompt + whole[:done], max_tokens=200 - done, request_resumed_tokens=done, **form)
        assert rest.tokens == whole[done:]
