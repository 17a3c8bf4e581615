"""`python qa/e2e/clients/openai_document.py openapi.json [URL] [MODEL]`: our answers, read by OpenAI's own document.

The document is https://github.com/openai/openai-openapi; it is not kept here. Every route that both have is asked in
each of its shapes, whole and streamed, and every body and event is held to the schema that the document has for it.
"""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types

Json = dict[str, Any]

_PARAMETERS = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
_FUNCTION = {"name": "f", "parameters": _PARAMETERS}
_SAID = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
_CHATS: Mapping[str, Json] = {
    "plain": {},
    "scores": {"logprobs": True, "top_logprobs": 2},
    "several": {"n": 2},
    "tool": {"tools": [{"type": "function", "function": _FUNCTION}], "tool_choice": "required", "max_tokens": 60},
    "function": {"functions": [_FUNCTION], "function_call": {"name": "f"}, "max_tokens": 60},
}
_COMPLETIONS: Mapping[str, Json] = {"plain": {}, "scores": {"logprobs": 2}, "echo": {"echo": True}}
_RESPONSES: Mapping[str, Json] = {
    "plain": {},
    "scores": {"top_logprobs": 2, "include": ["message.output_text.logprobs"]},
    "tool": {"tools": [{"type": "function", **_FUNCTION, "strict": False}], "tool_choice": "required"},
    "instructed": {"instructions": "be kind", "metadata": {"a": "b"}, "reasoning": {"effort": "low"}},
}


class Checker:
    """Asks a server and reads what it says by the document."""

    def __init__(self, document: Json, url: str) -> None:
        self._document = _nullable(document)
        self._url = url
        self.held = 0
        self.faults: list[str] = []
        self.unserved: list[str] = []

    def ask(self, what: str, path: str, body: Json | None = None, *, of: str = "", event: str = "") -> Json:
        """Ask, hold the answer or its events to the schema of the route `of`, and return what came last."""
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self._url}/v1{path}", data)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            self.unserved.append(f"{what}: {error.code} {error.read().decode()[:200]}")
            return {}
        operation = self._document["paths"][of or path]["post" if body is not None else "get"]
        content = operation["responses"]["200"]["content"]
        schema = content.get("text/event-stream", content["application/json"])["schema"]
        if event:
            schema = {"$ref": f"#/components/schemas/{event}"}
        streamed = body is not None and bool(body.get("stream"))
        said: Json = {}
        for said in _events(text) if streamed else [json.loads(text)]:
            self._hold(what, schema if streamed else content["application/json"]["schema"], said)
        return said

    def _hold(self, what: str, schema: Json, said: Json) -> None:
        self.held += 1
        whole = {**schema, "components": self._document["components"]}
        for error in Draft202012Validator(whole).iter_errors(_without_usual_nulls(said)):
            self.faults.append(f"{what}: {list(error.absolute_path)} {error.message[:300]}")


def _events(text: str) -> Iterator[Json]:
    lines = (line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {"))
    yield from map(json.loads, lines)


def _without_usual_nulls(said: Json) -> Json:
    """Return a body without the nulls that OpenAI sends too, against its document."""
    if said.get("object") == "text_completion":
        choices = [{**choice, "finish_reason": choice["finish_reason"] or "stop"} for choice in said["choices"]]
        return {**said, "choices": choices}
    response = said.get("response")
    if isinstance(response, dict) and response["usage"] is None:
        return {**said, "response": {name: value for name, value in response.items() if name != "usage"}}
    return said


def _nullable(node: Any) -> Any:
    """Return a schema whose `nullable` is written as JSON Schema has it."""
    if isinstance(node, list):
        return [_nullable(one) for one in node]
    if not isinstance(node, dict):
        return node
    plain = {name: _nullable(value) for name, value in node.items() if name != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if node.get("nullable") is True else plain


def main(document: str, url: str = "http://127.0.0.1:9000", model: str = "tiny_chat") -> int:
    """Ask everything and return the exit status."""
    checker = Checker(json.loads(Path(document).read_text()), url)
    for stream in ({}, {"stream": True}):
        for name, more in _CHATS.items():
            body = {"model": model, **_SAID, **more, **stream}
            event = "CreateChatCompletionStreamResponse" if stream else ""
            checker.ask(f"chat, {name}", "/chat/completions", body, event=event)
        for name, more in _COMPLETIONS.items():
            checker.ask(f"completion, {name}", "/completions", {"model": model, "prompt": "hello", **more, **stream})
        for name, more in _RESPONSES.items():
            body = {"model": model, "input": "hello", "user": "u", "max_output_tokens": 60, **more, **stream}
            kept = checker.ask(f"response, {name}", "/responses", body).get("id", "")
            if kept.startswith("resp_"):
                checker.ask(f"response read, {name}", f"/responses/{kept}", of="/responses/{response_id}")
                items = "/responses/{response_id}/input_items"
                checker.ask(f"items, {name}", items.replace("{response_id}", kept), of=items)
    checker.ask("embeddings", "/embeddings", {"model": model, "input": "hello"})
    checker.ask("models", "/models")
    checker.ask("model", f"/models/{model}", of="/models/{model}")
    for line in checker.faults:
        print(f"FAULT {line}")
    for line in checker.unserved:
        print(f"refused {line}")
    print(f"{checker.held} bodies and events held to OpenAI's document, {len(checker.faults)} faults")
    return 1 if checker.faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
