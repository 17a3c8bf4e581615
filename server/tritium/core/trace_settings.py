"""What is traced, of the whole server and of single models, as the trace extension shows it and changes it.

    start-up settings <-falls back- settings of the server <-falls back- settings of a model

The HTTP and gRPC fronts find a `TraceSettingsControl` as `ServerState.trace_settings`. To answer, they check that a
named model is loaded (`check_traced`), read the update with `compat.v2.trace_setting` (`read_json`, `read_lists`),
pass it to `update`, and write `settings(model).rows()`; over gRPC every row is a list of strings:

    server.trace_settings.update(target.name, trace_setting.read_json(document))
    return answer.json(server.trace_settings.settings(target.name).rows())
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

from tritium.compat.v2.trace_setting import Change, TraceUpdate
from tritium.core.errors import InvalidArgument

TRITON, OPENTELEMETRY = "triton", "opentelemetry"
"""The modes: files of Triton's form, or spans that are sent to a collector."""


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """One in `rate` requests is traced, `count` in all (-1: no end); `log_frequency` traces make a file (0: one file).

    `level` is empty where tracing is off. `options` are those of the mode that answers list beside the rest.
    """

    level: tuple[str, ...] = ()
    rate: int = 1000
    count: int = -1
    log_frequency: int = 0
    file: str = ""
    mode: str = TRITON
    options: tuple[tuple[str, str], ...] = ()

    @property
    def problem(self) -> str:
        """Say why nothing can be traced with these settings, in Triton's words; nothing where something can."""
        if not self.level:
            return "tracing is disabled"
        if not self.rate:
            return "sample rate must be non-zero"
        if self.mode == TRITON and not self.file:
            return "trace file name is not given"
        return ""

    def rows(self) -> Mapping[str, str | Sequence[str]]:
        """Return the settings by the names and in the order of the trace extension."""
        rows: dict[str, str | Sequence[str]] = {
            "trace_level": self.level or ("OFF",),
            "trace_rate": str(self.rate),
            "trace_count": str(self.count),
        }
        if self.mode == TRITON:
            rows |= {"log_frequency": str(self.log_frequency), "trace_file": self.file}
        return {**rows, "trace_mode": self.mode, **dict(self.options)}


class TraceSettingsControl(Protocol):
    """What the fronts know of tracing: its settings now, and a way to change them; "" is the whole server."""

    def settings(self, model: str = "") -> TraceSettings:
        """Return the settings in effect."""
        ...

    def update(self, model: str, update: TraceUpdate) -> None:
        """Change what an update names.

        Raises:
            InvalidArgument: with the change nothing could be traced, though tracing is on.
        """
        ...


class TraceSettingsBook:
    """The settings of the server and of its models, each field specified or falling back."""

    def __init__(self, started_with: TraceSettings | None = None) -> None:
        self._started_with = started_with or TraceSettings()
        self._server = _Entry(self._started_with, TraceUpdate())
        self._models: dict[str, _Entry] = {}

    def settings(self, model: str = "") -> TraceSettings:
        """Return the settings in effect."""
        return self._models.get(model, self._server).settings

    def update(self, model: str, update: TraceUpdate) -> None:
        """Change what an update names; a change of the server's reaches every model that falls back.

        Raises:
            InvalidArgument: with the change nothing could be traced, though tracing is on.
        """
        if model:
            entry = self._models.get(model, _Entry(self._server.settings, TraceUpdate()))
            self._enter(model, entry.changed(update, self._server.settings))
            return
        server = self._server.changed(update, self._started_with)
        models = {name: entry.changed(TraceUpdate(), server.settings) for name, entry in self._models.items()}
        self._server = server
        for name, entry in models.items():
            self._enter(name, entry)

    def _enter(self, model: str, entry: "_Entry") -> None:
        if entry.specified == TraceUpdate():
            self._models.pop(model, None)
        else:
            self._models[model] = entry


_FIELDS = tuple(field.name for field in fields(TraceUpdate))


@dataclass(frozen=True, slots=True)
class _Entry:
    """Settings in effect, and which of them were specified here."""

    settings: TraceSettings
    specified: TraceUpdate

    def changed(self, update: TraceUpdate, above: TraceSettings) -> "_Entry":
        given = {name: value for name in _FIELDS if (value := getattr(update, name)) is not Change.KEEP}
        cleared = {name: Change.KEEP for name, value in given.items() if value is Change.CLEAR}
        specified = replace(self.specified, **(given | cleared))
        here = {name: value for name in _FIELDS if (value := getattr(specified, name)) is not Change.KEEP}
        settings = replace(above, **here)
        if settings.level and settings.problem:
            raise InvalidArgument(f"Attempting to set invalid trace setting :{settings.problem}")
        return _Entry(settings, specified)
