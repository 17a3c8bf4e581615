"""A process that dies: who is told, what is run again, and that the instance comes back."""

import asyncio
import os
import signal
from asyncio import get_running_loop

import pytest

from tritium.core.errors import WorkerLost
from tritium.core.instance import Job
from tritium.core.replies import SingleReply

MODEL = """
import os, signal, sys, time
import numpy as np
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def initialize(self, args):
        self.pid = float(os.getpid())
        {initialize}
    def execute(self, requests):
        value = requests[0].inputs()[0].as_numpy()[0]
        if value < 0:
            {die}
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([self.pid, value], np.float32))])
                for _ in requests]
"""

DEATHS = {
    "os.abort()": "was ended by SIGABRT",
    "os.kill(os.getpid(), signal.SIGKILL)": "was ended by SIGKILL",
    "os.kill(os.getpid(), signal.SIGSEGV)": "was ended by SIGSEGV",
    "os._exit(5)": "exited with status 5",
    "sys.exit(0)": "exited with status 0",
    "sys.exit(3)": "exited with status 3",
    "sys.exit('enough')": "exited with status 1",
}


def dying(die: str, initialize: str = "pass") -> str:
    return MODEL.format(die=die, initialize=initialize)


async def test_only_what_had_begun_fails(serve):
    """The execution that was running fails and says how the process ended; those behind it run in the next process."""
    changes = []
    ways = ", ".join(f"lambda: {die}" for die in DEATHS)
    model = await serve(dying(f"({ways})[-int(value) - 1]()"), changed=lambda: changes.append(model.instance.healthy))
    for number, ending in enumerate(DEATHS.values(), 1):
        (before, _) = await model.ask([1.0])
        fatal = model.submit(model.request([-float(number)]), model.request([0.0]))
        behind = [model.submit(model.request([float(i)]))[0] for i in range(10)]
        for future in fatal:
            with pytest.raises(WorkerLost) as caught:
                await future
            assert caught.value.message == f"the process of model instance 'm_0_0' {ending} while it ran this request"
        answers = [(await future).outputs[0].array().tolist() for future in behind]
        assert [value for _, value in answers] == [float(i) for i in range(10)]
        assert before not in {pid for pid, _ in answers}
    assert changes == [False, True] * len(DEATHS)


async def test_killed_from_outside_while_idle(serve):
    """A process that is killed between requests fails nobody; the instance is unhealthy until the next one is up."""
    changed = asyncio.Event()
    model = await serve(dying("pass"), changed=changed.set)
    os.kill(model.instance.pid, signal.SIGKILL)
    await asyncio.wait_for(changed.wait(), 60)
    assert not model.instance.healthy
    answer = await model.ask([3.0])
    assert answer[1] == 3.0
    assert model.instance.healthy


async def test_finished_responses_arrive(serve):
    """What the process had sent before it died is delivered."""
    model = await serve(dying("time.sleep(0.05); os.abort()"))
    finished = [model.submit(model.request([float(i)]))[0] for i in range(20)]
    (lost,) = model.submit(model.request([-1.0]))
    assert [float(i) for i in range(20)] == [(await future).outputs[0].array()[1] for future in finished]
    with pytest.raises(WorkerLost):
        await lost


async def test_open_streams_fail(serve):
    """Streams of a decoupled model that the process still fed end with an error after what they had."""
    model = await serve(
        """
        import os, threading
        import numpy as np
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def initialize(self, args):
                self.kept = []
            def execute(self, requests):
                if requests[0].inputs()[0].as_numpy()[0] < 0:
                    os.abort()
                self.kept.append(requests[0].get_response_sender())
                response = pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.zeros(1, np.float32))])
                self.kept[-1].send(response)
        """,
        "model_transaction_policy { decoupled: true }\n"
        'input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]\n'
        'output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]\n',
    )
    streams = [model.stream([float(i)]) for i in range(3)]
    for stream in streams:
        assert (await stream.next()).outputs[0].array().tolist() == [0.0]
    killer = model.stream([-1.0])
    for stream in (*streams, killer):
        (error,) = await stream.rest()
        assert isinstance(error, WorkerLost)


async def test_a_restart_that_fails(serve, tmp_path, tools):
    """While the model cannot be loaded again, what waits is refused with the reason; once it can, it serves."""
    broken = tmp_path / "broken"
    model = await serve(dying("os.abort()", f"if os.path.exists('{broken}'): raise RuntimeError('still broken')"))
    broken.touch()
    (lost,) = model.submit(model.request([-1.0]))
    (behind,) = model.submit(model.request([1.0]))
    with pytest.raises(WorkerLost):
        await lost
    with pytest.raises(WorkerLost, match="could not be restarted: RuntimeError: still broken"):
        await asyncio.wait_for(behind, 60)
    assert not model.instance.healthy
    broken.unlink()
    await tools.until(lambda: model.instance.healthy)
    assert (await model.ask([2.0]))[1] == 2.0


async def test_closing_while_it_restarts(serve, tmp_path):
    """An instance that cannot come back can be closed."""
    broken = tmp_path / "broken"
    model = await serve(dying("os.abort()", f"if os.path.exists('{broken}'): raise RuntimeError('still broken')"))
    broken.touch()
    (lost,) = model.submit(model.request([-1.0]))
    with pytest.raises(WorkerLost):
        await lost
    await asyncio.wait_for(model.instance.close(), 60)
    assert not model.instance.healthy


async def test_children_of_the_model_end_with_it(serve, tools, tmp_path):
    """Processes that the model started are gone after a crash, even when they hold its socket open."""
    model = await serve(
        f"""
        import os, time
        class TritonPythonModel:
            def initialize(self, args):
                child = os.fork()
                if not child:
                    time.sleep(60)
                    os._exit(0)
                open("{tmp_path}/child", "a").write(f"{{child}}\\n")
            def execute(self, requests):
                os.abort()
        """
    )
    (lost,) = model.submit(model.request([0.0]))
    with pytest.raises(WorkerLost):
        await asyncio.wait_for(lost, 60)
    await tools.until(lambda: model.instance.healthy)
    await model.instance.close()
    for child in (tmp_path / "child").read_text().split():
        await tools.until(lambda child=child: tools.gone(int(child)))


async def test_a_process_without_its_socket(serve):
    """A model that closes every descriptor can no longer be spoken to: its process is replaced."""
    model = await serve(
        """
        import os, time
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                if requests[0].inputs()[0].as_numpy()[0] < 0:
                    os.closerange(3, 1000)
                    time.sleep(60)
                return [pb_utils.InferenceResponse([]) for _ in requests]
        """
    )
    (lost,) = model.submit(model.request([-1.0]))
    with pytest.raises(WorkerLost):
        await asyncio.wait_for(lost, 60)
    assert (await model.infer([0.0])).outputs == []


async def test_garbage_on_the_socket(serve):
    """A model that writes to a descriptor that is not its own loses its process, not the server."""
    model = await serve(
        """
        import os, socket, stat, time
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def execute(self, requests):
                if requests[0].inputs()[0].as_numpy()[0] < 0:
                    for fd in range(3, 4096):
                        try:
                            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                                os.write(fd, b"\\3\\0\\0\\0xyz")
                        except OSError:
                            pass
                    time.sleep(60)
                return [pb_utils.InferenceResponse([]) for _ in requests]
        """
    )
    (lost,) = model.submit(model.request([-1.0]))
    with pytest.raises(WorkerLost, match="what is no message"):
        await asyncio.wait_for(lost, 60)
    assert (await model.infer([0.0])).outputs == []


async def test_a_reply_that_fails(serve, capfd):
    """A client whose reply cannot be delivered harms no other request."""
    model = await serve(dying("pass"))

    class Broken:
        def send(self, response, *, final) -> None:
            raise ConnectionError("the client has gone")

    batch = [Job(model.request([1.0]), Broken()), Job(model.request([2.0]), good := SingleReply(get_running_loop()))]
    await asyncio.wait_for(model.start(batch), 60)
    assert (await good.future).outputs[0].array()[1] == 1.0
    assert "the client has gone" in capfd.readouterr().out


async def test_readiness_of_the_model_itself(serve, tmp_path, tools):
    """A model with is_ready is asked from time to time; what it says is told, and requests are taken all the same."""
    changed = asyncio.Event()
    model = await serve(
        f"""
        import os
        class TritonPythonModel:
            async def is_ready(self):
                return not os.path.exists("{tmp_path}/down")
        """,
        changed=changed.set,
    )
    assert model.instance.willing
    (tmp_path / "down").touch()
    await asyncio.wait_for(changed.wait(), 60)
    assert (model.instance.willing, model.instance.healthy) == (False, True)
    (tmp_path / "down").unlink()
    await tools.until(lambda: model.instance.willing)
