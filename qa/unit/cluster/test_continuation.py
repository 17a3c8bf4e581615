"""Generations whose workers die at any step: nothing is missing, nothing comes twice, usage is as if nothing happened.

The pool, its routers and the flights are the real ones; the workers are engines in this process that take a step when
they are told to, and die before or after any of them.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qa.unit.cluster.remote_fleet import until

from tritium.backends.engine import Delta, EngineInfo, Generate, Role, Step, TokenLogprob
from tritium.cluster.continuation import LOOKS_BACK, obstacle, sampling_left
from tritium.cluster.fleet import GenerationRequest
from tritium.cluster.flight import Flight, Stage
from tritium.cluster.flights import Flights
from tritium.cluster.frames import Abort, Submit
from tritium.cluster.member import WorkerState
from tritium.cluster.pool import WorkerPool
from tritium.cluster.spec import FleetSpec
from tritium.cluster.timings import Timings
from tritium.core.errors import Unavailable, WorkerLost

CONTEXT = 64


def next_token(tokens: list[int]) -> int:
    return (sum(tokens[-5:]) * 31 + len(tokens)) % 1_000


def undisturbed(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(min(count, CONTEXT - len(prompt))):
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]


@dataclass
class Sequence:
    request: Generate
    tokens: list[int]
    said: int = 0


class Worker:
    """A PoolWorker whose engine takes a step when `step` is called."""

    def __init__(self, name: str, role: Role, pool: WorkerPool, *, burst: int, apart: bool) -> None:
        self.name, self.role = name, role
        self.state = WorkerState.WAITING
        self.info = EngineInfo("fake", "1", CONTEXT, 4, 1000, 8, transfer="fake" if role is not Role.AGGREGATED else "")
        self.restarts = self.hung = 0
        self.gauges: dict[str, float] = {}
        self.own_metrics = []
        self.reports = pool.reports
        self.burst = burst
        self.apart = apart
        self.sequences: dict[int, Sequence] = {}

    @property
    def ready(self) -> bool:
        return self.state is WorkerState.READY

    def send(self, *frames) -> None:
        for frame in frames if self.ready else ():
            if isinstance(frame, Submit):
                request = frame.request
                assert request.sampling["max_tokens"] >= 1, "nobody is asked for nothing"
                assert len(request.token_ids) < CONTEXT
                self.sequences[request.id] = Sequence(request, list(request.token_ids))
            elif isinstance(frame, Abort):
                self.sequences.pop(frame.id, None)

    def live(self) -> None:
        self.state = WorkerState.READY
        self.reports.on_ready(self)

    def die(self) -> None:
        self.state = WorkerState.WAITING
        self.sequences.clear()
        self.reports.on_lost(self, "killed")

    def step(self, *, heard: bool = True) -> None:
        """Give every sequence its next tokens; where they are not `heard` they died with the worker."""
        deltas = [self._advance(sequence) for sequence in list(self.sequences.values())]
        if heard:
            self.reports.on_frame(self, Step(deltas))

    def _advance(self, sequence: Sequence) -> Delta:
        request, tokens = sequence.request, sequence.tokens
        if request.transfer is not None:
            assert request.transfer["of"] == request.token_ids, "the KV is that of the prompt"
        first = not sequence.said
        delta = Delta(request.id, [], cached_tokens=4 if first else None, prompt_tokens=len(tokens) if first else None)
        for _ in range(self.burst):
            if self._done(sequence):
                break
            tokens.append(next_token(tokens))
            delta.token_ids.append(tokens[-1])
            sequence.said += 1
        if self._done(sequence) and not (self.apart and delta.token_ids):
            delta.finish = "length"
        delta.logprobs = [[TokenLogprob(token, -1.0, 1)] for token in delta.token_ids]
        if delta.finish is not None:
            del self.sequences[request.id]
            if self.role is Role.PREFILL:
                delta.transfer = {"of": request.token_ids}
        return delta

    @staticmethod
    def _done(sequence: Sequence) -> bool:
        return sequence.said == sequence.request.sampling["max_tokens"] or len(sequence.tokens) == CONTEXT


@dataclass
class Sink:
    tokens: list[int] = field(default_factory=list)
    deltas: list[Delta] = field(default_factory=list)
    error: Exception | None = None
    over: int = 0

    def on_delta(self, delta: Delta) -> None:
        assert not self.over
        self.tokens += delta.token_ids
        self.deltas.append(delta)
        self.over += delta.finish is not None

    def on_failure(self, error: Exception) -> None:
        assert not self.over
        self.error = error
        self.over += 1


class Fleet:
    """Real flights on a real pool of fake workers."""

    def __init__(self, spec: FleetSpec, burst: int = 1, *, apart: bool = False) -> None:
        self.flights: Flights | None = None
        self.pool = WorkerPool(
            spec,
            on_step=self._step,
            on_pooled=lambda _: None,
            on_ready=lambda _: self.flights.worker_ready(),
            on_lost=lambda worker, _: self.flights.worker_lost(worker.name),
        )
        self.flights = Flights(self.pool, "fake")
        self.workers = []
        self.timings = Timings()
        for role, count in spec.roles.items():
            for index in range(count):
                worker = Worker(f"{role}_{index}", role, self.pool, burst=burst, apart=apart)
                self.pool.add(worker)
                self.workers.append(worker)
        for worker in self.workers:
            worker.live()

    def _step(self, step: Step) -> None:
        self.flights.take(step)

    def generate(self, prompt: list[int], **sampling) -> Sink:
        sink = Sink()
        self.flights.start(Flight(GenerationRequest(prompt, sampling), sink, self.timings.watch()))
        return sink

    def run(self, sinks: list[Sink], deaths: dict[int, tuple[int, str]]) -> None:
        """Let workers take steps in turn until all is over; `deaths`: at which turn who dies, before or after it."""
        for turn in range(10_000):
            if all(sink.over for sink in sinks):
                return
            for worker in self.workers:
                if not worker.ready and turn % 3 == 0:
                    worker.live()
            victim, when = deaths.get(turn, (None, ""))
            dying = None if victim is None else self.workers[victim % len(self.workers)]
            if dying is not None and dying.ready:
                # "lost": it took the step, and what it had to say of it is lost with it.
                if when == "lost":
                    dying.step(heard=False)
                elif when == "after":
                    dying.step()
                dying.die()
            worker = self.workers[turn % len(self.workers)]
            if worker.ready:
                worker.step()
        raise AssertionError("a generation hangs")

    def check_empty(self) -> None:
        assert len(self.flights) == 0
        for router in self.pool.routers.values():
            assert not any(load.active or load.prefill_blocks or load.decode_blocks for load in router.loads)
        assert not any(worker.sequences for worker in self.workers)
        assert not self.flights._takers
        assert not list(self.flights.held)


def check_answer(sink: Sink, prompt: list[int], count: int) -> None:
    assert sink.error is None
    assert undisturbed(prompt, count) == sink.tokens
    assert sum(len(delta.logprobs or ()) for delta in sink.deltas) == len(sink.tokens)
    assert [delta.cached_tokens for delta in sink.deltas if delta.cached_tokens is not None] == [4]
    assert [delta.prompt_tokens for delta in sink.deltas if delta.prompt_tokens is not None] == [len(prompt)]
    assert sink.deltas[-1].finish == "length"


shapes = st.one_of(
    st.builds(FleetSpec, workers=st.integers(1, 3), moves=st.just(1000)),
    st.builds(FleetSpec, workers=st.just(0), prefill=st.integers(1, 2), decode=st.integers(1, 2), moves=st.just(1000)),
)


@settings(max_examples=150, deadline=None)
@given(
    spec=shapes,
    burst=st.integers(1, 3),
    apart=st.booleans(),
    asked=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 50)), min_size=1, max_size=4),
    deaths=st.dictionaries(
        st.integers(0, 60),
        st.tuples(st.integers(0, 3), st.sampled_from(["before", "after", "lost"])),
        max_size=12,
    ),
)
async def test_workers_that_die_at_any_step(spec, burst, apart, asked, deaths):
    """Whoever dies when, every answer is the undisturbed one, and nothing stays booked or waited for.

    `burst` tokens come in a step; `apart`: the end of an answer is told a step after its last token.
    """
    fleet = Fleet(spec, burst, apart=apart)
    prompts = [[(7 * index + place) % 90 for place in range(length)] for index, (length, _) in enumerate(asked)]
    sinks = [fleet.generate(prompt, max_tokens=most) for prompt, (_, most) in zip(prompts, asked, strict=True)]
    fleet.run(sinks, deaths)
    for sink, prompt, (_, most) in zip(sinks, prompts, asked, strict=True):
        check_answer(sink, prompt, most)
    assert fleet.flights.counters.prompt_tokens == sum(map(len, prompts))
    assert fleet.flights.counters.output_tokens == sum(len(sink.tokens) for sink in sinks)
    fleet.check_empty()


@pytest.mark.parametrize("when", ["before", "after", "lost"])
@pytest.mark.parametrize("spec", [FleetSpec(workers=2), FleetSpec(workers=0, prefill=1, decode=2)], ids=["2", "1P2D"])
async def test_every_single_death(spec, when):
    """One death at each step of an answer, of each worker: the answer stays what it was."""
    prompt = list(range(30, 43))
    for turn in range(40):
        for victim in range(3):
            fleet = Fleet(spec)
            sink = fleet.generate(prompt, max_tokens=8, min_tokens=3)
            fleet.run([sink], {turn: (victim, when)})
            check_answer(sink, prompt, 8)
            fleet.check_empty()


@pytest.mark.parametrize("spec", [FleetSpec(workers=2), FleetSpec(workers=0, prefill=1, decode=2)], ids=["2", "1P2D"])
async def test_a_client_that_leaves_at_any_step(spec):
    """Whatever stage a request is in (waiting for a worker, too), leaving frees the engines and hears nothing more."""
    stages = set()
    for turn in range(12):
        for deaths in ((), (0,), (0, 1), (0, 1, 2)):
            fleet = Fleet(spec)
            sink = Sink()
            request = GenerationRequest(list(range(30, 43)), {"max_tokens": 30})
            flight = Flight(request, sink, fleet.timings.watch())
            fleet.flights.start(flight)
            for worker in range(turn):
                fleet.workers[worker % len(fleet.workers)].step()
            for victim in deaths:
                if victim < len(fleet.workers):
                    fleet.workers[victim].die()
            stages.add((flight.stage, bool(sink.tokens)))
            told = len(sink.deltas)
            fleet.flights.cancel(flight)
            for worker in fleet.workers:
                if not worker.ready:
                    worker.live()
                worker.step()
            assert len(sink.deltas) == told
            assert not sink.over
            fleet.check_empty()
    assert {(Stage.HELD, False), (Stage.HELD, True), (Stage.GENERATING, True)} <= stages
    assert (Stage.PREFILLING in {stage for stage, _ in stages}) == bool(spec.prefill)


async def test_a_live_worker_that_forgets_a_request():
    """A request that gets no token for `token_s` fails and leaves the engine; one that gets some goes on."""
    fleet = Fleet(FleetSpec(workers=1, token_s=1.5))
    forgotten, served = fleet.generate([1, 2, 3], max_tokens=50), fleet.generate([4, 5, 6], max_tokens=50)
    (worker,) = fleet.workers
    lost = worker.sequences.pop(1)

    def stepping() -> bool:
        if len(served.tokens) < 49:
            worker.step()
        return bool(forgotten.over)

    await until(stepping)
    assert lost.request.token_ids == [1, 2, 3]
    assert isinstance(forgotten.error, Unavailable)
    assert "had no token for the request within 1.5 s" in forgotten.error.message
    assert not served.error
    fleet.run([served], {})
    fleet.check_empty()
    assert fleet.flights.counters.overdue == 1


async def test_a_live_prefill_worker_that_forgets_a_prompt():
    """A prefill that takes longer than `token_s` is done by the worker that decodes."""
    fleet = Fleet(FleetSpec(workers=0, prefill=1, decode=1, token_s=0.5))
    sink = fleet.generate(list(range(30, 43)), max_tokens=5)
    prefill, decode = fleet.workers
    assert prefill.sequences
    await until(lambda: decode.sequences)
    assert not prefill.sequences
    fleet.run([sink], {})
    check_answer(sink, list(range(30, 43)), 5)
    fleet.check_empty()


async def test_what_looks_back_is_not_continued():
    """A field that the engine cannot take up fails the request once it has tokens, by name, and not before."""
    fleet = Fleet(FleetSpec(workers=2))
    early = fleet.generate([1, 2, 3], max_tokens=5, presence_penalty=0.5)
    fleet.run([early], {0: (0, "before"), 1: (1, "before")})
    assert early.error is None
    late = fleet.generate([4, 5, 6], max_tokens=50, presence_penalty=0.5)
    fleet.run([late], {turn: (turn, "before") for turn in range(4, 8)})
    assert isinstance(late.error, WorkerLost)
    assert "cannot take up presence_penalty" in late.error.hint
    fleet.check_empty()


@pytest.mark.parametrize("name", LOOKS_BACK)
def test_engines_that_take_up(name):
    """A field rules continuing out unless the engine takes it up; a value that means nothing never does."""
    assert name in obstacle({"max_tokens": 4, name: 1}, ())
    assert not obstacle({"max_tokens": 4, name: 1}, (name,))
    assert not obstacle({"max_tokens": 4, name: 0}, ())


def test_what_is_left():
    """Limits count what was generated before, what was told once is not asked again, and the rest stays."""
    asked = {"max_tokens": 10, "min_tokens": 6, "prompt_logprobs": 2, "seed": 3, "stop_token_ids": [9]}
    assert sampling_left(asked, 4) == {"max_tokens": 6, "min_tokens": 2, "seed": 3, "stop_token_ids": [9]}
    assert sampling_left(asked, 9)["min_tokens"] == 0
    assert asked["max_tokens"] == 10
