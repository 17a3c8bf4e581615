"""Every model of the old server asked of both: descriptions, then requests, then how long they took.

What the old server itself answers differently when it is asked again (samples, clocks, counters) cannot be compared
and is said so.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tritium.migration.comparing import description
from tritium.migration.comparing.call import Call, Captured, Inference, Outcome, Unreachable
from tritium.migration.comparing.difference import Difference, Tolerance, differences, places, short
from tritium.migration.comparing.endpoint import Endpoint
from tritium.migration.comparing.latency import Latency, latency
from tritium.migration.comparing.making import generates, make
from tritium.migration.comparing.openai_endpoint import PROTOCOL as OPENAI
from tritium.migration.comparing.openai_endpoint import make_openai
from tritium.migration.comparing.verdict import Exchange, ModelVerdict, Verification

_BROKEN_WITHIN = {"500", "INTERNAL"}


@dataclass(frozen=True, slots=True)
class Asking:
    """How a verification asks: which models, how many made requests, how often each again for its time."""

    models: tuple[str, ...] = ()
    rounds: int = 6
    again: int = 5
    seed: int = 0
    tolerance: Tolerance = field(default_factory=Tolerance)


class Verifier:
    """One run of `verify` over two servers."""

    def __init__(self, old: Endpoint, new: Endpoint, asking: Asking) -> None:
        self._old, self._new, self._asking = old, new, asking
        # Two servers of OpenAI's API have refusals in common, not their words.
        self._tolerance = replace(
            asking.tolerance,
            messages=asking.tolerance.messages and new.protocol != OPENAI,
            text_only=old.protocol != new.protocol,
        )
        # Correlation ids of sequences must not be those of an earlier run that is still open.
        self._correlations = itertools.count(time.time_ns() % (1 << 40))

    def run(self, recorded: Sequence[Captured] | None, done: Callable[[ModelVerdict], None]) -> Verification:
        """Compare the two servers, with recorded calls or with made ones; `done` hears of each model.

        Raises:
            Unreachable: a server does not answer, they are named by different protocols, or the recording is empty.
        """
        if self._new.protocol not in (self._old.protocol, OPENAI) or (
            recorded and self._new.protocol != self._old.protocol
        ):
            raise Unreachable(
                "errors and streams differ between protocols: name both servers by the same protocol, or the new one "
                "by its port of OpenAI's API, to compare generated text"
            )
        if recorded is not None and not recorded:
            raise Unreachable("the recording holds no calls: was anything asked while it ran?")
        states = self._old.models()
        wanted = self._asking.models or tuple(sorted({call.model for call in recorded} if recorded else states))
        if unknown := [name for name in wanted if name not in states]:
            raise Unreachable(f"{self._old.url} has no model {unknown[0]}; it has {', '.join(sorted(states))}")
        there = self._new.models()
        if self._new.protocol == OPENAI and self._old.protocol != OPENAI and not self._asking.models:
            wanted = tuple(name for name in wanted if states[name] == "READY" and self._generates(name))
            if not wanted:
                raise Unreachable(f"{self._old.url} has no model that takes text_input, as OpenAI's completions do")
        verdicts = []
        for name in wanted:
            if states[name] != "READY":
                verdict = ModelVerdict(name, remarks=(f"not ready on the old server ({states[name] or 'unloaded'})",))
            elif there.get(name) != "READY":
                state = there.get(name)
                verdict = ModelVerdict(name, differences=("not there" if state is None else f"not ready ({state})",))
            else:
                calls = None if recorded is None else [call for call in recorded if call.model == name]
                verdict = self._spoken(name, calls) if self._new.protocol == OPENAI else self._model(name, calls)
            verdicts.append(verdict)
            done(verdict)
        return Verification(self._old.url, self._new.url, tuple(verdicts))

    def _model(self, name: str, recorded: Sequence[Captured] | None) -> ModelVerdict:
        configs = [self._config(side, name) for side in (self._old, self._new)]
        differing, remarks = description.configurations(*configs)
        more, also = description.metadata(self._old.metadata(name), self._new.metadata(name))
        differing, remarks = [*more, *differing], [*also, *remarks]
        calls: Sequence[Call]
        if recorded is None:
            asking = self._asking
            made = make(name, configs[0], seed=asking.seed, rounds=asking.rounds, protocol=self._old.protocol)
            calls, remarks = made.calls, [*remarks, *made.remarks]
        else:
            calls, told = self._sendable(recorded)
            remarks += told
        return self._verdict(name, differing, remarks, self._exchanges(calls))

    def _spoken(self, name: str, recorded: Sequence[Captured] | None) -> ModelVerdict:
        """Compare a model whose new server is asked by OpenAI's API: the old one by the same, or by Triton's inputs."""
        calls: Sequence[Call]
        remarks: list[str] = []
        if recorded is not None:
            calls, remarks = self._sendable(recorded)
        elif self._old.protocol == OPENAI:
            calls = make_openai(name)
        else:
            config = self._config(self._old, name)
            made = make(name, config, seed=self._asking.seed, rounds=0, protocol=self._old.protocol)
            calls = made.calls if generates(config) else ()
            remarks = ["the old server's text is compared with /v1/completions of the new one"]
        return self._verdict(name, (), remarks, self._exchanges(calls))

    def _generates(self, name: str) -> bool:
        return generates(self._config(self._old, name))

    def _config(self, side: Endpoint, name: str) -> Any:
        return description.read_config(side.config(name), side.url)

    def _verdict(
        self, name: str, differing: Sequence[str], remarks: Sequence[str], exchanges: Sequence[Exchange]
    ) -> ModelVerdict:
        timed = [exchange.call for exchange in exchanges if not exchange.failed and not _stateful(exchange.call)]
        return ModelVerdict(name, tuple(differing), tuple(remarks), tuple(exchanges), self._latency(timed))

    def _sendable(self, recorded: Sequence[Captured]) -> tuple[list[Captured], list[str]]:
        """Return the recorded calls that both servers can be sent, and a line for each kind that they cannot."""
        calls, reasons = [], dict[str, int]()
        for call in recorded:
            reason = call.refused
            if call.protocol != self._old.protocol:
                reason = f"recorded over {call.protocol}: name both servers by their ports of it"
            if reason:
                reasons[reason] = reasons.get(reason, 0) + 1
            else:
                calls.append(call)
        return calls, [f"{count} calls not sent: {reason}" for reason, count in reasons.items()]

    def _exchanges(self, calls: Sequence[Call]) -> list[Exchange]:
        firsts, seconds, news = (self._pass(side, calls) for side in (self._old, self._old, self._new))
        return [
            self._compared(call, first, second, new)
            for call, first, second, new in zip(calls, firsts, seconds, news, strict=True)
        ]

    def _pass(self, side: Endpoint, calls: Sequence[Call]) -> list[Outcome]:
        """Send all calls in order to one server; its sequences have ids of their own."""
        drawn: dict[int, int] = {}
        return [
            side.send(call, drawn.setdefault(call.sequence, next(self._correlations)))
            if isinstance(call, Inference) and call.sequence
            else side.send(call)
            for call in calls
        ]

    def _compared(self, call: Call, first: Outcome, second: Outcome, new: Outcome) -> Exchange:
        tolerance = self._tolerance
        # Values that are made up may be none that the model takes: how it breaks then, in its own words, says nothing.
        if isinstance(call, Inference) and first.status in _BROKEN_WITHIN:
            tolerance = replace(tolerance, messages=False)
        varying = {one.place for one in differences(first, second, tolerance)}
        found: Iterable[Difference] = differences(first, new, tolerance)
        # Where the old server changes its mind between an answer and an error, nothing of the call can be compared.
        if "status" in varying or "answers" in varying:
            found = ()
        messages = tuple(one.message for one in found if one.place not in varying)
        old_error = f"{first.status} {short(first.message)}" if first.failed else ""
        compared = not first.failed and not varying & {"status", "answers"} and bool(places(first) - varying)
        return Exchange(call, messages, tuple(sorted(varying)), old_error, compared)

    def _latency(self, calls: Sequence[Call]) -> Latency | None:
        if not calls or not self._asking.again:
            return None
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(self._asking.again):
            for call in calls:
                # In turn, so that what else the machine does falls on both.
                for side, times in zip((self._old, self._new), taken, strict=True):
                    times.append(side.send(call).took_s)
        return latency(*taken)


def _stateful(call: Call) -> bool:
    return isinstance(call, Inference) and call.sequence > 0
