"""Trace files have Triton's form, and its numbering."""

import json
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tritium.compat.v2.trace_setting import TraceUpdate
from tritium.core.instance import ExecutionTimes
from tritium.core.tensor import Tensor, join_bytes
from tritium.core.trace_settings import TraceSettings, TraceSettingsBook
from tritium.observe.trace_file import TraceFiles


def book_of(path: Path, **settings: Any) -> TraceSettingsBook:
    """Return a book that traces every request into a file."""
    wanted = {"level": ("TIMESTAMPS",), "rate": 1, "file": str(path), **settings}
    return TraceSettingsBook(TraceSettings(**wanted), TraceFiles())


def run(book: TraceSettingsBook, requests: int = 1) -> None:
    """Trace requests that a model has answered."""
    for _ in range(requests):
        trace = book.begin("m")
        if trace is not None:
            trace.mark("HTTP_RECV_START", 5)
            trace.root.start("m", "1", "", 10)
            trace.root.enqueue([], 11)
            trace.root.execute(20, ExecutionTimes(1, 2, 3))
            trace.root.end(30)
            trace.close()


def traced(path: Path) -> int:
    """Return how many requests a file holds; it is whole."""
    return sum("model_name" in member for member in json.loads(path.read_text()))


def test_members_are_those_of_triton(tmp_path: Path) -> None:
    """A moment each, the model before its first, parents by number; one array."""
    path = tmp_path / "t.json"
    book = book_of(path, level=("TIMESTAMPS", "TENSORS"))
    trace = book.begin("ens")
    assert trace is not None
    outer = trace.root
    outer.start("ens", "2", 'r"1', 10)
    inner = outer.child()
    inner.start("m", "1", "", 11)
    inner.see("TENSOR_QUEUE_INPUT", [Tensor("B", "BYTES", (2,), join_bytes(["a", 'b"']))])
    inner.see(
        "TENSOR_BACKEND_OUTPUT", [Tensor("F", "FP32", (1, 2), b"\0\0\x80?\0\0\0@"), Tensor("H", "FP16", (1,), b"ab")]
    )
    inner.execute(20, ExecutionTimes(1, 2, 3))
    inner.end(30)
    outer.child()
    outer.end(40)
    trace.close()
    book.close()
    first = outer.id

    def moment(number: int, name: str, ns: int) -> dict[str, Any]:
        return {"id": number, "timestamps": [{"name": name, "ns": ns}]}

    def tensor(activity: str, name: str, data: str, shape: str, dtype: str) -> dict[str, Any]:
        described = {"name": name, "data": data, "shape": shape, "dtype": dtype}
        return {"id": first + 1, "activity": activity, "tensor": described}

    assert json.loads(path.read_text()) == [
        {"id": first, "model_name": "ens", "model_version": 2, "request_id": 'r"1'},
        moment(first, "REQUEST_START", 10),
        moment(first, "REQUEST_END", 40),
        {"id": first + 1, "model_name": "m", "model_version": 1, "parent_id": first},
        moment(first + 1, "REQUEST_START", 11),
        tensor("TENSOR_QUEUE_INPUT", "B", '"a","b""', "2", "BYTES"),
        tensor("TENSOR_BACKEND_OUTPUT", "F", "1,2", "1,2", "FP32"),
        tensor("TENSOR_BACKEND_OUTPUT", "H", "", "1", "FP16"),
        moment(first + 1, "COMPUTE_START", 20),
        moment(first + 1, "COMPUTE_INPUT_END", 21),
        moment(first + 1, "COMPUTE_OUTPUT_START", 23),
        moment(first + 1, "COMPUTE_END", 26),
        moment(first + 1, "REQUEST_END", 30),
    ]


def test_without_a_frequency_everything_is_in_one_file(tmp_path: Path) -> None:
    """Which is whole once the server has ended, and begun anew by the next."""
    path = tmp_path / "t.json"
    path.write_text("of another server")
    book = book_of(path)
    run(book, 3)
    book.close()
    assert traced(path) == 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_frequency_makes_numbered_files(tmp_path: Path) -> None:
    """Each full but the last."""
    book = book_of(tmp_path / "t.json", log_frequency=2)
    run(book, 5)
    assert [traced(tmp_path / f"t.json.{n}") for n in range(2)] == [2, 2]
    book.close()
    assert traced(tmp_path / "t.json.2") == 1
    assert not (tmp_path / "t.json").exists()


def test_a_count_that_is_used_up_makes_a_numbered_file(tmp_path: Path) -> None:
    """At once, so that whoever asked for it need not end the server."""
    path = tmp_path / "t.json"
    book = book_of(path)
    run(book, 2)
    book.update("", TraceUpdate(count=3, rate=2))
    run(book, 20)
    assert traced(tmp_path / "t.json.0") == 3
    book.close()
    assert traced(path) == 2


def test_what_was_collected_is_written_when_settings_change(tmp_path: Path) -> None:
    """Models with settings of their own write to the same file."""
    path = tmp_path / "t.json"
    book = book_of(path)
    book.update("m", TraceUpdate(log_frequency=10))
    run(book, 3)
    book.update("m", TraceUpdate(log_frequency=20))
    assert traced(tmp_path / "t.json.0") == 3


@pytest.mark.parametrize("log_frequency", [0, 1])
def test_a_file_that_cannot_be_written_costs_no_request(tmp_path: Path, log_frequency: int) -> None:
    """It is told once."""
    book = book_of(tmp_path / "absent" / "t.json", log_frequency=log_frequency)
    with capture_logs() as events:
        run(book, 3)
        book.close()
    assert [event["event"] for event in events] == ["trace_file_not_written"]
