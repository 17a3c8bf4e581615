"""Every engine that needs no GPU behind the whole product, with OpenAI's own client; those that need one over fakes."""

import json
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

import openai
import pytest
from qa.e2e.product import ROOT, Product

Start = Callable[..., Product]
TOKENIZER = ROOT / "model_repository/tiny_chat/1/tiny_chat"


def repository(folder: Path, **arguments: object) -> str:
    """Write a repository of one model that has a tokenizer and no weights."""
    version = folder / "parrot" / "1"
    weights = version / "weights"
    weights.mkdir(parents=True)
    (folder / "parrot" / "config.pbtxt").write_text('backend: "vllm"\n')
    for path in TOKENIZER.iterdir():
        if path.suffix in (".json", ".jinja"):
            (weights / path.name).write_bytes(path.read_bytes())
    (version / "model.json").write_text(json.dumps({"model": "weights"} | arguments))
    return str(folder)


def client_of(product: Product) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://{product.url('OpenAI')}/v1", api_key="none", max_retries=0)


def metric(product: Product, name: str) -> float:
    """Add up a metric over its labels."""
    with urllib.request.urlopen(f"http://{product.url('metrics')}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}{{[^}}]*}} (\S+)", text, re.MULTILINE))


def test_the_echo_engine_says_the_prompt(start: Start, tmp_path: Path) -> None:
    """With a tokenizer alone a completion is its prompt, streamed and whole."""
    product = start(repository(tmp_path, tokens_per_second=0), "--engine=echo")
    with client_of(product) as client:
        words = "the cat sat on the mat"
        whole = client.completions.create(model="parrot", prompt=words, max_tokens=64)
        assert whole.choices[0].text.strip() == words
        assert whole.choices[0].finish_reason == "stop"
        pieces = client.completions.create(model="parrot", prompt=words, max_tokens=64, stream=True)
        assert "".join(piece.choices[0].text for piece in pieces).strip() == words


def test_the_mocker_outlives_its_faults(start: Start, tmp_path: Path) -> None:
    """A worker that is killed in the middle of a stream costs no token: another goes on as it would have."""
    faults = [{"kind": "crash", "step": 20, "workers": ["worker_0"]}]
    mocker = {"faults": faults, "timing": {"base_ms": 2}}
    arguments = ("--engine=mocker", "--fleet=parrot=workers=2,router=round_robin")
    product = start(repository(tmp_path / "faulty", mocker=mocker), *arguments)
    whole = start(repository(tmp_path / "sound"), "--engine=mocker")
    with client_of(product) as faulty, client_of(whole) as sound:
        prompt = "once upon a time"
        expected = sound.completions.create(model="parrot", prompt=prompt, max_tokens=100).choices[0].text
        for _ in range(2):
            answer = faulty.completions.create(model="parrot", prompt=prompt, max_tokens=100)
            assert answer.choices[0].text == expected
            assert answer.usage is not None
            assert answer.usage.completion_tokens == 100
        assert metric(product, "tritium_fleet_moved_requests_total") == 1


def test_the_mocker_disaggregates(start: Start, tmp_path: Path) -> None:
    """Prompts are computed by one worker and answered by another, with their KV on its way as long as said."""
    mocker = {"gpu": "h100", "speedup": 50}
    product = start(
        repository(tmp_path, mocker=mocker),
        "--engine=mocker",
        "--fleet=parrot=prefill=1,decode=1",
    )
    with client_of(product) as client:
        answer = client.completions.create(model="parrot", prompt="word " * 200, max_tokens=20)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 20
    assert metric(product, "tritium_fleet_remote_prefills_total") == 1


@pytest.mark.parametrize("engine", ["sglang", "tensorrtllm"])
def test_engines_that_need_a_gpu_serve_over_their_fakes(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """A worker process imports the package by its name; here that is a fake held to the real one's source."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "qa/fakes"))
    product = start(repository(tmp_path, max_model_len=256, max_num_seqs=8), f"--engine={engine}")
    with client_of(product) as client:
        pieces = list(client.completions.create(model="parrot", prompt=[50, 51], max_tokens=9, stream=True, logprobs=1))
        told = [piece.choices[0].logprobs for piece in pieces]
        assert sum(len(each.tokens or ()) for each in told if each is not None) == 9
        assert pieces[-1].choices[0].finish_reason == "length"
        with pytest.raises(openai.BadRequestError, match=r"bad_words|allowed_token_ids"):
            client.completions.create(
                model="parrot", prompt=[50], max_tokens=2, extra_body={"bad_words": ["x"], "allowed_token_ids": [5]}
            )


def test_tensorrt_llm_s_five_models_are_one_language_model(start: Start, tmp_path: Path) -> None:
    """The model of backend tensorrtllm serves the checkpoint that its siblings lead to, under its own name."""
    weights = Path(repository(tmp_path / "parts")) / "parrot/1/weights"
    (weights / "model.safetensors").write_bytes(b"")
    folder = tmp_path / "models" / "tensorrt_llm"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(
        'backend: "tensorrtllm"\nmodel_transaction_policy { decoupled: true }\n'
        'input [ { name: "input_ids" data_type: TYPE_INT32 dims: [ -1 ] } ]\n'
        'output [ { name: "output_ids" data_type: TYPE_INT32 dims: [ -1, -1 ] } ]\n'
        'parameters { key: "gpt_model_path" value { string_value: "${engine_dir}" } }\n'
        f'parameters {{ key: "tokenizer_dir" value {{ string_value: "{weights}" }} }}\n'
    )
    product = start(str(tmp_path / "models"), "--engine=echo")
    with client_of(product) as client:
        answer = client.completions.create(model="tensorrt_llm", prompt="the cat sat", max_tokens=64)
        assert answer.choices[0].text.strip() == "the cat sat"


def test_a_compiled_engine_alone_is_refused(start: Start, tmp_path: Path) -> None:
    """The operator reads which parameter names the checkpoint."""
    folder = tmp_path / "tensorrt_llm"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text('backend: "tensorrtllm"\n')
    product = start(str(tmp_path))
    assert product.wait() != 0
    assert 'set parameters { key: "checkpoint"' in product.output


@pytest.mark.parametrize(("engine", "package"), [("sglang", "SGLang"), ("tensorrtllm", "TensorRT-LLM")])
def test_a_missing_package_is_named(start: Start, tmp_path: Path, engine: str, package: str) -> None:
    """The operator reads what is not installed and how to install it."""
    product = start(repository(tmp_path), f"--engine={engine}")
    assert product.wait() != 0
    assert f"{package} is not installed (pip install" in product.output
