"""Write down the names that an engine's package gives its functions' parameters and its classes' fields.

    python -m qa.fakes.record SITE_PACKAGES sglang 0.5.23 > qa/fakes/sglang.json

The fakes of packages that need a GPU are held to what is written down here, and so are the engines that call them.
Reads sources only; nothing of the package is imported.
"""

import ast
import json
import sys
from pathlib import Path

WANTED = {
    "sglang": {
        "sglang/srt/entrypoints/engine.py": [
            "Engine.async_generate",
            "Engine.async_load_lora_adapter",
            "Engine.async_unload_lora_adapter",
            "Engine.get_server_info",
            "Engine.shutdown",
        ],
        "sglang/srt/managers/tokenizer_manager.py": ["TokenizerManager.abort_request"],
        "sglang/srt/managers/tokenizer_control_mixin.py": ["TokenizerControlMixin.get_loads"],
        "sglang/srt/managers/io_struct.py": ["LoRAUpdateOutput"],
        "sglang/srt/managers/load_snapshot.py": ["LoadSnapshot"],
        "sglang/srt/sampling/sampling_params.py": ["SamplingParams"],
        "sglang/srt/disaggregation/kv_events.py": [
            "EventBatch",
            "BlockStored",
            "BlockRemoved",
            "AllBlocksCleared",
            "KVEventsConfig",
        ],
        "sglang/srt/arg_groups/fields": ["*"],
    },
    "tensorrt_llm": {
        "tensorrt_llm/llmapi/llm.py": [
            "BaseLLM.__init__",
            "BaseLLM.generate_async",
            "BaseLLM.get_kv_cache_events_async",
            "BaseLLM.get_stats_async",
            "BaseLLM.shutdown",
        ],
        "tensorrt_llm/sampling_params.py": ["SamplingParams", "GuidedDecodingParams"],
        "tensorrt_llm/executor/request.py": ["LoRARequest"],
        "tensorrt_llm/executor/result.py": ["CompletionOutput", "Logprob", "GenerationResult.abort"],
        "tensorrt_llm/disaggregated_params.py": ["DisaggregatedParams"],
        "tensorrt_llm/llmapi/llm_args.py": [
            "BaseLlmArgs",
            "TorchLlmArgs",
            "KvCacheConfig",
            "CacheTransceiverConfig",
        ],
    },
}
"""What the engines use, by file."""


def names_in(path: Path, wanted: list[str]) -> dict[str, list[str]]:
    """Return the parameters or fields of what is wanted of one file; `*` is all fields of all classes, as one."""
    found: dict[str, list[str]] = {}
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.ClassDef):
            continue
        fields = [
            each.target.id
            for each in node.body
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
        ]
        if wanted == ["*"]:
            found.setdefault("*", []).extend(fields)
        elif node.name in wanted:
            found[node.name] = fields
        for function in node.body:
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{node.name}.{function.name}"
                if name in wanted:
                    given = function.args
                    found[name] = [each.arg for each in [*given.args[1:], *given.kwonlyargs]]
    return found


def record(packages: Path, package: str) -> dict[str, list[str]]:
    """Return the names by function and class; a folder's classes are one, named by the folder.

    Raises:
        SystemExit: something that is wanted is not there.
    """
    names: dict[str, list[str]] = {}
    for place, wanted in WANTED[package].items():
        path = packages / place
        if path.is_dir():
            names[path.name] = sorted(
                name for file in sorted(path.glob("*.py")) for name in names_in(file, wanted).get("*", [])
            )
            continue
        found = names_in(path, wanted)
        if missing := [name for name in wanted if name not in found]:
            raise SystemExit(f"{path} has no {', '.join(missing)}")
        names |= found
    return names


if __name__ == "__main__":
    _, folder, name, version = sys.argv
    print(json.dumps({"version": version, "names": record(Path(folder), name)}, indent=1))
