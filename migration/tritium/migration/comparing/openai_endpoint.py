"""A server of OpenAI's API: chat, completions, embeddings; and what a Triton client asks as generate, as a completion.

The text of an answer is compared as that of Triton's language models is, so it goes under the same name.
"""

import json
import time
from typing import Any

from tritium.migration.comparing.call import Answer, Call, Captured, Inference, Outcome, Unreachable
from tritium.migration.comparing.difference import TEXT_OUTPUT
from tritium.migration.comparing.http_connection import HttpConnection, error_of, events
from tritium.migration.comparing.making import GREEDY_TOKENS, PROMPTS, TEXT_INPUT
from tritium.migration.comparing.tensor import Tensor, from_elements

PROTOCOL = "openai"
_CHAT, _COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_STRANGER = "no-such-model"
_NOT_COMPARED = {"id", "created", "model", "object", "usage", "system_fingerprint", "service_tier"}


class OpenAIEndpoint:
    """One server of OpenAI's API."""

    protocol = PROTOCOL

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection
        self.url = connection.url

    def models(self) -> dict[str, str]:
        """Ask for the list of models; all that it has are ready."""
        listed = self._connection.document("GET", "/v1/models")
        entries = listed.get("data") if isinstance(listed, dict) else None
        if not isinstance(entries, list):
            raise Unreachable(f"{self.url}/v1/models is not answered as OpenAI does")
        return {str(entry["id"]): "READY" for entry in entries if isinstance(entry, dict) and "id" in entry}

    def metadata(self, model: str) -> dict[str, Any]:  # noqa: ARG002  (of every endpoint)
        """Return nothing: OpenAI's API does not describe models."""
        return {}

    def config(self, model: str) -> dict[str, Any]:  # noqa: ARG002  (of every endpoint)
        """Return nothing, likewise."""
        return {}

    def send(self, call: Call, correlation: int = 0) -> Outcome:  # noqa: ARG002  (there are no sequences)
        """Send a recorded or made call as it is; what was made for Triton becomes a greedy completion."""
        if isinstance(call, Captured):
            return self._send(call.path, call.messages[0] if call.messages else b"")
        return self._send(_COMPLETIONS, _completion(call))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _send(self, path: str, body: bytes) -> Outcome:
        began = time.perf_counter()
        response = self._connection.ask("POST", path, body, {"Content-Type": "application/json"})
        if response.headers.get_content_type() == "text/event-stream":
            answers: list[Answer] = []
            first_s, message = 0.0, ""
            for event in events(response):
                first_s = first_s or time.perf_counter() - began
                document = _parsed(event)
                if "error" in document:
                    message = error_of(event)
                else:
                    answers.append(_answer(document))
            return Outcome(tuple(answers), "error" if message else "ok", message, time.perf_counter() - began, first_s)
        raw, cut = self._connection.read(response)
        took_s = time.perf_counter() - began
        if cut:
            return Outcome(status="cut off", message=cut, took_s=took_s)
        if response.status >= 400:
            return Outcome(status=str(response.status), message=error_of(raw), took_s=took_s, first_s=took_s)
        return Outcome((_answer(_parsed(raw)),), took_s=took_s, first_s=took_s)


def make_openai(model: str) -> list[Captured]:
    """Make calls for a model: greedy chat and completions, whole and streamed, and two that must be refused."""
    calls = []
    for prompt in PROMPTS:
        for path, asked in (
            (_CHAT, {"messages": [{"role": "user", "content": prompt}]}),
            (_COMPLETIONS, {"prompt": prompt}),
        ):
            for stream in (False, True):
                about = f"{path} {prompt!r}, greedy{', streamed' if stream else ''}"
                calls.append(_call(model, path, about, {**_greedy(model), **asked, "stream": stream}))
    asked = {**_greedy(model), "prompt": PROMPTS[0]}
    calls.append(_call(model, _COMPLETIONS, "a model that is not there", {**asked, "model": _STRANGER}))
    calls.append(_call(model, _COMPLETIONS, "fewer than no tokens", {**asked, "max_tokens": -1}))
    return calls


def _greedy(model: str) -> dict[str, Any]:
    return {"model": model, "temperature": 0, "max_tokens": GREEDY_TOKENS}


def _call(model: str, path: str, about: str, asked: dict[str, Any]) -> Captured:
    return Captured(PROTOCOL, model, about, path, messages=(json.dumps(asked).encode(),))


def _completion(call: Inference) -> bytes:
    """Return the body of the completion that a Triton client asks for by text_input."""
    prompt = next((tensor for tensor in call.inputs if tensor.name == TEXT_INPUT), None)
    text = prompt.texts()[0].decode(errors="replace") if prompt is not None else ""
    return json.dumps({**_greedy(call.model), "prompt": text, "stream": call.streamed}).encode()


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except ValueError:
        return {"text": raw.decode(errors="replace")}
    return document if isinstance(document, dict) else {"value": document}


def _answer(document: dict[str, Any]) -> Answer:
    """Return an answer, or a part of one, without what names the call: its text, its vectors, and what else it says."""
    if "choices" not in document:
        tensors = tuple(_vectors(document.get("data")))
        kept = {key: value for key, value in document.items() if key not in _NOT_COMPARED}
        if tensors:
            kept.pop("data", None)
        return Answer(tensors, kept)
    text, calls = "", ""
    for choice in document["choices"]:
        said = choice.get("message") or choice.get("delta") or {}
        text += str(choice.get("text") or said.get("reasoning_content") or "") + str(said.get("content") or "")
        for one in said.get("tool_calls") or []:
            function = one.get("function", {})
            calls += f"{function.get('name') or ''}{function.get('arguments') or ''}"
    return Answer(document={TEXT_OUTPUT: text + calls})


def _vectors(data: Any) -> list[Tensor]:
    return [
        from_elements(f"embedding {number}", "FP32", (len(one["embedding"]),), one["embedding"])
        for number, one in enumerate(data if isinstance(data, list) else [])
        if isinstance(one, dict) and isinstance(one.get("embedding"), list)
    ]
