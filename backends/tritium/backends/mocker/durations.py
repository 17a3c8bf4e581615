"""How long things take on the machine that is simulated: steps, and KV on its way from elsewhere.

All in seconds of the clock of whoever asks: `speedup` is taken out of them.
"""

from tritium.backends.mocker.scheduler import Plan
from tritium.backends.mocker.settings import Settings
from tritium.backends.mocker.timing import Span, StepLoad

_GIB = 1 << 30


class Durations:
    """The durations of one engine; without a timing everything takes no time."""

    def __init__(self, settings: Settings) -> None:
        self._timing = settings.timing
        self._kv_bytes = settings.kv_bytes
        self._block_bytes = settings.block_tokens * settings.kv_bytes
        self._mocker = settings.mocker

    def step_s(self, plan: Plan) -> float:
        """Return how long a step takes, what it fetches from the host's memory included."""
        if self._timing is None or not plan:
            return 0.0
        took_ms = self._timing.step_ms(step_load(plan))
        if plan.admitted:
            fetched = sum(admission.match.host for admission in plan.admitted) * self._block_bytes
            took_ms += fetched / (self._mocker.host_gib_s * _GIB) * 1e3
        return took_ms / self._mocker.speedup / 1e3

    def steps_s(self, load: StepLoad, steps: int) -> float:
        """Return how long so many steps in a row take that only decode."""
        return 0.0 if self._timing is None else self._timing.steps_ms(load, steps) / self._mocker.speedup / 1e3

    def transfer_bytes(self, tokens: int) -> int:
        """Return the size of the KV of so many tokens."""
        return tokens * self._kv_bytes

    def transfer_s(self, tokens: int) -> float:
        """Return how long the KV of so many tokens is on its way from another worker."""
        if self._timing is None:
            return 0.0
        mocker = self._mocker
        rate = mocker.transfer_gib_s * _GIB
        return (self.transfer_bytes(tokens) / rate + mocker.transfer_latency_ms / 1e3) / mocker.speedup


def step_load(plan: Plan) -> StepLoad:
    """Return what a step computes."""
    return StepLoad(
        [Span(chunk.start, chunk.tokens) for chunk in plan.chunks],
        len(plan.decodes),
        sum([sequence.length for sequence in plan.decodes]),
    )
