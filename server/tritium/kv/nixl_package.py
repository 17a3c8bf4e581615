"""NIXL's Python package: which build is installed, what it raises, and its progress thread at rest.

For all that move KV by it: the tiers, workers' transfers, and vLLM's own connectors. Nothing is imported until it is
asked for, because UCX takes half a second.
"""

import os
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tritium.core.errors import InvalidArgument

BUILDS = ("nixl_cu12", "nixl_cu13")
"""By the CUDA they were made for."""
# The front package loads torch to choose between builds, so it is taken only where it is the bindings itself.
_PACKAGES = (*BUILDS, "nixl")
# NIXL's own 0 makes the progress thread of an idle agent spin a whole core; with this it takes 2 %.
_PROGRESS_PAUSE_US = 100


@dataclass(frozen=True, slots=True)
class NixlPackage:
    """NIXL's Python API, and all that its calls raise, which has no common base but Exception."""

    api: Any
    faults: tuple[type[Exception], ...]


def find_nixl() -> str:
    """Return the name of the package that holds NIXL's bindings; empty where none is installed."""
    return next((name for name in _PACKAGES if find_spec(name)), "")


def import_nixl() -> NixlPackage:
    """Import NIXL, calm; raises InvalidArgument where it is not installed."""
    name = find_nixl()
    if not name:
        raise InvalidArgument("NIXL is not installed", "pip install --no-deps nixl nixl-cu12")
    os.environ.setdefault("NIXL_LOG_LEVEL", "WARN")  # at INFO it says on standard output that it began
    api: Any = import_module(f"{name}._api")
    bindings: Any = import_module(f"{name}._bindings")
    calm(bindings)
    own = (error for error in vars(bindings).values() if isinstance(error, type) and error.__name__.endswith("Error"))
    return NixlPackage(api, (ValueError, RuntimeError, *own))


def calm(bindings: Any) -> None:
    """Let progress threads rest between looks: wrap the agent's class, for the Python API has no setting for it."""
    agent: Any = bindings.nixlAgent
    if getattr(agent, "calmed", False):
        return

    class CalmAgent(agent):  # type: ignore[misc]  # a class of a C extension, known only at run time
        calmed = True

        def __init__(self, name: str, config: Any) -> None:
            config.pthrDelay = _PROGRESS_PAUSE_US
            agent.__init__(self, name, config)

    bindings.nixlAgent = CalmAgent
