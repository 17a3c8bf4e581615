"""What a version folder of TensorRT-LLM's Triton layouts holds: models of backend "tensorrtllm".

    model.json   as with backend "vllm"
    model.yaml   the arguments of the LLM API, and triton_config
    neither      the five models: this one's parameters, and those of preprocessing and postprocessing beside it

A compiled engine is not run: the Hugging Face checkpoint that it was built from is, which parameters name or lead to.
"""

import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tritium.compat.config.model import ModelConfig, from_proto
from tritium.compat.config.parse import parse_file
from tritium.llm.model_files import BrokenFile, ModelFiles, read_model_files

BACKEND = "tensorrtllm"

CHECKPOINT = "checkpoint"
"""Our parameter of config.pbtxt: the folder, or the hub name, of the Hugging Face checkpoint."""

_CONFIG = "config.pbtxt"
_YAML = "model.yaml"
_TRITON_CONFIG = "triton_config"

_TO_VLLM = {
    "max_batch_size": "max_num_seqs",
    "max_num_tokens": "max_num_batched_tokens",
    "max_seq_len": "max_model_len",
}
"""Arguments of model.yaml by name, with vLLM's for the same thing, which every engine understands."""

_SWITCHES = {"enable_kv_cache_reuse": "enable_prefix_caching", "enable_chunked_context": "enable_chunked_prefill"}
"""Parameters of the five-model layout that are switches, with vLLM's arguments for them."""

_SIBLINGS = ("preprocessing", "postprocessing")
_WEIGHTS = ("*.safetensors", "*.bin")


def read_trtllm_files(version_folder: Path) -> ModelFiles:
    """Read whichever of the layouts there is.

    Raises:
        BrokenFile: a file is missing or broken, or nothing leads to a checkpoint; it says which parameter to set.
    """
    if (version_folder / "model.json").is_file():
        return read_model_files(version_folder)
    path = version_folder / _YAML
    if path.is_file():
        return ModelFiles(_read_yaml(path), version_folder, read_from=path)
    folder = version_folder.parent
    return ModelFiles(_read_parameters(folder), version_folder, read_from=folder / _CONFIG)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        yaml: Any = importlib.import_module("yaml")  # only this layout needs it
    except ImportError:
        raise BrokenFile(path, "needs PyYAML, which is not installed", "pip install pyyaml") from None
    try:
        read = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
        said = getattr(error, "problem", None) or str(error)
        raise BrokenFile(path, f"is no YAML: {said}", line=line, column=column) from None
    if not isinstance(read, dict) or not isinstance(read.get("model"), str) or not read["model"]:
        raise BrokenFile(
            path, 'does not say which model: "model" is missing or no string', "model: a path, or a hub name"
        )
    given: dict[str, Any] = read
    # The backend within TensorRT-LLM: only the one that reads checkpoints is run.
    backend = given.pop("backend", "pytorch")
    if backend != "pytorch":
        raise BrokenFile(path, f'has backend "{backend}": only "pytorch", which reads checkpoints, is run here')
    given.pop(_TRITON_CONFIG, None)
    return {_TO_VLLM.get(name, name): value for name, value in given.items()}


def _read_parameters(folder: Path) -> dict[str, Any]:
    """Make arguments of the parameters of the five-model layout."""
    config = _config(folder)
    if config is None:
        raise BrokenFile(folder / _CONFIG, "is missing")
    siblings = [each for name in _SIBLINGS if (each := _config(folder.parent / name)) is not None]
    engine = _engine_config(_parameter(config, "gpt_model_path"))
    arguments: dict[str, Any] = {"model": _checkpoint(folder, config, siblings, engine)}
    tokenizer = next(filter(None, (_parameter(each, "tokenizer_dir") for each in (config, *siblings))), "")
    if tokenizer and tokenizer != arguments["model"]:
        arguments["tokenizer"] = tokenizer
    if config.max_batch_size > 0:
        arguments["max_num_seqs"] = config.max_batch_size
    for name, ours in _SWITCHES.items():
        if (value := _parameter(config, name).lower()) in ("true", "false"):
            arguments[ours] = value == "true"
    build, mapping = engine.get("build_config", {}), engine.get("pretrained_config", {}).get("mapping", {})
    if build.get("max_seq_len"):
        arguments["max_model_len"] = build["max_seq_len"]
    for name, ours in (("tp_size", "tensor_parallel_size"), ("pp_size", "pipeline_parallel_size")):
        if mapping.get(name, 1) > 1:
            arguments[ours] = mapping[name]
    return arguments


def _checkpoint(folder: Path, config: ModelConfig, siblings: list[ModelConfig], engine: Mapping[str, Any]) -> str:
    """Find the checkpoint: named, or in the engine's folder, or in the tokenizer's."""
    if named := _parameter(config, CHECKPOINT):
        return named
    places = [_parameter(config, "gpt_model_path")]
    places += [_parameter(each, "tokenizer_dir") for each in (config, *siblings)]
    for place in filter(None, places):
        if _is_checkpoint(Path(place)):
            return place
    looked = ", ".join(dict.fromkeys(filter(None, places))) or "no folder is named by gpt_model_path or tokenizer_dir"
    what = "holds a compiled engine, which is bound to one version and GPU" if engine else "names no checkpoint"
    raise BrokenFile(
        folder / _CONFIG,
        f"{what}; the Hugging Face checkpoint it was built from is not known (looked in: {looked})",
        f'set parameters {{ key: "{CHECKPOINT}" value {{ string_value: "FOLDER or hub name" }} }}, '
        "or put the weights into tokenizer_dir",
    )


def _is_checkpoint(folder: Path) -> bool:
    config = _json(folder / "config.json")
    return "architectures" in config and any(True for _ in _weights(folder))


def _weights(folder: Path) -> Iterator[Path]:
    for pattern in _WEIGHTS:
        yield from folder.glob(pattern)


def _engine_config(folder: str) -> Mapping[str, Any]:
    """Return what a compiled engine says of itself; nothing where there is none."""
    config = _json(Path(folder) / "config.json") if folder else {}
    return config if "build_config" in config else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _config(folder: Path) -> ModelConfig | None:
    path = folder / _CONFIG
    return from_proto(parse_file(path).message) if path.is_file() else None


def _parameter(config: ModelConfig, name: str) -> str:
    """Return a parameter; one that a template's `${...}` was never filled in is none."""
    value = config.parameter(name).strip()
    return "" if value.startswith("${") else value
