"""Models that run in the server's own process: the same library, without the hop and without the protection."""

import asyncio
import os
import re
import threading

import numpy as np
import pytest
import structlog

from tritium.backends.python.local import worker
from tritium.core.errors import InvalidArgument, ModelFailed

MODES = ("in_process", "inline")


def config(mode: str, more: str = "") -> str:
    return f"""
input [ {{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }} ]
output [ {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }} ]
parameters: {{ key: "EXECUTION_MODE" value: {{ string_value: "{mode}" }} }}
{more}
"""


@pytest.mark.parametrize("mode", MODES)
async def test_a_model_runs_in_this_process(mode, serve):
    """Its output carries the id of the process that asks."""
    served = await serve(
        """
        import os
        import numpy as np
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                pid = np.array([os.getpid()], np.float32)
                return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", pid)]) for _ in requests]
        """,
        config(mode),
    )
    assert await served.ask([1.0]) == np.float32(os.getpid())
    assert served.instance.pid == os.getpid()


@pytest.mark.parametrize("mode", MODES)
async def test_inputs_may_be_written_to(mode, serve):
    """A model that works in place changes its own copy, not the bytes of the request."""
    served = await serve(
        """
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                responses = []
                for request in requests:
                    array = request.inputs()[0].as_numpy()
                    array += 1
                    responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)]))
                    array += 100
                return responses
        """,
        config(mode),
    )
    request = served.request([1.0, 2.0])
    (future,) = served.submit(request)
    answer = await asyncio.wait_for(future, 60)
    # The second addition is the model's: a tensor shows its array until execute has returned.
    assert answer.outputs[0].array().tolist() == [102.0, 103.0]
    assert request.inputs[0].array().tolist() == [1.0, 2.0]


@pytest.mark.parametrize("mode", MODES)
async def test_many_executions_are_answered_in_turn(mode, serve, tools):
    """Requests handed over while others run are all answered, each with its own."""
    served = await serve(tools.identity, config(mode))
    futures = [served.submit(served.request([float(number)]))[0] for number in range(500)]
    async with asyncio.timeout(tools.patience_s):
        answers = [(await future).outputs[0].array()[0] for future in futures]
    assert answers == list(range(500))


@pytest.mark.parametrize("mode", MODES)
async def test_what_a_model_raises_is_its_answer(mode, serve):
    """An exception fails its execution in the words of a process, and the next one runs."""
    served = await serve(
        """
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                if requests[0].request_id() == "bad":
                    raise ValueError("no")
                outputs = [pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy()) for request in requests]
                return [pb_utils.InferenceResponse([output]) for output in outputs]
        """,
        config(mode),
    )
    with pytest.raises(
        ModelFailed, match=r"(?s)for model 'm_0_0', message: ValueError: no\n\nAt:\n.*model.py.5.: exec"
    ):
        await served.infer([1.0], id="bad")
    assert await served.ask([2.0]) == [2.0]


@pytest.mark.parametrize(
    ("leaves", "words"), [("sys.exit(3)", r"called sys.exit.3."), ("raise KeyboardInterrupt", "raised K")]
)
@pytest.mark.parametrize("mode", MODES)
async def test_a_model_that_leaves_ends_the_instance_and_not_the_server(mode, leaves, words, serve, tools):
    """The request fails, the model is loaded anew, and serves again."""
    served = await serve(
        f"""
        import sys
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                if requests[0].request_id() == "exit":
                    {leaves}
                outputs = [pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy()) for request in requests]
                return [pb_utils.InferenceResponse([output]) for output in outputs]
        """,
        config(mode),
    )
    with pytest.raises(Exception, match=words + ".* while it ran this request"):
        await served.infer([1.0], id="exit")
    await tools.until(lambda: served.instance.healthy)
    assert await served.ask([2.0]) == [2.0]


async def test_two_models_have_their_own_files_of_one_name(serve):
    """A file beside model.py belongs to its model, whichever was loaded first."""
    code = """
        import triton_python_backend_utils as pb_utils
        import helper
        import numpy as np
        class TritonPythonModel:
            def execute(self, requests):
                value = np.array([helper.VALUE], np.float32)
                return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", value)]) for r in requests]
        """
    found = []
    for number, name in enumerate(("a", "b")):
        helper = f"\nparameters: {{ key: 'n' value: {{ string_value: '{number}' }} }}"
        served = await serve(code, config("in_process", helper), name, files={"helper.py": f"VALUE = {number}"})
        found.append(served)
    assert [await served.ask([0.0]) for served in found] == [[0.0], [1.0]]


async def test_threads_of_a_model_speak_for_it(serve, tools):
    """A thread that a decoupled model starts sends its responses, while other models share the process."""
    other = await serve(tools.identity, config("in_process"), "other")
    served = await serve(
        """
        import threading
        import numpy as np
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                for request in requests:
                    threading.Thread(target=self.answer, args=(request.get_response_sender(),)).start()
            def answer(self, sender):
                pb_utils.Logger.log_info("from a thread")
                for number in range(3):
                    tensor = pb_utils.Tensor("OUTPUT0", np.array([number], np.float32))
                    sender.send(pb_utils.InferenceResponse([tensor]))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        """,
        config("in_process", "model_transaction_policy { decoupled: true }"),
    )
    parts = await served.stream([1.0]).rest()
    assert [part.outputs[0].array()[0] for part in parts if part] == [0, 1, 2]
    assert await other.ask([5.0]) == [5.0]


async def test_a_model_on_the_loop_is_told_that_it_cannot_wait(serve):
    """An inline model that calls another one synchronously gets an error, not a server that stands still."""
    served = await serve(
        """
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                inputs = requests[0].inputs()
                return [pb_utils.InferenceRequest(model_name="x", inputs=inputs, requested_output_names=[]).exec()]
        """,
        config("inline"),
        submit=lambda request, reply: None,
    )
    with pytest.raises(ModelFailed, match="EXECUTION_MODE in_process gives it a thread"):
        await served.infer([1.0])


async def test_an_unknown_mode_is_refused(serve, tools):
    """The message names the parameter, the model, and what can be said."""
    with pytest.raises(InvalidArgument, match="EXECUTION_MODE 'thread' of model 'm' is unknown") as caught:
        await serve(tools.identity, config("thread"))
    assert caught.value.hint == "one of process, in_process, inline"


async def test_an_interpreter_of_its_own_is_refused(serve, tools):
    """The server's process has one interpreter."""
    environment = 'parameters: { key: "EXECUTION_ENV_PATH" value: { string_value: "env" } }'
    with pytest.raises(InvalidArgument, match="asks for EXECUTION_MODE 'inline' and for an interpreter of its own"):
        await serve(tools.identity, config("inline", environment))


async def test_a_model_that_holds_up_the_server_is_told_in_the_log(serve, tools, monkeypatch, tmp_path):
    """An inline model that does not go on stops everybody: the log says which it is and where, once."""
    monkeypatch.setattr(worker, "LOOK_S", 0.02)
    freed = tmp_path / "freed"
    served = await serve(
        f"""
        import os
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                while not os.path.exists({str(freed)!r}):
                    pass
                tensors = [pb_utils.Tensor("OUTPUT0", requests[0].inputs()[0].as_numpy())]
                return [pb_utils.InferenceResponse(tensors)]
        """,
        config("inline"),
    )
    told = threading.Event()

    def note(_logger, _method, event):
        told.set()
        events.append(event)
        raise structlog.DropEvent

    def free():
        told.wait(tools.patience_s)
        freed.touch()

    events: list[dict[str, str]] = []
    structlog.configure(processors=[note])
    try:
        threading.Thread(target=free).start()
        assert (await served.ask([3.0])).tolist() == [3.0]
    finally:
        structlog.reset_defaults()
    assert [(event["event"], event["instance"]) for event in events] == [("model_holds_up_the_server", "m_0_0")]
    assert re.search(r"/m/1/model.py\([56]\): execute$", events[0]["at"])
