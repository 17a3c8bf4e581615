"""Other people's clients of the OpenAI API, against a real vLLM worker: LangChain, LiteLLM and aiperf.

They live in an environment of their own (.clients), for their versions of shared packages are not ours.
"""

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from qa.e2e.product import ROOT, Product

CLIENTS = ROOT / ".clients" / "bin"
MODEL = "tiny_chat"
START_S = 300

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test installs it"),
    pytest.mark.skipif(
        not (CLIENTS / "aiperf").exists(), reason="the foreign clients are not installed: make test does"
    ),
    pytest.mark.timeout(2 * START_S),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the sample chat model with one vLLM worker."""
    repository = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "model_repository" / MODEL, repository / MODEL)
    path = repository / MODEL / "1" / "model.json"
    # A model that knows no JSON would fill its answer with the white space that grammars allow.
    more = {"structured_outputs_config": {"disable_any_whitespace": True, "backend": "xgrammar"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    product = Product([str(repository), "--engine=vllm"], wait_s=START_S)
    assert "OpenAI" in product.ports, product.output
    yield f"http://{product.url('OpenAI')}"
    assert product.stop() == 0, product.output


def _run(*line: str, cwd: Path = ROOT) -> str:
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_COLOR": "1"}
    done = subprocess.run(
        [str(CLIENTS / line[0]), *line[1:]],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_S,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def _said(script: str, url: str) -> dict[str, object]:
    out = _run("python", str(Path(__file__).parent / "clients" / script), f"{url}/v1", MODEL)
    return json.loads(out.splitlines()[-1])


def test_langchain(url: str) -> None:
    """Whole, streamed, batched and asynchronous chats are the same; a structured answer has its fields."""
    said = _said("langchain_chat.py", url)
    assert said["whole"]
    assert said["streamed"] == said["asynchronous"] == said["whole"]
    assert said["batch"] == [said["whole"]] * 2
    assert said["stream_tokens"] == said["tokens"] > 0
    assert said["verdict"]["grade"] in {"low", "high"}


def test_litellm(url: str) -> None:
    """Whole, streamed and asynchronous chats are the same; an unknown model is its NotFoundError."""
    said = _said("litellm_chat.py", url)
    assert said["whole"]
    assert said["streamed"] == said["asynchronous"] == said["whole"]
    assert said["text"]
    assert "does not exist" in said["refused"]


def test_aiperf(url: str, tmp_path: Path) -> None:
    """A profile of streamed chats counts every request, and the tokens that were asked for."""
    tokenizer = ROOT / "model_repository" / MODEL / "1" / MODEL
    shape = ["--request-count", "12", "--concurrency", "3", "--isl", "40", "--osl", "16", "--random-seed", "1"]
    extra = ["--extra-inputs", "ignore_eos:true", "--extra-inputs", "min_tokens:16"]
    where = ["--url", url, "--endpoint-type", "chat", "--streaming", "--model", MODEL, "--tokenizer", str(tokenizer)]
    _run("aiperf", "profile", *where, *shape, *extra, "--ui", "none", "--artifact-dir", str(tmp_path), cwd=tmp_path)
    [report] = tmp_path.rglob("profile_export_aiperf.json")
    profile = json.loads(report.read_text())
    assert profile["request_count"]["avg"] == 12
    assert profile["output_sequence_length"]["avg"] == 16
    assert profile["time_to_first_token"]["p50"] > 0
    assert not profile.get("error_summary")
