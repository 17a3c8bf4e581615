"""A fleet of real worker processes, with an engine that can be predicted and broken."""

import asyncio
import os
import signal

import pytest

from tritium.core.errors import (
    InvalidArgument,
    ModelFailed,
    NotFound,
    Overloaded,
    Unavailable,
    WorkerLost,
)

PROMPT = list(range(1, 14))


async def test_generates(fleet_of, request_for, collector, echo):
    """A prompt goes to a worker, and its tokens come back in order, with what the cache held."""
    async with fleet_of() as fleet:
        sink = collector()
        handle = fleet.generate(request_for(PROMPT), sink)
        await sink.end()
        assert echo.continuation(PROMPT, 8) == sink.tokens
        assert sink.finish == "length"
        assert sink.cached_tokens == 0
        assert handle.route.worker == "worker_0"
        again = collector()
        fleet.generate(request_for(PROMPT), again)
        await again.end()
        assert again.cached_tokens == 12
