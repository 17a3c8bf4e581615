"""Models that ask the server: other models, loading and unloading, logs and metrics of their own."""

import asyncio
import textwrap

import pytest

from tritium.backends.metrics import CustomMetrics, MetricKind
from tritium.core.catalog import LoadParameters
from tritium.core.errors import ModelFailed, NotFound, Unavailable, WorkerLost
from tritium.core.instance import Job

HEAD = """
import asyncio, threading
import numpy as np
import triton_python_backend_utils as pb_utils
def ask(value, model="double", **more):
    tensors = [pb_utils.Tensor("INPUT0", np.asarray(value, np.float32))]
    return pb_utils.InferenceRequest(inputs=tensors, requested_output_names=["OUTPUT0"], model_name=model, **more)
def array(response):
    if response.has_error():
        raise RuntimeError(f"{response.error().code()} {response.error().message()}")
    return pb_utils.get_output_tensor_by_name(response, "OUTPUT0").as_numpy()
def answer(value):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.asarray(value, np.float32))])
"""

DOUBLE = f"""{HEAD}
class TritonPythonModel:
    def execute(self, requests):
        return [answer(r.inputs()[0].as_numpy() * 2) for r in requests]
"""

COUNT = f"""{HEAD}
class TritonPythonModel:
    def execute(self, requests):
        sender = requests[0].get_response_sender()
        for i in range(int(requests[0].inputs()[0].as_numpy()[0])):
            sender.send(answer([i]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

DECOUPLED = """
model_transaction_policy { decoupled: true }
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""


class House:
    """A server of a few instances: routes submitted requests by model name."""

    def __init__(self, serve) -> None:
        self._serve = serve
        self.models = {}
        self.requests = []

    def submit(self, request, reply) -> None:
        self.requests.append(request)
        if request.model_name not in self.models:
            reply.send(NotFound(f"Request for unknown model: '{request.model_name}' is not found"), final=True)
        else:
            self.models[request.model_name].start([Job(request, reply)])

    async def add(self, name: str, code: str, config: str | None = None, **host):
        arguments = (code,) if config is None else (code, config)
        self.models[name] = await self._serve(*arguments, name=name, submit=self.submit, **host)
        return self.models[name]


@pytest.fixture
async def house(serve):
    built = House(serve)
    await built.add("double", DOUBLE)
    yield built
    # Requests hold views of shared memory.
    built.requests.clear()


def caller(body: str) -> str:
    lines = "".join(f"        {line}\n" for line in body.strip("\n").split("\n"))
    return f"{HEAD}class TritonPythonModel:\n    def execute(self, requests):\n{lines}"


@pytest.mark.parametrize("size", [1, 100_000])
async def test_asking_another_model(house, size):
    """exec() runs a request on another model while execute waits; tensors of any size go both ways."""
    model = await house.add(
        "caller", caller("return [answer(array(ask(r.inputs()[0].as_numpy()).exec()) + 1) for r in requests]")
    )
    answers = await asyncio.gather(*[model.ask([float(i)] * size) for i in range(20)])
    assert [(i * 2.0 + 1, size) for i in range(20)] == [(a[0], len(a)) for a in answers]


async def test_what_a_call_carries(house):
    """Everything said in the InferenceRequest reaches the other model's request."""
    model = await house.add(
        "caller",
        caller(
            "more = dict(request_id='i', correlation_id='c', model_version=3, flags=3, timeout=7)\n"
            "r = ask([1], parameters={'p': 1}, **more)\n"
            "return [answer(array(r.exec()))]"
        ),
    )
    await model.ask([0.0])
    (made,) = [request for request in house.requests if request.model_name == "double"]
    assert (made.id, made.model_version, made.timeout_us, made.parameters) == ("i", "3", 7, {"p": 1})
    assert (made.sequence.correlation_id, made.sequence.start, made.sequence.end) == ("c", True, True)
    assert [output.name for output in made.outputs] == ["OUTPUT0"]


async def test_a_call_that_fails(house):
    """An error of the other model, or its absence, is an error response with its code."""
    model = await house.add("caller", caller("return [answer(array(ask([1], model='none').exec()))]"))
    with pytest.raises(
        ModelFailed, match="RuntimeError: 1 Model none - Error when running inference: Request for unknown model"
    ):
        await model.ask([0.0])


async def test_asking_at_once(house):
    """async_exec lets calls overlap within `async def execute`."""
    model = await house.add(
        "caller",
        f"""{HEAD}
class TritonPythonModel:
    async def execute(self, requests):
        made = [ask([i]).async_exec() for i in range(30)]
        return [answer([sum(array(r)[0] for r in await asyncio.gather(*made))])]
""",
    )
    assert [sum(range(30)) * 2.0] == await model.ask([0.0])
    assert [sum(range(30)) * 2.0] == await model.ask([0.0])


async def test_giving_up_an_awaited_call(house, tools):
    """A call that the model no longer awaits is cancelled at the other model."""
    await house.add(
        "slow",
        f"{HEAD}import time\nclass TritonPythonModel:\n    def execute(self, requests):\n"
        "        while not requests[0].is_cancelled(): time.sleep(0.001)\n        return [answer([1])]\n",
    )
    model = await house.add(
        "caller",
        f"""{HEAD}
class TritonPythonModel:
    async def execute(self, requests):
        try:
            await asyncio.wait_for(ask([0], model="slow").async_exec(), 0.05)
        except TimeoutError:
            return [answer([9])]
""",
    )
    assert await model.ask([0.0]) == [9.0]
    (made,) = [request for request in house.requests if request.model_name == "slow"]
    await tools.until(lambda: made.cancelled)


async def test_asking_within_a_loop_of_its_own(house):
    """A plain execute may run its own event loop and await async_exec in it."""
    model = await house.add(
        "caller",
        f"""{HEAD}
class TritonPythonModel:
    def execute(self, requests):
        async def main():
            return sum(array(r)[0] for r in await asyncio.gather(*[ask([i]).async_exec() for i in range(5)]))
        return [answer([asyncio.run(main())])]
""",
    )
    assert await model.ask([0.0]) == [20.0]


async def test_asking_from_threads(house):
    """Threads of a model may call while execute works, waits, or is idle."""
    model = await house.add(
        "caller",
        f"""{HEAD}
class TritonPythonModel:
    def execute(self, requests):
        sender = requests[0].get_response_sender()
        results = []
        def work(i):
            results.append(array(ask([i]).exec())[0])
            if len(results) == 8:
                sender.send(answer([sum(results)]), flags=1)
        for i in range(8):
            threading.Thread(target=work, args=(i,)).start()
""",
        DECOUPLED,
    )
    for _ in range(5):
        (item,) = await model.stream([0.0]).rest()
        assert item.outputs[0].array() == [56.0]


async def test_asking_a_decoupled_model(house):
    """exec(decoupled=True) iterates over the responses as they come; a second loop sees them again."""
    await house.add("count", COUNT, DECOUPLED)
    model = await house.add(
        "caller",
        caller(
            "responses = ask([4], model='count').exec(decoupled=True)\n"
            "first = [array(r)[0] for r in responses]\n"
            "return [answer(first + [array(r)[0] for r in responses])]"
        ),
    )
    assert (await model.ask([0.0])).tolist() == [0.0, 1.0, 2.0, 3.0] * 2


BARRIER = f"""{HEAD}
class TritonPythonModel:
    def initialize(self, args):
        self.senders = []
    def execute(self, requests):
        self.senders += [request.get_response_sender() for request in requests]
        if len(self.senders) == 3:
            for sender in self.senders:
                sender.send(answer([1]), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


async def test_asking_decoupled_models_at_once(house):
    """Awaiting async_exec(decoupled=True) lets other coroutines go on until the first response is there."""
    await house.add("barrier", BARRIER, DECOUPLED)
    model = await house.add(
        "caller",
        f"""{HEAD}
class TritonPythonModel:
    async def one(self):
        return sum([array(r)[0] for r in await ask([0], model="barrier").async_exec(decoupled=True)])
    async def execute(self, requests):
        return [answer([sum(await asyncio.gather(*[self.one() for _ in range(3)]))])]
""",
    )
    assert (await model.ask([0.0])).tolist() == [3.0]


async def test_asking_a_decoupled_model_as_if_it_were_not(house):
    """Without decoupled=True the error says what to write."""
    await house.add("count", COUNT, DECOUPLED)
    model = await house.add("caller", caller("return [answer(array(ask([2], model='count').exec()))]"))
    with pytest.raises(ModelFailed, match=r"Model count is using the decoupled.*'decoupled=True' argument"):
        await model.ask([0.0])


async def test_giving_up_a_decoupled_call(house):
    """cancel() on the iterator cancels the request at the other model."""
    await house.add(
        "endless",
        f"""{HEAD}
import time
class TritonPythonModel:
    def execute(self, requests):
        sender = requests[0].get_response_sender()
        sender.send(answer([1]))
        while not sender.is_cancelled():
            time.sleep(0.001)
        sender.send(answer([2]), flags=1)
""",
        DECOUPLED,
    )
    model = await house.add(
        "caller",
        caller(
            "responses = ask([0], model='endless').exec(decoupled=True)\n"
            "first = array(next(responses))[0]\n"
            "responses.cancel()\n"
            "return [answer([first] + [array(r)[0] for r in responses])]"
        ),
    )
    assert (await model.ask([0.0])).tolist() == [1.0, 2.0]


async def test_a_caller_that_dies(house, tools):
    """The requests of a process that died are cancelled at the models it called."""
    model = await house.add(
        "caller",
        caller("import os\nresponses = ask([0], model='endless').exec(decoupled=True)\nnext(responses)\nos.abort()"),
    )
    endless = await house.add(
        "endless",
        f"{HEAD}import time\nclass TritonPythonModel:\n    def execute(self, requests):\n"
        "        sender = requests[0].get_response_sender()\n        sender.send(answer([1]))\n"
        "        while not sender.is_cancelled(): time.sleep(0.001)\n        sender.send(flags=1)\n",
        DECOUPLED,
    )
    with pytest.raises(WorkerLost, match="SIGABRT"):
        await model.ask([0.0])
    await tools.until(lambda: not endless.tasks)
    (made,) = [request for request in house.requests if request.model_name == "endless"]
    assert made.cancelled


async def test_without_a_server(serve):
    """A model that is served alone is told that there is nobody to ask."""
    model = await serve(caller("return [answer(array(ask([1]).exec()))]"))
    with pytest.raises(
        ModelFailed, match="1 Model double - Error when running inference: this server runs one model alone"
    ):
        await model.ask([0.0])


class Shelf:
    """A catalog that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked = []

    async def load(self, name: str, parameters: LoadParameters) -> None:
        self.asked.append(("load", name, parameters.config, parameters.files))
        await asyncio.sleep(0)
        if name == "bad":
            raise Unavailable("failed to load 'bad', no version is available")

    async def unload(self, name: str, *, dependents: bool = False) -> None:
        self.asked.append(("unload", name, dependents))

    def model(self, name: str, version: str = ""):
        if name != "double":
            raise NotFound(name)

        class Ready:
            ready = version in {"", "1"}

        return Ready


async def test_loading_and_unloading(house):
    """load_model, unload_model and is_model_ready go to the server's catalog and wait for it."""
    shelf = Shelf()
    model = await house.add(
        "caller",
        caller(
            "pb_utils.load_model('a', config='{}', files={'file:1/x': b'y'})\n"
            "pb_utils.unload_model('a', unload_dependents=True)\n"
            "asked = ('double', ''), ('double', '2'), ('a', '')\n"
            "ready = [pb_utils.is_model_ready(*which) for which in asked]\n"
            "try:\n    pb_utils.load_model('bad')\n"
            "except pb_utils.TritonModelException as error:\n    ready.append('no version' in str(error))\n"
            "return [answer(ready)]"
        ),
        catalog=shelf,
    )
    assert (await model.ask([0.0])).tolist() == [1.0, 0.0, 0.0, 1.0]
    assert shelf.asked == [
        ("load", "a", "{}", {"1/x": b"y"}),
        ("unload", "a", True),
        ("load", "bad", "", {}),
    ]


METRICS = f"""{HEAD}
class TritonPythonModel:
    def initialize(self, args):
        F = pb_utils.MetricFamily
        counter = F("requests_by_kind", "Requests", F.COUNTER)
        gauge, histogram = F("last", "", F.GAUGE), F("sizes", "", F.HISTOGRAM)
        self.families = counter, gauge, histogram
        self.big, self.small = (counter.Metric(labels={{"kind": kind}}) for kind in ("big", "small"))
        self.gauge = gauge.Metric()
        self.sizes = histogram.Metric(buckets=[1, 10])
        pb_utils.Logger.log_info("ready to count")
    def execute(self, requests):
        import os
        value = float(requests[0].inputs()[0].as_numpy()[0])
        if value < 0:
            os.abort()
        (self.big if value > 5 else self.small).increment(1)
        self.gauge.set(value)
        self.sizes.observe(value)
        return [answer([self.big.value(), self.gauge.value()])]
"""


async def test_metrics(serve, capfd):
    """Metrics that a model defines count in the server, go on over a restart, and leave with the model."""
    metrics = CustomMetrics()
    model = await serve(METRICS, metrics=metrics)
    for value in (0.5, 7.0, 10.0, 50.0):
        await model.ask([value])
    assert (await model.ask([7.0])).tolist() == [4.0, 7.0]
    found = {(m.family, *m.labels.values()): m for m in metrics}
    assert sorted(found) == [("last",), ("requests_by_kind", "big"), ("requests_by_kind", "small"), ("sizes",)]
    assert (
        found["requests_by_kind", "big"].value,
        found["requests_by_kind", "small"].value,
        found["last",].value,
    ) == (4.0, 1.0, 7.0)
    histogram = found["sizes",]
    assert (histogram.counts, histogram.value, histogram.kind) == ([1, 3, 1], 74.5, MetricKind.HISTOGRAM)
    with pytest.raises(WorkerLost, match="SIGABRT"):
        await model.ask([-1.0])
    await model.ask([7.0])
    assert found["requests_by_kind", "big"].value == 5.0
    await model.instance.close()
    assert list(metrics) == []
    assert "ready to count" in capfd.readouterr().out


async def test_metrics_of_one_name_and_labels_are_one(serve):
    """Two handles count together, whichever instance has them; the metric is gone with the last of them."""
    metrics = CustomMetrics()
    body = """
    F = pb_utils.MetricFamily
    first, second = F("shared", "first", F.COUNTER), F("shared", "second", F.COUNTER)
    one, other = first.Metric(labels={"a": "b"}), second.Metric(labels={"a": "b"})
    one.increment(2)
    other.increment(3)
    del one
    return [answer([other.value()])]
    """
    model = await serve(caller(textwrap.dedent(body)), metrics=metrics)
    seen = []
    define = metrics.define
    metrics.define = lambda *args: seen.append(define(*args)) or seen[-1]
    assert (await model.ask([0.0])).tolist() == [5.0]
    assert (seen[0] is seen[1], seen[0].description) == (True, "first")
    assert list(metrics) == []


INCREMENTED = (
    "Failed to increment metric value: TRITONSERVER_METRIC_KIND_COUNTER can only be incremented "
    "monotonically by non-negative values."
)
DELETED = (
    "Invalid metric operation as the corresponding 'MetricFamily' has been deleted. The 'MetricFamily' object "
    "should be deleted AFTER its corresponding 'Metric' objects have been deleted."
)


async def test_metrics_that_cannot_be(serve):
    """Mistakes with metrics are refused where they are made, and say what is wrong."""
    body = """
F = pb_utils.MetricFamily
family = {name: F(name, "", kind) for name, kind in (("c", F.COUNTER), ("g", F.GAUGE), ("h", F.HISTOGRAM))}
said = []
for wrong in (
    lambda: family["c"].Metric().increment(-1),
    lambda: family["c"].Metric().set(1),
    lambda: family["g"].Metric().observe(1),
    lambda: family["h"].Metric(),
    lambda: family["h"].Metric(buckets=[2, 1]),
    lambda: family["g"].Metric(buckets=[1]),
    lambda: family["h"].Metric(buckets=[1]).value(),
    lambda: F("c", "", F.GAUGE),
    lambda: F("gone", "", F.GAUGE).Metric().set(1),
):
    try:
        wrong()
    except pb_utils.TritonModelException as error:
        said.append(str(error))
raise RuntimeError(" | ".join(said))
"""
    model = await serve(caller(body))
    with pytest.raises(ModelFailed) as caught:
        await model.ask([0.0])
    said = caught.value.message.split("RuntimeError: ")[1].split("\n")[0].split(" | ")
    assert said == [
        INCREMENTED,
        "Failed to set metric value: TRITONSERVER_METRIC_KIND_COUNTER does not support Set",
        "Failed to observe metric value: TRITONSERVER_METRIC_KIND_GAUGE does not support Observe",
        "Failed to create metric. Missing required buckets.",
        "Failed to create metric: buckets must rise",
        "Failed to create metric. Unexpected buckets found.",
        "Failed to get metric value: TRITONSERVER_METRIC_KIND_HISTOGRAM does not support Value",
        "Error when creating MetricFamily: metric family 'c' is a counter already, and cannot be a gauge too",
        DELETED,
    ]
