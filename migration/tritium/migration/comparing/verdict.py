"""What a verification found: per model the calls that agreed, those that differ, and what could not be compared."""

from dataclasses import dataclass
from enum import StrEnum

from tritium.migration.comparing.call import Call
from tritium.migration.comparing.latency import Latency


class Standing(StrEnum):
    """How a model fared; UNPROVEN: nothing differs, but no request was answered that could be compared."""

    SAME = "same"
    DIFFERS = "differs"
    UNPROVEN = "unproven"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call to both servers."""

    call: Call
    differences: tuple[str, ...]
    varying: tuple[str, ...]
    """What the old server itself answered differently the second time."""
    old_error: str
    """The old server's refusal; empty where it answered."""
    compared: bool = True
    """Whether it was answered with something that does not vary by itself."""

    @property
    def failed(self) -> bool:
        """Tell whether the old server refused it."""
        return bool(self.old_error)


@dataclass(frozen=True, slots=True)
class ModelVerdict:
    """One model on both servers."""

    name: str
    differences: tuple[str, ...] = ()
    """Of its description; those of calls are with the calls."""
    remarks: tuple[str, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    latency: Latency | None = None

    @property
    def standing(self) -> Standing:
        """Return how the model fared."""
        if self.differences or any(exchange.differences for exchange in self.exchanges):
            return Standing.DIFFERS
        return Standing.SAME if self.answered else Standing.UNPROVEN

    @property
    def answered(self) -> int:
        """Count the calls that the old server answered and that could be compared."""
        return sum(exchange.compared for exchange in self.exchanges)

    @property
    def refused(self) -> int:
        """Count the calls that the old server refused."""
        return sum(exchange.failed for exchange in self.exchanges)

    @property
    def varying(self) -> int:
        """Count the calls of which something could not be compared."""
        return sum(bool(exchange.varying) for exchange in self.exchanges)


@dataclass(frozen=True, slots=True)
class Verification:
    """Two servers, model by model."""

    old: str
    new: str
    models: tuple[ModelVerdict, ...]

    def slower_than(self, factor: float) -> tuple[ModelVerdict, ...]:
        """Return the models whose median takes more than `factor` times as long."""
        return tuple(model for model in self.models if model.latency and model.latency.ratio > factor)

    @property
    def same(self) -> bool:
        """Tell whether nothing differs."""
        return all(model.standing is not Standing.DIFFERS for model in self.models)
