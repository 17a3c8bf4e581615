"""Decoupled models: any number of responses, from anywhere, until the final flag."""

import asyncio

import pytest

from tritium.core.errors import Cancelled, ModelFailed, NotFound

CONFIG = """
model_transaction_policy { decoupled: true }
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""

HEAD = """
import threading, time
import numpy as np
import triton_python_backend_utils as pb_utils
FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
def answer(*values):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array(values, np.float32))])
"""


def values(items) -> list:
    return [item.outputs[0].array().tolist() if not isinstance(item, Exception) else item.message for item in items]


def model_of(body: str) -> str:
    lines = "".join(f"        {line}\n" for line in body.strip("\n").split("\n"))
    return f"{HEAD}class TritonPythonModel:\n    def execute(self, requests):\n{lines}"


async def test_counting(serve):
    """Responses come in the order they were sent; the final flag may come alone or with the last response."""
    model = await serve(
        model_of(
            """
for request in requests:
    sender = request.get_response_sender()
    count = int(request.inputs()[0].as_numpy()[0])
    for i in range(abs(count)):
        sender.send(answer(i), flags=FINAL if count < 0 and i == -count - 1 else 0)
    if count >= 0:
        sender.send(flags=FINAL)
"""
        ),
        CONFIG,
    )
    assert values(await model.stream([3.0]).rest()) == [[0.0], [1.0], [2.0]]
    assert values(await model.stream([-2.0]).rest()) == [[0.0], [1.0]]
    assert await model.stream([0.0]).rest() == []
    assert [[float(i)] for i in range(3000)] == values(await model.stream([3000.0]).rest())


async def test_each_response_leaves_at_once(serve):
    """A response is with the client while the model still works on the next."""
    model = await serve(
        model_of(
            """
sender = requests[0].get_response_sender()
sender.send(answer(1))
while not sender.is_cancelled():
    time.sleep(0.001)
sender.send(answer(2), FINAL)
"""
        ),
        CONFIG,
    )
    reply = model.stream([0.0])
    assert values([await reply.next()]) == [[1.0]]
    assert len(model.tasks) == 1, "execute has not returned"
    reply.request.cancel()
    assert values(await reply.rest()) == [[2.0]]


async def test_after_execute_has_returned(serve, tools):
    """Threads go on sending when execute has returned, and other requests run meanwhile."""
    model = await serve(
        model_of(
            """
def work(request, gate):
    sender = request.get_response_sender()
    for i in range(3):
        gate.wait()
        sender.send(answer(i))
    sender.send(flags=FINAL)
self.gate = getattr(self, "gate", threading.Event())
if requests[0].inputs()[0].as_numpy()[0] == 1:
    self.gate.set()
threading.Thread(target=work, args=(requests[0], self.gate)).start()
"""
        ),
        CONFIG,
    )
    waiting = model.stream([0.0])
    await tools.until(lambda: not model.tasks)
    opening = model.stream([1.0])
    assert values(await opening.rest()) == [[0.0], [1.0], [2.0]]
    assert values(await waiting.rest()) == [[0.0], [1.0], [2.0]]


async def test_errors_within_a_stream(serve):
    """An error response takes a response's place, and the stream goes on after it."""
    model = await serve(
        model_of(
            """
sender = requests[0].get_response_sender()
sender.send(answer(1))
sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("not now", pb_utils.TritonError.NOT_FOUND)))
sender.send(answer(2), FINAL)
"""
        ),
        CONFIG,
    )
    items = await model.stream([0.0]).rest()
    assert values(items) == [[1.0], "not now", [2.0]]
    assert isinstance(items[1], NotFound)


async def test_raising_in_the_middle(serve):
    """An exception ends the streams of its execution with the error; what was finished stays finished."""
    model = await serve(
        model_of(
            """
senders = [request.get_response_sender() for request in requests]
senders[0].send(answer(1), FINAL)
senders[1].send(answer(2))
raise RuntimeError("in the middle")
"""
        ),
        CONFIG,
    )
    finished, unfinished = model.streams([0.0], [0.0])
    assert values(await finished.rest()) == [[1.0]]
    items = await unfinished.rest()
    assert values(items)[0] == [2.0]
    assert isinstance(items[1], ModelFailed)
    assert "RuntimeError: in the middle" in items[1].message


async def test_returning_something(serve):
    """A decoupled execute must return None."""
    model = await serve(model_of("return []"), CONFIG)
    (error,) = await model.stream([0.0]).rest()
    assert error.message == (
        "Failed to process the request(s) for model 'm_0_0', message: "
        "Python model 'm_0_0' is using the decoupled mode and the execute function must return None."
    )


async def test_forgetting_the_final_flag(serve):
    """A sender that is dropped without the final flag ends the stream: no client waits for ever."""
    model = await serve(
        model_of(
            """
choice = int(requests[0].inputs()[0].as_numpy()[0])
if choice > 0:
    sender = requests[0].get_response_sender()
if choice > 1:
    sender.send(answer(1))
"""
        ),
        CONFIG,
    )
    ends = [values(await model.stream([float(choice)]).rest()) for choice in range(3)]
    assert ends == [[], [], [[1.0]]]


async def test_unloading_a_model_that_never_ends_a_stream(serve):
    """What is still waited for holds the unload up; once it is cancelled, it is ended, whatever the model does."""
    model = await serve(
        """
        import numpy as np
        import triton_python_backend_utils as pb_utils
        class TritonPythonModel:
            def initialize(self, args): self.kept = []
            def execute(self, requests):
                for request in requests:
                    sender = request.get_response_sender()
                    sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.zeros(1, np.float32))]))
                    self.kept.append(sender)
        """,
        CONFIG,
    )
    stream = model.stream([1.0])
    assert await stream.next() is not None
    closing = asyncio.ensure_future(model.instance.close())
    done, _ = await asyncio.wait({closing}, timeout=0.1)
    assert not done
    stream.request.cancel()
    await asyncio.wait_for(closing, 60)
    (end,) = await stream.rest()
    assert isinstance(end, Cancelled)


MISUSES = {
    "[sender.send(answer(1), FINAL), sender.send(answer(2))]": "Response sender has been closed.",
    "sender.send()": "Inference Response object must be provided when the response flags is set to zero.",
    "sender.send(answer(1), flags=7)": "Unable to send response. Unsupported flag provided.",
}


async def test_misusing_a_sender(serve):
    """A sender says what is wrong with how it is used, in Triton's words."""
    uses = ", ".join(f"lambda: {use}" for use in MISUSES)
    model = await serve(
        model_of(
            f"""
self.said = getattr(self, "said", [])
choice = int(requests[0].inputs()[0].as_numpy()[0])
if choice < 0:
    raise RuntimeError(" | ".join(self.said))
sender = requests[0].get_response_sender()
try:
    ({uses})[choice]()
except pb_utils.TritonModelException as error:
    self.said.append(str(error))
"""
        ),
        CONFIG,
    )
    answered = [values(await model.stream([float(choice)]).rest()) for choice in range(len(MISUSES))]
    assert answered == [[[1.0]], [], []]
    (error,) = await model.stream([-1.0]).rest()
    for said, expected in zip(error.message.split(" | "), MISUSES.values(), strict=True):
        assert expected in said


async def test_a_second_response_of_an_ordinary_model(serve):
    """A model that is not decoupled answers once; a second response is refused, and the first stands."""
    model = await serve(
        f"""{HEAD}
class TritonPythonModel:
    def initialize(self, args):
        self.said = ""
    def execute(self, requests):
        if self.said:
            raise RuntimeError(self.said)
        sender = requests[0].get_response_sender()
        sender.send(answer(1))
        try:
            sender.send(answer(2))
        except pb_utils.TritonModelException as error:
            self.said = str(error)
"""
    )
    assert (await model.ask([0.0])).tolist() == [1.0]
    with pytest.raises(ModelFailed, match="Non-decoupled model cannot send more than one response"):
        await model.infer([0.0])


async def test_async_decoupled(serve):
    """`async def execute` of a decoupled model runs in the background: streams interleave, errors end their own."""
    model = await serve(
        f"""{HEAD}
import asyncio
class TritonPythonModel:
    async def execute(self, requests):
        value = float(requests[0].inputs()[0].as_numpy()[0])
        sender = requests[0].get_response_sender()
        if value < 0:
            sender.send(answer(0))
            raise ValueError("background")
        for i in range(3):
            await asyncio.sleep(0.01)
            sender.send(answer(value, i))
        sender.send(flags=FINAL)
""",
        CONFIG,
    )
    streams = [model.stream([float(i)]) for i in range(4)]
    failing = model.stream([-1.0])
    items = await failing.rest()
    assert values(items)[0] == [0.0]
    assert "ValueError: background" in items[1].message
    for number, stream in enumerate(streams):
        assert [[number, i] for i in range(3)] == values(await stream.rest())


async def test_large_responses_through_a_small_arena(serve):
    """A long stream of large tensors, read as it comes, reuses the same memory."""
    model = await serve(
        model_of(
            """
sender = requests[0].get_response_sender()
for i in range(200):
    sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.full(500_000, i, np.float32))]))
sender.send(flags=FINAL)
"""
        ),
        CONFIG,
    )
    reply = model.stream([0.0])
    seen = 0
    while (item := await reply.next()) is not None:
        array = item.outputs[0].array()
        assert (array == seen).all()
        seen += 1
        del item, array
    assert seen == 200
    assert model.instance.arenas_in_use == (0, 0)


ENDLESS = """
for request in requests:
    sender = request.get_response_sender()
    number = 0
    while not sender.is_cancelled():
        sender.send(answer(number))
        number += 1
    sender.send(flags=FINAL)
"""


async def until_quiet(stream):
    """Take what comes until nothing has come for a quarter of a second; an endless model pauses only where it waits."""
    taken = []
    async with asyncio.timeout(60):
        while True:
            try:
                taken += values([await asyncio.wait_for(anext(stream), 0.25)])
            except TimeoutError:
                return taken


async def test_a_sender_waits_while_nobody_wants_more(serve):
    """Held, it sends the few that it had begun; let go, it goes on where it was, and nothing is lost."""
    model = await serve(model_of(ENDLESS), CONFIG)
    stream = model.stream([0.0])
    before = values([await stream.next()])
    stream.request.hold(True)
    before += await until_quiet(stream)
    stream.request.hold(False)
    after = values([await stream.next() for _ in range(100)])
    assert before + after == [[float(number)] for number in range(len(before) + 100)]
    stream.request.cancel()
    await stream.rest()


async def test_a_sender_that_waits_ends_when_its_client_leaves(serve):
    """The model sees the cancellation, and has room for the next request."""
    model = await serve(model_of(ENDLESS), CONFIG)
    stream = model.stream([0.0])
    await stream.next()
    stream.request.hold(True)
    await until_quiet(stream)
    stream.request.cancel()
    await stream.rest()
    following = model.stream([0.0])
    assert values([await following.next()]) == [[0.0]]
    following.request.cancel()
    await following.rest()
