"""Other names of a language model, each a model of its own to clients: metadata, configuration, statistics, index.

    config.pbtxt   parameters { key: "aliases" value { string_value: "ensemble, tensorrt_llm, chat=vllm" } }
    model.json     "aliases": {"ensemble": "trtllm", "chat": "vllm"}     or a list of names

A name without a surface has that of the model that was called so; see `surfaces.surface_for`.
"""

import re
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tritium.compat.config.model import ModelConfig, from_proto
from tritium.compat.config.problem import Problem, Stage, problem_of
from tritium.compat.protobufs import model_config_pb2
from tritium.core.errors import InvalidArgument
from tritium.llm.facade.door import Door
from tritium.llm.facade.surface import Surface
from tritium.llm.facade.surfaces import surface_for, surface_named, surface_of
from tritium.llm.model import LanguageModel

PARAMETER: Final = "aliases"
EXCLUDED: Final = "exclude_input_in_output"
"""The parameter of the owner that holds for its aliases too, as TensorRT-LLM's engine says it for its ensemble."""
SURFACE: Final = "surface"
"""The parameter that says which surface a model has under its own name."""

_NAME = re.compile(r"[\w][\w.\-]*")


class Alias(Door):
    """A language model by a name that is not its own."""

    def __init__(self, owner: LanguageModel, config: ModelConfig, surface: str) -> None:
        super().__init__(config, owner.version, surface_named(surface))
        self._owner = owner

    @property
    def target(self) -> LanguageModel:
        """Return the language model behind the name."""
        return self._owner

    @property
    def ready(self) -> bool:
        """Tell whether a request submitted now can run."""
        return self._owner.ready

    def admit(self) -> None:
        """Check that the model takes requests."""
        self._owner.admit()

    def begin(self, work: Coroutine[None, None, None]) -> None:
        """Let a request run; the model is not closed before it has."""
        self._owner.begin(work)

    async def close(self) -> None:
        """Do nothing: it is closed with the model that it is another name of."""


def alias_of(owner: LanguageModel, name: str, surface: str) -> Alias:
    """Make an alias with the tensors of its surface.

    Raises:
        InvalidArgument: there is no such surface.
    """
    proto = model_config_pb2.ModelConfig(name=name, backend=owner.config.proto.backend)
    proto.version_policy.CopyFrom(owner.config.proto.version_policy)
    if said := owner.config.parameter(EXCLUDED):
        proto.parameters[EXCLUDED].string_value = said
    config = surface_named(surface).complete(from_proto(proto))
    return Alias(owner, config, surface)


def own_surface(config: ModelConfig) -> Surface:
    """Return the surface that a model has under its own name: what its configuration says, or what its inputs tell.

    Raises:
        InvalidArgument: there is no such surface.
    """
    return surface_named(config.parameter(SURFACE) or surface_of(config.inputs))


def read_aliases(config: ModelConfig, given: Any = None) -> dict[str, str]:
    """Return the aliases of a model, surface by name; `given` is what model.json says, which adds to config.pbtxt.

    Raises:
        InvalidArgument: they cannot be read, or one is the model's own name, or there is no such surface.
    """
    aliases: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in config.parameter(PARAMETER).split(","))):
        name, _, surface = (piece.strip() for piece in part.partition("="))
        aliases[name] = surface
    if isinstance(given, list) and all(isinstance(name, str) for name in given):
        aliases |= dict.fromkeys(given, "")
    elif isinstance(given, Mapping) and all(isinstance(surface, str) for surface in given.values()):
        aliases |= given
    elif given is not None:
        raise InvalidArgument(
            '"aliases" in model.json is neither a list of names nor an object of surfaces by name',
            hint='for example "aliases": {"ensemble": "trtllm"}',
        )
    for name, surface in aliases.items():
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"the alias '{name}' is no name of a model", hint="letters, digits, '_', '.' and '-'")
        if name == config.name:
            raise InvalidArgument(f"the alias '{name}' is the model's own name")
        aliases[name] = surface or surface_for(name)
        surface_named(aliases[name])
    return aliases


def check_aliases(config: ModelConfig, given: Any, folder: Path) -> Iterator[Problem]:
    """Find what is wrong with the aliases of a model by its files: among others, that a folder has the same name."""
    try:
        own_surface(config)
        aliases = read_aliases(config, given)
    except InvalidArgument as error:
        yield problem_of(str(folder), error.message, error.hint, Stage.LOAD)
        return
    for name in aliases:
        if (folder.parent / name / "config.pbtxt").exists():
            hint = "give one of them another name"
            yield problem_of(str(folder), f"its alias '{name}' is the name of a model beside it", hint, Stage.LOAD)
