"""Adapters that one worker is asked to load and to forget."""

import asyncio

import pytest

from tritium.cluster.frames import LoadLora, LoraDone, UnloadLora
from tritium.cluster.lora_calls import LoraCalls
from tritium.core.errors import InvalidArgument, ModelFailed, WorkerLost


class Worker:
    """Answers every frame at once, or not at all; `words` are what it says of an adapter by name."""

    def __init__(self, *, words=None, silent=False, within_s=0.0):
        self.words = words or {}
        self.silent = silent
        self.frames = []
        self.calls = LoraCalls("w0", self.send, within_s)

    def send(self, frame):
        self.frames.append(frame)
        if not self.silent:
            self.calls.answered(LoraDone(frame.id, *self.words.get(frame.name, ())))


async def test_answers_find_their_calls():
    """Each call has a number, and ends with the answer that bears it; other answers are no matter."""
    worker = Worker()
    worker.calls.answered(LoraDone(7))
    await worker.calls.load("a", "/loras/a")
    await worker.calls.unload("a")
    assert worker.frames == [LoadLora(1, "a", "/loras/a"), UnloadLora(2, "a")]


async def test_a_refusal_is_told_apart_from_a_failure():
    """What the engine does not take is the asker's fault; what breaks is not. Both come in the engine's words."""
    worker = Worker(words={"large": ("rank 64 is above 16", True), "torn": ("the file is cut short", False)})
    with pytest.raises(InvalidArgument, match="w0: rank 64 is above 16"):
        await worker.calls.load("large", "/loras/large")
    with pytest.raises(ModelFailed, match="w0: the file is cut short"):
        await worker.calls.load("torn", "/loras/torn")


async def test_a_lost_worker_ends_its_calls():
    """Whoever waits for an answer is told how the worker was lost."""
    worker = Worker(silent=True)
    call = asyncio.create_task(worker.calls.load("a", "/loras/a"))
    while not worker.frames:  # noqa: ASYNC110  the call's first turn of the loop
        await asyncio.sleep(0)
    worker.calls.lost("process 7 was killed by SIGKILL")
    with pytest.raises(WorkerLost, match="process 7 was killed by SIGKILL"):
        await call


async def test_an_answer_that_does_not_come_is_not_waited_for():
    """Beyond the bound the call fails, and says so."""
    with pytest.raises(ModelFailed, match=r"no answer about the adapter within 0.01 s"):
        await Worker(silent=True, within_s=0.01).calls.load("a", "/loras/a")


async def test_a_fresh_run_is_brought_up_to_a_fleet_that_changes():
    """What is loaded or forgotten elsewhere meanwhile counts; an adapter that is not taken keeps no other away."""
    loras = {"torn": "/loras/torn", "gone": "/loras/gone"}
    worker = Worker(words={"torn": ("the file is cut short", False)})

    def send(frame):
        if frame.name == "torn":
            loras.pop("gone")
            loras["new"] = "/loras/new"
        Worker.send(worker, frame)

    worker.calls = LoraCalls("w0", send, 0.0)
    await worker.calls.bring_up_to(loras)
    assert [frame.name for frame in worker.frames if frame.name in loras] == ["torn", "new"]
