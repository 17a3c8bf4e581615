"""The router's modes and the waiting room over HTTP, on mock workers: what a client sees of each."""

import asyncio
import hashlib
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from qa.e2e.product import Product
from qa.e2e.test_engines import repository

WORKERS = ["worker_0", "worker_1", "worker_2"]
MOCKER = {"timing": {"base_ms": 2}}
LONG = 100_000


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Serve a model on three mock workers."""
    folder = repository(tmp_path_factory.mktemp("models"), mocker=MOCKER)
    product = Product([folder, "--engine=mocker", "--fleet=parrot=workers=3"])
    assert product.process.poll() is None, product.output
    yield product
    assert product.stop() == 0, product.output


class Client:
    """Asks a server, and says what became of it."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def mode(self, mode: str) -> None:
        answer = await self.http.post("/router/mode", json={"model": "parrot", "router": mode})
        assert answer.status_code == 200, answer.text

    async def ask(self, prompt: str = "once upon a time", max_tokens: int = 1, **headers: str) -> httpx.Response:
        body = {"model": "parrot", "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True}
        sent = {"x-tritium-explain": "1", **{name.replace("_", "-"): value for name, value in headers.items()}}
        return await self.http.post("/v1/completions", json=body, headers=sent)

    async def went(self, prompt: str = "once upon a time", **headers: str) -> str:
        answer = await self.ask(prompt, **headers)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-tritium-worker"]

    @asynccontextmanager
    async def stream(self, **headers: str) -> AsyncIterator[str]:
        """Keep a worker busy with a stream; gives the worker's name once its first token is there."""
        body = {"model": "parrot", "prompt": "on and on", "max_tokens": LONG, "ignore_eos": True, "stream": True}
        sent = {"x-tritium-explain": "1", **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with self.http.stream("POST", "/v1/completions", json=body, headers=sent) as answer:
            assert answer.status_code == 200
            async for _ in answer.aiter_lines():
                yield answer.headers["x-tritium-worker"]
                return


@asynccontextmanager
async def client_of(product: Product, key: str = "none") -> AsyncIterator[Client]:
    # Reading the certificates of the world's authorities would take longer than the test.
    async with httpx.AsyncClient(
        base_url=f"http://{product.url('OpenAI')}",
        headers={"authorization": f"Bearer {key}"},
        timeout=60,
        verify=False,
    ) as http:
        yield Client(http)


async def test_kv(three: Product) -> None:
    """Mode kv: a prompt goes back to the worker that holds it, and is found there."""
    async with client_of(three) as client:
        await client.mode("kv")
        prompt = "a beginning that is as long as several blocks of the cache " * 8
        first = await client.ask(prompt)
        again = [await client.ask(prompt + ending) for ending in ("one", "two", "three")]
        assert {answer.headers["x-tritium-worker"] for answer in again} == {first.headers["x-tritium-worker"]}
        assert all(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"] >= 64 for answer in again)
        assert re.match(r"[\d.]+; own=[\d.]+ eviction=[\d.]+ waiting=0 ", again[0].headers["x-tritium-cost"])


async def test_round_robin(three: Product) -> None:
    """Mode round_robin: every worker in turn, whatever it holds."""
    async with client_of(three) as client:
        await client.mode("round-robin")
        went = [await client.went() for _ in range(6)]
        assert sorted(went[:3]) == WORKERS
        assert went[:3] == went[3:]


async def test_random(three: Product) -> None:
    """Mode random: all workers come up, in an order that is no turn."""
    async with client_of(three) as client:
        await client.mode("random")
        went = [await client.went() for _ in range(60)]
        assert set(went) == set(WORKERS)
        assert any(one == other for one, other in itertools.pairwise(went))


@pytest.mark.parametrize("mode", ["least-loaded", "power-of-two"])
async def test_by_load(three: Product, mode: str) -> None:
    """Modes least_loaded and power_of_two: the busy worker is passed over, of two drawn as of all, while it is busy."""
    async with client_of(three) as client:
        await client.mode(mode)
        async with client.stream(x_tritium_worker="worker_1") as busy:
            went = {await client.went() for _ in range(24)}
        assert busy == "worker_1"
        assert went == {"worker_0", "worker_2"}


async def test_session(three: Product) -> None:
    """Mode session: what belongs together stays together, whatever it asks; different sessions use every worker."""
    async with client_of(three) as client:
        await client.mode("session")
        homes = {
            name: {await client.went(f"{n} things", x_tritium_session=name) for n in range(3)}
            for name in ("ann", "bob", "cid", "dan", "eve", "fay", "gil", "hal", "ida", "jim")
        }
        assert all(len(home) == 1 for home in homes.values())
        assert set.union(*homes.values()) == set(WORKERS)


@pytest.mark.parametrize("mode", ["kv", "round_robin", "random", "least_loaded", "power_of_two", "session"])
async def test_pinned(three: Product, mode: str) -> None:
    """A worker named by header is taken in every mode, and explained so before anything is sent."""
    async with client_of(three) as client:
        await client.mode(mode)
        for worker in WORKERS:
            assert await client.went(x_tritium_worker=worker) == worker
            asked = {"model": "parrot", "prompt": "once", "max_tokens": 1}
            dry = await client.http.post("/router/explain", json=asked, headers={"x-tritium-worker": worker})
            route = dry.json()["prompts"][0]["route"]
            assert route["worker"] == worker
            assert route["because"].startswith("pinned; ")
        assert (await client.ask(x_tritium_worker="worker_9")).status_code == 404


async def waiting(product: Product, count: int) -> dict[str, int]:
    """Wait until so many requests wait, and return how many of which tenant."""
    async with httpx.AsyncClient(timeout=120, verify=False) as http, asyncio.timeout(60):
        while True:
            text = (await http.get(f"http://{product.url('metrics')}/metrics")).text
            found = re.findall(r'^tritium_fleet_waiting_requests{.*tenant="([^"]*)".*} (\d+)', text, re.MULTILINE)
            tenants = {tenant: int(value) for tenant, value in found if int(value)}
            if sum(tenants.values()) == count:
                return tenants


async def test_full_workers(start, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # a fixture of conftest
    """While every worker is full, API keys wait in turn, within bounds: 429 beyond them, and retry-after is told."""
    keys = tmp_path / "keys.toml"
    keys.write_text(
        "".join(
            f'[[keys]]\nname = "{name}"\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n'
            for name in ("team-a", "team-b")
        )
    )
    product = start(
        repository(tmp_path / "models", mocker=MOCKER),
        "--engine=mocker",
        "--fleet=parrot=workers=1,worker_requests=1,max_waiting_tenant=2",
        f"--openai-keys={keys}",
    )
    async with client_of(product, "team-a") as a, client_of(product, "team-b") as b:
        async with a.stream():
            first = [asyncio.create_task(a.ask(f"{n}")) for n in range(2)]
            assert await waiting(product, 2) == {"team-a": 2}
            refused = await a.ask()
            assert refused.status_code == 429
            assert "2 requests of 'team-a' wait" in refused.json()["error"]["message"]
            assert int(refused.headers["retry-after"]) >= 1
            second = asyncio.create_task(b.ask())
            assert await waiting(product, 3) == {"team-a": 2, "team-b": 1}
            dry = await b.http.post("/router/explain", json={"model": "parrot", "prompt": "x", "max_tokens": 1})
            assert "every worker is full, 3 requests wait already" in dry.json()["prompts"][0]["route"]["because"]
        answers = await asyncio.gather(*first, second)
        assert [answer.status_code for answer in answers] == [200] * 3
        assert await waiting(product, 0) == {}
