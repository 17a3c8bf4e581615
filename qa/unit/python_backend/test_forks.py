"""What a process that a model forked asks of the server: nothing is its to ask, and it is told at once."""

import pytest

FORKS = """
import json, os
import numpy as np
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        reading, writing = os.pipe()
        if not os.fork():
            said = "nothing"
            try:
                {asks}
            except pb_utils.TritonModelException as error:
                said = str(error)
            os.write(writing, json.dumps(said).encode())
            os._exit(0)
        os.close(writing)
        with open(reading) as pipe:
            said = np.array([json.load(pipe)], np.object_)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", said)]) for _ in requests]
"""
CONFIG = """
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_STRING dims: [ -1 ] } ]
"""
REQUEST = "pb_utils.InferenceRequest(model_name='m', requested_output_names=['O'], inputs=requests[0].inputs())"


@pytest.mark.parametrize(
    ("asks", "what"),
    [
        (f"{REQUEST}.exec()", "call other models"),
        (f"{REQUEST}.exec(decoupled=True)", "call other models"),
        ("pb_utils.load_model('m')", "ask the server"),
        ("pb_utils.is_model_ready('m')", "ask the server"),
        ("pb_utils.MetricFamily('n', 'd', pb_utils.MetricFamily.COUNTER)", "ask the server"),
    ],
)
async def test_a_fork_is_refused(serve, asks, what):
    """It neither hangs nor spoils what its parent shares with the server; the parent goes on."""
    model = await serve(FORKS.replace("{asks}", asks), CONFIG)
    for _ in range(2):
        (output,) = (await model.infer([0.0])).outputs
        assert f"a process that the model forked cannot {what}" in output.array()[0].decode()


SENDS = """
        sender = requests[0].get_response_sender()
        sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", said)]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


async def test_a_fork_answers_nothing(serve):
    """A response sender that a fork inherited is not its own."""
    asks = "requests[0].get_response_sender().send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)"
    source = FORKS[: FORKS.index("        return")].replace("{asks}", asks) + SENDS
    model = await serve(source, CONFIG + "model_transaction_policy { decoupled: true }")
    response, *_ = await model.stream([0.0]).rest()
    assert "a process that the model forked cannot answer a request" in response.outputs[0].array()[0].decode()
