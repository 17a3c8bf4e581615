"""The product with its hot path compiled answers as the sources do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http
from qa.e2e.product import ROOT, Product

ALIKE = ["qa/golden/test_http.py", "qa/golden/test_grpc.py", "qa/unit/wire", "qa/wire/transport"]
ALIKE += ["qa/unit/python_backend/test_load.py"]
LEFT_OUT = "--ignore=qa/unit/wire/test_h2_flow.py"  # its fakes are subclasses, which compiled classes do not take

IDENTITY = """import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "IN") for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor.as_numpy())]) for tensor in inputs]
"""


DYING = """import os


class TritonPythonModel:
    def execute(self, requests):
        os.abort()
"""


@pytest.fixture(scope="module")
def compiled() -> str:
    """Build it, or find it built; the folder that goes first on PYTHONPATH."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (apt-get install gcc): the compiled product is not tested")
    line = [str(ROOT / "qa" / "compiled.sh")]
    return subprocess.run(line, capture_output=True, text=True, check=True, timeout=1700).stdout.strip()


@pytest.mark.timeout(1800)
def test_the_compiled_modules_are_what_runs(compiled: str) -> None:
    """Every module on the list is there as an extension, and a server loads them."""
    extensions = {path.name.split(".")[0] for path in Path(compiled).rglob("*.so")}
    assert {"connection", "tensor_model", "grpc_request", "instance"} <= extensions
    product = Product([str(ROOT / "model_repository"), "--engine=embedded"], {"PYTHONPATH": compiled})
    try:
        maps = Path(f"/proc/{product.process.pid}/maps").read_text()
        assert f"{compiled}/tritium__mypyc" in maps, product.output
        assert product.stop() == 0, product.output
    finally:
        product.kill()


def _shared_bytes(pid: int) -> int:
    """Return the shared memory that a process has touched."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssShmem")).split()[1]) << 10


@pytest.mark.timeout(1800)
def test_large_tensors_use_their_memory_again(compiled: str, tmp_path: Path) -> None:
    """Sixty-four requests of 1 MiB each touch the shared memory of a few."""
    (tmp_path / "identity" / "1").mkdir(parents=True)
    (tmp_path / "identity" / "1" / "model.py").write_text(IDENTITY)
    (tmp_path / "identity" / "config.pbtxt").write_text(
        'backend: "python" input { name: "IN" data_type: TYPE_FP32 dims: -1 } '
        'output { name: "OUT" data_type: TYPE_FP32 dims: -1 }'
    )
    product = Product([str(tmp_path), "--no-openai"], {"PYTHONPATH": compiled})
    try:
        data = np.ones(1 << 18, np.float32)
        tensor = tritonclient.http.InferInput("IN", data.shape, "FP32").set_data_from_numpy(data)
        with tritonclient.http.InferenceServerClient(product.url("HTTP")) as client:
            for _ in range(64):
                assert client.infer("identity", [tensor]).as_numpy("OUT").nbytes == data.nbytes
        assert _shared_bytes(product.process.pid) < 32 << 20
        assert product.stop() == 0, product.output
    finally:
        product.kill()


@pytest.mark.timeout(1800)
def test_model_unloaded_while_it_is_restarted(compiled: str, tmp_path: Path) -> None:
    """Cancelling the restart of a process that died harms nobody: compiled, it once ended the server."""
    (tmp_path / "dying" / "1").mkdir(parents=True)
    (tmp_path / "dying" / "1" / "model.py").write_text(DYING)
    (tmp_path / "dying" / "config.pbtxt").write_text(
        'backend: "python" input { name: "IN" data_type: TYPE_FP32 dims: 1 } '
        'output { name: "OUT" data_type: TYPE_FP32 dims: 1 }'
    )
    explicit = [str(tmp_path), "--no-openai", "--control-mode=explicit", "--load-model=dying"]
    product = Product(explicit, {"PYTHONPATH": compiled})
    try:
        tensor = tritonclient.http.InferInput("IN", [1], "FP32").set_data_from_numpy(np.ones(1, np.float32))
        with tritonclient.http.InferenceServerClient(product.url("HTTP")) as client:
            for said in ("SIGABRT", "no healthy instance"):
                with pytest.raises(tritonclient.http.InferenceServerException, match=said):
                    client.infer("dying", [tensor])
            client.unload_model("dying")
            assert client.is_server_live()
            client.load_model("dying")
            assert client.is_model_ready("dying")
        assert product.stop() == 0, product.output
    finally:
        product.kill()


@pytest.mark.timeout(1800)
def test_recorded_cases_are_answered_alike(compiled: str) -> None:
    """The golden cases, the tests of the transports and those of loading python models pass on the compiled modules."""
    line = [sys.executable, "-m", "pytest", "-q", "--reruns", "2", "-p", "no:cacheprovider", LEFT_OUT, *ALIKE]
    done = subprocess.run(
        line, cwd=ROOT, env={**os.environ, "PYTHONPATH": compiled}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
