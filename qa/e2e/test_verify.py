"""`dynamo-migrate verify` and `record` over real servers: the same repository twice, and one that was changed."""

import json
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as http_client
from click.testing import CliRunner, Result
from qa.e2e.product import ROOT, Product

from tritium.migration.cli import main

SAMPLE = sorted(path.parent.name for path in (ROOT / "model_repository").glob("*/config.pbtxt"))
CONFIG = """name: "{name}"
backend: "python"
max_batch_size: 4
input [ {{ name: "x" data_type: TYPE_FP32 dims: [ 2 ] }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: [ 2 ] }} ]
"""
MODEL = """import random
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", np.asarray({what}, np.float32))]))
        return answers
"""
OLD = {"doubled": "x * 2", "rounded": "x * 3", "drawn": "x * random.random()", "gone": "x"}
NEW = {"doubled": "x * 2.01", "rounded": "x * 3.000001", "drawn": "x * random.random()"}


def repository(root: Path, models: dict[str, str]) -> Path:
    """Write a repository of python models, each an expression of x."""
    for name, what in models.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(CONFIG.format(name=name))
        (root / name / "1" / "model.py").write_text(MODEL.replace("{what}", what))
    return root


def url(product: Product, protocol: str) -> str:
    """Return the server's URL by protocol, on loopback's number: not every machine knows its name."""
    return f"{protocol}://127.0.0.1:{product.ports['HTTP' if protocol == 'http' else 'gRPC']}"


def verify(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, ["verify", *arguments])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Product, Product]]:
    """Serve an old and a changed repository."""
    folder = tmp_path_factory.mktemp("pair")
    products = tuple(Product([str(repository(folder / side, models))]) for side, models in (("old", OLD), ("new", NEW)))
    yield products
    for product in products:
        assert product.stop() == 0, product.output


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_is_the_same_as_itself(sample: Product, protocol: str) -> None:
    """Python, ONNX, an ensemble, sequences, streams and a language model are all asked, answered and found the same."""
    done = verify(url(sample, protocol), url(sample, protocol), "--again=1")
    assert done.exit_code == 0, done.output
    assert f"{len(SAMPLE)} models: {len(SAMPLE)} same, 0 differs, 0 unproven" in done.output


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_changes_are_found(pair: tuple[Product, Product], protocol: str) -> None:
    """What computes otherwise differs, rounding does not, what is random cannot be told, what is gone is missed."""
    done = verify(*(url(side, protocol) for side in pair), "--again=0")
    assert done.exit_code == 1, done.output
    lines = {line.partition(":")[0]: line for line in done.output.splitlines() if not line.startswith(" ")}
    assert lines["doubled"].startswith("doubled: differs")
    assert lines["rounded"].startswith("rounded: same")
    assert lines["drawn"].startswith("drawn: unproven")
    assert lines["gone"].startswith("gone: differs")
    assert "the old server answers it differently each time: y" in done.output


def test_one_model_and_a_bound_on_time(pair: tuple[Product, Product]) -> None:
    """--model leaves the others alone; --slower fails by a ratio of medians."""
    sides = [url(side, "http") for side in pair]
    assert verify(*sides, "--model=rounded", "--slower=100000").exit_code == 0
    late = verify(*sides, "--model=rounded", "--slower=0.00001")
    assert (late.exit_code, "slower than" in late.output) == (1, True)


def test_what_cannot_be_asked_is_said(pair: tuple[Product, Product], tmp_path: Path) -> None:
    """A model that is not there, two protocols, no server, no recording: exit 2 and a reason."""
    old, new = pair
    other = tmp_path / "other"
    other.write_text("text")
    for arguments, reason in (
        ([url(old, "http"), url(new, "http"), "--model=nope"], "has no model nope; it has "),
        ([url(old, "http"), url(new, "grpc")], "by the same protocol"),
        (["http://127.0.0.1:1", url(new, "http")], "is it running?"),
        (["127.0.0.1:8000", url(new, "http")], "write http://host:8000"),
        ([url(old, "grpc"), f"grpc://127.0.0.1:{new.ports['HTTP']}"], "grpc://127.0.0.1"),
        ([url(old, "http"), url(new, "http"), f"--recorded={other}"], str(other)),
    ):
        done = verify(*arguments)
        assert (done.exit_code, reason in done.output) == (2, True), done.output


def test_openais_api_is_compared(sample: Product, tmp_path: Path) -> None:
    """Chat and completions, whole and streamed, made and recorded; with Triton's text inputs on the old side too."""
    front = f"http://127.0.0.1:{sample.ports['OpenAI']}"
    done = verify(front, front, "--again=0", "--format=json")
    assert done.exit_code == 0, done.output
    [model] = json.loads(done.output)["models"]
    asked = [one["about"].split()[0] for one in model["requests"]]
    assert (model["model"], model["is"], model["answered"]) == ("tiny_chat", "same", 12)
    assert (asked.count("/v1/chat/completions"), asked.count("/v1/completions"), model["refused"]) == (6, 6, 2)
    for old in (url(sample, "http"), url(sample, "grpc")):
        done = verify(old, front, "--again=0")
        assert done.exit_code == 0, done.output
        assert "1 model: 1 same" in done.output
        assert "the old server's text is compared with /v1/completions of the new one" in done.output
    file = tmp_path / "calls.jsonl"
    with recording(front, "-o", str(file)) as ([address], said):
        body = json.dumps({"model": "tiny_chat", "prompt": "one two", "max_tokens": 4, "temperature": 0}).encode()
        asked_for = urllib.request.Request(f"{address}/v1/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked_for, timeout=60) as answer:
            assert answer.status == 200
    assert said == [f"1 call in {file}\n"]
    with file.open("ab") as end:
        end.write(b'{"protocol": "openai", "mod')
    done = verify(front, front, f"--recorded={file}", "--again=0")
    assert done.exit_code == 0, done.output
    assert "ends in the middle of a call" in done.output
    assert "tiny_chat: same (1 answers the same)" in done.output


def test_a_port_of_neither_is_told_what_is_wanted(sample: Product) -> None:
    """The port of metrics: exit 2, and which ports can be named."""
    done = verify(f"http://127.0.0.1:{sample.ports['metrics']}", url(sample, "http"))
    assert done.exit_code == 2
    for port in ("http://host:8000", "grpc://host:8001", "http://host:9000"):
        assert port in done.output


@contextmanager
def recording(*arguments: str) -> Iterator[tuple[list[str], list[str]]]:
    """Run `record` as a user does, ended by SIGTERM; yield its addresses, and afterwards what it said at its end."""
    program = str(Path(sys.executable).with_name("dynamo-migrate"))
    process = subprocess.Popen([program, "record", *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    bound = threading.Timer(60, process.kill)
    bound.start()
    ways = sum(argument.startswith(("http", "grpc")) for argument in arguments)
    said: list[str] = []
    try:
        yield [process.stderr.readline().partition(" -> ")[0] for _ in range(ways)], said
        process.send_signal(signal.SIGTERM)
        said.append(process.stderr.read())
        assert process.wait(60) == 0, said
    finally:
        bound.cancel()
        process.kill()
        process.wait()
        process.stderr.close()


def call(address: str, name: str, tensor: str, values: list[float], *, binary: bool = True) -> None:
    """Ask a model through a proxy with Triton's client."""
    given = http_client.InferInput(tensor, [1, len(values)], "FP32")
    given.set_data_from_numpy(np.array([values], np.float32), binary_data=binary)
    with http_client.InferenceServerClient(address.removeprefix("http://")) as client:
        client.infer(name, [given])


def test_recorded_requests_are_sent_again(pair: tuple[Product, Product], tmp_path: Path) -> None:
    """Triton's own client calls through the proxy; verify then asks both servers what was recorded."""
    file = tmp_path / "calls.jsonl"
    with recording(url(pair[0], "http"), "-o", str(file)) as ([address], said):
        call(address, "doubled", "x", [1, 2])
        call(address, "rounded", "x", [1, 2], binary=False)
    assert said == [f"2 calls in {file}\n"]
    done = verify(*(url(side, "http") for side in pair), f"--recorded={file}")
    assert done.exit_code == 1, done.output
    assert "doubled: differs (1 of 1 " in done.output
    assert "rounded: same (1 answers the same" in done.output


def test_the_commands_of_the_page_run(
    pair: tuple[Product, Product], sample: Product, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/migration/verify.md shows four comparisons, a recording and its comparison; each works as it is written."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/migration/verify.md").read_text()
    # Of OpenAI's API, which only a server with a language model has.
    page = page.replace("http://old:8000 http://new:9000", f"{url(sample, 'http')} http://new:9000")
    page = re.sub(r"http://(old|new):9000", f"http://127.0.0.1:{sample.ports['OpenAI']}", page)
    for side in ("old", "new"):
        page = page.replace(f"http://{side}:8000", url(pair[0], "http")).replace(
            f"grpc://{side}:8001", url(pair[0], "grpc")
        )
    # Ports that are free.
    page = re.sub(r"0\.0\.0\.0:900\d", "127.0.0.1:0", page)
    commands = [line.split() for line in re.findall(r"^    dynamo-migrate (.+)$", page, re.MULTILINE)]
    assert [words[0] for words in commands] == ["verify", "verify", "verify", "verify", "record", "verify"]
    for words in commands:
        if words[0] == "record":
            with recording(*words[1:]) as (addresses, _):
                call(addresses[0], "doubled", "x", [0.1, 0.2])
            continue
        done = verify(*words[1:])
        assert done.exit_code == 0, done.output
    assert (tmp_path / "report.md").read_text().startswith("# Old and new server")
