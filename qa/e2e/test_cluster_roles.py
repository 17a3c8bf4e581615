"""Roles of workers in processes of their own, changed by `tritium fleet` at one of two fronts while clients stream."""

import asyncio
import subprocess

import httpx
import pytest
from qa.e2e.cluster import Load, WorkerProcess, metric, start_front, until_metric
from qa.e2e.product import TRITIUM
from qa.unit.cluster.etcd_server import EtcdServer

PREFILLS = "tritium_fleet_remote_prefills_total"


def fleet(front, *arguments):
    """Run `tritium fleet` at a front; return its exit status and what it said."""
    command = [TRITIUM, "fleet", "tiny_chat", *arguments, "--url", f"http://{front.url('OpenAI')}"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    return told.returncode, told.stdout + told.stderr


async def ask(front, number, **headers):
    """Return the greedy answer to a long prompt, which is another for every number."""
    told = f"{number}: what is a batch? A batch is several requests that are run together. " * 8
    messages = [{"role": "user", "content": told}]
    body = {"model": "tiny_chat", "messages": messages, "max_tokens": 24, "temperature": 0}
    async with httpx.AsyncClient(timeout=90) as client:
        answer = await client.post(f"http://{front.url('OpenAI')}/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


async def until_roles(front, **counts):
    """Wait until a front has so many ready workers of each role."""
    for role, count in counts.items():
        await until_metric(front, "tritium_worker_ready", lambda value, count=count: value == count, role=role)


async def test_a_role_that_a_worker_cannot_be_started_in(tmp_path):
    """It starts itself anew in the role it had, under the same process id, and the operator is told; takes some 5 s."""
    discovery = f"file:{tmp_path}/workers"
    running = []
    try:
        for name in ("a", "b"):
            running.append(await asyncio.to_thread(WorkerProcess, name, discovery, "--engine=echo"))
        front = await asyncio.to_thread(start_front, discovery, tmp_path / "cards")
        running.append(front)
        await until_roles(front, aggregated=2)
        status, said = await asyncio.to_thread(fleet, front, "--worker", "a=prefill", "--worker", "b=decode")
        assert (status, "worker a could not be started as prefill, and is aggregated" in said) == (1, True), said
        await until_roles(front, aggregated=2)
        worker = running[0]
        assert worker.process.poll() is None
        assert "the echo engine has no KV to move" in worker.output
        assert "It cannot be started as prefill, and is started as aggregated again." in worker.output
        assert "is no setting" not in worker.output
        assert await asyncio.to_thread(worker.stop) == 0
    finally:
        for one in running:
            await asyncio.to_thread(one.kill)


@pytest.mark.parametrize("kind", ["folder", pytest.param("etcd", marks=pytest.mark.server("etcd"))])
async def test_roles_change_under_load(kind, tmp_path):
    """2A becomes 1P+1D and then 1P+2D, no answer is another, and both fronts agree.

    One worker, which was not told to be ready for that, starts itself anew for its role where that is tried.
    Takes some 10 s: it starts three workers and two fronts.
    """
    etcd = await EtcdServer().start() if kind == "etcd" else None
    again = etcd is None
    discovery = etcd.address if etcd is not None else f"file:{tmp_path}/workers"
    running = []

    async def start(what, *arguments):
        started = await asyncio.to_thread(what, *arguments)
        running.append(started.kill)
        return started

    try:
        workers = await asyncio.gather(
            start(WorkerProcess, "a", discovery, "--mixed"),
            start(WorkerProcess, "b", discovery, "--mixed"),
            start(WorkerProcess, "c", discovery, *([] if again else ["--mixed"])),
        )
        fronts = await asyncio.gather(*(start(start_front, discovery, tmp_path / "cards") for _ in range(2)))
        one, other = fronts
        for front in fronts:
            await until_roles(front, aggregated=3)
        # Only this worker has their prompts in its cache, and it will be the one that prefills.
        alone = [await ask(one, number, **{"x-tritium-worker": "a"}) for number in range(4)]
        load = Load([front.url("OpenAI") for front in fronts])
        await load.grow(10)

        status, said = await asyncio.to_thread(fleet, one, "--worker", "a=prefill", "--worker", "b=decode")
        assert (status, said.count("in place")) == (0, 2), said
        for front in fronts:
            await until_roles(front, prefill=1, decode=1, aggregated=1)
        await load.grow(10)

        status, said = await asyncio.to_thread(fleet, other, "prefill=1,decode=2")
        assert status == 0, f"{said}\n{workers[2].output}"
        assert (said.count("started again"), said.count("in place")) == ((1, 0) if again else (0, 1)), said
        for front in fronts:
            await until_roles(front, prefill=1, decode=2, aggregated=0)
        await load.grow(10)
        for number, answer in enumerate(alone):
            front = fronts[number % 2]
            before = await asyncio.to_thread(metric, front, PREFILLS)
            assert await ask(front, number) == answer
            assert await asyncio.to_thread(metric, front, PREFILLS) == before + 1

        late = await start(start_front, discovery, tmp_path / "cards")
        await until_roles(late, prefill=1, decode=2)
        status, said = await asyncio.to_thread(fleet, late, "--worker", "a=decode")
        assert status == 1
        assert "at least one prefill and one decode worker" in said
        assert await load.end() >= 30
        assert [await asyncio.to_thread(worker.stop) for worker in workers] == [0, 0, 0]
    finally:
        for end in running:
            await asyncio.to_thread(end)
        if etcd is not None:
            etcd.close()
