"""X prefill and Y decode workers of real vLLM on two machines, with etcd: `python -m qa.bench.two_machines [X Y]`.

The second machine is a network namespace (this needs root). Prompts are computed on this one, answers generated on the
other; the KV goes over the cable by NIXL, and is counted. Answers must equal those of one aggregated worker, and no
transfer may have failed: the exit status says whether it was so.
"""

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

import httpx
from qa.e2e.cluster import OtherMachine, WorkerProcess, metric, start_front, until_metric
from qa.unit.cluster.etcd_server import EtcdServer

PROMPTS = [f"{n}: what is a batch? A batch is several requests that are run together. " * 10 for n in range(8)]


async def answers(front: object) -> list[str]:
    async def ask(client: httpx.AsyncClient, prompt: str) -> str:
        body = {"model": "tiny_chat", "messages": [{"role": "user", "content": prompt}], "max_tokens": 16}
        told = await client.post(f"http://{front.url('OpenAI')}/v1/chat/completions", json={**body, "temperature": 0})
        told.raise_for_status()
        return told.json()["choices"][0]["message"]["content"]

    async with httpx.AsyncClient(timeout=300) as client:
        return list(await asyncio.gather(*(ask(client, prompt) for prompt in PROMPTS)))


async def main(prefill: int, decode: int) -> bool:
    scratch = Path(tempfile.mkdtemp(prefix="tritium-two-machines-"))
    secret = scratch / "secret"
    secret.write_text("0123456789abcdef" * 2)
    secret.chmod(0o600)
    machine = OtherMachine()
    etcd = EtcdServer(machine.here)
    running = []

    async def worker(name: str, host: str, role: str, share: str, namespace: str, **rest: object) -> WorkerProcess:
        arguments = [f"--cluster-secret={secret}", f"--listen={host}:0", f"--role={role}", f"--share={share}"]
        arguments += [f"--namespace={namespace}", "--engine=vllm"]
        started = await asyncio.to_thread(WorkerProcess, name, etcd.address, *arguments, wait_s=600, **rest)
        running.append(started.kill)
        return started

    async def front(namespace: str, workers: int) -> object:
        started = await asyncio.to_thread(
            start_front, etcd.address, scratch, f"--cluster-secret={secret}", f"--namespace={namespace}"
        )
        running.append(started.kill)
        await until_metric(started, "tritium_workers", lambda ready: ready == workers, state="ready")
        return started

    try:
        await etcd.start()
        total = prefill + decode
        await asyncio.gather(
            worker("alone", machine.here, "aggregated", f"0/{total + 1}", "alone"),
            *(worker(f"p{n}", machine.here, "prefill", f"{n}/{total}", "split") for n in range(prefill)),
            *(
                worker(f"d{n}", machine.there, "decode", f"{prefill + n}/{total}", "split", within=machine.within)
                for n in range(decode)
            ),
        )
        expected = await answers(await front("alone", 1))
        split = await front("split", total)
        found = await answers(split)
        remote = await asyncio.to_thread(metric, split, "tritium_fleet_remote_prefills_total")
        await until_metric(split, "tritium_kv_pulls_total", lambda pulls: pulls >= remote)
        equal = sum(a == b for a, b in zip(expected, found, strict=True))
        fallbacks = await asyncio.to_thread(metric, split, "tritium_fleet_prefill_fallbacks_total")
        print(f"equal answers          {equal} of {len(PROMPTS)}")
        for name in (
            "tritium_fleet_remote_prefills_total",
            "tritium_fleet_prefill_fallbacks_total",
            "tritium_kv_received_bytes_total",
            "tritium_kv_pulls_total",
            "tritium_kv_pull_seconds_total",
        ):
            print(f"{name:42} {await asyncio.to_thread(metric, split, name):g}")
        return equal == len(PROMPTS) and remote > 0 and fallbacks == 0
    finally:
        for end in running:
            await asyncio.to_thread(end)
        etcd.close()
        machine.close()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(not asyncio.run(main(*map(int, sys.argv[1:3] or ("1", "1")))))
