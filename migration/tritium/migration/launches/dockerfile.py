"""Dockerfiles: their instructions, each with its words, and the image that the last stage is made from."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tritium.migration.text.source import Span

_INSTRUCTION = re.compile(r"^[ \t]*(?P<name>[A-Za-z]+)[ \t]+(?P<rest>(?:[^\n\\]|\\[ \t\r]*\n|\\.)*)", re.MULTILINE)
_NAMES = {
    *("FROM", "ARG", "ENV", "COPY", "ADD", "RUN", "CMD", "ENTRYPOINT", "LABEL", "EXPOSE", "WORKDIR", "USER", "VOLUME"),
    *("SHELL", "HEALTHCHECK", "ONBUILD", "STOPSIGNAL", "MAINTAINER"),
}
_FROM = re.compile(r"(?:--platform=\S+\s+)?(?P<image>\S+)(?:\s+as\s+(?P<stage>\S+))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its name in capitals, and what follows it."""

    name: str
    rest: str
    span: Span
    """Of what follows the name."""


def instructions(code: str) -> Iterator[Instruction]:
    """Yield the instructions of a Dockerfile; `code` is its text without comments."""
    for match in _INSTRUCTION.finditer(code):
        if (name := match["name"].upper()) in _NAMES:
            yield Instruction(name, match["rest"], Span(*match.span("rest")))


def last_image(code: str) -> tuple[str, Span] | None:
    """Return the image that the last stage is made from, followed through stages and ARGs, and where it stands."""
    arguments: dict[str, tuple[str, Span]] = {}
    stages: dict[str, tuple[str, Span]] = {}
    last = None
    for one in instructions(code):
        if one.name == "ARG":
            name, _, value = one.rest.strip().partition("=")
            if value:
                start = one.span.start + one.rest.index("=") + 1
                arguments[name] = (value.strip("\"'"), Span(start, start + len(value)))
        elif one.name == "FROM" and (match := _FROM.match(one.rest)):
            image = (match["image"], Span(one.span.start + match.start("image"), one.span.start + match.end("image")))
            variable = re.fullmatch(r"\$\{?(\w+)(?::-[^}]*)?\}?", image[0])
            image = arguments.get(variable[1], image) if variable else stages.get(image[0].lower(), image)
            if match["stage"]:
                stages[match["stage"].lower()] = image
            last = image
    return last
