"""TensorRT-LLM's five models, migrated to one language model and served under the old names."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qa.e2e.product import ROOT, TRITIUM, Product

MIGRATE = str(Path(sys.executable).with_name("dynamo-migrate"))
CHECKPOINT = ROOT / "model_repository/tiny_chat/1/tiny_chat"


def run(*words: str, folder: Path) -> str:
    """Run a command, which has to end well, and return what it said."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def post(start: Callable[..., Product], tmp_path: Path) -> Iterator[Callable[[str, dict[str, Any]], Any]]:
    """Migrate, check and serve the five models; return how to ask them."""
    (tmp_path / "answers.yaml").write_text(f"checkpoint:\n  models/tensorrt_llm: {CHECKPOINT}\n")
    five = str(ROOT / "qa/migration/five_models")
    run(MIGRATE, "plan", five, "--answers", "answers.yaml", "--unsafe=M03", folder=tmp_path)
    run(MIGRATE, "apply", "-o", "migrated", folder=tmp_path)
    assert "No problems in 1 model." in run(TRITIUM, "check", "migrated/models", folder=tmp_path)
    product = start(str(tmp_path / "migrated/models"), "--engine=embedded")

    def ask(path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(f"http://{product.url('HTTP')}/v2/models/{path}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    yield ask
    assert product.stop() == 0


def test_one_model_answers_under_the_old_names(post: Callable[[str, dict[str, Any]], Any]) -> None:
    """Texts by `ensemble` and `tensorrt_llm_bls`, over generate and infer alike; token ids by `tensorrt_llm`."""
    prompt = {"text_input": "What is", "max_tokens": 3, "bad_words": "", "stop_words": ""}
    texts = {name: post(f"{name}/generate", prompt)["text_output"] for name in ("ensemble", "tensorrt_llm_bls")}
    tensors = [
        {"name": "text_input", "datatype": "BYTES", "shape": [1, 1], "data": ["What is"]},
        {"name": "max_tokens", "datatype": "INT32", "shape": [1, 1], "data": [3]},
    ]
    (output,) = post("ensemble/infer", {"inputs": tensors})["outputs"]
    assert texts["ensemble"]
    assert set(texts.values()) == {output["data"][0]}
    assert "What is" not in texts["ensemble"], "the engine's parameter leaves the prompt out, as it did"
    ids = [
        {"name": "input_ids", "datatype": "INT32", "shape": [1, 4], "data": [5, 6, 7, 8]},
        {"name": "input_lengths", "datatype": "INT32", "shape": [1, 1], "data": [4]},
        {"name": "request_output_len", "datatype": "INT32", "shape": [1, 1], "data": [3]},
    ]
    answer = {one["name"]: one["shape"] for one in post("tensorrt_llm/infer", {"inputs": ids})["outputs"]}
    assert answer["output_ids"] == [1, 1, 3]
