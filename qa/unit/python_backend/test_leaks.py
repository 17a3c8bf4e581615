"""A long day in a minute: crashes, errors, streams, cancels and large tensors at once, and nothing left of it."""

import asyncio
import contextlib
import gc
import os
import random
import signal
from pathlib import Path

import numpy as np

from tritium.core.errors import InferenceError, WorkerLost

CODE = """
import os, threading, time
import numpy as np
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            array = request.inputs()[0].as_numpy()
            sender = request.get_response_sender()
            match int(array[0]):
                case -1:
                    os.abort()
                case -2:
                    raise RuntimeError("asked to")
                case -3:
                    threading.Thread(target=self.stream, args=(sender, array)).start()
                case -4:
                    self.kept = array, sender
                case -5:
                    self.kept = None
                case _:
                    sender.send(self.answer(array), flags=1)
    def answer(self, array):
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)])
    def stream(self, sender, array):
        for i in range(5):
            if sender.is_cancelled():
                break
            sender.send(self.answer(array + i))
            time.sleep(0.001)
        sender.send(flags=1)
"""

CONFIG = """
model_transaction_policy { decoupled: true }
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""

COMMON = (0, 1, 2, -3, -3)


async def test_a_long_day(serve, tools):
    """After hundreds of requests among crashes the arenas are empty; the fixture looks for the rest."""
    model = await serve(CODE, CONFIG)
    dice = random.Random(7)
    lost = answered = failed = 0

    async def client(number: int) -> None:
        nonlocal lost, answered, failed
        for step in range(30):
            what = -1 if (number, step) in {(0, 10), (1, 20), (2, 25)} else dice.choice((*COMMON, -2, -4))
            array = np.full(dice.choice((1, 100, 50_000, 300_000)), what, np.float32)
            stream = model.stream(array)
            if dice.random() < 0.1:
                asyncio.get_running_loop().call_later(0.001, stream.request.cancel)
            for item in await stream.rest():
                if isinstance(item, WorkerLost):
                    lost += 1
                elif isinstance(item, InferenceError):
                    failed += 1
                else:
                    assert item.outputs[0].array()[0] >= what
                    answered += 1

    async def keep_dropping() -> None:
        # What -4 keeps, the next -4 lets go.
        while True:
            await asyncio.sleep(0.02)
            model.stream(np.full(10, -4, np.float32))

    dropping = asyncio.ensure_future(keep_dropping())
    await asyncio.gather(*[client(number) for number in range(8)])
    dropping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await dropping
    assert lost >= 3
    assert failed >= 10
    assert answered >= 100
    await tools.until(lambda: not model.tasks and model.instance.healthy)
    await model.stream(np.full(10, -5, np.float32)).rest()
    gc.collect()
    # Threads of the model let go of what they hold after their last response.
    await tools.until(lambda: model.instance.arenas_in_use == (0, 0))


async def test_shared_memory_has_no_name(serve, tools):
    """Large tensors pass through memory that no crash can leave in /dev/shm: it has no name there."""

    def named(pid: int | str) -> set[str]:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        return {line.split()[5] for line in lines if "/dev/shm/" in line}

    # Other tests of this process may have imported libraries that map semaphores of their own.
    before = named("self")
    model = await serve(tools.identity)
    answer = await model.ask(np.zeros(1 << 20, np.float32))
    for pid, known in ((model.instance.pid, set()), ("self", before)):
        maps = Path(f"/proc/{pid}/maps").read_text()  # noqa: ASYNC240  # memory that the kernel writes out
        assert "/memfd:tritium:m_0_0:requests" in maps
        assert named(pid) <= known
    del answer


async def test_a_thousand_loads_of_memory(serve):
    """Large tensors both ways, request after request, stay within a few segments of memory."""
    model = await serve(
        """
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                return [
                    pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy() + 1)])
                    for r in requests
                ]
        """
    )
    array = np.zeros(1 << 18, np.float32)
    for _ in range(25):
        answers = await asyncio.gather(*[model.ask(array) for _ in range(4)])
        assert all(answer[-1] == 1 for answer in answers)
        del answers
    assert model.instance.arenas_in_use[0] <= 4 << 20


async def test_a_lost_process_takes_its_memory_along(serve, tools):
    """When a process dies its shared memory is gone at once, not at some later garbage collection."""
    model = await serve(tools.identity)
    await model.infer(np.zeros(1 << 18, np.float32))

    def files() -> int:
        links = (entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink())
        return sum("memfd:tritium:" in str(link) for link in links)

    gc.collect()
    before = files()
    gc.disable()
    try:
        for _ in range(3):
            pid = model.instance.pid
            os.kill(pid, signal.SIGKILL)
            await tools.until(lambda pid=pid: model.instance.pid not in (None, pid))
            await model.infer(np.zeros(1 << 18, np.float32))
        assert files() == before
    finally:
        gc.enable()
