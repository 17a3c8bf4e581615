"""Models that call each other in a circle: what would wait for ever is refused, and nothing else is."""

import asyncio

import numpy as np
import pytest

from tritium.compat.config.model import from_proto
from tritium.compat.config.parse import parse_text
from tritium.core.ensemble import EnsembleModel
from tritium.core.errors import ModelFailed, NotFound
from tritium.core.replies import SingleReply, StreamReply
from tritium.core.request import InferRequest
from tritium.core.tensor import from_array
from tritium.core.tensor_model import TensorModel

HEAD = """
import asyncio, threading
import numpy as np
import triton_python_backend_utils as pb_utils
def ask(value, model, **more):
    tensors = [pb_utils.Tensor("INPUT0", np.asarray(value, np.float32))]
    return pb_utils.InferenceRequest(inputs=tensors, requested_output_names=["OUTPUT0"], model_name=model, **more)
def array(response):
    if response.has_error():
        raise RuntimeError(response.error().message())
    return pb_utils.get_output_tensor_by_name(response, "OUTPUT0").as_numpy()
def answer(value):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.asarray(value, np.float32))])
"""
DECOUPLED = """
model_transaction_policy { decoupled: true }
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""


ENSEMBLE = """
name: "steps" platform: "ensemble"
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
ensemble_scheduling { step [
  { model_name: "%s" model_version: -1
    input_map { key: "INPUT0" value: "INPUT0" } output_map { key: "OUTPUT0" value: "OUTPUT0" } } ] }
"""


def configuration(text):
    parsed = parse_text(text, "f")
    assert not parsed.problems
    return from_proto(parsed.message)


def counting_down(other: str, before: str = "") -> str:
    """Return a model that asks `other` for one less until nothing is left, and answers how many were asked."""
    return f"""{HEAD}
import time
class TritonPythonModel:
    def execute(self, requests):
        value = float(requests[0].inputs()[0].as_numpy()[0])
        {before}
        return [answer([1.0 + (array(ask([value - 1], '{other}').exec())[0] if value else 0.0)])]
"""


class House:
    """A server of whole models, scheduled and checked, whose instances run for real."""

    def __init__(self, serve, tools) -> None:
        self._serve = serve
        self._tools = tools
        self.models = {}

    def submit(self, request, reply) -> None:
        if request.model_name in self.models:
            self.models[request.model_name].submit(request, reply)
        else:
            reply.send(NotFound(f"Request for unknown model: '{request.model_name}' is not found"), final=True)

    async def add(self, name, code, *, count=1, config=""):
        config = config or self._tools.any_fp32
        config += f"instance_group [ {{ count: {count} kind: KIND_CPU }} ]"
        served = [
            await self._serve(code, config, name=name, place=f"{name}_0_{index}", submit=self.submit)
            for index in range(count)
        ]
        made = configuration(f'name: "{name}" backend: "python" {config}')
        self.models[name] = TensorModel(made, "1", [one.instance for one in served])

    def add_ensemble(self, of: str):
        """Add the ensemble `steps`, of one step."""
        self.models["steps"] = EnsembleModel(configuration(ENSEMBLE % of), "1", lambda name, _: self.models[name])

    def request(self, name, value):
        return InferRequest(name, inputs=[from_array("INPUT0", np.array([value], np.float32), "FP32")])

    async def ask(self, name, value):
        reply = SingleReply(asyncio.get_running_loop())
        self.submit(self.request(name, value), reply)
        async with asyncio.timeout(self._tools.patience_s):
            (output,) = (await reply.future).outputs
        return output.array().tolist()


@pytest.fixture
def house(serve, tools):
    return House(serve, tools)


@pytest.mark.parametrize(
    ("define", "call"), [("def", "ask([1], 'm').exec()"), ("async def", "await ask([1], 'm').async_exec()")]
)
async def test_a_sole_instance_that_calls_itself(house, define, call):
    """It would wait for itself for ever."""
    execute = f"    {define} execute(self, requests):\n        return [answer(array({call}))]"
    await house.add("m", f"{HEAD}class TritonPythonModel:\n{execute}")
    with pytest.raises(ModelFailed, match="a call of model 'm' by model instance 'm_0_0' would wait for ever"):
        await house.ask("m", 0)


async def test_two_models_that_call_each_other(house):
    """The call that closes the circle fails, those before it are told, and both models serve on."""
    await house.add("a", counting_down("b"))
    await house.add("b", counting_down("a"))
    assert await house.ask("a", 1) == [2.0]
    with pytest.raises(ModelFailed, match="instances that wait for each other's calls are a_0_0, b_0_0"):
        await house.ask("a", 2)
    assert await house.ask("b", 1) == [2.0]


async def test_a_circle_through_an_ensemble(house):
    """A model that calls an ensemble of which it is a part waits for itself as well."""
    await house.add("a", counting_down("steps"))
    house.add_ensemble("a")
    assert await house.ask("steps", 0) == [1.0]
    with pytest.raises(ModelFailed, match="a call of model 'a' by model instance 'a_0_0' would wait for ever"):
        await house.ask("steps", 1)
    assert await house.ask("a", 0) == [1.0]


async def test_instances_that_all_call_their_own_model(house, tools, tmp_path):
    """Two clients at once hold both instances of a model that needs two for each: one call fails, so that one ends."""
    meet = (
        "if value == 2:\n            "
        f"open('{tmp_path}/' + str(id(self)) + str(__import__('os').getpid()), 'w').close()\n            "
        f"while len(__import__('os').listdir('{tmp_path}')) < 3: time.sleep(0.001)"
    )
    await house.add("m", counting_down("m", meet), count=2)
    asked = [asyncio.ensure_future(house.ask("m", 2)) for _ in range(2)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert any("m_0_0, m_0_1" in str(found) for found in answers)
    assert await house.ask("m", 1) == [2.0]


async def test_as_many_instances_as_it_takes(house):
    """A model may call itself as deep as it has instances."""
    await house.add("m", counting_down("m"), count=3)
    assert await house.ask("m", 2) == [3.0]
    with pytest.raises(ModelFailed, match="m_0_0, m_0_1, m_0_2"):
        await house.ask("m", 3)


async def test_a_model_that_others_wait_for_as_well(house):
    """A queue of callers before one model is no circle, however long it is."""
    await house.add("m", counting_down("none"))
    await house.add("a", counting_down("m").replace("value - 1", "0"), count=3)
    assert await asyncio.gather(*[house.ask("a", 1) for _ in range(12)]) == [[2.0]] * 12


async def test_a_call_that_nothing_waits_for(house):
    """A decoupled model's thread is answered once `execute` has returned."""
    await house.add(
        "m",
        f"""{HEAD}
class TritonPythonModel:
    def execute(self, requests):
        request = requests[0]
        sender, value = request.get_response_sender(), float(request.inputs()[0].as_numpy()[0])
        def work():
            responses = ask([value - 1], "m").exec(decoupled=True) if value else []
            found = [array(response)[0] for response in responses if response.output_tensors()]
            sender.send(answer([value, *found]), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        threading.Thread(target=work).start()
""",
        config=DECOUPLED,
    )
    reply = StreamReply()
    house.submit(house.request("m", 2), reply)
    assert [item.outputs[0].array().tolist() async for item in reply] == [[2.0, 1.0]]
