"""A server in this program: started, asked for its models, stopped.

NOT STARTED --start--> RUNNING --stop--> NOT STARTED
"""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from tritium.api.errors import InvalidArgumentError, UnavailableError
from tritium.api.model import Model
from tritium.api.options import Options
from tritium.api.running import Running
from tritium.core.catalog import LoadParameters
from tritium.core.description import describe_server
from tritium.core.model import State

_POLL_S = 0.1


class ModelDictionary(dict[Any, Model]):
    """The models of the index by name and version; by name alone it gives the newest version."""

    def __init__(self, server: "Server", models: list[Model]) -> None:
        super().__init__({(model.name, model.version): model for model in models})
        self._server = server

    def __missing__(self, key: Any) -> Model:
        if isinstance(key, str) and any(name == key for name, _ in self):
            return Model(self._server, key)
        raise KeyError(f"Unknown Model: {key}")


class Server:
    """Models served to this program. Give Options, or their fields as keywords; as a context manager it stops itself.

    Every method but `start` raises InvalidArgumentError while the server does not run.
    """

    def __init__(self, options: Options | None = None, **fields: Any) -> None:
        self.options = options if options is not None else Options(**fields)
        self._running: Running | None = None

    @property
    def running(self) -> Running:
        """Return the server behind the names.

        Raises:
            InvalidArgumentError: it does not run.
        """
        if self._running is None:
            raise InvalidArgumentError("Server not started")
        return self._running

    def start(
        self,
        wait_until_ready: bool = False,  # noqa: FBT001, FBT002  # Triton's
        polling_interval: float = _POLL_S,
        timeout: float | None = None,
    ) -> Self:
        """Load the models, open the ports that were asked for, and return.

        Raises:
            InvalidArgumentError: started already, or options that cannot be honoured.
            InternalError: the repository, or a model where `exit_on_error` says so, cannot be loaded.
            UnavailableError: not ready within `timeout` seconds.
        """
        if self._running is not None:
            raise InvalidArgumentError("Server already started")
        self._running = Running(self.options.settings(), self.options.log_callback)
        until_s = time.monotonic() + (timeout if timeout is not None else float("inf"))
        while wait_until_ready and not self.ready():
            if time.monotonic() >= until_s:
                raise UnavailableError("Timeout before ready")
            time.sleep(polling_interval)
        return self

    def stop(self) -> None:
        """Let requests in flight finish, and unload every model."""
        running = self.running
        self._running = None
        running.stop()

    def __enter__(self) -> Self:
        return self if self._running is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._running is not None:
            self.stop()

    @property
    def ports(self) -> dict[str, int]:
        """Return the open ports by protocol: those that the options ask for."""
        return self.running.ports

    def live(self) -> bool:
        """Tell whether the server runs."""
        return self.running.call(self.running.state.live)

    def ready(self) -> bool:
        """Tell whether the server is ready, by the rules of `strict_readiness`."""
        running = self.running
        return running.call(lambda: running.state.catalog.ready)

    def metadata(self) -> dict[str, Any]:
        """Return the server's name, version and extensions."""
        return describe_server(self.running.state)

    def metrics(self) -> str:
        """Return all metrics in Prometheus' text form.

        Raises:
            InvalidArgumentError: the options switch them off.
        """
        running = self.running
        if not self.options.metrics:
            raise InvalidArgumentError("metrics are switched off by the options")
        return running.metrics()

    def model(self, model_name: str, model_version: int = -1) -> Model:
        """Return a model to ask; whether there is one is found out when it is asked."""
        _ = self.running
        return Model(self, model_name, model_version)

    def models(self, exclude_not_ready: bool = False) -> ModelDictionary:  # noqa: FBT001, FBT002  # Triton's
        """Return the repository index."""
        running = self.running
        entries = running.call(lambda: running.state.catalog.index(ready_only=exclude_not_ready))
        found = [
            Model(self, e.name, int(e.version) if e.version else -1, e.state and str(e.state), e.reason or None)
            for e in entries
        ]
        return ModelDictionary(self, found)

    def load(self, model_name: str, parameters: dict[str, str | int | bool | bytes] | None = None) -> Model:
        """Load or reload a model; parameters are `config` (JSON) and files, as "file:1/model.py": bytes.

        Raises:
            TritonError: the model cannot be loaded, or the control mode is not EXPLICIT.
        """
        running = self.running
        given = dict(parameters or {})
        config = str(given.pop("config", ""))
        files: dict[str, bytes] = {}
        for name, content in given.items():
            if not name.startswith("file:") or not isinstance(content, bytes):
                raise InvalidArgumentError(f"unrecognized load parameter '{name}': config, or file:PATH with bytes")
            files[name.removeprefix("file:")] = content
        running.wait(running.state.catalog.load(model_name, LoadParameters(config, files)))
        return Model(self, model_name)

    def unload(
        self,
        model: str | Model,
        unload_dependents: bool = False,  # noqa: FBT001, FBT002  # Triton's
        wait_until_unloaded: bool = False,  # noqa: FBT001, FBT002  # Triton's
        polling_interval: float = _POLL_S,
        timeout: float | None = None,
    ) -> None:
        """Unload a model, and with `unload_dependents` the members only it used.

        Raises:
            TritonError: there is no such model, or the control mode is not EXPLICIT.
        """
        running = self.running
        name = model if isinstance(model, str) else model.name
        running.wait(running.state.catalog.unload(name, dependents=unload_dependents))
        until_s = time.monotonic() + (timeout if timeout is not None else float("inf"))
        gone = (None, str(State.UNAVAILABLE))
        while wait_until_unloaded and any(m.state not in gone for m in self.models().values() if m.name == name):
            if time.monotonic() >= until_s:
                return
            time.sleep(polling_interval)

    def register_model_repository(self, repository_path: str, name_mapping: Mapping[str, str] | None = None) -> None:
        """Take models from one more folder; `name_mapping` gives names to models by their subfolders.

        Raises:
            UnsupportedError: the control mode is not EXPLICIT.
            InvalidArgumentError: there is no such folder.
            AlreadyExistsError: it is registered, or a name of the mapping is given already.
        """
        running = self.running
        running.call(lambda: running.repositories.register(repository_path, dict(name_mapping or {})))

    def unregister_model_repository(self, repository_path: str) -> None:
        """Take no more models from a folder, also from one given at the start; those that are loaded stay.

        Raises:
            InvalidArgumentError: it is not registered.
        """
        running = self.running
        running.call(lambda: running.repositories.unregister(repository_path))

    def poll_model_repository(self) -> None:
        """Look at the repositories now, in POLL mode."""
        running = self.running
        running.wait(running.poll())
