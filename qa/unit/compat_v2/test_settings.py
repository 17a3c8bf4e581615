"""Updates of trace and log settings are read as Triton reads them, and refused in its words."""

from typing import Any

import pytest

from tritium.compat.v2 import log_setting, trace_setting
from tritium.compat.v2.log_setting import LogUpdate
from tritium.compat.v2.refusal import Code, Refusal
from tritium.compat.v2.trace_setting import Change, TraceUpdate


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, TraceUpdate()),
        ({"foo": "bar"}, TraceUpdate()),
        ({"trace_level": ["TENSORS", "TIMESTAMPS"]}, TraceUpdate(level=("TIMESTAMPS", "TENSORS"))),
        ({"trace_level": ["OFF"]}, TraceUpdate(level=())),
        ({"trace_level": ["NOPE"]}, TraceUpdate()),
        ({"trace_level": []}, TraceUpdate()),
        ({"trace_level": None, "trace_rate": None}, TraceUpdate(level=Change.CLEAR, rate=Change.CLEAR)),
        ({"trace_rate": " 7x"}, TraceUpdate(rate=7)),
        ({"trace_rate": "-1", "log_frequency": "-2"}, TraceUpdate(rate=2**32 - 1, log_frequency=2**32 - 2)),
        ({"trace_count": "-1", "log_frequency": "0"}, TraceUpdate(count=-1, log_frequency=0)),
    ],
)
def test_a_json_update_is_read(document: Any, expected: TraceUpdate) -> None:
    """Null clears, what is not named stays, unknown names are passed over, numbers are read as by std::stoi."""
    assert expected == trace_setting.read_json(document)


@pytest.mark.parametrize(
    ("document", "code", "message"),
    [
        (
            {"trace_file": "x"},
            Code.UNSUPPORTED,
            "trace file location can not be updated through network protocol",
        ),
        ({"trace_level": "OFF"}, Code.INTERNAL, "attempt to access JSON non-array as array"),
        ({"trace_level": [1]}, Code.INTERNAL, "attempt to access JSON non-string as string"),
        (
            {"trace_level": ["OFF", "TIMESTAMPS"]},
            Code.INVALID_ARG,
            "Expect only one trace level 'OFF' is specified",
        ),
        ({"trace_rate": 10}, Code.INTERNAL, "attempt to access JSON non-string as string"),
        ({"trace_rate": "x"}, Code.INVALID_ARG, "Unable to parse 'trace_rate', got: x"),
        (
            {"trace_rate": "2147483648"},
            Code.INVALID_ARG,
            "Unable to parse 'trace_rate', value is out of range [ 0, 4294967295 ], got: 2147483648",
        ),
        (
            {"trace_count": "-2"},
            Code.INVALID_ARG,
            "Unable to parse 'trace_count'. Expecting value >= -1, got:-2",
        ),
        (
            {"trace_count": "2147483648"},
            Code.INVALID_ARG,
            "Unable to parse 'trace_count', value is out of range [ -1, 2147483647 ], got: 2147483648",
        ),
    ],
)
def test_a_wrong_json_update_is_refused(document: Any, code: Code, message: str) -> None:
    """Each mistake has Triton's message and error code."""
    with pytest.raises(Refusal) as refused:
        trace_setting.read_json(document)
    assert (code, message) == (refused.value.code, refused.value.message)


def test_lists_clear_when_empty_and_hold_one_value() -> None:
    """Over gRPC an empty list clears, also of levels, and numbers come alone."""
    update = trace_setting.read_lists({"trace_level": [], "trace_rate": [], "trace_count": ["3"]})
    assert update == TraceUpdate(level=Change.CLEAR, rate=Change.CLEAR, count=3)
    with pytest.raises(Refusal, match="expect only 1 value for 'trace_rate'"):
        trace_setting.read_lists({"trace_rate": ["1", "2"]})
    with pytest.raises(Refusal, match="Expecting value >= -1, got: -2"):
        trace_setting.read_lists({"trace_count": ["-2"]})


def test_a_log_update_is_read() -> None:
    """What is null or unknown changes nothing; a verbosity beyond 31 bits is none, as in Triton."""
    document = {"log_info": False, "log_error": None, "nope": 1, "log_verbose_level": 2**31, "log_format": "ISO8601"}
    assert log_setting.read_json(document) == LogUpdate(info=False, verbose_level=0, format="ISO8601")
    assert log_setting.read_values({"log_verbose_level": 3}) == LogUpdate(verbose_level=3)


@pytest.mark.parametrize(
    ("document", "code", "message"),
    [
        (
            {"log_file": "x.log"},
            Code.UNSUPPORTED,
            "log file location can not be updated through network protocol",
        ),
        ({"log_info": "yes"}, Code.INTERNAL, "attempt to access JSON non-boolean as boolean"),
        (
            {"log_verbose_level": -1},
            Code.INTERNAL,
            "attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        ({"log_format": 1}, Code.INTERNAL, "attempt to access JSON non-string as string"),
        ({"log_format": "xml"}, Code.UNAVAILABLE, "invalid argument for --log_format, got: xml"),
    ],
)
def test_a_wrong_log_update_is_refused(document: Any, code: Code, message: str) -> None:
    """Each mistake has Triton's message and error code."""
    with pytest.raises(Refusal) as refused:
        log_setting.read_json(document)
    assert (code, message) == (refused.value.code, refused.value.message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"log_file": "x"}, "log file location can not be updated through network protocol"),
        ({"log_warning": "x"}, "expect boolean for 'log_warning'"),
        ({"log_error": None}, "expect boolean for 'log_error'"),
        ({"log_verbose_level": True}, "expect int32 for 'log_verbose_level'"),
        ({"log_format": False}, "expect string for 'log_format'"),
        ({"log_format": "xml"}, "invalid argument for log_format, got: xml"),
    ],
)
def test_wrong_log_values_are_refused(settings: Any, message: str) -> None:
    """The messages over gRPC are its own."""
    with pytest.raises(Refusal, match=message):
        log_setting.read_values(settings)
