"""A model's versions and files against what the server looks for when it loads the model."""

from pathlib import Path

from tritium.compat.config import messages
from tritium.compat.config.defaults import ENSEMBLE
from tritium.compat.config.finding import Finding as Broken
from tritium.migration.finding import Severity, Verdict
from tritium.migration.folder import CONFIG
from tritium.migration.found import Found
from tritium.migration.kinds import BY_FILE, FILES

_MODELS = frozenset(
    {Path(name).suffix for name in (*FILES.values(), *BY_FILE)} - {".json"} | {".pth", ".engine", ".safetensors"}
)
"""Suffixes of files that are models: where one lies under another name, the server does not find it."""


def check_files(found: Found) -> None:
    """Look for versions, and for the file that the model is, in every version that would be loaded."""
    folder, kind = found.folder, found.kind
    if found.backend == ENSEMBLE:
        return
    served = kind is not None and kind.verdict is Verdict.SERVES
    file = found.config.default_model_filename or FILES.get(kind.name if kind else "", "")
    if not folder.versions and folder.misnumbered:
        odd = folder.misnumbered[0]
        number = odd.lstrip("vV0") or "0"
        advice = f"mv {found.place.parent / odd} {found.place.parent / number}"
        found.refuse("M36", f"no version folder: '{odd}' is no version, a version is a plain number", advice)
    elif not folder.versions and folder.lying:
        advice = f"mkdir {folder.path.name}/1 && mv {folder.path.name}/{folder.lying} {folder.path.name}/1/"
        found.refuse("M36", f"no version folder: {folder.lying} lies beside {CONFIG}", advice)
    elif folder.is_empty:
        if served and (file or not folder.versions):
            expected = f"expected: VERSION/{file}" if file else "expected: a version folder"
            message = f"the model's files are not here ({expected})"
            found.add("M22", Severity.INFO, message, "audit the repository that is deployed to have them checked too")
    else:
        _check_versions(found, file if served else "")
        _check_labels(found)


def _check_versions(found: Found, file: str) -> None:
    folder = found.folder
    chosen = folder.chosen(found.config.version_policy)
    if not chosen:
        at = found.parsed.places.problem(Broken(("version_policy",), ""))
        advice = f"the folders are {', '.join(folder.versions)}"
        found.refuse("M36", messages.no_version(found.name), advice, at)
    for version in chosen:
        if not file or file in folder.versions[version]:
            continue
        where = f"{folder.path.name}/{version}/{file}"
        if (folder.path / version / file).exists():
            found.add("M22", Severity.INFO, f"version {version} has a pointer for {file}, which is kept elsewhere")
        elif not file.endswith(".json") and not any(Path(name).suffix in _MODELS for name in folder.versions[version]):
            # Labels or a tokenizer are often in version control where the model's own file is not.
            found.add("M22", Severity.INFO, f"version {version} has no {file} here, only what goes with it")
        else:
            found.refuse("M36", f"version {version} of model '{found.name}' has no {file}", f"put it at {where}")


def _check_labels(found: Found) -> None:
    for index, output in enumerate(found.config.output):
        if output.label_filename and not (found.folder.path / output.label_filename).is_file():
            at = found.parsed.places.problem(Broken(("output", index, "label_filename"), ""))
            found.refuse("M36", f"the label file {output.label_filename} is not in the model's folder", "", at)
