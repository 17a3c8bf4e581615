"""What is traced, of the whole server and of single models, as the trace extension shows it and changes it.

    start-up settings <-falls back- settings of the server <-falls back- settings of a model

The HTTP and gRPC fronts find a `TraceSettingsControl` as `ServerState.trace_settings`. To answer, they check that a
named model is loaded (`check_traced`), read the update with `compat.v2.trace_setting` (`read_json`, `read_lists`),
pass it to `update`, and write `settings(model).rows()`; over gRPC every row is a list of strings:

    server.trace_settings.update(target.name, trace_setting.read_json(document))
    return answer.json(server.trace_settings.settings(target.name).rows())

A request is traced by what `begin` returns, which the front puts into `InferRequest.trace` (its `root`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

from tritium.compat.v2.trace_setting import Change, TraceUpdate
from tritium.core.errors import InvalidArgument
from tritium.core.trace import REQUEST_IDS, Trace, read_traceparent

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
    """What the fronts know of tracing: settings, a way to change them, and traces; "" is the whole server.

    Contract: where `on` is False there is nothing to trace, and `begin` need not be called. What `begin` returns must
    be closed by the front, whatever becomes of the request.
    """

    on: bool

    def settings(self, model: str = "") -> TraceSettings:
        """Return the settings in effect; the count is what is left of it."""
        ...

    def update(self, model: str, update: TraceUpdate) -> None:
        """Change what an update names.

        Raises:
            InvalidArgument: with the change nothing could be traced, though tracing is on.
        """
        ...

    def begin(self, model: str, traceparent: str = "", tracestate: str = "") -> Trace | None:
        """Return the trace of a request if it is to be traced; the headers are W3C's."""
        ...


class TraceSink(Protocol):
    """Where finished traces go."""

    def keep(self, trace: Trace, sampling: "Sampling") -> None:
        """Take a finished trace."""
        ...

    def retire(self, sampling: "Sampling") -> None:
        """Take note that no more traces will come by these settings."""
        ...

    def close(self) -> None:
        """Bring what was kept to where it goes; nothing follows."""
        ...


class Sampling:
    """Settings at work: which requests are traced by them, and how many still may be."""

    __slots__ = ("collected", "created", "pending", "remaining", "replaced", "requests", "settings", "under_way")

    def __init__(self, settings: TraceSettings) -> None:
        self.settings = settings
        self.remaining = settings.count
        self.requests = 0
        self.created = 0
        self.collected = 0
        self.under_way = 0
        self.replaced = False
        self.pending: list[str] = []
        """What a sink has not written yet."""

    def take(self, *, forced: bool) -> bool:
        """Tell whether a request is traced; `forced` is one whose client traces it, too.

        A rate of 0 traces only those.
        """
        hit = False
        if self.settings.rate:
            if not forced and (self.settings.problem or not self.remaining):
                return False
            self.requests += 1
            hit = not self.requests % self.settings.rate and self.remaining != 0
            self.created += hit
            if hit and self.remaining > 0:
                self.remaining -= 1
        return hit or forced


class TraceSettingsBook:
    """The settings of the server and of its models, each field specified or falling back, and the traces by them."""

    def __init__(self, started_with: TraceSettings | None = None, sink: TraceSink | None = None) -> None:
        self._started_with = started_with or TraceSettings()
        self._sink = sink
        self._server = _Entry(Sampling(self._started_with), TraceUpdate())
        self._models: dict[str, _Entry] = {}
        self.on = self._any_level()

    def settings(self, model: str = "") -> TraceSettings:
        """Return the settings in effect; the count is what is left of it."""
        return self._models.get(model, self._server).settings

    def update(self, model: str, update: TraceUpdate) -> None:
        """Change what an update names; a change of the server's reaches every model that falls back.

        Raises:
            InvalidArgument: with the change nothing could be traced, though tracing is on.
        """
        if model:
            entry = self._models.get(model, _Entry(self._server.sampling, TraceUpdate()))
            self._enter(model, entry.changed(update, self._server.settings))
        else:
            server = self._server.changed(update, self._started_with)
            models = {name: entry.changed(TraceUpdate(), server.settings) for name, entry in self._models.items()}
            self._retire(self._server)
            self._server = server
            for name, entry in models.items():
                self._enter(name, entry)
        self.on = self._any_level()

    def begin(self, model: str, traceparent: str = "", tracestate: str = "") -> Trace | None:
        """Return the trace of a request if it is to be traced."""
        sampling = self._models.get(model, self._server).sampling
        settings = sampling.settings
        if not settings.level:
            return None
        distributed = settings.mode == OPENTELEMETRY
        parent = read_traceparent(traceparent, tracestate) if distributed and traceparent else None
        if not sampling.take(forced=parent is not None):
            return None
        sampling.under_way += 1

        def finished(trace: Trace) -> None:
            sampling.under_way -= 1
            sampling.collected += 1
            if self._sink is not None:
                self._sink.keep(trace, sampling)
                self._flush(sampling)

        return Trace(settings.level, finished, ids=REQUEST_IDS, parent=parent, distributed=distributed)

    def close(self) -> None:
        """Let the sink bring what it has left to where it goes; nothing is traced any more."""
        self.on = False
        if self._sink is not None:
            for entry in (self._server, *self._models.values()):
                self._sink.retire(entry.sampling)
            self._sink.close()

    def _enter(self, model: str, entry: "_Entry") -> None:
        if model in self._models:
            self._retire(self._models.pop(model))
        if entry.specified != TraceUpdate():
            self._models[model] = entry

    def _retire(self, entry: "_Entry") -> None:
        entry.sampling.replaced = True
        self._flush(entry.sampling)

    def _flush(self, sampling: Sampling) -> None:
        """Write the rest of settings that were replaced, once no trace by them is under way."""
        if sampling.replaced and not sampling.under_way and self._sink is not None:
            self._sink.retire(sampling)

    def _any_level(self) -> bool:
        return any(entry.settings.level for entry in (self._server, *self._models.values()))


_FIELDS = tuple(field.name for field in fields(TraceUpdate))


@dataclass(frozen=True, slots=True)
class _Entry:
    """Settings at work, and which of them were specified here."""

    sampling: Sampling
    specified: TraceUpdate

    @property
    def settings(self) -> TraceSettings:
        return replace(self.sampling.settings, count=self.sampling.remaining)

    def changed(self, update: TraceUpdate, above: TraceSettings) -> "_Entry":
        given = {name: value for name in _FIELDS if (value := getattr(update, name)) is not Change.KEEP}
        cleared = {name: Change.KEEP for name, value in given.items() if value is Change.CLEAR}
        specified = replace(self.specified, **(given | cleared))
        if specified.count is not Change.KEEP and "count" not in given:
            specified = replace(specified, count=self.sampling.remaining)
        here = {name: value for name in _FIELDS if (value := getattr(specified, name)) is not Change.KEEP}
        settings = replace(above, **here)
        if settings.level and settings.problem:
            raise InvalidArgument(f"Attempting to set invalid trace setting :{settings.problem}")
        return _Entry(Sampling(settings), specified)
