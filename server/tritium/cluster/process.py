"""A worker's process: started with one end of a socket pair, its output kept, its process group ended with it.

    RUNNING --exits, is killed, or hangs up--> GONE --its last words are read--> --what it started is swept--> ENDED
                                                (on_gone)                (on_end)

It has a scratch folder of its own for whatever its engine leaves behind; the folder goes last.
"""

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import structlog

from tritium.cluster.channel import Channel
from tritium.cluster.frames import FromWorker, ToWorker

OUTPUT_LINES = 200
"""Last lines of a worker's output kept."""

SHOWN_LINES = 20
"""How many of them are shown when it dies."""

_LAST_WORDS_S = 0.2
"""How long to wait for the end of a dead worker's output, which its children may hold open."""

_SWEEP_S = 5.0
_SWEEP_POLL_S = 0.02
"""How long a dead worker's children may take to end before they are killed, and how often to look."""

_KILLED_S = 30.0
"""How long a killed worker and what it started may take to be gone."""

_GOODBYE_S = 10.0
"""How long a worker may take to end after its connection closed."""

_CAUSE = re.compile(r"(?:^|[\]\s])((?:\w+\.)*\w*(?:Error|Exception): \S.*)")

log = structlog.get_logger(__name__)


class WorkerProcess:
    """One run of one worker.

    Contract: `on_frame` is called for each of its frames, `on_gone` once as soon as no more can come, by whatever
    cause; what it was doing need wait no longer. `on_end` is called once when the process is over and `death` knows
    all; `ended` is set when nothing of it is left, the processes it started and its scratch folder included.
    """

    def __init__(
        self,
        worker: str,
        on_frame: Callable[[FromWorker], None],
        on_gone: Callable[["WorkerProcess"], None],
        on_end: Callable[["WorkerProcess"], None],
    ) -> None:
        self.worker = worker
        self.output: deque[str] = deque(maxlen=OUTPUT_LINES)
        self.scratch = ""
        self.ended = asyncio.Event()
        self._on_gone = on_gone
        self._on_end = on_end
        self._gone = False
        self._channel: Channel[FromWorker] = Channel(FromWorker, on_frame, self._closed)
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def started(self) -> bool:
        """Tell whether there is, or was, a process."""
        return self._watch is not None

    @property
    def pid(self) -> int:
        """Return the process id, also its group's."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start the process; it waits for its first frame."""
        ours, theirs = socket.socketpair()
        self.scratch = tempfile.mkdtemp(prefix=f"tritium-{self.worker}-")
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "tritium.cluster.worker",
                    "--fd",
                    str(theirs.fileno()),
                    "--scratch",
                    self.scratch,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    pass_fds=(theirs.fileno(),),
                )
            except BaseException:
                ours.close()
                self._remove_scratch()
                raise
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        self._watch = loop.create_task(self._wait())
        await loop.create_connection(lambda: self._channel, sock=ours)

    def send(self, *frames: ToWorker) -> None:
        """Send frames in one write."""
        self._channel.send(*frames)

    async def end(self, within_s: float) -> None:
        """Wait for the process to end by itself, then kill it and wait for that, within a bound as well."""
        try:
            if within_s:
                await asyncio.wait_for(self.ended.wait(), within_s)
                return
        except TimeoutError:
            log.warning("worker_killed", worker=self.worker, after_s=within_s)
        self.kill()
        try:
            await asyncio.wait_for(self.ended.wait(), _KILLED_S)
        except TimeoutError:
            # In a system call that nothing interrupts, such as one of a broken device.
            log.error("worker_does_not_die", worker=self.worker, pid=self.pid)  # noqa: TRY400  its cause is no exception

    def kill(self) -> None:
        """Kill the process; what it started is swept away after it."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    @property
    def status(self) -> int | None:
        """Return the exit status, negative after a signal; None while the process runs."""
        assert self._process is not None
        return self._process.returncode

    def fate(self) -> str:
        """Say how the process ended."""
        if self.status is None:
            return f"process {self.pid} hung up"
        if self.status < 0:
            return f"process {self.pid} was killed by {signal.Signals(-self.status).name}"
        return f"process {self.pid} ended with status {self.status}"

    def death(self) -> str:
        """Say how the process ended, with the exceptions in its output; without any, its last lines."""
        causes = self.causes() if self.status else []
        shown = causes or list(self.output)[-SHOWN_LINES:]
        told = "its output has" if causes else "its last lines"
        return self.fate() + (f"; {told}:" + "".join(f"\n    {line}" for line in shown) if shown else "")

    def causes(self) -> list[str]:
        """Return the exceptions in the output, first to last, each once: an engine's children report only there."""
        found = (match.group(1) for match in map(_CAUSE.search, self.output) if match)
        return list(dict.fromkeys(found))

    def _closed(self, _error: Exception | None) -> None:
        # A worker that cannot be spoken to is of no use, whatever it may still be doing.
        if self._watch is not None and not self.ended.is_set():
            asyncio.get_running_loop().call_later(_GOODBYE_S, self._kill_if_alive)
        self._tell_gone()

    def _tell_gone(self) -> None:
        if not self._gone:
            self._gone = True
            self._on_gone(self)

    def _kill_if_alive(self) -> None:
        if not self.ended.is_set():
            self.kill()

    async def _wait(self) -> None:
        assert self._process is not None
        reading = asyncio.create_task(self._read_output())
        try:
            await self._process.wait()
        except asyncio.CancelledError:
            # The server ends and waits no longer; a worker that hangs would not notice that by itself.
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._remove_scratch()
            self._close_output()
            raise
        try:
            self._tell_gone()
            await asyncio.wait([reading], timeout=_LAST_WORDS_S)
            self._channel.close()
            self._on_end(self)
        finally:
            # Whatever the owner makes of it: others wait for the end.
            await self._sweep()
            reading.cancel()
            self._close_output()
            self._remove_scratch()
            self.ended.set()

    async def _sweep(self) -> None:
        """End what the worker started: asked first, for it may hold shared memory that only itself can free."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _SWEEP_S
        with suppress(ProcessLookupError):  # the group is empty
            os.killpg(self.pid, signal.SIGTERM)
            while loop.time() < deadline + _GOODBYE_S:
                await asyncio.sleep(_SWEEP_POLL_S)
                os.killpg(self.pid, signal.SIGKILL if loop.time() > deadline else 0)
            log.error("worker_processes_left", worker=self.worker, group=self.pid)

    def _close_output(self) -> None:
        """Close the pipe of the process that has ended: what it started may hold the other end for ever."""
        assert self._process is not None
        # asyncio closes it at its end of file only, and offers no way to do it before.
        self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001

    def _remove_scratch(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)

    async def _read_output(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._read_line(self._process.stdout):
            text = line.decode(errors="replace").rstrip()
            self.output.append(text)
            log.debug("worker_output", worker=self.worker, line=text)

    @staticmethod
    async def _read_line(stream: asyncio.StreamReader) -> bytes:
        try:
            return await stream.readline()
        except ValueError:
            return b"(a line too long to keep)\n"
