"""The two repositories: the sample models for Tritium, and the same with python stand-ins for a Triton without ONNX.

Python, ONNX, an ensemble over both, a decoupled model, sequences, and a language model in vllm_backend's form.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

SAMPLES = Path(__file__).parents[3] / "model_repository"
ALIKE = ("accumulate", "add_sub_python", "repeat", "text_labels", "text_tokenizer", "text_pipeline")
ENGINE_ARGUMENTS = ("--dtype=float32", "--max-model-len=1024", "--block-size=32", "--enforce-eager")

CLASSIFIER = """import numpy as np
from pathlib import Path
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.weights = np.load(Path(__file__).with_name("weights.npy"))

    def execute(self, requests):
        responses = []
        for request in requests:
            words = pb_utils.get_input_tensor_by_name(request, "WORDS").as_numpy()
            present = np.maximum((words != 0).sum(axis=1, keepdims=True), 1).astype(np.float32)
            scores = self.weights[words].sum(axis=1) / present
            odds = np.exp(scores - scores.max(axis=1, keepdims=True))
            output = pb_utils.Tensor("PROBABILITIES", (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32))
            responses.append(pb_utils.InferenceResponse([output]))
        return responses
"""

# vllm_backend's model.py in small: the same tensors, the text from an OpenAI server.
LANGUAGE = """import json
import urllib.request
import numpy as np
import triton_python_backend_utils as pb_utils

URL = {url!r}

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            try:
                for text in self.texts(request):
                    output = pb_utils.Tensor("text_output", np.array([text.encode()], np.object_))
                    sender.send(pb_utils.InferenceResponse([output]))
            finally:
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def texts(self, request):
        def given(name, otherwise):
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            return otherwise if tensor is None else tensor.as_numpy().reshape(-1)[0]

        stream = bool(given("stream", False))
        sampling = json.loads(given("sampling_parameters", b"{{}}"))
        asked = {{"model": "tiny_chat", "prompt": given("text_input", b"").decode(), "stream": stream, **sampling}}
        call = urllib.request.Request(URL, json.dumps(asked).encode(), {{"Content-Type": "application/json"}})
        with urllib.request.urlopen(call, timeout=60) as answer:
            if not stream:
                yield json.load(answer)["choices"][0]["text"]
                return
            for line in answer:
                if line.startswith(b"data: {{"):
                    yield json.loads(line[6:])["choices"][0]["text"]
"""
_FLAGS = (
    "exclude_input_in_output", "return_finish_reason", "return_cumulative_logprob", "return_logprobs",
    "return_num_input_tokens", "return_num_output_tokens",
)  # fmt: skip


def write(old: Path, new: Path, completions: str) -> None:
    """Write both repositories; the old one's language model asks the OpenAI server at `completions`."""
    for name in (*ALIKE, "add_sub", "text_model", "tiny_chat"):
        link(SAMPLES / name, new / name)
    for name in ALIKE:
        link(SAMPLES / name, old / name)
    _stand_in(old / "add_sub", _for_python("add_sub"), (SAMPLES / "add_sub_python" / "1" / "model.py").read_text())
    _stand_in(old / "text_model", _for_python("text_model"), CLASSIFIER)
    shutil.copy(SAMPLES / "text_model" / "labels.txt", old / "text_model")
    graph = onnx.load(SAMPLES / "text_model" / "1" / "model.onnx").graph
    weights = next(numpy_helper.to_array(one) for one in graph.initializer if one.name == "weights")
    np.save(old / "text_model" / "1" / "weights.npy", weights)
    write_language(old / "tiny_chat", completions)


def write_language(folder: Path, completions: str) -> None:
    """Write a model in vllm_backend's form, which asks the OpenAI server at `completions` for tiny_chat."""
    _stand_in(folder, _language_config(folder.name), LANGUAGE.format(url=completions))


def link(source: Path, target: Path) -> None:
    """Copy a model, but for what it was made with."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("train*", "__pycache__"))


def _for_python(name: str) -> str:
    return (SAMPLES / name / "config.pbtxt").read_text().replace('"onnxruntime"', '"python"')


def _stand_in(folder: Path, config: str, code: str) -> None:
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    (folder / "1" / "model.py").write_text(code)


def _language_config(name: str) -> str:
    """Return the configuration that vllm_backend completes (src/model.py, auto_complete_config)."""

    def tensor(kind: str, name: str, datatype: str, dims: int, *, optional: bool = False) -> str:
        tail = " optional: true" if optional else ""
        return f"{kind} {{ name: {json.dumps(name)} data_type: TYPE_{datatype} dims: [ {dims} ]{tail} }}"

    inputs = [
        tensor("input", "text_input", "STRING", 1),
        tensor("input", "image", "STRING", -1, optional=True),
        tensor("input", "stream", "BOOL", 1, optional=True),
        tensor("input", "sampling_parameters", "STRING", 1, optional=True),
        *(tensor("input", name, "BOOL", 1, optional=True) for name in _FLAGS),
        tensor("input", "embedding_request", "STRING", 1, optional=True),
    ]
    outputs = [
        tensor("output", "text_output", "STRING", -1),
        tensor("output", "finish_reason", "STRING", -1),
        tensor("output", "cumulative_logprob", "FP32", -1),
        tensor("output", "logprobs", "STRING", -1),
        tensor("output", "num_input_tokens", "UINT32", 1),
        tensor("output", "num_output_tokens", "UINT32", -1),
    ]
    head = [f"name: {json.dumps(name)}", 'backend: "python"', "model_transaction_policy { decoupled: true }"]
    return "\n".join([*head, *inputs, *outputs, "instance_group [ { kind: KIND_CPU } ]"]) + "\n"
