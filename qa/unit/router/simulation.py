"""Workers with LRU prefix caches and step-wise batching, in simulated time, behind the real router.

A step computes up to `STEP_TOKENS` of waiting prompts and one token of everything that decodes; blocks in use are
pinned, the others fall out oldest first, ends before beginnings, as an engine's prefix cache drops them.
"""

import heapq
import itertools
import random
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from tritium.router.choice import Mode
from tritium.router.router import Prompt, Router

STEP_S, PREFILL_TOKEN_S, DECODE_TOKEN_S = 5e-3, 5e-5, 1e-4
STEP_TOKENS = 2048


@dataclass
class Job:
    tokens: int
    blocks: list[int]
    output: int
    lease: object = None
    fresh: list[int] = field(default_factory=list)
    left: int = 0
    done: int = 0
    arrived_s: float = 0.0


@dataclass
class SimulatedWorker:
    name: str
    capacity: int
    cache: OrderedDict = field(default_factory=OrderedDict)
    pins: Counter = field(default_factory=Counter)
    waiting: list = field(default_factory=list)
    running: list = field(default_factory=list)
    stepping: bool = False
    served: int = 0
    hit_tokens: int = 0
    prompt_tokens: int = 0


def shared_prefixes(seed: int, *, prefixes=20, each=50, prefix_tokens=1472, own_tokens=102, output=16, block=64):
    """Return jobs of which `each` share one of `prefixes` beginnings, shuffled."""
    own = (prefix_tokens + own_tokens) // block - prefix_tokens // block
    jobs = [
        Job(
            prefix_tokens + own_tokens,
            [p * 10**6 + i for i in range(prefix_tokens // block)]
            + [-(p * 10**6 + k * 100 + i + 1) for i in range(own)],
            output,
        )
        for p in range(prefixes)
        for k in range(each)
    ]
    random.Random(seed).shuffle(jobs)
    return jobs


class Simulation:
    def __init__(self, jobs, *, workers=4, capacity=256, block=64, in_flight=16, mode=Mode.KV):
        self.router = Router(block, mode, rng=random.Random(0))
        self.workers = {}
        for index in range(workers):
            self.workers[f"w{index}"] = SimulatedWorker(f"w{index}", capacity)
            self.router.add(f"w{index}", capacity_blocks=capacity, max_sequences=256)
        self.jobs = iter(jobs)
        self.now = 0.0
        self.waits_s = []
        self.steps = []
        self.order = itertools.count()
        for _ in range(in_flight):
            self.arrive()
        while self.steps:
            self.now, _, worker = heapq.heappop(self.steps)
            self.end_step(worker)

    @property
    def hit_rate(self) -> float:
        """Return the share of prompt tokens that were cached."""
        return sum(w.hit_tokens for w in self.workers.values()) / sum(w.prompt_tokens for w in self.workers.values())

    @property
    def imbalance(self) -> float:
        """Return the requests of the busiest worker over those of the idlest."""
        served = [worker.served for worker in self.workers.values()]
        return max(served) / max(1, min(served))

    def wait_s(self, part: float) -> float:
        """Return how long a first token was waited for at most, by so large a part of the requests."""
        return sorted(self.waits_s)[int(part * len(self.waits_s))]

    def arrive(self):
        job = next(self.jobs, None)
        if job is None:
            return
        job.arrived_s = self.now
        prompt = Prompt(job.tokens, job.blocks)
        route = self.router.choose(prompt)
        job.lease = self.router.lease(route, prompt)
        worker = self.workers[route.worker]
        worker.served += 1
        worker.waiting.append(job)
        self.begin_step(worker)

    def begin_step(self, worker):
        if worker.stepping or not (worker.waiting or worker.running):
            return
        worker.stepping = True
        budget = STEP_TOKENS
        for job in worker.running:
            job.left -= (part := min(budget, job.left))
            budget -= part
        while worker.waiting and budget > 0:
            job = worker.waiting.pop(0)
            self.admit(worker, job)
            job.left -= (part := min(budget, job.left))
            budget -= part
        decoding = sum(1 for job in worker.running if job.done)
        took = STEP_S + (STEP_TOKENS - budget) * PREFILL_TOKEN_S + decoding * DECODE_TOKEN_S
        heapq.heappush(self.steps, (self.now + took, next(self.order), worker))

    def admit(self, worker, job):
        hits = len(list(itertools.takewhile(worker.cache.__contains__, job.blocks)))
        block = self.router.block_tokens
        worker.hit_tokens += hits * block
        worker.prompt_tokens += job.tokens
        job.left = job.tokens - hits * block
        job.fresh = job.blocks[hits:]
        worker.pins.update(job.blocks)
        room = worker.capacity - len(job.fresh) - len(worker.running)
        dropped = [held for held in worker.cache if not worker.pins[held]][: max(0, len(worker.cache) - room)]
        for held in dropped:
            del worker.cache[held]
        self.router.removed(worker.name, dropped)
        worker.cache.update(dict.fromkeys(job.fresh))
        worker.running.append(job)

    def end_step(self, worker):
        worker.stepping = False
        for job in [job for job in worker.running if not job.left]:
            if not job.done:
                self.waits_s.append(self.now - job.arrived_s)
                number = next(load.number for load in self.router.loads if load.name == worker.name)
                self.router.index.device.store(number, job.fresh, job.fresh)
                self.router.prefilled(job.lease)
            job.done += 1
            if job.done == job.output:
                worker.running.remove(job)
                self.router.release(job.lease)
                worker.pins.subtract(job.blocks)
                for held in reversed(job.blocks):
                    worker.cache.move_to_end(held)
                self.arrive()
        self.begin_step(worker)
