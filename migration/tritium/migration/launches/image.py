"""Images in launch files: those of Triton's server and client, and others' in which the server is started."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tritium.migration.text.source import Source, Span
from tritium.migration.text.words import PLACEHOLDER


class Role(StrEnum):
    """What an image is for."""

    SERVER = "server"
    CLIENT = "client"
    CUSTOM = "custom"
    """Somebody's own image, in which Triton runs."""
    SAGEMAKER = "SageMaker"
    RUNTIME = "runtime"
    """A version alone, of the image that a platform starts: KServe's runtimeVersion."""


@dataclass(frozen=True, slots=True)
class Image:
    """One mention of an image. `tag` and its span stand apart where a chart keeps them apart."""

    text: str
    span: Span
    role: Role
    tag: str = ""
    tag_span: Span | None = None

    @property
    def shown(self) -> str:
        """Return the whole name, as a reader looks for it."""
        if self.role is Role.RUNTIME:
            return f"nvcr.io/nvidia/tritonserver:{self.text}"
        return self.text + (f":{self.tag}" if self.tag else "")

    @property
    def repository(self) -> str:
        """Return the image without its tag."""
        return _divide(self.text)[0]

    @property
    def version(self) -> str:
        """Return the tag, whether it stands with the name or apart."""
        return self.tag or _divide(self.text)[1]

    @property
    def flavour(self) -> str:
        """Return what the image was built with: vllm, trtllm, min or plain."""
        found = re.search(r"vllm|trtllm|sdk|min\b", self.version)
        return found.group() if found else "plain"

    @property
    def is_open(self) -> bool:
        """Tell whether the tag is filled in at deployment time, so only the repository can be replaced."""
        return bool(PLACEHOLDER.search(self.version)) or self.version in ("yy.mm-py3", "xx.yy-py3")


_NAME = r"[\w-]*(?:tritonserver|tensorrtserver)[\w-]*"
_ACTION = r"\{\{[^{}\n]*\}\}"
# Parts are as long as registries take them, so that a text of nothing else costs no time that grows with its square.
# Apptainer and Enroot write docker://IMAGE; Enroot and Pyxis a # behind the registry; charts and playbooks an action.
IMAGE = re.compile(
    rf"(?:(?<=docker://)|(?<![\w./:@${{}}#-]))"
    rf"(?P<registry>(?:(?:{_ACTION}|(?!\{{\{{)[\w.\-${{}}()]){{1,255}}(?::\d+)?[/#]){{0,16}})(?P<name>{_NAME})"
    rf"(?::(?P<tag>(?:{_ACTION}|(?!\{{\{{)[\w.\-${{}}()<>]){{0,255}}(?:{_ACTION}|[\w}}>)])))?"
    r"(?P<digest>@sha256:[0-9a-f]+)?(?![\w/])"
)
_RELEASE = re.compile(r"\d\d\.\d\d|\$|\{|<|[xy]{2}\.|latest|2\.\d+")


def server_images(source: Source, code: str) -> Iterator[Image]:
    """Yield the images of Triton in a file; `code` is its text without what is no code, at the same offsets."""
    for match in IMAGE.finditer(code):
        registry, name, tag = match["registry"], match["name"], match["tag"] or ""
        start, end = match.span()
        text = source.text[start:end]
        if not registry and not _RELEASE.match(tag):
            continue
        if registry and not (tag or match["digest"]) and not ("nvcr.io" in registry or "nvidia" in registry):
            continue
        yield Image(text, Span(start, end), role_of(registry, name, tag))


def role_of(registry: str, name: str, tag: str) -> Role:
    """Tell what an image with Triton's name is for, by the parts of its own."""
    if "sagemaker" in name:
        return Role.SAGEMAKER
    if "-sdk" in name or tag.endswith("-sdk"):
        return Role.CLIENT
    plain = name in ("tritonserver", "tensorrtserver", "tritonserver-pyt-min", "tritonserver-py-min")
    return Role.SERVER if plain and (not registry or "nvidia" in registry or "nvcr" in registry) else Role.CUSTOM


def _divide(text: str) -> tuple[str, str]:
    """Divide an image's name into repository and tag; the colon of a registry's port divides nothing."""
    head, colon, tail = text.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (text, "")
