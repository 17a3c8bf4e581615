"""The formats of files that may start Triton, told by a file's name and, where that does not say, its first lines."""

import re
from enum import StrEnum
from pathlib import PurePath

from tritium.migration.text.mask import is_templated


class Format(StrEnum):
    """What a file is written in; YAML is told apart further by what it describes."""

    DOCKERFILE = "Dockerfile"
    COMPOSE = "compose"
    SHELL = "shell"
    SLURM = "Slurm"
    MAKEFILE = "Makefile"
    KUBERNETES = "Kubernetes"
    HELM = "Helm"
    ANSIBLE = "Ansible"
    YAML = "manifest"
    JSON = "JSON"
    HCL = "Terraform"
    PYTHON = "Python"
    JAVASCRIPT = "JavaScript"
    NOTEBOOK = "notebook"
    TEXT = "text"
    DOCUMENT = "document"


_SHELLS = {".sh", ".bash", ".zsh", ".ksh", ".fish"}
_TEXTS = {"procfile", "jenkinsfile", "tiltfile"}
_BY_SUFFIX = {
    ".sbatch": Format.SLURM,
    ".slurm": Format.SLURM,
    ".tf": Format.HCL,
    ".hcl": Format.HCL,
    ".nomad": Format.HCL,
    ".tfvars": Format.HCL,
    ".py": Format.PYTHON,
    ".ts": Format.JAVASCRIPT,
    ".js": Format.JAVASCRIPT,
    ".jsonnet": Format.JAVASCRIPT,
    ".libsonnet": Format.JAVASCRIPT,
    ".tsx": Format.JAVASCRIPT,
    ".mjs": Format.JAVASCRIPT,
    ".cjs": Format.JAVASCRIPT,
    ".ipynb": Format.NOTEBOOK,
    ".md": Format.DOCUMENT,
    ".mdx": Format.DOCUMENT,
    ".rst": Format.DOCUMENT,
    ".json": Format.JSON,
    ".mk": Format.MAKEFILE,
    ".service": Format.TEXT,
    ".container": Format.TEXT,
    ".def": Format.TEXT,
    ".conf": Format.TEXT,
    ".ini": Format.TEXT,
    ".env": Format.TEXT,
    ".toml": Format.TEXT,
    ".bat": Format.TEXT,
    ".cmd": Format.TEXT,
    ".ps1": Format.TEXT,
    ".tpl": Format.HELM,
    ".gotmpl": Format.HELM,
}
_YAMLS = {".yaml", ".yml"}
_DOCKERFILE = re.compile(r"(dockerfile|containerfile)", re.IGNORECASE)
_ENVIRONMENT = re.compile(r"\.env(\..*)?$")
_TEMPLATE = (".template", ".tmpl", ".j2", ".jinja", ".jinja2", ".in", ".example", ".sample", ".bak", ".dist")
_KIND = re.compile(r"^kind:\s*['\"]?([\w{][\w.]*)", re.MULTILINE)
_PLAYBOOK = re.compile(
    r"^[ \t]*-?\s*(hosts|tasks|ansible\.[\w.]+|community\.docker\.[\w.]+|docker_container):", re.MULTILINE
)
_COMPOSE = re.compile(r"^services:\s*$", re.MULTILINE)
_NOT_READ = {"package-lock.json", ".terraform.lock.hcl", "poetry.lock", "uv.lock"}


def format_of(path: PurePath, text: str) -> Format | None:
    """Tell what a file is written in; None for what starts no server."""
    name = path.name.lower()
    if name in _NOT_READ or name.endswith((".tfstate", ".tfstate.backup")):
        return None
    while name.endswith(_TEMPLATE):
        name = name.rsplit(".", 1)[0]
    suffix = PurePath(name).suffix
    if _DOCKERFILE.match(name) or suffix in (".dockerfile", ".containerfile"):
        return Format.DOCKERFILE
    if name in ("makefile", "gnumakefile", "justfile"):
        return Format.MAKEFILE
    if _ENVIRONMENT.match(name) or name in _TEXTS:
        return Format.TEXT
    if suffix in _YAMLS:
        return _yaml_format(path, name, text)
    if suffix in _SHELLS or (not suffix and _is_script(text)):
        return Format.SLURM if "#SBATCH" in text else Format.SHELL
    return _BY_SUFFIX.get(suffix)


def _is_script(text: str) -> bool:
    first = text[:120].split("\n", 1)[0]
    return first.startswith("#!") and "sh" in first


def _yaml_format(path: PurePath, name: str, text: str) -> Format:
    if name.startswith(("docker-compose", "compose")) or (_COMPOSE.search(text) and "image:" in text):
        return Format.COMPOSE
    if is_templated(text) and "{{" in text and "ansible" not in path.parts and not _PLAYBOOK.search(text):
        return Format.HELM
    if _KIND.search(text):
        return Format.KUBERNETES
    if _PLAYBOOK.search(text):
        return Format.ANSIBLE
    if name.startswith("values") or "values" in path.parts:
        return Format.HELM
    return Format.YAML


def title(form: Format, text: str) -> str:
    """Return what a file is called for people."""
    if form in (Format.KUBERNETES, Format.HELM) and (match := _KIND.search(text)):
        return f"Kubernetes {match[1]}"
    if form is Format.HELM:
        return "Helm template" if is_templated(text) else "Helm values"
    return form.value
