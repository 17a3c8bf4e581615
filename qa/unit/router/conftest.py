"""Reads routing scripts: prose, one command a line, what it prints below it, a blank line between cases."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tritium.core.errors import InferenceError
from tritium.router.book import Lease
from tritium.router.choice import Mode
from tritium.router.disaggregation import decide_prefill
from tritium.router.router import Prompt, Router


@dataclass
class Case:
    line: int
    command: str
    expected: list[str]


def read_cases(path: Path) -> Iterator[Case]:
    case = None
    for number, text in enumerate(path.read_text().splitlines(), 1):
        if text.startswith("-"):
            case.expected.append(text[1:])
        elif text.strip() and not text.startswith("#"):
            if case:
                yield case
            case = Case(number, text, [])
    if case:
        yield case


class Desk:
    """A router worked by commands. A word of a prompt stands for one full block of tokens; `+3` for 3 tokens more."""

    def __init__(self) -> None:
        self.router = Router(block_tokens=4)
        self.prompts: dict[str, Prompt] = {}
        self.leases: dict[str, Lease] = {}

    def run(self, command: str) -> list[str]:
        verb, *words = shlex.split(command)
        try:
            return getattr(self, f"do_{verb}")(*words) or []
        except InferenceError as error:
            return [f"{type(error).__name__}: {error.message}"]

    def tokens(self, words) -> list[int]:
        found = []
        for word in words:
            if word.startswith("+"):
                found += [0] * int(word[1:])
            else:
                found += [int.from_bytes(word.encode()[:3], "big") * 4 + i for i in range(self.router.block_tokens)]
        return found

    def options(self, words):
        plain = [word for word in words if "=" not in word]
        return plain, dict(word.split("=", 1) for word in words if "=" in word)

    def do_mode(self, mode):
        self.router.mode = Mode(mode)

    def do_workers(self, *words):
        names, options = self.options(words)
        for name in names:
            self.router.add(
                name,
                capacity_blocks=int(options.get("capacity", 1000)),
                max_sequences=int(options.get("sequences", 100)),
            )

    def do_remove(self, name):
        self.router.remove(name)

    def do_stored(self, worker, *words):
        words, options = self.options(words)
        parent = options.get("after")
        self.router.stored(
            worker,
            [hash((worker, word)) for word in words],
            hash((worker, parent)) if parent else None,
            self.tokens(words),
            salt=options.get("salt", ""),
            lora=options.get("lora", ""),
        )

    def do_removed(self, worker, *words):
        self.router.removed(worker, [hash((worker, word)) for word in words])

    def do_cleared(self, worker):
        self.router.cleared(worker)

    def do_route(self, request, *words):
        words, options = self.options(words)
        prompt = self.router.prompt(self.tokens(words), salt=options.get("salt", ""), lora=options.get("lora", ""))
        route = self.router.choose(prompt, pinned=options.get("pinned", ""))
        self.leases[request] = self.router.lease(route, prompt)
        return [f"{route.worker} cost={route.cost:g} because={route.because!r}"]

    def do_costs(self, *words):
        return [
            f"{c.worker} overlap={c.overlap_blocks} active={c.active} cost={c.cost:g}"
            for c in self.router.candidates(self.router.prompt(self.tokens(words)))
        ]

    def do_prefilled(self, *requests):
        for request in requests:
            self.router.book.prefilled(self.leases[request])

    def do_done(self, *requests):
        for request in requests:
            self.router.book.release(self.leases[request])

    def do_load(self):
        return [
            f"{load.name} active={load.active} prefill={load.prefill_blocks} decode={load.decode_blocks}"
            f" held={self.router.index.held_by(load.number)}"
            for load in self.router.loads
        ]

    def do_prefill(self, *words):
        _, options = self.options(words)
        decision = decide_prefill(
            prompt_tokens=int(options["prompt"]),
            cached_tokens=int(options.get("cached", 0)),
            block_tokens=int(options.get("block", 16)),
            local_tokens=int(options.get("local", 0)),
            prefill_workers=int(options.get("workers", 1)),
        )
        return [f"{'remote' if decision.remote else 'local'}: {decision.because}"]


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
def cases():
    return read_cases
