"""Model configurations found in a deployment: which they are, of what kind, and how each fares.

A configuration is read twice: with the parser that the server uses, and, where that refuses it (templates filled at
deployment time are common), by its `backend:` and `platform:` lines alone.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tritium.compat.config.parse import Parsed, parse_text
from tritium.compat.config.problem import Problem, Stage
from tritium.compat.config.unserved import check_served
from tritium.migration.finding import Finding, ModelReport, Severity, Verdict
from tritium.migration.kinds import BY_FILE, BY_NAME, Kind

# A field that only a model configuration has, at the beginning of a line.
_TELLTALE = re.compile(
    r"^\s*(backend|platform|max_batch_size|instance_group|dynamic_batching|sequence_batching|ensemble_scheduling"
    r"|input\s*:?\s*[\[{]|output\s*:?\s*[\[{]|default_model_filename)\b",
    re.MULTILINE,
)
_LINE = re.compile(r"""^\s*(backend|platform|name)\s*:\s*["']([^"']*)["']""", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\$\{?\w+\}?|<[A-Z_]+>")
_NAMES = (".pbtxt", ".pbtxt.template", ".pbtxt.in", ".pbtxt.j2")


def is_config(path: Path) -> bool:
    """Tell whether a path may be a model configuration by its name."""
    return path.name.endswith(_NAMES)


def read_model(path: Path, root: Path) -> ModelReport | None:
    """Read one configuration; None when the file is no model configuration (a label map, a graph)."""
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    if path.name != "config.pbtxt" and not _TELLTALE.search(text):
        return None
    place = path.relative_to(root)
    lines: dict[str, str] = {}
    for match in _LINE.finditer(text):
        lines.setdefault(match[1], match[2])
    in_repository = path.name == "config.pbtxt"
    name = path.parent.name if in_repository else lines.get("name", path.stem)
    versions = tuple(sorted(p.name for p in path.parent.iterdir() if p.is_dir() and p.name.isdigit()))
    parsed = parse_text(text, str(place))
    findings = list(_problems(parsed.problems, place))
    backend = lines.get("backend") or lines.get("platform") or _by_files(path.parent)
    broken = any(f.rule == "M20" for f in findings)
    if in_repository and parsed.message.name not in ("", name):
        findings.append(_misnamed(parsed.message.name, name, place, text))
        broken = True
    parsed.message.name = name
    findings += [*_unserved(parsed, place), *_pinned(parsed.message, place)]
    kind = BY_NAME.get(backend)
    verdict, because = _judge(kind, backend, broken=broken, findings=findings)
    return ModelReport(
        name=name,
        kind=kind.name if kind else backend or "unknown",
        verdict=verdict,
        path=place,
        because=because,
        advice=kind.advice if kind is not None and not broken else "",
        versions=versions,
        findings=tuple(findings),
    )


def _judge(kind: Kind | None, backend: str, *, broken: bool, findings: list[Finding]) -> tuple[Verdict, str]:
    if broken:
        return Verdict.BROKEN, "its configuration has errors that Triton refuses too"
    if _PLACEHOLDER.search(backend):
        return Verdict.CHANGE, f"which backend it uses is filled in at deployment time ({backend})"
    if kind is None:
        if not backend:
            return Verdict.UNKNOWN, "no backend is named, and there is no model file here that would tell"
        return (
            Verdict.UNSUPPORTED,
            f"backend '{backend}' is not known here, and custom backends in C++ cannot be loaded",
        )
    if kind.verdict is Verdict.SERVES and any(f.severity is not Severity.INFO for f in findings):
        return Verdict.CHANGE, f"{kind.because}, once the findings are settled"
    return kind.verdict, kind.because


def _problems(problems: Sequence[Problem], path: Path) -> Iterator[Finding]:
    for problem in problems:
        line, column = problem.line, problem.column
        placeholder = _PLACEHOLDER.search(problem.source_line)
        if placeholder:
            yield Finding(
                "M04",
                Severity.CHANGE,
                path,
                line,
                column,
                f"{placeholder.group()} is filled in at deployment time",
                "audit the filled-in repository to be certain",
            )
        else:
            yield Finding("M20", Severity.BLOCKER, path, line, column, problem.message, problem.hint)


def _misnamed(name: str, folder: str, path: Path, text: str) -> Finding:
    number = next((i for i, line in enumerate(text.splitlines(), 1) if re.match(r"\s*name\s*:", line)), 0)
    return Finding(
        "M21",
        Severity.BLOCKER,
        path,
        number,
        1,
        f"the model is named '{name}' in a folder named '{folder}'; Triton refuses that",
        f"name the folder {name}, or take the name line out",
    )


def _unserved(parsed: Parsed, path: Path) -> Iterator[Finding]:
    """Yield the fields that Tritium reads and does not serve, as the server itself says when it loads the model."""
    for unserved in check_served(parsed.message):
        severity = Severity.INFO if unserved.stage is Stage.WARNING else Severity.BLOCKER
        place = parsed.places.problem(unserved)
        yield Finding("M23", severity, path, place.line, place.column, unserved.message, unserved.hint)


def _pinned(config: Any, path: Path) -> Iterator[Finding]:
    if any(group.gpus for group in config.instance_group):
        yield Finding(
            "M24",
            Severity.INFO,
            path,
            0,
            0,
            "instances are pinned to GPUs; language workers choose theirs by CUDA_VISIBLE_DEVICES",
        )


def _by_files(folder: Path) -> str:
    for version in sorted(p for p in folder.iterdir() if p.is_dir() and p.name.isdigit()):
        for file, backend in BY_FILE.items():
            if (version / file).exists():
                return backend
    return ""
