"""From a model's size, a GPU and a load to GPUs, memory and times: aggregated, and with prefill and decode apart.

    prefill of a prompt   (2 * active parameters * tokens + 2 * layers * heads * head_dim * tokens^2) / arithmetic
    a step of decoding    (weights + requests * their cache) / memory bandwidth
    requests under way    arrivals * answer tokens * step                      (Little's law)
    wait for prefill      load * prefill / (2 * (1 - load))                    (M/D/1)

The first two are those of arXiv 2211.05102 (sections 2 and 3.3), 2 FLOPs a parameter and token that of arXiv
2001.08361 (section 2.1); M/D/1 is Pollaczek's and Khinchine's formula for services of equal length.
They are for planning: a bench on the real machine decides.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tritium.migration.forecasting.checkpoint import ModelSize
from tritium.migration.forecasting.machine import GB, Gpu

ARITHMETIC_SHARE = 0.4
BANDWIDTH_SHARE = 0.6
MEMORY_SHARE = 0.9
WORKING_BYTES = 2 * GB
HIGHEST_LOAD = 0.8
MOST_REQUESTS = 256
CHUNK_TOKENS = 2048
LINK_BYTES_S = 25 * GB
_SPLITS = (1, 2, 4, 8, 16)
_MOST_WORKERS = 512


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the model: requests a second, tokens of prompt and answer, and the times to keep in seconds."""

    rate: float
    prompt_tokens: int
    answer_tokens: int
    first_token_s: float
    between_tokens_s: float


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to serve the load: workers of so many GPUs each, and the times that come of it."""

    gpus_each: int
    prefill_workers: int
    """0: prefill and decode share the workers."""
    workers: int
    first_token_s: float
    between_tokens_s: float
    longest_gap_s: float
    """Between two tokens while a chunk of somebody's prompt is computed in the same worker."""
    requests: float
    """Under way in one worker."""

    @property
    def gpus(self) -> int:
        """Count the GPUs."""
        return self.gpus_each * (self.workers + self.prefill_workers)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a model needs for a load."""

    size: ModelSize
    gpu: Gpu
    load: Load
    kv_bytes_token: float
    aggregated: Layout | None
    apart: Layout | None
    """None: no number of workers keeps the times."""
    room_tokens: int
    """Of cache in one aggregated worker."""

    @property
    def advice(self) -> str:
        """Say which of the two, and why."""
        if self.aggregated is None:
            if self.apart is None:
                return "neither keeps the times on this GPU: allow longer ones, or a faster GPU, or fewer bits a weight"
            return f"prefill and decode apart: only so are the times kept, with {self.apart.gpus} GPUs"
        if self.apart is None:
            return "aggregated: with prefill and decode apart the times are not kept"
        one, two = self.aggregated, self.apart
        gap = f"the longest gap between tokens {one.longest_gap_s * 1e3:.0f} -> {two.longest_gap_s * 1e3:.0f} ms"
        if one.gpus < two.gpus:
            return f"aggregated: apart takes {two.gpus} GPUs instead of {one.gpus} (for {gap})"
        return f"prefill and decode apart: {two.gpus} GPUs instead of {one.gpus}, {gap}"


class _Worker:
    """The times of one worker of so many GPUs."""

    def __init__(self, size: ModelSize, gpu: Gpu, kv_token: float, load: Load, gpus: int) -> None:
        tokens = load.prompt_tokens
        flops = 2 * size.active * tokens + 2 * size.layers * size.heads * size.head_dim * tokens**2
        self.prefill_s = flops / (gpus * gpu.flops * ARITHMETIC_SHARE)
        self._bandwidth = gpus * gpu.bandwidth * BANDWIDTH_SHARE
        self._weights_s = size.weight_bytes / self._bandwidth
        # Half of the answer is there on average.
        self._request_s = (tokens + load.answer_tokens / 2) * kv_token / self._bandwidth
        self._answer_tokens = load.answer_tokens
        room = gpus * (gpu.memory * MEMORY_SHARE - WORKING_BYTES) - size.weight_bytes
        self.room_tokens = max(0, int(room / kv_token))
        self.most_requests = min(MOST_REQUESTS, self.room_tokens // (tokens + load.answer_tokens))
        self.gpus = gpus

    def step_s(self, requests: float) -> float:
        """Return a step of decoding with so many requests."""
        return self._weights_s + requests * self._request_s

    def requests(self, rate: float, share: float) -> float | None:
        """Return how many requests are under way when `share` of the time is left for decoding; None: ever more."""
        tokens = rate * self._answer_tokens
        left = share - tokens * self._request_s
        return tokens * self._weights_s / left if left > 0 else None


def forecast(size: ModelSize, gpu: Gpu, load: Load, kv_bytes: float) -> Forecast:
    """Find the fewest GPUs that serve a load, aggregated and apart."""
    kv_token = size.kv_bytes(kv_bytes)
    workers = [_Worker(size, gpu, kv_token, load, gpus) for gpus in _SPLITS if size.heads % gpus == 0]
    fitting = [worker for worker in workers if worker.most_requests]
    transfer_s = load.prompt_tokens * kv_token / LINK_BYTES_S
    together = _fewest(fitting, lambda worker: _aggregated(worker, load))
    apart = _fewest(fitting, lambda worker: _apart(worker, load, transfer_s))
    room = next((worker.room_tokens for worker in fitting if together and worker.gpus == together.gpus_each), 0)
    return Forecast(size, gpu, load, kv_token, together, apart, room)


def _fewest(workers: list[_Worker], layouts: Callable[[_Worker], Iterator[Layout]]) -> Layout | None:
    found = [layout for worker in workers if (layout := next(layouts(worker), None))]
    return min(found, key=lambda layout: (layout.gpus, layout.gpus_each), default=None)


def _aggregated(worker: _Worker, load: Load) -> Iterator[Layout]:
    chunk_s = worker.prefill_s * min(1.0, CHUNK_TOKENS / load.prompt_tokens)
    for count in range(1, _MOST_WORKERS):
        rate = load.rate / count
        busy = rate * worker.prefill_s
        requests = worker.requests(rate, 1 - busy) if busy < HIGHEST_LOAD else None
        if requests is None or requests > worker.most_requests:
            continue
        step_s = worker.step_s(requests)
        first_s = worker.prefill_s + _wait_s(busy, worker.prefill_s) + step_s
        between_s = step_s / (1 - busy)
        if first_s <= load.first_token_s and between_s <= load.between_tokens_s:
            yield Layout(worker.gpus, 0, count, first_s, between_s, step_s + chunk_s, requests)


def _apart(worker: _Worker, load: Load, transfer_s: float) -> Iterator[Layout]:
    for prefills in range(1, _MOST_WORKERS):
        busy = load.rate / prefills * worker.prefill_s
        if busy >= HIGHEST_LOAD:
            continue
        first_s = worker.prefill_s + _wait_s(busy, worker.prefill_s) + transfer_s
        if first_s <= load.first_token_s:
            break
    else:
        return
    for count in range(1, _MOST_WORKERS):
        requests = worker.requests(load.rate / count, 1.0)
        if requests is None or requests > worker.most_requests:
            continue
        step_s = worker.step_s(requests)
        if step_s <= load.between_tokens_s:
            yield Layout(worker.gpus, prefills, count, first_s + step_s, step_s, step_s, requests)


def _wait_s(busy: float, service_s: float) -> float:
    return busy * service_s / (2 * (1 - busy))
