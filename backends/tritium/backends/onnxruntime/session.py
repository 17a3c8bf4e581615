"""The model file, and the session that runs it with the options its configuration asks for.

Options, as in Triton's onnxruntime backend: `optimization.graph.level`; parameters intra_op_thread_count,
inter_op_thread_count, execution_mode, enable_mem_arena, enable_mem_pattern, every `session.*` entry;
`model_operations.op_library_filename`; execution accelerators by the name of their provider. Of each run:
memory.enable_memory_arena_shrinkage. Those of CUDA (cudnn_conv_algo_search and the like) are heeded on a GPU alone.
"""

import importlib
from pathlib import Path
from typing import Any, Final

import structlog

from tritium.compat.config.model import ModelConfig
from tritium.compat.config.parameter_values import read_count, read_flag
from tritium.core.errors import InferenceError, InvalidArgument, Unavailable

DEFAULT_FILE: Final = "model.onnx"

_log = structlog.get_logger("tritium.onnxruntime")
_OPTIONAL: Final = frozenset({"openvino", "tensorrt"})
"""Accelerators that Triton's images have and other builds of onnxruntime may lack; the model answers without them."""
_SHRINKAGE: Final = "memory.enable_memory_arena_shrinkage"
_CUDNN_SEARCHES: Final = {"0": "EXHAUSTIVE", "1": "HEURISTIC", "2": "DEFAULT"}


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


def open_session(
    config: ModelConfig, path: Path, kind: str, device: int = 0, *, optimize: bool = True, shared_threads: bool = False
) -> Any:
    """Load a graph; not optimized it loads faster, to be looked at rather than run.

    `shared_threads`: run on the threads that all sessions share.

    Raises:
        InferenceError: an option is wrong, or onnxruntime cannot read or build the graph.
    """
    ort = runtime()
    try:
        options = _options(ort, config, path)
        options.use_per_session_threads = not shared_threads
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return ort.InferenceSession(str(path), options, providers=_providers(ort, config, kind, device))
    except InferenceError:
        raise
    except Exception as error:
        # onnxruntime's errors share no base class; whatever it raises here, the graph cannot be served.
        raise InvalidArgument(f"unable to load model '{config.name}' from '{path}': {_plain(error)}") from error


def run_options(config: ModelConfig) -> Any:
    """Return the options of each run, None where the configuration asks for none."""
    if not config.parameter(_SHRINKAGE):
        return None
    options = runtime().RunOptions()
    options.add_run_config_entry(_SHRINKAGE, config.parameter(_SHRINKAGE))
    return options


def share_threads(intra: int, inter: int) -> None:
    """Make the threads that sessions may share; of no effect once a session has been opened."""
    runtime().set_global_thread_pool_sizes(intra, inter)


def _options(ort: Any, config: ModelConfig, path: Path) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = {
        -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    }.get(config.proto.optimization.graph.level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    options.intra_op_num_threads = max(0, _count(config, "intra_op_thread_count"))
    options.inter_op_num_threads = max(0, _count(config, "inter_op_thread_count"))
    mode = _count(config, "execution_mode")
    if mode not in (0, 1):
        raise InvalidArgument(
            f"Invalid configuration value provided. Expected values for  execution_mode are 0 or 1 but got {mode} ."
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
        in_folder = path.parent.parent / library
        # Triton leaves the name to the loader of libraries, which finds it from the working directory.
        options.register_custom_ops_library(str(in_folder if in_folder.exists() else library))
    return options


def _providers(ort: Any, config: ModelConfig, kind: str, device: int) -> list[Any]:
    accelerators = config.proto.optimization.execution_accelerators
    available = ort.get_available_providers()
    by_name = {name.removesuffix("ExecutionProvider").lower(): name for name in available}
    chosen: list[Any] = []
    asked = list(accelerators.cpu_execution_accelerator)
    if kind == "GPU":
        asked += accelerators.gpu_execution_accelerator
    for accelerator in asked:
        provider = by_name.get(accelerator.name.lower())
        if provider is None and accelerator.name in _OPTIONAL:
            _log.warning("accelerator_left_out", model=config.name, accelerator=accelerator.name, there=sorted(by_name))
            continue
        if provider is None:
            raise InvalidArgument(
                f"unknown Execution Accelerator '{accelerator.name}' is requested",
                hint=f"the installed onnxruntime has {', '.join(sorted(by_name))}; delete the accelerator",
            )
        chosen.append((provider, dict(accelerator.parameters)))
    if kind == "GPU":
        if "CUDAExecutionProvider" not in available:
            raise InvalidArgument(
                f"unable to load model '{config.name}' on a GPU: the installed onnxruntime has no CUDA provider",
                hint="pip install onnxruntime-gpu in the place of onnxruntime, or write kind: KIND_CPU",
            )
        chosen = [entry for entry in chosen if entry[0] != "CUDAExecutionProvider"]
        chosen.append(("CUDAExecutionProvider", _cuda_options(config, device)))
    return [*chosen, "CPUExecutionProvider"]


def _cuda_options(config: ModelConfig, device: int) -> dict[str, str]:
    options = {"device_id": str(device)}
    search = config.parameter("cudnn_conv_algo_search")
    if search:
        options["cudnn_conv_algo_search"] = _CUDNN_SEARCHES.get(search, search)
    for key in ("gpu_mem_limit", "arena_extend_strategy", "do_copy_in_default_stream"):
        if value := config.parameter(key):
            options[key] = value
    for accelerator in config.proto.optimization.execution_accelerators.gpu_execution_accelerator:
        if accelerator.name == "cuda":
            options.update(accelerator.parameters)
    return options


def _count(config: ModelConfig, name: str) -> int:
    try:
        return read_count(config.parameter(name, "0"))
    except ValueError as error:
        raise InvalidArgument(str(error), hint=f"parameter {name} of model '{config.name}'") from None


def _flag(config: ModelConfig, name: str, *, default: bool) -> bool:
    text = config.parameter(name)
    try:
        return read_flag(text) if text else default
    except ValueError as error:
        raise InvalidArgument(str(error), hint=f"parameter {name} of model '{config.name}'") from None


def _plain(error: Exception) -> str:
    """Return an onnxruntime error without its prefix, on one line."""
    text = " ".join(str(error).split())
    return text.rpartition("[ONNXRuntimeError] : ")[2]
