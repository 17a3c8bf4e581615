"""A model in the server's own process: in a thread of its own, or (`inline`) executed on the event loop.

    LOADING --Loaded--> SERVING --finalize, kill--> ENDED
       |                   |
       +--error--> ENDED   +--sys.exit(), KeyboardInterrupt: on_lost(how), once--> ENDED

There is no protection: a model that crashes or hangs takes the server with it, or the thread. A thread cannot be
ended from outside, so `kill` leaves one that does not return to itself, and hears nothing of it any more.
"""

import asyncio
import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from types import ModuleType

import structlog

from tritium.backends.python import frames
from tritium.backends.python.local.modules import forget_model, import_model
from tritium.backends.python.local.pump import LocalPump
from tritium.backends.python.local.tensors import LocalCodec
from tritium.backends.python.outcomes import error_of
from tritium.backends.python.process.host import Host
from tritium.backends.python.process.link import Link
from tritium.backends.python.worker import OnLost, OnMessage, Timeouts
from tritium.compat import pb_utils
from tritium.core.errors import ModelFailed
from tritium.core.tensor import Tensor

FINALIZE_GRACE_S = 60.0
"""How long an unload waits for the model's finalize, whose thread could not be ended."""
LOOK_S = 5.0
"""An inline execution that takes longer holds up everybody: the log says so after once to twice this time."""

log = structlog.get_logger("tritium.python")


class LocalWorker:
    """See `worker.Worker`."""

    def __init__(self, name: str, on_message: OnMessage, on_lost: OnLost, *, inline: bool) -> None:
        self.name = name
        self.asks_ready = False
        self.pid = os.getpid()
        self.begun = 0
        self.arenas_in_use = (0, 0)
        self.stopped = False
        self._on_message = on_message
        self._on_lost = on_lost
        self._inline = inline
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._first: asyncio.Future[frames.Up] = self._loop.create_future()
        self._pump = LocalPump(self._take)
        self._link = Link(self._pump, LocalCodec())
        self._host = Host(self._link, self._import, self._begin)
        self._module: ModuleType | None = None
        self._paths: list[str] = []
        self._ended = False
        self._tasks: SimpleQueue[frames.Task | None] = SimpleQueue()
        self._turn: deque[frames.Task] = deque()
        """Inline, what came while the model was executing."""
        self._executing = False

    async def load(self, message: frames.Load, timeouts: Timeouts) -> frames.Loaded:
        """Load the model, in a thread whatever comes after.

        Raises:
            InferenceError: it cannot be loaded, in Triton's words where the model raised.
        """
        pb_utils.install()
        self._paths = message.import_paths
        threading.Thread(target=self._work, name=self.name, daemon=True).start()
        self._tasks.put(message)
        try:
            loaded = await self._answer(timeouts.initialize_s, "initialized its model")
        except BaseException:
            await self.kill()
            raise
        assert isinstance(loaded, frames.Loaded)
        if loaded.error:
            await self.kill()
            raise ModelFailed(loaded.error) if loaded.code < 0 else error_of(loaded.code, loaded.error)
        self.asks_ready = loaded.asks_ready
        return loaded

    def post(self, message: frames.Down) -> None:
        """Hand a message over; nothing happens where the model was ended."""
        if self._ended:
            return
        if self._inline and isinstance(message, frames.Execute | frames.AskReady):
            self._turn.append(message)
            if not self._executing:
                self._execute()
            return
        match message:
            case frames.Execute() | frames.AskReady() | frames.Load() | frames.Finalize():
                self._tasks.put(message)
            case frames.Cancel() | frames.Answer() | frames.Outcome():
                self._pump.dispatch(lambda: self._link.take(message))

    post_now = post

    def encode_all(self, tensors: Iterable[Tensor]) -> list[frames.TensorFrame]:
        """Make the frames of several tensors, which show the same memory."""
        return [frames.TensorFrame(t.name, t.datatype, t.shape, t.data) for t in tensors]  # type: ignore[arg-type]  # bytes-like

    def discard(self, encoded: Iterable[frames.TensorFrame]) -> None:
        """Do nothing: frames here hold no memory of their own."""

    def decode(self, frame: frames.TensorFrame) -> Tensor:
        """Make the tensor of a frame, which shows the same memory."""
        return Tensor(frame.name, frame.datatype, frame.shape, frame.data)  # type: ignore[arg-type]  # regions are for processes

    async def finalize(self) -> None:
        """Let the model finalize, in its thread, and wait for it."""
        if not self._ended:
            self._first = self._loop.create_future()
            self._tasks.put(frames.Finalize())
            await self._answer(FINALIZE_GRACE_S, "finalized")
        await self.kill()

    async def kill(self) -> None:
        """Hear nothing of the model any more."""
        self._end()

    def give_up(self, said: str) -> None:
        """Leave the thread of a model that does not go on to itself, and hear nothing of it any more."""
        self._lose(said)

    async def _answer(self, timeout_s: float, doing: str) -> frames.Up:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._first
        except TimeoutError:
            raise ModelFailed(f"model instance '{self.name}' has not {doing} within {timeout_s:g} s") from None

    def _import(self, load: frames.Load) -> ModuleType:
        self._module = import_model(load, self._link)
        return self._module

    def _begin(self, number: int) -> None:
        self.begun = number

    def _execute(self) -> None:
        """Execute what waits, on the loop; answers may bring more of it."""
        self._executing = True
        try:
            while self._turn and not self._ended:
                self._host.serve(self._turn.popleft())
                self._pump.flush()
        except (SystemExit, KeyboardInterrupt) as error:
            self._on_exit(error)
        finally:
            self._executing = False

    def _work(self) -> None:
        """Do the tasks of the thread."""
        going = True
        try:
            while going and (task := self._next_task()) is not None:
                going = self._host.serve(task)
                del task
                self._pump.flush()
        except (SystemExit, KeyboardInterrupt) as error:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._on_exit, error)

    def _next_task(self) -> frames.Task | None:
        """Wait for a task; an inline model's thread, which has few, looks meanwhile whether the model goes on."""
        if not self._inline:
            return self._tasks.get()
        seen = told = 0
        while True:
            try:
                return self._tasks.get(timeout=LOOK_S)
            except Empty:
                begun = self.begun if self._executing else 0
                if begun and begun == seen != told:
                    told = begun
                    self._tell_of_standstill()
                seen = begun

    def _tell_of_standstill(self) -> None:
        """Say where the model is: nobody can end it, and the server answers nobody meanwhile."""
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  # the documented way to another thread
        stack = traceback.extract_stack(frame) if frame is not None else []
        own = [call for call in stack if call.filename.startswith(tuple(self._paths))]
        log.error(
            "model_holds_up_the_server",
            instance=self.name,
            reason=f"an inline execution has not ended within {LOOK_S:g} s",
            at="".join(f"{call.filename}({call.lineno}): {call.name}" for call in (own or stack)[-1:]),
        )

    def _take(self, message: frames.Up) -> None:
        if self._ended:
            return
        if type(message) is frames.Executed:  # nearly all of them
            self._on_message(message)
            return
        match message:
            case frames.Loaded() | frames.Finalized():
                if not self._first.done():
                    self._first.set_result(message)
            case _:
                self._on_message(message)

    def _on_exit(self, error: SystemExit | KeyboardInterrupt) -> None:
        did = f"called sys.exit({error.code!r})" if isinstance(error, SystemExit) else "raised KeyboardInterrupt"
        said = f"the model of instance '{self.name}' {did}"
        if not self._first.done():
            self._first.set_exception(ModelFailed(said))
        else:
            self._lose(said)

    def _lose(self, said: str) -> None:
        if not self._ended:
            self._end()
            self._on_lost(said)

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._tasks.put(None)
        self._pump.close()
        if self._module is not None:
            forget_model(self._module, self._paths)
            self._module = None
