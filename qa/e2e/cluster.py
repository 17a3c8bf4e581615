"""Workers as an operator starts them, `tritium worker` in processes of their own, and load that goes on beside."""

import asyncio
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import httpx
from qa.e2e.product import ROOT, TRITIUM, Product

TINY_CHAT = str(ROOT / "model_repository" / "tiny_chat")


class WorkerProcess:
    """A running `tritium worker`."""

    def __init__(self, name, discovery, *arguments, model=TINY_CHAT, wait_s=150.0, within=()):
        self.name = name
        command = [
            *within,
            TRITIUM,
            "worker",
            model,
            "--worker-name",
            name,
            "--discovery",
            discovery,
            "--engine",
            "embedded",
        ]
        self.process = subprocess.Popen(
            [*command, "--engine=embedded", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"XDG_CACHE_HOME": "/nonexistent"},
        )
        self._lines = []
        self._settled = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._settled.wait(wait_s):
            self.kill()
            raise TimeoutError(f"{name} is not ready after {wait_s} s:\n{self.output}")

    def _read(self):
        for line in self.process.stderr:
            self._lines.append(line)
            if line.startswith("Ready in "):
                self._settled.set()
        self._settled.set()

    @property
    def output(self):
        return "".join(self._lines)

    def stop(self, within_s=90.0):
        """SIGTERM; return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self._end(within_s)

    def kill(self):
        """kill -9."""
        self.process.kill()
        return self._end(30)

    def _end(self, within_s):
        status = self.process.wait(within_s)
        self._reader.join(60)
        self.process.stderr.close()
        return status


class OtherMachine:
    """A network namespace with a cable to this one, which can be pulled."""

    def __init__(self):
        self.name = f"tritium{os.getpid() % 100_000}"
        third = os.getpid() % 250
        self.here, self.there = f"10.213.{third}.1", f"10.213.{third}.2"
        self.within = ("ip", "netns", "exec", self.name)
        self._cable = f"tr{os.getpid() % 100_000}"
        for command in (
            f"netns add {self.name}",
            f"link add {self._cable} type veth peer name eth0 netns {self.name}",
            f"addr add {self.here}/30 dev {self._cable}",
            f"link set {self._cable} up",
            f"-n {self.name} addr add {self.there}/30 dev eth0",
            f"-n {self.name} link set eth0 up",
            f"-n {self.name} link set lo up",
        ):
            self._ip(command)

    @staticmethod
    def can_be():
        """Tell whether this process may make network namespaces."""
        name = f"tritium-try{os.getpid()}"
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
        if made:
            subprocess.run(["ip", "netns", "delete", name], check=True)
        return made

    def pull(self):
        """Pull the cable: nothing goes through any more, and nobody is told."""
        self._ip(f"-n {self.name} link set eth0 down")

    def plug(self):
        """Put it back."""
        self._ip(f"-n {self.name} link set eth0 up")

    def close(self):
        self._ip(f"link delete {self._cable}")
        self._ip(f"netns delete {self.name}")

    @staticmethod
    def _ip(command):
        subprocess.run(["ip", *command.split()], check=True, capture_output=True)


def start_front(discovery, cache: Path, *arguments):
    """Start a front without any model of its own."""
    return Product(["--role=front", f"--discovery={discovery}", f"--card-cache={cache}", *arguments])


class Load:
    """Clients that ask again and again until told to stop; every answer is held against the first of its prompt."""

    def __init__(self, urls, clients=6, tokens=24):
        self.answers = {}
        self.done = 0
        self.wrong = []
        self._urls = urls
        self._tokens = tokens
        self._stop = False
        self._tasks = [asyncio.ensure_future(self._client(n)) for n in range(clients)]

    async def grow(self, more, within_s=120.0):
        """Wait until so many more have been answered."""
        aim = self.done + more
        async with asyncio.timeout(within_s):
            while self.done < aim and not self.wrong:  # noqa: ASYNC110  a count that clients raise
                await asyncio.sleep(0.02)
        assert not self.wrong

    async def end(self):
        self._stop = True
        await asyncio.gather(*self._tasks)
        assert self.wrong == []
        return self.done

    async def _client(self, number):
        async with httpx.AsyncClient(timeout=90) as client:
            asked = 0
            while not self._stop and not self.wrong:
                prompt = f"What is batch number {(number + asked) % 5}?"
                url = self._urls[asked % len(self._urls)]
                asked += 1
                try:
                    text = await self._ask(client, url, prompt)
                except (httpx.HTTPError, AssertionError) as error:
                    self.wrong.append(repr(error))
                    return
                if self.answers.setdefault(prompt, text) != text:
                    self.wrong.append(f"{prompt}: {text!r} and not {self.answers[prompt]!r}")
                self.done += 1

    async def _ask(self, client, url, prompt):
        body = {
            "model": "tiny_chat",
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": self._tokens,
            "temperature": 0,
        }
        answer = await client.post(f"http://{url}/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        return told["choices"][0]["message"]["content"], told["usage"]["completion_tokens"]


def metric(front, name, **labels):
    """Return a sample of a front's metrics, summed over the labels that are not given."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    lines = httpx.get(f"http://{front.url('metrics')}/metrics", timeout=120).text.splitlines()
    found = [line for line in lines if line.startswith((f"{name}{{", f"{name} ")) and all(w in line for w in wanted)]
    return sum(float(line.rpartition(" ")[2]) for line in found)


async def until_metric(front, name, wanted, within_s=120.0, **labels):
    """Wait until a sample satisfies `wanted`."""
    deadline_s = time.monotonic() + within_s
    while not wanted(value := await asyncio.to_thread(metric, front, name, **labels)):
        assert time.monotonic() < deadline_s, f"{name} {labels} is {value}\n{front.output}"
        await asyncio.sleep(0.05)
