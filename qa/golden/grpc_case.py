"""Recorded cases: what was asked of a real Triton 2.51 over gRPC, and what it answered.

    # infer-raw: what it shows, where the name does not say it
    > ModelInfer gzip
    > model_name: "add_sub" id: "7" inputs { ... }
    < OK
    < model_name: "add_sub" model_version: "1" ...

Messages stand in protobuf's text format, one a line; a stream has several. A call that fails has its status and,
quoted as in JSON, its message. Where Tritium differs on purpose, the recorded answer stands in lines that begin with
`~`, a comment says why, and `<` is what Tritium answers. Paths of files are written `<path>`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from tritium.compat.protobufs import service_pb2

STREAM = "ModelStreamInfer"


@dataclass
class Case:
    name: str
    method: str
    compression: str
    requests: list[Any]
    status: str
    message: str
    responses: list[Any]

    def __str__(self) -> str:
        return self.name


def read(file: Path) -> Iterator[Case]:
    """Read the cases of a file."""
    for block in re.split(r"(?m)^(?=# )", file.read_text())[1:]:
        lines = block.splitlines()
        name = lines[0][2:].partition(":")[0]
        (call, *asked), (end, *answered) = ([line[2:] for line in lines if line.startswith(mark)] for mark in "><")
        method, _, compression = call.partition(" ")
        status, _, message = end.partition(" ")
        request = getattr(service_pb2, "ModelInferRequest" if method == STREAM else f"{method}Request")
        response = getattr(service_pb2, f"{method}Response")
        yield Case(
            f"{file.stem}/{name}",
            method,
            compression,
            [text_format.Parse(text, request()) for text in asked],
            status,
            json.loads(message) if message else "",
            [text_format.Parse(text, response()) for text in answered],
        )
