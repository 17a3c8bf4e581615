"""What the backends for trying a server have in common: a model is its configuration, and runs on the CPU."""

from pathlib import Path

from tritium.backends.contract import InstancePlace
from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InvalidArgument


class TrialBackend:
    """A backend whose models have no files; see `contract.TensorBackend`."""

    async def complete(self, config: ModelConfig, folder: Path, version: str) -> ModelConfig:  # noqa: ARG002  contract
        """Return the configuration as it is: there is nothing to read more of it from."""
        return config


def check_place(place: InstancePlace, backend: str) -> None:
    """Refuse an instance that is not on the CPU.

    Raises:
        InvalidArgument: in Triton's words.
    """
    if place.kind == "GPU":
        raise InvalidArgument(f"'{backend}' backend only supports CPU instances")


def whole_number(config: ModelConfig, name: str) -> int:
    """Return a parameter that is a whole number, 0 where it is not given.

    Raises:
        InvalidArgument: it is none.
    """
    text = config.parameter(name, "0")
    try:
        return int(text)
    except ValueError:
        raise InvalidArgument(
            f"model '{config.name}': parameter '{name}' must be a whole number, got '{text}'"
        ) from None
