"""Processes that do not go on: stopped by a signal, or caught in an endless loop; and executions that are run again."""

import asyncio
import os
import signal

import pytest

from tritium.core.errors import InvalidArgument, WorkerLost

LOOPS = """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        while requests[0].request_id() == "loop":
            pass
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]
"""

DIES_ONCE = """
import os
import pathlib
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def initialize(self, args):
        self.mark = pathlib.Path(args["model_repository"]) / "died"
    def execute(self, requests):
        if requests[0].request_id() == "die" or not self.mark.exists():
            self.mark.touch()
            os.abort()
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]
"""


def parameter(name: str, value: str) -> str:
    return f'\nparameters: {{ key: "{name}" value: {{ string_value: "{value}" }} }}'


@pytest.mark.parametrize("mode", ["process", "in_process"])
async def test_an_endless_loop_ends(mode, serve, tools):
    """An execution beyond its deadline fails with the reason; what waited behind it runs in the next process."""
    config = tools.any_fp32 + parameter("EXECUTION_TIMEOUT_SECONDS", "0.8") + parameter("EXECUTION_MODE", mode)
    # A thread cannot be ended: that one ends by itself, or the test would go on burning a core.
    ends = LOOPS.replace("pass", "__import__('time').sleep(2); break")
    model = await serve(ends if mode == "in_process" else LOOPS, config)
    (lost,) = model.submit(model.request([1.0], id="loop"))
    (kept,) = model.submit(model.request([2.0]))
    with pytest.raises(WorkerLost, match=r"did not end an execution within 0\.8 s while it ran this request"):
        await asyncio.wait_for(lost, tools.patience_s)
    assert (await asyncio.wait_for(kept, tools.patience_s)).outputs[0].array().tolist() == [2.0]


async def test_a_stopped_process_is_not_ready(serve, tools):
    """Readiness tells that a process with work stands still, and that it goes on again; nothing is lost by that."""
    model = await serve(LOOPS, tools.any_fp32)
    os.kill(model.instance.pid, signal.SIGSTOP)
    (answer,) = model.submit(model.request([3.0]))
    await tools.until(lambda: not model.instance.healthy)
    os.kill(model.instance.pid, signal.SIGCONT)
    await tools.until(lambda: model.instance.healthy)
    assert (await asyncio.wait_for(answer, tools.patience_s)).outputs[0].array().tolist() == [3.0]


async def test_a_stopped_process_is_replaced(serve, tools):
    """With a deadline it is killed; a request that it had not seen runs in the next one."""
    model = await serve(LOOPS, tools.any_fp32 + parameter("EXECUTION_TIMEOUT_SECONDS", "0.8"))
    before = model.instance.pid
    os.kill(before, signal.SIGSTOP)
    assert (await model.ask([3.0])).tolist() == [3.0]
    assert model.instance.pid != before


async def test_a_lost_execution_is_run_again(serve, tools):
    """As often as RETRY_LOST_EXECUTIONS says, and then it fails."""
    model = await serve(DIES_ONCE, tools.any_fp32 + parameter("RETRY_LOST_EXECUTIONS", "1"))
    assert (await model.ask([4.0])).tolist() == [4.0]
    with pytest.raises(WorkerLost, match="SIGABRT"):
        await model.infer([4.0], id="die")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (parameter("EXECUTION_TIMEOUT_SECONDS", "soon"), "EXECUTION_TIMEOUT_SECONDS 'soon' is not a number of seconds"),
        (parameter("RETRY_LOST_EXECUTIONS", "-1"), "RETRY_LOST_EXECUTIONS '-1' of model 'm' is not a count"),
        (
            parameter("RETRY_LOST_EXECUTIONS", "1") + "\nmodel_transaction_policy { decoupled: true }",
            "what a decoupled model has sent cannot be taken back",
        ),
    ],
)
async def test_what_cannot_be_configured(config, said, serve, tools):
    """Values that make no sense are refused when the model is loaded."""
    with pytest.raises(InvalidArgument, match=said):
        await serve(LOOPS, tools.any_fp32 + config)
