"""Clients: where programs, notebooks and scripts call a Triton server, and in which way."""

import re
from collections.abc import Iterator
from pathlib import PurePath

from tritium.migration.deployment import Call, Use
from tritium.migration.launches.reading import Reading
from tritium.migration.text.source import Span

_SUFFIXES = {
    *(".py", ".ipynb", ".go", ".java", ".kt", ".scala", ".js", ".mjs", ".ts", ".tsx", ".jsx", ".cc", ".cpp", ".cxx"),
    *(".h", ".hpp", ".rs", ".cs", ".rb", ".php", ".sh", ".bash", ".http", ".swift"),
}
_SURE: tuple[tuple[Use, re.Pattern[str]], ...] = (
    (
        Use.OLD_API,
        re.compile(r"\btritonhttpclient\b|\btritongrpcclient\b|\btensorrtserver\.api\b|/api/(?:status|infer)/"),
    ),
    (Use.HTTP, re.compile(r"\btritonclient\.http\b|\bInferenceServerHttpClient\b|\bInferenceServerClient\(String")),
    (
        Use.GRPC,
        re.compile(
            r"\btritonclient\.grpc\b|\bGRPCInferenceService(?:Stub|Client|Grpc)?\b|\bInferenceServerGrpcClient\b"
        ),
    ),
    (Use.PERFORMANCE, re.compile(r"\b(?:perf_analyzer|perf_client|genai-perf|model-analyzer)\s+(?:-|profile|\\)")),
)
_LIKELY: tuple[tuple[Use, re.Pattern[str]], ...] = (
    (Use.KSERVE, re.compile(r"/v2/models/[^\s\"'`]*/infer\b")),
    (Use.GENERATE, re.compile(r"/v2/models/[^\s\"'`]*/generate(?:_stream)?\b")),
    (
        Use.STREAM,
        re.compile(r"\bstart_stream\(|\basync_stream_infer\(|\bstream_infer\(|\bModelStreamInfer\b|\bStartStream\("),
    ),
    (Use.SHARED_MEMORY, re.compile(r"\bregister_system_shared_memory\(|\bRegisterSystemSharedMemory\(")),
    (Use.CUDA_MEMORY, re.compile(r"\bregister_cuda_shared_memory\(|\bRegisterCudaSharedMemory\(")),
    (
        Use.REPOSITORY,
        re.compile(r"\bclient\w*\.(?:un)?load_model\(|/v2/repository/(?:models|index)|\bRepositoryModelLoad\b"),
    ),
    (Use.TOKENS, re.compile(r"""(?:model_name|models/)\W{0,4}tensorrt_llm["'/]""")),
)
_GATEWAY = re.compile(r"""["']/v1/(?:chat/)?completions["']""")


def calls(reading: Reading) -> Iterator[Call]:
    """Yield each way in which a file calls a Triton server, at its first place."""
    source = reading.source
    if PurePath(source.path).suffix not in _SUFFIXES:
        return
    text = source.text
    if "tritonclient" not in text and "/v2/" not in text and not any(pattern.search(text) for _, pattern in _SURE):
        return
    found = [(use, match) for use, pattern in (*_SURE, *_LIKELY) if (match := pattern.search(text))]
    for use, match in found:
        yield Call(use, source, Span(*match.span()))
    if found and (match := _GATEWAY.search(text)) and ("FastAPI" in text or "@app." in text or "Flask" in text):
        yield Call(Use.GATEWAY, source, Span(*match.span()))
