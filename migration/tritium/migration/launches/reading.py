"""A file while it is read: its format, its code without comments, its trees; each made once, where it is asked for."""

import re
from functools import cached_property

from tritium.migration.launches.code import code_of_file
from tritium.migration.launches.container import Container, containers
from tritium.migration.launches.format import Format, format_of
from tritium.migration.text.source import Source
from tritium.migration.text.tree import Node, documents, embedded

_TREES = {Format.COMPOSE, Format.KUBERNETES, Format.HELM, Format.ANSIBLE, Format.YAML, Format.JSON}
_WORTH = re.compile(
    r"triton|tensorrtserver|\bnv_\w|/v2/|serving\.k\w+\.|seldon|/api/infer|perf_(?:analyzer|client)|genai-perf",
    re.IGNORECASE,
)


class Reading:
    """One file, read as far as somebody asks."""

    def __init__(self, source: Source) -> None:
        self.source = source

    @cached_property
    def is_worth_it(self) -> bool:
        """Tell whether the file says any word of Triton's."""
        return bool(_WORTH.search(self.source.text))

    @cached_property
    def form(self) -> Format | None:
        """Return what it is written in; None for what starts no server."""
        return format_of(self.source.path, self.source.text)

    @cached_property
    def code(self) -> str:
        """Return its text with blanks for what no program reads."""
        return self.source.text if self.form is None else code_of_file(self.form, self.source)

    @cached_property
    def trees(self) -> tuple[Node, ...]:
        """Return the trees of its documents, where it has any."""
        return tuple(documents(self.source)) if self.form in _TREES else ()

    @cached_property
    def embedded(self) -> tuple[Node, ...]:
        """Return the trees that stand as text within its documents, such as a chart's values in a manifest."""
        return tuple(inner for tree in self.trees for inner in embedded(tree, self.source))

    @cached_property
    def containers(self) -> tuple[Container, ...]:
        """Return the containers that its documents describe."""
        return tuple(container for tree in self.trees for container in containers(tree))
