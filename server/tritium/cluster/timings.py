"""How long generations take, as distributions that are filled when one moves on, never for every token.

arrived --render, tokenize--> taken --held--> routed, sent --first step--> first token --gaps--> last token
`-------------------- first_token ------------------------------------------'
`-------------------------------- generation ----------------------------------------------------'
`------------ overhead, without what it was held --'
"""

import time
from collections.abc import Iterator

from tritium.cluster.fleet import OwnSample
from tritium.core.latencies import Histogram

SHORT_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)
_FIRST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_WHOLE_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

STAGES = ("route", "first_step")


class Timings:
    """The distributions of one model's generations, in seconds."""

    def __init__(self) -> None:
        self.first_token = Histogram(_FIRST_S)
        self.token_gap = Histogram(_TOKEN_S)
        """The mean gap of each generation, counted once a gap."""
        self.generation = Histogram(_WHOLE_S)
        self.held = Histogram(_FIRST_S)
        self.overhead = Histogram(SHORT_S)
        self.gap = Histogram(_FIRST_S)
        self.stages = {stage: Histogram(SHORT_S if stage != "first_step" else _FIRST_S) for stage in STAGES}

    def watch(self, arrived_s: float = 0.0) -> "Watch":
        """Begin to time a generation that is taken now; `arrived_s` is when its request came, 0 where not known."""
        return Watch(self, arrived_s)

    def samples(self, model: str) -> Iterator[OwnSample]:
        """Return everything as Prometheus has histograms."""
        labels = {"model": model}
        for family, help_text, histogram in (
            ("tritium_first_token_seconds", "Time from a request's arrival to its first token", self.first_token),
            ("tritium_token_gap_seconds", "Mean time between the tokens of a generation", self.token_gap),
            ("tritium_generation_seconds", "Time from a request's arrival to its last token", self.generation),
            ("tritium_held_seconds", "Time generations waited for a worker to be ready", self.held),
            ("tritium_overhead_seconds", "Time from arrival to a worker that was not spent waiting", self.overhead),
            ("tritium_gap_seconds", "Time from a worker's loss to the next token of what it generated", self.gap),
        ):
            yield from histogram_samples(family, help_text, labels, histogram)
        for stage, histogram in self.stages.items():
            yield from stage_samples(model, stage, histogram)


def stage_samples(model: str, stage: str, histogram: Histogram) -> Iterator[OwnSample]:
    """Return one stage of generations as Prometheus has histograms."""
    labels = {"model": model, "stage": stage}
    return histogram_samples("tritium_stage_seconds", "Time in one stage of a generation", labels, histogram)


class Watch:
    """Times one generation; every moment counts once, when it first comes."""

    __slots__ = ("_arrived_s", "_first_s", "_held_s", "_held_since_s", "_lost_s", "_sent_s", "_timings")

    def __init__(self, timings: Timings, arrived_s: float) -> None:
        self._timings = timings
        self._arrived_s = arrived_s or time.monotonic()
        self._held_since_s = self._held_s = self._sent_s = self._first_s = self._lost_s = 0.0

    def held(self) -> None:
        """Note that no worker takes it now."""
        self._held_since_s = time.monotonic()

    def released(self) -> None:
        """Note that a worker may take it again."""
        if self._held_since_s:
            waited_s = time.monotonic() - self._held_since_s
            self._held_s += waited_s
            self._held_since_s = 0.0
            self._timings.held.observe(waited_s)

    def waited(self, waited_s: float) -> None:
        """Note that it waited so long because every worker was full."""
        self._held_s += waited_s

    def routed(self, since_s: float) -> None:
        """Note that a worker was chosen, which began at `since_s`."""
        self._timings.stages["route"].observe(time.monotonic() - since_s)

    def sent(self) -> None:
        """Note that a worker was handed it."""
        if not self._sent_s:
            self._sent_s = time.monotonic()
            self._timings.overhead.observe(self._sent_s - self._arrived_s - self._held_s)

    def first_token(self) -> None:
        """Note that its first token came."""
        if not self._first_s:
            self._first_s = time.monotonic()
            self._timings.first_token.observe(self._first_s - self._arrived_s)
            self._timings.stages["first_step"].observe(self._first_s - self._sent_s)

    def lost(self) -> None:
        """Note that its worker is lost, with tokens still to come."""
        self._lost_s = self._lost_s or time.monotonic()

    def resumed(self) -> None:
        """Note that the next token came from another worker."""
        if self._lost_s:
            self._timings.gap.observe(time.monotonic() - self._lost_s)
            self._lost_s = 0.0

    def ended(self, tokens: int) -> None:
        """Note that its last token came, of so many."""
        now_s = time.monotonic()
        self._timings.generation.observe(now_s - self._arrived_s)
        if tokens > 1:
            self._timings.token_gap.observe((now_s - self._first_s) / (tokens - 1), tokens - 1)


def histogram_samples(family: str, help_text: str, labels: dict[str, str], histogram: Histogram) -> Iterator[OwnSample]:
    """Return a distribution as Prometheus has histograms."""
    below = 0
    for bound, count in zip((*histogram.bounds, None), histogram.counts, strict=True):
        below += count
        limit = "+Inf" if bound is None else f"{bound:g}"
        yield OwnSample(family, "_bucket", "histogram", help_text, {**labels, "le": limit}, below)
    yield OwnSample(family, "_sum", "histogram", help_text, labels, histogram.sum)
    yield OwnSample(family, "_count", "histogram", help_text, labels, below)
