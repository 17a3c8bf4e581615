"""Starting and ending: what a server says when it cannot start, and what it leaves behind when it ends (nothing)."""

import http.client
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from qa.e2e.product import ROOT, TRITIUM, Product, alive, descendants

Start = Callable[..., Product]
SAMPLE = str(ROOT / "model_repository")

CRASHER = """import os
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            value = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            if value[0] < 0:
                os.abort()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value)]))
        return responses
"""
CRASHER_CONFIG = """backend: "python"
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""


def write(root: Path, files: dict[str, str]) -> str:
    """Write a repository and return its path."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def abandoned() -> set[str]:
    """List what lies in shared memory and no living process has mapped: what others are using is theirs."""
    found = set()
    for path in Path("/dev/shm").iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_uid == os.getuid():
                found.add(str(path))
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            found -= {line.split(maxsplit=5)[-1] for line in maps.read_text().splitlines() if "/dev/shm/" in line}
    return found


def until(condition: Callable[[], object], otherwise: Callable[[], object]) -> None:
    """Wait until something is so, or fail with what is there instead."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.02)


def status(product: Product, path: str) -> int:
    """GET a path of the HTTP port and return the status."""
    try:
        with urllib.request.urlopen(f"http://{product.url('HTTP')}{path}", timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def infer(product: Product, model: str, value: float) -> tuple[int, dict]:
    """Send one number to a model."""
    host, port = product.url("HTTP").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    body = {"inputs": [{"name": "IN", "datatype": "FP32", "shape": [1], "data": [value]}]}
    connection.request("POST", f"/v2/models/{model}/infer", json.dumps(body))
    answer = connection.getresponse()
    parsed = json.loads(answer.read())
    connection.close()
    return answer.status, parsed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_told_server_leaves_nothing(start: Start, number: signal.Signals) -> None:
    """After a polite end there is no process, no shared memory and no open port."""
    before = {str(path) for path in Path("/dev/shm").iterdir()}
    product = start(SAMPLE, "--engine=embedded", "--fleet=tiny_chat=prefill=1,decode=1")
    children = descendants(product.process.pid)
    assert len(children) >= 6
    assert product.stop(number) == 0, product.output
    assert alive(children) == set()
    until(lambda: abandoned() <= before, lambda: abandoned() - before)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", product.ports["HTTP"]), timeout=1)


ENDLESS = """import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.senders = []

    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            value = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value)]))
            self.senders.append(sender)
"""


def test_a_request_that_never_ends_does_not_hold_up_an_exit(start: Start, tmp_path: Path) -> None:
    """Its client has --exit-timeout-s; then it is cancelled, and a model that does not look is not waited for."""
    config = CRASHER_CONFIG + "model_transaction_policy { decoupled: true }\n"
    repository = write(tmp_path, {"endless/config.pbtxt": config, "endless/1/model.py": ENDLESS})
    product = start(repository, "--no-openai", "--exit-timeout-s=1")
    children = descendants(product.process.pid)
    host, port = product.url("HTTP").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(
            b'POST /v2/models/endless/generate_stream HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n{"IN": [1]}'
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        # Without the bound it would wait for ever: the model never ends the stream.
        assert product.stop() == 0, product.output
    assert time.monotonic() - began >= 1
    assert alive(children) == set()


@pytest.mark.parametrize("closing", ["<&- >&- 2>&-", ">&-", "2>/dev/full", "2>&1 | true", "--log-file=/dev/full"])
def test_a_server_that_cannot_write_serves(tmp_path: Path, closing: str) -> None:
    """Closed streams, a full disk and a reader that has left cost words, not requests."""
    repository = write(tmp_path, {"crasher/config.pbtxt": CRASHER_CONFIG, "crasher/1/model.py": CRASHER})
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line = f"exec {TRITIUM} serve {repository} --no-grpc --no-metrics --no-openai --http-port={port} {closing}"
    shell = subprocess.Popen(["bash", "-c", line], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/v2/models/crasher/"
    ones = b'{"inputs": [{"name": "IN", "datatype": "FP32", "shape": [1], "data": [%d]}]}'

    def answer(path: str, body: bytes | None = None) -> int:
        try:
            with urllib.request.urlopen(url + path, body, timeout=60) as response:
                return response.status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def wait_ready() -> None:
        until(lambda: answer("ready") == 200, lambda: "not ready")

    try:
        wait_ready()
        # What is logged when a process dies cannot be written, and the instance comes back all the same.
        assert answer("infer", ones % -1) == 500
        wait_ready()
        assert answer("infer", ones % 1) == 200
    finally:
        for pid in descendants(shell.pid) | {shell.pid}:
            os.kill(pid, signal.SIGKILL)
        shell.wait()


def test_an_impatient_end_takes_hanging_workers_along(start: Start) -> None:
    """A second signal ends the server at once, and with it a worker that does nothing any more."""
    product = start(SAMPLE, "--engine=mocker", "--control-mode=explicit", "--load-model=tiny_chat")
    children = descendants(product.process.pid)
    for child in children:
        os.kill(child, signal.SIGSTOP)
    try:
        product.process.send_signal(signal.SIGTERM)
        product.wait_for("Draining")
        assert product.stop() == 128 + signal.SIGTERM
        until(lambda: not alive(children), lambda: alive(children))
    finally:
        for child in alive(children):
            os.kill(child, signal.SIGKILL)


def test_a_killed_server_leaves_nothing(start: Start) -> None:
    """After kill -9 the children end by themselves, and no shared memory stays."""
    before = {str(path) for path in Path("/dev/shm").iterdir()}
    product = start(SAMPLE, "--engine=embedded")
    children = descendants(product.process.pid)
    product.process.kill()
    product.wait()
    until(lambda: not alive(children), lambda: alive(children))
    until(lambda: abandoned() <= before, lambda: abandoned() - before)


def test_a_crash_costs_one_request_and_readiness_tells(start: Start, tmp_path: Path) -> None:
    """A model that aborts fails the request it ran, is not ready meanwhile, comes back, and harms no other model."""
    repository = write(
        tmp_path, {f"{m}/{f}": t for m in ("crasher", "calm") for f, t in
                   (("config.pbtxt", CRASHER_CONFIG), ("1/model.py", CRASHER))}
    )  # fmt: skip
    product = start(repository, "--no-openai")
    assert infer(product, "crasher", 1)[0] == 200
    code, body = infer(product, "crasher", -1)
    assert code == 500
    assert "crasher" in body["error"]
    assert infer(product, "calm", 2)[0] == 200
    until(lambda: status(product, "/v2/models/crasher/ready") == 200, lambda: product.output)
    assert infer(product, "crasher", 3) == (200, infer(product, "crasher", 3)[1])
    assert status(product, "/v2/health/ready") == 200


def test_bad_configurations_are_all_reported_before_a_port_opens(tmp_path: Path) -> None:
    """Two broken models of three: both problems with place and hint, exit status 2, nothing served."""
    repository = write(
        tmp_path,
        {
            "good/config.pbtxt": CRASHER_CONFIG,
            "good/1/model.py": CRASHER,
            "typo/config.pbtxt": CRASHER_CONFIG.replace("dims", "dimz"),
            "typo/1/model.py": CRASHER,
            "empty/config.pbtxt": CRASHER_CONFIG,
        },
    )
    done = subprocess.run([TRITIUM, "serve", repository], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "typo/config.pbtxt:2:" in done.stderr
    assert "did you mean dims?" in done.stderr
    assert "empty" in done.stderr
    assert "Nothing was loaded." in done.stderr


def test_a_model_that_fails_to_load_ends_the_start(tmp_path: Path) -> None:
    """By default the server exits with 1 and says which model and why, traceback included."""
    broken = CRASHER + "\n    def initialize(self, args):\n        raise RuntimeError('no weights here')\n"
    repository = write(tmp_path, {"m/config.pbtxt": CRASHER_CONFIG, "m/1/model.py": broken})
    line = [TRITIUM, "serve", repository, "--http-port=0", "--grpc-port=0", "--no-openai", "--metrics-port=0"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "RuntimeError: no weights here" in done.stderr
    assert "--no-exit-on-error" in done.stderr


def test_without_exit_on_error_the_rest_is_served(start: Start, tmp_path: Path) -> None:
    """Live but not ready, the good model answers, and the index has the reason of the other."""
    broken = "import no_such_module\n\n\nclass TritonPythonModel:\n    pass\n"
    repository = write(
        tmp_path,
        {
            "good/config.pbtxt": CRASHER_CONFIG,
            "good/1/model.py": CRASHER,
            "bad/config.pbtxt": CRASHER_CONFIG,
            "bad/1/model.py": broken,
        },
    )
    product = start(repository, "--no-exit-on-error", "--no-openai")
    assert (status(product, "/v2/health/live"), status(product, "/v2/health/ready")) == (200, 400)
    assert infer(product, "good", 1)[0] == 200
    request = urllib.request.Request(f"http://{product.url('HTTP')}/v2/repository/index", method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        index = {entry["name"]: entry for entry in json.load(answer)}
    assert index["good"]["state"] == "READY"
    assert index["bad"]["state"] == "UNAVAILABLE"
    assert "no_such_module" in index["bad"]["reason"]


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """A port in use ends the start with 1, the address and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = [TRITIUM, "serve", str(tmp_path), f"--http-port={port}", "--grpc-port=0", "--no-openai"]
        done = subprocess.run([*line, "--metrics-port=0"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "hint" in done.stderr


def test_an_empty_repository_is_ready_quickly(start: Start, tmp_path: Path) -> None:
    """A server without models is ready; explicit mode starts with none."""
    product = start(str(tmp_path))
    assert status(product, "/v2/health/ready") == 200


def test_tritonserver_serves_by_tritons_flags(tmp_path: Path) -> None:
    """The drop-in command takes Triton's spelling and serves the same protocol."""
    repository = write(tmp_path, {"good/config.pbtxt": CRASHER_CONFIG, "good/1/model.py": CRASHER})
    command = str(Path(TRITIUM).with_name("tritonserver"))
    done = subprocess.run([command, "--model-repository"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [command, f"--model-repository={repository}", "--http-address=127.0.0.1", f"--http-port={port}",
         "--allow-grpc=false", "--allow-metrics=false", "--log-verbose=0"],
        stderr=subprocess.DEVNULL, env={**os.environ, "TRITIUM_OPENAI_PORT": "0"},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1) as answer:
                    assert answer.status == 200
                    break
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline
                time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
