"""One process of a model: started, spoken to, and seen to its end.

    STARTING --Started--> LOADING --Loaded--> SERVING --finalize, kill--> ENDED
       |                     |                   |
       +---timeout, error----+--> ENDED          +--dies: on_lost(how), once--> ENDED

Its end is told by a pidfd, not by the socket: children of the model may hold that open.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tritium.backends.python import arena, frames
from tritium.backends.python.channel import Channel
from tritium.backends.python.interpreter import command, environment
from tritium.backends.python.outcomes import error_of
from tritium.backends.python.worker import OnLost, OnMessage, Timeouts
from tritium.core.errors import ModelFailed
from tritium.core.tensor import Tensor

FINALIZE_GRACE_S = 5.0
"""From the model's finalize having returned to SIGKILL."""
SILENT_GRACE_S = 1.0
"""From the end of the socket to SIGKILL, for a process that is ending by itself to end with its own status."""


class ProcessWorker:
    """A running process; see `worker.Worker`.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, name: str, interpreter: str, on_message: OnMessage, on_lost: OnLost) -> None:
        self.name = name
        self.asks_ready = False
        self._on_message = on_message
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[frames.Up] = self._loop.create_future()
        self._said = ""
        self._verdict = ""
        self._expected = True
        """Whether an end of the process is nobody's concern: before it serves, and once it is to end."""
        self.ended = asyncio.Event()
        with contextlib.ExitStack() as undo:
            inbound = arena.create(f"{name}:requests")
            self._arena = arena.OutArena(
                inbound, lambda offset, size: self._channel.post(frames.Grown(offset, size)), self._reclaim_soon
            )
            undo.callback(self._arena.close)
            outbound = arena.create(f"{name}:responses")
            self._returned = arena.InArena(outbound, lambda: self._channel.wake())  # noqa: PLW0108  # made below
            undo.callback(self._returned.close)
            ours, theirs = socket.socketpair()
            self._channel = Channel(ours, self._take, self._on_silent, self._extras)
            undo.callback(self._channel.close)
            with theirs:
                handed = theirs.fileno(), inbound, outbound
                # A group of its own: Ctrl-C reaches the server alone, and children of the model end with it.
                self._process = subprocess.Popen(  # noqa: S603  # the operator names the interpreter
                    command(name, interpreter, handed),
                    env=environment(interpreter),
                    stdin=subprocess.DEVNULL,
                    pass_fds=handed,
                    process_group=0,
                )
            self._free = undo.pop_all().close
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._on_exit)

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def begun(self) -> int:
        """Return the number of the last execution that the model has seen."""
        number: int = frames.BEGUN.unpack_from(self._returned.control, 0)[0]
        return number

    @property
    def stopped(self) -> bool:
        """Tell whether the process was stopped by a signal."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return status.rpartition(") ")[2][:1] in ("T", "t")

    def give_up(self, said: str) -> None:
        """Kill a process that does not go on."""
        self._verdict = said
        self._kill_if_alive()

    @property
    def arenas_in_use(self) -> tuple[int, int]:
        """Return the bytes of requests that the model refers to, and the large tensors of responses still held here."""
        return self._arena.used_bytes, self._returned.held

    async def load(self, message: frames.Load, timeouts: Timeouts) -> frames.Loaded:
        """Load the model.

        Raises:
            InferenceError: it cannot be loaded, in Triton's words where the model raised; the process is ended.
        """
        fault: BaseException | None = None
        try:
            await self._answer(timeouts.start_s, "started")
            self._channel.post(message)
            loaded = await self._answer(timeouts.initialize_s, "initialized its model")
        except BaseException as error:  # noqa: BLE001  # raised again below
            fault = error  # nothing is awaited in here: docs/decisions/005
        if fault is not None:
            await self.kill()
            try:
                raise fault
            finally:
                fault = None  # its traceback holds this frame
        assert isinstance(loaded, frames.Loaded)
        if loaded.error:
            await self.kill()
            raise ModelFailed(loaded.error) if loaded.code < 0 else error_of(loaded.code, loaded.error)
        if not message.complete:
            if self.ended.is_set():
                raise ModelFailed(self._said)
            self.asks_ready = loaded.asks_ready
            self._expected = False
        return loaded

    def post(self, message: frames.Down) -> None:
        """Send a message; nothing happens where the process has ended."""
        self._channel.post(message)

    def post_now(self, message: frames.Down) -> None:
        """Send a message without waiting for others of this turn."""
        self._channel.post_now(message)

    def encode(self, tensor: Tensor) -> frames.TensorFrame:
        """Make the frame of a tensor for this process."""
        data = tensor.data
        size = data.nbytes if type(data) is memoryview else len(data)
        if size > frames.INLINE_BYTES:
            return frames.TensorFrame(tensor.name, tensor.datatype, tensor.shape, self._arena.store(data))
        return frames.TensorFrame(tensor.name, tensor.datatype, tensor.shape, data)  # type: ignore[arg-type]  # bytes-like

    def encode_all(self, tensors: Iterable[Tensor]) -> list[frames.TensorFrame]:
        """Make the frames of several tensors, or of none.

        Raises:
            OSError: there is no memory for all of them.
        """
        encoded: list[frames.TensorFrame] = []
        try:
            for tensor in tensors:
                encoded.append(self.encode(tensor))  # noqa: PERF401  # what was encoded before a failure is given back
        except OSError:
            self.discard(encoded)
            raise
        return encoded

    def discard(self, encoded: Iterable[frames.TensorFrame]) -> None:
        """Take back the memory of frames that will not be sent."""
        self._arena.give_back(frame.data.start for frame in encoded if isinstance(frame.data, frames.Region))

    def decode(self, frame: frames.TensorFrame) -> Tensor:
        """Make the tensor of a frame; a large one views shared memory, which is freed with the last view."""
        data = frame.data
        if isinstance(data, frames.Region):
            array = self._arena.echo(data) if data.inbound else self._returned.array(data)
            return Tensor(frame.name, frame.datatype, frame.shape, array.data)
        return Tensor(frame.name, frame.datatype, frame.shape, data)

    async def finalize(self) -> None:
        """Let the model finalize and wait for the process to end."""
        self._expected = True
        if self.ended.is_set():
            return
        self._first = self._loop.create_future()
        self._channel.post(frames.Finalize())
        fault: BaseException | None = None
        try:
            await self._answer(None, "finalized")
            async with asyncio.timeout(FINALIZE_GRACE_S):
                await self.ended.wait()
        except (ModelFailed, TimeoutError):
            pass
        except BaseException as error:  # noqa: BLE001  # raised again below
            fault = error  # nothing is awaited in here: docs/decisions/005
        await self.kill()
        if fault is not None:
            try:
                raise fault
            finally:
                fault = None  # its traceback holds this frame

    async def kill(self) -> None:
        """End the process now."""
        self._expected = True
        self._kill_if_alive()
        await self.ended.wait()

    async def _answer(self, timeout_s: float | None, doing: str) -> frames.Up:
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._first
        except TimeoutError:
            raise ModelFailed(
                f"the process of model instance '{self.name}' has not {doing} within {timeout_s:g} s"
            ) from None
        self._first = self._loop.create_future()
        return answer

    def _take(self, messages: list[frames.Up]) -> None:
        for message in messages:
            if type(message) is frames.Executed:  # nearly all of them
                self._on_message(message)
                continue
            match message:
                case frames.Grown(offset, size):
                    self._returned.grow(offset, size)
                case frames.Freed(starts):
                    self._arena.give_back(starts)
                    self._arena.reclaim()
                case frames.Started() | frames.Loaded() | frames.Finalized():
                    if not self._first.done():
                        self._first.set_result(message)
                case _:
                    self._on_message(message)

    def _reclaim_soon(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._reclaim)

    def _reclaim(self) -> None:
        if not self.ended.is_set():
            self._arena.reclaim()

    def _extras(self) -> list[frames.Down]:
        freed = self._returned.take_freed() if self._returned.freed else []
        return [frames.Freed(freed)] if freed else []

    def _on_silent(self) -> None:
        """End a process that lives on without its socket: nothing can be asked of it any more."""
        self._loop.call_later(SILENT_GRACE_S, self._kill_if_alive)

    def _kill_if_alive(self) -> None:
        if not self.ended.is_set():
            self._process.kill()

    def _on_exit(self) -> None:
        self._channel.drain()
        status = self._process.wait()
        self._said = (
            self._verdict or self._channel.fatal or f"the process of model instance '{self.name}' {_ending(status)}"
        )
        # What the model started dies with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        if not self._first.done():
            self._first.set_exception(ModelFailed(self._said))
            self._first.exception()  # read here, for after the start nobody waits
        expected = self._expected
        try:
            if not expected:
                self._on_lost(self._said)
        finally:
            self._free()
            self.ended.set()


def _ending(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
