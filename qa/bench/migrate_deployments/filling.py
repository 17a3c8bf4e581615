"""A deployment of the corpus made complete, and the same for a reference server that has the python backend only."""

import json
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format  # type: ignore[import-untyped]  # protobuf's stubs are not required
from qa.bench.migrate_deployments import stand_ins
from qa.bench.migrate_deployments.recipes import Recipe
from qa.bench.migrate_deployments.weights import write_onnx, write_torchscript
from qa.bench.verify import deployments as language

from tritium.compat.config.defaults import complete_backend
from tritium.compat.config.parse import parse_file
from tritium.compat.protobufs import model_config_pb2

FILES = {"python": "model.py", "onnxruntime": "model.onnx", "pytorch": "model.pt"}
_CHECKPOINT = language.SAMPLES / "tiny_chat" / "1" / "tiny_chat"
_LONGEST = 1024
"""What the stand-in checkpoint can hold, in tokens."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A deployment that can be served: where its models' files come from, by model."""

    origins: dict[str, str]
    language: bool


def fill(recipe: Recipe, source: Path, clones: Path | None, target: Path) -> Filled:
    """Copy a deployment to `target` and put in what its models lack; other models are taken out of the repository."""
    shutil.copytree(source, target)
    repository = target / recipe.repository
    for name, config in recipe.placed.items():
        (repository / name).mkdir(parents=True)
        shutil.copy(source / config, repository / name / "config.pbtxt")
    for folder in repository.iterdir():
        if folder.is_dir() and folder.name not in recipe.models:
            shutil.rmtree(folder)
    origins = {name: _put(recipe, name, repository / name, source, clones) for name in recipe.models}
    return Filled(origins, "a tiny checkpoint" in origins.values())


def _put(recipe: Recipe, name: str, folder: Path, source: Path, clones: Path | None) -> str:
    """Give one model its files; return in a word where they come from."""
    config = read(folder)
    if config.backend == "ensemble" or config.platform == "ensemble":
        (folder / "1").mkdir(exist_ok=True)
        return "its own"
    if config.backend == "vllm":
        _shrink(folder / "1" / "model.json")
        return "a tiny checkpoint"
    file = folder / "1" / FILES[config.backend]
    file.parent.mkdir(exist_ok=True)
    if name in recipe.code and (original := _original(source, clones, recipe.code[name])):
        file.write_bytes(original)
        return "the original"
    if config.backend == "python":
        file.write_text(stand_ins.COMPUTING)
    elif config.backend == "onnxruntime":
        write_onnx(config, file)
    else:
        write_torchscript(config, file)
    return "a stand-in"


def read(folder: Path) -> Any:
    """Return a model's configuration with its backend."""
    config = parse_file(folder / "config.pbtxt").message
    complete_backend(config, folder.name, [])
    return config


def _original(source: Path, clones: Path | None, path: str) -> bytes | None:
    """Return a file of the repository that the corpus's index names for a deployment; None without a clone of it."""
    if clones is None:
        return None
    for row in (source.parent / "INDEX.tsv").read_text().splitlines():
        folder, _, rest = row.partition("\t")
        if folder == source.name:
            owner, name = rest.partition("https://github.com/")[2].split()[0].split("/")[:2]
            done = subprocess.run(
                ["git", "-C", str(clones / f"{owner}+{name}"), "show", f"HEAD:{path}"], capture_output=True, check=False
            )
            return done.stdout if done.returncode == 0 else None
    return None


def _shrink(path: Path) -> None:
    """Let model.json name the stand-in checkpoint, within its length; all else stays."""
    arguments = json.loads(path.read_text(encoding="utf-8-sig"))
    arguments["model"] = str(_CHECKPOINT)
    if int(arguments.get("max_model_len", 0)) > _LONGEST:
        arguments["max_model_len"] = _LONGEST
    path.write_text(json.dumps(arguments, indent=2) + "\n")


def for_reference(recipe: Recipe, repository: Path, target: Path, completions: str) -> None:
    """Write the original for a server with the python backend and no GPU: the same configurations, the same files."""
    packages = sysconfig.get_path("purelib")
    for name in recipe.models:
        config = read(repository / name)
        if config.backend == "vllm":
            language.write_language(target / name, completions)
            continue
        shutil.copytree(repository / name, target / name)
        code = {"onnxruntime": stand_ins.running_onnx, "pytorch": stand_ins.running_torch}.get(config.backend)
        if code is not None:
            (target / name / "1" / "model.py").write_text(code(packages))
            config.backend, config.platform, config.default_model_filename = "python", "", ""
            config.ClearField("optimization")
        for group in config.instance_group:
            group.kind = model_config_pb2.ModelInstanceGroup.KIND_CPU
            del group.gpus[:]
        (target / name / "config.pbtxt").write_text(text_format.MessageToString(config))
