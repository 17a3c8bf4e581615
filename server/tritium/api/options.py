"""The options of a server in a program, by the names of Triton's Python API.

They become tritonserver's flags, so each means here what it means there: what is refused there is refused here.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tritium.api.errors import InvalidArgumentError
from tritium.cli.options import ServeOptions, SettingsError
from tritium.cli.tritonserver import read
from tritium.compat.flags import FlagError


class ModelControlMode(Enum):
    """When models are loaded."""

    NONE = "none"
    POLL = "poll"
    EXPLICIT = "explicit"


class RateLimitMode(Enum):
    """Whether instances wait for resources."""

    OFF = "off"
    EXEC_COUNT = "execution_count"


class LogFormat(Enum):
    """How log lines look."""

    DEFAULT = "default"
    ISO8601 = "ISO8601"


@dataclass
class RateLimiterResource:
    """How many of a resource a device has."""

    name: str
    count: int
    device: int


@dataclass
class Options:
    """What a server is told at its start. Times are in seconds, `metrics_interval` in milliseconds.

    `log_callback` gets each line of the log, on the thread that writes it, instead of the terminal's streams.
    `http_port`, `grpc_port` and `metrics_port` open ports beside the program's own use (0: a free one; None: none).
    """

    model_repository: str | list[str] = field(default_factory=list)
    server_id: str = "triton"
    model_control_mode: ModelControlMode = ModelControlMode.NONE
    startup_models: list[str] = field(default_factory=list)
    strict_model_config: bool = False
    rate_limiter_mode: RateLimitMode = RateLimitMode.OFF
    rate_limiter_resources: list[RateLimiterResource] = field(default_factory=list)
    cache_config: dict[str, dict[str, Any]] = field(default_factory=dict)
    exit_on_error: bool = True
    strict_readiness: bool = True
    exit_timeout: int = 30
    model_load_thread_count: int = 4
    model_load_retry_count: int = 0
    model_namespacing: bool = False
    log_file: str | None = None
    log_info: bool = False
    log_warn: bool = False
    log_error: bool = False
    log_format: LogFormat = LogFormat.DEFAULT
    log_verbose: int = 0
    log_callback: Callable[[str], None] | None = None
    metrics: bool = True
    cpu_metrics: bool = True
    metrics_interval: int = 2000
    backend_directory: str = ""
    backend_configuration: dict[str, dict[str, str]] = field(default_factory=dict)
    metrics_configuration: dict[str, dict[str, str]] = field(default_factory=dict)
    pinned_memory_pool_size: int = 1 << 28
    host: str = "127.0.0.1"
    http_port: int | None = None
    grpc_port: int | None = None
    metrics_port: int | None = None

    def settings(self) -> ServeOptions:
        """Return the server's own options.

        Raises:
            InvalidArgumentError: no repository, or values that cannot be honoured.
            TypeError: a value of another type than its field's.
        """
        if not isinstance(self.server_id, str):
            raise TypeError(f"server_id must be a str, not {type(self.server_id).__name__}")
        try:
            options, _ = read(list(self._flags()))
        except (FlagError, SettingsError) as error:
            raise InvalidArgumentError(str(error)) from None
        ports = {"http": self.http_port, "grpc": self.grpc_port, "metrics": self.metrics_port}
        opened: dict[str, Any] = {name: port is not None for name, port in ports.items()}
        numbers: dict[str, Any] = {f"{name}_port": port for name, port in ports.items() if port is not None}
        return dataclasses.replace(options, host=self.host, openai=False, **opened, **numbers)

    def _flags(self) -> Iterator[str]:
        for path in self._repositories():
            yield f"--model-repository={path}"
        for model in self.startup_models:
            yield f"--load-model={model}"
        for resource in self.rate_limiter_resources:
            yield f"--rate-limit-resource={resource.name}:{resource.count}:{resource.device}"
        yield from _nested("cache-config", self.cache_config)
        yield from _nested("backend-config", self.backend_configuration)
        yield from _nested("metrics-config", self.metrics_configuration)
        if self.log_file is not None:
            yield f"--log-file={self.log_file}"
        if self.backend_directory:
            yield f"--backend-directory={self.backend_directory}"
        values: dict[str, str | int] = {
            "id": self.server_id,
            "model-control-mode": self.model_control_mode.value,
            "rate-limit": self.rate_limiter_mode.value,
            "exit-timeout-secs": self.exit_timeout,
            "model-load-thread-count": self.model_load_thread_count,
            "model-load-retry-count": self.model_load_retry_count,
            "log-format": self.log_format.value,
            "log-verbose": self.log_verbose,
            "metrics-interval-ms": self.metrics_interval,
            "pinned-memory-pool-byte-size": self.pinned_memory_pool_size,
        }
        switches = {
            "strict-model-config": self.strict_model_config,
            "exit-on-error": self.exit_on_error,
            "strict-readiness": self.strict_readiness,
            "model-namespacing": self.model_namespacing,
            "log-info": self.log_info,
            "log-warning": self.log_warn,
            "log-error": self.log_error,
            "allow-cpu-metrics": self.cpu_metrics,
        }
        for name, value in values.items():
            yield f"--{name}={value}"
        for name, on in switches.items():
            yield f"--{name}={str(on).lower()}"

    def _repositories(self) -> list[str]:
        given = self.model_repository
        if given is None or given == []:
            raise InvalidArgumentError("model_repository must be specified")
        paths = given if isinstance(given, list) else [given]
        for path in paths:
            if not isinstance(path, str):
                raise TypeError(f"model_repository must be a str or a list of str, not {type(path).__name__}")
        return paths


def _nested(flag: str, settings: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for owner, pairs in settings.items():
        for key, value in pairs.items():
            yield f"--{flag}={owner},{key}={value}" if owner else f"--{flag}={key}={value}"
