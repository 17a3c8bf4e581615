"""One tensor model as a language model: a prompt and fields become its inputs, its responses a text that grows."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from tritium.compat.datatypes import BY_NAME
from tritium.core.errors import InferenceError, InvalidArgument
from tritium.core.model import Model
from tritium.core.replies import StreamReply
from tritium.core.request import InferRequest, InferResponse
from tritium.core.tensor import Tensor, from_array, join_bytes
from tritium.llm.conversation import template_messages
from tritium.llm.errors import FieldRefused
from tritium.llm.stop import StopMatcher
from tritium.llm.template import ChatTemplate, Message
from tritium.llm.text_models.mapping import PREFIX, SAMPLING, TextMapping
from tritium.llm.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class TextPiece:
    """What one response added to the text; `finish` is set in the last one."""

    text: str
    finish: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the configuration of a model says of it as a language model."""

    mapping: TextMapping
    template: ChatTemplate | None = None
    tokenizer: Tokenizer | None = None
    made_s: int = field(default_factory=lambda: int(time.time()))


class OfferedModel:
    """A tensor model that is offered on the OpenAI routes."""

    def __init__(self, model: Model, offer: Offer) -> None:
        self.name = model.name
        self.loaded_s = offer.made_s
        self._model = model
        self._mapping = offer.mapping
        self._template = offer.template
        self._tokenizer = offer.tokenizer

    def check_fields(self, given: Mapping[str, Any]) -> None:
        """Check that the model takes the fields of a request.

        Raises:
            FieldRefused: it takes one of them not, and the configuration does not say that such are ignored.
        """
        if self._mapping.ignores_others:
            return
        for name in given:
            if name not in self._mapping.fields and name != "stop":
                hint = f"leave it out; or map it in config.pbtxt: '{PREFIX}{name}'" if name in SAMPLING else ""
                raise FieldRefused(name, f"{name} is not taken by the model `{self.name}`", hint=hint)

    async def render(self, messages: Sequence[Message]) -> str | list[Message]:
        """Return the prompt of a conversation; the messages themselves where the model takes these.

        Raises:
            InvalidArgument: the template refuses them, or there is neither.
        """
        if self._template is not None:
            return await self._template.render_aside(await template_messages(messages, self._template.content_format))
        if self._mapping.messages is not None:
            return list(messages)
        raise InvalidArgument(
            f"The model `{self.name}` has no chat template.",
            hint=f"use /v1/completions, or name one in config.pbtxt: '{PREFIX}chat_template', '{PREFIX}messages'",
        )

    async def count(self, texts: Sequence[str]) -> int | None:
        """Return how many tokens texts have together; None where no tokenizer is given."""
        if self._tokenizer is None:
            return None
        return sum([len(await self._tokenizer.encode(text, add_special=False)) for text in texts])

    def request(
        self, prompt: str | list[Message], given: Mapping[str, Any], *, stream: bool, request_id: str
    ) -> InferRequest:
        """Make the request of one prompt.

        Raises:
            FieldRefused: the prompt comes in a form that the model has no input for, or a field's value does not fit.
        """
        mapping = self._mapping
        values: dict[str, Any] = {spec.name: value for spec, value in mapping.constants.items()}
        if isinstance(prompt, str):
            if mapping.input is None:
                raise FieldRefused("prompt", f"the model `{self.name}` takes conversations only: /v1/chat/completions")
            values[mapping.input.name] = [prompt]
        else:
            assert mapping.messages is not None
            values[mapping.messages.name] = [msgspec.json.encode(prompt).decode()]
        if mapping.stream is not None:
            values[mapping.stream.name] = [stream]
        for name, value in given.items():
            if name in mapping.fields:
                values[mapping.fields[name].name] = value if isinstance(value, list) else [value]
        inputs = [self._tensor(name, value) for name, value in values.items()]
        return InferRequest(self.name, id=request_id, inputs=inputs)

    def _tensor(self, name: str, values: list[Any]) -> Tensor:
        spec = self._model.config.inputs[name]
        batch = (1,) if self._model.config.batches else ()
        # One open dimension holds the values; every other one has the size that is configured.
        shape = (*batch, *(len(values) if dim == -1 else dim for dim in spec.dims))
        if spec.datatype == "BYTES":
            return Tensor(name, spec.datatype, shape, join_bytes([str(value) for value in values]))
        array = _fitting(values, shape, BY_NAME[spec.datatype].numpy)
        if array is None:
            message = f"{values} does not fit the input '{name}' of type {spec.datatype} and shape {list(shape)}"
            raise FieldRefused(name, message)
        return from_array(name, array, spec.datatype)

    async def run(self, request: InferRequest, stops: Sequence[str]) -> AsyncIterator[TextPiece]:
        """Run a request and give its text piece by piece; stop strings that the model has no input for end it here.

        Raises:
            InferenceError: the model refuses or fails.
        """
        reply = StreamReply(request.cancel)
        self._model.submit(request, reply)
        reading = _Reading(self._mapping, stops if "stop" not in self._mapping.fields else ())
        async for item in reply:
            if isinstance(item, InferenceError):
                raise item
            text = reading.take(item)
            if reading.stopped:
                request.cancel()
                yield TextPiece(text, "stop")
                return
            if text:
                yield TextPiece(text)
        yield TextPiece(reading.rest(), reading.finish)


def _fitting(values: list[Any], shape: tuple[int, ...], kind: Any) -> np.ndarray[Any, Any] | None:
    """Return values as an array, or None where they have no such shape or, integers, are beyond their type."""
    try:
        given = np.array(values).reshape(shape)
        made = given.astype(kind)
    except (ValueError, OverflowError):
        return None
    return None if np.issubdtype(kind, np.integer) and not np.array_equal(given, made) else made


class _Reading:
    """The text of one answer as its responses come."""

    def __init__(self, mapping: TextMapping, stops: Sequence[str]) -> None:
        self._mapping = mapping
        self._matcher = StopMatcher(stops) if stops else None
        self._before = ""
        self.finish = "stop"

    @property
    def stopped(self) -> bool:
        return self._matcher is not None and self._matcher.matched is not None

    def take(self, response: InferResponse) -> str:
        """Return what a response adds to the text that is safe to send."""
        fresh = _text(response, self._mapping.output.name)
        if self._mapping.cumulative:
            # What is taken back cannot be taken back: only what goes on from what was sent is new.
            new = fresh.removeprefix(self._before) if fresh.startswith(self._before) else ""
            self._before, fresh = fresh or self._before, new
        if self._mapping.finish_reason is not None:
            said = _text(response, self._mapping.finish_reason.name)
            self.finish = said if said and said != "None" else self.finish
        return fresh if self._matcher is None else self._matcher.push(fresh)

    def rest(self) -> str:
        """Return what was held back: the text is over."""
        return "" if self._matcher is None else self._matcher.flush()


def _text(response: InferResponse, name: str) -> str:
    """Return the first string of an output; a response may come without it."""
    for tensor in response.outputs:
        if tensor.name == name:
            elements = tensor.array().ravel()
            return bytes(elements[0]).decode("utf-8", "replace") if elements.size else ""
    return ""
