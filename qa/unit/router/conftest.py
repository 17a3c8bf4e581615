"""Reads routing scripts: prose, one command a line, what it prints below it, a blank line between cases."""

import random
import shlex
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from xxhash import xxh3_64_intdigest

from tritium.backends.engine import BlocksRemoved, BlocksStored, CacheCleared, KvEvent
from tritium.cluster.following import apply_changes
from tritium.cluster.mirror import CacheMirror
from tritium.core.errors import InferenceError
from tritium.router.book import Lease
from tritium.router.choice import Mode
from tritium.router.disaggregation import Decoder, Prefiller, Thresholds, settle, weigh
from tritium.router.dump import decode
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
    """A router worked by commands. A word of a prompt stands for one full block of tokens; `+3` for 3 tokens more.

    What engines say of their caches comes to it as in a fleet, by the mirrors that their workers keep.
    """

    def __init__(self) -> None:
        self.router = Router(block_tokens=4, rng=random.Random(0))
        self.now_s = 1.0
        self.prompts: dict[str, Prompt] = {}
        self.leases: dict[str, Lease] = {}
        self.mirrors: dict[str, CacheMirror] = defaultdict(lambda: CacheMirror(4, 1000))

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

    def do_assume(self, seconds):
        self.router = Router(block_tokens=4, rng=random.Random(0), assumed_s=float(seconds))

    def do_wait(self, seconds):
        self.now_s += float(seconds)

    def do_silent(self, name, beats):
        self.router.suspect(name, int(beats))

    def do_copy(self, source, target):
        self.router.restore(target, decode(self.mirrors[source].dump()))

    def options(self, words):
        plain = [word for word in words if "=" not in word]
        return plain, dict(word.split("=", 1) for word in words if "=" in word)

    def name(self, worker, word) -> int:
        return xxh3_64_intdigest(f"{worker} {word}".encode())

    def media(self, options):
        """`image=cat@4`: the picture cat begins at token 4."""
        name, _, at = options.get("image", "").partition("@")
        return {int(at): name} if name else None

    def do_mode(self, mode):
        self.router.mode = Mode(mode)

    def do_workers(self, *words):
        names, options = self.options(words)
        capacity_blocks = int(options.get("capacity", 1000))
        for name in names:
            self.mirrors[name] = CacheMirror(4, capacity_blocks)
            self.router.add(
                name,
                capacity_blocks=capacity_blocks,
                max_sequences=int(options.get("sequences", 100)),
            )

    def do_remove(self, name):
        self.router.remove(name)
        del self.mirrors[name]

    def tell(self, worker, event: KvEvent):
        if changed := self.mirrors[worker].take([event]):
            apply_changes(self.router, worker, changed)

    def do_stored(self, worker, *words):
        words, options = self.options(words)
        parent = options.get("after")
        event = BlocksStored(
            [self.name(worker, word) for word in words],
            self.name(worker, parent) if parent else None,
            self.tokens(words),
            self.router.block_tokens,
            salt=options.get("salt", ""),
            lora=options.get("lora", ""),
            tier=options.get("tier", "device"),
            media=self.media(options) or {},
        )
        self.tell(worker, event)

    def do_moved(self, worker, *words):
        words, options = self.options(words)
        names = [self.name(worker, word) for word in words]
        self.tell(worker, BlocksStored(names, None, [], self.router.block_tokens, tier=options["tier"]))

    def do_removed(self, worker, *words):
        words, options = self.options(words)
        names = [self.name(worker, word) for word in words]
        self.tell(worker, BlocksRemoved(names, options.get("tier", "device")))

    def do_cleared(self, worker):
        self.tell(worker, CacheCleared())

    def prompt(self, words) -> Prompt:
        words, options = self.options(words)
        return self.router.prompt(
            self.tokens(words), salt=options.get("salt", ""), lora=options.get("lora", ""), media=self.media(options)
        )

    def do_route(self, request, *words):
        _, options = self.options(words)
        prompt = self.prompt(words)
        route = self.router.choose(prompt, pinned=options.get("pinned", ""), session=options.get("session", ""))
        self.leases[request] = self.router.lease(
            route, prompt, max_tokens=int(options.get("tokens", 0)), now_s=self.now_s
        )
        return [f"{route.worker} cost={route.cost:.4g} because={route.because!r}"]

    def do_costs(self, *words):
        return [
            f"{c.worker} overlap={c.overlap_blocks} active={c.active} cost={c.cost:.4g}"
            for c in self.router.candidates(self.prompt(words))
        ]

    def do_why(self, *words):
        return [f"{c.worker} {c.price.told}" for c in self.router.candidates(self.prompt(words))]

    def do_prefilled(self, *requests):
        for request in requests:
            self.router.prefilled(self.leases[request], now_s=self.now_s)

    def do_done(self, *words):
        requests, options = self.options(words)
        for request in requests:
            self.router.release(self.leases[request])
            if "tokens" in options:
                self.router.answered(int(options["tokens"]))

    def do_load(self):
        return [
            f"{load.name} active={load.active} prefill={load.prefill_blocks} decode={load.decode_blocks}"
            f" held={self.router.index.held_by(load.number)}"
            for load in self.router.loads
        ]

    def do_prefill(self, *words):
        """Times are in milliseconds: `here` to compute it where it is decoded, `there` and `move` elsewhere."""
        flags, options = self.options(words)

        def seconds(name: str) -> float | None:
            return float(options[name]) / 1e3 if name in options else None

        thresholds = Thresholds(
            int(options.get("local", 0)),
            int(options.get("busy", 0)),
            int(options.get("queue", 0)),
            float(options.get("detour", 3)),
        )
        decoder = Decoder(
            int(options.get("cached", 0)),
            int(options.get("decoding", 0)),
            seconds("here"),
            seconds("compute") or seconds("here") or 0.0,
            "log probabilities of the prompt are asked for" if "logprobs" in flags else "",
            computes="decode-only" not in flags,
        )
        prompt = int(options["prompt"])
        decision = settle(
            prompt, int(options.get("block", 16)), decoder, thresholds, prefill_workers=int(options.get("workers", 1))
        ) or weigh(
            prompt,
            decoder,
            Prefiller(int(options.get("waiting", 0)), seconds("there"), seconds("move")),
            thresholds,
        )
        return [f"{'remote' if decision.remote else 'local'} ({decision.reason}): {decision.because}"]


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
def cases():
    return read_cases
