"""What a server tells about itself, by its options."""

import pytest
from structlog.testing import capture_logs

from tritium.cli.observability import tracing
from tritium.cli.options import ServeOptions

LEVEL, FILE = "level=TIMESTAMPS", "triton,file=trace.json"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ((), None),
        ((FILE,), None),
        ((LEVEL, FILE), None),
        ((LEVEL,), "trace file name is not given"),
        ((LEVEL, FILE, "rate=0"), "sample rate must be non-zero"),
    ],
)
def test_traces_that_go_nowhere_are_warned_of(config: tuple[str, ...], reason: str | None) -> None:
    """Triton starts in silence where tracing is on and nothing can be traced; the log says so here."""
    with capture_logs() as events:
        tracing(ServeOptions(trace_config=config)).close()
    assert [event["reason"] for event in events] == ([reason] if reason else [])
