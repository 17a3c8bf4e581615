"""A worker process: one engine, fed and read over a socket that it inherits.

    python -m tritium.cluster.worker --fd N --scratch FOLDER      (started by cluster.process, not by hand)

    LOADING --ok--> SERVING --Drain--> DRAINING --idle or grace over--> end
       |               |                   |
       +---------------+---- peer gone ----+--> end

It leads a process group of its own, so that whatever the engine started can be ended with it. A thread watches the
socket: when the server dies, also in the middle of loading, nothing of the worker outlives it by long.
"""

import argparse
import asyncio
import os
import select
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Coroutine

import uvloop

from tritium.cluster.channel import Channel
from tritium.cluster.engines import words_of
from tritium.cluster.frames import Drain, DrainHeard, Failed, HoldRole, LetRole, Load, TakeRole, ToWorker
from tritium.cluster.runner import EngineRunner, Peer, end_at_once

ORPHAN_GRACE_S = 10.0
"""How long a worker may take to end by itself once its server is gone."""


class Worker:
    """The engine and its side of the connection."""

    def __init__(self, scratch: str) -> None:
        # The server sweeps away what a dead engine left.
        self.runner = EngineRunner(scratch, end_at_once)
        self.channel: Channel[ToWorker] = Channel(ToWorker, self._take, lambda _: self.ended.set())
        self.ended = asyncio.Event()
        self.exit_status = 0
        self._server = Peer(self.channel.send)
        self._tasks: set[asyncio.Task[None]] = set()

    def _take(self, frame: ToWorker) -> None:
        match frame:
            case Load():
                self._spawn(self._load(frame))
            case Drain(grace_s):
                self._spawn(self._drain(grace_s))
            case DrainHeard() | HoldRole() | TakeRole() | LetRole():
                pass  # a front's words; a server ends its workers itself, and knows their roles
            case _:
                self.runner.take(self._server, frame)

    async def _load(self, load: Load) -> None:
        try:
            await self.runner.open(load)
        except Exception as error:  # noqa: BLE001  an engine may raise anything; its words go to the operator
            self.exit_status = 1
            self.channel.send(Failed(words_of(error)))
            self.channel.close()
            self.ended.set()
            return
        self.runner.join(self._server)

    async def _drain(self, grace_s: float) -> None:
        await self.runner.drain(grace_s)
        self.ended.set()

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Free the engine and say goodbye."""
        for task in tuple(self._tasks):
            task.cancel()
        await self.runner.stop()
        self.channel.close()


def _end_with_peer(connection: socket.socket, scratch: str) -> None:
    """Wait until the server's end of the socket is gone; then end this process group, by force if need be."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    poll.poll()
    time.sleep(ORPHAN_GRACE_S)
    shutil.rmtree(scratch, ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)


async def serve(connection: socket.socket, scratch: str) -> int:
    """Serve one engine over the socket until it ends; return the exit status."""
    loop = asyncio.get_running_loop()
    worker = Worker(scratch)
    loop.add_signal_handler(signal.SIGTERM, worker.ended.set)
    await loop.create_connection(lambda: worker.channel, sock=connection)
    await worker.ended.wait()
    await worker.stop()
    shutil.rmtree(scratch, ignore_errors=True)
    return worker.exit_status


def main() -> None:
    """Run a worker process."""
    parser = argparse.ArgumentParser(prog="tritium.cluster.worker")
    parser.add_argument("--fd", type=int, required=True, help="the inherited socket to the server")
    parser.add_argument("--scratch", required=True, help="a folder that goes with the worker")
    arguments = parser.parse_args()
    # A group of its own, to be ended whole, but in its server's session: Linux shares processors out among sessions
    # first (autogroup), and beside an engine that spins in another one the server would wait for its turn.
    os.setpgid(0, 0)
    connection = socket.socket(fileno=arguments.fd)
    # Ctrl-C in a terminal is the server's to handle: it drains its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watched = (connection.dup(), arguments.scratch)
    threading.Thread(target=_end_with_peer, args=watched, name="end-with-peer", daemon=True).start()
    status = uvloop.run(serve(connection, arguments.scratch))
    sys.stdout.flush()
    sys.stderr.flush()
    # The engine has freed what it held; taking a big library down object by object would only cost seconds.
    os._exit(status)


if __name__ == "__main__":
    main()
