"""The model file, and the session that runs it with the options its configuration asks for.

Options, as in Triton's onnxruntime backend: `optimization.graph.level`; parameters intra_op_thread_count,
inter_op_thread_count, execution_mode, enable_mem_arena, enable_mem_pattern, every `session.*` entry;
`model_operations.op_library_filename`; execution accelerators by the name of their provider.
"""

import importlib
from pathlib import Path
from typing import Any, Final

from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InferenceError, InvalidArgument, Unavailable

DEFAULT_FILE: Final = "model.onnx"

_YES: Final = frozenset({"1", "true", "yes", "on"})
_NO: Final = frozenset({"0", "false", "no", "off"})


def runtime() -> Any:
    """Return the onnxruntime module.

    Raises:
        Unavailable: it is not installed.
    """
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise Unavailable(
            f"the onnxruntime backend needs the package onnxruntime: pip install onnxruntime ({error})"
        ) from None


def model_file(config: ModelConfig, folder: Path, version: str) -> Path:
    """Return the path of the model's graph.

    Raises:
        Unavailable: there is no such file.
    """
    path = folder / version / (config.proto.default_model_filename or DEFAULT_FILE)
    if path.is_dir():
        path = path / DEFAULT_FILE
    if not path.is_file():
        raise Unavailable(
            f"unable to find '{path}' for model instance '{config.name}'",
            hint=f"put the graph there, or name it in default_model_filename of {folder / 'config.pbtxt'}",
        )
    return path


def open_session(config: ModelConfig, path: Path, kind: str, *, optimize: bool = True) -> Any:
    """Load a graph; not optimized it loads faster, to be looked at rather than run.

    Raises:
        InferenceError: an option is wrong, or onnxruntime cannot read or build the graph.
    """
    ort = runtime()
    try:
        options = _options(ort, config, path)
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return ort.InferenceSession(str(path), options, providers=_providers(ort, config, kind))
    except InferenceError:
        raise
    except Exception as error:
        # onnxruntime's errors share no base class; whatever it raises here, the graph cannot be served.
        raise InvalidArgument(f"unable to load model '{config.name}' from '{path}': {_plain(error)}") from error


def _options(ort: Any, config: ModelConfig, path: Path) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = {
        -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    }.get(config.proto.optimization.graph.level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    options.intra_op_num_threads = _count(config, "intra_op_thread_count")
    options.inter_op_num_threads = _count(config, "inter_op_thread_count")
    mode = _count(config, "execution_mode")
    if mode not in (0, 1):
        raise InvalidArgument(
            f"model '{config.name}': Invalid configuration value provided. "
            f"Expected values for execution_mode are 0 or 1 but got {mode} ."
        )
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if mode else ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = _flag(config, "enable_mem_arena", default=options.enable_cpu_mem_arena)
    options.enable_mem_pattern = _flag(config, "enable_mem_pattern", default=options.enable_mem_pattern)
    # Threads that spin after their work is done take the other core from the rest of the server.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for key in config.proto.parameters:
        if key.startswith("session."):
            options.add_session_config_entry(key, config.parameter(key))
    for library in config.proto.model_operations.op_library_filename:
        options.register_custom_ops_library(str(path.parent.parent / library))
    return options


def _providers(ort: Any, config: ModelConfig, kind: str) -> list[Any]:
    accelerators = config.proto.optimization.execution_accelerators
    available = ort.get_available_providers()
    by_name = {name.removesuffix("ExecutionProvider").lower(): name for name in available}
    chosen: list[Any] = []
    asked = list(accelerators.cpu_execution_accelerator)
    if kind == "GPU":
        asked += accelerators.gpu_execution_accelerator
    for accelerator in asked:
        provider = by_name.get(accelerator.name.lower())
        if provider is None:
            raise InvalidArgument(
                f"model '{config.name}': unknown Execution Accelerator '{accelerator.name}' is requested",
                hint=f"this onnxruntime has {', '.join(sorted(by_name))}",
            )
        chosen.append((provider, dict(accelerator.parameters)))
    if kind == "GPU" and "CUDAExecutionProvider" in available:
        chosen.append("CUDAExecutionProvider")
    return [*chosen, "CPUExecutionProvider"]


def _count(config: ModelConfig, name: str) -> int:
    text = config.parameter(name, "0")
    try:
        return max(0, int(text))
    except ValueError:
        raise InvalidArgument(
            f"model '{config.name}': parameter '{name}' must be a whole number, got '{text}'"
        ) from None


def _flag(config: ModelConfig, name: str, *, default: bool) -> bool:
    text = config.parameter(name).strip().lower()
    if not text:
        return default
    if text not in _YES | _NO:
        raise InvalidArgument(f"model '{config.name}': parameter '{name}' must be 0 or 1, got '{text}'")
    return text in _YES


def _plain(error: Exception) -> str:
    """Return an onnxruntime error without its prefix, on one line."""
    text = " ".join(str(error).split())
    return text.rpartition("[ONNXRuntimeError] : ")[2]
