"""The rate limiter, as scripts under qa/golden/rate_limiter tell it.

limits [NAME[@DEVICE]=COUNT ...]                      a server with these limits
instance NAME [RESOURCE[@DEVICE|@global]=COUNT ...]   an instance with these needs (device 0), priority=N
stage NAME        it has something to run
idle NAME         it has nothing any more
release NAME      its execution is over; `return`: it found nothing to execute
withdraw NAME     it is unloaded
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tritium.core.errors import InferenceError
from tritium.core.scheduler.limiter import EVERY_DEVICE, GLOBAL, Claim, RateLimiter, ResourceKey, Ticket
from tritium.core.tensor_model import TensorModel

SCRIPTS = sorted((Path(__file__).parents[2] / "golden" / "rate_limiter").glob("*.txt"))


def steps(script: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Yield line number, command and expected answers."""
    lines = [(n, line.strip()) for n, line in enumerate(script.read_text().splitlines(), 1)]
    said = [(n, line) for n, line in lines if line and not line.startswith("#")]
    for index, (number, line) in enumerate(said):
        if line.startswith("-"):
            continue
        answers = []
        for _, after in said[index + 1 :]:
            if not after.startswith("-"):
                break
            answers.append(after[1:].strip())
        yield number, line, answers


class Scene:
    """One limiter and its instances by name."""

    def __init__(self) -> None:
        self.limiter = RateLimiter()
        self.tickets: dict[str, Ticket] = {}
        self.work: dict[str, int] = {}
        self.said: list[str] = []

    def play(self, command: str) -> list[str]:
        """Carry out one command and return its answers."""
        self.said = []
        verb, *words = command.split()
        getattr(self, f"_{verb}")(*words)
        return self.said

    def _limits(self, *words: str) -> None:
        self.limiter = RateLimiter(dict(_resource(word, EVERY_DEVICE) for word in words))
        self.tickets, self.work = {}, {}

    def _instance(self, name: str, *words: str) -> None:
        priority = next((int(word[9:]) for word in words if word.startswith("priority=")), 0)
        resources = dict(_resource(word, 0) for word in words if not word.startswith("priority="))
        try:
            ticket = self.tickets[name] = self.limiter.register(Claim(resources, priority))
        except InferenceError as error:
            self.said.append(f"refused: {error.message}")
            return
        self.work[name] = 0
        ticket.wanted = lambda: self.work[name] > 0
        ticket.start = lambda: self._runs(name)

    def _runs(self, name: str) -> None:
        self.work[name] -= 1
        self.said.append(f"{name} runs")

    def _stage(self, name: str) -> None:
        self.work[name] += 1
        self.tickets[name].stage()

    def _idle(self, name: str) -> None:
        self.work[name] = 0

    def _release(self, name: str) -> None:
        self.tickets[name].release(ran=True)

    def _return(self, name: str) -> None:
        self.tickets[name].release(ran=False)

    def _withdraw(self, name: str) -> None:
        self.tickets[name].withdraw()


def _resource(word: str, device: int) -> tuple[ResourceKey, int]:
    name, _, count = word.partition("=")
    name, at, where = name.partition("@")
    if at:
        device = GLOBAL if where == "global" else int(where)
    return (device, name), int(count)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script(script: Path) -> None:
    """Every command of the script is answered as the script says."""
    scene = Scene()
    for number, command, expected in steps(script):
        assert scene.play(command) == expected, f"{script.name}:{number}: {command}"


def limited_models(fakes: ModuleType, kind: str, limiter: RateLimiter, count: int) -> list[tuple[TensorModel, Any]]:
    """Return models of one instance each, which needs one R."""
    made = []
    for number in range(count):
        instance = getattr(fakes, kind)(held=True, name=f"m{number}_0", depth=4)
        ticket = limiter.register(Claim({(0, "R"): 1}))
        pbtxt = fakes.ADD_SUB + ("max_batch_size: 2 dynamic_batching {}" if number else "")
        made.append((TensorModel(fakes.config(pbtxt, f"m{number}"), "1", [instance], tickets=[ticket]), instance))
    return made


@pytest.mark.parametrize("kind", ["FakeInstance", "PromptFakeInstance"])
async def test_models_share_a_resource(fakes: ModuleType, kind: str) -> None:
    """Of two models that need the only unit of a resource one runs at a time, and all requests are answered."""
    limiter = RateLimiter({(EVERY_DEVICE, "R"): 1})
    (single, first), (batching, second) = limited_models(fakes, kind, limiter, 2)
    replies = []
    for _ in range(3):
        for model, shape in ((single, (4,)), (batching, (1, 4))):
            reply = fakes.Collector()
            model.submit(fakes.request(fakes.tensor("INPUT0", shape), fakes.tensor("INPUT1", shape)), reply)
            replies.append(reply)
    await first.seen(1)
    assert (len(first.batches), len(second.batches)) == (1, 0)
    first.release()
    await second.seen(1)
    assert (len(first.batches), len(second.batches)) == (1, 1)
    second.release()
    for reply in replies:
        assert not isinstance(await reply.one(), InferenceError)
    await asyncio.gather(single.close(), batching.close())
    assert limiter.register(Claim({(GLOBAL, "R"): 1})).stage() is False  # nothing of the models is left to conflict


async def test_a_queue_timeout_passes_while_resources_are_held_elsewhere(fakes: ModuleType) -> None:
    """A request that waits for resources longer than its queue policy allows is rejected when its time is over."""
    limiter = RateLimiter({(EVERY_DEVICE, "R"): 1})
    other = limiter.register(Claim({(0, "R"): 1}))
    other.wanted = lambda: True
    assert other.stage()
    clock = fakes.VirtualClock()
    policy = "max_batch_size: 2 dynamic_batching { default_queue_policy { default_timeout_microseconds: 100 } }"
    model = TensorModel(
        fakes.config(policy + fakes.ADD_SUB),
        "1",
        [fakes.FakeInstance()],
        clock=clock,
        tickets=[limiter.register(Claim({(0, "R"): 1}))],
    )
    reply = fakes.Collector()
    model.submit(fakes.request(fakes.tensor("INPUT0", (1, 4)), fakes.tensor("INPUT1", (1, 4))), reply)
    await asyncio.sleep(0)
    clock.advance(100_000)
    answer = await reply.one()
    assert isinstance(answer, InferenceError)
    assert answer.message == "Request timeout expired"
    await model.close()
