"""The start of a server in tritonserver's words, and its tables."""

import re
from collections.abc import Iterator

import pytest
import structlog

from tritium.cli import triton_tables
from tritium.cli.options import ServeOptions
from tritium.cli.screen import Endpoint, Row
from tritium.cli.triton_display import TritonDisplay
from tritium.observe.log_lines import TABLE

READY = Row("add_sub", "1", "python", "1 x CPU", "READY", 0.1)
FAILED = Row("broken", "3", "onnxruntime", "1 x CPU", "UNAVAILABLE", 0.1, "Internal: boom")
OPTIONS = ServeOptions(("/models", "/more"), load_model=("add_sub",), server_id="triton")


@pytest.fixture
def events() -> Iterator[list[dict[str, object]]]:
    """Collect what is logged."""
    with structlog.testing.capture_logs() as captured:
        yield captured  # type: ignore[misc]


def test_a_model_is_told_once_with_all_its_versions(events: list[dict[str, object]]) -> None:
    """Each version begins on its own; the model is ready when the last of them is."""
    display = TritonDisplay(OPTIONS)
    for version in "12":
        display.loading("versions", version)
    for version in "12":
        display.loaded(Row("versions", version, "python", "", "READY", 0.1))
    display.unloaded("versions", "2")
    assert [event["event"] for event in events[1:]] == [
        "loading: versions:1",
        "loading: versions:2",
        "successfully loaded 'versions'",
        "successfully unloaded 'versions' version 2",
    ]


def test_a_failure_says_why(events: list[dict[str, object]]) -> None:
    """The version's reason is an error, the model's failure is known."""
    display = TritonDisplay(OPTIONS)
    display.loading("broken", "3")
    display.loaded(FAILED)
    assert [(event["log_level"], event["event"]) for event in events][2:] == [
        ("error", "failed to load 'broken' version 3: Internal: boom"),
        ("info", "failed to load 'broken'"),
    ]


def test_tables_and_services_are_told_when_ready(events: list[dict[str, object]]) -> None:
    """Agents, backends, models, options; then every service with where it listens."""
    served = [
        Endpoint("HTTP", "http://localhost:8000", "curl", "0.0.0.0:8000"),
        Endpoint("gRPC", "localhost:8001", "", "0.0.0.0:8001"),
        Endpoint("metrics", "http://localhost:8002", "", "0.0.0.0:8002"),
        Endpoint("SageMaker", "http://localhost:8080", "", "0.0.0.0:8080"),
        Endpoint("Vertex AI", "http://localhost:8081", "", "0.0.0.0:8081"),
    ]
    TritonDisplay(OPTIONS).ready([READY, FAILED], served)
    tables = [str(event[TABLE]).splitlines() for event in events if TABLE in event]
    assert [table[1].split()[1] for table in tables] == ["Repository", "Backend", "Model", "Option"]
    assert [event["event"] for event in events[1:] if TABLE not in event] == [
        "Started GRPCInferenceService at 0.0.0.0:8001",
        "Started HTTPService at 0.0.0.0:8000",
        "Started Metrics Service at 0.0.0.0:8002",
        "Started Sagemaker HTTPService at 0.0.0.0:8080",
        "Started Vertex AI HTTPService at 0.0.0.0:8081",
    ]
    assert "| broken  | 3       | UNAVAILABLE: Internal: boom |" in tables[2]
    assert [line.split()[1] for line in tables[1][3:-1]] == ["onnxruntime", "python"]


def test_the_table_of_options_is_tritons() -> None:
    """Names, order and spelling of what tritonserver lists."""
    rows = [re.split(r"\s*\| ?", line)[1:3] for line in triton_tables.settings(OPTIONS).splitlines()[3:-1]]
    names = [name for name, _ in rows]
    assert names == [
        "server_id",
        "server_version",
        "server_extensions",
        "model_repository_path[0]",
        "model_repository_path[1]",
        "model_control_mode",
        "startup_models_0",
        "strict_model_config",
        "model_config_name",
        "rate_limit",
        "pinned_memory_pool_byte_size",
        "min_supported_compute_capability",
        "strict_readiness",
        "exit_timeout",
        "cache_enabled",
    ]
    values = dict(rows)
    assert values["model_control_mode"] == "MODE_NONE"
    assert values["pinned_memory_pool_byte_size"] == "268435456"
    assert (values["strict_readiness"], values["exit_timeout"], values["cache_enabled"]) == ("1", "30", "0")


def test_long_and_many_lined_cells_are_broken() -> None:
    """No row is wider than five hundred characters, and nothing of a cell is lost."""
    text = "\n".join(["x" * 1200, "second"])
    lines = triton_tables.table(("Model", "Status"), [("m", text)]).splitlines()
    assert max(map(len, lines)) <= 520
    assert len({len(line) for line in lines}) == 1
    assert sum(line.count("x") for line in lines) == 1200
    assert any("second" in line for line in lines)
