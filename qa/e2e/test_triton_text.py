"""One language model under the names and tensors of Triton's language backends, with Triton's own clients."""

import json
import queue
import urllib.request

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from qa.e2e.product import ROOT, Product

QUESTION = "<|bos|><|user|>What is a model repository?<|end|><|assistant|>"
ALIASES = ["ensemble", "tensorrt_llm_bls", "tensorrt_llm", "vllm_model"]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Serve the sample chat model with the old names that model.json gives it."""
    folder = tmp_path_factory.mktemp("models") / "tiny_chat"
    sample = ROOT / "model_repository" / "tiny_chat"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text((sample / "config.pbtxt").read_text())
    arguments = json.loads((sample / "1" / "model.json").read_text())
    arguments |= {"model": str(sample / "1" / arguments["model"]), "aliases": ALIASES}
    (folder / "1" / "model.json").write_text(json.dumps(arguments))
    product = Product([str(folder.parent), "--engine=embedded"])
    assert "gRPC" in product.ports, product.output
    yield product
    assert product.stop() == 0, product.output


def _post(served, path, **body):
    request = urllib.request.Request(f"http://{served.url('HTTP')}/v2/{path}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.read().decode()


@pytest.fixture(scope="module")
def expected(served):
    """What the model says, asked as vllm_backend's clients ask."""
    answer = _post(
        served,
        "models/tiny_chat/generate",
        text_input=QUESTION,
        exclude_input_in_output=True,
        parameters={"temperature": 0, "max_tokens": 12},
    )
    return json.loads(answer)["text_output"]


def test_every_name_is_a_model(served):
    """Each name has metadata, a configuration, readiness and a line in the index."""
    with http_client.InferenceServerClient(served.url("HTTP")) as client:
        index = {line["name"]: line["state"] for line in client.get_model_repository_index()}
        for name in ALIASES:
            assert client.is_model_ready(name)
            assert client.get_model_metadata(name)["name"] == name
            assert client.get_model_config(name)["name"] == name
            assert index[name] == "READY"
        inputs = {one["name"] for one in client.get_model_metadata("ensemble")["inputs"]}
        assert {"text_input", "max_tokens", "stop_words", "guided_decoding_guide"} <= inputs


@pytest.mark.parametrize("name", ["ensemble", "tensorrt_llm_bls"])
def test_generate(served, name, expected):
    """curl of TensorRT-LLM's readme: one JSON object in, one out; the prompt is left out where that is asked."""
    given = {"text_input": QUESTION, "max_tokens": 12, "bad_words": "", "stop_words": ""}
    answer = json.loads(_post(served, f"models/{name}/generate", **given, exclude_input_in_output=True))
    assert answer == {"model_name": name, "model_version": "1", "text_output": expected}


def test_generate_stream(served, expected):
    """The events of a stream have what each step added."""
    events = _post(served, "models/ensemble/generate_stream", text_input=QUESTION, max_tokens=12, stream=True)
    texts = [json.loads(event.removeprefix("data: "))["text_output"] for event in events.strip().split("\n\n")]
    assert "".join(texts) == expected
    assert len(texts) == 12


def _tensors(library, given, shape):
    made = []
    for name, (datatype, value) in given.items():
        made.append(library.InferInput(name, shape, datatype))
        kind = {"BYTES": object, "BOOL": bool, "INT32": np.int32}[datatype]
        made[-1].set_data_from_numpy(np.array([value], dtype=kind).reshape(shape))
    return made


@pytest.mark.parametrize("shape", [[1], [1, 1]])
@pytest.mark.parametrize("library", [http_client, grpc_client])
def test_infer(served, library, shape, expected):
    """Infer answers what does not stream, over both protocols, in either shape."""
    given = {"text_input": ("BYTES", QUESTION.encode()), "max_tokens": ("INT32", 12)}
    given |= {"exclude_input_in_output": ("BOOL", True)}
    url = served.url("HTTP" if library is http_client else "gRPC")
    with library.InferenceServerClient(url) as client:
        result = client.infer("ensemble", _tensors(library, given, shape))
    assert result.as_numpy("text_output").tolist() == [expected.encode()]


def test_model_stream_infer(served, expected):
    """A gRPC stream of vllm_backend's client, under a name of its own."""
    answers = queue.Queue()
    given = {"text_input": ("BYTES", QUESTION.encode()), "stream": ("BOOL", True)}
    sampling = json.dumps({"temperature": "0", "max_tokens": "12"}).encode()
    given |= {"sampling_parameters": ("BYTES", sampling), "return_finish_reason": ("BOOL", True)}
    with grpc_client.InferenceServerClient(served.url("gRPC")) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("vllm_model", _tensors(grpc_client, given, [1]))
        client.stop_stream()
    results = [answers.get(timeout=60) for _ in range(12)]
    assert not any(error for _, error in results)
    assert b"".join(result.as_numpy("text_output")[0] for result, _ in results).decode() == expected
    assert results[-1][0].as_numpy("finish_reason").tolist() == [b"length"]


def test_tokens(served, expected):
    """Token ids in and out, as `tensorrt_llm` has them."""
    body = {"prompt": QUESTION, "model": "tensorrt_llm", "add_special_tokens": False}
    request = urllib.request.Request(
        f"http://{served.url('OpenAI')}/tokenize", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        ids = json.load(answer)["tokens"]
    given = {"input_ids": ids, "input_lengths": len(ids), "request_output_len": 12}
    answer = json.loads(_post(served, "models/tensorrt_llm/generate", **given))
    assert answer["output_ids"][: len(ids)] == ids
    assert answer["sequence_length"] == len(ids) + 12
    said = {"model": "tensorrt_llm", "tokens": answer["output_ids"][len(ids) :]}
    request = urllib.request.Request(
        f"http://{served.url('OpenAI')}/detokenize", json.dumps(said).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        assert json.load(answer)["prompt"] == expected


def test_statistics_by_name(served):
    """Requests are counted under the name that they came by, in statistics and metrics."""
    _post(served, "models/tensorrt_llm_bls/generate", text_input="a", max_tokens=1)
    with http_client.InferenceServerClient(served.url("HTTP")) as client:
        [counted] = client.get_inference_statistics("tensorrt_llm_bls")["model_stats"]
    assert counted["inference_stats"]["success"]["count"] >= 1
    with urllib.request.urlopen(f"http://{served.url('metrics')}/metrics", timeout=120) as page:
        assert 'nv_inference_request_success{model="tensorrt_llm_bls",version="1"}' in page.read().decode()
