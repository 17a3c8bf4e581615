"""Scheduling decisions, as scripts under qa/golden/scheduling tell them.

A script is prose (`#`), commands, and after each command what it must answer (lines with `-`). Time is virtual.

    plan CONFIG               the scheduler of a model with this configuration
    at T                      it is now T microseconds after the start
    plan hold=N CONFIG        the same, under TRITONSERVER_DELAY_SCHEDULER=N
    add NAME [key=value ...]  a request arrives: size= shape= with= priority= timeout_us= id= start end
    cancel NAME               its client takes it back
    take [LANE]               an idle instance asks; answers the batch and why it was cut, or what it waits for
                              (_ is a null request that keeps a place)
    done [LANE]               the last batch that the instance took has run
"""

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tritium.core.errors import InferenceError
from tritium.core.facilities import Facilities
from tritium.core.instance import Job
from tritium.core.request import InferRequest, SequenceStep
from tritium.core.scheduler.plan import Cut, Plan
from tritium.core.tensor import Tensor
from tritium.core.tensor_model import plan_for

SCRIPTS = sorted((Path(__file__).parents[2] / "golden" / "scheduling").glob("*.txt"))

Step = tuple[int, str, list[str]]
_HOLD = re.compile(r"plan (?:hold=(\d+) )?(.*)")


def steps(script: Path) -> Iterator[Step]:
    """Yield line number, command and expected answers."""
    step: Step | None = None
    for number, raw in enumerate(script.read_text().splitlines(), 1):
        line = raw.strip()
        if line.startswith("-"):
            assert step is not None, f"{script.name}:{number} answers nothing"
            step[2].append(line[1:].strip())
        elif line and not line.startswith("#"):
            if step is not None:
                yield step
            step = (number, line, [])
    if step is not None:
        yield step


class Scene:
    """One plan, its requests by name, and the time."""

    def __init__(self, fakes: ModuleType) -> None:
        self._fakes = fakes
        self._plan: Plan | None = None
        self._now_us = 0
        self._jobs: dict[int, str] = {}
        self._requests: dict[str, InferRequest] = {}
        self._cuts: dict[int, Cut] = {}

    def play(self, command: str) -> list[str]:
        """Carry out one command and return its answers."""
        verb, _, rest = command.partition(" ")
        return getattr(self, f"_{verb}")(rest)

    @property
    def _now_ns(self) -> int:
        return 1_000_000 + self._now_us * 1000

    def _plan_(self) -> Plan:
        assert self._plan is not None
        return self._plan

    def _at(self, rest: str) -> list[str]:
        self._now_us = int(rest)
        return self._dropped()

    def _add(self, rest: str) -> list[str]:
        name, *words = rest.split()
        given = dict(word.split("=") for word in words if "=" in word)
        size = int(given.get("size", 1))
        dims = [int(dim) for dim in given.get("shape", "1").split(",")]
        key = given.get("id", "0")
        request = InferRequest(
            "m",
            id=name,
            inputs=[Tensor("X", "FP32", (size, *dims), b""), *_optional(given.get("with", ""), size)],
            priority=int(given.get("priority", 0)),
            timeout_us=int(given.get("timeout_us", 0)),
            sequence=SequenceStep(int(key) if key.isdigit() else key, "start" in words, "end" in words),
        )
        job = Job(request, self._fakes.Collector(), size, self._now_ns)
        try:
            self._plan_().add(job, self._now_ns)
        except InferenceError as error:
            return [f"refused: {error.message}"]
        self._jobs[id(job)] = name
        self._requests[name] = request
        self._keep = [*getattr(self, "_keep", []), job]
        return []

    def _cancel(self, rest: str) -> list[str]:
        self._requests[rest].cancel()
        return []

    def _take(self, rest: str) -> list[str]:
        lane = int(rest or 0)
        cut = self._plan_().take(self._now_ns, lane)
        answers = self._dropped()
        if cut is not None:
            self._cuts[lane] = cut
            names = " ".join(self._jobs.get(id(job), "_") for job in cut.batch)
            return [*answers, f"{names} (size {cut.size}, {cut.because})"]
        wake_ns = self._plan_().wake_ns()
        waiting = f"nothing until {(wake_ns - 1_000_000) // 1000}" if wake_ns else "nothing"
        return [*answers, waiting]

    def _done(self, rest: str) -> list[str]:
        self._plan_().finished(self._cuts.pop(int(rest or 0)), self._now_ns)
        return self._dropped()

    def _dropped(self) -> list[str]:
        return [f"dropped {self._jobs[id(d.job)]}: {d.error.message}" for d in self._plan_().dropped(self._now_ns)]


def _optional(name: str, size: int) -> list[Tensor]:
    return [Tensor(name, "FP32", (size, 1), b"")] if name else []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script(script: Path, fakes: ModuleType) -> None:
    """Every command of the script is answered as the script says."""
    scene = Scene(fakes)
    for number, command, expected in steps(script):
        if command.startswith("plan "):
            scene = Scene(fakes)
            match = _HOLD.fullmatch(command)
            assert match is not None
            hold, text = match.groups()
            facilities = Facilities(hold_for=int(hold or 0))
            scene._plan = plan_for(fakes.config(text, "m"), instances=2, facilities=facilities)
            continue
        assert scene.play(command) == expected, f"{script.name}:{number}: {command}"


def test_there_are_scripts() -> None:
    """The folder was found."""
    assert len(SCRIPTS) >= 3
