"""What a registry serves and how; the command line fills it from its options."""

from dataclasses import dataclass
from enum import StrEnum

from tritium.repository.places import Repository


class ControlMode(StrEnum):
    """Who decides what is loaded: the repository at start, the client, or the repository as it changes."""

    NONE = "none"
    EXPLICIT = "explicit"
    POLL = "poll"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """The settings of a Registry; durations are in seconds.

    `load_models` are loaded at start in explicit mode, "*" meaning all. With `namespacing` each repository has names
    of its own. `config_name` chooses configs/NAME.pbtxt over config.pbtxt. A version that fails to load is tried
    `load_retries` times more; an unload is answered when the model has drained, or after `unload_wait_s`. `gpus` are
    the devices of this machine; where there is none, `cpu_for_gpu` runs KIND_GPU groups on the CPU. Mode poll looks
    every `poll_s`, 0 never.
    """

    repositories: tuple[Repository, ...]
    control: ControlMode = ControlMode.NONE
    load_models: tuple[str, ...] = ()
    auto_complete: bool = True
    namespacing: bool = False
    config_name: str = ""
    strict_readiness: bool = True
    load_threads: int = 4
    load_retries: int = 0
    poll_s: float = 15.0
    unload_wait_s: float = 1.0
    gpus: tuple[int, ...] = ()
    cpu_for_gpu: bool = False
