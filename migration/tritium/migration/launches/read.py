"""A file read as one that may start Triton: its images, command lines and containers."""

import re
from collections.abc import Iterator, Sequence

from tritium.migration.deployment import Launch
from tritium.migration.launches.command import Command, commands
from tritium.migration.launches.container import Container
from tritium.migration.launches.dockerfile import last_image
from tritium.migration.launches.format import Format, title
from tritium.migration.launches.image import Image, Role, role_of, server_images
from tritium.migration.launches.reading import Reading
from tritium.migration.text.source import Source, Span
from tritium.migration.text.tree import Mapping, Node, Scalar, walk

_RUNNERS = re.compile(r"\b(docker|podman|nerdctl|apptainer|singularity|enroot|shifter|srun)\b")
_TRITON = re.compile(r"(?<![a-z])triton(?!client)", re.IGNORECASE)
_NAMED_IMAGE = re.compile(r"--image[= ][\"']?(?P<image>[\w./-]*triton[\w./-]*(?::[\w.-]+)?)")
_IMAGE_LINE = re.compile(
    r"""^[ \t]*-?[ \t]*image:[ \t]*["']?(?P<image>\{\{[^}]*triton[^}]*\}\}|[\w./-]*triton[\w./:-]*)""", re.MULTILINE
)
"""An image in a document that no parser takes."""
_ALONE = {"--rm", "-it", "-ti", "-d", "-i", "-t", "--privileged", "--nv", "--cleanenv", "--init"}
"""Flags of container runners that take no value, so that an image may follow them."""
_SCRIPTS = {Format.SHELL, Format.SLURM, Format.MAKEFILE}
_YAMLS = {Format.COMPOSE, Format.KUBERNETES, Format.HELM, Format.ANSIBLE, Format.YAML}
_CALLED = re.compile(r"(?:^|[-_.])triton(?:server)?(?:$|[-_.])|tritonserver|tensorrtserver", re.IGNORECASE)
_SERVING = re.compile(r"\b800[0-2]\b|/v2/|model[-_]?(?:repo|store)|/models\b|tritonserver", re.IGNORECASE)
"""What an inference server has around it, and a compiler of the same name has not."""
_OTHERS = re.compile(r"(?:^|/)(?:openai|triton-lang|joyent|tritondatacenter|triton-io)/", re.IGNORECASE)
"""Who makes something else by that name: a compiler, a cloud."""
_NO_SERVER = re.compile(r"client|sdk|perf|analyz|exporter|locust|benchmark|gateway|openai|test|adapter", re.IGNORECASE)


def read_launch(reading: Reading) -> Launch | None:
    """Read one file; None when nothing in it starts Triton."""
    source, form = reading.source, reading.form
    if form is None or not _TRITON.search(reading.code):
        return None
    found_commands = tuple(commands(reading.code.splitlines(), form))
    images: list[Image] = []
    known: set[Span] = set()
    # What a chart's values say of a tag counts, so they come first.
    divided = (image for tree in (*reading.trees, *reading.embedded) for image in _divided(tree))
    runtimes = (image for tree in reading.trees for image in _runtimes(tree))
    named = (_tagged(image, reading.code) for image in server_images(source, reading.code))
    for image in (*divided, *runtimes, *named, *_others(reading, found_commands)):
        if not any(image.span.start < span.end and span.start < image.span.end for span in known):
            images.append(image)
            known.add(image.span)
    if not images and not found_commands:
        return None
    images.sort(key=lambda image: image.span)
    return Launch(source, form, tuple(images), found_commands, reading.containers, title(form, source.text))


def _others(reading: Reading, found: Sequence[Command]) -> Iterator[Image]:
    """Yield images that do not say Triton's name, and what makes one of them the server's."""
    source, code = reading.source, reading.code
    serving = bool(_SERVING.search(code))
    for container in reading.containers:
        if container.image is not None and _serves(container, source, found):
            yield Image(container.image.text, container.image.span, Role.CUSTOM)
    last = last_image(code) if reading.form is Format.DOCKERFILE else None
    if last is not None and (found or _is_server_name(last[0].partition(":")[0], ())):
        yield Image(last[0], last[1], Role.CUSTOM)
    pattern = _NAMED_IMAGE if reading.form in _SCRIPTS else _IMAGE_LINE
    for match in pattern.finditer(code) if reading.form in _SCRIPTS | _YAMLS else ():
        if serving and (_is_server_name(match["image"].partition(":")[0], ()) or "{{" in match["image"]):
            yield Image(match["image"], Span(*match.span("image")), Role.CUSTOM)
    for command in found:
        if (span := _run_image(source, code, command)) is not None and not _is_known(span.of(code), code):
            yield Image(span.of(source.text), span, Role.CUSTOM)


def _divided(tree: Node) -> Iterator[Image]:
    """Yield the images of a chart's values, whose repository and tag stand apart."""
    for keys, node in walk(tree):
        if not isinstance(node, Mapping):
            continue
        for key in ("repository", "image", "newName", "name", "imageName"):
            name = node.get(key)
            tag = next(filter(None, map(node.get, ("tag", "imageTag", "newTag"))), None)
            if isinstance(name, Scalar) and isinstance(tag, Scalar) and _is_server_name(name.text, keys):
                registry, _, last = name.text.rpartition("/")
                yield Image(name.text, name.span, role_of(registry, last, tag.text), tag.text, tag.span)
                break


def _tagged(image: Image, code: str) -> Image:
    """Return an image with the tag that another variable holds: `BASE=tritonserver`, `TAG=24.01-py3`, `$BASE:$TAG`."""
    if image.version or "@" in image.text:
        return image
    name = re.search(r"(\w+)\s*[:?]?=\s*[\"']?$", code[max(0, image.span.start - 80) : image.span.start])
    used = name and re.search(rf"\$[{{(]?{name[1]}[}})]?:\$[{{(]?(\w+)", code)
    # Files of variables are used by others: there, the one release beside the image is its tag.
    meant = rf"{used[1]}\s*[:?]?=\s*[\"']?([\w.-]+)" if used else r"\w*(?:TAG|VERSION)\s*=\s*[\"']?(\d\d\.\d\d-[\w.-]+)"
    tag = name and re.search(rf"\b{meant}", code)
    if not tag:
        return image
    registry, _, last = image.text.rpartition("/")
    return Image(image.text, image.span, role_of(registry, last, tag[1]), tag[1], Span(*tag.span(1)))


def _runtimes(tree: Node) -> Iterator[Image]:
    """Yield the versions of Triton's image that InferenceServices ask for."""
    for keys, node in walk(tree):
        if keys[-1:] in (("triton",), ("tensorrt",)) and isinstance(node, Mapping):
            version = node.get("runtimeVersion")
            if isinstance(version, Scalar):
                yield Image(version.text, version.span, Role.RUNTIME)


def _is_server_name(name: str, keys: tuple[str, ...]) -> bool:
    last = name.rsplit("/", 1)[-1]
    named = bool(_CALLED.search(last.partition(":")[0])) or (not name and any(_TRITON.search(key) for key in keys))
    return named and not _NO_SERVER.search(last) and not _OTHERS.search(name)


def _serves(container: Container, source: Source, found: Sequence[Command]) -> bool:
    """Tell whether a container is Triton's: the server is started in it, or its image or itself is called so."""
    span = container.node.span
    if any(span.start <= command.program.span(source).start < span.end for command in found):
        return True
    image = container.image.text if container.image else ""
    last = image.rsplit("/", 1)[-1].partition(":")[0]
    if _OTHERS.search(image):
        return False
    if _NO_SERVER.search(last) or "initContainers" in container.keys:
        return False
    if _CALLED.search(last):
        return bool(_SERVING.search(span.of(source.text)))
    anonymous = not last or "$" in last or "{{" in image
    return anonymous and bool(_TRITON.search(container.name)) and not _NO_SERVER.search(container.name)


def _is_known(image: str, code: str) -> bool:
    """Tell whether an image is a variable that the file itself gives one of Triton's, which has been found there."""
    name = re.fullmatch(r"(?:docker://)?\$\{?(\w+)\}?", image)
    return name is not None and bool(re.search(rf"\b{name[1]}\s*=\s*[\"']?[\w./:-]*tritonserver", code))


def _run_image(source: Source, code: str, command: Command) -> Span | None:
    """Return the word before the server's name where a container is run: `docker run ... IMAGE tritonserver`."""
    start = command.program.span(source).start
    begin = code.rfind("\n", 0, start) + 1
    while begin and code[: begin - 1].rstrip().endswith("\\"):
        begin = code.rfind("\n", 0, begin - 1) + 1
    before = code[begin:start]
    if not _RUNNERS.search(before):
        return None
    words = [m for m in re.finditer(r"[^\s\\\"']+", before) if m.group() not in ("bash", "sh", "-c", "-lc", "exec")]
    if not words or words[-1].group().startswith("-") or not re.search(r"[/:$]", words[-1].group()):
        return None
    if len(words) > 1 and words[-2].group() not in _ALONE and re.fullmatch(r"-{1,2}[a-zA-Z][\w-]*", words[-2].group()):
        return None
    return Span(begin + words[-1].start(), begin + words[-1].end())
