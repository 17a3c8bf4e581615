"""Recorded cases: what was asked of a real Triton 2.51 over gRPC, and what it answered.

    # infer-raw: what it shows, where the name does not say it
    > ModelInfer gzip
    > model_name: "add_sub" id: "7" inputs { ... }
    < OK
    < model_name: "add_sub" model_version: "1" ...

Messages stand in protobuf's text format, one a line; a stream has several. `> ModelInfer 0.05s` sets a deadline. A
method of another service has its whole path and its messages as `hex 0801`. A call that fails has its status and,
quoted as in JSON, its message. A line `?` lets the case be asked again until it is answered so. Where Tritium differs
on purpose, the recorded answer stands in lines that begin with `~`, a comment says why, docs/triton-differences.md
lists the case, and `<` is what Tritium answers. Paths of files are written `<path>`, our version `<version>`; times
are left out.
"""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import grpc
from google.protobuf import text_format

from tritium.compat.protobufs import service_pb2

STREAM = "ModelStreamInfer"
SERVICE = "/inference.GRPCInferenceService/"
COMPRESSION = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
KEY = "/golden_shm"
AGAIN_FOR_S = 60
VERSION = version("tritium")
TIMEOUT_S = 15

_FILES = re.compile(r"/[\w./-]+\.py\(\d+\)")
_TIMES = re.compile(r"(?m)^ *(ns|last_inference): \d+\n")


Answer = tuple[str, str, list[str]]


@dataclass
class Case:
    protocol: ClassVar = "grpc"
    name: str
    method: str
    option: str
    requests: list[Any]
    status: str
    message: str
    responses: list[Any]
    differs: bool
    again: bool
    server: str

    def __str__(self) -> str:
        return self.name

    @property
    def expected(self) -> Answer:
        """Status, message, and every response as text."""
        return self.status, self.message, [_comparable(each, KEY) for each in self.responses]

    def ask(self, channel: grpc.Channel, key: str) -> Answer:
        """Ask, again and again where the case says so, and return what can be compared with `expected`."""
        for request in self.requests:
            if getattr(request, "key", "") == KEY:
                request.key = key
        found = _ask(self, channel, key)
        give_up = time.monotonic() + AGAIN_FOR_S
        while found != self.expected and self.again and time.monotonic() < give_up:
            found = _ask(self, channel, key)
        return found


def read(file: Path) -> Iterator[Case]:
    """Read the cases of a file."""
    for block in re.split(r"(?m)^(?=# )", file.read_text().replace("<version>", VERSION))[1:]:
        lines = block.splitlines()
        name = lines[0][2:].partition(":")[0]
        (call, *asked), (end, *answered) = ([line[2:] for line in lines if line.startswith(mark)] for mark in "><")
        method, _, option = call.partition(" ")
        status, _, message = end.partition(" ")
        marks = {line[:1] for line in lines}
        yield Case(
            f"{file.stem}/{name}",
            method,
            option,
            [_message(text, "ModelInferRequest" if method == STREAM else f"{method}Request") for text in asked],
            status,
            json.loads(message) if message else "",
            [_message(text, f"{method}Response") for text in answered],
            "~" in marks,
            "?" in marks,
            file.parent.name,
        )


def _message(text: str, kind: str) -> Any:
    if text.startswith("hex"):
        return bytes.fromhex(text[3:])
    return text_format.Parse(text, getattr(service_pb2, kind)())


def _ask(case: Case, channel: grpc.Channel, key: str) -> Answer:
    responses: list[Any] = []
    try:
        if case.method == STREAM:
            responses.extend(_method(case, channel)(iter(case.requests), timeout=TIMEOUT_S))
        else:
            compression = COMPRESSION.get(case.option)
            timeout = float(case.option[:-1]) if case.option.endswith("s") else TIMEOUT_S
            responses.append(_method(case, channel)(case.requests[0], timeout=timeout, compression=compression))
    except grpc.RpcError as error:
        return error.code().name, _FILES.sub("<path>", error.details()), [_comparable(each, key) for each in responses]
    return "OK", "", [_comparable(each, key) for each in responses]


def _method(case: Case, channel: grpc.Channel) -> Any:
    if case.method.startswith("/"):
        return channel.unary_unary(case.method)
    make = channel.stream_stream if case.method == STREAM else channel.unary_unary
    answer = getattr(service_pb2, f"{case.method}Response")
    return make(SERVICE + case.method, lambda message: message.SerializeToString(), answer.FromString)


def _comparable(response: Any, key: str) -> str:
    """Hide what differs by machine: the paths of model files, the key of the run, times."""
    if isinstance(response, bytes):
        return response.hex()
    text = text_format.MessageToString(response, as_utf8=True).replace(key, KEY)
    return _TIMES.sub("", _FILES.sub("<path>", text))
