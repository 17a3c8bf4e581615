"""Models found in a deployment: which they are, of what kind, and how each fares.

file or folder -> parse -> backend and defaults -> Triton's rules -> files -> Found; `report` settles the verdict once
the models around it are known (ensembles stand and fall with their members).

Where the files of a model are here, the rules are the server's. A template, whose values are filled in when it is
deployed, is judged by its `backend:` and `platform:` lines and by what stands in it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tritium.compat.config.defaults import ENSEMBLE, UnknownBackend, complete_backend, complete_instances, normalize
from tritium.compat.config.finding import Finding as Broken
from tritium.compat.config.parse import Parsed, parse_file, parse_text
from tritium.compat.config.problem import Problem, Stage
from tritium.compat.config.unserved import check_served
from tritium.compat.config.validate import check_config, check_load
from tritium.migration.files import check_files
from tritium.migration.finding import Finding, ModelReport, Severity, Verdict, score_of
from tritium.migration.folder import CONFIG, Folder, read_folder
from tritium.migration.found import Found
from tritium.migration.kinds import BY_FILE, BY_NAME, ENGINE_PARAMETERS, EXPLICIT, likely_kind
from tritium.migration.text.words import PLACEHOLDER

# A field that only a model configuration has, at the beginning of a line.
_TELLTALE = re.compile(
    r"^\s*(?:(?:backend|platform|max_batch_size|instance_group|dynamic_batching|sequence_batching|ensemble_scheduling"
    r"|default_model_filename|model_transaction_policy|version_policy|model_warmup|model_metrics|model_operations|response_cache)\b"
    r"|(?:input|output|batch_input|batch_output|parameters|optimization)\s*:?\s*[\[{])",
    re.MULTILINE,
)
_LINE = re.compile(r"""^\s*(backend|platform|name)\s*:\s*["']([^"']*)["']""", re.MULTILINE)
# A bare word in capitals where a value is due is filled in by a script; enum values and special numbers are not.
_CAPITALS = re.compile(
    r"(?!TYPE_|KIND_|FORMAT_|MODEL_|CONTROL_|PRIORITY_|INF\b|NAN\b|TRUE\b|FALSE\b)[A-Z][A-Z0-9_]{2,}\b"
)
_TEMPLATE = re.compile(r"template|\.tmpl|\.in$|\.j2$", re.IGNORECASE)
_NAMES = (".pbtxt", ".pbtxt.template", ".pbtxt.in", ".pbtxt.j2")
_LARGEST_BYTES = 2 << 20
"""No configuration is larger."""


def is_config(path: Path) -> bool:
    """Tell whether a path may be a model configuration by its name."""
    return path.name.endswith(_NAMES)


def read_model(path: Path, root: Path) -> Found | None:
    """Read one configuration; None when the file is no model configuration (a label map, a graph)."""
    place = path.relative_to(root)
    proper = path.name == CONFIG
    text = _text(path)
    if not proper and (text is None or not _TELLTALE.search(text)):
        return None
    parsed = parse_file(path, str(place)) if text is not None else _oversized(path, place)
    lines: dict[str, str] = {}
    for match in _LINE.finditer(text or ""):
        lines.setdefault(match[1], match[2])
    in_folder = path.name.startswith(CONFIG)
    name = path.parent.name if in_folder else lines.get("name") or path.stem.removesuffix(".pbtxt")
    folder = read_folder(path.parent) if in_folder else Folder(path.parent, {})
    backend = lines.get("backend") or lines.get("platform") or ""
    if PLACEHOLDER.search(backend) and ENGINE_PARAMETERS.search(text or ""):
        backend = "tensorrtllm"
    if not in_folder and not backend and (told := path.stem.rpartition(".")[2]) in BY_NAME:
        backend = told  # as model.dali.pbtxt does
    found = Found(name, place, folder, parsed, backend, path.parent.parent if in_folder else None)
    if parsed.problems and _TEMPLATE.search(path.name):
        _fill_in(found, parsed.problems[0])
    else:
        _problems(found, parsed.problems)
    if proper:
        _check_name(found)
    _check(found, proper=proper)
    return found


def read_bare(path: Path, root: Path) -> Found:
    """Read a model folder that has no configuration: the server completes one from the model's file."""
    place = path.relative_to(root)
    found = Found(path.name, place, read_folder(path), parse_text("", str(place)), "", path.parent, bare=True)
    _check(found, proper=True)
    return found


def _text(path: Path) -> str | None:
    """Return a file's text as far as it is one; None for what is too large to be a configuration."""
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            return None
        return path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError:
        return ""


def _oversized(path: Path, place: Path) -> Parsed:
    parsed = parse_text("", str(place))
    size = path.stat().st_size >> 20
    parsed.problems.append(Problem(str(place), 0, 0, 0, f"is no configuration: it has {size} MiB"))
    return parsed


def _problems(found: Found, problems: Iterable[Problem]) -> None:
    for problem in problems:
        if problem.stage is Stage.WARNING:
            continue
        placeholder = PLACEHOLDER.search(problem.source_line)
        placeholder = placeholder or _CAPITALS.match(problem.source_line, max(0, problem.column - 1))
        if placeholder:
            found.template = True
            message = f"{placeholder.group()} is filled in at deployment time"
            found.add("M04", Severity.TODO, message, "audit the filled-in repository to be certain", problem)
        else:
            found.refuse("M20", problem.message, problem.hint, problem)


def _fill_in(found: Found, problem: Problem) -> None:
    """Note that a file called a template is one, in whatever dialect: wenet's `#token` is a comment to pbtxt."""
    found.template = True
    message = f"a template, which does not parse before it is filled in: {problem.message}"
    found.add("M04", Severity.TODO, message, "audit the filled-in repository to be certain", problem)


def _check_name(found: Found) -> None:
    named = found.config.name
    if named in ("", found.name):
        return
    at = found.parsed.places.problem(Broken(("name",), ""))
    message = f"the model is named '{named}' in a folder named '{found.name}'; Triton refuses that"
    advice = f"name the folder {named}, or take the name line out"
    if PLACEHOLDER.search(named):
        found.template = True
        found.add("M04", Severity.TODO, f"{named} is filled in at deployment time", "", at)
    elif found.folder.is_empty and not _is_in_repository(found.folder.path):
        # A sample by itself is copied into a repository under its right name.
        found.add("M21", Severity.TODO, message, advice, at)
    else:
        found.refuse("M21", message, advice, at)


def _is_in_repository(folder: Path) -> bool:
    """Tell whether a folder lies among models, or in a folder that is called so."""
    return "model" in folder.parent.name.lower() or any(
        other.parent != folder for other in folder.parent.glob(f"*/{CONFIG}")
    )


def _check(found: Found, *, proper: bool) -> None:
    """Hold a configuration and its folder against the server's rules, and see what is served of it."""
    config = found.config
    config.name = found.name.encode("utf-8", "backslashreplace").decode()  # a folder may be called in no UTF-8
    pinned = any(group.gpus for group in config.instance_group)
    if found.sound:
        known = _complete(found)
        _problems(found, (found.parsed.places.problem(f) for f in check_config(config, backend_known=known)))
        gpus = sorted({0, *(gpu for group in config.instance_group for gpu in group.gpus)})
        complete_instances(config, gpus)
        if found.sound:
            complete = found.kind is not None and found.kind.name in EXPLICIT
            _problems(found, (found.parsed.places.problem(f) for f in check_load(config, gpus, complete=complete)))
    _unserved(found)
    if pinned:
        message = "instances are pinned to GPUs; language workers choose theirs by CUDA_VISIBLE_DEVICES"
        found.add("M24", Severity.INFO, message)
    if proper and not found.template and not found.parsed.problems:
        check_files(found)


def _complete(found: Found) -> bool:
    """Fill in what Triton does before it checks; tell whether the backend is known."""
    config, files = found.config, found.folder.first_files
    known = True
    try:
        complete_backend(config, found.name, files)
    except UnknownBackend as error:
        known = False
        likely = next((BY_FILE[file] for file in BY_FILE if file in files), "")
        if files:
            found.backend = likely
            advice = f'write backend: "{likely}" into {CONFIG}' if likely else f"name the backend in {CONFIG}"
            found.refuse("M20", str(error), advice)
    else:
        told = "" if PLACEHOLDER.search(config.backend) else config.backend
        if not found.backend and not files and told not in BY_NAME:
            # What follows a dot in the model's name is a backend to Triton; of a model such as phi-3.5 it is none.
            told, known = "", False
        found.backend = ENSEMBLE if config.platform == ENSEMBLE else told or found.backend
    normalize(config)
    return known


def _unserved(found: Found) -> None:
    """Keep the fields that Tritium reads and does not serve, as the server itself says when it loads the model."""
    for unserved in check_served(found.config):
        severity = Severity.INFO if unserved.stage is Stage.WARNING else Severity.BLOCKER
        found.add("M23", severity, unserved.message, unserved.hint, found.parsed.places.problem(unserved))


def settle(found: Found) -> None:
    """Hold a configuration that came from a running server against the rules; it has been loaded, so files are."""
    _problems(found, found.parsed.problems)
    _check(found, proper=False)


def report(found: Found, findings: Sequence[Finding] | None = None) -> ModelReport:
    """Settle what becomes of a model by its findings; where none are given, by those of reading it."""
    kind = found.kind
    findings = found.findings if findings is None else findings
    verdict, because = _judge(found, findings)
    return ModelReport(
        name=found.name,
        kind=kind.name if kind else found.backend or likely_kind(found.name) or "unknown",
        verdict=verdict,
        path=found.place,
        because=because,
        advice=kind.advice if kind is not None and verdict is kind.verdict and not found.broken else "",
        versions=tuple(found.folder.versions),
        findings=tuple(findings),
        score=_score(verdict, findings),
    )


def _score(verdict: Verdict, findings: Sequence[Finding]) -> int:
    """Return what is left of 100: by the findings, and at most what the verdict leaves."""
    return min(score_of(tuple(findings)), 100 - _GRAVITY.get(verdict, Severity.INFO).weight)


_GRAVITY = {
    Verdict.UNKNOWN: Severity.QUESTION,
    Verdict.CONVERT: Severity.REBUILD,
    Verdict.UNSUPPORTED: Severity.BLOCKER,
    Verdict.BROKEN: Severity.BLOCKER,
}


def names_checkpoint(found: Found) -> bool:
    """Tell whether a model of TensorRT-LLM names the checkpoint that is served: by a parameter, or over the LLM API."""
    files = {name for version in found.folder.versions.values() for name in version}
    return "checkpoint" in found.config.parameters or bool(files & {"model.yaml", "model.json"})


def _judge(found: Found, findings: Sequence[Finding]) -> tuple[Verdict, str]:
    kind, backend = found.kind, found.backend
    if found.broken:
        return Verdict.BROKEN, "its findings say why"
    if PLACEHOLDER.search(backend):
        return Verdict.CHANGE, f"which backend it uses is filled in at deployment time ({backend})"
    if kind is None:
        if found.code is not None:
            return Verdict.SERVES, f"its backend is written in Python ({found.code}), which --backend-directory names"
        if not backend:
            said = "no backend is named, and there is no model file here that would tell"
            likely = likely_kind(found.name)
            return Verdict.UNKNOWN, f"{said}; by its name it may be {likely}'s" if likely else said
        return (
            Verdict.UNSUPPORTED,
            f"backend '{backend}' is not known here, and custom backends in C++ cannot be loaded",
        )
    if kind.name == "tensorrtllm" and names_checkpoint(found):
        kind = replace(kind, verdict=Verdict.SERVES, because="the checkpoint it names is served", advice="")
    if kind.verdict is Verdict.SERVES and any(f.severity is not Severity.INFO for f in findings):
        return Verdict.CHANGE, f"{kind.because}, once the findings are settled"
    return kind.verdict, kind.because
