"""Triton's own clients, curl and the openai package against the sample repository."""

import asyncio
import json
import queue
import subprocess

import numpy as np
import openai
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http_client
import tritonclient.http.aio as http_aio
from qa.e2e.product import Product

A = np.arange(4, dtype=np.float32)
SHAPES = {"add_sub": (1, 4), "add_sub_python": (4,)}


def inputs(library, model: str, other: float = 2):
    """Make the two inputs of an add_sub model, 0 to 3 and `other` everywhere, with one of the client libraries."""
    shape = SHAPES[model]
    made = [library.InferInput(name, list(shape), "FP32") for name in ("INPUT0", "INPUT1")]
    for tensor, value in zip(made, (A, np.full(4, other, dtype=np.float32)), strict=True):
        tensor.set_data_from_numpy(value.reshape(shape))
    return made


@pytest.mark.parametrize("model", ["add_sub", "add_sub_python"])
@pytest.mark.parametrize("library", [http_client, grpc_client], ids=["http", "grpc"])
def test_the_sync_clients_infer(sample: Product, library, model: str) -> None:
    """An onnx and a python model give the sum and the difference over both protocols."""
    with library.InferenceServerClient(sample.url("HTTP" if library is http_client else "gRPC")) as client:
        assert client.is_server_ready()
        assert client.is_model_ready(model)
        result = client.infer(model, inputs(library, model))
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0").ravel(), A + 2)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1").ravel(), A - 2)


@pytest.mark.parametrize("library", [http_aio, grpc_aio], ids=["http", "grpc"])
async def test_the_async_clients_infer_side_by_side(sample: Product, library) -> None:
    """Sixteen requests at once all get their own answer."""
    base = http_client if library is http_aio else grpc_client
    async with library.InferenceServerClient(sample.url("HTTP" if library is http_aio else "gRPC")) as client:

        async def one(number: int) -> np.ndarray:
            tensors = inputs(base, "add_sub_python", number)
            return (await client.infer("add_sub_python", tensors)).as_numpy("OUTPUT0")

        results = await asyncio.gather(*(one(n) for n in range(16)))
    for number, result in enumerate(results):
        np.testing.assert_array_equal(result, A + number)


def test_metadata_and_statistics_agree_over_both_protocols(sample: Product) -> None:
    """Name, versions and tensors are the same, and a request is counted."""
    with (
        http_client.InferenceServerClient(sample.url("HTTP")) as http,
        grpc_client.InferenceServerClient(sample.url("gRPC")) as grpc,
    ):
        ours, theirs = http.get_model_metadata("add_sub"), grpc.get_model_metadata("add_sub", as_json=True)
        assert ours["versions"] == theirs["versions"] == ["1"]
        assert [t["name"] for t in ours["inputs"]] == [t["name"] for t in theirs["inputs"]] == ["INPUT0", "INPUT1"]
        before = http.get_inference_statistics("add_sub")["model_stats"][0]["inference_stats"]["success"]["count"]
        http.infer("add_sub", inputs(http_client, "add_sub"))
        stats = grpc.get_inference_statistics("add_sub", as_json=True)["model_stats"][0]
        assert int(stats["inference_stats"]["success"]["count"]) == before + 1
        assert {m["name"] for m in http.get_model_repository_index()} >= {"add_sub", "tiny_chat", "text_pipeline"}


def test_the_ensemble_goes_from_text_to_label(sample: Product) -> None:
    """Text goes in as BYTES, through a python tokenizer, an onnx model and python again, and a label comes out."""
    with http_client.InferenceServerClient(sample.url("HTTP")) as client:
        (spec,) = client.get_model_metadata("text_pipeline")["inputs"]
        shape = [1 if d < 0 else d for d in spec["shape"]]
        text = http_client.InferInput(spec["name"], shape, "BYTES")
        text.set_data_from_numpy(np.full(shape, b"this is wonderful, thank you", dtype=object))
        result = client.infer("text_pipeline", [text]).get_response()
        assert result["outputs"], result


def test_a_decoupled_model_streams_over_grpc(sample: Product) -> None:
    """`repeat` answers one request with as many responses as were asked for, in order."""
    answers: queue.Queue = queue.Queue()
    with grpc_client.InferenceServerClient(sample.url("gRPC")) as client:
        count = grpc_client.InferInput("COUNT", [1], "INT32")
        count.set_data_from_numpy(np.array([4], dtype=np.int32))
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("repeat", [count])
        got = [answers.get(timeout=60) for _ in range(4)]
        client.stop_stream()
    assert [error for _, error in got] == [None] * 4
    assert [int(result.as_numpy("INDEX")[0]) for result, _ in got] == [0, 1, 2, 3]


def test_a_sequence_keeps_its_sum(sample: Product) -> None:
    """`accumulate` adds up the requests of one correlation id, apart from those of another."""
    with grpc_client.InferenceServerClient(sample.url("gRPC")) as client:
        (spec,) = client.get_model_metadata("accumulate", as_json=True)["inputs"]
        shape = [1 if int(d) < 0 else int(d) for d in spec["shape"]]

        def step(value: int, sequence: int, *, start: bool = False, end: bool = False) -> float:
            tensor = grpc_client.InferInput(spec["name"], shape, spec["datatype"])
            dtype = {"INT32": np.int32, "FP32": np.float32, "INT64": np.int64}[spec["datatype"]]
            tensor.set_data_from_numpy(np.full(shape, value, dtype=dtype))
            result = client.infer("accumulate", [tensor], sequence_id=sequence, sequence_start=start, sequence_end=end)
            return float(result.as_numpy(result.get_response().outputs[0].name).ravel()[0])

        assert step(1, 7, start=True) == 1
        assert step(10, 8, start=True) == 10
        assert step(2, 7) == 3
        assert step(3, 7, end=True) == 6
        assert step(5, 8, end=True) == 15


def test_curl_does_what_the_ready_screen_shows(sample: Product) -> None:
    """Every command printed for a person to copy works as it stands."""
    lines = sample.output.splitlines()
    commands = [line.strip() for line in lines if line.strip().startswith("curl ")]
    assert len(commands) == 3, sample.output
    for command in commands:
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout
        assert '"error"' not in done.stdout, done.stdout


def test_the_openai_package_chats(sample: Product) -> None:
    """Whole and streamed, the sample model gives the same sensible answer, with usage."""
    client = openai.OpenAI(base_url=f"http://{sample.url('OpenAI')}/v1", api_key="none")
    question = [{"role": "user", "content": "What is a model repository?"}]
    assert [m.id for m in client.models.list()] == ["tiny_chat"]
    whole = client.chat.completions.create(model="tiny_chat", messages=question, temperature=0)
    text = whole.choices[0].message.content
    assert "model" in text
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.completion_tokens > 5
    stream = client.chat.completions.create(
        model="tiny_chat", messages=question, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_generate_speaks_for_the_same_model(sample: Product) -> None:
    """Triton's generate endpoints answer with vllm_backend's tensor names on the model that chats."""
    url = f"http://{sample.url('HTTP')}/v2/models/tiny_chat"
    prompt = {"text_input": "Hello", "parameters": {"stream": False, "temperature": 0, "max_tokens": 8}}
    prompt["exclude_input_in_output"] = True
    whole = json.loads(
        subprocess.check_output(["curl", "-sS", f"{url}/generate", "-d", json.dumps(prompt)], text=True, timeout=120)
    )
    assert whole["model_name"] == "tiny_chat"
    prompt["parameters"]["stream"] = True
    body = json.dumps(prompt)
    streamed = subprocess.check_output(["curl", "-sSN", f"{url}/generate_stream", "-d", body], text=True, timeout=120)
    parts = [json.loads(line[6:])["text_output"] for line in streamed.splitlines() if line.startswith("data: ")]
    assert "".join(parts) == whole["text_output"]
    assert len(parts) > 1
