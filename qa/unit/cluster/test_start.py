"""Fleets that cannot start, and what is left of a fleet whose server is gone."""

import asyncio
import os
import signal
import sys
import textwrap

import pytest

from tritium.backends.engine import Role
from tritium.cluster.frames import VERSION, Load
from tritium.cluster.local import start_fleet
from tritium.cluster.member import Reports
from tritium.cluster.spec import FleetSpec
from tritium.cluster.supervisor import SupervisedWorker
from tritium.core.errors import ModelFailed, WorkerLost


async def test_engine_that_cannot_load(fleet_of):
    """The engine's own words come out, and no worker stays."""
    with pytest.raises(ModelFailed, match="worker_0: ValueError: no weights in the folder"):
        async with fleet_of("workers=1", fail_load=True):
            pass


async def test_worker_that_dies_loading(fleet_of):
    """A process that dies while it loads is shown with how it ended and what it last said."""
    with pytest.raises(WorkerLost) as raised:
        async with fleet_of("workers=1", die_loading=True):
            pass
    assert "ended with status 7" in raised.value.message
    assert "the echo engine is about to die" in raised.value.message


async def test_unknown_engine(tmp_path):
    """An engine that is not installed is named, with those that are."""
    with pytest.raises(ModelFailed, match=r"no engine 'nonesuch' is installed \(there are .*embedded.*vllm"):
        await start_fleet(FleetSpec(), name="m", engine="nonesuch", folder=tmp_path, arguments={})


async def test_process_that_cannot_be_started(tmp_path, monkeypatch):
    """Where the system refuses to start a process, its reason is the error, and nothing is left to stop."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(WorkerLost, match=r"worker_[01]: its process cannot be started: .*No such file"):
        await start_fleet(FleetSpec(workers=2), name="m", engine="mocker", folder=tmp_path, arguments={})


async def test_worker_of_another_version():
    """A worker that speaks other frames refuses to load, and says so."""
    worker = SupervisedWorker(
        Load(VERSION + 1, "mocker", "/nowhere", {}, Role.AGGREGATED, "worker_0"),
        Reports(lambda _: None, lambda *_: None, lambda *_: None),
        loras={},
    )
    with pytest.raises(ModelFailed, match=f"speaks frames of version {VERSION}, its server of version {VERSION + 1}"):
        await worker.start()
    await worker.stop(0)
    assert worker.pid == 0


SERVER = """
    import asyncio, sys
    from pathlib import Path
    from tritium.cluster.local import start_fleet
    from tritium.cluster.spec import parse_fleet

    async def main():
        fleet = await start_fleet(parse_fleet("workers=2"), name="m", engine="echo_engine:EchoEngine",
                                  folder=Path("."), arguments={})
        print(*(worker.pid for worker in fleet.workers.by_name.values()), flush=True)
        await asyncio.sleep(600)

    asyncio.run(main())
"""


async def test_workers_do_not_outlive_a_killed_server(fleet_of):
    """kill -9 of the server: its workers see the connection end and go too."""
    async with fleet_of():  # for the environment in which the workers find their engine
        server = await asyncio.create_subprocess_exec(
            sys.executable, "-c", textwrap.dedent(SERVER), stdout=asyncio.subprocess.PIPE
        )
        pids = (await asyncio.wait_for(server.stdout.readuntil(b"\n"), 60)).split()
        while not pids[-1].isdigit():  # log lines come first
            pids = (await asyncio.wait_for(server.stdout.readuntil(b"\n"), 60)).split()
        watched = [os.pidfd_open(int(pid)) for pid in pids]
        server.send_signal(signal.SIGKILL)
        await server.wait()
        loop = asyncio.get_running_loop()
        for descriptor in watched:
            ended = asyncio.Event()
            loop.add_reader(descriptor, ended.set)
            await asyncio.wait_for(ended.wait(), 60)
            loop.remove_reader(descriptor)
            os.close(descriptor)
        server._transport.close()


async def test_nothing_is_open_to_a_worker_that_ended(fleet_of):
    """The pipe of its output is closed with it, although what it started may hold the other end for ever."""
    async with fleet_of() as fleet:
        worker = fleet.workers.by_name["worker_0"]
        killed = worker._process
        os.kill(worker.pid, signal.SIGKILL)
        await fleet.events.until("worker_ready", 2)
        ended = worker._process
    assert killed is not ended
    assert killed._process._transport.is_closing()
    assert ended._process._transport.is_closing()
