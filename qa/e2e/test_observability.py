"""What a running server tells about itself: traces of real clients' requests, its log, its metrics."""

import json
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from qa.e2e.product import Product
from tritonclient.utils import InferenceServerException

Start = Callable[..., Product]

CALLER = """import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            call = pb_utils.InferenceRequest(
                model_name="half",
                requested_output_names=["OUT"],
                inputs=[pb_utils.get_input_tensor_by_name(request, "IN")],
                trace=request.trace(),
            )
            pb_utils.Logger.log_warn("calling half")
            responses.append(pb_utils.InferenceResponse(call.exec().output_tensors()))
        return responses
"""
HALF = """import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUT", pb_utils.get_input_tensor_by_name(request, "IN").as_numpy() / 2)]
            )
            for request in requests
        ]
"""
CONFIG = """backend: "python"
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository of a model that calls another."""
    for name, code in (("caller", CALLER), ("half", HALF)):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "model.py").write_text(code)
        (tmp_path / name / "config.pbtxt").write_text(CONFIG)
    return tmp_path


def infer(protocol: Any, url: str, inputs: str = "IN", **options: Any) -> np.ndarray:
    """Ask `caller` for the half of two numbers."""
    with protocol.InferenceServerClient(url) as client:
        given = protocol.InferInput(inputs, [2], "FP32")
        given.set_data_from_numpy(np.array([2, 4], np.float32))
        half: np.ndarray = client.infer("caller", [given], **options).as_numpy("OUT")
        return half


def traces(path: Path) -> dict[int, dict[str, Any]]:
    """Return the traced requests of a file by their number: model, parent, and the names of their moments."""
    found: dict[int, dict[str, Any]] = {}
    for member in json.loads(path.read_text()):
        request = found.setdefault(member["id"], {"moments": []})
        request |= {key: member[key] for key in ("model_name", "parent_id", "request_id") if key in member}
        request["moments"] += [moment["name"] for moment in member.get("timestamps", ())]
    return found


MODEL = {"REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"}


def test_requests_of_both_protocols_are_traced_with_what_their_model_calls(start: Start, repository: Path) -> None:
    """One trace each; the called model's request is a child; the file is whole once the server has ended."""
    file = repository / "trace.json"
    server = start(str(repository), "--trace-config=level=TIMESTAMPS", f"--trace-config=triton,file={file}")
    with tritonclient.http.InferenceServerClient(server.url("HTTP")) as client:
        assert client.update_trace_settings(settings={"trace_rate": "1"})["trace_rate"] == "1"
    assert infer(tritonclient.http, server.url("HTTP"), request_id="h").tolist() == [1, 2]
    assert infer(tritonclient.grpc, server.url("gRPC"), request_id="g").tolist() == [1, 2]
    assert server.stop() == 0
    requests = traces(file)
    assert [request["model_name"] for request in requests.values()] == ["caller", "half", "caller", "half"]
    for (number, caller), (_, half), front in zip(
        list(requests.items())[::2], list(requests.items())[1::2], ("HTTP_RECV", "GRPC_WAITREAD"), strict=True
    ):
        assert caller["request_id"] == front[0].lower()
        assert half["parent_id"] == number
        assert {*MODEL, "REQUEST_END"} == set(half["moments"])
        sent = f"{front.split('_')[0]}_SEND"
        of_front = {f"{front}_START", f"{front}_END", "INFER_RESPONSE_COMPLETE", f"{sent}_START", f"{sent}_END"}
        assert {*MODEL, "REQUEST_END", *of_front} == set(caller["moments"])


LINE = re.compile(r'[IWE]\d{4} \d\d:\d\d:\d\d\.\d{6} \d+ [\w.]+:\d+\] ".*"')


def test_a_log_in_tritons_form_follows_its_settings(start: Start, repository: Path) -> None:
    """A file of Triton's lines; severities and verbosity change while the server runs; models' lines are there."""
    file = repository / "server.log"
    server = start(str(repository), f"--log-file={file}", "--access-log")
    with tritonclient.http.InferenceServerClient(server.url("HTTP")) as client:
        client.update_log_settings({"log_format": "default", "log_verbose_level": 1})
        infer(tritonclient.http, server.url("HTTP"), request_id="r7")
        with pytest.raises(InferenceServerException):
            infer(tritonclient.http, server.url("HTTP"), inputs="no")
        client.update_log_settings({"log_verbose_level": 0, "log_info": False, "log_warning": False})
        said = file.read_text()
        infer(tritonclient.http, server.url("HTTP"))
        assert file.read_text() == said
    lines = said[said.index("HTTP request") :].splitlines()[1:]
    assert all(LINE.fullmatch(line) for line in lines)
    assert '] "HTTP request: 2 /v2/models/caller/infer"' in said
    assert '] "calling half"' in said
    assert "Infer failed: " in said
    (access,) = [line for line in lines if "request_id=r7" in line]
    assert "model=caller status=200" in access


def test_latencies_are_metrics_as_asked_for(start: Start, repository: Path) -> None:
    """A summary of each model's requests, and no counters where they are not wanted."""
    server = start(
        str(repository), "--metrics-config=summary_latencies=true", "--metrics-config=counter_latencies=false"
    )
    infer(tritonclient.grpc, server.url("gRPC"))
    with urllib.request.urlopen(f"http://{server.url('metrics')}/metrics") as answer:
        page = answer.read().decode()
    assert 'nv_inference_request_summary_us_count{model="half",version="1"} 1\n' in page
    assert "nv_inference_request_duration_us" not in page
