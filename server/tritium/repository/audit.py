"""What `tritium check` does: survey repositories, model folders and lone files, and complete what needs completing.

A model whose file names no inputs or outputs is opened by its backend where that only reads a file; python models
are run only when asked, for their code may do anything.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from tritium.compat.config.defaults import ENSEMBLE
from tritium.compat.config.finding import Finding
from tritium.compat.config.model import from_proto
from tritium.compat.config.problem import Stage
from tritium.compat.config.validate import check_load
from tritium.core.errors import InferenceError
from tritium.repository.candidate import Candidate, Rules
from tritium.repository.cloud.repository import CloudRepository
from tritium.repository.devices import installed_gpus
from tritium.repository.inspection import read_candidate, read_file
from tritium.repository.known_backends import installed_backends
from tritium.repository.layout import is_version, model_folders
from tritium.repository.loader import Check
from tritium.repository.places import Repository, holds_models
from tritium.repository.reading import Reader
from tritium.repository.survey import Survey, check_ensembles, survey
from tritium.repository.tensor_loader import tensor_loaders

_READ_ONLY = frozenset({"fil", "onnxruntime", "openvino"})


def audit(
    paths: Sequence[Repository],
    checks: Mapping[str, Check],
    *,
    every_check: Check | None = None,
    auto_complete: bool = True,
    run_python: bool = False,
    cpu_for_gpu: bool = False,
) -> Survey:
    """Find every problem of the models under `paths`; the survey's `left_out` says what was not checked.

    `checks` look into the files of the backends that they are named after, `every_check` into those of every model.
    """
    backends = installed_backends() | checks.keys()
    rules = Rules(backends, installed_gpus(), cpu_for_gpu, auto_complete, checks=checks, every_check=every_check)
    given = {}
    for path in paths:
        if isinstance(path, CloudRepository):
            continue
        if path.is_file():
            alone = path.name == "config.pbtxt" and path.parent.name != "configs"
            candidate = (
                read_candidate(path.parent, path.absolute().parent.name, rules) if alone else read_file(path, rules)
            )
            given[str(path)] = candidate
        elif path.is_dir() and _is_model(path):
            given[str(path)] = read_candidate(path, path.absolute().name, rules)
    found = survey([path for path in paths if str(path) not in given], Reader(rules))
    found.candidates |= given
    if auto_complete:
        asyncio.run(_complete(found, rules, run_python=run_python))
    return found


def _is_model(folder: Path) -> bool:
    """Tell whether the folder is checked as one model, also one whose versions are empty."""
    named = (folder / "config.pbtxt").exists() or any(is_version(entry.name) for entry in folder.iterdir())
    return named and not holds_models(model_folders(folder))


async def _complete(found: Survey, rules: Rules, *, run_python: bool) -> None:
    completed = set()
    for key, candidate in found.candidates.items():
        if candidate.fatal or candidate.tensors_known or not candidate.versions:
            continue
        if candidate.backend in _READ_ONLY or (run_python and candidate.backend == "python"):
            await _ask_backend(candidate, rules)
            completed.add(key)
        elif _has_auto_complete(candidate):
            found.left_out.append(f"{candidate.name}: auto_complete_config of its model.py was not run")
    ensembles = {key: c for key, c in found.candidates.items() if set(c.members) & completed}
    check_ensembles(ensembles, found.candidates)
    for candidate in found.candidates.values():
        unknown = [m for m in candidate.members if m in found.candidates and not found.candidates[m].tensors_known]
        if candidate.backend == ENSEMBLE and unknown and not candidate.fatal:
            found.left_out.append(f"{candidate.name}: whether it fits {', '.join(unknown)}")


def _has_auto_complete(candidate: Candidate) -> bool:
    model = candidate.folder / candidate.versions[-1] / "model.py"
    return candidate.backend == "python" and "auto_complete_config" in model.read_text(errors="replace")


async def _ask_backend(candidate: Candidate, rules: Rules) -> None:
    """Complete the configuration by its backend, and check what comes of it."""
    loader = tensor_loaders()[candidate.backend]
    try:
        completed = await loader.complete(from_proto(candidate.config), candidate.folder, candidate.versions[-1])
    except InferenceError as error:
        candidate.find(Finding((), error.message, error.hint, Stage.LOAD))
        return
    candidate.config = completed.proto
    for finding in check_load(completed.proto, rules.gpus):
        candidate.find(finding)
