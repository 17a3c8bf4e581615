"""Ten thousand clients that are connected and say nothing: the server answers others, and its memory comes back."""

import asyncio
import contextlib
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import tritonclient.http as http_client
from qa.e2e.product import ROOT, Product

HTTP, GRPC = 8_000, 2_000
MOST_ROUNDS = 6


def settled(after: list[float]) -> bool:
    """Tell whether the last of at least three rounds added next to nothing.

    The allocator keeps what the first rounds took; connections that wait for the garbage collector add 15 MiB to every
    round.
    """
    return len(after) >= 3 and after[-1] - after[-2] < 10


def resident_mib(product: Product) -> float:
    """Return the resident memory of the front."""
    lines = Path(f"/proc/{product.process.pid}/status").read_text().splitlines()
    (size,) = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return int(size) / 1024


async def connected(product: Product, meanwhile: Callable[[], None]) -> None:
    """Open the connections, do something, and close them."""
    writers: list[asyncio.StreamWriter] = []
    for protocol, count in (("HTTP", HTTP), ("gRPC", GRPC)):
        for _ in range(count):
            writers.append((await asyncio.open_connection("127.0.0.1", product.ports[protocol]))[1])
    await asyncio.to_thread(meanwhile)
    for writer in writers:
        writer.close()
    for writer in writers:
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.mark.timeout(900)  # 30,000 connections, one after the other: 20 s on an idle machine
async def test_ten_thousand_idle_clients(start: Callable[..., Product]) -> None:
    """Ready is told beside them, and once the allocator is warm a round of them leaves nothing behind."""
    after: list[float] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < HTTP + GRPC + 1_000:
        pytest.skip(f"a process may have {hard} open files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        product = start(str(ROOT / "model_repository"), "--control-mode=explicit", "--no-openai")
        with http_client.InferenceServerClient(product.url("HTTP"), network_timeout=60) as client:
            while not settled(after) and len(after) < MOST_ROUNDS:
                await connected(product, lambda: None if client.is_server_ready() else pytest.fail("not ready"))
                after.append(resident_mib(product))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert settled(after), after
