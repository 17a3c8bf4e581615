"""Looking into one model folder: everything that can be found out without loading it.

folder -> agents -> parse -> backend and defaults -> Triton's rules -> versions and their files -> Candidate
"""

from pathlib import Path

from tritium.backends.python.interpreter import ENVIRONMENT_PARAMETER
from tritium.compat.alternatives import without_handler
from tritium.compat.config import messages
from tritium.compat.config.defaults import (
    ENSEMBLE,
    FAMILIES,
    UnknownBackend,
    complete_backend,
    complete_instances,
    normalize,
)
from tritium.compat.config.finding import Finding
from tritium.compat.config.json import BadConfigJson, from_json
from tritium.compat.config.model import from_proto
from tritium.compat.config.parse import Parsed, parse_file, parse_text
from tritium.compat.config.problem import Problem, Stage, problem_of
from tritium.compat.config.tensors import check_tensors
from tritium.compat.config.unserved import check_served
from tritium.compat.config.validate import check_config, check_load
from tritium.repository.agents import check_agents
from tritium.repository.candidate import Candidate, Rules
from tritium.repository.known_backends import advice, missing_package
from tritium.repository.layout import Layout, chosen_versions, fingerprint, read_layout
from tritium.repository.python_source import check_source

COMPLETING = frozenset({"fil", "onnxruntime", "openvino", "python", "tensorrt", "tensorrtllm", "tensorflow", "vllm"})
"""Backends that learn inputs and outputs from the model itself; for the others the file must have them."""


def read_candidate(folder: Path, name: str, rules: Rules, override: str = "", *, renamed: bool = False) -> Candidate:
    """Read and check one model folder.

    `override` is a configuration in JSON that takes the file's place; the name in a `renamed` one's is passed over.
    """
    printed = fingerprint(folder)
    try:
        layout = read_layout(folder)
    except OSError as error:
        parsed = parse_text("", f"{folder}/")
        candidate = Candidate(name, folder, parsed.message, parsed.places)
        candidate.note(f"cannot be read: {error.strerror}")
        return candidate
    parsed, given = _configuration(layout, rules, override)
    candidate = Candidate(
        name, folder, parsed.message, parsed.places, [], list(parsed.problems), printed, overridden=bool(override)
    )
    if not given and not rules.auto_complete:
        candidate.note(messages.no_file(f"{folder}/config.pbtxt"), "write one, or allow auto-completion")
    if not candidate.problems:
        for finding in check_agents(candidate.config, folder):
            candidate.find(finding)
    sound = not candidate.problems
    if sound and _complete(candidate, layout, rules):
        for finding in check_config(candidate.config):
            candidate.find(finding)
        if not candidate.problems:
            _check_load(candidate, layout, rules)
    elif not sound:
        # Rules about fields that were not understood would only repeat that; these stand by themselves.
        for finding in check_tensors(candidate.config, complete=False):
            candidate.find(finding)
    if renamed:
        candidate.config.name = name
    elif candidate.config.name and candidate.config.name != name:
        candidate.find(
            Finding(
                ("name",),
                messages.name_mismatch(name, candidate.config.name),
                f'write name: "{name}" or delete the line',
            )
        )
    _choose_versions(candidate, layout)
    _note_no_versions(candidate, layout)
    if sound:
        _check_files(candidate, rules)
        _check_contents(candidate, rules)
    return candidate


def read_file(file: Path, rules: Rules) -> Candidate:
    """Read and check a configuration file by itself, whatever folder it lies in."""
    parsed = parse_file(file)
    config = parsed.message
    candidate = Candidate(config.name or file.stem, file.parent, config, parsed.places, [], list(parsed.problems))
    if candidate.problems:
        return candidate
    try:
        complete_backend(config, candidate.name, ())
        backend_known = True
    except UnknownBackend:
        backend_known = False
    normalize(config)
    complete_instances(config, rules.gpus)
    for finding in check_config(config, backend_known=backend_known):
        candidate.find(finding)
    for finding in check_load(config, rules.gpus, complete=False):
        candidate.find(finding)
    return candidate


def _configuration(layout: Layout, rules: Rules, override: str) -> tuple[Parsed, bool]:
    file = layout.folder / "config.pbtxt"
    if override:
        parsed = parse_text("", str(file))
        try:
            parsed.message = from_json(override)
        except BadConfigJson as error:
            parsed.problems.append(problem_of(f"{layout.folder}/", f"Invalid config override: {error}"))
        return parsed, True
    if rules.config_name:
        named = layout.folder / "configs" / f"{rules.config_name}.pbtxt"
        if named.exists():
            return parse_file(named), True
    if file.exists():
        return parse_file(file), True
    return parse_text("", f"{layout.folder}/"), False


def _complete(candidate: Candidate, layout: Layout, rules: Rules) -> bool:
    config = candidate.config
    try:
        complete_backend(config, candidate.name, layout.first_version_files)
    except UnknownBackend as error:
        files = ", ".join(family.filename for family in FAMILIES[2:])
        if not layout.versions and _lying(layout):
            return True  # a missing version folder is the whole problem, and is reported as that
        if layout.versions:
            where = f"put one of {files} into {layout.versions[0]}/, or name the backend in config.pbtxt"
        else:
            where = f"make a version folder with one of {files}: mkdir {layout.folder}/1"
        candidate.note(str(error), where)
        return False
    normalize(config)
    if rules.cpu_for_gpu and not rules.gpus:
        _move_to_cpu(candidate)
    complete_instances(config, rules.gpus)
    return True


def _move_to_cpu(candidate: Candidate) -> None:
    for index, group in enumerate(candidate.config.instance_group):
        if group.kind == group.KIND_GPU:
            group.kind = group.KIND_CPU
            del group.gpus[:]
            message = f"instance group {index} of model {candidate.name} runs on the CPU, not on a GPU"
            candidate.find(Finding(("instance_group", index, "kind"), message, "", Stage.WARNING))


def _check_load(candidate: Candidate, layout: Layout, rules: Rules) -> None:
    config = candidate.config
    if candidate.backend != ENSEMBLE and candidate.backend not in rules.backends:
        where = ("backend",) if ("backend",) in candidate.places.tokens else ("platform",)
        hint = advice(candidate.backend, rules.backends, (*layout.files, *layout.first_version_files))
        candidate.find(Finding(where, messages.unknown_backend(candidate.backend), hint, Stage.LOAD))
    elif (missing := missing_package(candidate.backend)) and not from_proto(config).parameter(ENVIRONMENT_PARAMETER):
        message = f"the {candidate.backend} backend needs the package {missing[0]}, which is not installed"
        candidate.note(message, missing[1], Stage.LOAD)
    complete = candidate.backend not in COMPLETING or not rules.auto_complete
    for finding in check_load(config, rules.gpus, complete=complete):
        candidate.find(finding)
    for finding in check_served(config):
        candidate.find(finding)
    for index, output in enumerate(config.output):
        if output.label_filename and not (layout.folder / output.label_filename).is_file():
            message = messages.no_file(str(layout.folder / output.label_filename))
            candidate.find(Finding(("output", index, "label_filename"), message, "", Stage.LOAD, "Internal"))


def _check_files(candidate: Candidate, rules: Rules) -> None:
    """Look for the file that the model is, in every version that would be loaded."""
    usual = {family.backend: family.filename for family in reversed(FAMILIES)} | {"vllm": "model.json"}
    if candidate.backend not in usual or candidate.backend not in rules.backends or candidate.config.runtime:
        return
    name = candidate.config.default_model_filename or usual[candidate.backend]
    for version in candidate.versions:
        if not (candidate.folder / version / name).exists():
            message = f"version {version} of model '{candidate.name}' has no {name}"
            handled = without_handler(candidate.config.platform) if candidate.backend == "python" else ""
            candidate.note(message, handled or f"put it at {candidate.folder}/{version}/{name}", Stage.LOAD)
        elif candidate.backend == "python" and not candidate.fatal:
            _check_python(candidate, candidate.folder / version / name)


def _check_python(candidate: Candidate, file: Path) -> None:
    """Look for mistakes in a model's source, unless another Python runs it, whose grammar may differ."""
    config = from_proto(candidate.config)
    if not config.parameter(ENVIRONMENT_PARAMETER) and file.is_file() and (problem := check_source(file)):
        candidate.problems.append(problem)


def _check_contents(candidate: Candidate, rules: Rules) -> None:
    """Let the backend's loader look into the files of every version, where it can without loading them."""
    checks = [check for check in (rules.checks.get(candidate.backend), rules.every_check) if check is not None]
    if not checks or candidate.fatal:
        return
    config = from_proto(candidate.config)
    for version in candidate.versions:
        for found in (found for check in checks for found in check(config, candidate.folder, version)):
            problem = found if isinstance(found, Problem) else candidate.places.problem(found)
            if problem not in candidate.problems:
                candidate.problems.append(problem)


def _choose_versions(candidate: Candidate, layout: Layout) -> None:
    config = candidate.config
    if not layout.versions and config.platform == ENSEMBLE:
        # An ensemble has no files, and version control keeps no empty folder.
        candidate.versions = ["1"]
        return
    candidate.versions = chosen_versions(config.version_policy, layout.versions)
    if not layout.versions:
        if config.backend or _lying(layout):
            candidate.note("no version folder", _version_hint(layout), Stage.LOAD)
    elif not candidate.versions:
        hint = f"the folders are {', '.join(layout.versions)}"
        candidate.find(Finding(("version_policy",), messages.no_version(candidate.name), hint, Stage.LOAD))
    elif config.version_policy.HasField("specific"):
        for index, version in enumerate(config.version_policy.specific.versions):
            if str(version) not in layout.versions:
                message = f"version {version} of model '{candidate.name}' has no folder"
                where = ("version_policy", "specific", "versions", index)
                candidate.find(Finding(where, message, f"mkdir {layout.folder}/{version}", Stage.WARNING))


def _note_no_versions(candidate: Candidate, layout: Layout) -> None:
    """Say which folders look like versions and are none, beside some that are."""
    for name in layout.others if layout.versions else ():
        folder = layout.folder / name
        if name.isdigit():
            candidate.note(messages.leading_zeros(name), f"mv {folder} {layout.folder}/{int(name)}", Stage.WARNING)
        elif any((folder / family.filename).exists() for family in FAMILIES if family.filename):
            candidate.note(messages.no_number(name), "a version folder is a plain number", Stage.WARNING)


def _lying(layout: Layout) -> str:
    """Return a model file that lies beside config.pbtxt instead of in a version folder."""
    return next((family.filename for family in FAMILIES if family.filename in layout.files), "")


def _version_hint(layout: Layout) -> str:
    if lying := _lying(layout):
        return f"mkdir {layout.folder}/1 && mv {layout.folder}/{lying} {layout.folder}/1/"
    numbered = [name for name in layout.others if name.lstrip("vV0").isdigit()]
    if numbered:
        number = numbered[0].lstrip("vV0")
        return f"a version folder is a plain number: mv {layout.folder}/{numbered[0]} {layout.folder}/{number}"
    return f"mkdir {layout.folder}/1 and put the model's files there"
