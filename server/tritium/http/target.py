"""What a URL names."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a path; each empty where the path does not have it."""

    name: str = ""
    version: str = ""
    repository: str = ""
    region: str = ""
