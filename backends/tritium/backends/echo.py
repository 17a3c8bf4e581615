"""An engine that gives the prompt back, a token at a time: for trying a server with a tokenizer and no model.

submit -> at every beat one token of every sequence -> on_step
"""

import asyncio
from importlib.metadata import version
from typing import Annotated, Any

import msgspec

from tritium.backends.engine import (
    Delta,
    EngineInfo,
    EngineSinks,
    EngineSource,
    FinishReason,
    Generate,
    Role,
    Step,
)
from tritium.core.errors import InvalidArgument

CONTEXT = 131_072
SEQUENCES = 1_024
BLOCK_TOKENS = 16


class EchoArguments(msgspec.Struct, frozen=True):
    """`tokens_per_second` of every sequence, 0 for as fast as it goes; the rest of model.json means nothing here."""

    tokens_per_second: Annotated[float, msgspec.Meta(ge=0)] = 50.0
    max_model_len: Annotated[int, msgspec.Meta(ge=2)] = CONTEXT


class _Heeded(msgspec.Struct, frozen=True):
    """The sampling fields that change something, and the one that would promise what an echo cannot hold."""

    structured_outputs: dict[str, Any] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    ignore_eos: bool = False


class _Echo:
    """One sequence: what it says, how often, and how much of it is said."""

    __slots__ = ("endless", "id", "room", "said", "tokens")

    def __init__(self, request: Generate, room: int, *, endless: bool) -> None:
        self.id, self.tokens, self.room, self.endless = request.id, request.token_ids, room, endless
        self.said = 0


class EchoEngine:
    """A LanguageEngine that says what it is told, and ends; with ignore_eos it says it again up to max_tokens."""

    def __init__(self, source: EngineSource) -> None:
        self._source = source
        self._live: dict[int, _Echo] = {}
        self._refused: list[Delta] = []
        self._timer: asyncio.Handle | None = None
        self._prompt_tokens = 0
        self._output_tokens = 0

    async def start(self, sinks: EngineSinks) -> EngineInfo:
        """Begin to listen.

        Raises:
            InvalidArgument: an argument of the wrong type or range, or a fleet with roles.
        """
        try:
            self._arguments = msgspec.convert(dict(self._source.arguments), EchoArguments)
        except msgspec.ValidationError as reason:
            raise InvalidArgument(f"engine arguments: {reason}") from None
        if self._source.role is not Role.AGGREGATED:
            raise InvalidArgument("the echo engine has no KV to move", hint="give the fleet workers without roles")
        self._sinks = sinks
        self._loop = asyncio.get_running_loop()
        rate = self._arguments.tokens_per_second
        self._beat_s = 1 / rate if rate else 0.0
        return EngineInfo(
            engine="echo",
            version=version("tritium"),
            context_tokens=self._arguments.max_model_len,
            block_tokens=BLOCK_TOKENS,
            total_blocks=0,
            max_sequences=SEQUENCES,
            structured=False,
        )

    def submit(self, request: Generate) -> None:
        """Queue one sequence; sampling fields that choose among words are taken and mean nothing."""
        try:
            heeded = msgspec.convert(request.sampling, _Heeded)
            self._live[request.id] = self._begin(request, heeded)
        except (msgspec.ValidationError, InvalidArgument) as error:
            self._refused.append(Delta(request.id, [], FinishReason.ERROR, error=str(error), invalid=True))
        if self._timer is None:
            self._timer = self._loop.call_soon(self._step)

    def _begin(self, request: Generate, heeded: _Heeded) -> _Echo:
        count, context = len(request.token_ids), self._arguments.max_model_len
        if not 0 < count < context:
            raise InvalidArgument(f"the prompt has {count} tokens and the context of this model is {context}")
        if heeded.structured_outputs is not None:
            raise InvalidArgument("the echo engine holds its answers to no form: they are the prompt")
        if request.lora or request.transfer or request.media:
            raise InvalidArgument("the echo engine takes token ids alone: no adapters, no media, no KV of others")
        room = min(heeded.max_tokens or context, context - count)
        self._prompt_tokens += count
        return _Echo(request, room, endless=heeded.ignore_eos)

    def abort(self, id: int) -> None:  # noqa: A002  the contract's name
        """Drop one sequence."""
        self._live.pop(id, None)
        self._refused = [each for each in self._refused if each.id != id]

    def metrics(self) -> dict[str, float]:
        """Return counters since the start, by metric name."""
        return {
            "tritium_engine_running": len(self._live),
            "tritium_engine_prompt_tokens_total": self._prompt_tokens,
            "tritium_engine_output_tokens_total": self._output_tokens,
        }

    async def stop(self) -> None:
        """Say no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._live.clear()

    def _step(self) -> None:
        deltas, self._refused = self._refused, []
        deltas += [self._say(echo) for echo in tuple(self._live.values())]
        self._timer = None
        if deltas:
            self._sinks.on_step(Step(deltas, len(self._live)))
        if self._timer is None and (self._live or self._refused):
            self._timer = self._loop.call_later(self._beat_s, self._step)

    def _say(self, echo: _Echo) -> Delta:
        if echo.said == len(echo.tokens) and not echo.endless:
            # Without a token: the last one of a stop is taken for the end of the sequence, and not for text.
            del self._live[echo.id]
            return Delta(echo.id, [], FinishReason.STOP)
        delta = Delta(echo.id, [echo.tokens[echo.said % len(echo.tokens)]])
        if not echo.said:
            delta.cached_tokens = 0
        echo.said += 1
        self._output_tokens += 1
        if echo.said == echo.room:
            delta.finish = FinishReason.LENGTH
            del self._live[echo.id]
        return delta
