"""Rules of programs that call the server: nearly all of them stay, and these say which do not."""

from collections.abc import Iterator
from typing import ClassVar

from tritium.migration.deployment import Deployment, Use
from tritium.migration.finding import Finding, Severity
from tritium.migration.rules.rule import Rule


class Called(Rule):
    """Calls of some kinds, each at its first place in a file."""

    uses: ClassVar[frozenset[Use]]
    said: ClassVar[str]
    advice: ClassVar[str] = ""

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find the first call of these kinds in every file."""
        seen = set()
        for call in deployment.calls:
            if call.use in self.uses and call.source.path not in seen:
                seen.add(call.source.path)
                yield self.at(call.source, call.span, self.said, self.advice)


class KserveClient(Called):
    """A client of the KServe v2 protocol stays as it is.

    HTTP and gRPC, binary tensors, compression, classification and version selection are served on the same ports.

    Before client.py:

        import tritonclient.http as httpclient

    Finds: KServe v2 client stays
    """

    id = "C01"
    severity = Severity.INFO
    uses = frozenset({Use.HTTP, Use.GRPC, Use.KSERVE})
    said = "a KServe v2 client stays as it is"


class GenerateClient(Called):
    """A client of `generate` or `generate_stream` stays as it is; OpenAI's API is there beside it.

    `text_input`, `max_tokens`, `stop_words`, `sampling_parameters` and the other inputs of Triton's language backends
    are understood under the model's old names.

    Before client.py:

        import tritonclient.http
        import requests

        requests.post("http://host:8000/v2/models/ensemble/generate", json={"text_input": "hi", "max_tokens": 30})

    Finds: generate
    """

    id = "C02"
    severity = Severity.INFO
    uses = frozenset({Use.GENERATE})
    said = "a client of generate stays as it is"
    advice = "OpenAI's API has the same model: POST :9000/v1/completions"


class SharedMemoryClient(Called):
    """A client that passes tensors in system shared memory has to run on the server's machine, and share its IPC.

    It is served where `--allow-client-shm` allows it, as on Triton.

    Before client.py:

        import tritonclient.grpc as grpcclient
        client.register_system_shared_memory("in", "/in", 64)

    Finds: shared memory
    """

    id = "C03"
    severity = Severity.INFO
    uses = frozenset({Use.SHARED_MEMORY})
    said = "system shared memory is served; client and server share one machine and its IPC namespace"


class CudaMemoryClient(Called):
    """A client that passes tensors in CUDA shared memory.

    The server is one without GPU: registering a CUDA region fails in Triton's words. Tensors go in system shared
    memory, or in the request.

    Before client.py:

        import tritonclient.grpc as grpcclient
        client.register_cuda_shared_memory("in", handle, 0, 64)

    Finds: CUDA shared memory
    """

    id = "C10"
    severity = Severity.BLOCKER
    uses = frozenset({Use.CUDA_MEMORY})
    said = "CUDA shared memory is not served"
    advice = "use system shared memory, or binary tensors in the request"


class RepositoryClient(Called):
    """A client that loads and unloads models.

    The repository API is served; it loads and unloads under `--model-control-mode=explicit`, as on Triton.

    Before client.sh:

        curl -X POST localhost:8000/v2/repository/models/resnet/load

    Before model/config.pbtxt:

        backend: "python"

    Finds: loads and unloads
    """

    id = "C04"
    severity = Severity.INFO
    uses = frozenset({Use.REPOSITORY})
    said = "loads and unloads models, or lists them: the repository API is served"


class StreamClient(Called):
    """A client of gRPC streams, for decoupled models or sequences.

    Streams, the empty final response and its parameters are served alike.

    Before client.py:

        import tritonclient.grpc as grpcclient
        client.start_stream(callback=callback)

    Finds: streams are served
    """

    id = "C05"
    severity = Severity.INFO
    uses = frozenset({Use.STREAM})
    said = "gRPC streams are served alike, the empty final response included"


class TokenClient(Called):
    """A client that sends token ids to the engine's own model, past the tokenizer.

    The name `tensorrt_llm` is kept with its tensors `input_ids` and `output_ids`, where it is among the model's
    `aliases`. Logits, context logits and prompt tables are not there.

    Before client.py:

        import tritonclient.grpc as grpcclient
        client.infer(model_name="tensorrt_llm", inputs=inputs)

    Finds: token ids
    """

    id = "C06"
    severity = Severity.TODO
    uses = frozenset({Use.TOKENS})
    said = "sends token ids to the engine itself"
    advice = "keep tensorrt_llm among the model's aliases; logits and prompt tables are not there"


class OldClient(Called):
    """A client of Triton's first API, or of modules that were renamed since.

    `tritonhttpclient` and `tritongrpcclient` are names that `tritonclient` had; write `tritonclient.http` and
    `tritonclient.grpc`. What speaks `/api/...` has not worked since Triton 2.

    Before client.py:

        import tritonhttpclient

    Finds: renamed
    """

    id = "C07"
    severity = Severity.TODO
    uses = frozenset({Use.OLD_API})
    said = "a client of the first API, or of a module that was renamed since"
    advice = "use tritonclient.http or tritonclient.grpc"


class Gateway(Called):
    """A gateway of one's own that offers OpenAI's API before Triton.

    Tritium offers that API itself, with chat templates, tools, streaming and usage; the gateway can go.

    Before gateway.py:

        import tritonclient.grpc
        from fastapi import FastAPI

        @app.post("/v1/chat/completions")
        async def chat(): ...

    Finds: OpenAI's API itself
    """

    id = "C08"
    severity = Severity.INFO
    uses = frozenset({Use.GATEWAY})
    said = "offers OpenAI's API itself before Triton; Tritium has it on port 9000"
    advice = "point its clients at port 9000, and leave the gateway out"


class PerformanceTool(Called):
    """perf_analyzer, genai-perf or model-analyzer.

    perf_analyzer and genai-perf measure Tritium as they measured Triton. model-analyzer starts tritonserver itself, in
    a container of Triton's: it goes on with the old image.

    Before bench.sh:

        perf_analyzer -m resnet --concurrency-range 1:8

    Before model/config.pbtxt:

        backend: "python"

    Finds: measure
    """

    id = "C09"
    severity = Severity.INFO
    uses = frozenset({Use.PERFORMANCE})
    said = "perf_analyzer and genai-perf measure Tritium as they did Triton"


RULES = (
    *(KserveClient, GenerateClient, SharedMemoryClient, CudaMemoryClient, RepositoryClient, StreamClient),
    *(TokenClient, OldClient, Gateway, PerformanceTool),
)
