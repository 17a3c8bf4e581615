"""Repository agents: what verifies a model's files before anything else is made of them.

config.pbtxt -> each of model_repository_agents, in order -> the rest of the configuration is read
                                                        +-> a problem: the model is not loaded

Source: CreateAgentModelListWithLoadAction in Triton's core, and its checksum_repository_agent.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from tritium.compat.config import messages
from tritium.compat.config.finding import Finding

Agent = Callable[[Mapping[str, str], Path], tuple[str, str] | None]
"""Looks at a model's folder by its parameters; returns the parameter that does not hold and why, or nothing."""


def check_agents(config: Any, folder: Path) -> Iterator[Finding]:
    """Run the agents of a configuration; the first that objects is the last."""
    for index, asked in enumerate(config.model_repository_agents.agents):
        where = ("model_repository_agents", "agents", index)
        agent = _AGENTS.get(asked.name)
        if agent is None:
            hint = f"agents that are there: {', '.join(_AGENTS)}; without it the model would be served unverified"
            yield Finding((*where, "name"), messages.unknown_agent(asked.name), hint)
            return
        if objection := agent(asked.parameters, folder):
            parameter, message = objection
            yield Finding((*where, "parameters", parameter), message)
            return


def check_sums(parameters: Mapping[str, str], folder: Path) -> tuple[str, str] | None:
    """Compare files with the hashes of the parameters: the key is `MD5:<file>`, the value the hash in hexadecimal."""
    for key in sorted(parameters):
        algorithm, colon, name = key.partition(":")
        if not colon:
            return key, f"failed to parse key: {key}"
        if algorithm.lower() != "md5":
            return key, f"Unsupported checksum algorithm: {algorithm}"
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
            # Whoever may load models must not learn the sums of other files of this machine.
            return key, f"failed to open text file for read {name}: it leads out of the model's folder"
        try:
            if (folder / name).exists() and not (folder / name).is_file():
                return key, f"failed to open text file for read {name}: it is no file"
            with (folder / name).open("rb") as file:
                got = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        except OSError as error:
            return key, f"failed to open text file for read {name}: {error.strerror}"
        if got != parameters[key]:
            return key, f"Mismatched MD5 hash for file {name}, expect: {parameters[key]}, got: {got}"
    return None


_AGENTS: Mapping[str, Agent] = {"checksum": check_sums}
