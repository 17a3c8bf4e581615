"""What the registry tells of models as they come and go, for the ready screen, the log and the console."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from tritium.core.model import State


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """A version changed its state; `version` is empty where the model never got as far as a version.

    `instances` reads like `2 x CPU`; `seconds` is how long the load took; `reason` says why it is not ready,
    and `hint` what to do about it. `kept` is a READY version that a load found as it should be, `replaced` one that
    has ended while another of its number serves.
    """

    model: str
    version: str
    backend: str
    state: State
    instances: str = ""
    seconds: float = 0.0
    reason: str = ""
    hint: str = ""
    kept: bool = False
    replaced: bool = False


def describe_instances(config: Any) -> str:
    """Count the instances of a configuration by kind: `2 x CPU, 1 x GPU`."""
    counted: Counter[str] = Counter()
    for group in config.instance_group:
        counted[group.Kind.Name(group.kind).removeprefix("KIND_")] += group.count * max(1, len(group.gpus))
    return ", ".join(f"{count} x {kind}" for kind, count in counted.items())


def ignore_event(_: ModelEvent) -> None:
    """Be told, and do nothing."""
