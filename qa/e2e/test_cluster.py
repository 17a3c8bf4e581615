"""A cluster as it is operated: fronts and workers in processes of their own, found by etcd or in a folder."""

import asyncio
import shutil

import httpx
import pytest
from qa.e2e.cluster import Load, OtherMachine, WorkerProcess, metric, start_front, until_metric
from qa.unit.cluster.etcd_server import EtcdServer


def ready(count):
    return lambda value: value == count


@pytest.mark.server("etcd")
async def test_nothing_is_lost_while_etcd_and_workers_come_and_go(tmp_path):
    """etcd killed and restarted, every worker replaced, one by kill -9: no request fails, none is answered wrongly.

    Takes some 10 s: it starts four workers and two fronts.
    """
    etcd = await EtcdServer().start()
    running = []

    async def worker(name):
        started = await asyncio.to_thread(WorkerProcess, name, etcd.address)
        running.append(started.kill)
        return started

    try:
        first, second = await asyncio.gather(worker("first"), worker("second"))
        fronts = await asyncio.gather(
            *(asyncio.to_thread(start_front, etcd.address, tmp_path / "cards") for _ in range(2))
        )
        running += [front.kill for front in fronts]
        front = fronts[0]
        for one in fronts:
            await until_metric(one, "tritium_workers", ready(2), state="ready")
        load = Load([one.url("OpenAI") for one in fronts])
        await load.grow(10)

        etcd.kill()
        await until_metric(front, "tritium_discovery_connected", ready(0))
        await load.grow(20)
        await etcd.start()
        await until_metric(front, "tritium_discovery_connected", ready(1))

        await worker("third")
        for one in fronts:
            await until_metric(one, "tritium_workers", ready(3), state="ready")
        assert await asyncio.to_thread(first.stop) == 0
        await load.grow(10)
        fourth = await worker("fourth")
        for one in fronts:
            await until_metric(one, "tritium_workers", ready(3), state="ready")
        await asyncio.to_thread(second.kill)
        await load.grow(10)
        assert await asyncio.to_thread(fourth.stop) == 0
        await load.grow(10)
        assert await load.end() >= 60
        for one in fronts:
            assert await asyncio.to_thread(one.stop) == 0
    finally:
        for end in running:
            await asyncio.to_thread(end)
        etcd.close()


async def test_a_front_finds_models_as_they_come(tmp_path):
    """A front that starts first serves a model as soon as its worker is there: both behind a secret, over a folder.

    A second worker of that name is told that it is not used, and ends where it was told to.
    """
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef0123456789abcdef")
    secret.chmod(0o600)
    shared = (f"--cluster-secret={secret}",)
    discovery = f"file:{tmp_path}/workers"
    front = await asyncio.to_thread(start_front, discovery, tmp_path / "cards", *shared)
    worker = None
    try:
        url = f"http://{front.url('OpenAI')}/v1"
        async with httpx.AsyncClient(timeout=60) as client:
            assert (await client.get(f"{url}/models")).json()["data"] == []
            worker = await asyncio.to_thread(
                WorkerProcess, "only", discovery, "--name=talker", f"--listen=unix:{tmp_path}/only.sock", *shared
            )
            async with asyncio.timeout(60):
                while not (await client.get(f"{url}/models")).json()["data"]:  # noqa: ASYNC110  a client's view
                    await asyncio.sleep(0.05)
            await until_metric(front, "tritium_workers", ready(1), state="ready", model="talker")
            asked = {"model": "talker", "messages": [{"role": "user", "content": "What is a batch?"}], "max_tokens": 5}
            answer = await client.post(f"{url}/chat/completions", json=asked)
            assert answer.json()["usage"]["completion_tokens"] == 5
            kserve = f"http://{front.url('HTTP')}/v2/models/talker/generate"
            told = await client.post(kserve, json={"text_input": "What is", "max_tokens": 4})
            assert told.json()["model_name"] == "talker"
        same_name = ("--name=talker", "--refused-s=0.1", *shared)
        second = await asyncio.to_thread(WorkerProcess, "only", discovery, *same_name)
        assert await asyncio.to_thread(second.process.wait, 60) == 1
        assert second.kill() == 1
        assert "not_used_by_front" in second.output
        assert "another worker is called only" in second.output
        assert "no front has used this worker for 0.1 s" in second.output
    finally:
        if worker is not None:
            await asyncio.to_thread(worker.kill)
        await asyncio.to_thread(front.kill)


@pytest.mark.server("etcd")
@pytest.mark.skipif(not shutil.which("ip") or not OtherMachine.can_be(), reason="network namespaces need root")
async def test_a_partition_between_two_machines(tmp_path):
    """A cable pulled under load: streams of the lost machine go on at the other, and it is used again when it is back.

    Takes some 15 s: it waits until a silent connection is given up, and until the lost machine is used again.
    """
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef0123456789abcdef")
    secret.chmod(0o600)
    machine = OtherMachine()
    etcd = EtcdServer(machine.here)
    running = []
    try:
        await etcd.start()

        def worker(name, host, **rest):
            return WorkerProcess(name, etcd.address, f"--cluster-secret={secret}", f"--listen={host}:0", **rest)

        started = await asyncio.gather(
            asyncio.to_thread(worker, "here", machine.here),
            asyncio.to_thread(worker, "there", machine.there, within=machine.within),
        )
        running += [one.kill for one in started]
        front = await asyncio.to_thread(
            start_front,
            etcd.address,
            tmp_path / "cards",
            f"--cluster-secret={secret}",
            "--fleet=tiny_chat=router=round_robin,silent_s=2",
        )
        running.append(front.kill)
        await until_metric(front, "tritium_workers", ready(2), state="ready")
        load = Load([front.url("OpenAI")])
        await load.grow(20)
        machine.pull()
        await until_metric(front, "tritium_workers", ready(1), state="ready")
        await load.grow(20)
        machine.plug()
        await until_metric(front, "tritium_workers", ready(2), within_s=90, state="ready")
        await load.grow(20)
        assert await load.end() >= 60
        assert await asyncio.to_thread(metric, front, "tritium_worker_hung_total") >= 1
    finally:
        for end in running:
            await asyncio.to_thread(end)
        etcd.close()
        machine.close()
