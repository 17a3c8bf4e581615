"""The instances that the groups of a configuration ask for: where each goes, and what it needs to run."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tritium.backends.contract import InstancePlace
from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InvalidArgument
from tritium.core.scheduler.limiter import GLOBAL, Claim

MOST_INSTANCES = 4096
"""Of one version."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One instance to open; a `passive` one is loaded and given no requests.

    Instances of equal `kind` do for each other: their groups differ in name and count at most.
    """

    place: InstancePlace
    passive: bool = False
    claim: Claim = field(default_factory=Claim)
    kind: tuple[bytes, int] = (b"", 0)


def seats_of(config: ModelConfig) -> list[Seat]:
    """Return the instances that a configuration asks for, by Triton's names: GROUP_0, GROUP_1, ...

    Raises:
        InvalidArgument: there are more than any machine runs.
    """
    groups = config.proto.instance_group
    asked = sum(group.count * max(1, len(group.gpus)) for group in groups)
    if asked > MOST_INSTANCES:
        raise InvalidArgument(
            f"instance_group of model '{config.name}' asks for {asked} instances; up to {MOST_INSTANCES} can be",
            hint="each instance is a process, a thread or a copy of the model",
        )
    return [seat for group in groups for seat in _seats_of_group(group)]


def _seats_of_group(group: Any) -> Iterator[Seat]:
    kind = group.Kind.Name(group.kind).removeprefix("KIND_")
    alike = type(group)()
    alike.CopyFrom(group)
    alike.name, alike.count = "", 1
    signature = alike.SerializeToString(deterministic=True)
    index = 0
    for device in group.gpus or (0,):
        resources = {
            (GLOBAL if getattr(resource, "global") else device, resource.name): resource.count
            for resource in group.rate_limiter.resources
        }
        claim = Claim(resources, group.rate_limiter.priority)
        for _ in range(group.count):
            place = InstancePlace(f"{group.name}_{index}", kind, device)
            yield Seat(place, group.passive, claim, (signature, device))
            index += 1
