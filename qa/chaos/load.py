"""The load of a chaos run: clients that ask for known answers, and what became of each."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

from qa.chaos.server import FleetServer
from qa.chaos.stream import Answer, complete

PROMPTS = 24
HANGS_S = 120.0
"""A request that is neither answered nor failed by then hangs: far beyond every bound of the fleet together."""

LEAVES = 0.1
"""So many of the requests are given up by their client in the middle."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A request, and what comes of it when nothing goes wrong."""

    prompt: str
    tokens: int
    text: str
    counts: tuple[int, int]


def counts_of(answer: Answer) -> tuple[int, int]:
    """Return the tokens of prompt and completion that an answer was said to have."""
    return answer.usage.get("prompt_tokens", -1), answer.usage.get("completion_tokens", -1)


async def references(server: FleetServer) -> list[Expected]:
    """Ask for every answer once, undisturbed.

    Raises:
        RuntimeError: the server fails by itself.
    """
    asked = [
        (f"Tale {index}: once upon a time there were {index * 7} models", 20 + index * 11) for index in range(PROMPTS)
    ]
    answers = await asyncio.gather(
        *(complete(server.port, server.name, prompt, tokens, within_s=HANGS_S) for prompt, tokens in asked)
    )
    for answer in answers:
        if answer.error:
            raise RuntimeError(f"undisturbed, an answer failed: {answer.error}")
    return [
        Expected(prompt, tokens, answer.text, counts_of(answer))
        for (prompt, tokens), answer in zip(asked, answers, strict=True)
    ]


class Load:
    """Clients of one server. `ending` is set when they are to finish what they have."""

    def __init__(self, server: FleetServer, expected: list[Expected], seed: int) -> None:
        self.ending = False
        self._server = server
        self._expected = expected
        self._chance = random.Random(seed + 1)
        self._came: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._complaints: list[str] = []
        self._gaps_s: list[float] = []

    async def client(self) -> None:
        """Ask one request after the other."""
        while not self.ending:
            expected = self._chance.choice(self._expected)
            if self._chance.random() < LEAVES:
                await self._leave(expected)
                continue
            try:
                answer = await complete(
                    self._server.port, self._server.name, expected.prompt, expected.tokens, within_s=HANGS_S
                )
            except TimeoutError:
                self._came["hung"] += 1
                self._complaints.append(f"no answer and no error within {HANGS_S:g} s: {expected.prompt}")
                continue
            self._judge(expected, answer)
            if answer.error:
                await asyncio.sleep(0.1)

    def _judge(self, expected: Expected, answer: Answer) -> None:
        if answer.error:
            self._came["failed"] += 1
            self._errors[answer.error[:160]] += 1
            if not expected.text.startswith(answer.text):
                self._complaints.append(f"wrong before it failed: {answer.text!r} instead of {expected.text!r}")
        elif answer.text != expected.text or counts_of(answer) != expected.counts:
            self._came["wrong"] += 1
            self._complaints.append(
                f"{answer.text!r} {counts_of(answer)} instead of {expected.text!r} {expected.counts}"
            )
        else:
            self._came["right"] += 1
            self._gaps_s.append(answer.gap_s)

    async def _leave(self, expected: Expected) -> None:
        """Ask, and go away after a while: the server has to forget the request wherever it stands."""
        self._came["left"] += 1
        asking = asyncio.create_task(
            complete(self._server.port, self._server.name, expected.prompt, expected.tokens, within_s=HANGS_S)
        )
        await asyncio.sleep(self._chance.uniform(0.0, 0.5))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    @property
    def errors(self) -> Counter[str]:
        """Return how often requests failed, by the error."""
        return self._errors

    def complaints(self) -> list[str]:
        """Return what was not as it should be."""
        return self._complaints if self._came["right"] else [*self._complaints, "no request was answered at all"]

    def table(self) -> str:
        """Return what became of the requests, as a person reads it."""
        told = ", ".join(f"{came} {count}" for came, count in sorted(self._came.items()))
        gaps = sorted(self._gaps_s)
        slow = f"p99 {gaps[int(len(gaps) * 0.99)]:.2f} s, max {gaps[-1]:.2f} s" if gaps else "none"
        errors = "".join(f"\n  {count} x {error}" for error, count in self._errors.most_common(8))
        return f"requests: {told}\nlongest pause in right answers: {slow}\nerrors:{errors or ' none'}"
