"""One instance of a python model: executions go to its process, and survive it where they can.

    SERVING --process dies--> RESTARTING --loaded--> SERVING
       |                        |  ^ load fails: what waits is refused; wait, twice as long each time
       |                        +--+
       +--close: finish what runs, finalize--> CLOSED

An execution that the model had begun when its process died fails, or is run again as often as RETRY_LOST_EXECUTIONS
says; one that had not is run again in any case.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

import structlog

from tritium.backends.python import frames
from tritium.backends.python.execution import MOST_AHEAD, Execution, Window, answer
from tritium.backends.python.outcomes import error_of
from tritium.backends.python.starter import Starter
from tritium.backends.python.watchdog import Watchdog
from tritium.backends.python.worker import Worker
from tritium.core.errors import Cancelled, InferenceError, Internal, ModelFailed, WorkerLost
from tritium.core.instance import ExecutionTimes, Job
from tritium.core.request import InferRequest, InferResponse
from tritium.core.waits import Wait

log = structlog.get_logger("tritium.python")

BACKOFF_S = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Before each attempt to restart; the last is repeated. An execution that succeeds starts over from the first."""
ASK_READY_S = 1.0
"""Between two questions to a model that has `is_ready`."""
READY_PATIENCE_S = 5.0
"""What `is_ready` may take in a process that has nothing else to do, as in Triton."""
CANCELLED_GRACE_S = 1.0
"""How long an unload waits for the model to end requests that nobody waits for."""

_LOST = ExecutionTimes(0, 0, 0)


class PythonInstance:
    """Runs batches in a process; see `tritium.core.instance.Instance`. Nothing runs before `open`."""

    def __init__(self, starter: Starter) -> None:
        self.name = starter.place.name
        # Beside others it takes one at a time, for which request waits for which instance is not its to decide.
        self.depth = MOST_AHEAD if starter.alone else 1
        self.waits: set[Wait] = set()
        """Calls of other models that hold up the execution; see `tritium.core.waits.Caller`."""
        self._starter = starter
        self._model_name, self._version, self._decoupled = starter.model_name, starter.version, starter.decoupled
        self._worker: Worker | None = None
        self._model_ready = True
        self._numbers = count(1)
        self._keys = count(1)
        self._running: dict[int, Execution] = {}
        self._open: dict[int, Job] = {}
        """Requests without a last response; those of a decoupled model outlive their execution."""
        self._waiting: deque[Execution] = deque()
        self._window = Window()
        self._attempt = 0
        self._restarting: asyncio.Task[None] | None = None
        self._asking: asyncio.TimerHandle | None = None
        self._asked_s = 0.0
        self._idle = asyncio.Event()
        """Set by what `close` may wait for."""
        self._finishing = False
        self._frozen = False
        self._watchdog = Watchdog(self, starter.deadline_s)

    async def open(self) -> None:
        """Start the process and load the model.

        Raises:
            InferenceError: the model cannot be loaded.
        """
        self._serve(await self._starter.start(self._take, self._on_lost, self))

    @property
    def healthy(self) -> bool:
        """Tell whether the process is there and goes on."""
        return self._worker is not None and not self._frozen

    @property
    def willing(self) -> bool:
        """Tell what the model's own `is_ready` says; requests are taken whatever it is, as by Triton."""
        return self._model_ready

    @property
    def pid(self) -> int | None:
        """Return the id of the process, None while there is none."""
        return self._worker.pid if self._worker is not None else None

    @property
    def arenas_in_use(self) -> tuple[int, int]:
        """Return the bytes of requests that the model refers to, and the large tensors of responses still held here."""
        return self._worker.arenas_in_use if self._worker is not None else (0, 0)

    async def execute(self, jobs: Sequence[Job]) -> ExecutionTimes | None:
        """Run one batch."""
        done: asyncio.Future[ExecutionTimes | None] = asyncio.get_running_loop().create_future()
        self.begin(jobs, lambda times: None if done.done() else done.set_result(times))
        return await done

    def begin(self, jobs: Sequence[Job], done: Callable[[ExecutionTimes | None], None]) -> None:
        """Run one batch, and call back when it has ended."""
        execution = Execution(jobs, done)
        if self._worker is None and self._restarting is None:
            execution.refuse(Internal(f"model instance '{self.name}' is closed"))
        else:
            self._waiting.append(execution)
            self._hand_over()

    async def close(self) -> None:
        """Finish what runs, let the model finalize, and end the process."""
        fault: BaseException | None = None
        try:
            await self._finish()
        except BaseException as error:  # noqa: BLE001  # raised again below
            fault = error  # nothing is awaited in here: docs/decisions/005
        await self._end()
        if fault is not None:
            try:
                raise fault
            finally:
                fault = None  # its traceback holds this frame

    async def _finish(self) -> None:
        self._finishing = True
        while self._running or self._waiting or self._awaited:
            self._idle.clear()
            await self._idle.wait()
        await self._leave_cancelled()
        if self._worker is not None:
            await self._worker.finalize()

    async def _end(self) -> None:
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)
            self._restarting = None
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.kill()
        left, self._open = self._open, {}
        for job in left.values():
            answer(job, Cancelled("the model was unloaded before it ended a request that was cancelled"), final=True)
        if self._asking is not None:
            self._asking.cancel()
        self._watchdog.rest()
        self._starter.forget()

    @property
    def oldest(self) -> int:
        """Return the number of the execution that was handed over first of those that run, 0 where nothing runs."""
        return next(iter(self._running), 0)

    @property
    def stopped(self) -> bool:
        """Tell whether the process was stopped by a signal."""
        return self._worker is not None and self._worker.stopped

    def freeze(self, *, frozen: bool) -> None:
        """Take note that the process stands still, or goes on."""
        self._frozen = frozen
        log.warning("model_process_stopped" if frozen else "model_process_goes_on", instance=self.name)
        self._starter.host.changed()

    def overdue(self, deadline_s: float) -> None:
        """End a process whose execution takes too long: that one fails, the others run in the next process."""
        if self._worker is not None:
            self._worker.give_up(f"model instance '{self.name}' did not end an execution within {deadline_s:g} s")

    @property
    def _awaited(self) -> bool:
        """Tell whether a client still waits for something."""
        return any(not job.request.cancelled for job in self._open.values())

    async def _leave_cancelled(self) -> None:
        """Give a model a moment to end what is cancelled: one that does not look would hold up its end for ever."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCELLED_GRACE_S):
                while self._open:
                    self._idle.clear()
                    await self._idle.wait()

    def _hand_over(self) -> None:
        worker = self._worker
        while worker is not None and self._waiting and len(self._running) < self._window.size:
            execution = self._waiting.popleft()
            if execution.cancelled:
                execution.refuse()
            else:
                self._hand(execution, worker)

    def _hand(self, execution: Execution, worker: Worker) -> None:
        number = next(self._numbers)
        requests: list[frames.RequestFrame] = []
        try:
            for job in execution.jobs:
                requests.append(_frame(next(self._keys), job.request, worker))  # noqa: PERF401  # as in encode_all
        except OSError as error:
            for request in requests:
                worker.discard(request.inputs)
            execution.refuse(Internal(f"no shared memory for the inputs: {error.strerror}"))
            return
        for request, job in zip(requests, execution.jobs, strict=True):
            key = request.key
            execution.keys.append(key)
            self._open[key] = job
            job.request.on_cancel(partial(self._cancel, key))
            if job.request.wait is not None:
                execution.awaited = True
                job.request.wait.take(job.request, self)
            if self._decoupled:
                job.request.hold = partial(self._hold, key)
        message = frames.Execute(number, requests)
        # An idle process begins at once; what comes while it works is gathered.
        post = worker.post if self._running else worker.post_now
        self._running[number] = execution
        self._watchdog.watch()
        post(message)

    def _cancel(self, key: int) -> None:
        if key in self._open and self._worker is not None:
            self._worker.post(frames.Cancel(key))
            self._idle.set()

    def _hold(self, key: int, waits: bool) -> None:  # noqa: FBT001  # as InferRequest has it
        if key in self._open and self._worker is not None:
            self._worker.post(frames.Hold(key, waits))

    def _take(self, worker: Worker, message: frames.Up) -> None:
        match message:
            case frames.Executed():
                self._executed(worker, message)
            case frames.Sent():
                self._sent(worker, message)
            case frames.ReadyAnswer(ready, error):
                self._on_ready_answer(ready=ready, error=error)
        if self._finishing:
            self._idle.set()

    def _executed(self, worker: Worker, message: frames.Executed) -> None:
        execution = self._running.pop(message.number)
        execution.leave()
        if message.error:
            said = f"Failed to process the request(s) for model '{self.name}', message: {message.error}"
            log.error("execution_failed", instance=self.name, error=message.error)
            for key in execution.keys:
                if (job := self._open.pop(key, None)) is not None:
                    answer(job, ModelFailed(said), final=True)
        else:
            for key in message.again:
                self._open.pop(key).again = True
            for key, frame in zip(execution.keys, message.responses, strict=True):
                if frame is not None:
                    job = self._open.pop(key)
                    answer(job, self._response(worker, job.request, frame), final=True)
                elif (waiting := self._open.get(key)) is not None:
                    waiting.later = True
        self._attempt = 0
        self._window.note(message.infer_ns)
        self._hand_over()
        execution.finish(ExecutionTimes(message.input_ns, message.infer_ns, message.output_ns))

    def _sent(self, worker: Worker, message: frames.Sent) -> None:
        job = self._open.get(message.key)
        if message.dropped:
            if job is not None:
                del self._open[message.key]
                self._on_dropped(job)
            return
        frame = message.response
        response = self._response(worker, job.request if job else None, frame) if frame is not None else None
        if job is None:
            return
        final = message.final or not self._decoupled
        if final:
            del self._open[message.key]
        answer(job, response, final=final)

    def _on_dropped(self, job: Job) -> None:
        if self._decoupled:
            answer(job, None, final=True)
            return
        said = f"model instance '{self.name}' gave a request up without answering it"
        hint = "execute() returned None for it, and its response sender was not used"
        answer(job, ModelFailed(said, hint), final=True)

    def _response(
        self, worker: Worker, request: InferRequest | None, frame: frames.ResponseFrame
    ) -> InferResponse | InferenceError:
        if frame.code >= 0:
            return error_of(frame.code, frame.error)
        return InferResponse(
            self._model_name,
            self._version,
            request.id if request is not None else "",
            [worker.decode(tensor) for tensor in frame.outputs],
            frame.parameters or {},
        )

    def _on_lost(self, worker: Worker, said: str) -> None:
        self._worker = None
        self._frozen = False
        self._watchdog.rest()
        begun = worker.begun
        error = WorkerLost(f"{said} while it ran this request", hint="the instance is being restarted; see the log")
        again: list[Execution] = []
        ended: list[Execution] = []
        for number, execution in self._running.items():
            execution.leave()
            if number <= begun and not self._may_retry(execution):
                ended.append(execution)
                continue
            for key in execution.keys:
                del self._open[key]
            execution.keys.clear()
            again.append(execution)
        self._running.clear()
        self._waiting.extendleft(reversed(again))
        failed, self._open = self._open, {}
        for job in failed.values():
            answer(job, error, final=True)
        log.error("model_process_lost", instance=self.name, reason=said, failed=len(failed), again=len(again))
        self._restarting = asyncio.ensure_future(self._restart())
        for execution in ended:
            execution.finish(_LOST)
        self._starter.host.changed()
        self._idle.set()

    def _may_retry(self, execution: Execution) -> bool:
        """Tell whether an execution that was lost is to run again, and count it: all its clients must still wait."""
        if execution.lost >= self._starter.retries or any(key not in self._open for key in execution.keys):
            return False
        execution.lost += 1
        return True

    async def _restart(self) -> None:
        while True:
            await asyncio.sleep(BACKOFF_S[min(self._attempt, len(BACKOFF_S) - 1)])
            self._attempt += 1
            try:
                worker = await self._starter.start(self._take, self._on_lost, self)
            except InferenceError as error:
                log.warning("model_restart_failed", instance=self.name, attempt=self._attempt, reason=error.message)
                said = f"model instance '{self.name}' could not be restarted: {error.message}"
                while self._waiting:
                    self._waiting.popleft().refuse(WorkerLost(said))
                self._idle.set()
                continue
            break
        log.info("model_restarted", instance=self.name, pid=worker.pid)
        self._restarting = None
        self._serve(worker)
        self._starter.host.changed()

    def _serve(self, worker: Worker) -> None:
        self._worker = worker
        self._model_ready = True
        self._asked_s = 0.0
        self._hand_over()
        if worker.asks_ready:
            self._ask_ready(worker)

    def _ask_ready(self, worker: Worker) -> None:
        if worker is self._worker:
            if not self._asked_s:
                # One question at a time: a process at work answers when it is done.
                self._asked_s = time.monotonic()
                worker.post(frames.AskReady())
            elif not self._running and time.monotonic() - self._asked_s > READY_PATIENCE_S:
                self._note_readiness(ready=False, error=f"is_ready() has not returned within {READY_PATIENCE_S:g} s")
            self._asking = asyncio.get_running_loop().call_later(ASK_READY_S, self._ask_ready, worker)

    def _on_ready_answer(self, *, ready: bool, error: str) -> None:
        self._asked_s = 0.0
        self._note_readiness(ready=ready, error=error)

    def _note_readiness(self, *, ready: bool, error: str) -> None:
        if ready is self._model_ready:
            return
        self._model_ready = ready
        log.info("model_readiness", instance=self.name, ready=ready, error=error)
        self._starter.host.changed()


def _frame(key: int, request: InferRequest, worker: Worker) -> frames.RequestFrame:
    sequence, traced = request.sequence, request.trace
    return frames.RequestFrame(
        key,
        worker.encode_all(request.inputs),
        request.id,
        [output.name for output in request.outputs],
        sequence.correlation_id,
        sequence.start + 2 * sequence.end,
        request.timeout_us,
        request.parameters or None,
        None if traced is None else frames.TraceFrame(traced.id, traced.context),
    )
