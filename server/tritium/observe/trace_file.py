"""Traces as files of Triton's form: a JSON array of moments, models and tensors, which trace_summary.py reads.

    unlimited count, no log_frequency -> FILE, trace by trace; its last bracket comes when the settings are replaced
    log_frequency of n                -> FILE.0, FILE.1, ..., each of n traces; the last one of what is left
    trace_count of n                  -> FILE.0 once n traces are finished

Unlike Triton, which keeps everything in memory until it ends where neither is set.
Source: server/src/tracer.cc, TraceSetting::WriteTrace and TraceFile::SaveTraces, 2.73.
"""

import struct
from pathlib import Path
from typing import Final, TextIO

import orjson
import structlog

from tritium.core.stack import skip_elements
from tritium.core.tensor import Tensor
from tritium.core.trace import Moment, Trace, TracedRequest, TracedTensor
from tritium.core.trace_settings import Sampling

log = structlog.get_logger("tritium.trace")

_FORMATS: Final = {
    "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
    "FP32": "f", "FP64": "d", "BOOL": "B",
}  # fmt: skip


class TraceFiles:
    """Writes finished traces; see `core.trace_settings.TraceSink`."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    def keep(self, trace: Trace, sampling: Sampling) -> None:
        """Write a trace, or keep it until its file is full."""
        text = render(trace)
        settings = sampling.settings
        if not text:
            return
        if not settings.log_frequency and settings.count < 0:
            self._file(settings.file).append(text)
            return
        sampling.pending.append(text)
        every_one = not sampling.remaining and sampling.collected >= sampling.created
        if every_one or (settings.log_frequency and len(sampling.pending) >= settings.log_frequency):
            self._save(sampling)

    def retire(self, sampling: Sampling) -> None:
        """Write what is left of settings that were replaced."""
        if not sampling.pending:
            return
        if sampling.settings.log_frequency:
            self._save(sampling)
            return
        for text in sampling.pending:
            self._file(sampling.settings.file).append(text)
        sampling.pending = []

    def close(self) -> None:
        """Finish every file."""
        for file in self._files.values():
            file.close()

    def _save(self, sampling: Sampling) -> None:
        self._file(sampling.settings.file).save(sampling.pending)
        sampling.pending = []

    def _file(self, name: str) -> "_File":
        return self._files.setdefault(name, _File(Path(name)))


class _File:
    """A file of traces and those numbered after it; what cannot be written is told once and lost."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0
        self._open: TextIO | None = None
        self._broken = False

    def append(self, text: str) -> None:
        """Add a trace to the file itself, which is begun anew by the first."""
        try:
            if self._open is None:
                self._open = self._path.open("w", encoding="utf-8")
                self._open.write("[" + text)
            else:
                self._open.write("," + text)
        except OSError as error:
            self._tell(error)

    def save(self, texts: list[str]) -> None:
        """Write traces to a file of their own, with the next number."""
        path = self._path.with_name(f"{self._path.name}.{self._next}")
        self._next += 1
        try:
            path.write_text(f"[{','.join(texts)}]", encoding="utf-8")
        except OSError as error:
            self._tell(error)

    def close(self) -> None:
        """Write the last bracket."""
        if self._open is not None:
            try:
                with self._open as file:
                    file.write("]")
            except OSError as error:
                self._tell(error)
            self._open = None

    def _tell(self, error: OSError) -> None:
        if not self._broken:
            log.error("trace_file_not_written", file=str(self._path), reason=error.strerror)
        self._broken = True


def render(trace: Trace) -> str:
    """Write a trace as the members of an array, request by request."""
    return ",".join(member for request in trace.requests for member in _members(request))


def _members(request: TracedRequest) -> list[str]:
    members = []
    for moment in request.moments:
        if isinstance(moment, TracedTensor):
            members.append(_tensor(request.id, moment))
            continue
        if moment.name == "REQUEST_START":
            members.append(_model(request))
        members.append(_timestamp(request.id, moment))
    return members


def _timestamp(number: int, moment: Moment) -> str:
    return f'{{"id":{number},"timestamps":[{{"name":"{moment.name}","ns":{moment.ns}}}]}}'


def _model(request: TracedRequest) -> str:
    name, request_id = orjson.dumps(request.model_name).decode(), orjson.dumps(request.request_id).decode()
    text = f'{{"id":{request.id},"model_name":{name},"model_version":{request.model_version}'
    if request.request_id:
        text += f',"request_id":{request_id}'
    if request.parent_id:
        text += f',"parent_id":{request.parent_id}'
    return text + "}"


def _tensor(number: int, traced: TracedTensor) -> str:
    tensor = traced.tensor
    fields = {
        "name": tensor.name,
        "data": _data(tensor),
        "shape": ",".join(map(str, tensor.shape)),
        "dtype": tensor.datatype,
    }
    return f'{{"id":{number},"activity":"{traced.activity}","tensor":{orjson.dumps(fields).decode()}}}'


def _data(tensor: Tensor) -> str:
    """Return the elements separated by commas; of half precision none, as in Triton."""
    data = bytes(tensor.data)
    if tensor.datatype == "BYTES":
        elements, at = [], 0
        while at < len(data):
            end = skip_elements(data, at, 1)
            elements.append('"' + data[at + 4 : end].decode(errors="replace") + '"')
            at = end
        return ",".join(elements)
    code = _FORMATS.get(tensor.datatype)
    if code is None:
        return ""
    written = "{:g}" if code in "fd" else "{}"
    return ",".join(written.format(value) for (value,) in struct.iter_unpack("<" + code, data))
