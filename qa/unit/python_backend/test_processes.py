"""Models that start processes of their own, and how much of its work a process is given ahead."""

import asyncio
import resource

import numpy as np
import pytest

from tritium.backends.python.execution import LEAST_AHEAD, MOST_AHEAD
from tritium.core.errors import Cancelled, Internal


async def test_spawning(write_model, serve):
    """Workers that a model spawns can import its files, and triton_python_backend_utils."""
    source = write_model("")
    (source.version_folder / "work.py").write_text(
        "import triton_python_backend_utils as pb_utils\n"
        "def work(value):\n    return [str(pb_utils.triton_string_to_numpy('TYPE_INT8')), value * 2]\n"
    )
    model = await serve(
        """
        import multiprocessing
        import numpy as np
        import triton_python_backend_utils as pb_utils
        from work import work
        class TritonPythonModel:
            def execute(self, requests):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    said, value = pool.apply(work, (21,))
                assert said == "<class 'numpy.int8'>"
                return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([value], np.float32))])]
        """
    )
    assert await model.ask([0.0]) == [42.0]


async def test_forking(serve):
    """A fork of the process does not speak in its name, whatever it drops: only the parent answers."""
    model = await serve(
        """
        import gc, os
        import numpy as np
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                child = os.fork()
                if not child:
                    requests.clear()
                    pb_utils.Logger.log_info("from the fork")
                    gc.collect()
                    os._exit(0)
                os.waitpid(child, 0)
                return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([7], np.float32))])]
        """
    )
    for _ in range(3):
        assert await model.ask([0.0]) == [7.0]


SLEEPY = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def initialize(self, args):
        self.seen = 0
    def execute(self, requests):
        self.seen += 1
        time.sleep(float(requests[0].inputs()[0].as_numpy()[0]))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([self.seen], np.float32))])]
"""


async def test_cancelled_before_the_model_saw_it(serve):
    """Of long executions few are handed over ahead: those still here when they are cancelled never reach the model."""
    model = await serve(SLEEPY)
    (running,) = model.submit(model.request([0.2]))
    requests = [model.request([0.0]) for _ in range(10)]
    futures = [model.submit(request)[0] for request in requests]
    await asyncio.sleep(0)
    for request in requests:
        request.cancel()
    assert (await running).outputs[0].array() == [1.0]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    refused = [error for error in outcomes if isinstance(error, Cancelled)]
    assert len(refused) == len(requests) - (LEAST_AHEAD - 1)
    assert {error.message for error in refused} == {"the request was cancelled before the model saw it"}
    assert await model.ask([0.0]) == [1.0 + LEAST_AHEAD]


async def test_many_short_executions_ahead(serve):
    """A model that is quick is soon given many executions ahead; one that is slow again is given few."""
    model = await serve(SLEEPY)
    assert model.instance.depth == MOST_AHEAD
    while model.instance._window.size == LEAST_AHEAD:  # how many it takes is up to the machine
        await model.ask([0.0])
    for _ in range(3):
        await model.ask([0.02])
    assert model.instance._window.size == LEAST_AHEAD


async def test_one_at_a_time_beside_others(serve, tools):
    """One of several instances takes one execution at a time, so that the scheduler chooses who is free."""
    model = await serve(tools.identity, tools.any_fp32 + "instance_group [ { kind: KIND_CPU count: 2 } ]\n")
    assert model.instance.depth == 1


@pytest.fixture
def no_growing():
    """Let no file of this process grow beyond a megabyte, shared memory included."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_no_memory_for_a_request(serve, tools, no_growing):
    """Inputs that shared memory cannot take are an error of that request; the next one is served."""
    model = await serve(tools.identity)
    assert await model.ask([1.0]) == [1.0]
    no_growing()
    with pytest.raises(Internal, match="no shared memory for the inputs: File too large"):
        await model.ask(np.zeros(1 << 20, np.float32))
    assert await model.ask([2.0]) == [2.0]
    assert model.instance.arenas_in_use == (0, 0)
